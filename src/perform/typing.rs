//! Text, typed as fast as none of it is lost.
//!
//! A few keys are handed over at a time, so that a text can be given up between them, and QEMU plays them by
//! itself. Characters overlap there like those of a quick typist: QEMU's monitor reads what it is told byte by
//! byte, so that the fewest words are the quickest way to say which keys. Where each key has to stay down for a
//! moment, because a nested session drops what is quicker or because the hypervisor is not QEMU, they go down
//! one by one.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::{Hypervisor, HypervisorError},
    keyboard::Typed,
    model::{Chord, KeyCode},
    vm::{Vm, VmError},
};

use super::{
    ActError, Progress,
    hands::{Hands, begin_key_wait, wait_for_input, wait_for_tablet, wait_until},
    keys::{QUEUE_BYTES, READ_LIMIT, hold_of, play_time, queue_bytes, wait_until_read},
    pace::{BUSY, Pace},
};

/// So many characters are typed in one call on the VM's line, and a look at the screen may come between:
/// some 100 ms of them, and a second where the guest is starved.
const PORTION: usize = 20;

/// So many keys down or up go out at once. The kernel's buffer holds 21 (see `pace`), and so two such strokes:
/// the guest's X server may come as late as the third. More at a time leave it less time, and fewer are more
/// calls, which the host's processors feel.
const AT_ONCE: usize = 10;

/// How long QEMU holds each key of a stroke where the keyboard takes any pace: it knows nothing shorter.
const SHORTEST_HOLD: Duration = Duration::from_millis(1);

/// Tab and Return (`linux/input-event-codes.h`).
const ENDS_STROKE: [KeyCode; 2] = [KeyCode(15), KeyCode(28)];

/// So long before the next keys are due the guest is asked whether it has read those before: what the monitor
/// takes to tell.
const ASKING: Duration = Duration::from_millis(7);

/// A nested session gets each key for a quarter of the time between two characters, so that even one with
/// Shift is over before the next; none needs it longer than this.
const LONGEST_HOLD: Duration = Duration::from_millis(20);

/// Keys of a text that go down one after the other and up in reverse.
#[derive(Debug)]
struct Stroke {
    chord: Chord,
    /// So many of its keys are Shift and its like, and stay down for all others.
    shared: usize,
    /// How many characters end with them, and whether the last key ends one.
    characters: usize,
    ends_character: bool,
}

/// How strokes follow each other.
#[derive(Debug)]
enum Gait {
    /// As the guest takes them.
    Quick(Pace),
    /// Each key held for so long, each character so long after the one before.
    Held { hold: Duration, interval: Duration },
}

