//! Points, sizes and regions, and how the shown picture maps to the screen.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The highest value of an absolute axis: QEMU's tablets report 0..=32767.
/// Source: `INPUT_EVENT_ABS_MAX` in QEMU's `include/ui/input.h`.
pub const AXIS_MAX: u32 = 0x7fff;

/// A pixel, origin top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub x: i32,
    pub y: i32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.x, self.y)
    }
}

/// A native pixel of one of a VM's screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    pub head: u32,
    pub at: Point,
}

/// Width and height in pixels, neither of them 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ScreenSize {
    pub width: u32,
    pub height: u32,
}

impl ScreenSize {
    pub fn contains(self, point: Point) -> bool {
        let inside = |at: i32, length: u32| u32::try_from(at).is_ok_and(|at| at < length);
        inside(point.x, self.width) && inside(point.y, self.height)
    }

    /// The size at which a client is shown a screen of this native size: this one,
    /// unless its long edge is over `long_edge`, then scaled down with its aspect
    /// ratio kept. A `long_edge` of 0 means native.
    #[must_use]
    pub fn shown(self, long_edge: u32) -> Self {
        let long = self.width.max(self.height);
        if long_edge == 0 || long <= long_edge {
            return self;
        }
        let scale = |length: u32| {
            let scaled =
                (u64::from(length) * u64::from(long_edge) + u64::from(long) / 2) / u64::from(long);
            // At most `long_edge`, which is a u32.
            u32::try_from(scaled).unwrap_or(long_edge).max(1)
        };
        Self {
            width: scale(self.width),
            height: scale(self.height),
        }
    }

    /// This size made as large, or as small, as it fits into another one, its aspect ratio kept.
    #[must_use]
    pub fn fitted(self, into: Self) -> Self {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let (most_wide, most_high) = (u64::from(into.width), u64::from(into.height));
        let scale = |length: u64, to: u64, from: u64| {
            // At most the other's length, which is a u32.
            u32::try_from((length * to + from / 2) / from).unwrap_or(u32::MAX)
        };
        if most_wide * height <= most_high * width {
            Self {
                width: into.width,
                height: scale(height, most_wide, width).clamp(1, into.height),
            }
        } else {
            Self {
                width: scale(width, most_high, height).clamp(1, into.width),
                height: into.height,
            }
        }
    }

    /// The native pixel at the centre of the shown pixel `point`, which lies in `shown`.
    pub fn native_point(self, shown: Self, point: Point) -> Point {
        let map = |at: i32, from: u32, to: u32| {
            let centre = (2 * i64::from(at) + 1) * i64::from(to) / (2 * i64::from(from));
            i32::try_from(centre.min(i64::from(to) - 1)).unwrap_or(i32::MAX)
        };
        Point {
            x: map(point.x, shown.width, self.width),
            y: map(point.y, shown.height, self.height),
        }
    }

    /// The pixel of the shown picture that a native pixel falls into. The other way round as
    /// [`native_point`](Self::native_point).
    pub fn shown_point(self, shown: Self, point: Point) -> Point {
        shown.native_point(self, point)
    }

    /// The tablet's axes for the centre of the native pixel `point`.
    pub fn axes(self, point: Point) -> (u32, u32) {
        let axis = |at: i32, length: u32| {
            let centre =
                (2 * i64::from(at) + 1) * i64::from(AXIS_MAX + 1) / (2 * i64::from(length));
            u32::try_from(centre.clamp(0, i64::from(AXIS_MAX))).unwrap_or(AXIS_MAX)
        };
        (axis(point.x, self.width), axis(point.y, self.height))
    }
}

impl fmt::Display for ScreenSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}

/// A part of the shown picture: `[x0, y0, x1, y1]`, right and bottom edges exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "[i32; 4]")]
pub struct Region {
    pub x0: i32,
    pub y0: i32,
    pub x1: i32,
    pub y1: i32,
}

impl Region {
    /// Whether it has at least one pixel and lies wholly in a picture of this size.
    pub fn fits(self, size: ScreenSize) -> bool {
        let within = |from: i32, to: i32, length: u32| {
            from >= 0 && from < to && u32::try_from(to).is_ok_and(|to| to <= length)
        };
        within(self.x0, self.x1, size.width) && within(self.y0, self.y1, size.height)
    }

    /// Whether a pixel of the picture lies in it.
    pub fn has(self, point: Point) -> bool {
        (self.x0..self.x1).contains(&point.x) && (self.y0..self.y1).contains(&point.y)
    }

    /// A pixel of the picture as a pixel of this part.
    #[must_use]
    pub fn within(self, point: Point) -> Point {
        Point {
            x: point.x - self.x0,
            y: point.y - self.y0,
        }
    }

