//! Moving a folder with all that is in it, to or from the guest.
//!
//! Each file appears whole or not at all. What cannot be moved is told and the rest goes on, until something
//! fails that would fail for all of it. No link is followed, on neither side: one that stays within the tree is
//! kept as a link, others are left out.
//!
//! Small files go many at a time and are verified in groups; large ones go one by one, as [`Client::upload`]
//! and [`Client::download`] move them, and on their way up those that their owner may not read.

mod down;
mod guest_side;
mod host_folder;
mod host_side;
mod sending;
mod up;
mod walk;

use std::{collections::BTreeSet, error::Error, path::Path, sync::Arc, time::Duration};

use russh_sftp::protocol::FileAttributes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ssh::{
    Client, Manner, SshError, Unfit, Verified, checksum,
    flow::IN_FLIGHT,
    on_files,
    pool::until,
    sftp::{Kind, Sftp, kind},
    transfer::{CHANNELS, join, of_transfer, split},
    upload::check_folder,
};
use down::Down;
use host_folder::HostFolder;
use up::Up;

/// Whether a path of the host may be touched.
pub type Permits = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// How many of a kind are told one by one.
const MOST_NOTES: usize = 50;

/// A folder that was moved.
#[derive(Debug)]
pub struct TreeTransfer {
    /// Of the files that were moved.
    pub bytes: u64,
    pub files: u64,
    pub folders: u64,
    pub links: u64,
    /// Files that were there already, the same by their checksums. They are looked for with `resume` alone.
    pub unchanged: u64,
    pub skipped: Notes,
    pub failed: Notes,
    /// The folders of those, which another call may make whole.
    incomplete: BTreeSet<String>,
    /// Why it stopped before its end, as [`SshError::OfFolder`]. What was moved until then stays.
    pub stopped: Option<SshError>,
    pub verified: Verified,
    pub transfer_time: Duration,
    pub verify_time: Duration,
}

/// What befell some of the files.
#[derive(Debug, Default)]
pub struct Notes {
    pub count: u64,
    /// The first of them.
    pub first: Vec<Note>,
}

/// A path in the tree, and what befell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub path: String,
    pub why: String,
}

impl Notes {
    fn add(&mut self, path: &str, why: impl Into<String>) {
        self.count += 1;
        if self.first.len() < MOST_NOTES {
            self.first.push(Note {
                path: path.to_owned(),
                why: why.into(),
            });
        }
    }
}

impl TreeTransfer {
    fn new(manner: Manner, skipped: Notes, failed: Notes) -> Self {
        Self {
            bytes: 0,
            files: 0,
            folders: 0,
            links: 0,
            unchanged: 0,
            skipped,
            failed,
            incomplete: BTreeSet::new(),
            stopped: None,
            verified: if manner.verify {
                Verified::Sha256
            } else {
                Verified::Skipped
            },
            transfer_time: Duration::ZERO,
            verify_time: Duration::ZERO,
        }
    }

    /// The checksums of the guest's files: by its own `sha256sum`, else each by reading it back.
    async fn sums(
        &mut self,
        sftp: &Arc<Sftp>,
        paths: &[String],
        bytes: u64,
    ) -> Result<Vec<Result<String, SshError>>, SshError> {
        let texts: Vec<_> = paths.iter().map(String::as_str).collect();
        if let Some(sums) = checksum::of_all(sftp, &texts, bytes).await {
            return Ok(sums.into_iter().map(Ok).collect());
        }
        self.verified = Verified::ReadBack;
        let mut sums = vec![Ok(String::new()); paths.len()];
        let reading = paths.iter().cloned().enumerate().map(|(at, path)| {
            let sftp = Arc::clone(sftp);
            async move { (at, checksum::read_back(&sftp, &path, None).await) }
        });
        side_by_side(IN_FLIGHT, reading.collect(), |(at, sum)| {
            sums[at] = sum;
            Ok(())
        })
        .await?;
        Ok(sums)
    }

    /// Takes note of a file's failure; what would befall all others too is given back.
    fn fail(&mut self, path: &str, error: SshError) -> Result<(), SshError> {
        let error = of_transfer(error);
        match &error {
            error if is_fatal(error) => return Err(error.clone()),
            SshError::RemoteUnfit {
                what: Unfit::Exists,
                ..
            }
            | SshError::LocalUnfit {
                what: Unfit::Exists,
                ..
            } => self.skipped.add(path, "exists already"),
            _ => {
                self.incomplete.insert(folder_of(path).to_owned());
                self.failed.add(path, chain(&error));
            }
        }
        Ok(())
    }
}

