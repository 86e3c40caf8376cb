//! All cells of a grid, looked up, and the font that explains most of them.

use std::collections::HashMap;

use crate::model::{Grid, Point, ScreenSize, UNREADABLE};

use super::{
    Cell, CellScreen, Glyph,
    fonts::{Entry, Fonts, Sheet},
    pixels::{Colour, Pixels, Shape, Size},
    scripts,
};

/// Where cells may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Layout {
    /// Whether it has all these pixels, or the ones to their right.
    pub(super) fn has_all(&self, cell: Size, places: &[(usize, usize)]) -> bool {
        let across = self.x..self.x + self.columns * cell.width;
        let down = self.y..self.y + self.rows * cell.height;
        places
            .iter()
            .all(|(x, y)| (across.contains(x) || across.contains(&(x + 1))) && down.contains(y))
    }
}

pub(super) struct Survey<'a> {
    fonts: &'a Fonts,
    cell: Size,
    layout: Layout,
    seen: Vec<Seen<'a>>,
    /// The font's place among all; none where no glyph was found.
    font: Option<u32>,
    /// Cells that are no blanks.
    drawn: usize,
    /// Those of them whose bitmap the font has.
    matched: usize,
    /// Those of them that hardly come about by chance.
    telling: usize,
    /// What most blank cells are of.
    ground: Option<Colour>,
}

struct Seen<'a> {
    shape: Shape,
    entries: &'a [Entry],
}

impl<'a> Survey<'a> {
    /// Looks at each cell. `favourite` is taken where several fonts have as many of them.
    pub(super) fn of(
        pixels: &Pixels<'_>,
        fonts: &'a Fonts,
        sheet: &'a Sheet,
        layout: Layout,
        favourite: Option<u32>,
    ) -> Self {
        let mut counts = vec![0_usize; fonts.all().len()];
        let mut grounds: HashMap<Colour, usize> = HashMap::new();
        let mut bitmap = vec![];
        let mut seen = Vec::with_capacity(layout.rows * layout.columns);
        let mut drawn = 0;
        for row in 0..layout.rows {
            let y = layout.y + row * sheet.cell.height;
            for column in 0..layout.columns {
                let x = layout.x + column * sheet.cell.width;
                let shape = pixels.shape(x, y, sheet.cell, &mut bitmap);
                let entries = match shape {
                    Shape::Blank(colour) => {
                        *grounds.entry(colour).or_default() += 1;
                        &[]
                    }
                    Shape::Drawn { .. } => sheet.entries(&bitmap),
                    Shape::Motley => &[],
                };
                drawn += usize::from(!matches!(shape, Shape::Blank(_)));
                let mut last = None;
                for entry in entries {
                    // One font may have it, and its complement too.
                    if last.replace(entry.font) != Some(entry.font) {
                        counts[entry.font as usize] += 1;
                    }
                }
                seen.push(Seen { shape, entries });
            }
        }
        let most = counts.iter().copied().max().unwrap_or(0);
        let best = (0..).zip(&counts).filter(|(_, count)| **count == most);
        let best = best.map(|(font, _)| font).collect::<Vec<u32>>();
        let favourite = favourite.filter(|it| best.contains(it));
        let font = favourite.or(best.first().copied()).filter(|_| most > 0);
        // Of equals the brightest, not whichever comes first by chance: a screen is read alike each time.
        let ground = grounds
            .into_iter()
            .max_by_key(|(colour, count)| (*count, *colour));
        let mut survey = Self {
            fonts,
            cell: sheet.cell,
            layout,
            seen,
            font,
            drawn,
            matched: most,
            telling: 0,
            ground: ground.map(|(colour, _)| colour),
        };
        let glyphs = survey.seen.iter().filter_map(|seen| survey.glyph(seen));
        survey.telling = glyphs.filter(|(glyph, _)| is_telling(glyph)).count();
        survey
    }

    /// The better, the higher. What is not explained counts twice, since a finer grid has more cells.
    pub(super) fn score(&self) -> (i64, usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let unmatched = self.drawn - self.matched;
        (count(self.matched) - 2 * count(unmatched), self.telling)
    }

    /// Whether hardly anything but the cursor is unexplained.
    pub(super) fn is_certain(&self) -> bool {
        self.is_text() && (self.drawn - self.matched) * 100 <= self.drawn + 100
    }

    /// Whether it can be nothing but text, where cells are just where consoles have them.
    pub(super) fn is_text(&self) -> bool {
        let unmatched = self.drawn - self.matched;
        // The cursor may be all that stands beside a prompt of one character.
        let is_explained = unmatched <= 1 || unmatched * 5 <= self.drawn;
        let is_telling = self.telling >= 3 || (self.telling >= 1 && unmatched <= 1);
        is_explained && is_telling && self.telling * 20 >= self.drawn
    }

