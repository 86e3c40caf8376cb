//! The project tree below the data folder, and what transfers may touch on the host.
//!
//! Everything here is blocking `std::fs`; nothing is cached and nothing is locked. Several servers
//! may work in one tree: a new folder or file gets its name in a single system call that refuses a
//! name that is taken, content appears whole by renaming, and log lines are appended in one write.
//! Nothing is written through a link inside a project.

mod error;
mod host_paths;
mod job_logs;
mod log;
mod name;
mod project;
mod screenshot;
#[cfg(test)]
mod tests;
mod write;

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use chrono::Utc;

use crate::model::ImageFormat;
pub use error::StoreError;
pub use host_paths::{HostPaths, PathError, Reserved};
pub use job_logs::{JobLogs, LogPlace, NewLogs};
pub use log::Level;
pub use project::{Advice, Info, Metadata, Project, Screenshot};
pub use screenshot::ScreenshotId;

/// The folder of projects below the data folder.
const PROJECTS: &str = "projects";

/// The projects of one data folder.
#[derive(Debug, Clone)]
pub struct Projects {
    folder: PathBuf,
}

/// The most entries of folders that one list of pictures looks at: some tens of milliseconds.
const MAX_ENTRIES: usize = 20_000;

/// A picture as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub id: ScreenshotId,
    pub format: ImageFormat,
    /// The folder's name of its project.
    pub project: String,
}

/// A project as a list shows it.
#[derive(Debug)]
pub struct Summary {
    /// The folder's name.
    pub folder: String,
    pub path: PathBuf,
    /// What the metadata says, or why it says nothing.
    pub metadata: Result<Metadata, StoreError>,
}

impl Summary {
    /// When it was made, as `YYYYMMDD-HHMMSS`: what the metadata says, else what the folder's name
    /// begins with.
    pub fn created_at(&self) -> &str {
        let said = self.metadata.as_ref().map(|metadata| &*metadata.created_at);
        match said {
            Ok(said) if !said.is_empty() => said,
            _ => self.folder.split('_').next().unwrap_or_default(),
        }
    }
}

