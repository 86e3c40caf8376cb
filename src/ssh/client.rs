//! A guest's SSH server as its callers see it: one shared connection that comes and goes.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use russh::{Channel, client::Msg};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::{
    Command, Output, SshError, Step, Target, exec,
    session::{NoChannel, Session},
};

/// Channels in use at a time. OpenSSH permits ten on a connection (`MaxSessions`); two stay free for ending
/// commands.
const MOST_CHANNELS: u32 = 8;
/// How long a call waits for others to free a channel.
const TURN_LIMIT: Duration = Duration::from_secs(10);
/// How long all of connecting may take, each step of which has a limit of its own: clients give up on a
/// call at 60 s.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// A command of the default time limit, together with what comes before it, ends before this time.
/// The rest of a client's minute is for ending the command and for the answer.
const BUDGET: Duration = Duration::from_secs(49);
/// Past the budget, what comes before a command takes nothing away from its own time.
const LONGEST_IN_BUDGET: Duration = Duration::from_secs(45);
/// How long a call waits before it asks again for a channel that the server refused: commands that are being
/// ended take channels too, and free them soon.
const REFUSAL_PAUSES: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(2),
    Duration::from_secs(2),
];

/// A guest's SSH server. Making one does nothing; the first call connects. Clones share the connection.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    target: Target,
    /// Locked while a connection is made, so that there is never a second attempt at the same time.
    connection: Mutex<Connection>,
    channels: Semaphore,
}

#[derive(Default)]
struct Connection {
    session: Option<Arc<Session>>,
    failure: Option<(Instant, SshError)>,
}

