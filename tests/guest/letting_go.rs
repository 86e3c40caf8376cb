//! However a call ends, no key and no button stays down.

use std::{thread, time::Duration};

use serde_json::json;

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
