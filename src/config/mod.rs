//! Text → validated [`Config`]: command line, environment, `.env`, config file, defaults, in this
//! order.
//!
//! It reads the config file and nothing else: all that the process was started with comes in as
//! an [`Environment`]. A value that means nothing is an error that names the place, the key and
//! what is allowed; nothing is guessed, and settings that are planned but not built yet are
//! refused rather than ignored.

mod document;
mod environment;
mod error;
mod file;
mod secret_source;
#[cfg(test)]
mod tests;
mod toolset;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use environment::Environment;
pub use error::{ConfigError, Place};
pub use secret_source::SecretSource;
pub use toolset::{Toolset, UnknownToolset};

use crate::model::{
    Capability, CaptureMode, Grants, HostKeyPolicy, OcrLanguage, Point, Secret, UnicodeInput,
    VmName,
};
use environment::Setting;
use file::FileConfig;

/// The libvirt connection where nothing names one: the host's own VMs.
pub const DEFAULT_URI: &str = "qemu:///system";

/// The shown picture's long edge in pixels where nothing says otherwise.
pub const DEFAULT_LONG_EDGE: u32 = 1568;

/// The keyboard layout of guests of which nothing else is said.
pub const DEFAULT_KEYMAP: &str = "us";

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The config file, which must exist.
    pub config: Option<PathBuf>,
    pub uri: Option<String>,
    pub data_dir: Option<PathBuf>,
    /// VMs to grant access to; the first is the default VM.
    pub vms: Vec<VmName>,
    /// Replaces what the config file allows, for every VM.
    pub allow: Option<Vec<Capability>>,
    /// `view` at most, whatever else is said: nothing is granted that would not be without it.
    pub read_only: bool,
    pub toolset: Option<String>,
}

/// All settings of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The libvirt connection.
    pub uri: String,
    /// The default VM, if it was named; else it is found at run time.
    pub default_vm: Option<VmName>,
    /// What named it, in words; empty where nothing did.
    pub default_vm_place: String,
    /// The VMs named by `--vm` or under `[vm.*]`.
    pub vms: BTreeMap<VmName, VmConfig>,
    /// Where secrets come from, by their names.
    pub secrets: BTreeMap<String, SecretSource>,
    /// SSH settings of the environment: they belong to the default VM alone.
    pub default_ssh: SshConfig,
    pub data_dir: PathBuf,
    /// Folders that transfers may touch, besides those that are always allowed.
    pub host_folders: Vec<PathBuf>,
    /// The working directory at start.
    pub working_dir: PathBuf,
    pub home: Option<PathBuf>,
    /// What a granted VM may do where it says nothing itself.
    pub allow: Grants,
    /// By which way pictures come that clients are shown.
    pub capture: CaptureMode,
    /// The language of OCR, for VMs that say nothing else.
    pub ocr_language: OcrLanguage,
    pub toolset: Toolset,
    /// Things to tell the user once, at start.
    pub notices: Vec<String>,
    /// The config file that was read.
    pub config_file: Option<PathBuf>,
}

/// What is said of one VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmConfig {
    /// At least so much time between two characters that are typed; zero is as fast as is safe.
    pub typing_interval: Option<Duration>,
    /// The layout that the guest uses.
    pub keymap: Option<Keymap>,
    /// How the guest takes characters that its layout lacks.
    pub unicode: Option<UnicodeInput>,
    /// The shown picture's long edge in pixels; 0 is native size.
    pub long_edge: Option<u32>,
    pub allow: Option<Grants>,
    /// Where the upper left corner of each head lies on the guest's desktop; empty where nothing says.
    pub heads: Vec<Point>,
    /// The language of OCR.
    pub ocr_language: Option<OcrLanguage>,
    pub ssh: SshConfig,
}

/// A keyboard layout as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    /// `layout` or `layout:variant`; see [`Config::check_keymaps`].
    pub name: String,
    key: String,
    place: Place,
}

/// How to reach a guest's SSH server, as far as it was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshConfig {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub identity: Option<PathBuf>,
    /// The name of the secret that unlocks private keys.
    pub passphrase: Option<String>,
    pub password: Option<Secret>,
    pub host_keys: Option<HostKeyPolicy>,
}

