//! What a server shows of itself while it is connected to, and whether its host key will do.

use std::sync::{Arc, OnceLock};

use russh::{
    Names,
    client::{self, DisconnectReason},
    keys::{HashAlg, PublicKeyOrCertificate},
};

use crate::ssh::{
    SshError,
    host_keys::{self, KnownHosts},
    on_files,
    quote::LoginShell,
};

/// What is learnt of the server while connected.
#[derive(Debug, Default)]
pub(in crate::ssh) struct ServerFacts {
    pub(super) version: OnceLock<String>,
    pub(super) key: OnceLock<ServerKey>,
    pub(super) login_shell: OnceLock<LoginShell>,
    end: OnceLock<End>,
}

impl ServerFacts {
    /// How the connection ended, once it has.
    pub(in crate::ssh) fn end(&self) -> Option<&End> {
        self.end.get()
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(in crate::ssh) enum End {
    /// The server ended it, in these words.
    Goodbye(String),
    Broken(Arc<russh::Error>),
}

/// The server's host key.
#[derive(Debug, Clone)]
pub(in crate::ssh) struct ServerKey {
    pub(in crate::ssh) algorithm: String,
    pub(in crate::ssh) fingerprint: String,
    /// The fingerprint of the authority that vouches for it.
    pub(in crate::ssh) authority: Option<String>,
}

/// Judges the server's host key while the handshake runs.
pub(in crate::ssh) struct Verifier {
    pub(super) known: Arc<KnownHosts>,
    pub(super) facts: Arc<ServerFacts>,
}

/// Why the handshake was given up.
#[derive(Debug)]
pub(in crate::ssh) enum Refusal {
    HostKey(SshError),
    Protocol(russh::Error),
}

impl From<russh::Error> for Refusal {
    fn from(error: russh::Error) -> Self {
        Self::Protocol(error)
    }
}

impl client::Handler for Verifier {
    type Error = Refusal;

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, Refusal> {
        let key = presented.public_key();
        let known = Arc::clone(&self.known);
        let presented = match presented.certificate() {
            Some(certificate) => certificate.clone().into(),
            None => key.clone().into(),
        };
        let authority = on_files(move || known.check(&presented))
            .await
            .map_err(Refusal::HostKey)?;
        let _ = self.facts.key.set(ServerKey {
            algorithm: key.algorithm().to_string(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            authority: authority.as_ref().map(host_keys::describe),
        });
        Ok(true)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Refusal>) -> Result<(), Refusal> {
        let end = match reason {
            DisconnectReason::ReceivedDisconnect(goodbye) => End::Goodbye(goodbye.message),
            DisconnectReason::Error(Refusal::Protocol(error)) => End::Broken(Arc::new(error)),
            DisconnectReason::Error(refusal @ Refusal::HostKey(_)) => return Err(refusal),
        };
        let _ = self.facts.end.set(end);
        Ok(())
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        _names: &Names,
        session: &mut client::Session,
    ) -> Result<(), Refusal> {
        let version = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        let _ = self.facts.version.set(version);
        Ok(())
    }
}
