//! One live connection: TCP, handshake, host key, login; and its channels.

mod config;
mod tcp;
mod verifier;

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use russh::{
    ChannelOpenFailure, ChannelStream, Disconnect,
    client::{self, Handle, Msg},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, SemaphorePermit},
    time::{error::Elapsed, timeout},
};
use verifier::Refusal;
pub(super) use verifier::{End, ServerFacts, ServerKey, Verifier};

use super::{
    Endpoint, SshError, Step, Target, auth, fresh_channel::FreshChannel, greeting,
    host_keys::KnownHosts, kill::Doomed, on_files, proxy_command::ProxyCommand, quote::LoginShell,
};

const TCP_LIMIT: Duration = Duration::from_secs(10);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const AUTHENTICATION_LIMIT: Duration = Duration::from_secs(15);
const CHANNEL_LIMIT: Duration = Duration::from_secs(10);
/// How long a server is given to connect to a port: as long as Linux takes to give up on one that answers nothing.
const PORT_LIMIT: Duration = Duration::from_secs(150);
const REFUSAL_PAUSES: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(60),
    Duration::from_millis(100),
];
/// Channels of the ten that OpenSSH permits (`MaxSessions`); commands and transfers use the others.
const SPARE_CHANNELS: usize = 2;
const PING_LIMIT: Duration = Duration::from_secs(10);

/// A connection that is logged in.
pub(super) struct Session {
    handle: Arc<Handle<Verifier>>,
    target: Target,
    endpoint: Endpoint,
    /// When it was logged in.
    since: Instant,
    /// What let us in, where the server asked for anything; the last of it where it wants several.
    login: Option<String>,
    facts: Arc<ServerFacts>,
    doomed: Doomed,
    killing: Semaphore,
    /// Ends with this connection, for which it lives.
    _beneath: Beneath,
}

/// What carries a connection: the one to a jump host, or a program.
type Beneath = Option<Box<dyn Any + Send + Sync>>;

/// Why a channel did not open.
pub(super) enum NoChannel {
    /// The connection is of no use any more; nothing was run.
    Dead(SshError),
    /// The server lives and says no.
    Refused(SshError),
}

impl Session {
    /// Connects, through the target's jump hosts one after the other.
    pub(super) async fn connect(target: &Target) -> Result<Self, SshError> {
        let mut before = None;
        for jump in &target.jumps {
            let session = Box::pin(Self::through(before, jump)).await;
            before = Some(session.map_err(|error| SshError::AtJump {
                jump: jump.endpoint(),
                source: Box::new(error),
            })?);
        }
        Box::pin(Self::through(before, target)).await
    }

    async fn through(before: Option<Self>, target: &Target) -> Result<Self, SshError> {
        let endpoint = target.endpoint();
        let known = {
            let target = target.clone();
            Arc::new(on_files(move || KnownHosts::read(&target)).await?)
        };
        match (before, &target.proxy_command) {
            (Some(jump), _) => {
                let stream = jump.forward(&endpoint).await?;
                let beneath: Beneath = Some(Box::new(jump));
                Self::over(stream, beneath, target, known).await
            }
            (None, Some(line)) => {
                let (command, stream) = ProxyCommand::start(line, target)?;
                let said = command.words();
                let beneath: Beneath = Some(Box::new(command));
                let session = Self::over(stream, beneath, target, known).await;
                session.map_err(|error| said.with(error))
            }
            (None, None) => {
                let mut stream = tcp::open(&endpoint).await?;
                greeting::check(&endpoint, &mut stream).await?;
                Self::over(stream, None, target, known).await
            }
        }
    }

