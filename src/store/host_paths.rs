//! What transfers may touch on the host: the data folder, the configured folders, and the working
//! directory at start unless that is `/` or the home folder; and within these none of the files that
//! the server itself trusts.
//!
//! Links and `..` are resolved before a path is compared, and the resolved path is what the caller
//! opens. That guards against what a client asks for; it is no guard against another process of
//! the same user that swaps a folder for a link in between.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::model::shell_word;

/// What a project records by itself.
const RECORDS: [&str; 2] = [super::project::LOGS, super::project::METADATA];

/// How many links one path may lead through: `MAXSYMLINKS` in Linux.
const MAX_LINKS: u32 = 40;

/// The folders that transfers may touch. None of them need exist.
#[derive(Debug, Clone, Default)]
pub struct HostPaths {
    pub data_dir: PathBuf,
    /// The folders of the config's `host_folders`.
    pub host_folders: Vec<PathBuf>,
    pub working_dir: PathBuf,
    pub home: Option<PathBuf>,
    /// Files that say whom the server trusts and what it permits: neither read nor written,
    /// wherever they lie.
    pub protected: Vec<PathBuf>,
}

/// Why a path of the host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("`{path}` has a NUL")]
    Nul { path: String },
    #[error("`{path}` needs the home folder, which is unknown")]
    HomeUnknown { path: String },
    #[error(
        "{} lies outside the folders that transfers may touch: {}",
        path.display(),
        listed(allowed)
    )]
    Outside {
        /// The path, resolved.
        path: PathBuf,
        allowed: Vec<PathBuf>,
        /// The `host_folders` that would permit it.
        host_folders: Vec<PathBuf>,
    },
    #[error(
        "{} is one of the server's own files, which transfers do not touch",
        path.display()
    )]
    Protected {
        /// The path, resolved.
        path: PathBuf,
    },
    #[error("there is no {}", path.display())]
    Missing { path: PathBuf },
    #[error("{} goes up with `..` from a folder that does not exist", path.display())]
    UpFromNowhere { path: PathBuf },
    #[error("{} leads through too many links", path.display())]
    TooManyLinks { path: PathBuf },
    #[error("cannot look up {}", path.display())]
    LookUp {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl PathError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty | Self::Nul { .. } => "Give a path of the host.".to_owned(),
            Self::HomeUnknown { .. } => "Give an absolute path.".to_owned(),
            Self::Outside { host_folders, .. } => format!(
                "Use a path below one of these folders, or permit it in the config file and \
                 restart: host_folders = [{}]",
                quoted(host_folders)
            ),
            Self::Protected { .. } => "Choose another file. Known host keys, passwords, grants \
                                       and a project's records are for the person who runs this \
                                       server to change."
                .to_owned(),
            Self::Missing { .. } => "See that the file is on the host, not in the VM.".to_owned(),
            Self::UpFromNowhere { .. } => "Give the path without `..`.".to_owned(),
            Self::TooManyLinks { .. } => "Give the path that the links lead to.".to_owned(),
            Self::LookUp { path, source } => match source.kind() {
                io::ErrorKind::InvalidFilename => {
                    "Choose a shorter name: file systems take 255 bytes.".to_owned()
                }
                io::ErrorKind::NotADirectory => {
                    "A file stands where a folder should be: choose another path.".to_owned()
                }
                _ => format!(
                    "See who may look there: `namei -l {}`.",
                    shell_word(path.display())
                ),
            },
        }
    }
}

