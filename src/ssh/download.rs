//! The two ends of a download: the file on the guest, and its place here.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use russh_sftp::protocol::FileAttributes;
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, SeekFrom},
};
use tokio_util::sync::CancellationToken;

use super::{
    Manner, SshError, Transfer, Unfit, Verified, checksum,
    flow::{Failure, Sink, hex, read_chunk, ticking},
    on_files,
    partial::{open_partial, partial_name},
    pool::until,
    sftp::Sftp,
    transfer::{can_be_resumed, local, of_transfer, refuse_unfit, remote_path, short, unfit},
};

/// What is hashed at a time of what was received before.
const CHUNK: u64 = 1 << 20;

/// Where on the host a download goes.
#[derive(Clone)]
pub(super) struct Landing {
    path: PathBuf,
    folder: PathBuf,
    /// The path as messages tell it.
    shown: PathBuf,
    manner: Manner,
    /// The mode of what is replaced.
    old_mode: Option<u32>,
    /// Whether the temporary file was opened: what else has its name is nobody's to touch.
    is_open: Arc<AtomicBool>,
}

/// What is written until it is whole.
struct Temporary<F = fs::File> {
    file: F,
    path: TempPath,
}

/// What was read of a file of the guest.
struct Received {
    temporary: Temporary<File>,
    before: FileAttributes,
    bytes: u64,
    sha256: String,
    resumed: u64,
    /// Whether the guest is seen to have written to it meanwhile.
    is_changed: bool,
}

impl Landing {
    pub(super) async fn find(local_path: &Path, manner: Manner) -> Result<Self, SshError> {
        let local_path = local_path.to_owned();
        on_files(move || Self::look(&local_path, manner)).await
    }

    fn look(local_path: &Path, manner: Manner) -> Result<Self, SshError> {
        let unfit_target = |what| SshError::LocalUnfit {
            path: local_path.to_owned(),
            what,
        };
        if local_path.as_os_str().as_encoded_bytes().ends_with(b"/")
            || local_path.file_name().is_none()
        {
            return Err(unfit_target(Unfit::Folder));
        }
        let old = match fs::metadata(local_path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(local("look at", local_path, error)),
        };
        if let Some(what) = old.as_ref().and_then(unfit) {
            return Err(unfit_target(what));
        }
        if !manner.overwrite && (old.is_some() || local_path.is_symlink()) {
            return Err(unfit_target(Unfit::Exists));
        }
        let path = if old.is_some() {
            // Through links, so that the file is replaced and not the link to it.
            fs::canonicalize(local_path).map_err(|error| local("find", local_path, error))?
        } else {
            local_path.to_owned()
        };
        let old_mode = old.map(|metadata| metadata.permissions().mode() & 0o777);
        Ok(Self::at(&path, path.clone(), old_mode, manner))
    }

    /// The place of this path, where a file of `old_mode` stands; messages call it `shown`.
    pub(super) fn at(path: &Path, shown: PathBuf, old_mode: Option<u32>, manner: Manner) -> Self {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Self {
            path: path.to_owned(),
            folder,
            shown,
            manner,
            old_mode,
            is_open: Arc::default(),
        }
    }

    /// Takes the guest's file here, and leaves nothing of one that fails, unless that can be gone on from.
    pub(super) async fn take(
        self,
        sftp: &Sftp,
        remote: &str,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let fetched = until(cancel, self.fetch(sftp, remote, progress)).await;
        let landing = self.clone();
        let finished = match fetched {
            Ok((transfer, before, temporary)) => {
                // Locked until it has its name.
                on_files(move || landing.put(temporary, &before).map(|()| transfer)).await
            }
            Err(error) => Err(error),
        };
        let error = match finished {
            Ok(transfer) => return Ok(transfer),
            Err(error) => of_transfer(error),
        };
        if !self.manner.resume || !self.is_open.load(Ordering::Relaxed) {
            return Err(error);
        }
        on_files(move || {
            let partial = self.partial();
            // What was on its way to the disk holds the lock until it is there. Where it is held longer it may be
            // another transfer's by now.
            let Ok(settled) = open_partial(&partial, 0o600, &self.shown) else {
                return Err(error);
            };
            let length = settled.metadata().map_or(0, |it| it.len());
            if length > 0 && can_be_resumed(&error) {
                let shown = self
                    .shown
                    .with_file_name(partial.file_name().unwrap_or_default());
                return Err(SshError::Interrupted {
                    partial: shown.display().to_string(),
                    source: Box::new(error),
                });
            }
            // It may have got its name already.
            let _ = fs::remove_file(partial);
            Err(error)
        })
        .await
    }

