//! PSF files, the fonts of Linux consoles.
//!
//! Source: <https://www.win.tue.nl/~aeb/linux/kbd/font-formats-1.html>; `psf.h` of the package kbd.

use std::{borrow::Cow, io::Read};

use super::{cp437, font::Font, font::FontError, font::size, pixels::Size};

/// The most bytes of a font, unpacked; those that exist have less than 100,000.
const MAX_BYTES: usize = 2 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const PSF1: [u8; 2] = [0x36, 0x04];
pub(super) const PSF2: [u8; 4] = [0x72, 0xb5, 0x4a, 0x86];

pub(super) fn parse(name: String, bytes: &[u8]) -> Result<Font, FontError> {
    let bytes = unpacked(bytes)?;
    if let Some(rest) = bytes.strip_prefix(&PSF2) {
        version_2(name, &bytes, rest)
    } else if let Some(rest) = bytes.strip_prefix(&PSF1) {
        version_1(name, rest)
    } else {
        Err(FontError::UnknownFormat)
    }
}

fn unpacked(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FontError> {
    let unpacked = if bytes.starts_with(&GZIP) {
        let mut unpacked = vec![];
        // A few bytes can stand for any number.
        let mut reader = flate2::read::GzDecoder::new(bytes).take(MAX_BYTES as u64 + 1);
        let read = reader.read_to_end(&mut unpacked);
        read.map_err(FontError::BrokenGzip)?;
        Cow::Owned(unpacked)
    } else {
        Cow::Borrowed(bytes)
    };
    if unpacked.len() > MAX_BYTES {
        return Err(FontError::TooLarge(MAX_BYTES));
    }
    Ok(unpacked)
}

fn version_1(name: String, bytes: &[u8]) -> Result<Font, FontError> {
    const HAS_512: u8 = 1;
    const HAS_TABLE: u8 = 2 | 4;
    let [mode, height, rest @ ..] = bytes else {
        return Err(FontError::CutOff("its header"));
    };
    let cell = size(8, u32::from(*height))?;
    let count = if mode & HAS_512 == 0 { 256 } else { 512 };
    let (bitmaps, table) = bitmaps(rest, count, cell)?;
    if mode & HAS_TABLE == 0 {
        return without_table(name, cell, bitmaps);
    }
    let units: Vec<u16> = table
        .as_chunks()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .collect();
    let mut units = units.as_slice();
    let characters = (0..count).map(|_| {
        let end = units.iter().position(|unit| *unit == 0xffff);
        let end = end.ok_or(FontError::CutOff("its table of characters"))?;
        let entry = &units[..end];
        units = &units[end + 1..];
        // What follows 0xfffe is put together of several characters, which no cell of a screen has.
        let single = entry.split(|unit| *unit == 0xfffe).next();
        char::decode_utf16(single.unwrap_or_default().iter().copied())
            .collect::<Result<Vec<char>, _>>()
            .map_err(|_| FontError::BadTable)
    });
    let characters = characters.collect::<Result<Vec<_>, _>>()?;
    Font::checked(name, cell, bitmaps.zip(characters))
}

fn version_2(name: String, bytes: &[u8], rest: &[u8]) -> Result<Font, FontError> {
    const HAS_TABLE: u32 = 1;
    /// Its magic number, and seven fields.
    const HEADER: usize = 32;
    let (fields, _) = rest.as_chunks::<4>();
    let &[version, header, flags, count, bytes_each, height, width, ..] = fields else {
        return Err(FontError::CutOff("its header"));
    };
    let [version, header, flags, count, bytes_each, height, width] =
        [version, header, flags, count, bytes_each, height, width].map(u32::from_le_bytes);
    if version != 0 {
        return Err(FontError::BadHeader("only its version 0 is known"));
    }
    if (header as usize) < HEADER {
        return Err(FontError::BadHeader("it is longer than it says"));
    }
    let cell = size(width, height)?;
    if bytes_each as usize != cell.stride() * cell.height {
        return Err(FontError::BadHeader("its glyphs are not of its size"));
    }
    let rest = bytes.get(header as usize..);
    let rest = rest.ok_or(FontError::CutOff("its header"))?;
    let (bitmaps, mut table) = bitmaps(rest, count as usize, cell)?;
    if flags & HAS_TABLE == 0 {
        return without_table(name, cell, bitmaps);
    }
    let characters = (0..count).map(|_| {
        let end = table.iter().position(|byte| *byte == 0xff);
        let end = end.ok_or(FontError::CutOff("its table of characters"))?;
        let entry = &table[..end];
        table = &table[end + 1..];
        let single = entry.split(|byte| *byte == 0xfe).next();
        let text = str::from_utf8(single.unwrap_or_default());
        let text = text.map_err(|_| FontError::BadTable)?;
        Ok(text.chars().collect())
    });
    let characters = characters.collect::<Result<Vec<Vec<char>>, _>>()?;
    Font::checked(name, cell, bitmaps.zip(characters))
}

/// The glyphs' bitmaps, and what comes after them.
fn bitmaps(
    bytes: &[u8],
    count: usize,
    cell: Size,
) -> Result<(impl ExactSizeIterator<Item = Vec<u8>>, &[u8]), FontError> {
    let each = cell.stride() * cell.height;
    let all = count.checked_mul(each);
    let split = all.and_then(|all| bytes.split_at_checked(all));
    let (bitmaps, rest) = split.ok_or(FontError::CutOff("its glyphs"))?;
    Ok((bitmaps.chunks_exact(each).map(<[u8]>::to_vec), rest))
}

/// A font of 256 glyphs that does not name its characters is one for VGA text mode.
fn without_table(
    name: String,
    cell: Size,
    bitmaps: impl ExactSizeIterator<Item = Vec<u8>>,
) -> Result<Font, FontError> {
    if bitmaps.len() != 256 {
        let count = u32::try_from(bitmaps.len()).unwrap_or(u32::MAX);
        return Err(FontError::NoTable(count));
    }
    let characters = cp437::characters().map(|character| vec![character]);
    Font::checked(name, cell, bitmaps.zip(characters))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn version_1(mode: u8, height: u8, count: usize, table: &[u16]) -> Vec<u8> {
        let glyphs = glyphs(count, usize::from(height));
        let table = table.iter().flat_map(|unit| unit.to_le_bytes());
        let mut bytes = vec![0x36, 0x04, mode, height];
        bytes.extend(glyphs);
        bytes.extend(table);
        bytes
    }

    fn version_2(fields: [u32; 7], glyphs: &[u8], table: &[u8]) -> Vec<u8> {
        let fields = fields.iter().flat_map(|field| field.to_le_bytes());
        let mut bytes = PSF2.to_vec();
        bytes.extend(fields);
        bytes.extend(glyphs);
        bytes.extend(table);
        bytes
    }

    /// Each glyph has its number in all of its bytes.
    fn glyphs(count: usize, bytes_each: usize) -> Vec<u8> {
        let numbers = (0..count).map(|number| number.to_le_bytes()[0]);
        numbers.flat_map(|byte| vec![byte; bytes_each]).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn parsed(bytes: &[u8]) -> Result<Font, FontError> {
        parse("font".to_owned(), bytes)
    }

    fn refusal(bytes: &[u8]) -> String {
        parsed(bytes).unwrap_err().to_string()
    }

    /// What the glyph with these bytes stands for.
    fn characters(font: &Font, byte: u8) -> String {
        let is_it = |bitmap: &[u8]| bitmap.iter().all(|it| *it == byte);
        let mut found = font.glyphs().iter().filter(|glyph| is_it(&glyph.bitmap));
        found
            .next()
            .map_or_else(String::new, |glyph| glyph.characters.iter().collect())
    }

    /// A table that gives the glyph 1 the letters A and Cyrillic А, and 2 a B and a put-together one.
    fn table_1(count: u16) -> Vec<u16> {
        let entry = |number| match number {
            1 => vec![0x0410, 0x41, 0xffff],
            2 => vec![0x42, 0xfffe, 0x43, 0x301, 0xffff],
            _ => vec![0xffff],
        };
        (0..count).flat_map(entry).collect()
    }

    const HEADER_2: [u32; 7] = [0, 32, 1, 3, 24, 12, 10];

    #[test]
    fn both_versions_are_read_packed_or_not() {
        let one = version_1(2, 16, 256, &table_1(256));
        let more = version_1(3, 8, 512, &table_1(512));
        let table = [
            "\u{b7}".as_bytes(),
            &[0xff],
            "АA".as_bytes(),
            &[0xff],
            b"B",
            &[0xfe],
        ];
        let table = [&table.concat(), "C\u{301}".as_bytes(), &[0xff]].concat();
        let two = version_2(HEADER_2, &glyphs(3, 24), &table);
        for (bytes, size) in [(one, "8×16"), (more, "8×8"), (two, "10×12")] {
            for bytes in [gzip(&bytes), bytes] {
                let font = parsed(&bytes).unwrap();
                assert_eq!(
                    (font.name(), font.cell().to_string().as_str()),
                    ("font", size)
                );
                if size == "10×12" {
                    // Six of the second byte's bits are beyond the tenth pixel.
                    let bitmap = [1, 0].repeat(12);
                    let found = font.glyphs().iter().find(|it| it.bitmap == bitmap);
                    assert_eq!(found.unwrap().characters, ['A', 'А']);
                    assert_eq!(font.glyphs().len(), 3);
                } else {
                    assert_eq!(characters(&font, 1), "AА");
                    assert_eq!(characters(&font, 2), "B");
                    assert_eq!(font.glyphs().len(), 2);
                }
            }
        }
    }

    #[test]
    fn a_header_may_be_longer() {
        let mut fields = HEADER_2;
        fields[1] = 36;
        let table = [b"a", &[0xff][..], b"b", &[0xff], b"c", &[0xff]].concat();
        let glyphs = [vec![9; 4], glyphs(3, 24)].concat();
        let font = parsed(&version_2(fields, &glyphs, &table)).unwrap();
        assert_eq!(font.glyphs()[0].bitmap, [0; 24]);
    }

    #[test]
    fn a_font_without_a_table_has_the_pcs_characters() {
        let font = parsed(&version_1(0, 16, 256, &[])).unwrap();
        let cases = [(0x41, "A"), (0xc4, "─"), (0xe1, "ß"), (0xfe, "■"), (0, " ")];
        for (byte, expected) in cases {
            assert_eq!(characters(&font, byte), expected, "{byte:#x}");
        }
        let more = refusal(&version_1(1, 8, 512, &[]));
        assert_eq!(
            more,
            "it has 512 glyphs, and does not say which characters they are"
        );
        let fields = [0, 32, 0, 3, 24, 12, 10];
        let few = refusal(&version_2(fields, &glyphs(3, 24), &[]));
        assert_eq!(few, more.replace("512", "3"));
    }

    #[test]
    fn damaged_files_are_refused() {
        const GLYPHS: &str = "it ends in the middle of its glyphs";
        const TABLE: &str = "it ends in the middle of its table of characters";
        const HEADER: &str = "it ends in the middle of its header";
        const FORMAT: &str = "it is neither a PSF or PF2 font nor a VGA BIOS";
        let one = version_1(2, 16, 256, &table_1(256));
        let with = |field: usize, value| {
            let mut fields = HEADER_2;
            fields[field] = value;
            version_2(fields, &glyphs(3, 24), &[0xff; 3])
        };
        let surrogate: Vec<u16> = [&[0xd800, 0xffff][..], &table_1(255)].concat();
        let packed = gzip(&one);
        let cases = [
            (vec![], FORMAT),
            (b"STARTFONT 2.1".to_vec(), FORMAT),
            (one[..3].to_vec(), HEADER),
            (one[..4 + 4095].to_vec(), GLYPHS),
            (one[..4 + 4096].to_vec(), TABLE),
            (one[..one.len() - 2].to_vec(), TABLE),
            (one[..one.len() - 1].to_vec(), TABLE),
            (
                version_1(2, 0, 256, &[]),
                "its cells of 8×0 pixels are no console's",
            ),
            (
                version_1(2, 16, 256, &surrogate),
                "its table of characters is no Unicode",
            ),
            (
                with(0, 1),
                "its header contradicts itself: only its version 0 is known",
            ),
            (
                with(1, 31),
                "its header contradicts itself: it is longer than it says",
            ),
            (with(1, u32::MAX), HEADER),
            (with(3, 4), GLYPHS),
            (with(3, u32::MAX), GLYPHS),
            (
                with(4, 23),
                "its header contradicts itself: its glyphs are not of its size",
            ),
            (
                with(5, u32::MAX),
                "its cells of 10×4294967295 pixels are no console's",
            ),
            (with(6, 0), "its cells of 0×12 pixels are no console's"),
            (with(3, 0), "it has no glyph that stands for a character"),
            (with(3, 2), "it has no glyph that stands for a character"),
            (
                font_2_with(b"\xc3"),
                "its table of characters is no Unicode",
            ),
            (version_2(HEADER_2, &[], &[])[..20].to_vec(), HEADER),
            (packed[..packed.len() - 9].to_vec(), "it cannot be unpacked"),
            (packed[..12].to_vec(), "it cannot be unpacked"),
        ];
        for (at, (bytes, expected)) in cases.into_iter().enumerate() {
            assert_eq!(refusal(&bytes), expected, "{at}");
        }
    }

    fn font_2_with(entry: &[u8]) -> Vec<u8> {
        let table = [entry, &[0xff; 3]].concat();
        version_2(HEADER_2, &glyphs(3, 24), &table)
    }

    #[test]
    fn what_unpacks_to_more_than_a_font_is_refused() {
        let refused = "it unpacks to more than 2097152 bytes";
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        assert_eq!(refusal(&bomb), refused);
        assert_eq!(refusal(&vec![0; MAX_BYTES + 1]), refused);
    }
}
