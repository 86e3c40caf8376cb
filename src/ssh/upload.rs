//! The two ends of an upload: the file here, and its place on the guest.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use russh_sftp::{
    client::error::Error as SftpError,
    protocol::{FileAttributes, StatusCode},
};
use tokio::fs::File;

use super::{
    SshError, Transfer, Unfit, Verified,
    sftp::{Failure, Kind, Sftp, is, kind},
    transfer::{
        join, local, refuse_unfit, remote_path, remote_sha256, split, temporary_name, unfit,
    },
};

/// The local file of an upload.
pub(super) struct Source {
    path: PathBuf,
    file: File,
    size: u64,
    executable: bool,
}

impl Source {
    pub(super) async fn open(path: &Path) -> Result<Self, SshError> {
        // Looked at before it is opened: opening a FIFO would wait for a writer.
        let metadata = tokio::fs::metadata(path)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SshError::LocalMissing {
                    path: path.to_owned(),
                },
                _ => local("look at", path, error),
            })?;
        if let Some(what) = unfit(&metadata) {
            return Err(SshError::LocalUnfit {
                path: path.to_owned(),
                what,
            });
        }
        let file = File::open(path)
            .await
            .map_err(|error| local("read", path, error))?;
        // It may have been replaced in between, and what was opened counts.
        let metadata = file
            .metadata()
            .await
            .map_err(|error| local("look at", path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size: metadata.len(),
            executable: metadata.permissions().mode() & 0o111 != 0,
        })
    }
}

/// Where on the guest an upload goes.
pub(super) struct Place {
    folder: String,
    path: String,
    pub(super) temporary: String,
    /// What is replaced.
    old: Option<FileAttributes>,
}

