//! `virtpilot doctor` on VMs of its own that lack something: it finds that, and what it says mends
//! it, run as it stands. The VMs have no disk: their firmware is all that ever runs.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/sshd.rs"]
mod sshd;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use mcp::binary;
use serde_json::{Value, json};
use sshd::Sshd;
use tempfile::TempDir;

const URI: &str = "qemu:///system";

const TABLET: &str = "<input type='tablet' bus='usb'/>";
const VIDEO: &str = "<video><model type='vga'/></video>";

/// A VM of this test; it is gone when this is dropped.
struct Machine(String);

impl Machine {
    /// Defines it, with these devices, and nothing started.
    fn define(name: &str, devices: &str) -> Self {
        let name = format!("virtpilot-test-{name}");
        let machine = Self(name.clone());
        // A run that was killed may have left it.
        machine.remove();
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <devices>{devices}<memballoon model='none'/></devices></domain>"
        );
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("domain.xml");
        fs::write(&file, xml).unwrap();
        virsh(&["define", file.to_str().unwrap()]);
        machine
    }

    fn start(name: &str, devices: &str) -> Self {
        let machine = Self::define(name, devices);
        virsh(&["start", &machine.0]);
        machine
    }

    fn remove(&self) {
        for act in ["destroy", "undefine"] {
            let _ = Command::new("virsh")
                .args(["-c", URI, act, &self.0])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.remove();
    }
}

fn virsh(arguments: &[&str]) {
    let output = Command::new("virsh")
        .args(["-c", URI])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "virsh {arguments:?}: {} (the tests need libvirt; `guest-setup/demo.sh --guest-only` starts it)",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What doctor reports. Its exit status has to fit to that.
fn report(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let output = binary(home)
        .args(["doctor", "--json"])
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    assert_eq!(report["healthy"], output.status.success(), "{report:#}");
    report
}

/// The one check of this name.
fn check(report: &Value, name: &str) -> Value {
    let checks = report["checks"].as_array().unwrap();
    let found: Vec<_> = checks.iter().filter(|it| it["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name}: {report:#}");
    found[0].clone()
}

/// Runs what a failed check says, as a person would.
fn follow(check: &Value) {
    let commands = check["commands"].as_array().unwrap();
    assert!(!commands.is_empty(), "{check:#}");
    let mut guest = None;
    for command in commands {
        let command = command.as_str().unwrap();
        let output = Command::new("sh")
            .args(["-c", command])
            .env("HOME", "/")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        if let Some((_, name)) = command.split_once(" shutdown ") {
            guest = Some(play_the_guest(name));
        }
    }
    if let Some(guest) = guest {
        guest.join().unwrap();
    }
}

/// Firmware alone does not react to the power button as a guest does: off within a while.
fn play_the_guest(name: &str) -> thread::JoinHandle<()> {
    let name = name.to_owned();
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        virsh(&["destroy", &name]);
    })
}

/// The check fails with this text; what it says is done; then it does not fail any more.
fn mend(machine: &Machine, name: &str, text: &str) {
    let home = TempDir::new().unwrap();
    let before = check(&report(home.path(), &[&machine.0], &[]), name);
    assert_eq!(before["status"], "failed", "{before:#}");
    assert_eq!(before["text"], text);
    follow(&before);
    let after = check(&report(home.path(), &[&machine.0], &[]), name);
    assert!(
        after["status"] == "ok" || after["status"] == "note",
        "{after:#}"
    );
}

#[test]
fn a_missing_tablet_is_attached_to_a_running_vm() {
    let machine = Machine::start("no-tablet", VIDEO);
    let text = "there is none, so the pointer is put to places by estimate at best";
    mend(&machine, "tablet", text);
}

#[test]
fn a_missing_tablet_is_added_to_a_vm_that_is_off() {
    let machine = Machine::define("no-tablet-off", VIDEO);
    let text = "there is none, so the pointer is put to places by estimate at best";
    mend(&machine, "tablet", text);
}

#[test]
fn a_vm_without_usb_gets_a_virtio_tablet_at_its_next_start() {
    let devices = format!("<controller type='usb' model='none'/>{VIDEO}");
    let machine = Machine::start("no-usb", &devices);
    let text = "there is none, so the pointer is put to places by estimate at best";
    mend(&machine, "tablet", text);
}

