//! What goes wrong with jobs: each is told, nothing hangs, and the next call works.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    Setting, client, command,
    mcp::Client,
    odd_server::{Behaviour, Exec, OddServer},
    relay::Relay,
    sleeping,
    sshd::{Sshd, free_port, make_key},
    unique, until,
};

#[test]
fn what_cannot_be_done_with_a_job_says_what_can() {
    let mut setting = Setting::new();
    let id = setting.background("cat");
    setting.job("stdin", &id, json!({"text": "some"}));
    until("its output", || {
        (setting.job_data("status", &id, json!({}))["stdout_bytes"] == 4).then_some(())
    });
    let cases: [(Value, String); 8] = [
        (
            json!({"action": "status", "id": "no such"}),
            format!("There is no job `no such`.\nNext: There are {id}."),
        ),
        (
            json!({"action": "wait"}),
            "This action needs `id`.\nNext: Give it: the action list shows all jobs.".to_owned(),
        ),
        (
            json!({"action": "output", "id": id, "offset": 5}),
            "`offset` 5 is past the end: stdout has 4 bytes so far.\nNext: Give one from 0 to 4; the last reply \
             named the next one."
                .to_owned(),
        ),
        (
            json!({"action": "forget", "id": id}),
            format!(
                "The job {id} is still running.\nNext: End it first: `ssh_job` with the action signal, TERM or \
                 else KILL; then wait for it."
            ),
        ),
        (
            json!({"action": "signal", "id": id}),
            "This action needs `signal`.\nNext: Give it: such as INT, TERM or KILL.".to_owned(),
        ),
        (
            json!({"action": "signal", "id": id, "signal": "9"}),
            "`9` is no signal that can be sent.\nNext: There are ABRT, ALRM, CONT, HUP, INT, KILL, PIPE, QUIT, \
             STOP, TERM, TSTP, USR1, USR2, WINCH."
                .to_owned(),
        ),
        (
            json!({"action": "stdin", "id": id}),
            "This action needs `text`.\nNext: Give it: or set `eof` to end the input.".to_owned(),
        ),
        (
            json!({"action": "stop", "id": id}),
            "`action` is \"stop\", which is none of its values.\nNext: Allowed are list, status, output, wait, \
             stdin, signal, forget."
                .to_owned(),
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(
            setting.client.fails("ssh_job", arguments.clone()),
            expected,
            "{arguments}"
        );
    }
    // At the end there is nothing, and that is no failure.
    let end = setting.job_data("output", &id, json!({"offset": 4}));
    assert_eq!((&end["text"], &end["next_offset"]), (&json!(""), &json!(4)));
    setting.job("stdin", &id, json!({"eof": true}));
    setting.job("wait", &id, json!({}));
}

#[test]
fn the_input_of_a_command_that_was_waited_for_has_ended() {
    let mut setting = Setting::new();
    let unique = unique(10);
    let line = format!("cat; echo read all; sleep {unique}");
    let data = setting.execute(json!({"command": line, "stdin": "in\n", "timeout": 1}));
    let id = data["job"].as_str().unwrap();
    let error = setting.job_fails("stdin", id, json!({"text": "more"}));
    assert_eq!(
        error,
        format!(
            "The input of the job {id} has ended.\nNext: The input stays open only for a command that was \
             started with `background`, until `eof` ends it. Start it so, or give all of its input as `stdin`."
        )
    );
    until("all that it writes", || {
        (setting.job_data("status", id, json!({}))["stdout_bytes"] == 12).then_some(())
    });
    setting.job("signal", id, json!({"signal": "KILL"}));
    let ended = setting.job_data("wait", id, json!({}));
    assert_eq!(
        (&ended["signal"], &ended["stdout"]),
        (&json!("KILL"), &json!("in\nread all\n"))
    );
}

#[test]
fn a_job_that_reads_nothing_is_told_from_one_that_reads() {
    let mut setting = Setting::new();
    let unique = unique(11);
    let id = setting.background(&format!("sleep {unique}"));
    let piece = "x".repeat(1_000_000);
    let error = until("that nothing more is taken", || {
        let arguments = json!({"action": "stdin", "id": id, "text": piece});
        let reply = setting.client.call("ssh_job", arguments);
        reply.is_error.then_some(reply.text)
    });
    assert_eq!(
        error,
        format!(
            "The job {id} does not read its input: what was written before still waits.\nNext: Look what it waits \
             for with the action output; end it with a signal if it hangs."
        )
    );
    setting.job("signal", &id, json!({"signal": "TERM"}));
    let ended = setting.job_data("wait", &id, json!({}));
    assert_eq!(ended["state"], "signalled", "{ended}");
}

#[test]
fn what_runs_when_the_connection_is_cut_is_unknown_and_never_run_again() {
    let runtime = Runtime::new().unwrap();
    let sshd = Sshd::start();
    let relay = runtime.block_on(Relay::to(sshd.port()));
    let home = TempDir::new().unwrap();
    let mut client = client(home.path(), relay.port(), &sshd.identity());
    let endpoint = format!("127.0.0.1:{}", relay.port());
    let count = sshd.folder().join("count");
    let unique = unique(12);
    let line = |word: &str| {
        format!(
            "echo {word}; echo {word} >> {}; sleep {unique}",
            count.display()
        )
    };
    let started = json!({"command": line("job"), "background": true});
    let started = client.done("ssh_execute", started).data.unwrap();
    let id = started["job"].as_str().unwrap();
    let waited = client.send_call("ssh_job", json!({"action": "wait", "id": id}));
    let called = client.send(
        "tools/call",
        json!({
            "name": "ssh_execute",
            "arguments": {"command": line("call")},
            "_meta": {"progressToken": "of the call"},
        }),
    );
    // Both have begun, and what they said has arrived.
    client.wait_for(|message| message["params"]["message"] == "call");
    until("the job's output", || {
        let status = client.done("ssh_job", json!({"action": "status", "id": id}));
        (status.data.unwrap()["stdout_bytes"] == 4).then_some(())
    });
    until("the commands", || (sleeping(&unique) == 2).then_some(()));
    runtime.block_on(relay.cut());

    let why = format!(
        "the connection to {endpoint} was lost while the command ran; whether it finished is unknown"
    );
    let called = client.reply(called);
    assert!(called.is_error, "{}", called.text);
    assert!(called.text[1..].starts_with(&why[1..]), "{}", called.text);
    assert!(
        called
            .text
            .contains("\nNext: Look whether it ran before you run it again"),
        "{}",
        called.text
    );
    let data = called.data.unwrap();
    assert_eq!(
        (&data["state"], &data["stdout"], &data["why"]),
        (&json!("unknown"), &json!("call\n"), &json!(why))
    );
    assert_eq!(data.get("exit_code"), None);
    let waited = client.reply(waited);
    assert!(!waited.is_error, "{}", waited.text);
    let data = waited.data.unwrap();
    assert_eq!(
        (&data["state"], &data["stdout"], &data["why"]),
        (&json!("unknown"), &json!("job\n"), &json!(why))
    );

    let next = client.done("ssh_execute", json!({"command": "echo on"}));
    assert_eq!(next.data.unwrap()["stdout"], "on\n");
    let mut words: Vec<_> = fs::read_to_string(&count)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    words.sort();
    assert_eq!(words, ["call", "job"], "each ran once");
    // Nobody else ends what is left of them.
    let left = format!("pkill -f '^sleep {unique}'");
    client.done("ssh_execute", json!({"command": left}));
}

#[test]
fn how_a_command_ended_stays_known_when_the_connection_is_lost_after_it() {
    let runtime = Runtime::new().unwrap();
    let sshd = Sshd::start();
    let relay = runtime.block_on(Relay::to(sshd.port()));
    let home = TempDir::new().unwrap();
    let mut client = client(home.path(), relay.port(), &sshd.identity());
    let unique = unique(15);
    let line = json!({"command": format!("sleep {unique} & echo up; exit 4")});
    let data = client.done("ssh_execute", line).data.unwrap();
    let id = &data["job"];
    assert_eq!(data["exit_code"], 4, "{data}");
    // And one that is waited for still, since what it started goes on to write.
    let gone_on = json!({
        "name": "ssh_execute",
        "arguments": {"command": "(while kill -0 $$ 2>/dev/null; do sleep 0.1; done; \
            while echo more; do sleep 0.1; done) & exit 5"},
        "_meta": {"progressToken": "of the call"},
    });
    let called = client.send("tools/call", gone_on);
    // It comes after the command's end.
    client.wait_for(|message| message["params"]["message"] == "more");
    runtime.block_on(relay.cut());

    let why = "the connection was lost before its output ended: some of it may be missing, and what it \
               started may go on";
    let called = client.reply(called);
    assert!(!called.is_error, "{}", called.text);
    let data = called.data.unwrap();
    assert_eq!(
        (&data["exit_code"], &data["why"], data.get("log_cut")),
        (&json!(5), &json!(why), None),
        "{data}"
    );
    let told = until("the end of the connection", || {
        let status = client.done("ssh_job", json!({"action": "status", "id": id}));
        (status.data.as_ref().unwrap()["why"] == why).then_some(status)
    });
    let data = told.data.unwrap();
    assert_eq!(
        (&data["state"], &data["exit_code"]),
        (&json!("exited"), &json!(4)),
        "{data}"
    );
    let refused = json!({"action": "signal", "id": id, "signal": "TERM"});
    let refused = client.fails("ssh_job", refused);
    let lost = format!(
        "The connection to the job {} was lost (exit code 4).",
        id.as_str().unwrap()
    );
    assert!(refused.starts_with(&lost), "{refused}");
    let waited = client.done("ssh_job", json!({"action": "wait", "id": id}));
    let data = waited.data.unwrap();
    assert_eq!(data["stdout"], "up\n");
    assert_eq!(
        data["log_cut"],
        "the connection was lost before the output ended"
    );
    let left = format!("pkill -f '^sleep {unique}'");
    client.done("ssh_execute", json!({"command": left}));
}

#[test]
fn a_hundred_commands_at_once_are_all_run() {
    let mut setting = Setting::new();
    let calls: Vec<_> = (0..100)
        .map(|n| {
            setting.client.send_call(
                "ssh_execute",
                json!({"command": format!("echo {n}; echo {n} >&2; exit {n}")}),
            )
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let reply = setting.client.reply(call);
        assert!(!reply.is_error, "{n}: {}", reply.text);
        let data = reply.data.unwrap();
        let line = format!("{n}\n");
        assert_eq!(
            (&data["stdout"], &data["stderr"], &data["exit_code"]),
            (&json!(line), &json!(line), &json!(n))
        );
    }
}

#[test]
fn background_jobs_leave_room_for_commands() {
    let mut setting = Setting::new();
    let unique = unique(13);
    let line = format!("sleep {unique}");
    let ids: BTreeSet<_> = (0..6).map(|_| setting.background(&line)).collect();
    let error = setting
        .client
        .fails("ssh_execute", json!({"command": line, "background": true}));
    let list: Vec<_> = ids.iter().map(String::as_str).collect();
    assert_eq!(
        error,
        format!(
            "6 jobs run in the background of this guest, which is the most: {}.\nNext: Wait for one of them with \
             `ssh_job`, or end one with a signal; or run this command without `background`.",
            list.join(", ")
        )
    );
    setting.assert_next_call_works();
    let first = list[0];
    setting.job("signal", first, json!({"signal": "KILL"}));
    setting.job("wait", first, json!({}));
    setting.background("true");
    for id in &list[1..] {
        setting.job("signal", id, json!({"signal": "KILL"}));
        setting.job("wait", id, json!({}));
    }
}

#[test]
fn nothing_is_started_where_nobody_answers() {
    let home = TempDir::new().unwrap();
    let mut client = client(home.path(), free_port(), "/nonexistent".as_ref());
    let error = client.fails(
        "ssh_execute",
        json!({"command": "true", "background": true}),
    );
    assert!(error.starts_with("Cannot connect to 127.0.0.1:"), "{error}");
    let listed = client
        .done("ssh_job", json!({"action": "list"}))
        .data
        .unwrap();
    assert_eq!(listed["jobs"], json!([]));
}

#[test]
fn a_background_command_that_the_server_refuses_is_no_job() {
    let runtime = Runtime::new().unwrap();
    let home = TempDir::new().unwrap();
    let key = home.path().join("host");
    make_key(&key, "ed25519", "");
    let refusing = OddServer::start(&key, Behaviour::default());
    let refusing = runtime.block_on(refusing);
    let mut client = client(home.path(), refusing.port, "/nonexistent".as_ref());
    let arguments = json!({"command": "true", "background": true});
    let error = client.fails("ssh_execute", arguments);
    let refused = format!(
        "127.0.0.1:{} refuses to run commands for this user.",
        refusing.port
    );
    assert!(error.starts_with(&refused), "{error}");
    let listed = client.done("ssh_job", json!({"action": "list"}));
    assert_eq!(listed.data.unwrap()["jobs"], json!([]));
}

#[test]
fn a_server_that_does_not_say_whether_it_runs_a_command_is_told_as_such() {
    let runtime = Runtime::new().unwrap();
    let home = TempDir::new().unwrap();
    let key = home.path().join("host");
    make_key(&key, "ed25519", "");
    let silent = OddServer::start(
        &key,
        Behaviour {
            id: "SSH-2.0-OpenSSH_odd",
            exec: Exec::Ignore,
            ..Behaviour::default()
        },
    );
    let silent = runtime.block_on(silent);
    let mut client = client(home.path(), silent.port, "/nonexistent".as_ref());
    let calls = [
        json!({"command": "true", "background": true}),
        json!({"command": "true", "timeout": 1}),
    ]
    .map(|arguments| client.send_call("ssh_execute", arguments));
    for call in calls {
        let reply = client.reply(call);
        let data = reply.data.unwrap();
        assert_eq!(
            (&data["state"], &data["why"]),
            (
                &json!("unknown"),
                &json!("the guest's server has not said whether it runs it")
            )
        );
        let begin = "whether it runs is unknown: the guest's server has not answered for ";
        let id = data["job"].as_str().unwrap();
        assert!(
            reply.text.starts_with(begin) && reply.text.contains(&format!("It is job {id}")),
            "{}",
            reply.text
        );
    }
}

#[test]
fn jobs_of_one_vm_are_not_those_of_another() {
    let sshd = Sshd::start();
    let home = TempDir::new().unwrap();
    let config = home.path().join("config/virtpilot");
    fs::create_dir_all(&config).unwrap();
    let ssh = format!(
        "ssh = {{ host = \"127.0.0.1\", port = {}, user = \"{}\", identity = \"{}\" }}\n",
        sshd.port(),
        crate::whoami(),
        sshd.identity().display()
    );
    let settings = format!("[vm.other]\n{ssh}[vm.closed]\nallow = [\"view\"]\n{ssh}");
    fs::write(config.join("config.toml"), settings).unwrap();
    let mut client = Client::start(command(home.path(), sshd.port(), &sshd.identity()));
    let mut start = |vm: &str| {
        let arguments = json!({"command": "echo out", "background": true, "vm": vm});
        let data = client.done("ssh_execute", arguments).data.unwrap();
        data["job"].as_str().unwrap().to_owned()
    };
    let (test, other) = (start("test"), start("other"));
    let mut listed = |arguments: Value| -> Vec<String> {
        let data = client.done("ssh_job", arguments).data.unwrap();
        let jobs = data["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["job"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(json!({"action": "list"})), [test.as_str(), &other]);
    assert_eq!(
        listed(json!({"action": "list", "vm": "other"})),
        [other.as_str()]
    );
    let wrong = client.fails(
        "ssh_job",
        json!({"action": "status", "id": test, "vm": "other"}),
    );
    assert_eq!(
        wrong,
        format!("There is no job `{test}`.\nNext: There are {other}.")
    );
    for action in ["list", "status", "signal", "forget"] {
        let error = client.fails(
            "ssh_job",
            json!({"action": action, "id": test, "vm": "closed"}),
        );
        assert!(
            error.contains("not granted for the VM `closed`")
                || error.contains("no VM named `closed`"),
            "{action}: {error}"
        );
    }
}

#[test]
fn a_killed_servers_jobs_end_unknown() {
    let mut setting = Setting::new();
    let unique = unique(14);
    let id = setting.background(&format!("echo begun; sleep {unique}"));
    until("the command", || (sleeping(&unique) == 1).then_some(()));
    let children = Command::new("pgrep")
        .args(["--parent", &setting.sshd.process().to_string()])
        .output()
        .unwrap();
    for child in String::from_utf8(children.stdout).unwrap().lines() {
        let killed = Command::new("kill").args(["-KILL", child]).status();
        assert!(killed.unwrap().success());
    }
    let ended = setting.job_data("wait", &id, json!({}));
    assert_eq!(
        (&ended["state"], &ended["stdout"]),
        (&json!("unknown"), &json!("begun\n")),
        "{ended}"
    );
    setting.assert_next_call_works();
    setting.execute(json!({"command": format!("pkill -f '^sleep {unique}'")}));
}
