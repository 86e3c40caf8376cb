//! Finding a small picture within a larger one.
//!
//! At every place the sum of squared differences of all colours is told in shares of the small picture's
//! own energy: the sum of its squared differences from its mean colour. So 0 is the same to the pixel, a
//! flat area differs by 1 or more however thin the lines of the picture are, and what a JPEG, another
//! smoothing of letters or a caret do comes to some hundredths, whatever the contrast.
//!
//! All places are weighed at once by a Fourier transform, along the one direction of colour in which the
//! small picture varies most. That is never more than the whole difference, and for most pictures nearly
//! all of it; the most promising places are then compared exactly. The time depends on the screen's size
//! and hardly on what is on it. Cells with their averages and spreads as bounds were thought of instead:
//! they are quicker on plain desktops, and weigh millions of places pixel by pixel where there is noise.
//! Of crates, `imageproc` compares plainly, which takes minutes for a large part, and needs all of `image`;
//! `corrmatch` compares brightness alone, to which a button that is greyed out is the button, and begins
//! with shrunken pictures, in which letters melt.

use crate::model::{Point, Region, ScreenSize};

use super::{
    Picture,
    correlate::{Plane, correlate},
};

/// How far a weight may be off, in shares of how much the picture and the screen differ from its mean.
const ROUNDING: f64 = 1e-6;

/// Most places that are compared exactly, and the most bytes that this may touch: a screen full of what
/// is looked for, and slightly different everywhere, takes no longer than others.
const MOST_PLACES: usize = 4096;
const MOST_BYTES: usize = 64 << 20;

/// A picture that is looked for.
#[derive(Debug)]
pub struct Sought {
    picture: Picture,
    mean: [f64; 3],
    /// The direction of colour in which it varies most, of length 1.
    axis: [f64; 3],
    energy: f64,
}

/// Where a picture is found, and how well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    pub at: Region,
    /// 0 is equal to the pixel, 1 as unlike as a flat area; can be more.
    pub difference: f64,
}

impl Sought {
    /// `None` where the picture is of one colour: that could be anywhere.
    pub fn new(picture: Picture) -> Option<Self> {
        let (pixels, _) = picture.rgb().as_chunks::<3>();
        let first = pixels.first()?;
        if pixels.iter().all(|pixel| pixel == first) {
            return None;
        }
        let mut sums = [0_u64; 3];
        let mut products = [[0_u64; 3]; 3];
        for pixel in pixels {
            for (a, sum) in sums.iter_mut().enumerate() {
                *sum += u64::from(pixel[a]);
                for (b, product) in products[a].iter_mut().enumerate() {
                    *product += u64::from(pixel[a]) * u64::from(pixel[b]);
                }
            }
        }
        let count = float(pixels.len() as u64);
        let mean = sums.map(|sum| float(sum) / count);
        let spread: [[f64; 3]; 3] = std::array::from_fn(|a| {
            std::array::from_fn(|b| float(products[a][b]) - mean[a] * mean[b] * count)
        });
        Some(Self {
            mean,
            axis: main_axis(&spread),
            energy: spread[0][0] + spread[1][1] + spread[2][2],
            picture,
        })
    }

    pub fn size(&self) -> ScreenSize {
        self.picture.size
    }

