//! Keys: chords that are tapped, and keys that are held.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::{Bus, Devices, Hypervisor, HypervisorError, InputEvent},
    model::{Chord, KeyCode},
    vm::{Memory, Vm, VmError},
};

use super::{
    ActError, Progress,
    hands::{
        Hands, Outcome, begin_key_wait, key_events, press, release, settle, wait_for_input,
        wait_for_tablet, wake_keyboard,
    },
    pause,
};

/// How long QEMU holds each key of a tap; a USB keyboard is asked for one event every 8 ms. The
/// guest's kernel keeps 64 events for whoever reads a device, which is 21 keys down or up
/// (`drivers/input/evdev.c`), and drops them all where its X server or compositor comes later. With
/// 1 ms that happened in 4 of 16 texts of 2,000 characters on a busy host, with 2 ms in none of 12.
pub(super) const HOLD: Duration = Duration::from_millis(2);
const HOLD_USB: Duration = Duration::from_millis(8);

/// Nobody tells what the guest has not read of a virtio keyboard: what a slow pace saves is all there is. At
/// 1.8 ms, 19 of 2,000 characters were lost on a busy host.
const GAP_VIRTIO: Duration = Duration::from_millis(4);

/// What the PS/2 keyboard's queue holds; QEMU drops the rest without a word. A key that goes down
/// and up takes two bytes of it, and four where it is one of those that came after the PC's first
/// keyboard; two of those take more (`hw/input/ps2.c`).
pub(super) const QUEUE_BYTES: usize = 16;
const FIRST_LATER_KEY: KeyCode = KeyCode(96);
const PRINT: KeyCode = KeyCode(99);
const PAUSE: KeyCode = KeyCode(119);
/// What a key of the first keyboard takes that goes down and up.
const SHORTEST_TAP: usize = 2;

/// For how long a guest may leave keys unread: while text is typed, and between single chords, which
/// are also meant for firmware that does not listen yet.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(5);
pub(super) const TAP_READ_LIMIT: Duration = Duration::from_millis(100);

/// How long a PS/2 keyboard that was not read is not asked again, where the VM has another.
const PS2_IDLE: Duration = Duration::from_secs(10);

/// How long each key of a tap is held on a VM with this hardware: as short as loses none.
pub(crate) fn hold(devices: &Devices) -> Duration {
    event_gap(devices).max(HOLD)
}

/// The shortest time between two keys down or up that this hardware takes; that of the guest's programs is
/// a matter of `pace`.
pub(super) fn event_gap(devices: &Devices) -> Duration {
    let has = |bus| devices.keyboards.contains(&bus);
    if has(Bus::Usb) {
        HOLD_USB
    } else if has(Bus::Virtio) {
        GAP_VIRTIO
    } else {
        Duration::ZERO
    }
}

