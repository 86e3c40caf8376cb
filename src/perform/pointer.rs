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
    desktop::Reach,
    detour::{self, Feature},
    hands::{
        Hands, MODIFIER_LAG, MODIFIER_LEAD, Outcome, key_events, press_modifiers, release, send,
        settle, wait_for_input, wait_for_tablet,
    },
    motion,
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

/// Between steps of a mouse: with it they stay as slow as `motion` wants them.
const MOUSE_GAP: Duration = Duration::from_millis(10);

/// After so many steps of a mouse a cancel is looked at.
const PORTION: usize = 64;

/// How long the pointer rests before a drag lets go. The program below it has to answer that it would
/// take what is dragged (XDND's status message), or nothing is dropped.
const DROP_REST: Duration = Duration::from_millis(100);

/// The longest that a drag does not look whether it is cancelled.
const STEP: Duration = Duration::from_millis(50);

/// Waits so long, or until `stop`.
fn rest(mut remaining: Duration, stop: &CancellationToken) {
    while !remaining.is_zero() && !stop.is_cancelled() {
        let part = remaining.min(STEP);
        sleep(part);
        remaining -= part;
    }
}

impl Hands {
    pub(super) async fn move_to(
        &mut self,
        to: Point,
        cancel: &CancellationToken,
    ) -> Result<(), ActError> {
        let motion = self.approach(Some(to), cancel).await?;
        self.send(motion).await?;
        self.arrived(Some(to));
        Ok(())
    }

    /// Moves a mouse by an offset, which brings it to a place that may be known.
    pub(super) async fn move_by(
        &mut self,
        offset: Point,
        to: Option<Point>,
        cancel: &CancellationToken,
    ) -> Result<(), ActError> {
        self.vm.memory().pointer = None;
        self.walk(&motion::by(offset), cancel).await?;
        self.arrived(to);
        Ok(())
    }

