//! A font: which characters each of its bitmaps stands for.

use std::{collections::HashMap, io, ops::RangeInclusive};

use crate::model::{ScreenSize, UNREADABLE};

use super::pixels::Size;

/// Cells that fonts have. Linux takes up to 64×128 pixels; below the smallest, a few stray pixels would
/// pass for letters.
const WIDTHS: RangeInclusive<u32> = 4..=64;
const HEIGHTS: RangeInclusive<u32> = 6..=128;

/// The glyphs of a text screen, all of one size.
#[derive(Debug, Clone)]
pub struct Font {
    name: String,
    cell: Size,
    glyphs: Vec<Glyph>,
}

/// A bitmap and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glyph {
    /// Row by row from the top, a 1 for ink, the leftmost pixel in the highest bit, each row padded to
    /// whole bytes with zeros.
    pub bitmap: Vec<u8>,
    /// Its characters, the likeliest first, at least one.
    pub characters: Vec<char>,
    /// Whether VGA text mode may draw its last column twice where cells are 9 wide.
    pub(super) may_repeat: bool,
}

/// Why bytes are no font.
#[derive(Debug, thiserror::Error)]
pub enum FontError {
    #[error("it is neither a PSF or PF2 font nor a VGA BIOS")]
    UnknownFormat,
    #[error("it ends in the middle of {0}")]
    CutOff(&'static str),
    #[error("its header contradicts itself: {0}")]
    BadHeader(&'static str),
    #[error("its cells of {width}×{height} pixels are no console's")]
    BadCell { width: u32, height: u32 },
    #[error("its table of characters is no Unicode")]
    BadTable,
    #[error("it has {0} glyphs, and does not say which characters they are")]
    NoTable(u32),
    #[error("it has no glyph that stands for a character")]
    NoGlyphs,
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(usize),
    #[error("it cannot be unpacked")]
    BrokenGzip(#[source] io::Error),
}

impl FontError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownFormat | Self::BadCell { .. } => {
                "Console fonts are PSF files, as `setfont` loads them; fonts of a desktop are none."
            }
            Self::CutOff(_)
            | Self::BadHeader(_)
            | Self::BadTable
            | Self::NoGlyphs
            | Self::TooLarge(_)
            | Self::BrokenGzip(_) => {
                "The file is damaged: install its package again, or copy it once more."
            }
            Self::NoTable(_) => {
                "Add the font's Unicode table to it with `psfaddtable`, of Debian's package kbd."
            }
        }
    }
}

impl Font {
    /// Reads a PSF file, version 1 or 2, packed with gzip or not.
    pub fn from_psf(name: impl Into<String>, bytes: &[u8]) -> Result<Self, FontError> {
        super::psf::parse(name.into(), bytes)
    }

    /// Reads a PF2 file, as GRUB loads them: the characters that menus are written with.
    pub fn from_pf2(name: impl Into<String>, bytes: &[u8]) -> Result<Self, FontError> {
        super::pf2::parse(name.into(), bytes)
    }

    /// The fonts in a VGA BIOS that has those of SeaBIOS, each named by `name` and its size.
    pub fn from_vga_bios(name: &str, bytes: &[u8]) -> Result<Vec<Self>, FontError> {
        super::rom::parse(name, bytes)
    }

    /// A font of these glyphs, each a bitmap as [`Glyph`] has it with its characters. Those without
    /// any are left out.
    pub fn new(
        name: impl Into<String>,
        cell: ScreenSize,
        glyphs: impl IntoIterator<Item = (Vec<u8>, Vec<char>)>,
    ) -> Result<Self, FontError> {
        Self::checked(name.into(), size(cell.width, cell.height)?, glyphs)
    }

