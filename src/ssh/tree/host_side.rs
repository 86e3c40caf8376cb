//! What is read and made on the host, one thing at a time.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use russh_sftp::protocol::FileAttributes;
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::sync::OwnedRwLockReadGuard;
use tokio_util::sync::CancellationToken;

use crate::ssh::{
    SshError, Unfit,
    download::{set_mode, set_times},
    exec,
    flow::hex,
    transfer::{local, stamp, times, unfit},
};

use super::{HostFolder, folder_of, may_be_unfinished, name_of, walk::Entry};

const CHANGED: &str = "the file was written to while it was read";

/// A file that has arrived under a temporary name. Dropped, it is removed.
pub(super) struct Arrived {
    pub(super) path: String,
    temporary: TempPath,
    folder: Arc<HostFolder>,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    _writing: OwnedRwLockReadGuard<()>,
}

/// A file's content, mode and times.
type Small = (Vec<u8>, u32, Option<(u32, u32)>);

/// Reads a file of at most so many bytes; gives its mode and times too.
pub(super) fn read_small(from: &HostFolder, path: &str, most: u64) -> Result<Small, SshError> {
    let (file, path) = from.file(path)?;
    let failed = |error| local("read", &path, error);
    let metadata = file.metadata().map_err(failed)?;
    if let Some(what) = unfit(&metadata) {
        return Err(SshError::LocalUnfit { path, what });
    }
    let mut data = Vec::with_capacity(usize::try_from(metadata.len().min(most)).unwrap_or(0));
    (&file)
        .take(most + 1)
        .read_to_end(&mut data)
        .map_err(failed)?;
    let now = file.metadata().map_err(failed)?;
    if data.len() as u64 > most || stamp(&now) != stamp(&metadata) {
        return Err(SshError::Damaged {
            path: path.display().to_string(),
            what: CHANGED,
        });
    }
    let mode = metadata.permissions().mode() & 0o777;
    Ok((data, mode, times(&metadata)))
}

/// The checksum of a file of the host; `None` where it is of another size, cannot be read, or nobody waits for it
/// any more.
pub(super) fn sha256(
    folder: &HostFolder,
    (path, size): &(String, u64),
    cancel: &CancellationToken,
) -> Option<String> {
    let (mut file, _) = folder.file(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() != *size {
        return None;
    }
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    while !cancel.is_cancelled() {
        match file.read(&mut chunk).ok()? {
            0 => return Some(hex(hash)),
            length => hash.update(&chunk[..length]),
        }
    }
    None
}

/// Whether a folder that was there already may be one that an interrupted call has made.
pub(super) fn may_be_made_before(folder: &HostFolder, entry: &Entry) -> bool {
    let there = folder.handle.metadata();
    there
        .is_ok_and(|it| may_be_unfinished(&entry.path, it.permissions().mode(), folder_mode(entry)))
}

/// Gives a folder that was made for the owner alone its mode, less the umask, and its times; the owner keeps all
/// rights in one that is not whole.
pub(super) fn finish_folder(folder: &HostFolder, entry: &Entry, is_whole: bool) {
    let mode = folder_mode(entry) | if is_whole { 0 } else { 0o700 };
    // Some file systems have neither.
    set_times(&folder.handle, &attributes(entry));
    let _ = set_mode(&folder.handle, Some(mode), None);
}

fn folder_mode(entry: &Entry) -> u32 {
    entry.mode.unwrap_or(0o777) & 0o777 & !umask()
}

/// To ask for it by umask(2) is to set it, for all threads.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok());
    umask.unwrap_or(0o077)
}

/// What of an entry's attributes is kept.
pub(super) fn attributes(entry: &Entry) -> FileAttributes {
    FileAttributes {
        permissions: entry.mode,
        atime: entry.times.map(|(used, _)| used),
        mtime: entry.times.map(|(_, changed)| changed),
        ..FileAttributes::empty()
    }
}

/// Makes a folder; tells whether it is new.
pub(super) fn make_folder(to: &HostFolder, path: &str) -> Result<bool, SshError> {
    to.below(folder_of(path))?.make(name_of(path))
}

