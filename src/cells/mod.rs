//! Text screens read exactly: consoles, VGA text mode, firmware.
//!
//! Such a screen is a grid of cells, and each cell is one glyph of a font in two colours. So a cell is read
//! by comparing its pixels with a font's glyphs, all of them: what is equal is right, and what is not
//! is told as unreadable. Nothing is guessed. A desktop is no such screen, and is refused.
//!
//! Pure: fonts come as bytes, pictures as pixels.

mod cp437;
mod font;
mod fonts;
mod learn;
mod part;
mod pf2;
mod pixels;
mod psf;
mod rom;
mod samples;
mod scripts;
mod search;
mod survey;
mod write;

pub use font::{Font, FontError, Glyph};
pub use fonts::Fonts;
pub use learn::{Fault, KnownText, LearnError, Learned, Place, Spot, learn};
pub use pixels::Colour;
pub use search::read;

use crate::model::{Grid, Line, Reader, Reading, Region, UNREADABLE, Word};

/// A text screen, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellScreen {
    pub grid: Grid,
    /// Row by row; as many as the grid has.
    pub cells: Vec<Cell>,
}

/// What one cell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// [`UNREADABLE`] where no glyph of the font is drawn; a blank where all is of one colour.
    pub character: char,
    pub foreground: Colour,
    pub background: Colour,
}

impl Cell {
    pub fn is_blank(&self) -> bool {
        self.character == ' '
    }

    pub fn is_readable(&self) -> bool {
        self.character != UNREADABLE
    }
}

impl CellScreen {
    /// The rows of the grid, from top to bottom.
    pub fn rows(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunks(self.grid.columns.max(1) as usize)
    }

    /// How many cells show a character, blanks not counted.
    pub fn read(&self) -> usize {
        let shown = |cell: &&Cell| cell.is_readable() && !cell.is_blank();
        self.cells.iter().filter(shown).count()
    }

    /// How many cells show something else.
    pub fn unreadable(&self) -> usize {
        let unreadable = |cell: &&Cell| !cell.is_readable();
        self.cells.iter().filter(unreadable).count()
    }

    /// Its lines and words. A row without text is no line.
    pub fn to_reading(&self) -> Reading {
        let rows = (0..).zip(self.rows());
        Reading {
            reader: Reader::Cells(self.grid.clone()),
            lines: rows
                .filter_map(|(row, cells)| self.line(row, cells))
                .collect(),
        }
    }

    fn line(&self, row: u32, cells: &[Cell]) -> Option<Line> {
        let end = cells.iter().rposition(|cell| !cell.is_blank())? + 1;
        let cells = &cells[..end];
        let mut text = String::with_capacity(end);
        let mut words: Vec<Word> = vec![];
        let mut from = None;
        for (column, cell) in (0..).zip(cells) {
            if cell.is_blank() {
                if let Some((start, first)) = from.take() {
                    words.push(self.word(start..text.len(), row, first..column));
                }
            } else if from.is_none() {
                from = Some((text.len(), column));
            }
            text.push(cell.character);
        }
        if let (Some((start, first)), Ok(end)) = (from, u32::try_from(end)) {
            words.push(self.word(start..text.len(), row, first..end));
        }
        Some(Line { text, words })
    }

    fn word(&self, at: std::ops::Range<usize>, row: u32, columns: std::ops::Range<u32>) -> Word {
        let Grid { origin, cell, .. } = &self.grid;
        let edge = |from: i32, cells: u32, length: u32| {
            let at = i64::from(from) + i64::from(cells) * i64::from(length);
            i32::try_from(at).unwrap_or(i32::MAX)
        };
        Word {
            at,
            area: Region {
                x0: edge(origin.x, columns.start, cell.width),
                y0: edge(origin.y, row, cell.height),
                x1: edge(origin.x, columns.end, cell.width),
                y1: edge(origin.y, row + 1, cell.height),
            },
            confidence: 100,
        }
    }
}

#[cfg(test)]
mod tests;
