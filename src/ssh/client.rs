//! A guest's SSH server as its callers see it: connections come and go behind it.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Command, Output, Process, SshError, Stay, Target, Usage, exec,
    fresh_channel::FreshChannel,
    pool::Pool,
    quote,
    session::{NoChannel, Session},
};

/// How long a command may take that only tells which login shell runs it.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

/// A guest's SSH server. Making one does nothing; the first call connects. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Client(pub(super) Arc<Pool>);

/// What is known about the connection to a guest.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    pub connected: bool,
    /// Where it was tried.
    pub target: Arc<Target>,
    /// What let us in, where the server asked for anything.
    pub login: Option<String>,
    /// What the server calls itself, as `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub server_version: Option<String>,
    /// The host key's fingerprint, `SHA256:…`.
    pub fingerprint: Option<String>,
    /// The host key's algorithm, as `ssh-ed25519`.
    pub key_algorithm: Option<String>,
    /// The fingerprint of the authority that vouches for the host key.
    pub authority: Option<String>,
    pub round_trip: Option<Duration>,
    pub usage: Usage,
    /// Why there is no connection.
    pub error: Option<SshError>,
}

impl Client {
    pub fn new(target: Target) -> Self {
        Self(Arc::new(Pool::new(target, None)))
    }

    /// A guest that may move: once a connection was lost, and where it does not answer, `finder` is asked where
    /// it may be now, and the same call goes on there.
    pub fn of_moving_guest(
        target: Target,
        finder: impl Fn() -> Pin<Box<dyn Future<Output = Result<Vec<Target>, SshError>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(Pool::new(target, Some(Box::new(finder)))))
    }

    /// Where the guest is, as far as is known.
    pub fn target(&self) -> Arc<Target> {
        self.0.target()
    }

    /// The guest is at one of these places from now on, the likeliest first. What is running where it was goes on.
    pub fn move_to(&self, places: &[Target]) {
        self.0.move_to(places);
    }

    /// Starts a command, and gives what is to be heard of it. Cancelling only ends the way there.
    pub async fn start(
        &self,
        command: Command,
        stay: Stay,
        cancel: &CancellationToken,
    ) -> Result<Process, SshError> {
        command.check()?;
        let mut opened = self.0.open(1, stay, cancel).await?;
        let depends = |session: &Session| {
            session.may_be_no_unix()
                || quote::depends_on_shell(&command.line, command.cwd.as_deref(), &command.env)
        };
        let mut asked: Vec<Arc<Session>> = Vec::new();
        while depends(&opened.session)
            && opened.session.login_shell().is_none()
            && !opened.session.is_windows()
            // Where it tells nothing, the shell is taken for one of the usual ones.
            && !asked.iter().any(|it| Arc::ptr_eq(it, &opened.session))
        {
            let session = Arc::clone(&opened.session);
            ask_for_shell(&session, opened.channel, cancel).await;
            asked.push(session);
            drop(opened.room);
            // It may be on another connection, whose shell nobody has asked for.
            opened = self.0.open(1, stay, cancel).await?;
        }
        Process::start(opened.session, opened.channel, Some(opened.room), command).await
    }

    /// Runs a command and gives what it wrote and how it ended; a non-zero exit is a result.
    ///
    /// Time-out and cancelling end it on the guest with all that it started.
    pub async fn execute(
        &self,
        command: Command,
        cancel: &CancellationToken,
    ) -> Result<Output, SshError> {
        let timeout = command.timeout;
        let stay = Stay::of(timeout);
        let process = self.start(command, stay, cancel).await?;
        exec::finish(process, timeout, cancel).await
    }

    /// Tries to connect, and tells how that went.
    pub async fn info(&self) -> ConnectionInfo {
        let session = self.0.session().await;
        let mut info = ConnectionInfo {
            connected: false,
            target: self.target(),
            login: None,
            server_version: None,
            fingerprint: None,
            key_algorithm: None,
            authority: None,
            round_trip: None,
            usage: self.0.usage(),
            error: None,
        };
        let session = match session {
            Ok(session) => session,
            Err(error) => {
                info.error = Some(error);
                return info;
            }
        };
        info.login = session.login().map(str::to_owned);
        info.server_version = session.version().map(str::to_owned);
        if let Some(key) = session.key() {
            info.fingerprint = Some(key.fingerprint.clone());
            info.key_algorithm = Some(key.algorithm.clone());
            info.authority.clone_from(&key.authority);
        }
        // After the login a server first prepares the user's session, and answers only then: the second
        // answer tells how far away it is.
        let round_trip = match session.round_trip().await {
            Ok(_) => session.round_trip().await,
            Err(error) => Err(error),
        };
        match round_trip {
            Ok(round_trip) => {
                info.connected = true;
                info.round_trip = Some(round_trip);
            }
            Err(error) => {
                self.0.forget(&session);
                info.error = Some(error);
            }
        }
        info
    }

    /// Whether the guest's SSH server can connect to a TCP port of its own machine.
    pub async fn reaches(&self, port: u16) -> Result<bool, SshError> {
        let session = self.0.session().await?;
        match session.reaches(port).await {
            Ok(reaches) => Ok(reaches),
            Err(NoChannel::Refused(error)) => Err(error),
            Err(NoChannel::Dead(error)) => {
                self.0.forget(&session);
                Err(error)
            }
        }
    }

    /// Ends the connections, if there are any; the next call connects anew.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Runs a command that only tells which login shell runs them all.
async fn ask_for_shell(session: &Arc<Session>, channel: FreshChannel, cancel: &CancellationToken) {
    let first = Command::new("true", FIRST_LIMIT);
    let answer = exec::run(session, channel, first, cancel).await;
    if session.login_shell().is_some() {
        return;
    }
    tracing::debug!(?answer, "the login shell is not known");
    let is_answer = matches!(
        answer,
        Ok(_) | Err(SshError::NoExitStatus { .. } | SshError::ExecRefused { .. })
    );
    if is_answer && session.may_be_no_unix() {
        session.learn_bare_shell();
    }
}
