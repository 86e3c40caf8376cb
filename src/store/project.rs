//! One project folder: its metadata, logs, results, advice and screenshots.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::{
    Level, ScreenshotId, StoreError, log,
    name::{check_file_name, safe_name},
    screenshot::{self, FORMATS},
    write::{self, Existing},
};
use crate::model::ImageFormat;

/// The time in names of folders and files.
pub(super) const STAMP: &str = "%Y%m%d-%H%M%S";

/// What a project says of itself is far shorter.
const MAX_METADATA: u64 = 1024 * 1024;

/// No screen's picture is larger: as many bytes as one of 4096×4096 pixels has unpacked.
const MAX_SCREENSHOT: u64 = 64 * 1024 * 1024;

pub(super) const METADATA: &str = "metadata.json";
pub(super) const LOGS: &str = "logs";
const PROJECT_LOG: &str = "project.log";
const ACTION_LOG: &str = "actions.jsonl";
const RESULTS: &str = "results";
const ADVICE: &str = "advice";
const SCREENSHOTS: &str = "screenshots";

/// What `metadata.json` says. Fields that other programs add are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub name: String,
    /// `YYYYMMDD-HHMMSS`, UTC.
    #[serde(default)]
    pub created_at: String,
    #[serde(default)]
    pub description: String,
}

/// A project folder that exists. Nothing of it is kept in memory but its metadata, so that two
/// servers may use one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    path: PathBuf,
    metadata: Metadata,
}

/// Counts of what a project holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Info {
    pub screenshots: usize,
    pub results: usize,
    pub log_entries: usize,
    pub advice: usize,
}

/// A lesson that somebody left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    pub title: String,
    /// The file's name in `advice/`.
    pub file: String,
    pub content: String,
}

/// A saved picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screenshot {
    pub path: PathBuf,
    pub format: ImageFormat,
    pub bytes: Vec<u8>,
}

impl Project {
    pub const MAX_LOG_LINES: i64 = 10_000;

