//! VMs that crash, hang, restart, or lack a screen.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::daemon::{Daemon, Machine, send};

#[test]
fn a_vm_whose_process_is_killed_is_told_and_comes_back() {
    let daemon = Daemon::start();
    let vm = daemon.usual_machine("killed");
    let name = &vm.name;
    let mut client = daemon.client(&[&vm]);
    client.done("click", json!({"x": 10, "y": 10}));

    // In the middle of a call.
    let held = client.send_call("press_keys", json!({"keys": ["Ctrl"], "hold_ms": 2000}));
    daemon.await_modifiers(&vm, 4);
    send("-KILL", daemon.process(&vm));
    let reply = client.reply(held);
    assert!(reply.is_error);
    let off = format!(
        "The VM `{name}` is shut off.\nNext: Start it: `virsh -c '{}' start {name}`.",
        daemon.uri()
    );
    assert_eq!(reply.text, off);

    // Between two.
    for (tool, arguments) in [
        ("take_screenshot", json!({})),
        ("move_mouse", json!({"x": 1, "y": 1})),
        ("click", json!({})),
        ("type_text", json!({"text": "x"})),
        ("press_keys", json!({"keys": ["a"]})),
        ("ssh_execute", json!({"command": "true"})),
    ] {
        assert_eq!(client.fails(tool, arguments), off, "{tool}");
    }
    daemon.boot(&vm);
    client.done("type_text", json!({"text": "back"}));
    assert_eq!(daemon.typed(&vm), "back");
    assert_eq!(daemon.modifiers_down(&vm), 0);
    client.done("take_screenshot", json!({}));
}

#[test]
fn a_guest_that_panicked_shows_its_last_screen_and_takes_no_input() {
    let daemon = Daemon::start();
    let vm = daemon.machine(
        "panicked",
        "<panic model='isa'/><video><model type='vga'/></video>",
    );
    let (name, uri) = (&vm.name, daemon.uri());
    let mut client = daemon.client(&[&vm]);
    client.done("press_keys", json!({"keys": ["a"]}));
    // What a crashing kernel writes to the panic device.
    daemon.virsh_done(&["qemu-monitor-command", name, "--hmp", "o /b 0x505 1"]);
    let end = Instant::now() + Duration::from_secs(5);
    while daemon.virsh_done(&["domstate", name]) != "crashed" {
        assert!(Instant::now() < end, "libvirt does not notice the panic");
        thread::sleep(Duration::from_millis(20));
    }
    for (tool, arguments) in [
        ("move_mouse", json!({"x": 1, "y": 1})),
        ("type_text", json!({"text": "x"})),
        ("press_keys", json!({"keys": ["a"]})),
    ] {
        assert_eq!(
            client.fails(tool, arguments),
            format!(
                "The VM `{name}` is crashed.\nNext: Its last screen can still be looked at with \
                 `take_screenshot`. Then start it anew: `virsh -c '{uri}' destroy {name}`, and `virsh -c '{uri}' \
                 start {name}`."
            ),
            "{tool}"
        );
    }
    let last = client.done("take_screenshot", json!({}));
    assert!(last.text.contains(": 720×400 pixels"), "{}", last.text);
    // What the hint says mends it.
    daemon.virsh_done(&["destroy", name]);
    daemon.boot(&vm);
    client.done("type_text", json!({"text": "anew"}));
    assert_eq!(daemon.typed(&vm), "anew");
}

#[test]
fn a_vm_without_a_video_device_says_so_and_takes_keys() {
    let daemon = Daemon::start();
    let vm = daemon.machine("blind", "<video><model type='none'/></video>");
    let mut client = daemon.client(&[&vm]);
    for (tool, arguments) in [
        ("take_screenshot", json!({})),
        ("take_screenshot", json!({"region": [0, 0, 1, 1]})),
        ("move_mouse", json!({"x": 1, "y": 1})),
        ("click", json!({"x": 1, "y": 1})),
    ] {
        assert_eq!(
            client.fails(tool, arguments),
            format!(
                "The VM `{0}` has no video device, and so no screen.\n\
                 Next: Add `<video><model type='vga'/></video>` inside `<devices>` with `virsh -c \
                 '{1}' edit {0}`, and start the VM anew. `ssh_execute` needs no screen.",
                vm.name,
                daemon.uri()
            ),
            "{tool}"
        );
    }
    client.done("type_text", json!({"text": "blind"}));
    assert_eq!(daemon.typed(&vm), "blind");
}

