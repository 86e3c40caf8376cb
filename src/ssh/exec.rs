//! Running a command on the guest: by the login shell, as plain `ssh host 'command'` would.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    SshError, Stream, kill,
    quote::{self, LoginShell},
    session::Session,
    stream::{Lines, MarkerScan},
};

/// How long a command that is to be ended may take to say its first word: a slow guest that starts many login
/// shells at once takes its time.
const FIRST_WORD: Duration = Duration::from_secs(15);
/// How long a command may take to say its last word once it was ended.
const AFTERMATH: Duration = Duration::from_secs(5);
/// How long the caller of a command whose time is up waits for it to be ended; past that it is ended
/// behind the caller's back.
pub(super) const ENDING_LIMIT: Duration = Duration::from_secs(9);
/// A guest that was too busy to end a command the first time is asked once more.
const TRIES_TO_KILL: usize = 2;

/// The longest line that a login shell is handed. Linux takes no argument of more than 128 KiB
/// (`MAX_ARG_STRLEN`, execve(2)), and a line that is longer still costs the shared connection.
const LONGEST_LINE: usize = 120_000;

/// A command for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What the user's login shell runs: one or more lines, reaching it as they stand.
    pub line: String,
    /// The folder to run in; a relative one, and `~/…`, start at the home folder, which is the default.
    pub cwd: Option<String>,
    /// Variables to set besides those of the login.
    pub env: Vec<(String, String)>,
    /// What the command reads; without it, nothing but the end of file.
    pub stdin: Option<Vec<u8>>,
    /// After this time the command is ended, with all that it started.
    pub timeout: Duration,
    /// When somebody began to wait for it. What comes before the command runs may cost it time.
    pub asked: Instant,
}

impl Command {
    pub fn new(line: impl Into<String>, timeout: Duration) -> Self {
        Self {
            line: line.into(),
            cwd: None,
            env: Vec::new(),
            stdin: None,
            timeout,
            asked: Instant::now(),
        }
    }

    pub(super) fn check(&self) -> Result<(), BadCommand> {
        if self.line.trim().is_empty() {
            return Err(BadCommand::Empty);
        }
        if self.line.contains('\0') {
            return Err(BadCommand::Nul { part: "command" });
        }
        if let Some(cwd) = &self.cwd {
            if cwd.is_empty() {
                return Err(BadCommand::EmptyCwd);
            }
            if cwd.contains('\0') {
                return Err(BadCommand::Nul { part: "cwd" });
            }
        }
        for (name, value) in &self.env {
            if !quote::is_variable_name(name) {
                return Err(BadCommand::VariableName { name: name.clone() });
            }
            if value.contains('\0') {
                return Err(BadCommand::Nul { part: "env" });
            }
        }
        // The longer one of the two, so that the same command always fits.
        let head = quote::head(
            &marker(),
            LoginShell::Unknown,
            self.cwd.as_deref(),
            &self.env,
        );
        let length = head.len() + self.line.len();
        if length > LONGEST_LINE {
            return Err(BadCommand::TooLong { length });
        }
        Ok(())
    }
}

/// Why a command cannot be run anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    #[error("the command is empty")]
    Empty,
    #[error("`cwd` is empty")]
    EmptyCwd,
    #[error("`{part}` contains a NUL character, which no shell can take")]
    Nul { part: &'static str },
    #[error("`{name}` is no name of an environment variable")]
    VariableName { name: String },
    #[error(
        "the command is too long: {length} bytes with `cwd` and `env`, where {LONGEST_LINE} can be run"
    )]
    TooLong { length: usize },
    #[error("`cwd` and `env` are not supported on a Windows guest")]
    Windows,
}

impl BadCommand {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Empty => "Give the command to run.",
            Self::EmptyCwd => "Leave `cwd` out for the home folder.",
            Self::Nul { .. } => "Pass binary data through `stdin`.",
            Self::VariableName { .. } => {
                "Names are letters, digits and `_`, and start with no digit."
            }
            Self::TooLong { .. } => {
                "Pass data through `stdin`, or copy a script to the guest with `ssh_upload` and run it."
            }
            Self::Windows => "Put them into the command, in the words of the guest's shell.",
        }
        .to_owned()
    }
}

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

