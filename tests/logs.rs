//! Typed text, text for standard input and passwords never reach a log: not standard error at any
//! level, not a project's files.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/test_driver.rs"]
mod test_driver;

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use mcp::{Client, PROTOCOL, binary};
use serde_json::{Value, json};
use sshd::Sshd;
use tempfile::TempDir;

/// Texts that are found nowhere by chance. All but the first are told apart from it, so that a
/// failure says which way a secret took.
const TYPED: &str = "Zq7typed";
const STDIN: &str = "Zq7stdin";
const ENV: &str = "Zq7env";
const CONTENT: &str = "Zq7content";
const PASSWORD: &str = "Zq7password";
const SECRET: &str = "Zq7secret";
const ALL: &str = "Zq7";

/// What people set to see more, from bad to worse.
const RUST_LOG: [&str; 6] = [
    "trace",
    "rmcp=trace,russh=trace,russh_sftp=trace",
    "rmcp::service=trace,rmcp::transport=trace,rmcp::transport::async_rw=trace",
    "warn,russh::client=trace,russh::client::encrypted=trace,russh_sftp::client=trace",
    "[{}]=trace,[serve_inner]=trace,rmcp[{}]=trace",
    "virtpilot=trace,tokio_util=trace,rmcp::handler=debug",
];

/// Calls with a secret wherever one can be put, right or wrong. None needs an SSH server: those that
/// want one fail to find it, which is logged as well.
fn secret_calls() -> Vec<(&'static str, Value)> {
    vec![
        ("type_text", json!({"text": TYPED})),
        ("type_text", json!({"text": format!("{TYPED}\u{e9}")})),
        ("type_text", json!({"text": [TYPED]})),
        ("type_text", json!({"txet": TYPED})),
        ("type_text", json!({"text": TYPED, "vm": "up", "x": TYPED})),
        (
            "run_actions",
            json!({"actions": [
                {"action": "type_text", "text": TYPED},
                {"action": "wait", "seconds": 0},
            ]}),
        ),
        (
            "run_actions",
            json!({"actions": [{"action": "type_text", "text": TYPED, "extra": TYPED}]}),
        ),
        (
            "run_actions",
            json!({"actions": format!("[{{\"action\": \"type_text\", \"text\": \"{TYPED}\"}}]")}),
        ),
        ("run_actions", json!({"actions": TYPED})),
        ("run_actions", json!({"actions": [TYPED]})),
        ("run_actions", json!({"actions": [{"action": TYPED}]})),
        (
            "run_actions",
            json!({"actions": [{"action": "click", "button": TYPED}]}),
        ),
        (
            "run_actions",
            json!({"actions": [{"action": "press_keys", "keys": TYPED}]}),
        ),
        ("press_keys", json!({"keys": [TYPED]})),
        ("press_keys", json!({"keys": ["Shift", TYPED], "repeat": 2})),
        ("click", json!({"modifiers": [TYPED]})),
        ("click", json!({"button": TYPED})),
        ("click", json!({"count": TYPED})),
        ("wait", json!({"seconds": TYPED})),
        (
            "ssh_execute",
            json!({"command": "cat", "stdin": STDIN, "env": {"X": ENV}}),
        ),
        ("ssh_execute", json!({"command": "cat", "stdin": [STDIN]})),
        (
            "ssh_execute",
            json!({"command": format!("echo {PASSWORD}")}),
        ),
        (
            "ssh_execute",
            json!({"command": "cat", "env": {"X": [ENV]}}),
        ),
        (
            "project_save_result",
            json!({"filename": "a.txt", "content": CONTENT}),
        ),
        (
            "project_save_advice",
            json!({"title": "a", "content": CONTENT}),
        ),
        ("project_log", json!({"message": 7, "massage": CONTENT})),
    ]
}