impl HostPaths {
    /// A file or folder to read, which exists; links resolved.
    pub fn readable(&self, path: &str) -> Result<PathBuf, PathError> {
        let path = self.confined(path)?;
        match fs::symlink_metadata(&path) {
            Ok(_) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(PathError::Missing { path })
            }
            Err(source) => Err(PathError::LookUp { path, source }),
        }
    }

    /// A file or folder to write, which may be missing, as may the folders above it; links
    /// resolved.
    pub fn writable(&self, path: &str) -> Result<PathBuf, PathError> {
        let path = self.confined(path)?;
        if !self.reserved().may_write(&path) {
            return Err(PathError::Protected { path });
        }
        Ok(path)
    }

    /// What transfers leave alone wherever it lies, looked up once for many paths.
    pub fn reserved(&self) -> Reserved {
        // The name counts even where what it leads to cannot be looked up.
        let named = self.protected.iter().cloned();
        let resolved = self.protected.iter();
        let resolved = resolved.filter_map(|file| resolve(file.clone(), MAX_LINKS).ok());
        Reserved {
            protected: named.chain(resolved).collect(),
            projects: resolve(self.data_dir.join(super::PROJECTS), MAX_LINKS).ok(),
        }
    }

    /// The folders that transfers may touch, as configured.
    pub fn allowed(&self) -> Vec<PathBuf> {
        let working_dir = self.working_dir_is_allowed().then_some(&self.working_dir);
        [&self.data_dir]
            .into_iter()
            .chain(&self.host_folders)
            .chain(working_dir)
            .cloned()
            .collect()
    }

    /// Where relative paths start.
    pub fn base(&self) -> &Path {
        if self.working_dir_is_allowed() {
            &self.working_dir
        } else {
            &self.data_dir
        }
    }

    fn working_dir_is_allowed(&self) -> bool {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let working_dir = real(&self.working_dir);
        let is_home = self
            .home
            .as_ref()
            .is_some_and(|home| real(home) == working_dir);
        working_dir.parent().is_some() && !is_home
    }

    fn confined(&self, path: &str) -> Result<PathBuf, PathError> {
        let resolved = resolve(self.absolute(path)?, MAX_LINKS)?;
        if !self.reserved().may_read(&resolved) {
            return Err(PathError::Protected { path: resolved });
        }
        let allowed = self.allowed();
        let is_allowed = allowed
            .iter()
            .filter_map(|folder| resolve(folder.clone(), MAX_LINKS).ok())
            .any(|folder| resolved.starts_with(folder));
        if is_allowed {
            return Ok(resolved);
        }
        let wanted = match resolved.parent() {
            // Never advise to open up the whole host.
            Some(folder) if !resolved.is_dir() && folder.parent().is_some() => folder,
            _ => &resolved,
        };
        let mut host_folders = self.host_folders.clone();
        host_folders.push(wanted.to_owned());
        Err(PathError::Outside {
            path: resolved,
            allowed,
            host_folders,
        })
    }

    fn absolute(&self, path: &str) -> Result<PathBuf, PathError> {
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if path.contains('\0') {
            return Err(PathError::Nul {
                path: path.escape_debug().to_string(),
            });
        }
        let below_home = match path {
            "~" => Some(""),
            _ => path.strip_prefix("~/"),
        };
        match (below_home, &self.home) {
            (Some(rest), Some(home)) => Ok(home.join(rest.trim_start_matches('/'))),
            (Some(_), None) => Err(PathError::HomeUnknown {
                path: path.to_owned(),
            }),
            (None, _) => Ok(self.base().join(path)),
        }
    }
}

/// Files in the folders that transfers may touch, which they leave alone all the same.
#[derive(Debug, Clone)]
pub struct Reserved {
    protected: Vec<PathBuf>,
    projects: Option<PathBuf>,
}

impl Reserved {
    /// Whether a resolved path is none of the protected files, nor would make a folder where one belongs.
    pub fn may_read(&self, resolved: &Path) -> bool {
        !self.protected.iter().any(|file| resolved.starts_with(file))
    }

    /// Whether it is no project's log or metadata either: records, which nobody writes over.
    pub fn may_write(&self, resolved: &Path) -> bool {
        let inside = self.projects.as_ref();
        let inside = inside.and_then(|projects| resolved.strip_prefix(projects).ok());
        let part = inside.and_then(|inside| inside.components().nth(1));
        let is_record =
            part.is_some_and(|part| RECORDS.iter().any(|name| part.as_os_str() == *name));
        self.may_read(resolved) && !is_record
    }
}

