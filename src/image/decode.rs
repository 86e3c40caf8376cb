//! Reading what hypervisors give, PNG and PPM, and what files hold, PNG and JPEG.

use std::{borrow::Cow, io::Cursor};

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use crate::model::ScreenSize;

use super::{ImageError, Picture};

/// The longest side that is read, as of QEMU's largest screens.
const MAX_SIDE: u32 = 16_384;

/// The most bytes of pixels that are read. A guest chooses its screen's size, and a few bytes of PNG can
/// stand for all of it: an 8K screen of 8192×4320 takes 106 MB, and nothing much larger may fill the
/// host's memory.
pub const MAX_BYTES: u64 = 128 << 20;

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
    let sides = 1..=MAX_SIDE;
    let is_screen = sides.contains(&width)
        && sides.contains(&height)
        && u64::from(width) * u64::from(height) * 3 <= MAX_BYTES;
    if is_screen {
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
                let end = start + bytes_of(size);
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

    /// Reads a file's bytes, PNG, JPEG or what hypervisors give as PPM, by how they begin.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Self::decode_png(bytes),
            [0xff, 0xd8, 0xff, ..] => Self::decode_jpeg(bytes),
            [b'P', b'6', ..] => Self::decode("image/x-portable-pixmap", bytes),
            _ => Err(ImageError::NoPicture),
        }
    }

    fn decode_jpeg(bytes: &[u8]) -> Result<Self, ImageError> {
        let most = MAX_SIDE as usize;
        let options = DecoderOptions::default()
            .set_strict_mode(true)
            .set_max_width(most)
            .set_max_height(most)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(ImageError::BrokenJpeg)?;
        let info = decoder.info().ok_or(ImageError::Broken("it has no size"))?;
        let size = checked_size(info.width.into(), info.height.into())?;
        let pixels = decoder.decode().map_err(ImageError::BrokenJpeg)?;
        if pixels.len() != bytes_of(size) {
            return Err(ImageError::Broken("its pixels do not fill it"));
        }
        Ok(Self::of_pixels(size, pixels))
    }

    fn decode_png(bytes: &[u8]) -> Result<Self, ImageError> {
        let size = png_size(bytes)?;
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(ImageError::BrokenPng)?;
        // The crate panics at a palette of other lengths (png 0.18.1).
        let palette = reader.info().palette.as_deref().unwrap_or_default();
        if !palette.len().is_multiple_of(3) || palette.len() > 256 * 3 {
            return Err(ImageError::Broken("its palette is no list of colours"));
        }
        let length = reader
            .output_buffer_size()
            .ok_or(ImageError::Broken("it is too large"))?;
        let mut pixels = vec![0; length];
        let frame = reader
            .next_frame(&mut pixels)
            .map_err(ImageError::BrokenPng)?;
        pixels.truncate(frame.buffer_size());
        let rgb = match frame.color_type {
            // As libvirt's are.
            png::ColorType::Rgb => pixels,
            png::ColorType::Rgba => without_alpha(pixels),
            png::ColorType::Grayscale => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
            png::ColorType::GrayscaleAlpha => pixels
                .chunks_exact(2)
                .flat_map(|pixel| [pixel[0]; 3])
                .collect(),
            png::ColorType::Indexed => {
                return Err(ImageError::Broken("its palette was not applied"));
            }
        };
        // An animation's first frame can be smaller than what its header tells.
        if rgb.len() != bytes_of(size) {
            return Err(ImageError::Broken("its pixels do not fill it"));
        }
        Ok(Self::of_pixels(size, rgb))
    }
}

/// What the pixels of a size that was checked take.
fn bytes_of(size: ScreenSize) -> usize {
    size.width as usize * size.height as usize * 3
}