    /// The project in this folder, which has a metadata file.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let path = fs::canonicalize(path).map_err(|source| StoreError::Read {
            path: path.to_owned(),
            source,
        })?;
        let file = path.join(METADATA);
        if !path.is_dir() {
            return Err(StoreError::NoMetadata { path });
        }
        // A link or a FIFO in its place could lead anywhere, or block for ever.
        let Some(open) = write::open_plain(&file)? else {
            return Err(StoreError::NoMetadata { path });
        };
        let mut bytes = Vec::new();
        open.take(MAX_METADATA)
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::Read {
                path: file.clone(),
                source,
            })?;
        let metadata = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::BadMetadata { path: file, source })?;
        Ok(Self { path, metadata })
    }

    /// Fills an empty folder with a new project.
    pub(super) fn fill(folder: &Path, metadata: &Metadata) -> Result<(), StoreError> {
        for name in [SCREENSHOTS, LOGS, RESULTS, ADVICE] {
            let path = folder.join(name);
            fs::create_dir(&path).map_err(|source| StoreError::MakeFolder { path, source })?;
        }
        let json = serde_json::to_vec_pretty(metadata)
            .map_err(|source| StoreError::BadEntry { source })?;
        let logs = folder.join(LOGS);
        let first = log::line(Utc::now(), Level::Info, "Project initialized");
        write::append(&logs.join(PROJECT_LOG), &first)?;
        write::append(&logs.join(ACTION_LOG), "")?;
        write::write(folder, METADATA, &json, Existing::Keep)?;
        Ok(())
    }

    /// The folder's absolute path, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's name.
    pub fn folder(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Refuses where somebody took the folder away: a missing part of a project is empty, a missing
    /// project is not.
    fn check_is_there(&self) -> Result<(), StoreError> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Gone {
                path: self.path.clone(),
            }),
            // Whatever else is wrong, the act itself tells.
            _ => Ok(()),
        }
    }

    pub fn info(&self) -> Result<Info, StoreError> {
        self.check_is_there()?;
        let log = self.path.join(LOGS).join(PROJECT_LOG);
        let log_entries = match write::open_plain(&log)? {
            Some(file) => {
                log::count_entries(file).map_err(|source| StoreError::Read { path: log, source })?
            }
            None => 0,
        };
        Ok(Info {
            screenshots: self.screenshots()?.len(),
            results: self.files(RESULTS)?.len(),
            log_entries,
            advice: self.advice_files()?.len(),
        })
    }

    /// Adds an entry to the project log.
    pub fn log(&self, level: Level, message: &str) -> Result<(), StoreError> {
        let path = self.folder_for_writing(LOGS)?.join(PROJECT_LOG);
        write::append(&path, &log::line(Utc::now(), level, message))
    }

    /// Adds an entry to the action log, as one line of JSON.
    pub fn append_action(&self, entry: &impl Serialize) -> Result<(), StoreError> {
        let mut line =
            serde_json::to_string(entry).map_err(|source| StoreError::BadEntry { source })?;
        line.push('\n');
        let path = self.folder_for_writing(LOGS)?.join(ACTION_LOG);
        write::append(&path, &line)
    }

    /// The last entries of the project log, of one level or of all, oldest first.
    pub fn read_logs(&self, lines: i64, level: Option<Level>) -> Result<Vec<String>, StoreError> {
        let count = usize::try_from(lines)
            .ok()
            .filter(|_| (1..=Self::MAX_LOG_LINES).contains(&lines))
            .ok_or(StoreError::BadLineCount { found: lines })?;
        self.check_is_there()?;
        let path = self.path.join(LOGS).join(PROJECT_LOG);
        match write::open_plain(&path)? {
            Some(file) => log::last_entries(file, count, level)
                .map_err(|source| StoreError::Read { path, source }),
            None => Ok(Vec::new()),
        }
    }

    /// Saves a file in `results/`.
    pub fn save_result(
        &self,
        file_name: &str,
        content: &[u8],
        overwrite: bool,
    ) -> Result<PathBuf, StoreError> {
        check_file_name(file_name)?;
        let existing = if overwrite {
            Existing::Replace
        } else {
            Existing::Keep
        };
        let folder = self.folder_for_writing(RESULTS)?;
        write::write(&folder, file_name, content, existing)
    }

    /// Saves a lesson in `advice/`, under the time and its title.
    pub fn save_advice(&self, title: &str, content: &str) -> Result<PathBuf, StoreError> {
        let safe = safe_name(title, "advice title")?;
        let stem = format!("{}_{safe}", Utc::now().format(STAMP));
        let heading = title.trim().replace(char::is_control, " ");
        let mut text = format!("# {heading}\n\n{content}");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let folder = self.folder_for_writing(ADVICE)?;
        write::write_numbered(&folder, &stem, "md", text.as_bytes())
    }

    /// All advice, oldest first.
    pub fn read_advice(&self) -> Result<Vec<Advice>, StoreError> {
        self.check_is_there()?;
        let folder = self.path.join(ADVICE);
        let mut advice = Vec::new();
        for file in self.advice_files()? {
            let path = folder.join(&file);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Somebody took it away since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(StoreError::Read { path, source }),
            };
            let file = file.to_string_lossy().into_owned();
            advice.push(Advice::parse(file, &String::from_utf8_lossy(&bytes)));
        }
        Ok(advice)
    }

    /// Saves a picture under this id, or under a new one where another server just took this:
    /// the id that it has now is returned.
    pub fn save_screenshot(
        &self,
        id: ScreenshotId,
        format: ImageFormat,
        bytes: &[u8],
    ) -> Result<(ScreenshotId, PathBuf), StoreError> {
        let folder = self.folder_for_writing(SCREENSHOTS)?;
        let mut id = id;
        loop {
            let is_taken = FORMATS
                .into_iter()
                .any(|format| fs::symlink_metadata(folder.join(id.file_name(format))).is_ok());
            if !is_taken {
                match write::write_new_unsynced(&folder, &id.file_name(format), bytes) {
                    Err(StoreError::Exists { .. }) => {}
                    result => return result.map(|path| (id, path)),
                }
            }
            id = ScreenshotId::now();
        }
    }

    /// The picture of this id, if the project has it.
    pub fn screenshot(&self, id: &ScreenshotId) -> Result<Option<Screenshot>, StoreError> {
        find_screenshot(&self.path, id)
    }

    /// The ids of all pictures, newest first.
    pub fn screenshots(&self) -> Result<Vec<ScreenshotId>, StoreError> {
        let files = self.files(SCREENSHOTS)?;
        let mut ids: Vec<_> = files
            .iter()
            .filter_map(|file| Some(screenshot::id_of(file.to_str()?)?.0))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.reverse();
        Ok(ids)
    }

    /// One of the project's own folders, made where it is missing. A link in its place is refused:
    /// it could lead out of the project.
    pub(super) fn folder_for_writing(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.path.join(name);
        self.check_is_there()?;
        match fs::create_dir(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_plain = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
                if is_plain {
                    Ok(path)
                } else {
                    Err(no_plain_folder(path))
                }
            }
            Err(source) => Err(StoreError::MakeFolder { path, source }),
        }
    }

    fn advice_files(&self) -> Result<Vec<OsString>, StoreError> {
        let mut files = self.files(ADVICE)?;
        files.retain(|file| Path::new(file).extension().is_some_and(|end| end == "md"));
        files.sort_unstable();
        Ok(files)
    }

    /// The names of the plain files in one of the project's own folders.
    fn files(&self, folder: &str) -> Result<Vec<OsString>, StoreError> {
        let mut no_end = usize::MAX;
        plain_files(&self.path.join(folder), &mut no_end)
    }
}

