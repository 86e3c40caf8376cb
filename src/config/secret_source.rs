//! Where a secret comes from. The secret itself is no part of the configuration.

use std::{fmt, path::PathBuf};

/// What gives a secret's text, each time that it is needed.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of the server's environment.
    Env(String),
    /// A file that nobody but its owner may read.
    File(PathBuf),
    /// A program and its arguments, run without a shell: its standard output.
    Command {
        program: String,
        arguments: Vec<String>,
    },
}

/// Arguments may be secrets themselves: they are not shown.
impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(variable) => write!(f, "Env({variable})"),
            Self::File(file) => write!(f, "File({})", file.display()),
            Self::Command { program, .. } => write!(f, "Command({program} …)"),
        }
    }
}
