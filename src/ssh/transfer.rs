//! Moving one file to or from the guest, whole or not at all.
//!
//! A transfer writes to a temporary file beside its target and renames it at the end, so the target is the
//! old file or the new one and nothing in between, whenever the transfer stops.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use russh_sftp::{
    client::error::Error as SftpError,
    protocol::{FileAttributes, StatusCode},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Client, Command, SshError, Status, Unfit,
    client::until,
    download::Landing,
    exec, quote,
    sftp::{Kind, Sftp, is, kind},
    upload::{Place, Source},
};

/// SFTP and the checksum each use a channel.
const CHANNELS: u32 = 2;
const CLEANING_LIMIT: Duration = Duration::from_secs(5);

/// A file that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub bytes: u64,
    /// Of what was sent or received, in hexadecimal.
    pub sha256: String,
    pub verified: Verified,
    /// Whether an older file was replaced in one step. Otherwise it was missing for a moment, because the
    /// server cannot do better.
    pub atomic: bool,
    pub transfer_time: Duration,
    pub verify_time: Duration,
}

/// How the guest's file was compared with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// The guest computed the same checksum.
    Sha256,
    /// The guest has no `sha256sum`; the sizes are the same.
    Size,
    /// The guest's file is one that has no size, as those of /proc.
    No,
}

impl Client {
    /// Copies a file of the host to the guest. `remote` is the file's full name there; relative ones and
    /// `~/…` start at the home folder. `progress` gets the bytes done and the bytes in all.
    pub async fn upload(
        &self,
        local: &Path,
        remote: &str,
        overwrite: bool,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let source = Source::open(local).await?;
        let _permit = self.permit(CHANNELS, cancel).await?;
        let sftp = until(cancel, self.sftp()).await?;
        let place = until(cancel, Place::find(&sftp, remote, overwrite)).await?;

        let writing = place.write(&sftp, source, progress);
        let written = until(cancel, writing).await;
        // From here on nothing is cancelled: the rename either happens or does not.
        let finished = match written {
            Ok(transfer) => place.put(&sftp, transfer).await,
            Err(error) => Err(error),
        };
        match finished {
            Ok(transfer) => Ok(transfer),
            Err(error) => Err(self.clean_up(&sftp, &place.temporary, error).await),
        }
    }

    /// Copies a file of the guest to the host. `local` is the file's full name here; missing folders above it
    /// are made.
    pub async fn download(
        &self,
        remote: &str,
        local: &Path,
        overwrite: bool,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let target = Landing::find(local, overwrite).await?;
        let _permit = self.permit(CHANNELS, cancel).await?;
        let sftp = until(cancel, self.sftp()).await?;
        let fetching = target.fetch(&sftp, remote, progress);
        let (transfer, temporary) = until(cancel, fetching).await?;
        target.put(temporary).await?;
        Ok(transfer)
    }

    /// The user's home folder, as the guest's SFTP server tells it.
    pub async fn home(&self) -> Result<String, SshError> {
        self.sftp().await?.real_path(".").await
    }

    async fn sftp(&self) -> Result<Sftp, SshError> {
        let (session, channel) = self.channel().await?;
        Sftp::start(session, channel, &self.target().user).await
    }

    /// Removes the temporary file of a failed upload, over a new connection if the old one is gone.
    async fn clean_up(&self, sftp: &Sftp, temporary: &str, error: SshError) -> SshError {
        let is_gone = |removed: Result<(), SftpError>| match removed {
            Ok(()) => true,
            Err(error) => is(&error, StatusCode::NoSuchFile),
        };
        let here = timeout(CLEANING_LIMIT, sftp.remove(temporary)).await;
        if here.is_ok_and(is_gone) {
            return error;
        }
        let elsewhere = timeout(CLEANING_LIMIT, async {
            Ok::<_, SshError>(self.sftp().await?.remove(temporary).await)
        });
        match (elsewhere.await, error) {
            (Ok(Ok(removed)), error) if is_gone(removed.clone()) => error,
            (_, SshError::TransferLost { endpoint, .. }) => SshError::TransferLost {
                endpoint,
                leftover: Some(temporary.to_owned()),
            },
            (_, error) => {
                tracing::warn!(temporary, "cannot remove a temporary file on the guest");
                error
            }
        }
    }
}

