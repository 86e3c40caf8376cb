//! Pressing and pointing: what goes down comes up, and nothing overtakes the keys.
//!
//! Every sequence that ends with a release is one blocking call, so that no cancel can cut it
//! in two. The pauses are what devices and toolkits need to see each event on its own. The one after
//! the last event delays no reply: whatever is sent next waits for it, as does the next look.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::{Bus, Devices, DomainState, Hypervisor, HypervisorError, InputEvent},
    model::{Chord, KeyCode, Point, ScreenSize},
    vm::{Vm, VmError},
};

use super::{
    ActError,
    plan::{ClickPlan, Stage},
};

/// Between events of the tablet. With none of it, 100 motions became 79 and a press with its
/// release vanished; 4 ms lost nothing. Twice that, for guests that are busy.
const GAP: Duration = Duration::from_millis(8);

/// How long a button stays down, and how long it then rests before the next press. libinput takes
/// a press within 25 ms of the one before, or of its release, for a worn button that bounces, and
/// drops it (`evdev-debounce.c`): with 8 ms each, a double click was a single one. A guest on a
/// busy host sees events late and then all at once: a rest of 60 ms still lost 3 of 600 there. But
/// what xterm is to take for a double click has to come within 250 ms.
const PRESS: Duration = Duration::from_millis(30);
const REST: Duration = Duration::from_millis(100);

/// Modifiers go down so long before a click and up so long after it, because keyboard and
/// tablet are not ordered against each other: the tablet was seen up to 90 ms behind.
const MODIFIER_LEAD: Duration = Duration::from_millis(30);
const MODIFIER_LAG: Duration = Duration::from_millis(100);

/// How long QEMU holds each key of a tap; a USB keyboard is asked for one event every 8 ms. The
/// guest's kernel keeps 64 events for whoever reads a device, which is 21 keys down or up
/// (`drivers/input/evdev.c`), and drops them all where its X server or compositor comes later. With
/// 1 ms that happened in 4 of 16 texts of 2,000 characters on a busy host, with 2 ms in none of 12.
const HOLD: Duration = Duration::from_millis(2);
const HOLD_USB: Duration = Duration::from_millis(8);

/// What the PS/2 keyboard's queue holds; QEMU drops the rest without a word. A key that goes down
/// and up takes two bytes of it, and four where it is one of those that came after the PC's first
/// keyboard (`hw/input/ps2.c`).
const QUEUE_BYTES: usize = 16;
const FIRST_LATER_KEY: KeyCode = KeyCode(96);

/// For how long a guest may leave keys unread: while text is typed, and between single chords, which
/// are also meant for firmware that does not listen yet.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(5);
pub(super) const TAP_READ_LIMIT: Duration = Duration::from_millis(100);

/// A release is tried so often before it is given up.
const RELEASE_TRIES: usize = 3;

/// How long each key of a tap is held on a VM with this hardware: as short as loses none.
pub(crate) fn hold(devices: &Devices) -> Duration {
    if devices.keyboards.contains(&Bus::Usb) {
        HOLD_USB
    } else {
        HOLD
    }
}

/// The hands of one call on one VM.
#[derive(Debug)]
pub(super) struct Hands {
    vm: Arc<Vm>,
    native: Option<ScreenSize>,
    hold: Duration,
}

