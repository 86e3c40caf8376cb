//! Learning a font: glyphs taken off a picture that shows known text.
//!
//! A firmware's or a kernel's own font is in no file. But where it is known what a screen says, each of
//! its cells is a glyph whose character is known, too. That the same character looks the same wherever
//! it stands is what shows that the text was laid over the right place; where that is not so,
//! nothing is learned.

mod error;
mod place;
mod sheet;
mod text;

use std::collections::BTreeMap;

pub use error::{Fault, LearnError, Spot};
pub use text::KnownText;

use super::{Font, FontError};
use crate::{
    image::Picture,
    model::{Point, ScreenSize},
};

/// Where the text stands, as far as that is known. What is missing is found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// The size of a character cell.
    pub cell: Option<ScreenSize>,
    /// The top left pixel of the first cell of the text's first line.
    pub origin: Option<Point>,
}

/// What a picture taught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    pub cell: ScreenSize,
    pub origin: Point,
    /// Of each character of the text, but the blank, its bitmap as [`Glyph`](super::Glyph) has it.
    pub glyphs: BTreeMap<char, Vec<u8>>,
}

/// Learns the glyphs of a text that a picture shows, all of it on one background. `known` is a font that
/// the screen is known to have: what it has must look the same here, and it helps to find the place.
pub fn learn(
    picture: &Picture,
    text: &KnownText,
    place: Place,
    known: Option<&Font>,
) -> Result<Learned, LearnError> {
    if let (Some(known), Some(cell)) = (known, place.cell)
        && known.cell() != cell
    {
        return Err(LearnError::OtherCell {
            known: known.cell(),
            cell,
        });
    }
    let place = Place {
        cell: place.cell.or(known.map(Font::cell)),
        ..place
    };
    place::find(picture, text, place, known)
}

impl Learned {
    /// A font of what was learned, and of what was known before.
    pub fn into_font(self, name: &str, known: Option<&Font>) -> Result<Font, FontError> {
        let known = known.map(Font::glyphs).unwrap_or_default();
        let known = known
            .iter()
            .map(|glyph| (glyph.bitmap.clone(), glyph.characters.clone()));
        // A screen's blank needs no look.
        let blank = vec![0; bytes(self.cell)];
        let learned = self.glyphs.into_iter();
        let learned = learned.map(|(character, bitmap)| (bitmap, vec![character]));
        let all = [(blank, vec![' '])].into_iter().chain(learned).chain(known);
        Font::new(name, self.cell, all)
    }
}

/// The length of a glyph's bitmap.
fn bytes(cell: ScreenSize) -> usize {
    cell.width.div_ceil(8) as usize * cell.height as usize
}

#[cfg(test)]
mod tests;