/// Moves the colours together, in place.
fn without_alpha(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for at in 0..count {
        pixels.copy_within(4 * at..4 * at + 3, 3 * at);
    }
    pixels.truncate(3 * count);
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{PPM, ppm};

    #[test]
    fn the_pixels_of_a_ppm_stay_where_they_were_read() {
        let bytes = ppm("P6 2 1 255\n", &[1, 2, 3, 4, 5, 6, b'\n']);
        let pixels = bytes[11..].as_ptr();
        let picture = Picture::decode(PPM, bytes).unwrap();
        assert_eq!(picture.rgb(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(picture.rgb().as_ptr(), pixels);
    }

    /// A PNG of this colour type and depth that the crate writes, of one row.
    fn png_of(colour: png::ColorType, depth: png::BitDepth, width: u32, row: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        let mut encoder = png::Encoder::new(&mut bytes, width, 1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == png::ColorType::Indexed {
            encoder.set_palette(vec![9, 8, 7, 6, 5, 4]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(row).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn pngs_of_every_kind_become_8_bit_colours() {
        use png::{BitDepth::*, ColorType::*};
        let cases: [(_, _, &[u8], [u8; 6]); 8] = [
            (Rgb, Eight, &[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
            (Rgba, Eight, &[1, 2, 3, 0, 4, 5, 6, 9], [1, 2, 3, 4, 5, 6]),
            (
                Rgb,
                Sixteen,
                &[1, 200, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0],
                [1, 2, 3, 4, 5, 6],
            ),
            (Grayscale, Eight, &[7, 8], [7, 7, 7, 8, 8, 8]),
            (Grayscale, One, &[0b0100_0000], [0, 0, 0, 255, 255, 255]),
            (GrayscaleAlpha, Eight, &[7, 1, 8, 2], [7, 7, 7, 8, 8, 8]),
            (Indexed, Eight, &[1, 0], [6, 5, 4, 9, 8, 7]),
            (Indexed, One, &[0b1000_0000], [6, 5, 4, 9, 8, 7]),
        ];
        for (colour, depth, row, pixels) in cases {
            let png = png_of(colour, depth, 2, row);
            let picture = Picture::decode("image/png", png).unwrap();
            assert_eq!(picture.rgb(), pixels, "{colour:?} {depth:?}");
        }
    }

    #[test]
    fn a_palette_that_is_no_list_of_colours_is_an_error() {
        for (length, is_read) in [(6, true), (7, false), (8, false), (768, true), (771, false)] {
            let mut png = png_of(png::ColorType::Indexed, png::BitDepth::Eight, 2, &[0, 1]);
            let at = png.windows(4).position(|it| it == b"PLTE").unwrap();
            let chunk = [b"PLTE".as_slice(), &vec![7; length]].concat();
            let length = u32::try_from(length).unwrap().to_be_bytes();
            let chunk = [&length[..], &chunk, &crc(&chunk)].concat();
            // The length before the name, 6 bytes of colours and the check behind it.
            png.splice(at - 4..at + 14, chunk);
            let read = Picture::decode("image/png", png);
            assert_eq!(read.is_ok(), is_read, "{length:?}: {read:?}");
        }
    }

    /// PNG 1.2, annex D.
    fn crc(bytes: &[u8]) -> [u8; 4] {
        let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
            })
        });
        (!crc).to_be_bytes()
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

    #[test]
    fn screens_of_up_to_8k_are_read_and_no_larger_ones() {
        let cases = [
            ((8192, 4320), true),
            ((16_384, 1), true),
            ((1, 16_384), true),
            ((16_385, 1), false),
            ((1, 16_385), false),
            ((16_384, 16_384), false),
            ((8192, 5461), true),
            ((8192, 5462), false),
        ];
        for ((width, height), is_read) in cases {
            let header = format!("P6 {width} {height} 255\n");
            let told = size(PPM, header.as_bytes());
            assert_eq!(told.is_ok(), is_read, "{width}×{height}");
            let mut png = png_of(png::ColorType::Grayscale, png::BitDepth::One, 1, &[0]);
            png[16..20].copy_from_slice(&u32::to_be_bytes(width));
            png[20..24].copy_from_slice(&u32::to_be_bytes(height));
            assert_eq!(size("image/png", &png).is_ok(), is_read, "{width}×{height}");
        }
    }

    #[test]
    fn a_files_picture_is_known_by_how_it_begins() {
        let picture = crate::image::tests::sample();
        let png = picture.to_png().unwrap();
        assert_eq!(Picture::read(&png).unwrap(), picture);
        let jpeg = picture.to_jpeg().unwrap();
        let read = Picture::read(&jpeg).unwrap();
        assert_eq!(read.size(), picture.size());
        let near = read.rgb().iter().zip(picture.rgb());
        assert!(near.clone().all(|(a, b)| a.abs_diff(*b) < 12), "{near:?}");
        for (bytes, says) in [
            (&b""[..], "it is neither PNG nor JPEG"),
            (b"GIF89a", "it is neither PNG nor JPEG"),
            (
                &png[..20],
                "the picture cannot be read: it has no PNG header",
            ),
            (&png[..40], "the PNG cannot be read"),
            (&jpeg[..20], "the JPEG cannot be read"),
            (&jpeg[..jpeg.len() / 2], "the JPEG cannot be read"),
            (
                b"P6 1 1 255\n\0\0",
                "the picture cannot be read: it ends before its last pixel",
            ),
        ] {
            assert_eq!(Picture::read(bytes).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn bombs_are_refused_by_what_their_headers_say() {
        let mut png = png_of(png::ColorType::Rgb, png::BitDepth::Eight, 1, &[0; 3]);
        for at in [16, 20] {
            png[at..at + 4].copy_from_slice(&30_000_u32.to_be_bytes());
        }
        let refused = |bytes: &[u8]| Picture::read(bytes).unwrap_err().to_string();
        assert_eq!(
            refused(&png),
            "the picture cannot be read: its size is no screen's"
        );
        let mut jpeg = crate::image::tests::sample().to_jpeg().unwrap();
        // ITU T.81, B.2.2: SOF0, its length, the precision, then height and width.
        let frame = jpeg.windows(2).position(|it| it == [0xff, 0xc0]).unwrap();
        for at in [frame + 5, frame + 7] {
            jpeg[at..at + 2].copy_from_slice(&16_000_u16.to_be_bytes());
        }
        assert_eq!(
            refused(&jpeg),
            "the picture cannot be read: its size is no screen's"
        );
    }
}
