//! Which tools a client is shown.

use std::{fmt, str::FromStr};

/// The two ways in which tools that look and point are shown; the others are the same in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Toolset {
    /// The names of the Python server, for any VM.
    #[default]
    Standard,
    /// The names and parameters that models are trained on, for the default VM.
    Computer,
}

impl Toolset {
    pub const ALL: [Self; 2] = [Self::Standard, Self::Computer];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Computer => "computer",
        }
    }

    /// All of them, as errors name them.
    pub(super) fn allowed() -> String {
        Self::ALL
            .map(|it| format!("{:?}", it.as_str()))
            .join(" or ")
    }
}

impl fmt::Display for Toolset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such toolset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("allowed: {}", Toolset::allowed())]
pub struct UnknownToolset;

impl FromStr for Toolset {
    type Err = UnknownToolset;

    fn from_str(text: &str) -> Result<Self, UnknownToolset> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(UnknownToolset)
    }
}
