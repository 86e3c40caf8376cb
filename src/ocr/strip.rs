//! A run of letters by itself, black on white.
//!
//! Each pixel of a letter is as dark as its colour is far from the ground's, so that light on dark, faint
//! and coloured text all look alike. What is of no letter, a frame or an icon, is white.

use super::{flat::Drawn, rows::Run};

/// Grey pixels, row by row; 255 is white.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Strip {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) grey: Vec<u8>,
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
