//! Moving one file to or from the guest, whole or not at all.
//!
//! A transfer writes to a temporary file beside its target and renames it at the end, so the target is the
//! old file or the new one and nothing in between, whenever the transfer stops. With `resume` the temporary
//! file has a name that the next call finds, and stays where the transfer was interrupted.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use russh_sftp::protocol::{FileAttributes, StatusCode};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Client, SshError, Unfit, Verified,
    download::Landing,
    exec,
    pool::{Opened, Room, Stay, until},
    sftp::{Kind, Sftp, is, kind},
    source::Source,
    upload::Place,
};

/// SFTP and the checksum each use a channel.
pub(super) const CHANNELS: u32 = 2;
const CLEANING_LIMIT: Duration = Duration::from_secs(5);
/// How long a name that is being given is waited for after a cancel.
const NAMING_LIMIT: Duration = Duration::from_secs(3);
/// How long what was given up may still ask for something.
pub(super) const SETTLING_PAUSE: Duration = Duration::from_millis(300);

/// How files are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Whether a file that is there is replaced.
    pub overwrite: bool,
    /// Whether what an interrupted transfer has left is verified and gone on from, and what this one leaves is
    /// kept.
    pub resume: bool,
    /// Whether the guest's side is compared with ours afterwards.
    pub verify: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            overwrite: true,
            resume: false,
            verify: true,
        }
    }
}

/// A file that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub bytes: u64,
    /// Of the whole file, in hexadecimal.
    pub sha256: String,
    pub verified: Verified,
    /// Of all bytes, those that an earlier transfer had left.
    pub resumed: u64,
    /// Whether an older file was replaced in one step. Otherwise it was missing for a moment, because the
    /// server cannot do better.
    pub atomic: bool,
    pub transfer_time: Duration,
    pub verify_time: Duration,
}

impl Client {
    /// Copies a file of the host to the guest. `remote` is the file's full name there; relative ones and
    /// `~/…` start at the home folder. `progress` gets the bytes done and the bytes in all.
    pub async fn upload(
        &self,
        local: &Path,
        remote: &str,
        manner: Manner,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let mut source = Source::open(local).await?;
        let (sftp, _room) = self.sftp(CHANNELS, cancel).await?;
        let place = until(cancel, Place::find(&sftp, remote, manner)).await?;
        self.send(&sftp, &place, &mut source, cancel, progress)
            .await
    }

    /// Copies a file of the guest to the host. `local` is the file's full name here; missing folders above it
    /// are made.
    pub async fn download(
        &self,
        remote: &str,
        local: &Path,
        manner: Manner,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let landing = Landing::find(local, manner).await?;
        let (sftp, _room) = self.sftp(CHANNELS, cancel).await?;
        landing.take(&sftp, remote, cancel, progress).await
    }

    /// Sends a file to its place, and leaves nothing there of one that fails, unless that can be gone on from.
    pub(super) async fn send(
        &self,
        sftp: &Arc<Sftp>,
        place: &Place,
        source: &mut Source,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let written = until(cancel, place.write(sftp, source, progress)).await;
        let finished = match written {
            Ok(transfer) => match naming(cancel, place.put(sftp, transfer)).await {
                Some(put) => put,
                None => Err(place.given_up(sftp)),
            },
            Err(error) => Err(error),
        };
        let error = match finished {
            Ok(transfer) => return Ok(transfer),
            Err(error) => of_transfer(error),
        };
        if place.manner.resume && can_be_resumed(&error) {
            let may_be_named = matches!(
                error,
                SshError::MaybeReplaced { .. } | SshError::OldAside { .. }
            );
            match place.leaves_a_part(sftp).await {
                Some(false) => {}
                // The part may be there, or be the target by now; it is not told of, and not removed either.
                None if may_be_named => return Err(error),
                // What the guest had when it was last in reach, it has still.
                Some(true) | None => {
                    return Err(SshError::Interrupted {
                        partial: place.temporary.clone(),
                        source: Box::new(error),
                    });
                }
            }
        }
        let temporary = std::slice::from_ref(&place.temporary);
        let (leftover, ()) = tokio::join!(self.clean_up(sftp, temporary), place.settle(sftp));
        Err(left_behind(error, leftover))
    }

    /// The user's home folder, as the guest's SFTP server tells it.
    pub async fn home(&self) -> Result<String, SshError> {
        let (sftp, _room) = self.sftp(1, &CancellationToken::new()).await?;
        sftp.real_path(".").await
    }

    /// SFTP on a channel of its own, with room for so many.
    pub(super) async fn sftp(
        &self,
        channels: u32,
        cancel: &CancellationToken,
    ) -> Result<(Arc<Sftp>, Room), SshError> {
        let Opened {
            session,
            channel,
            room,
        } = self.0.open(channels, Stay::Long, cancel).await?;
        let user = self.target().user.clone();
        let sftp = until(cancel, Sftp::start(session, channel, &user)).await?;
        Ok((Arc::new(sftp), room))
    }

