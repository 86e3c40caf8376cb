//! SFTP as transfers need it: requests in a pipeline, and failures told apart.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use russh::{Channel, ChannelMsg, client::Msg};
use russh_sftp::{
    client::{Config, RawSftpSession, error::Error as SftpError, rawsession::Limits},
    protocol::{Data, FileAttributes, OpenFlags, Packet, StatusCode},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

use super::{SshError, Step, error::NAME_MAX, session::Session};

/// Requests on their way at a time; with OpenSSH's 255 KiB each they fill the channel's window.
const IN_FLIGHT: usize = 64;
/// What every server takes (draft-ietf-secsh-filexfer-02, section 3).
const SAFE_LENGTH: u32 = 32 * 1024;
const MOST_LENGTH: u64 = 255 * 1024;
const START_LIMIT: Duration = Duration::from_secs(10);
/// For one request, counted from when it joins the queue: a slow link holds many back.
const REQUEST_LIMIT: Duration = Duration::from_mins(2);
const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// An SFTP session on a channel of its own.
pub(super) struct Sftp {
    raw: Arc<RawSftpSession>,
    session: Arc<Session>,
    user: String,
    /// Whether a rename can replace a file in one step.
    pub(super) replaces: bool,
    tells_free_space: bool,
    read_length: u32,
    write_length: u32,
}

/// What stands at a path of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Special,
}

pub(super) fn kind(attributes: &FileAttributes) -> Kind {
    // A server that gives no permissions gives no kind either; opening will tell.
    match attributes.permissions.map(|mode| mode & 0o170_000) {
        Some(0o040_000) => Kind::Folder,
        Some(0o100_000 | 0) | None => Kind::File,
        Some(_) => Kind::Special,
    }
}

impl Sftp {
    pub(super) async fn start(
        session: Arc<Session>,
        channel: Channel<Msg>,
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
        mut channel: Channel<Msg>,
        user: String,
    ) -> Result<Self, SshError> {
        let no_sftp = |source| SshError::NoSftp {
            endpoint: session.endpoint().clone(),
            source,
        };
        if channel.request_subsystem(true, "sftp").await.is_err() {
            return Err(lost(&session));
        }
        loop {
            match channel.wait().await {
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
        let mut raw = RawSftpSession::new_with_config(channel.into_stream(), config);
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
            replaces: version.extensions.contains_key(POSIX_RENAME),
            tells_free_space: version.extensions.contains_key("statvfs@openssh.com"),
            read_length,
            write_length,
        })
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

    /// Renames to a name that is free; OpenSSH's server refuses one that is taken.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<(), SftpError> {
        self.raw.rename(from, to).await.map(drop)
    }

    /// Renames, replacing what is there, in one step. Only where [`Sftp::replaces`].
    pub(super) async fn replace(&self, from: &str, to: &str) -> Result<(), SftpError> {
        let mut names = Vec::with_capacity(from.len() + to.len() + 8);
        for name in [from, to] {
            let length = u32::try_from(name.len())
                .map_err(|_| SftpError::Limited("the name is too long".to_owned()))?;
            names.extend_from_slice(&length.to_be_bytes());
            names.extend_from_slice(name.as_bytes());
        }
        match self.raw.extended(POSIX_RENAME, names).await? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(SftpError::Status(status)),
            _ => Err(SftpError::UnexpectedPacket),
        }
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