impl Hands {
    /// Taps a chord so often. QEMU drops the keys of a VM that is paused meanwhile, and says nothing.
    pub(super) async fn press(
        &mut self,
        chord: &Chord,
        repeat: u32,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ActError> {
        let before = self.vm.changes_when_seen();
        let mut done = Ok(());
        for _ in 0..repeat {
            done = if cancel.is_cancelled() {
                Err(ActError::Cancelled)
            } else {
                self.tap(chord, cancel, progress).await
            };
            if done.is_err() {
                break;
            }
        }
        let now = self.vm.changes();
        // A single tap is too short for the VM to stop in the middle, and its reply need not wait.
        if repeat == 1 && now == before {
            return done;
        }
        match self.interrupted(before.zip(now)).await {
            Ok(None) => done,
            Ok(Some(source)) => {
                self.may_be_down(std::slice::from_ref(chord));
                match done {
                    Err(error @ ActError::MaybeDown { .. }) => Err(error),
                    _ => Err(VmError::from(source).into()),
                }
            }
            Err(error) => done.and(Err(error.into())),
        }
    }

    /// Taps a chord once those before have been played. A guest that reads none is waited for a moment; then
    /// a key that its keyboard's queue drops as a whole goes out all the same, for firmware is called so
    /// before it listens. Of any other the release could be what is dropped.
    pub(super) async fn tap(
        &mut self,
        chord: &Chord,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ActError> {
        // A guest that comes late would lose releases of what is played at once.
        if self.is_qemu && queue_bytes(chord.keys()) > QUEUE_BYTES {
            return self.hold(chord, Duration::ZERO, cancel, progress).await;
        }
        let (chord, hold) = (chord.clone(), self.hold);
        let extra = play_time(chord.keys().len(), hold) + TAP_READ_LIMIT;
        self.vm
            .call(extra, move |hypervisor, vm| {
                // QEMU's queue of keys to play drops without a word when it is full, releases too: so it
                // never holds more than one chord.
                wait_for_input(vm);
                wait_for_tablet(vm);
                let bytes = queue_bytes(chord.keys());
                let hold = hold_of(chord.keys(), hold, vm.memory().key_gap);
                // Unknown until all went well.
                let mut unread = vm.memory().keys_unread.take();
                if unread.is_none_or(|unread| unread + bytes > QUEUE_BYTES) {
                    unread = match wait_until_read(hypervisor, vm, TAP_READ_LIMIT) {
                        Ok(_) => Some(0),
                        Err(HypervisorError::KeysUnread { .. }) if bytes == SHORTEST_TAP => {
                            // Should a byte of others be in the queue, its press alone has room.
                            note_down(&mut vm.memory(), &chord);
                            None
                        }
                        Err(error) => return Err(error),
                    };
                }
                vm.still_wanted()?;
                hypervisor.send_keys(vm.name(), &chord, hold)?;
                let played = Instant::now() + play_time(chord.keys().len(), hold);
                let mut memory = vm.memory();
                begin_key_wait(&mut memory, played);
                memory.keys_unread = unread.map(|unread| unread + bytes);
                Ok(())
            })
            .await?;
        Ok(())
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
            note_down(&mut memory, chord);
        }
    }

    /// Holds a chord down for a time, or until the call is cancelled.
    pub(super) async fn hold(
        &mut self,
        chord: &Chord,
        hold: Duration,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ActError> {
        let keys = chord.keys().to_vec();
        let pressed = self
            .vm
            .call(READ_LIMIT, move |hypervisor, vm| {
                let woken = wake_keyboard(hypervisor, vm, &keys);
                Ok(woken.and_then(|()| press(hypervisor, vm, &keys)))
            })
            .await;
        let stayed = match pressed {
            Ok(Ok(())) => pause(hold, cancel, progress).await,
            _ => Ok(()),
        };
        // Even where the press failed: part of it may have arrived.
        let ups = key_events(chord.keys(), false);
        let release = move |hypervisor: &dyn Hypervisor, vm: &Vm| Ok(release(hypervisor, vm, &ups));
        let released = match self.vm.call(READ_LIMIT, release.clone()).await {
            Err(VmError::Hung(name)) => {
                // The press itself hangs, and may yet arrive.
                self.vm.call_when_free(release);
                return Err(VmError::Hung(name).into());
            }
            Err(error) => {
                // Whether it came up, nobody told.
                self.may_be_down(std::slice::from_ref(chord));
                return Err(error.into());
            }
            Ok(released) => released,
        };
        let done = pressed?;
        settle(&self.vm, Outcome { done, released })?;
        stayed
    }
}

fn note_down(memory: &mut Memory, chord: &Chord) {
    for up in key_events(chord.keys(), false) {
        if !memory.unreleased.contains(&up) {
            memory.unreleased.push(up);
        }
    }
}

/// QEMU plays each key's press and release for one hold.
pub(super) fn play_time(keys: usize, hold: Duration) -> Duration {
    hold * u32::try_from(2 * keys).unwrap_or(u32::MAX)
}

/// How long each key of a chord is held: a USB keyboard is asked for one code at a time, and some keys have
/// several.
pub(super) fn hold_of(keys: &[KeyCode], hold: Duration, gap: Duration) -> Duration {
    let codes = keys.iter().map(|key| event_bytes(*key, true));
    let most = codes.max().unwrap_or(1);
    hold.max(gap * u32::try_from(most).unwrap_or(u32::MAX))
}

/// How many codes these events are for a keyboard.
pub(super) fn event_codes(events: &[InputEvent]) -> u32 {
    let bytes = events.iter().map(|event| match event {
        InputEvent::Key { key, down } => event_bytes(*key, *down),
        _ => 0,
    });
    u32::try_from(bytes.sum::<usize>()).unwrap_or(u32::MAX)
}

/// Whether these releases found room in the keyboard's queue even if the guest had read none of the presses.
pub(super) fn room_for_releases(ups: &[InputEvent]) -> bool {
    let bytes = ups.iter().map(|up| match up {
        InputEvent::Key { key, .. } => queue_bytes(&[*key]),
        _ => 0,
    });
    bytes.sum::<usize>() <= QUEUE_BYTES
}

/// What keys take of the keyboard's queue that go down and up.
pub(super) fn queue_bytes(keys: &[KeyCode]) -> usize {
    let both = |key: &KeyCode| event_bytes(*key, true) + event_bytes(*key, false);
    keys.iter().map(both).sum()
}

/// What a key takes of the keyboard's queue as it goes down or up.
fn event_bytes(key: KeyCode, down: bool) -> usize {
    match (key, down) {
        (PAUSE, true) => 6,
        (PAUSE, false) => 0,
        (PRINT, _) => 4,
        (key, _) if key < FIRST_LATER_KEY => 1,
        _ => 2,
    }
}

/// Waits until the guest has read all keys. A guest whose processors are starved on a busy host takes
/// longer for it than any fixed pace allows; tells how long that was. Where the VM has another keyboard, a PS/2
/// one that is never read is none that keys go to.
pub(super) fn wait_until_read(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    patience: Duration,
) -> Result<Duration, HypervisorError> {
    let idle_until = vm.memory().ps2_idle_until;
    if idle_until.is_some_and(|until| Instant::now() < until) {
        return Ok(Duration::ZERO);
    }
    // One that was not read before is asked again, but not waited for as long.
    let patience = match idle_until {
        Some(_) => patience.min(TAP_READ_LIMIT),
        None => patience,
    };
    let mut unread_since = None;
    while hypervisor.keys_unread(vm.name())? {
        let since = *unread_since.get_or_insert_with(Instant::now);
        if since.elapsed() > patience {
            let mut memory = vm.memory();
            if !memory.key_gap.is_zero() {
                memory.ps2_idle_until = Some(Instant::now() + PS2_IDLE);
                return Ok(patience);
            }
            return Err(HypervisorError::KeysUnread {
                vm: vm.name().clone(),
            });
        }
        sleep(Duration::from_millis(1));
    }
    if idle_until.is_some() {
        vm.memory().ps2_idle_until = None;
    }
    Ok(unread_since.map_or(Duration::ZERO, |since| since.elapsed()))
}
