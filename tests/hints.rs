//! Every failure says what to do next, and no hint names something that does not exist.
//!
//! Each error enum is matched in full here, so that a new variant fails to compile until it is listed, and
//! fails the test until there is an example of it.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "hints/examples.rs"]
mod examples;

use std::{collections::BTreeSet, fs, io, path::Path, process::Command};

use clap::CommandFactory;
use virtpilot::{
    cli::CommandLine,
    config::{Config, ConfigError, Environment, Toolset},
    fleet::FleetError,
    hypervisor::{DomainState, FullName, HypervisorError},
    model::{Act, Capability, Grants},
    ssh::{Endpoint, SshError},
    store::{PathError, StoreError},
    tools,
};

use examples::Told;

/// Programs that hints name, and the Debian package that brings each.
const PROGRAMS: [(&str, &str); 26] = [
    ("apt-get", "apt"),
    ("chmod", "coreutils"),
    ("df", "coreutils"),
    ("dnf", "dnf"),
    ("journalctl", "systemd"),
    ("kill", "procps"),
    ("libvirtd", "libvirt-daemon"),
    ("ls", "coreutils"),
    ("mkdir", "coreutils"),
    ("namei", "util-linux"),
    ("pacman", "pacman-package-manager"),
    ("ps", "procps"),
    ("psfaddtable", "kbd"),
    ("sed", "sed"),
    ("setfont", "kbd"),
    ("setsid", "util-linux"),
    ("ssh", "openssh-client"),
    ("ssh-add", "openssh-client"),
    ("ssh-copy-id", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sudo", "sudo"),
    ("systemctl", "systemd"),
    ("tar", "tar"),
    ("tesseract", "tesseract-ocr"),
    ("usermod", "passwd"),
    ("virtlogd", "libvirt-daemon"),
];

/// Keywords of ssh_config(5), of sshd_config(5) and of its AUTHORIZED_KEYS format.
const SSH_WORDS: [&str; 12] = [
    "AllowTcpForwarding",
    "ForceCommand",
    "HostName",
    "IdentityFile",
    "MaxSessions",
    "PermitOpen",
    "Port",
    "ProxyCommand",
    "ProxyJump",
    "Subsystem sftp",
    "User",
    "command=",
];

/// What else stands in backticks: examples of values, and parts of files that others define.
const EXAMPLES: [&str; 18] = [
    ".pub",
    "..",
    "+",
    "<devices>",
    "<serial type='pty'/>",
    "<video><model type='vga'/></video>",
    "_",
    "absolute",
    "action",
    "condition",
    "console=ttyS0",
    "created_at",
    "ctrl+shift",
    "openssh-sftp-server",
    "report.txt",
    "sudo",
    "~",
    "~/file",
];

/// Names that exist, as hints may use them.
struct Known {
    tools: BTreeSet<String>,
    parameters: BTreeSet<String>,
    config_keys: BTreeSet<&'static str>,
    options: BTreeSet<String>,
}

impl Known {
    fn find() -> Self {
        let mut tools = BTreeSet::new();
        let mut parameters = BTreeSet::new();
        let references = Toolset::ALL.map(tools::reference);
        for line in references.iter().flat_map(|it| it.lines()) {
            let Some((name, rest)) = line
                .strip_prefix("| `")
                .and_then(|line| line.split_once('('))
            else {
                continue;
            };
            tools.insert(name.to_owned());
            let (list, _) = rest.split_once(")`").unwrap();
            for parameter in list.split(", ") {
                let name = parameter.trim_matches(['[', ']']).split('=').next();
                parameters.insert(name.unwrap().to_owned());
            }
        }
        assert!(tools.contains("take_screenshot") && parameters.contains("keys"));
        let command = CommandLine::command();
        let commands = command.get_subcommands().chain([&command]);
        let options = commands
            .flat_map(clap::Command::get_arguments)
            .filter_map(|option| Some(format!("--{}", option.get_long()?)))
            .collect();
        let config_keys = ["", "[vm.x]\n", "[vm.x.ssh]\n", "[secret.x]\n"]
            .into_iter()
            .flat_map(|table| config_keys(table).iter().copied())
            .collect();
        Self {
            tools,
            parameters,
            config_keys,
            options,
        }
    }

    fn has(&self, word: &str) -> bool {
        self.tools.contains(word)
            || self.parameters.contains(word)
            || self.config_keys.contains(word)
            || self.options.contains(word)
            || word.parse::<Capability>().is_ok()
            || Act::NAMES.contains(&word)
    }
}

/// Reads a config file of this text.
fn load(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let environment = Environment {
        home: Some("/home/somebody".into()),
        working_dir: folder.path().to_owned(),
        ..Environment::default()
    };
    let overrides = virtpilot::config::Overrides {
        config: Some(file),
        ..Default::default()
    };
    Config::load(overrides, &environment)
}

/// What a table takes, in the words of the refusal of what it does not take.
fn config_keys(table: &str) -> &'static [&'static str] {
    match load(&format!("{table}no_such_key = 1\n")) {
        Err(ConfigError::UnknownKey { allowed, .. }) => allowed,
        other => panic!("{table}: {other:?}"),
    }
}

