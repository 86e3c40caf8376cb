//! Why something about a job failed, and what to do next.

use std::{io, path::PathBuf};

use crate::{
    model::{JobId, OutputStream, SignalName, shell_word},
    ssh::SshError,
    store::StoreError,
};

use super::MOST_IN_BACKGROUND;

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(
        "{MOST_IN_BACKGROUND} jobs run in the background of this guest, which is the most: {}",
        list(running)
    )]
    TooMany { running: Vec<JobId> },
    #[error("there is no job `{id}`")]
    Unknown { id: String, known: Vec<JobId> },
    #[error("the job {id} is still running")]
    Running { id: JobId },
    #[error("the job {id} has ended already ({how})")]
    Ended { id: JobId, how: String },
    #[error("the connection to the job {id} was lost ({how})")]
    Lost { id: JobId, how: String },
    #[error("the input of the job {id} has ended")]
    InputEnded { id: JobId },
    #[error("the job {id} does not read its input: what was written before still waits")]
    InputFull { id: JobId },
    #[error("`{found}` is no signal that can be sent")]
    BadSignal { found: String },
    #[error("no process of the job {id} took the signal {signal}")]
    NotSignalled { id: JobId, signal: SignalName },
    #[error("`offset` {offset} is past the end: {stream} has {bytes} bytes{}", if *.running { " so far" } else { "" })]
    PastEnd {
        stream: OutputStream,
        offset: u64,
        bytes: u64,
        running: bool,
    },
    #[error(
        "{stream} of the job {id} has {bytes} bytes, more than the {most} that a resource gives"
    )]
    TooLarge {
        id: JobId,
        stream: OutputStream,
        bytes: u64,
        most: u64,
        log: Option<PathBuf>,
    },
    #[error("a part of {stream} of the job {id} was not kept: {why}")]
    Cut {
        id: JobId,
        stream: OutputStream,
        why: String,
    },
    #[error("cannot read {}", path.display())]
    ReadLog {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(ids: &[JobId]) -> String {
    if ids.is_empty() {
        return "none that is known".to_owned();
    }
    let ids: Vec<_> = ids.iter().map(JobId::as_str).collect();
    ids.join(", ")
}

impl JobError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Ssh(error) => error.hint(),
            Self::TooMany { .. } => {
                "Wait for one of them with `ssh_job`, or end one with a signal; or run this command without \
                 `background`."
                    .to_owned()
            }
            Self::Unknown { known, .. } if known.is_empty() => {
                "There are none: `ssh_execute` with `background` starts one. Jobs end with the server that \
                 started them."
                    .to_owned()
            }
            Self::Unknown { known, .. } => format!("There are {}.", list(known)),
            Self::Running { .. } => {
                "End it first: `ssh_job` with the action signal, TERM or else KILL; then wait for it."
                    .to_owned()
            }
            Self::Ended { .. } => {
                "What it wrote is there with the action output; `ssh_execute` runs it once more."
                    .to_owned()
            }
            Self::Lost { .. } => {
                "Look with `ps -ef` on the guest for what of it still runs, and signal it there with `kill`."
                    .to_owned()
            }
            Self::InputEnded { .. } => {
                "The input stays open only for a command that was started with `background`, until `eof` \
                 ends it. Start it so, or give all of its input as `stdin`."
                    .to_owned()
            }
            Self::InputFull { .. } => {
                "Look what it waits for with the action output; end it with a signal if it hangs."
                    .to_owned()
            }
            Self::BadSignal { .. } => {
                format!("There are {}.", SignalName::ALL.join(", "))
            }
            Self::NotSignalled { .. } => {
                "It may have ended just now: see with the action status. If it runs as another user, signal \
                 it there with `sudo kill`. What only holds the output of a command that has exited is let go of by \
                 the action forget."
                    .to_owned()
            }
            Self::PastEnd { bytes, .. } => {
                format!("Give one from 0 to {bytes}; the last reply named the next one.")
            }
            Self::TooLarge { log, .. } => {
                let file = match log {
                    Some(path) => format!(", or the file {}", path.display()),
                    None => String::new(),
                };
                format!("Read it piece by piece with `ssh_job`, action output{file}.")
            }
            Self::Cut { .. } => {
                "Read what there is of it with `ssh_job`, action output.".to_owned()
            }
            Self::ReadLog { path, .. } => format!(
                "See whether it is still there: `ls -l {}`.",
                shell_word(path.display())
            ),
            Self::Store(error) => error.hint(),
        }
    }
}
