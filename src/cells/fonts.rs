//! All fonts that there are, arranged so that one look-up per cell tells every font that has its bitmap.

use std::collections::{BTreeMap, HashMap};

use super::{font::Font, font::Glyph, pixels::Size};

/// Fonts to read screens with. Where several fit as well as each other, the first one of them is taken.
pub struct Fonts {
    fonts: Vec<Font>,
    sheets: Vec<Sheet>,
}

/// The glyphs of all fonts with cells of one size.
pub(super) struct Sheet {
    pub(super) cell: Size,
    /// VGA text mode's cells, a column wider than the font's.
    pub(super) is_widened: bool,
    glyphs: HashMap<Box<[u8]>, Vec<Entry>>,
}

/// A font's glyph with a bitmap, or with its complement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) font: u32,
    glyph: u32,
    /// Whether the zeros of the bitmap are the ink.
    pub(super) is_complement: bool,
}

impl Fonts {
    pub fn new(fonts: Vec<Font>) -> Self {
        let mut sheets = BTreeMap::new();
        for (font, at) in fonts.iter().zip(0..) {
            let cell = font.size();
            let narrow = sheets.entry((cell, false));
            let narrow: &mut Sheet = narrow.or_insert_with(|| Sheet::new(cell, false));
            for (glyph, at_glyph) in font.glyphs().iter().zip(0..) {
                narrow.add(glyph.bitmap.clone(), at, at_glyph);
            }
            if cell.width != 8 {
                continue;
            }
            let cell = Size { width: 9, ..cell };
            let wide = sheets.entry((cell, true));
            let wide = wide.or_insert_with(|| Sheet::new(cell, true));
            for (glyph, at_glyph) in font.glyphs().iter().zip(0..) {
                wide.add(widened(glyph, false), at, at_glyph);
                if glyph.may_repeat {
                    wide.add(widened(glyph, true), at, at_glyph);
                }
            }
        }
        Self {
            fonts,
            sheets: sheets.into_values().collect(),
        }
    }

    pub fn all(&self) -> &[Font] {
        &self.fonts
    }

    pub(super) fn sheets(&self) -> &[Sheet] {
        &self.sheets
    }

    pub(super) fn glyph(&self, entry: Entry) -> Option<&Glyph> {
        let font = self.fonts.get(entry.font as usize)?;
        font.glyphs().get(entry.glyph as usize)
    }
}

impl Sheet {
    fn new(cell: Size, is_widened: bool) -> Self {
        Self {
            cell,
            is_widened,
            glyphs: HashMap::new(),
        }
    }

    /// What has this bitmap, whose first pixel is a zero. Those of one font are beside each other.
    pub(super) fn entries(&self, bitmap: &[u8]) -> &[Entry] {
        self.glyphs.get(bitmap).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, mut bitmap: Vec<u8>, font: u32, glyph: u32) {
        let is_complement = bitmap.first().is_some_and(|row| row & 0x80 != 0);
        if is_complement {
            complement(&mut bitmap, self.cell);
        }
        // A cell of one colour is a blank, whatever drew it.
        if bitmap.iter().all(|row| *row == 0) {
            return;
        }
        let entry = Entry {
            font,
            glyph,
            is_complement,
        };
        let entries = self.glyphs.entry(bitmap.into()).or_default();
        // A widened glyph can be the same as before.
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
}

impl std::fmt::Debug for Fonts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fonts({})", self.fonts.len())
    }
}

/// The other way round, all but the padding.
fn complement(bitmap: &mut [u8], cell: Size) {
    for row in bitmap.iter_mut() {
        *row = !*row;
    }
    cell.clear_padding(bitmap);
}

/// A glyph of eight columns with a ninth one: blank, or as the eighth.
fn widened(glyph: &Glyph, repeats: bool) -> Vec<u8> {
    let rows = glyph.bitmap.iter();
    rows.flat_map(|row| [*row, if repeats { row << 7 } else { 0 }])
        .collect()
}
