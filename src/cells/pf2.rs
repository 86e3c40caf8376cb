//! PF2 files, the fonts of GRUB's graphical terminal.
//!
//! Source: "PFF2 Font File Format" of GRUB's developers' manual, and `grub-core/font/font.c`,
//! `grub-core/term/gfxterm.c`.

use super::{font::Font, font::FontError, font::size, pixels::Size};

const MAGIC: &[u8] = b"FILE\0\0\0\x04PFF2";

/// GRUB's own font has glyphs of all scripts, tens of thousands. What boot menus are written with ends
/// here, after lines, blocks and shapes.
const LAST: char = '\u{25ff}';

/// What its sections tell.
#[derive(Default)]
struct Sections<'a> {
    max_height: Option<u16>,
    ascent: Option<u16>,
    /// For each character nine bytes: its number, how it is stored, and where in the file.
    index: &'a [u8],
}

/// A character's bitmap, its rows one after the other without padding.
struct Drawn<'a> {
    width: usize,
    height: usize,
    /// From the left edge of the cell, and from the baseline up to its lowest row.
    x: i16,
    y: i16,
    /// By how much the pen moves on.
    advance: i16,
    bits: &'a [u8],
}

pub(super) fn parse(name: String, bytes: &[u8]) -> Result<Font, FontError> {
    let Sections {
        max_height,
        ascent,
        index,
    } = sections(bytes.strip_prefix(MAGIC).ok_or(FontError::UnknownFormat)?)?;
    let (Some(height), Some(ascent)) = (max_height, ascent) else {
        return Err(FontError::CutOff("its header"));
    };
    let mut drawn = vec![];
    for entry in index.as_chunks::<9>().0 {
        let [a, b, c, d, _, at @ ..] = *entry;
        let character = char::from_u32(u32::from_be_bytes([a, b, c, d]));
        let Some(character) = character.filter(|it| *it <= LAST) else {
            continue;
        };
        let at = u32::from_be_bytes(at) as usize;
        let glyph = bytes.get(at..).and_then(Drawn::parse);
        let glyph = glyph.ok_or(FontError::CutOff("a glyph"))?;
        drawn.push((character, glyph));
    }
    // GRUB's cells are as wide as the widest printable character of ASCII.
    let ascii = drawn.iter().filter(|(it, _)| matches!(it, ' '..='~'));
    let width = ascii.map(|(_, glyph)| glyph.advance).max().unwrap_or(0);
    let cell = size(u32::try_from(width).unwrap_or(0), u32::from(height))?;
    let glyphs = drawn.into_iter().filter_map(|(character, glyph)| {
        let bitmap = (glyph.advance == width).then(|| glyph.in_cell(cell, ascent))?;
        Some((bitmap?, vec![character]))
    });
    Font::checked(name, cell, glyphs)
}

fn sections(mut rest: &[u8]) -> Result<Sections<'_>, FontError> {
    let mut sections = Sections::default();
    while let [a, b, c, d, l0, l1, l2, l3, more @ ..] = rest {
        let name = [*a, *b, *c, *d];
        // The rest of the file, whatever its length says.
        if &name == b"DATA" {
            return Ok(sections);
        }
        let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
        let split = more.split_at_checked(length);
        let (content, after) = split.ok_or(FontError::CutOff("a section"))?;
        let number = || match content {
            [high, low] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(FontError::BadHeader("a number of it has not two bytes")),
        };
        match &name {
            b"MAXH" => sections.max_height = Some(number()?),
            b"ASCE" => sections.ascent = Some(number()?),
            b"CHIX" => sections.index = content,
            _ => {}
        }
        rest = after;
    }
    Err(FontError::CutOff("its header"))
}

