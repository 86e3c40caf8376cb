//! The words for commands that go on after the call that started them.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `YYYYMMDD-HHMMSS-micros`, in UTC, of when the command was started: digits and hyphens alone, so that an
/// id never holds a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(String);

impl JobId {
    const LENGTH: usize = "20261122-062613-660053".len();

    /// The id of this moment, and of no other job of this process.
    pub fn now() -> Self {
        static LAST: AtomicI64 = AtomicI64::new(0);
        let now = Utc::now().timestamp_micros();
        let next = |last: i64| Some(now.max(last + 1));
        let last = LAST
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or_else(|last| last);
        let at = DateTime::from_timestamp_micros(now.max(last + 1)).unwrap_or_else(Utc::now);
        Self(at.format("%Y%m%d-%H%M%S-%6f").to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no id of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not of the form 20261122-062613-660053")]
pub struct BadJobId;

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        let is_good = |(at, byte): (usize, u8)| match at {
            8 | 15 => byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        if text.len() == Self::LENGTH && text.bytes().enumerate().all(is_good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadJobId)
        }
    }
}

/// What can be done with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum JobAction {
    List,
    Status,
    Output,
    Wait,
    Stdin,
    Signal,
    Forget,
}

/// Where a command writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OutputStream {
    #[default]
    Stdout,
    Stderr,
}

impl OutputStream {
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for OutputStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A signal that a command can be sent, as signal(7) names it without `SIG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalName(&'static str);

impl SignalName {
    /// Those of POSIX that mean the same on every system, and WINCH.
    pub const ALL: [&str; 14] = [
        "ABRT", "ALRM", "CONT", "HUP", "INT", "KILL", "PIPE", "QUIT", "STOP", "TERM", "TSTP",
        "USR1", "USR2", "WINCH",
    ];

    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a text names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no such signal")]
pub struct BadSignal;

impl FromStr for SignalName {
    type Err = BadSignal;

    /// With or without `SIG`, in any case.
    fn from_str(text: &str) -> Result<Self, BadSignal> {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let known = Self::ALL.into_iter().find(|known| *known == name);
        known.map(Self).ok_or(BadSignal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        let id = JobId::now();
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in [
            "",
            "..",
            "1",
            "20261122-062613-66005",
            "20261122/062613-660053",
            "20261122-062613-66005x",
        ] {
            assert_eq!(bad.parse::<JobId>(), Err(BadJobId), "{bad}");
        }
        assert!(JobId::now() < JobId::now());
    }

    #[test]
    fn signals_are_named_as_people_name_them() {
        for good in ["TERM", "SIGTERM", "term", "SigTerm"] {
            let signal: SignalName = good.parse().unwrap();
            assert_eq!(signal.as_str(), "TERM");
        }
        for bad in ["", "SIG", "15", "TERM; id", "SEGV "] {
            assert_eq!(bad.parse::<SignalName>(), Err(BadSignal), "{bad}");
        }
    }
}
