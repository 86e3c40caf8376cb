//! Secrets of the configuration: read where they are needed, each time anew, and never told.
//!
//! Nobody but the one who asked is given a secret's text. It is remembered only to be masked wherever
//! what happened is written down, and no error says anything of it.

mod command;
mod error;
mod file;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    env,
    os::unix::ffi::OsStringExt as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use error::SecretError;
use tokio_util::sync::CancellationToken;

use crate::{config::SecretSource, model::Secret};

/// How long a source may take: long enough for a password store, too short for a forgotten prompt.
const LIMIT: Duration = Duration::from_secs(10);

/// More than any secret has. Beyond it, what is read is something else.
const MOST_BYTES: u64 = 64 << 10;

/// The shortest secret that is masked in replies: a shorter one, as the password `demo` of a VM `demo`, is part of
/// too much that has to be read.
const SHORTEST_IN_REPLIES: usize = 8;

/// What a masked secret looks like.
const MASK: &str = "***";

/// All secrets that the configuration names, and those that are known by now.
#[derive(Debug)]
pub struct Secrets {
    sources: BTreeMap<String, SecretSource>,
    /// What is masked, the longest first, so that none leaves a part of another.
    known: Mutex<Vec<Secret>>,
    limit: Duration,
}

impl Secrets {
    /// `passwords` are masked as well, and from the start, as are the secrets that the environment holds.
    pub fn new(sources: BTreeMap<String, SecretSource>, passwords: Vec<Secret>) -> Self {
        let variables: Vec<_> = sources
            .values()
            .filter_map(|source| match source {
                SecretSource::Env(variable) => text_of(env::var_os(variable)?.into_vec()),
                SecretSource::File(_) | SecretSource::Command { .. } => None,
            })
            .collect();
        let secrets = Self {
            sources,
            known: Mutex::default(),
            limit: LIMIT,
        };
        passwords
            .into_iter()
            .chain(variables)
            .for_each(|secret| secrets.remember(secret));
        secrets
    }

    /// Whether the configuration has a secret of this name.
    pub fn has(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }

    /// The files that secrets are read from.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.sources.values().filter_map(|source| match source {
            SecretSource::File(file) => Some(file.as_path()),
            SecretSource::Env(_) | SecretSource::Command { .. } => None,
        })
    }

    /// Reads a secret, for at most 10 s. One trailing line break is no part of it; other line breaks
    /// are, and it is never empty.
    pub async fn read(
        &self,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<Secret, SecretError> {
        let source = self.sources.get(name).ok_or_else(|| SecretError::Unknown {
            name: name.to_owned(),
            known: self.sources.keys().cloned().collect(),
        })?;
        // Given up, a command is ended with its children.
        let bytes = tokio::select! {
            read = tokio::time::timeout(self.limit, bytes_of(name, source)) => {
                read.map_err(|_| SecretError::Slow {
                    secret: name.to_owned(),
                    limit: self.limit,
                })??
            }
            () = cancel.cancelled() => return Err(SecretError::Cancelled(name.to_owned())),
        };
        let secret = text_of(bytes).ok_or_else(|| SecretError::Unusable(name.to_owned()))?;
        self.remember(secret.clone());
        Ok(secret)
    }

    /// The text with all secrets that are known by now masked.
    pub fn mask(&self, text: &str) -> String {
        self.masked(text, 1).unwrap_or_else(|| text.to_owned())
    }

    /// A client's text with the secrets masked that the guest has shown in it; `None` where it holds none.
    pub fn mask_in_reply(&self, text: &str) -> Option<String> {
        self.masked(text, SHORTEST_IN_REPLIES)
    }

    /// The same of output that may be no text.
    pub fn mask_output(&self, mut output: Vec<u8>) -> Vec<u8> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in known.iter().map(|it| it.expose().as_bytes()) {
            if secret.len() < SHORTEST_IN_REPLIES {
                continue;
            }
            let (mut masked, mut rest) = (vec![], output.as_slice());
            while let Some(at) = rest.windows(secret.len()).position(|it| it == secret) {
                masked.extend_from_slice(&rest[..at]);
                masked.extend_from_slice(MASK.as_bytes());
                rest = &rest[at + secret.len()..];
            }
            if !masked.is_empty() {
                masked.extend_from_slice(rest);
                output = masked;
            }
        }
        output
    }

    fn masked(&self, text: &str, shortest: usize) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |secret: &&Secret| secret.expose().len() >= shortest;
        known.iter().filter(told).fold(None, |masked, secret| {
            let so_far = masked.as_deref().unwrap_or(text);
            if so_far.contains(secret.expose()) {
                Some(so_far.replace(secret.expose(), MASK))
            } else {
                masked
            }
        })
    }

    fn remember(&self, secret: Secret) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !secret.expose().is_empty() && !known.contains(&secret) {
            let length = secret.expose().len();
            let at = known.partition_point(|it| it.expose().len() >= length);
            known.insert(at, secret);
        }
    }
}

async fn bytes_of(name: &str, source: &SecretSource) -> Result<Vec<u8>, SecretError> {
    match source {
        SecretSource::Env(variable) => match env::var_os(variable) {
            Some(value) => Ok(value.into_vec()),
            None => Err(SecretError::NoVariable {
                secret: name.to_owned(),
                variable: variable.clone(),
            }),
        },
        SecretSource::File(path) => file::read(name, path).await,
        SecretSource::Command { program, arguments } => {
            command::output(name, program, arguments).await
        }
    }
}

/// The text without one trailing line break; `None` where it is none, empty or too long.
fn text_of(bytes: Vec<u8>) -> Option<Secret> {
    if bytes.len() as u64 > MOST_BYTES {
        return None;
    }
    let text = String::from_utf8(bytes).ok()?;
    let text = match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => &text,
    };
    (!text.is_empty()).then(|| Secret::new(text))
}
