//! What a server says first, looked at and left for the handshake to read.
//!
//! So a port that leads nowhere is told from a slow handshake (QEMU's host forwards accept connections
//! whether or not the guest listens), and so is another kind of server, whose words the handshake would
//! wait behind until its time is up.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{Endpoint, SshError, Step};

/// How long a server may take for its first word.
const LIMIT: Duration = Duration::from_secs(10);
/// A server may say other lines before its version (RFC 4253, 4.2), and then says that at once.
const GRACE: Duration = Duration::from_secs(2);
/// How long a server that waits for us to speak first may take to answer, the grace included.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Other lines before the version are few and short.
const MOST: usize = 2048;
/// So much of a line is quoted.
const QUOTED: usize = 60;

/// Waits for the server's version, and refuses what is no server of SSH 2.
pub(super) async fn check(endpoint: &Endpoint, stream: &mut TcpStream) -> Result<(), SshError> {
    let not_ssh = |said| SshError::NotSsh {
        endpoint: endpoint.clone(),
        said,
    };
    let slow = || SshError::Slow {
        endpoint: endpoint.clone(),
        step: Step::Greeting,
        limit: LIMIT,
    };
    match timeout(LIMIT, first_words(endpoint, stream)).await {
        Ok(Ok(Words::Ssh)) => return Ok(()),
        Ok(Ok(Words::Other(said))) => return Err(not_ssh(said)),
        Ok(Err(error)) => return Err(error),
        Err(_) => {}
    }
    // A web server waits to be spoken to, and answers even this.
    if stream.write_all(b"SSH-2.0-virtpilot\r\n").await.is_err() {
        return Err(slow());
    }
    match timeout(ANSWER_LIMIT, first_words(endpoint, stream)).await {
        Ok(Ok(Words::Other(said))) => Err(not_ssh(said)),
        _ => Err(slow()),
    }
}

/// What a server's first bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Words {
    /// The version of a server that speaks SSH 2.
    Ssh,
    /// Something else, by the beginning of its first line.
    Other(String),
}

async fn first_words(endpoint: &Endpoint, stream: &TcpStream) -> Result<Words, SshError> {
    let mut buffer = vec![0; MOST];
    let mut since = None;
    loop {
        let peeked = stream.peek(&mut buffer).await;
        let length = peeked.map_err(|error| SshError::Unreachable {
            endpoint: endpoint.clone(),
            source: Arc::new(error),
        })?;
        if length == 0 {
            return Err(SshError::ClosedAtOnce {
                endpoint: endpoint.clone(),
            });
        }
        let said = &buffer[..length];
        if let Some(words) = judge(said) {
            return Ok(words);
        }
        let since = *since.get_or_insert_with(Instant::now);
        if length == MOST || since.elapsed() > GRACE {
            return Ok(Words::Other(first_line(said)));
        }
        // What was peeked at stays, so that there is nothing to wait for but time.
        sleep(Duration::from_millis(20)).await;
    }
}

/// What the bytes are, where that can be told yet.
fn judge(said: &[u8]) -> Option<Words> {
    for line in said.split_inclusive(|byte| *byte == b'\n') {
        // 1.99 is what servers say that speak both (RFC 4253, 5.1).
        if line.starts_with(b"SSH-2.0-") || line.starts_with(b"SSH-1.99-") {
            return Some(Words::Ssh);
        }
        let is_whole = line.ends_with(b"\n");
        if is_whole && line.starts_with(b"SSH-") {
            return Some(Words::Other(first_line(line)));
        }
    }
    None
}

fn first_line(said: &[u8]) -> String {
    let line = said.split(|byte| *byte == b'\n').next().unwrap_or(said);
    let line = String::from_utf8_lossy(line);
    let plain = line.trim_end().chars().take(QUOTED);
    plain
        .map(|c| if c.is_control() { '.' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_from_other_words() {
        let other = |text: &str| Some(Words::Other(text.to_owned()));
        let cases: &[(&[u8], Option<Words>)] = &[
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", Some(Words::Ssh)),
            (b"SSH-2.0-", Some(Words::Ssh)),
            (b"SSH-1.99-both\r\n", Some(Words::Ssh)),
            (b"hello\r\nSSH-2.0-late\r\n", Some(Words::Ssh)),
            (b"SSH-1.5-old\r\n", other("SSH-1.5-old")),
            (b"hello\r\nSSH-1.5-old\r\n", other("SSH-1.5-old")),
            (b"SSH-", None),
            (b"SSH-1.5", None),
            (b"HTTP/1.1 400 Bad Request\r\n", None),
            (b"", None),
        ];
        for (said, expected) in cases {
            assert_eq!(judge(said), *expected, "{said:?}");
        }
        assert_eq!(
            first_line(b"\xff\xfd\x18login:\r\nmore"),
            "\u{fffd}\u{fffd}.login:"
        );
        assert_eq!(first_line(&[b'x'; 99]).len(), QUOTED);
    }
}
