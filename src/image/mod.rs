//! Pictures in memory: decode what hypervisors give and files hold, compare, crop, scale, mark, find,
//! encode. Pure.

mod compare;
mod correlate;
mod decode;
mod encode;
mod find;
mod grey;
mod mark;
mod palette;

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

pub use decode::{MAX_BYTES, size};
pub use find::{Hit, Sought};
pub use grey::scale_grey;

use crate::model::{Pixels, Region, ScreenSize};

/// 8-bit RGB pixels, row by row.
#[derive(Clone)]
pub struct Picture {
    size: ScreenSize,
    /// Ends with the last pixel.
    bytes: Vec<u8>,
    /// Where the pixels start: a PPM, 6 MB at 1920×1080, stays where it was read, header and all.
    start: usize,
}

/// Why bytes are no picture, or a picture cannot be made into another.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("pictures of type `{0}` are not known")]
    UnknownType(String),
    #[error("it is neither PNG nor JPEG")]
    NoPicture,
    #[error("the picture cannot be read: {0}")]
    Broken(&'static str),
    #[error("the PNG cannot be read")]
    BrokenPng(#[source] png::DecodingError),
    #[error("the JPEG cannot be read")]
    BrokenJpeg(#[source] zune_jpeg::errors::DecodeErrors),
    #[error("the picture cannot be scaled")]
    Scale(#[source] fast_image_resize::ResizeError),
    #[error("the picture cannot be written as PNG")]
    WritePng(#[source] png::EncodingError),
    #[error("the picture cannot be written as JPEG")]
    WriteJpeg(#[source] jpeg_encoder::EncodingError),
}

impl Picture {
    fn of_pixels(size: ScreenSize, bytes: Vec<u8>) -> Self {
        Self {
            size,
            bytes,
            start: 0,
        }
    }

    pub fn size(&self) -> ScreenSize {
        self.size
    }

    pub fn rgb(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The part under a region, which [fits](Region::fits) the picture.
    #[must_use]
    pub fn crop(&self, region: Region) -> Self {
        let at = |edge: i32| usize::try_from(edge).unwrap_or(0);
        let size = ScreenSize {
            width: region.x1.abs_diff(region.x0),
            height: region.y1.abs_diff(region.y0),
        };
        let row = self.size.width as usize * 3;
        let rows = self
            .rgb()
            .chunks_exact(row)
            .skip(at(region.y0))
            .take(size.height as usize);
        let mut rgb = Vec::with_capacity(size.width as usize * size.height as usize * 3);
        for pixels in rows {
            rgb.extend_from_slice(&pixels[at(region.x0) * 3..at(region.x1) * 3]);
        }
        Self::of_pixels(size, rgb)
    }

    pub fn scale(&self, to: ScreenSize) -> Result<Self, ImageError> {
        let from = images::ImageRef::new(
            self.size.width,
            self.size.height,
            self.rgb(),
            PixelType::U8x3,
        )
        .map_err(|_| ImageError::Broken("its pixels do not fill it"))?;
        let mut scaled = images::Image::new(to.width, to.height, PixelType::U8x3);
        // Averages what falls together, which keeps thin text readable.
        let how = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Hamming));
        Resizer::new()
            .resize(&from, &mut scaled, &how)
            .map_err(ImageError::Scale)?;
        Ok(Self::of_pixels(to, scaled.into_vec()))
    }
}

impl From<&Pixels> for Picture {
    fn from(pixels: &Pixels) -> Self {
        Self::of_pixels(pixels.size, pixels.rgb.to_vec())
    }
}

impl From<Picture> for Pixels {
    fn from(picture: Picture) -> Self {
        Self {
            size: picture.size,
            rgb: picture.rgb().into(),
        }
    }
}

/// Where the pixels lie in memory is no part of the picture.
impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.rgb() == other.rgb()
    }
}

impl Eq for Picture {}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({})", self.size)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(super) fn ppm(header: &str, pixels: &[u8]) -> Vec<u8> {
        [header.as_bytes(), pixels].concat()
    }

    pub(super) const PPM: &str = "image/x-portable-pixmap";

    pub(super) fn sample() -> Picture {
        let pixels: Vec<u8> = (0..4 * 3 * 3).collect();
        Picture::decode(PPM, ppm("P6\n# made by hand\n4 3\n255\n", &pixels)).unwrap()
    }

    #[test]
    fn png_and_ppm_give_the_same_pixels() {
        let picture = sample();
        let png = picture.to_png().unwrap();
        assert_eq!(size("image/png", &png).unwrap(), picture.size());
        assert_eq!(Picture::decode("image/png", &png).unwrap(), picture);
    }

    #[test]
    fn pictures_are_equal_by_their_size_and_pixels_alone() {
        let picture = |header: &str, pixels: &[u8]| Picture::decode(PPM, ppm(header, pixels));
        let one = picture("P6 2 1 255\n", &[0, 1, 2, 3, 4, 5]).unwrap();
        let same = picture("P6\n# longer\n2\n1\n255\n", &[0, 1, 2, 3, 4, 5]).unwrap();
        let upright = picture("P6 1 2 255\n", &[0, 1, 2, 3, 4, 5]).unwrap();
        let other = picture("P6 2 1 255\n", &[0, 1, 2, 3, 4, 6]).unwrap();
        assert_eq!(one, same);
        assert_ne!(one, upright);
        assert_ne!(one, other);
    }

    #[test]
    fn a_region_is_cut_out_exactly() {
        let part = sample().crop(Region::from([1, 1, 3, 3]));
        assert_eq!(part.size().to_string(), "2×2");
        assert_eq!(part.rgb(), [15, 16, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32]);
    }

    #[test]
    fn scaling_a_flat_picture_keeps_its_colour() {
        let picture = Picture::decode(PPM, ppm("P6 8 8 255\n", &[200; 192])).unwrap();
        let to = ScreenSize {
            width: 3,
            height: 2,
        };
        assert_eq!(picture.scale(to).unwrap().rgb(), [200; 18]);
    }
}