    /// The place within a region of a screen, which [fits](Region::fits) it, that looks most like the
    /// picture; of several that equal it the uppermost, and of these the leftmost. Where none differs by
    /// less than `most`, one of those that look most alike. `None` where the region is smaller than
    /// the picture.
    pub fn find(&self, screen: &Picture, within: Region, most: f64) -> Option<Hit> {
        let size = self.size();
        let columns = within.x0.abs_diff(within.x1).checked_sub(size.width)? as usize + 1;
        within.y0.abs_diff(within.y1).checked_sub(size.height)?;
        let screen = screen.crop(within);
        let (weights, rounding) = self.weigh(&screen);
        let lightest = (0..).zip(&weights).min_by(|a, b| a.1.total_cmp(b.1));
        let mut search = Search {
            screen: &screen,
            picture: &self.picture,
            columns,
            best: None,
            bytes: MOST_BYTES,
        };
        search.compare(lightest?.0);
        // Only what can be better, and is near enough, is worth comparing.
        let within_reach = |weight: f32, search: &Search<'_>| {
            let best = search.best.map_or(0.0, |(differing, _)| float(differing));
            f64::from(weight) <= best.min(most * self.energy) + rounding
        };
        let mut others: Vec<_> = (0..)
            .zip(weights)
            .filter(|(_, weight)| within_reach(*weight, &search))
            .collect();
        // Of those that equal it the first is wanted, and it is quickly seen which do; else the best.
        if search.best.is_some_and(|(differing, _)| differing > 0) {
            if others.len() > MOST_PLACES {
                others.select_nth_unstable_by(MOST_PLACES, |a, b| a.1.total_cmp(&b.1));
                others.truncate(MOST_PLACES);
            }
            others.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        }
        for (place, weight) in others {
            let is_equal = search.best.is_some_and(|it| it.0 == 0 && it.1 < place);
            if is_equal || search.bytes == 0 {
                break;
            }
            if within_reach(weight, &search) {
                search.compare(place);
            }
        }
        let (differing, place) = search.best?;
        let at = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
        let corner = Point {
            x: within.x0 + at(place % columns),
            y: within.y0 + at(place / columns),
        };
        Some(Hit {
            at: Region::whole(size).moved(corner),
            difference: float(differing) / self.energy,
        })
    }

    /// The sum of squared differences along the direction of colour at every place, row by row, and how
    /// far it may be off.
    fn weigh(&self, screen: &Picture) -> (Vec<f32>, f64) {
        let large = self.along(screen);
        let small = self.along(&self.picture);
        let own_energy: f64 = small.values.iter().copied().map(square).sum();
        let mut weights = correlate(&large, &small);
        let columns = large.width - small.width + 1;
        // What lies under the picture at a place, by columns that slide down and a sum that slides along.
        let row = |y: usize| &large.values[y * large.width..(y + 1) * large.width];
        let mut sliding = vec![0.0; large.width];
        let mut all = 0.0;
        for y in 0..large.height {
            for (sum, value) in sliding.iter_mut().zip(row(y)) {
                *sum += square(*value);
                all += square(*value);
            }
            let Some(top) = (y + 1).checked_sub(small.height) else {
                continue;
            };
            let mut under: f64 = sliding[..small.width].iter().sum();
            let weights = &mut weights[top * columns..(top + 1) * columns];
            for (x, weight) in weights.iter_mut().enumerate() {
                *weight = single(own_energy + under - 2.0 * f64::from(*weight));
                if let Some(next) = sliding.get(x + small.width) {
                    under += next - sliding[x];
                }
            }
            for (sum, value) in sliding.iter_mut().zip(row(top)) {
                *sum -= square(*value);
            }
        }
        (weights, ROUNDING * (own_energy * all).sqrt())
    }

    /// Pixels along the direction of colour, from the mean.
    fn along(&self, picture: &Picture) -> Plane {
        let (mean, axis) = (self.mean, self.axis);
        let from = single(mean[0] * axis[0] + mean[1] * axis[1] + mean[2] * axis[2]);
        let [red, green, blue] = axis.map(single);
        let (pixels, _) = picture.rgb().as_chunks::<3>();
        let values = pixels.iter().map(|[r, g, b]| {
            f32::from(*r) * red + f32::from(*g) * green + f32::from(*b) * blue - from
        });
        Plane {
            width: picture.size.width as usize,
            height: picture.size.height as usize,
            values: values.collect(),
        }
    }
}

/// Comparing exactly.
struct Search<'a> {
    screen: &'a Picture,
    picture: &'a Picture,
    /// Places in a row.
    columns: usize,
    /// The sum of squared differences of the best place, and that place.
    best: Option<(u64, usize)>,
    /// How much more may be compared.
    bytes: usize,
}

