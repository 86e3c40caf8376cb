//! Commands and files on a guest, over SSH.
//!
//! The only place that names `russh` and `russh-sftp`. A [`Client`] stands for one guest: it connects when it
//! is first used, shares that connection among all calls (and a few further ones, where its channels are all in
//! use), connects again after it was lost, and follows a guest that moved. What was running when a connection
//! broke is reported as unknown and never run a second time.

mod auth;
mod checksum;
mod client;
mod command;
mod download;
mod error;
mod exec;
mod flow;
mod fresh_channel;
mod greeting;
mod host_keys;
mod key_file;
mod kill;
mod partial;
mod passphrase;
mod pool;
mod process;
mod proxy_command;
mod quote;
mod regular;
mod session;
mod sftp;
mod signaller;
mod source;
mod ssh_config;
mod stream;
mod transfer;
mod tree;
mod upload;

use std::{env, path::PathBuf};

use crate::model::{HostKeyPolicy, Secret};

pub use checksum::Verified;
pub use client::{Client, ConnectionInfo};
pub use command::{BadCommand, Command};
pub use error::{CertificateFault, Endpoint, JumpFault, SshError, Step, Unfit};
pub use exec::{Output, Status};
pub use key_file::USUAL_KEYS;
pub use passphrase::{Passphrase, PassphraseUnread};
pub use pool::{Stay, Usage};
pub use process::{Ending, Heard, Process};
pub use signaller::Signaller;
pub use ssh_config::{HostConfig, NoRoute, Route, route};
pub use stream::Stream;
pub use transfer::{Manner, Transfer};
pub use tree::{Note, Notes, Permits, TreeTransfer};

/// Everything that is needed to connect to a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// The private key to log in with. Without one, the agent's keys, those of `identities_of_config` and
    /// those of `~/.ssh` are tried.
    pub identity: Option<PathBuf>,
    /// The private keys that the user's SSH configuration names, of which some may be missing, or have only their
    /// public half there, for the agent.
    pub identities_of_config: Vec<PathBuf>,
    /// Whether, without `identity`, no other keys are shown than those; where there are none, those of `~/.ssh`.
    pub only_these: bool,
    pub agent: AgentSocket,
    /// Certificates for these keys that lie elsewhere than beside them.
    pub certificates_of_config: Vec<PathBuf>,
    /// Unlocks `identity`, or without one the locked keys among the others.
    pub passphrase: Option<Passphrase>,
    /// Tried after the keys.
    pub password: Option<Secret>,
    pub host_keys: HostKeyPolicy,
    /// The name that the host key is kept under instead of `host` and `port`, where those may come to belong
    /// to another guest: the domain's UUID.
    pub key_name: Option<String>,
    /// The name that the user's SSH configuration gives the host's key; `key_name` goes before it.
    pub host_key_alias: Option<String>,
    /// Our own file of host keys; made when the first key is learnt.
    pub known_hosts: PathBuf,
    /// The user's and the host's files of host keys, only read. With `key_name`, only what they revoke counts.
    pub user_known_hosts: Vec<PathBuf>,
    /// The servers to go through, from the first one.
    pub jumps: Vec<Self>,
    /// The program that makes the connection, as in the user's SSH configuration. With `jumps`, the first of
    /// these has it.
    pub proxy_command: Option<String>,
}

/// Where the agent listens that holds the user's keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AgentSocket {
    /// Where `SSH_AUTH_SOCK` says, if it says anything.
    #[default]
    Environment,
    At(PathBuf),
    None,
}

impl AgentSocket {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Environment => {
                let socket = env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
                socket.map(PathBuf::from)
            }
            Self::At(path) => Some(path.clone()),
            Self::None => None,
        }
    }
}

impl Target {
    /// User and place, as `user@host:port`.
    pub fn login(&self) -> String {
        format!("{}@{}", self.user, self.endpoint())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

/// Works on the host's files, on a thread that may wait for them.
async fn on_files<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SshError> + Send + 'static,
) -> Result<T, SshError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Not begun: the whole server is ending.
            Err(_) => Err(SshError::Cancelled {
                left_running: false,
            }),
        },
    }
}
