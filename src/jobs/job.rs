//! One command that may outlive the call that started it.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{JobId, OutputStream, SignalName, VmName},
    ssh::{Ending, Signaller, SshError, Status},
    store::JobLogs,
};

use super::{JobError, Output, Piece, follow::DISK_LIMIT, lock};

/// How often whoever waits is told how far it is.
const PACE: Duration = Duration::from_millis(100);

/// How long the output of a command that has exited may be still before nobody waits for its end: what it started
/// may hold it for ever.
const HELD: Duration = Duration::from_secs(2);

/// How long somebody waits until files are made: longer than a disk is given.
const LOG_LIMIT: Duration = Duration::from_secs(DISK_LIMIT.as_secs() + 1);

/// A command. It goes on whether or not somebody holds this.
#[derive(Debug)]
pub struct Job {
    pub id: JobId,
    /// The VM it runs on; none where only its address is configured.
    pub vm: Option<VmName>,
    pub command: String,
    pub started: DateTime<Utc>,
    pub(super) begun: Instant,
    pub(super) state: watch::Sender<State>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) input: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    /// Until it ends: it holds the connection.
    pub(super) signaller: Mutex<Option<Signaller>>,
    pub(super) logs: Mutex<Option<JobLogs>>,
}

/// How far a command is.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Whether the guest's server has taken it on.
    pub accepted: bool,
    pub stdout: Output,
    pub stderr: Output,
    /// The stream that it last wrote to.
    pub latest: OutputStream,
    pub exit: Option<Exit>,
    /// Whether it is being ended with all that it started.
    pub is_ending: bool,
    pub end: Option<End>,
}

/// How the command itself was done, while what it started may still hold its output.
#[derive(Debug, Clone)]
pub struct Exit {
    pub status: Status,
    pub after: Duration,
}

/// How and when it ended.
#[derive(Debug, Clone)]
pub struct End {
    pub how: Ending,
    pub after: Duration,
}

/// What whoever follows the command is asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// The command goes on after its call: all its output is written to files from now on. The answer comes when
    /// they are there, or cannot be.
    Keep(oneshot::Sender<()>),
    End,
    /// Nothing more is heard of a command that has exited.
    LetGo,
}

/// How a wait came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    Ended,
    /// It exited, and what it started holds its output and says nothing.
    Exited,
    TimeUp,
    Cancelled,
}

impl State {
    pub fn output(&self, stream: OutputStream) -> &Output {
        match stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        }
    }

    pub(super) fn output_mut(&mut self, stream: OutputStream) -> &mut Output {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    /// How the command itself ended, or why that cannot be known. What it left running is another matter.
    pub fn status(&self) -> Option<Result<&Status, &SshError>> {
        match (&self.exit, &self.end) {
            (Some(exit), _) => Some(Ok(&exit.status)),
            (None, Some(end)) => Some(end.how.status.as_ref()),
            (None, None) => None,
        }
    }

    /// As `exit code 3`.
    fn in_words(&self) -> String {
        match self.status() {
            Some(Ok(Status::Exited(code))) => format!("exit code {code}"),
            Some(Ok(Status::Signalled(signal))) => format!("ended by signal {signal}"),
            Some(Ok(Status::TimedOut { .. }) | Err(_)) | None => {
                "how it ended is unknown".to_owned()
            }
        }
    }

    /// The newest line of output.
    pub fn last_line(&self) -> String {
        self.output(self.latest).last_line()
    }

    /// The bytes of both streams.
    pub fn bytes(&self) -> u64 {
        self.stdout.bytes + self.stderr.bytes
    }
}

impl End {
    /// Whether the connection was lost before the command and its output had ended.
    pub fn is_lost(&self) -> bool {
        matches!(self.how.status, Err(SshError::ConnectionLost { .. }))
    }
}

impl Job {
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub fn is_running(&self) -> bool {
        self.state.borrow().end.is_none()
    }

    /// Whether the command itself is done, though what it left running may still hold its output.
    pub fn has_exited(&self) -> bool {
        let state = self.state.borrow();
        state.exit.is_some() || state.end.is_some()
    }

    /// How long it has run, or ran.
    pub fn duration(&self) -> Duration {
        let state = self.state.borrow();
        let exit = state.exit.as_ref().map(|exit| exit.after);
        let end = state.end.as_ref().map(|end| end.after);
        exit.or(end).unwrap_or_else(|| self.begun.elapsed())
    }

