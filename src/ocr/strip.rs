//! A run of letters by itself, black on white.
//!
//! Each pixel of a letter is as dark as its colour is far from the ground's, so that light on dark, faint
//! and coloured text all look alike. What is of no letter, a frame or an icon, is white.

use std::{f32::consts::TAU, iter};

use super::{flat::Drawn, rows::Run};

/// What is lighter is the faint edge of a letter, or nothing.
const FAINT: u8 = 160;

/// What is darker is a letter, not its edge.
const HALF: u8 = 128;

/// With fewer letters any of them seem to stand in a grid.
const FEW: usize = 6;

/// Grey pixels, row by row; 255 is white.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Strip {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) grey: Vec<u8>,
    /// How high its highest letters are above the line they stand on.
    pub(super) cap: u32,
}

/// Where a strip's pixels are in the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) x: u32,
    pub(super) y: u32,
}

/// Draws a run.
pub(super) fn draw(drawn: &Drawn<'_>, run: &Run) -> (Strip, Place) {
    let ascent = run.baseline.saturating_sub(run.y0).max(run.height);
    // Room for descenders even where there are none, so that all lines of a font are of one scale.
    let bottom = run.y1.max(run.baseline + (ascent * 3).div_ceil(10));
    let (width, height) = (run.x1 - run.x0, bottom - run.y0);
    let (wide, high) = (width as usize, height as usize);
    let mut members: Vec<u32> = run.pieces.clone();
    members.sort_unstable();
    let mut distances = vec![0_u16; wide * high];
    let mut owners = vec![usize::MAX; wide * high];
    let mut farthest = vec![0_u16; members.len()];
    let rows = drawn.pixels.len() / drawn.width;
    for y in 0..high.min(rows - run.y0 as usize) {
        let start = (run.y0 as usize + y) * drawn.width + run.x0 as usize;
        for x in 0..wide {
            let Ok(member) = members.binary_search(&drawn.piece_of[start + x]) else {
                continue;
            };
            let ground = drawn.pieces[members[member] as usize].colour;
            let distance = far(drawn.pixels[start + x], ground);
            distances[y * wide + x] = distance;
            owners[y * wide + x] = member;
            farthest[member] = farthest[member].max(distance);
        }
    }
    let most = farthest.iter().copied().max().unwrap_or(1).max(1);
    let grey = distances
        .iter()
        .zip(&owners)
        .map(|(distance, owner)| {
            let Some(own) = farthest.get(*owner) else {
                return u8::MAX;
            };
            // What is much fainter than the rest is no letter of another colour, but part of an edge.
            let full = u32::from((*own).max(most / 2)).max(1);
            let dark = u32::from(*distance) * 255 / full;
            u8::MAX - u8::try_from(dark).unwrap_or(u8::MAX)
        })
        .collect();
    let strip = Strip {
        width,
        height,
        grey,
        cap: ascent,
    };
    let place = Place {
        x: run.x0,
        y: run.y0,
    };
    (strip, place)
}

/// How far two colours are apart: all three differences, weighed as eyes do.
fn far(a: [u8; 3], b: [u8; 3]) -> u16 {
    let [r, g, b] = [0, 1, 2].map(|at| u16::from(a[at].abs_diff(b[at])));
    3 * r + 4 * g + 2 * b
}

/// Columns of a strip that are blank, between columns that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) x0: u32,
    pub(super) x1: u32,
}

impl Gap {
    pub(super) fn width(self) -> u32 {
        self.x1 - self.x0
    }
}

/// A letter's columns, those between blank ones. Where all letters are equally wide, what stands in one column of the
/// grid is one letter, be it in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) x0: u32,
    pub(super) x1: u32,
    pub(super) column: Option<u32>,
}

/// A letter's pixels, and where they stand on the line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Glyph {
    /// From the line that letters stand on, downwards.
    top: i64,
    width: usize,
    ink: Vec<bool>,
}

impl Glyph {
    pub(super) fn height(&self) -> usize {
        self.ink.len() / self.width.max(1)
    }
}

/// Where letters of one width stand.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grid {
    pitch: f32,
    /// The first column's middle.
    start: f32,
}

