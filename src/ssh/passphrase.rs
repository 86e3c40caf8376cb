//! The passphrase of a key: asked for where it is needed, and not kept.

use std::{fmt, pin::Pin, sync::Arc};

use crate::model::Secret;

type Asking = Pin<Box<dyn Future<Output = Result<Secret, PassphraseUnread>> + Send>>;

/// Where the passphrase of a private key comes from.
#[derive(Clone)]
pub struct Passphrase {
    name: String,
    ask: Arc<dyn Fn() -> Asking + Send + Sync>,
}

/// Why a passphrase could not be had; nothing of it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct PassphraseUnread {
    pub text: String,
    pub hint: String,
}

impl Passphrase {
    /// The secret of this name, which `ask` reads.
    pub fn new(name: impl Into<String>, ask: impl Fn() -> Asking + Send + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            ask: Arc::new(ask),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn read(&self) -> Result<Secret, PassphraseUnread> {
        (self.ask)().await
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Passphrase").field(&self.name).finish()
    }
}

/// They are the same where they are the same secret.
impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Passphrase {}
