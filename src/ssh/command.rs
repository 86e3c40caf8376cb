//! What a guest is asked to run, checked before anything is sent.

use std::time::Duration;

use super::{
    process,
    quote::{self, LoginShell},
};

/// The longest line that a login shell is handed. Linux takes no argument of more than 128 KiB
/// (`MAX_ARG_STRLEN`, execve(2)), and a line that is longer still costs the shared connection.
const LONGEST_LINE: usize = 120_000;

/// A command for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What the user's login shell runs: one or more lines, reaching it as they stand.
    pub line: String,
    /// The folder to run in; a relative one, and `~/…`, start at the home folder, which is the default.
    pub cwd: Option<String>,
    /// Variables to set besides those of the login.
    pub env: Vec<(String, String)>,
    /// What the command reads; without it, nothing.
    pub stdin: Option<Vec<u8>>,
    /// Whether more input may come after `stdin`, instead of the end of file.
    pub input_stays_open: bool,
    /// How long [`Client::execute`](super::Client::execute) lets it run; then it is ended, with all that it
    /// started. One that is only started runs for as long as it likes.
    pub timeout: Duration,
}

impl Command {
    pub fn new(line: impl Into<String>, timeout: Duration) -> Self {
        Self {
            line: line.into(),
            cwd: None,
            env: Vec::new(),
            stdin: None,
            input_stays_open: false,
            timeout,
        }
    }

    pub(super) fn check(&self) -> Result<(), BadCommand> {
        if self.line.trim().is_empty() {
            return Err(BadCommand::Empty);
        }
        if self.line.contains('\0') {
            return Err(BadCommand::Nul { part: "command" });
        }
        if let Some(cwd) = &self.cwd {
            if cwd.is_empty() {
                return Err(BadCommand::EmptyCwd);
            }
            if cwd.contains('\0') {
                return Err(BadCommand::Nul { part: "cwd" });
            }
        }
        for (name, value) in &self.env {
            if !quote::is_variable_name(name) {
                return Err(BadCommand::VariableName { name: name.clone() });
            }
            if value.contains('\0') {
                return Err(BadCommand::Nul { part: "env" });
            }
        }
        // The longer one of the two, so that the same command always fits.
        let head = quote::head(
            &process::marker(),
            LoginShell::Unknown,
            self.cwd.as_deref(),
            &self.env,
        );
        let length = head.len() + self.line.len();
        if length > LONGEST_LINE {
            return Err(BadCommand::TooLong { length });
        }
        Ok(())
    }
}

/// Why a command cannot be run anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    #[error("the command is empty")]
    Empty,
    #[error("`cwd` is empty")]
    EmptyCwd,
    #[error("`{part}` contains a NUL character, which no shell can take")]
    Nul { part: &'static str },
    #[error("`{name}` is no name of an environment variable")]
    VariableName { name: String },
    #[error(
        "the command is too long: {length} bytes with `cwd` and `env`, where {LONGEST_LINE} can be run"
    )]
    TooLong { length: usize },
    #[error("`cwd` and `env` are not supported on a Windows guest")]
    Windows,
    #[error(
        "`cwd` and `env` are not supported with the user's login shell, whose quotes are not known"
    )]
    ForeignShell,
}

impl BadCommand {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Empty => "Give the command to run.",
            Self::EmptyCwd => "Leave `cwd` out for the home folder.",
            Self::Nul { .. } => "Pass binary data through `stdin`.",
            Self::VariableName { .. } => {
                "Names are letters, digits and `_`, and start with no digit."
            }
            Self::TooLong { .. } => {
                "Pass data through `stdin`, or copy a script to the guest with `ssh_upload` and run it."
            }
            Self::Windows | Self::ForeignShell => "Put them into the command, in the words of the guest's shell.",
        }
        .to_owned()
    }
}
