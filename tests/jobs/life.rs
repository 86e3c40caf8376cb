//! What a job is: how it begins, what can be done with it, how it ends.

use std::{fs, time::Instant};

use serde_json::json;

use crate::{LIMIT, Setting, client, of_job, sleeping, unique, until};

#[test]
fn a_command_goes_on_past_its_timeout_and_is_waited_for() {
    let mut setting = Setting::new();
    let gate = setting.there("gate");
    let line = format!(
        "echo begun; echo grumble >&2; until [ -e {} ]; do sleep 0.05; done; echo done; exit 3",
        gate.display()
    );
    let begun = setting
        .client
        .done("ssh_execute", json!({"command": line, "timeout": 5}));
    let data = begun.data.unwrap();
    let id = data["job"].as_str().unwrap().to_owned();
    assert_eq!(data["state"], "running", "{data}");
    assert_eq!(
        (&data["stdout"], &data["stderr"]),
        (&json!("begun\n"), &json!("grumble\n"))
    );
    assert_eq!(data.get("exit_code"), None);
    assert!(
        begun.text.starts_with("still running after "),
        "{}",
        begun.text
    );
    assert!(
        begun.text.contains(&id) && begun.text.contains("offset 6 on (stderr: 8)"),
        "{}",
        begun.text
    );
    // All of it is in files from now on.
    let log = setting.logs().join(&id).join("stdout");
    assert_eq!(data["log"], log.to_str().unwrap());
    assert_eq!(fs::read_to_string(&log).unwrap(), "begun\n");

    let waited = setting.job_data("wait", &id, json!({"timeout": 0.1}));
    assert_eq!(
        (&waited["state"], &waited["last_line"]),
        (&json!("running"), &json!("grumble"))
    );
    assert_eq!(waited.get("stdout"), None);

    fs::write(&gate, "").unwrap();
    let ended = setting.job("wait", &id, json!({}));
    let data = ended.data.unwrap();
    assert_eq!(
        (&data["state"], &data["exit_code"]),
        (&json!("exited"), &json!(3)),
        "{data}"
    );
    assert_eq!(data["stdout"], "begun\ndone\n");
    assert!(
        ended.text.contains("exit code 3") && ended.text.contains("\nstdout:\nbegun\ndone\n"),
        "{}",
        ended.text
    );
    let rest = setting.job_data("output", &id, json!({"offset": 6}));
    assert_eq!(
        (&rest["text"], &rest["offset"], &rest["next_offset"]),
        (&json!("done\n"), &json!(6), &json!(11))
    );
    let grumble = setting.job_data("output", &id, json!({"stream": "stderr"}));
    assert_eq!(grumble["text"], "grumble\n");
    assert_eq!(fs::read_to_string(&log).unwrap(), "begun\ndone\n");
    assert_eq!(
        fs::read_to_string(log.with_file_name("stderr")).unwrap(),
        "grumble\n"
    );

    let listed = setting
        .client
        .done("ssh_job", json!({"action": "list"}))
        .data
        .unwrap();
    assert_eq!(listed["jobs"][0]["job"], id.as_str());
    assert_eq!(listed["jobs"][0]["vm"], "test");
    setting.job("forget", &id, json!({}));
    assert!(!log.parent().unwrap().exists());
    assert_eq!(
        setting.job_fails("status", &id, json!({})),
        format!(
            "There is no job `{id}`.\nNext: There are none: `ssh_execute` with `background` starts one. Jobs \
             end with the server that started them."
        )
    );
}

#[test]
fn a_quick_command_is_no_job_and_leaves_no_file() {
    let mut setting = Setting::new();
    let data = setting.execute(json!({"command": "echo hi; echo ho >&2"}));
    assert_eq!(
        (&data["state"], &data["stdout"]),
        (&json!("exited"), &json!("hi\n"))
    );
    for name in ["job", "log", "stderr_log", "log_cut", "signal", "why"] {
        assert_eq!(data.get(name), None, "{data}");
    }
    let listed = setting.client.done("ssh_job", json!({"action": "list"}));
    assert_eq!(listed.data.unwrap()["jobs"], json!([]));
    assert!(!setting.logs().exists());
}

