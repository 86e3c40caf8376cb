//! A picture's pixels, and what a cell of them shows.

use crate::image::Picture;

/// Red, green and blue.
pub type Colour = [u8; 3];

pub(super) struct Pixels<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    colours: &'a [Colour],
}

/// Width and height of a cell in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Size {
    /// Bytes of a glyph's row, as PSF files have it: padded to whole ones.
    pub(super) fn stride(self) -> usize {
        self.width.div_ceil(8)
    }

    /// What lies beyond a row's last pixel is no part of a glyph.
    pub(super) fn clear_padding(self, bitmap: &mut [u8]) {
        let beyond = self.stride() * 8 - self.width;
        for row in bitmap.chunks_mut(self.stride()) {
            if let Some(last) = row.last_mut() {
                *last &= 0xff << beyond;
            }
        }
    }
}

/// How many colours a cell has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Blank(Colour),
    /// `zero` is that of the top left pixel.
    Drawn {
        zero: Colour,
        one: Colour,
    },
    /// Three and more: no character.
    Motley,
}

impl<'a> Pixels<'a> {
    pub(super) fn of(picture: &'a Picture) -> Self {
        let size = picture.size();
        Self {
            width: size.width as usize,
            height: size.height as usize,
            colours: picture.rgb().as_chunks().0,
        }
    }

    /// A part of a row, which lies in the picture.
    pub(super) fn row(&self, x: usize, y: usize, length: usize) -> &'a [Colour] {
        let start = y * self.width + x;
        &self.colours[start..start + length]
    }

    /// What the cell at `x`, `y`, which lies in the picture, shows. `bitmap` gets a bit for each pixel,
    /// 0 for the colour of the top left one.
    pub(super) fn shape(&self, x: usize, y: usize, cell: Size, bitmap: &mut Vec<u8>) -> Shape {
        bitmap.clear();
        let zero = self.row(x, y, 1)[0];
        let mut one = None;
        let mut above: &[Colour] = &[];
        for line in y..y + cell.height {
            let row = self.row(x, line, cell.width);
            // So it is for all of a blank cell, and for many rows of a letter.
            if row == above {
                bitmap.extend_from_within(bitmap.len() - cell.stride()..);
                continue;
            }
            for eight in row.chunks(8) {
                let mut bits = 0;
                for (at, colour) in eight.iter().enumerate() {
                    if *colour == zero {
                        continue;
                    }
                    if *one.get_or_insert(*colour) != *colour {
                        return Shape::Motley;
                    }
                    bits |= 0x80 >> at;
                }
                bitmap.push(bits);
            }
            above = row;
        }
        one.map_or(Shape::Blank(zero), |one| Shape::Drawn { zero, one })
    }
}