/// The configuration of secrets from every source, all of them of the same text.
fn secrets(home: &Path) -> PathBuf {
    let kept = home.join("kept");
    fs::write(&kept, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o600)).unwrap();
    let open = home.join("open");
    fs::write(&open, SECRET).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let config = home.join("secrets.toml");
    let text = format!(
        "[secret.env]\nenv = 'TEST_SECRET'\n[secret.kept]\nfile = '{}'\n\
         [secret.open]\nfile = '{}'\n[secret.said]\ncommand = ['cat', '{}']\n\
         [secret.failed]\ncommand = ['sh', '-c', 'echo {SECRET}; echo {SECRET} >&2; exit 1']\n\
         [secret.untypable]\ncommand = ['echo', '{SECRET}\u{e9}']\n",
        kept.display(),
        open.display(),
        kept.display()
    );
    fs::write(&config, text).unwrap();
    config
}

fn server(home: &Path, rust_log: &str, stderr: &Path) -> Command {
    let mut command = binary(home);
    command
        .args(["--uri", &test_driver::host(home), "--vm", "up"])
        .env("RUST_LOG", rust_log)
        .env("VM_PASSWORD", PASSWORD)
        .stderr(File::create(stderr).unwrap());
    command
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn assert_clean(file: &Path, when: &str) {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
    let bad: Vec<_> = text
        .lines()
        .filter(|line| line.contains(ALL))
        .take(3)
        .collect();
    assert!(bad.is_empty(), "{when}: {}: {bad:#?}", file.display());
}

#[test]
fn no_level_of_logging_shows_a_secret() {
    for rust_log in RUST_LOG {
        let home = TempDir::new().unwrap();
        let stderr = home.path().join("stderr");
        let mut client = Client::start(server(home.path(), rust_log, &stderr));
        for (tool, arguments) in secret_calls() {
            client.call(tool, arguments);
        }
        // Messages that are none, with a secret in them.
        let broken = json!({"text": TYPED}).to_string();
        client.send_raw(&broken);
        client.send_raw(&broken[..broken.len() - 1]);
        client.send_raw(&format!(
            r#"{{"jsonrpc": "2.0", "method": "x", "params": {broken}}}"#
        ));
        let malformed = json!({"name": "type_text", "arguments": [TYPED]});
        client.request("tools/call", malformed);
        client.notify("notifications/progress", json!({"token": TYPED}));
        let id = client.send_call("wait", json!({"seconds": 60}));
        client.notify("notifications/cancelled", json!({"requestId": id}));
        client.request("ping", json!({}));
        client.hang_up();
        assert!(client.wait_for_exit().success());
        assert_clean(&stderr, rust_log);
        let logged = fs::read_to_string(&stderr).unwrap();
        // That nothing at all is logged would be no proof.
        if rust_log.contains("trace") && (rust_log == "trace" || rust_log.contains("virtpilot")) {
            assert!(
                logged.contains("tool=\"type_text\""),
                "{rust_log}: {logged}"
            );
        }
    }
}

/// Neither are secrets of the configuration told by any reply. A command that holds one is masked in a
/// project's log as soon as the secret was read.
#[test]
fn a_typed_secret_is_told_nowhere() {
    for rust_log in RUST_LOG {
        let home = TempDir::new().unwrap();
        let stderr = home.path().join("stderr");
        let mut command = server(home.path(), rust_log, &stderr);
        command
            .arg("--config")
            .arg(secrets(home.path()))
            .env("TEST_SECRET", SECRET);
        let mut client = Client::start(command);
        let made = client.done("project_init", json!({"name": "secrets"}));
        let folder = PathBuf::from(made.data.unwrap()["path"].as_str().unwrap());
        let mut calls = vec![];
        for name in ["env", "kept", "said"] {
            let params = json!({
                "name": "type_text",
                "arguments": {"secret": name},
                "_meta": {"progressToken": name},
            });
            let id = client.send("tools/call", params);
            let reply = client.reply(id);
            assert_eq!(reply.text, format!("Typed the secret `{name}`."));
            calls.push(reply.raw);
            let step = json!({"action": "type_text", "secret": name});
            let batch = json!({"actions": [step, {"action": "wait", "seconds": 0}]});
            calls.push(client.done("run_actions", batch).raw);
        }
        for name in ["open", "failed", "untypable", "unknown"] {
            let reply = client.call("type_text", json!({"secret": name}));
            assert!(reply.is_error, "{}", reply.text);
            calls.push(reply.raw);
        }
        // The model knows it from elsewhere.
        let echo = json!({"command": format!("echo {SECRET}")});
        client.call("ssh_execute", echo);
        client.call("type_text", json!({"secret": SECRET}));
        client.hang_up();
        assert!(client.wait_for_exit().success());
        for reply in calls {
            assert!(!reply.to_string().contains(ALL), "{rust_log}: {reply}");
        }
        assert_clean(&stderr, rust_log);
        for file in files(&folder) {
            assert_clean(&file, rust_log);
        }
        let log = fs::read_to_string(folder.join("logs/project.log")).unwrap();
        for told in [
            "TOOL: type_text(secret=env)",
            "ERROR in type_text: there is no such secret",
        ] {
            assert!(log.contains(told), "{told}: {log}");
        }
        let actions = fs::read_to_string(folder.join("logs/actions.jsonl")).unwrap();
        for told in [
            r#""parameters":{"secret":"kept"}"#,
            r#""parameters":{"command":"echo ***"}"#,
            r#""parameters":{"secret":"<9 characters>"}"#,
        ] {
            assert!(actions.contains(told), "{told}: {actions}");
        }
    }
}

#[test]
fn lines_that_are_no_requests_are_not_quoted() {
    let lines = [
        json!({"jsonrpc": "2.0", "method": "tools/call", "params": {"text": TYPED}}).to_string(),
        json!({"jsonrpc": "2.0", "id": 3, "result": {"text": TYPED}}).to_string(),
        json!({"jsonrpc": "2.0", "id": 3, "error": {"code": 1, "message": TYPED}}).to_string(),
        json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 1, "reason": TYPED},
        })
        .to_string(),
        json!({"jsonrpc": "2.0", "id": 3, "method": {"text": TYPED}}).to_string(),
        json!([TYPED]).to_string(),
        format!("{{\"text\": \"{TYPED}"),
        TYPED.to_owned(),
        TYPED.repeat(16 * 1024 * 1024 / TYPED.len() + 1),
    ];
    for line in lines {
        let shown = &line[..line.len().min(80)];
        let home = TempDir::new().unwrap();
        let stderr = home.path().join("stderr");
        // Before the handshake and after it.
        let mut client = Client::connect(server(home.path(), "trace", &stderr));
        client.send_raw(&line);
        client.initialize(PROTOCOL);
        client.send_raw(&line);
        client.done("wait", json!({"seconds": 0}));
        client.hang_up();
        assert_eq!(client.wait_for_exit().code(), Some(0), "{shown}");
        assert_clean(&stderr, shown);
    }
}

