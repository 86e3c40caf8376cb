//! A picture as ink on one background.

use crate::{
    image::Picture,
    model::{Point, ScreenSize},
};

/// Red, green and blue.
pub(super) type Colour = [u8; 3];

/// Which pixels of a picture have another colour than its background.
pub(super) struct Sheet<'a> {
    width: usize,
    height: usize,
    pixels: &'a [Colour],
    background: Colour,
    /// 64 pixels a word, the leftmost in the highest bit, each row with a word more than it needs.
    ink: Vec<u64>,
    words: usize,
    /// How many pixels of ink are above and to the left, with a row and a column of zeros before the first.
    sums: Vec<u32>,
}

impl<'a> Sheet<'a> {
    pub(super) fn of(picture: &'a Picture, background: Colour) -> Self {
        let size = picture.size();
        let (width, height) = (size.width as usize, size.height as usize);
        let (pixels, _) = picture.rgb().as_chunks();
        let words = width / 64 + 2;
        let mut ink = vec![0; words * height];
        let mut sums = vec![0; (width + 1) * (height + 1)];
        for (y, row) in pixels.chunks_exact(width.max(1)).enumerate() {
            let mut sum = 0;
            for (x, colour) in row.iter().enumerate() {
                if *colour != background {
                    ink[y * words + x / 64] |= 1 << (63 - x % 64);
                    sum += 1;
                }
                let above = y * (width + 1) + x + 1;
                sums[above + width + 1] = sums[above] + sum;
            }
        }
        Self {
            width,
            height,
            pixels,
            background,
            ink,
            words,
            sums,
        }
    }

    /// The most frequent colours of a picture, at most `count`.
    pub(super) fn colours(picture: &Picture, count: usize) -> Vec<Colour> {
        let mut colours: Vec<Colour> = picture.rgb().as_chunks().0.to_vec();
        colours.sort_unstable();
        let mut runs: Vec<_> = colours
            .chunk_by(|one, other| one == other)
            .map(|run| (run.len(), run[0]))
            .collect();
        runs.sort_unstable_by(|one, other| other.cmp(one));
        runs.into_iter().take(count).map(|(_, it)| it).collect()
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    /// Up to 64 pixels of a row from `x` on, the rightmost in the lowest bit.
    pub(super) fn word(&self, x: usize, y: usize, length: usize) -> u64 {
        let at = y * self.words + x / 64;
        let high = self.ink[at] << (x % 64);
        let low = (self.ink[at + 1] >> 1) >> (63 - x % 64);
        (high | low) >> (64 - length)
    }

    /// How many pixels of ink a cell has.
    pub(super) fn ink(&self, x: usize, y: usize, cell: Cell) -> u32 {
        let sum = |x: usize, y: usize| self.sums[y * (self.width + 1) + x];
        let (right, below) = (x + cell.width, y + cell.height);
        // Each part is at most the first sum, and none of both is subtracted twice.
        (sum(right, below) + sum(x, y)) - (sum(x, below) + sum(right, y))
    }

    pub(super) fn are_same(&self, one: usize, other: usize, y: usize, cell: Cell) -> bool {
        let mut lines = y..y + cell.height;
        lines.all(|y| self.word(one, y, cell.width) == self.word(other, y, cell.width))
    }

    /// Whether all ink of a cell is of one colour.
    pub(super) fn is_plain(&self, x: usize, y: usize, cell: Cell) -> bool {
        let rows = (y..y + cell.height).map(|y| y * self.width + x);
        let mut ink = rows
            .flat_map(|start| &self.pixels[start..start + cell.width])
            .filter(|colour| **colour != self.background);
        let first = ink.next();
        ink.all(|colour| Some(colour) == first)
    }

    /// A cell's ink, row by row as PSF files have it.
    pub(super) fn bitmap(&self, x: usize, y: usize, cell: Cell) -> Vec<u8> {
        let stride = cell.width.div_ceil(8);
        let lines = y..y + cell.height;
        let rows = lines.map(|y| self.word(x, y, cell.width) << (64 - cell.width));
        rows.flat_map(|row| row.to_be_bytes().into_iter().take(stride))
            .collect()
    }

    /// Which edges of a cell have ink: top, bottom, left, right.
    pub(super) fn edges(&self, x: usize, y: usize, cell: Cell) -> [bool; 4] {
        let row = |y| self.word(x, y, cell.width) != 0;
        let column = |x| {
            let cell = Cell { width: 1, ..cell };
            self.ink(x, y, cell) > 0
        };
        let (right, below) = (x + cell.width - 1, y + cell.height - 1);
        [row(y), row(below), column(x), column(right)]
    }
}

/// The size of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Cell {
    pub(super) fn pixels(self) -> u32 {
        self.size().width * self.size().height
    }

    pub(super) fn size(self) -> ScreenSize {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        ScreenSize {
            width: length(self.width),
            height: length(self.height),
        }
    }
}

impl From<ScreenSize> for Cell {
    fn from(size: ScreenSize) -> Self {
        Self {
            width: size.width as usize,
            height: size.height as usize,
        }
    }
}

/// The pixel there.
pub(super) fn point(x: usize, y: usize) -> Point {
    let edge = |edge: usize| i32::try_from(edge).unwrap_or(i32::MAX);
    Point {
        x: edge(x),
        y: edge(y),
    }
}
