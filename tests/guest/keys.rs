//! `press_keys`, as the guest's kernel logs it.

use serde_json::json;

use crate::{
    code,
    guest::{Guest, KeyEvent},
};

fn codes_and_values(events: &[KeyEvent]) -> Vec<(i64, i64)> {
    events
        .iter()
        .map(|event| (event.code, event.value))
        .collect()
}

#[test]
fn chords_arrive_as_chords() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let cases: [(&[&str], &[i64]); 8] = [
        (
            &["Ctrl", "Shift", "p"],
            &[code::LEFT_CTRL, code::LEFT_SHIFT, code::P],
        ),
        (&["F5"], &[code::F5]),
        (&["Page_Up"], &[code::PAGE_UP]),
        (&["pgup"], &[code::PAGE_UP]),
        (&["KP_Enter"], &[code::KP_ENTER]),
        // A letter names its key, whatever its case.
        (&["p"], &[code::P]),
        (&["P"], &[code::P]),
        (&["Shift", "P"], &[code::LEFT_SHIFT, code::P]),
    ];
    for (keys, codes) in cases {
        let mark = guest.mark();
        client.done("press_keys", json!({"keys": keys}));
        let events = guest.events_in_the_end(&mark, 2 * codes.len());
        let (downs, ups): (Vec<_>, Vec<_>) = events.iter().partition(|event| event.value == 1);
        let downs: Vec<_> = downs.iter().map(|event| event.code).collect();
        let mut ups: Vec<_> = ups.iter().map(|event| (event.code, event.value)).collect();
        assert_eq!(downs, codes, "{keys:?}");
        let last_down = events.iter().rposition(|event| event.value == 1);
        assert_eq!(
            last_down,
            Some(codes.len() - 1),
            "all go down before one goes up: {keys:?}"
        );
        // In which order keys are let go, is QEMU's to choose.
        ups.sort_unstable();
        let mut expected: Vec<_> = codes.iter().map(|code| (*code, 0)).collect();
        expected.sort_unstable();
        assert_eq!(ups, expected, "{keys:?}");
    }
    assert_eq!(
        guest
            .typed()
            .chars()
            .filter(|c| c.is_alphabetic())
            .collect::<String>(),
        "ppP"
    );
}

#[test]
fn repeated_keys_are_pressed_so_often() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let mark = guest.mark();
    let reply = client.done("press_keys", json!({"keys": ["F5"], "repeat": 20}));
    assert_eq!(reply.text, "Pressed F5 20 times.");
    let events = guest.events_in_the_end(&mark, 40);
    assert_eq!(
        codes_and_values(&events),
        [(code::F5, 1), (code::F5, 0)].repeat(20)
    );
}

#[test]
fn held_keys_stay_down_so_long() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let mark = guest.mark();
    client.done(
        "press_keys",
        json!({"keys": ["Shift", "F9"], "hold_ms": 500}),
    );
    let mut events = guest.events_in_the_end(&mark, 4);
    // A held key repeats by itself.
    events.retain(|event| event.value != 2);
    assert_eq!(
        codes_and_values(&events),
        [
            (code::LEFT_SHIFT, 1),
            (code::F9, 1),
            (code::F9, 0),
            (code::LEFT_SHIFT, 0)
        ]
    );
    for (down, up) in [(0, 3), (1, 2)] {
        let held = events[up].at_ms - events[down].at_ms;
        assert!(held >= 450.0, "held for {held} ms");
    }
}

#[test]
fn unknown_keys_are_refused_with_near_names() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let mark = guest.mark();
    let error = client.fails("press_keys", json!({"keys": ["Ctrl", "Retrun"]}));
    assert!(
        error
            .to_lowercase()
            .contains("there is no key named `retrun`; near ones are `return`"),
        "{error}"
    );
    guest.assert_no_events(&mark);
}