/// Runs a command on a channel of its own.
pub(super) async fn run(
    session: &Arc<Session>,
    channel: Channel<Msg>,
    command: Command,
    cancel: &CancellationToken,
    on_line: impl FnMut(&str) + Send,
) -> Result<Output, SshError> {
    let taken = Taken::new(on_line);
    if session.is_windows() {
        if command.cwd.is_some() || !command.env.is_empty() {
            return Err(BadCommand::Windows.into());
        }
        let marker = MarkerScan::off();
        return watch(session, channel, command, cancel, marker, taken).await;
    }
    let marker = marker();
    let shell = session.login_shell();
    let head = quote::head(&marker, shell, command.cwd.as_deref(), &command.env);
    let command = Command {
        line: format!("{head}{}", command.line),
        ..command
    };
    let marker = MarkerScan::new(&marker);
    let mut output = watch(session, channel, command, cancel, marker, taken).await?;
    // A shell that cannot parse the line quotes it, with the part that is not the caller's.
    output.stderr.cut_out(&head);
    Ok(output)
}

/// What a command's first output is told by.
fn marker() -> String {
    format!("virtpilot-{:016x}:", random())
}

/// A number that nobody hits by chance; not for secrets.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

async fn watch<L: FnMut(&str) + Send>(
    session: &Arc<Session>,
    channel: Channel<Msg>,
    command: Command,
    cancel: &CancellationToken,
    marker: MarkerScan,
    mut taken: Taken<L>,
) -> Result<Output, SshError> {
    let start = Instant::now();
    let endpoint = || session.endpoint().clone();
    let (read, write) = channel.split();
    let write = Arc::new(write);
    if write.exec(true, command.line).await.is_err() {
        return Err(SshError::ConnectionLost {
            endpoint: endpoint(),
        });
    }
    let mut guard = Guard(Some(Running {
        session: Arc::clone(session),
        read,
        write: Arc::clone(&write),
        marker,
    }));
    let Some(running) = &mut guard.0 else {
        return Err(SshError::ConnectionLost {
            endpoint: endpoint(),
        });
    };
    let end = {
        // Input goes its own way while output is taken: a command that reads nothing does not block.
        let input = feed(&write, command.stdin);
        let deadline = tokio::time::sleep(command.timeout);
        tokio::pin!(input, deadline);
        let mut fed = false;
        loop {
            tokio::select! {
                end = running.hear(&mut taken) => if let Some(end) = end {
                    break end;
                },
                () = &mut input, if !fed => fed = true,
                () = &mut deadline => break End::TimedOut,
                () = cancel.cancelled() => break End::Cancelled,
            }
        }
    };
    if let Some(name) = running.marker.shell() {
        session.learn_login_shell(name);
    }
    let left_running = match end {
        End::TimedOut => {
            let Ok(ended) = timeout(ENDING_LIMIT, running.end(&mut taken)).await else {
                // Once more, from the start: killing what is dead already harms nobody.
                drop(guard);
                taken.status = Some(Status::TimedOut { left_running: true });
                return taken
                    .finish(start.elapsed())
                    .ok_or_else(|| SshError::NoExitStatus {
                        endpoint: endpoint(),
                    });
            };
            !ended
        }
        End::Cancelled => !running.end(&mut taken).await,
        End::Closed | End::Lost | End::Refused => false,
    };
    guard.0 = None;
    match end {
        End::Closed => {}
        End::TimedOut => taken.status = Some(Status::TimedOut { left_running }),
        End::Cancelled => return Err(SshError::Cancelled { left_running }),
        End::Lost => {
            return Err(SshError::ConnectionLost {
                endpoint: endpoint(),
            });
        }
        End::Refused => {
            return Err(SshError::ExecRefused {
                endpoint: endpoint(),
            });
        }
    }
    taken
        .finish(start.elapsed())
        .ok_or_else(|| SshError::NoExitStatus {
            endpoint: endpoint(),
        })
}

/// Writes the command's input and its end. A command that has ended takes no more, and that is no failure.
async fn feed(write: &ChannelWriteHalf<Msg>, stdin: Option<Vec<u8>>) {
    if let Some(stdin) = stdin
        && write.data_bytes(stdin).await.is_err()
    {
        return;
    }
    let _ = write.eof().await;
}

/// Holds a running command; dropped with it, it ends the command on the guest too.
struct Guard(Option<Running>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let (Some(mut running), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move { running.end(&mut Taken::new(|_: &str| {})).await });
        }
    }
}

/// A command under way.
struct Running {
    session: Arc<Session>,
    read: ChannelReadHalf,
    write: Arc<ChannelWriteHalf<Msg>>,
    marker: MarkerScan,
}

