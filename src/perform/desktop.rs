//! The screens that points refer to, as they lie on the guest's desktop.
//!
//! One tablet spans the whole desktop, whatever head its events name (measured with QEMU 7.2), so that a
//! place on one of several heads can be pointed at only where it is known how they lie.

use std::sync::Arc;

use crate::{
    capture,
    hypervisor::{Devices, Pointer},
    model::{Point, ScreenSize, Spot},
    vm::Vm,
};

use super::ActError;

/// All heads in use, and by what the pointer gets to a place on them. Its points are native pixels of the
/// whole desktop, from its upper left corner.
#[derive(Debug, Clone)]
pub(super) struct Desktop {
    heads: Vec<Head>,
    /// Which of the heads a client's points refer to.
    meant: usize,
    reach: Reach,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    number: u32,
    place: Point,
    native: ScreenSize,
    shown: ScreenSize,
}

/// How the pointer gets to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A tablet puts it there.
    Tablet,
    /// A mouse moves it there, and where it is afterwards is an estimate.
    Mouse,
}

impl Head {
    fn contains(&self, point: Point) -> bool {
        self.native.contains(self.within(point))
    }

    fn within(&self, point: Point) -> Point {
        Point {
            x: point.x.saturating_sub(self.place.x),
            y: point.y.saturating_sub(self.place.y),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let apart = |a: i32, length: u32, b: i32, other: u32| {
            i64::from(a) + i64::from(length) <= i64::from(b)
                || i64::from(b) + i64::from(other) <= i64::from(a)
        };
        !apart(
            self.place.x,
            self.native.width,
            other.place.x,
            other.native.width,
        ) && !apart(
            self.place.y,
            self.native.height,
            other.place.y,
            other.native.height,
        )
    }
}

impl Desktop {
    /// The desktop as it is now. Refused where a client's points have lost their meaning since it last saw
    /// the screen, or never had one.
    pub(super) async fn present(vm: &Arc<Vm>, devices: Option<&Devices>) -> Result<Self, ActError> {
        let reach = match devices {
            Some(devices) => reach(vm, devices).await?,
            None => Reach::Tablet,
        };
        let first = capture::native_size(vm, 0).await?;
        let mut sizes = vec![(0, first)];
        for head in 1..devices.map_or(1, |devices| devices.heads) {
            if let Some(size) = capture::size_in_use(vm, head).await? {
                sizes.push((head, size));
            }
        }
        let heads = placed(vm, &sizes)?;
        let (head, then) = vm.memory().last_given();
        let Some(meant) = heads.iter().position(|it| it.number == head) else {
            return Err(ActError::HeadDark {
                vm: vm.name().clone(),
                head,
            });
        };
        let now = heads[meant].native;
        if let Some(then) = then.filter(|then| *then != now) {
            return Err(ActError::Resized {
                vm: vm.name().clone(),
                now,
                then,
            });
        }
        Ok(Self {
            heads,
            meant,
            reach,
        })
    }

    /// Refuses points that were planned for a screen of another size.
    pub(super) async fn still_fits(&self, vm: &Arc<Vm>) -> Result<(), ActError> {
        let head = self.meant();
        let now = capture::native_size(vm, head.number).await?;
        if now == head.native {
            return Ok(());
        }
        Err(ActError::Resized {
            vm: vm.name().clone(),
            now,
            then: head.native,
        })
    }