#[test]
fn a_head_that_the_guest_draws_nothing_on_is_told() {
    let daemon = Daemon::start();
    let vm = daemon.machine("heads", "<video><model type='virtio' heads='2'/></video>");
    let name = &vm.name;
    let mut client = daemon.client(&[&vm]);
    let note = "\nThis is QEMU's placeholder: the guest shows nothing on head 1 (yet).";
    for arguments in [
        json!({"head": 1}),
        json!({"head": 1, "format": "jpeg"}),
        json!({"head": 1, "region": [0, 0, 10, 10]}),
    ] {
        let second = client.done("take_screenshot", arguments);
        assert!(second.text.contains(" head 1: "), "{}", second.text);
        assert!(second.text.contains("640×480 pixels"), "{}", second.text);
        assert!(second.text.ends_with(note), "{}", second.text);
    }
    let first = client.done("take_screenshot", json!({}));
    assert!(first.text.contains(": 720×400 pixels"), "{}", first.text);
    assert!(!first.text.contains("placeholder"), "{}", first.text);
    for head in [2, 4_294_967_295_u32] {
        assert_eq!(
            client.fails("take_screenshot", json!({"head": head})),
            format!(
                "The VM `{name}` has no head {head}.\n\
                 Next: Heads count from 0; `vm_list` tells how many there are."
            )
        );
    }
    let error = client.fails("take_screenshot", json!({"head": 4_294_967_296_u64}));
    assert_eq!(
        error,
        "`head` is 4294967296, and must be from 0 to 4294967295.\n\
         Next: Correct the value and call again; nothing was done."
    );
}

#[test]
fn a_vm_that_restarts_keeps_no_key_down_and_no_call_waiting() {
    let daemon = Daemon::start();
    let vm = daemon.usual_machine("restarting");
    let mut client = daemon.client(&[&vm]);
    let held = client.send_call(
        "press_keys",
        json!({"keys": ["Ctrl", "Shift", "Alt"], "hold_ms": 1500}),
    );
    daemon.await_modifiers(&vm, 0b1110);
    daemon.virsh_done(&["reset", &vm.name]);
    assert!(!client.reply(held).is_error);
    daemon.await_firmware(&vm);
    daemon.await_modifiers(&vm, 0);

    // Whatever meets a reset ends, well or with a reason.
    let begun = Instant::now();
    let calls = [
        (
            "type_text",
            json!({"text": "While it restarts. ".repeat(20)}),
        ),
        ("click", json!({"count": 3, "modifiers": ["Ctrl"]})),
        ("take_screenshot", json!({})),
        ("move_mouse", json!({"x": 1, "y": 1})),
    ];
    let sent: Vec<_> = calls
        .iter()
        .map(|(tool, arguments)| client.send_call(tool, arguments.clone()))
        .collect();
    for _ in 0..5 {
        daemon.virsh_done(&["reset", &vm.name]);
        thread::sleep(Duration::from_millis(100));
    }
    for ((tool, _), id) in calls.iter().zip(sent) {
        let reply = client.reply(id);
        assert!(
            !reply.is_error || reply.text.contains("\nNext: "),
            "{tool}: {}",
            reply.text
        );
    }
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    daemon.await_firmware(&vm);
    daemon.await_modifiers(&vm, 0);
    // The buffer may hold the end of what was typed: it is empty again after this.
    daemon.virsh_done(&["reset", &vm.name]);
    thread::sleep(Duration::from_millis(200));
    daemon.await_firmware(&vm);
    client.done("type_text", json!({"text": "here"}));
    assert_eq!(daemon.typed(&vm), "here");
}

#[test]
fn a_vm_that_is_paused_in_the_middle_of_typing_says_so() {
    let daemon = Daemon::start();
    let vm = daemon.usual_machine("paused");
    let name = &vm.name;
    let mut client = daemon.client(&[&vm]);
    let text = "Shift Is Down ".repeat(1000);
    let typing = client.send_call("type_text", json!({"text": text}));
    let end = Instant::now() + Duration::from_secs(10);
    while daemon.typed(&vm).len() < 10 {
        assert!(Instant::now() < end, "nothing is typed");
    }
    thread::sleep(Duration::from_millis(500));
    daemon.virsh_done(&["suspend", name]);
    let reply = client.reply(typing);
    let typed: usize = reply
        .text
        .strip_prefix("Typing broke off after ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{}", reply.text));
    assert_eq!(
        reply.text,
        format!(
            "Typing broke off after {typed} of 14000 characters.\n\
             Cause: the VM `{name}` is paused\n\
             Next: Resume it: `virsh -c '{}' resume {name}`. Then take a screenshot to see what arrived, \
             and type the rest.",
            daemon.uri()
        )
    );
    assert!((16..14_000).contains(&typed), "{typed}");
    assert!(daemon.typed(&vm).starts_with("Shift Is D"));
    // Shift may be down still: nothing can let go of it before the VM runs.
    daemon.virsh_done(&["resume", name]);
    client.done("press_keys", json!({"keys": ["F1"]}));
    daemon.await_modifiers(&vm, 0);
}

