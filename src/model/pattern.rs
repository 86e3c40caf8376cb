//! A regular expression that a client gives.

use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A regular expression that takes time in proportion to the text alone. `^` and `$` are the ends of
/// lines.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Where it first matches.
    pub fn find(&self, text: &str) -> Option<Range<usize>> {
        self.0.find(text).map(|found| found.range())
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadPattern {
    #[error("the pattern is empty, and would find anything")]
    Empty,
    #[error("the pattern is no regular expression: {0}")]
    Syntax(#[source] regex::Error),
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        let pattern = RegexBuilder::new(text).multi_line(true).build();
        Ok(Self(pattern.map_err(BadPattern::Syntax)?))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }

    fn inline_schema() -> bool {
        true
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
