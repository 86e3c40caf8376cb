//! Tools over a hypervisor that records: what a call that is cut off leaves behind, and how large
//! pictures are shown and pointed into.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fake::{Fake, Trouble};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use virtpilot::{
    config::{Config, Environment, Overrides},
    image,
    perform::Progress,
    tools::{Reply, Server},
};

/// A server whose VM `demo` is the fake's.
fn server(home: &TempDir, fake: &Arc<Fake>) -> Arc<Server> {
    let environment = Environment {
        home: Some(home.path().to_owned()),
        working_dir: home.path().to_owned(),
        ..Environment::default()
    };
    let overrides = Overrides {
        vms: vec!["demo".parse().unwrap()],
        ..Overrides::default()
    };
    let config = Config::load(overrides, &environment).unwrap();
    Server::new(config, Arc::clone(fake) as _)
}

async fn call_with(
    server: &Arc<Server>,
    cancel: CancellationToken,
    tool: &str,
    arguments: Value,
) -> Reply {
    let Value::Object(arguments) = arguments else {
        panic!("arguments are an object: {arguments}");
    };
    let arguments: Map<String, Value> = arguments;
    let silent: Progress = Arc::new(|_, _| ());
    server.call(tool, arguments, cancel, silent).await
}

async fn call(server: &Arc<Server>, tool: &str, arguments: Value) -> Reply {
    call_with(server, CancellationToken::new(), tool, arguments).await
}

fn hold() -> Value {
    json!({"keys": ["Ctrl", "a"], "hold_ms": 20_000})
}

