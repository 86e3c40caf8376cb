//! A part of a text screen.

use std::ops::Range;

use crate::model::{Grid, Point, Reader, Reading, Region};

use super::CellScreen;

impl CellScreen {
    /// What is written in a part of the picture. A cell belongs to it where its middle does; a line begins
    /// with the first of its cells that do.
    pub fn reading(&self, part: Region) -> Reading {
        let Grid {
            origin,
            cell,
            columns,
            rows,
            ..
        } = &self.grid;
        let across = within(origin.x, cell.width, *columns, part.x0..part.x1);
        let down = within(origin.y, cell.height, *rows, part.y0..part.y1);
        let of_part = |row| {
            self.cells
                .get(row * *columns as usize..)?
                .get(across.clone())
        };
        let cells = down.clone().filter_map(of_part).flatten().copied();
        let edge = |from: i32, cells: usize, length: u32| {
            let moved = u32::try_from(cells)
                .unwrap_or(u32::MAX)
                .saturating_mul(length);
            from.saturating_add_unsigned(moved)
        };
        let count = |cells: &Range<usize>| u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let screen = Self {
            cells: cells.collect(),
            grid: Grid {
                origin: Point {
                    x: edge(origin.x, across.start, cell.width),
                    y: edge(origin.y, down.start, cell.height),
                },
                columns: count(&across),
                rows: count(&down),
                ..self.grid.clone()
            },
        };
        Reading {
            // The grid of the whole screen, which the part was read with.
            reader: Reader::Cells(self.grid.clone()),
            ..screen.to_reading()
        }
    }
}

/// The cells along one direction whose middles lie within a range of pixels.
fn within(origin: i32, length: u32, cells: u32, pixels: Range<i32>) -> Range<usize> {
    let is_within = |cell: &u32| {
        let middle =
            i64::from(origin) + i64::from(*cell) * i64::from(length) + i64::from(length / 2);
        (i64::from(pixels.start)..i64::from(pixels.end)).contains(&middle)
    };
    let mut inside = (0..cells).filter(is_within).map(|cell| cell as usize);
    match inside.next() {
        Some(first) => first..inside.next_back().unwrap_or(first) + 1,
        None => 0..0,
    }
}