    /// Removes temporary files on the guest, over a new connection if the old one is gone; gives one that could
    /// not be removed.
    pub(super) async fn clean_up(&self, sftp: &Sftp, temporary: &[String]) -> Option<String> {
        let here = timeout(CLEANING_LIMIT, remove_all(sftp, temporary));
        if here.await.is_ok_and(|left| left.is_none()) {
            return None;
        }
        let elsewhere = async {
            let Ok((sftp, _room)) = self.sftp(1, &CancellationToken::new()).await else {
                return temporary.first().cloned();
            };
            remove_all(&sftp, temporary).await;
            // What the dead connection had still on its way may have come behind that.
            sleep(SETTLING_PAUSE).await;
            remove_all(&sftp, temporary).await
        };
        let left = timeout(CLEANING_LIMIT, elsewhere).await;
        let left = left.unwrap_or_else(|_| temporary.first().cloned());
        if let Some(left) = &left {
            tracing::warn!(left, "cannot remove a temporary file on the guest");
        }
        left
    }
}

/// Waits for what is being renamed, which may be done any moment: a cancel that comes then ends it only when the guest
/// does not answer for a while. `None` is what nobody knows.
pub(super) async fn naming<T>(
    cancel: &CancellationToken,
    renaming: impl Future<Output = T>,
) -> Option<T> {
    let given_up = async {
        cancel.cancelled().await;
        sleep(NAMING_LIMIT).await;
    };
    tokio::select! {
        biased;
        renamed = renaming => Some(renamed),
        () = given_up => None,
    }
}

/// Removes files that may be missing; gives one that stays.
async fn remove_all(sftp: &Sftp, files: &[String]) -> Option<String> {
    let mut removing = JoinSet::new();
    for file in files {
        let (raw, file) = (Arc::clone(&sftp.raw), file.clone());
        removing.spawn(async move {
            match raw.remove(file.as_str()).await {
                Ok(_) => None,
                Err(error) if is(&error, StatusCode::NoSuchFile) => None,
                Err(_) => Some(file),
            }
        });
    }
    let mut left = None;
    while let Some(removed) = removing.join_next().await {
        left = left.or(removed.ok().flatten());
    }
    left
}

/// An error that tells as well what could not be cleared away. Of any other the guest has said that it keeps
/// nothing: a disk that is read-only cannot remove what was never made.
pub(super) fn left_behind(error: SshError, leftover: Option<String>) -> SshError {
    match (leftover, error) {
        (
            Some(leftover),
            error @ (SshError::TransferLost { .. }
            | SshError::TransferCancelled
            | SshError::OldAside { .. }
            | SshError::MaybeReplaced { .. }
            | SshError::Slow { .. }),
        ) => SshError::LeftBehind {
            leftover,
            source: Box::new(error),
        },
        (_, error) => error,
    }
}

/// Cancelling a transfer leaves nothing running.
pub(super) fn of_transfer(error: SshError) -> SshError {
    match error {
        SshError::Cancelled { .. } => SshError::TransferCancelled,
        other => other,
    }
}

/// Whether the same transfer may succeed later, from where it stopped.
pub(super) fn can_be_resumed(error: &SshError) -> bool {
    matches!(
        error,
        SshError::TransferCancelled
            | SshError::TransferLost { .. }
            | SshError::OldAside { .. }
            | SshError::MaybeReplaced { .. }
            | SshError::Slow { .. }
            | SshError::RemoteFull { .. }
            | SshError::Remote { .. }
            | SshError::Local { .. }
    )
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
        Kind::Link | Kind::Special => Unfit::Special,
    };
    Err(SshError::RemoteUnfit {
        path: path.to_owned(),
        what,
    })
}

/// What is wanted of a file's attributes: its mode, and when it was last used and changed.
pub(super) fn mode_and_times(mode: u32, times: Option<(u32, u32)>) -> FileAttributes {
    FileAttributes {
        permissions: Some(mode & 0o777),
        atime: times.map(|(used, _)| used),
        mtime: times.map(|(_, changed)| changed),
        ..FileAttributes::empty()
    }
}

/// When a file of the host was last used and changed, as SFTP tells it; nothing outside of the years 1970 to
/// 2106.
pub(super) fn times(metadata: &fs::Metadata) -> Option<(u32, u32)> {
    let seconds = |time: i64| u32::try_from(time).ok();
    Some((seconds(metadata.atime())?, seconds(metadata.mtime())?))
}

/// What tells that a file of the host was changed: its length, and the times of change of its content and of
/// anything else.
pub(super) fn stamp(metadata: &fs::Metadata) -> (u64, [i64; 4]) {
    let times = [
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ];
    (metadata.len(), times)
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