    /// All of a picture of this size.
    pub fn whole(size: ScreenSize) -> Self {
        let edge = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
        Self {
            x0: 0,
            y0: 0,
            x1: edge(size.width),
            y1: edge(size.height),
        }
    }

    /// How many pixels it has.
    pub fn pixels(self) -> u64 {
        u64::from(self.x0.abs_diff(self.x1)) * u64::from(self.y0.abs_diff(self.y1))
    }

    /// The smallest region around this one and another.
    #[must_use]
    pub fn around(self, other: Self) -> Self {
        Self {
            x0: self.x0.min(other.x0),
            y0: self.y0.min(other.y0),
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
        }
    }

    /// This region of a part of a picture as one of the whole, in which that part begins at `to`.
    #[must_use]
    pub fn moved(self, to: Point) -> Self {
        Self {
            x0: self.x0 + to.x,
            y0: self.y0 + to.y,
            x1: self.x1 + to.x,
            y1: self.y1 + to.y,
        }
    }

    /// So many columns of it from one on, where it has `all`, as wide as each other.
    #[must_use]
    pub(super) fn columns(self, before: usize, within: usize, all: usize) -> Self {
        let width = i64::from(self.x1) - i64::from(self.x0);
        let edge = |column: usize| {
            let column = i64::try_from(column).unwrap_or(0);
            let all = i64::try_from(all).unwrap_or(i64::MAX).max(1);
            i32::try_from(i64::from(self.x0) + width * column / all).unwrap_or(self.x1)
        };
        Self {
            x0: edge(before),
            x1: edge(before + within),
            ..self
        }
    }

    /// The pixels of the shown picture that this region of the native one falls into.
    #[must_use]
    pub fn shown(self, native: ScreenSize, shown: ScreenSize) -> Self {
        self.native(native, shown)
    }

    /// The native pixels under this region of the shown picture, which it fits.
    #[must_use]
    pub fn native(self, shown: ScreenSize, native: ScreenSize) -> Self {
        let floor = |at: i32, from: u32, to: u32| i64::from(at) * i64::from(to) / i64::from(from);
        let ceil = |at: i32, from: u32, to: u32| {
            (i64::from(at) * i64::from(to) + i64::from(from) - 1) / i64::from(from)
        };
        let int = |at: i64| i32::try_from(at).unwrap_or(i32::MAX);
        Self {
            x0: int(floor(self.x0, shown.width, native.width)),
            y0: int(floor(self.y0, shown.height, native.height)),
            x1: int(ceil(self.x1, shown.width, native.width)),
            y1: int(ceil(self.y1, shown.height, native.height)),
        }
    }
}

impl From<[i32; 4]> for Region {
    fn from([x0, y0, x1, y1]: [i32; 4]) -> Self {
        Self { x0, y0, x1, y1 }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}, {}]", self.x0, self.y0, self.x1, self.y1)
    }
}

impl JsonSchema for Region {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Region".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": { "type": "integer" },
            "minItems": 4,
            "maxItems": 4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> ScreenSize {
        ScreenSize { width, height }
    }

    #[test]
    fn shown_size_keeps_small_screens_and_scales_large_ones() {
        let cases = [
            (size(1280, 800), 1568, size(1280, 800)),
            (size(1568, 900), 1568, size(1568, 900)),
            (size(1920, 1080), 1568, size(1568, 882)),
            (size(1080, 1920), 1568, size(882, 1568)),
            (size(3840, 2160), 0, size(3840, 2160)),
            (size(10_000, 1), 100, size(100, 1)),
        ];
        for (native, long_edge, shown) in cases {
            assert_eq!(native.shown(long_edge), shown, "{native} at {long_edge}");
        }
    }

    #[test]
    fn corners_of_the_shown_picture_are_corners_of_the_screen() {
        let native = size(1920, 1080);
        let shown = native.shown(1568);
        let far = Point { x: 1567, y: 881 };
        assert_eq!(
            native.native_point(shown, Point { x: 0, y: 0 }),
            Point { x: 0, y: 0 }
        );
        assert_eq!(native.native_point(shown, far), Point { x: 1919, y: 1079 });
        assert_eq!(native.native_point(native, far), far);
    }

    /// Screens as guests have them, odd ones among them and as long as the axes tell pixels apart by far,
    /// and the long edges that they are shown with.
    const SCREENS: [(u32, u32, u32); 12] = [
        (1280, 800, 1568),
        (1366, 768, 1568),
        (1921, 1081, 1568),
        (2560, 1440, 1568),
        (3840, 2160, 1568),
        (1080, 1920, 1568),
        (800, 1, 0),
        (1, 800, 100),
        (1, 1, 100),
        (16_384, 3, 1568),
        (2, 16_384, 0),
        (641, 479, 100),
    ];

