//! Ending a command on the guest with all that it started, and sending it signals.
//!
//! Closing a channel ends nothing, and OpenSSH's server ignores signals for root. So a second channel
//! runs a script that finds the processes by the login shell's session and descent, and signals them.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    SshError, Step,
    fresh_channel::FreshChannel,
    session::{NoChannel, Session},
    signaller::Shell,
};

const SCRIPT: &str = include_str!("kill.sh");
/// How long the script may take once it is the command's turn.
const LIMIT: Duration = Duration::from_secs(20);
/// How long another connection for it may take.
const SPARE_LIMIT: Duration = Duration::from_secs(20);
/// What is kept of its answer, from the end on: a guest may print without end.
const KEPT: usize = 4 * 1024;
/// Commands that are to be ended within so much of each other are ended together.
const AT_THE_SAME_TIME: Duration = Duration::from_millis(10);

/// Commands of one connection that are to be ended. Those that come at the same time, or while others have
/// their turn, are ended together: a connection has few channels to spare, and each takes a second or more.
#[derive(Debug, Default)]
pub(super) struct Doomed(Mutex<Vec<Command>>);

#[derive(Debug)]
struct Command {
    process: u32,
    shell: watch::Receiver<Shell>,
    ended: oneshot::Sender<bool>,
}

impl Doomed {
    fn commands(&self) -> MutexGuard<'_, Vec<Command>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends what the login shell `process` runs; tells whether nothing of it is left, but for what left its session.
pub(super) async fn end(
    session: &Arc<Session>,
    process: u32,
    shell: &watch::Receiver<Shell>,
) -> bool {
    let (told, ended) = oneshot::channel();
    session.doomed().commands().push(Command {
        process,
        shell: shell.clone(),
        ended: told,
    });
    // By itself: whoever waits no longer must not keep the others from their end.
    tokio::spawn(end_together(Arc::clone(session)));
    if ended.await.unwrap_or(false) {
        return true;
    }
    // What is left may be another's, or the guest was too busy.
    session.is_alive() && {
        let _turn = session.turn_to_kill().await;
        let exited = shell.borrow().exited;
        nothing_is_left(session, [(process, exited)]).await
    }
}

/// Ends those that wait, and tells each whether nothing of any is left.
async fn end_together(session: Arc<Session>) {
    sleep(AT_THE_SAME_TIME).await;
    let _turn = session.turn_to_kill().await;
    let commands = std::mem::take(&mut *session.doomed().commands());
    if commands.is_empty() {
        return;
    }
    let shells = commands.iter();
    let shells = shells.map(|it| (it.process, it.shell.borrow().exited));
    let shells: Vec<_> = shells.collect();
    let ended = nothing_is_left(&session, shells).await;
    for command in commands {
        // Its caller may have gone.
        let _ = command.ended.send(ended);
    }
}

/// Ends what these login shells run.
async fn nothing_is_left(session: &Session, shells: impl IntoIterator<Item = (u32, bool)>) -> bool {
    match run(session, script(shells, "")).await {
        Ok(Some(answer)) => number_after(&answer, "left ") == Some(0),
        Ok(None) => {
            tracing::warn!("ending commands on the guest takes too long");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "cannot end commands on the guest");
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
    let turn = session.turn_to_kill().await;
    let answer = run(session, script([(process, exited)], signal)).await?;
    drop(turn);
    let Some(answer) = answer else {
        return Err(SshError::Slow {
            endpoint: endpoint(),
            step: Step::Signal,
            limit: LIMIT,
        });
    };
    number_after(&answer, "sent ").ok_or_else(|| SshError::NoProcess {
        endpoint: endpoint(),
    })
}

/// The number that the script tells last. The login shell may have said something of its own before.
fn number_after(answer: &[u8], word: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.lines().rev();
    lines.find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
}

/// The script for these login shells, with whether they have exited, so that their process ids may be another's
/// by now. Without a signal it ends what they run.
fn script(shells: impl IntoIterator<Item = (u32, bool)>, signal: &str) -> String {
    let (mut sessions, mut alive) = (" ".to_owned(), " ".to_owned());
    for (process, exited) in shells {
        // Writing to a string cannot fail.
        let _ = write!(sessions, "{process} ");
        if !exited {
            let _ = write!(alive, "{process} ");
        }
    }
    format!("sessions='{sessions}'\nshells='{alive}'\nsignal={signal}\n{SCRIPT}")
}

/// What the script says, or nothing where it takes too long. A server that permits no second channel permits a
/// second connection, and on that, nothing of what fills a slow link is to be waited for.
async fn run(session: &Session, script: String) -> Result<Option<Vec<u8>>, SshError> {
    let (refusal, age) = match session.open_channel().await {
        Ok(channel) => return run_on(session, channel, script).await,
        Err(NoChannel::Refused(error)) => (error, String::new()),
        // Where nobody answers, the guest may have been started anew.
        Err(NoChannel::Dead(error @ SshError::Slow { .. })) => {
            (error, session.age().as_secs().to_string())
        }
        Err(NoChannel::Dead(error)) => return Err(error),
    };
    let opening = async {
        let spare = Box::pin(Session::connect(session.target())).await?;
        match spare.open_channel().await {
            Ok(channel) => Ok((spare, channel)),
            Err(NoChannel::Refused(error) | NoChannel::Dead(error)) => Err(error),
        }
    };
    let Ok(opened) = timeout(SPARE_LIMIT, opening).await else {
        return Err(refusal);
    };
    let (spare, channel) = opened?;
    run_on(&spare, channel, format!("age={age}\n{script}")).await
}

async fn run_on(
    session: &Session,
    channel: FreshChannel,
    script: String,
) -> Result<Option<Vec<u8>>, SshError> {
    let (read, write) = channel.take().split();
    // Taken along, the reading end is gone once the time is up: nothing waits there to be taken.
    let Ok(answer) = timeout(LIMIT, talk(read, &write, script)).await else {
        let _ = write.close().await;
        return Ok(None);
    };
    answer
        .map(Some)
        .map_err(|error| session.disconnected(error))
}

/// Hands the script to the guest's `sh` as its input, where no login shell can misread it.
async fn talk(
    mut read: ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
    script: String,
) -> Result<Vec<u8>, russh::Error> {
    write.exec(true, "sh").await?;
    write.data_bytes(script.into_bytes()).await?;
    write.eof().await?;
    let mut answer = Vec::new();
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                answer.extend_from_slice(&data);
                if answer.len() > 2 * KEPT {
                    answer.drain(..answer.len() - KEPT);
                }
            }
            ChannelMsg::Close => break,
            ChannelMsg::Failure => {
                // Else the server counts it for ever.
                let _ = write.close().await;
                break;
            }
            _ => {}
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn nothing_is_ended_on_a_guest_that_was_started_since() {
        let mut sleeping = Command::new("sleep");
        let mut sleeping = sleeping.arg("60").process_group(0).spawn().unwrap();
        let script = script([(sleeping.id(), false)], "");
        let mut answer = |age: &str| {
            let mut shell = Command::new("sh")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = shell.stdin.take().unwrap();
            write!(input, "age={age}\n{script}").unwrap();
            drop(input);
            let answer = shell.wait_with_output().unwrap().stdout;
            let is_there = sleeping.try_wait().unwrap().is_none();
            (number_after(&answer, "left "), is_there)
        };
        assert_eq!(answer("9999999999"), (None, true));
        assert_eq!(answer("0"), (Some(0), false));
    }
}
