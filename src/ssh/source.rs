//! The file here that an upload sends.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, SeekFrom},
};

use super::{
    SshError,
    flow::{hex, read_chunk},
    on_files,
    transfer::{local, stamp, times, unfit},
};

/// What is hashed at a time of what was sent before.
const CHUNK: u64 = 1 << 20;

/// The local file of an upload, read and hashed from its beginning to its end.
pub(super) struct Source {
    path: PathBuf,
    file: File,
    /// How long it was when it was opened. What is added later is not sent, so that a log comes to an end.
    pub(super) size: u64,
    pub(super) done: u64,
    hash: Sha256,
    pub(super) mode: u32,
    pub(super) times: Option<(u32, u32)>,
    stamp: (u64, [i64; 4]),
}

impl Source {
    pub(super) async fn open(path: &Path) -> Result<Self, SshError> {
        let path = path.to_owned();
        on_files(move || {
            // Looked at before it is opened: opening a FIFO would wait for a writer.
            let metadata = fs::metadata(&path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SshError::LocalMissing { path: path.clone() },
                _ => local("look at", &path, error),
            })?;
            refuse_unfit_source(&path, &metadata)?;
            let file = fs::File::open(&path).map_err(|error| local("read", &path, error))?;
            Self::of(file, path)
        })
        .await
    }

    /// What was opened, which may be another file than the one that was looked at before.
    pub(super) fn of(file: fs::File, path: PathBuf) -> Result<Self, SshError> {
        let metadata = file
            .metadata()
            .map_err(|error| local("look at", &path, error))?;
        refuse_unfit_source(&path, &metadata)?;
        Ok(Self {
            path,
            file: File::from_std(file),
            size: metadata.len(),
            done: 0,
            hash: Sha256::new(),
            mode: metadata.permissions().mode() & 0o777,
            times: times(&metadata),
            stamp: stamp(&metadata),
        })
    }

    /// The next part of it, empty at its end.
    pub(super) async fn next(&mut self, length: u32) -> Result<Vec<u8>, SshError> {
        // A file of no size may hold something all the same, as those of /proc do.
        let left = match self.size {
            0 => u64::MAX,
            size => size - self.done.min(size),
        };
        let chunk = read_chunk(&mut self.file, left.min(length.into()))
            .await
            .map_err(|error| local("read", &self.path, error))?;
        self.hash.update(&chunk);
        self.done += chunk.len() as u64;
        Ok(chunk)
    }

    /// Passes over its beginning; gives the checksum of that.
    pub(super) async fn pass(&mut self, bytes: u64) -> Result<String, SshError> {
        while self.done < bytes {
            let chunk = u32::try_from(CHUNK.min(bytes - self.done)).unwrap_or(u32::MAX);
            if self.next(chunk).await?.is_empty() {
                return Err(self.changed("the file shrank while it was read"));
            }
        }
        Ok(self.sha256())
    }

    /// The checksum of what was read.
    pub(super) fn sha256(&self) -> String {
        hex(self.hash.clone())
    }

    pub(super) async fn start_over(&mut self) -> Result<(), SshError> {
        self.done = 0;
        self.hash = Sha256::new();
        let sought = self.file.seek(SeekFrom::Start(0)).await;
        sought.map_err(|error| local("read", &self.path, error))?;
        Ok(())
    }

    /// Refuses what may be half of one state of the file and half of another.
    pub(super) async fn check(&mut self) -> Result<(), SshError> {
        if self.done < self.size {
            return Err(self.changed("the file shrank while it was read"));
        }
        let now = self
            .file
            .metadata()
            .await
            .map_err(|error| local("look at", &self.path, error))?;
        if stamp(&now) == self.stamp {
            return Ok(());
        }
        // One that only grew, as a log does, or got another name, is what it was: that shows when it is read again.
        let (bytes, sent) = (self.done, self.sha256());
        self.start_over().await?;
        if self.pass(bytes).await? == sent {
            Ok(())
        } else {
            Err(self.changed("the file was written to while it was read"))
        }
    }

    fn changed(&self, what: &'static str) -> SshError {
        SshError::Damaged {
            path: self.path.display().to_string(),
            what,
        }
    }
}

fn refuse_unfit_source(path: &Path, metadata: &fs::Metadata) -> Result<(), SshError> {
    match unfit(metadata) {
        None => Ok(()),
        Some(what) => Err(SshError::LocalUnfit {
            path: path.to_owned(),
            what,
        }),
    }
}
