//! Waiting for what a VM does: conditions on its screen, its state and its guest.
//!
//! Any of several conditions ends a wait. Each kind is watched by itself, and all of them are given
//! up together, wherever they are: a call below that hangs is left to end by its own limit and takes
//! no part in it any more. Nothing here takes the VM's turn, so that others may act meanwhile; a batch
//! keeps the turn that it has.

mod console;
mod error;
mod eye;
mod guest;
mod pace;
mod part;
mod picture;
mod settle;
mod state;
mod text;

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use error::WatchError;
pub use settle::look;

use crate::{
    capture::{self, Shot},
    guest::Guests,
    image::Picture,
    model::{Condition, TakeScreenshot, WaitFor},
    perform::Progress,
    vm::Vm,
};

/// What the last picture may take once the time is up.
const LAST_LOOK_LIMIT: Duration = Duration::from_secs(1);

const TICK: Duration = Duration::from_secs(1);

/// Heads as they were before what a wait is for was begun, in native pixels.
pub type Before = BTreeMap<u32, Arc<Picture>>;

/// The heads that a wait compares with how they were before. One that cannot be seen now is left out:
/// whoever waits for it is told.
pub async fn before(vm: &Arc<Vm>, what: &WaitFor) -> Before {
    let mut before = Before::new();
    for head in what.conditions.iter().filter_map(Condition::changing_head) {
        if let Ok(picture) = capture::glance(vm, head).await {
            before.insert(head, Arc::new(picture));
        }
    }
    before
}

/// Waits until one of the conditions holds, and says which in words. A change is one since `before`,
/// or else since a client was last shown the head, or else since now. May be given up at any point.
pub async fn wait_for(
    vm: &Arc<Vm>,
    guests: &Guests,
    what: &WaitFor,
    before: Before,
    progress: &Progress,
) -> Result<String, WatchError> {
    let limit = what.limit().map_err(WatchError::Bad)?;
    let begun = tokio::time::Instant::now();
    let findings = Findings::new(&what.conditions);
    let held = {
        let mut seen = pin!(eye::watch(vm, &what.conditions, before, &findings));
        let mut said = pin!(text::watch(vm, &what.conditions, &findings));
        let mut stated = pin!(state::watch(vm, &what.conditions, &findings));
        let mut reached = pin!(guest::watch(vm, guests, &what.conditions, &findings));
        let mut written = pin!(console::watch(vm, &what.conditions, &findings));
        let mut pictured = pin!(picture::watch(vm, &what.conditions, &findings));
        let mut ticks = tokio::time::interval_at(begun + TICK, TICK);
        loop {
            tokio::select! {
                biased;
                held = &mut seen => break Some(held?),
                held = &mut said => break Some(held?),
                held = &mut pictured => break Some(held?),
                held = &mut stated => break Some(held?),
                held = &mut reached => break Some(held?),
                held = &mut written => break Some(held?),
                () = tokio::time::sleep_until(begun + limit) => break None,
                _ = ticks.tick() => progress(begun.elapsed().as_secs(), limit.as_secs()),
            }
        }
    };
    if let Some(held) = held {
        return Ok(format!("{held}, after {}.", seconds(begun.elapsed())));
    }
    Err(WatchError::TimedOut {
        limit,
        findings: findings.told(),
        last: last_look(vm, &what.conditions).await.map(Box::new),
    })
}

/// The screen as it is when the time is up; a VM that hangs has none to show.
async fn last_look(vm: &Arc<Vm>, conditions: &[Condition]) -> Option<Shot> {
    let what = TakeScreenshot {
        head: conditions.iter().find_map(Condition::head).unwrap_or(0),
        ..TakeScreenshot::default()
    };
    let looking = capture::look(vm, &what);
    tokio::time::timeout(LAST_LOOK_LIMIT, looking)
        .await
        .ok()?
        .ok()
}

/// Where the state is waited for, a VM that does not run may be just what is expected.
fn may_be_off(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .any(|it| matches!(it, Condition::State(_)))
}

/// `2.3 s`.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What is known so far of each condition that does not hold yet.
#[derive(Debug)]
struct Findings(Mutex<Vec<(&'static str, Option<String>)>>);

impl Findings {
    fn new(conditions: &[Condition]) -> Self {
        Self(Mutex::new(
            conditions.iter().map(|it| (it.name(), None)).collect(),
        ))
    }

    fn note(&self, condition: usize, finding: impl Into<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.get_mut(condition) {
            *known = Some(finding.into());
        }
    }

    fn told(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|(name, finding)| match finding {
                Some(finding) => format!("`{name}`: {finding}"),
                None => format!("`{name}`: nothing was learnt in time"),
            })
            .collect()
    }
}