    /// Reads the guest's file into a temporary one and checks it; gives what the guest's file was like, too.
    async fn fetch(
        &self,
        sftp: &Sftp,
        remote: &str,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<(Transfer, FileAttributes, Temporary), SshError> {
        let start = Instant::now();
        let path = remote_path(remote)?;
        let missing = || SshError::RemoteMissing {
            path: remote.to_owned(),
        };
        let found = sftp.stat(path).await?.ok_or_else(missing)?;
        refuse_unfit(remote, &found)?;
        let path = sftp.real_path(path).await?;
        let handle = sftp.open(&path).await?;
        let received = self.receive(sftp, &handle, (remote, &path), &mut progress);
        let received = received.await;
        if !matches!(
            received,
            Err(SshError::TransferLost { .. } | SshError::Slow { .. })
        ) {
            // Nothing was written through it; an answer is all that could be missing.
            let _ = sftp.close(&handle).await;
        }
        let Received {
            temporary: Temporary { file, path: named },
            before,
            bytes,
            sha256,
            resumed,
            is_changed,
        } = received?;
        let file = file.into_std().await;
        let transfer_time = start.elapsed();

        let start = Instant::now();
        // What was written to meanwhile is compared though nobody asks for it.
        let verified = if self.manner.verify || is_changed {
            let verifying = verify(sftp, &path, remote, &before, bytes, &sha256);
            ticking(|| progress(bytes, bytes), verifying).await?
        } else {
            Verified::Skipped
        };
        let transfer = Transfer {
            bytes,
            sha256,
            verified,
            resumed,
            atomic: true,
            transfer_time,
            verify_time: start.elapsed(),
        };
        Ok((transfer, before, Temporary { file, path: named }))
    }

    /// Reads an open file of the guest, called `remote`, whose absolute path is `path`.
    async fn receive(
        &self,
        sftp: &Sftp,
        handle: &str,
        (remote, path): (&str, &str),
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Received, SshError> {
        let looked = async || match sftp.attributes(handle).await {
            Ok(attributes) => Ok(attributes),
            Err(error) => Err(sftp.failure("look at", remote, error)),
        };
        let before = looked().await?;
        let size = before.size.unwrap_or(0);
        let landing = self.clone();
        let mode = before.permissions;
        let Temporary {
            file,
            path: temporary,
        } = on_files(move || landing.temporary(mode)).await?;
        self.is_open.store(true, Ordering::Relaxed);
        let mut file = File::from_std(file);
        let taken_up = if self.manner.resume {
            let part = file.metadata().await.map_or(0, |it| it.len());
            let taking = self.take_up(sftp, path, &mut file, size);
            ticking(|| progress(part, size.max(part)), taking).await?
        } else {
            None
        };
        let (hash, resumed) = taken_up.unwrap_or_default();
        let mut sink = Sink {
            file: Some((&mut file, &self.shown)),
            hash,
            done: resumed,
        };
        let received = sftp.receive(handle, size, &mut sink, progress);
        received.await.map_err(|failure| match failure {
            Failure::Local(error) => error,
            Failure::Remote(error) => sftp.failure("read", remote, error),
        })?;
        let (bytes, sha256) = (sink.done, hex(sink.hash));
        let is_changed = if self.manner.verify {
            // That is seen when it is compared.
            false
        } else {
            let now = looked().await?;
            bytes < size || (now.size, now.mtime) != (before.size, before.mtime)
        };
        let path = temporary;
        Ok(Received {
            temporary: Temporary { file, path },
            before,
            bytes,
            sha256,
            resumed,
            is_changed,
        })
    }

    fn partial(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.folder.join(partial_name(&name))
    }

    fn temporary(&self, remote_mode: Option<u32>) -> Result<Temporary, SshError> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| local("make the folder", &self.folder, error))?;
        // What a new file may be, less the umask; not readable by others where the old one was not.
        let mode = match self.old_mode {
            Some(_) => 0o600,
            None => remote_mode.unwrap_or(0o666) & 0o777 | 0o600,
        };
        if self.manner.resume {
            let partial = self.partial();
            let file = open_partial(&partial, mode, &self.shown)?;
            let mut path = TempPath::try_from_path(&partial)
                .map_err(|error| local("write", &partial, error))?;
            path.disable_cleanup(true);
            return Ok(Temporary { file, path });
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{}.virtpilot-", short(&name));
        let created = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(&self.folder)
            .map_err(|error| local("write in", self.shown_folder(), error))?;
        let (file, path) = created.into_parts();
        Ok(Temporary { file, path })
    }

    fn shown_folder(&self) -> &Path {
        self.shown.parent().unwrap_or(&self.shown)
    }

    /// Passes over what an earlier transfer has left, if it is a beginning of the guest's file: its checksum so
    /// far, and its length. Else it is emptied.
    async fn take_up(
        &self,
        sftp: &Sftp,
        remote: &str,
        file: &mut File,
        size: u64,
    ) -> Result<Option<(Sha256, u64)>, SshError> {
        let failed = |error| local("read", &self.shown, error);
        let length = file.metadata().await.map_err(failed)?.len();
        if (1..=size).contains(&length) {
            let mut hash = Sha256::new();
            let mut left = length;
            while left > 0 {
                let chunk = read_chunk(file, CHUNK.min(left)).await.map_err(failed)?;
                if chunk.is_empty() {
                    break;
                }
                hash.update(&chunk);
                left = left.saturating_sub(chunk.len() as u64);
            }
            // Where the guest does not hash, its part is read once more: whoever emptied this one would start over each
            // time. What is here may well be right where that fails.
            let (theirs, _) = checksum::of(sftp, remote, Some(length), length).await?;
            if theirs == hex(hash.clone()) {
                return Ok(Some((hash, length)));
            }
        }
        let failed = |error| local("write", &self.shown, error);
        file.set_len(0).await.map_err(failed)?;
        file.seek(SeekFrom::Start(0)).await.map_err(failed)?;
        Ok(None)
    }

    /// Gives the new file the guest's time of change, the old one's mode, and its name; the guest's mode, less the
    /// umask, where there is no old one.
    fn put(&self, temporary: Temporary, before: &FileAttributes) -> Result<(), SshError> {
        let Temporary { file, path } = temporary;
        let open = file.metadata().map(|metadata| metadata.permissions());
        set_times(&file, before);
        // Only now: a part whose owner may not write to it cannot be gone on from.
        set_mode(&file, self.old_mode, before.permissions)
            .map_err(|error| local("set the mode of", &self.shown, error))?;
        let put = if self.manner.overwrite {
            path.persist(&self.path)
        } else {
            path.persist_noclobber(&self.path)
        };
        put.map_err(|error| {
            if let Ok(open) = open {
                let _ = file.set_permissions(open);
            }
            if error.error.kind() == io::ErrorKind::AlreadyExists {
                SshError::LocalUnfit {
                    path: self.shown.clone(),
                    what: Unfit::Exists,
                }
            } else {
                local("replace", &self.shown, error.error)
            }
        })
    }
}

/// Some file systems have no times of their own; the file counts more.
pub(super) fn set_times(file: &fs::File, of: &FileAttributes) {
    let Some(changed) = of.mtime else {
        return;
    };
    let time = |seconds: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
    let times = fs::FileTimes::new()
        .set_modified(time(changed))
        .set_accessed(time(of.atime.unwrap_or(changed)));
    let _ = file.set_times(times);
}

/// Gives a new file the old one's mode, or of its own mode what the guest's file has too.
pub(super) fn set_mode(file: &fs::File, old: Option<u32>, remote: Option<u32>) -> io::Result<()> {
    let mode = match (old, remote) {
        (Some(old), _) => old,
        (None, Some(remote)) => file.metadata()?.permissions().mode() & remote & 0o777,
        (None, None) => return Ok(()),
    };
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Compares what was read with the guest's file. A file that only grew meanwhile, as a log does, is compared
/// up to where it was read.
async fn verify(
    sftp: &Sftp,
    path: &str,
    remote: &str,
    before: &FileAttributes,
    bytes: u64,
    sha256: &str,
) -> Result<Verified, SshError> {
    if before.size.unwrap_or(0) == 0 && bytes > 0 {
        return Ok(Verified::No);
    }
    let grew = |now: &FileAttributes| before.size == Some(bytes) && now.size > before.size;
    let mut now = sftp.stat(path).await?.unwrap_or_default();
    let part = grew(&now).then_some(bytes);
    let (mut there, verified) = checksum::of(sftp, path, part, bytes).await?;
    if there != sha256 && part.is_none() {
        now = sftp.stat(path).await?.unwrap_or_default();
        if grew(&now) {
            // It grew between the two looks.
            there = checksum::of(sftp, path, Some(bytes), bytes).await?.0;
        }
    }
    if there == sha256 {
        return Ok(verified);
    }
    let is_same = (now.size, now.mtime) == (before.size, before.mtime);
    Err(SshError::Damaged {
        path: remote.to_owned(),
        what: if is_same {
            "its SHA-256 differs"
        } else {
            "the guest was writing to it"
        },
    })
}
