//! Folders of the host that are held open, so that what is written in them lands there and nowhere else.
//!
//! A folder below is opened by its name in the one above and never through a link. Files in it are named
//! through `/proc/self/fd`, which leads to the open folder itself, whatever becomes of its path meanwhile.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::ssh::{SshError, Unfit, transfer::local};

use super::{folder_of, name_of};

/// An open folder.
#[derive(Debug)]
pub(super) struct HostFolder {
    pub(super) handle: File,
    /// Its path, for messages.
    pub(super) shown: PathBuf,
}

impl HostFolder {
    /// Opens the folder that a tree comes from.
    pub(super) fn existing(path: &Path) -> Result<Self, SshError> {
        let handle = open(path, OFlags::DIRECTORY);
        Ok(Self {
            handle: handle.map_err(|error| local("open the folder", path, error))?,
            shown: path.to_owned(),
        })
    }

    /// Opens the folder that a tree goes into, or makes it and those above it; tells whether it is new.
    pub(super) fn root(path: &Path) -> Result<(Self, bool), SshError> {
        let is_new = !path.exists();
        if is_new {
            let above = path.parent().map_or(Ok(()), fs::create_dir_all);
            let made = above.and_then(|()| make(path));
            made.map_err(|error| local("make the folder", path, error))?;
        } else if !path.is_dir() {
            return Err(SshError::LocalUnfit {
                path: path.to_owned(),
                what: Unfit::NoFolder,
            });
        }
        Ok((Self::existing(path)?, is_new))
    }

    /// The folder at a path below, none of whose parts is a link.
    pub(super) fn below(&self, path: &str) -> Result<Self, SshError> {
        let mut shown = self.shown.clone();
        let mut handle = None;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            shown.push(name);
            let next = at(handle.as_ref().unwrap_or(&self.handle), name);
            let next = open(&next, OFlags::DIRECTORY);
            handle = Some(next.map_err(|error| no_folder(&shown, error))?);
        }
        let handle = match handle {
            Some(handle) => handle,
            None => self
                .handle
                .try_clone()
                .map_err(|error| local("open the folder", &shown, error))?,
        };
        Ok(Self { handle, shown })
    }

    /// Opens a file at a path below to read, never through a link and without waiting for what it may have become;
    /// gives its path for messages too.
    pub(super) fn file(&self, path: &str) -> Result<(File, PathBuf), SshError> {
        let folder = self.below(folder_of(path))?;
        let shown = folder.shown.join(name_of(path));
        match open(&folder.at(name_of(path)), OFlags::NONBLOCK) {
            Ok(file) => Ok((file, shown)),
            Err(error) => Err(local("read", &shown, error)),
        }
    }

    /// Makes a folder in this one, which is the owner's alone; tells whether it is new.
    pub(super) fn make(&self, name: &str) -> Result<bool, SshError> {
        let shown = self.shown.join(name);
        match make(&self.at(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = open(&self.at(name), OFlags::DIRECTORY);
                there
                    .map(|_| false)
                    .map_err(|error| no_folder(&shown, error))
            }
            Err(error) => Err(local("make the folder", &shown, error)),
        }
    }

    /// A file in this folder, by a path that is good while the folder is open.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        at(&self.handle, name)
    }
}

fn at(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW;
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn make(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

fn no_folder(path: &Path, error: io::Error) -> SshError {
    if error.kind() == io::ErrorKind::NotADirectory {
        SshError::LocalUnfit {
            path: path.to_owned(),
            what: Unfit::NoFolder,
        }
    } else {
        local("open the folder", path, error)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_leads_out_of_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let (root, is_new) = HostFolder::root(&folder.path().join("new/root")).unwrap();
        assert!(is_new);
        fs::create_dir(folder.path().join("outside")).unwrap();
        symlink("../../outside", root.shown.join("link")).unwrap();
        assert!(root.make("inside").unwrap());
        assert!(!root.make("inside").unwrap());
        for refused in [
            root.below("link").unwrap_err(),
            root.make("link").unwrap_err(),
        ] {
            assert!(
                matches!(
                    &refused,
                    SshError::LocalUnfit { path, what: Unfit::NoFolder } if path.ends_with("root/link")
                ),
                "{refused:?}"
            );
        }
        // One that takes a folder's place after it was opened changes nothing.
        let inside = root.below("inside").unwrap();
        fs::rename(root.shown.join("inside"), root.shown.join("moved")).unwrap();
        symlink("../../outside", root.shown.join("inside")).unwrap();
        fs::write(inside.at("file"), "x").unwrap();
        assert_eq!(fs::read(root.shown.join("moved/file")).unwrap(), b"x");
        assert!(!folder.path().join("outside/file").exists());
        // Nor is anything read through one.
        symlink("file", root.shown.join("moved/link")).unwrap();
        assert!(root.file("moved/file").is_ok());
        for path in ["moved/link", "inside/file"] {
            assert!(root.file(path).is_err(), "{path}");
        }
    }
}