impl Search<'_> {
    fn compare(&mut self, place: usize) {
        let limit = self.best.map_or(u64::MAX, |(differing, _)| differing);
        let (x, y) = (place % self.columns, place / self.columns);
        let width = self.screen.size.width as usize * 3;
        let length = self.picture.size.width as usize * 3;
        let rows = self.screen.rgb().chunks_exact(width).skip(y);
        let mut sum = 0;
        for (row, own) in rows.zip(self.picture.rgb().chunks_exact(length)) {
            sum += squares(&row[x * 3..x * 3 + length], own);
            self.bytes = self.bytes.saturating_sub(length);
            if sum > limit {
                return;
            }
        }
        let found = (sum, place);
        self.best = Some(self.best.map_or(found, |best| best.min(found)));
    }
}

/// The sum of squared differences of two rows.
fn squares(a: &[u8], b: &[u8]) -> u64 {
    let squares = a.iter().zip(b).map(|(a, b)| {
        let differs = u32::from(a.abs_diff(*b));
        differs * differs
    });
    // At most 255² × 3 × 16384, the longest side of a picture: a u32.
    u64::from(squares.sum::<u32>())
}

/// The direction in which values of this spread vary most, by power iteration. Where two are alike,
/// anything between them will do.
fn main_axis(spread: &[[f64; 3]; 3]) -> [f64; 3] {
    // The column of the largest value on the diagonal is no direction without spread.
    let most = (0..3).max_by(|a, b| spread[*a][*a].total_cmp(&spread[*b][*b]));
    let mut axis = spread[most.unwrap_or(0)];
    for _ in 0..16 {
        let length = axis.iter().map(|it| it * it).sum::<f64>().sqrt();
        axis = axis.map(|it| it / length);
        axis = spread.map(|row| row[0] * axis[0] + row[1] * axis[1] + row[2] * axis[2]);
    }
    let length = axis.iter().map(|it| it * it).sum::<f64>().sqrt();
    axis.map(|it| it / length)
}

