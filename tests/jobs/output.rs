//! What a job wrote: all of it, piece by piece, whatever it is.

use std::fs;

use serde_json::{Value, json};

use crate::{Setting, mcp::decoded};

/// What `seq 1 200000` writes.
fn numbers() -> String {
    let all: Vec<_> = (1..=200_000).map(|n| n.to_string()).collect();
    all.join("\n") + "\n"
}

fn contents(setting: &mut Setting, uri: &str) -> Value {
    let read = setting
        .client
        .request("resources/read", json!({"uri": uri}));
    read["result"]["contents"][0].clone()
}

#[test]
fn the_whole_of_long_output_is_in_a_file_and_a_resource() {
    let mut setting = Setting::new();
    let all = numbers();
    let reply = setting.client.done(
        "ssh_execute",
        json!({"command": "seq 1 200000; echo few >&2"}),
    );
    let data = reply.data.unwrap();
    let id = data["job"].as_str().unwrap().to_owned();
    assert_eq!(data["state"], "exited");
    assert_eq!(data["omitted_bytes"], all.len() - 32 * 1024);
    let log = data["log"].as_str().unwrap();
    assert!(
        reply.text.contains(&format!("\nall of stdout: {log}\n")),
        "{}",
        &reply.text[..400]
    );
    assert!(fs::read_to_string(log).unwrap() == all);
    assert_eq!(
        fs::read_to_string(data["stderr_log"].as_str().unwrap()).unwrap(),
        "few\n"
    );

    let uri = format!("vm://job/{id}/stdout");
    let whole = contents(&mut setting, &uri);
    assert_eq!(whole["mimeType"], "text/plain");
    assert!(whole["text"] == all.as_str());
    assert_eq!(
        contents(&mut setting, &format!("vm://job/{id}/stderr"))["text"],
        "few\n"
    );
    let listed = setting.client.request("resources/list", json!({}));
    let listed = listed["result"]["resources"].as_array().unwrap();
    let listed = listed.iter().find(|it| it["uri"] == uri.as_str()).unwrap();
    assert_eq!(listed["size"], all.len());
    let complete = json!({
        "ref": {"type": "ref/resource", "uri": "vm://job/{id}/{stream}"},
        "argument": {"name": "id", "value": "20"},
    });
    let completed = setting.client.request("completion/complete", complete);
    assert_eq!(completed["result"]["completion"]["values"], json!([id]));

    // Piece by piece it is the same.
    let mut got = String::new();
    loop {
        let part = setting.job_data("output", &id, json!({"offset": got.len()}));
        assert_eq!(part["offset"], got.len());
        let text = part["text"].as_str().unwrap();
        if text.is_empty() {
            break;
        }
        got.push_str(text);
        assert_eq!(part["next_offset"], got.len());
    }
    assert!(got == all);
}

#[test]
fn characters_are_whole_in_every_piece() {
    let mut setting = Setting::new();
    // One byte more than a whole number of characters, so that one lies across each border.
    let id = setting.background("printf x; for n in $(seq 20000); do printf €; done");
    setting.job("wait", &id, json!({}));
    let mut got = String::new();
    while got.len() < 60_001 {
        let part = setting.job_data("output", &id, json!({"offset": got.len()}));
        got.push_str(part["text"].as_str().unwrap());
    }
    assert!(got == format!("x{}", "€".repeat(20_000)));
}

#[test]
fn binary_output_is_kept_as_it_is() {
    let mut setting = Setting::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let there = setting.there("binary");
    fs::write(&there, &bytes).unwrap();
    let id = setting.background(&format!("cat {}", there.display()));
    let ended = setting.job_data("wait", &id, json!({}));
    assert_eq!(ended["stdout_bytes"], 70_000);
    assert!(fs::read(ended["log"].as_str().unwrap()).unwrap() == bytes);
    let whole = contents(&mut setting, &format!("vm://job/{id}/stdout"));
    assert_eq!(whole["mimeType"], "application/octet-stream");
    assert!(decoded(whole["blob"].as_str().unwrap()) == bytes);
    let part = setting.job("output", &id, json!({"offset": 69_000}));
    assert!(
        part.text
            .contains("bytes that are no UTF-8 are shown as \u{fffd}; "),
        "{}",
        part.text
    );
    assert_eq!(part.data.unwrap()["next_offset"], 70_000);
}

#[test]
fn short_output_that_is_no_text_is_kept_in_a_file() {
    let mut setting = Setting::new();
    let line = json!({"command": "printf 'a\\377b'; printf '\\303' >&2"});
    let reply = setting.client.done("ssh_execute", line);
    assert!(
        reply
            .text
            .contains("\nbytes that are no UTF-8 are shown as \u{fffd}\nstdout:\na\u{fffd}b"),
        "{}",
        reply.text
    );
    let data = reply.data.unwrap();
    let of = |name: &str| fs::read(data[name].as_str().unwrap()).unwrap();
    assert_eq!(
        (of("log"), of("stderr_log")),
        (b"a\xffb".to_vec(), b"\xc3".to_vec())
    );
    let uri = format!("vm://job/{}/stdout", data["job"].as_str().unwrap());
    let whole = contents(&mut setting, &uri);
    assert_eq!(decoded(whole["blob"].as_str().unwrap()), b"a\xffb");
}

#[test]
fn a_resource_that_is_too_large_says_where_the_rest_is() {
    let mut setting = Setting::new();
    let data = setting.execute(json!({"command": "head -c 4000000 /dev/zero"}));
    let id = data["job"].as_str().unwrap();
    let uri = format!("vm://job/{id}/stdout");
    let read = setting
        .client
        .request("resources/read", json!({"uri": uri}));
    let message = read["error"]["message"].as_str().unwrap();
    assert_eq!(
        message,
        format!(
            "Stdout of the job {id} has 4000000 bytes, more than the 3000000 that a resource gives.\n\
             Next: Read it piece by piece with `ssh_job`, action output, or the file {}.",
            data["log"].as_str().unwrap()
        )
    );
}

#[test]
fn a_text_that_json_makes_too_long_is_given_as_a_blob() {
    let mut setting = Setting::new();
    let data = setting.execute(json!({"command": "head -c 1000000 /dev/zero"}));
    let id = data["job"].as_str().unwrap();
    let whole = contents(&mut setting, &format!("vm://job/{id}/stdout"));
    assert_eq!(whole["mimeType"], "text/plain");
    assert!(decoded(whole["blob"].as_str().unwrap()) == vec![0; 1_000_000]);
}

/// The bound of a command that writes without end. What the program needs anyway, it has before.
#[test]
fn output_costs_no_memory() {
    let mut setting = Setting::new();
    setting.execute(json!({"command": "head -c 3000000 /dev/zero"}));
    let before = setting.client.peak_memory();
    let data = setting
        .execute(json!({"command": "head -c 300000000 /dev/zero; echo end >&2", "timeout": 600}));
    let after = setting.client.peak_memory();
    assert_eq!(data["stderr"], "end\n", "{}", data["state"]);
    let log = data["log"].as_str().unwrap();
    assert_eq!(fs::metadata(log).unwrap().len(), 300_000_000);
    assert!(after - before <= 20, "{before} MiB, then {after} MiB");
}