/// The names of the plain files in a folder, but for hidden ones: those are being written. Each entry is
/// taken from what is `left` to look at, and it ends where that is nothing.
fn plain_files(path: &Path, left: &mut usize) -> Result<Vec<OsString>, StoreError> {
    let read_error = |source| StoreError::Read {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => return Err(no_plain_folder(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        _ => {}
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(read_error)? {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let entry = entry.map_err(read_error)?;
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.file_type().map_err(read_error)?.is_file() {
            files.push(name);
        }
    }
    Ok(files)
}

impl Advice {
    /// The heading is the title; without one it is the file's name.
    fn parse(file: String, text: &str) -> Self {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        match first.strip_prefix("# ") {
            Some(title) => Self {
                title: title.trim().to_owned(),
                content: rest.trim_start_matches('\n').to_owned(),
                file,
            },
            None => Self {
                title: file.trim_end_matches(".md").to_owned(),
                content: text.to_owned(),
                file,
            },
        }
    }
}

impl Screenshot {
    pub fn mime(&self) -> &'static str {
        self.format.mime()
    }
}

/// The pictures in a project's folder, in no order. Looks at no more than is `left`.
pub(super) fn list_screenshots(
    project: &Path,
    left: &mut usize,
) -> Result<Vec<(ScreenshotId, ImageFormat)>, StoreError> {
    let files = plain_files(&project.join(SCREENSHOTS), left)?;
    let ids = files
        .iter()
        .filter_map(|file| screenshot::id_of(file.to_str()?));
    Ok(ids.collect())
}

/// The picture of this id in a project's folder.
pub(super) fn find_screenshot(
    project: &Path,
    id: &ScreenshotId,
) -> Result<Option<Screenshot>, StoreError> {
    let folder = project.join(SCREENSHOTS);
    for format in FORMATS {
        let path = folder.join(id.file_name(format));
        let Some(file) = write::open_plain(&path)? else {
            continue;
        };
        let mut bytes = Vec::new();
        file.take(MAX_SCREENSHOT + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::Read {
                path: path.clone(),
                source,
            })?;
        if bytes.len() as u64 > MAX_SCREENSHOT {
            return Err(StoreError::NoScreenshot { path });
        }
        return Ok(Some(Screenshot {
            path,
            format,
            bytes,
        }));
    }
    Ok(None)
}

fn no_plain_folder(path: PathBuf) -> StoreError {
    StoreError::NotPlain {
        path,
        wanted: "folder",
    }
}
