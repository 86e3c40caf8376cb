//! What an interrupted transfer leaves beside its target, for the next one to go on from.
//!
//! It has a name that the next call finds, so two transfers to one target would meet in it: only one at a time
//! may have it.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::{
    Endpoint, SshError,
    flow::hex,
    transfer::{local, short},
};

/// How long the last writes of a transfer that was given up may still hold their file.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Partial files on guests that transfers of this process have.
static CLAIMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The name of the partial file beside a file of this name.
pub(super) fn partial_name(name: &str) -> String {
    let short = short(name);
    if short.len() == name.len() {
        return format!(".{name}.virtpilot.part");
    }
    // Long names that begin alike stay apart.
    let sum = hex(Sha256::new().chain_update(name));
    format!(".{short}.virtpilot-{}.part", &sum[..8])
}

/// The right to a partial file on a guest, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim(String);

impl Claim {
    pub(super) fn new(endpoint: &Endpoint, partial: &str, path: &str) -> Result<Self, SshError> {
        let key = format!("{endpoint} {partial}");
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.insert(key.clone()) {
            Ok(Self(key))
        } else {
            Err(busy(path))
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.0);
    }
}

/// Opens the partial file of a download, or makes it, and locks it for as long as it is open.
pub(super) fn open_partial(path: &Path, mode: u32, target: &Path) -> Result<File, SshError> {
    // The path itself may lead through a folder that is held open.
    let shown = target.with_file_name(path.file_name().unwrap_or_default());
    let failed = |error| local("write", &shown, error);
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        // Neither a link, through which something else would be written, nor a FIFO, which would hang.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode | 0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // Somebody else's could be written to by them later on.
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !metadata.is_file() || metadata.nlink() > 1 || !is_ours {
            return Err(failed(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else has this name",
            )));
        }
        match file.try_lock() {
            // Whoever had it until now may have given it its name, or removed it.
            Ok(()) if is_same(path, &metadata) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                return Err(busy(&target.display().to_string()));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

fn is_same(path: &Path, opened: &fs::Metadata) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino()))
}

fn busy(path: &str) -> SshError {
    SshError::TransferBusy {
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_partial_files_stay_apart_and_short() {
        assert_eq!(partial_name("a b"), ".a b.virtpilot.part");
        let (one, other) = ("ü".repeat(126) + "1", "ü".repeat(126) + "2");
        assert_ne!(partial_name(&one), partial_name(&other));
        assert!(partial_name(&one).len() <= 255);
    }

    #[test]
    fn one_transfer_at_a_time_has_a_partial_file() {
        let endpoint = |port| Endpoint {
            host: "guest".into(),
            port,
        };
        let first = Claim::new(&endpoint(22), "/p", "/f").unwrap();
        let second = Claim::new(&endpoint(22), "/p", "/f").unwrap_err();
        assert!(matches!(&second, SshError::TransferBusy { path } if path == "/f"));
        Claim::new(&endpoint(23), "/p", "/f").unwrap();
        drop(first);
        Claim::new(&endpoint(22), "/p", "/f").unwrap();
    }

    #[test]
    fn the_partial_file_of_a_download_is_locked_and_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let first = open_partial(&at("part"), 0o600, &at("file")).unwrap();
        let second = open_partial(&at("part"), 0o600, &at("file")).unwrap_err();
        assert!(matches!(second, SshError::TransferBusy { .. }), "{second}");
        drop(first);
        open_partial(&at("part"), 0o600, &at("file")).unwrap();

        fs::write(at("precious"), "old").unwrap();
        std::os::unix::fs::symlink("precious", at("link")).unwrap();
        fs::hard_link(at("precious"), at("twin")).unwrap();
        fs::write(at("theirs"), "").unwrap();
        let mut names = vec!["link", "twin"];
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(at("theirs"), Some(1), None).unwrap();
            names.push("theirs");
        }
        for name in names {
            let refused = open_partial(&at(name), 0o600, &at("file")).unwrap_err();
            assert!(matches!(refused, SshError::Local { .. }), "{refused}");
        }
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "old");
    }
}