/// The path without links and `..`. What does not exist of it is kept as it is.
fn resolve(path: PathBuf, links_left: u32) -> Result<PathBuf, PathError> {
    // Without a slash at its end, through which a link cannot be seen.
    let mut existing: PathBuf = path.components().collect();
    let mut missing = Vec::new();
    loop {
        match fs::canonicalize(&existing) {
            Ok(real) => {
                return Ok(missing
                    .into_iter()
                    .rev()
                    .fold(real, |path, name| path.join(name)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PathError::LookUp { path, source }),
        }
        // A link that leads to nothing: what is written through it lands where it points.
        if let Ok(target) = fs::read_link(&existing) {
            if links_left == 0 {
                return Err(PathError::TooManyLinks { path });
            }
            let folder = existing.parent().unwrap_or(Path::new("/"));
            let rest = missing.into_iter().rev().collect::<PathBuf>();
            return resolve(folder.join(target).join(rest), links_left - 1);
        }
        // A path that ends in `..` has no file name.
        let (Some(name), Some(parent)) = (existing.file_name(), existing.parent()) else {
            return Err(PathError::UpFromNowhere { path });
        };
        missing.push(name.to_owned());
        existing = parent.to_owned();
    }
}

fn listed(folders: &[PathBuf]) -> String {
    let folders: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    folders.join(", ")
}

/// As a TOML list has them.
fn quoted(folders: &[PathBuf]) -> String {
    let folders: Vec<_> = folders
        .iter()
        .map(|folder| format!("{:?}", folder.to_string_lossy()))
        .collect();
    folders.join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// `ROOT/{data,srv,work,home,out}`, all but `data` there, with a file in each that is there.
    fn host() -> (TempDir, PathBuf, HostPaths) {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["srv", "work", "home", "out"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("file"), name).unwrap();
        }
        let paths = HostPaths {
            data_dir: root.join("data"),
            host_folders: vec![root.join("srv"), root.join("not/there")],
            working_dir: root.join("work"),
            home: Some(root.join("home")),
            protected: vec![],
        };
        (folder, root, paths)
    }

    /// The outcome, with the root as `ROOT`.
    fn text(root: &Path, outcome: Result<PathBuf, PathError>) -> String {
        let text = match outcome {
            Ok(path) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        text.replace(root.to_str().unwrap(), "ROOT")
    }

    #[test]
    fn paths_are_resolved_and_then_confined() {
        const OUTSIDE: &str = " lies outside the folders that transfers may touch: ROOT/data, \
                               ROOT/srv, ROOT/not/there, ROOT/work";
        let (_folder, root, paths) = host();
        symlink(root.join("out"), root.join("work/to_out")).unwrap();
        symlink(root.join("out/new"), root.join("work/to_new")).unwrap();
        symlink("to_new", root.join("work/to_to_new")).unwrap();
        symlink(root.join("srv"), root.join("out/to_srv")).unwrap();
        symlink("loop", root.join("work/loop")).unwrap();
        symlink("../srv/new", root.join("work/to_srv_new")).unwrap();

        // What is asked for, what reading answers, what writing answers (`=` where the same).
        let cases = [
            ("file", "ROOT/work/file", "="),
            ("./file", "ROOT/work/file", "="),
            ("ROOT/work", "ROOT/work", "="),
            ("ROOT/srv/../work/file", "ROOT/work/file", "="),
            ("ROOT/out/to_srv/file", "ROOT/srv/file", "="),
            ("new", "there is no ROOT/work/new", "ROOT/work/new"),
            (
                "a/b/new/",
                "there is no ROOT/work/a/b/new",
                "ROOT/work/a/b/new",
            ),
            (
                "ROOT/data/a/b",
                "there is no ROOT/data/a/b",
                "ROOT/data/a/b",
            ),
            (
                "ROOT/not/there/x",
                "there is no ROOT/not/there/x",
                "ROOT/not/there/x",
            ),
            ("to_srv_new", "there is no ROOT/srv/new", "ROOT/srv/new"),
            ("ROOT/out/file", "ROOT/out/file outside", "="),
            ("ROOT/out/missing", "ROOT/out/missing outside", "="),
            ("../out/file", "ROOT/out/file outside", "="),
            ("to_out/file", "ROOT/out/file outside", "="),
            ("to_out/../file", "ROOT/file outside", "="),
            ("to_new", "ROOT/out/new outside", "="),
            ("to_new/", "ROOT/out/new outside", "="),
            ("to_new/deep", "ROOT/out/new/deep outside", "="),
            ("to_to_new", "ROOT/out/new outside", "="),
            ("ROOT/workshop", "ROOT/workshop outside", "="),
            ("~/file", "ROOT/home/file outside", "="),
            ("~", "ROOT/home outside", "="),
            ("~bob", "there is no ROOT/work/~bob", "ROOT/work/~bob"),
            ("", "the path is empty", "="),
            ("a\0b", "`a\\0b` has a NUL", "="),
            (
                "a/../../out/file",
                "ROOT/work/a/../../out/file goes up with `..` from a folder that does not exist",
                "=",
            ),
            ("loop", "cannot look up ROOT/work/loop", "="),
            ("file/x", "cannot look up ROOT/work/file/x", "="),
        ];
        for (path, read, written) in cases {
            let asked = path.replace("ROOT", root.to_str().unwrap());
            let written = if written == "=" { read } else { written };
            let (read, written) = [read, written]
                .map(|text| text.replace(" outside", OUTSIDE))
                .into();
            assert_eq!(
                text(&root, paths.readable(&asked)),
                read,
                "reading {path:?}"
            );
            assert_eq!(
                text(&root, paths.writable(&asked)),
                written,
                "writing {path:?}"
            );
        }
        assert!(!root.join("data").exists());
    }

    #[test]
    fn a_refusal_gives_the_config_line_that_would_permit_it() {
        let (_folder, root, paths) = host();
        let hint = |path: &str| {
            let hint = paths.writable(path).unwrap_err().hint();
            hint.replace(root.to_str().unwrap(), "ROOT")
        };
        assert_eq!(
            hint("../out/file"),
            "Use a path below one of these folders, or permit it in the config file and restart: \
             host_folders = [\"ROOT/srv\", \"ROOT/not/there\", \"ROOT/out\"]"
        );
        assert!(hint("../out").ends_with("\"ROOT/not/there\", \"ROOT/out\"]"));
        assert!(hint("/vmlinuz").ends_with("\"ROOT/not/there\", \"/vmlinuz\"]"));
    }

    #[test]
    fn the_servers_own_files_are_neither_read_nor_written() {
        let (_folder, root, mut paths) = host();
        fs::create_dir(root.join("data")).unwrap();
        fs::write(root.join("work/real_env"), "VM_PASSWORD=hunter2").unwrap();
        symlink("real_env", root.join("work/.env")).unwrap();
        symlink("../srv/config.toml", root.join("work/to_config")).unwrap();
        symlink("../data", root.join("work/to_data")).unwrap();
        symlink(root.join("work"), root.join("srv/to_work")).unwrap();
        // The first is not there yet; the second is a link; the last is named through one.
        paths.protected = vec![
            root.join("data/known_hosts"),
            root.join("work/.env"),
            root.join("srv/to_work/../srv/config.toml"),
        ];

        let cases = [
            ("ROOT/data/known_hosts", "ROOT/data/known_hosts"),
            ("to_data/known_hosts", "ROOT/data/known_hosts"),
            ("ROOT/data/known_hosts/x", "ROOT/data/known_hosts/x"),
            (".env", "ROOT/work/real_env"),
            ("./real_env", "ROOT/work/real_env"),
            ("ROOT/srv/to_work/.env", "ROOT/work/real_env"),
            ("../srv/config.toml", "ROOT/srv/config.toml"),
            ("to_config", "ROOT/srv/config.toml"),
        ];
        for exists in [false, true] {
            if exists {
                fs::write(root.join("data/known_hosts"), "").unwrap();
                fs::write(root.join("srv/config.toml"), "").unwrap();
            }
            for (asked, refused) in cases {
                if exists && asked.ends_with("/x") {
                    continue;
                }
                let path = asked.replace("ROOT", root.to_str().unwrap());
                let expected = format!(
                    "{refused} is one of the server's own files, which transfers do not touch"
                );
                assert_eq!(text(&root, paths.readable(&path)), expected, "{asked}");
                assert_eq!(text(&root, paths.writable(&path)), expected, "{asked}");
            }
        }
        for free in [
            "ROOT/data/known_hosts.old",
            "ROOT/work/.env2",
            "ROOT/work/file",
        ] {
            let path = free.replace("ROOT", root.to_str().unwrap());
            assert_eq!(text(&root, paths.writable(&path)), free);
        }
    }

    #[test]
    fn the_working_directory_is_not_allowed_where_it_is_root_or_home() {
        let (_folder, root, mut paths) = host();
        symlink(root.join("home"), root.join("to_home")).unwrap();
        for working_dir in [Path::new("/"), &root.join("home"), &root.join("to_home")] {
            paths.working_dir = working_dir.to_owned();
            assert_eq!(paths.base(), root.join("data"));
            assert_eq!(
                paths.allowed(),
                [root.join("data"), root.join("srv"), root.join("not/there")]
            );
            assert_eq!(paths.writable("x/y").unwrap(), root.join("data/x/y"));
            let file = working_dir.join("file");
            assert!(matches!(
                paths.writable(file.to_str().unwrap()),
                Err(PathError::Outside { .. })
            ));
        }
    }

    #[test]
    fn a_tilde_without_a_home_folder_is_refused() {
        let (_folder, _root, mut paths) = host();
        paths.home = None;
        assert_eq!(
            paths.readable("~/x").unwrap_err().to_string(),
            "`~/x` needs the home folder, which is unknown"
        );
    }

    #[test]
    fn a_projects_records_are_read_but_never_written() {
        let (_folder, root, paths) = host();
        let project = root.join("data/projects/20260101-000000_a");
        fs::create_dir_all(project.join("logs")).unwrap();
        fs::write(project.join("logs/project.log"), "x").unwrap();
        let path = |name: &str| project.join(name).display().to_string();
        for name in ["logs/project.log", "logs/new", "metadata.json"] {
            let refused = paths.writable(&path(name));
            assert!(
                matches!(refused, Err(PathError::Protected { .. })),
                "{name}"
            );
        }
        assert!(paths.readable(&path("logs/project.log")).is_ok());
        assert!(paths.writable(&path("results/logs")).is_ok());
    }
}
