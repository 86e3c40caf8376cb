//! What can fail over SSH.

mod hint;
mod words;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use russh::keys;
use russh_sftp::client::error::Error as SftpError;
pub use words::{CertificateFault, JumpFault, Step, Unfit};

use super::{BadCommand, PassphraseUnread};

/// The longest file name that file systems take, in bytes: `NAME_MAX` in linux/limits.h.
pub(super) const NAME_MAX: usize = 255;

/// Where an SSH server is. Shows as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Why something over SSH failed. Cheap to clone: calls that waited for one connection share its failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SshError {
    // Connecting.
    #[error("no address is known for the host `{host}`")]
    Resolve {
        host: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("cannot connect to {endpoint}")]
    Unreachable {
        endpoint: Endpoint,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("{endpoint} did not answer within {limit:?} ({step})")]
    Slow {
        endpoint: Endpoint,
        step: Step,
        limit: Duration,
    },
    #[error("{endpoint} closed the connection before it said anything")]
    ClosedAtOnce { endpoint: Endpoint },
    #[error("{endpoint} is no SSH server of protocol 2: it says `{said}`")]
    NotSsh {
        endpoint: Endpoint,
        /// The beginning of its first line.
        said: String,
    },
    #[error("the SSH handshake with {endpoint} failed")]
    Handshake {
        endpoint: Endpoint,
        #[source]
        source: Arc<russh::Error>,
    },

    // On the way there.
    #[error("`{jump}` on the way to `{host}` {fault}")]
    BadJump {
        host: String,
        jump: String,
        fault: JumpFault,
    },
    #[error("cannot get past the jump host {jump}")]
    AtJump {
        jump: Endpoint,
        #[source]
        source: Box<SshError>,
    },
    #[error("the jump host {jump} does not connect to {to}")]
    NotForwarded {
        jump: Endpoint,
        to: Endpoint,
        #[source]
        source: Arc<russh::Error>,
    },
    #[error("the ProxyCommand `{command}` cannot be used: {what}")]
    BadProxyCommand { command: String, what: String },
    #[error("cannot run the ProxyCommand `{command}`")]
    ProxyCommandNotRun {
        command: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the ProxyCommand `{command}` does not lead to {endpoint}; it said {said}")]
    ProxyCommandFailed {
        endpoint: Endpoint,
        command: String,
        said: String,
        #[source]
        source: Box<SshError>,
    },

    // Host keys.
    #[error("cannot read the known host keys in {}", path.display())]
    ReadKnownHosts {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("cannot add a host key to {}", path.display())]
    WriteKnownHosts {
        path: PathBuf,
        /// The line that was to be added.
        line: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error(
        "the host key of `{name}` is not known, and only known ones are accepted: it showed {presented}"
    )]
    HostKeyUnknown {
        name: String,
        presented: String,
        /// Our own file of host keys.
        file: PathBuf,
        /// The line that makes this key known there.
        line: String,
    },
    #[error(
        "the host key of `{name}` has changed: {} line {line} has {known}, the server showed {presented}",
        file.display()
    )]
    HostKeyChanged {
        name: String,
        file: PathBuf,
        line: usize,
        /// Whether the line has wildcards, so that `ssh-keygen -R` leaves it alone.
        by_pattern: bool,
        /// Algorithm and fingerprint that the file has.
        known: String,
        /// Algorithm and fingerprint that the server showed.
        presented: String,
    },
    #[error(
        "the host key of `{name}` is revoked: {} line {line} revokes {revoked}, the server showed {presented}",
        file.display()
    )]
    HostKeyRevoked {
        name: String,
        file: PathBuf,
        line: usize,
        /// Algorithm and fingerprint in the file: the server's key, or that of the authority that signed it.
        revoked: String,
        /// Algorithm and fingerprint that the server showed.
        presented: String,
    },
    #[error(
        "the host certificate of `{name}` does not hold: it {fault} (signed by {authority}, the authority in {} \
         line {line}; the server's key is {presented})",
        file.display()
    )]
    HostCertificate {
        name: String,
        fault: Box<CertificateFault>,
        /// Algorithm and fingerprint of the authority's key.
        authority: String,
        file: PathBuf,
        line: usize,
        /// Algorithm and fingerprint that the server showed.
        presented: String,
    },

    // Logging in.
    #[error("cannot read the identity {}", path.display())]
    ReadIdentity {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the identity {} is no private key that can be used", path.display())]
    BadIdentity {
        path: PathBuf,
        #[source]
        source: Arc<keys::Error>,
    },
    #[error(
        "the identity {} is locked with a passphrase, and the agent does not hold its key",
        path.display()
    )]
    LockedIdentity { path: PathBuf },
    #[error("{text}")]
    VmNotRunning { text: String, hint: String },
    #[error("the identity {} is locked, and its passphrase cannot be had", path.display())]
    NoPassphrase {
        path: PathBuf,
        #[source]
        source: PassphraseUnread,
    },
    #[error("the secret `{secret}` does not unlock the identity {}", path.display())]
    WrongPassphrase {
        path: PathBuf,
        secret: String,
        #[source]
        source: Arc<keys::Error>,
    },
    #[error(
        "{endpoint} does not let the user `{user}` in; tried: {}; it accepts: {}",
        list(tried),
        list(accepted)
    )]
    AuthenticationFailed {
        endpoint: Endpoint,
        user: String,
        tried: Vec<String>,
        accepted: Vec<String>,
    },

    // Using the connection.
    #[error("{endpoint} refuses another channel on this connection")]
    ChannelRefused {
        endpoint: Endpoint,
        #[source]
        source: Arc<russh::Error>,
    },
    #[error("the connection to {endpoint} broke down before anything was run")]
    Disconnected {
        endpoint: Endpoint,
        #[source]
        source: Arc<russh::Error>,
    },
    #[error(
        "the connection to {endpoint} was lost while the command ran; whether it finished is unknown"
    )]
    ConnectionLost { endpoint: Endpoint },
    #[error("all {limit} channels to {endpoint} are in use")]
    Busy { endpoint: Endpoint, limit: usize },
    #[error("cancelled{}", if *.left_running { "; the command may still be running on the guest" } else { "" })]
    Cancelled {
        /// Whether the command could not be seen to end.
        left_running: bool,
    },
    #[error(transparent)]
    BadCommand(#[from] BadCommand),
    #[error("{endpoint} refuses to run commands for this user")]
    ExecRefused { endpoint: Endpoint },
    #[error("{endpoint} ended the command without saying how it ended")]
    NoExitStatus { endpoint: Endpoint },
    #[error("{endpoint} has not told which process the command is")]
    NoProcess { endpoint: Endpoint },

    // Moving files.
    #[error("{endpoint} offers no SFTP")]
    NoSftp {
        endpoint: Endpoint,
        #[source]
        source: Option<SftpError>,
    },
    #[error("the connection to {endpoint} was lost during the transfer")]
    TransferLost { endpoint: Endpoint },
    #[error("the transfer failed, and its temporary file `{leftover}` may be left on the guest")]
    LeftBehind {
        leftover: String,
        #[source]
        source: Box<SshError>,
    },
    #[error("the guest's old file may be left as `{aside}`, and `{path}` may be missing")]
    OldAside {
        path: String,
        aside: String,
        #[source]
        source: Box<SshError>,
    },
    #[error("the guest did not tell whether `{path}` got its new content")]
    MaybeReplaced {
        path: String,
        #[source]
        source: Box<SshError>,
    },
    #[error("the transfer was cancelled")]
    TransferCancelled,
    #[error("the transfer stopped before its end, and what has arrived is kept in `{partial}`")]
    Interrupted {
        partial: String,
        #[source]
        source: Box<SshError>,
    },
    /// What ended the transfer of a folder, whose files are moved one by one.
    #[error(transparent)]
    OfFolder(Box<SshError>),
    #[error("another transfer to `{path}` is under way")]
    TransferBusy { path: String },
    #[error("there are more than {limit}")]
    TooMany { limit: String },
    #[error("there is no file {} on the host", path.display())]
    LocalMissing { path: PathBuf },
    #[error("{} on the host {what}", path.display())]
    LocalUnfit { path: PathBuf, what: Unfit },
    #[error("cannot {act} {}", path.display())]
    Local {
        act: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("`{path}` is no path of a file on the guest")]
    BadRemotePath { path: String },
    #[error(
        "`{name}` is too long for a file name: {} bytes, where file systems take {NAME_MAX}",
        name.len()
    )]
    NameTooLong { name: String },
    #[error("there is no file `{path}` on the guest")]
    RemoteMissing { path: String },
    #[error("there is no folder `{folder}` on the guest")]
    RemoteFolderMissing { folder: String },
    #[error("`{path}` on the guest {what}")]
    RemoteUnfit { path: String, what: Unfit },
    #[error("the guest does not permit `{user}` to {act} `{path}`")]
    RemoteDenied {
        user: String,
        act: &'static str,
        path: String,
    },
    #[error("no space is left on the guest for `{path}`")]
    RemoteFull { path: String },
    #[error("cannot {act} `{path}` on the guest")]
    Remote {
        act: &'static str,
        path: String,
        #[source]
        source: SftpError,
    },
    #[error("`{path}` arrived changed ({what}); nothing was replaced")]
    Damaged { path: String, what: &'static str },
}

