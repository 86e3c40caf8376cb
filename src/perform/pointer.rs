//! The pointer: motion, clicks, drags and the wheel.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    capture,
    hypervisor::{Hypervisor, HypervisorError, InputEvent},
    model::{KeyCode, Point},
    vm::Vm,
};

use super::{
    ActError, Progress,
    hands::{
        Hands, MODIFIER_LAG, MODIFIER_LEAD, Outcome, key_events, press_modifiers, release, settle,
        wait_for_input,
    },
    plan::{ClickPlan, DragPlan, ScrollPlan},
};

/// Between events of the tablet. With none of it, 100 motions became 79 and a press with its
/// release vanished; 4 ms lost nothing. Twice that, for guests that are busy.
const GAP: Duration = Duration::from_millis(8);

/// How long a button stays down, and how long it then rests before the next press. libinput takes
/// a press within 25 ms of the one before, or of its release, for a worn button that bounces, and
/// drops it (`evdev-debounce.c`): with 8 ms each, a double click was a single one. A guest on a
/// busy host sees events late and then all at once: a rest of 60 ms still lost 3 of 600 there. But
/// what xterm is to take for a double click has to come within 250 ms.
///
/// Motion waits as long: QEMU's USB tablet adds a motion to the event before it that the guest has not
/// read yet (`hid_pointer_sync` in `hw/input/hid.c`), so that a press, a release or a turn of the wheel
/// was seen at the place where the pointer went next. It was up to 90 ms behind.
pub(super) const PRESS: Duration = Duration::from_millis(30);
pub(super) const REST: Duration = Duration::from_millis(100);

/// A drag takes a step so often, and has at least so many steps: toolkits take a press for the begin of
/// a drag only once they have seen the pointer move some pixels, and the rest of the way after that.
const STEP: Duration = Duration::from_millis(16);
const MIN_STEPS: u32 = 5;

/// How long the pointer rests before a drag lets go. The program below it has to answer that it would
/// take what is dragged (XDND's status message), or nothing is dropped.
const DROP_REST: Duration = Duration::from_millis(100);

impl Hands {
    pub(super) async fn move_to(&mut self, to: Point) -> Result<(), ActError> {
        let motion = self.motion(to);
        // Should the motion fail, nobody knows where it ended.
        self.vm.memory().pointer = None;
        self.vm
            .call(Duration::ZERO, move |hypervisor, vm| {
                send_all(hypervisor, vm, &motion)
            })
            .await?;
        self.vm.memory().pointer = Some(to);
        Ok(())
    }

    pub(super) async fn click(&mut self, click: &ClickPlan) -> Result<(), ActError> {
        let motion = click.at.map(|at| self.motion(at)).unwrap_or_default();
        if click.at.is_some() {
            self.vm.memory().pointer = None;
        }
        let plan = click.clone();
        let outcome = self
            .vm
            .call(MODIFIER_LEAD + MODIFIER_LAG, move |hypervisor, vm| {
                let press = || press_button(hypervisor, vm, &plan);
                let modifiers = &plan.modifiers;
                Ok(with_modifiers(hypervisor, vm, modifiers, &motion, press))
            })
            .await?;
        if click.at.is_some() && outcome.done.is_ok() {
            self.vm.memory().pointer = click.at;
        }
        settle(&self.vm, outcome)
    }

