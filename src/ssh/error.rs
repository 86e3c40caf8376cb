//! What can fail over SSH, and what to do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use russh::{ChannelOpenFailure, keys};
use russh_sftp::client::error::Error as SftpError;

use crate::model::shell_word;

use super::{BadCommand, PassphraseUnread, quote};

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

/// A step of setting up a connection, each with its own time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Resolve,
    Tcp,
    Greeting,
    KeyExchange,
    Authentication,
    Channel,
    Ping,
    Sftp,
    Request,
    Signal,
    /// All of them together, up to an open channel.
    All,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "name lookup",
            Self::Tcp => "TCP connection",
            Self::Greeting => "SSH greeting",
            Self::KeyExchange => "key exchange",
            Self::Authentication => "authentication",
            Self::Channel => "opening a channel",
            Self::Ping => "answer to a ping",
            Self::Sftp => "starting SFTP",
            Self::Request => "a request of the transfer",
            Self::Signal => "sending a signal",
            Self::All => "connecting, all in all",
        })
    }
}

/// Why a jump host cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JumpFault {
    Unreadable,
    Loop,
    TooMany,
}

impl fmt::Display for JumpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "is no jump host that ssh understands",
            Self::Loop => "was passed before: its jump hosts go round in a circle",
            Self::TooMany => "is one jump host too many",
        })
    }
}

/// What is wrong with a host certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFault {
    Signature,
    NotForHosts,
    Time,
    UnknownOption,
    OtherName { names: Vec<String> },
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "has no valid signature",
            Self::NotForHosts => "is one for users, not for hosts",
            Self::Time => "is not valid at this time",
            Self::UnknownOption => "has a critical option that is not known",
            Self::OtherName { names } => return write!(f, "is made out to {}", names.join(", ")),
        })
    }
}

/// Why a path cannot be the file of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    Folder,
    NoFolder,
    Special,
    Exists,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "is a folder",
            Self::NoFolder => "is no folder",
            Self::Special => "is no regular file",
            Self::Exists => "exists already",
        })
    }
}

/// Whether a path begins with a home folder as shells write another user's.
fn names_a_user(path: &str) -> bool {
    path.starts_with('~') && !path.starts_with("~/")
}

