//! Text, typed as fast as none of it is lost.
//!
//! QEMU takes keys as events, whole chords at a time, so that nothing is down between two calls and a text can
//! be given up between any two characters. Where each key has to stay down for a moment, because a nested
//! session drops what is quicker or because the hypervisor is not QEMU, keys are sent as taps instead.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::{Hypervisor, HypervisorError, InputEvent},
    keyboard::Typed,
    model::Chord,
    vm::Vm,
};

use super::{
    ActError, Progress,
    hands::{Hands, key_events, wait_for_input, wait_until},
    keys::{QUEUE_BYTES, READ_LIMIT, play_time, queue_bytes, wait_until_read},
    pace::Pace,
};

/// So many characters are typed in one call on the VM's line, and a look at the screen may come between:
/// some 150 ms of them.
const PORTION: usize = 16;

/// So long before the next keys are due the guest is asked whether it has read those before: what the monitor
/// takes to tell.
const ASKING: Duration = Duration::from_millis(3);

/// A nested session gets each key for a quarter of the time between two characters, so that even one with
/// Shift is over before the next; none needs it longer than this.
const LONGEST_HOLD: Duration = Duration::from_millis(20);

/// A keystroke of a text, and whether it is the last one of its character.
#[derive(Debug, Clone)]
struct Stroke {
    chord: Chord,
    ends_character: bool,
}

/// How far a portion came.
struct Done {
    characters: usize,
    end: End,
}

enum End {
    All,
    Cancelled,
    Failed(HypervisorError),
}

impl Hands {
    /// Types a text, each character at least `interval` after the one before.
    pub(super) async fn type_text(
        &mut self,
        text: &[Typed],
        interval: Duration,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<(), ActError> {
        let of = text.len();
        let portion = if interval.is_zero() { PORTION } else { 1 };
        let mut pace = Pace::new(self.slowest_event);
        let mut typed = 0;
        for characters in text.chunks(portion) {
            let strokes = strokes(characters);
            let stop = cancel.clone();
            let by_taps = !self.takes_events || !interval.is_zero();
            let hold = (interval / 4).clamp(self.hold, LONGEST_HOLD.max(self.hold));
            let call = move |hypervisor: &dyn Hypervisor, vm: &Vm| {
                let done = if by_taps {
                    tap_all(hypervisor, vm, &strokes, hold, interval, &stop)
                } else {
                    strike_all(hypervisor, vm, &strokes, &mut pace, &stop)
                };
                Ok((done, pace))
            };
            let extra = READ_LIMIT + interval;
            let (done, paced) = self.vm.call(extra, call).await?;
            typed += done.characters;
            pace = paced;
            match done.end {
                End::All => {}
                End::Cancelled => return Err(ActError::CancelledTyping { typed, of }),
                End::Failed(error) => return Err(self.broken_off(typed, of, error).await?),
            }
            // Taps are dropped without a word by a QEMU whose VM is paused meanwhile.
            if by_taps && let Some(source) = self.stopped().await? {
                let chords: Vec<_> = characters.iter().flat_map(Typed::chords).cloned().collect();
                self.may_be_down(&chords);
                typed -= done.characters;
                return Err(ActError::Typing { typed, of, source });
            }
            progress(typed as u64, of as u64);
        }
        // Only then has it arrived.
        let read = |hypervisor: &dyn Hypervisor, vm: &Vm| {
            wait_for_input(vm);
            Ok(wait_until_read(hypervisor, vm, READ_LIMIT))
        };
        match self.vm.call(READ_LIMIT, read).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken_off(typed, of, error).await?),
        }
    }

    /// What typing broke off by. A VM that is paused reads no keys either: that it is paused is what its user
    /// can mend.
    async fn broken_off(
        &self,
        typed: usize,
        of: usize,
        error: HypervisorError,
    ) -> Result<ActError, ActError> {
        let stopped = match error {
            HypervisorError::KeysUnread { .. } => self.stopped().await?,
            _ => None,
        };
        let source = stopped.unwrap_or(error);
        Ok(ActError::Typing { typed, of, source })
    }
}

