//! What the process was started with, captured once: variables, home folder, working
//! directory and the text of `./.env`. Everything after that is a pure function of it.

use std::{collections::BTreeMap, env, ffi::OsString, fmt, fs, path::PathBuf};

use super::error::{ConfigError, Place};

/// The variables that matter; no other is ever read.
const VARIABLES: [&str; 11] = [
    "LIBVIRT_DEFAULT_URI",
    "VIRTPILOT_DATA_DIR",
    "VM_DISPLAY",
    "VM_HOST",
    "VM_IDENTITY",
    "VM_NAME",
    "VM_PASSWORD",
    "VM_PORT",
    "VM_USER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// The surroundings of the process.
#[derive(Clone, Default)]
pub struct Environment {
    pub variables: BTreeMap<String, OsString>,
    pub home: Option<PathBuf>,
    pub working_dir: PathBuf,
    /// The text of `.env` in the working directory, if there is such a file.
    pub dot_env: Option<String>,
}

impl Environment {
    pub fn from_process() -> Result<Self, ConfigError> {
        let working_dir =
            env::current_dir().map_err(|source| ConfigError::WorkingDir { source })?;
        let file = working_dir.join(".env");
        // A folder of that name is somebody's Python environment.
        let dot_env = if file.is_file() {
            let bytes =
                fs::read(&file).map_err(|source| ConfigError::Unreadable { file, source })?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        } else {
            None
        };
        Ok(Self {
            variables: VARIABLES
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), env::var_os(name)?)))
                .collect(),
            home: env::home_dir().filter(|home| home.is_absolute()),
            working_dir,
            dot_env,
        })
    }

    /// An absolute folder that the XDG base directory specification names by this variable; it
    /// says that a relative one is to be ignored.
    pub(super) fn xdg(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.variables.get(name)?);
        path.is_absolute().then_some(path)
    }

    /// A variable of the environment; an empty one counts as not set.
    pub(super) fn variable(&self, name: &'static str) -> Result<Option<Setting>, ConfigError> {
        let Some(value) = self.variables.get(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        match value.to_str() {
            Some(value) => Ok(Some(Setting {
                key: name,
                value: value.to_owned(),
                place: Place::Environment,
            })),
            None => Err(ConfigError::WrongValue {
                place: Place::Environment,
                key: name.to_owned(),
                found: "not UTF-8".to_owned(),
                allowed: "UTF-8 text".to_owned(),
            }),
        }
    }

    /// The `VM_*` names of `.env`, the last of equals. Lines of other names may be in any dialect
    /// (the file is often another program's) and never matter.
    pub(super) fn dot_env(&self) -> Result<DotEnv, ConfigError> {
        let place = Place::DotEnv(self.working_dir.join(".env"));
        let text = self.dot_env.as_deref().unwrap_or_default();
        let text = text.trim_start_matches('\u{feff}');

        // The parser's errors quote the value, which may be the password, and do not name the
        // variable. So count: a line that sets a variable and yields none is broken.
        let mut unread: BTreeMap<&'static str, usize> = BTreeMap::new();
        for name in text.lines().filter_map(vm_name_of) {
            *unread.entry(name).or_default() += 1;
        }
        let mut values = BTreeMap::new();
        for (name, value) in dotenvy::from_read_iter(text.as_bytes()).flatten() {
            let Some(name) = vm_name_of(&name) else {
                continue;
            };
            if let Some(count) = unread.get_mut(name) {
                *count = count.saturating_sub(1);
            }
            values.insert(name, value);
        }
        match unread.into_iter().find(|&(_, count)| count > 0) {
            Some((variable, _)) => Err(ConfigError::DotEnvLine { place, variable }),
            None => Ok(DotEnv { place, values }),
        }
    }
}

/// Values may be passwords: the names alone are shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("home", &self.home)
            .field("working_dir", &self.working_dir)
            .field("dot_env", &self.dot_env.is_some())
            .finish()
    }
}

/// The variable that a line of `.env` sets, if it is one of ours that `.env` may set.
fn vm_name_of(line: &str) -> Option<&'static str> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = line.split(|c| !is_name(c)).next()?;
    VARIABLES
        .into_iter()
        .find(|&known| known == name && known.starts_with("VM_"))
}

/// The parsed `.env`.
pub(super) struct DotEnv {
    place: Place,
    values: BTreeMap<&'static str, String>,
}

impl DotEnv {
    pub(super) fn variable(&self, name: &'static str) -> Option<Setting> {
        let value = self.values.get(name).filter(|value| !value.is_empty())?;
        Some(Setting {
            key: name,
            value: value.clone(),
            place: self.place.clone(),
        })
    }
}

/// A text from outside the config file, and where it came from.
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) place: Place,
}

impl Setting {
    pub(super) fn wrong(&self, allowed: impl Into<String>) -> ConfigError {
        ConfigError::WrongValue {
            place: self.place.clone(),
            key: self.key.to_owned(),
            found: format!("{:?}", self.value),
            allowed: allowed.into(),
        }
    }
}