#[test]
fn a_vm_without_video_gets_it_at_its_next_start() {
    let machine = Machine::start("no-video", TABLET);
    mend(
        &machine,
        "video",
        "there is no video device, so there is no screen",
    );
    let home = TempDir::new().unwrap();
    let screen = check(&report(home.path(), &[&machine.0], &[]), "screen");
    assert_eq!(screen["status"], "ok", "{screen:#}");
}

#[test]
fn a_vm_that_is_off_is_started() {
    let machine = Machine::define("off", &format!("{TABLET}{VIDEO}"));
    let home = TempDir::new().unwrap();
    let off = report(home.path(), &[&machine.0], &[]);
    for name in ["screen", "pointer", "keyboard", "address", "SSH", "SFTP"] {
        let check = check(&off, name);
        assert_eq!(check["status"], "skipped", "{check:#}");
        assert_eq!(check["text"], "the VM does not run");
    }
    let text = format!("`{}` is shut off", machine.0);
    mend(&machine, "state", &text);
}

#[test]
fn a_paused_vm_is_resumed() {
    let machine = Machine::start("paused", &format!("{TABLET}{VIDEO}"));
    virsh(&["suspend", &machine.0]);
    let text = format!("`{}` is paused", machine.0);
    mend(&machine, "state", &text);
}

#[test]
fn a_guest_behind_a_user_mode_network_gets_a_forward() {
    let devices =
        format!("{TABLET}{VIDEO}<interface type='user'><model type='e1000'/></interface>");
    let machine = Machine::start("hidden", &devices);
    let home = TempDir::new().unwrap();
    let command_of = |hidden: &Value| {
        assert_eq!(hidden["status"], "failed", "{hidden:#}");
        hidden["commands"][0].as_str().unwrap().to_owned()
    };
    let usual = check(&report(home.path(), &[&machine.0], &[]), "address");
    assert!(command_of(&usual).ends_with("-:22'"), "{usual:#}");

    // To where its SSH server is.
    let (default, port) = (["--vm", &machine.0, &machine.0], [("VM_PORT", "2200")]);
    let report = || report(home.path(), &default, &port);
    let hidden = check(&report(), "address");
    let command = command_of(&hidden);
    assert!(command.ends_with("-:2200'"), "{command}");
    let (_, port) = command.split_once("tcp:127.0.0.1:").unwrap();
    let (port, _) = port.split_once('-').unwrap();
    follow(&hidden);
    let after = report();
    let address = check(&after, "address");
    assert_eq!(
        address["text"],
        format!("127.0.0.1 port {port}, a host forward of the user-mode network")
    );
    // There is no guest behind it.
    assert_eq!(check(&after, "SSH")["status"], "failed");
    assert_eq!(check(&after, "user")["status"], "skipped");
}

#[test]
fn several_running_vms_want_one_to_be_named() {
    let _one = Machine::start("one", VIDEO);
    let _two = Machine::start("two", VIDEO);
    let home = TempDir::new().unwrap();
    let report = report(home.path(), &[], &[]);
    let vm = check(&report, "VM");
    assert_eq!(vm["status"], "failed");
    let text = vm["text"].as_str().unwrap();
    assert!(text.contains("virtpilot-test-one"), "{text}");
    assert!(text.contains("virtpilot-test-two"), "{text}");
    assert_eq!(vm["commands"], json!(["virtpilot doctor NAME"]));
}

#[test]
fn an_unknown_vm_is_told_with_those_that_there_are() {
    let _one = Machine::define("known", VIDEO);
    let home = TempDir::new().unwrap();
    let report = report(home.path(), &["nobody"], &[]);
    let vm = check(&report, "VM");
    assert_eq!(vm["status"], "failed", "{report:#}");
    assert_eq!(
        vm["text"],
        "there is no VM named `nobody` at qemu:///system"
    );
    assert_eq!(
        vm["commands"],
        json!(["virsh -c qemu:///system list --all"])
    );
    // Nothing is said of a VM that is not there.
    assert_eq!(report["checks"].as_array().unwrap().last(), Some(&vm));
}