    /// Waits until it has ended, or exited and its output is still. `on_output` is told of new output, at a pace.
    pub async fn wait(
        &self,
        limit: Duration,
        cancel: &CancellationToken,
        mut on_output: impl FnMut(&State) + Send,
    ) -> Waited {
        let mut state = self.state.subscribe();
        let deadline = tokio::time::sleep(limit);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PACE, PACE);
        let (mut told, mut still_since) = (0, None);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                // It fails only where the command's follower is gone, and nothing more comes.
                _ = async { state.wait_for(|state| state.end.is_some()).await.map(drop) } => {
                    return Waited::Ended;
                }
                () = cancel.cancelled() => return Waited::Cancelled,
                () = &mut deadline => return Waited::TimeUp,
                _ = ticks.tick() => {
                    let state = self.state.borrow();
                    if state.bytes() > told {
                        told = state.bytes();
                        still_since = None;
                        on_output(&state);
                    }
                    if state.exit.is_some()
                        && !state.is_ending
                        && still_since.get_or_insert_with(Instant::now).elapsed() > HELD
                    {
                        return Waited::Exited;
                    }
                }
            }
        }
    }

    /// Waits until the guest's server has taken it on, or it has ended. Where that takes longer, whether it runs
    /// is not known.
    pub async fn accepted(&self, limit: Duration) {
        let mut state = self.state.subscribe();
        let is_there = |state: &State| state.accepted || state.end.is_some();
        let _ = tokio::time::timeout(limit, state.wait_for(is_there)).await;
    }

    /// Ends it with the server. Where it has exited, what it left running goes on.
    pub(super) fn end_with_server(&self) {
        if self.has_exited() {
            self.let_go();
        } else {
            self.end();
        }
    }

    /// Hears no more of it, where it has exited.
    pub(super) fn let_go(&self) {
        // Where nobody follows it any more, it has ended.
        let _ = self.orders.send(Order::LetGo);
    }

    /// Begins to end it with all that it started.
    pub fn end(&self) {
        // Where nobody follows it any more, it has ended.
        let _ = self.orders.send(Order::End);
    }

    /// Lets it go on after its call, and all output go to files, from the beginning.
    pub(super) async fn keep(&self) {
        let (done, there) = oneshot::channel();
        if self.orders.send(Order::Keep(done)).is_ok() {
            // A disk that hangs keeps nobody waiting.
            let _ = tokio::time::timeout(LOG_LIMIT, there).await;
        }
    }

    /// Hands text to its input; with `eof`, nothing comes after it.
    pub fn write(&self, text: Vec<u8>, eof: bool) -> Result<(), JobError> {
        let id = || self.id.clone();
        if self.has_exited() {
            return Err(self.ended());
        }
        let mut input = lock(&self.input);
        let Some(sender) = input.as_ref() else {
            return Err(JobError::InputEnded { id: id() });
        };
        if !text.is_empty() {
            sender.try_send(text).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => JobError::InputFull { id: id() },
                mpsc::error::TrySendError::Closed(_) => JobError::InputEnded { id: id() },
            })?;
        }
        if eof {
            *input = None;
        }
        Ok(())
    }

    /// Sends a signal to all its processes; tells how many there were.
    pub async fn signal(&self, signal: SignalName) -> Result<u64, JobError> {
        self.demand_running()?;
        let signaller = lock(&self.signaller).clone();
        let sent = match signaller {
            Some(signaller) => signaller.send(signal.as_str()).await?,
            None => 0,
        };
        if sent == 0 {
            self.demand_running()?;
            return Err(JobError::NotSignalled {
                id: self.id.clone(),
                signal,
            });
        }
        Ok(sent)
    }

    fn demand_running(&self) -> Result<(), JobError> {
        if self.is_running() {
            return Ok(());
        }
        Err(self.ended())
    }

    fn ended(&self) -> JobError {
        let (id, state) = (self.id.clone(), self.state.borrow());
        let how = state.in_words();
        if state.end.as_ref().is_some_and(End::is_lost) {
            JobError::Lost { id, how }
        } else {
            JobError::Ended { id, how }
        }
    }

    /// A part of a stream, of what came so far. Blocks.
    pub fn read(&self, stream: OutputStream, offset: u64, most: usize) -> Result<Piece, JobError> {
        let state = self.state();
        let output = state.output(stream);
        if offset > output.bytes {
            return Err(JobError::PastEnd {
                stream,
                offset,
                bytes: output.bytes,
                running: state.end.is_none(),
            });
        }
        output
            .read(offset, most)
            .map_err(|source| JobError::ReadLog {
                path: output.log.clone().unwrap_or_default(),
                source,
            })
    }

    /// All of a stream so far, where that is not more than this. Blocks.
    pub fn read_whole(&self, stream: OutputStream, most: usize) -> Result<Vec<u8>, JobError> {
        let state = self.state();
        let output = state.output(stream);
        let piece = self.read(stream, 0, most)?;
        let is_short = (piece.bytes.len() as u64) < output.bytes;
        if is_short && output.bytes <= most as u64 {
            let cut = output.cut.clone();
            return Err(JobError::Cut {
                id: self.id.clone(),
                stream,
                why: cut.unwrap_or_else(|| "its file was shortened".to_owned()),
            });
        }
        if is_short {
            return Err(JobError::TooLarge {
                id: self.id.clone(),
                stream,
                bytes: output.bytes,
                most: most as u64,
                log: output.log.clone(),
            });
        }
        Ok(piece.bytes)
    }

    /// Blocks.
    pub(super) fn remove_logs(&self) -> Result<(), JobError> {
        if let Some(logs) = lock(&self.logs).as_ref() {
            logs.remove()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_is_not_told_as_too_long() {
        let mut output = Output::default();
        output.push(&vec![b'x'; 40_000]);
        output.cut = Some("the disk is full".to_owned());
        let job = Job {
            id: JobId::now(),
            vm: None,
            command: "true".to_owned(),
            started: Utc::now(),
            begun: Instant::now(),
            state: watch::Sender::new(State {
                stdout: output,
                ..State::default()
            }),
            orders: mpsc::unbounded_channel().0,
            input: Mutex::default(),
            signaller: Mutex::default(),
            logs: Mutex::default(),
        };
        let read = |most| job.read_whole(OutputStream::Stdout, most).unwrap_err();
        let error = read(40_000);
        assert!(
            matches!(&error, JobError::Cut { why, .. } if why == "the disk is full"),
            "{error:?}"
        );
        let error = read(39_999);
        assert!(
            matches!(error, JobError::TooLarge { bytes: 40_000, .. }),
            "{error:?}"
        );
    }
}