impl Place {
    pub(super) async fn find(sftp: &Sftp, remote: &str, overwrite: bool) -> Result<Self, SshError> {
        let path = remote_path(remote)?;
        let link = sftp.lstat(path).await?;
        let found = match &link {
            Some(_) => sftp.stat(path).await?,
            None => None,
        };
        if let Some(found) = &found {
            refuse_unfit(remote, found)?;
        }
        if link.is_some() && !overwrite {
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
        let (folder, name) = split(&path);
        Ok(Self {
            folder: folder.to_owned(),
            temporary: join(folder, &temporary_name(name)),
            // A link to nothing is replaced itself, and its own mode means nothing.
            old: found.or_else(|| link.map(|_| FileAttributes::empty())),
            path,
        })
    }

    /// Writes the temporary file and checks it.
    pub(super) async fn write(
        &self,
        sftp: &Sftp,
        mut source: Source,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        let start = Instant::now();
        let old_mode = self.old.as_ref().and_then(|old| old.permissions);
        let mode = match (old_mode, source.executable) {
            // Not readable by others before it has the old file's mode.
            (Some(_), _) => 0o600,
            (None, true) => 0o755,
            (None, false) => 0o644,
        };
        let created = sftp.create(&self.temporary, mode).await;
        let handle =
            created.map_err(
                |error| match sftp.failure("write in", &self.folder, error) {
                    SshError::RemoteMissing { path } => {
                        SshError::RemoteFolderMissing { folder: path }
                    }
                    other => other,
                },
            )?;
        let sent = sftp
            .send(
                &handle,
                &mut source.file,
                &source.path,
                source.size,
                progress,
            )
            .await;
        let (bytes, sha256) = match sent {
            Ok(sent) => sent,
            Err(failure) => return Err(self.write_failure(sftp, failure, source.size).await),
        };
        if bytes < source.size {
            return Err(SshError::Damaged {
                path: source.path.display().to_string(),
                what: "the file shrank while it was read",
            });
        }
        self.take_over(sftp, &handle).await?;
        if let Err(error) = sftp.close(&handle).await {
            return Err(self.write_failure(sftp, error.into(), source.size).await);
        }
        let transfer_time = start.elapsed();

        let start = Instant::now();
        let verified = match remote_sha256(sftp, &self.temporary, None, bytes).await {
            Some(there) if there == sha256 => Verified::Sha256,
            Some(_) => return Err(self.damaged("its SHA-256 differs")),
            None => match sftp.stat(&self.temporary).await?.and_then(|file| file.size) {
                Some(size) if size == bytes => Verified::Size,
                _ => return Err(self.damaged("its size differs")),
            },
        };
        Ok(Transfer {
            bytes,
            sha256,
            verified,
            atomic: true,
            transfer_time,
            verify_time: start.elapsed(),
        })
    }

    /// Gives the new file the old one's owner, where that is permitted, and its mode.
    async fn take_over(&self, sftp: &Sftp, handle: &str) -> Result<(), SshError> {
        let Some(old) = &self.old else {
            return Ok(());
        };
        if let (Some(uid), Some(gid)) = (old.uid, old.gid) {
            let new = sftp.attributes(handle).await.unwrap_or_default();
            if (new.uid, new.gid) != (old.uid, old.gid) {
                let owner = FileAttributes {
                    uid: Some(uid),
                    gid: Some(gid),
                    ..FileAttributes::empty()
                };
                // Only root may give files away; others own what they replace from now on.
                let _ = sftp.set_attributes(handle, owner).await;
            }
        }
        if let Some(mode) = old.permissions {
            let mode = FileAttributes {
                permissions: Some(mode & 0o777),
                ..FileAttributes::empty()
            };
            sftp.set_attributes(handle, mode)
                .await
                .map_err(|error| sftp.failure("set the mode of", &self.path, error))?;
        }
        Ok(())
    }

    /// Renames the temporary file to its name.
    pub(super) async fn put(
        &self,
        sftp: &Sftp,
        mut transfer: Transfer,
    ) -> Result<Transfer, SshError> {
        let renamed = match &self.old {
            // A name that was free must still be free: this rename replaces nothing.
            None => sftp.rename(&self.temporary, &self.path).await,
            Some(_) if sftp.replaces => sftp.replace(&self.temporary, &self.path).await,
            Some(_) => {
                transfer.atomic = false;
                self.swap(sftp).await
            }
        };
        match renamed {
            Ok(()) => Ok(transfer),
            Err(error) => match (&self.old, sftp.lstat(&self.path).await) {
                (None, Ok(Some(_))) => Err(SshError::RemoteUnfit {
                    path: self.path.clone(),
                    what: Unfit::Exists,
                }),
                _ => Err(sftp.failure("replace", &self.path, error)),
            },
        }
    }

    /// Replaces the old file where the server cannot do it in one step: it steps aside, and comes back if the
    /// new one cannot take its place.
    async fn swap(&self, sftp: &Sftp) -> Result<(), SftpError> {
        let aside = format!("{}.old", self.temporary);
        sftp.rename(&self.path, &aside).await?;
        if let Err(error) = sftp.rename(&self.temporary, &self.path).await {
            if let Err(stuck) = sftp.rename(&aside, &self.path).await {
                tracing::error!(%stuck, aside, "the guest's old file is left under this name");
            }
            return Err(error);
        }
        sftp.remove(&aside).await
    }

    async fn write_failure(&self, sftp: &Sftp, failure: Failure, needed: u64) -> SshError {
        match failure {
            Failure::Local(error) => error,
            // OpenSSH's server says no more than "Failure" when the disk is full.
            Failure::Remote(error) if is(&error, StatusCode::Failure) => {
                let written = sftp.stat(&self.temporary).await.ok().flatten();
                let written = written.and_then(|file| file.size).unwrap_or(0);
                if sftp
                    .is_full(&self.folder, needed.saturating_sub(written))
                    .await
                {
                    SshError::RemoteFull {
                        path: self.path.clone(),
                    }
                } else {
                    sftp.failure("write", &self.path, error)
                }
            }
            Failure::Remote(error) => sftp.failure("write", &self.path, error),
        }
    }

    fn damaged(&self, what: &'static str) -> SshError {
        SshError::Damaged {
            path: self.path.clone(),
            what,
        }
    }
}

/// Tells apart a folder that is missing and a file that stands in its place or above it: the server says
/// of both that there is nothing.
async fn check_folder(sftp: &Sftp, folder: &str) -> Result<(), SshError> {
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