    fn meant(&self) -> &Head {
        &self.heads[self.meant]
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    /// The smallest size that has room for all heads.
    pub(super) fn size(&self) -> ScreenSize {
        let far = |end: fn(&Head) -> i64| {
            let far = self.heads.iter().map(end).max().unwrap_or(1);
            u32::try_from(far).unwrap_or(u32::MAX)
        };
        ScreenSize {
            width: far(|it| i64::from(it.place.x) + i64::from(it.native.width)),
            height: far(|it| i64::from(it.place.y) + i64::from(it.native.height)),
        }
    }

    /// The desktop's pixel under a pixel of the picture that the client saw.
    pub(super) fn native(&self, point: Point) -> Result<Point, ActError> {
        let Head {
            place,
            native,
            shown,
            ..
        } = *self.meant();
        if !shown.contains(point) {
            return Err(ActError::Outside { point, shown });
        }
        let Point { x, y } = native.native_point(shown, point);
        Ok(Point {
            x: place.x.saturating_add(x),
            y: place.y.saturating_add(y),
        })
    }

    /// An offset in pixels of the picture as one on the desktop.
    pub(super) fn native_offset(&self, offset: Point) -> Point {
        let Head { native, shown, .. } = *self.meant();
        let scaled = |offset: i32, native: u32, shown: u32| {
            let scaled = i64::from(offset) * i64::from(native) / i64::from(shown);
            i32::try_from(scaled).unwrap_or(if offset < 0 { i32::MIN } else { i32::MAX })
        };
        Point {
            x: scaled(offset.x, native.width, shown.width),
            y: scaled(offset.y, native.height, shown.height),
        }
    }

    /// Whether an offset may lead from one place of the desktop to another.
    pub(super) fn spans(&self, offset: Point) -> bool {
        let size = self.size();
        offset.x.unsigned_abs() <= size.width && offset.y.unsigned_abs() <= size.height
    }

    /// The size of the picture that the client saw.
    pub(super) fn shown(&self) -> ScreenSize {
        self.meant().shown
    }

    /// The place so far from another one, if any head has it.
    pub(super) fn moved(&self, from: Point, offset: Point) -> Result<Point, ActError> {
        let to = Point {
            x: from.x.saturating_add(offset.x),
            y: from.y.saturating_add(offset.y),
        };
        if self.heads.iter().any(|it| it.contains(to)) {
            return Ok(to);
        }
        // Told in the coordinates that the client knows.
        let head = self.heads.iter().find(|it| it.contains(from));
        let head = head.unwrap_or_else(|| self.meant());
        let at = |at: i32, native: u32, shown: u32| {
            let at = i64::from(at) * i64::from(shown) / i64::from(native);
            i32::try_from(at).unwrap_or(i32::MAX)
        };
        let to = head.within(to);
        Err(ActError::Outside {
            point: Point {
                x: at(to.x, head.native.width, head.shown.width),
                y: at(to.y, head.native.height, head.shown.height),
            },
            shown: head.shown,
        })
    }

    /// The head's pixel at a place of the desktop.
    pub(super) fn spot(&self, point: Point) -> Option<Spot> {
        let head = self.heads.iter().find(|it| it.contains(point))?;
        Some(Spot {
            head: head.number,
            at: head.within(point),
        })
    }

    /// The place of a head's pixel on the desktop, if that head is in use.
    pub(super) fn place(&self, spot: Spot) -> Option<Point> {
        let head = self.heads.iter().find(|it| it.number == spot.head)?;
        head.native.contains(spot.at).then(|| Point {
            x: head.place.x.saturating_add(spot.at.x),
            y: head.place.y.saturating_add(spot.at.y),
        })
    }
}

async fn reach(vm: &Arc<Vm>, devices: &Devices) -> Result<Reach, ActError> {
    if devices.tablet.is_some() {
        return Ok(Reach::Tablet);
    }
    if !devices.is_qemu() {
        return Err(ActError::NoPointing {
            vm: vm.name().clone(),
            driver: devices.driver.clone(),
        });
    }
    // There are others that take positions, and that libvirt does not know of.
    let pointers: Vec<Pointer> = vm.pointers().await?;
    if pointers.iter().any(|it| it.absolute) {
        Ok(Reach::Tablet)
    } else if pointers.is_empty() {
        Err(ActError::NoMouse(vm.full_name()))
    } else {
        Ok(Reach::Mouse)
    }
}

/// The heads in use where the configuration puts them.
fn placed(vm: &Vm, sizes: &[(u32, ScreenSize)]) -> Result<Vec<Head>, ActError> {
    let places = vm.places();
    let head = |(number, native): (u32, ScreenSize), place| Head {
        number,
        place,
        native,
        shown: vm.shown(native),
    };
    // One head is the whole desktop, wherever it lies when there are others.
    if let [only] = sizes {
        return Ok(vec![head(*only, Point { x: 0, y: 0 })]);
    }
    let in_use: Vec<_> = sizes.iter().map(|(number, _)| *number).collect();
    if places.is_empty() {
        return Err(ActError::SeveralHeads {
            vm: vm.name().clone(),
            heads: in_use.len(),
        });
    }
    if !in_use.iter().map(|it| *it as usize).eq(0..places.len()) {
        return Err(ActError::HeadPlaces {
            vm: vm.name().clone(),
            places: places.len(),
            in_use,
        });
    }
    let heads: Vec<_> = sizes
        .iter()
        .zip(places)
        .map(|(size, place)| head(*size, *place))
        .collect();
    for (at, one) in heads.iter().enumerate() {
        if let Some(other) = heads[at + 1..].iter().find(|other| one.overlaps(other)) {
            return Err(ActError::HeadsOverlap {
                vm: vm.name().clone(),
                heads: [one.number, other.number],
                sizes: [one.native, other.native],
            });
        }
    }
    Ok(heads)
}

#[cfg(test)]
impl Desktop {
    /// One head alone, which a tablet spans.
    pub(super) fn of_one(native: ScreenSize, shown: ScreenSize) -> Self {
        Self {
            heads: vec![Head {
                number: 0,
                place: Point { x: 0, y: 0 },
                native,
                shown,
            }],
            meant: 0,
            reach: Reach::Tablet,
        }
    }
}