impl Client {
    /// Copies a folder of the host, with all that is in it, to the guest, where it is called `remote`. Into a
    /// folder that is there already it is merged. Files that `permits` refuses are left out.
    pub async fn upload_tree(
        &self,
        local: &Path,
        remote: &str,
        manner: Manner,
        permits: Permits,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<TreeTransfer, SshError> {
        let (root, stop) = (local.to_owned(), cancel.clone());
        let looking = on_files(move || {
            let walk = walk::local(&root, &permits, &stop)?;
            Ok((walk, HostFolder::existing(&root)?))
        });
        let (mut walk, from) = until(cancel, looking).await?;
        if manner.resume {
            walk.leave_out_parts();
        }
        let (sftp, _room) = self.sftp(CHANNELS, cancel).await?;
        let mode = walk.mode.unwrap_or(0o755);
        let (root, old) = until(cancel, remote_root(&sftp, remote, mode)).await?;
        let up = Up::new(self, sftp, manner, cancel, (from, root), progress);
        Ok(up.run(walk, old).await)
    }

    /// Copies a folder of the guest, with all that is in it, to the host, where it is called `local`; missing
    /// folders above it are made. Into a folder that is there already it is merged. Files that `permits`
    /// refuses are left out.
    pub async fn download_tree(
        &self,
        remote: &str,
        local: &Path,
        manner: Manner,
        permits: Permits,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<TreeTransfer, SshError> {
        let (sftp, _room) = self.sftp(CHANNELS, cancel).await?;
        let path = folder_path(remote)?;
        let found = until(cancel, sftp.stat(path)).await?;
        match found.as_ref().map(kind) {
            Some(Kind::Folder) => {}
            Some(_) => {
                return Err(SshError::RemoteUnfit {
                    path: remote.to_owned(),
                    what: Unfit::NoFolder,
                });
            }
            None => {
                return Err(SshError::RemoteMissing {
                    path: remote.to_owned(),
                });
            }
        }
        let root = until(cancel, sftp.real_path(path)).await?;
        let mut walk = until(
            cancel,
            walk::remote(&sftp, &root, found.unwrap_or_default()),
        )
        .await?;
        if manner.resume {
            walk.leave_out_parts();
        }
        let local = local.to_owned();
        let (folder, is_new) = on_files(move || HostFolder::root(&local)).await?;
        let down = Down::new(sftp, manner, cancel, (root, folder), permits, progress);
        Ok(down.run(walk, is_new).await)
    }
}

/// The guest's path of a folder as SFTP takes it.
fn folder_path(remote: &str) -> Result<&str, SshError> {
    if remote.is_empty() || remote.contains('\0') {
        return Err(SshError::BadRemotePath {
            path: remote.to_owned(),
        });
    }
    let path = remote.strip_prefix("~/").unwrap_or(remote);
    let path = match path.trim_end_matches('/') {
        "" if path.starts_with('/') => "/",
        trimmed => trimmed,
    };
    Ok(if path.is_empty() || path == "~" {
        "."
    } else {
        path
    })
}

/// Finds the folder on the guest that a tree goes into, or makes it; gives its absolute path, and what was there
/// already.
async fn remote_root(
    sftp: &Sftp,
    remote: &str,
    mode: u32,
) -> Result<(String, Option<FileAttributes>), SshError> {
    let path = folder_path(remote)?;
    let old = match sftp.stat(path).await? {
        Some(found) if kind(&found) == Kind::Folder => Some(found),
        Some(_) => {
            return Err(SshError::RemoteUnfit {
                path: remote.to_owned(),
                what: Unfit::NoFolder,
            });
        }
        None => {
            check_folder(sftp, split(path).0).await?;
            let folder = sftp.make_folder(path, mode | 0o700).await;
            folder.map_err(|error| sftp.failure("make the folder", path, error))?;
            None
        }
    };
    Ok((sftp.real_path(path).await?, old))
}

/// Whether a folder that is there already, with this mode, may be one that an interrupted call has made: with the
/// rights of the tree's folder, open to its owner. No call leaves a record of them.
fn may_be_unfinished(path: &str, there: u32, wanted: u32) -> bool {
    let made = wanted & 0o777 | 0o700;
    // A umask takes as a rule from others the right to write. What has fewer rights is somebody's own, and what the tree
    // goes into may well be a home folder: neither is opened any wider.
    let by_umask = if path.is_empty() { 0 } else { 0o022 };
    there & 0o7777 & !made == 0 && made & !there & !by_umask == 0
}

/// A path in the tree, absolute.
fn below(root: &str, path: &str) -> String {
    if path.is_empty() {
        root.to_owned()
    } else {
        join(root, path)
    }
}

/// The folder of a path in the tree; the tree's own is empty.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The last part of a path in the tree.
fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// How far below the tree's own folder a path is; that folder stands above all.
fn depth(path: &str) -> usize {
    if path.is_empty() {
        0
    } else {
        1 + path.matches('/').count()
    }
}

/// Whether a folder above this path could not be made.
fn is_blocked(path: &str, blocked: &BTreeSet<String>) -> bool {
    !blocked.is_empty()
        && path
            .match_indices('/')
            .any(|(end, _)| blocked.contains(&path[..end]))
}

/// What would befall every other file as well.
fn is_fatal(error: &SshError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};

    match error {
        SshError::Interrupted { source, .. }
        | SshError::LeftBehind { source, .. }
        | SshError::OldAside { source, .. }
        | SshError::MaybeReplaced { source, .. } => is_fatal(source),
        SshError::Local { source, .. } => {
            matches!(
                source.kind(),
                StorageFull | QuotaExceeded | ReadOnlyFilesystem
            )
        }
        SshError::TransferCancelled
        | SshError::Cancelled { .. }
        | SshError::TransferLost { .. }
        | SshError::ConnectionLost { .. }
        | SshError::Disconnected { .. }
        | SshError::Slow { .. }
        | SshError::TooMany { .. }
        | SshError::RemoteFull { .. } => true,
        _ => false,
    }
}

/// What ended a transfer of which some files are moved already.
fn cut_short(error: SshError) -> SshError {
    SshError::OfFolder(Box::new(error))
}

/// An error with its causes, in one line.
fn chain(error: &SshError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Does so many at a time, and gives each outcome as it comes; the first error ends it.
async fn side_by_side<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    limit: usize,
    work: Vec<F>,
    mut take: impl FnMut(T) -> Result<(), SshError>,
) -> Result<(), SshError> {
    let mut running = JoinSet::new();
    let mut work = work.into_iter();
    loop {
        while running.len() < limit
            && let Some(next) = work.next()
        {
            running.spawn(next);
        }
        match running.join_next().await {
            Some(Ok(done)) => take(done)?,
            Some(Err(broke)) => match broke.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Aborted with the whole server.
                Err(_) => {
                    return Err(SshError::Cancelled {
                        left_running: false,
                    });
                }
            },
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_an_interrupted_call_are_told_by_their_modes() {
        let table = [
            ("a", 0o40_755, 0o555, true),
            ("a", 0o40_755, 0o775, true),
            ("a", 0o40_700, 0o755, false),
            ("a", 0o40_700, 0o500, true),
            ("", 0o40_755, 0o555, true),
            ("", 0o40_755, 0o755, true),
            // It may be a home folder.
            ("", 0o40_755, 0o775, false),
            ("", 0o40_700, 0o755, false),
            // Others may do more there than in the tree's.
            ("a", 0o40_755, 0o750, false),
            ("a", 0o41_777, 0o777, false),
            ("a", 0o42_755, 0o755, false),
            // It was finished.
            ("a", 0o40_555, 0o555, false),
        ];
        for (path, there, wanted, expected) in table {
            assert_eq!(
                may_be_unfinished(path, there, wanted),
                expected,
                "{path:?} {there:o} {wanted:o}"
            );
        }
    }

    #[test]
    fn folders_are_told_by_their_paths() {
        let table = [
            ("/a/b/", Some("/a/b")),
            ("~/a b", Some("a b")),
            ("a", Some("a")),
            ("~", Some(".")),
            ("~/", Some(".")),
            ("/", Some("/")),
            ("", None),
            ("a\0b", None),
        ];
        for (path, expected) in table {
            assert_eq!(folder_path(path).ok(), expected, "{path:?}");
        }
        assert_eq!(folder_of("a/b/c"), "a/b");
        assert_eq!(folder_of("a"), "");
        let blocked = BTreeSet::from(["a/b".to_owned()]);
        for (path, expected) in [
            ("a/b/c", true),
            ("a/b/c/d", true),
            ("a/bc", false),
            ("a/b", false),
        ] {
            assert_eq!(is_blocked(path, &blocked), expected, "{path}");
        }
    }
}
