//! What is in a tree, on either side: folders before what lies in them, links for themselves.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

use russh_sftp::protocol::{File, FileAttributes};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ssh::{
    SshError, Unfit,
    partial::partial_name,
    sftp::{Kind, Listed, Sftp, kind},
    transfer::{local as local_error, times},
};

use super::{Notes, Permits, below, chain, folder_of, name_of};

/// Folders that are listed at a time.
const LISTED_AT_ONCE: usize = 16;
/// The longest path that is asked for: `PATH_MAX` in linux/limits.h, with room for a temporary name.
const LONGEST_PATH: usize = 4096 - 256;
/// What stands for bytes that are no text.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

const NOT_UTF8: &str = "its name is not UTF-8";
const SPECIAL: &str = "no regular file";
const LEADS_OUT: &str = "a link that leads out of the folder";
const PART: &str = "the part of an interrupted transfer";
pub(super) const PROTECTED: &str = "one of the server's own files";

/// Something in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the tree's own folder, by slashes.
    pub(super) path: String,
    pub(super) what: What,
    pub(super) mode: Option<u32>,
    /// When it was last used and changed, in seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Folder,
    File { size: u64 },
    Link { target: String },
}

impl Entry {
    pub(super) fn size(&self) -> u64 {
        match self.what {
            What::File { size } => size,
            What::Folder | What::Link { .. } => 0,
        }
    }

    /// Where a link leads.
    fn target(&self) -> &str {
        match &self.what {
            What::Link { target } => target,
            What::Folder | What::File { .. } => "",
        }
    }
}

/// A tree.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Mode and times of the tree's own folder.
    pub(super) mode: Option<u32>,
    pub(super) times: Option<(u32, u32)>,
    /// Sorted, so that folders stand before what lies in them.
    pub(super) entries: Vec<Entry>,
    pub(super) skipped: Notes,
    pub(super) failed: Notes,
}

impl Walk {
    /// Leaves out what has the name of another file's part: that file's transfer would go on from it, or remove it.
    pub(super) fn leave_out_parts(&mut self) {
        let files = self.entries.iter();
        let files = files.filter(|entry| matches!(entry.what, What::File { .. }));
        let part = |entry: &Entry| {
            let part = partial_name(name_of(&entry.path));
            child(folder_of(&entry.path), &part)
        };
        let parts: BTreeSet<_> = files.map(part).collect();
        self.entries.retain(|entry| {
            // A folder of such a name is refused, and told, where it is in the way.
            let is_part = entry.what != What::Folder && parts.contains(&entry.path);
            if is_part {
                self.skipped.add(&entry.path, PART);
            }
            !is_part
        });
    }
}

/// Looks at a folder of the host and all below it.
pub(super) fn local(
    root: &Path,
    permits: &Permits,
    cancel: &CancellationToken,
) -> Result<Walk, SshError> {
    let metadata = fs::metadata(root).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => SshError::LocalMissing {
            path: root.to_owned(),
        },
        _ => local_error("look at", root, error),
    })?;
    if !metadata.is_dir() {
        return Err(SshError::LocalUnfit {
            path: root.to_owned(),
            what: Unfit::NoFolder,
        });
    }
    let mut walk = Walk {
        mode: Some(metadata.permissions().mode() & 0o777),
        times: times(&metadata),
        ..Walk::default()
    };
    let all = Listed::default();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, path)) = folders.pop() {
        if cancel.is_cancelled() {
            return Err(SshError::TransferCancelled);
        }
        let listed = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let error = local_error("list", &folder, error);
                // Without the tree's own folder there is nothing at all.
                if path.is_empty() {
                    return Err(error);
                }
                walk.failed.add(&path, chain(&error));
                continue;
            }
        };
        for entry in listed {
            let there = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                let name = entry.file_name().to_string_lossy().into_owned();
                walk.skipped.add(&child(&path, &name), NOT_UTF8);
                continue;
            };
            let path = child(&path, &name);
            if !permits(&there) {
                walk.skipped.add(&path, PROTECTED);
                continue;
            }
            match look(&there, &path) {
                Ok(Ok(entry)) => {
                    if entry.what == What::Folder {
                        folders.push((there, path));
                    }
                    all.add(1, entry.path.len() + entry.target().len())?;
                    walk.entries.push(entry);
                }
                Ok(Err(why)) => walk.skipped.add(&path, why),
                Err(error) => walk.failed.add(&path, chain(&error)),
            }
        }
    }
    walk.entries
        .sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(walk)
}

