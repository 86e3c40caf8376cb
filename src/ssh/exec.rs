//! Running a command on the guest to its end, and keeping the beginning and the end of what it says.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    Command, SshError, Stream,
    fresh_channel::FreshChannel,
    process::{Ending, Heard, Process},
    session::Session,
};

/// How long the caller of a command whose time is up waits for it to be ended; past that it is ended
/// behind the caller's back.
const ENDING_LIMIT: Duration = Duration::from_secs(9);

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub status: Status,
    pub stdout: Stream,
    pub stderr: Stream,
    pub duration: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    /// By a signal, named without `SIG`.
    Signalled(String),
    /// Its time was up, and it was ended.
    TimedOut {
        /// Whether it could not be seen to end, and may still be running.
        left_running: bool,
    },
}

/// Runs a command on a channel of its own, until it ends, its time is up or it is cancelled.
pub(super) async fn run(
    session: &Arc<Session>,
    channel: FreshChannel,
    command: Command,
    cancel: &CancellationToken,
) -> Result<Output, SshError> {
    let timeout = command.timeout;
    let process = Process::start(Arc::clone(session), channel, None, command).await?;
    finish(process, timeout, cancel).await
}

/// Takes what the command says until it has ended.
pub(super) async fn finish(
    mut process: Process,
    timeout: Duration,
    cancel: &CancellationToken,
) -> Result<Output, SshError> {
    let start = Instant::now();
    let mut stdout = Stream::default();
    let mut stderr = Stream::default();
    let mut is_late = false;
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline);
    let end = loop {
        tokio::select! {
            heard = process.hear() => match heard {
                Heard::Accepted | Heard::Exited(_) => {}
                Heard::Stdout(bytes) => stdout.push(&bytes),
                Heard::Stderr(bytes) => stderr.push(&bytes),
                Heard::Ended(end) => break end,
            },
            () = &mut deadline, if is_late || !process.is_ending() => {
                if is_late {
                    // Dropped, it is ended once more, from the start: that harms nobody.
                    break Ending { status: Err(process.lost()), left_running: Some(true) };
                }
                is_late = true;
                process.end();
                deadline.as_mut().reset(tokio::time::Instant::now() + ENDING_LIMIT);
            }
            () = cancel.cancelled(), if !process.is_ending() => process.end(),
        }
    };
    let status = match end.left_running {
        Some(left_running) if is_late => Status::TimedOut { left_running },
        Some(left_running) => return Err(SshError::Cancelled { left_running }),
        None => end.status?,
    };
    Ok(Output {
        status,
        stdout,
        stderr,
        duration: start.elapsed(),
    })
}

/// A number that nobody hits by chance; not for secrets.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
