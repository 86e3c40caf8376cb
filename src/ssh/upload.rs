//! The place of an upload on the guest.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use russh_sftp::{
    client::error::Error as SftpError,
    protocol::{FileAttributes, StatusCode},
};
use tokio::time::timeout;

use super::{
    Manner, SshError, Transfer, Unfit, Verified, checksum,
    flow::{Failure, Second, ticking},
    partial::{Claim, partial_name},
    sftp::{Kind, Replaces, Sftp, is, kind},
    source::Source,
    transfer::{join, mode_and_times, refuse_unfit, remote_path, split, temporary_name},
};

/// From this size on opening another channel is worth its round trips.
const LARGE: u64 = 16 << 20;
/// How long the last writes of a transfer that was given up may take to settle.
const SETTLING_LIMIT: Duration = Duration::from_secs(5);

/// Where on the guest an upload goes.
pub(super) struct Place {
    folder: String,
    path: String,
    pub(super) temporary: String,
    /// What is replaced.
    old: Option<FileAttributes>,
    pub(super) manner: Manner,
    /// Whether no other file is moved at the same time.
    is_alone: bool,
    /// The handle of the temporary file, while it is open.
    handle: Mutex<Option<String>>,
    _claim: Option<Claim>,
}

impl Place {
    pub(super) async fn find(sftp: &Sftp, remote: &str, manner: Manner) -> Result<Self, SshError> {
        let path = remote_path(remote)?;
        let link = sftp.lstat(path).await?;
        let found = match &link {
            Some(_) => sftp.stat(path).await?,
            None => None,
        };
        if let Some(found) = &found {
            refuse_unfit(remote, found)?;
        }
        if link.is_some() && !manner.overwrite {
            return Err(SshError::RemoteUnfit {
                path: remote.to_owned(),
                what: Unfit::Exists,
            });
        }
        let (folder, name) = split(path);
        let path = if found.is_some() {
            // Through links, so that the file is replaced and not the link to it.
            sftp.real_path(path).await?
        } else {
            check_folder(sftp, folder).await?;
            join(&sftp.real_path(folder).await?, name)
        };
        // A link to nothing is replaced itself, and its own mode means nothing.
        let old = found.or_else(|| link.map(|_| FileAttributes::empty()));
        let place = Self::at(sftp, path, old, manner)?;
        Ok(Self {
            is_alone: true,
            ..place
        })
    }

    /// The place of this absolute path, where `old` stands.
    pub(super) fn at(
        sftp: &Sftp,
        path: String,
        old: Option<FileAttributes>,
        manner: Manner,
    ) -> Result<Self, SshError> {
        let (folder, name) = split(&path);
        let temporary = if manner.resume {
            partial_name(name)
        } else {
            temporary_name(name)
        };
        let temporary = join(folder, &temporary);
        let endpoint = sftp.session().endpoint();
        let claim = if manner.resume {
            Some(Claim::new(endpoint, &temporary, &path)?)
        } else {
            None
        };
        Ok(Self {
            folder: folder.to_owned(),
            temporary,
            old,
            manner,
            is_alone: false,
            path,
            handle: Mutex::default(),
            _claim: claim,
        })
    }

    /// Writes the temporary file and checks it.
    pub(super) async fn write(
        &self,
        sftp: &Sftp,
        source: &mut Source,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let start = Instant::now();
        let taken_up = if self.manner.resume {
            self.take_up(sftp, source, &mut progress).await?
        } else {
            None
        };
        let resumed = source.done;
        let handle = match taken_up {
            Some(handle) => handle,
            None => self.create(sftp, source).await?,
        };
        let second = self.second(sftp, source).await;
        let sending = sftp.send(&handle, second.as_ref(), source, &mut progress);
        let mut sent = sending.await;
        if let (Ok(()), Some(second)) = (&sent, second) {
            // The checksum needs its channel.
            sent = second.close().await.map_err(Failure::Remote);
        }
        if let Err(failure) = sent {
            return Err(self.write_failure(sftp, failure, source.size).await);
        }
        let (done, size) = (source.done, source.size.max(source.done));
        let mut tick = || progress(done, size);
        ticking(&mut tick, source.check()).await?;
        let (bytes, sha256) = (source.done, source.sha256());
        let transfer_time = start.elapsed();

        let start = Instant::now();
        let verified = if self.manner.verify {
            let sum = checksum::of(sftp, &self.temporary, None, bytes);
            let (there, verified) = ticking(&mut tick, sum).await?;
            if there != sha256 {
                return Err(self.damaged("its SHA-256 differs"));
            }
            verified
        } else {
            Verified::Skipped
        };
        let verify_time = start.elapsed();

        let start = Instant::now();
        // Only now: what its owner may not read cannot be compared, nor gone on from what he may not write to.
        self.take_over(sftp, &handle, source).await?;
        self.opened().take();
        if let Err(error) = sftp.close(&handle).await {
            return Err(self.write_failure(sftp, error.into(), source.size).await);
        }
        Ok(Transfer {
            bytes,
            sha256,
            verified,
            resumed,
            atomic: true,
            transfer_time: transfer_time + start.elapsed(),
            verify_time,
        })
    }