    pub(super) async fn click(
        &mut self,
        click: &ClickPlan,
        cancel: &CancellationToken,
    ) -> Result<(), ActError> {
        let motion = self.approach(click.at, cancel).await?;
        let plan = click.clone();
        let outcome = self
            .vm
            .call(MODIFIER_LEAD + 2 * MODIFIER_LAG, move |hypervisor, vm| {
                let press = || press_button(hypervisor, vm, &plan);
                let feature = Feature::Button(plan.button);
                let press = || detour::through(hypervisor, vm, feature, press);
                let modifiers = &plan.modifiers;
                Ok(with_modifiers(hypervisor, vm, modifiers, &motion, press))
            })
            .await?;
        if outcome.done.is_ok() {
            self.arrived(click.at);
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
        let motion = self.approach(drag.path.first().copied(), cancel).await?;
        let way = self.way(drag);
        let (plan, stop, progress) = (drag.clone(), cancel.clone(), progress.clone());
        let steps: usize = way.iter().map(Vec::len).sum();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let extra = MODIFIER_LEAD + 2 * MODIFIER_LAG + DROP_REST + 2 * drag.duration;
        let extra = extra.saturating_add(MOUSE_GAP.saturating_mul(2).saturating_mul(steps));
        let (outcome, arrived) = self
            .vm
            .call(extra, move |hypervisor, vm| {
                let pace = plan.duration / u32::try_from(way.len()).unwrap_or(u32::MAX).max(1);
                let mut arrived = false;
                let carry = || {
                    let press = |down| {
                        let button = plan.button;
                        InputEvent::Button { button, down }
                    };
                    wait_for_input(vm);
                    wait_for_buttons(vm);
                    let mut done = send(hypervisor, vm, &[press(true)]);
                    begin_rest(vm);
                    for (at, motion) in way.iter().enumerate() {
                        if done.is_err() || stop.is_cancelled() {
                            break;
                        }
                        done = send_all(hypervisor, vm, motion);
                        rest(pace, &stop);
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
                let feature = Feature::Button(plan.button);
                let carry = || detour::through(hypervisor, vm, feature, carry);
                let outcome = with_modifiers(hypervisor, vm, &plan.modifiers, &motion, carry);
                Ok((outcome, arrived))
            })
            .await?;
        settle(&self.vm, outcome)?;
        if !arrived {
            return Err(ActError::Cancelled);
        }
        self.arrived(drag.path.last().copied());
        Ok(())
    }

    pub(super) async fn scroll(
        &mut self,
        scroll: &ScrollPlan,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ActError> {
        let motion = self.approach(scroll.at, cancel).await?;
        let (plan, stop, progress) = (scroll.clone(), cancel.clone(), progress.clone());
        let extra = MODIFIER_LEAD + 2 * MODIFIER_LAG + (4 * GAP + PRESS) * scroll.amount;
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
                let feature = Feature::Wheel(plan.direction);
                let turn = || detour::through(hypervisor, vm, feature, turn);
                let outcome = with_modifiers(hypervisor, vm, &plan.modifiers, &motion, turn);
                Ok((outcome, turned))
            })
            .await?;
        let done = outcome.done.is_ok();
        settle(&self.vm, outcome)?;
        if done {
            self.arrived(scroll.at);
        }
        if turned < scroll.amount {
            return Err(ActError::Cancelled);
        }
        Ok(())
    }

    /// The events that put the pointer where an act is to begin, to be sent with it. A mouse takes so long
    /// for that that it goes there at once, where a cancel can stop it, and nothing is left to send.
    async fn approach(
        &mut self,
        at: Option<Point>,
        cancel: &CancellationToken,
    ) -> Result<Vec<InputEvent>, ActError> {
        // Plans with a point are made only where the desktop is known.
        let (Some(to), Some(desktop)) = (at, &self.desktop) else {
            return Ok(vec![]);
        };
        let (pointer, tablet) = {
            let memory = self.vm.memory();
            (memory.pointer, memory.tablet)
        };
        let told = pointer.and(tablet);
        let motion = motion::put(desktop, told, to);
        let reach = desktop.reach();
        // Should the motion fail, nobody knows where it ended.
        self.vm.memory().pointer = None;
        match reach {
            Reach::Tablet => Ok(motion),
            Reach::Mouse => {
                self.walk(&motion, cancel).await?;
                Ok(vec![])
            }
        }
    }

    /// What moves the pointer along a drag's path, step by step.
    fn way(&self, drag: &DragPlan) -> Vec<Vec<InputEvent>> {
        let (Some(desktop), Some(first)) = (&self.desktop, drag.path.first()) else {
            return vec![];
        };
        let mut from = *first;
        let step = |to: Point| {
            let motion = motion::leg(desktop, from, to);
            from = to;
            motion
        };
        let points = motion::along(&drag.path, drag.duration);
        points.into_iter().map(step).collect()
    }

    async fn walk(
        &self,
        motion: &[InputEvent],
        cancel: &CancellationToken,
    ) -> Result<(), ActError> {
        for portion in motion.chunks(PORTION) {
            if cancel.is_cancelled() {
                return Err(ActError::Cancelled);
            }
            self.send(portion.to_vec()).await?;
        }
        Ok(())
    }

    async fn send(&self, events: Vec<InputEvent>) -> Result<(), ActError> {
        let send = move |hypervisor: &dyn Hypervisor, vm: &Vm| send_all(hypervisor, vm, &events);
        Ok(self.vm.call(Duration::ZERO, send).await?)
    }

    /// The pointer is at a place now, if the act had one.
    fn arrived(&self, at: Option<Point>) {
        if let (Some(at), Some(desktop)) = (at, &self.desktop) {
            self.vm.memory().pointer = desktop.spot(at);
        }
    }
}

/// Where this server last put the pointer, in pixels of the picture as it would be shown now.
pub async fn pointer_position(vm: &Arc<Vm>) -> Result<Point, ActError> {
    // A start of the VM forgets where it was.
    vm.domain().await?;
    let unknown = || ActError::NoPosition(vm.name().clone());
    let spot = vm.memory().pointer.ok_or_else(unknown)?;
    let native = capture::native_size(vm, spot.head).await?;
    if !native.contains(spot.at) {
        return Err(unknown());
    }
    Ok(native.shown_point(vm.shown(native), spot.at))
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
    if !modifiers.is_empty() {
        wait_for_tablet(vm);
    }
    let mut outcome = match before {
        Ok(()) => act(),
        Err(error) => Outcome {
            done: Err(error),
            released: Ok(()),
        },
    };
    if !modifiers.is_empty() {
        wait_for_tablet(vm);
        sleep(MODIFIER_LAG);
    }
    let ups = key_events(modifiers, false);
    outcome.released = outcome.released.and(release(hypervisor, vm, &ups));
    outcome
}

/// To be said after each event of a button or the wheel.
///
/// Nothing that may depend on it overtakes it while the tablet wakes.
pub(super) fn begin_rest(vm: &Vm) {
    begin_gap(vm, GAP);
    let mut memory = vm.memory();
    let awake_from = memory.tablet_nap.awake_from();
    memory.input_end = memory.input_end.max(awake_from);
    memory.buttons_rested = awake_from.max(Instant::now() + REST);
}

/// To be said after each event of a pointing device.
fn begin_gap(vm: &Vm, gap: Duration) {
    let now = Instant::now();
    let mut memory = vm.memory();
    // Else they went to another device.
    if memory.switched_from.is_none() {
        memory.tablet_nap.used(now, now);
    }
    memory.input_end = memory.input_end.max(now + gap);
}

pub(super) fn wait_for_buttons(vm: &Vm) {
    let end = vm.memory().buttons_rested;
    sleep(end.saturating_duration_since(Instant::now()));
}

/// Wakes a tablet that may sleep, by an event that changes nothing.
fn wake_tablet(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    event: InputEvent,
) -> Result<(), HypervisorError> {
    let may_sleep = {
        let memory = vm.memory();
        memory.switched_from.is_none() && memory.tablet_nap.may_sleep(Instant::now())
    };
    if may_sleep {
        wait_for_input(vm);
        let woken = hypervisor.input(vm.name(), &[event]);
        begin_gap(vm, GAP);
        woken?;
    }
    wait_for_tablet(vm);
    Ok(())
}

fn press_button(hypervisor: &dyn Hypervisor, vm: &Vm, click: &ClickPlan) -> Outcome {
    let button = |down| InputEvent::Button {
        button: click.button,
        down,
    };
    let mut outcome = Outcome::fine();
    if click.count > 1 {
        // All of them have to come at their times.
        outcome.done = wake_tablet(hypervisor, vm, button(false));
        if outcome.done.is_err() {
            return outcome;
        }
    }
    for _ in 0..click.count {
        wait_for_input(vm);
        wait_for_buttons(vm);
        // Released even where the press failed: its answer may have got lost, not the event.
        outcome.done = send(hypervisor, vm, &[button(true)]);
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
    if scroll.direction.is_sideways() {
        // The PS/2 mouse keeps no more than four turns for a guest that is busy.
        sleep(PRESS);
    }
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
        let is_step = matches!(event, InputEvent::Motion { .. });
        if is_step || matches!(event, InputEvent::Position { .. }) {
            wait_for_buttons(vm);
            // It would take the place of the one before, which woke the tablet.
            wait_for_tablet(vm);
        }
        if let InputEvent::Position { x, y } = *event {
            vm.memory().tablet = Some((x, y));
        }
        let sent = send(hypervisor, vm, &[*event]);
        begin_gap(vm, if is_step { MOUSE_GAP } else { GAP });
        sent?;
    }
    Ok(())
}
