//! Bytes between a local file and one of the guest: read, hashed and sent once, many requests at a time.

use std::{
    collections::BTreeMap,
    future::{poll_fn, ready},
    iter,
    path::Path,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use russh_sftp::{
    client::error::Error as SftpError,
    protocol::{Data, FileAttributes, StatusCode},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, interval_at},
};

use super::{
    SshError,
    sftp::{SAFE_LENGTH, Sftp, is},
    source::Source,
    transfer::local,
};

/// Requests on their way at a time; with OpenSSH's 255 KiB each they fill the channel's window.
pub(super) const IN_FLIGHT: usize = 64;

/// Pieces that wait for one before them. What is on its way is 16 MiB, which a server that answers in pieces of 4 KiB
/// gives in 4096. One that holds back the first and gives the others byte by byte would fill the memory.
const MOST_PIECES: usize = 16 * 1024;

/// How often it is told that something goes on which tells no bytes.
const TICK: Duration = Duration::from_secs(1);

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

/// Where what is read of the guest's file goes, and its checksum so far.
pub(super) struct Sink<'a> {
    /// Without a file it is only hashed.
    pub(super) file: Option<(&'a mut File, &'a Path)>,
    pub(super) hash: Sha256,
    /// What was there before.
    pub(super) done: u64,
}

impl Sink<'_> {
    async fn take(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.hash.update(data);
        self.done += data.len() as u64;
        match &mut self.file {
            Some((file, path)) => file
                .write_all(data)
                .await
                .map_err(|error| Failure::Local(local("write", path, error))),
            None => Ok(()),
        }
    }
}

/// Another way to the file that is written: each channel has a window of its own, and OpenSSH's server lets no more
/// than 2 MiB be on their way in one.
pub(super) struct Second {
    sftp: Sftp,
    handle: String,
}

impl Second {
    /// `None` where the guest gives no other, and one has to do.
    pub(super) async fn open(sftp: &Sftp, path: &str) -> Option<Self> {
        let sftp = sftp.second().await?;
        let handle = sftp.reopen(path).await.ok()?;
        Some(Self { sftp, handle })
    }

    pub(super) async fn close(self) -> Result<(), SftpError> {
        self.sftp.close(&self.handle).await
    }
}

impl Sftp {
    /// Writes what is left of a local file to an open remote one, in turns through each of its handles.
    pub(super) async fn send(
        &self,
        handle: &str,
        second: Option<&Second>,
        source: &mut Source,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let mut writes: JoinSet<(u64, u64, Result<(), SftpError>)> = JoinSet::new();
        let mut failed: Option<(u64, SftpError)> = None;
        let first = (&self.raw, handle);
        let second = second.map(|it| (&it.sftp.raw, it.handle.as_str()));
        let mut lanes = iter::once(first).chain(second).cycle();
        let mut done = source.done;
        let mut at_end = false;
        while !at_end || !writes.is_empty() {
            if !at_end && writes.len() < IN_FLIGHT {
                let at = source.done;
                let chunk = source
                    .next(self.write_length)
                    .await
                    .map_err(Failure::Local)?;
                if chunk.is_empty() {
                    at_end = true;
                    continue;
                }
                let Some((raw, handle)) = lanes.next() else {
                    break;
                };
                let (raw, handle) = (Arc::clone(raw), handle.to_owned());
                let length = chunk.len() as u64;
                let write = async move {
                    let written = raw.write(handle, at, chunk).await.map(drop);
                    (at, length, written)
                };
                let mut write = Box::pin(write);
                // It joins the queue here: what is spawned begins in any order, and a transfer that stops would
                // leave holes.
                let begun = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
                match begun {
                    Poll::Pending => writes.spawn(write),
                    Poll::Ready(written) => writes.spawn(ready(written)),
                };
            } else if let Some(written) = writes.join_next().await {
                let (at, length, written) =
                    written.map_err(|_| Failure::Remote(SftpError::UnexpectedPacket))?;
                match written {
                    Ok(()) => {
                        done += length;
                        progress(done, source.size.max(done));
                    }
                    // The server goes on, and answers all the others too.
                    Err(error @ SftpError::Status(_)) => {
                        at_end = true;
                        if failed.as_ref().is_none_or(|(first, _)| at < *first) {
                            failed = Some((at, error));
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let Some((at, error)) = failed else {
            return Ok(());
        };
        // Some that were behind it may have been written all the same; `resume` wants what is whole.
        let whole = FileAttributes {
            size: Some(at),
            ..FileAttributes::empty()
        };
        let _ = self.set_attributes(handle, whole).await;
        Err(Failure::Remote(error))
    }

    /// Reads an open remote file, from where the sink is to `size`, as far as it reached when it was opened; less
    /// where it ends sooner.
    pub(super) async fn receive(
        &self,
        handle: &str,
        size: u64,
        sink: &mut Sink<'_>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let mut reads: JoinSet<(u64, u64, Result<Data, SftpError>)> = JoinSet::new();
        let mut arrived: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut asked, mut at_end) = (sink.done, false);
        let ask = |reads: &mut JoinSet<_>, offset: u64, length: u64| {
            let (raw, handle) = (Arc::clone(&self.raw), handle.to_owned());
            reads.spawn(async move {
                let wanted = u32::try_from(length).unwrap_or(SAFE_LENGTH);
                (offset, length, raw.read(handle, offset, wanted).await)
            });
        };
        loop {
            while !at_end && asked < size && reads.len() + arrived.len() < IN_FLIGHT {
                let length = u64::from(self.read_length).min(size - asked);
                ask(&mut reads, asked, length);
                asked += length;
            }
            if reads.is_empty() {
                // A file of no size may hold something all the same, as those of /proc do.
                if size > 0 || at_end {
                    break;
                }
                ask(&mut reads, sink.done, u64::from(self.read_length));
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
            if got > length {
                return Err(SftpError::UnexpectedPacket.into());
            }
            if got < length && offset + got < size {
                ask(&mut reads, offset + got, length - got);
            }
            arrived.insert(offset, data);
            while let Some(data) = arrived.remove(&sink.done) {
                sink.take(&data).await?;
                progress(sink.done, size.max(sink.done));
            }
            if arrived.len() > MOST_PIECES {
                return Err(SftpError::UnexpectedPacket.into());
            }
        }
        if let Some((file, path)) = &mut sink.file {
            file.flush()
                .await
                .map_err(|error| Failure::Local(local("write", path, error)))?;
        }
        Ok(())
    }
}

/// Reads a part of a file, shorter at its end alone.
pub(super) async fn read_chunk(file: &mut File, length: u64) -> std::io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut chunk).await?;
    Ok(chunk)
}

/// Does something that tells no bytes, and calls `tick` again and again meanwhile.
pub(super) async fn ticking<T>(mut tick: impl FnMut(), act: impl Future<Output = T>) -> T {
    let mut act = pin!(act);
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    loop {
        tokio::select! {
            biased;
            done = &mut act => return done,
            _ = ticks.tick() => tick(),
        }
    }
}

pub(super) fn hex(hash: Sha256) -> String {
    use std::fmt::Write as _;

    hash.finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
