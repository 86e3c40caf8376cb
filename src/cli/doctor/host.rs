//! The host's side: configuration, data folder, libvirt and who may reach it, grants.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    process::Command,
};

use crate::{
    config::Config,
    fleet::Fleet,
    hypervisor::{Domain, DomainState, HypervisorError},
    model::{Capability, Grants, OcrLanguage, VmName, shell_word},
    ocr::{Ocr, OcrError, debian_package},
    tools::ToolError,
    vm::VmError,
};

use super::report::Check;

/// Where the host's own libvirt listens: the one daemon of old, or that of QEMU alone.
const SOCKETS: [&str; 2] = ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"];

/// What a project needs at once; less free space than this will not do for long.
const ROOM: usize = 1 << 20;

pub(super) fn configuration(config: &Config) -> Check {
    const NAME: &str = "configuration";
    let file = match &config.config_file {
        Some(file) => file.display().to_string(),
        None => "no file, the defaults".to_owned(),
    };
    if config.notices.is_empty() {
        Check::ok(NAME, file)
    } else {
        Check::note(NAME, format!("{file}\n{}", config.notices.join("\n")))
    }
}

/// The folder need not exist yet; then the nearest one above it must be one to write in.
pub(super) fn data_folder(config: &Config) -> Check {
    const NAME: &str = "data folder";
    let folder = &config.data_dir;
    let existing = folder
        .ancestors()
        .find(|it| it.symlink_metadata().is_ok())
        .unwrap_or(Path::new("/"));
    let shown = folder.display();
    let quoted = shell_word(&shown);
    match can_keep_files(existing) {
        Ok(()) if existing == folder => Check::ok(NAME, shown.to_string()),
        Ok(()) => Check::ok(NAME, format!("{shown}, made when it is needed")),
        Err(error) => {
            let check = Check::failed(NAME, format!("nothing can be written to {shown}: {error}"));
            match error.kind() {
                io::ErrorKind::PermissionDenied => check
                    .advice("Make it yours, or choose another one with --data-dir:")
                    .command(format!(
                        "sudo install -d -o \"$(id -un)\" -g \"$(id -gn)\" {quoted}"
                    )),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => check
                    .advice("Free some space, or choose another folder with --data-dir:")
                    .command(format!(
                        "df -h {}",
                        shell_word(existing.display())
                    )),
                _ => check.advice(
                    "Put a folder there that can be written to, or choose another one with --data-dir.",
                ),
            }
        }
    }
}

/// Writes a file that has no name, so that nothing is left of it.
fn can_keep_files(folder: &Path) -> io::Result<()> {
    tempfile::tempfile_in(folder)?.write_all(&vec![0; ROOM])
}

/// What reads screens that are no text consoles. All else works without it.
pub(super) async fn ocr(language: &OcrLanguage) -> Check {
    const NAME: &str = "OCR";
    let ocr = Ocr::new(language.clone());
    match (ocr.ready().await, ocr.version().await) {
        (Ok(()), Ok(version)) => Check::ok(NAME, format!("{version}, language `{language}`")),
        (Err(error), _) | (_, Err(error)) => {
            let check = Check::note(NAME, error.to_string());
            match &error {
                OcrError::Missing { .. } => check
                    .advice("Screens that are no text consoles cannot be read; all else works. Install it:")
                    .command("sudo apt-get install tesseract-ocr"),
                OcrError::Language { missing, .. } => check
                    .advice("Screens that are no text consoles cannot be read; all else works. Install it:")
                    .command(format!("sudo apt-get install {}", debian_package(missing))),
                _ => check.advice(error.hint()),
            }
        }
    }
}

pub(super) fn libvirt(uri: &str, domains: &[Domain]) -> Check {
    const NAME: &str = "libvirt";
    let running = domains
        .iter()
        .filter(|it| it.state == DomainState::Running)
        .count();
    let text = format!(
        "{uri} answers; it has {} VMs, {running} of them running",
        domains.len()
    );
    if domains.is_empty() {
        return Check::failed(NAME, text).advice(
            "Make a VM with virt-manager or virt-install, or connect to another libvirt: --uri, \
             LIBVIRT_DEFAULT_URI or `uri` in the configuration. VMs of your own session are at \
             qemu:///session.",
        );
    }
    Check::ok(NAME, text)
}

