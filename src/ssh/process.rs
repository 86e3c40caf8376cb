//! A command under way on the guest, by its login shell, as plain `ssh host 'command'` would run it.
//!
//! Whoever holds a [`Process`] must go on hearing it: what is not taken blocks the whole connection. Dropped
//! before its end, it is ended on the guest too.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc, time::Duration};

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};
use tokio::{
    sync::{mpsc, watch},
    time::{Sleep, sleep},
};

use super::{
    BadCommand, Command, Endpoint, SshError, Status, exec,
    fresh_channel::FreshChannel,
    kill,
    pool::Room,
    quote::{self, LoginShell},
    session::Session,
    signaller::{Shell, Signaller, told},
    stream::{CutOut, MarkerScan},
};

/// How long a command may take to say its last word once it was ended.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Pieces of input that wait for the command to read them.
const PIECES_OF_INPUT: usize = 16;

/// A command under way.
pub struct Process {
    /// Taken out by the drop alone.
    running: Option<Running>,
    input: Option<mpsc::Sender<Vec<u8>>>,
    endpoint: Endpoint,
}

/// The next thing that is heard of a command.
#[derive(Debug)]
pub enum Heard {
    /// The server is about to run it.
    Accepted,
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// Its login shell is done. What it started may still write, and hold its output for as long as it likes.
    Exited(Status),
    /// The last thing.
    Ended(Ending),
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ending {
    pub status: Result<Status, SshError>,
    /// Where it was to be ended: whether it could not be seen to end, and something of it may still be running.
    pub left_running: Option<bool>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Process {
    /// Asks the server to run the command. `room` is given back once it has ended.
    pub(super) async fn start(
        session: Arc<Session>,
        channel: FreshChannel,
        room: Option<Room>,
        command: Command,
    ) -> Result<Self, SshError> {
        let is_windows = session.is_windows();
        let shell = session.login_shell().unwrap_or(LoginShell::Unknown);
        if command.cwd.is_some() || !command.env.is_empty() {
            if is_windows {
                return Err(BadCommand::Windows.into());
            }
            if matches!(shell, LoginShell::Foreign | LoginShell::Bare) {
                return Err(BadCommand::ForeignShell.into());
            }
        }
        let marker = marker();
        let (head, scan) = if is_windows || shell == LoginShell::Bare {
            (String::new(), MarkerScan::off())
        } else {
            let head = quote::head(&marker, shell, command.cwd.as_deref(), &command.env);
            (head, MarkerScan::new(&marker))
        };
        let endpoint = session.endpoint().clone();
        let (read, write) = channel.take().split();
        let write = Arc::new(write);
        let line = format!("{head}{}", command.line);
        if write.exec(true, line).await.is_err() {
            return Err(SshError::ConnectionLost { endpoint });
        }
        let (input, more) = if command.input_stays_open {
            let (sender, receiver) = mpsc::channel(PIECES_OF_INPUT);
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let feeding = feed(Arc::clone(&write), command.stdin, more);
        let shell = Shell {
            is_awaited: scan.is_awaited(),
            process: None,
            exited: false,
        };
        let running = Running {
            session,
            read,
            write,
            marker: scan,
            quoted: CutOut::new(&head),
            heard: VecDeque::new(),
            shell: watch::Sender::new(shell),
            feeding: Some(Box::pin(feeding)),
            killing: None,
            killed: None,
            last_chance: None,
            status: None,
            at_end_of_output: false,
            closed: None,
            room,
        };
        Ok(Self {
            running: Some(running),
            input,
            endpoint,
        })
    }

    /// Waits for the next thing. Losing the race of a `select!` loses nothing. After [`Heard::Ended`] nothing
    /// comes any more.
    pub async fn hear(&mut self) -> Heard {
        let heard = match &mut self.running {
            Some(running) => running.hear().await,
            None => std::future::pending().await,
        };
        if let Heard::Ended(_) = heard {
            self.running = None;
        }
        heard
    }

    /// The command goes on for longer than was said: brief calls must not wait for its channel.
    pub fn stays(&mut self) {
        let running = self.running.as_mut();
        if let Some(room) = running.and_then(|running| running.room.as_mut()) {
            room.stays();
        }
    }

    /// Begins to end the command with all that it started; [`Heard::Ended`] tells how that went.
    pub fn end(&mut self) {
        if let Some(running) = &mut self.running {
            running.end();
        }
    }

    pub fn is_ending(&self) -> bool {
        let running = self.running.as_ref();
        running.is_none_or(|running| running.killing.is_some() || running.killed.is_some())
    }

    /// Where more input goes; closing it is the end of file for the command. Only once, and only where the
    /// command's input stays open.
    pub fn take_input(&mut self) -> Option<mpsc::Sender<Vec<u8>>> {
        self.input.take()
    }

    pub fn signaller(&self) -> Option<Signaller> {
        let running = self.running.as_ref()?;
        Some(Signaller {
            session: Arc::clone(&running.session),
            shell: running.shell.subscribe(),
        })
    }

    /// Hears no more of a command that has exited; what it started goes on without an output.
    pub fn let_go(&mut self) {
        if let Some(running) = &mut self.running
            && running.status.is_some()
            && running.closed.is_none()
        {
            running.closed = Some(Closed::GivenUp);
            running.hang_up();
        }
    }

    pub(super) fn lost(&self) -> SshError {
        SshError::ConnectionLost {
            endpoint: self.endpoint.clone(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let (Some(mut running), Ok(runtime)) =
            (self.running.take(), tokio::runtime::Handle::try_current())
        {
            // Once more, where it was begun: killing what is dead already harms nobody.
            running.killing = None;
            running.killed = None;
            running.end();
            runtime.spawn(async move { while !matches!(running.hear().await, Heard::Ended(_)) {} });
        }
    }
}

/// What a command's first output is told by.
pub(super) fn marker() -> String {
    format!("virtpilot-{:016x}:", exec::random())
}

/// Writes the command's input, and its end. A command that has ended takes no more, and that is no failure.
async fn feed(
    write: Arc<ChannelWriteHalf<Msg>>,
    first: Option<Vec<u8>>,
    more: Option<mpsc::Receiver<Vec<u8>>>,
) {
    if let Some(first) = first
        && write.data_bytes(first).await.is_err()
    {
        return;
    }
    if let Some(mut more) = more {
        while let Some(piece) = more.recv().await {
            if write.data_bytes(piece).await.is_err() {
                return;
            }
        }
    }
    let _ = write.eof().await;
}

/// Ends what the shell runs; tells whether nothing of it is left.
async fn end(session: Arc<Session>, shell: watch::Receiver<Shell>) -> bool {
    // The command may have been started a moment ago, and its shell not have told its process id yet.
    match told(&shell).await.process {
        Some(process) => kill::end(&session, process, &shell).await,
        None => false,
    }
}

type Work<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

struct Running {
    session: Arc<Session>,
    read: ChannelReadHalf,
    write: Arc<ChannelWriteHalf<Msg>>,
    marker: MarkerScan,
    /// A shell that finds fault with the line quotes it, with the part that is not the caller's.
    quoted: CutOut,
    /// What one message told, until it is handed on.
    heard: VecDeque<Heard>,
    shell: watch::Sender<Shell>,
    /// Input goes its own way while output is taken: a command that reads nothing does not block.
    feeding: Work<()>,
    killing: Work<bool>,
    killed: Option<bool>,
    last_chance: Option<Pin<Box<Sleep>>>,
    status: Option<Status>,
    at_end_of_output: bool,
    closed: Option<Closed>,
    room: Option<Room>,
}

/// How a channel came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    ByServer,
    /// Something that the command started still holds it.
    GivenUp,
    Lost,
    Refused,
}

impl Running {
    async fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            if let Some(closed) = self.closed
                && self.killing.is_none()
            {
                if closed == Closed::Refused {
                    // Else the server counts it for ever.
                    self.hang_up();
                }
                return Heard::Ended(self.ending(closed));
            }
            tokio::select! {
                message = self.read.wait(), if self.closed.is_none() => self.take(message),
                () = done(&mut self.feeding) => self.feeding = None,
                killed = done(&mut self.killing) => {
                    self.killing = None;
                    self.killed = Some(killed);
                    // The channel closes once nothing holds the command's output any more.
                    self.last_chance = Some(Box::pin(sleep(AFTERMATH)));
                    if !killed {
                        // Nothing better is left than to hang up.
                        self.hang_up();
                    }
                }
                () = chance(&mut self.last_chance) => {
                    self.last_chance = None;
                    self.closed = Some(self.closed.unwrap_or(Closed::GivenUp));
                    self.hang_up();
                }
            }
        }
    }

    /// Closes the channel behind our back: the word may have to wait until output that floods the connection
    /// is taken.
    fn hang_up(&self) {
        let write = Arc::clone(&self.write);
        tokio::spawn(async move { write.close().await });
    }

    fn end(&mut self) {
        if self.killing.is_none() && self.killed.is_none() {
            let session = Arc::clone(&self.session);
            self.killing = Some(Box::pin(end(session, self.shell.subscribe())));
        }
    }

    fn take(&mut self, message: Option<ChannelMsg>) {
        match message {
            Some(ChannelMsg::Success) => self.heard.push_back(Heard::Accepted),
            Some(ChannelMsg::Data { data }) => {
                let was_awaited = self.marker.is_awaited();
                let data = self.marker.push(&data).into_owned();
                if was_awaited && !self.marker.is_awaited() {
                    self.hear_of_shell();
                }
                self.say(Heard::Stdout, data);
            }
            // 1 is SSH_EXTENDED_DATA_STDERR, the only kind there is (RFC 4254, 5.2).
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                let data = self.quoted.push(&data);
                self.say(Heard::Stderr, data);
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.exited(Status::Exited(exit_status.cast_signed()));
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                self.exited(Status::Signalled(name_of(&signal_name)));
            }
            Some(ChannelMsg::Eof) => {
                self.at_end_of_output = true;
                let held_back = self.marker.finish();
                self.say(Heard::Stdout, held_back);
                self.hear_of_shell();
            }
            Some(ChannelMsg::Failure) => self.close(Closed::Refused),
            Some(ChannelMsg::Close) => self.close(Closed::ByServer),
            // A connection that breaks after the last word of the command takes nothing away.
            None if self.status.is_some() && self.at_end_of_output => self.close(Closed::ByServer),
            None => self.close(Closed::Lost),
            Some(_) => {}
        }
    }

    fn say(&mut self, which: fn(Vec<u8>) -> Heard, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.heard.push_back(which(bytes));
        }
    }

