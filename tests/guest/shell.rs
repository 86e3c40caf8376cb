//! `ssh_execute`, `ssh_job` and `ssh_connection_info` in the guest.

use serde_json::{Value, json};

use crate::{guest::Guest, mcp::Client};

fn execute(client: &mut Client, arguments: Value) -> Value {
    client
        .done("ssh_execute", arguments)
        .data
        .expect("commands give data")
}

#[test]
fn commands_run_as_they_are_written() {
    let guest = Guest::enter();
    let mut client = guest.client();
    let cases: [(Value, &str, &str, i64); 9] = [
        (json!({"command": "id -un"}), "vmrobot\n", "", 0),
        (json!({"command": "pwd"}), "/home/vmrobot\n", "", 0),
        (
            json!({"command": "echo out; echo err >&2; exit 3"}),
            "out\n",
            "err\n",
            3,
        ),
        (json!({"command": "false"}), "", "", 1),
        (
            json!({"command": r#"printf '%s\n' "it's" '"$HOME"' \`id\` '$(id)' 'a  b'"#}),
            "it's\n\"$HOME\"\n`id`\n$(id)\na  b\n",
            "",
            0,
        ),
        (
            json!({"command": "pwd", "cwd": "/usr/share"}),
            "/usr/share\n",
            "",
            0,
        ),
        (
            json!({"command": "printf %s \"$ONE|$TWO\"", "env": {"ONE": "it's $1", "TWO": "a\nb"}}),
            "it's $1|a\nb",
            "",
            0,
        ),
        (
            json!({"command": "tr a-z A-Z", "stdin": "grün 'x' $y\n"}),
            "GRüN 'X' $Y\n",
            "",
            0,
        ),
        (json!({"command": "wc -l", "stdin": ""}), "0\n", "", 0),
    ];
    for (arguments, stdout, stderr, code) in cases {
        let data = execute(&mut client, arguments.clone());
        assert_eq!(data["state"], "exited", "{arguments}: {data}");
        assert_eq!(data["stdout"], stdout, "{arguments}");
        assert_eq!(data["stderr"], stderr, "{arguments}");
        assert_eq!(data["exit_code"], code, "{arguments}");
        assert_eq!(data["omitted_bytes"], 0, "{arguments}");
    }
    let data = execute(&mut client, json!({"command": "kill -TERM $$"}));
    assert_eq!(
        (&data["state"], &data["signal"]),
        (&json!("signalled"), &json!("TERM")),
        "{data}"
    );
}

/// Why this program exists: the user of the shell has no way to the screen, and needs none.
#[test]
fn the_tools_reach_a_screen_that_refuses_the_shell() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let data = execute(
        &mut client,
        json!({"command": "DISPLAY=:0 xdotool getmouselocation"}),
    );
    assert_eq!(data["exit_code"], 1, "{data}");
    let stderr = data["stderr"].as_str().unwrap();
    assert!(stderr.contains("Authorization required"), "{stderr}");
    client.done("move_mouse", json!({"x": 321, "y": 654}));
    guest.assert_pointer_at((321, 654));
    assert_eq!(client.done("take_screenshot", json!({})).pictures.len(), 1);
}

fn running(guest: &mut Guest, pattern: &str) -> String {
    guest
        .try_run(&format!("pgrep -af '{pattern}' | grep -v pgrep"))
        .stdout
}

#[test]
fn a_command_goes_on_past_its_timeout_until_it_is_signalled() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let arguments = json!({
        "command": "echo begun; sleep 70771 & (sleep 70772; true) & sh -c 'sleep 70773; true'",
        "timeout": 2,
    });
    let data = execute(&mut client, arguments);
    assert_eq!(data["state"], "running", "{data}");
    assert_eq!(data["stdout"], "begun\n");
    assert_eq!(data.get("exit_code"), None);
    let id = data["job"].as_str().unwrap();
    guest.until("all of it runs", |guest| {
        (running(guest, "^sleep 7077[123]").lines().count() == 3).then_some(())
    });
    client.done(
        "ssh_job",
        json!({"action": "signal", "id": id, "signal": "TERM"}),
    );
    let ended = client.done("ssh_job", json!({"action": "wait", "id": id}));
    let ended = ended.data.expect("data");
    assert_eq!(ended["state"], "signalled", "{ended}");
    assert_eq!(running(&mut guest, "sleep 7077[123]"), "");
    assert_eq!(
        execute(&mut client, json!({"command": "echo on"}))["stdout"],
        "on\n"
    );
}