#[test]
fn a_background_command_takes_input_until_its_end() {
    let mut setting = Setting::new();
    let arguments = json!({"command": "cat; echo over", "stdin": "one\n", "background": true});
    let started = setting.client.done("ssh_execute", arguments);
    let id = started.data.unwrap()["job"].as_str().unwrap().to_owned();
    assert!(
        started.text.starts_with(&format!("started as job {id}. ")),
        "{}",
        started.text
    );
    setting.job("stdin", &id, json!({"text": "zwö 'x' $y\n"}));
    until("the second line", || {
        let text = setting.job_data("output", &id, json!({}));
        (text["text"] == "one\nzwö 'x' $y\n").then_some(())
    });
    setting.job("stdin", &id, json!({"text": "three", "eof": true}));
    let ended = setting.job_data("wait", &id, json!({}));
    assert_eq!(ended["state"], "exited");
    assert_eq!(ended["stdout"], "one\nzwö 'x' $y\nthreeover\n");

    let over = format!(
        "The job {id} has ended already (exit code 0).\nNext: What it wrote is there with the action output; \
         `ssh_execute` runs it once more."
    );
    assert_eq!(
        setting.job_fails("stdin", &id, json!({"text": "more"})),
        over
    );
    assert_eq!(
        setting.job_fails("signal", &id, json!({"signal": "TERM"})),
        over
    );
}

#[test]
fn a_signal_reaches_every_process_of_a_job_whoever_the_user_is() {
    let mut setting = Setting::new();
    let unique = unique(1);
    let id = setting.background(&format!("sleep {unique} & sleep {unique}; true"));
    until("the command", || (sleeping(&unique) == 2).then_some(()));
    let sent = setting.job("signal", &id, json!({"signal": "sigterm"}));
    assert_eq!(
        sent.text,
        format!("TERM is sent to 3 processes of job {id}")
    );
    let ended = setting.job_data("wait", &id, json!({}));
    assert_eq!(
        (&ended["state"], &ended["signal"]),
        (&json!("signalled"), &json!("TERM")),
        "{ended}"
    );
    assert_eq!(sleeping(&unique), 0);
}

#[test]
fn a_signal_that_is_caught_is_the_commands_own_affair() {
    let mut setting = Setting::new();
    let gate = setting.there("trapped");
    let id = setting.background(&format!(
        "trap 'echo caught; exit 7' INT; echo > {}; while :; do sleep 0.05; done",
        gate.display()
    ));
    until("the trap", || gate.exists().then_some(()));
    setting.job("signal", &id, json!({"signal": "INT"}));
    let ended = setting.job_data("wait", &id, json!({}));
    assert_eq!(
        (&ended["exit_code"], &ended["stdout"]),
        (&json!(7), &json!("caught\n")),
        "{ended}"
    );
}

#[test]
fn two_clients_of_one_server_wait_for_the_same_job() {
    let mut setting = Setting::new();
    let gate = setting.there("gate");
    let id = setting.background(&format!(
        "until [ -e {} ]; do sleep 0.05; done; echo out",
        gate.display()
    ));
    let waits = [0, 1].map(|_| {
        setting
            .client
            .send_call("ssh_job", of_job("wait", &id, json!({})))
    });
    setting.assert_next_call_works();
    fs::write(&gate, "").unwrap();
    for wait in waits {
        let ended = setting.client.reply(wait).data.unwrap();
        assert_eq!(
            (&ended["state"], &ended["stdout"]),
            (&json!("exited"), &json!("out\n"))
        );
    }
}

#[test]
fn a_cancelled_call_ends_its_command_and_leaves_jobs_alone() {
    let mut setting = Setting::new();
    let (foreground, background) = (unique(2), unique(3));
    let id = setting.background(&format!("sleep {background}"));
    let call = setting.client.send_call(
        "ssh_execute",
        json!({"command": format!("sleep {foreground} & sleep {foreground}")}),
    );
    let wait = setting
        .client
        .send_call("ssh_job", of_job("wait", &id, json!({})));
    until("the commands", || {
        (sleeping(&foreground) == 2 && sleeping(&background) == 1).then_some(())
    });
    for call in [call, wait] {
        setting
            .client
            .notify("notifications/cancelled", json!({"requestId": call}));
    }
    until("the end", || (sleeping(&foreground) == 0).then_some(()));
    assert_eq!(sleeping(&background), 1);
    let status = setting.job_data("status", &id, json!({}));
    assert_eq!(status["state"], "running");
    setting.job("signal", &id, json!({"signal": "KILL"}));
    setting.job("wait", &id, json!({}));
}