impl SshConfig {
    /// These settings, and those of `other` where there are none.
    fn or(self, other: Self) -> Self {
        Self {
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            user: self.user.or(other.user),
            identity: self.identity.or(other.identity),
            passphrase: self.passphrase.or(other.passphrase),
            password: self.password.or(other.password),
            host_keys: self.host_keys.or(other.host_keys),
        }
    }
}

impl Config {
    pub fn load(overrides: Overrides, env: &Environment) -> Result<Self, ConfigError> {
        let (config_file, file) = read_file(overrides.config.as_deref(), env)?;
        let dot_env = env.dot_env()?;
        let vm_variable = |name| -> Result<Option<Setting>, ConfigError> {
            Ok(env.variable(name)?.or_else(|| dot_env.variable(name)))
        };

        let toolset = toolset(overrides.toolset, file.toolset)?;
        let uri = uri(overrides.uri, file.uri, env)?;
        let data_dir = data_dir(overrides.data_dir, file.data_dir, env)?;
        let (default_vm, default_vm_place) = match (overrides.vms.first(), vm_variable("VM_NAME")?)
        {
            (Some(first), _) => (Some(first.clone()), "named by `--vm`".to_owned()),
            (None, Some(name)) => {
                let wrong = |_| name.wrong("a VM's name, without line break");
                let vm = name.value.parse().map_err(wrong)?;
                (Some(vm), format!("named by VM_NAME ({})", name.place))
            }
            (None, None) if file.default_vm.is_some() => (
                file.default_vm,
                "named by `default_vm` in the configuration".to_owned(),
            ),
            (None, None) => (None, String::new()),
        };
        let default_ssh = SshConfig {
            host: checked(vm_variable("VM_HOST")?, file::HOST, file::is_one_word)?,
            port: match vm_variable("VM_PORT")? {
                Some(port) => Some(parse_port(&port)?),
                None => None,
            },
            user: checked(vm_variable("VM_USER")?, file::USER, file::is_one_line)?,
            identity: match vm_variable("VM_IDENTITY")? {
                Some(path) => Some(host_path(path, env)?),
                None => None,
            },
            passphrase: None,
            password: vm_variable("VM_PASSWORD")?.map(|password| Secret::new(password.value)),
            host_keys: None,
        };
        let notices = vm_variable("VM_DISPLAY")?
            .map(|display| {
                format!(
                    "`VM_DISPLAY` ({}) is no longer needed: the screen is read from the host",
                    display.place
                )
            })
            .into_iter()
            .collect();

        let mut vms = file.vms;
        for name in overrides.vms {
            vms.entry(name).or_default();
        }
        let mut allow = file.allow.unwrap_or_else(Grants::standard);
        if let Some(replaced) = overrides.allow {
            allow = replaced.into_iter().collect();
            for vm in vms.values_mut() {
                vm.allow = None;
            }
        }
        if overrides.read_only {
            allow = only_view(&allow);
            for own in vms.values_mut().filter_map(|vm| vm.allow.as_mut()) {
                *own = only_view(own);
            }
        }

        Ok(Self {
            uri,
            default_vm,
            default_vm_place,
            vms,
            secrets: file.secrets,
            default_ssh,
            data_dir,
            host_folders: file.host_folders,
            working_dir: env.working_dir.clone(),
            home: env.home.clone(),
            allow,
            capture: file.capture.unwrap_or_default(),
            ocr_language: file.ocr_language.unwrap_or_default(),
            toolset,
            notices,
            config_file,
        })
    }

    /// What may be done with this VM. Only the default VM and those named are granted anything.
    pub fn grants(&self, vm: &VmName, is_default: bool) -> Grants {
        match self.vms.get(vm) {
            Some(config) => config.allow.clone().unwrap_or_else(|| self.allow.clone()),
            None if is_default => self.allow.clone(),
            None => Grants::none(),
        }
    }

