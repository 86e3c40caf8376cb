//! What brings the pointer from one place to another. Pure.

use std::time::Duration;

use crate::{
    hypervisor::InputEvent,
    model::{Point, ScreenSize, geometry::AXIS_MAX},
};

use super::desktop::{Desktop, Reach};

/// A drag takes a step so often, and has at least so many steps: toolkits take a press for the begin of
/// a drag only once they have seen the pointer move some pixels, and the rest of the way after that.
const STEP: Duration = Duration::from_millis(16);
const MIN_STEPS: u32 = 5;

/// How far a mouse moves at a time, at 10 ms from one step to the next. libinput's usual profile moves the
/// pointer by just what the mouse moved between 0.07 and 0.4 counts per millisecond, less below that and
/// more above it (`filter-mouse.c`). 600 counts in steps of 3 were 601 pixels, in steps of 8 they were 893.
const MOUSE_STEP: u32 = 3;

/// The farthest that a PS/2 mouse tells at a time.
const FAR: i32 = 127;

/// What puts the pointer to a place, from wherever it is, where `told` are the axes that the tablet was told
/// last. A guest that warped its pointer sees no event in the value that the tablet has already, so another
/// one of the same pixel is told; where the last one is not known, the pointer steps aside first. A mouse
/// begins in a corner.
pub(super) fn put(desktop: &Desktop, told: Option<(u32, u32)>, to: Point) -> Vec<InputEvent> {
    let size = desktop.size();
    if desktop.reach() == Reach::Mouse {
        let (corner, mut events) = into_corner(size, to);
        events.extend(leg(desktop, corner, to));
        return events;
    }
    if let Some(told) = told {
        let (x, y) = size.axes(to);
        let x = match x {
            _ if told != (x, y) => x,
            AXIS_MAX => x - 1,
            x => x + 1,
        };
        return vec![InputEvent::Position { x, y }];
    }
    let aside = Point {
        x: if to.x > 0 { to.x - 1 } else { to.x + 1 },
        y: to.y,
    };
    vec![position(size, aside), position(size, to)]
}

/// What takes the pointer on from one place to the next.
pub(super) fn leg(desktop: &Desktop, from: Point, to: Point) -> Vec<InputEvent> {
    match desktop.reach() {
        Reach::Tablet => vec![position(desktop.size(), to)],
        Reach::Mouse => by(Point {
            x: to.x.saturating_sub(from.x),
            y: to.y.saturating_sub(from.y),
        }),
    }
}

/// What moves a mouse so far, in steps so small that no guest makes more of them.
pub(super) fn by(offset: Point) -> Vec<InputEvent> {
    let longest = offset.x.unsigned_abs().max(offset.y.unsigned_abs());
    let steps = longest.div_ceil(MOUSE_STEP);
    let origin = Point { x: 0, y: 0 };
    let mut before = origin;
    line(origin, offset, steps)
        .into_iter()
        .map(|next| {
            let step = InputEvent::Motion {
                dx: next.x - before.x,
                dy: next.y - before.y,
            };
            before = next;
            step
        })
        .collect()
}

/// The corner that a mouse begins in, and what brings it there for certain. It is one at the bottom: desktops
/// open an overview where the pointer is pushed into the upper left one.
fn into_corner(size: ScreenSize, to: Point) -> (Point, Vec<InputEvent>) {
    let far = |length: u32| i32::try_from(length - 1).unwrap_or(i32::MAX);
    let is_left = to.x <= far(size.width) / 2;
    let corner = Point {
        x: if is_left { 0 } else { far(size.width) },
        y: far(size.height),
    };
    let push = InputEvent::Motion {
        dx: if is_left { -FAR } else { FAR },
        dy: FAR,
    };
    // Twice as often as it takes, for guests that are set to a slow pointer.
    let longest = size.width.max(size.height);
    let times = 2 * (longest / FAR.unsigned_abs() + 1);
    (corner, vec![push; times as usize])
}