impl<'a> Drawn<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let [w0, w1, h0, h1, x0, x1, y0, y1, a0, a1, bits @ ..] = bytes else {
            return None;
        };
        let width = usize::from(u16::from_be_bytes([*w0, *w1]));
        let height = usize::from(u16::from_be_bytes([*h0, *h1]));
        Some(Self {
            width,
            height,
            x: i16::from_be_bytes([*x0, *x1]),
            y: i16::from_be_bytes([*y0, *y1]),
            advance: i16::from_be_bytes([*a0, *a1]),
            bits: bits.get(..(width * height).div_ceil(8))?,
        })
    }

    /// As it is drawn into a cell; `None` where it does not fit in.
    fn in_cell(&self, cell: Size, ascent: u16) -> Option<Vec<u8>> {
        let top = i64::from(ascent) - i64::from(self.y) - i64::try_from(self.height).ok()?;
        let (left, top) = (usize::try_from(self.x).ok()?, usize::try_from(top).ok()?);
        if self.width == 0 || self.height == 0 {
            return Some(vec![0; cell.stride() * cell.height]);
        }
        if left + self.width > cell.width || top + self.height > cell.height {
            return None;
        }
        let mut bitmap = vec![0; cell.stride() * cell.height];
        for y in 0..self.height {
            for x in 0..self.width {
                let bit = y * self.width + x;
                if self.bits.get(bit / 8)? & (0x80 >> (bit % 8)) != 0 {
                    let column = left + x;
                    *bitmap.get_mut((top + y) * cell.stride() + column / 8)? |=
                        0x80 >> (column % 8);
                }
            }
        }
        Some(bitmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: [u8; 4], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&name[..], &length, content].concat()
    }

    /// Width, height, x, y, advance, and the bits.
    type Made = ([i16; 5], &'static [u8]);

    /// A font with cells of 8×10 pixels, whose baseline is below the eighth row.
    fn file(glyphs: &[(char, Made)]) -> Vec<u8> {
        let mut file = [
            MAGIC.to_vec(),
            section(*b"NAME", b"Made\0"),
            section(*b"MAXH", &[0, 10]),
            section(*b"ASCE", &[0, 8]),
        ]
        .concat();
        let data = file.len() + 8 + glyphs.len() * 9 + 8;
        let (mut index, mut drawn) = (vec![], vec![]);
        for (character, (numbers, bits)) in glyphs {
            index.extend(u32::from(*character).to_be_bytes());
            index.push(0);
            index.extend(u32::try_from(data + drawn.len()).unwrap().to_be_bytes());
            drawn.extend(numbers.iter().flat_map(|it| it.to_be_bytes()));
            drawn.extend_from_slice(bits);
        }
        file.extend(section(*b"CHIX", &index));
        file.extend(b"DATA\xff\xff\xff\xff");
        file.extend(drawn);
        file
    }

    /// A bar of three pixels by two, one from the left and one above the baseline.
    const BAR: Made = ([3, 2, 1, 1, 8], &[0b1110_1100]);

    #[test]
    fn glyphs_are_put_where_grub_draws_them() {
        let wide = ([16, 1, 0, 0, 16], &[0xff, 0xff][..]);
        let below = ([1, 1, 0, -2, 8], &[0x80][..]);
        let outside = ([1, 1, 0, -3, 8], &[0x80][..]);
        let blank = ([0, 0, 0, 0, 8], &[][..]);
        let font = parse(
            "made".to_owned(),
            &file(&[
                (' ', blank),
                ('-', BAR),
                ('_', below),
                ('é', outside),
                ('Ω', wide),
                ('世', BAR),
            ]),
        )
        .unwrap();
        assert_eq!(font.cell().to_string(), "8×10");
        let found: Vec<_> = font
            .glyphs()
            .iter()
            .map(|glyph| (glyph.characters[0], glyph.bitmap.clone()))
            .collect();
        let rows = |at: usize, ink: &[u8]| {
            let mut rows = vec![0; 10];
            rows[at..at + ink.len()].copy_from_slice(ink);
            rows
        };
        assert_eq!(
            found,
            [
                (' ', rows(0, &[])),
                ('-', rows(5, &[0b0111_0000, 0b0011_0000])),
                ('_', rows(9, &[0x80])),
            ]
        );
    }

    #[test]
    fn damaged_files_are_refused() {
        let whole = file(&[('-', BAR)]);
        assert!(parse("whole".to_owned(), &whole).is_ok());
        for end in 0..whole.len() {
            let error = parse("cut".to_owned(), &whole[..end]).unwrap_err();
            let is_told = matches!(error, FontError::UnknownFormat | FontError::CutOff(_));
            assert!(is_told, "{end}: {error}");
        }
        let odd = [MAGIC.to_vec(), section(*b"MAXH", &[1])].concat();
        let error = parse("odd".to_owned(), &odd).unwrap_err();
        assert!(matches!(error, FontError::BadHeader(_)), "{error}");
        let none = parse("none".to_owned(), &file(&[])).unwrap_err();
        assert!(matches!(none, FontError::BadCell { .. }), "{none}");
    }
}