    /// Glyphs come in the order of their codes.
    pub(super) fn checked(
        name: String,
        cell: Size,
        glyphs: impl IntoIterator<Item = (Vec<u8>, Vec<char>)>,
    ) -> Result<Self, FontError> {
        let mut kept: Vec<Glyph> = vec![];
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        for (code, (mut bitmap, mut characters)) in glyphs.into_iter().enumerate() {
            // A control character is shown by nothing, and would be no text.
            characters.retain(|it| !it.is_control());
            if characters.is_empty() {
                continue;
            }
            if bitmap.len() != cell.stride() * cell.height {
                return Err(FontError::CutOff("a glyph"));
            }
            cell.clear_padding(&mut bitmap);
            // VGA does so for 0xc0 to 0xdf, and QEMU from 0xb0 on, for the shades.
            let may_repeat = cell.width == 8 && matches!(code % 256, 0xb0..=0xdf);
            let at = *places.entry(bitmap).or_insert_with_key(|bitmap| {
                kept.push(Glyph {
                    bitmap: bitmap.clone(),
                    characters: vec![],
                    may_repeat: false,
                });
                kept.len() - 1
            });
            kept[at].characters.extend(characters);
            kept[at].may_repeat |= may_repeat;
        }
        for glyph in &mut kept {
            glyph.characters.sort_by_key(|it| (rank(*it), *it));
            glyph.characters.dedup();
        }
        if kept.is_empty() {
            return Err(FontError::NoGlyphs);
        }
        Ok(Self {
            name,
            cell,
            glyphs: kept,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cell(&self) -> ScreenSize {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        ScreenSize {
            width: length(self.cell.width),
            height: length(self.cell.height),
        }
    }

    /// Each bitmap once, with all its characters.
    pub fn glyphs(&self) -> &[Glyph] {
        &self.glyphs
    }

    pub(super) fn size(&self) -> Size {
        self.cell
    }
}

/// The size of a cell, where a console can have it.
pub(super) fn size(width: u32, height: u32) -> Result<Size, FontError> {
    if WIDTHS.contains(&width) && HEIGHTS.contains(&height) {
        Ok(Size {
            width: width as usize,
            height: height as usize,
        })
    } else {
        Err(FontError::BadCell { width, height })
    }
}

/// The lower, the likelier where several characters look the same, as A, Α and А do.
fn rank(character: char) -> u8 {
    match character {
        ' '..='~' => 0,
        // What is shown for any character that the font lacks. Fonts have a sign of their own beside it,
        // which is seen far less.
        UNREADABLE => 1,
        '\u{a1}'..='\u{ff}' => 2,
        '\u{100}'..='\u{24f}' => 3,
        // Lines, blocks and shapes.
        '\u{2500}'..='\u{25ff}' => 4,
        // Greek, Cyrillic, and what else has letters of its own.
        '\u{370}'..='\u{1fff}' => 5,
        // Of no one's meaning, or none at all.
        '\u{e000}'..='\u{f8ff}' | '\u{a0}' => 7,
        _ => 6,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const CELL: ScreenSize = ScreenSize {
        width: 5,
        height: 6,
    };

    #[test]
    fn a_bitmap_has_all_its_characters_the_likeliest_first() {
        let glyph = |rows: [u8; 6], characters: &str| (rows.to_vec(), characters.chars().collect());
        let glyphs = [
            glyph([0xf8; 6], "\u{f000}А"),
            // Only the padding is another one.
            glyph([0xff; 6], "AΑ"),
            glyph([8; 6], ""),
            glyph([0; 6], "\u{a0} "),
        ];
        let font = Font::new("small", CELL, glyphs).unwrap();
        let found: Vec<_> = font
            .glyphs()
            .iter()
            .map(|it| (it.bitmap.as_slice(), it.characters.iter().collect()))
            .collect::<Vec<(&[u8], String)>>();
        assert_eq!(
            found,
            [
                (&[0xf8; 6][..], "AΑА\u{f000}".to_owned()),
                (&[0; 6][..], " \u{a0}".to_owned()),
            ]
        );
    }

    #[test]
    fn fonts_that_no_console_has_are_refused() {
        let new = |width, height, bytes| {
            let glyphs = [(vec![1; bytes], vec!['A'])];
            let cell = ScreenSize { width, height };
            Font::new("bad", cell, glyphs).unwrap_err().to_string()
        };
        let cell = "its cells of 3×6 pixels are no console's";
        assert_eq!(new(3, 6, 6), cell);
        assert_eq!(new(8, 129, 129), cell.replace("3×6", "8×129"));
        assert_eq!(new(8, 16, 15), "it ends in the middle of a glyph");
        let none = Font::new("none", CELL, []).unwrap_err();
        assert_eq!(
            none.to_string(),
            "it has no glyph that stands for a character"
        );
    }
}
