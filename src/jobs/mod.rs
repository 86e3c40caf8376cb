//! Commands in guests as jobs: they outlive the call that started them, and are found again by their id.
//!
//! A job belongs to one server and ends with it. Whatever is said of it comes from its [`State`], which one
//! task keeps up to date ([`follow`]); nothing else hears the command. Commands that end within their call
//! and say little, in UTF-8, never become jobs that anybody sees.

mod error;
mod follow;
mod job;
mod output;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    guest::Guest,
    model::VmName,
    ssh::{self, Stay},
    store::LogPlace,
};

pub use error::JobError;
pub use job::{End, Job, State, Waited};
pub use output::{Follows, Output, Piece};

/// Jobs that may be started in the background of one guest at a time: of the channels that a connection has,
/// some stay free for commands that are waited for, and for transfers.
pub const MOST_IN_BACKGROUND: usize = 6;

/// Ended jobs that are remembered; older ones are forgotten, but for their logs.
const MOST_ENDED: usize = 50;

/// How long a background command may take until the server has accepted it.
pub const ACCEPTANCE: Duration = Duration::from_secs(20);

/// How the command's start is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Somebody waits for it.
    Foreground,
    /// It is a job from its start.
    Background,
}

/// The jobs of this server.
#[derive(Debug)]
pub struct Jobs {
    data_dir: PathBuf,
    /// In the order of their start.
    kept: Mutex<Vec<Arc<Job>>>,
    in_background: Mutex<HashMap<Option<VmName>, Arc<Semaphore>>>,
    /// Whether old logs are cleared away, or about to be.
    clears: AtomicBool,
    running: TaskTracker,
}

impl Jobs {
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            kept: Mutex::default(),
            in_background: Mutex::default(),
            clears: AtomicBool::new(false),
            running: TaskTracker::new(),
        }
    }

    /// Where logs go that belong to no project.
    pub fn data_folder(&self) -> LogPlace {
        LogPlace::DataFolder(self.data_dir.clone())
    }

    /// Starts a command. Cancelling ends only the way there: what was started is the caller's to end.
    pub async fn start(
        self: &Arc<Self>,
        guest: &Guest,
        command: ssh::Command,
        manner: Manner,
        place: LogPlace,
        cancel: &CancellationToken,
    ) -> Result<Arc<Job>, JobError> {
        let turn = match manner {
            Manner::Foreground => None,
            Manner::Background => Some(self.turn_in_background(guest.vm.as_ref())?),
        };
        let line = command.line.clone();
        let stay = match manner {
            Manner::Foreground => Stay::of(command.timeout),
            Manner::Background => Stay::Long,
        };
        let process = guest.client.start(command, stay, cancel).await?;
        let (job, following) =
            follow::new(Arc::clone(self), guest.vm.clone(), line, place, process);
        self.running.spawn(async move {
            let _turn = turn;
            following.await;
        });
        if manner == Manner::Background {
            self.keep(&job).await;
        }
        if self.running.is_closed() {
            // All others were told already.
            job.end_with_server();
        }
        Ok(job)
    }

    fn turn_in_background(
        &self,
        vm: Option<&VmName>,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, JobError> {
        let turns = {
            let mut all = lock(&self.in_background);
            let turns = all
                .entry(vm.cloned())
                .or_insert_with(|| Arc::new(Semaphore::new(MOST_IN_BACKGROUND)));
            Arc::clone(turns)
        };
        turns.try_acquire_owned().map_err(|_| JobError::TooMany {
            running: self
                .all()
                .iter()
                .filter(|job| job.vm.as_ref() == vm && job.is_running())
                .map(|job| job.id.clone())
                .collect(),
        })
    }

    /// From now on the command is a job that is found by its id, and its output goes to files.
    pub async fn keep(&self, job: &Arc<Job>) {
        self.remember(job);
        job.keep().await;
    }

    /// Puts it among those that are found by their id.
    fn remember(&self, job: &Arc<Job>) {
        let mut kept = lock(&self.kept);
        if kept.iter().any(|it| it.id == job.id) {
            return;
        }
        kept.push(Arc::clone(job));
        kept.sort_by(|a, b| a.id.cmp(&b.id));
        let ended = kept.iter().filter(|job| !job.is_running()).count();
        let mut surplus = ended.saturating_sub(MOST_ENDED);
        kept.retain(|it| {
            let goes = surplus > 0 && !it.is_running() && it.id != job.id;
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Whether it is found by its id.
    pub fn has(&self, job: &Job) -> bool {
        lock(&self.kept).iter().any(|it| it.id == job.id)
    }

    /// All jobs, oldest first.
    pub fn all(&self) -> Vec<Arc<Job>> {
        lock(&self.kept).clone()
    }

    /// The job of this id, among those that `may_be_seen`.
    pub fn find(&self, id: &str, may_be_seen: impl Fn(&Job) -> bool) -> Result<Arc<Job>, JobError> {
        let mut seen = self.all();
        seen.retain(|job| may_be_seen(job));
        let found = seen.iter().find(|job| job.id.as_str() == id);
        found.cloned().ok_or_else(|| JobError::Unknown {
            id: id.escape_debug().to_string(),
            known: seen.iter().map(|job| job.id.clone()).collect(),
        })
    }

    /// Forgets a job that has ended, or exited, and removes its logs. Blocks.
    pub fn forget(&self, job: &Job) -> Result<(), JobError> {
        if job.is_running() {
            if !job.has_exited() {
                return Err(JobError::Running { id: job.id.clone() });
            }
            job.let_go();
        }
        job.remove_logs()?;
        lock(&self.kept).retain(|it| it.id != job.id);
        Ok(())
    }

    /// Ends all commands on their guests that have not exited, and waits until that is done. Where the wait is given
    /// up, the guests go on with it by themselves.
    pub async fn end_all(&self) {
        self.running.close();
        for job in self.all() {
            job.end_with_server();
        }
        self.running.wait().await;
    }

    /// Once for each server, when it makes its first log. Blocks.
    fn clear_old(&self) {
        if self.clears.swap(true, Ordering::Relaxed) {
            return;
        }
        let cleared = self.data_folder().clear_old();
        if cleared > 0 {
            tracing::info!(cleared, "logs of old jobs are removed");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