#[test]
fn what_is_granted_for_the_named_vm_alone_is_told_so() {
    let one = Machine::define("granted", VIDEO);
    let home = TempDir::new().unwrap();
    let granted = check(&report(home.path(), &[&one.0], &[]), "grants");
    assert_eq!(granted["status"], "note", "{granted:#}");
    let text = format!(
        "view, input, shell, files, for a server that is started with --vm {}",
        one.0
    );
    assert_eq!(granted["text"], text);
    let named = ["--vm", &one.0, &one.0];
    let granted = check(&report(home.path(), &named, &[]), "grants");
    assert_eq!(granted["status"], "ok", "{granted:#}");
}

#[test]
fn a_vm_that_is_named_and_not_there_is_told() {
    let one = Machine::define("spelt", VIDEO);
    let home = TempDir::new().unwrap();
    let arguments = ["--vm", &one.0, "--vm", "mispelt"];
    let named = check(&report(home.path(), &arguments, &[]), "named VMs");
    assert_eq!(named["status"], "note");
    assert!(
        named["text"].as_str().unwrap().ends_with(": mispelt"),
        "{named:#}"
    );
}

#[test]
fn a_video_device_of_the_type_none_is_replaced() {
    let machine = Machine::define("none", "<video><model type='none'/></video>");
    mend(
        &machine,
        "video",
        "there is no video device, so there is no screen",
    );
}

#[test]
fn a_libvirt_that_is_not_there_is_told_and_ssh_is_looked_at_still() {
    let server = Sshd::start();
    let home = TempDir::new().unwrap();
    let (port, user) = (server.port().to_string(), sshd::whoami());
    let identity = server.identity();
    let variables = [
        ("VM_HOST", "127.0.0.1"),
        ("VM_PORT", &*port),
        ("VM_USER", &*user),
        ("VM_IDENTITY", identity.to_str().unwrap()),
    ];
    let uri = "qemu+unix:///system?socket=/nonexistent/socket";
    let report = report(home.path(), &["--uri", uri], &variables);
    let libvirt = check(&report, "libvirt");
    assert_eq!(libvirt["status"], "failed");
    assert!(
        libvirt["advice"].as_str().unwrap().contains(uri),
        "{libvirt:#}"
    );
    for name in ["SSH", "host key", "user", "SFTP"] {
        assert_eq!(check(&report, name)["status"], "ok", "{report:#}");
    }
    assert_eq!(
        check(&report, "user")["text"],
        format!("{user}, who can run commands")
    );
}

#[test]
fn a_changed_host_key_is_forgotten_by_the_command() {
    let server = Sshd::start();
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    let (identity, user) = (server.identity(), sshd::whoami());
    fs::create_dir(&data).unwrap();
    sshd::make_key(&data.join("other"), "ed25519", "");
    let other = fs::read_to_string(data.join("other.pub")).unwrap();
    let port = server.port().to_string();
    fs::write(
        data.join("known_hosts"),
        format!("[127.0.0.1]:{port} {other}"),
    )
    .unwrap();
    let variables = [
        ("VM_HOST", "127.0.0.1"),
        ("VM_PORT", &*port),
        ("VM_USER", &*user),
        ("VM_IDENTITY", identity.to_str().unwrap()),
        ("VIRTPILOT_DATA_DIR", data.to_str().unwrap()),
    ];
    let arguments = ["--uri", "test:///default"];
    let before = report(home.path(), &arguments, &variables);
    let changed = check(&before, "host key");
    assert_eq!(changed["status"], "failed", "{before:#}");
    assert_eq!(check(&before, "SSH")["status"], "ok");
    follow(&changed);
    let after = report(home.path(), &arguments, &variables);
    assert_eq!(check(&after, "host key")["status"], "ok", "{after:#}");
}

/// What is reported where the server does not know our key, `mine`.
fn report_with_a_strange_key(home: &Path, server: &Sshd) -> Value {
    sshd::make_key(&home.join("mine"), "ed25519", "");
    report_of(home, server)
}

