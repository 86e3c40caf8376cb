//! The name of a virtual machine.

use std::{borrow::Borrow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a libvirt domain: not empty, no NUL, no line break.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct VmName(String);

/// Why a text is no VM name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a VM's name is not empty and has no NUL or line break")]
pub struct BadVmName;

impl VmName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmName {
    type Err = BadVmName;

    fn from_str(text: &str) -> Result<Self, BadVmName> {
        if text.is_empty() || text.contains(['\0', '\n', '\r']) {
            return Err(BadVmName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for VmName {
    type Error = BadVmName;

    fn try_from(text: String) -> Result<Self, BadVmName> {
        text.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

impl Borrow<str> for VmName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_libvirt_cannot_name() {
        for bad in ["", "a\0b", "a\nb", "a\r"] {
            assert_eq!(bad.parse::<VmName>(), Err(BadVmName), "{bad:?}");
        }
        assert_eq!("a/b ü".parse::<VmName>().unwrap().as_str(), "a/b ü");
    }
}