fn strokes(characters: &[Typed]) -> Vec<Stroke> {
    let of_one = |typed: &Typed| {
        let chords = typed.chords();
        let last = chords.len();
        let stroke = move |(at, chord): (usize, &Chord)| Stroke {
            chord: chord.clone(),
            ends_character: at + 1 == last,
        };
        chords.iter().enumerate().map(stroke).collect::<Vec<_>>()
    };
    characters.iter().flat_map(of_one).collect()
}

/// Sends as many chords in a call as the keyboard's queue holds, each time once the guest has read those
/// before.
fn strike_all(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    strokes: &[Stroke],
    pace: &mut Pace,
    stop: &CancellationToken,
) -> Done {
    let mut characters = 0;
    let mut rest = strokes;
    let mut is_between = true;
    let end = loop {
        let (now, later) = rest.split_at(fitting(rest));
        if now.is_empty() {
            break End::All;
        }
        if is_between && stop.is_cancelled() {
            break End::Cancelled;
        }
        wait_until(vm, ASKING);
        look(hypervisor, vm, pace);
        // What the kernel got late, its programs get later still.
        let late = match wait_until_read(hypervisor, vm, READ_LIMIT) {
            Ok(late) => late.min(READ_LIMIT / 10),
            Err(error) => break End::Failed(error),
        };
        wait_for_input(vm);
        let events: Vec<_> = now.iter().flat_map(|it| chord_events(&it.chord)).collect();
        // The guest gets the first of them long before the monitor has answered.
        let sent = Instant::now();
        if let Err(error) = hypervisor.input(vm.name(), &events) {
            break End::Failed(error);
        }
        let mut memory = vm.memory();
        memory.keys_unread = Some(now.iter().map(|it| queue_bytes(&it.chord)).sum());
        memory.input_end = sent + pace.time_of(events.len()) + late;
        drop(memory);
        characters += now.iter().filter(|it| it.ends_character).count();
        is_between = now.last().is_some_and(|it| it.ends_character);
        rest = later;
    };
    Done { characters, end }
}

/// How many of the first strokes the keyboard's queue takes at once; one at least.
fn fitting(strokes: &[Stroke]) -> usize {
    let mut bytes = 0;
    let fits = |stroke: &&Stroke| {
        bytes += queue_bytes(&stroke.chord);
        bytes <= QUEUE_BYTES
    };
    let count = strokes.iter().take_while(fits).count();
    count.max(1).min(strokes.len())
}

fn chord_events(chord: &Chord) -> impl Iterator<Item = InputEvent> {
    let keys = chord.keys();
    key_events(keys, true)
        .into_iter()
        .chain(key_events(keys, false))
}

/// A look that fails tells nothing, and the pace stays.
fn look(hypervisor: &dyn Hypervisor, vm: &Vm, pace: &mut Pace) {
    let now = Instant::now();
    if pace.wants_a_look(now)
        && let Ok(times) = hypervisor.vcpu_times(vm.name())
    {
        pace.look(now, times);
    }
}

/// Plays one chord after the other, each key held for a moment.
fn tap_all(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    strokes: &[Stroke],
    hold: Duration,
    interval: Duration,
    stop: &CancellationToken,
) -> Done {
    let mut characters = 0;
    let mut is_between = true;
    let mut begun = Instant::now();
    let mut end = End::All;
    for stroke in strokes {
        if is_between {
            if stop.is_cancelled() {
                end = End::Cancelled;
                break;
            }
            wait_for_input(vm);
            begun = Instant::now();
        }
        wait_for_input(vm);
        let tapped = wait_until_read(hypervisor, vm, READ_LIMIT)
            .and_then(|_| hypervisor.send_keys(vm.name(), &stroke.chord, hold));
        if let Err(error) = tapped {
            end = End::Failed(error);
            break;
        }
        is_between = stroke.ends_character;
        let played = Instant::now() + play_time(stroke.chord.keys().len(), hold);
        let mut memory = vm.memory();
        memory.keys_unread = Some(queue_bytes(&stroke.chord));
        memory.input_end = if is_between {
            characters += 1;
            played.max(begun + interval)
        } else {
            played
        };
    }
    Done { characters, end }
}