    /// What may be done with any VM at all: what tools to list.
    pub fn grants_anywhere(&self) -> Grants {
        let default = match &self.default_vm {
            Some(vm) => self.grants(vm, true),
            // Found at run time only: it may be one that nothing else is said of.
            None => self.allow.clone(),
        };
        self.vms
            .keys()
            .flat_map(|vm| self.grants(vm, false).iter().collect::<Vec<_>>())
            .chain(default.iter())
            .collect()
    }

    /// The private keys that VMs are logged in to with.
    pub fn identities(&self) -> impl Iterator<Item = &Path> {
        let of_vms = self.vms.values().map(|vm| &vm.ssh);
        let all = of_vms.chain([&self.default_ssh]);
        all.filter_map(|ssh| ssh.identity.as_deref())
    }

    /// How to reach this VM over SSH: for the default VM, the environment before the file.
    pub fn ssh_for(&self, vm: &VmName, is_default: bool) -> SshConfig {
        let file = self
            .vms
            .get(vm)
            .map(|vm| vm.ssh.clone())
            .unwrap_or_default();
        if is_default {
            self.default_ssh.clone().or(file)
        } else {
            file
        }
    }

    /// Refuses the first keyboard layout that `check` refuses, which tells what would be accepted. Who
    /// loads the configuration calls it: which layouts there are, only the keyboard's room knows.
    pub fn check_keymaps(
        &self,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<(), ConfigError> {
        for keymap in self.vms.values().filter_map(|vm| vm.keymap.as_ref()) {
            check(&keymap.name).map_err(|allowed| ConfigError::WrongValue {
                place: keymap.place.clone(),
                key: keymap.key.clone(),
                found: format!("{:?}", keymap.name),
                allowed,
            })?;
        }
        Ok(())
    }

    /// The layout of this VM's guest, `layout` or `layout:variant`.
    pub fn keymap(&self, vm: &VmName) -> &str {
        let own = self.vms.get(vm).and_then(|vm| vm.keymap.as_ref());
        own.map_or(DEFAULT_KEYMAP, |keymap| &keymap.name)
    }

    /// How this VM's guest takes characters that its layout lacks, if it does.
    pub fn unicode(&self, vm: &VmName) -> Option<UnicodeInput> {
        self.vms.get(vm)?.unicode
    }

    /// The long edge in pixels of the picture that is shown of this VM; 0 is native size.
    pub fn long_edge(&self, vm: &VmName) -> u32 {
        self.vms
            .get(vm)
            .and_then(|vm| vm.long_edge)
            .unwrap_or(DEFAULT_LONG_EDGE)
    }

    /// The time between two characters that are typed on this VM, at least.
    pub fn typing_interval(&self, vm: &VmName) -> Duration {
        let own = self.vms.get(vm).and_then(|vm| vm.typing_interval);
        own.unwrap_or_default()
    }

    /// Where this VM's heads lie on its guest's desktop.
    pub fn heads(&self, vm: &VmName) -> Vec<Point> {
        self.vms
            .get(vm)
            .map(|vm| vm.heads.clone())
            .unwrap_or_default()
    }

    /// The language that this VM's screen is read in by OCR.
    pub fn ocr_language(&self, vm: &VmName) -> OcrLanguage {
        let own = self.vms.get(vm).and_then(|vm| vm.ocr_language.as_ref());
        own.unwrap_or(&self.ocr_language).clone()
    }
}

/// What of the grants is only looking.
fn only_view(grants: &Grants) -> Grants {
    let view = Grants::read_only();
    grants.iter().filter(|it| view.has(*it)).collect()
}

/// The config file and what it says. That the default file is missing is no error.
fn read_file(
    given: Option<&Path>,
    env: &Environment,
) -> Result<(Option<PathBuf>, FileConfig), ConfigError> {
    let path = match given {
        Some(path) => Some(command_line_path("--config", path, env)?),
        None => env
            .xdg("XDG_CONFIG_HOME")
            .or_else(|| Some(env.home.as_ref()?.join(".config")))
            .map(|folder| folder.join("virtpilot/config.toml")),
    };
    let Some(path) = path else {
        return Ok((None, FileConfig::default()));
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && given.is_none() => {
            return Ok((None, FileConfig::default()));
        }
        Err(source) => return Err(ConfigError::Unreadable { file: path, source }),
    };
    let file = file::parse(&text, &path, env.home.as_deref())?;
    Ok((Some(path), file))
}

fn uri(
    given: Option<String>,
    file: Option<String>,
    env: &Environment,
) -> Result<String, ConfigError> {
    let given = given.map(|value| Setting {
        key: "--uri",
        value,
        place: Place::CommandLine,
    });
    let setting = match given {
        Some(given) => Some(given),
        None => env.variable("LIBVIRT_DEFAULT_URI")?,
    };
    match setting {
        Some(setting) if file::is_one_word(&setting.value) => Ok(setting.value),
        Some(setting) => Err(setting.wrong(file::URI)),
        None => Ok(file.unwrap_or_else(|| DEFAULT_URI.to_owned())),
    }
}

fn data_dir(
    given: Option<PathBuf>,
    file: Option<PathBuf>,
    env: &Environment,
) -> Result<PathBuf, ConfigError> {
    if let Some(path) = given {
        return command_line_path("--data-dir", &path, env);
    }
    if let Some(path) = env.variable("VIRTPILOT_DATA_DIR")? {
        return host_path(path, env);
    }
    if let Some(path) = file {
        return Ok(path);
    }
    let folder = env
        .xdg("XDG_DATA_HOME")
        .or_else(|| Some(env.home.as_ref()?.join(".local/share")));
    folder
        .map(|folder| folder.join("virtpilot"))
        .ok_or(ConfigError::NoDataDir)
}

fn toolset(given: Option<String>, file: Option<Toolset>) -> Result<Toolset, ConfigError> {
    let Some(value) = given else {
        return Ok(file.unwrap_or_default());
    };
    let setting = Setting {
        key: "--toolset",
        value,
        place: Place::CommandLine,
    };
    let known = setting.value.parse();
    known.map_err(|UnknownToolset| setting.wrong(Toolset::allowed()))
}

fn checked(
    setting: Option<Setting>,
    allowed: &str,
    is_good: fn(&str) -> bool,
) -> Result<Option<String>, ConfigError> {
    match setting {
        Some(setting) if !is_good(&setting.value) => Err(setting.wrong(allowed)),
        setting => Ok(setting.map(|setting| setting.value)),
    }
}

fn parse_port(setting: &Setting) -> Result<u16, ConfigError> {
    setting
        .value
        .parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| setting.wrong(file::PORT))
}

