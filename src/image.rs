//! Pictures in memory: decode what hypervisors give, crop, scale, encode. Pure.

use std::{borrow::Cow, io::Cursor};

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use crate::model::{Region, ScreenSize};

/// Quality of JPEG pictures, of 100: text stays readable.
const JPEG_QUALITY: u8 = 80;

/// Deflate level of PNG pictures: 18 ms and 337 kB for a 1080p desktop, where level 2
/// took 10 ms and 418 kB and level 6 37 ms and 296 kB.
const PNG_LEVEL: u8 = 4;

/// The largest screen that is decoded, in pixels: 16 384 × 16 384.
const MAX_PIXELS: u64 = 1 << 28;

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
    #[error("the hypervisor gave a picture of type `{0}`, which is not known")]
    UnknownType(String),
    #[error("the hypervisor's picture cannot be read: {0}")]
    Broken(&'static str),
    #[error("the hypervisor's PNG cannot be read")]
    BrokenPng(#[source] png::DecodingError),
    #[error("the picture cannot be scaled")]
    Scale(#[source] fast_image_resize::ResizeError),
    #[error("the picture cannot be written as PNG")]
    WritePng(#[source] png::EncodingError),
    #[error("the picture cannot be written as JPEG")]
    WriteJpeg(#[source] jpeg_encoder::EncodingError),
}

/// The size that a picture's header tells, without decoding it.
pub fn size(mime: &str, bytes: &[u8]) -> Result<ScreenSize, ImageError> {
    match mime {
        "image/png" => png_size(bytes),
        "image/x-portable-pixmap" => ppm_header(bytes).map(|(size, _)| size),
        other => Err(ImageError::UnknownType(other.to_owned())),
    }
}

/// PNG 1.2, 4.1.1: the signature's 8 bytes, the chunk's length and `IHDR`, then width and height.
fn png_size(bytes: &[u8]) -> Result<ScreenSize, ImageError> {
    let field = |at: usize| {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    let is_png = bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"IHDR");
    match (is_png, field(16), field(20)) {
        (true, Some(width), Some(height)) => checked_size(width, height),
        _ => Err(ImageError::Broken("it has no PNG header")),
    }
}

fn checked_size(width: u32, height: u32) -> Result<ScreenSize, ImageError> {
    let pixels = u64::from(width) * u64::from(height);
    if (1..=MAX_PIXELS).contains(&pixels) {
        Ok(ScreenSize { width, height })
    } else {
        Err(ImageError::Broken("its size is no screen's"))
    }
}

/// The size, and where the pixels start. ppm(5): magic, width, height and maximum, divided
/// by white space and comments, then one white space.
fn ppm_header(bytes: &[u8]) -> Result<(ScreenSize, usize), ImageError> {
    const BROKEN: ImageError = ImageError::Broken("it has no PPM header");
    let mut at = 0;
    let mut word = || -> Option<&[u8]> {
        loop {
            match bytes.get(at)? {
                b'#' => at += bytes[at..].iter().position(|byte| *byte == b'\n')?,
                byte if byte.is_ascii_whitespace() => at += 1,
                _ => break,
            }
        }
        let length = bytes[at..].iter().position(u8::is_ascii_whitespace)?;
        let word = &bytes[at..at + length];
        at += length;
        Some(word)
    };
    if word() != Some(b"P6") {
        return Err(BROKEN);
    }
    let mut number = || std::str::from_utf8(word()?).ok()?.parse::<u32>().ok();
    match (number(), number(), number()) {
        (Some(width), Some(height), Some(255)) => Ok((checked_size(width, height)?, at + 1)),
        (Some(_), Some(_), Some(_)) => Err(ImageError::Broken("it has not 8 bits per colour")),
        _ => Err(BROKEN),
    }
}

impl Picture {
    /// Takes the bytes of a PPM over where they are given away; a PNG's are only read.
    pub fn decode<'a>(mime: &str, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, ImageError> {
        let bytes = bytes.into();
        match mime {
            "image/png" => Self::decode_png(&bytes),
            "image/x-portable-pixmap" => {
                let (size, start) = ppm_header(&bytes)?;
                let end = start + size.width as usize * size.height as usize * 3;
                if bytes.len() < end {
                    return Err(ImageError::Broken("it ends before its last pixel"));
                }
                let mut bytes = bytes.into_owned();
                bytes.truncate(end);
                Ok(Self { size, bytes, start })
            }
            other => Err(ImageError::UnknownType(other.to_owned())),
        }
    }

    fn of_pixels(size: ScreenSize, bytes: Vec<u8>) -> Self {
        Self {
            size,
            bytes,
            start: 0,
        }
    }

    fn decode_png(bytes: &[u8]) -> Result<Self, ImageError> {
        png_size(bytes)?;
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(ImageError::BrokenPng)?;
        let length = reader
            .output_buffer_size()
            .ok_or(ImageError::Broken("it is too large"))?;
        let mut pixels = vec![0; length];
        let frame = reader
            .next_frame(&mut pixels)
            .map_err(ImageError::BrokenPng)?;
        pixels.truncate(frame.buffer_size());
        let rgb = match frame.color_type {
            png::ColorType::Rgb => pixels,
            png::ColorType::Rgba => pixels
                .chunks_exact(4)
                .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
                .collect(),
            png::ColorType::Grayscale => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
            png::ColorType::GrayscaleAlpha => pixels
                .chunks_exact(2)
                .flat_map(|pixel| [pixel[0]; 3])
                .collect(),
            png::ColorType::Indexed => {
                return Err(ImageError::Broken("its palette was not applied"));
            }
        };
        let size = ScreenSize {
            width: frame.width,
            height: frame.height,
        };
        Ok(Self::of_pixels(size, rgb))
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
        let row = self.size.width as usize * 3;
        let rows = self
            .rgb()
            .chunks_exact(row)
            .skip(at(region.y0))
            .take(at(region.y1 - region.y0));
        let rgb = rows
            .flat_map(|pixels| &pixels[at(region.x0) * 3..at(region.x1) * 3])
            .copied()
            .collect();
        let size = ScreenSize {
            width: region.x1.abs_diff(region.x0),
            height: region.y1.abs_diff(region.y0),
        };
        Self::of_pixels(size, rgb)
    }

    pub fn scale(self, to: ScreenSize) -> Result<Self, ImageError> {
        if to == self.size {
            return Ok(self);
        }
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

    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.size.width, self.size.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_deflate_compression(png::DeflateCompression::Level(PNG_LEVEL));
        encoder.set_filter(png::Filter::NoFilter);
        let mut writer = encoder.write_header().map_err(ImageError::WritePng)?;
        writer
            .write_image_data(self.rgb())
            .map_err(ImageError::WritePng)?;
        writer.finish().map_err(ImageError::WritePng)?;
        Ok(bytes)
    }

    /// JPEG's sides end at 65 535 pixels; [`MAX_PIXELS`] leaves room for a longer one.
    pub fn to_jpeg(&self) -> Result<Vec<u8>, ImageError> {
        let side = |length: u32| {
            u16::try_from(length).map_err(|_| ImageError::Broken("it is too long for JPEG"))
        };
        let mut bytes = Vec::new();
        jpeg_encoder::Encoder::new(&mut bytes, JPEG_QUALITY)
            .encode(
                self.rgb(),
                side(self.size.width)?,
                side(self.size.height)?,
                jpeg_encoder::ColorType::Rgb,
            )
            .map_err(ImageError::WriteJpeg)?;
        Ok(bytes)
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
mod tests {
    use super::*;

    fn ppm(header: &str, pixels: &[u8]) -> Vec<u8> {
        [header.as_bytes(), pixels].concat()
    }

    const PPM: &str = "image/x-portable-pixmap";

    fn sample() -> Picture {
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
    fn the_pixels_of_a_ppm_stay_where_they_were_read() {
        let bytes = ppm("P6 2 1 255\n", &[1, 2, 3, 4, 5, 6, b'\n']);
        let pixels = bytes[11..].as_ptr();
        let picture = Picture::decode(PPM, bytes).unwrap();
        assert_eq!(picture.rgb(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(picture.rgb().as_ptr(), pixels);
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

    #[test]
    fn jpeg_has_its_header() {
        assert_eq!(sample().to_jpeg().unwrap()[..3], [0xff, 0xd8, 0xff]);
    }

    #[test]
    fn broken_pictures_are_errors() {
        let cases: [(&str, Vec<u8>); 9] = [
            ("image/bmp", vec![]),
            ("image/png", vec![]),
            ("image/png", b"\x89PNG\r\n\x1a\n".to_vec()),
            (PPM, vec![]),
            (PPM, b"P5 1 1 255\n\0".to_vec()),
            (PPM, b"P6 1 1 65535\n\0\0\0\0\0\0".to_vec()),
            (PPM, b"P6 0 1 255\n".to_vec()),
            (PPM, b"P6 2 2 255\n\0\0\0".to_vec()),
            (PPM, b"P6 4000000000 4000000000 255\n".to_vec()),
        ];
        for (mime, bytes) in cases {
            assert!(Picture::decode(mime, &bytes).is_err(), "{mime} {bytes:?}");
        }
    }
}
