//! Looking often: QEMU's framebuffer through shared memory, beside `virDomainScreenshot`, on real VMs of
//! nothing but firmware.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/test_driver.rs"]
mod test_driver;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use daemon::{Daemon, Machine, send};
use serde_json::{Value, json};
use tempfile::TempDir;
use virtpilot::{
    hypervisor::{DomainState, Hypervisor, HypervisorError, Libvirt, Screenshot, Sight},
    image::{self, Picture},
    model::{ScreenSize, VmName},
};

const PATIENCE: Duration = Duration::from_secs(20);

const PPM: &str = "image/x-portable-pixmap";

fn name(machine: &Machine) -> VmName {
    machine.name.parse().unwrap()
}

fn picture(shot: &Screenshot) -> Picture {
    Picture::decode(&shot.mime, shot.bytes.clone()).unwrap()
}

/// The size of a head, after both ways gave the same pixels of it. A cursor may blink: two screenshots
/// that are the same have the look between them to be the same.
fn seen_alike(libvirt: &Libvirt, vm: &VmName, head: u32) -> ScreenSize {
    let end = Instant::now() + PATIENCE;
    loop {
        let before = picture(&libvirt.screenshot(vm, head).unwrap());
        let glance = libvirt.glance(vm, head).unwrap();
        assert_eq!(glance.mime, PPM, "it came through shared memory");
        let glance = picture(&glance);
        let after = picture(&libvirt.screenshot(vm, head).unwrap());
        if before == after && before == glance {
            return glance.size();
        }
        assert!(Instant::now() < end, "head {head} differs by the two ways");
    }
}

fn size(width: u32, height: u32) -> ScreenSize {
    ScreenSize { width, height }
}