/// A path from the environment: `~/` is the home folder, a relative one starts at the working
/// directory.
fn host_path(setting: Setting, env: &Environment) -> Result<PathBuf, ConfigError> {
    let Some(path) = expand_home(&setting.value, env.home.as_deref()) else {
        return Err(ConfigError::HomeUnknown {
            place: setting.place,
            key: setting.key.to_owned(),
        });
    };
    Ok(env.working_dir.join(path))
}

/// Like [`host_path`]; clients start the server without a shell that would expand `~/`.
fn command_line_path(
    key: &'static str,
    path: &Path,
    env: &Environment,
) -> Result<PathBuf, ConfigError> {
    let place = Place::CommandLine;
    match path.to_str() {
        Some("") => Err(ConfigError::WrongValue {
            place,
            key: key.to_owned(),
            found: "empty".to_owned(),
            allowed: "a path".to_owned(),
        }),
        Some(text) => {
            let value = text.to_owned();
            host_path(Setting { key, value, place }, env)
        }
        None => Ok(env.working_dir.join(path)),
    }
}

/// The path with `~` or a leading `~/` put as the home folder; `None` where that is needed and
/// unknown.
fn expand_home(text: &str, home: Option<&Path>) -> Option<PathBuf> {
    if text == "~" {
        return home.map(Path::to_owned);
    }
    match text.strip_prefix("~/") {
        Some(rest) => Some(home?.join(rest.trim_start_matches('/'))),
        None => Some(PathBuf::from(text)),
    }
}
