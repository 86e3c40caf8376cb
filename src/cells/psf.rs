//! PSF files, the fonts of Linux consoles.
//!
//! Source: <https://www.win.tue.nl/~aeb/linux/kbd/font-formats-1.html>; `psf.h` of the package kbd.

use std::{borrow::Cow, io::Read};

use super::{cp437, font::Font, font::FontError, font::size, pixels::Size};

/// The most bytes of a font, unpacked; those that exist have less than 100,000.
const MAX_BYTES: u64 = 2 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const PSF1: [u8; 2] = [0x36, 0x04];
const PSF2: [u8; 4] = [0x72, 0xb5, 0x4a, 0x86];

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
    let too_large = |length| length > MAX_BYTES as usize;
    if !bytes.starts_with(&GZIP) {
        return match too_large(bytes.len()) {
            true => Err(FontError::TooLarge(MAX_BYTES)),
            false => Ok(bytes.into()),
        };
    }
    let mut unpacked = vec![];
    // A few bytes can stand for any number.
    let mut reader = flate2::read::GzDecoder::new(bytes).take(MAX_BYTES + 1);
    reader
        .read_to_end(&mut unpacked)
        .map_err(FontError::BrokenGzip)?;
    if too_large(unpacked.len()) {
        return Err(FontError::TooLarge(MAX_BYTES));
    }
    Ok(unpacked.into())
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
