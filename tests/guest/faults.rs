//! What goes wrong around the server: it says so in clear words, and goes on when all is well again.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    guest::{Guest, virsh, virsh_done},
    mcp::Client,
};

#[test]
fn a_paused_vm_takes_no_input_but_shows_its_screen() {
    struct Resume(String);
    impl Drop for Resume {
        fn drop(&mut self) {
            let _ = virsh(&["resume", &self.0]);
        }
    }

    let mut guest = Guest::enter();
    let mut client = guest.client();
    client.done("move_mouse", json!({"x": 640, "y": 400}));
    guest.assert_pointer_at((640, 400));
    let paused = Resume(guest.name.clone());
    virsh_done(&["suspend", &guest.name]);
    let calls = [
        ("move_mouse", json!({"x": 10, "y": 10})),
        ("click", json!({})),
        ("type_text", json!({"text": "x"})),
        ("press_keys", json!({"keys": ["F9"]})),
    ];
    for (tool, arguments) in calls {
        assert_eq!(
            client.fails(tool, arguments),
            format!(
                "The VM `{0}` is paused.\nNext: Resume it: `virsh -c qemu:///system resume {0}`.",
                guest.name
            )
        );
    }
    assert_eq!(client.done("take_screenshot", json!({})).pictures.len(), 1);
    drop(paused);
    guest.assert_pointer_at((640, 400));
    client.done("move_mouse", json!({"x": 20, "y": 700}));
    guest.assert_pointer_at((20, 700));
}

#[test]
fn a_restarted_libvirt_is_found_again() {
    struct Restart;
    impl Drop for Restart {
        fn drop(&mut self) {
            start_libvirt();
        }
    }

    let mut guest = Guest::enter();
    let mut client = guest.client();
    client.done("move_mouse", json!({"x": 640, "y": 400}));
    let restart = Restart;
    stop_libvirt();
    for (tool, arguments) in [
        ("move_mouse", json!({"x": 10, "y": 10})),
        ("take_screenshot", json!({})),
        ("press_keys", json!({"keys": ["F9"]})),
    ] {
        let error = client.fails(tool, arguments);
        assert!(
            error.starts_with("Libvirt at qemu:///system cannot be reached.\nCause: "),
            "{error}"
        );
    }
    drop(restart);
    client.done("move_mouse", json!({"x": 30, "y": 700}));
    guest.assert_pointer_at((30, 700));
    assert_eq!(client.done("take_screenshot", json!({})).pictures.len(), 1);
}

const LIBVIRT_PID: &str = "/run/libvirtd.pid";

fn has_service_manager() -> bool {
    Path::new("/run/systemd/system").exists()
}

fn must_run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{program} {arguments:?}"
    );
}

