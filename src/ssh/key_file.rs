//! Private keys as files hold them.

use std::{io, path::PathBuf, sync::Arc};

use russh::keys::{self, PrivateKey, PublicKey};

use super::regular;

/// More than any private key has.
const MOST_BYTES: u64 = 1 << 20;

/// A key that lies in a file.
pub(super) struct KeyFile {
    pub(super) name: String,
    pub(super) key: FoundKey,
}

impl KeyFile {
    pub(super) fn public(&self) -> Option<&PublicKey> {
        match &self.key {
            FoundKey::Open(key) => Some(key.public_key()),
            FoundKey::Locked(public) => public.as_ref(),
        }
    }
}

pub(super) enum FoundKey {
    Open(Arc<PrivateKey>),
    /// Only its public half can be read without the passphrase, and in old formats not even that.
    Locked(Option<PublicKey>),
}

/// Reads the text of a key's file, on a thread that may wait for it.
pub(super) async fn read_text(path: PathBuf) -> io::Result<String> {
    let bytes = tokio::task::spawn_blocking(move || regular::read(&path, MOST_BYTES)).await??;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub(super) fn read_key(text: &str) -> Result<FoundKey, keys::Error> {
    if let Ok(key) = PrivateKey::from_openssh(text)
        && key.is_encrypted()
    {
        return Ok(FoundKey::Locked(Some(key.public_key().clone())));
    }
    match keys::decode_secret_key(text, None) {
        Ok(key) => Ok(FoundKey::Open(Arc::new(key))),
        Err(keys::Error::KeyIsEncrypted) => Ok(FoundKey::Locked(None)),
        Err(error) => Err(error),
    }
}
