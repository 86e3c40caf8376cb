//! A libvirt daemon that goes away and comes back, and one that does not let everybody in.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    daemon::Daemon,
    mcp::{Client, binary},
};

#[test]
fn a_daemon_that_is_stopped_between_two_calls_is_told_and_found_again() {
    let mut daemon = Daemon::start();
    let vm = daemon.usual_machine("between");
    let mut client = daemon.client(&[&vm]);
    let uri = daemon.uri();
    client.done("click", json!({"x": 10, "y": 10}));
    for stop in [Daemon::stop, Daemon::kill] {
        stop(&mut daemon);
        for (tool, arguments) in [
            ("take_screenshot", json!({})),
            ("move_mouse", json!({"x": 1, "y": 1})),
            ("click", json!({})),
            ("type_text", json!({"text": "x"})),
            ("press_keys", json!({"keys": ["a"]})),
            ("run_actions", json!({"actions": [{"action": "click"}]})),
            ("vm_list", json!({})),
            ("vm_list", json!({"vm": vm.name})),
            ("ssh_execute", json!({"command": "true"})),
        ] {
            let begun = Instant::now();
            let error = client.fails(tool, arguments);
            let start = match tool {
                "run_actions" => format!(
                    "Action 1 is refused, and nothing was done: libvirt at {uri} cannot be reached.\nCause: "
                ),
                _ => format!("Libvirt at {uri} cannot be reached.\nCause: "),
            };
            assert!(error.starts_with(&start), "{tool}: {error}");
            let hint = format!(
                "\nNext: Check that libvirt runs and that the URI is right: `virsh -c '{uri}' list --all`. \
                 Start it with `sudo systemctl start libvirtd`, or `virtlogd -d && libvirtd -d` where no \
                 service manager runs. Another URI: LIBVIRT_DEFAULT_URI or `uri` in the configuration."
            );
            assert!(error.ends_with(&hint), "{tool}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{tool}");
        }
        daemon.start_again();
        client.done("take_screenshot", json!({}));
        client.done("move_mouse", json!({"x": 20, "y": 20}));
        client.done("press_keys", json!({"keys": ["Ctrl", "a"]}));
        daemon.await_modifiers(&vm, 0);
    }
}

#[test]
fn a_daemon_that_dies_during_a_call_costs_that_call_alone() {
    let mut daemon = Daemon::start();
    let vm = daemon.usual_machine("during");
    let name = vm.name.clone();
    let uri = daemon.uri();
    let mut client = daemon.client(&[&vm]);

    // Keys that are held: nobody can let go of them, and that is told with what mends it.
    let held = client.send_call(
        "press_keys",
        json!({"keys": ["Ctrl", "Shift"], "hold_ms": 1500}),
    );
    daemon.await_modifiers(&vm, 0b110);
    daemon.kill();
    let reply = client.reply(held);
    assert!(reply.is_error);
    assert!(
        reply.text.starts_with(&format!(
            "A key or button of `{name}` may still be down: it could not be released.\n\
             Cause: libvirt at {uri} cannot be reached: "
        )),
        "{}",
        reply.text
    );
    assert!(
        reply
            .text
            .ends_with(" The next act on the VM lets go of it."),
        "{}",
        reply.text
    );
    daemon.start_again();
    daemon.await_modifiers(&vm, 0b110);
    client.done("click", json!({}));
    daemon.await_modifiers(&vm, 0);

    // A text: so much of it arrived as is told, or more.
    let text = "Some Longer Text ".repeat(200);
    let typing = client.send_call("type_text", json!({"text": text}));
    let end = Instant::now() + Duration::from_secs(10);
    while daemon.typed(&vm).len() < 15 {
        assert!(Instant::now() < end, "nothing is typed");
    }
    daemon.kill();
    let begun = Instant::now();
    let reply = client.reply(typing);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert!(reply.is_error);
    assert!(
        reply.text.starts_with("Typing broke off after ")
            && reply.text.contains(" of 3400 characters.\nCause: "),
        "{}",
        reply.text
    );
    daemon.start_again();
    daemon.await_modifiers(&vm, 0);
    assert_eq!(daemon.typed(&vm), text[..15]);
    client.done("take_screenshot", json!({}));
    client.done("click", json!({"x": 5, "y": 5}));
}

/// Starts the server as another user (`daemon`, on every Debian), in no group but perhaps this one.
fn as_other_user(daemon: &Daemon, groups: &str, uri: &str) -> Client {
    let own = binary(&daemon.home());
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=1", "--regid=1", groups])
        .arg(own.get_program())
        .args(["--uri", uri]);
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir("/");
    Client::start(command)
}

/// A group that nobody is in.
const GROUP: u32 = 65531;

#[test]
fn only_members_of_the_sockets_group_are_let_in() {
    let daemon = Daemon::start();
    let vm = daemon.usual_machine("members");
    let uri = daemon.uri();
    // As a distribution's package sets up the system's daemon: root's, and the group's.
    chown(daemon.socket(), Some(0), Some(GROUP)).unwrap();
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o770)).unwrap();

    let mut stranger = as_other_user(&daemon, "--clear-groups", &uri);
    let error = stranger.fails("vm_list", json!({}));
    assert_eq!(
        error,
        format!(
            "Libvirt at {uri} refuses access.\n\
             Cause: error: Failed to connect socket to '{}': Permission denied \
             [code=systemerror (38), domain=rpc (7)]\n\
             Next: Add the user to libvirt's group and log in again: `sudo usermod -aG libvirt $USER`.",
            daemon.socket().display()
        )
    );
    // What needs no libvirt works.
    stranger.done("wait", json!({"seconds": 0}));
    assert!(
        stranger
            .fails("take_screenshot", json!({}))
            .starts_with("Libvirt at ")
    );

    let mut member = as_other_user(&daemon, &format!("--groups={GROUP}"), &uri);
    let list = member.done("vm_list", json!({}));
    assert!(list.text.contains(&vm.name), "{}", list.text);
    member.done("take_screenshot", json!({}));

    // Once he is let in, the first one needs no new start.
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o777)).unwrap();
    stranger.done("take_screenshot", json!({}));
}
