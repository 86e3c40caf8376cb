//! Texts and names that are very long, or empty.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::Daemon;

#[test]
fn a_text_of_a_hundred_thousand_characters_is_typed_until_it_is_cancelled() {
    let daemon = Daemon::start();
    let vm = daemon.usual_machine("long-text");
    let mut client = daemon.client(&[&vm]);
    let text = "The Quick Brown Fox. ".repeat(5000)[..100_000].to_owned();
    let typing = client.send_call("type_text", json!({ "text": text }));
    let end = Instant::now() + Duration::from_secs(30);
    while daemon.typed(&vm).len() < 15 {
        assert!(Instant::now() < end, "nothing is typed");
    }
    client.notify("notifications/cancelled", json!({"requestId": typing}));
    daemon.await_modifiers(&vm, 0);
    let begun = Instant::now();
    // The next call waits for the VM's turn, which the cancelled one has given back.
    client.done("press_keys", json!({"keys": ["Ctrl", "a"]}));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    // The firmware keeps the first fifteen keys: they are the text's.
    assert_eq!(daemon.typed(&vm), text[..15]);
    daemon.await_modifiers(&vm, 0);

    // One character at its end that cannot be typed, and none of it is.
    let refused = format!("{text}ß");
    let error = client.fails("type_text", json!({"text": refused}));
    assert!(
        error.starts_with(
            "The keyboard layout `us` cannot type `ß` (U+00DF, position 100000).\nNext: Nothing was typed."
        ),
        "{error}"
    );
}

#[test]
fn an_empty_text_types_nothing() {
    let daemon = Daemon::start();
    let vm = daemon.usual_machine("empty-text");
    let mut client = daemon.client(&[&vm]);
    let reply = client.done("type_text", json!({"text": ""}));
    assert_eq!(reply.text, "Typed 0 characters.");
    assert_eq!(daemon.typed(&vm), "");
}

#[test]
fn names_of_three_hundred_characters_are_refused_or_cut() {
    let daemon = Daemon::start();
    let long = "n".repeat(300);
    let mut client = daemon.client(&[]);
    let folder = daemon.home().join("data/virtpilot");

    // A VM's, a key's and a parameter's. There is no VM, so that a key's is not asked for.
    let error = client.fails("take_screenshot", json!({"vm": long}));
    assert!(
        error.starts_with(&format!("There is no VM named `{long}` at ")),
        "{error}"
    );
    let error = client.fails("press_keys", json!({"vm": "x", long.clone(): 1}));
    assert!(
        error.starts_with(&format!("There is no parameter `{}…`.", &long[..64])),
        "{error}"
    );

    // A project's is cut; a result's is refused; a lesson's title is cut.
    let made = client.done("project_init", json!({"name": long}));
    let path = text_of(made.data.as_ref(), "path");
    assert!(path.ends_with(&format!("_{}", "n".repeat(100))), "{path}");
    assert_eq!(text_of(made.data.as_ref(), "name"), long);
    let error = client.fails(
        "project_save_result",
        json!({"filename": long, "content": ""}),
    );
    assert_eq!(
        error,
        format!(
            "`{long}` is no file name for a result: it is longer than 255 bytes.\n\
             Next: Give a plain file name such as `report.txt`, without a folder."
        )
    );
    let saved = client.done(
        "project_save_advice",
        json!({"title": long, "content": "x"}),
    );
    let path = text_of(saved.data.as_ref(), "path");
    assert!(
        path.ends_with(&format!("_{}.md", "n".repeat(100))),
        "{path}"
    );
    let error = client.fails("project_load", json!({"project_path": long}));
    assert!(
        error.starts_with(&format!("There is no project `{long}`.")),
        "{error}"
    );

    // A tool's is a protocol error, as of any tool that is not there.
    let answer = client.request("tools/call", json!({"name": long, "arguments": {}}));
    assert!(
        answer["error"].is_object() || answer["result"]["isError"] == true,
        "{answer}"
    );
    assert!(folder.join("projects").is_dir());
}

fn text_of(data: Option<&Value>, name: &str) -> String {
    let data = data.expect("data");
    data[name].as_str().expect("a text").to_owned()
}
