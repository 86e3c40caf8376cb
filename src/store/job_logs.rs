//! The whole output of commands: a folder for each, with a file for each stream.
//!
//! Those below the data folder are cleared once they are old; those of a project are a part of it and stay.
//! Whoever writes one holds a lock on it, so that no other server takes it for a dead one's.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Project, StoreError, write};
use crate::model::{JobId, OutputStream};

/// The folder of logs, below the data folder or a project.
const JOBS: &str = "jobs";

/// How long logs below the data folder are kept after the last byte.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// Where the logs of new commands go.
#[derive(Debug, Clone)]
pub enum LogPlace {
    DataFolder(PathBuf),
    Project(Arc<Project>),
}

/// The logs of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLogs {
    folder: PathBuf,
}

/// Logs that were just made, open for writing.
#[derive(Debug)]
pub struct NewLogs {
    pub logs: JobLogs,
    pub stdout: File,
    pub stderr: File,
}

impl LogPlace {
    /// Makes the logs of a command.
    pub fn make(&self, id: &JobId) -> Result<NewLogs, StoreError> {
        let jobs = match self {
            Self::DataFolder(data) => {
                let jobs = data.join(JOBS);
                // What commands wrote is nobody else's, as the known host keys beside it.
                let made = fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&jobs);
                made.map_err(|source| StoreError::MakeFolder {
                    path: jobs.clone(),
                    source,
                })?;
                jobs
            }
            Self::Project(project) => project.folder_for_writing(JOBS)?,
        };
        let mut number = 1;
        let folder = loop {
            let folder = jobs.join(write::numbered(id.as_str(), number));
            match fs::create_dir(&folder) {
                Ok(()) => break folder,
                // Another server's of the same moment.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => {
                    return Err(StoreError::MakeFolder {
                        path: folder,
                        source,
                    });
                }
            }
        };
        let logs = JobLogs { folder };
        let open = |stream| {
            let path = logs.path(stream);
            // A file system without locks is no reason to lose the output.
            let opened = File::create_new(&path).inspect(|file| drop(file.try_lock()));
            opened.map_err(|source| StoreError::Write { path, source })
        };
        let opened =
            open(OutputStream::Stdout).and_then(|stdout| Ok((stdout, open(OutputStream::Stderr)?)));
        match opened {
            Ok((stdout, stderr)) => Ok(NewLogs {
                logs,
                stdout,
                stderr,
            }),
            Err(error) => {
                // Nothing half made is left, as far as that can be had.
                let _ = logs.remove();
                Err(error)
            }
        }
    }

    /// Removes the logs below the data folder that nobody has written for a week; tells how many.
    pub fn clear_old(&self) -> usize {
        match self {
            Self::DataFolder(data) => clear(&data.join(JOBS), SystemTime::now() - KEPT),
            Self::Project(_) => 0,
        }
    }
}

impl JobLogs {
    pub fn path(&self, stream: OutputStream) -> PathBuf {
        self.folder.join(stream.as_str())
    }

    /// Removes the files and their folder; what is gone already is no failure, and what others put there stays.
    pub fn remove(&self) -> Result<(), StoreError> {
        let removals = OutputStream::ALL
            .map(|stream| self.path(stream))
            .map(|path| (fs::remove_file(&path), path))
            .into_iter()
            .chain([(fs::remove_dir(&self.folder), self.folder.clone())]);
        for (removed, path) in removals {
            match removed {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                    ) => {}
                Err(source) => return Err(StoreError::Write { path, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn clear(jobs: &Path, before: SystemTime) -> usize {
    // Where there are none yet, there is nothing to clear.
    let Ok(entries) = fs::read_dir(jobs) else {
        return 0;
    };
    let mut cleared = 0;
    for entry in entries.flatten() {
        let logs = JobLogs {
            folder: entry.path(),
        };
        if is_ours(&entry) && is_abandoned(&logs, before) {
            match logs.remove() {
                Ok(()) => cleared += 1,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "an old log cannot be removed");
                }
            }
        }
    }
    cleared
}

/// Whether it is a folder, and named as those that are made here.
fn is_ours(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_str().unwrap_or_default();
    let id = name.split('_').next().unwrap_or_default();
    entry.file_type().is_ok_and(|kind| kind.is_dir()) && id.parse::<JobId>().is_ok()
}

fn is_abandoned(logs: &JobLogs, before: SystemTime) -> bool {
    let is_old = |path: &Path| {
        let written = fs::symlink_metadata(path).and_then(|it| it.modified());
        written.map(|written| written < before)
    };
    // The folder first: another server may be about to make its files.
    let is_old_folder = is_old(&logs.folder).unwrap_or(false);
    is_old_folder
        && OutputStream::ALL.into_iter().all(|stream| {
            let path = logs.path(stream);
            let is_free = || File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            is_old(&path).map_or(true, |is_old| is_old && is_free())
        })
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::MetadataExt as _};

    use super::*;

    fn age(logs: &JobLogs, days: u64) {
        let then = SystemTime::now() - Duration::from_hours(days * 24);
        let files = OutputStream::ALL.map(|stream| logs.path(stream));
        for path in files.iter().chain([&logs.folder]) {
            File::open(path).unwrap().set_modified(then).unwrap();
        }
    }

    #[test]
    fn clears_what_is_old_and_nobodys() {
        let data = tempfile::tempdir().unwrap();
        let place = LogPlace::DataFolder(data.path().to_owned());
        assert_eq!(place.clear_old(), 0);
        let make = || place.make(&JobId::now()).unwrap();
        let (old, young, held) = (make().logs, make().logs, make());
        for (logs, days) in [(&old, 8), (&young, 6), (&held.logs, 8)] {
            age(logs, days);
        }
        let other = data.path().join("jobs/mine");
        fs::create_dir(&other).unwrap();
        assert_eq!(place.clear_old(), 1);
        assert!(!old.folder.exists());
        assert!(young.folder.exists() && held.logs.folder.exists() && other.exists());
        let logs = held.logs.clone();
        drop(held);
        assert_eq!(place.clear_old(), 1);
        assert!(!logs.folder.exists());
    }

    #[test]
    fn two_servers_of_one_moment_have_logs_of_their_own() {
        let data = tempfile::tempdir().unwrap();
        let place = LogPlace::DataFolder(data.path().to_owned());
        let id = JobId::now();
        let mut one = place.make(&id).unwrap();
        let two = place.make(&id).unwrap();
        one.stdout.write_all(b"one").unwrap();
        let read = |logs: &JobLogs| fs::read_to_string(logs.path(OutputStream::Stdout)).unwrap();
        assert_eq!(
            (read(&one.logs), read(&two.logs)),
            ("one".into(), String::new())
        );
        one.logs.remove().unwrap();
        one.logs.remove().unwrap();
        assert!(!one.logs.folder.exists() && two.logs.folder.exists());

        let mode = fs::metadata(data.path().join(JOBS)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let others = two.logs.folder.join("others");
        fs::write(&others, "").unwrap();
        two.logs.remove().unwrap();
        assert!(others.exists() && !two.logs.path(OutputStream::Stdout).exists());
    }
}