async fn both_down(fake: &Fake) {
    let end = Instant::now() + Duration::from_secs(10);
    while fake.down().len() < 2 {
        assert!(Instant::now() < end, "{:?}", fake.down());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Soon after now nothing is down any more.
async fn is_let_go(fake: &Fake) {
    let end = Instant::now() + Duration::from_secs(10);
    while !fake.down().is_empty() {
        assert!(Instant::now() < end, "{:?}", fake.down());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fake.events(), ["29 down, 30 down", "30 up, 29 up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_cuts_a_hold_off_the_keys_come_up() {
    let home = TempDir::new().unwrap();
    // The client hangs up: nobody waits for the call any more.
    let fake = Fake::new(1000, 500);
    let demo = server(&home, &fake);
    tokio::select! {
        reply = call(&demo, "press_keys", hold()) => panic!("{}", reply.text),
        () = both_down(&fake) => {}
    }
    is_let_go(&fake).await;

    // The client cancels, and is told.
    let fake = Fake::new(1000, 500);
    let demo = server(&home, &fake);
    let cancel = CancellationToken::new();
    let held = call_with(&demo, cancel.clone(), "press_keys", hold());
    let stop = async {
        both_down(&fake).await;
        cancel.cancel();
    };
    let (reply, ()) = tokio::join!(held, stop);
    assert!(reply.is_error());
    assert!(
        reply
            .text
            .starts_with("The call was cancelled; no key and no button is down."),
        "{}",
        reply.text
    );
    is_let_go(&fake).await;

    // The server ends, in a batch.
    let fake = Fake::new(1000, 500);
    let demo = server(&home, &fake);
    let mut action = hold();
    action["action"] = json!("press_keys");
    let held = {
        let demo = Arc::clone(&demo);
        tokio::spawn(async move { call(&demo, "run_actions", json!({"actions": [action]})).await })
    };
    both_down(&fake).await;
    let begun = Instant::now();
    demo.shut_down().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(fake.down(), [""; 0], "it waits until all is let go");
    is_let_go(&fake).await;
    assert!(held.await.unwrap().is_error());
}

#[tokio::test]
async fn a_batch_of_a_thousand_steps_is_done_and_told_line_by_line() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let demo = server(&home, &fake);
    let step = json!({"action": "wait", "seconds": 0});
    let reply = call(&demo, "run_actions", json!({"actions": vec![step; 1000]})).await;
    assert!(!reply.is_error());
    let lines: Vec<_> = reply.text.lines().collect();
    assert_eq!(lines.len(), 1001);
    assert_eq!(lines[0], "1000 of 1000 actions were done.");
    assert_eq!(lines[1000], "1000. wait: done. Waited 0 s.");
}

#[tokio::test]
async fn a_batch_lets_go_at_its_end_and_says_so() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let demo = server(&home, &fake);
    let reply = call(
        &demo,
        "run_actions",
        json!({"actions": [
            {"action": "mouse_button", "state": "down"},
            {"action": "mouse_button", "button": "right", "state": "down"},
            {"action": "mouse_button", "button": "right", "state": "up"},
        ]}),
    )
    .await;
    assert_eq!(
        reply.text,
        "3 of 3 actions were done.\n\
         1. mouse_button: done. The left button is down.\n\
         2. mouse_button: done. The right button is down.\n\
         3. mouse_button: done. The right button is up.\n\
         At the end, what was still down was let go of: the left button."
    );
    assert_eq!(fake.down(), [""; 0]);
    // After a failure too.
    fake.trouble_at(2, Trouble::Fails);
    let reply = call(
        &demo,
        "run_actions",
        json!({"actions": [
            {"action": "mouse_button", "state": "down"},
            {"action": "move_mouse", "x": 1, "y": 1},
            {"action": "mouse_button", "state": "release_all"},
        ]}),
    )
    .await;
    assert!(
        reply.text.contains(
            "2. move_mouse: failed. The act failed, and what was held was let go of: the left button.\nCause: "
        ),
        "{}",
        reply.text
    );
    assert_eq!(fake.down(), [""; 0]);
    let all = json!({"actions": [{"action": "mouse_button", "state": "release_all"}]});
    let reply = call(&demo, "run_actions", all).await;
    assert_eq!(
        reply.text,
        "1 of 1 actions were done.\n1. mouse_button: done. Let go of every mouse button and modifier."
    );
}

#[tokio::test]
async fn a_batch_tells_what_was_done_what_failed_and_what_was_not_run() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let demo = server(&home, &fake);
    fake.trouble_at(2, Trouble::Fails);
    let reply = call(
        &demo,
        "run_actions",
        json!({"actions": [
            {"action": "press_keys", "keys": ["Ctrl", "l"]},
            {"action": "type_text", "text": "secret"},
            {"action": "click", "x": 10, "y": 20, "count": 2, "modifiers": ["Shift"]},
        ]}),
    )
    .await;
    assert_eq!(
        reply.text,
        "1 of 3 actions were done.\n\
         1. press_keys: done. Pressed Ctrl+l.\n\
         2. type_text: failed. Typing broke off after 0 of 6 characters.\n\
         Cause: QEMU refused input for `demo`: call 2 fails\n\
         Next: Take a screenshot to see what arrived, then type the rest.\n\
         3. click: not run."
    );
    assert!(reply.is_error());
    assert_eq!(fake.take_events(), ["keys 29+38", "!keys 31+18+46+19"]);

    let reply = call(
        &demo,
        "run_actions",
        json!({"actions": [
            {"action": "click", "x": 10, "y": 20, "count": 2, "modifiers": ["Shift"]},
            {"action": "move_mouse", "x": 5, "y": 0, "mode": "relative"},
            {"action": "press_keys", "keys": ["a"], "hold_ms": 5},
        ]}),
    )
    .await;
    assert_eq!(
        reply.text,
        "3 of 3 actions were done.\n\
         1. click: done. Clicked left 2 times at 10,20 with Shift.\n\
         2. move_mouse: done. Moved the pointer by 5,0.\n\
         3. press_keys: done. Held a for 5 ms."
    );
}

#[tokio::test]
async fn a_large_screen_is_shown_scaled_and_pointed_into_at_that_scale() {
    let home = TempDir::new().unwrap();
    // Twice the usual long edge.
    let fake = Fake::new(3136, 1960);
    let demo = server(&home, &fake);
    let reply = call(&demo, "take_screenshot", json!({})).await;
    assert!(
        reply
            .text
            .contains(": 1568×980 pixels, scaled from 3136×1960. "),
        "{}",
        reply.text
    );
    assert_eq!(
        image::size("image/png", &reply.pictures[0].bytes)
            .unwrap()
            .to_string(),
        "1568×980"
    );
    let reply = call(&demo, "click", json!({"x": 1568, "y": 0})).await;
    assert!(
        reply
            .text
            .starts_with("The point 1568,0 is outside the screenshot of 1568×980 pixels."),
        "{}",
        reply.text
    );
    call(&demo, "move_mouse", json!({"x": 1567, "y": 979})).await;
    // The native pixel 3135,1959, after the one beside it.
    assert_eq!(fake.take_events(), ["at 32752,32759", "at 32762,32759"]);

    let reply = call(
        &demo,
        "take_screenshot",
        json!({"region": [100, 50, 110, 60]}),
    )
    .await;
    let part = image::Picture::decode("image/png", &reply.pictures[0].bytes).unwrap();
    assert_eq!(part.size().to_string(), "20×20", "at native resolution");
    // The native pixel 200,100, by its colour.
    assert_eq!(&part.rgb()[..3], [200, 100, 7]);
}

#[tokio::test]
async fn heads_are_looked_at_one_by_one() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    fake.add_head(300, 200);
    let demo = server(&home, &fake);
    let reply = call(&demo, "take_screenshot", json!({"head": 1})).await;
    assert!(
        reply
            .text
            .contains(" of demo, head 1: 300×200 pixels, native size. "),
        "{}",
        reply.text
    );
    let reply = call(&demo, "take_screenshot", json!({"head": 2})).await;
    assert_eq!(
        reply.text,
        "The VM `demo` has no head 2.\nNext: Heads count from 0; `vm_list` tells how many there are."
    );
}