/// The marks of the files that QEMU holds, our own alone.
fn marks(daemon: &Daemon, machine: &Machine) -> Vec<String> {
    let query = r#"{"execute": "query-fdsets"}"#;
    let answer = daemon.virsh_done(&["qemu-monitor-command", &machine.name, query]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let sets = answer["return"].as_array().unwrap().iter();
    let files = sets.flat_map(|set| set["fds"].as_array().unwrap().clone());
    files
        .filter_map(|file| file["opaque"].as_str().map(str::to_owned))
        .filter(|mark| mark.starts_with("virtpilot "))
        .collect()
}

#[test]
fn both_ways_give_the_same_pixels_of_every_head() {
    let daemon = Daemon::start();
    let libvirt = Libvirt::new(daemon.uri());
    let text = daemon.usual_machine("text");
    assert_eq!(seen_alike(&libvirt, &name(&text), 0), size(720, 400));

    let two = daemon.machine(
        "two-devices",
        "<video><model type='vga' primary='yes'/></video><video><model type='virtio'/></video>",
    );
    let two = name(&two);
    let first = seen_alike(&libvirt, &two, 0);
    assert_eq!(first, size(720, 400));
    // QEMU's placeholder: the firmware draws on one head alone.
    assert_eq!(seen_alike(&libvirt, &two, 1), size(640, 480));
    let one_device = daemon.machine(
        "two-heads",
        "<video><model type='virtio' heads='2'/></video>",
    );
    let one_device = name(&one_device);
    seen_alike(&libvirt, &one_device, 0);
    assert_eq!(seen_alike(&libvirt, &one_device, 1), size(640, 480));
    for vm in [&two, &one_device] {
        let error = libvirt.glance(vm, 2).unwrap_err();
        assert!(
            matches!(&error, HypervisorError::NoHead { head: 2, .. }),
            "{error}"
        );
        assert_eq!(libvirt.sight(vm).unwrap(), Sight::Framebuffer);
    }
}

#[test]
fn a_firmware_screen_is_seen_alike_while_its_size_changes() {
    let daemon = Daemon::start();
    let uefi = daemon.uefi_machine("uefi");
    let vm = name(&uefi);
    let libvirt = Libvirt::new(daemon.uri());
    let end = Instant::now() + Duration::from_mins(1);
    let mut sizes = vec![];
    // OVMF's log is 1280×800, and its menu, which Esc opens, 640×480 in the end.
    while sizes.len() < 2 {
        let size = picture(&libvirt.glance(&vm, 0).unwrap()).size();
        if size != self::size(640, 480) || !sizes.is_empty() {
            sizes.push(size);
            sizes.dedup();
        }
        daemon.virsh_done(&["send-key", &uefi.name, "KEY_ESC"]);
        assert!(Instant::now() < end, "{sizes:?}");
        thread::sleep(Duration::from_millis(200));
    }
    seen_alike(&libvirt, &vm, 0);
}

#[test]
fn a_vm_that_is_started_anew_is_looked_at_as_before() {
    let daemon = Daemon::start();
    let machine = daemon.usual_machine("anew");
    let vm = name(&machine);
    let libvirt = Libvirt::new(daemon.uri());
    seen_alike(&libvirt, &vm, 0);
    for _ in 0..2 {
        daemon.virsh_done(&["destroy", &machine.name]);
        let error = libvirt.glance(&vm, 0).unwrap_err();
        let state = match &error {
            HypervisorError::NotRunning { state, .. } => *state,
            _ => panic!("{error}"),
        };
        assert_eq!(state, DomainState::Shutoff);
        daemon.boot(&machine);
        seen_alike(&libvirt, &vm, 0);
        assert_eq!(libvirt.sight(&vm).unwrap(), Sight::Framebuffer);
        assert_eq!(marks(&daemon, &machine).len(), 1);
    }
}

#[test]
fn looks_go_on_when_libvirt_comes_back() {
    let mut daemon = Daemon::start();
    let machine = daemon.usual_machine("back");
    let vm = name(&machine);
    let libvirt = Libvirt::new(daemon.uri());
    seen_alike(&libvirt, &vm, 0);
    daemon.stop();
    assert!(libvirt.glance(&vm, 0).is_err());
    daemon.start_again();
    seen_alike(&libvirt, &vm, 0);
    assert_eq!(marks(&daemon, &machine).len(), 1, "the same file serves on");
}

#[test]
fn nothing_stays_in_a_vm_but_what_a_killed_server_left_and_the_next_one_clears_that() {
    let daemon = Daemon::start();
    let machine = daemon.usual_machine("left");
    let looking = || {
        let mut client = daemon.client(&[&machine]);
        // Pointing needs the screen's size.
        client.done("move_mouse", json!({"x": 10, "y": 10}));
        client
    };
    let mut client = looking();
    let first = marks(&daemon, &machine);
    assert_eq!(first.len(), 1);
    client.hang_up();
    client.wait_for_exit();
    assert_eq!(marks(&daemon, &machine), Vec::<String>::new());

    let mut killed = looking();
    let left = marks(&daemon, &machine);
    send("-KILL", killed.process_id());
    killed.wait_for_exit();
    assert_eq!(marks(&daemon, &machine), left);
    let _client = looking();
    let now = marks(&daemon, &machine);
    assert_eq!(now.len(), 1);
    assert_ne!(now, left);
}

#[test]
fn two_servers_look_at_one_vm_without_seeing_each_others_files() {
    let daemon = Daemon::start();
    let machine = daemon.usual_machine("shared");
    let vm = name(&machine);
    let [one, other] = [Libvirt::new(daemon.uri()), Libvirt::new(daemon.uri())];
    for _ in 0..3 {
        seen_alike(&one, &vm, 0);
        seen_alike(&other, &vm, 0);
    }
    assert_eq!(marks(&daemon, &machine).len(), 2);
    one.close();
    assert_eq!(marks(&daemon, &machine).len(), 1);
    seen_alike(&other, &vm, 0);
    // It works on after it was closed.
    seen_alike(&one, &vm, 0);
}

#[test]
fn where_no_file_can_be_passed_screenshots_do_and_the_reason_is_told() {
    let daemon = Daemon::start();
    let machine = daemon.usual_machine("remote");
    // libvirt passes on files over a socket of its own alone, not through a program.
    let relay = daemon.home().join("relay");
    let text = format!(
        "#!/usr/bin/env python3\n{}",
        include_str!("support/relay.py").replace("SOCKET", &daemon.socket().display().to_string())
    );
    fs::write(&relay, text).unwrap();
    fs::set_permissions(&relay, fs::Permissions::from_mode(0o755)).unwrap();
    let uri = format!("qemu+ext:///session?command={}", relay.display());
    let libvirt = Libvirt::new(&uri);
    let vm = name(&machine);
    let glance = libvirt.glance(&vm, 0).unwrap();
    assert_eq!(glance.mime, "image/png");
    let Sight::Screenshot { why } = libvirt.sight(&vm).unwrap() else {
        panic!("files are passed on");
    };
    assert_eq!(why, "libvirt takes files over a local socket alone");
    assert_eq!(marks(&daemon, &machine), Vec::<String>::new());

    let mut command = mcp::binary(&daemon.home());
    command.args(["--uri", &uri, "--vm", &machine.name]);
    let mut client = mcp::Client::start(command);
    let reply = client.done("vm_list", json!({"vm": machine.name}));
    let told = format!("\nlooks: screenshots alone, as {why}; `capture` is libvirt");
    assert!(reply.text.contains(&told), "{}", reply.text);
    let capture = &reply.data.unwrap()["vms"][0]["capture"];
    assert_eq!(
        *capture,
        json!({"fast": false, "why": why, "shown": "libvirt"})
    );
    client.done("move_mouse", json!({"x": 10, "y": 10}));
}

#[test]
fn a_driver_without_a_monitor_is_seen_by_screenshots() {
    let folder = TempDir::new().unwrap();
    let libvirt = Libvirt::new(test_driver::host(folder.path()));
    let vm: VmName = "up".parse().unwrap();
    let sight = libvirt.sight(&vm).unwrap();
    assert!(matches!(sight, Sight::Screenshot { .. }), "{sight}");
    let glance = picture(&libvirt.glance(&vm, 0).unwrap());
    assert_eq!(glance, picture(&libvirt.screenshot(&vm, 0).unwrap()));
}

#[test]
fn delivered_pictures_come_through_shared_memory_where_that_is_configured() {
    let daemon = Daemon::start();
    let machine = daemon.usual_machine("fast");
    let vm = name(&machine);
    let config = daemon.home().join("config.toml");
    fs::write(&config, "capture = 'fast'\n").unwrap();
    let mut command = daemon.server(&[&machine]);
    command.arg("--config").arg(&config);
    let mut client = mcp::Client::start(command);
    let reply = client.done("vm_list", json!({"vm": machine.name}));
    let told = "\nlooks: fast, QEMU's framebuffer through shared memory; `capture` is fast";
    assert!(reply.text.contains(told), "{}", reply.text);

    let libvirt = Libvirt::new(daemon.uri());
    let end = Instant::now() + PATIENCE;
    loop {
        let before = libvirt.screenshot(&vm, 0).unwrap();
        let reply = client.done("take_screenshot", json!({}));
        let [(mime, bytes)] = reply.pictures.as_slice() else {
            panic!("{} pictures", reply.pictures.len());
        };
        assert_eq!(mime, "image/png");
        assert_ne!(*bytes, before.bytes, "it is a PNG of our own");
        if Picture::decode(mime, bytes.clone()).unwrap() == picture(&before) {
            break;
        }
        assert!(Instant::now() < end, "the two ways differ");
    }
}

#[test]
fn a_vm_that_hangs_delays_no_look_at_another() {
    let daemon = Daemon::start();
    let [hung, other] = ["hung", "other"].map(|suffix| daemon.usual_machine(suffix));
    let libvirt = Libvirt::new(daemon.uri());
    let [hung_name, other_name] = [name(&hung), name(&other)];
    libvirt.glance(&hung_name, 0).unwrap();
    let process = daemon.process(&hung);
    send("-STOP", process);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| libvirt.glance(&hung_name, 0));
        thread::sleep(Duration::from_millis(100));
        let begun = Instant::now();
        let looks: Vec<_> = (0..10).map(|_| libvirt.glance(&other_name, 0)).collect();
        let took = begun.elapsed();
        let is_hung = !waiting.is_finished();
        // A thread that stays blocked would keep a failing test from ending.
        send("-CONT", process);
        assert!(is_hung && looks.iter().all(Result::is_ok));
        waiting.join().unwrap().unwrap();
        // A call that was held up by the other VM would take seconds.
        assert!(took < Duration::from_secs(8), "{took:?}");
    });
}

