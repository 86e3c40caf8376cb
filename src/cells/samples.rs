//! Places of a picture where something is drawn: where to look first.

use super::pixels::Pixels;

/// The sides of the squares that the picture is divided into; each gives one place.
const SQUARE: usize = 16;

/// How many places are enough to tell a grid by.
const MOST: usize = 192;

/// Pixels unlike their right neighbour, spread over the picture.
pub(super) fn samples(pixels: &Pixels<'_>) -> Vec<(usize, usize)> {
    let mut found = vec![];
    for top in (0..pixels.height).step_by(SQUARE) {
        for left in (0..pixels.width.saturating_sub(1)).step_by(SQUARE) {
            // Within the square: at its edge there may be the next one's.
            let width = (SQUARE - 1).min(pixels.width - 1 - left);
            let rows = top..pixels.height.min(top + SQUARE);
            found.extend(rows.into_iter().find_map(|y| {
                let row = pixels.row(left, y, width);
                let next = pixels.row(left + 1, y, width);
                if row == next {
                    return None;
                }
                let at = row.iter().zip(next).position(|(one, other)| one != other)?;
                Some((left + at, y))
            }));
        }
    }
    if found.len() <= MOST {
        return found;
    }
    let spread = (0..MOST).filter_map(|at| found.get(at * found.len() / MOST));
    spread.copied().collect()
}