pub(super) fn make_link(
    to: &HostFolder,
    path: &str,
    target: &str,
    overwrite: bool,
) -> Result<(), SshError> {
    let folder = to.below(folder_of(path))?;
    old_mode(&folder, name_of(path), overwrite)?;
    let shown = folder.shown.join(name_of(path));
    let failed = |error| local("make the link", &shown, error);
    let name = format!(".virtpilot-{:08x}.part", exec::random() >> 32);
    let temporary = folder.at(&name);
    symlink(target, &temporary).map_err(failed)?;
    let temporary = TempPath::try_from_path(temporary).map_err(failed)?;
    put(temporary, folder.at(name_of(path)), overwrite).map_err(|error| unless_there(&shown, error))
}

/// The mode of the file that stands in a place; what cannot be replaced is an error.
pub(super) fn old_mode(
    folder: &HostFolder,
    name: &str,
    overwrite: bool,
) -> Result<Option<u32>, SshError> {
    let shown = folder.shown.join(name);
    let metadata = match fs::symlink_metadata(folder.at(name)) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(local("look at", &shown, error)),
    };
    let unfit = |what| {
        Err(SshError::LocalUnfit {
            path: shown.clone(),
            what,
        })
    };
    if metadata.is_dir() {
        unfit(Unfit::Folder)
    } else if !metadata.is_file() && !metadata.is_symlink() {
        unfit(Unfit::Special)
    } else if !overwrite {
        unfit(Unfit::Exists)
    } else {
        // A link is replaced itself, and its own mode means nothing.
        let mode = metadata.permissions().mode() & 0o777;
        Ok(metadata.is_file().then_some(mode))
    }
}

/// Writes a file to a temporary one in its folder.
pub(super) fn write_small(
    folder: Arc<HostFolder>,
    entry: &Entry,
    data: &[u8],
    overwrite: bool,
    writing: OwnedRwLockReadGuard<()>,
) -> Result<Arrived, SshError> {
    let name = name_of(&entry.path);
    let old_mode = old_mode(&folder, name, overwrite)?;
    let shown = folder.shown.join(name);
    let failed = |error| local("write", &shown, error);
    let mode = match old_mode {
        Some(_) => 0o600,
        None => entry.mode.unwrap_or(0o666) | 0o600,
    };
    // The mode is that of a new file, less the umask.
    let created = tempfile::Builder::new()
        .prefix(".virtpilot-")
        .suffix(".part")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder.at(""))
        .map_err(|error| local("write in", &folder.shown, error))?;
    let (mut file, temporary) = created.into_parts();
    file.write_all(data).map_err(failed)?;
    set_times(&file, &attributes(entry));
    set_mode(&file, old_mode, entry.mode).map_err(failed)?;
    Ok(Arrived {
        path: entry.path.clone(),
        temporary,
        folder,
        bytes: data.len() as u64,
        sha256: hex(Sha256::new().chain_update(data)),
        _writing: writing,
    })
}

/// Gives it its name.
pub(super) fn name(arrived: Arrived, overwrite: bool) -> Result<(), SshError> {
    let Arrived {
        path,
        temporary,
        folder,
        ..
    } = arrived;
    let shown = folder.shown.join(name_of(&path));
    let put = put(temporary, folder.at(name_of(&path)), overwrite);
    put.map_err(|error| unless_there(&shown, error))
}

fn put(temporary: TempPath, path: PathBuf, overwrite: bool) -> io::Result<()> {
    let put = if overwrite {
        temporary.persist(path)
    } else {
        temporary.persist_noclobber(path)
    };
    put.map_err(|error| error.error)
}

fn unless_there(shown: &Path, error: io::Error) -> SshError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        SshError::LocalUnfit {
            path: shown.to_owned(),
            what: Unfit::Exists,
        }
    } else {
        local("replace", shown, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_is_not_hashed_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "abc").unwrap();
        let root = HostFolder::existing(folder.path()).unwrap();
        let cancel = CancellationToken::new();
        let sum = |size| sha256(&root, &("file".to_owned(), size), &cancel);
        assert_eq!(sum(4), None);
        assert_eq!(sum(3), Some(hex(Sha256::new().chain_update("abc"))));
        cancel.cancel();
        assert_eq!(sum(3), None);
    }
}
