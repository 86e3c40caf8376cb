//! The language that screens are read in, as Tesseract names it.

use std::{fmt, str::FromStr};

/// Names of Tesseract's language files, joined by `+`: `eng`, `eng+deu`. Letters, digits and `_` alone, so
/// that none is a path or an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcrLanguage(String);

/// Why a text is no language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no languages: they are letters, digits and `_`, joined by `+`, as in `eng+deu`"
)]
pub struct BadOcrLanguage(String);

/// The longest one, in bytes. Errors quote it.
const MAX_BYTES: usize = 100;

impl OcrLanguage {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The languages one by one.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('+')
    }
}

impl Default for OcrLanguage {
    /// English, which Tesseract's packages bring along.
    fn default() -> Self {
        Self("eng".to_owned())
    }
}

impl FromStr for OcrLanguage {
    type Err = BadOcrLanguage;

    fn from_str(text: &str) -> Result<Self, BadOcrLanguage> {
        let is_name = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || it == b'_')
        };
        if text.len() <= MAX_BYTES && text.split('+').all(is_name) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadOcrLanguage(text.chars().take(MAX_BYTES).collect()))
        }
    }
}

impl fmt::Display for OcrLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_names_joined_by_plus() {
        for good in ["eng", "eng+deu", "chi_sim", "eng+Latin", "frk+osd+eng"] {
            let language: OcrLanguage = good.parse().unwrap();
            assert_eq!(language.to_string(), good);
        }
        let parts: OcrLanguage = "eng+chi_sim".parse().unwrap();
        assert_eq!(parts.parts().collect::<Vec<_>>(), ["eng", "chi_sim"]);
        let long = "e".repeat(MAX_BYTES + 1);
        for bad in [
            "", "+", "eng+", "+eng", "eng++deu", "-l", "../eng", "a/b", "eng deu", "ä", "e\0",
            &long,
        ] {
            assert!(bad.parse::<OcrLanguage>().is_err(), "{bad:?}");
        }
    }
}