#[test]
fn jobs_end_with_their_server_and_so_does_what_runs_in_a_call() {
    let mut setting = Setting::new();
    let (foreground, background) = (unique(4), unique(5));
    let id = setting.background(&format!(
        "echo kept; sleep {background} & sleep {background}"
    ));
    setting.client.send_call(
        "ssh_execute",
        json!({"command": format!("sleep {foreground}")}),
    );
    until("the commands", || {
        (sleeping(&foreground) == 1 && sleeping(&background) == 2).then_some(())
    });
    setting.client.signal("TERM");
    assert_eq!(setting.client.wait_for_exit().code(), Some(0));
    until("the end of both", || {
        (sleeping(&foreground) + sleeping(&background) == 0).then_some(())
    });
    // What it wrote stays.
    let log = setting.logs().join(&id).join("stdout");
    assert_eq!(fs::read_to_string(log).unwrap(), "kept\n");

    // Another server of the same folder knows nothing of it.
    let mut next = client(
        setting.home.path(),
        setting.sshd.port(),
        &setting.sshd.identity(),
    );
    let error = next.fails("ssh_job", json!({"action": "status", "id": id}));
    assert!(
        error.starts_with(&format!("There is no job `{id}`.")),
        "{error}"
    );
}

#[test]
fn many_jobs_that_are_hard_to_end_all_end_with_their_server() {
    let mut setting = Setting::new();
    let unique = unique(6);
    let line = format!("trap '' TERM; sleep {unique} & sleep {unique}; true");
    let calls: Vec<_> = (0..18)
        .map(|_| {
            let arguments = json!({"command": line, "timeout": 3});
            setting.client.send_call("ssh_execute", arguments)
        })
        .collect();
    for call in calls {
        let data = setting.client.reply(call).data.unwrap();
        assert_eq!(data["state"], "running", "{data}");
    }
    until("the commands", || (sleeping(&unique) == 36).then_some(()));
    setting.client.signal("TERM");
    assert_eq!(setting.client.wait_for_exit().code(), Some(0));
    // None is left to the guest.
    assert_eq!(sleeping(&unique), 0);
}

#[test]
fn progress_carries_the_last_line() {
    let mut setting = Setting::new();
    let gate = setting.there("gate");
    let line = format!(
        "echo first; until [ -e {} ]; do sleep 0.05; done; echo last",
        gate.display()
    );
    let execute = json!({"command": line});
    let id = setting.background(&line);
    let wait = of_job("wait", &id, json!({}));
    let calls = [("ssh_execute", execute), ("ssh_job", wait)];
    let calls = calls.map(|(tool, arguments)| {
        let meta = json!({"progressToken": tool});
        let parameters = json!({"name": tool, "arguments": arguments, "_meta": meta});
        setting.client.send("tools/call", parameters);
        setting
            .client
            .wait_for(|message| message["params"]["progressToken"] == tool)
    });
    fs::write(&gate, "").unwrap();
    for told in calls {
        assert_eq!(told["params"]["message"], "first", "{told}");
        assert_eq!(told["params"]["progress"], 6.0, "{told}");
        assert_eq!(told["params"].get("total"), None);
    }
}