fn report_of(home: &Path, server: &Sshd) -> Value {
    let key = home.join("mine");
    let port = server.port().to_string();
    let variables = [
        ("VM_HOST", "127.0.0.1"),
        ("VM_PORT", &*port),
        ("VM_USER", "somebody"),
        ("VM_IDENTITY", key.to_str().unwrap()),
    ];
    let report = report(home, &["--uri", "test:///default"], &variables);
    assert_eq!(check(&report, "user")["status"], "failed", "{report:#}");
    report
}

#[test]
fn a_key_that_the_guest_does_not_know_is_told_what_lets_it_in() {
    let server = Sshd::start();
    let home = TempDir::new().unwrap();
    let report = report_with_a_strange_key(home.path(), &server);
    let user = check(&report, "user");
    let advice = user["advice"].as_str().unwrap();
    assert!(advice.contains("takes keys alone"), "{advice}");
    assert!(advice.contains("mine.pub in --key"), "{advice}");
    assert_eq!(user["commands"], Value::Null);
    assert_eq!(check(&report, "SFTP")["status"], "skipped");
}

#[test]
fn a_guest_that_takes_passwords_gets_its_ssh_copy_id() {
    let server = Sshd::start_with("Match all\nPasswordAuthentication yes");
    let home = TempDir::new().unwrap();
    let report = report_with_a_strange_key(home.path(), &server);
    let user = check(&report, "user");
    let command = format!(
        "ssh-copy-id -i {}.pub -p {} somebody@127.0.0.1",
        home.path().join("mine").display(),
        server.port()
    );
    assert_eq!(user["commands"], json!([command]));

    // No other key is shown, so another one's public half does not help.
    let mine = home.path().join("mine");
    fs::remove_file(home.path().join("mine.pub")).unwrap();
    fs::create_dir_all(home.path().join(".ssh")).unwrap();
    fs::write(home.path().join(".ssh/id_ed25519.pub"), "").unwrap();
    let report = report_of(home.path(), &server);
    let make = format!("ssh-keygen -y -f {0} > {0}.pub", mine.display());
    assert_eq!(check(&report, "user")["commands"], json!([make, command]));
}

#[test]
fn a_data_folder_that_cannot_be_is_told() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let folder = file.join("below");
    let arguments = [
        "--uri",
        "test:///default",
        "--data-dir",
        folder.to_str().unwrap(),
    ];
    let report = report(home.path(), &arguments, &[]);
    let data = check(&report, "data folder");
    assert_eq!(data["status"], "failed", "{data:#}");
    assert_eq!(
        data["text"],
        format!(
            "nothing can be written to {}: Not a directory (os error 20)",
            folder.display()
        )
    );
}

#[test]
fn a_language_that_cannot_be_read_is_told_with_its_package() {
    let home = TempDir::new().unwrap();
    let config = "ocr_language = \"eng+xyz\"\n[vm.other]\nocr_language = \"abc\"\n";
    fs::write(home.path().join("c.toml"), config).unwrap();
    let nowhere = ["--config", "c.toml", "--uri", "test:///nowhere"];
    for (vm, package) in [(None, "xyz"), (Some("other"), "abc")] {
        let arguments: Vec<&str> = nowhere.into_iter().chain(vm).collect();
        let check = check(&report(home.path(), &arguments, &[]), "OCR");
        assert_eq!(check["status"], "note", "{check:#}");
        let command = format!("sudo apt-get install tesseract-ocr-{package}");
        assert_eq!(check["commands"], serde_json::json!([command]));
    }
}

#[test]
fn a_configuration_that_is_wrong_ends_the_report() {
    let home = TempDir::new().unwrap();
    let report = report(home.path(), &[], &[("VM_PORT", "many")]);
    assert_eq!(report["checks"].as_array().unwrap().len(), 1);
    let configuration = check(&report, "configuration");
    assert_eq!(configuration["status"], "failed");
    let text = configuration["text"].as_str().unwrap();
    assert!(text.contains("VM_PORT"), "{text}");
}

#[test]
fn a_person_sees_marks_and_commands() {
    let machine = Machine::define("shown", VIDEO);
    let home = TempDir::new().unwrap();
    let output = binary(home.path())
        .args(["doctor", &machine.0])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "FAILED   state ".to_owned(),
        format!("$ virsh -c qemu:///system start {}", machine.0),
        "skipped  screen ".to_owned(),
        "2 failures: mend the first one, then run this again.".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
}
