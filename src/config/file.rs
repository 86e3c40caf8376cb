//! What the config file may say: its tables, their keys and the values that each takes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Keymap, SecretSource, SshConfig, Toolset, VmConfig,
    document::{Document, Entry, Keys},
    error::ConfigError,
};
use crate::model::{
    Capability, CaptureMode, Grants, HostKeyPolicy, OcrLanguage, Point, TypeText, UnicodeInput,
    VmName, grant::BadCapability,
};

/// What the config file says; nothing where it says nothing.
#[derive(Debug, Default)]
pub(super) struct FileConfig {
    pub(super) uri: Option<String>,
    pub(super) default_vm: Option<VmName>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) host_folders: Vec<PathBuf>,
    pub(super) allow: Option<Grants>,
    pub(super) capture: Option<CaptureMode>,
    pub(super) ocr_language: Option<OcrLanguage>,
    pub(super) toolset: Option<Toolset>,
    pub(super) vms: BTreeMap<VmName, VmConfig>,
    pub(super) secrets: BTreeMap<String, SecretSource>,
}

const TOP: Keys = Keys {
    now: &[
        "uri",
        "default_vm",
        "data_dir",
        "host_folders",
        "allow",
        "capture",
        "ocr_language",
        "toolset",
        "vm",
        "secret",
    ],
    later: &[],
};
const VM: Keys = Keys {
    now: &[
        "keymap",
        "typing_interval_ms",
        "unicode",
        "long_edge",
        "allow",
        "ocr_language",
        "heads",
        "ssh",
    ],
    later: &[],
};
const SSH: Keys = Keys {
    now: &[
        "host",
        "port",
        "user",
        "identity",
        "passphrase",
        "host_keys",
    ],
    later: &[],
};
const SECRET: Keys = Keys {
    now: &["env", "file", "command"],
    later: &[],
};

const VM_NAME: &str = "a VM's name: not empty, without NUL or line break";
pub(super) const URI: &str = "a libvirt URI such as \"qemu:///system\"";
pub(super) const HOST: &str = "a host name or address, without spaces";
pub(super) const USER: &str = "a user name, without control characters";
pub(super) const PORT: &str = "a port, 1 to 65535";
const OCR_LANGUAGE: &str = "languages as Tesseract names them, joined by `+`: \"eng\", \"eng+deu\"";
const TYPING_INTERVAL: &str = "0 (as fast as is safe) to 1000 milliseconds";
const KEYMAP: &str = "the name of a keyboard layout, such as \"de\" or \"us:dvorak\"";
const SECRET_NAME: &str = "a secret's name, without spaces and control characters";
const KNOWN_SECRET: &str = "the name of a secret that stands under [secret.NAME]";
const ONE_SOURCE: &str = "a table with one of env, file, command";
const VARIABLE: &str = "the name of an environment variable: letters, digits and `_`";
const COMMAND: &str = "a list of texts: a program and its arguments";
const HEADS: &str = "a list of the heads' upper left corners on the guest's desktop, each [x, y] from 0 to \
                     32767: [[0, 0], [1280, 0]]";
const HEADS_MOST: i32 = 32767;
const LONG_EDGE: &str = "0 (native size), or 100 to 8192 pixels";

/// Reads the text of `file`. `~/` stands for `home`.
pub(super) fn parse(
    text: &str,
    file: &Path,
    home: Option<&Path>,
) -> Result<FileConfig, ConfigError> {
    let document = Document::new(file, text, home);
    let mut top = document.table(TOP)?;

    let mut secrets = BTreeMap::new();
    if let Some(section) = top.take("secret") {
        for secret in section.hidden().named_entries()? {
            let (name, source) = secret_section(secret)?;
            secrets.insert(name, source);
        }
    }
    let mut vms = BTreeMap::new();
    if let Some(section) = top.take("vm") {
        for vm in section.named_entries()? {
            let (name, config) = vm_section(vm, &secrets)?;
            vms.insert(name, config);
        }
    }
    Ok(FileConfig {
        uri: top.read("uri", |entry| entry.text(URI, is_one_word))?,
        default_vm: top.read("default_vm", vm_name)?,
        data_dir: top.read("data_dir", Entry::path)?,
        host_folders: match top.take("host_folders") {
            Some(entry) => entry
                .items("a list of paths")?
                .map(|item| item.path())
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        },
        allow: top.take("allow").map(grants).transpose()?,
        capture: top.read("capture", |entry| {
            one_of(entry, CaptureMode::ALL, CaptureMode::as_str)
        })?,
        ocr_language: top.read("ocr_language", ocr_language)?,
        toolset: top.read("toolset", |entry| {
            one_of(entry, Toolset::ALL, Toolset::as_str)
        })?,
        vms,
        secrets,
    })
}

