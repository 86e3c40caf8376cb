//! What every pressing and pointing has in common: what goes down comes up, and nothing overtakes
//! what was sent before.
//!
//! Every sequence that ends with a release is one blocking call, so that no cancel can cut it
//! in two; a long one looks for a cancel itself. The pauses are what devices and toolkits need to see
//! each event on its own. The one after the last event delays no reply: whatever is sent next waits
//! for it, as does the next look.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    hypervisor::{Bus, Devices, DomainState, Hypervisor, HypervisorError, InputEvent},
    model::KeyCode,
    vm::{Memory, Vm, VmError},
};

use super::{
    ActError,
    desktop::Desktop,
    detour::{self, Feature},
    error::{is_left_to_next_act, passes},
    keys::{self, QUEUE_BYTES, TAP_READ_LIMIT, queue_bytes, wait_until_read},
    pointer::{begin_rest, wait_for_buttons},
    stage::Stage,
};

/// Modifiers go down so long before a click and up so long after it, because keyboard and
/// tablet are not ordered against each other: the tablet was seen up to 90 ms behind.
pub(super) const MODIFIER_LEAD: Duration = Duration::from_millis(30);
pub(super) const MODIFIER_LAG: Duration = Duration::from_millis(100);

/// A release is tried so often before it is given up.
const RELEASE_TRIES: usize = 3;

/// So many keys that go down, or up, find room in the keyboard's queue, whichever they are.
const KEYS_AT_ONCE: usize = QUEUE_BYTES / 4;

/// The hands of one call on one VM. How they press keys is in `keys`, how they point in `pointer`.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) vm: Arc<Vm>,
    pub(super) desktop: Option<Desktop>,
    pub(super) hold: Duration,
    pub(super) is_qemu: bool,
}

impl Hands {
    pub(super) fn new(vm: &Arc<Vm>, stage: &Stage) -> Self {
        let mut hands = Self {
            vm: Arc::clone(vm),
            desktop: stage.desktop.clone(),
            hold: keys::HOLD,
            is_qemu: false,
        };
        if let Some(devices) = stage.devices.as_deref() {
            hands.fit(devices);
        }
        hands
    }

    /// Goes by what these devices take.
    pub(super) fn fit(&mut self, devices: &Devices) {
        self.hold = keys::hold(devices);
        self.is_qemu = devices.is_qemu();
        let mut memory = self.vm.memory();
        memory.key_gap = keys::event_gap(devices);
        if memory.key_gap.is_zero() {
            memory.ps2_idle_until = None;
        }
        let has_usb_keyboard = devices.keyboards.contains(&Bus::Usb);
        memory.keyboard_nap.set_sleeps(has_usb_keyboard);
        let has_usb_tablet = devices.tablet == Some(Bus::Usb);
        memory.tablet_nap.set_sleeps(has_usb_tablet);
    }
}

/// Makes up for what an earlier act had to leave: lets go of what is down, and has buttons go to the usual
/// device again.
pub async fn let_go_of_left(vm: &Arc<Vm>) -> Result<(), ActError> {
    {
        let memory = vm.memory();
        if memory.unreleased.is_empty() && memory.switched_from.is_none() {
            return Ok(());
        }
    }
    let call = |hypervisor: &dyn Hypervisor, vm: &Vm| {
        detour::switch_back(hypervisor, vm)?;
        release_left(hypervisor, vm)
    };
    Ok(vm.call(Duration::ZERO, call).await?)
}

/// Releases all that is noted as unreleased. What fails for a reason that passes stays noted; of any other it would
/// keep each act from being done.
pub(super) fn release_left(hypervisor: &dyn Hypervisor, vm: &Vm) -> Result<(), HypervisorError> {
    loop {
        let ups = vm.memory().unreleased.clone();
        let Some(ups) = few_of(&ups) else {
            return Ok(());
        };
        wait_for_input(vm);
        let released = if let [InputEvent::Button { button, .. }] = ups {
            wait_for_buttons(vm);
            let up = || Outcome {
                done: Ok(()),
                released: try_release(hypervisor, vm, ups),
            };
            let Outcome { done, released } =
                detour::through(hypervisor, vm, Feature::Button(*button), up);
            begin_rest(vm);
            done.and(released)
        } else {
            try_release(hypervisor, vm, ups)
        };
        let is_last = {
            let mut memory = vm.memory();
            if released.as_ref().err().is_none_or(|error| !passes(error)) {
                memory.unreleased.retain(|it| !ups.contains(it));
            }
            memory.unreleased.is_empty()
        };
        released?;
        match wait_until_read(hypervisor, vm, TAP_READ_LIMIT) {
            Err(HypervisorError::KeysUnread { .. }) if is_last => {}
            // The others would find no room.
            outcome => drop(outcome?),
        }
    }
}

/// The first of these that can go together: a button alone, and no more keys than a keyboard's queue has
/// room for.
fn few_of(ups: &[InputEvent]) -> Option<&[InputEvent]> {
    let is_key = |it: &&InputEvent| matches!(it, InputEvent::Key { .. });
    let keys = ups.iter().take_while(is_key).count();
    let count = keys.clamp(1, KEYS_AT_ONCE);
    ups.get(..count)
}

/// How a sequence went, and whether all that it pressed came up again.
pub(super) struct Outcome {
    pub(super) done: Result<(), HypervisorError>,
    pub(super) released: Result<(), HypervisorError>,
}