/// What stands in backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn check_span(span: &str, known: &Known) -> Result<(), String> {
    let is_known =
        |word: &str| known.has(word) || SSH_WORDS.contains(&word) || EXAMPLES.contains(&word);
    // Variables are looked at wherever they stand.
    if is_known(span) || variables(span).eq([span]) {
        return Ok(());
    }
    if span.starts_with('<') {
        let tablet = fs::read_to_string(in_repository("guest-setup/tablet.xml")).unwrap();
        return tablet
            .lines()
            .any(|line| line == span)
            .then_some(())
            .ok_or("it is not in guest-setup/tablet.xml".to_owned());
    }
    if let Some((key, _)) = span.split_once(" = ") {
        return known
            .config_keys
            .contains(key)
            .then_some(())
            .ok_or(format!("{key} is no key of the configuration"));
    }
    span.split(" && ").try_for_each(check_command)
}

/// A shell line that a hint advises.
fn check_command(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["sudo", rest @ ..] => check_command(&rest.join(" ")),
        ["virsh", "-c", _, rest @ ..] => check_virsh(rest),
        // Where the user is not root, it would look at another libvirt than the server does.
        ["virsh", ..] => Err("virsh without a URI".to_owned()),
        [program, ..] if PROGRAMS.iter().any(|(name, _)| name == program) => Ok(()),
        _ => Err(format!("what is `{line}`?")),
    }
}

/// Asks virsh itself whether it has this command with these options.
fn check_virsh(words: &[&str]) -> Result<(), String> {
    let Some((command, rest)) = words.split_first() else {
        return Err("virsh without a command".to_owned());
    };
    let help = Command::new("virsh")
        .args(["help", command])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&help.stdout);
    if !help.status.success() {
        return Err(format!("virsh has no {command}"));
    }
    match rest
        .iter()
        .find(|word| word.starts_with("--") && !text.contains(**word))
    {
        Some(option) => Err(format!("virsh {command} has no {option}")),
        None => Ok(()),
    }
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Names such as VM_HOST.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !is_part(c)).filter(|word| {
        let is_loud = |c: char| c.is_ascii_uppercase() || c == '_';
        word.contains('_') && word.len() > 1 && word.chars().all(is_loud)
    })
}

/// Options that stand outside of a shell line.
fn options(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split('`').enumerate();
    outside
        .filter(|(at, part)| at % 2 == 0 || known_alone(part))
        .flat_map(|(_, part)| part.split([' ', ',', ';', '.', ':', ')']))
        .filter(|word| word.starts_with("--"))
}

/// Whether backticks hold an option of ours, with its value perhaps: `--vm NAME`.
fn known_alone(span: &str) -> bool {
    span.starts_with("--")
}