#[test]
fn a_serial_console_gives_what_the_firmware_writes_to_one_reader() {
    let daemon = Daemon::start();
    let uefi = daemon.uefi_machine("serial");
    let vm = name(&uefi);
    let libvirt = Libvirt::new(daemon.uri());
    let mut console = libvirt.console(&vm).unwrap();
    let error = libvirt.console(&vm).unwrap_err();
    assert!(
        matches!(&error, HypervisorError::ConsoleTaken { .. }),
        "{error}"
    );
    let end = Instant::now() + Duration::from_mins(1);
    let mut written = String::new();
    while !written.contains("BdsDxe") {
        assert!(Instant::now() < end, "{written:?}");
        thread::sleep(Duration::from_millis(50));
        written.push_str(&String::from_utf8_lossy(&console.read().unwrap()));
    }
    drop(console);
    // It is free again, and ends with the VM.
    let mut console = libvirt.console(&vm).unwrap();
    daemon.virsh_done(&["destroy", &uefi.name]);
    let end = Instant::now() + PATIENCE;
    let error = loop {
        match console.read() {
            Ok(_) => assert!(Instant::now() < end, "it goes on"),
            Err(error) => break error,
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(
        matches!(
            &error,
            HypervisorError::ConsoleEnded { .. } | HypervisorError::ConsoleBroke { .. }
        ),
        "{error}"
    );

    daemon.virsh_done(&["start", &uefi.name]);
    let mut command = daemon.server(&[&uefi]);
    command.args(["--allow", "view,console"]);
    let mut client = mcp::Client::start(command);
    let conditions = json!([{"condition": "console", "pattern": "^Shell>"}]);
    let reply = client.done("wait_for", json!({"conditions": conditions, "timeout": 60}));
    let begin = "The guest wrote \"Shell>\"";
    assert!(reply.text.starts_with(begin), "{}", reply.text);

    let mute = daemon.usual_machine("mute");
    let error = libvirt.console(&name(&mute)).unwrap_err();
    assert!(
        matches!(&error, HypervisorError::NoConsole { .. }),
        "{error}"
    );
}

#[test]
fn a_firmware_menu_is_waited_for_typed_in_and_pointed_at_only_as_it_is() {
    let daemon = Daemon::start();
    let uefi = daemon.uefi_machine("menu");
    let mut command = daemon.server(&[&uefi]);
    command.args(["--allow", "view,input,console"]);
    let mut client = mcp::Client::start(command);
    let shell = json!([{"condition": "console", "pattern": "^Shell>"}]);
    client.done("wait_for", json!({"conditions": shell, "timeout": 60}));
    let reply = client.done("take_screenshot", json!({"settle": 5000}));
    let size = |reply: &mcp::ToolReply| {
        let [(mime, bytes)] = reply.pictures.as_slice() else {
            panic!("{} pictures: {}", reply.pictures.len(), reply.text);
        };
        image::size(mime, bytes).unwrap()
    };
    assert_eq!(size(&reply), self::size(1280, 800));
    client.done("move_mouse", json!({"x": 1000, "y": 700}));

    // To the setup menu, which has another resolution.
    let reply = client.done(
        "run_actions",
        json!({
            "actions": [
                {"action": "type_text", "text": "exit\n"},
                {"action": "wait_for", "timeout": 30, "conditions": [{"condition": "change", "share": 0.5}]},
                {"action": "wait_for", "timeout": 30, "conditions": [{"condition": "stable", "ms": 2000}]},
            ],
        }),
    );
    assert!(
        reply
            .text
            .contains("The screen changed from 1280×800 to 640×480 pixels"),
        "{}",
        reply.text
    );
    let refused = client.fails("click", json!({"x": 1000, "y": 700}));
    assert!(refused.contains("640×480"), "{refused}");
    assert!(refused.contains("Take a new screenshot"), "{refused}");
    let reply = client.done("take_screenshot", json!({}));
    assert_eq!(size(&reply), self::size(640, 480));
    // The mark was of another screen.
    assert!(!reply.text.contains("The ring"), "{}", reply.text);
    client.done("click", json!({"x": 600, "y": 400}));
    let before = client.done("take_screenshot", json!({"settle": 3000, "pointer": false}));
    let reply = client.done(
        "run_actions",
        json!({
            "actions": [{"action": "press_keys", "keys": ["Down"]}],
            "screenshot": "end",
        }),
    );
    assert_ne!(
        before.pictures[0].1, reply.pictures[0].1,
        "another entry is chosen"
    );
}
