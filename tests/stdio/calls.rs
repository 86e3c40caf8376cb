//! Calls in flight: cancelled, told of, many at once.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    busy_with,
    mcp::{Client, binary},
    server, start,
};

#[test]
fn a_cancelled_call_makes_way_for_the_next() {
    let (_home, mut client) = start();
    for (tool, arguments) in busy_with() {
        let id = client.send_call(tool, arguments);
        std::thread::sleep(Duration::from_millis(200));
        client.notify(
            "notifications/cancelled",
            json!({"requestId": id, "reason": "enough"}),
        );
        let begun = Instant::now();
        let reply = client.done("press_keys", json!({"keys": ["a"]}));
        assert_eq!(reply.text, "Pressed a.");
        assert!(begun.elapsed() < Duration::from_secs(20), "{tool}");
    }
}

#[test]
fn progress_is_told_where_it_is_asked_for() {
    let (_home, mut client) = start();
    let steps: Vec<_> = (0..4)
        .map(|_| json!({"action": "wait", "seconds": 0.2}))
        .collect();
    let cases = [
        ("wait", json!({"seconds": 2.5}), 2.0),
        (
            "wait_for",
            json!({"conditions": [{"condition": "change"}], "timeout": 2.5}),
            2.0,
        ),
        ("run_actions", json!({"actions": steps}), 4000.0),
        ("type_text", json!({"text": "x".repeat(160)}), 160.0),
    ];
    for (tool, arguments, total) in cases {
        let token = format!("of {tool}");
        let id = client.send(
            "tools/call",
            json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": token}}),
        );
        let mut last = -1.0;
        let mut told = 0;
        loop {
            let message = client.wait_for(|message| {
                message["id"] == id || message["method"] == "notifications/progress"
            });
            if message["id"] == id {
                break;
            }
            let params = &message["params"];
            assert_eq!(params["progressToken"], token, "{message}");
            assert_eq!(params["total"].as_f64(), Some(total), "{message}");
            let progress = params["progress"].as_f64().unwrap();
            assert!(progress > last || told == 0, "{last}, then {progress}");
            assert!(progress <= total, "{message}");
            last = progress;
            told += 1;
        }
        assert!(told >= 2, "{tool}: {told} times");
    }
    // Not asked for: the answer is all that comes.
    let id = client.send_call("wait", json!({"seconds": 1.2}));
    let first = client.wait_for(|_| true);
    assert_eq!(first["id"], id);
}

#[test]
fn no_progress_is_told_after_the_answer() {
    let (_home, mut client) = start();
    let mut answered = Vec::new();
    for call in 0..300 {
        let id = client.send(
            "tools/call",
            json!({
                "name": "type_text",
                "arguments": {"text": "x"},
                "_meta": {"progressToken": call},
            }),
        );
        loop {
            let message = client.wait_for(|_| true);
            if message["id"] == id {
                answered.push(json!(call));
                break;
            }
            let token = &message["params"]["progressToken"];
            assert!(!answered.contains(token), "late: {message}");
        }
    }
}

#[test]
fn calls_run_side_by_side_and_each_gets_its_own_answer() {
    let (_home, mut client) = start();
    let begun = Instant::now();
    let waits: Vec<_> = (0..20)
        .map(|n| {
            let seconds = 2.0 + f64::from(n) / 32.0;
            (
                client.send_call("wait", json!({"seconds": seconds})),
                seconds,
            )
        })
        .collect();
    let list = client.send_call("vm_list", json!({}));
    let info = client.send_call("project_list", json!({}));
    let first = client.wait_for(|message| message.get("result").is_some());
    assert!(
        first["id"] == info || first["id"] == list,
        "quick calls wait for slow ones: {first}"
    );
    let quick = if first["id"] == info { list } else { info };
    assert!(!client.reply(quick).is_error);
    for (id, seconds) in waits {
        assert_eq!(client.reply(id).text, format!("Waited {seconds} s."));
    }
    // One after the other they take 45 s.
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn of_200_calls_at_once_each_gets_its_own_answer() {
    let (_home, mut client) = start();
    let calls: Vec<_> = (0..200)
        .map(|n| match n % 4 {
            0 => {
                let seconds = f64::from(n) / 128.0;
                let id = client.send_call("wait", json!({"seconds": seconds}));
                (id, format!("Waited {seconds} s."))
            }
            1 => {
                let id = client.send_call("vm_list", json!({}));
                (id, "test: running".to_owned())
            }
            2 => {
                let id = client.send_call("press_keys", json!({"keys": ["a"]}));
                (id, "Pressed a.".to_owned())
            }
            _ => {
                let id = client.send_call("take_screenshot", json!({}));
                (id, "1120×832".to_owned())
            }
        })
        .collect();
    for (id, text) in calls {
        let reply = client.reply(id);
        assert!(!reply.is_error, "{}", reply.text);
        assert!(reply.text.contains(&text), "{text}: {}", reply.text);
    }
}

#[test]
fn answers_that_nobody_reads_do_not_pile_up_and_none_is_lost() {
    const CALLS: usize = 3000;
    let home = TempDir::new().unwrap();
    let mut client = Client::start_unread(server(&home));
    let ids: Vec<_> = (0..CALLS)
        .map(|_| client.send("tools/list", json!({})))
        .collect();
    std::thread::sleep(Duration::from_secs(3));
    let peak = client.peak_memory();
    assert!(peak < 56, "{peak} MiB");
    // A client that was only slow misses nothing.
    client.read_on();
    for id in ids {
        let tools = client.answer(id)["result"]["tools"].take();
        assert!(tools.as_array().unwrap().len() >= 20);
    }
}

#[test]
fn without_libvirt_there_is_a_clear_error_and_projects_work() {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    let uri = "qemu+unix:///system?socket=/nonexistent";
    command.args(["--uri", uri]);
    let mut client = Client::start(command);
    let calls = [
        ("vm_list", json!({})),
        ("take_screenshot", json!({})),
        ("take_screenshot", json!({"vm": "demo"})),
        ("click", json!({})),
        ("press_keys", json!({"keys": ["a"]})),
        ("ssh_execute", json!({"command": "true"})),
        ("ssh_connection_info", json!({})),
    ];
    for (tool, arguments) in calls {
        // A VM that nothing names is not granted, whether libvirt answers or not.
        if arguments.get("vm").is_some() {
            let text = client.fails(tool, arguments);
            assert!(
                text.starts_with("`view` is not granted for the VM `demo`"),
                "{text}"
            );
            continue;
        }
        let text = client.fails(tool, arguments);
        let expected = format!("Libvirt at {uri} cannot be reached.\nCause: ");
        assert!(text.starts_with(&expected), "{tool}: {text}");
        assert!(
            text.contains("/nonexistent': No such file or directory"),
            "{text}"
        );
        assert!(text.contains("\nNext: Check that libvirt runs"), "{text}");
    }
    client.done("project_init", json!({"name": "offline"}));
    client.done("project_log", json!({"message": "no libvirt here"}));
    let log = client.done("project_read_logs", json!({}));
    assert!(log.text.contains("[INFO] no libvirt here"), "{}", log.text);
    client.done("wait", json!({"seconds": 0}));
}