    /// Another way to the temporary file, where it is worth it and free. One that is to be gone on from is written in
    /// one: what a lost connection leaves has no holes then.
    async fn second(&self, sftp: &Sftp, source: &Source) -> Option<Second> {
        let is_large = source.size >= LARGE;
        if is_large && self.is_alone && !self.manner.resume {
            Second::open(sftp, &self.temporary).await
        } else {
            None
        }
    }

    async fn create(&self, sftp: &Sftp, source: &Source) -> Result<String, SshError> {
        // Not readable by others before it has the old file's mode.
        let mode = if self.old_mode().is_some() {
            0o600
        } else {
            source.mode | 0o600
        };
        match sftp.create(&self.temporary, mode).await {
            Ok(handle) => {
                *self.opened() = Some(handle.clone());
                Ok(handle)
            }
            Err(error) => Err(match sftp.failure("write in", &self.folder, error) {
                SshError::RemoteMissing { path } => SshError::RemoteFolderMissing { folder: path },
                other => other,
            }),
        }
    }

    /// Opens what an earlier transfer has left, if it is a beginning of this file, and passes over that in the
    /// source. Anything else of that name is removed.
    async fn take_up(
        &self,
        sftp: &Sftp,
        source: &mut Source,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Option<String>, SshError> {
        let Some(found) = sftp.lstat(&self.temporary).await? else {
            return Ok(None);
        };
        let size = found.size.unwrap_or(0);
        let is_fit = kind(&found) == Kind::File && (1..=source.size).contains(&size);
        if is_fit && let Some(handle) = self.reopen(sftp, &found).await {
            let total = source.size;
            let summing = async {
                let ours = source.pass(size).await?;
                let theirs = checksum::of(sftp, &self.temporary, Some(size), size).await?;
                Ok::<_, SshError>((ours, theirs.0))
            };
            let (ours, theirs) = ticking(|| progress(size, total), summing).await?;
            if ours == theirs {
                return Ok(Some(handle));
            }
            self.settle(sftp).await;
            source.start_over().await?;
        }
        let removed = sftp.remove(&self.temporary).await;
        removed.map_err(|error| sftp.failure("replace", &self.temporary, error))?;
        Ok(None)
    }

    /// Opens what an earlier transfer has left, unless it is somebody else's, who could write to it later on: only
    /// its owner can set its mode, or root, whose own it must be, or that of who has the old file.
    async fn reopen(&self, sftp: &Sftp, found: &FileAttributes) -> Option<String> {
        let old_owner = self.old.as_ref().and_then(|old| old.uid);
        if sftp.is_root() && found.uid != Some(0) && found.uid != old_owner {
            return None;
        }
        let for_owner = || mode_and_times(0o600, None);
        let handle = match sftp.reopen(&self.temporary).await {
            // It was about to get its name, and has its mode already.
            Err(error) if is(&error, StatusCode::PermissionDenied) => {
                let opened_up = sftp.set_attributes_at(&self.temporary, for_owner());
                opened_up.await.ok()?;
                sftp.reopen(&self.temporary).await.ok()?
            }
            reopened => reopened.ok()?,
        };
        *self.opened() = Some(handle.clone());
        match sftp.set_attributes(&handle, for_owner()).await {
            Err(error) if is(&error, StatusCode::PermissionDenied) => {
                self.settle(sftp).await;
                None
            }
            // Some file systems have no modes, nor owners.
            _ => Some(handle),
        }
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the temporary file if it is open; that is answered after all that was written before.
    pub(super) async fn settle(&self, sftp: &Sftp) {
        let handle = self.opened().take();
        if let Some(handle) = handle
            && sftp.session().is_alive()
        {
            let _ = timeout(SETTLING_LIMIT, sftp.close(&handle)).await;
        }
    }

    fn old_mode(&self) -> Option<u32> {
        self.old.as_ref().and_then(|old| old.permissions)
    }

    /// Gives the new file its time of change, and the old one's owner, where that is permitted, and mode; the
    /// source's mode where there is no old one.
    async fn take_over(&self, sftp: &Sftp, handle: &str, source: &Source) -> Result<(), SshError> {
        if let Some((uid, gid)) = self.old.as_ref().and_then(|old| old.uid.zip(old.gid)) {
            let new = sftp.attributes(handle).await.unwrap_or_default();
            if (new.uid, new.gid) != (Some(uid), Some(gid)) {
                let owner = FileAttributes {
                    uid: Some(uid),
                    gid: Some(gid),
                    ..FileAttributes::empty()
                };
                // Only root may give files away; others own what they replace from now on.
                let _ = sftp.set_attributes(handle, owner).await;
            }
        }
        let mode = self.old_mode();
        let wanted = mode_and_times(mode.unwrap_or(source.mode), source.times);
        let set = sftp.set_attributes(handle, wanted).await;
        match (set, mode) {
            // Some file systems have neither times nor modes of their own; the file counts more.
            (Ok(()), _) | (Err(_), None) => Ok(()),
            (Err(_), Some(mode)) => sftp
                .set_attributes(handle, mode_and_times(mode, None))
                .await
                .map_err(|error| sftp.failure("set the mode of", &self.path, error)),
        }
    }

    /// Renames the temporary file to its name.
    pub(super) async fn put(
        &self,
        sftp: &Arc<Sftp>,
        mut transfer: Transfer,
    ) -> Result<Transfer, SshError> {
        let put = sftp.put(&self.temporary, &self.path, self.replaces());
        transfer.atomic = put.await?;
        Ok(transfer)
    }

    /// What is known when the temporary file's name is not waited for any longer.
    pub(super) fn given_up(&self, sftp: &Sftp) -> SshError {
        sftp.given_up(&self.temporary, &self.path, self.replaces())
    }

    fn replaces(&self) -> Replaces {
        Replaces::of(self.manner.overwrite, self.old.is_some())
    }

    /// Whether the next transfer finds something to go on from, once what is on its way has settled; `None` where the
    /// guest is out of reach.
    pub(super) async fn leaves_a_part(&self, sftp: &Sftp) -> Option<bool> {
        let settled = timeout(SETTLING_LIMIT, async {
            self.settle(sftp).await;
            // Where nothing was written yet, an earlier transfer may have left something.
            sftp.lstat(&self.temporary).await
        });
        match settled.await {
            Ok(Ok(found)) => Some(found.is_some_and(|found| found.size.unwrap_or(0) > 0)),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn write_failure(&self, sftp: &Sftp, failure: Failure, needed: u64) -> SshError {
        match failure {
            Failure::Local(error) => error,
            Failure::Remote(error) => {
                let written = async {
                    let file = sftp.stat(&self.temporary).await.ok().flatten();
                    file.and_then(|file| file.size).unwrap_or(0)
                };
                write_failure(sftp, &self.path, error, written, needed).await
            }
        }
    }

    fn damaged(&self, what: &'static str) -> SshError {
        SshError::Damaged {
            path: self.path.clone(),
            what,
        }
    }
}

/// Why a file of `needed` bytes cannot be written, of which so many are.
pub(super) async fn write_failure(
    sftp: &Sftp,
    path: &str,
    error: SftpError,
    written: impl Future<Output = u64>,
    needed: u64,
) -> SshError {
    // OpenSSH's server says no more than "Failure" when the disk is full.
    if is(&error, StatusCode::Failure) {
        let left = needed.saturating_sub(written.await);
        if sftp.is_full(split(path).0, left.max(1)).await {
            return SshError::RemoteFull {
                path: path.to_owned(),
            };
        }
    }
    sftp.failure("write", path, error)
}

/// Tells apart a folder that is missing and a file that stands in its place or above it: the server says
/// of both that there is nothing.
pub(super) async fn check_folder(sftp: &Sftp, folder: &str) -> Result<(), SshError> {
    let mut part = folder;
    loop {
        match sftp.stat(part).await? {
            // A server that tells no kind tells it later, by refusing.
            Some(found) if found.permissions.is_some() && kind(&found) != Kind::Folder => {
                return Err(SshError::RemoteUnfit {
                    path: part.to_owned(),
                    what: Unfit::NoFolder,
                });
            }
            Some(_) if part == folder => return Ok(()),
            None if !matches!(split(part).0, "/" | ".") => part = split(part).0,
            _ => {
                return Err(SshError::RemoteFolderMissing {
                    folder: folder.to_owned(),
                });
            }
        }
    }
}