/// VMs that the configuration speaks of and libvirt does not have: what is said there holds for none.
pub(super) fn strangers(config: &Config, domains: &[Domain]) -> Option<Check> {
    let strangers: Vec<_> = config
        .vms
        .keys()
        .filter(|name| domains.iter().all(|it| it.name != **name))
        .map(VmName::as_str)
        .collect();
    let text = format!(
        "libvirt has no VM of this name, so what is set for it means nothing: {}",
        strangers.join(", ")
    );
    (!strangers.is_empty()).then(|| {
        Check::note("named VMs", text).advice("See whether it is misspelt in `--vm` or [vm.…].")
    })
}

pub(super) fn no_libvirt(uri: &str, error: VmError) -> Check {
    const NAME: &str = "libvirt";
    let is_the_hosts = uri == "qemu:///system";
    match &error {
        VmError::Hypervisor(HypervisorError::Denied { .. }) if is_the_hosts => {
            let text = ToolError::from(error).line();
            no_permission(Check::failed(NAME, text))
        }
        VmError::Hypervisor(HypervisorError::Connect { .. }) if is_the_hosts => {
            let text = ToolError::from(error).line();
            let has_no_bus = text.contains("system bus");
            let check = Check::failed(NAME, text);
            if has_no_bus {
                no_polkit(check)
            } else {
                not_running(check)
            }
        }
        _ => Check::refused(NAME, error),
    }
}

/// Whom libvirt lets in, and why not us.
fn no_permission(check: Check) -> Check {
    let Some((path, group)) = SOCKETS
        .iter()
        .find_map(|path| Some((path, admitted_group(path)?)))
    else {
        return check.advice(
            "Its socket lets no group in (see `ls -l /run/libvirt`): as root, set `unix_sock_group = \
             \"libvirt\"` and `unix_sock_rw_perms = \"0770\"` in /etc/libvirt/libvirtd.conf, and start \
             libvirt anew.",
        );
    };
    let is_in = |arguments: &[&str]| {
        output("id", arguments)
            .is_some_and(|groups| groups.split_whitespace().any(|it| it == group))
    };
    let user = output("id", &["-un"]).unwrap_or_default();
    if is_in(&["-nG", user.trim()]) && !is_in(&["-nG"]) {
        return check
            .advice(format!(
                "{path} lets the group {group} in. You are a member, but this session is older than \
                 that: log out and in again, or for this shell alone:"
            ))
            .command(format!("newgrp {group}"));
    }
    check
        .advice(format!(
            "{path} lets the group {group} in. Become a member, then log out and in again:"
        ))
        .command(format!("sudo usermod -aG {group} \"$(id -un)\""))
}