impl Hands {
    pub(super) fn new(vm: &Arc<Vm>, stage: &Stage) -> Self {
        Self {
            vm: Arc::clone(vm),
            native: stage.screen.map(|screen| screen.native),
            hold: stage.devices.as_deref().map_or(HOLD, hold),
        }
    }

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
                let before = press_modifiers(hypervisor, vm, &plan.modifiers)
                    .and_then(|()| send_all(hypervisor, vm, &motion));
                let mut outcome = match before {
                    Ok(()) => press_button(hypervisor, vm, &plan),
                    Err(error) => Outcome {
                        done: Err(error),
                        released: Ok(()),
                    },
                };
                if !plan.modifiers.is_empty() {
                    sleep(MODIFIER_LAG);
                }
                let ups = key_events(&plan.modifiers, false);
                outcome.released = outcome.released.and(release(hypervisor, vm, &ups));
                Ok(outcome)
            })
            .await?;
        if click.at.is_some() && outcome.done.is_ok() {
            self.vm.memory().pointer = click.at;
        }
        self.settle(outcome)
    }

    /// Plays chords as fast as is safe; answers how many were played before a failure. Waits up to
    /// `patience` for the guest to read them, and then goes on with a single chord, but not with
    /// several.
    pub(super) async fn play(
        &mut self,
        chords: Vec<Chord>,
        patience: Duration,
    ) -> Result<(usize, Option<HypervisorError>), VmError> {
        let hold = self.hold;
        let keys: usize = chords.iter().map(|chord| chord.keys().len()).sum();
        let extra = play_time(keys, hold) + patience;
        self.vm
            .call(extra, move |hypervisor, vm| {
                // Unknown until all went well. A text asks anew, so that none of it is lost to a guest
                // that has ceased to listen.
                let known = vm.memory().keys_unread.take();
                let mut unread = known.filter(|_| chords.len() == 1);
                for (at, chord) in chords.iter().enumerate() {
                    // QEMU's queue of keys to play drops without a word when it is full, releases
                    // too: so it never holds more than one chord.
                    wait_for_input(vm);
                    let bytes = queue_bytes(chord);
                    if unread.is_none_or(|unread| unread + bytes > QUEUE_BYTES) {
                        unread = match wait_until_read(hypervisor, vm, patience) {
                            Ok(()) => Some(0),
                            Err(error) if chords.len() > 1 => return Ok((at, Some(error))),
                            Err(_) => None,
                        };
                    }
                    unread = unread.map(|unread| unread + bytes);
                    if let Err(error) = hypervisor.send_keys(vm.name(), chord, hold) {
                        return Ok((at, Some(error)));
                    }
                    vm.memory().input_end = Instant::now() + play_time(chord.keys().len(), hold);
                }
                vm.memory().keys_unread = unread;
                Ok((chords.len(), None))
            })
            .await
    }

    /// Whether the VM has stopped meanwhile: QEMU drops the keys of one that is paused, and says
    /// nothing.
    pub(super) async fn stopped(&self) -> Result<Option<HypervisorError>, VmError> {
        self.vm.input_arrived().await;
        match self.vm.ready_now().await {
            Ok(_) => Ok(None),
            Err(VmError::Hypervisor(error)) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Takes note that a key of these chords may be down: the VM stopped while they were played.
    pub(super) fn may_be_down(&self, chords: &[Chord]) {
        let mut memory = self.vm.memory();
        for chord in chords {
            for up in key_events(chord.keys(), false) {
                if !memory.unreleased.contains(&up) {
                    memory.unreleased.push(up);
                }
            }
        }
    }

    /// Lets go of what an earlier act had to leave down.
    pub(super) async fn let_go(&self) -> Result<(), ActError> {
        {
            let mut memory = self.vm.memory();
            if memory.unreleased.is_empty() {
                return Ok(());
            }
            memory.keys_unread = None;
        }
        let call = |hypervisor: &dyn Hypervisor, vm: &Vm| {
            loop {
                // Few at a time: a keyboard's queue drops what is too much for it.
                let ups = vm.memory().unreleased.clone();
                let Some(ups) = ups.chunks(QUEUE_BYTES / 4).next() else {
                    return Ok(());
                };
                try_release(hypervisor, vm, ups)?;
                // Only now: what failed is tried again by the next act.
                vm.memory().unreleased.drain(..ups.len());
                wait_until_read(hypervisor, vm, TAP_READ_LIMIT).or_else(|error| match error {
                    HypervisorError::KeysUnread { .. } => Ok(()),
                    error => Err(error),
                })?;
            }
        };
        Ok(self.vm.call(Duration::ZERO, call).await?)
    }

    /// Holds a chord down for a time, or until the call is cancelled.
    pub(super) async fn hold(
        &mut self,
        chord: &Chord,
        hold: Duration,
        cancel: &CancellationToken,
    ) -> Result<(), ActError> {
        let downs = key_events(chord.keys(), true);
        let pressed = self
            .vm
            .call(Duration::ZERO, move |hypervisor, vm| {
                wait_for_input(vm);
                vm.memory().keys_unread = None;
                Ok(hypervisor.input(vm.name(), &downs))
            })
            .await;
        let cancelled = matches!(pressed, Ok(Ok(())))
            && tokio::select! {
                () = cancel.cancelled() => true,
                () = tokio::time::sleep(hold) => false,
            };
        // Even where the press failed: part of it may have arrived.
        let ups = key_events(chord.keys(), false);
        let release = move |hypervisor: &dyn Hypervisor, vm: &Vm| Ok(release(hypervisor, vm, &ups));
        let released = match self.vm.call(Duration::ZERO, release.clone()).await {
            Err(VmError::Hung(name)) => {
                // The press itself hangs, and may yet arrive.
                self.vm.call_when_free(release);
                return Err(VmError::Hung(name).into());
            }
            outcome => outcome?,
        };
        let done = pressed?;
        self.settle(Outcome { done, released })?;
        if cancelled {
            return Err(ActError::Cancelled);
        }
        Ok(())
    }

    /// A failed release is the worse news of the two, but where nothing can have gone down.
    fn settle(&self, Outcome { done, released }: Outcome) -> Result<(), ActError> {
        if let Err(error @ HypervisorError::Unsupported { .. }) = done {
            return Err(VmError::from(error).into());
        }
        match released {
            Ok(()) => {}
            // Nothing is down in a VM that is gone.
            Err(
                error @ HypervisorError::NotRunning {
                    state: DomainState::Shutoff | DomainState::Crashed,
                    ..
                },
            ) => return Err(VmError::from(error).into()),
            Err(source) => {
                let vm = self.vm.name().clone();
                return Err(ActError::MaybeDown { vm, source });
            }
        }
        done.map_err(|error| VmError::from(error).into())
    }

    /// The positions that put the pointer to a place. A guest that warped its pointer sees no
    /// event in the value that the tablet has already, so where it may be that value, the
    /// pointer steps aside first.
    fn motion(&self, to: Point) -> Vec<InputEvent> {
        // Plans with a point are made only where the screen's size is known.
        let Some(native) = self.native else {
            return vec![];
        };
        let position = |at: Point| {
            let (x, y) = native.axes(at);
            InputEvent::Position { x, y }
        };
        let last = self.vm.memory().pointer;
        if last.is_some_and(|last| last != to) {
            return vec![position(to)];
        }
        let aside = Point {
            x: if to.x > 0 { to.x - 1 } else { to.x + 1 },
            y: to.y,
        };
        vec![position(aside), position(to)]
    }
}

/// How a sequence went, and whether all that it pressed came up again.
struct Outcome {
    done: Result<(), HypervisorError>,
    released: Result<(), HypervisorError>,
}

/// QEMU plays each key's press and release for one hold.
fn play_time(keys: usize, hold: Duration) -> Duration {
    hold * u32::try_from(2 * keys).unwrap_or(u32::MAX)
}

fn wait_for_input(vm: &Vm) {
    let end = vm.memory().input_end;
    sleep(end.saturating_duration_since(Instant::now()));
}

/// To be said after each event of the tablet.
fn begin_gap(vm: &Vm) {
    vm.memory().input_end = Instant::now() + GAP;
}

fn wait_for_buttons(vm: &Vm) {
    let end = vm.memory().buttons_rested;
    sleep(end.saturating_duration_since(Instant::now()));
}

fn queue_bytes(chord: &Chord) -> usize {
    let bytes = |key: &KeyCode| if *key < FIRST_LATER_KEY { 2 } else { 4 };
    chord.keys().iter().map(bytes).sum()
}

/// Waits until the guest has read all keys. A guest whose processors are starved on a busy host takes
/// longer for it than any fixed pace allows.
fn wait_until_read(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    patience: Duration,
) -> Result<(), HypervisorError> {
    let end = Instant::now() + patience;
    while hypervisor.keys_unread(vm.name())? {
        if Instant::now() > end {
            return Err(HypervisorError::KeysUnread {
                vm: vm.name().clone(),
            });
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn key_events(keys: &[KeyCode], down: bool) -> Vec<InputEvent> {
    let event = |key: &KeyCode| InputEvent::Key { key: *key, down };
    if down {
        keys.iter().map(event).collect()
    } else {
        keys.iter().rev().map(event).collect()
    }
}

fn press_modifiers(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    modifiers: &[KeyCode],
) -> Result<(), HypervisorError> {
    if modifiers.is_empty() {
        return Ok(());
    }
    wait_for_input(vm);
    vm.memory().keys_unread = None;
    hypervisor.input(vm.name(), &key_events(modifiers, true))?;
    sleep(MODIFIER_LEAD);
    Ok(())
}

fn press_button(hypervisor: &dyn Hypervisor, vm: &Vm, click: &ClickPlan) -> Outcome {
    let button = |down| InputEvent::Button {
        button: click.button,
        down,
    };
    let mut outcome = Outcome {
        done: Ok(()),
        released: Ok(()),
    };
    for _ in 0..click.count {
        wait_for_input(vm);
        wait_for_buttons(vm);
        // Released even where the press failed: its answer may have got lost, not the event.
        outcome.done = hypervisor.input(vm.name(), &[button(true)]);
        sleep(PRESS);
        outcome.released = release(hypervisor, vm, &[button(false)]);
        // Only the next press has to wait for it, in this call or a later one.
        vm.memory().buttons_rested = Instant::now() + REST;
        begin_gap(vm);
        if outcome.done.is_err() || outcome.released.is_err() {
            break;
        }
    }
    outcome
}

/// Each event of the tablet in a call of its own, with a gap after it.
fn send_all(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    events: &[InputEvent],
) -> Result<(), HypervisorError> {
    for event in events {
        wait_for_input(vm);
        let sent = hypervisor.input(vm.name(), &[*event]);
        begin_gap(vm);
        sent?;
    }
    Ok(())
}

fn release(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    ups: &[InputEvent],
) -> Result<(), HypervisorError> {
    if ups.is_empty() {
        return Ok(());
    }
    let outcome = try_release(hypervisor, vm, ups);
    if matches!(
        outcome,
        Err(HypervisorError::NotRunning { .. }
            | HypervisorError::Connect { .. }
            | HypervisorError::Denied { .. }
            | HypervisorError::Lost { .. })
    ) {
        vm.memory().unreleased.extend_from_slice(ups);
    }
    outcome
}

fn try_release(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    ups: &[InputEvent],
) -> Result<(), HypervisorError> {
    let mut outcome = hypervisor.input(vm.name(), ups);
    for _ in 1..RELEASE_TRIES {
        if outcome.is_ok() {
            break;
        }
        sleep(Duration::from_millis(50));
        outcome = hypervisor.input(vm.name(), ups);
    }
    outcome
}