    /// The same for cells somewhere: a window's text is to be taken for that of a desktop.
    pub(super) fn is_text_anywhere(&self) -> bool {
        let unmatched = self.drawn - self.matched;
        let is_explained = unmatched <= 1 || unmatched * 20 <= self.drawn;
        is_explained && self.telling >= 8 && self.telling * 20 >= self.drawn
    }

    /// The smallest layout with everything that is drawn.
    pub(super) fn trimmed(&self) -> Option<Layout> {
        let drawn = self.seen.iter().enumerate();
        let drawn = drawn.filter(|(_, seen)| !matches!(seen.shape, Shape::Blank(_)));
        let places = drawn.map(|(at, _)| (at % self.layout.columns, at / self.layout.columns));
        let (mut left, mut top, mut right, mut bottom) = (usize::MAX, usize::MAX, 0, 0);
        for (column, row) in places {
            left = left.min(column);
            right = right.max(column + 1);
            top = top.min(row);
            bottom = bottom.max(row + 1);
        }
        (right > 0).then(|| Layout {
            x: self.layout.x + left * self.cell.width,
            y: self.layout.y + top * self.cell.height,
            columns: right - left,
            rows: bottom - top,
        })
    }

    pub(super) fn screen(&self) -> Option<CellScreen> {
        let font = self.fonts.all().get(self.font? as usize)?;
        let place = |at: usize| i32::try_from(at).ok();
        let length = |length: usize| u32::try_from(length).ok();
        let grid = Grid {
            origin: Point {
                x: place(self.layout.x)?,
                y: place(self.layout.y)?,
            },
            cell: ScreenSize {
                width: length(self.cell.width)?,
                height: length(self.cell.height)?,
            },
            columns: length(self.layout.columns)?,
            rows: length(self.layout.rows)?,
            font: font.name().to_owned(),
        };
        let read = self.seen.iter().map(|seen| self.cell(seen));
        let (mut cells, glyphs): (Vec<Cell>, Vec<_>) = read.unzip();
        for (cells, glyphs) in cells
            .chunks_mut(self.layout.columns)
            .zip(glyphs.chunks(self.layout.columns))
        {
            scripts::settle(cells, glyphs);
        }
        Some(CellScreen { grid, cells })
    }

    fn cell(&self, seen: &Seen<'_>) -> (Cell, Option<&'a Glyph>) {
        let (zero, one) = match seen.shape {
            Shape::Blank(colour) => {
                let blank = Cell {
                    character: ' ',
                    foreground: colour,
                    background: colour,
                };
                return (blank, None);
            }
            Shape::Drawn { zero, one } => (zero, one),
            Shape::Motley => {
                let ground = self.ground.unwrap_or_default();
                (ground, ground)
            }
        };
        let found = self.glyph(seen);
        let is_complement = found.is_some_and(|(_, is_complement)| is_complement);
        let (foreground, background) = if is_complement {
            (zero, one)
        } else {
            (one, zero)
        };
        let glyph = found.map(|(glyph, _)| glyph);
        let character = glyph.and_then(|glyph| glyph.characters.first());
        let cell = Cell {
            character: character.copied().unwrap_or(UNREADABLE),
            foreground,
            background,
        };
        (cell, glyph)
    }

    /// The font's glyph in a cell, and whether it is drawn there as its complement.
    fn glyph(&self, seen: &Seen<'_>) -> Option<(&'a Glyph, bool)> {
        let of_font = |entry: &&Entry| Some(entry.font) == self.font;
        let glyphs = seen.entries.iter().filter(of_font).filter_map(|entry| {
            let glyph = self.fonts.glyph(*entry)?;
            Some((glyph, entry.is_complement))
        });
        glyphs.min_by_key(|(glyph, is_complement)| {
            let background = match (seen.shape, is_complement) {
                (Shape::Drawn { zero, .. }, false) => Some(zero),
                (Shape::Drawn { one, .. }, true) => Some(one),
                _ => None,
            };
            // An upper half in one colour is a lower one in the other: blocks are drawn on the screen's
            // own ground. All else has less ink than ground, as a dot has and a block with a hole has not.
            let is_odd = is_block(glyph) && background != self.ground;
            let ink: u32 = glyph.bitmap.iter().map(|row| row.count_ones()).sum();
            (is_odd, ink)
        })
    }
}

fn is_block(glyph: &Glyph) -> bool {
    matches!(glyph.characters.first(), Some('\u{2580}'..='\u{259f}'))
}

/// Lines, dots and blocks are found in any picture, letters are not.
fn is_telling(glyph: &Glyph) -> bool {
    let telling = |it: &char| it.is_alphanumeric() || "#$%&@>?!".contains(*it);
    glyph.characters.first().is_some_and(telling)
}
