//! SFTP's requests as transfers need them, and their failures told apart.

mod naming;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(super) use naming::Replaces;
use russh::ChannelMsg;
use russh_sftp::{
    client::{Config, RawSftpSession, error::Error as SftpError, rawsession::Limits},
    protocol::{File, FileAttributes, OpenFlags, StatusCode},
};
use tokio::time::timeout;

use super::{
    SshError, Step, Unfit, error::NAME_MAX, fresh_channel::FreshChannel, session::Session,
};

/// What every server takes (draft-ietf-secsh-filexfer-02, section 3).
pub(super) const SAFE_LENGTH: u32 = 32 * 1024;
const MOST_LENGTH: u64 = 255 * 1024;
const START_LIMIT: Duration = Duration::from_secs(10);
/// For one request, counted from when it joins the queue, where 16 MiB may be before it: as long as they take at
/// 28 KiB a second. A guest that is gone is told sooner, by the connection's own limits.
const REQUEST_LIMIT: Duration = Duration::from_mins(10);
/// More in one tree than anybody moves this way; a folder without an end is not listed forever.
const MOST_ENTRIES: usize = 1_000_000;
/// Of their paths: a name may be as long as a packet.
const MOST_BYTES: usize = 128 << 20;

/// An SFTP session on a channel of its own.
pub(super) struct Sftp {
    pub(super) raw: Arc<RawSftpSession>,
    session: Arc<Session>,
    user: String,
    /// Whether a rename can replace a file in one step.
    pub(super) replaces: bool,
    tells_free_space: bool,
    pub(super) read_length: u32,
    pub(super) write_length: u32,
}

/// How much a tree has told of itself, which is kept until all is moved.
#[derive(Debug, Default)]
pub(super) struct Listed {
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

impl Listed {
    /// Counts entries, and the bytes of their paths.
    pub(super) fn add(&self, entries: usize, bytes: usize) -> Result<(), SshError> {
        let add = |count: &AtomicUsize, more| count.fetch_add(more, Ordering::Relaxed) + more;
        let too_many = |limit: String| Err(SshError::TooMany { limit });
        if add(&self.entries, entries) > MOST_ENTRIES {
            too_many(format!("{MOST_ENTRIES} files"))
        } else if add(&self.bytes, bytes) > MOST_BYTES {
            too_many(format!("{} MiB of names", MOST_BYTES >> 20))
        } else {
            Ok(())
        }
    }
}

/// What stands at a path of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Special,
}

pub(super) fn kind(attributes: &FileAttributes) -> Kind {
    // A server that gives no permissions gives no kind either; opening will tell.
    match attributes.permissions.map(|mode| mode & 0o170_000) {
        Some(0o040_000) => Kind::Folder,
        Some(0o120_000) => Kind::Link,
        Some(0o100_000 | 0) | None => Kind::File,
        Some(_) => Kind::Special,
    }
}

impl Sftp {
    pub(super) async fn start(
        session: Arc<Session>,
        channel: FreshChannel,
        user: &str,
    ) -> Result<Self, SshError> {
        let endpoint = session.endpoint().clone();
        let starting = Self::start_unbounded(session, channel, user.to_owned());
        timeout(START_LIMIT, starting)
            .await
            .map_err(|_| SshError::Slow {
                endpoint,
                step: Step::Sftp,
                limit: START_LIMIT,
            })?
    }

