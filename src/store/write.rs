//! Writes that another reader sees whole or not at all.
//!
//! New content goes to a temporary file of the same folder that is then renamed, which also puts
//! it in the place of a link instead of writing through it. Permissions are left to the umask, as
//! everywhere on the host: whoever shares a data folder with a group sets them there.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::StoreError;

/// What happens to a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Replace,
    Keep,
}

/// Writes a file and has it on the disk before it appears.
pub(super) fn write(
    folder: &Path,
    name: &str,
    bytes: &[u8],
    existing: Existing,
) -> Result<PathBuf, StoreError> {
    let path = folder.join(name);
    let file = temporary(folder, bytes).and_then(|file| {
        file.as_file().sync_all()?;
        Ok(file)
    });
    match file {
        Ok(file) => persist(file, path, existing),
        Err(source) => Err(StoreError::Write { path, source }),
    }
}

/// Writes a new file without waiting for the disk: for pictures, which a crash of the host may
/// take.
pub(super) fn write_new_unsynced(
    folder: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<PathBuf, StoreError> {
    let path = folder.join(name);
    match temporary(folder, bytes) {
        Ok(file) => persist(file, path, Existing::Keep),
        Err(source) => Err(StoreError::Write { path, source }),
    }
}

/// Writes a new file under the first free name of `stem`, `stem_2`, `stem_3` …
pub(super) fn write_numbered(
    folder: &Path,
    stem: &str,
    extension: &str,
    bytes: &[u8],
) -> Result<PathBuf, StoreError> {
    let mut number = 1;
    loop {
        let name = format!("{}.{extension}", numbered(stem, number));
        match write(folder, &name, bytes, Existing::Keep) {
            Err(StoreError::Exists { .. }) => number += 1,
            result => return result,
        }
    }
}

/// `stem` for 1, then `stem_2` and so on.
pub(super) fn numbered(stem: &str, number: u32) -> String {
    match number {
        1 => stem.to_owned(),
        _ => format!("{stem}_{number}"),
    }
}

/// Appends in one write, so that lines of two servers never mix.
pub(super) fn append(path: &Path, line: &str) -> Result<(), StoreError> {
    // A link is refused before it is opened: opening it would already make its target.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Err(no_plain_file(path)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(write_error(path, source)),
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| write_error(path, source))?;
    match is_at(&file, path) {
        Ok(true) => {}
        Ok(false) => return Err(no_plain_file(path)),
        Err(source) => return Err(write_error(path, source)),
    }
    file.write_all(line.as_bytes())
        .map_err(|source| write_error(path, source))
}

/// Whether the open file is the very one at the path, and no link led to it.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    let named = fs::symlink_metadata(path)?;
    Ok(opened.dev() == named.dev() && opened.ino() == named.ino())
}

/// Opens a file for reading unless a link or something else has its name; `None` where it is
/// missing.
pub(super) fn open_plain(path: &Path) -> Result<Option<File>, StoreError> {
    let read_error = |source| StoreError::Read {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => File::open(path).map(Some).map_err(read_error),
        Ok(_) => Err(no_plain_file(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(read_error(source)),
    }
}

fn temporary(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn persist(file: NamedTempFile, path: PathBuf, existing: Existing) -> Result<PathBuf, StoreError> {
    let result = match existing {
        Existing::Replace => file.persist(&path),
        // Refuses in the same system call that renames, so no other writer can slip in between.
        Existing::Keep => file.persist_noclobber(&path),
    };
    match result {
        Ok(_) => Ok(path),
        Err(error)
            if existing == Existing::Keep && error.error.kind() == io::ErrorKind::AlreadyExists =>
        {
            Err(StoreError::Exists { path })
        }
        Err(error) => Err(write_error(&path, error.error)),
    }
}

fn no_plain_file(path: &Path) -> StoreError {
    StoreError::NotPlain {
        path: path.to_owned(),
        wanted: "file",
    }
}

fn write_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Write {
        path: path.to_owned(),
        source,
    }
}