/// What goes on from one portion of a text to the next.
#[derive(Debug)]
struct Flow {
    gait: Gait,
    /// When the last stroke is played.
    played: Instant,
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
        let broke_off = |typed, source| ActError::Typing { typed, of, source };
        let is_quick = self.is_qemu && interval.is_zero();
        let portion = if interval.is_zero() { PORTION } else { 1 };
        let gait = if is_quick {
            Gait::Quick(Pace::new(self.vm.memory().key_gap))
        } else {
            // Nobody looks how busy the guest is, and what is asked to be slow is no quicker than for a busy one.
            let least = if interval.is_zero() {
                self.hold
            } else {
                self.hold.max(BUSY)
            };
            let hold = (interval / 4).clamp(least, LONGEST_HOLD.max(least));
            Gait::Held { hold, interval }
        };
        let played = self.vm.memory().input_end;
        let mut flow = Flow { gait, played };
        // What outlasts its time limit is not typed after its failure was told.
        let stop = cancel.child_token();
        let _ends = stop.clone().drop_guard();
        let before = self.vm.changes_when_seen();
        let mut typed = 0;
        for characters in text.chunks(portion) {
            let strokes = strokes(characters, is_quick);
            let stop = stop.clone();
            let call = move |hypervisor: &dyn Hypervisor, vm: &Vm| {
                let done = flow.strike_all(hypervisor, vm, &strokes, &stop);
                Ok((done, flow))
            };
            let called = self.vm.call(READ_LIMIT + interval, call).await;
            let (done, kept) = called.map_err(|error| broke_off(typed, error))?;
            typed += done.characters;
            flow = kept;
            // QEMU drops the keys of a VM that is paused meanwhile, and says nothing.
            let now = self.vm.changes();
            let may_have_stopped = match &done.end {
                End::All => typed == of || before.is_none() || now != before,
                End::Cancelled => true,
                End::Failed(error) => matches!(error, HypervisorError::KeysUnread { .. }),
            };
            if may_have_stopped {
                let interrupted = self.interrupted(before.zip(now)).await;
                if let Some(error) = interrupted.map_err(|error| broke_off(typed, error))? {
                    let chords = characters.iter().flat_map(Typed::chords).cloned();
                    self.may_be_down(&chords.collect::<Vec<_>>());
                    return Err(broke_off(typed - done.characters, error.into()));
                }
            }
            match done.end {
                End::All => progress(typed as u64, of as u64),
                End::Cancelled => return Err(ActError::CancelledTyping { typed, of }),
                End::Failed(error) => return Err(broke_off(typed, error.into())),
            }
        }
        // Only then has it arrived.
        let read = |hypervisor: &dyn Hypervisor, vm: &Vm| {
            wait_for_input(vm);
            Ok(wait_until_read(hypervisor, vm, READ_LIMIT))
        };
        let error = match self.vm.call(READ_LIMIT, read).await {
            Ok(Ok(_)) => return Ok(()),
            // A VM that is paused reads no keys either, and that is what its user can mend.
            Ok(Err(unread)) => match self.stopped().await {
                Ok(stopped) => stopped.unwrap_or(unread).into(),
                Err(error) => error,
            },
            Err(error) => error,
        };
        Err(broke_off(typed, error))
    }

    /// Why keys may have been dropped: the VM does not run, or did not for a moment.
    pub(super) async fn interrupted(
        &self,
        changes: Option<(u64, u64)>,
    ) -> Result<Option<HypervisorError>, VmError> {
        let stopped = self.stopped().await?;
        let is_another = changes.is_some_and(|(before, now)| before != now);
        let vm = self.vm.full_name();
        Ok(stopped.or(is_another.then_some(HypervisorError::Changed { vm })))
    }
}

/// The strokes of some characters, of one key each, or overlapping where they may.
fn strokes(characters: &[Typed], may_overlap: bool) -> Vec<Stroke> {
    let mut strokes: Vec<Stroke> = vec![];
    for typed in characters {
        let last = typed.chords().len().saturating_sub(1);
        for (at, chord) in typed.chords().iter().enumerate() {
            let ends_character = at == last;
            let characters = usize::from(ends_character);
            let joined = strokes
                .last()
                .filter(|_| may_overlap)
                .and_then(|before| join(before, chord));
            match (joined, strokes.last_mut()) {
                (Some(chord), Some(before)) => {
                    before.chord = chord;
                    before.characters += characters;
                    before.ends_character = ends_character;
                }
                _ => strokes.push(Stroke {
                    chord: chord.clone(),
                    shared: chord.keys().len() - 1,
                    characters,
                    ends_character,
                }),
            }
        }
    }
    strokes
}

/// A stroke and a chord that is like it but for another last key as one, where the keyboard takes it. What
/// follows Return or Tab may be for another window, and waits until that is up.
fn join(stroke: &Stroke, chord: &Chord) -> Option<Chord> {
    let (last, shared) = chord.keys().split_last()?;
    let (before, own) = stroke.chord.keys().split_at(stroke.shared);
    let is_alike = before == shared && !own.iter().any(|key| ENDS_STROKE.contains(key));
    let joined = Chord::new([stroke.chord.keys(), &[*last]].concat())?;
    let fits = 2 * joined.keys().len() <= AT_ONCE && queue_bytes(joined.keys()) <= QUEUE_BYTES;
    (is_alike && fits).then_some(joined)
}