    fn at(at: u32) -> i32 {
        i32::try_from(at).unwrap()
    }

    /// What a guest makes of an axis: X and libinput take the floor of the value's share of the length.
    fn pixel_of(axis: u32, length: u32) -> u32 {
        axis * length / (AXIS_MAX + 1)
    }

    #[test]
    fn every_native_pixel_has_axes_that_a_guest_maps_back_to_it() {
        for (width, height, _) in SCREENS {
            let native = size(width, height);
            for along in 0..width.max(height) {
                let (x, y) = (along.min(width - 1), along.min(height - 1));
                let (axis_x, axis_y) = native.axes(Point { x: at(x), y: at(y) });
                assert!(axis_x <= AXIS_MAX && axis_y <= AXIS_MAX);
                assert_eq!(pixel_of(axis_x, width), x, "{native}");
                assert_eq!(pixel_of(axis_y, height), y, "{native}");
            }
        }
    }

    #[test]
    fn every_shown_pixel_is_a_native_one_of_those_that_it_stands_for() {
        for (width, height, long_edge) in SCREENS {
            let native = size(width, height);
            let shown = native.shown(long_edge);
            for along in 0..shown.width.max(shown.height) {
                let point = Point {
                    x: at(along.min(shown.width - 1)),
                    y: at(along.min(shown.height - 1)),
                };
                let found = native.native_point(shown, point);
                assert!(
                    native.contains(found),
                    "{native} as {shown}: {point} to {found}"
                );
                let part = Region::from([point.x, point.y, point.x + 1, point.y + 1]);
                let part = part.native(shown, native);
                assert!(
                    (part.x0..part.x1).contains(&found.x) && (part.y0..part.y1).contains(&found.y),
                    "{native} as {shown}: {point} to {found}, outside {part}"
                );
                // And back again: where the pointer is told to be is where it was sent.
                assert_eq!(
                    native.shown_point(shown, found),
                    point,
                    "{native} as {shown}"
                );
            }
        }
    }

    #[test]
    fn every_native_pixel_is_shown_somewhere() {
        for (width, height, long_edge) in SCREENS {
            let native = size(width, height);
            let shown = native.shown(long_edge);
            for along in 0..width.max(height) {
                let point = Point {
                    x: at(along.min(width - 1)),
                    y: at(along.min(height - 1)),
                };
                let found = native.shown_point(shown, point);
                assert!(
                    shown.contains(found),
                    "{native} as {shown}: {point} to {found}"
                );
                let part = Region::from([found.x, found.y, found.x + 1, found.y + 1]);
                let part = part.native(shown, native);
                assert!(
                    (part.x0..part.x1).contains(&point.x) && (part.y0..part.y1).contains(&point.y),
                    "{native} as {shown}: {point} to {found}, which stands for {part}"
                );
            }
        }
    }

    #[test]
    fn a_size_is_fitted_into_another_with_its_aspect_ratio_kept() {
        let whole = size(1568, 882);
        let cases = [
            (size(1280, 720), size(1568, 882)),
            (size(2560, 1440), size(1568, 882)),
            (size(100, 100), size(882, 882)),
            (size(1000, 10), size(1568, 16)),
            (size(10, 1000), size(9, 882)),
            (size(1, 8000), size(1, 882)),
            (size(8000, 1), size(1568, 1)),
            (size(1568, 882), size(1568, 882)),
        ];
        for (from, to) in cases {
            assert_eq!(from.fitted(whole), to, "{from}");
        }
    }

    #[test]
    fn regions_cover_all_native_pixels_they_touch() {
        let native = size(1920, 1080);
        let shown = native.shown(1568);
        let whole = Region::from([0, 0, 1568, 882]);
        assert_eq!(
            whole.native(shown, native),
            Region::from([0, 0, 1920, 1080])
        );
        let one = Region::from([10, 10, 11, 11]);
        assert_eq!(one.native(shown, native), Region::from([12, 12, 14, 14]));
    }

    #[test]
    fn regions_outside_or_empty_do_not_fit() {
        let screen = size(100, 50);
        for bad in [
            [0, 0, 0, 10],
            [-1, 0, 5, 5],
            [0, 0, 101, 5],
            [5, 5, 4, 6],
            [0, 40, 10, 51],
        ] {
            assert!(!Region::from(bad).fits(screen), "{bad:?}");
        }
        assert!(Region::from([0, 0, 100, 50]).fits(screen));
    }
}