impl Projects {
    /// Those of `data_dir`, an absolute path that need not exist yet.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join(PROJECTS),
        }
    }

    /// The folder that holds them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a project. Another of the same name in the same second gets a folder of its own.
    pub fn create(&self, name: &str, description: &str) -> Result<Project, StoreError> {
        let safe = name::safe_name(name, "project name")?;
        let created_at = Utc::now().format(project::STAMP).to_string();
        let metadata = Metadata {
            name: name.to_owned(),
            created_at,
            description: description.to_owned(),
        };
        fs::create_dir_all(&self.folder).map_err(|source| StoreError::MakeFolder {
            path: self.folder.clone(),
            source,
        })?;
        // It is built aside and appears whole, so that no other server lists half of it.
        let built = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(&self.folder)
            .map_err(|source| StoreError::MakeFolder {
                path: self.folder.clone(),
                source,
            })?;
        Project::fill(built.path(), &metadata)?;

        let stem = format!("{}_{safe}", metadata.created_at);
        let mut number = 1;
        loop {
            let path = self.folder.join(write::numbered(&stem, number));
            // Refused by the system where the folder has anything in it, as every project has.
            match fs::rename(built.path(), &path) {
                Ok(()) => {
                    // Nothing is left to remove.
                    let _ = built.keep();
                    return Project::open(&path);
                }
                Err(error) if is_taken(&error) => number += 1,
                Err(source) => return Err(StoreError::MakeFolder { path, source }),
            }
        }
    }

    /// The project at an absolute path, at a path from `working_dir`, or of a folder name.
    pub fn load(&self, path: &str, working_dir: &Path) -> Result<Project, StoreError> {
        if path.is_empty() {
            return Err(StoreError::Empty {
                what: "project path",
            });
        }
        if path.contains('\0') {
            return Err(self.no_such_project(path));
        }
        // An absolute path takes the place of the working directory.
        let given = working_dir.join(path);
        let mut candidates = vec![given.clone()];
        if is_plain_name(path) {
            candidates.push(self.folder.join(path));
        }
        let found = candidates
            .iter()
            .find(|folder| folder.join(project::METADATA).exists())
            .or_else(|| candidates.iter().find(|folder| folder.is_dir()));
        match found {
            Some(folder) => Project::open(folder),
            None => Err(self.no_such_project(path)),
        }
    }

    /// All projects, newest first. One whose metadata cannot be read is among them.
    pub fn list(&self) -> Result<Vec<Summary>, StoreError> {
        let mut projects: Vec<_> = self
            .folders()?
            .into_iter()
            .map(|name| {
                let path = self.folder.join(&name);
                Summary {
                    folder: name.to_string_lossy().into_owned(),
                    metadata: Project::open(&path).map(|project| project.metadata().clone()),
                    path,
                }
            })
            .collect();
        projects.sort_by(|a, b| {
            let key = |summary: &Summary| (summary.created_at().to_owned(), summary.folder.clone());
            key(b).cmp(&key(a))
        });
        Ok(projects)
    }

    /// The newest pictures of all projects whose ids begin so, newest first: `active`'s, which may lie
    /// elsewhere, before others of the same id. However many there are, the work is bounded: what it does
    /// not reach are the oldest projects, or a part of a folder that is larger than all of that. What
    /// cannot be read is left out.
    pub fn screenshots(&self, active: Option<&Project>, begin: &str, most: usize) -> Vec<Taken> {
        let mut names = self.folders().unwrap_or_default();
        // They begin with the time when they were made.
        names.sort_unstable();
        let others = names.iter().rev().map(|name| self.folder.join(name));
        let folders = active
            .map(|it| it.path().to_owned())
            .into_iter()
            .chain(others);
        let mut taken = Vec::new();
        let mut left = MAX_ENTRIES;
        for folder in folders {
            left = left.saturating_sub(1);
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let found = project::list_screenshots(&folder, &mut left).unwrap_or_default();
            let fitting = found
                .into_iter()
                .filter(|(id, _)| id.as_str().starts_with(begin));
            taken.extend(fitting.map(|(id, format)| Taken {
                id,
                format,
                project: name.clone().into_owned(),
            }));
            if left == 0 {
                break;
            }
        }
        // Stable, so that the active project's stay in front.
        taken.sort_by(|a, b| b.id.cmp(&a.id));
        taken.dedup_by(|later, first| later.id == first.id);
        taken.truncate(most);
        taken
    }

    /// The picture of this id in any project.
    pub fn find_screenshot(&self, id: &ScreenshotId) -> Result<Option<Screenshot>, StoreError> {
        let mut failure = None;
        for name in self.folders()? {
            match project::find_screenshot(&self.folder.join(name), id) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                // One broken project does not hide the others.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// The names of all folders, but for hidden ones: those are being made.
    fn folders(&self) -> Result<Vec<OsString>, StoreError> {
        let read_error = |source| StoreError::Read {
            path: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(read_error(source)),
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry.map_err(read_error)?;
            let name = entry.file_name();
            if !name.as_encoded_bytes().starts_with(b".") && entry.path().is_dir() {
                folders.push(name);
            }
        }
        Ok(folders)
    }

    /// Names the projects that look like the one asked for, else the newest.
    fn no_such_project(&self, path: &str) -> StoreError {
        const SHOWN: usize = 5;
        let newest: Vec<_> = self
            .list()
            .unwrap_or_default()
            .into_iter()
            .map(|summary| summary.folder)
            .collect();
        let wanted = path.trim_end_matches('/').rsplit('/').next();
        let wanted = wanted.unwrap_or_default().to_lowercase();
        let mut others: Vec<_> = newest
            .iter()
            .filter(|folder| folder.to_lowercase().contains(&wanted))
            .cloned()
            .collect();
        if others.is_empty() {
            others = newest;
        }
        others.truncate(SHOWN);
        StoreError::NoSuchProject {
            path: path.escape_debug().to_string(),
            others,
        }
    }
}

fn is_plain_name(path: &str) -> bool {
    !path.contains('/') && path != "." && path != ".."
}

/// Whether a folder could not be renamed because the name is taken (rename(2)).
fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
    )
}
