//! Logging in: the configured key, or else the agent's, those of the SSH configuration and of `~/.ssh`; and
//! then the password.

mod agent;
mod files;

use std::{error::Error as _, sync::Arc};

use russh::{
    MethodKind,
    client::{AuthResult, Handle, KeyboardInteractiveAuthResponse},
    keys::{self, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey},
};

use super::{
    SshError, Target,
    key_file::{Certified, read_certificate},
    session::{End, ServerFacts, Verifier},
};
use crate::model::Secret;

/// OpenSSH's server closes the connection after six attempts; the last one is left to the password.
const MOST_KEYS: usize = 5;

/// Logs in; tells what let us in, where the server asked for anything; the last of it where it wants several.
pub(super) async fn authenticate(
    handle: &mut Handle<Verifier>,
    target: &Target,
    facts: &ServerFacts,
) -> Result<Option<String>, SshError> {
    let mut certificates = Vec::new();
    for path in &target.certificates_of_config {
        certificates.extend(read_certificate(path.clone()).await);
    }
    let mut login = Login {
        handle,
        certificates,
        target,
        facts,
        accepted: Vec::new(),
        tried: Vec::new(),
        keys_shown: 0,
        refused: Vec::new(),
        refused_certificates: Vec::new(),
    };
    if login.run().await? {
        return Ok(login.tried.pop());
    }
    Err(login.failed())
}

struct Login<'a> {
    handle: &'a mut Handle<Verifier>,
    target: &'a Target,
    facts: &'a ServerFacts,
    /// Those that the SSH configuration names.
    certificates: Vec<Certificate>,
    /// What the server said it would still accept.
    accepted: Vec<MethodKind>,
    tried: Vec<String>,
    keys_shown: usize,
    /// Keys that the server said no to: not shown again from another place.
    refused: Vec<PublicKey>,
    refused_certificates: Vec<Certificate>,
}

