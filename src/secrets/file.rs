//! A secret in a file that its owner alone may use.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

use super::{MOST_BYTES, SecretError};

/// Permissions of the group and of others, as chmod(2) numbers them.
const OF_OTHERS: u32 = 0o077;

pub(super) async fn read(secret: &str, path: &Path) -> Result<Vec<u8>, SecretError> {
    let (name, file) = (secret.to_owned(), path.to_owned());
    // The file may be on a disk that hangs.
    tokio::task::spawn_blocking(move || read_now(&name, &file))
        .await
        .unwrap_or_else(|broke| {
            Err(SecretError::ReadFile {
                secret: secret.to_owned(),
                file: path.to_owned(),
                source: io::Error::other(broke),
            })
        })
}

fn read_now(secret: &str, path: &Path) -> Result<Vec<u8>, SecretError> {
    let unreadable = |source| SecretError::ReadFile {
        secret: secret.to_owned(),
        file: path.to_owned(),
        source,
    };
    // Opening a pipe that nobody writes to must not wait; what was opened is then looked at.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NoFile {
            secret: secret.to_owned(),
            file: path.to_owned(),
        });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OF_OTHERS != 0 {
        return Err(SecretError::OpenToOthers {
            secret: secret.to_owned(),
            file: path.to_owned(),
            mode,
        });
    }
    let mut bytes = vec![];
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}
