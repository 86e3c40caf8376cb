//! Keys that lie in files: which there are, in which order they are tried, and unlocking them.

use std::{env, io, path::Path, slice, sync::Arc};

use russh::{
    MethodKind,
    keys::{self, Certificate, PrivateKey, PublicKey},
};

use super::{Login, MOST_KEYS};
use crate::ssh::{
    PassphraseUnread, SshError,
    key_file::{FoundKey, KeyFile, LockedKey, USUAL_KEYS, find_key, read_certificate_beside},
};

/// So many keys are the agent's even where the SSH configuration names more files.
const AGENTS_SHARE: usize = 2;

impl Login<'_> {
    /// Tries keys in OpenSSH's order: the agent's, of these the configured ones first, then files.
    pub(super) async fn try_keys_found(&mut self) -> Result<bool, SshError> {
        if !self.accepts(MethodKind::PublicKey) {
            return Ok(false);
        }
        let (mut configured, mut files) = (Vec::new(), Vec::new());
        for path in &self.target.identities_of_config {
            configured.extend(self.read_file(path, path.display().to_string()).await);
        }
        let only_these = self.target.only_these;
        if !only_these || self.target.identities_of_config.is_empty() {
            files = self.read_files_of_home().await;
        }
        let room = configured.len().min(MOST_KEYS - AGENTS_SHARE);
        let public = |files: &[KeyFile]| -> Vec<_> {
            let keys = files.iter().filter_map(KeyFile::public);
            keys.cloned().collect()
        };
        let first = public(&configured);
        let only = only_these.then(|| [first.clone(), public(&files)].concat());
        let asked = self.try_agent(only.as_deref(), &first, MOST_KEYS - room);
        if asked.await? {
            return Ok(true);
        }
        files.splice(0..0, configured);
        for file in files {
            let KeyFile {
                name,
                key,
                certificate,
            } = file;
            if self.keys_shown >= MOST_KEYS || !self.accepts(MethodKind::PublicKey) {
                break;
            }
            match key {
                // The agent alone has the rest of it.
                FoundKey::Public(_) => {}
                FoundKey::Open(key)
                    if self.were_refused(key.public_key(), certificate.as_ref()) => {}
                FoundKey::Open(key) => {
                    if self.try_key(key, certificate, name).await? {
                        return Ok(true);
                    }
                }
                FoundKey::Locked(locked) => {
                    let public = locked.public.as_ref();
                    if public.is_some_and(|key| self.were_refused(key, certificate.as_ref())) {
                        continue;
                    }
                    match self.unlock(locked).await {
                        Ok(Some(key)) => {
                            if self.try_key(key, certificate, name).await? {
                                return Ok(true);
                            }
                        }
                        Ok(None) => self
                            .tried
                            .push(format!("{name} (locked with a passphrase)")),
                        Err(why) => self.tried.push(format!("{name} ({why})")),
                    }
                }
            }
        }
        Ok(false)
    }

    async fn read_files_of_home(&mut self) -> Vec<KeyFile> {
        let mut files = Vec::new();
        let Some(home) = env::home_dir() else {
            return files;
        };
        for name in USUAL_KEYS {
            let path = home.join(".ssh").join(name);
            if !self.target.identities_of_config.contains(&path) {
                files.extend(self.read_file(&path, format!("~/.ssh/{name}")).await);
            }
        }
        files
    }

    /// Reads a key that may be there; one that cannot be used is told of among what was tried.
    async fn read_file(&mut self, path: &Path, name: String) -> Option<KeyFile> {
        let found = match find_key(path).await {
            Ok(key) => key.map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(key) => {
                let certificate = match key.public() {
                    Some(public) => self.certificate_of(path, public).await,
                    None => None,
                };
                Some(KeyFile {
                    name,
                    key,
                    certificate,
                })
            }
            Err(error) => {
                self.tried.push(format!("{name} ({error})"));
                None
            }
        }
    }

    /// The certificate for a key: the one beside its file, or one that is configured.
    async fn certificate_of(&self, path: &Path, key: &PublicKey) -> Option<Certificate> {
        let beside = read_certificate_beside(path).await;
        let mut all = beside.iter().chain(&self.certificates);
        let is_its = |it: &&Certificate| it.public_key() == key.key_data();
        all.find(is_its).cloned()
    }

    pub(super) async fn try_identity(&mut self, path: &Path) -> Result<bool, SshError> {
        let found = find_key(path)
            .await
            .map_err(|error| SshError::ReadIdentity {
                path: path.to_owned(),
                source: Arc::new(error),
            })?;
        match found {
            _ if !self.accepts(MethodKind::PublicKey) => Ok(false),
            Ok(FoundKey::Open(key)) => {
                let certificate = self.certificate_of(path, key.public_key()).await;
                self.try_key(key, certificate, format!("identity {}", path.display()))
                    .await
            }
            Ok(FoundKey::Locked(locked)) => self.try_locked_identity(path, locked).await,
            Ok(FoundKey::Public(key)) => {
                let let_in = self
                    .try_agent(Some(slice::from_ref(&key)), &[], MOST_KEYS)
                    .await?;
                if !let_in && !self.was_refused(&key) {
                    let lacking = "only its public half is there, and the agent does not hold it";
                    self.tried
                        .push(format!("identity {} ({lacking})", path.display()));
                }
                Ok(let_in)
            }
            Err(error) => Err(SshError::BadIdentity {
                path: path.to_owned(),
                source: Arc::new(error),
            }),
        }
    }

    /// Tries a locked key by the agent, which may have it unlocked, or else with its passphrase.
    async fn try_locked_identity(
        &mut self,
        path: &Path,
        locked: LockedKey,
    ) -> Result<bool, SshError> {
        if let Some(public) = &locked.public
            && self
                .try_agent(Some(slice::from_ref(public)), &[], MOST_KEYS)
                .await?
        {
            return Ok(true);
        }
        let certificate = match &locked.public {
            Some(public) => self.certificate_of(path, public).await,
            None => None,
        };
        let public = locked.public.as_ref();
        if public.is_some_and(|key| self.were_refused(key, certificate.as_ref())) {
            return Ok(false);
        }
        let key = match self.unlock(locked).await {
            Ok(Some(key)) => key,
            Ok(None) => {
                return Err(SshError::LockedIdentity {
                    path: path.to_owned(),
                });
            }
            Err(NotUnlocked::Unread(why)) => {
                return Err(SshError::NoPassphrase {
                    path: path.to_owned(),
                    source: why,
                });
            }
            Err(NotUnlocked::Wrong { secret, source }) => {
                return Err(SshError::WrongPassphrase {
                    path: path.to_owned(),
                    secret,
                    source: Arc::new(source),
                });
            }
        };
        let certificate = self.certificate_of(path, key.public_key()).await;
        self.try_key(key, certificate, format!("identity {}", path.display()))
            .await
    }

    /// Unlocks a key with the passphrase, where there is one.
    async fn unlock(&self, locked: LockedKey) -> Result<Option<Arc<PrivateKey>>, NotUnlocked> {
        let Some(passphrase) = &self.target.passphrase else {
            return Ok(None);
        };
        let text = passphrase.read().await.map_err(NotUnlocked::Unread)?;
        let key = locked
            .unlock(text)
            .await
            .map_err(|source| NotUnlocked::Wrong {
                secret: passphrase.name().to_owned(),
                source,
            })?;
        Ok(Some(key))
    }
}

/// Why a locked key stays so.
#[derive(Debug, thiserror::Error)]
enum NotUnlocked {
    #[error("{0}")]
    Unread(PassphraseUnread),
    #[error("the secret `{secret}` does not unlock it")]
    Wrong { secret: String, source: keys::Error },
}
