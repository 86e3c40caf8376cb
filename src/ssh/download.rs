//! The two ends of a download: the file on the guest, and its place here.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use tempfile::TempPath;
use tokio::fs::File;

use super::{
    SshError, Transfer, Unfit, Verified, on_files,
    sftp::{Failure, Sftp},
    transfer::{local, refuse_unfit, remote_path, remote_sha256, short, unfit},
};

/// Where on the host a download goes.
#[derive(Clone)]
pub(super) struct Landing {
    path: PathBuf,
    folder: PathBuf,
    overwrite: bool,
    /// The mode of what is replaced.
    old_mode: Option<u32>,
}

impl Landing {
    pub(super) async fn find(local_path: &Path, overwrite: bool) -> Result<Self, SshError> {
        let local_path = local_path.to_owned();
        on_files(move || Self::look(&local_path, overwrite)).await
    }

    fn look(local_path: &Path, overwrite: bool) -> Result<Self, SshError> {
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
        if !overwrite && (old.is_some() || local_path.is_symlink()) {
            return Err(unfit_target(Unfit::Exists));
        }
        let path = if old.is_some() {
            // Through links, so that the file is replaced and not the link to it.
            fs::canonicalize(local_path).map_err(|error| local("find", local_path, error))?
        } else {
            local_path.to_owned()
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self {
            folder,
            path,
            overwrite,
            old_mode: old.map(|metadata| metadata.permissions().mode() & 0o777),
        })
    }

    /// Reads the guest's file into a temporary one and checks it.
    pub(super) async fn fetch(
        &self,
        sftp: &Sftp,
        remote: &str,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<(Transfer, TempPath), SshError> {
        let start = Instant::now();
        let path = remote_path(remote)?;
        let missing = || SshError::RemoteMissing {
            path: remote.to_owned(),
        };
        let found = sftp.stat(path).await?.ok_or_else(missing)?;
        refuse_unfit(remote, &found)?;
        let path = sftp.real_path(path).await?;
        let handle = sftp.open(&path).await?;
        let before = match sftp.attributes(&handle).await {
            Ok(attributes) => attributes,
            Err(error) => return Err(sftp.failure("look at", remote, error)),
        };
        let size = before.size.unwrap_or(0);
        let landing = self.clone();
        let (file, temporary) = on_files(move || landing.temporary(before.permissions)).await?;
        let mut file = File::from_std(file);
        let received = sftp.receive(&handle, size, &mut file, &self.path, progress);
        let (bytes, sha256) = received.await.map_err(|failure| match failure {
            Failure::Local(error) => error,
            Failure::Remote(error) => sftp.failure("read", remote, error),
        })?;
        // Nothing was written through it; an answer is all that could be missing.
        let _ = sftp.close(&handle).await;
        drop(file);
        let transfer_time = start.elapsed();

        let start = Instant::now();
        let verified = verify(sftp, &path, remote, size, bytes, &sha256).await?;
        let transfer = Transfer {
            bytes,
            sha256,
            verified,
            atomic: true,
            transfer_time,
            verify_time: start.elapsed(),
        };
        Ok((transfer, temporary))
    }

    fn temporary(&self, remote_mode: Option<u32>) -> Result<(fs::File, TempPath), SshError> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| local("make the folder", &self.folder, error))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{}.virtpilot-", short(&name));
        let executable = remote_mode.is_some_and(|mode| mode & 0o111 != 0);
        let mode = match (self.old_mode, executable) {
            (Some(_), _) => 0o600,
            (None, true) => 0o777,
            (None, false) => 0o666,
        };
        // The mode is that of a new file, less the umask.
        let created = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(&self.folder)
            .map_err(|error| local("write in", &self.folder, error))?;
        if let Some(mode) = self.old_mode {
            created
                .as_file()
                .set_permissions(fs::Permissions::from_mode(mode))
                .map_err(|error| local("set the mode of", &self.path, error))?;
        }
        Ok(created.into_parts())
    }

    pub(super) async fn put(self, temporary: TempPath) -> Result<(), SshError> {
        on_files(move || self.rename(temporary)).await
    }

    fn rename(&self, temporary: TempPath) -> Result<(), SshError> {
        let put = if self.overwrite {
            temporary.persist(&self.path)
        } else {
            temporary.persist_noclobber(&self.path)
        };
        put.map_err(|error| {
            if error.error.kind() == io::ErrorKind::AlreadyExists {
                SshError::LocalUnfit {
                    path: self.path.clone(),
                    what: Unfit::Exists,
                }
            } else {
                local("replace", &self.path, error.error)
            }
        })
    }
}

/// Compares what was read with the guest's file. A file that only grew meanwhile, as a log does, is compared
/// up to where it was read.
async fn verify(
    sftp: &Sftp,
    path: &str,
    remote: &str,
    size: u64,
    bytes: u64,
    sha256: &str,
) -> Result<Verified, SshError> {
    if size == 0 && bytes > 0 {
        return Ok(Verified::No);
    }
    let now = sftp.stat(path).await?.and_then(|file| file.size);
    let damaged = |what| SshError::Damaged {
        path: remote.to_owned(),
        what,
    };
    let part = (now != Some(bytes)).then_some(bytes);
    match remote_sha256(sftp, path, part, bytes).await {
        Some(there) if there == sha256 => Ok(Verified::Sha256),
        Some(_) if part.is_some() => Err(damaged("the guest was writing to it")),
        Some(_) => match sftp.stat(path).await?.and_then(|file| file.size) {
            // It grew between the two looks.
            Some(size) if size > bytes => {
                match remote_sha256(sftp, path, Some(bytes), bytes).await {
                    Some(there) if there == sha256 => Ok(Verified::Sha256),
                    _ => Err(damaged("the guest was writing to it")),
                }
            }
            _ => Err(damaged("its SHA-256 differs")),
        },
        None if now.is_some_and(|now| now >= bytes) => Ok(Verified::Size),
        None => Err(damaged("its size differs")),
    }
}