fn vm_section(
    entry: Entry<'_, '_>,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<(VmName, VmConfig), ConfigError> {
    let Ok(name) = entry.name.parse() else {
        return Err(entry.wrong(VM_NAME));
    };
    let mut vm = entry.table(VM)?;
    Ok((
        name,
        VmConfig {
            typing_interval: vm.read("typing_interval_ms", typing_interval)?,
            keymap: vm.read("keymap", keymap)?,
            unicode: vm.read("unicode", |entry| {
                one_of(entry, UnicodeInput::ALL, UnicodeInput::as_str)
            })?,
            long_edge: vm.read("long_edge", long_edge)?,
            allow: vm.take("allow").map(grants).transpose()?,
            ocr_language: vm.read("ocr_language", ocr_language)?,
            heads: vm.take("heads").map(heads).transpose()?.unwrap_or_default(),
            ssh: vm
                .take("ssh")
                .map(|ssh| ssh_section(ssh, secrets))
                .transpose()?
                .unwrap_or_default(),
        },
    ))
}

fn heads(entry: Entry<'_, '_>) -> Result<Vec<Point>, ConfigError> {
    let wrong = entry.wrong(HEADS);
    let place = |item: Entry<'_, '_>| -> Result<Option<Point>, ConfigError> {
        let axes = item.items(HEADS)?.map(|axis| {
            let at = axis.number().and_then(|at| i32::try_from(at).ok());
            at.filter(|at| (0..=HEADS_MOST).contains(at))
        });
        let axes: Option<Vec<i32>> = axes.collect();
        Ok(match axes.as_deref() {
            Some(&[x, y]) => Some(Point { x, y }),
            _ => None,
        })
    };
    let places = entry
        .items(HEADS)?
        .map(place)
        .collect::<Result<Option<Vec<_>>, _>>()?;
    places.filter(|it| !it.is_empty()).ok_or(wrong)
}

fn ssh_section(
    entry: Entry<'_, '_>,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<SshConfig, ConfigError> {
    let mut ssh = entry.table(SSH)?;
    Ok(SshConfig {
        host: ssh.read("host", |entry| entry.text(HOST, is_one_word))?,
        port: ssh.read("port", port)?,
        user: ssh.read("user", |entry| entry.text(USER, is_one_line))?,
        identity: ssh.read("identity", Entry::path)?,
        passphrase: match ssh.take("passphrase") {
            Some(name) => Some(secret_name(name, secrets)?),
            None => None,
        },
        password: None,
        host_keys: ssh.read("host_keys", |entry| {
            one_of(entry, HostKeyPolicy::ALL, HostKeyPolicy::as_str)
        })?,
    })
}

/// The name of a secret that there is. What stands there may be the secret itself, and is not shown.
fn secret_name(
    entry: Entry<'_, '_>,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<String, ConfigError> {
    let entry = entry.hidden();
    let name = entry.as_text().filter(|name| secrets.contains_key(*name));
    name.map(str::to_owned)
        .ok_or_else(|| entry.wrong(KNOWN_SECRET))
}

fn secret_section(entry: Entry<'_, '_>) -> Result<(String, SecretSource), ConfigError> {
    if !is_one_word(&entry.name) {
        return Err(entry.wrong(SECRET_NAME));
    }
    let name = entry.name.clone();
    let not_one = entry.wrong(ONE_SOURCE);
    if !entry.is_table() {
        return Err(not_one);
    }
    let mut secret = entry.table(SECRET)?;
    let variable = secret.read("env", |entry| entry.text(VARIABLE, is_variable))?;
    let file = secret.read("file", Entry::path)?;
    let command = secret.take("command").map(command).transpose()?;
    let source = match (variable, file, command) {
        (Some(variable), None, None) => SecretSource::Env(variable),
        (None, Some(file), None) => SecretSource::File(file),
        (None, None, Some(command)) => command,
        _ => return Err(not_one),
    };
    Ok((name, source))
}

fn command(entry: Entry<'_, '_>) -> Result<SecretSource, ConfigError> {
    let empty = entry.wrong(COMMAND);
    let words: Vec<String> = entry
        .items(COMMAND)?
        .map(|word| word.text(COMMAND, |text| !text.contains('\0')))
        .collect::<Result<_, _>>()?;
    match words.split_first() {
        Some((program, arguments)) if !program.is_empty() => Ok(SecretSource::Command {
            program: program.clone(),
            arguments: arguments.to_vec(),
        }),
        _ => Err(empty),
    }
}

fn is_variable(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_part)
}

/// Not empty, no white space, no control characters.
pub(super) fn is_one_word(text: &str) -> bool {
    is_one_line(text) && !text.contains(char::is_whitespace)
}

/// Not empty, no control characters.
pub(super) fn is_one_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn vm_name(entry: &Entry<'_, '_>) -> Result<VmName, ConfigError> {
    let name = entry.as_text().and_then(|text| text.parse().ok());
    name.ok_or_else(|| entry.wrong(VM_NAME))
}

fn grants(entry: Entry<'_, '_>) -> Result<Grants, ConfigError> {
    let allowed = Capability::ALL.map(Capability::as_str).join(", ");
    entry
        .items(&format!("a list of {allowed}"))?
        .map(|item| match item.as_text().map(str::parse::<Capability>) {
            Some(Ok(capability)) => Ok(capability),
            Some(Err(BadCapability::NotYet(_))) => Err(item.not_yet(&*allowed)),
            Some(Err(BadCapability::Unknown(_))) | None => Err(item.wrong(&*allowed)),
        })
        .collect()
}

/// Whether there is such a layout, is known to the keyboard.
fn keymap(entry: &Entry<'_, '_>) -> Result<Keymap, ConfigError> {
    let name = entry.as_text().ok_or_else(|| entry.wrong(KEYMAP))?;
    Ok(Keymap {
        name: name.to_owned(),
        key: entry.key().to_owned(),
        place: entry.place(),
    })
}

fn ocr_language(entry: &Entry<'_, '_>) -> Result<OcrLanguage, ConfigError> {
    let language = entry.as_text().and_then(|text| text.parse().ok());
    language.ok_or_else(|| entry.wrong(OCR_LANGUAGE))
}

fn typing_interval(entry: &Entry<'_, '_>) -> Result<Duration, ConfigError> {
    entry
        .number()
        .and_then(|number| u64::try_from(number).ok())
        .filter(|&milliseconds| milliseconds <= TypeText::MAX_INTERVAL_MS.into())
        .map(Duration::from_millis)
        .ok_or_else(|| entry.wrong(TYPING_INTERVAL))
}

fn long_edge(entry: &Entry<'_, '_>) -> Result<u32, ConfigError> {
    entry
        .number()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|&pixels| pixels == 0 || (100..=8192).contains(&pixels))
        .ok_or_else(|| entry.wrong(LONG_EDGE))
}

fn port(entry: &Entry<'_, '_>) -> Result<u16, ConfigError> {
    entry
        .number()
        .and_then(|number| u16::try_from(number).ok())
        .filter(|&port| port != 0)
        .ok_or_else(|| entry.wrong(PORT))
}

/// One of a few words.
fn one_of<T: Copy, const N: usize>(
    entry: &Entry<'_, '_>,
    all: [T; N],
    word: fn(T) -> &'static str,
) -> Result<T, ConfigError> {
    let text = entry.as_text();
    let value = all.into_iter().find(|value| Some(word(*value)) == text);
    value.ok_or_else(|| entry.wrong(all.map(|value| format!("{:?}", word(value))).join(" or ")))
}