impl Outcome {
    pub(super) fn fine() -> Self {
        Self {
            done: Ok(()),
            released: Ok(()),
        }
    }
}

/// A failed release is the worse news of the two, but where nothing can have gone down.
pub(super) fn settle(vm: &Vm, Outcome { done, released }: Outcome) -> Result<(), ActError> {
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
            let vm = vm.name().clone();
            return Err(ActError::MaybeDown { vm, source });
        }
    }
    done.map_err(|error| VmError::from(error).into())
}

pub(super) fn wait_for_input(vm: &Vm) {
    wait_until(vm, Duration::ZERO);
}

/// Waits until so long before the next input is due.
pub(super) fn wait_until(vm: &Vm, before: Duration) {
    let end = vm.memory().input_end;
    sleep(end.saturating_duration_since(Instant::now() + before));
}

/// Waits until the tablet is awake, where other devices' events depend on its own, or times between them matter.
pub(super) fn wait_for_tablet(vm: &Vm) {
    let awake_from = vm.memory().tablet_nap.awake_from();
    sleep(awake_from.saturating_duration_since(Instant::now()));
}

/// Wakes a keyboard that may sleep, by letting go of what is about to be pressed, where that has to take its time or
/// is more than QEMU keeps.
pub(super) fn wake_keyboard(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    chord: &[KeyCode],
) -> Result<(), HypervisorError> {
    if vm.memory().keyboard_nap.may_sleep(Instant::now()) {
        wait_for_input(vm);
        let first = chord.get(..1).unwrap_or_default();
        let ups = key_events(first, false);
        let woken = hypervisor.input(vm.name(), &ups);
        begin_key_gap(vm, &ups);
        woken?;
        wait_for_input(vm);
    }
    Ok(())
}

/// Sends what is no release. What a call that was given up had still to do is not done.
pub(super) fn send(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    events: &[InputEvent],
) -> Result<(), HypervisorError> {
    vm.still_wanted()?;
    hypervisor.input(vm.name(), events)
}

pub(super) fn key_events(keys: &[KeyCode], down: bool) -> Vec<InputEvent> {
    let event = |key: &KeyCode| InputEvent::Key { key: *key, down };
    if down {
        keys.iter().map(event).collect()
    } else {
        keys.iter().rev().map(event).collect()
    }
}

pub(super) fn press_modifiers(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    modifiers: &[KeyCode],
) -> Result<(), HypervisorError> {
    if modifiers.is_empty() {
        return Ok(());
    }
    press(hypervisor, vm, modifiers)?;
    sleep(MODIFIER_LEAD);
    Ok(())
}

/// Presses keys that stay down until they are released.
pub(super) fn press(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    keys: &[KeyCode],
) -> Result<(), HypervisorError> {
    let downs = key_events(keys, true);
    for few in downs.chunks(KEYS_AT_ONCE) {
        wait_for_input(vm);
        wait_for_tablet(vm);
        let unread = vm.memory().keys_unread;
        // The releases have to find room as well.
        if unread.is_none_or(|unread| unread + queue_bytes(keys) > QUEUE_BYTES) {
            wait_until_read(hypervisor, vm, TAP_READ_LIMIT)?;
        }
        // Even where it fails: part of it may have arrived.
        let pressed = send(hypervisor, vm, few);
        begin_key_gap(vm, few);
        pressed?;
    }
    Ok(())
}

/// To be said after keys went down or up that nobody has seen the guest read.
fn begin_key_gap(vm: &Vm, keys: &[InputEvent]) {
    let mut memory = vm.memory();
    memory.keys_unread = None;
    let end = Instant::now() + memory.key_gap * keys::event_codes(keys);
    begin_key_wait(&mut memory, end);
}

/// To be said after keys were handed over: nothing more goes out before a time, nor to a keyboard that sleeps.
pub(super) fn begin_key_wait(memory: &mut Memory, end: Instant) {
    memory.keyboard_nap.used(Instant::now(), end);
    let end = end.max(memory.keyboard_nap.awake_from());
    memory.input_end = memory.input_end.max(end);
}

pub(super) fn release(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    ups: &[InputEvent],
) -> Result<(), HypervisorError> {
    if ups.is_empty() {
        return Ok(());
    }
    let outcome = release_few_by_few(hypervisor, vm, ups);
    if outcome.as_ref().is_err_and(is_left_to_next_act) {
        vm.memory().unreleased.extend_from_slice(ups);
    }
    outcome
}

/// Each is tried, whatever became of those before. Those whose presses left no room for them wait until the
/// guest has read.
fn release_few_by_few(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    ups: &[InputEvent],
) -> Result<(), HypervisorError> {
    let has_room = keys::room_for_releases(ups);
    let mut outcome = Ok(());
    for (at, few) in ups.chunks(KEYS_AT_ONCE).enumerate() {
        wait_for_input(vm);
        if at > 0 || !has_room {
            outcome = outcome.and(wait_until_read(hypervisor, vm, TAP_READ_LIMIT).map(drop));
        }
        outcome = outcome.and(try_release(hypervisor, vm, few));
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
    if ups.iter().any(|it| matches!(it, InputEvent::Key { .. })) {
        begin_key_gap(vm, ups);
    }
    outcome
}