/// Guests outlive the daemon.
fn stop_libvirt() {
    if has_service_manager() {
        // The sockets would start it again.
        let sockets = [
            "libvirtd.socket",
            "libvirtd-ro.socket",
            "libvirtd-admin.socket",
        ];
        must_run(
            "systemctl",
            &[&["stop", "libvirtd.service"], &sockets[..]].concat(),
        );
        return;
    }
    let pid = std::fs::read_to_string(LIBVIRT_PID).expect("libvirtd runs");
    let pid = pid.trim();
    must_run("kill", &[pid]);
    let end = Instant::now() + Duration::from_mins(1);
    while Path::new("/proc").join(pid).exists() {
        assert!(Instant::now() < end, "libvirtd does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

fn start_libvirt() {
    if has_service_manager() {
        must_run(
            "systemctl",
            &["start", "libvirtd.socket", "libvirtd.service"],
        );
    } else {
        must_run("libvirtd", &["--daemon"]);
    }
    let end = Instant::now() + Duration::from_mins(1);
    while !virsh(&["uri"]).status.success() {
        assert!(Instant::now() < end, "libvirtd does not start");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_guest_without_its_ssh_server_says_so_and_comes_back() {
    struct StartAgain<'a>(&'a mut Guest);
    impl Drop for StartAgain<'_> {
        fn drop(&mut self) {
            self.0.run("systemctl start ssh");
        }
    }

    let mut guest = Guest::enter();
    let mut client = guest.client();
    let stopped = StartAgain(&mut guest);
    // Connections that are there stay.
    stopped.0.run("systemctl stop ssh");
    let error = client.fails("ssh_execute", json!({"command": "echo on"}));
    let endpoint = format!("{}:{}", stopped.0.host, stopped.0.port);
    assert!(
        error.starts_with(&format!(
            "{endpoint} closed the connection before it said anything."
        )),
        "{error}"
    );
    let info = client
        .done("ssh_connection_info", json!({}))
        .data
        .expect("data");
    assert_eq!(info["connected"], false, "{info}");
    // The screen needs no SSH.
    client.done("move_mouse", json!({"x": 40, "y": 700}));
    stopped.0.assert_pointer_at((40, 700));
    drop(stopped);
    let data = client
        .done("ssh_execute", json!({"command": "echo on"}))
        .data
        .expect("data");
    assert_eq!(data["stdout"], "on\n");
}

fn make_key(path: &Path) {
    let path = path.to_str().expect("UTF-8");
    must_run(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path],
    );
}

#[test]
fn a_key_that_the_guest_does_not_know_is_told() {
    let guest = Guest::enter();
    let wrong = guest.home().join("wrong");
    make_key(&wrong);
    let mut command = guest.server();
    command.env("VM_IDENTITY", &wrong);
    let mut client = Client::start(command);
    let error = client.fails("ssh_execute", json!({"command": "true"}));
    assert!(
        error.starts_with(&format!(
            "{}:{} does not let the user `vmrobot` in; tried: ",
            guest.host, guest.port
        )),
        "{error}"
    );
    assert!(error.contains("it accepts: publickey."), "{error}");
    // The rest does not need it.
    assert_eq!(client.done("take_screenshot", json!({})).pictures.len(), 1);
}

#[test]
fn a_changed_host_key_is_refused() {
    let mut guest = Guest::enter();
    let other = guest.home().join("other");
    make_key(&other);
    let uuid = virsh_done(&["domuuid", &guest.name]);
    let known_hosts = guest.files().join("known_hosts");
    let key = std::fs::read_to_string(other.with_extension("pub")).unwrap();
    let line = format!("# found once\n{uuid} {key}");
    std::fs::write(&known_hosts, &line).unwrap();
    let mut command = guest.server();
    command.env_remove("VM_HOST").env_remove("VM_PORT");
    let mut client = Client::start(command);
    guest.run("rm -f /tmp/ran");
    let shown = guest.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    let shown = shown.split(' ').nth(1).expect("a fingerprint");
    for (tool, arguments) in [
        ("ssh_execute", json!({"command": "touch /tmp/ran"})),
        (
            "ssh_download",
            json!({"remote_path": "/etc/hostname", "local_path": "name"}),
        ),
    ] {
        let error = client.fails(tool, arguments);
        let start = format!(
            "The host key of `{uuid}` has changed: {} line 2 has ssh-ed25519 SHA256:",
            known_hosts.display()
        );
        assert!(error.starts_with(&start), "{error}");
        assert!(
            error.contains(&format!("the server showed ssh-ed25519 {shown}.")),
            "{error}"
        );
    }
    assert_eq!(guest.try_run("test -e /tmp/ran").code, 1);
    assert_eq!(std::fs::read_to_string(&known_hosts).unwrap(), line);
}

/// A domain of nothing but firmware, removed in the end.
struct TinyVm(String);

impl TinyVm {
    fn define(suffix: &str) -> Self {
        let name = format!("virtpilot-test-{suffix}-{}", std::process::id());
        let file = tempfile::NamedTempFile::new().unwrap();
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <devices><video><model type='vga'/></video></devices></domain>"
        );
        std::fs::write(file.path(), xml).unwrap();
        virsh_done(&["define", file.path().to_str().unwrap()]);
        Self(name)
    }

    fn start(&self) {
        virsh_done(&["start", &self.0]);
    }

    /// A server that may use it beside the demo guest.
    fn client(&self, guest: &Guest) -> Client {
        let mut command = guest.server();
        command.args(["--vm", &guest.name, "--vm", &self.0]);
        Client::start(command)
    }
}

impl Drop for TinyVm {
    fn drop(&mut self) {
        let _ = virsh(&["destroy", &self.0]);
        let _ = virsh(&["undefine", &self.0]);
    }
}

#[test]
fn a_vm_without_a_tablet_is_told_what_it_lacks() {
    let guest = Guest::enter();
    let tiny = TinyVm::define("no-tablet");
    tiny.start();
    let mut client = tiny.client(&guest);
    let name = &tiny.0;
    let point = json!({"vm": name, "x": 10, "y": 10});
    // The PC's own mouse moves there, and the reply says what that is worth.
    for tool in ["move_mouse", "click"] {
        let reply = client.done(tool, point.clone()).text;
        assert!(
            reply.contains(" That place is an estimate, since the VM has no tablet"),
            "{reply}"
        );
    }
    let about = client.done("vm_list", json!({"vm": name})).text;
    assert!(
        about.contains(&format!(
            "`virsh -c qemu:///system attach-device {name} FILE --live --config`"
        )),
        "{about}"
    );
    // Firmware has a screen, and a keyboard.
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let reply = client.done("take_screenshot", json!({"vm": name}));
        if reply.text.contains(": 720×400 pixels, native size.") {
            break;
        }
        assert!(Instant::now() < end, "{}", reply.text);
        thread::sleep(Duration::from_millis(100));
    }
    client.done("press_keys", json!({"vm": name, "keys": ["Escape"]}));
    // What the hint says, with the file that people are given, mends it.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-setup/tablet.xml");
    virsh_done(&["attach-device", name, file.to_str().unwrap(), "--live"]);
    let reply = client.done("move_mouse", point).text;
    assert_eq!(reply, "Moved the pointer to 10,10.");
}

#[test]
fn vms_that_cannot_be_used_are_told_apart() {
    let guest = Guest::enter();
    let off = TinyVm::define("off");
    let mut client = off.client(&guest);
    let calls = [
        ("take_screenshot", json!({})),
        ("move_mouse", json!({"x": 1, "y": 1})),
        ("type_text", json!({"text": "x"})),
        ("ssh_execute", json!({"command": "true"})),
    ];
    for (tool, arguments) in calls {
        let on = |vm: &str| {
            let mut arguments = arguments.clone();
            arguments["vm"] = json!(vm);
            arguments
        };
        let error = client.fails(tool, on(&off.0));
        assert_eq!(
            error,
            format!(
                "The VM `{0}` is shut off.\nNext: Start it: `virsh -c qemu:///system start {0}`.",
                off.0
            ),
            "{tool}"
        );
        let error = client.fails(tool, on("no-such-vm"));
        assert!(
            error.starts_with("There is no VM named `no-such-vm` at qemu:///system; there are "),
            "{tool}: {error}"
        );
        assert!(error.contains(&guest.name), "{tool}: {error}");
    }
    // One that nobody named is there, and granted nothing.
    let mut other = guest.client();
    let error = other.fails("take_screenshot", json!({"vm": off.0}));
    assert!(
        error.starts_with(&format!(
            "`view` is not granted for the VM `{}`, nor is anything else.",
            off.0
        )),
        "{error}"
    );
}