/// The group whose members may use the libvirt behind a socket.
fn admitted_group(socket: &str) -> Option<String> {
    let metadata = fs::metadata(socket).ok()?;
    if !metadata.file_type().is_socket() {
        return None;
    }
    // Where everybody may connect, polkit decides, and libvirt's own rule for it lets this group in.
    if metadata.mode() & 0o002 != 0 {
        return Some("libvirt".to_owned());
    }
    if metadata.gid() == 0 || metadata.mode() & 0o020 == 0 {
        return None;
    }
    let entry = output("getent", &["group", &metadata.gid().to_string()])?;
    Some(entry.split(':').next()?.to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// libvirtd runs, but cannot ask polkit who we are, as in a container without the system bus.
fn no_polkit(check: Check) -> Check {
    check
        .advice(
            "libvirtd asks polkit who may use it, and polkit is not there. Start dbus and polkit, or have \
             libvirtd let the group libvirt in by itself (running VMs go on); then log in again:",
        )
        .command(
            "printf '%s\\n' 'unix_sock_group = \"libvirt\"' 'unix_sock_rw_perms = \"0770\"' \
             'auth_unix_rw = \"none\"' | sudo tee -a /etc/libvirt/libvirtd.conf",
        )
        .command("sudo sh -c 'kill \"$(cat /run/libvirtd.pid)\"; sleep 2; libvirtd -d'")
        .command("sudo usermod -aG libvirt \"$(id -un)\"")
}

/// It is not installed, or not started.
fn not_running(check: Check) -> Check {
    let is_there = |names: &[&str]| {
        names.iter().any(|name| {
            ["/usr/sbin", "/usr/bin", "/usr/local/sbin"]
                .iter()
                .any(|folder| Path::new(folder).join(name).exists())
        })
    };
    if !is_there(&["libvirtd", "virtqemud"]) {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        return match install_command(&release) {
            Some(command) => check.advice("Install libvirt and QEMU:").command(command),
            None => {
                check.advice("Install libvirt and QEMU with your distribution's package manager.")
            }
        };
    }
    let check = check.advice("Start it:");
    if !Path::new("/run/systemd/system").exists() {
        return check.command("sudo sh -c 'virtlogd -d; libvirtd -d'");
    }
    if is_there(&["libvirtd"]) {
        check.command("sudo systemctl enable --now libvirtd")
    } else {
        check.command("sudo systemctl enable --now virtqemud.socket virtlogd.socket")
    }
}

/// What installs a hypervisor on the distribution that `/etc/os-release` tells of.
fn install_command(release: &str) -> Option<&'static str> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches('"').to_owned())
    };
    let ids = [value("ID="), value("ID_LIKE=")];
    let is = |id: &str| {
        ids.iter()
            .flatten()
            .any(|ids| ids.split_whitespace().any(|it| it == id))
    };
    let commands = [
        (
            "debian",
            "sudo apt-get install qemu-system-x86 libvirt-daemon-system libvirt-clients",
        ),
        ("fedora", "sudo dnf install @virtualization"),
        (
            "arch",
            "sudo pacman -S --needed qemu-full libvirt dnsmasq virt-manager",
        ),
    ];
    commands
        .into_iter()
        .find_map(|(id, command)| is(id).then_some(command))
}

/// `is_assumed`: what is granted is so only where the server is started for this VM.
pub(super) fn grants(fleet: &Fleet, vm: &VmName, is_assumed: bool) -> Check {
    const NAME: &str = "grants";
    let grants = fleet.grants(vm);
    let missing: Vec<_> = Capability::STANDARD
        .into_iter()
        .filter(|it| !grants.has(*it))
        .map(Capability::as_str)
        .collect();
    if grants == Grants::none() {
        let text =
            format!("clients of a server with this configuration may do nothing with `{vm}`");
        let check = Check::note(NAME, text);
        return if fleet.config().vms.contains_key(vm) {
            check.advice(format!(
                "Say what they may in the configuration: `allow` below [vm.\"{vm}\"]."
            ))
        } else {
            check.advice(format!(
                "Start the server with --vm {}, or put [vm.\"{vm}\"] into the configuration.",
                shell_word(vm)
            ))
        };
    }
    if is_assumed {
        return Check::note(
            NAME,
            format!(
                "{grants}, for a server that is started with --vm {}",
                shell_word(vm)
            ),
        );
    }
    if missing.is_empty() {
        Check::ok(NAME, grants.to_string())
    } else {
        Check::note(NAME, format!("{grants}; not {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_distribution_has_its_install_command() {
        let cases = [
            ("NAME=x\nID=debian\n", Some("apt-get")),
            ("ID=ubuntu\nID_LIKE=debian\n", Some("apt-get")),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Some("dnf"),
            ),
            ("ID=manjaro\nID_LIKE=arch\n", Some("pacman")),
            ("ID=plan9\n", None),
            ("", None),
        ];
        for (release, program) in cases {
            let command = install_command(release);
            assert_eq!(command.is_some(), program.is_some(), "{release}");
            if let (Some(command), Some(program)) = (command, program) {
                assert!(command.contains(program), "{release}: {command}");
            }
        }
    }
}
