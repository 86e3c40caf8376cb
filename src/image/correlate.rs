//! How much a small plane of values correlates with a large one at every place, by a Fourier transform.

use realfft::RealFftPlanner;
use rustfft::{FftPlanner, num_complex::Complex, num_traits::Zero};

/// Columns that are transformed together: their values of a row lie side by side in memory.
const COLUMNS: usize = 16;

/// Values row by row.
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) values: Vec<f32>,
}

type Bins = Vec<Complex<f32>>;

/// The sums of products at each of the places, row by row, where the small plane lies in the large one.
/// There is one at least. The largest value may be off by some 1e-7 of both planes' norms.
pub(super) fn correlate(large: &Plane, small: &Plane) -> Vec<f32> {
    let columns = large.width - small.width + 1;
    let rows = large.height - small.height + 1;
    // What goes over an edge comes back at the other, and only at places that are not asked for.
    let across = 2 * smooth(large.width.div_ceil(2));
    let down = smooth(large.height);
    let mut planner = RealFftPlanner::new();
    let forth = planner.plan_fft_forward(across);
    let back = planner.plan_fft_inverse(across);
    let bins = across / 2 + 1;
    let mut line = forth.make_input_vec();
    let mut scratch = vec![Complex::zero(); forth.get_scratch_len().max(back.get_scratch_len())];
    let mut rows_of = |plane: &Plane| {
        let mut lines = vec![Complex::zero(); bins * plane.height];
        for (values, bins) in plane
            .values
            .chunks_exact(plane.width)
            .zip(lines.chunks_exact_mut(bins))
        {
            line[..plane.width].copy_from_slice(values);
            line[plane.width..].fill(0.0);
            // Fails at wrong lengths alone, and these are the plan's own.
            let _ = forth.process_with_scratch(&mut line, bins, &mut scratch);
        }
        lines
    };
    let mut lines = rows_of(large);
    let own = rows_of(small);
    multiply_columns(&mut lines, &own, bins, down, rows);

    #[expect(clippy::cast_precision_loss, reason = "both lengths are a screen's")]
    let scale = 1.0 / (across as f32 * down as f32);
    let mut sums = Vec::with_capacity(columns * rows);
    for bins in lines.chunks_exact_mut(bins).take(rows) {
        // Rounding may leave them something that no real values have.
        for at in [0, bins.len() - 1] {
            bins[at].im = 0.0;
        }
        let _ = back.process_with_scratch(bins, &mut line, &mut scratch);
        sums.extend(line[..columns].iter().map(|sum| sum * scale));
    }
    sums
}

/// Transforms the columns of both, multiplies them, and transforms as many rows back as are asked for.
fn multiply_columns(lines: &mut Bins, own: &Bins, bins: usize, down: usize, rows: usize) {
    let mut planner = FftPlanner::new();
    let forth = planner.plan_fft_forward(down);
    let back = planner.plan_fft_inverse(down);
    let length = forth
        .get_inplace_scratch_len()
        .max(back.get_inplace_scratch_len());
    let mut scratch = vec![Complex::zero(); length];
    let mut large = vec![Complex::zero(); COLUMNS * down];
    let mut small = large.clone();
    for begin in (0..bins).step_by(COLUMNS) {
        let end = bins.min(begin + COLUMNS);
        let used = (end - begin) * down;
        for (from, to) in [(&*lines, &mut large), (own, &mut small)] {
            to.fill(Complex::zero());
            for (y, line) in from.chunks_exact(bins).enumerate() {
                for (value, column) in line[begin..end].iter().zip(to.chunks_exact_mut(down)) {
                    column[y] = *value;
                }
            }
            forth.process_with_scratch(&mut to[..used], &mut scratch);
        }
        for (a, b) in large[..used].iter_mut().zip(&small) {
            *a *= b.conj();
        }
        back.process_with_scratch(&mut large[..used], &mut scratch);
        for (y, line) in lines.chunks_exact_mut(bins).take(rows).enumerate() {
            for (value, column) in line[begin..end].iter_mut().zip(large.chunks_exact(down)) {
                *value = column[y];
            }
        }
    }
}

/// The least number from `least` on that has no prime factor over 5: such lengths are transformed
/// fastest.
fn smooth(least: usize) -> usize {
    let is_smooth = |number: &usize| {
        let mut rest = *number;
        for factor in [2, 3, 5] {
            while rest.is_multiple_of(factor) {
                rest /= factor;
            }
        }
        rest == 1
    };
    // There is a power of two up to twice as far.
    (least.max(1)..=least.max(1) * 2)
        .find(is_smooth)
        .unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that look like chance.
    fn plane(width: usize, height: usize, seed: u32) -> Plane {
        let mut state = seed;
        let values = (0..width * height).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap() % 511) - 255.0
        });
        Plane {
            width,
            height,
            values: values.collect(),
        }
    }

    #[test]
    fn every_place_has_its_sum_of_products() {
        let sizes = [
            ((1, 1), (1, 1)),
            ((7, 5), (1, 1)),
            ((7, 5), (7, 5)),
            ((7, 1), (3, 1)),
            ((1, 11), (1, 4)),
            ((40, 31), (17, 8)),
            ((37, 53), (36, 2)),
        ];
        for ((width, height), (own_width, own_height)) in sizes {
            let (large, small) = (plane(width, height, 1), plane(own_width, own_height, 2));
            let sums = correlate(&large, &small);
            let columns = width - own_width + 1;
            assert_eq!(sums.len(), columns * (height - own_height + 1));
            for (at, sum) in sums.iter().enumerate() {
                let (x, y) = (at % columns, at / columns);
                let plain: f32 = (0..own_width * own_height)
                    .map(|at| {
                        let (own_x, own_y) = (at % own_width, at / own_width);
                        small.values[at] * large.values[(y + own_y) * width + x + own_x]
                    })
                    .sum();
                assert!((sum - plain).abs() < 10.0, "{x},{y}: {sum} and {plain}");
            }
        }
    }

    #[test]
    fn lengths_have_small_factors() {
        let cases = [
            (1, 1),
            (7, 8),
            (540, 540),
            (683, 720),
            (1080, 1080),
            (8191, 8192),
        ];
        for (least, length) in cases {
            assert_eq!(smooth(least), length, "{least}");
        }
    }
}
