//! Why the project store refused or failed.

use std::{io, path::PathBuf};

use crate::{image::ImageError, model::shell_word};

use super::{Level, Project};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the {what} is empty")]
    Empty { what: &'static str },
    #[error("there is no project `{path}`")]
    NoSuchProject {
        path: String,
        /// Folder names of projects: those that look like it, else the newest.
        others: Vec<String>,
    },
    #[error("the folder of the active project is gone: {}", path.display())]
    Gone { path: PathBuf },
    #[error("{} is no project: it has no metadata.json", path.display())]
    NoMetadata { path: PathBuf },
    #[error("{} cannot be understood", path.display())]
    BadMetadata {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{name}` is no file name for a result: {fault}")]
    BadFileName { name: String, fault: &'static str },
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("{} is a link or no {wanted}, and could lead out of the project", path.display())]
    NotPlain { path: PathBuf, wanted: &'static str },
    #[error("{} is too large for a screenshot", path.display())]
    NoScreenshot { path: PathBuf },
    #[error("`{found}` is no log level")]
    BadLevel { found: String },
    #[error("`lines` is {found}, and must be from 1 to {max}", max = Project::MAX_LOG_LINES)]
    BadLineCount { found: i64 },
    #[error("`{found}` is no screenshot id")]
    BadScreenshotId { found: String },
    #[error("the entry for the action log cannot be written as JSON")]
    BadEntry {
        #[source]
        source: serde_json::Error,
    },
    #[error("the screenshot cannot be made into a file")]
    BadPicture {
        #[source]
        source: ImageError,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make the folder {}", path.display())]
    MakeFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty { .. } => "It needs at least one visible character.".to_owned(),
            Self::NoSuchProject { others, .. } if others.is_empty() => {
                "There are no projects yet: make one with `project_init`.".to_owned()
            }
            Self::NoSuchProject { others, .. } => format!(
                "Give a folder name or a path, as `project_list` shows them, for example: {}.",
                others.join(", ")
            ),
            Self::Gone { .. } => {
                "Put the folder back, or start another project with `project_init`, or load one with \
                 `project_load`."
                    .to_owned()
            }
            Self::NoMetadata { .. } => {
                "Give the folder of a project itself, as `project_list` shows it.".to_owned()
            }
            Self::BadMetadata { .. } => {
                "Mend the file: a JSON object with `name`, `created_at` and `description`."
                    .to_owned()
            }
            Self::BadFileName { .. } => {
                "Give a plain file name such as `report.txt`, without a folder.".to_owned()
            }
            Self::Exists { .. } => {
                "Choose another file name, or let it be overwritten with `overwrite`.".to_owned()
            }
            Self::NoScreenshot { path } => {
                format!("See what it is, and take it away: {}.", path.display())
            }
            Self::NotPlain { path, wanted } => {
                format!("Put a real {wanted} in place of {}.", path.display())
            }
            Self::BadLevel { .. } => {
                let names = Level::ALL.map(Level::as_str).join(", ");
                format!("The levels are {names}.")
            }
            Self::BadLineCount { .. } => "50 is a usual number.".to_owned(),
            Self::BadScreenshotId { .. } => {
                "Ids look like 20260131-235959-123456; `take_screenshot` gives them.".to_owned()
            }
            Self::BadEntry { .. } | Self::BadPicture { .. } => {
                "This is a defect of virtpilot; please report it.".to_owned()
            }
            Self::Read { path, .. } => format!(
                "See who may read it: `ls -ld {}`.",
                shell_word(path.display())
            ),
            Self::Write { path, .. } | Self::MakeFolder { path, .. } => format!(
                "See that the folder of {} exists, that this user may write there, and that the \
                 disk has space; or choose another place with --data-dir.",
                path.display()
            ),
        }
    }
}
