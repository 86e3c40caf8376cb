//! How much two pictures differ.

use crate::model::Region;

use super::Picture;

impl Picture {
    /// How many pixels of a region, which [fits](Region::fits) the picture, differ from another
    /// picture's; all of them where that has another size. 0.1 ms at 1920×1080 where nothing differs,
    /// 1.5 ms where all does.
    pub fn differing(&self, other: &Self, region: Region) -> u64 {
        let at = |edge: i32| usize::try_from(edge).unwrap_or(0);
        if self.size != other.size {
            return region.pixels();
        }
        let row = self.size.width as usize * 3;
        let rows = (at(region.y0)..at(region.y1)).map(|y| {
            let pixels = y * row + at(region.x0) * 3..y * row + at(region.x1) * 3;
            (&self.rgb()[pixels.clone()], &other.rgb()[pixels])
        });
        // Most rows of most looks are equal, and equal slices are told apart fastest.
        let changed = rows.filter(|(a, b)| a != b);
        let differing = changed.map(|(a, b)| {
            let pixels = a.as_chunks::<3>().0.iter().zip(b.as_chunks::<3>().0);
            pixels.map(|(a, b)| u64::from(a != b)).sum::<u64>()
        });
        differing.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(size: &str, pixels: &[u8]) -> Picture {
        let ppm = [size.as_bytes(), pixels].concat();
        Picture::decode("image/x-portable-pixmap", ppm).unwrap()
    }

    #[test]
    fn differing_pixels_are_counted_within_the_region() {
        let size = "P6 4 3 255\n";
        let black = picture(size, &[0; 36]);
        let mut pixels = [0; 36];
        // One colour of the pixel 1,1, and all of 2,1 and of 3,2.
        pixels[(4 + 1) * 3 + 1] = 1;
        pixels[(4 + 2) * 3..(4 + 3) * 3].fill(255);
        pixels[(8 + 3) * 3..].fill(9);
        let other = picture(size, &pixels);
        let cases = [
            ([0, 0, 4, 3], 3),
            ([0, 0, 4, 1], 0),
            ([1, 1, 2, 2], 1),
            ([0, 1, 3, 3], 2),
            ([3, 2, 4, 3], 1),
        ];
        for (region, count) in cases {
            let region = Region::from(region);
            assert_eq!(black.differing(&other, region), count, "{region}");
            assert_eq!(black.differing(&black, region), 0, "{region}");
        }
        let wider = picture("P6 6 2 255\n", &[0; 36]);
        assert_eq!(black.differing(&wider, Region::from([0, 0, 4, 3])), 12);
    }
}
