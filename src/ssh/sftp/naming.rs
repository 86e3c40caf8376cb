//! Giving a file of the guest the name that it is to have.

use std::sync::Arc;

use russh_sftp::{
    client::error::Error as SftpError,
    protocol::{Packet, StatusCode},
};

use super::{Kind, Sftp, SshError, Unfit, kind};

pub(super) const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// What a file may replace that is given its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ssh) enum Replaces {
    Nothing,
    /// What came while it was sent.
    Newcomer,
    /// What is known to be there.
    Old,
}

impl Replaces {
    /// Nothing where no `overwrite` permits it.
    pub(in crate::ssh) fn of(overwrite: bool, is_old_known: bool) -> Self {
        match (overwrite, is_old_known) {
            (false, _) => Self::Nothing,
            (true, false) => Self::Newcomer,
            (true, true) => Self::Old,
        }
    }
}

impl Sftp {
    /// Renames to a name that is free; OpenSSH's server refuses one that is taken.
    pub(in crate::ssh) async fn rename(&self, from: &str, to: &str) -> Result<(), SftpError> {
        self.raw.rename(from, to).await.map(drop)
    }

    /// Renames, replacing what is there, in one step. Only where [`Sftp::replaces`].
    pub(in crate::ssh) async fn replace(&self, from: &str, to: &str) -> Result<(), SftpError> {
        let mut names = Vec::with_capacity(from.len() + to.len() + 8);
        for name in [from, to] {
            let length = u32::try_from(name.len())
                .map_err(|_| SftpError::Limited("the name is too long".to_owned()))?;
            names.extend_from_slice(&length.to_be_bytes());
            names.extend_from_slice(name.as_bytes());
        }
        match self.raw.extended(POSIX_RENAME, names).await? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(SftpError::Status(status)),
            _ => Err(SftpError::UnexpectedPacket),
        }
    }

    /// Gives a temporary file its name; tells whether that was done in one step.
    pub(in crate::ssh) async fn put(
        self: &Arc<Self>,
        from: &str,
        to: &str,
        replaces: Replaces,
    ) -> Result<bool, SshError> {
        let failed = |error| match error {
            SftpError::Status(_) => self.failure("replace", to, error),
            // Whether the guest still did it, nobody told.
            unsure => SshError::MaybeReplaced {
                path: to.to_owned(),
                source: Box::new(self.failure("replace", to, unsure)),
            },
        };
        if replaces != Replaces::Old {
            // A name that was free is free as a rule: this rename replaces nothing.
            let Err(error) = self.rename(from, to).await else {
                return Ok(true);
            };
            let there = match &error {
                SftpError::Status(_) => self.lstat(to).await.ok().flatten(),
                _ => None,
            };
            match there.as_ref().map(kind) {
                Some(Kind::File | Kind::Link) if replaces == Replaces::Newcomer => {}
                Some(_) if replaces == Replaces::Nothing => {
                    return Err(SshError::RemoteUnfit {
                        path: to.to_owned(),
                        what: Unfit::Exists,
                    });
                }
                _ => return Err(failed(error)),
            }
        }
        if self.replaces {
            return self.replace(from, to).await.map(|()| true).map_err(failed);
        }
        let (sftp, from, target) = (Arc::clone(self), from.to_owned(), to.to_owned());
        // A task of its own: whoever gives up waiting, the target is not left without its name.
        let steps = tokio::spawn(async move { sftp.replace_in_steps(&from, &target).await });
        let done = steps
            .await
            .map_err(|_| self.failure("replace", to, SftpError::UnexpectedPacket))?;
        done.map(|()| false)
    }

    /// What is known of a name that [`Sftp::put`] is not waited for any longer to give.
    pub(in crate::ssh) fn given_up(&self, from: &str, to: &str, replaces: Replaces) -> SshError {
        let path = to.to_owned();
        let source = Box::new(SshError::TransferCancelled);
        if replaces == Replaces::Old && !self.replaces {
            let aside = aside(from);
            SshError::OldAside {
                path,
                aside,
                source,
            }
        } else {
            SshError::MaybeReplaced { path, source }
        }
    }

    /// The old file steps aside, and comes back if the new one cannot take its place.
    async fn replace_in_steps(&self, from: &str, to: &str) -> Result<(), SshError> {
        let aside = aside(from);
        let failed = |error| self.failure("replace", to, error);
        let left_aside = |error| SshError::OldAside {
            path: to.to_owned(),
            aside: aside.clone(),
            source: Box::new(failed(error)),
        };
        match self.rename(to, &aside).await {
            Ok(()) => {}
            Err(refused @ SftpError::Status(_)) => return Err(failed(refused)),
            // Whether the guest still did it, nobody told.
            Err(unsure) => return Err(left_aside(unsure)),
        }
        if let Err(error) = self.rename(from, to).await {
            return Err(match self.rename(&aside, to).await {
                Ok(()) => failed(error),
                Err(_) => left_aside(error),
            });
        }
        if let Err(error) = self.remove(&aside).await {
            // The new file is in its place all the same.
            tracing::warn!(%error, aside, "the guest's old file is left under this name");
        }
        Ok(())
    }
}

/// Where the old file is while the new one takes its place.
fn aside(from: &str) -> String {
    format!("{from}.old")
}