#[test]
fn logs_of_a_project_lie_in_it() {
    let mut setting = Setting::new();
    let project = setting
        .client
        .done("project_init", json!({"name": "build"}))
        .data
        .unwrap();
    let id = setting.background("echo out");
    let ended = setting.job_data("wait", &id, json!({}));
    let log = format!("{}/jobs/{id}/stdout", project["path"].as_str().unwrap());
    assert_eq!(ended["log"], log);
    assert_eq!(fs::read_to_string(&log).unwrap(), "out\n");
    assert!(!setting.logs().exists());
    let actions = format!("{}/logs/actions.jsonl", project["path"].as_str().unwrap());
    let actions = fs::read_to_string(actions).unwrap();
    assert!(
        actions.contains(&format!(r#""action":"wait","id":"{id}""#)),
        "{actions}"
    );
}

#[test]
fn the_oldest_jobs_that_have_ended_are_forgotten_and_their_logs_stay() {
    let mut setting = Setting::new();
    let running = setting.background("cat");
    let mut ended = vec![];
    for n in 0..52 {
        let id = setting.background(&format!("echo {n}"));
        setting.job("wait", &id, json!({}));
        ended.push(id);
    }
    let listed = setting.client.done("ssh_job", json!({"action": "list"}));
    let listed = listed.data.unwrap();
    let listed: Vec<_> = listed["jobs"].as_array().unwrap().iter().collect();
    let ids: Vec<_> = listed
        .iter()
        .map(|job| job["job"].as_str().unwrap())
        .collect();
    // Counted when one begins: the last one had not ended then.
    assert_eq!(ids[0], running);
    assert_eq!(ids[1..], ended[1..]);
    let log = setting.logs().join(&ended[0]).join("stdout");
    assert_eq!(fs::read_to_string(log).unwrap(), "0\n");
    setting.job("stdin", &running, json!({"eof": true}));
    setting.job("wait", &running, json!({}));
}

#[test]
fn a_command_that_exits_is_told_though_what_it_started_holds_its_output() {
    let mut setting = Setting::new();
    let (unique, own) = (unique(9), setting.there("own"));
    let begun = Instant::now();
    let data = setting.execute(json!({
        "command": format!(
            "setsid sh -c 'echo $$ >{}; exec sleep {unique}' & (sleep 0.5; echo late) & echo up; exit 3",
            own.display()
        ),
        "timeout": 50
    }));
    assert!(begun.elapsed() < LIMIT, "{data}");
    assert_eq!(
        (&data["state"], &data["exit_code"]),
        (&json!("exited"), &json!(3)),
        "{data}"
    );
    assert_eq!(
        data["why"],
        "its output has not ended: what it started may hold it"
    );
    assert_eq!(data["stdout"], "up\nlate\n");
    let id = data["job"].as_str().unwrap();
    let waited = setting.job("wait", id, json!({}));
    assert!(
        waited.text.contains("; its output has not ended"),
        "{}",
        waited.text
    );
    let refused = setting.job_fails("stdin", id, json!({"text": "x"}));
    assert!(
        refused.contains("has ended already (exit code 3)"),
        "{refused}"
    );
    // It left the command's session.
    let refused = setting.job_fails("signal", id, json!({"signal": "KILL"}));
    assert!(
        refused.contains("let go of by the action forget"),
        "{refused}"
    );

    setting.job("forget", id, json!({}));
    assert!(
        setting
            .job_fails("status", id, json!({}))
            .contains("no job")
    );
    until("the free channel", || {
        let info = setting
            .client
            .done("ssh_connection_info", json!({}))
            .data
            .unwrap();
        (info["channels_in_use"] == 0).then_some(())
    });
    assert_eq!(sleeping(&unique), 1);
    setting.execute(json!({"command": format!("kill $(cat {})", own.display())}));

    // Nor is anything ended that stayed in its session, by that or by the server's end.
    let unique = crate::unique(8);
    let line = format!("sleep {unique} & echo $! >>{}", own.display());
    fs::remove_file(&own).unwrap();
    for _ in 0..2 {
        let data = setting.execute(json!({"command": line}));
        assert_eq!(data["state"], "exited", "{data}");
        let jobs = setting.client.done("ssh_job", json!({"action": "list"}));
        assert_eq!(jobs.data.unwrap()["jobs"].as_array().unwrap().len(), 1);
        if sleeping(&unique) == 1 {
            setting.job("forget", data["job"].as_str().unwrap(), json!({}));
        }
    }
    setting.client.signal("TERM");
    assert_eq!(setting.client.wait_for_exit().code(), Some(0));
    assert_eq!(sleeping(&unique), 2);
    for process in fs::read_to_string(&own).unwrap().lines() {
        let killed = std::process::Command::new("kill").arg(process).status();
        assert!(killed.unwrap().success());
    }
}
