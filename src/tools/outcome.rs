//! How a command went, as data and in words: the same of one that was waited for and of a job.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    jobs::{End, Job, Output, State},
    ssh::Status,
};

use super::shell::milliseconds;

// How far a command is, or how it ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Outcome {
    pub(super) state: CommandState,
    /// Only where it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// Without SIG.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    duration_ms: u64,
    /// Why state is unknown, or what of the command still goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Told before texts in which U+FFFD stands for other bytes.
pub(super) const OTHER_BYTES: &str = "\nbytes that are no UTF-8 are shown as \u{fffd}";

/// What a command wrote, the beginning and the end.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Said {
    stdout: String,
    stderr: String,
    /// Bytes that are left out of stdout and stderr together.
    pub(super) omitted_bytes: u64,
    /// Whether bytes are shown as U+FFFD.
    #[serde(skip)]
    has_other_bytes: bool,
}

/// Where all that a command wrote is to be found.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LogData {
    /// The file with all of stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_log: Option<String>,
    /// Why a file lacks the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_cut: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum CommandState {
    Exited,
    Signalled,
    Running,
    Unknown,
}

impl Outcome {
    pub(super) fn of(job: &Job, state: &State) -> Self {
        let mut outcome = Self {
            state: CommandState::Running,
            exit_code: None,
            signal: None,
            duration_ms: milliseconds(job.duration()),
            why: None,
        };
        match state.status() {
            None if state.accepted => {}
            None => {
                outcome.state = CommandState::Unknown;
                outcome.why = Some("the guest's server has not said whether it runs it".to_owned());
            }
            Some(Ok(Status::Exited(code))) => {
                outcome.state = CommandState::Exited;
                outcome.exit_code = Some(*code);
            }
            Some(Ok(Status::Signalled(signal))) => {
                outcome.state = CommandState::Signalled;
                outcome.signal = Some(signal.clone());
            }
            Some(Ok(Status::TimedOut { .. })) => outcome.state = CommandState::Unknown,
            Some(Err(error)) => {
                outcome.state = CommandState::Unknown;
                outcome.why = Some(error.to_string());
            }
        }
        if state.exit.is_some() {
            outcome.why = of_what_goes_on(state).map(str::to_owned);
        }
        outcome
    }

    /// As `exit code 3 (12 ms)`.
    pub(super) fn in_words(&self) -> String {
        let how = match (self.state, self.exit_code, &self.signal, &self.why) {
            (_, Some(code), _, _) => format!("exit code {code}"),
            (_, _, Some(signal), _) => format!("ended by signal {signal}"),
            (CommandState::Running, ..) => "running".to_owned(),
            (_, _, _, Some(why)) => format!("unknown: {why}"),
            _ => "unknown".to_owned(),
        };
        let told = format!("{how} ({} ms)", self.duration_ms);
        match &self.why {
            Some(why) if self.state != CommandState::Unknown => format!("{told}; {why}"),
            _ => told,
        }
    }
}

/// What of a command goes on after it has exited.
fn of_what_goes_on(state: &State) -> Option<&'static str> {
    match &state.end {
        None => Some("its output has not ended: what it started may hold it"),
        Some(end) if end.is_lost() => Some(
            "the connection was lost before its output ended: some of it may be missing, and what it started may go on",
        ),
        Some(_) => None,
    }
}

impl Said {
    pub(super) fn of(state: &State) -> Self {
        let (stdout, stderr) = (&state.stdout.kept, &state.stderr.kept);
        Self {
            stdout: stdout.text(),
            stderr: stderr.text(),
            omitted_bytes: stdout.omitted + stderr.omitted,
            has_other_bytes: [stdout, stderr]
                .iter()
                .any(|it| !it.is_text(state.end.is_some())),
        }
    }

    /// Lines to follow how it went.
    pub(super) fn in_words(&self) -> String {
        let mut text = String::new();
        if self.has_other_bytes {
            text.push_str(OTHER_BYTES);
        }
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n{name}:\n{stream}");
            }
        }
        text
    }
}

impl LogData {
    pub(super) fn of(state: &State) -> Self {
        let path = |output: &Output| output.log.as_ref().map(|log| log.display().to_string());
        let cut = state.stdout.cut.as_ref().or(state.stderr.cut.as_ref());
        let is_lost = state.end.as_ref().is_some_and(End::is_lost);
        let lost = (is_lost && state.stdout.log.is_some())
            .then(|| "the connection was lost before the output ended".to_owned());
        Self {
            log: path(&state.stdout),
            stderr_log: path(&state.stderr),
            log_cut: cut.cloned().or(lost),
        }
    }

    /// Lines to follow how it went.
    pub(super) fn in_words(&self) -> String {
        let mut text = String::new();
        if let (Some(stdout), Some(stderr)) = (&self.log, &self.stderr_log) {
            let _ = write!(text, "\nall of stdout: {stdout}\nall of stderr: {stderr}");
        }
        if let Some(why) = &self.log_cut {
            let _ = write!(text, "\nnot all output is in a file: {why}");
        }
        text
    }
}
