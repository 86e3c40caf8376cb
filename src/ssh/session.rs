//! One live connection: TCP, handshake, host key, login; and its channels.

mod verifier;

use std::{
    any::Any,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use russh::{
    ChannelOpenFailure, ChannelStream, Disconnect, cipher,
    client::{self, Handle, Msg},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
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
                let mut stream = tcp(&endpoint).await?;
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
        let config = Arc::new(config(&known));
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

async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, SshError> {
    let lookup = lookup_host((endpoint.host.as_str(), endpoint.port));
    let addresses: Vec<SocketAddr> = within(TCP_LIMIT, Step::Resolve, endpoint, lookup)
        .await?
        .map_err(|error| SshError::Resolve {
            host: endpoint.host.clone(),
            source: Arc::new(error),
        })?
        .collect();
    let stream = within(TCP_LIMIT, Step::Tcp, endpoint, connect(&addresses))
        .await?
        .map_err(|error| SshError::Unreachable {
            endpoint: endpoint.clone(),
            source: Arc::new(error),
        })?;
    // Without it every small packet waits for the answer to the one before.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to the first of a name's addresses that answers. Each has its share of the time, so that one that leads
/// nowhere keeps none of the others back.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let Some((last, others)) = addresses.split_last() else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let share = TCP_LIMIT / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in others {
        if let Ok(Ok(stream)) = timeout(share, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await
}

/// A guest that says nothing for so long is gone: it answers keep-alives, and every write. Longer than the channels'
/// windows take at 35 KiB a second, for nothing is heard before they are written.
const INACTIVITY_LIMIT: Duration = Duration::from_mins(2);

fn config(known: &KnownHosts) -> client::Config {
    let mut config = client::Config {
        window_size: 16 * 1024 * 1024,
        maximum_packet_size: 65535,
        keepalive_interval: Some(Duration::from_secs(15)),
        keepalive_max: 3,
        // Keep-alives rest before the login, and while what is written finds no room.
        inactivity_timeout: Some(INACTIVITY_LIMIT),
        nodelay: true,
        ..client::Config::default()
    };
    config.preferred.cipher = ciphers().into();
    config.preferred.host_key_certificates =
        known.certificate_algorithms(&config.preferred.key).into();
    config.preferred.key = known.preferred_algorithms(&config.preferred.key).into();
    config
}

/// Those of russh, that is of OpenSSH too; where the processor has AES, its authenticated modes are several times
/// as fast as ChaCha20.
fn ciphers() -> Vec<cipher::Name> {
    const BY_AES: [cipher::Name; 2] = [cipher::AES_256_GCM, cipher::AES_128_GCM];

    let usual = client::Config::default().preferred.cipher;
    if !has_aes() {
        return usual.into_owned();
    }
    let others = usual.iter().filter(|name| !BY_AES.contains(name));
    BY_AES.iter().chain(others).copied().collect()
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has_aes = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    has_aes
}

#[cfg(test)]
mod tests {
    use std::{iter, net::Ipv4Addr};

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_leads_nowhere_keeps_no_other_back() {
        // Linux lets so many wait to be taken, and answers nobody else.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mute = socket.listen(0).unwrap();
        let place = mute.local_addr().unwrap();
        let moment = Duration::from_millis(500);
        let waiting: Vec<_> =
            iter::from_fn(|| std::net::TcpStream::connect_timeout(&place, moment).ok()).collect();
        assert!(!waiting.is_empty());

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let other = listener.local_addr().unwrap();
        let stream = timeout(TCP_LIMIT, connect(&[place, other])).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), other);
    }
}
