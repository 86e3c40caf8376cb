//! Reading a screen that is played look by look: what `screen_text` says, and how `wait_for` waits
//! for words. How well real screens are read is for the tests of the guest and of firmware.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/stage.rs"]
mod stage;

use fake::{AtLook, Scene};
use serde_json::{Value, json};
use stage::Stage;
use virtpilot::hypervisor::DomainState;

/// A console of 100×40 cells, each 8×16 pixels.
fn console(lines: &[&'static str]) -> Scene {
    Scene::Console(lines.to_vec())
}

const BOOT: [&str; 4] = [
    "[    1.042] e1000: eth0 up",
    "",
    "Debian GNU/Linux 12 demo tty1",
    "demo login: ",
];

#[tokio::test]
async fn a_text_screen_is_read_line_by_line_with_boxes() {
    let stage = Stage::set();
    stage.fake.play(vec![console(&BOOT)]);
    let reply = stage.call("screen_text", json!({})).await;
    assert!(!reply.is_error(), "{}", reply.text);
    assert_eq!(
        reply.text,
        "Read exactly: a text screen of 100×40 cells, font Uni2-Fixed16.\n\
         [0, 0, 208, 16] [    1.042] e1000: eth0 up\n\
         [0, 32, 232, 48] Debian GNU/Linux 12 demo tty1\n\
         [0, 48, 88, 64] demo login:"
    );
    let data = reply.data.unwrap();
    assert_eq!(data["reader"], "cells");
    assert_eq!(data["cells"], json!([100, 40]));
    assert_eq!(
        data["lines"][2],
        json!({"text": "demo login:", "box": [0, 48, 88, 64]})
    );
    assert_eq!(data["omitted"], 0);
    assert_eq!(data["unreadable"], 0);

    let words = stage.call("screen_text", json!({"words": true})).await;
    let data = words.data.unwrap();
    assert_eq!(
        data["lines"][2]["words"],
        json!([
            {"text": "demo", "box": [0, 48, 32, 64]},
            {"text": "login:", "box": [40, 48, 88, 64]},
        ])
    );
}

#[tokio::test]
async fn frames_around_text_are_left_out_and_can_be_searched_for() {
    let stage = Stage::set();
    stage.fake.play(vec![console(&[
        " ┌─┤ Keymap ├─┐",
        " │            │",
        " │ German   ▒ │",
        " └────────────┘",
    ])]);
    let reply = stage.call("screen_text", json!({"words": true})).await;
    assert_eq!(
        reply.data.unwrap()["lines"],
        json!([
            {
                "text": "Keymap",
                "box": [40, 0, 88, 16],
                "words": [{"text": "Keymap", "box": [40, 0, 88, 16]}],
            },
            {
                "text": "German",
                "box": [24, 32, 72, 48],
                "words": [{"text": "German", "box": [24, 32, 72, 48]}],
            },
        ])
    );
    let frame = stage.call("screen_text", json!({"pattern": "└─+┘"})).await;
    assert_eq!(
        frame.data.unwrap()["matches"][0]["box"],
        json!([8, 48, 120, 64])
    );
}

#[tokio::test]
async fn a_pattern_gives_its_matches_alone() {
    let stage = Stage::set();
    stage.fake.play(vec![console(&BOOT)]);
    let pattern = json!({"pattern": r"demo \w+"});
    let reply = stage.call("screen_text", pattern).await;
    assert_eq!(
        reply.text,
        "Read exactly: a text screen of 100×40 cells, font Uni2-Fixed16.\n\
         [160, 32, 232, 48] demo tty1\n\
         [0, 48, 80, 64] demo login"
    );
    let data = reply.data.unwrap();
    assert_eq!(data.get("lines"), None);
    assert_eq!(
        data["matches"],
        json!([
            {"text": "demo tty1", "box": [160, 32, 232, 48]},
            {"text": "demo login", "box": [0, 48, 80, 64]},
        ])
    );
    let none = stage.call("screen_text", json!({"pattern": "panic"})).await;
    assert!(!none.is_error());
    assert_eq!(none.data.unwrap()["matches"], json!([]));
    assert!(
        none.text
            .ends_with("\nNothing on the screen matches the pattern."),
        "{}",
        none.text
    );
}

#[tokio::test]
async fn a_region_is_read_alone_and_its_boxes_are_those_of_the_screen() {
    let stage = Stage::set();
    stage.fake.play(vec![console(&BOOT)]);
    // A cell belongs where its middle is: that of the G is at 60.
    let region = json!({"region": [61, 32, 800, 64], "pattern": "^.+$"});
    let reply = stage.call("screen_text", region).await;
    let data = reply.data.unwrap();
    assert_eq!(
        data["matches"],
        json!([
            {"text": "NU/Linux 12 demo tty1", "box": [64, 32, 232, 48]},
            {"text": "in:", "box": [64, 48, 88, 64]},
        ])
    );
    let cases = [
        (
            json!([0, 0, 801, 64]),
            "The region [0, 0, 801, 64] is empty or not inside the screenshot of 800×640 pixels.",
        ),
        (
            json!([5, 5, 5, 9]),
            "The region [5, 5, 5, 9] is empty or not inside",
        ),
    ];
    for (region, refused) in cases {
        let told = stage
            .refused("screen_text", json!({"region": region}))
            .await;
        assert!(told.starts_with(refused), "{told}");
    }
}

#[tokio::test]
async fn much_text_is_cut_and_says_so() {
    let stage = Stage::set();
    let long: &str = "x".repeat(100).leak();
    stage.fake.play(vec![console(&[long; 40])]);
    let everything = stage.call("screen_text", json!({})).await;
    assert_eq!(
        everything.data.unwrap()["lines"].as_array().unwrap().len(),
        40
    );
    let reply = stage.call("screen_text", json!({"pattern": "x"})).await;
    let data = reply.data.unwrap();
    assert_eq!(data["matches"].as_array().unwrap().len(), 50);
    assert_eq!(data["omitted"], 1);
    assert!(
        reply
            .text
            .ends_with("\nThere are more matches, which are left out."),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn what_is_not_drawn_is_not_read() {
    let stage = Stage::set();
    stage.fake.play(vec![Scene::Placeholder]);
    let reply = stage.call("screen_text", json!({})).await;
    assert_eq!(
        reply.text,
        "The guest draws nothing on this head.\nThere is no text on the screen."
    );
    assert_eq!(reply.data.unwrap()["reader"], "nobody");
}

#[tokio::test]
async fn text_is_waited_for_and_its_place_is_told() {
    let stage = Stage::set();
    let early = console(&BOOT[..1]);
    stage.fake.play(vec![Scene::Placeholder]);
    stage.call("take_screenshot", json!({})).await;
    stage.fake.play(vec![
        Scene::Placeholder,
        early.clone(),
        early,
        console(&BOOT),
    ]);
    let login = json!([{"condition": "text", "pattern": "login: ?$"}]);
    assert_eq!(
        stage.held(login).await,
        "The screen shows \"login:\" at [40, 48, 88, 64]"
    );
    assert_eq!(stage.fake.looks(), 4);
    // Places that were told are those of the screen as it is now, whatever was shown before.
    let click = stage.call("click", json!({"x": 60, "y": 56})).await;
    assert!(!click.is_error(), "{}", click.text);
}

#[tokio::test]
async fn text_is_waited_for_in_its_region() {
    let stage = Stage::set();
    stage.fake.play(vec![console(&BOOT)]);
    // Fonts are loaded at the first reading, which takes longer than this waits.
    stage.call("screen_text", json!({})).await;
    let below = json!([0, 320, 800, 640]);
    let elsewhere = json!([{"condition": "text", "pattern": "login", "region": below}]);
    let reply = stage.in_vain(elsewhere, 2.0).await;
    assert!(
        reply.text.starts_with(
            "Nothing held within 2 s: `text`: the region [0, 320, 800, 640] showed no text."
        ),
        "{}",
        reply.text
    );
    assert_eq!(reply.pictures.len(), 1);
    let any = json!([
        {"condition": "text", "pattern": "panic"},
        {"condition": "text", "pattern": "tty\\d", "region": [0, 32, 800, 48]},
    ]);
    assert_eq!(
        stage.held(any).await,
        "The region [0, 32, 800, 48] shows \"tty1\" at [200, 32, 232, 48]"
    );
}

#[tokio::test]
async fn a_vm_that_goes_off_is_told_unless_that_is_waited_for() {
    let stage = Stage::set();
    stage.fake.play(vec![console(&BOOT)]);
    stage.fake.at_look(2, AtLook::Becomes(DomainState::Shutoff));
    let text = json!({"condition": "text", "pattern": "panic"});
    let off = json!({"condition": "state", "state": "shutoff"});
    assert_eq!(stage.held(json!([text, off])).await, "The VM is shut off");
    let told = stage
        .refused("wait_for", json!({"conditions": [text]}))
        .await;
    assert!(told.starts_with("The VM `demo` is shut off."), "{told}");
}

#[tokio::test]
async fn patterns_that_cannot_be_searched_for_are_refused() {
    let stage = Stage::set();
    let cases = [
        ("", "the pattern is empty"),
        ("x*", "matches where there is nothing"),
        ("a(", "the pattern is no regular expression"),
        ("(?:.{0,900}){0,9}Q", "the pattern is no regular expression"),
    ];
    for (pattern, why) in cases {
        let condition = json!([{"condition": "text", "pattern": pattern}]);
        let calls: [(&str, Value); 2] = [
            ("screen_text", json!({"pattern": pattern})),
            ("wait_for", json!({"conditions": condition})),
        ];
        for (tool, arguments) in calls {
            let told = stage.refused(tool, arguments).await;
            assert!(told.contains(why), "{tool} {pattern}: {told}");
        }
    }
    assert_eq!(stage.fake.looks(), 0, "the screen was not even looked at");
}