    async fn start_unbounded(
        session: Arc<Session>,
        mut channel: FreshChannel,
        user: String,
    ) -> Result<Self, SshError> {
        let no_sftp = |source| SshError::NoSftp {
            endpoint: session.endpoint().clone(),
            source,
        };
        let asked = channel.get().request_subsystem(true, "sftp").await;
        if asked.is_err() {
            return Err(lost(&session));
        }
        loop {
            match channel.get().wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure | ChannelMsg::Close) => return Err(no_sftp(None)),
                Some(_) => {}
                None => return Err(lost(&session)),
            }
        }
        let config = Config {
            request_timeout_secs: REQUEST_LIMIT.as_secs(),
            ..Config::default()
        };
        // The stream closes the channel from here on.
        let mut raw = RawSftpSession::new_with_config(channel.take().into_stream(), config);
        let version = raw.init().await.map_err(|error| no_sftp(Some(error)))?;
        let (mut read_length, mut write_length) = (SAFE_LENGTH, SAFE_LENGTH);
        if version.extensions.contains_key("limits@openssh.com")
            && let Ok(limits) = raw.limits().await
        {
            let limits = Limits::from(limits);
            raw.set_limits(limits);
            let most = |length: Option<u64>| match length {
                Some(length) => u32::try_from(length.min(MOST_LENGTH)).unwrap_or(SAFE_LENGTH),
                None => SAFE_LENGTH,
            };
            read_length = most(limits.read_len);
            write_length = most(limits.write_len);
        }
        Ok(Self {
            raw: Arc::new(raw),
            session,
            user,
            replaces: version.extensions.contains_key(naming::POSIX_RENAME),
            tells_free_space: version.extensions.contains_key("statvfs@openssh.com"),
            read_length,
            write_length,
        })
    }

    /// Another one beside it, on a channel of the same connection.
    pub(super) async fn second(&self) -> Option<Self> {
        let channel = self.session.open_channel().await.ok()?;
        let started = Self::start(Arc::clone(&self.session), channel, &self.user).await;
        started.ok()
    }

    /// Whether the guest's user is one who may write to everybody's files.
    pub(super) fn is_root(&self) -> bool {
        self.user == "root"
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What is at a path, links followed.
    pub(super) async fn stat(&self, path: &str) -> Result<Option<FileAttributes>, SshError> {
        self.existing(path, self.raw.stat(path).await.map(|found| found.attrs))
    }

    /// What is at a path, a link for itself.
    pub(super) async fn lstat(&self, path: &str) -> Result<Option<FileAttributes>, SshError> {
        self.existing(path, self.raw.lstat(path).await.map(|found| found.attrs))
    }

    fn existing(
        &self,
        path: &str,
        found: Result<FileAttributes, SftpError>,
    ) -> Result<Option<FileAttributes>, SshError> {
        match found {
            Ok(attributes) => Ok(Some(attributes)),
            Err(error) if is(&error, StatusCode::NoSuchFile) => Ok(None),
            Err(error) => Err(self.failure("look at", path, error)),
        }
    }

    /// What lies in a folder, without itself and the one above.
    pub(super) async fn list(&self, path: &str, tree: &Listed) -> Result<Vec<File>, SshError> {
        let failed = |error| self.failure("list", path, error);
        let handle = self.raw.opendir(path).await.map_err(failed)?.handle;
        let mut all = Vec::new();
        let ended = loop {
            match self.raw.readdir(&handle).await {
                // A server that tells nothing forever would never be done with.
                Ok(names) if names.files.is_empty() => break Ok(()),
                Ok(names) => {
                    let bytes =
                        |file: &File| path.len() + file.filename.len() + file.longname.len();
                    let bytes = names.files.iter().map(bytes).sum();
                    if let Err(error) = tree.add(names.files.len(), bytes) {
                        break Err(error);
                    }
                    all.extend(names.files);
                }
                Err(error) if is(&error, StatusCode::Eof) => break Ok(()),
                Err(error) => break Err(failed(error)),
            }
        };
        // Nothing was written through it.
        let _ = self.close(&handle).await;
        ended?;
        all.retain(|file| !matches!(file.filename.as_str(), "." | ".."));
        Ok(all)
    }

    /// Where a link leads to.
    pub(super) async fn read_link(&self, path: &str) -> Result<String, SshError> {
        let failed = |error| self.failure("read the link", path, error);
        let mut names = self.raw.readlink(path).await.map_err(failed)?;
        match names.files.pop() {
            Some(file) => Ok(file.filename),
            None => Err(failed(SftpError::UnexpectedPacket)),
        }
    }

    /// Makes a link at a name that is free.
    pub(super) async fn link(&self, path: &str, target: &str) -> Result<(), SftpError> {
        // OpenSSH's server takes the two the other way round, and never can be mended (PROTOCOL, 4.1).
        let is_swapped = self
            .session
            .version()
            .is_some_and(|it| it.contains("OpenSSH"));
        let (first, second) = if is_swapped {
            (target, path)
        } else {
            (path, target)
        };
        self.raw.symlink(first, second).await.map(drop)
    }

    pub(super) async fn make_folder(&self, path: &str, mode: u32) -> Result<(), SftpError> {
        let attributes = FileAttributes {
            permissions: Some(mode),
            ..FileAttributes::empty()
        };
        self.raw.mkdir(path, attributes).await.map(drop)
    }

    pub(super) async fn set_attributes_at(
        &self,
        path: &str,
        attributes: FileAttributes,
    ) -> Result<(), SftpError> {
        self.raw.setstat(path, attributes).await.map(drop)
    }

    /// The absolute path, without links.
    pub(super) async fn real_path(&self, path: &str) -> Result<String, SshError> {
        let names = self.raw.realpath(path).await;
        let mut names = names.map_err(|error| self.failure("find", path, error))?;
        match names.files.pop() {
            Some(file) => Ok(file.filename),
            None => Err(self.failure("find", path, SftpError::UnexpectedPacket)),
        }
    }

    /// Makes a new file to write to; gives its handle.
    pub(super) async fn create(&self, path: &str, mode: u32) -> Result<String, SftpError> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let attributes = FileAttributes {
            permissions: Some(mode),
            ..FileAttributes::empty()
        };
        Ok(self.raw.open(path, flags, attributes).await?.handle)
    }

    /// Opens a file that is there to write on; gives its handle.
    pub(super) async fn reopen(&self, path: &str) -> Result<String, SftpError> {
        let opened = self
            .raw
            .open(path, OpenFlags::WRITE, FileAttributes::empty());
        Ok(opened.await?.handle)
    }

    pub(super) async fn open(&self, path: &str) -> Result<String, SshError> {
        let opened = self
            .raw
            .open(path, OpenFlags::READ, FileAttributes::empty());
        match opened.await {
            Ok(opened) => Ok(opened.handle),
            Err(error) => Err(self.failure("read", path, error)),
        }
    }

    pub(super) async fn attributes(&self, handle: &str) -> Result<FileAttributes, SftpError> {
        Ok(self.raw.fstat(handle).await?.attrs)
    }

    pub(super) async fn set_attributes(
        &self,
        handle: &str,
        attributes: FileAttributes,
    ) -> Result<(), SftpError> {
        self.raw.fsetstat(handle, attributes).await.map(drop)
    }

    pub(super) async fn close(&self, handle: &str) -> Result<(), SftpError> {
        self.raw.close(handle).await.map(drop)
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), SftpError> {
        self.raw.remove(path).await.map(drop)
    }

    /// Whether the file system of a folder has no room for so many bytes more.
    pub(super) async fn is_full(&self, folder: &str, needed: u64) -> bool {
        if !self.tells_free_space {
            return false;
        }
        self.raw
            .statvfs(folder)
            .await
            .is_ok_and(|system| system.blocks_avail.saturating_mul(system.fragment_size) < needed)
    }

    /// What a failed request means.
    pub(super) fn failure(&self, act: &'static str, path: &str, error: SftpError) -> SshError {
        // OpenSSH's server says "Bad message" of a name that is too long.
        let too_long = path.split('/').find(|name| name.len() > NAME_MAX);
        let path = path.to_owned();
        // The library says these two of a channel that has ended, which may come before its connection's end.
        let has_ended = matches!(error, SftpError::IO(_) | SftpError::UnexpectedBehavior(_));
        if has_ended || !self.session.is_alive() {
            lost(&self.session)
        } else if matches!(error, SftpError::Timeout) {
            SshError::Slow {
                endpoint: self.session.endpoint().clone(),
                step: Step::Request,
                limit: REQUEST_LIMIT,
            }
        } else if let Some(name) = too_long {
            let name = name.to_owned();
            SshError::NameTooLong { name }
        } else if is(&error, StatusCode::NoSuchFile) {
            SshError::RemoteMissing { path }
        } else if is(&error, StatusCode::PermissionDenied) {
            SshError::RemoteDenied {
                user: self.user.clone(),
                act,
                path,
            }
        } else {
            SshError::Remote {
                act,
                path,
                source: error,
            }
        }
    }
}

impl Drop for Sftp {
    fn drop(&mut self) {
        let _ = self.raw.close_session();
    }
}

fn lost(session: &Session) -> SshError {
    SshError::TransferLost {
        endpoint: session.endpoint().clone(),
    }
}

pub(super) fn is(error: &SftpError, code: StatusCode) -> bool {
    matches!(error, SftpError::Status(status) if status.status_code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_listed_up_to_a_limit() {
        let table = [
            ((MOST_ENTRIES, 0), (1, 0), "1000000 files"),
            ((1, MOST_BYTES), (0, 1), "128 MiB of names"),
        ];
        for ((entries, bytes), (one, more), limit) in table {
            let tree = Listed::default();
            tree.add(entries, bytes).unwrap();
            let error = tree.add(one, more).unwrap_err();
            assert_eq!(error.to_string(), format!("there are more than {limit}"));
        }
    }
}