    /// A cancel on the way lets go where the pointer is then.
    pub(super) async fn drag(
        &mut self,
        drag: &DragPlan,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ActError> {
        let motion = self.motion(drag.from);
        self.vm.memory().pointer = None;
        let (plan, native) = (drag.clone(), self.native);
        let (stop, progress) = (cancel.clone(), progress.clone());
        let extra = MODIFIER_LEAD + MODIFIER_LAG + DROP_REST + 2 * drag.duration;
        let (outcome, arrived) = self
            .vm
            .call(extra, move |hypervisor, vm| {
                let way = way(plan.from, plan.to, steps(&plan));
                let pace = plan.duration / u32::try_from(way.len()).unwrap_or(u32::MAX).max(1);
                let mut arrived = false;
                let carry = || {
                    let press = |down| {
                        let button = plan.button;
                        InputEvent::Button { button, down }
                    };
                    wait_for_input(vm);
                    wait_for_buttons(vm);
                    let mut done = hypervisor.input(vm.name(), &[press(true)]);
                    begin_rest(vm);
                    for (at, point) in way.iter().enumerate() {
                        if done.is_err() || stop.is_cancelled() {
                            break;
                        }
                        let motion = native.map(|native| position(native.axes(*point)));
                        done = send_all(hypervisor, vm, motion.as_slice());
                        sleep(pace);
                        progress(at as u64 + 1, way.len() as u64);
                        arrived = done.is_ok() && at + 1 == way.len();
                    }
                    if arrived {
                        sleep(DROP_REST);
                    }
                    wait_for_input(vm);
                    wait_for_buttons(vm);
                    let released = release(hypervisor, vm, &[press(false)]);
                    begin_rest(vm);
                    Outcome { done, released }
                };
                let outcome = with_modifiers(hypervisor, vm, &plan.modifiers, &motion, carry);
                Ok((outcome, arrived))
            })
            .await?;
        settle(&self.vm, outcome)?;
        if !arrived {
            return Err(ActError::Cancelled);
        }
        self.vm.memory().pointer = Some(drag.to);
        Ok(())
    }

    pub(super) async fn scroll(
        &mut self,
        scroll: &ScrollPlan,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ActError> {
        let motion = scroll.at.map(|at| self.motion(at)).unwrap_or_default();
        if scroll.at.is_some() {
            self.vm.memory().pointer = None;
        }
        let (plan, stop, progress) = (scroll.clone(), cancel.clone(), progress.clone());
        let extra = MODIFIER_LEAD + MODIFIER_LAG + 4 * GAP * scroll.amount;
        let (outcome, turned) = self
            .vm
            .call(extra, move |hypervisor, vm| {
                let mut turned = 0;
                let turn = || {
                    let mut outcome = Outcome::fine();
                    while turned < plan.amount
                        && outcome.done.is_ok()
                        && outcome.released.is_ok()
                        && !stop.is_cancelled()
                    {
                        outcome = turn_wheel(hypervisor, vm, &plan);
                        turned += 1;
                        progress(turned.into(), plan.amount.into());
                    }
                    outcome
                };
                let outcome = with_modifiers(hypervisor, vm, &plan.modifiers, &motion, turn);
                Ok((outcome, turned))
            })
            .await?;
        let done = outcome.done.is_ok();
        settle(&self.vm, outcome)?;
        if scroll.at.is_some() && done {
            self.vm.memory().pointer = scroll.at;
        }
        if turned < scroll.amount {
            return Err(ActError::Cancelled);
        }
        Ok(())
    }

    /// The positions that put the pointer to a place. A guest that warped its pointer sees no
    /// event in the value that the tablet has already, so where it may be that value, the
    /// pointer steps aside first.
    fn motion(&self, to: Point) -> Vec<InputEvent> {
        // Plans with a point are made only where the screen's size is known.
        let Some(native) = self.native else {
            return vec![];
        };
        let last = self.vm.memory().pointer;
        if last.is_some_and(|last| last != to) {
            return vec![position(native.axes(to))];
        }
        let aside = Point {
            x: if to.x > 0 { to.x - 1 } else { to.x + 1 },
            y: to.y,
        };
        vec![position(native.axes(aside)), position(native.axes(to))]
    }
}

/// Where this server last put the pointer, in pixels of the picture as it would be shown now.
pub async fn pointer_position(vm: &Arc<Vm>) -> Result<Point, ActError> {
    // A start of the VM forgets where it was.
    vm.domain().await?;
    let unknown = || ActError::NoPosition(vm.name().clone());
    let point = vm.memory().pointer.ok_or_else(unknown)?;
    let native = capture::native_size(vm).await?;
    if !native.contains(point) {
        return Err(unknown());
    }
    Ok(native.shown_point(vm.shown(native), point))
}

/// How many steps a drag has; none is shorter than a pixel.
fn steps(drag: &DragPlan) -> u32 {
    let wanted = drag.duration.as_millis() / STEP.as_millis();
    let longest = (drag.to.x.abs_diff(drag.from.x)).max(drag.to.y.abs_diff(drag.from.y));
    u32::try_from(wanted)
        .unwrap_or(u32::MAX)
        .max(MIN_STEPS)
        .min(longest.max(1))
}

/// The points of a straight way without its first, the last one exact.
fn way(from: Point, to: Point, steps: u32) -> Vec<Point> {
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

fn position((x, y): (u32, u32)) -> InputEvent {
    InputEvent::Position { x, y }
}

/// Presses modifiers, moves the pointer, does what it is about, and lets go of the modifiers, whatever
/// went wrong before.
fn with_modifiers(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    modifiers: &[KeyCode],
    motion: &[InputEvent],
    act: impl FnOnce() -> Outcome,
) -> Outcome {
    let before =
        press_modifiers(hypervisor, vm, modifiers).and_then(|()| send_all(hypervisor, vm, motion));
    let mut outcome = match before {
        Ok(()) => act(),
        Err(error) => Outcome {
            done: Err(error),
            released: Ok(()),
        },
    };
    if !modifiers.is_empty() {
        sleep(MODIFIER_LAG);
    }
    let ups = key_events(modifiers, false);
    outcome.released = outcome.released.and(release(hypervisor, vm, &ups));
    outcome
}

/// To be said after each event of a button or the wheel.
pub(super) fn begin_rest(vm: &Vm) {
    vm.memory().buttons_rested = Instant::now() + REST;
    begin_gap(vm);
}

/// To be said after each event of the tablet.
fn begin_gap(vm: &Vm) {
    vm.memory().input_end = Instant::now() + GAP;
}

pub(super) fn wait_for_buttons(vm: &Vm) {
    let end = vm.memory().buttons_rested;
    sleep(end.saturating_duration_since(Instant::now()));
}

fn press_button(hypervisor: &dyn Hypervisor, vm: &Vm, click: &ClickPlan) -> Outcome {
    let button = |down| InputEvent::Button {
        button: click.button,
        down,
    };
    let mut outcome = Outcome::fine();
    for _ in 0..click.count {
        wait_for_input(vm);
        wait_for_buttons(vm);
        // Released even where the press failed: its answer may have got lost, not the event.
        outcome.done = hypervisor.input(vm.name(), &[button(true)]);
        sleep(PRESS);
        outcome.released = release(hypervisor, vm, &[button(false)]);
        // Only the next press or motion has to wait for it, in this call or a later one.
        begin_rest(vm);
        if outcome.done.is_err() || outcome.released.is_err() {
            break;
        }
    }
    outcome
}

/// One notch. Each of its two events in a call of its own: together they could vanish.
fn turn_wheel(hypervisor: &dyn Hypervisor, vm: &Vm, scroll: &ScrollPlan) -> Outcome {
    let wheel = |down| {
        let direction = scroll.direction;
        InputEvent::Wheel { direction, down }
    };
    let done = send_all(hypervisor, vm, &[wheel(true)]);
    wait_for_input(vm);
    let released = release(hypervisor, vm, &[wheel(false)]);
    begin_rest(vm);
    Outcome { done, released }
}

/// Each event of the tablet in a call of its own, with a gap after it.
fn send_all(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    events: &[InputEvent],
) -> Result<(), HypervisorError> {
    for event in events {
        wait_for_input(vm);
        if matches!(event, InputEvent::Position { .. }) {
            wait_for_buttons(vm);
        }
        let sent = hypervisor.input(vm.name(), &[*event]);
        begin_gap(vm);
        sent?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Button;

    fn drag(from: (i32, i32), to: (i32, i32), ms: u64) -> DragPlan {
        let point = |(x, y)| Point { x, y };
        DragPlan {
            from: point(from),
            to: point(to),
            button: Button::Left,
            modifiers: vec![],
            duration: Duration::from_millis(ms),
        }
    }

    #[test]
    fn a_way_has_steps_enough_and_none_twice() {
        let cases = [
            (drag((0, 0), (100, 50), 0), 5),
            (drag((0, 0), (100, 50), 160), 10),
            (drag((0, 0), (100, 50), 10_000), 100),
            (drag((7, 7), (5, 7), 300), 2),
            (drag((7, 7), (7, 8), 0), 1),
            (drag((1919, 1079), (0, 0), 320), 20),
        ];
        for (drag, expected) in cases {
            assert_eq!(steps(&drag), expected, "{drag:?}");
            let mut way = way(drag.from, drag.to, expected);
            assert_eq!(way.len(), expected as usize);
            assert_eq!(way.last(), Some(&drag.to));
            assert!(!way.contains(&drag.from));
            way.dedup();
            assert_eq!(way.len(), expected as usize, "{drag:?}");
        }
        let points = way(Point { x: 10, y: 0 }, Point { x: 0, y: 4 }, 4);
        let points: Vec<_> = points.iter().map(ToString::to_string).collect();
        assert_eq!(points, ["8,1", "5,2", "3,3", "0,4"]);
    }
}
