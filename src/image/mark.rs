//! The mark of the pointer's place: hardware cursors are in no capture.

use crate::model::{Point, Region};

use super::Picture;

const BLACK: [u8; 3] = [0; 3];
const MAGENTA: [u8; 3] = [255, 0, 255];
const WHITE: [u8; 3] = [255; 3];

/// A ring around the very pixel, which stays free with what is beside it. A white and a black edge show
/// on any ground, and magenta is what programs hardly ever draw. Each ends at the square root of its
/// number, in pixels from the centre.
const RINGS: [(i32, [u8; 3]); 3] = [(31, WHITE), (78, MAGENTA), (110, BLACK)];

/// Where the free centre ends, likewise.
const FREE: i32 = 20;

/// The farthest pixels: √110 is less than 11.
const RADIUS: i32 = 10;

/// What a mark covers, for taking it off again.
#[derive(Debug)]
pub(crate) struct Covered {
    at: Region,
    pixels: Picture,
}

impl Picture {
    /// Draws the mark around a pixel of the picture.
    pub(crate) fn mark(&mut self, centre: Point) -> Covered {
        let edge = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
        let at = Region {
            x0: (centre.x - RADIUS).max(0),
            y0: (centre.y - RADIUS).max(0),
            x1: (centre.x + RADIUS + 1).min(edge(self.size.width)),
            y1: (centre.y + RADIUS + 1).min(edge(self.size.height)),
        };
        let pixels = self.crop(at);
        for y in at.y0..at.y1 {
            for x in at.x0..at.x1 {
                let distance = (x - centre.x).pow(2) + (y - centre.y).pow(2);
                let ring = RINGS.iter().find(|(end, _)| distance < *end);
                if distance >= FREE
                    && let Some((_, colour)) = ring
                    && let Some(row) = self.part_of_row(y, x, x + 1)
                {
                    row.copy_from_slice(colour);
                }
            }
        }
        Covered { at, pixels }
    }

    /// Takes a mark off.
    pub(crate) fn unmark(&mut self, covered: &Covered) {
        let at = covered.at;
        let rows = covered
            .pixels
            .rgb()
            .chunks_exact(covered.pixels.size.width as usize * 3);
        for (y, pixels) in (at.y0..at.y1).zip(rows) {
            if let Some(row) = self.part_of_row(y, at.x0, at.x1) {
                row.copy_from_slice(pixels);
            }
        }
    }

    fn part_of_row(&mut self, y: i32, from: i32, to: i32) -> Option<&mut [u8]> {
        let width = usize::try_from(self.size.width).ok()?;
        let at = |x: i32| {
            let pixel = usize::try_from(y).ok()? * width + usize::try_from(x).ok()?;
            Some(self.start + pixel * 3)
        };
        let (from, to) = (at(from)?, at(to)?);
        self.bytes.get_mut(from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{PPM, ppm};

    fn flat(width: u32, height: u32, shade: u8) -> Picture {
        let pixels = vec![shade; (width * height * 3) as usize];
        Picture::decode(PPM, ppm(&format!("P6 {width} {height} 255\n"), &pixels)).unwrap()
    }

    /// A letter for each pixel: the ground is a dot.
    fn drawn(picture: &Picture) -> Vec<String> {
        let letter = |pixel: &[u8; 3]| match *pixel {
            BLACK => 'b',
            MAGENTA => 'm',
            WHITE => 'w',
            _ => '.',
        };
        let (pixels, _) = picture.rgb().as_chunks::<3>();
        pixels
            .chunks_exact(picture.size.width as usize)
            .map(|row| row.iter().map(letter).collect())
            .collect()
    }

    #[test]
    fn the_mark_is_a_ring_around_a_free_centre() {
        let mut picture = flat(25, 23, 0x80);
        picture.mark(Point { x: 12, y: 11 });
        assert_eq!(
            drawn(&picture),
            [
                ".........................",
                ".........bbbbbbb.........",
                ".......bbbbbbbbbbb.......",
                "......bbbmmmmmmmbbb......",
                ".....bbmmmmmmmmmmmbb.....",
                "....bbmmmmmmmmmmmmmbb....",
                "...bbmmmmmwwwwwmmmmmbb...",
                "...bbmmmmww...wwmmmmbb...",
                "..bbmmmmw.......wmmmmbb..",
                "..bbmmmww.......wwmmmbb..",
                "..bbmmmw.........wmmmbb..",
                "..bbmmmw.........wmmmbb..",
                "..bbmmmw.........wmmmbb..",
                "..bbmmmww.......wwmmmbb..",
                "..bbmmmmw.......wmmmmbb..",
                "...bbmmmmww...wwmmmmbb...",
                "...bbmmmmmwwwwwmmmmmbb...",
                "....bbmmmmmmmmmmmmmbb....",
                ".....bbmmmmmmmmmmmbb.....",
                "......bbbmmmmmmmbbb......",
                ".......bbbbbbbbbbb.......",
                ".........bbbbbbb.........",
                ".........................",
            ]
        );
    }

    #[test]
    fn at_an_edge_the_mark_is_cut_off() {
        let mut picture = flat(13, 12, 0x80);
        picture.mark(Point { x: 0, y: 11 });
        assert_eq!(
            drawn(&picture),
            [
                ".............",
                "bbbb.........",
                "bbbbbb.......",
                "mmmmbbb......",
                "mmmmmmbb.....",
                "mmmmmmmbb....",
                "wwwmmmmmbb...",
                "..wwmmmmbb...",
                "....wmmmmbb..",
                "....wwmmmbb..",
                ".....wmmmbb..",
                ".....wmmmbb..",
            ]
        );
    }

    #[test]
    fn a_mark_that_is_taken_off_leaves_no_trace() {
        for centre in [(0, 0), (29, 0), (0, 19), (29, 19), (15, 10)] {
            let pixels: Vec<u8> = (0..=250).cycle().take(30 * 20 * 3).collect();
            let before = Picture::decode(PPM, ppm("P6 30 20 255\n", &pixels)).unwrap();
            let mut picture = before.clone();
            let (x, y) = centre;
            let covered = picture.mark(Point { x, y });
            assert_ne!(picture, before, "{centre:?}");
            picture.unmark(&covered);
            assert_eq!(picture, before, "{centre:?}");
        }
    }
}
