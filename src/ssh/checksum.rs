//! SHA-256 of the guest's files: by its own `sha256sum` where it has one, else by reading them back.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    Command, SshError, Status, exec,
    flow::{Failure, Sink, hex},
    sftp::Sftp,
};

/// Files in one run of `sha256sum`: what it says of them stays within what is kept of a command's output.
pub(super) const MOST_FILES: usize = 256;

/// How the guest's file was compared with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// The guest computed the same checksum.
    Sha256,
    /// The guest gave no checksum, as one without `sha256sum`; its file was read once more.
    ReadBack,
    /// It was not asked for.
    Skipped,
    /// The guest's file is one that has no size, as those of /proc.
    No,
}

/// The checksum of a file, or of its first bytes.
pub(super) async fn of(
    sftp: &Sftp,
    path: &str,
    first: Option<u64>,
    bytes: u64,
) -> Result<(String, Verified), SshError> {
    match by_guest(sftp, path, first, bytes).await {
        Some(sum) => Ok((sum, Verified::Sha256)),
        None => Ok((read_back(sftp, path, first).await?, Verified::ReadBack)),
    }
}

/// The checksum as the guest computes it; `None` where it cannot.
async fn by_guest(sftp: &Sftp, path: &str, first: Option<u64>, bytes: u64) -> Option<String> {
    let Some(first) = first else {
        return of_all(sftp, &[path], bytes).await?.pop();
    };
    let line = format!("xargs -0 head -c {first} | sha256sum");
    let text = run(sftp, line, as_input(&[path]), bytes).await?;
    let sum = sum(text.lines().last()?)?;
    // Where the first program fails, the other one has nothing to read and is content with that.
    let is_of_nothing = first > 0 && sum == hex(Sha256::new());
    (!is_of_nothing).then_some(sum)
}

/// The checksums of at most [`MOST_FILES`] files; `None` where the guest does not give all of them.
pub(super) async fn of_all(sftp: &Sftp, paths: &[&str], bytes: u64) -> Option<Vec<String>> {
    // Some versions of sha256sum write such a name as it is, and their lines would not count up.
    if paths.iter().any(|path| path.contains(['\n', '\r'])) {
        return None;
    }
    let line = "xargs -0 sha256sum | cut -c 1-65".to_owned();
    let text = run(sftp, line, as_input(paths), bytes).await?;
    // A login shell may have said something of its own before.
    let lines: Vec<_> = text.lines().collect();
    let told = lines.len().checked_sub(paths.len())?;
    lines[told..].iter().copied().map(sum).collect()
}

/// Reads a file, or its first bytes, for the checksum alone.
pub(super) async fn read_back(
    sftp: &Sftp,
    path: &str,
    first: Option<u64>,
) -> Result<String, SshError> {
    let handle = sftp.open(path).await?;
    let failed = |error| sftp.failure("read", path, error);
    let mut sink = Sink {
        file: None,
        hash: Sha256::new(),
        done: 0,
    };
    let received = async {
        let size = match first {
            Some(first) => first,
            None => sftp.attributes(&handle).await?.size.unwrap_or(0),
        };
        sftp.receive(&handle, size, &mut sink, |_, _| {}).await
    };
    let received: Result<_, Failure> = received.await;
    let _ = sftp.close(&handle).await;
    match received {
        Ok(()) => Ok(hex(sink.hash)),
        Err(Failure::Local(error)) => Err(error),
        Err(Failure::Remote(error)) => Err(failed(error)),
    }
}

/// Paths as `xargs -0` reads them. No name stands in a command's line: which shell reads that, and what it takes for
/// quotes, is the guest's affair. What could be an option, or stand for the input, gets `./` before it.
fn as_input(paths: &[&str]) -> Vec<u8> {
    let path = |path: &&str| {
        let before = if path.starts_with('/') { "" } else { "./" };
        format!("{before}{path}")
    };
    let paths: Vec<_> = paths.iter().map(path).collect();
    paths.join("\0").into_bytes()
}

/// What a command writes, whose work is to read so many bytes.
async fn run(sftp: &Sftp, line: String, stdin: Vec<u8>, bytes: u64) -> Option<String> {
    // Even a slow guest hashes 4 MiB in a second.
    let limit = Duration::from_secs(60 + bytes / (4 << 20));
    let channel = sftp.session().open_channel().await.ok()?;
    let mut command = Command::new(line, limit);
    command.stdin = Some(stdin);
    let never = CancellationToken::new();
    // Boxed, because whole transfers have it within them.
    let run = Box::pin(exec::run(sftp.session(), channel, command, &never));
    let output = run.await.ok()?;
    (output.status == Status::Exited(0)).then(|| output.stdout.text())
}

/// The checksum that a line of `sha256sum` begins with; a backslash stands before it where the name was
/// escaped.
fn sum(line: &str) -> Option<String> {
    let sum = line.trim_start_matches('\\').split_whitespace().next()?;
    (sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| sum.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_an_option_or_the_input() {
        assert_eq!(
            as_input(&["/a b", "-", "-x", "c/d"]),
            b"/a b\0./-\0./-x\0./c/d"
        );
    }
}