impl Strip {
    /// The blanks between letters, from left to right.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        let wide = self.width as usize;
        let mut is_ink = vec![false; wide];
        for row in self.grey.chunks_exact(wide) {
            for (ink, grey) in is_ink.iter_mut().zip(row) {
                *ink |= *grey < FAINT;
            }
        }
        let inked = (0_u32..).zip(is_ink).filter(|(_, ink)| *ink);
        let inked: Vec<_> = inked.map(|(x, _)| x).collect();
        let beside = inked.iter().zip(inked.iter().skip(1));
        beside
            .filter(|(left, right)| **right > **left + 1)
            .map(|(left, right)| Gap {
                x0: left + 1,
                x1: *right,
            })
            .collect()
    }

    /// The rows of some columns that are not blank; all of them where none is.
    pub(super) fn rows(&self, x0: u32, x1: u32) -> (u32, u32) {
        let columns = x0 as usize..(x1 as usize).min(self.width as usize);
        let rows = self.grey.chunks_exact(self.width as usize);
        let is_ink = |row: &[u8]| {
            row.get(columns.clone())
                .is_some_and(|row| row.iter().any(|grey| *grey < FAINT))
        };
        let inked = (0_u32..).zip(rows).filter(|(_, row)| is_ink(row));
        let inked: Vec<_> = inked.map(|(y, _)| y).collect();
        match (inked.first(), inked.last()) {
            (Some(first), Some(last)) => (*first, last + 1),
            _ => (0, self.height),
        }
    }

    /// The letters, from left to right.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let grid = self.grid();
        let mut cells: Vec<Cell> = vec![];
        for (x0, x1) in self.inked() {
            let column = grid.map(|Grid { pitch, start }| {
                let away = (as_f32(x0 + x1) / 2.0 - start) / pitch;
                as_u32(away.round())
            });
            match cells.last_mut() {
                Some(last) if column.is_some() && last.column == column => last.x1 = x1,
                _ => cells.push(Cell { x0, x1, column }),
            }
        }
        cells
    }

    pub(super) fn glyph(&self, cell: Cell) -> Glyph {
        let (y0, y1) = self.rows(cell.x0, cell.x1);
        let columns = cell.x0 as usize..cell.x1 as usize;
        let rows = self.grey.chunks_exact(self.width as usize);
        let rows = rows.take(y1 as usize).skip(y0 as usize);
        let ink = rows.flat_map(|row| row[columns.clone()].iter().map(|grey| *grey < HALF));
        Glyph {
            top: i64::from(y0) - i64::from(self.cap),
            width: columns.len(),
            ink: ink.collect(),
        }
    }

    /// Columns that are not blank, put together with those beside them.
    fn inked(&self) -> Vec<(u32, u32)> {
        let gaps = self.gaps();
        let starts = iter::once(0).chain(gaps.iter().map(|gap| gap.x1));
        let ends = gaps.iter().map(|gap| gap.x0).chain([self.width]);
        starts.zip(ends).collect()
    }

    /// The distance from letter to letter, in pixels, where all are equally wide.
    pub(super) fn pitch(&self) -> Option<f32> {
        self.grid().map(|grid| grid.pitch)
    }

    fn grid(&self) -> Option<Grid> {
        let inked = self.inked();
        let centres: Vec<f32> = inked.iter().map(|(x0, x1)| as_f32(x0 + x1) / 2.0).collect();
        if centres.len() < FEW {
            return None;
        }
        // How near all centres are to a grid of a pitch, from 0 to 1, wherever that begins.
        let sum = |pitch: f32| {
            let turns = centres.iter().map(|centre| centre / pitch * TAU);
            turns.fold((0.0_f32, 0.0_f32), |(x, y), turn| {
                (x + turn.cos(), y + turn.sin())
            })
        };
        let fit = |pitch: f32| {
            let (x, y) = sum(pitch);
            x.hypot(y) / as_f32(u32::try_from(centres.len()).unwrap_or(u32::MAX))
        };
        // Fonts of one width are half as wide as high, or a little more.
        let least = (as_f32(self.cap) * 0.5).max(4.0);
        let best = |from: f32, step: f32, to: f32| {
            let pitches = (0..u16::MAX).map(|at| from + f32::from(at) * step);
            let fits = pitches.take_while(|it| *it <= to).map(|it| (fit(it), it));
            fits.max_by(|(a, _), (b, _)| a.total_cmp(b))
        };
        let (_, about) = best(least, 0.05, as_f32(self.cap) * 1.2)?;
        // Over a long line small differences add up.
        let (fit, pitch) = best(about - 0.05, 0.002, about + 0.05)?;
        let (x, y) = sum(pitch);
        let turn = y.atan2(x) / TAU;
        let start = (if turn < 0.0 { turn + 1.0 } else { turn }) * pitch;
        (fit > 0.8).then_some(Grid { pitch, start })
    }
}

/// Of a column's number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a column is small, and before the first there is none"
)]
fn as_u32(value: f32) -> u32 {
    value.max(0.0) as u32
}

/// Of places in a picture, which a float holds exactly.
pub(super) fn as_f32(value: u32) -> f32 {
    f32::from(u16::try_from(value).unwrap_or(u16::MAX))
}