    /// The line with the shell's process id came, or cannot come any more.
    fn hear_of_shell(&mut self) {
        if let Some(name) = self.marker.shell() {
            self.session.learn_login_shell(name);
        }
        let process = self.marker.process();
        self.shell.send_modify(|shell| {
            shell.is_awaited = false;
            shell.process = process;
        });
    }

    fn exited(&mut self, status: Status) {
        self.heard.push_back(Heard::Exited(status.clone()));
        self.status = Some(status);
        self.shell.send_modify(|shell| shell.exited = true);
    }

    fn close(&mut self, closed: Closed) {
        // Nobody waits for what cannot come.
        let held_back = self.marker.finish();
        self.say(Heard::Stdout, held_back);
        let quoted = self.quoted.finish();
        self.say(Heard::Stderr, quoted);
        self.hear_of_shell();
        self.closed = Some(closed);
    }

    fn ending(&mut self, closed: Closed) -> Ending {
        let endpoint = self.session.endpoint().clone();
        let status = match closed {
            Closed::ByServer | Closed::GivenUp => {
                let status = self.status.take();
                status.ok_or(SshError::NoExitStatus { endpoint })
            }
            Closed::Lost => Err(SshError::ConnectionLost { endpoint }),
            Closed::Refused => Err(SshError::ExecRefused { endpoint }),
        };
        let left_running = self
            .killed
            .map(|killed| !killed || closed != Closed::ByServer);
        Ending {
            status,
            left_running,
        }
    }
}

/// Waits for work that may not be there.
async fn done<T>(work: &mut Work<T>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn chance(sleep: &mut Option<Pin<Box<Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

fn name_of(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}