fn check(hint: &str, known: &Known) -> Result<(), String> {
    let settings = include_str!("../src/config/environment.rs");
    for name in variables(hint) {
        let is_ours = settings.contains(&format!("\"{name}\""));
        if !is_ours && name != "SSH_AUTH_SOCK" {
            return Err(format!("{name} is no variable"));
        }
    }
    for option in options(hint) {
        if !known.options.contains(option) {
            return Err(format!("{option} is no option"));
        }
    }
    for word in hint.split_whitespace() {
        if let Some(path) = word.find("guest-setup/").map(|at| &word[at..]) {
            let path = path.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            if !in_repository(path).exists() {
                return Err(format!("there is no {path}"));
            }
        }
    }
    spans(hint)
        .filter(|span| !known_alone(span))
        .try_for_each(|span| check_span(span, known).map_err(|what| format!("`{span}`: {what}")))
}

#[test]
fn every_failure_says_what_to_do_with_things_that_exist() {
    let known = Known::find();
    let mut wrong = vec![];
    for Told { name, hint } in examples::all() {
        let is_sentence = hint.trim_end().ends_with(['.', ']', '}']);
        if hint.len() < 15 || !is_sentence {
            wrong.push(format!("{name}: no hint: {hint:?}"));
        }
        if hint.matches('`').count() % 2 != 0 {
            wrong.push(format!("{name}: a backtick is missing: {hint}"));
        }
        if let Err(what) = check(&hint, &known) {
            wrong.push(format!("{name}: {what}, in: {hint}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_finds_what_does_not_exist() {
    let known = Known::find();
    let cases = [
        (
            "Call `take_picture`.",
            "`take_picture`: what is `take_picture`?",
        ),
        ("Set `sshd`.", "`sshd`: what is `sshd`?"),
        (
            "Set `portt = 22`.",
            "`portt = 22`: portt is no key of the configuration",
        ),
        (
            "Run `virsh start vm`.",
            "`virsh start vm`: virsh without a URI",
        ),
        (
            "Run `virsh -c x begin vm`.",
            "`virsh -c x begin vm`: virsh has no begin",
        ),
        (
            "Run `virsh -c x start vm --soon`.",
            "`virsh -c x start vm --soon`: virsh start has no --soon",
        ),
        (
            "Run `sudo virtctl vm`.",
            "`sudo virtctl vm`: what is `virtctl vm`?",
        ),
        ("Set VM_PROT.", "VM_PROT is no variable"),
        ("Give --datadir.", "--datadir is no option"),
        ("Start it with `--vms NAME`.", "--vms is no option"),
        (
            "See guest-setup/tablets.xml.",
            "there is no guest-setup/tablets.xml",
        ),
        (
            "Put `<input type='tablet'/>` there.",
            "`<input type='tablet'/>`: it is not in guest-setup/tablet.xml",
        ),
    ];
    for (hint, what) in cases {
        assert_eq!(check(hint, &known).unwrap_err(), what);
    }
    check(
        "Call `ssh_execute` with `timeout`, set `host_keys = \"strict\"` or VM_HOST, run `virsh -c x list \
         --all`, start with `--vm NAME` or --data-dir, see guest-setup/tablet.xml.",
        &known,
    )
    .unwrap();
}

/// What hints print for the config file is what the config file takes.
#[test]
fn configuration_that_hints_print_can_be_used() {
    let mut printed = 0;
    for Told { name, hint } in examples::all() {
        let table = hint.find("\n[vm.").map(|at| &hint[at + 1..]);
        let line = hint.find("host_folders = ").map(|at| &hint[at..]);
        let Some(text) = table.or(line) else {
            continue;
        };
        let lines = text
            .lines()
            .take_while(|line| line.starts_with('[') || line.contains(" = "));
        let text = lines.collect::<Vec<_>>().join("\n");
        if let Err(error) = load(&text) {
            panic!("{name}: {error}: {text}");
        }
        printed += 1;
    }
    assert_eq!(printed, 6, "examples of hints with configuration");
}

/// What a person copies into a shell arrives as it was meant.
#[test]
fn shell_lines_of_hints_keep_odd_names_whole() {
    let vm = || "Ann's VM".parse().unwrap();
    let path = || "/data/my files".into();
    let denied = || io::ErrorKind::PermissionDenied.into();
    let cases = [
        (
            FleetError::NotGranted {
                vm: vm(),
                capability: Capability::View,
                grants: Grants::none(),
                is_named: false,
            }
            .hint(),
            r"`--vm 'Ann'\''s VM'`",
        ),
        (
            HypervisorError::NotRunning {
                vm: FullName {
                    uri: "qemu+ssh://host/system?no_tty=1".into(),
                    name: vm(),
                },
                state: DomainState::Shutoff,
            }
            .hint(),
            r"`virsh -c 'qemu+ssh://host/system?no_tty=1' start 'Ann'\''s VM'`",
        ),
        (
            SshError::LockedIdentity { path: path() }.hint(),
            "`ssh-add '/data/my files'`",
        ),
        (
            SshError::AuthenticationFailed {
                endpoint: Endpoint {
                    host: "fe80::1%eth0".into(),
                    port: 22,
                },
                user: "DOMAIN\\ann".into(),
                tried: vec![],
                accepted: vec![],
            }
            .hint(),
            r"`ssh-copy-id -p 22 'DOMAIN'\\'ann@fe80::1%eth0'`",
        ),
        (
            StoreError::Read {
                path: path(),
                source: denied(),
            }
            .hint(),
            "`ls -ld '/data/my files'`",
        ),
        (
            PathError::LookUp {
                path: path(),
                source: denied(),
            }
            .hint(),
            "`namei -l '/data/my files'`",
        ),
    ];
    for (hint, line) in cases {
        assert!(hint.contains(line), "{line}, in: {hint}");
    }
}

/// What cannot be read is not helped by another folder to write in.
#[test]
fn what_the_guest_does_not_permit_is_helped_by_what_was_tried() {
    let to_write = "Choose a folder of that user, and move the file with `sudo` afterwards.";
    let to_read = "Copy it with `sudo` to where that user can read it, and download that.";
    let either = "Choose a folder that this user can enter, and copy to or from there with `sudo`.";
    let table = [
        ("read", to_read),
        ("list", to_read),
        ("read the link", to_read),
        ("look at", either),
        ("find", either),
        ("write", to_write),
        ("write in", to_write),
        ("replace", to_write),
        ("make the folder", to_write),
        ("make the link", to_write),
    ];
    for (act, expected) in table {
        let denied = SshError::RemoteDenied {
            user: "ann".into(),
            act,
            path: "/root/file".into(),
        };
        assert_eq!(denied.hint(), expected, "{act}");
    }
}

/// Failures that the tools make themselves are no enum: their hints are read off the sources.
#[test]
fn hints_of_the_tools_own_failures_name_what_exists() {
    let known = Known::find();
    let mut seen = 0;
    for entry in fs::read_dir(in_repository("src/tools")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for call in text.split("ToolError::new(").skip(1) {
            let end = call
                .find(')')
                .filter(|_| true)
                .map_or(call.len(), |_| closing(call));
            for literal in literals(&call[..end]) {
                // What is filled in is not known here.
                if !literal.contains('{')
                    && let Err(what) = check(&literal, &known)
                {
                    panic!("{}: {what}, in: {literal}", path.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "the sources are not as they were: {seen}");
}

/// Where the bracket closes that was open before the text.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    let mut in_string = false;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '"' if before != '\\' => in_string = !in_string,
            '(' if !in_string => depth += 1,
            ')' if !in_string => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
        before = c;
    }
    text.len()
}

/// String literals, their line continuations taken out.
fn literals(text: &str) -> Vec<String> {
    let text = text.replace("\\\"", "\u{1}");
    let inner = text.split('"').skip(1).step_by(2);
    inner
        .map(|literal| {
            let mut joined = String::new();
            for (at, part) in literal.split("\\\n").enumerate() {
                joined.push_str(if at == 0 { part } else { part.trim_start() });
            }
            joined.replace('\u{1}', "\"")
        })
        .collect()
}
