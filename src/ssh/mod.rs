//! Commands and files on a guest, over SSH.
//!
//! The only place that names `russh` and `russh-sftp`. A [`Client`] stands for one guest: it connects when it
//! is first used, shares that connection among all calls, and connects again after it was lost. What was
//! running when a connection broke is reported as unknown and never run a second time.

mod auth;
mod client;
mod download;
mod error;
mod exec;
mod greeting;
mod host_keys;
mod key_file;
mod kill;
mod quote;
mod regular;
mod session;
mod sftp;
mod ssh_config;
mod stream;
mod transfer;
mod upload;

use std::path::PathBuf;

use crate::model::{HostKeyPolicy, Secret};

pub use client::{Client, ConnectionInfo};
pub use error::{Endpoint, SshError, Step, Unfit};
pub use exec::{BadCommand, Command, Output, Status};
pub use ssh_config::{HostConfig, host_config};
pub use stream::Stream;
pub use transfer::{Transfer, Verified};

/// Everything that is needed to connect to a guest.
#[derive(Debug, Clone)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// The private key to log in with. Without one, the agent's keys, those of `identities_of_config` and
    /// those of `~/.ssh` are tried.
    pub identity: Option<PathBuf>,
    /// The private keys that the user's SSH configuration names, of which some may be missing.
    pub identities_of_config: Vec<PathBuf>,
    /// Tried after the keys.
    pub password: Option<Secret>,
    pub host_keys: HostKeyPolicy,
    /// The name that the host key is kept under instead of `host` and `port`, where those may come to belong
    /// to another guest: the domain's UUID.
    pub key_name: Option<String>,
    /// Our own file of host keys; made when the first key is learnt.
    pub known_hosts: PathBuf,
    /// The user's and the host's files of host keys, only read. With `key_name`, only what they revoke counts.
    pub user_known_hosts: Vec<PathBuf>,
}

impl Target {
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