#[test]
fn a_vm_that_is_shut_off_between_two_calls_says_so() {
    let daemon = Daemon::start();
    let vm = daemon.usual_machine("off");
    let name = &vm.name;
    let mut client = daemon.client(&[&vm]);
    client.done("move_mouse", json!({"x": 700, "y": 10}));
    daemon.virsh_done(&["destroy", name]);
    let off = format!(
        "The VM `{name}` is shut off.\nNext: Start it: `virsh -c '{}' start {name}`.",
        daemon.uri()
    );
    let relative = json!({"x": 1, "y": 1, "mode": "relative"});
    assert_eq!(client.fails("move_mouse", relative.clone()), off);
    assert_eq!(client.fails("take_screenshot", json!({})), off);
    daemon.boot(&vm);
    // The new instance's pointer is somewhere else.
    assert_eq!(
        client.fails("move_mouse", relative.clone()),
        format!(
            "Where the pointer of `{name}` is, is not known, so that it cannot be moved by an offset.\n\
             Next: Call `move_mouse` with mode `absolute` first: relative moves start where this \
             server last put the pointer."
        )
    );
    client.done("move_mouse", json!({"x": 700, "y": 10}));
    client.done("move_mouse", relative);
}

/// Lets a process go on, however the test ends.
struct Stopped(u32);

impl Stopped {
    fn new(process: u32) -> Self {
        send("-STOP", process);
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        send("-CONT", self.0);
    }
}

#[test]
fn a_vm_that_hangs_delays_no_other() {
    let daemon = Daemon::start();
    let hanging = daemon.usual_machine("hanging");
    let other = daemon.usual_machine("other");
    let mut client = daemon.client(&[&other, &hanging]);
    let on = |vm: &Machine| json!({"vm": vm.name});
    client.done("take_screenshot", on(&hanging));
    client.done("take_screenshot", on(&other));

    let stopped = Stopped::new(daemon.process(&hanging));
    let begun = Instant::now();
    let first = client.send_call("take_screenshot", on(&hanging));
    thread::sleep(Duration::from_millis(200));
    let second = client.send_call("take_screenshot", on(&hanging));
    // Meanwhile the other one is used as ever.
    for text in ["one", "two", "three"] {
        for (tool, arguments) in [
            ("click", json!({"x": 10, "y": 10})),
            ("type_text", json!({"text": text})),
            ("take_screenshot", json!({})),
            ("vm_list", json!({})),
        ] {
            let start = Instant::now();
            client.done(tool, arguments);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(8), "{tool}: {took:?}");
        }
    }
    assert_eq!(daemon.typed(&other), "onetwothree");
    let hint = format!(
        "QEMU or libvirt hangs; `virsh -c '{}' domstate {}` shows whether it answers. Other VMs are not \
         affected. Try again later.",
        daemon.uri(),
        hanging.name
    );
    let reply = client.reply(second);
    assert_eq!(
        reply.text,
        format!(
            "The VM `{}` is still busy with a call that does not return.\nNext: {hint}",
            hanging.name
        )
    );
    assert!(
        begun.elapsed() < Duration::from_secs(18),
        "{:?}",
        begun.elapsed()
    );
    let reply = client.reply(first);
    assert_eq!(
        reply.text,
        format!(
            "The VM `{}` did not answer within 20 s.\nNext: {hint}",
            hanging.name
        )
    );
    assert!(
        begun.elapsed() < Duration::from_secs(40),
        "{:?}",
        begun.elapsed()
    );

    drop(stopped);
    client.done("take_screenshot", on(&hanging));
    client.done("type_text", json!({"vm": hanging.name, "text": "again"}));
    assert_eq!(daemon.typed(&hanging), "again");
}
