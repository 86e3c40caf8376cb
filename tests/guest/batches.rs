//! `run_actions`: all checked first, run in order, stopped at the first failure.

use serde_json::json;

use crate::{
    code,
    guest::{Guest, virsh_done},
};

#[test]
fn a_batch_runs_in_order_and_ends_with_a_picture() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let reply = client.done(
        "run_actions",
        json!({
            "actions": [
                {"action": "move_mouse", "x": 100, "y": 700},
                {"action": "type_text", "text": "one "},
                {"action": "wait", "seconds": 0.1},
                {"action": "press_keys", "keys": ["2"], "repeat": 2},
                {"action": "type_text", "text": " three\n"},
                {"action": "move_mouse", "x": 10, "y": -20, "mode": "relative"},
            ],
            "screenshot": "end",
        }),
    );
    let lines: Vec<_> = reply.text.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "6 of 6 actions were done.",
            "1. move_mouse: done. Moved the pointer to 100,700.",
            "2. type_text: done. Typed 4 characters.",
            "3. wait: done. Waited 0.1 s.",
            "4. press_keys: done. Pressed 2 2 times.",
            "5. type_text: done. Typed 7 characters.",
            "6. move_mouse: done. Moved the pointer by 10,-20.",
        ]
    );
    assert_eq!(reply.pictures.len(), 1);
    assert_eq!(reply.data, None);
    assert_eq!(guest.typed_in_the_end(13), "one 22 three\n");
    guest.assert_pointer_at((110, 680));
}

#[test]
fn one_bad_step_refuses_them_all() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    client.done("move_mouse", json!({"x": 640, "y": 400}));
    guest.assert_pointer_at((640, 400));
    let mark = guest.mark();
    let bad_steps = [
        json!({"action": "mouse_move", "x": 1, "y": 1}),
        json!({"action": "move_mouse", "x": 1280, "y": 0}),
        json!({"action": "press_keys", "keys": ["Retrun"]}),
        json!({"action": "type_text", "text": "grün"}),
        json!({"action": "click", "count": 11}),
        json!({"action": "mouse_button", "button": "side", "state": "down"}),
        json!({"action": "mouse_button", "state": "releaseall"}),
        json!({"action": "wait", "seconds": -1}),
        json!({"action": "move_mouse", "x": 1, "y": 1, "speed": 3}),
    ];
    for bad in bad_steps {
        let actions = json!([
            {"action": "move_mouse", "x": 5, "y": 5},
            {"action": "press_keys", "keys": ["F9"]},
            bad,
        ]);
        let error = client.fails("run_actions", json!({"actions": actions}));
        assert!(
            error.starts_with("Action 3 is refused, and nothing was done: "),
            "{bad}: {error}"
        );
    }
    guest.assert_pointer_at((640, 400));
    guest.assert_no_events(&mark);
}

#[test]
fn the_first_failure_stops_the_batch() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let reply = client.call(
        "run_actions",
        json!({
            "actions": [
                {"action": "move_mouse", "x": 300, "y": 700},
                {"action": "take_screenshot", "region": [0, 0, 5000, 10]},
                {"action": "move_mouse", "x": 5, "y": 5},
                {"action": "wait"},
            ],
            "screenshot": "on_error",
        }),
    );
    assert!(reply.is_error);
    let lines: Vec<_> = reply.text.lines().collect();
    assert_eq!(lines[0], "1 of 4 actions were done.");
    assert_eq!(
        lines[1],
        "1. move_mouse: done. Moved the pointer to 300,700."
    );
    assert!(
        lines[2].starts_with("2. take_screenshot: failed. The region [0, 0, 5000, 10] is"),
        "{}",
        reply.text
    );
    assert!(
        reply
            .text
            .contains("\n3. move_mouse: not run.\n4. wait: not run."),
        "{}",
        reply.text
    );
    assert_eq!(reply.pictures.len(), 1, "the picture on errors");
    guest.assert_pointer_at((300, 700));
}

#[test]
fn a_held_button_is_let_go_of_within_a_batch_or_at_its_end() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let mark = guest.mark();
    let reply = client.done(
        "run_actions",
        json!({"actions": [
            {"action": "move_mouse", "x": 1200, "y": 200},
            {"action": "mouse_button", "state": "down"},
            {"action": "move_mouse", "x": 1210, "y": 210},
            {"action": "mouse_button", "state": "up"},
            {"action": "mouse_button", "button": "back", "state": "down"},
        ]}),
    );
    assert!(
        reply
            .text
            .ends_with("\nAt the end, what was still down was let go of: the back button."),
        "{}",
        reply.text
    );
    guest.assert_nothing_down();
    let events: Vec<_> = guest
        .events_in_the_end(&mark, 4)
        .iter()
        .map(|it| (it.code, it.value))
        .collect();
    let (left, back) = (code::BUTTON_LEFT, code::BUTTON_BACK);
    assert_eq!(events, [(left, 1), (left, 0), (back, 1), (back, 0)]);
}

#[test]
fn release_all_lets_go_of_what_others_pressed() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let others = |events: serde_json::Value| {
        let command = json!({"execute": "input-send-event", "arguments": {"events": events}});
        virsh_done(&[
            "qemu-monitor-command",
            "virtpilot-demo",
            &command.to_string(),
        ]);
    };
    // A few at a time, as the queue of the keyboard has room for.
    let keys = [
        "shift", "ctrl", "alt", "meta_l", "shift_r", "ctrl_r", "alt_r", "meta_r",
    ];
    for keys in keys.chunks(4) {
        let key = |key| json!({"type": "key", "data": {"down": true, "key": {"type": "qcode", "data": key}}});
        others(keys.iter().map(key).collect());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    others(json!([{"type": "btn", "data": {"down": true, "button": "right"}}]));
    guest.until("all of it is down", |guest| {
        (guest.down().len() == 9).then_some(())
    });
    let all = json!({"actions": [{"action": "mouse_button", "state": "release_all"}]});
    client.done("run_actions", all);
    guest.assert_nothing_down();
}

#[test]
fn a_thousand_steps_are_run() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let step = |at: usize| json!({"action": "move_mouse", "x": 100 + at % 50, "y": 600 + at / 50});
    let actions: Vec<_> = (0..1000).map(step).collect();
    let reply = client.done("run_actions", json!({"actions": actions}));
    assert_eq!(reply.text.lines().count(), 1001);
    guest.assert_pointer_at((149, 619));
}
