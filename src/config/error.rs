//! Why the server cannot start with what it was told.

use std::{fmt, io, path::PathBuf};

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    CommandLine,
    Environment,
    /// The `.env` file of the working directory.
    DotEnv(PathBuf),
    /// A line of the config file, from 1.
    File {
        file: PathBuf,
        line: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment => f.write_str("environment"),
            Self::DotEnv(file) => file.display().fmt(f),
            Self::File { file, line } => write!(f, "{}, line {line}", file.display()),
        }
    }
}

/// Every text names the place, the key and what would be accepted; none holds a password.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{place}: not valid TOML: {message}")]
    Syntax { place: Place, message: String },
    #[error(
        "{place}: unknown key `{key}`{}; allowed here: {}",
        Suggestion(*nearest),
        allowed.join(", ")
    )]
    UnknownKey {
        place: Place,
        key: String,
        nearest: Option<&'static str>,
        allowed: &'static [&'static str],
    },
    #[error("{place}: `{key}` is {found}; allowed: {allowed}")]
    WrongValue {
        place: Place,
        key: String,
        found: String,
        allowed: String,
    },
    #[error("{place}: `{key}` is not supported yet; remove it")]
    KeyNotYet { place: Place, key: String },
    #[error("{place}: `{key}` is {found}, which is not supported yet; allowed now: {allowed}")]
    ValueNotYet {
        place: Place,
        key: String,
        found: String,
        allowed: String,
    },
    #[error(
        "{place}: the line of `{variable}` cannot be parsed; put its value in single quotes, on \
         one line"
    )]
    DotEnvLine {
        place: Place,
        variable: &'static str,
    },
    #[error("{place}: `{key}` needs the home folder, which is unknown; set HOME")]
    HomeUnknown { place: Place, key: String },
    #[error("no place for data: the home folder is unknown; set HOME, or give --data-dir")]
    NoDataDir,
    #[error("the working directory cannot be found; start in one that exists")]
    WorkingDir {
        #[source]
        source: io::Error,
    },
}

/// ` (did you mean …?)`, where something is near.
struct Suggestion(Option<&'static str>);

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, " (did you mean `{nearest}`?)"),
            None => Ok(()),
        }
    }
}