impl Running {
    /// Takes the next thing that the command says. Losing the race of a `select!` loses nothing.
    async fn hear<L: FnMut(&str) + Send>(&mut self, taken: &mut Taken<L>) -> Option<End> {
        let message = self.read.wait().await;
        taken.take(message, &mut self.marker)
    }

    /// Ends the command, and takes what it says until then; tells whether it is known to have ended.
    async fn end<L: FnMut(&str) + Send>(&mut self, taken: &mut Taken<L>) -> bool {
        // The command may have been started a moment ago, and its shell not have told its process id yet.
        let naming = async {
            while self.marker.is_awaited() {
                if let Some(end) = self.hear(taken).await {
                    return Some(end);
                }
            }
            None
        };
        match timeout(FIRST_WORD, naming).await {
            Ok(Some(End::Closed)) => return true,
            Ok(Some(_)) => return false,
            Ok(None) | Err(_) => {}
        }
        let mut closed = None;
        let mut killed = false;
        if let Some(process) = self.marker.process() {
            for _ in 0..TRIES_TO_KILL {
                let session = Arc::clone(&self.session);
                let killing = kill::end(&session, process, taken.status.is_some());
                tokio::pin!(killing);
                killed = loop {
                    tokio::select! {
                        killed = &mut killing => break killed,
                        // Output has to be taken all the while: what is not taken blocks the whole
                        // connection, and with it the channel that does the killing.
                        end = self.hear(taken), if closed.is_none() => closed = end,
                    }
                };
                if killed || !self.session.is_alive() {
                    break;
                }
            }
        }
        if !killed {
            // Nothing better is left than to hang up.
            let _ = self.write.close().await;
        }
        let rest = async {
            while closed.is_none() {
                closed = self.hear(taken).await;
            }
            closed
        };
        // The channel closes once nothing holds the command's output any more.
        let closed = timeout(AFTERMATH, rest).await;
        let is_closed = matches!(closed, Ok(Some(End::Closed)));
        if killed && !is_closed {
            let _ = self.write.close().await;
        }
        killed && is_closed
    }
}

/// Why the waiting for a command came to its end.
enum End {
    Closed,
    Lost,
    Refused,
    TimedOut,
    Cancelled,
}

/// What a command has said so far.
struct Taken<L> {
    stdout: Stream,
    stderr: Stream,
    stdout_lines: Lines,
    stderr_lines: Lines,
    on_line: L,
    status: Option<Status>,
    at_end_of_output: bool,
}

impl<L: FnMut(&str) + Send> Taken<L> {
    fn new(on_line: L) -> Self {
        Self {
            stdout: Stream::default(),
            stderr: Stream::default(),
            stdout_lines: Lines::default(),
            stderr_lines: Lines::default(),
            on_line,
            status: None,
            at_end_of_output: false,
        }
    }

    fn take(&mut self, message: Option<ChannelMsg>, marker: &mut MarkerScan) -> Option<End> {
        match message {
            Some(ChannelMsg::Data { data }) => {
                let data = marker.push(&data);
                self.stdout.push(&data);
                self.stdout_lines.push(&data, &mut self.on_line);
            }
            // 1 is SSH_EXTENDED_DATA_STDERR, the only kind there is (RFC 4254, 5.2).
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                self.stderr.push(&data);
                self.stderr_lines.push(&data, &mut self.on_line);
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.status = Some(Status::Exited(exit_status.cast_signed()));
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                self.status = Some(Status::Signalled(signal(&signal_name)));
            }
            Some(ChannelMsg::Eof) => {
                self.at_end_of_output = true;
                let held_back = marker.finish();
                self.stdout.push(&held_back);
                self.stdout_lines.push(&held_back, &mut self.on_line);
            }
            Some(ChannelMsg::Failure) => return Some(End::Refused),
            Some(ChannelMsg::Close) => return Some(End::Closed),
            // A connection that breaks after the last word of the command takes nothing away.
            None if self.status.is_some() && self.at_end_of_output => return Some(End::Closed),
            None => return Some(End::Lost),
            Some(_) => {}
        }
        None
    }

    fn finish(mut self, duration: Duration) -> Option<Output> {
        self.stdout_lines.finish(&mut self.on_line);
        self.stderr_lines.finish(&mut self.on_line);
        Some(Output {
            status: self.status?,
            stdout: self.stdout,
            stderr: self.stderr,
            duration,
        })
    }
}

fn signal(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}