fn list(words: &[String]) -> String {
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(", ")
    }
}

impl SshError {
    /// Whether the guest may have another address by now: what answered was nobody, or somebody else. Nothing was
    /// run where it says so.
    pub fn may_be_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. }
                | Self::Unreachable { .. }
                | Self::Slow { .. }
                | Self::ClosedAtOnce { .. }
                | Self::Handshake { .. }
                | Self::NotSsh { .. }
                | Self::NotForwarded { .. }
                | Self::ProxyCommandFailed { .. }
                | Self::HostKeyChanged { .. }
                | Self::AuthenticationFailed { .. }
        )
    }

    /// Whether there is no connection for a reason that the user's SSH configuration may mend: it is asked anew
    /// then.
    pub fn is_of_the_way(&self) -> bool {
        if let Self::OfFolder(source) = self {
            return source.is_of_the_way();
        }
        self.may_be_elsewhere()
            || matches!(
                self,
                Self::VmNotRunning { .. }
                    | Self::AtJump { .. }
                    | Self::BadJump { .. }
                    | Self::BadProxyCommand { .. }
                    | Self::ProxyCommandNotRun { .. }
                    | Self::HostKeyUnknown { .. }
                    | Self::HostKeyRevoked { .. }
                    | Self::HostCertificate { .. }
            )
    }
}