#[test]
fn a_job_takes_input_and_tells_what_it_wrote() {
    let guest = Guest::enter();
    let mut client = guest.client();
    let started = json!({"command": "tr a-z A-Z", "background": true});
    let data = execute(&mut client, started);
    assert_eq!(data["state"], "running", "{data}");
    let id = data["job"].as_str().unwrap();
    let mut of_job = |more: Value| {
        let mut arguments = json!({"id": id});
        for (name, value) in more.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        client.done("ssh_job", arguments).data.expect("data")
    };
    of_job(json!({"action": "stdin", "text": "one\ntwo\n", "eof": true}));
    let ended = of_job(json!({"action": "wait"}));
    assert_eq!(
        (&ended["state"], &ended["stdout"]),
        (&json!("exited"), &json!("ONE\nTWO\n")),
        "{ended}"
    );
    let part = of_job(json!({"action": "output", "offset": 4}));
    assert_eq!(
        (&part["text"], &part["next_offset"]),
        (&json!("TWO\n"), &json!(8))
    );
    let log = ended["log"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "ONE\nTWO\n");
    of_job(json!({"action": "forget"}));
    assert!(!std::path::Path::new(log).exists());
}

#[test]
fn a_cancel_ends_the_command_with_its_children() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let id = client.send_call(
        "ssh_execute",
        json!({"command": "sleep 70781 & sh -c 'sleep 70782; true'"}),
    );
    guest.until("the command runs", |guest| {
        (running(guest, "sleep 7078[12]").lines().count() >= 2).then_some(())
    });
    client.notify("notifications/cancelled", json!({"requestId": id}));
    guest.until("the command has ended", |guest| {
        running(guest, "sleep 7078[12]").is_empty().then_some(())
    });
    assert_eq!(
        execute(&mut client, json!({"command": "echo on"}))["stdout"],
        "on\n"
    );
}

#[test]
fn the_guest_is_found_without_being_told_where() {
    let mut guest = Guest::enter();
    let mut command = guest.server();
    command.env_remove("VM_HOST").env_remove("VM_PORT");
    let mut client = Client::start(command);
    let data = client
        .done("ssh_connection_info", json!({}))
        .data
        .expect("data");
    let key = guest.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    let fingerprint = key.split(' ').nth(1).expect("a fingerprint");
    assert_eq!(data["connected"], true, "{data}");
    assert_eq!(data["host"], guest.host.as_str());
    assert_eq!(data["port"], guest.port);
    assert_eq!(data["user"], "vmrobot");
    assert_eq!(data["identity"], guest.identity.to_str().unwrap());
    assert_eq!(data["found"], "a host forward of the user-mode network");
    assert_eq!(data["host_key"], format!("ssh-ed25519 {fingerprint}"));
    assert!(
        data["server_version"].as_str().unwrap().contains("OpenSSH"),
        "{data}"
    );
    assert!(data["round_trip_ms"].as_f64().unwrap() > 0.0, "{data}");
    // Kept under what stays the same when addresses change.
    let uuid = crate::guest::virsh_done(&["domuuid", &guest.name]);
    let known = std::fs::read_to_string(guest.files().join("known_hosts")).unwrap();
    assert!(
        known.starts_with(&format!("{uuid} ssh-ed25519 ")),
        "{known}"
    );
    assert_eq!(known.lines().count(), 1);
}
