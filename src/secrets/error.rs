//! Why a secret could not be read.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use crate::model::shell_word;

/// None says anything of a secret's text: not its length, not what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the configuration has no secret `{name}`")]
    Unknown { name: String, known: Vec<String> },
    #[error("the environment variable {variable}, which holds the secret `{secret}`, is not set")]
    NoVariable { secret: String, variable: String },
    #[error("the file {} of the secret `{secret}` cannot be read", file.display())]
    ReadFile {
        secret: String,
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}, which holds the secret `{secret}`, is no regular file", file.display())]
    NoFile { secret: String, file: PathBuf },
    #[error(
        "the file {} of the secret `{secret}` is open to others than its owner (mode {mode:04o})",
        file.display()
    )]
    OpenToOthers {
        secret: String,
        file: PathBuf,
        mode: u32,
    },
    #[error("the command {program:?} of the secret `{secret}` cannot be run")]
    RunCommand {
        secret: String,
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("the command {program:?} of the secret `{secret}` failed: {status}")]
    CommandFailed {
        secret: String,
        program: String,
        status: ExitStatus,
    },
    #[error("the secret `{secret}` could not be read within {} s", limit.as_secs_f64())]
    Slow { secret: String, limit: Duration },
    #[error("what was read for the secret `{0}` cannot be used")]
    Unusable(String),
    #[error("the call was cancelled while the secret `{0}` was read")]
    Cancelled(String),
}

impl SecretError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { known, .. } if known.is_empty() => {
                "It has none at all. The person who runs this server can add one under [secret.NAME], with \
                 `env`, `file` or `command`."
                    .to_owned()
            }
            Self::Unknown { known, .. } => format!("Secrets are {}.", known.join(", ")),
            Self::NoVariable { variable, .. } => format!(
                "Start the server anew with {variable} in its environment, or name another source in the \
                 configuration."
            ),
            Self::ReadFile { file, .. } | Self::NoFile { file, .. } => format!(
                "Look at it: `ls -l {}`. `file` must name a regular file that the user of this server can read.",
                shell_word(file.display())
            ),
            Self::OpenToOthers { file, .. } => {
                format!("Close it: `chmod 600 {}`.", shell_word(file.display()))
            }
            Self::RunCommand { .. } => {
                "`command` is a program and its arguments, run without a shell: check that the program is \
                 installed, and name it by its whole path."
                    .to_owned()
            }
            Self::CommandFailed { .. } => {
                "Run the command of the configuration by hand, as the user of this server. What it says is not \
                 told here, since that may be the secret."
                    .to_owned()
            }
            Self::Slow { .. } => {
                "A command that gives it was ended with its children. It may have waited for a \
                 passphrase: run it by hand once, as the user of this server, and unlock what it asks for."
                    .to_owned()
            }
            Self::Unusable(_) => {
                "What is wrong with it is not told: it must be UTF-8, not empty, and of at most 64 KiB. Look at \
                 its source in the configuration."
                    .to_owned()
            }
            Self::Cancelled(_) => "Nothing was done with it; call again.".to_owned(),
        }
    }
}
