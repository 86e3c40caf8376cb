//! The one interpreter of acts: single tools, batches and every later toolset end here.
//!
//! All acts of a call are planned, and so checked, before the first one runs. They run in a
//! task of their own under the VM's turn: a client that cancels or hangs up stops them
//! between acts, never with a button down.

mod desktop;
mod detour;
mod error;
mod hands;
mod held;
mod keys;
mod motion;
mod pace;
mod plan;
mod pointer;
mod stage;
mod typing;
mod words;

use std::{sync::Arc, time::Duration};

pub use error::ActError;
pub(crate) use error::names;
use tokio_util::sync::CancellationToken;

use crate::{
    capture::Shot,
    guest::Guests,
    model::{Act, Button},
    vm::{Vm, VmError},
    watch::{self, Before},
};

use hands::Hands;
pub use hands::let_go_of_left;
pub use held::let_go;
pub(crate) use keys::hold;
use plan::Plan;
pub(crate) use plan::check;
pub use pointer::pointer_position;
use stage::Stage;

/// How far a call has come: so much of so much (steps, characters, seconds or bytes).
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Progress that nobody hears of.
pub fn untold() -> Progress {
    Arc::new(|_, _| ())
}

/// What happened to one act.
#[derive(Debug)]
pub enum Outcome {
    Done(Done),
    Failed(ActError),
    NotRun,
}

/// An act that was done, in words, and what it saw.
#[derive(Debug, Default)]
pub struct Done {
    pub text: String,
    pub shot: Option<Shot>,
}

/// Acts that were refused before the first one ran.
#[derive(Debug)]
pub struct Refused {
    /// Which act, counted from 0.
    pub at: usize,
    pub error: Box<ActError>,
}

/// What a batch did.
#[derive(Debug)]
pub struct Report {
    /// One for each act.
    pub outcomes: Vec<Outcome>,
    /// The buttons that it left down, and that were let go of at its end.
    pub let_go: Result<Vec<Button>, ActError>,
}

/// Runs acts on one VM, in order, and stops at the first failure. A button that they leave down stays down.
///
/// `Err` means that nothing was done; else there is one outcome for each act.
pub async fn perform(
    vm: &Arc<Vm>,
    guests: &Arc<Guests>,
    acts: Vec<Act>,
    cancel: CancellationToken,
    progress: Progress,
) -> Result<Vec<Outcome>, Refused> {
    let report = spawn(vm, guests, acts, cancel, progress, Left::Stays).await?;
    Ok(report.outcomes)
}

/// As [`perform`], but at the end nothing stays down.
pub async fn perform_batch(
    vm: &Arc<Vm>,
    guests: &Arc<Guests>,
    acts: Vec<Act>,
    cancel: CancellationToken,
    progress: Progress,
) -> Result<Report, Refused> {
    spawn(vm, guests, acts, cancel, progress, Left::ComesUp).await
}

/// What becomes of buttons that acts leave down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Stays,
    ComesUp,
}

async fn spawn(
    vm: &Arc<Vm>,
    guests: &Arc<Guests>,
    acts: Vec<Act>,
    cancel: CancellationToken,
    progress: Progress,
    left: Left,
) -> Result<Report, Refused> {
    let (vm, guests) = (Arc::clone(vm), Arc::clone(guests));
    let name = vm.name().clone();
    let running =
        tokio::spawn(async move { run(&vm, &guests, &acts, &cancel, &progress, left).await });
    running.await.unwrap_or_else(|broke| {
        Err(Refused {
            at: 0,
            error: Box::new(VmError::Broke(name, broke).into()),
        })
    })
}