/// What a file of the host is, or why it is left out.
fn look(there: &Path, path: &str) -> Result<Result<Entry, &'static str>, SshError> {
    let metadata =
        fs::symlink_metadata(there).map_err(|error| local_error("look at", there, error))?;
    let what = if metadata.is_dir() {
        What::Folder
    } else if metadata.is_file() {
        What::File {
            size: metadata.len(),
        }
    } else if metadata.is_symlink() {
        let target = fs::read_link(there).map_err(|error| local_error("read", there, error))?;
        match target.into_os_string().into_string() {
            Ok(target) if stays_inside(path, &target) => What::Link { target },
            Ok(_) => return Ok(Err(LEADS_OUT)),
            Err(_) => return Ok(Err("a link to a name that is not UTF-8")),
        }
    } else {
        return Ok(Err(SPECIAL));
    };
    Ok(Ok(Entry {
        path: path.to_owned(),
        what,
        mode: Some(metadata.permissions().mode() & 0o777),
        times: times(&metadata),
    }))
}

/// Looks at a folder of the guest and all below it.
pub(super) async fn remote(
    sftp: &Arc<Sftp>,
    root: &str,
    attributes: FileAttributes,
) -> Result<Walk, SshError> {
    let mut walk = Walk {
        mode: attributes.permissions,
        times: attributes.atime.zip(attributes.mtime),
        ..Walk::default()
    };
    let all = Arc::new(Listed::default());
    let mut listing = JoinSet::new();
    let mut waiting = vec![String::new()];
    loop {
        while listing.len() < LISTED_AT_ONCE
            && let Some(path) = waiting.pop()
        {
            let (sftp, root) = (Arc::clone(sftp), root.to_owned());
            let all = Arc::clone(&all);
            listing.spawn(async move {
                let listed = list(&sftp, &root, &path, &all).await;
                (path, listed)
            });
        }
        let Some(listed) = listing.join_next().await else {
            break;
        };
        // Nothing ends a listing before its time but a panic, which is not passed over.
        let (path, listed) = listed.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        match listed {
            Ok(found) => {
                for (path, found) in found {
                    match found {
                        Ok(entry) => {
                            if entry.what == What::Folder {
                                waiting.push(path);
                            }
                            walk.entries.push(entry);
                        }
                        Err(why) => walk.skipped.add(&path, why),
                    }
                }
            }
            Err(error) if path.is_empty() || super::is_fatal(&error) => return Err(error),
            Err(error) => walk.failed.add(&path, chain(&error)),
        }
    }
    walk.entries
        .sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(walk)
}

type Found = Vec<(String, Result<Entry, &'static str>)>;

/// What lies in one folder of the guest, which may tell anything.
async fn list(sftp: &Sftp, root: &str, folder: &str, all: &Listed) -> Result<Found, SshError> {
    let mut names = sftp.list(&below(root, folder), all).await?;
    // Of what is told twice, the first counts.
    names.sort_by(|one, other| one.filename.cmp(&other.filename));
    let mut found: Found = Vec::with_capacity(names.len());
    for at in 0..names.len() {
        let name = &names[at].filename;
        let path = child(folder, name);
        let is_twice = at > 0 && names[at - 1].filename == *name;
        let entry = match check_name(name) {
            _ if is_twice => Err(if name.contains(REPLACEMENT) {
                NOT_UTF8
            } else {
                "told twice by the guest"
            }),
            Err(why) => Err(why),
            Ok(()) if root.len() + path.len() > LONGEST_PATH => Err("its path is too long"),
            Ok(()) => found_entry(sftp, root, &path, &names[at]).await?,
        };
        all.add(0, entry.as_ref().map_or(0, |it| it.target().len()))?;
        found.push((path, entry));
    }
    Ok(found)
}

async fn found_entry(
    sftp: &Sftp,
    root: &str,
    path: &str,
    file: &File,
) -> Result<Result<Entry, &'static str>, SshError> {
    let mut attributes = file.attrs.clone();
    // A name that is no text comes with marks in it, and is not found by them.
    if path.contains(REPLACEMENT) || attributes.permissions.is_none() {
        match sftp.lstat(&below(root, path)).await? {
            Some(found) => attributes = found,
            None if path.contains(REPLACEMENT) => return Ok(Err(NOT_UTF8)),
            None => return Ok(Err("gone meanwhile")),
        }
    }
    let what = match kind(&attributes) {
        Kind::Folder => What::Folder,
        Kind::File => What::File {
            size: attributes.size.unwrap_or(0),
        },
        Kind::Link => {
            let Ok(target) = sftp.read_link(&below(root, path)).await else {
                return Ok(Err("a link that cannot be read"));
            };
            if target.contains(REPLACEMENT) {
                return Ok(Err("a link to a name that is not UTF-8"));
            }
            if !stays_inside(path, &target) {
                return Ok(Err(LEADS_OUT));
            }
            What::Link { target }
        }
        Kind::Special => return Ok(Err(SPECIAL)),
    };
    Ok(Ok(Entry {
        path: path.to_owned(),
        what,
        mode: attributes.permissions.map(|mode| mode & 0o777),
        times: attributes.atime.zip(attributes.mtime),
    }))
}

