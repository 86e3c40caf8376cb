//! However a call ends, no key and no button stays down.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{code, guest::Guest, mcp::Client};

const LONG: usize = 5_000;

/// What ends a server from outside.
type End = fn(&mut Client);

/// Starts to type what takes many seconds, and waits until some of it has arrived.
fn begin_typing(guest: &mut Guest, client: &mut Client) -> u64 {
    guest.open_typing_window();
    let id = client.send_call("type_text", json!({"text": "Ab".repeat(LONG / 2)}));
    guest.until("some of the text has arrived", |guest| {
        (guest.typed().len() > 50).then_some(())
    });
    id
}

/// Whatever goes on typing comes to the end of the text.
fn assert_typing_ended_early(guest: &mut Guest) {
    let typed = guest.typed_once_it_stays();
    assert!(typed.len() < LONG, "all was typed");
    assert_eq!(typed, "Ab".repeat(LONG)[..typed.len()]);
    guest.assert_nothing_down();
}

#[test]
fn cancelled_typing_stops_at_once() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let id = begin_typing(&mut guest, &mut client);
    client.notify(
        "notifications/cancelled",
        json!({"requestId": id, "reason": "enough"}),
    );
    // Only when the VM's turn is free again does this one come back.
    client.done("move_mouse", json!({"x": 640, "y": 400}));
    assert_typing_ended_early(&mut guest);
}

#[test]
fn typing_stops_when_the_client_hangs_up() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    begin_typing(&mut guest, &mut client);
    client.hang_up();
    assert!(client.wait_for_exit().success());
    assert_typing_ended_early(&mut guest);
}

#[test]
fn held_keys_go_up_when_the_client_hangs_up() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    client.send_call(
        "press_keys",
        json!({"keys": ["Shift", "F9"], "hold_ms": 20_000}),
    );
    guest.until("the keys are down", |guest| {
        (guest.down() == [code::LEFT_SHIFT, code::F9]).then_some(())
    });
    client.hang_up();
    assert!(client.wait_for_exit().success());
    guest.assert_nothing_down();
}

#[test]
fn a_cancelled_hold_lets_go_at_once() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let id = client.send_call("press_keys", json!({"keys": ["F9"], "hold_ms": 20_000}));
    guest.until("the key is down", |guest| {
        (guest.down() == [code::F9]).then_some(())
    });
    client.notify("notifications/cancelled", json!({"requestId": id}));
    guest.assert_nothing_down();
    // The server itself goes on.
    client.done("press_keys", json!({"keys": ["F9"]}));
}

#[test]
fn clicks_with_modifiers_end_whole_when_the_client_hangs_up() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let mark = guest.mark();
    client.send_call(
        "click",
        json!({"x": 1200, "y": 200, "count": 10, "modifiers": ["Ctrl", "Shift"]}),
    );
    guest.until("the modifiers are down", |guest| {
        guest.down().contains(&code::LEFT_SHIFT).then_some(())
    });
    client.hang_up();
    assert!(client.wait_for_exit().success());
    guest.assert_nothing_down();
    let events = guest.events_in_the_end(&mark, 24);
    for key in [code::LEFT_CTRL, code::LEFT_SHIFT, code::BUTTON_LEFT] {
        let count = |value| {
            events
                .iter()
                .filter(|it| it.code == key && it.value == value)
                .count()
        };
        let times = if key == code::BUTTON_LEFT { 10 } else { 1 };
        assert_eq!(
            (count(1), count(0)),
            (times, times),
            "downs and ups of {key}: {events:?}"
        );
    }
}

/// Ends a server in the middle of a batch that types.
fn end_typing_batch(end: End) {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    client.send_call(
        "run_actions",
        json!({"actions": [
            {"action": "click", "x": 640, "y": 500, "modifiers": ["Shift"]},
            {"action": "type_text", "text": "Ab".repeat(LONG / 2)},
            {"action": "press_keys", "keys": ["F9"], "hold_ms": 20_000},
        ]}),
    );
    guest.until("some of the text has arrived", |guest| {
        (guest.typed().len() > 50).then_some(())
    });
    let mark = guest.mark();
    end(&mut client);
    assert!(client.wait_for_exit().success());
    assert_typing_ended_early(&mut guest);
    let events = guest.events(&mark);
    assert!(
        events.iter().all(|event| event.code != code::F9),
        "the next act began"
    );
}

#[test]
fn a_batch_ends_between_its_acts_when_the_server_is_told_to_stop() {
    end_typing_batch(|client| client.signal("TERM"));
}

#[test]
fn a_batch_ends_between_its_acts_when_the_client_hangs_up() {
    end_typing_batch(Client::hang_up);
}

#[test]
fn keys_that_a_batch_holds_go_up_when_the_server_ends() {
    let mut guest = Guest::enter();
    guest.open_typing_window();
    let ends: [(&str, End); 2] = [
        ("the end of input", Client::hang_up),
        ("TERM", |client| client.signal("TERM")),
    ];
    for (how, end) in ends {
        // A client that never reads is left as one that does.
        for is_read in [true, false] {
            let how = format!("{how}, read: {is_read}");
            let mut client = if is_read {
                guest.client()
            } else {
                Client::start_unread(guest.server())
            };
            let mark = guest.mark();
            client.send_call(
                "run_actions",
                json!({"actions": [
                    {"action": "press_keys", "keys": ["Shift", "F9"], "hold_ms": 20_000},
                    {"action": "press_keys", "keys": ["F5"]},
                ]}),
            );
            if !is_read {
                for _ in 0..400 {
                    client.send("tools/list", json!({}));
                }
            }
            guest.until("the keys are down", |guest| {
                (guest.down() == [code::LEFT_SHIFT, code::F9]).then_some(())
            });
            end(&mut client);
            assert!(client.wait_for_exit().success(), "{how}");
            guest.assert_nothing_down();
            let events = guest.events_in_the_end(&mark, 4);
            assert!(
                events.iter().all(|event| event.code != code::F5),
                "{how}: the next act began"
            );
        }
    }
}