/// The command that takes a line out of a file.
fn without_line(line: usize, file: &Path) -> String {
    format!("sed -i {line}d {}", shell_word(file.display()))
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

    /// The command that forgets a host key that has changed.
    pub fn forgetting_command(&self) -> Option<String> {
        match self {
            Self::HostKeyChanged {
                file,
                line,
                by_pattern: true,
                ..
            } => Some(without_line(*line, file)),
            Self::HostKeyChanged { name, file, .. } => Some(format!(
                "ssh-keygen -R {} -f {}",
                shell_word(name),
                shell_word(file.display())
            )),
            Self::AtJump { source, .. } | Self::OfFolder(source) => source.forgetting_command(),
            _ => None,
        }
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

    /// What to do next where it ended the transfer of a folder: nothing can be said of the target as a whole.
    fn hint_of_folder(&self) -> String {
        let again =
            "What was moved until then stays; call again with `resume` to go on from there.";
        match self {
            Self::TransferLost { .. } | Self::TransferCancelled => again.into(),
            Self::Interrupted { source, .. } => source.hint_of_folder(),
            Self::LeftBehind { source, .. } => {
                format!(
                    "{} Remove the temporary file on the guest.",
                    source.hint_of_folder()
                )
            }
            other => format!("{} {again}", other.hint()),
        }
    }

    /// What whoever reads the error can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::VmNotRunning { hint, .. } => hint.clone(),
            Self::Resolve { .. } => {
                "Check the spelling of `host` in the configuration, or give the guest's IP address.".into()
            }
            Self::Unreachable { .. } | Self::Slow { step: Step::Resolve | Step::Tcp, .. } => {
                "Check that the guest runs, that its SSH server is started (`systemctl status ssh` in the \
                 guest) and that no firewall is in between."
                    .into()
            }
            Self::Slow { step: Step::Greeting, .. } | Self::ClosedAtOnce { .. } => {
                "The guest may still be starting up: try again in a while. If it stays so, check in the \
                 guest that its SSH server runs and that this port leads to it."
                    .into()
            }
            Self::Slow { .. } => {
                "The guest is very busy or hangs: look at its screen, and try again.".into()
            }
            Self::Handshake { .. } => {
                "Check that the port is that of an SSH server (protocol 2) with current algorithms.".into()
            }
            Self::NotSsh { .. } => {
                "Set the port of the guest's SSH server: VM_PORT for the default VM, or `port` in the \
                 configuration."
                    .into()
            }
            Self::BadJump { .. } => {
                "Correct `ProxyJump` in ~/.ssh/config; `ssh -G` with the host's name shows what is in force.".into()
            }
            Self::AtJump { source, .. } => match &**source {
                Self::AuthenticationFailed { endpoint, user, .. } => format!(
                    "Let this host in there with `ssh-copy-id -p {} {}`, or set `User` and `IdentityFile` for it in \
                     ~/.ssh/config.",
                    endpoint.port,
                    shell_word(format_args!("{user}@{}", endpoint.host))
                ),
                Self::Resolve { .. } | Self::Unreachable { .. } | Self::Slow { .. } => {
                    "Check that the jump host is up, and `HostName` and `Port` of it in ~/.ssh/config.".into()
                }
                source => source.hint(),
            },
            Self::NotForwarded { jump, source, .. } => match &**source {
                russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => format!(
                    "Allow it by `AllowTcpForwarding` and `PermitOpen` in the sshd_config of {}.",
                    jump.host
                ),
                _ => format!(
                    "Check that the guest runs, and that {} reaches it at this address and port.",
                    jump.host
                ),
            },
            Self::BadProxyCommand { .. } => "Correct `ProxyCommand` in ~/.ssh/config.".into(),
            Self::ProxyCommandNotRun { .. } | Self::ProxyCommandFailed { .. } => {
                "Correct `ProxyCommand` in ~/.ssh/config, or try it at a shell; it must ask for nothing.".into()
            }
            Self::ReadKnownHosts { path, .. } => {
                format!("Check that {} is a regular file, and its permissions.", path.display())
            }
            Self::WriteKnownHosts { path, line, .. } => format!(
                "A new host key has to be remembered. Make {} a file that can be written, choose another \
                 `data_dir`, or have this line added there: `{line}`.",
                path.display()
            ),
            Self::HostKeyUnknown { file, line, .. } => format!(
                "Compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` run in the \
                 guest. If it is the same, add this line to {}: `{line}`; or set `host_keys = \"accept-new\"` \
                 for this VM once.",
                file.display()
            ),
            Self::HostKeyChanged { .. } => format!(
                "If the guest was reinstalled, forget the old key with `{}` and try again. If not, someone may be \
                 in between: find out first.",
                self.forgetting_command().unwrap_or_default()
            ),
            Self::HostKeyRevoked { file, line, .. } => format!(
                "Do not use this server before its host key is replaced. If the mark is wrong, remove it with \
                 `{}`.",
                without_line(*line, file)
            ),
            Self::HostCertificate { .. } => {
                "Have the authority sign the server's key anew, for this name (`ssh-keygen -s … -h -n NAME`), or \
                 set `host` to a name that it is made out to; check the clocks of both sides."
                    .into()
            }
            Self::ReadIdentity { .. } => {
                "Correct `identity` in the configuration, or leave it out to use the agent and the keys in \
                 ~/.ssh."
                    .into()
            }
            Self::BadIdentity { path, .. } => format!(
                "Check the file with `ssh-keygen -y -f {}`; it must be a private key, or the public one of a key that the agent holds.",
                shell_word(path.display())
            ),
            Self::LockedIdentity { path } => format!(
                "Run `ssh-add {}` in an agent that SSH_AUTH_SOCK names, or have `passphrase` name a secret of the \
                 configuration:\n[vm.NAME]\nssh = {{ identity = \"{}\", passphrase = \"key\" }}\n[secret]\nkey = {{ file = \
                 \"/path/of/a/file\" }}",
                shell_word(path.display()),
                path.display()
            ),
            Self::NoPassphrase { source, .. } => source.hint.clone(),
            Self::WrongPassphrase { path, .. } => format!(
                "Try the passphrase with `ssh-keygen -y -f {}`, and correct the secret.",
                shell_word(path.display())
            ),
            Self::AuthenticationFailed { accepted, .. } if accepted == &["publickey"] => {
                "This server takes keys alone: set the right one as VM_IDENTITY or `identity` for this VM, or \
                 the right `user`; or let your key in by running guest-setup/prepare-linux-guest.sh in the \
                 guest."
                    .into()
            }
            Self::AuthenticationFailed { endpoint, user, .. } => format!(
                "Put a key there with `ssh-copy-id -p {} {}`, or set `user` or `identity` for this \
                 VM. A password is taken from VM_PASSWORD alone, for the default VM.",
                endpoint.port,
                shell_word(format_args!("{user}@{}", endpoint.host))
            ),
            Self::ChannelRefused { .. } => {
                "Wait until a running command or transfer has ended (`ssh_job` lists the commands that go on), or \
                 raise `MaxSessions` of the guest's SSH server."
                    .into()
            }
            Self::Busy { .. } => {
                "Wait until a running command or transfer has ended, or end one that is no longer needed: `ssh_job` lists \
                 the commands that go on."
                    .into()
            }
            Self::Disconnected { .. } => "Try again: the next call connects anew.".into(),
            Self::ConnectionLost { .. } => {
                "Look whether it ran before you run it again; the next call connects anew.".into()
            }
            Self::Cancelled { left_running: true } => {
                "Look for it with `ps -ef` on the guest.".into()
            }
            // What has a session of its own and no parent is nobody's that can be found.
            Self::Cancelled { left_running: false } => {
                "If it ran, nothing is left of its session. Whether something had left that before (`setsid`, a \
                 daemon) and goes on is not known: look with `ps -ef` on the guest."
                    .into()
            }
            Self::BadCommand(error) => error.hint(),
            Self::ExecRefused { .. } => {
                "Check the user's login shell and `ForceCommand` or `command=` in the guest's SSH \
                 configuration."
                    .into()
            }
            Self::NoExitStatus { .. } => "Look on the guest whether the command did its work.".into(),
            Self::NoProcess { .. } => {
                "Look for it on the guest with `ps -ef`, and signal it there with `kill`. On a guest that is no \
                 POSIX system, use its own commands."
                    .into()
            }
            Self::NoSftp { .. } => {
                "Install the SFTP server in the guest (Debian: `openssh-sftp-server`) and keep `Subsystem \
                 sftp` in its sshd_config; or move the file through a command's input and output."
                    .into()
            }
            Self::TransferLost { .. } | Self::TransferCancelled => {
                "Try again: the target is as it was. With `resume` a transfer that is interrupted keeps what \
                 has arrived, and the next call goes on from there."
                    .into()
            }
            Self::Interrupted { source, .. } => {
                let again = "Call again with `resume` to go on from there; the target is as it was.";
                match &**source {
                    Self::TransferLost { .. } | Self::TransferCancelled => again.to_owned(),
                    Self::OldAside { .. } | Self::MaybeReplaced { .. } => source.hint(),
                    other => format!("{} {again}", other.hint()),
                }
            }
            Self::LeftBehind { source, .. } => {
                format!("{} Remove the temporary file on the guest.", source.hint())
            }
            Self::OfFolder(source) => source.hint_of_folder(),
            Self::OldAside { .. } => {
                "This server replaces a file in two steps, and stopped between them. List the folder with \
                 `ssh_execute`: if the target is missing, rename the old file back to it, otherwise remove the \
                 old file. Then transfer again."
                    .into()
            }
            Self::MaybeReplaced { .. } => {
                "Transfer it again, with `overwrite`, or compare the SHA-256 of both sides.".into()
            }
            Self::TransferBusy { .. } => "Wait until it has ended.".into(),
            Self::TooMany { .. } => {
                "Move parts of the folder, or pack it with `tar` and move the archive.".into()
            }
            Self::LocalMissing { .. } => "See that the file is on the host, not in the guest.".into(),
            Self::LocalUnfit { what, .. } | Self::RemoteUnfit { what, .. } => match what {
                Unfit::Folder => {
                    "Give the full name of the file, not only its folder; or set `recursive` to move a folder."
                        .into()
                }
                Unfit::NoFolder => {
                    "Nothing can lie below it: choose another path, or leave out `recursive` for a single file."
                        .into()
                },
                Unfit::Special => "Only regular files can be transferred.".into(),
                Unfit::Exists => "Set `overwrite`, or choose another name.".into(),
            },
            Self::Local { .. } => "Check the permissions and the free space on this host.".into(),
            Self::BadRemotePath { .. } => "Give the full name of the file on the guest.".into(),
            Self::NameTooLong { .. } => "Choose a shorter name.".into(),
            Self::RemoteMissing { path: there } | Self::RemoteFolderMissing { folder: there }
                if names_a_user(there) =>
            {
                "`~` stands for the user's own home folder alone, as in `~/file`. Give the absolute path."
                    .into()
            }
            Self::RemoteMissing { .. } => {
                "Check the path on the guest; relative paths start at the user's home folder.".into()
            }
            Self::RemoteFolderMissing { folder } => {
                format!("Make it with `mkdir -p {}` on the guest.", quote::folder(folder))
            }
            Self::RemoteDenied { act, .. } => match *act {
                "read" | "read the link" | "list" => {
                    "Copy it with `sudo` to where that user can read it, and download that."
                }
                // For either way.
                "look at" | "find" => {
                    "Choose a folder that this user can enter, and copy to or from there with `sudo`."
                }
                _ => "Choose a folder of that user, and move the file with `sudo` afterwards.",
            }
            .into(),
            Self::RemoteFull { .. } => "Free some space on the guest (`df -h`).".into(),
            Self::Remote { .. } => "Look at the path on the guest (`ls -la`, `df -h`).".into(),
            Self::Damaged { .. } => {
                "Try again; if the file is being written at the same time, copy it first.".into()
            }
        }
    }
}
