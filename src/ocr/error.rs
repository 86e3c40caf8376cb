//! What can fail when a screen is recognised, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

use crate::{image::ImageError, model::OcrLanguage};

#[derive(Debug, thiserror::Error)]
pub enum OcrError {
    #[error("Tesseract, which reads screens, is not installed: there is no program `{}`", program.display())]
    Missing {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Tesseract cannot be started")]
    Start {
        #[source]
        source: io::Error,
    },
    #[error("Tesseract has no language `{language}`; installed: {}", if installed.is_empty() { "none".to_owned() } else { installed.join(", ") })]
    Language {
        language: OcrLanguage,
        /// The first of them that is missing.
        missing: String,
        installed: Vec<String>,
    },
    #[error("Tesseract failed: {said}")]
    Failed {
        /// The last line that it wrote, or how it ended.
        said: String,
    },
    #[error("Tesseract cannot be talked to")]
    Talk {
        #[source]
        source: io::Error,
    },
    #[error("the screen was not read within {limit:?}")]
    Slow { limit: Duration },
    #[error("there is more on the screen that may be letters than can be read")]
    TooMuch,
    #[error("the picture cannot be made ready to be read")]
    Draw(#[from] ImageError),
    #[error("the reading of the picture was broken off")]
    Broken,
}

impl OcrError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { .. } => "Install it on this host: `sudo apt-get install tesseract-ocr` \
                 (Fedora: `dnf install tesseract`, Arch: `pacman -S tesseract tesseract-data-eng`). \
                 Text consoles are read without it, and all other tools work."
                .to_owned(),
            Self::Language { missing, .. } => {
                format!(
                    "Install it: `sudo apt-get install {0}` (Fedora: `dnf install \
                     tesseract-langpack-{missing}`, Arch: `pacman -S tesseract-data-{missing}`), or set \
                     `ocr_language` in the configuration to one that is there.",
                    debian_package(missing)
                )
            }
            Self::Start { .. } | Self::Talk { .. } | Self::Failed { .. } => {
                "See whether `tesseract --version` and `tesseract --list-langs` work on this host; a \
                 screenshot shows what is to be read."
                    .to_owned()
            }
            Self::TooMuch => {
                "Read a region with text in it; noise and patterns are no letters.".to_owned()
            }
            Self::Slow { .. } => "Read a region of the screen only, or wait until the host is less busy."
                .to_owned(),
            Self::Draw(_) | Self::Broken => "Try again; a screenshot shows what is to be read.".to_owned(),
        }
    }
}

/// The Debian package of a language: `tesseract-ocr-chi-sim` has `chi_sim`.
pub fn debian_package(language: &str) -> String {
    format!(
        "tesseract-ocr-{}",
        language.to_lowercase().replace('_', "-")
    )
}