    /// Writes a local file to an open remote one; gives its length and SHA-256.
    pub(super) async fn send(
        &self,
        handle: &str,
        local: &mut File,
        local_path: &Path,
        total: u64,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(u64, String), Failure> {
        let mut hash = Sha256::new();
        let mut writes: JoinSet<Result<u64, SftpError>> = JoinSet::new();
        let (mut offset, mut done) = (0, 0);
        let mut at_end = false;
        while !at_end || !writes.is_empty() {
            if !at_end && writes.len() < IN_FLIGHT {
                let chunk = read_chunk(local, self.write_length as usize)
                    .await
                    .map_err(|error| local_failure("read", local_path, error))?;
                if chunk.is_empty() {
                    at_end = true;
                    continue;
                }
                hash.update(&chunk);
                let (raw, handle, at) = (Arc::clone(&self.raw), handle.to_owned(), offset);
                let length = chunk.len() as u64;
                offset += length;
                writes.spawn(async move { raw.write(handle, at, chunk).await.map(|_| length) });
            } else if let Some(written) = writes.join_next().await {
                done += written.map_err(|_| Failure::Remote(SftpError::UnexpectedPacket))??;
                progress(done, total.max(done));
            }
        }
        Ok((offset, hex(&hash.finalize())))
    }

    /// Reads an open remote file into a local one, as far as it reached when it was opened; gives its length
    /// and SHA-256.
    pub(super) async fn receive(
        &self,
        handle: &str,
        size: u64,
        local: &mut File,
        local_path: &Path,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(u64, String), Failure> {
        let mut hash = Sha256::new();
        let mut reads: JoinSet<(u64, u64, Result<Data, SftpError>)> = JoinSet::new();
        let mut arrived: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut asked, mut done, mut at_end) = (0, 0, false);
        let ask = |reads: &mut JoinSet<_>, offset: u64, length: u64| {
            let (raw, handle) = (Arc::clone(&self.raw), handle.to_owned());
            reads.spawn(async move {
                let wanted = u32::try_from(length).unwrap_or(SAFE_LENGTH);
                (offset, length, raw.read(handle, offset, wanted).await)
            });
        };
        loop {
            while asked < size && reads.len() + arrived.len() < IN_FLIGHT {
                let length = u64::from(self.read_length).min(size - asked);
                ask(&mut reads, asked, length);
                asked += length;
            }
            if reads.is_empty() {
                // A file of no size may hold something all the same, as those of /proc do.
                if size > 0 || at_end {
                    break;
                }
                ask(&mut reads, done, u64::from(self.read_length));
            }
            let Some(answer) = reads.join_next().await else {
                continue;
            };
            let (offset, length, read) =
                answer.map_err(|_| Failure::Remote(SftpError::UnexpectedPacket))?;
            let data = match read {
                Ok(data) => data.data,
                Err(error) if is(&error, StatusCode::Eof) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            if data.is_empty() {
                at_end = true;
                continue;
            }
            let got = data.len() as u64;
            if got < length && offset + got < size {
                ask(&mut reads, offset + got, length - got);
            }
            arrived.insert(offset, data);
            while let Some(data) = arrived.remove(&done) {
                hash.update(&data);
                local
                    .write_all(&data)
                    .await
                    .map_err(|error| local_failure("write", local_path, error))?;
                done += data.len() as u64;
                progress(done, size.max(done));
            }
        }
        if !arrived.is_empty() {
            return Err(Failure::Remote(SftpError::UnexpectedBehavior(
                "the file shrank while it was read".to_owned(),
            )));
        }
        local
            .flush()
            .await
            .map_err(|error| local_failure("write", local_path, error))?;
        Ok((done, hex(&hash.finalize())))
    }

    /// What a failed request means.
    pub(super) fn failure(&self, act: &'static str, path: &str, error: SftpError) -> SshError {
        // OpenSSH's server says "Bad message" of a name that is too long.
        let too_long = path.split('/').find(|name| name.len() > NAME_MAX);
        let path = path.to_owned();
        if !self.session.is_alive() {
            lost(&self.session)
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

/// Which side of a transfer failed.
pub(super) enum Failure {
    Local(SshError),
    Remote(SftpError),
}

impl From<SftpError> for Failure {
    fn from(error: SftpError) -> Self {
        Self::Remote(error)
    }
}

fn local_failure(act: &'static str, path: &Path, error: std::io::Error) -> Failure {
    Failure::Local(SshError::Local {
        act,
        path: path.to_owned(),
        source: Arc::new(error),
    })
}

fn lost(session: &Session) -> SshError {
    SshError::TransferLost {
        endpoint: session.endpoint().clone(),
        leftover: None,
    }
}

pub(super) fn is(error: &SftpError, code: StatusCode) -> bool {
    matches!(error, SftpError::Status(status) if status.status_code == code)
}

async fn read_chunk(file: &mut File, length: usize) -> std::io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut chunk).await?;
    Ok(chunk)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
