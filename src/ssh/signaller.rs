//! Signals for a command that is under way, found by what its login shell told.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{SshError, kill, session::Session};

/// How long a command may take to say its first word: a slow guest that starts many login
/// shells at once takes its time.
const FIRST_WORD: Duration = Duration::from_secs(15);

/// Sends signals to a command.
#[derive(Clone)]
pub struct Signaller {
    pub(super) session: Arc<Session>,
    pub(super) shell: watch::Receiver<Shell>,
}

/// What the command's channel is told by its login shell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shell {
    /// Whether its process id may still come.
    pub(super) is_awaited: bool,
    pub(super) process: Option<u32>,
    /// Whether it has exited, so that its process id may be another's by now.
    pub(super) exited: bool,
}

impl fmt::Debug for Signaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signaller").finish_non_exhaustive()
    }
}

impl Signaller {
    /// Sends a signal, named without `SIG`, to every process of the command; tells how many there were.
    ///
    /// OpenSSH ignores signals that come through the command's own channel where the user is root, and sends
    /// others to the login shell alone.
    pub async fn send(&self, signal: &str) -> Result<u64, SshError> {
        let endpoint = || self.session.endpoint().clone();
        let shell = told(&self.shell).await;
        let Some(process) = shell.process else {
            return Err(SshError::NoProcess {
                endpoint: endpoint(),
            });
        };
        kill::signal(&self.session, process, shell.exited, signal).await
    }
}

/// What the shell has told, waiting for its first word.
pub(super) async fn told(shell: &watch::Receiver<Shell>) -> Shell {
    let mut shell = shell.clone();
    let last = *shell.borrow();
    let first_word = shell.wait_for(|shell| !shell.is_awaited);
    match timeout(FIRST_WORD, first_word).await {
        Ok(Ok(shell)) => *shell,
        Ok(Err(_)) | Err(_) => last,
    }
}