/// Refuses what a guest could tell as a name to reach another place of the host.
fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" | "." | ".." => Err("no name of a file"),
        _ if name.contains(['/', '\0']) => Err("no name of a file"),
        _ => Ok(()),
    }
}

/// Whether a link at a path of the tree leads to a place within the tree, whatever else is in it.
///
/// It may go up only at its beginning, where it is in folders that are no links: `a/../b` goes to wherever the
/// folder above that of the link `a` is.
fn stays_inside(path: &str, target: &str) -> bool {
    let mut depth = path.matches('/').count();
    let mut is_down = false;
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if is_down || depth == 0 => return false,
            ".." => depth -= 1,
            _ => is_down = true,
        }
    }
    true
}

fn child(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// A path of the tree on the host.
pub(super) fn on_host(root: &Path, path: &str) -> PathBuf {
    if path.is_empty() {
        root.to_owned()
    } else {
        root.join(path)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
        process::Command,
    };

    use super::*;

    #[test]
    fn links_stay_inside_whatever_else_is_in_the_tree() {
        let table = [
            ("l", "file", true),
            ("l", "./a//b", true),
            ("a/l", "../b", true),
            ("a/b/l", "../../c/d", true),
            ("a/l", "..", true),
            ("l", "..", false),
            ("a/l", "../../b", false),
            ("l", "/etc/passwd", false),
            // `a` may be a link itself.
            ("l", "a/..", false),
            ("l", "a/../b", false),
            ("a/l", "./../..", false),
            ("l", "", false),
        ];
        for (path, target, expected) in table {
            assert_eq!(stays_inside(path, target), expected, "{path} -> {target}");
        }
    }

    #[test]
    fn names_of_the_guest_are_names() {
        for name in ["", ".", "..", "a/b", "/", "../x", "a\0"] {
            check_name(name).unwrap_err();
        }
        for name in ["...", "a b", "-n", "ü", "\\", ".hidden"] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn the_hosts_tree_is_told_with_what_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let at = |name: &str| root.join(name);
        fs::create_dir_all(at("a/empty")).unwrap();
        fs::write(at("a/file"), "12345").unwrap();
        fs::write(at("a-b"), "").unwrap();
        fs::write(at("secret"), "").unwrap();
        fs::write(root.join(OsStr::from_bytes(b"latin\xfc")), "").unwrap();
        symlink("a/file", at("inside")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("..", at("a/up")).unwrap();
        symlink("../..", at("a/out")).unwrap();
        symlink("/etc", at("absolute")).unwrap();
        let fifo = Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(fifo.success());

        let permits: Permits = Arc::new(|path| !path.ends_with("secret"));
        let never = CancellationToken::new();
        let walk = local(root, &permits, &never).unwrap();
        let told: Vec<_> = walk
            .entries
            .iter()
            .map(|entry| match &entry.what {
                What::Folder => format!("{}/", entry.path),
                What::File { size } => format!("{} {size}", entry.path),
                What::Link { target } => format!("{} -> {target}", entry.path),
            })
            .collect();
        assert_eq!(
            told,
            [
                "a/",
                "a-b 0",
                "a/empty/",
                "a/file 5",
                "a/up -> ..",
                "inside -> a/file",
                "loop -> loop"
            ]
        );
        let mut skipped: Vec<_> = walk
            .skipped
            .first
            .iter()
            .map(|note| format!("{}: {}", note.path, note.why))
            .collect();
        skipped.sort();
        assert_eq!(
            skipped,
            [
                "a/out: a link that leads out of the folder",
                "absolute: a link that leads out of the folder",
                "fifo: no regular file",
                "latin\u{fffd}: its name is not UTF-8",
                "secret: one of the server's own files",
            ]
        );
        assert_eq!(walk.failed.count, 0);
        never.cancel();
        let cancelled = local(root, &permits, &never);
        assert!(matches!(cancelled, Err(SshError::TransferCancelled)));
    }
}
