//! The keys that the user's agent holds: it signs, and they never leave it.

use std::path::PathBuf;

use russh::MethodKind;
use russh::keys::{
    self, PublicKey,
    agent::{AgentIdentity, client::AgentClient},
};
use tokio::net::UnixStream;

use super::Login;
use crate::ssh::SshError;

impl Login<'_> {
    /// Tries the agent's keys, or only those that are named; some first.
    pub(super) async fn try_agent(
        &mut self,
        only: Option<&[PublicKey]>,
        first: &[PublicKey],
        most: usize,
    ) -> Result<bool, SshError> {
        let Some(socket) = self.target.agent.path() else {
            return Ok(false);
        };
        if !self.accepts(MethodKind::PublicKey) {
            return Ok(false);
        }
        let (mut agent, identities) = match self.ask_agent(socket).await {
            Ok(answer) => answer,
            Err(error) => {
                self.tried.push(format!("the agent ({error})"));
                return Ok(false);
            }
        };
        let mut identities = identities;
        let key_of = |identity: &AgentIdentity| identity.public_key().into_owned();
        let is_among = |keys: &[PublicKey], key: &PublicKey| {
            keys.iter().any(|it| it.key_data() == key.key_data())
        };
        identities.sort_by_key(|it| {
            let is_first = is_among(first, &key_of(it));
            // A key's certificate before the key, as OpenSSH's client does.
            (!is_first, matches!(it, AgentIdentity::PublicKey { .. }))
        });
        for identity in identities {
            let key = key_of(&identity);
            if only.is_some_and(|only| !is_among(only, &key)) {
                continue;
            }
            if self.keys_shown >= most || !self.accepts(MethodKind::PublicKey) {
                break;
            }
            self.keys_shown += 1;
            let hash = self.hash_for(&key.algorithm()).await;
            let user = &self.target.user;
            let (mut shown, mut certified) = (None, None);
            let answer = match identity {
                AgentIdentity::PublicKey { key, comment } => {
                    self.tried.push(format!("agent key {comment}"));
                    shown = Some(key.clone());
                    self.handle
                        .authenticate_publickey_with(user, key, hash, &mut agent)
                        .await
                }
                AgentIdentity::Certificate {
                    certificate,
                    comment,
                } => {
                    self.tried.push(format!("agent certificate {comment}"));
                    certified = Some(certificate.clone());
                    self.handle
                        .authenticate_certificate_with(user, certificate, hash, &mut agent)
                        .await
                }
            };
            match answer {
                Ok(answer) => {
                    if self.took(Ok(answer)).await? {
                        return Ok(true);
                    }
                    self.refused.extend(shown);
                    self.refused_certificates.extend(certified);
                }
                Err(_) if self.handle.is_closed() => {
                    return Err(self.hung_up(russh::Error::Disconnect).await);
                }
                // The agent would not sign with this key; the next one may do.
                Err(error) => self.tried.push(format!("the agent ({error})")),
            }
        }
        Ok(false)
    }

    async fn ask_agent(
        &self,
        socket: PathBuf,
    ) -> Result<(AgentClient<UnixStream>, Vec<AgentIdentity>), keys::Error> {
        let mut agent = AgentClient::connect_uds(socket).await?;
        if let Some(binding) = self.handle.agent_session_binding() {
            // Agents that do not know this extension say no and work all the same.
            let _ = agent.bind_session(binding, false).await;
        }
        let identities = agent.request_identities().await?;
        Ok((agent, identities))
    }
}