#[test]
fn typing_that_has_gone_on_for_a_while_stops_with_its_client_at_once() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    begin_typing(&mut guest, &mut client);
    thread::sleep(Duration::from_secs(1));
    client.hang_up();
    assert!(client.wait_for_exit().success());
    assert_typing_ended_early(&mut guest);
}

/// What ends a call, or a server, from outside.
type Interruption = fn(&mut Client, u64);

/// A client that goes away in its own way, or gives up the call alone.
const ENDS: [(&str, Interruption); 4] = [
    ("cancelled", |client, id| {
        client.notify("notifications/cancelled", json!({"requestId": id}));
    }),
    ("hung up", |client, _| client.hang_up()),
    ("TERM", |client, _| client.signal("TERM")),
    ("INT", |client, _| client.signal("INT")),
];

/// Interrupts an act in every way, each at another moment, and looks at the guest's kernel each time.
fn interrupt(tool: &str, arguments: &Value) {
    // Of a server that has just started: before the first event, within the first, and far into the act.
    const MOMENTS_MS: [u64; 6] = [0, 15, 60, 150, 350, 800];

    let mut guest = Guest::enter();
    guest.open_typing_window();
    let mut has_begun = false;
    for (moment, (how, end)) in MOMENTS_MS.into_iter().zip(ENDS.into_iter().cycle()) {
        let mut client = guest.client();
        let mark = guest.mark();
        let id = client.send_call(tool, arguments.clone());
        thread::sleep(Duration::from_millis(moment));
        end(&mut client, id);
        if how == "cancelled" {
            // It has its turn once the cancelled act has let go of the VM.
            client.done("move_mouse", json!({"x": 640, "y": 400}));
            client.hang_up();
        }
        assert!(client.wait_for_exit().success(), "{tool}, {how}");
        // What the guest had not read yet comes before this key.
        guest.client().done("press_keys", json!({"keys": ["F9"]}));
        guest.until("the guest has read all keys", |guest| {
            let events = guest.events(&mark);
            events
                .iter()
                .any(|it| it.code == code::F9 && it.value == 0)
                .then_some(())
        });
        let events = guest.events(&mark);
        let down = guest.down();
        assert_eq!(down, [0; 0], "{tool}, {how} after {moment} ms: {events:?}");
        has_begun |= events.iter().any(|it| it.code != code::F9 && it.value == 1);
    }
    assert!(has_begun, "{tool}: nothing was ever pressed");
}

#[test]
fn typing_leaves_nothing_down_whenever_it_is_interrupted() {
    interrupt("type_text", &json!({"text": "A!b{Q_z".repeat(300)}));
}

#[test]
fn slow_typing_leaves_nothing_down_whenever_it_is_interrupted() {
    interrupt(
        "type_text",
        &json!({"text": "A!b{".repeat(50), "interval_ms": 60}),
    );
}

#[test]
fn repeated_chords_leave_nothing_down_whenever_they_are_interrupted() {
    interrupt(
        "press_keys",
        &json!({"keys": ["Ctrl", "Shift", "F5"], "repeat": 60}),
    );
}

#[test]
fn held_chords_leave_nothing_down_whenever_they_are_interrupted() {
    interrupt(
        "press_keys",
        &json!({"keys": ["Ctrl", "Shift", "F5"], "hold_ms": 20_000}),
    );
}

#[test]
fn clicks_leave_nothing_down_whenever_they_are_interrupted() {
    interrupt(
        "click",
        &json!({"x": 1200, "y": 200, "count": 10, "modifiers": ["Ctrl", "Shift"]}),
    );
}

#[test]
fn a_drag_leaves_nothing_down_whenever_it_is_interrupted() {
    interrupt(
        "drag",
        &json!({
            "from_x": 1100, "from_y": 200, "to_x": 1250, "to_y": 500, "through": [[1250, 200], [1100, 500]],
            "duration_ms": 3_000, "modifiers": ["Shift"],
        }),
    );
}

#[test]
fn scrolling_leaves_nothing_down_whenever_it_is_interrupted() {
    interrupt(
        "scroll",
        &json!({"direction": "down", "amount": 50, "x": 1200, "y": 200, "modifiers": ["Ctrl", "Shift"]}),
    );
}

#[test]
fn a_batch_that_holds_a_button_leaves_nothing_down_whenever_it_is_interrupted() {
    interrupt(
        "run_actions",
        &json!({"actions": [
            {"action": "move_mouse", "x": 1200, "y": 200},
            {"action": "mouse_button", "button": "left", "state": "down"},
            {"action": "move_mouse", "x": 1100, "y": 300},
            {"action": "type_text", "text": "Ab"},
            {"action": "wait", "seconds": 20},
            {"action": "mouse_button", "button": "left", "state": "up"},
        ]}),
    );
}