/// The checksum as the guest computes it, of the whole file or of its first bytes; `None` where it cannot.
pub(super) async fn remote_sha256(
    sftp: &Sftp,
    path: &str,
    first: Option<u64>,
    bytes: u64,
) -> Option<String> {
    let file = quote::word(path);
    let line = match first {
        None => format!("sha256sum < {file}"),
        Some(first) => format!("head -c {first} < {file} | sha256sum"),
    };
    // Even a slow guest hashes 4 MiB in a second.
    let limit = Duration::from_secs(60 + bytes / (4 << 20));
    let channel = sftp.session().open_channel().await.ok()?;
    let command = Command::new(line, limit);
    let never = CancellationToken::new();
    let run = exec::run(sftp.session(), channel, command, &never, |_| {});
    let output = run.await.ok()?;
    if output.status != Status::Exited(0) {
        return None;
    }
    let text = output.stdout.text();
    let sum = text.lines().last()?.split_whitespace().next()?;
    (sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| sum.to_owned())
}

/// The guest's path as SFTP takes it, which starts relative ones at the home folder.
pub(super) fn remote_path(remote: &str) -> Result<&str, SshError> {
    let path = remote.strip_prefix("~/").unwrap_or(remote);
    let name = split(path).1;
    if remote.is_empty() || remote.contains('\0') {
        return Err(SshError::BadRemotePath {
            path: remote.to_owned(),
        });
    }
    if matches!(name, "" | "." | "..") || remote == "~" {
        return Err(SshError::RemoteUnfit {
            path: remote.to_owned(),
            what: Unfit::Folder,
        });
    }
    Ok(path)
}

pub(super) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", path),
    }
}

pub(super) fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.strip_suffix('/').unwrap_or(folder))
}

pub(super) fn temporary_name(name: &str) -> String {
    let random = exec::random() >> 32;
    format!(".{}.virtpilot-{random:08x}.part", short(name))
}

/// A name's beginning, so that the temporary one stays under the 255 bytes that file systems take.
pub(super) fn short(name: &str) -> &str {
    let mut end = name.len().min(200);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

pub(super) fn unfit(metadata: &fs::Metadata) -> Option<Unfit> {
    if metadata.is_dir() {
        Some(Unfit::Folder)
    } else if metadata.is_file() {
        None
    } else {
        Some(Unfit::Special)
    }
}

pub(super) fn refuse_unfit(path: &str, attributes: &FileAttributes) -> Result<(), SshError> {
    let what = match kind(attributes) {
        Kind::File => return Ok(()),
        Kind::Folder => Unfit::Folder,
        Kind::Special => Unfit::Special,
    };
    Err(SshError::RemoteUnfit {
        path: path.to_owned(),
        what,
    })
}

pub(super) fn local(act: &'static str, path: &Path, error: io::Error) -> SshError {
    SshError::Local {
        act,
        path: path.to_owned(),
        source: Arc::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_files_from_folders_by_their_path() {
        let table = [
            ("/a/b", Some("/a/b")),
            ("~/a b", Some("a b")),
            ("a", Some("a")),
            ("~a", Some("~a")),
            ("", None),
            ("~", None),
            ("~/", None),
            ("/", None),
            ("a/", None),
            ("a/..", None),
            (".", None),
            ("a\0b", None),
        ];
        for (path, expected) in table {
            assert_eq!(remote_path(path).ok(), expected, "{path:?}");
        }
    }

    #[test]
    fn puts_the_temporary_file_beside_its_target() {
        assert_eq!(split("/x"), ("/", "x"));
        assert_eq!(split("a/b/c"), ("a/b", "c"));
        assert_eq!(join("/", "x"), "/x");
        let long = "ü".repeat(127);
        let name = temporary_name(&long);
        assert!(name.starts_with(".üü"), "{name}");
        assert_eq!(name.rsplit_once('.').unwrap().1, "part");
        assert!(name.len() <= 255, "{}", name.len());
    }
}
