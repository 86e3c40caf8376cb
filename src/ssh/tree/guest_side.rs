//! What is made on the guest, one thing at a time.

use std::{future::ready, sync::Arc};

use russh_sftp::protocol::FileAttributes;
use sha2::{Digest as _, Sha256};

use crate::ssh::{
    SshError, Unfit,
    flow::hex,
    on_files,
    sftp::{Kind, Replaces, Sftp, kind},
    transfer::mode_and_times,
    upload::write_failure,
};

use super::{HostFolder, host_side::read_small};

/// Makes a folder; gives what was there already.
pub(super) async fn make_folder(
    sftp: &Sftp,
    path: &str,
    mode: u32,
) -> Result<Option<FileAttributes>, SshError> {
    let error = match sftp.make_folder(path, mode | 0o700).await {
        Ok(()) => return Ok(None),
        Err(error) => error,
    };
    match sftp.lstat(path).await? {
        Some(found) if kind(&found) == Kind::Folder => Ok(Some(found)),
        Some(_) => Err(SshError::RemoteUnfit {
            path: path.to_owned(),
            what: Unfit::NoFolder,
        }),
        None => Err(sftp.failure("make the folder", path, error)),
    }
}

pub(super) async fn make_link(
    sftp: &Arc<Sftp>,
    path: &str,
    target: &str,
    temporary: &str,
    overwrite: bool,
) -> Result<(), SshError> {
    let old = sftp.lstat(path).await?;
    let what = match old.as_ref().map(kind) {
        Some(Kind::Folder) => Some(Unfit::Folder),
        Some(_) if !overwrite => Some(Unfit::Exists),
        Some(_) | None => None,
    };
    if let Some(what) = what {
        return Err(SshError::RemoteUnfit {
            path: path.to_owned(),
            what,
        });
    }
    let failed = |error| sftp.failure("make the link", path, error);
    sftp.link(temporary, target).await.map_err(failed)?;
    let put = sftp.put(temporary, path, Replaces::of(overwrite, old.is_some()));
    put.await.map(drop)
}

/// Sends a file that fits into one request, which messages call `shown`; gives its length and checksum.
pub(super) async fn send_small(
    sftp: &Sftp,
    (from, path): (Arc<HostFolder>, String),
    temporary: &str,
    shown: &str,
    old: Option<FileAttributes>,
) -> Result<(u64, String), SshError> {
    let most = sftp.write_length.into();
    let (data, mode, times) = on_files(move || read_small(&from, &path, most)).await?;
    let bytes = data.len() as u64;
    let sha256 = hex(Sha256::new().chain_update(&data));
    let old_mode = old.as_ref().and_then(|old| old.permissions);
    let created = sftp.create(
        temporary,
        if old_mode.is_some() {
            0o600
        } else {
            mode | 0o600
        },
    );
    let handle = created
        .await
        .map_err(|error| sftp.failure("write", shown, error))?;
    let owner = async {
        let Some((uid, gid)) = old.as_ref().and_then(|old| old.uid.zip(old.gid)) else {
            return;
        };
        let owner = FileAttributes {
            uid: Some(uid),
            gid: Some(gid),
            ..FileAttributes::empty()
        };
        // Only root may give files away; others own what they replace from now on.
        let _ = sftp.set_attributes(&handle, owner).await;
    };
    let wanted = mode_and_times(old_mode.unwrap_or(mode), times);
    // All on their way at once: the server takes them in turn.
    let (written, (), set, closed) = tokio::join!(
        biased;
        async {
            if data.is_empty() {
                return Ok(());
            }
            sftp.raw.write(handle.as_str(), 0, data).await.map(drop)
        },
        owner,
        sftp.set_attributes(&handle, wanted),
        sftp.close(&handle),
    );
    // Some file systems have neither times nor modes of their own; the file counts more.
    drop(set);
    for done in [written, closed] {
        if let Err(error) = done {
            return Err(write_failure(sftp, shown, error, ready(0), bytes).await);
        }
    }
    Ok((bytes, sha256))
}
