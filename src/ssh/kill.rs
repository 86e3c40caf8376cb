//! Ending a command on the guest with all that it started, and sending it signals.
//!
//! Closing a channel ends nothing, and OpenSSH's server ignores signals for root. So a second channel
//! runs a script that finds the processes by the login shell's session and descent, and signals them.

use std::time::Duration;

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::time::timeout;

use super::{
    SshError, Step,
    session::{NoChannel, Session},
};

const SCRIPT: &str = include_str!("kill.sh");
/// How long the script may take once it is the command's turn.
const LIMIT: Duration = Duration::from_secs(20);

/// Ends what the login shell `process` runs; tells whether nothing of it is left.
///
/// `exited`: the shell itself has ended, and its process id may be another's by now.
pub(super) async fn end(session: &Session, process: u32, exited: bool) -> bool {
    match run(session, script(process, exited, "")).await {
        Ok(Some(answer)) => answer.trim_ascii() == b"left 0",
        Ok(None) => {
            tracing::warn!(process, "ending a command on the guest takes too long");
            false
        }
        Err(error) => {
            tracing::warn!(%error, process, "cannot end a command on the guest");
            false
        }
    }
}

/// Sends a signal to all that the login shell `process` runs; tells how many processes got it.
pub(super) async fn signal(
    session: &Session,
    process: u32,
    exited: bool,
    signal: &str,
) -> Result<u64, SshError> {
    let endpoint = || session.endpoint().clone();
    let Some(answer) = run(session, script(process, exited, signal)).await? else {
        return Err(SshError::Slow {
            endpoint: endpoint(),
            step: Step::Signal,
            limit: LIMIT,
        });
    };
    let text = String::from_utf8_lossy(&answer);
    let sent = text.trim().strip_prefix("sent ");
    sent.and_then(|sent| sent.parse().ok())
        .ok_or_else(|| SshError::NoProcess {
            endpoint: endpoint(),
        })
}

/// The script for one command; without a signal it ends it.
fn script(process: u32, exited: bool, signal: &str) -> String {
    // A dash, not 0: processes without a parent have 0 there.
    let shell = if exited {
        "-".to_owned()
    } else {
        process.to_string()
    };
    format!("session={process}\nshell={shell}\nsignal={signal}\n{SCRIPT}")
}

/// What the script says, or nothing where it takes too long. Opening a channel has limits of its own, and
/// waiting for a turn has none: many commands ended at once on a slow guest all get theirs.
async fn run(session: &Session, script: String) -> Result<Option<Vec<u8>>, SshError> {
    let _turn = session.turn_to_kill().await;
    let spare;
    let channel = match session.open_channel().await {
        Ok(channel) => channel,
        // A server that permits no second channel permits a second connection.
        Err(NoChannel::Refused(_)) => {
            spare = Box::pin(Session::connect(session.target())).await?;
            match spare.open_channel().await {
                Ok(channel) => channel,
                Err(NoChannel::Refused(error) | NoChannel::Dead(error)) => return Err(error),
            }
        }
        Err(NoChannel::Dead(error)) => return Err(error),
    };
    let (mut read, write) = channel.split();
    let Ok(answer) = timeout(LIMIT, talk(&mut read, &write, script)).await else {
        let _ = write.close().await;
        return Ok(None);
    };
    answer
        .map(Some)
        .map_err(|error| session.disconnected(error))
}

/// Hands the script to the guest's `sh` as its input, where no login shell can misread it.
async fn talk(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
    script: String,
) -> Result<Vec<u8>, russh::Error> {
    write.exec(true, "sh").await?;
    write.data_bytes(script.into_bytes()).await?;
    write.eof().await?;
    let mut answer = Vec::new();
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => answer.extend_from_slice(&data),
            ChannelMsg::Close | ChannelMsg::Failure => break,
            _ => {}
        }
    }
    Ok(answer)
}