    /// Shakes hands and logs in.
    async fn over<S>(
        stream: S,
        beneath: Beneath,
        target: &Target,
        known: Arc<KnownHosts>,
    ) -> Result<Self, SshError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let endpoint = target.endpoint();
        let facts = Arc::new(ServerFacts::default());
        let config = Arc::new(config::of_client(&known));
        let verifier = Verifier {
            known,
            facts: Arc::clone(&facts),
        };
        let handshake = client::connect_stream(config, stream, verifier);
        let mut handle = within(HANDSHAKE_LIMIT, Step::KeyExchange, &endpoint, handshake)
            .await?
            .map_err(|refusal| match refusal {
                Refusal::HostKey(error) => error,
                Refusal::Protocol(error) => SshError::Handshake {
                    endpoint: endpoint.clone(),
                    source: Arc::new(error),
                },
            })?;
        let login = auth::authenticate(&mut handle, target, &facts);
        let login = within(AUTHENTICATION_LIMIT, Step::Authentication, &endpoint, login).await??;
        Ok(Self {
            handle: Arc::new(handle),
            since: Instant::now(),
            login,
            target: target.clone(),
            endpoint,
            facts,
            doomed: Doomed::default(),
            killing: Semaphore::new(SPARE_CHANNELS),
            _beneath: beneath,
        })
    }

    /// A stream to another server, as this one reaches it.
    async fn forward(&self, to: &Endpoint) -> Result<ChannelStream<Msg>, SshError> {
        let opening =
            self.handle
                .channel_open_direct_tcpip(to.host.as_str(), to.port.into(), "127.0.0.1", 0);
        match within(TCP_LIMIT, Step::Tcp, to, opening).await? {
            Ok(channel) => Ok(channel.into_stream()),
            Err(error) => Err(SshError::NotForwarded {
                jump: self.endpoint.clone(),
                to: to.clone(),
                source: Arc::new(error),
            }),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The commands that are to be ended.
    pub(super) fn doomed(&self) -> &Doomed {
        &self.doomed
    }

    /// Waits for one of the channels that are kept free for ending commands.
    pub(super) async fn turn_to_kill(&self) -> Option<SemaphorePermit<'_>> {
        self.killing.acquire().await.ok()
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.handle.is_closed()
    }

    /// What the server calls itself, as `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub(super) fn version(&self) -> Option<&str> {
        self.facts.version.get().map(String::as_str)
    }

    /// How long ago it was logged in.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// What let us in, as `identity /home/ann/key`.
    pub(super) fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    pub(super) fn key(&self) -> Option<&ServerKey> {
        self.facts.key.get()
    }

    /// What the first command told of the shell that runs them all.
    pub(super) fn login_shell(&self) -> Option<LoginShell> {
        self.facts.login_shell.get().copied()
    }

    pub(super) fn learn_login_shell(&self, name: &str) {
        let _ = self.facts.login_shell.set(LoginShell::of_name(name));
    }

    /// No `sh` told of the shell, as every other would have let it.
    pub(super) fn learn_bare_shell(&self) {
        let _ = self.facts.login_shell.set(LoginShell::Bare);
    }

    /// Whether its shells may be others than those of a Unix, which both of these servers run on but for Windows.
    pub(super) fn may_be_no_unix(&self) -> bool {
        let is_unix = |version: &str| version.contains("OpenSSH") || version.contains("dropbear");
        !self.version().is_some_and(is_unix)
    }

    /// Whether the guest is a Windows one, whose shells want other words.
    pub(super) fn is_windows(&self) -> bool {
        self.version()
            .is_some_and(|version| version.contains("Windows"))
    }

    /// Opens a channel. A refusal is asked about again for a moment: OpenSSH's server still counts a channel
    /// that was closed in the same breath, and refuses one that it could take.
    pub(super) async fn open_channel(&self) -> Result<FreshChannel, NoChannel> {
        let mut pauses = REFUSAL_PAUSES.iter();
        loop {
            match self.opening().await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error @ russh::Error::ChannelOpenFailure(_))) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => {
                        return Err(NoChannel::Refused(SshError::ChannelRefused {
                            endpoint: self.endpoint.clone(),
                            source: Arc::new(error),
                        }));
                    }
                },
                Ok(Err(error)) => return Err(NoChannel::Dead(self.disconnected(error))),
                Err(_) => return Err(NoChannel::Dead(self.slow(Step::Channel, CHANNEL_LIMIT))),
            }
        }
    }

    /// Asks for a channel once, in a task of its own: one that opens when nobody waits any more is closed.
    async fn opening(&self) -> Result<Result<FreshChannel, russh::Error>, Elapsed> {
        let handle = Arc::clone(&self.handle);
        let opening = tokio::spawn(async move {
            // No longer than this, for it keeps the connection.
            let opened = timeout(CHANNEL_LIMIT, handle.channel_open_session()).await?;
            Ok(opened.map(FreshChannel::new))
        });
        // Nothing ends it before its time but the end of the whole server.
        opening.await.unwrap_or(Ok(Err(russh::Error::Disconnect)))
    }

    /// Whether the server can connect to a port of its own machine.
    pub(super) async fn reaches(&self, port: u16) -> Result<bool, NoChannel> {
        let handle = Arc::clone(&self.handle);
        // In a task of its own: a channel that opens when nobody waits any more is closed.
        let opening = tokio::spawn(async move {
            // The originator only stands in the server's log.
            let opening =
                handle.channel_open_direct_tcpip("localhost", port.into(), "127.0.0.1", 0);
            let opened = timeout(PORT_LIMIT, opening).await.ok()?;
            Some(opened.map(FreshChannel::new))
        });
        let opened = timeout(CHANNEL_LIMIT, opening).await;
        match opened.ok().and_then(Result::ok).flatten() {
            // It served its purpose; the connection stays.
            Some(Ok(_channel)) => Ok(true),
            Some(Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed))) => {
                Ok(false)
            }
            Some(Err(error @ russh::Error::ChannelOpenFailure(_))) => {
                Err(NoChannel::Refused(SshError::ChannelRefused {
                    endpoint: self.endpoint.clone(),
                    source: Arc::new(error),
                }))
            }
            Some(Err(error)) => Err(NoChannel::Dead(self.disconnected(error))),
            // Only a port that answers nothing, where the server itself still answers.
            None => match self.round_trip().await {
                Ok(_) => Ok(false),
                Err(error) => Err(NoChannel::Dead(error)),
            },
        }
    }

    /// How long the server takes to answer the smallest request.
    pub(super) async fn round_trip(&self) -> Result<Duration, SshError> {
        let start = Instant::now();
        let ping = within(
            PING_LIMIT,
            Step::Ping,
            &self.endpoint,
            self.handle.send_ping(),
        );
        match ping.await? {
            // A ping also returns when the connection ends under it.
            Ok(()) if self.is_alive() => Ok(start.elapsed()),
            Ok(()) => Err(self.disconnected(russh::Error::Disconnect)),
            Err(error) => Err(self.disconnected(error)),
        }
    }

    /// Says goodbye.
    pub(super) async fn close(&self) {
        let goodbye = self
            .handle
            .disconnect(Disconnect::ByApplication, "done", "en");
        // A connection that is gone already needs none.
        let _ = timeout(Duration::from_secs(1), goodbye).await;
    }

    pub(super) fn disconnected(&self, error: russh::Error) -> SshError {
        SshError::Disconnected {
            endpoint: self.endpoint.clone(),
            source: Arc::new(error),
        }
    }

    fn slow(&self, step: Step, limit: Duration) -> SshError {
        SshError::Slow {
            endpoint: self.endpoint.clone(),
            step,
            limit,
        }
    }
}

async fn within<F: Future>(
    limit: Duration,
    step: Step,
    endpoint: &Endpoint,
    act: F,
) -> Result<F::Output, SshError> {
    timeout(limit, act).await.map_err(|_| SshError::Slow {
        endpoint: endpoint.clone(),
        step,
        limit,
    })
}