impl Flow {
    /// Hands over stroke by stroke.
    fn strike_all(
        &mut self,
        hypervisor: &dyn Hypervisor,
        vm: &Vm,
        strokes: &[Stroke],
        stop: &CancellationToken,
    ) -> Done {
        let mut characters = 0;
        let mut is_between = true;
        let mut begun = Instant::now();
        for stroke in strokes {
            if is_between && stop.is_cancelled() {
                let end = End::Cancelled;
                return Done { characters, end };
            }
            let sent = match self.strike(hypervisor, vm, &stroke.chord) {
                Ok(sent) => sent,
                Err(error) => {
                    let end = End::Failed(error);
                    return Done { characters, end };
                }
            };
            if is_between {
                begun = sent;
            }
            is_between = stroke.ends_character;
            characters += stroke.characters;
            if let Gait::Held { interval, .. } = self.gait
                && is_between
            {
                let mut memory = vm.memory();
                memory.input_end = memory.input_end.max(begun + interval);
            }
        }
        let end = End::All;
        Done { characters, end }
    }

    /// Hands over one stroke once it is its time, and once the keyboard's queue has room for it beside what the
    /// guest may not have read. Tells when that was.
    fn strike(
        &mut self,
        hypervisor: &dyn Hypervisor,
        vm: &Vm,
        chord: &Chord,
    ) -> Result<Instant, HypervisorError> {
        let bytes = queue_bytes(chord.keys());
        let mut late = Duration::ZERO;
        let mut unread = vm.memory().keys_unread.take();
        if unread.is_none_or(|unread| unread + bytes > QUEUE_BYTES) {
            match &mut self.gait {
                Gait::Quick(pace) => {
                    wait_until(vm, ASKING);
                    look(hypervisor, vm, pace);
                }
                Gait::Held { .. } => wait_for_input(vm),
            }
            // What is not played yet cannot have been read.
            sleep(self.played.saturating_duration_since(Instant::now()));
            // What the kernel got late, its programs get later still.
            late = wait_until_read(hypervisor, vm, READ_LIMIT)?.min(READ_LIMIT / 10);
            unread = Some(0);
        }
        wait_for_input(vm);
        wait_for_tablet(vm);
        // The guest gets the first of them long before the monitor has answered.
        let sent = Instant::now();
        let keys = chord.keys().len();
        let (hold, time) = match &self.gait {
            Gait::Quick(pace) => {
                let hold = hold_of(chord.keys(), SHORTEST_HOLD, pace.floor());
                let codes = u32::try_from(bytes).unwrap_or(u32::MAX);
                let time = pace.time_of(2 * keys).max(pace.floor() * codes);
                (hold, time + late)
            }
            Gait::Held { hold, .. } => {
                let hold = hold_of(chord.keys(), *hold, vm.memory().key_gap);
                (hold, Duration::ZERO)
            }
        };
        let outcome = hypervisor.send_keys(vm.name(), chord, hold);
        // Even where it fails: its answer may have got lost, not the keys.
        self.played = Instant::now() + play_time(keys, hold);
        let mut memory = vm.memory();
        begin_key_wait(&mut memory, self.played.max(sent + time));
        outcome?;
        memory.keys_unread = unread.map(|unread| unread + bytes);
        Ok(sent)
    }
}

/// A look that fails tells nothing, and the pace stays. A guest that turns out to be slower gets time for what it has
/// already.
fn look(hypervisor: &dyn Hypervisor, vm: &Vm, pace: &mut Pace) {
    if pace.wants_a_look(Instant::now())
        && let Ok(times) = hypervisor.vcpu_times(vm.name())
    {
        // The times are those at the end of the call.
        let now = Instant::now();
        let more = pace.look(now, times);
        let mut memory = vm.memory();
        memory.input_end = memory.input_end.max(now) + more;
    }
}