async fn run(
    vm: &Arc<Vm>,
    guests: &Guests,
    acts: &[Act],
    cancel: &CancellationToken,
    progress: &Progress,
    left: Left,
) -> Result<Report, Refused> {
    let refused = |error: ActError| Refused {
        at: 0,
        error: Box::new(error),
    };
    check(acts)?;
    let set = async {
        let turn = vm.turn().await?;
        Ok((turn, Stage::set(vm, acts).await?))
    };
    let (_turn, stage) = tokio::select! {
        set = set => set.map_err(refused)?,
        () = cancel.cancelled() => {
            // What another call holds, whose turn it is, is not this one's to let go of.
            let error = match vm.turn_if_free() {
                Some(_turn) => after(vm, ActError::Cancelled).await,
                None => ActError::Cancelled,
            };
            return Err(refused(error));
        }
    };
    let plans = plan::plan(acts, &stage)?;
    let mut hands = Hands::new(vm, &stage);
    if acts.iter().any(Act::presses) {
        let_go_of_left(vm).await.map_err(refused)?;
    }
    let single = acts.len() == 1;
    // How the screen was before the acts since the last look or wait, where a wait compares with that.
    let mut before = None;
    // Told once.
    let mut estimate = stage.is_estimate();
    let mut outcomes = Vec::with_capacity(acts.len());
    for (at, (act, plan)) in acts.iter().zip(&plans).enumerate() {
        if cancel.is_cancelled() {
            outcomes.push(Outcome::Failed(after(vm, ActError::Cancelled).await));
            break;
        }
        let own = if single {
            Arc::clone(progress)
        } else {
            part_of_batch(at as u64, acts.len() as u64, progress)
        };
        let own = match act.secret() {
            Some(_) => ends_of(&own),
            None => own,
        };
        if act.presses() && before.is_none() {
            before = before_next_wait(vm, &acts[at..]).await;
        }
        let fits = if at > 0 {
            still_fits(vm, &stage, &mut hands, act, plan).await
        } else {
            Ok(())
        };
        let outcome = match fits {
            Ok(()) => {
                let since = if matches!(act, Act::WaitFor(_) | Act::TakeScreenshot(_)) {
                    before.take().unwrap_or_default()
                } else {
                    Before::default()
                };
                carry_out(vm, guests, &mut hands, plan, since, cancel, &own).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Found { text, shot }) => {
                let mut text = text.unwrap_or_else(|| words::in_words(act));
                if plan.points() && std::mem::take(&mut estimate) {
                    text.push_str(words::ESTIMATE);
                }
                outcomes.push(Outcome::Done(Done { text, shot }));
            }
            Err(error) => {
                let error = match act.secret() {
                    Some(secret) => error.of_secret(secret),
                    None => error,
                };
                outcomes.push(Outcome::Failed(after(vm, error).await));
                break;
            }
        }
    }
    outcomes.resize_with(acts.len(), || Outcome::NotRun);
    let let_go = match left {
        // Whoever cancelled an act takes it for not done.
        Left::Stays if !cancel.is_cancelled() => Ok(vec![]),
        Left::Stays | Left::ComesUp => let_go(vm).await,
    };
    Ok(Report { outcomes, let_go })
}

/// Refuses a step that what happened since the acts were planned leaves no sense in.
async fn still_fits(
    vm: &Arc<Vm>,
    stage: &Stage,
    hands: &mut Hands,
    act: &Act,
    plan: &Plan,
) -> Result<(), ActError> {
    if act.presses() {
        vm.ready().await?;
        if stage.devices.is_some() {
            // One may have been plugged in meanwhile.
            hands.fit(&*vm.devices().await?);
        }
    }
    if plan.points() {
        stage.still_fits(vm).await?;
    }
    Ok(())
}

/// The progress of one step of a batch: a batch tells thousandths of its steps.
fn part_of_batch(at: u64, steps: u64, batch: &Progress) -> Progress {
    const PARTS: u64 = 1000;
    batch(at * PARTS, steps * PARTS);
    let batch = Arc::clone(batch);
    // A step's last part is told by the beginning of the next one.
    Arc::new(move |done, of| {
        let part = (done * PARTS).checked_div(of).unwrap_or(0);
        if (1..PARTS).contains(&part) {
            batch(at * PARTS + part, steps * PARTS);
        }
    })
}

