//! A regular expression that a client gives.

use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The longest pattern, in bytes. Errors quote it.
const MAX_BYTES: usize = 1000;

/// The most memory that a compiled one takes, in bytes. The time of a search is in proportion to it: with
/// ten times as much, a search of 64 KiB took some seconds.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression that takes time in proportion to the text alone. `^` and `$` are the ends of
/// lines.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Where it first matches.
    pub fn find(&self, text: &str) -> Option<Range<usize>> {
        self.0.find(text).map(|found| found.range())
    }

    /// Where it matches, from the beginning on, each after the one before. Each one costs a search.
    pub fn find_all<'t>(&self, text: &'t str) -> impl Iterator<Item = Range<usize>> + use<'_, 't> {
        self.0.find_iter(text).map(|found| found.range())
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
    #[error("the pattern matches where there is nothing too, and so would be found at once")]
    Nothing,
    #[error("the pattern has {0} bytes, and can have {MAX_BYTES}")]
    TooLong(usize),
    #[error("the pattern is no regular expression: {0}")]
    Syntax(#[source] regex::Error),
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(BadPattern::TooLong(text.len()));
        }
        let pattern = RegexBuilder::new(text)
            .multi_line(true)
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(BadPattern::Syntax)?;
        // `\b` is not found in an empty text, but finds nothing beside a letter.
        if ["", "a a"].iter().any(|text| finds_nothing(&pattern, text)) {
            return Err(BadPattern::Nothing);
        }
        Ok(Self(pattern))
    }
}

/// Whether a match is of no characters.
fn finds_nothing(pattern: &Regex, text: &str) -> bool {
    pattern.find_iter(text).any(|found| found.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_patterns_are_taken() {
        let usual = [
            "login: $",
            r"^\w+@[\w.-]{1,12}:.*[$#] $",
            r"\[ +\d+\.\d{6}\] Kernel panic - not syncing: .+",
            "(?i)reached target (graphical|multi-user)",
            r"\blogin\b",
            "x",
        ];
        for text in usual {
            assert!(text.parse::<Pattern>().is_ok(), "{text}");
        }
    }

    #[test]
    fn what_finds_nothing_or_costs_much_is_refused() {
        let nothing = [
            "x*",
            "^",
            "$",
            "a|",
            "(login)?",
            "(?s).*",
            r"\b",
            r"^\b",
            r"\b{end}",
            r"login|\b",
        ];
        for text in nothing {
            assert_eq!(text.parse::<Pattern>(), Err(BadPattern::Nothing), "{text}");
        }
        assert_eq!("".parse::<Pattern>(), Err(BadPattern::Empty));
        assert_eq!(
            "x".repeat(1001).parse::<Pattern>(),
            Err(BadPattern::TooLong(1001))
        );
        for text in ["(?:.{0,900}){0,9}Q", "x{1000}{1000}", "a("] {
            let error = text.parse::<Pattern>().unwrap_err();
            assert!(matches!(error, BadPattern::Syntax(_)), "{text}: {error}");
        }
    }
}
