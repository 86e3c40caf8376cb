//! Writing what clients are shown: PNG and JPEG.
//!
//! What suits a screen depends on what it shows; `docs/benchmarks.md` has the times and sizes that these
//! choices rest on.

use png::{BitDepth, ColorType, Compression, DeflateCompression, Filter};

use super::{ImageError, Picture, palette::Palette};

/// Quality of JPEG pictures, of 100: text stays readable.
const JPEG_QUALITY: u8 = 80;

/// Deflate level of text and windows, and of all with few colours.
const PNG_LEVEL: u8 = 4;

/// As many colours fit into four bits. So few are indexed even where they alternate, as in a stipple.
const FEW: usize = 16;

impl Picture {
    /// Indexed where the colours allow it, in as few bits as they do.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        match Palette::of(self) {
            Some(palette) if palette.len() <= FEW || !self.is_photograph() => {
                let rows = palette.rows(self.size.width);
                self.write_png(&rows, |encoder| {
                    encoder.set_color(ColorType::Indexed);
                    encoder.set_depth(palette.depth());
                    encoder.set_palette(palette.colours());
                    encoder.set_deflate_compression(DeflateCompression::Level(PNG_LEVEL));
                    // Indexes are no amounts: what they differ by is no smaller than they are.
                    encoder.set_filter(Filter::NoFilter);
                })
            }
            _ if self.is_photograph() => self.write_png(self.rgb(), |encoder| {
                encoder.set_color(ColorType::Rgb);
                // Each pixel as its difference from its neighbours; deflate finds nothing in the rest.
                encoder.set_compression(Compression::Fast);
            }),
            _ => self.write_png(self.rgb(), |encoder| {
                encoder.set_color(ColorType::Rgb);
                encoder.set_deflate_compression(DeflateCompression::Level(PNG_LEVEL));
                // Letters and lines come again as they are.
                encoder.set_filter(Filter::NoFilter);
            }),
        }
    }

    fn write_png(
        &self,
        rows: &[u8],
        set: impl FnOnce(&mut png::Encoder<&mut Vec<u8>>),
    ) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.size.width, self.size.height);
        encoder.set_depth(BitDepth::Eight);
        set(&mut encoder);
        let mut writer = encoder.write_header().map_err(ImageError::WritePng)?;
        writer
            .write_image_data(rows)
            .map_err(ImageError::WritePng)?;
        writer.finish().map_err(ImageError::WritePng)?;
        Ok(bytes)
    }

    /// Whether a quarter of the pixels, in every eighth row, are like none of those that deflate would
    /// copy: the one to the left, the one before it, and the one above. In what programs draw hardly any
    /// are, in photographs most.
    fn is_photograph(&self) -> bool {
        let (pixels, _) = self.rgb().as_chunks::<3>();
        let width = self.size.width as usize;
        let mut new = 0;
        let mut seen = 0;
        let mut rows = pixels.chunks_exact(width);
        while let (Some(above), Some(row)) = (rows.next(), rows.next()) {
            let before = row.windows(3).zip(&above[2.min(width)..]);
            new += before
                .filter(|(it, above)| it[2] != it[1] && it[2] != it[0] && it[2] != **above)
                .count();
            seen += width;
            rows.nth(5);
        }
        new * 4 > seen
    }

    /// Its sides are at most 16 384, which JPEG can say.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{PPM, ppm};

    /// A picture of this size, each pixel as told by its number.
    fn picture(width: u32, height: u32, pixel: impl FnMut(u32) -> [u8; 3]) -> Picture {
        let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
        Picture::decode(PPM, ppm(&format!("P6 {width} {height} 255\n"), &pixels)).unwrap()
    }

    /// A colour for each number, near to those of its neighbours.
    fn colour(number: u32) -> [u8; 3] {
        let [_, red, green, blue] = number.to_be_bytes();
        [red, green, blue]
    }

    /// Numbers without order, the same ones every time.
    fn noise() -> impl FnMut() -> u32 {
        let mut state = 1_u32;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        }
    }

    /// Writes and reads it, and gives the colour type and depth that its header tells (PNG 1.2, 4.1.1).
    fn kind(picture: &Picture) -> (u8, u8) {
        let png = picture.to_png().unwrap();
        assert!(&Picture::decode("image/png", &png).unwrap() == picture);
        (png[25], png[24])
    }

    const RGB: (u8, u8) = (2, 8);

    #[test]
    fn colours_are_indexed_in_as_few_bits_as_they_need() {
        let cases = [
            (1, (3, 1)),
            (2, (3, 1)),
            (3, (3, 2)),
            (4, (3, 2)),
            (5, (3, 4)),
            (16, (3, 4)),
            (17, (3, 8)),
            (256, (3, 8)),
            (257, RGB),
        ];
        for (colours, expected) in cases {
            // Widths that fill the last byte of a row, and such as do not. Two rows of each colour.
            for width in [33, 64, 31] {
                let drawn = picture(width, 600, |at| colour(at / width / 2 % colours));
                assert_eq!(kind(&drawn), expected, "{colours} colours, {width} wide");
            }
        }
    }

    #[test]
    fn each_pixel_keeps_its_colour_in_the_smallest_picture_and_in_long_runs() {
        for length in [1, 2, 15, 16, 17, 31, 32, 33, 100] {
            let drawn = picture(length, 1, |at| colour(u32::from(at + 1 == length)));
            assert_eq!(kind(&drawn), (3, 1), "{length}");
            let tall = picture(1, length, |at| colour(0x00ff_0000 + at));
            assert_eq!(
                &Picture::decode("image/png", tall.to_png().unwrap()).unwrap(),
                &tall
            );
        }
    }

    #[test]
    fn photographs_are_not_indexed_and_stipples_are() {
        let mut random = noise();
        let grey = picture(64, 64, |_| [(random() % 200) as u8; 3]);
        assert!(grey.is_photograph());
        assert_eq!(kind(&grey), RGB);
        let stipple = picture(64, 64, |at| colour((at + at / 64) % 2));
        assert!(!stipple.is_photograph());
        assert_eq!(kind(&stipple), (3, 1));
        let few = picture(64, 64, |_| colour(random() % 16));
        assert_eq!(kind(&few), (3, 4));
    }

    #[test]
    fn a_photograph_is_told_by_the_share_of_pixels_that_are_new() {
        let mut random = noise();
        for (share, expected) in [(20, false), (30, true), (100, true)] {
            // So many columns of a hundred are noise.
            let drawn = picture(200, 200, |at| {
                colour(if at % 200 < 2 * share { random() } else { 0 })
            });
            assert_eq!(drawn.is_photograph(), expected, "{share} %");
        }
        for (width, height) in [(1, 1), (1, 9), (2, 9), (9, 1)] {
            let mut random = noise();
            assert!(!picture(width, height, |_| colour(random())).is_photograph());
        }
    }

    #[test]
    fn jpeg_has_its_header() {
        let jpeg = picture(4, 3, colour).to_jpeg().unwrap();
        assert_eq!(jpeg[..3], [0xff, 0xd8, 0xff]);
    }
}
