//! Private keys as files hold them.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::{
    AgentAuthError, Signer,
    keys::{
        self, Certificate, HashAlg, PrivateKey, PublicKey,
        agent::AgentIdentity,
        signature::Signer as _,
        ssh_encoding::Encode as _,
        ssh_key::{self, Signature, private::KeypairData},
    },
};

use super::regular;
use crate::model::Secret;

/// How keys in `~/.ssh` are called that nobody names, in the order in which they are tried.
pub const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// More than any private key has.
const MOST_BYTES: u64 = 1 << 20;

/// A key that lies in a file.
pub(super) struct KeyFile {
    pub(super) name: String,
    pub(super) key: FoundKey,
    /// What lies beside it, as ssh-keygen signs it.
    pub(super) certificate: Option<Certificate>,
}

impl KeyFile {
    pub(super) fn public(&self) -> Option<&PublicKey> {
        self.key.public()
    }
}

pub(super) enum FoundKey {
    Open(Arc<PrivateKey>),
    Locked(LockedKey),
    /// Its private half lies elsewhere, for the agent alone.
    Public(PublicKey),
}

/// A key that is encrypted with a passphrase.
pub(super) struct LockedKey {
    /// What can be read without the passphrase; in old formats not even that.
    pub(super) public: Option<PublicKey>,
    text: String,
}

impl LockedKey {
    /// Decrypts it, on a thread that may work: the formats make that slow on purpose.
    pub(super) async fn unlock(self, passphrase: Secret) -> Result<Arc<PrivateKey>, keys::Error> {
        let unlocking = tokio::task::spawn_blocking(move || {
            keys::decode_secret_key(&self.text, Some(passphrase.expose()))
        });
        let key = unlocking.await.map_err(io::Error::from)??;
        Ok(Arc::new(key))
    }
}

impl FoundKey {
    pub(super) fn public(&self) -> Option<&PublicKey> {
        match self {
            Self::Open(key) => Some(key.public_key()),
            Self::Locked(locked) => locked.public.as_ref(),
            Self::Public(key) => Some(key),
        }
    }
}

/// Where what belongs to a private key lies as a rule: in the files `NAME.pub` and `NAME-cert.pub`.
fn beside(key: &Path, suffix: &str) -> PathBuf {
    let mut beside = OsString::from(key);
    beside.push(suffix);
    beside.into()
}

/// The certificate beside a private key, if there is one.
pub(super) async fn read_certificate_beside(key: &Path) -> Option<Certificate> {
    read_certificate(beside(key, "-cert.pub")).await
}

/// The certificate in a file, if there is one.
pub(super) async fn read_certificate(path: PathBuf) -> Option<Certificate> {
    let text = read_text(path).await.ok()?;
    Certificate::from_openssh(text.trim()).ok()
}

/// Signs with a key of a file where its certificate is shown.
pub(super) struct Certified(pub(super) Arc<PrivateKey>);

impl Signer for Certified {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        sign(&self.0, hash, &mut to_sign).map_err(keys::Error::from)?;
        Ok(to_sign)
    }
}

/// Appends the signature as a string (RFC 4252, section 7). The hash is for RSA keys alone.
fn sign(key: &PrivateKey, hash: Option<HashAlg>, data: &mut Vec<u8>) -> ssh_key::Result<()> {
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(data)?,
        pair => pair.try_sign(data)?,
    };
    signature.encode_prefixed(data)?;
    Ok(())
}

/// Reads the text of a key's file, on a thread that may wait for it.
async fn read_text(path: PathBuf) -> io::Result<String> {
    let bytes = tokio::task::spawn_blocking(move || regular::read(&path, MOST_BYTES)).await??;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The key in a file, or where that is missing, the public one beside it.
pub(super) async fn find_key(path: &Path) -> io::Result<Result<FoundKey, keys::Error>> {
    let error = match read_text(path.to_owned()).await {
        Ok(text) => return Ok(read_key(text)),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::NotFound
        && let Ok(text) = read_text(beside(path, ".pub")).await
        && let Ok(key) = PublicKey::from_openssh(text.trim())
    {
        return Ok(Ok(FoundKey::Public(key)));
    }
    Err(error)
}

fn read_key(text: String) -> Result<FoundKey, keys::Error> {
    if let Ok(key) = PublicKey::from_openssh(text.trim()) {
        return Ok(FoundKey::Public(key));
    }
    if let Ok(key) = PrivateKey::from_openssh(&text)
        && key.is_encrypted()
    {
        let public = Some(key.public_key().clone());
        return Ok(FoundKey::Locked(LockedKey { public, text }));
    }
    match keys::decode_secret_key(&text, None) {
        Ok(key) => Ok(FoundKey::Open(Arc::new(key))),
        Err(keys::Error::KeyIsEncrypted) => Ok(FoundKey::Locked(LockedKey { public: None, text })),
        Err(error) => Err(error),
    }
}
