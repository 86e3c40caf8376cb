//! What a client may do with a VM.

use std::{
    collections::{BTreeSet, btree_set},
    fmt,
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One kind of access to a VM.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// See the screen and the VM's state.
    View,
    /// Press keys and point.
    Input,
    /// Run commands over SSH.
    Shell,
    /// Move files over SFTP.
    Files,
    /// Read what the guest writes to its serial console.
    Console,
}

impl Capability {
    pub const ALL: [Self; 5] = [
        Self::View,
        Self::Input,
        Self::Shell,
        Self::Files,
        Self::Console,
    ];

    /// What is granted where nothing else is said.
    pub const STANDARD: [Self; 4] = [Self::View, Self::Input, Self::Shell, Self::Files];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Input => "input",
            Self::Shell => "shell",
            Self::Files => "files",
            Self::Console => "console",
        }
    }
}

/// Why a text is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCapability {
    #[error("the capability `{0}` is not supported yet")]
    NotYet(String),
    #[error("`{0}` is no capability; the capabilities are view, input, shell, files and console")]
    Unknown(String),
}

impl FromStr for Capability {
    type Err = BadCapability;

    fn from_str(text: &str) -> Result<Self, BadCapability> {
        match text {
            "power" | "snapshot" | "media" => Err(BadCapability::NotYet(text.to_owned())),
            _ => Self::ALL
                .into_iter()
                .find(|capability| capability.as_str() == text)
                .ok_or_else(|| BadCapability::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The capabilities that a VM is granted; none unless something grants them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<Capability>);

impl Grants {
    /// Nothing at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// What a granted VM has where nothing else is said: view, input, shell and files.
    pub fn standard() -> Self {
        Capability::STANDARD.into_iter().collect()
    }

    /// `view` alone.
    pub fn read_only() -> Self {
        [Capability::View].into_iter().collect()
    }

    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    pub fn iter(&self) -> impl Iterator<Item = Capability> + '_ {
        self.0.iter().copied()
    }
}

impl IntoIterator for Grants {
    type Item = Capability;
    type IntoIter = btree_set::IntoIter<Capability>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<Capability> for Grants {
    fn extend<I: IntoIterator<Item = Capability>>(&mut self, capabilities: I) {
        self.0.extend(capabilities);
    }
}

impl FromIterator<Capability> for Grants {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Capability::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_capabilities_are_told_from_misspelt_ones() {
        assert_eq!(
            "power".parse::<Capability>(),
            Err(BadCapability::NotYet("power".into()))
        );
        assert_eq!(
            "veiw".parse::<Capability>(),
            Err(BadCapability::Unknown("veiw".into()))
        );
        assert_eq!("view".parse(), Ok(Capability::View));
    }
}