impl Login<'_> {
    /// Whether the server let us in.
    async fn run(&mut self) -> Result<bool, SshError> {
        // Asking without a credential is how a client learns what the server accepts.
        let asked = self.handle.authenticate_none(&self.target.user).await;
        if self.took(asked).await? {
            return Ok(true);
        }
        let target = self.target;
        let let_in = match &target.identity {
            Some(path) => match self.try_identity(path).await {
                // The password may do what the key cannot.
                Err(fault) if target.password.is_some() && is_identitys(&fault) => {
                    self.tried.push(with_cause(&fault));
                    false
                }
                outcome => outcome?,
            },
            None => self.try_keys_found().await?,
        };
        if let_in {
            return Ok(true);
        }
        match &self.target.password {
            Some(password) => self.try_password(password).await,
            None => Ok(false),
        }
    }

    fn accepts(&self, method: MethodKind) -> bool {
        self.accepted.contains(&method)
    }

    /// Takes the server's answer to one attempt.
    async fn took(&mut self, answer: Result<AuthResult, russh::Error>) -> Result<bool, SshError> {
        match answer {
            Ok(AuthResult::Success) => Ok(true),
            Ok(AuthResult::Failure {
                remaining_methods, ..
            }) => {
                // Where the connection ended instead of an answer, no method is named.
                let is_answer = !remaining_methods.is_empty();
                if is_answer {
                    self.accepted = remaining_methods.to_vec();
                }
                match (self.handle.is_closed(), is_answer) {
                    (false, _) => Ok(false),
                    (true, true) => Err(self.failed()),
                    (true, false) => Err(self.hung_up(russh::Error::Disconnect).await),
                }
            }
            Err(error) => Err(self.hung_up(error).await),
        }
    }

    /// What it means that the connection ended: the server says goodbye after too many attempts; without
    /// that it was lost.
    async fn hung_up(&mut self, error: russh::Error) -> SshError {
        // Ended already; by then the reason has been told.
        let _ = (&mut *self.handle).await;
        match self.facts.end() {
            Some(End::Goodbye(words)) => {
                let words = words.escape_debug();
                self.tried.push(format!("then it hung up ({words})"));
                self.failed()
            }
            // russh hangs up itself where the server has no more methods to offer.
            Some(End::Broken(error)) if matches!(**error, russh::Error::NoAuthMethod) => {
                self.failed()
            }
            Some(End::Broken(error)) => self.lost(Arc::clone(error)),
            None => self.lost(Arc::new(error)),
        }
    }

    fn lost(&self, source: Arc<russh::Error>) -> SshError {
        SshError::Disconnected {
            endpoint: self.target.endpoint(),
            source,
        }
    }

    fn was_refused(&self, key: &PublicKey) -> bool {
        let mut refused = self.refused.iter();
        refused.any(|refused| refused.key_data() == key.key_data())
    }

    /// Whether a key was refused, and its certificate too, where it has one.
    fn were_refused(&self, key: &PublicKey, certificate: Option<&Certificate>) -> bool {
        let is_open = |it: &Certificate| !self.refused_certificates.contains(it);
        self.was_refused(key) && !certificate.is_some_and(is_open)
    }

    /// Shows the key's certificate, if it has one, and then the key itself.
    async fn try_key(
        &mut self,
        key: Arc<PrivateKey>,
        certificate: Option<Certificate>,
        name: String,
    ) -> Result<bool, SshError> {
        let hash = self.hash_for(&key.algorithm()).await;
        let certificate = certificate.filter(|it| !self.refused_certificates.contains(it));
        if let Some(certificate) = certificate {
            self.refused_certificates.push(certificate.clone());
            self.tried.push(format!("{name} with its certificate"));
            self.keys_shown += 1;
            let mut signer = Certified(Arc::clone(&key));
            let answer = self.handle.authenticate_certificate_with(
                &self.target.user,
                certificate,
                hash,
                &mut signer,
            );
            match answer.await {
                Ok(answer) => {
                    if self.took(Ok(answer)).await? {
                        return Ok(true);
                    }
                }
                Err(_) if self.handle.is_closed() => {
                    return Err(self.hung_up(russh::Error::Disconnect).await);
                }
                Err(error) => self.tried.push(format!("{name} ({error})")),
            }
            if self.keys_shown >= MOST_KEYS {
                return Ok(false);
            }
        }
        if self.was_refused(key.public_key()) {
            return Ok(false);
        }
        self.tried.push(name);
        self.keys_shown += 1;
        self.refused.push(key.public_key().clone());
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let answer = self
            .handle
            .authenticate_publickey(&self.target.user, key)
            .await;
        self.took(answer).await
    }

    /// The hash that the server wants in signatures of an RSA key.
    async fn hash_for(&self, algorithm: &keys::Algorithm) -> Option<HashAlg> {
        if !matches!(algorithm, keys::Algorithm::Rsa { .. }) {
            return None;
        }
        // A server that names none is too old for anything but SHA-1.
        self.handle
            .best_supported_rsa_hash()
            .await
            .ok()
            .flatten()
            .flatten()
    }

    async fn try_password(&mut self, password: &Secret) -> Result<bool, SshError> {
        if self.accepts(MethodKind::Password) {
            self.tried.push("the password".to_owned());
            let answer = self
                .handle
                .authenticate_password(&self.target.user, password.expose())
                .await;
            return self.took(answer).await;
        }
        if self.accepts(MethodKind::KeyboardInteractive) {
            self.tried
                .push("the password (keyboard-interactive)".to_owned());
            return self.answer_prompts(password).await;
        }
        Ok(false)
    }

    /// Answers a single hidden prompt with the password; anything else is not ours to answer.
    async fn answer_prompts(&mut self, password: &Secret) -> Result<bool, SshError> {
        let mut answer = self
            .handle
            .authenticate_keyboard_interactive_start(&self.target.user, None)
            .await;
        let mut answered = false;
        loop {
            match answer {
                Ok(KeyboardInteractiveAuthResponse::Success) => return Ok(true),
                Ok(KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. }) => {
                    let responses = match &prompts[..] {
                        [] => Vec::new(),
                        [prompt] if !prompt.echo && !answered => {
                            answered = true;
                            vec![password.expose().to_owned()]
                        }
                        _ => return Ok(false),
                    };
                    answer = self
                        .handle
                        .authenticate_keyboard_interactive_respond(responses)
                        .await;
                }
                Ok(KeyboardInteractiveAuthResponse::Failure {
                    remaining_methods, ..
                }) => {
                    self.accepted = remaining_methods.to_vec();
                    return Ok(false);
                }
                Err(error) => return Err(self.hung_up(error).await),
            }
        }
    }

    fn failed(&self) -> SshError {
        SshError::AuthenticationFailed {
            endpoint: self.target.endpoint(),
            user: self.target.user.clone(),
            tried: self.tried.clone(),
            accepted: self.accepted.iter().map(String::from).collect(),
        }
    }
}

/// Whether an error tells what is wrong with an identity, and nothing about the server.
fn is_identitys(error: &SshError) -> bool {
    matches!(
        error,
        SshError::ReadIdentity { .. }
            | SshError::BadIdentity { .. }
            | SshError::LockedIdentity { .. }
            | SshError::NoPassphrase { .. }
            | SshError::WrongPassphrase { .. }
    )
}

/// The error and what is behind it, in one line.
fn with_cause(error: &SshError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