/// What is known about the connection to a guest.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    pub connected: bool,
    /// What the server calls itself, as `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub server_version: Option<String>,
    /// The host key's fingerprint, `SHA256:…`.
    pub fingerprint: Option<String>,
    /// The host key's algorithm, as `ssh-ed25519`.
    pub key_algorithm: Option<String>,
    pub round_trip: Option<Duration>,
    /// Why there is no connection.
    pub error: Option<SshError>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("target", &self.0.target)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub fn new(target: Target) -> Self {
        Self(Arc::new(Shared {
            target,
            connection: Mutex::default(),
            channels: Semaphore::new(MOST_CHANNELS as usize),
        }))
    }

    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// Runs a command and gives what it wrote and how it ended; a non-zero exit is a result.
    ///
    /// Time-out and cancelling end it on the guest with all that it started. `on_line` sees every line of
    /// both streams as it comes.
    pub async fn execute(
        &self,
        mut command: Command,
        cancel: &CancellationToken,
        on_line: impl FnMut(&str) + Send,
    ) -> Result<Output, SshError> {
        command.check()?;
        let _permit = self.permit(1, cancel).await?;
        let (session, channel) = until(cancel, self.channel()).await?;
        command.timeout = in_budget(command.timeout, command.asked.elapsed());
        exec::run(&session, channel, command, cancel, on_line).await
    }

    /// Tries to connect, and tells how that went.
    pub async fn info(&self) -> ConnectionInfo {
        let mut info = ConnectionInfo {
            connected: false,
            server_version: None,
            fingerprint: None,
            key_algorithm: None,
            round_trip: None,
            error: None,
        };
        let session = match self.in_time(self.session()).await {
            Ok(session) => session,
            Err(error) => {
                info.error = Some(error);
                return info;
            }
        };
        info.server_version = session.version().map(str::to_owned);
        if let Some(key) = session.key() {
            info.fingerprint = Some(key.fingerprint.clone());
            info.key_algorithm = Some(key.algorithm.clone());
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
                self.forget(&session).await;
                info.error = Some(error);
            }
        }
        info
    }

    /// Whether the guest's SSH server can connect to a TCP port of its own machine.
    pub async fn reaches(&self, port: u16) -> Result<bool, SshError> {
        let session = self.in_time(self.session()).await?;
        match session.reaches(port).await {
            Ok(reaches) => Ok(reaches),
            Err(NoChannel::Refused(error)) => Err(error),
            Err(NoChannel::Dead(error)) => {
                self.forget(&session).await;
                Err(error)
            }
        }
    }

    /// Ends the connection, if there is one; the next call connects anew.
    pub async fn close(&self) {
        let session = self.0.connection.lock().await.session.take();
        if let Some(session) = session {
            session.close().await;
        }
    }

    /// Waits for a free place on the connection.
    pub(super) async fn permit(
        &self,
        channels: u32,
        cancel: &CancellationToken,
    ) -> Result<SemaphorePermit<'_>, SshError> {
        let permit = tokio::time::timeout(TURN_LIMIT, self.0.channels.acquire_many(channels));
        let busy = || SshError::Busy {
            endpoint: self.0.target.endpoint(),
            limit: MOST_CHANNELS,
        };
        until(cancel, async {
            permit.await.map_err(|_| busy())?.map_err(|_| busy())
        })
        .await
    }

    /// Opens a channel, on a new connection if the one there is turns out to be dead, and with some patience
    /// where the server refuses it.
    pub(super) async fn channel(&self) -> Result<(Arc<Session>, Channel<Msg>), SshError> {
        self.in_time(self.any_channel()).await
    }

    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, SshError>>,
    ) -> Result<T, SshError> {
        let outcome = tokio::time::timeout(CONNECT_LIMIT, connecting).await;
        outcome.map_err(|_| SshError::Slow {
            endpoint: self.0.target.endpoint(),
            step: Step::All,
            limit: CONNECT_LIMIT,
        })?
    }

    async fn any_channel(&self) -> Result<(Arc<Session>, Channel<Msg>), SshError> {
        let mut pauses = REFUSAL_PAUSES.iter();
        let mut has_been_dead = false;
        loop {
            let session = self.session().await?;
            // Nothing was run yet, so trying once more is safe.
            match session.open_channel().await {
                Ok(channel) => return Ok((session, channel)),
                Err(NoChannel::Refused(error)) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(error),
                },
                Err(NoChannel::Dead(error)) => {
                    self.forget(&session).await;
                    if has_been_dead {
                        return Err(error);
                    }
                    tracing::debug!(%error, "connecting again");
                    has_been_dead = true;
                }
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>, SshError> {
        let asked = Instant::now();
        let mut connection = self.0.connection.lock().await;
        if let Some(session) = &connection.session
            && session.is_alive()
        {
            return Ok(Arc::clone(session));
        }
        connection.session = None;
        // Whoever waited while an attempt failed shares its failure, or they would all wait in a row.
        if let Some((when, error)) = &connection.failure
            && *when >= asked
        {
            return Err(error.clone());
        }
        // Boxed, so that not every call's future is as large as a handshake.
        match Box::pin(Session::connect(&self.0.target)).await {
            Ok(session) => {
                let session = Arc::new(session);
                connection.session = Some(Arc::clone(&session));
                connection.failure = None;
                Ok(session)
            }
            Err(error) => {
                connection.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Drops a dead connection, unless another call has replaced it already.
    async fn forget(&self, dead: &Arc<Session>) {
        let mut connection = self.0.connection.lock().await;
        if let Some(session) = &connection.session
            && Arc::ptr_eq(session, dead)
        {
            connection.session = None;
        }
    }
}

/// Does something that changes nothing on the guest, until it is cancelled.
pub(super) async fn until<T>(
    cancel: &CancellationToken,
    act: impl Future<Output = Result<T, SshError>>,
) -> Result<T, SshError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(SshError::Cancelled { left_running: false }),
        result = act => result,
    }
}

/// The time that a command gets, so that the call ends before its client gives up: what was spent before
/// counts, but for commands that were given longer than a client waits.
fn in_budget(timeout: Duration, spent: Duration) -> Duration {
    if timeout > LONGEST_IN_BUDGET {
        return timeout;
    }
    timeout.min(BUDGET.saturating_sub(spent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_the_default_time_ends_before_its_client_gives_up() {
        let seconds = Duration::from_secs;
        let cases = [
            // The usual one: connecting takes nothing away.
            (45, 0, 45),
            (45, 4, 45),
            (45, 5, 44),
            // The longest that a turn and connecting take.
            (45, 40, 9),
            (5, 40, 5),
            (45, 60, 0),
            // Who gives more waits longer.
            (46, 40, 46),
        ];
        for (timeout, spent, expected) in cases {
            let limit = in_budget(seconds(timeout), seconds(spent));
            assert_eq!(limit, seconds(expected), "{timeout} after {spent}");
        }
        let longest = TURN_LIMIT + CONNECT_LIMIT;
        assert!(longest + seconds(9) <= BUDGET);
        assert!(BUDGET + exec::ENDING_LIMIT < seconds(60));
    }
}