#[test]
fn what_goes_over_ssh_is_in_no_log() {
    let guest = Sshd::start();
    let home = TempDir::new().unwrap();
    let stderr = home.path().join("stderr");
    for rust_log in RUST_LOG {
        let mut command = server(home.path(), rust_log, &stderr);
        command
            .env("VM_HOST", "127.0.0.1")
            .env("VM_PORT", guest.port().to_string())
            .env("VM_USER", sshd::whoami())
            .env("VM_IDENTITY", guest.identity());
        let mut client = Client::start(command);
        let secret = json!({"command": "cat; echo $X", "stdin": STDIN, "env": {"X": ENV}});
        let reply = client.done("ssh_execute", secret);
        assert_eq!(
            reply.data.unwrap()["stdout"],
            format!("{STDIN}{ENV}\n"),
            "it was really sent"
        );
        client.hang_up();
        assert!(client.wait_for_exit().success());
        assert_clean(&stderr, rust_log);
    }
}

#[test]
fn a_projects_logs_tell_of_every_call_and_of_no_secret() {
    let home = TempDir::new().unwrap();
    let stderr = home.path().join("stderr");
    let mut client = Client::start(server(home.path(), "info", &stderr));
    let made = client.done("project_init", json!({"name": "secrets"}));
    let folder = PathBuf::from(made.data.unwrap()["path"].as_str().unwrap());
    let calls = secret_calls();
    let mut failed = 0;
    for (tool, arguments) in &calls {
        if client.call(tool, arguments.clone()).is_error {
            failed += 1;
        }
    }
    // Here the text is what is asked to be written.
    client.done("project_log", json!({"message": "said in the log"}));
    client.hang_up();
    client.wait_for_exit();

    for file in files(&folder) {
        let content = ["results", "advice"].map(|kept| folder.join(kept));
        if !content.iter().any(|kept| file.starts_with(kept)) {
            assert_clean(&file, "project");
        }
    }
    assert_clean(&stderr, "stderr");

    let actions = fs::read_to_string(folder.join("logs/actions.jsonl")).unwrap();
    let actions: Vec<Value> = actions
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let tools: Vec<_> = actions.iter().map(|action| &action["tool"]).collect();
    let mut expected = vec!["project_init"];
    expected.extend(calls.iter().map(|(tool, _)| *tool));
    expected.push("project_log");
    assert_eq!(tools, expected);
    let outcomes = |outcome: &str| {
        actions
            .iter()
            .filter(|action| action["outcome"] == outcome)
            .count()
    };
    assert_eq!(outcomes("failed"), failed);
    assert_eq!(outcomes("done"), expected.len() - failed);
    for action in &actions {
        assert!(action["duration_ms"].is_u64(), "{action}");
        assert_eq!(action.get("error").is_some(), action["outcome"] == "failed");
        let time = action["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == 24, "{time}");
    }
    assert_eq!(actions[1]["parameters"], json!({"text": "<8 characters>"}));

    let log = fs::read_to_string(folder.join("logs/project.log")).unwrap();
    let count = |head: &str| log.lines().filter(|line| line.contains(head)).count();
    assert_eq!(count("[ERROR] ERROR in "), failed, "{log}");
    assert_eq!(count("[INFO] TOOL: "), expected.len() - failed, "{log}");
    assert_eq!(count("[INFO] said in the log"), 1);
    assert_eq!(count("TOOL: type_text(text=<8 characters>)"), 1, "{log}");
    for line in log.lines() {
        // [2026-01-31 23:59:59] [INFO] …
        let (time, rest) = line.split_at(22);
        assert!(time.starts_with('[') && time.ends_with("] "), "{line}");
        assert!(
            rest.starts_with("[INFO] ") || rest.starts_with("[ERROR] "),
            "{line}"
        );
    }
}

#[test]
fn errors_in_requests_are_told_to_the_client_alone() {
    let home = TempDir::new().unwrap();
    let stderr = home.path().join("stderr");
    let mut client = Client::start(server(home.path(), "warn", &stderr));
    let error = client.request("tools/cook", json!({}))["error"].take();
    assert_eq!(error["code"], -32601);
    let error = client.request("resources/read", json!({"uri": "file:///x"}))["error"].take();
    assert_eq!(error["code"], -32002);
    client.hang_up();
    assert!(client.wait_for_exit().success());
    assert_eq!(fs::read_to_string(&stderr).unwrap(), "");
}

#[test]
fn standard_error_is_quiet_unless_asked() {
    let home = TempDir::new().unwrap();
    let stderr = home.path().join("stderr");
    let mut command = server(home.path(), "", &stderr);
    command.env_remove("RUST_LOG");
    let mut client = Client::start(command);
    client.done("type_text", json!({"text": "a"}));
    client.fails("type_text", json!({}));
    client.hang_up();
    client.wait_for_exit();
    assert_eq!(fs::read_to_string(&stderr).unwrap(), "");
}

#[test]
fn a_setting_that_is_no_longer_needed_is_told_once() {
    let home = TempDir::new().unwrap();
    let stderr = home.path().join("stderr");
    let mut command = server(home.path(), "warn", &stderr);
    command.env("VM_DISPLAY", ":0");
    let mut client = Client::start(command);
    client.done("vm_list", json!({}));
    client.hang_up();
    client.wait_for_exit();
    let logged = fs::read_to_string(&stderr).unwrap();
    let notice = "`VM_DISPLAY` (environment) is no longer needed: the screen is read from the host";
    assert_eq!(logged.matches(notice).count(), 1, "{logged}");
    assert_eq!(logged.lines().count(), 1, "{logged}");
}

#[test]
fn a_misspelt_log_filter_is_no_reason_not_to_start() {
    let home = TempDir::new().unwrap();
    let stderr = home.path().join("stderr");
    let mut client = Client::start(server(home.path(), "virtpilot=loud,=,,[", &stderr));
    client.done("wait", json!({"seconds": 0}));
}