fn square(value: f32) -> f64 {
    f64::from(value) * f64::from(value)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^52 is more than a picture's squares"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, reason = "some digits are enough")]
fn single(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ScreenSize = ScreenSize {
        width: 90,
        height: 61,
    };

    type Pixel = [u8; 3];

    fn picture(size: ScreenSize, pixel: impl Fn(i32, i32) -> Pixel) -> Picture {
        let all = Region::whole(size);
        let pixels = (all.y0..all.y1).flat_map(|y| (all.x0..all.x1).map(move |x| (x, y)));
        Picture::of_pixels(size, pixels.flat_map(|(x, y)| pixel(x, y)).collect())
    }

    /// What looks like chance, and is the same each time.
    fn chance(x: i32, y: i32) -> u8 {
        let mixed = (x.cast_unsigned() * 7919 + 13).wrapping_mul(y.cast_unsigned() * 104_729 + 7);
        (mixed ^ mixed >> 9).wrapping_mul(0x9e37_79b1).to_be_bytes()[0]
    }

    /// Thin dark lines on white, as letters are.
    fn lettering(x: i32, y: i32) -> Pixel {
        let is_ink = chance(x / 2, y / 5) > 215;
        if is_ink { [20, 30, 60] } else { [250; 3] }
    }

    fn letters() -> Picture {
        picture(SIZE, lettering)
    }

    fn found(screen: &Picture, wanted: &Picture, most: f64) -> Hit {
        let sought = Sought::new(wanted.clone()).unwrap();
        let whole = Region::whole(screen.size());
        sought.find(screen, whole, most).unwrap()
    }

    /// The least difference of all places, by comparing each pixel of each.
    fn plainly(screen: &Picture, wanted: &Picture) -> (Region, u64) {
        let (all, own) = (Region::whole(screen.size()), Region::whole(wanted.size()));
        let places = (0..=all.y1 - own.y1).flat_map(|y| (0..=all.x1 - own.x1).map(move |x| (x, y)));
        let weighed = places.map(|(x, y)| {
            let at = own.moved(Point { x, y });
            let differing: u64 = screen
                .crop(at)
                .rgb()
                .iter()
                .zip(wanted.rgb())
                .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
                .sum();
            (at, differing)
        });
        weighed.min_by_key(|(_, differing)| *differing).unwrap()
    }

    #[test]
    fn a_part_is_found_to_the_pixel_at_its_place() {
        let screens = [
            letters(),
            picture(SIZE, |x, y| [chance(x, y), chance(y, x), chance(x, x + y)]),
            // Colours of one brightness.
            picture(SIZE, |x, y| {
                if chance(x, y) > 128 {
                    [200, 0, 0]
                } else {
                    [0, 200, 0]
                }
            }),
            // A slope, in which all places are nearly alike.
            picture(SIZE, |x, y| {
                [x, y, x + y].map(|it| u8::try_from(it).unwrap())
            }),
        ];
        let parts = [
            [0, 0, 12, 9],
            [78, 52, 90, 61],
            [0, 50, 33, 61],
            [41, 0, 90, 40],
            [30, 20, 46, 36],
            [4, 0, 5, 61],
            [0, 5, 90, 6],
            [0, 0, 90, 61],
        ];
        for (n, screen) in screens.iter().enumerate() {
            for part in parts.map(Region::from) {
                let hit = found(screen, &screen.crop(part), 0.1);
                assert!(hit.difference <= 0.0, "{part} of screen {n}: {hit:?}");
                assert_eq!(hit.at, part, "of screen {n}");
            }
        }
    }

    #[test]
    fn what_is_found_is_the_best_of_all_places() {
        let screen = letters();
        let noisy = |part: Region, by: i32| {
            let part = screen.crop(part);
            let noise = (0..).zip(part.rgb()).map(|(at, value)| {
                let by = i32::from(chance(at, by)) % (2 * by + 1) - by;
                u8::try_from((i32::from(*value) + by).clamp(0, 255)).unwrap()
            });
            Picture::of_pixels(part.size(), noise.collect())
        };
        for (part, by) in [
            ([3, 4, 27, 20], 8),
            ([50, 30, 90, 61], 40),
            ([0, 0, 8, 8], 20),
        ] {
            let wanted = noisy(Region::from(part), by);
            let (at, differing) = plainly(&screen, &wanted);
            let hit = found(&screen, &wanted, 2.0);
            let sought = Sought::new(wanted).unwrap();
            assert_eq!(hit.at, at);
            assert_eq!(hit.at, Region::from(part));
            let difference = float(differing) / sought.energy;
            assert!(difference > 0.0);
            assert!((hit.difference - difference).abs() < 1e-9, "{hit:?}");
        }
    }

    #[test]
    fn the_better_of_two_wins_and_the_upper_of_equals() {
        let button = |x: i32, y: i32| lettering(x + 300, y);
        let inside = |x: i32, y: i32, at: [i32; 2]| {
            let (x, y) = (x - at[0], y - at[1]);
            ((0..20).contains(&x) && (0..10).contains(&y)).then(|| button(x, y))
        };
        let size = ScreenSize {
            width: 20,
            height: 10,
        };
        let wanted = picture(size, button);
        let paint = |places: [[i32; 2]; 2], worse: usize| {
            picture(SIZE, |x, y| {
                let grey = [190; 3];
                for (n, at) in places.into_iter().enumerate() {
                    if let Some(pixel) = inside(x, y, at) {
                        let is_worn = n == worse && (x + y) % 7 == 0;
                        return if is_worn {
                            pixel.map(|it| it / 2)
                        } else {
                            pixel
                        };
                    }
                }
                grey
            })
        };
        let places = [[60, 3], [5, 40]];
        let corner = |hit: Hit| [hit.at.x0, hit.at.y0];
        assert_eq!(corner(found(&paint(places, 0), &wanted, 1.0)), [5, 40]);
        assert_eq!(corner(found(&paint(places, 1), &wanted, 1.0)), [60, 3]);
        assert_eq!(corner(found(&paint(places, 2), &wanted, 1.0)), [60, 3]);
        let side_by_side = [[60, 40], [5, 40]];
        assert_eq!(
            corner(found(&paint(side_by_side, 2), &wanted, 1.0)),
            [5, 40]
        );
    }

    #[test]
    fn a_region_bounds_what_is_looked_at() {
        let stripes = picture(
            SIZE,
            |x, y| if (x + y) % 10 < 3 { [0; 3] } else { [255; 3] },
        );
        let wanted = stripes.crop(Region::from([0, 0, 13, 13]));
        let sought = Sought::new(wanted).unwrap();
        let found = |within: [i32; 4]| {
            let hit = sought.find(&stripes, Region::from(within), 0.0)?;
            assert!(hit.difference <= 0.0, "{hit:?}");
            Some([hit.at.x0, hit.at.y0])
        };
        assert_eq!(found([0, 0, 90, 61]), Some([0, 0]));
        assert_eq!(found([1, 0, 90, 61]), Some([10, 0]));
        assert_eq!(found([41, 30, 70, 61]), Some([50, 30]));
        assert_eq!(found([77, 13, 90, 26]), Some([77, 13]));
        assert_eq!(found([0, 0, 12, 61]), None);
        assert_eq!(found([0, 0, 90, 12]), None);
    }

    #[test]
    fn flat_areas_and_other_texts_are_no_hits() {
        let wanted = letters().crop(Region::from([10, 10, 42, 26]));
        let (text, paper) = ([20, 30, 60], [250; 3]);
        for colour in [paper, text, [225, 226, 229], [0; 3], [255, 0, 0]] {
            let hit = found(&picture(SIZE, |_, _| colour), &wanted, 1.0);
            assert!(hit.difference >= 1.0, "{colour:?}: {hit:?}");
        }
        let elsewhere = picture(SIZE, |x, y| lettering(x + 500, y + 700));
        let hit = found(&elsewhere, &wanted, 1.0);
        assert!(hit.difference > 0.7, "{hit:?}");
        // A greyed out text is another, too.
        let grey = picture(SIZE, |x, y| {
            if lettering(x, y) == paper {
                paper
            } else {
                [170; 3]
            }
        });
        let hit = found(&grey, &wanted, 1.0);
        assert!((0.3..0.6).contains(&hit.difference), "{hit:?}");
    }

    #[test]
    fn a_jpeg_a_caret_and_another_paper_differ_by_hundredths() {
        let screen = letters();
        let part = Region::from([10, 10, 58, 42]);
        let wanted = screen.crop(part);
        let jpeg = Picture::read(&screen.to_jpeg().unwrap()).unwrap();
        let caret = picture(SIZE, |x, y| {
            let is_caret = x == 30 && (20..30).contains(&y);
            if is_caret { [0; 3] } else { lettering(x, y) }
        });
        let dimmed = picture(SIZE, |x, y| lettering(x, y).map(|it| it.saturating_sub(12)));
        for (what, screen) in [("jpeg", jpeg), ("caret", caret), ("dimmed", dimmed)] {
            let hit = found(&screen, &wanted, 1.0);
            assert_eq!(hit.at, part, "{what}");
            assert!((0.001..0.08).contains(&hit.difference), "{what}: {hit:?}");
        }
    }

    #[test]
    fn one_colour_is_not_looked_for() {
        for size in [1, 5] {
            let size = ScreenSize {
                width: size,
                height: size,
            };
            assert!(Sought::new(picture(size, |_, _| [7, 8, 9])).is_none());
        }
        let nearly = ScreenSize {
            width: 2,
            height: 1,
        };
        let nearly = picture(nearly, |x, _| [7, 8, 9 + u8::try_from(x).unwrap()]);
        let screen = picture(SIZE, |x, y| [7, 8, if (x, y) == (50, 40) { 10 } else { 9 }]);
        let hit = found(&screen, &nearly, 0.0);
        assert_eq!(hit.at, Region::from([49, 40, 51, 41]));
        assert!(hit.difference <= 0.0, "{hit:?}");
    }
}