/// The points of a way along a path without its first, those of the path among them. The longest legs have
/// the most, and none is shorter than a pixel.
pub(super) fn along(path: &[Point], duration: Duration) -> Vec<Point> {
    let length = |from: Point, to: Point| from.x.abs_diff(to.x).max(from.y.abs_diff(to.y));
    let legs = || {
        let legs = path.windows(2).map(|leg| (leg[0], leg[1]));
        legs.map(|(from, to)| (from, to, length(from, to)))
    };
    let whole: u64 = legs().map(|(_, _, length)| u64::from(length)).sum();
    let wanted = u32::try_from(duration.as_millis() / STEP.as_millis());
    let wanted = u64::from(wanted.unwrap_or(u32::MAX).max(MIN_STEPS));
    legs()
        .filter(|(_, _, length)| *length > 0)
        .flat_map(|(from, to, length)| {
            let part = wanted * u64::from(length) / whole;
            let steps = u32::try_from(part).unwrap_or(u32::MAX).clamp(1, length);
            line(from, to, steps)
        })
        .collect()
}

/// The points of a straight way without its first, the last one exact.
fn line(from: Point, to: Point, steps: u32) -> Vec<Point> {
    let part = |from: i32, to: i32, step: u32| {
        let whole = i64::from(to) - i64::from(from);
        let at = i64::from(from) + whole * i64::from(step) / i64::from(steps);
        i32::try_from(at).unwrap_or(to)
    };
    let point = |step| Point {
        x: part(from.x, to.x, step),
        y: part(from.y, to.y, step),
    };
    (1..=steps).map(point).collect()
}

fn position(size: ScreenSize, point: Point) -> InputEvent {
    let (x, y) = size.axes(point);
    InputEvent::Position { x, y }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ScreenSize = ScreenSize {
        width: 1280,
        height: 800,
    };

    fn point((x, y): (i32, i32)) -> Point {
        Point { x, y }
    }

    fn path(points: &[(i32, i32)]) -> Vec<Point> {
        points.iter().copied().map(point).collect()
    }

    #[test]
    fn a_way_has_steps_enough_and_none_twice() {
        type Case<'a> = (&'a [(i32, i32)], u64, usize);
        let cases: [Case<'_>; 8] = [
            (&[(0, 0), (100, 50)], 0, 5),
            (&[(0, 0), (100, 50)], 160, 10),
            (&[(0, 0), (100, 50)], 10_000, 100),
            (&[(7, 7), (5, 7)], 300, 2),
            (&[(7, 7), (7, 8)], 0, 1),
            (&[(1919, 1079), (0, 0)], 320, 20),
            (&[(0, 0), (90, 0), (90, 10), (90, 10)], 320, 20),
            (&[(0, 0), (1, 0), (0, 0)], 0, 2),
        ];
        for (points, ms, expected) in cases {
            let path = path(points);
            let mut way = along(&path, Duration::from_millis(ms));
            assert_eq!(way.len(), expected, "{points:?}");
            assert_eq!(way.last(), path.last());
            for corner in &path[1..] {
                assert!(way.contains(corner), "{points:?} without {corner}");
            }
            way.dedup();
            assert_eq!(way.len(), expected, "{points:?}");
        }
        let points = line(point((10, 0)), point((0, 4)), 4);
        let points: Vec<_> = points.iter().map(ToString::to_string).collect();
        assert_eq!(points, ["8,1", "5,2", "3,3", "0,4"]);
        assert_eq!(along(&path(&[(3, 3), (3, 3)]), STEP), []);
    }

    #[test]
    fn a_mouse_goes_by_small_steps_that_add_up() {
        for (x, y) in [(0, 0), (1, 0), (-640, 3), (640, -799), (10, 10)] {
            let steps = by(point((x, y)));
            let mut sum = (0, 0);
            for step in &steps {
                let InputEvent::Motion { dx, dy } = *step else {
                    panic!("{step:?}")
                };
                assert!(
                    (dx, dy) != (0, 0) && dx.abs() <= 3 && dy.abs() <= 3,
                    "{step:?}"
                );
                sum = (sum.0 + dx, sum.1 + dy);
            }
            assert_eq!(sum, (x, y));
        }
    }

    #[test]
    fn a_mouse_begins_in_the_nearer_corner_at_the_bottom() {
        for (to, corner, dx) in [
            ((0, 0), (0, 799), -127),
            ((639, 799), (0, 799), -127),
            ((640, 400), (1279, 799), 127),
        ] {
            let (found, pushes) = into_corner(SIZE, point(to));
            assert_eq!(found, point(corner));
            assert_eq!(pushes, [InputEvent::Motion { dx, dy: 127 }; 22]);
        }
    }
}