/// Of a progress only that it begins and ends: how much there is, is not told either.
fn ends_of(progress: &Progress) -> Progress {
    progress(0, 1);
    let progress = Arc::clone(progress);
    Arc::new(move |done, of| {
        if done == of {
            progress(1, 1);
        }
    })
}

/// What the next wait of these acts has to be compared with, if it is for a change.
async fn before_next_wait(vm: &Arc<Vm>, acts: &[Act]) -> Option<Before> {
    let wait = acts.iter().find_map(|act| match act {
        Act::WaitFor(wait) => Some(wait),
        _ => None,
    })?;
    Some(watch::before(vm, wait).await)
}

/// What an act brought to light besides having been done.
#[derive(Default)]
struct Found {
    text: Option<String>,
    shot: Option<Shot>,
}

/// After a failure nothing stays down, not even what was meant to.
async fn after(vm: &Arc<Vm>, error: ActError) -> ActError {
    match let_go(vm).await {
        Ok(buttons) if buttons.is_empty() => error,
        Ok(buttons) => ActError::LetGo {
            buttons,
            source: Box::new(error),
        },
        Err(worse) => worse,
    }
}

async fn carry_out(
    vm: &Arc<Vm>,
    guests: &Guests,
    hands: &mut Hands,
    plan: &Plan,
    before: Before,
    cancel: &CancellationToken,
    progress: &Progress,
) -> Result<Found, ActError> {
    match plan {
        Plan::Move(to) => hands.move_to(*to, cancel).await?,
        Plan::MoveBy { offset, to } => hands.move_by(*offset, *to, cancel).await?,
        Plan::Click(click) => hands.click(click, cancel).await?,
        Plan::Drag(drag) => hands.drag(drag, cancel, progress).await?,
        Plan::Scroll(scroll) => hands.scroll(scroll, cancel, progress).await?,
        Plan::Button { button, state } => hands.button(*button, *state).await?,
        Plan::Type { text, interval } => {
            hands.type_text(text, *interval, cancel, progress).await?;
        }
        Plan::Press { chord, repeat } => {
            hands.press(chord, *repeat, cancel, progress).await?;
        }
        Plan::Hold { chord, hold } => hands.hold(chord, *hold, cancel, progress).await?,
        Plan::Wait(duration) => pause(*duration, cancel, progress).await?,
        Plan::Look(what) => {
            let shot = Some(unless_cancelled(cancel, watch::look(vm, what, progress)).await??);
            return Ok(Found { text: None, shot });
        }
        Plan::WaitFor(what) => {
            // On the heap: it holds all that an SSH connection begins with.
            let waiting = Box::pin(watch::wait_for(vm, guests, what, before, progress));
            let text = Some(unless_cancelled(cancel, waiting).await??);
            return Ok(Found { text, shot: None });
        }
    }
    Ok(Found::default())
}

/// Does what may be given up at any point, until the call is cancelled.
async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, ActError> {
    tokio::select! {
        done = work => Ok(done),
        () = cancel.cancelled() => Err(ActError::Cancelled),
    }
}

/// Waits, and tells each second how long it has waited.
pub async fn pause(
    duration: Duration,
    cancel: &CancellationToken,
    progress: &Progress,
) -> Result<(), ActError> {
    const TICK: Duration = Duration::from_secs(1);
    let started = tokio::time::Instant::now();
    let end = started + duration;
    loop {
        let next = (tokio::time::Instant::now() + TICK).min(end);
        tokio::select! {
            () = cancel.cancelled() => return Err(ActError::Cancelled),
            () = tokio::time::sleep_until(next) => {}
        }
        if next == end {
            return Ok(());
        }
        progress(started.elapsed().as_secs(), duration.as_secs());
    }
}
