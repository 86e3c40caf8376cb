//! Parameters that are wrong: each is refused with what is wrong and what would be right, and nothing
//! is done.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, clippy::too_many_lines)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/test_driver.rs"]
mod test_driver;

use mcp::{Client, binary};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server with the VM `up`, which has a tablet and a screen.
fn start() -> (TempDir, Client) {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    let uri = test_driver::host(home.path());
    command.args(["--uri", &uri, "--vm", "up", "--vm", "off", "--vm", "asleep"]);
    let client = Client::start(command);
    (home, client)
}

/// A refusal: what a client reads first, and what comes after `Next: `.
type Refusal<'a> = (&'a str, Value, &'a str, &'a str);

const AGAIN: &str = "Correct the value and call again; nothing was done.";

fn refused(client: &mut Client, cases: Vec<Refusal<'_>>) {
    for (tool, arguments, what, next) in cases {
        let shown = format!("{tool} {arguments}");
        let text = client.fails(tool, arguments);
        assert!(text.starts_with(what), "{shown}: {text}");
        let hint = text.split_once("\nNext: ").unwrap().1;
        assert!(hint.starts_with(next), "{shown}: {text}");
    }
    // The server is none the worse for it.
    client.done("press_keys", json!({"keys": ["a"]}));
}

#[test]
fn wrong_types_are_named_with_the_right_one() {
    let (_home, mut client) = start();
    refused(
        &mut client,
        vec![
            (
                "click",
                json!({"count": true}),
                "`count` must be an integer, and is a boolean.",
                AGAIN,
            ),
            (
                "click",
                json!({"count": 1.5}),
                "`count` must be an integer, and is a number.",
                AGAIN,
            ),
            (
                "click",
                json!({"count": "two"}),
                "`count` must be an integer, and is a string.",
                AGAIN,
            ),
            (
                "click",
                json!({"count": [1]}),
                "`count` must be an integer, and is a list.",
                AGAIN,
            ),
            (
                "click",
                json!({"button": 1}),
                "`button` must be a string, and is a number.",
                AGAIN,
            ),
            (
                "click",
                json!({"modifiers": {}}),
                "`modifiers` must be a list, and is an object.",
                AGAIN,
            ),
            (
                "click",
                json!({"modifiers": ["Ctrl", 7]}),
                "`modifiers[1]` must be a string, and is a number.",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": "Return"}),
                "`keys` must be a list, and is a string.",
                AGAIN,
            ),
            (
                "type_text",
                json!({"text": 7}),
                "`text` must be a string, and is a number.",
                AGAIN,
            ),
            (
                "type_text",
                json!({"text": ["a"]}),
                "`text` must be a string, and is a list.",
                AGAIN,
            ),
            (
                "wait",
                json!({"seconds": "soon"}),
                "`seconds` must be a number, and is a string.",
                AGAIN,
            ),
            (
                "wait",
                json!({"seconds": false}),
                "`seconds` must be a number, and is a boolean.",
                AGAIN,
            ),
            (
                "type_text",
                json!({"text": "a", "vm": 1}),
                "`vm` must be a string, and is a number.",
                AGAIN,
            ),
            (
                "run_actions",
                json!({"actions": {}}),
                "`actions` must be a list, and is an object.",
                AGAIN,
            ),
            (
                "run_actions",
                json!({"actions": ["click"]}),
                "`actions[0]` must be an object, and is a string.",
                AGAIN,
            ),
            (
                "project_save_result",
                json!({"filename": "a", "content": {}}),
                "`content` must be a string, and is an object.",
                AGAIN,
            ),
            (
                "project_read_logs",
                json!({"lines": "many"}),
                "`lines` must be an integer, and is a string.",
                AGAIN,
            ),
            (
                "ssh_execute",
                json!({"command": ["ls"]}),
                "`command` must be a string, and is a list.",
                AGAIN,
            ),
            (
                "ssh_execute",
                json!({"command": "ls", "env": ["A=b"]}),
                "`env` must be an object, and is a list.",
                AGAIN,
            ),
            (
                "ssh_upload",
                json!({"local_path": "a", "remote_path": "b", "overwrite": "maybe"}),
                "`overwrite` must be true or false, and is a string.",
                AGAIN,
            ),
        ],
    );
}

#[test]
fn missing_null_and_unknown_parameters_are_named() {
    let (_home, mut client) = start();
    refused(
        &mut client,
        vec![
            (
                "type_text",
                json!({}),
                "The parameter `text` is missing, and no `secret` is named instead.",
                AGAIN,
            ),
            (
                "press_keys",
                json!({}),
                "The parameter `keys` is missing.",
                "Give it: array. ",
            ),
            (
                "move_mouse",
                json!({"x": 1}),
                "The parameter `y` is missing.",
                "Give it: integer. ",
            ),
            (
                "wait",
                json!({}),
                "The parameter `seconds` is missing.",
                "Give it: number. ",
            ),
            (
                "run_actions",
                json!({}),
                "The parameter `actions` is missing.",
                "Give it: array. ",
            ),
            (
                "project_init",
                json!({}),
                "The parameter `name` is missing.",
                "Give it: string. ",
            ),
            (
                "project_load",
                json!({}),
                "The parameter `project_path` is missing.",
                "Give it: string. ",
            ),
            (
                "ssh_execute",
                json!({}),
                "The parameter `command` is missing.",
                "Give it: string. ",
            ),
            (
                "ssh_download",
                json!({"remote_path": "a"}),
                "The parameter `local_path` is missing.",
                "Give it: string. ",
            ),
            (
                "type_text",
                json!({"text": null}),
                "The parameter `text` is missing, and no `secret` is named instead.",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": [null]}),
                "`keys[0]` must be a string, and is null.",
                AGAIN,
            ),
            (
                "type_text",
                json!({"txt": "a"}),
                "There is no parameter `txt`; did you mean `text`?",
                "Accepted are `text`",
            ),
            (
                "click",
                json!({"Button": "left"}),
                "There is no parameter `Button`; did you mean `button`?",
                "Accepted are `button`, `count`, `x`, `y`, `modifiers`",
            ),
            (
                "wait",
                json!({"seconds": 0, "vm": "up"}),
                "There is no parameter `vm`",
                "Accepted are `seconds`.",
            ),
            (
                "project_info",
                json!({"verbose": true}),
                "There is no parameter `verbose`.",
                "It takes no parameters.",
            ),
            (
                "run_actions",
                json!({"actions": [{"action": "click", "vm": "up"}]}),
                "Action 1 is refused, and nothing was done: there is no parameter `vm`",
                "Accepted are `button`, `count`, `x`, `y`, `modifiers`.",
            ),
        ],
    );
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    let (_home, mut client) = start();
    refused(
        &mut client,
        vec![
            (
                "wait",
                json!({"seconds": -1}),
                "`seconds` is -1, and must be from 0 to 300.",
                AGAIN,
            ),
            (
                "wait",
                json!({"seconds": 300.5}),
                "`seconds` is 300.5, and must be from 0 to 300.",
                AGAIN,
            ),
            (
                "wait",
                json!({"seconds": 1e300}),
                "`seconds` is 1e+300, and must be from 0 to 300.",
                AGAIN,
            ),
            (
                "wait",
                json!({"seconds": "-1"}),
                "`seconds` is -1, and must be from 0 to 300.",
                AGAIN,
            ),
            (
                "click",
                json!({"count": 0}),
                "`count` is 0, and must be from 1 to 10.",
                AGAIN,
            ),
            (
                "click",
                json!({"count": 11}),
                "`count` is 11, and must be from 1 to 10.",
                AGAIN,
            ),
            (
                "click",
                json!({"count": -1}),
                "`count` is -1, and must be from 1 to 10.",
                AGAIN,
            ),
            (
                "click",
                json!({"count": 5_000_000_000_u64}),
                "`count` is 5000000000, and must be from 1 to 10.",
                AGAIN,
            ),
            (
                "click",
                json!({"x": 5}),
                "`x` and `y` belong together: give both or neither.",
                AGAIN,
            ),
            (
                "click",
                json!({"y": 5}),
                "`x` and `y` belong together: give both or neither.",
                AGAIN,
            ),
            (
                "scroll",
                json!({"direction": "sideways"}),
                "`direction` is \"sideways\", which is none of its values.",
                "Allowed are up, down, left, right.",
            ),
            (
                "scroll",
                json!({"amount": 3}),
                "The parameter `direction` is missing.",
                "Give it: string. Which way",
            ),
            (
                "scroll",
                json!({"direction": "up", "amount": 0}),
                "`amount` is 0, and must be from 1 to 100.",
                AGAIN,
            ),
            (
                "scroll",
                json!({"direction": "up", "amount": 10_000}),
                "`amount` is 10000, and must be from 1 to 100.",
                AGAIN,
            ),
            (
                "scroll",
                json!({"direction": "up", "x": 5}),
                "`x` and `y` belong together: give both or neither.",
                AGAIN,
            ),
            (
                "drag",
                json!({"from_x": 1, "from_y": 2}),
                "The parameter `to_x` is missing.",
                "Give it: integer. Column where the button comes up",
            ),
            (
                "drag",
                json!({"from_x": 1, "from_y": 2, "to_x": 1, "to_y": 2}),
                "A drag needs two different points, and 1,2 is both.",
                AGAIN,
            ),
            (
                "drag",
                json!({"from_x": 1, "from_y": 2, "to_x": 1120, "to_y": 2}),
                "The point 1120,2 is outside the screenshot of 1120×832 pixels.",
                "x goes from 0 to 1119, y from 0 to 831.",
            ),
            (
                "drag",
                json!({"from_x": -1, "from_y": 2, "to_x": 3, "to_y": 2}),
                "The point -1,2 is outside the screenshot of 1120×832 pixels.",
                "x goes from 0 to 1119",
            ),
            (
                "drag",
                json!({"from_x": 1, "from_y": 2, "to_x": 3, "to_y": 2, "duration_ms": 10_001}),
                "`duration_ms` is 10001, and must be ",
                AGAIN,
            ),
            (
                "drag",
                json!({"from_x": 1, "from_y": 2, "to_x": 3, "to_y": 2, "modifiers": ["Crtl"]}),
                "There is no key named `Crtl`",
                "Keys are named as in X",
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "repeat": 0}),
                "`repeat` is 0, and must be from 1 to 100.",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "repeat": 101}),
                "`repeat` is 101, and must be from 1 to 100.",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "hold_ms": 300_001}),
                "`hold_ms` is 300001, and must be ",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "hold_ms": -5}),
                "`hold_ms` is -5, and must be ",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "hold_ms": 5, "repeat": 2}),
                "`repeat` and `hold_ms` exclude each other",
                AGAIN,
            ),
            (
                "take_screenshot",
                json!({"head": -1}),
                "`head` is -1, and must be ",
                AGAIN,
            ),
            (
                "ssh_execute",
                json!({"command": "ls", "timeout": 0}),
                "`timeout` is 0, and must be from 0.1 to 86400.",
                AGAIN,
            ),
            (
                "ssh_execute",
                json!({"command": "ls", "timeout": 1e9}),
                "`timeout` is 1000000000.0, and must be from 0.1 to 86400.",
                AGAIN,
            ),
            (
                "take_screenshot",
                json!({"region": [0, 0, 10]}),
                "`region` has 3 items.",
                "It takes 4.",
            ),
            (
                "take_screenshot",
                json!({"region": [0, 0, 10, 10, 10]}),
                "`region` has 5 items.",
                "It takes 4.",
            ),
            (
                "take_screenshot",
                json!({"region": [0, 0, 10, "a"]}),
                "`region[3]` must be an integer, and is a string.",
                AGAIN,
            ),
            (
                "take_screenshot",
                json!({"region": [10, 10, 10, 20]}),
                "The region [10, 10, 10, 20] is empty or not inside the screenshot of 1120×832 pixels.",
                "A region is [x0, y0, x1, y1] with 0 ≤ x0 < x1 ≤ 1120 and 0 ≤ y0 < y1 ≤ 832.",
            ),
            (
                "take_screenshot",
                json!({"region": [20, 0, 10, 10]}),
                "The region [20, 0, 10, 10] is empty",
                "A region is",
            ),
            (
                "take_screenshot",
                json!({"region": [-1, 0, 10, 10]}),
                "The region [-1, 0, 10, 10] is empty or not inside",
                "A region is",
            ),
            (
                "take_screenshot",
                json!({"region": [0, 0, 1121, 832]}),
                "The region [0, 0, 1121, 832] is empty or not inside",
                "A region is",
            ),
            (
                "take_screenshot",
                json!({"format": "gif"}),
                "`format` is \"gif\", which is none of its values.",
                "Allowed are png, jpeg.",
            ),
            (
                "click",
                json!({"button": "lefty"}),
                "`button` is \"lefty\", which is none of its values.",
                "Allowed are left, middle, right, back, forward.",
            ),
            (
                "run_actions",
                json!({"actions": [{"action": "wait"}], "screenshot": "always"}),
                "`screenshot` is \"always\", which is none of its values.",
                "Allowed are none, end, on_error.",
            ),
            (
                "project_log",
                json!({"message": "a", "level": "LOUD"}),
                "`LOUD` is no log level.",
                "The levels are DEBUG, INFO, WARNING, ERROR, CRITICAL.",
            ),
            (
                "run_actions",
                json!({"actions": [{"action": "take_screenshot"}, {"action": "take_screenshot", "region": [0, 0, 0, 0]}]}),
                "1 of 2 actions were done.",
                "A region is",
            ),
        ],
    );
    for (x, y) in [(1120, 0), (0, 832), (-1, 0), (0, -1), (100_000, 100_000)] {
        for tool in ["move_mouse", "click"] {
            let text = client.fails(tool, json!({"x": x, "y": y}));
            assert_eq!(
                text,
                format!(
                    "The point {x},{y} is outside the screenshot of 1120×832 pixels.\n\
                     Next: x goes from 0 to 1119, y from 0 to 831. Take a screenshot to see the \
                     present screen."
                )
            );
        }
    }
}

#[test]
fn names_of_keys_and_characters_that_do_not_exist_are_told_with_near_ones() {
    let (_home, mut client) = start();
    refused(
        &mut client,
        vec![
            (
                "press_keys",
                json!({"keys": []}),
                "`keys` is empty; name at least one key.",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": [""]}),
                "There is no key named ``",
                "Keys are named as in X",
            ),
            (
                "press_keys",
                json!({"keys": ["Retrun"]}),
                "There is no key named `Retrun`; near ones are `return`.",
                "Keys are named as in X (Return, Escape,",
            ),
            (
                "press_keys",
                json!({"keys": ["Crtl", "c"]}),
                "There is no key named `Crtl`; near ones are `ctrl`",
                "Keys are named as in X",
            ),
            (
                "press_keys",
                json!({"keys": ["F99"]}),
                "There is no key named `F99`; near ones are ",
                "Keys are named as in X",
            ),
            (
                "press_keys",
                json!({"keys": ["Frobnicate"]}),
                "There is no key named `Frobnicate`.",
                "Keys are named as in X",
            ),
            (
                "press_keys",
                json!({"keys": ["Ctrl+c"]}),
                "There is no key named `Ctrl+c`",
                "Keys are named as in X",
            ),
            (
                "press_keys",
                json!({"keys": ["é"]}),
                "There is no key named `é`",
                "Keys are named as in X",
            ),
            (
                "press_keys",
                json!({"keys": ["a", "A"]}),
                "`A` names a key that is in the chord already.",
                "Name each key once.",
            ),
            (
                "press_keys",
                json!({"keys": ["!"]}),
                "`!` needs Shift on the layout `us`, which `keys` does not list.",
                "Add Shift to `keys`",
            ),
            (
                "press_keys",
                json!({"keys": vec!["a"; 17]}),
                "17 keys are too many for one chord; the limit is 16.",
                "Press the chords one after another",
            ),
            (
                "click",
                json!({"modifiers": ["Hyperr"]}),
                "There is no key named `Hyperr`",
                "Keys are named as in X",
            ),
            (
                "type_text",
                json!({"text": "caf\u{e9}"}),
                "The keyboard layout `us` cannot type `é` (U+00E9, position 3).",
                "Nothing was typed. Leave those characters out",
            ),
            (
                "type_text",
                json!({"text": "ok 🦀 ж 🦀\u{1b}"}),
                "The keyboard layout `us` cannot type `🦀` (U+1F980, position 3), `ж` (U+0436, position 5), (U+001B, position 8).",
                "Nothing was typed.",
            ),
            // Combining marks, and the control characters that are no newline and no tab.
            (
                "type_text",
                json!({"text": "e\u{301}\0\r\n\t\u{7f}"}),
                "The keyboard layout `us` cannot type `\u{301}` (U+0301, position 1), (U+0000, position 2), (U+000D, \
                 position 3), (U+007F, position 6).",
                "Nothing was typed.",
            ),
        ],
    );
}

#[test]
fn a_batch_with_a_bad_step_is_refused_whole() {
    let (_home, mut client) = start();
    let good = json!({"action": "press_keys", "keys": ["a"]});
    let cases = [
        (
            json!({"action": "dance"}),
            "there is no action `dance`.",
            "Actions are move_mouse, click, drag, scroll, mouse_button, type_text, press_keys, wait, take_screenshot",
        ),
        (json!({}), "`action` is missing.", "Actions are "),
        (
            json!({"action": 1}),
            "`action` must be a string.",
            "Actions are ",
        ),
        (
            json!({"action": null}),
            "`action` must be a string.",
            "Actions are ",
        ),
        (
            json!({"action": "ssh_execute", "command": "ls"}),
            "there is no action `ssh_execute`.",
            "Actions are ",
        ),
        (
            json!({"action": "run_actions", "actions": []}),
            "there is no action `run_actions`.",
            "Actions are ",
        ),
        (
            json!({"action": "click", "count": 0}),
            "`count` is 0, and must be from 1 to 10.",
            AGAIN,
        ),
        (
            json!({"action": "scroll", "direction": "up", "amount": 0}),
            "`amount` is 0, and must be from 1 to 100.",
            AGAIN,
        ),
        (
            json!({"action": "drag", "from_x": 1, "from_y": 1, "to_x": 1, "to_y": 1}),
            "a drag needs two different points, and 1,1 is both.",
            AGAIN,
        ),
        (
            json!({"action": "press_keys", "keys": ["nokey"]}),
            "there is no key named `nokey`",
            "Keys are named",
        ),
        (
            json!({"action": "type_text"}),
            "the parameter `text` is missing, and no `secret` is named instead.",
            AGAIN,
        ),
        (
            json!({"action": "press_keys"}),
            "the parameter `keys` is missing.",
            "Give it: array.",
        ),
        (
            json!({"action": "type_text", "text": "é"}),
            "the keyboard layout `us` cannot type `é` (U+00E9, position 0).",
            "Nothing was typed.",
        ),
        (
            json!({"action": "wait", "seconds": -1}),
            "`seconds` is -1, and must be from 0 to 300.",
            AGAIN,
        ),
        (
            json!({"action": "mouse_button"}),
            "the parameter `state` is missing.",
            "Give it: string.",
        ),
        (
            json!({"action": "mouse_button", "state": "releaseall"}),
            "`state` is \"releaseall\", which is none of its values.",
            "Allowed are down, up, release_all.",
        ),
        (
            json!({"action": "drag", "from_x": 1, "from_y": 1, "to_x": 1, "to_y": 1, "through": [[1, 1]]}),
            "a drag needs two different points, and 1,1 is both.",
            AGAIN,
        ),
        (
            json!({"action": "drag", "from_x": 1, "from_y": 1, "to_x": 1, "to_y": 1, "through": [[1]]}),
            "`through[0]` has 1 items.",
            "It takes 2.",
        ),
        (
            json!({"action": "drag", "from_x": 1, "from_y": 1, "to_x": 1, "to_y": 1, "through": [[1, 5000]]}),
            "the point 1,5000 is outside the screenshot of 1120×832 pixels.",
            "x goes from 0 to 1119",
        ),
    ];
    for (step, what, next) in cases {
        let actions = json!([good, {"action": "wait", "seconds": 30}, step]);
        // Nothing was run: the wait alone would take half a minute.
        let text = client.fails("run_actions", json!({"actions": actions}));
        let expected = format!("Action 3 is refused, and nothing was done: {what}");
        assert!(text.starts_with(&expected), "{step}: {text}");
        assert!(text.contains(&format!("\nNext: {next}")), "{step}: {text}");
    }
    let text = client.fails("run_actions", json!({"actions": []}));
    assert_eq!(text, "`actions` is empty.\nNext: Give at least one action.");
    // None of them is looked at.
    for count in [1001, 100_000] {
        let text = client.fails(
            "run_actions",
            json!({"actions": vec![json!({"action": 1}); count]}),
        );
        let expected =
            format!("`actions` has {count} items, and can have 1000; nothing was done.\nNext: ");
        assert!(text.starts_with(&expected), "{text}");
    }
    let wait = json!({"action": "wait", "seconds": 299.5});
    let hold = json!({"action": "press_keys", "keys": ["a"], "hold_ms": 5500});
    let mut actions = vec![wait; 12];
    actions.extend([
        hold,
        json!({"action": "wait_for", "conditions": [{"condition": "ssh"}], "timeout": 1}),
    ]);
    let text = client.fails("run_actions", json!({"actions": actions}));
    assert!(
        text.starts_with(
            "The waits, holds and time limits of `actions` add up to 3601 s, and can be 3600 s; nothing was \
             done.\nNext: Divide them"
        ),
        "{text}"
    );
}

#[test]
fn json_in_strings_and_nulls_for_what_may_be_left_out_are_understood() {
    let (_home, mut client) = start();
    let cases = [
        (
            "press_keys",
            json!({"keys": "[\"Ctrl\", \"c\"]", "repeat": "2"}),
            "Pressed Ctrl+c 2 times.",
        ),
        (
            "press_keys",
            json!({"keys": ["a"], "repeat": 1.0, "hold_ms": null}),
            "Pressed a.",
        ),
        (
            "press_keys",
            json!({"keys": ["a"], "vm": null}),
            "Pressed a.",
        ),
        (
            "press_keys",
            json!({"keys": ["a"], "vm": "up"}),
            "Pressed a.",
        ),
        ("wait", json!({"seconds": "0.01"}), "Waited 0.01 s."),
        // A text is a text, whatever it looks like.
        (
            "type_text",
            json!({"text": "[1, 2]"}),
            "Typed 6 characters.",
        ),
        (
            "type_text",
            json!({"text": "$(id) `id` 'x' \"y\" \\"}),
            "Typed 20 characters.",
        ),
        ("type_text", json!({"text": ""}), "Typed 0 characters."),
        (
            "run_actions",
            json!({"actions": "[{\"action\": \"wait\", \"seconds\": \"0\"}]", "screenshot": null}),
            "1 of 1 actions were done.\n1. wait: done. Waited 0 s.",
        ),
    ];
    for (tool, arguments, text) in cases {
        assert_eq!(
            client.done(tool, arguments.clone()).text,
            text,
            "{tool} {arguments}"
        );
    }
    let shot = client.done(
        "take_screenshot",
        json!({"region": "[0, 0, 100, 50]", "head": "0"}),
    );
    assert!(
        shot.text
            .contains("region [0, 0, 100, 50] of the full screenshot"),
        "{}",
        shot.text
    );
}

#[test]
fn vms_that_are_unknown_not_granted_or_not_running_are_told_apart() {
    let (_home, mut client) = start();
    let list = client.done("vm_list", json!({})).data.unwrap();
    let uri = list["uri"].as_str().unwrap();
    assert_eq!(
        client.fails("press_keys", json!({"keys": ["a"], "vm": "nowhere"})),
        format!(
            "There is no VM named `nowhere` at {uri}; there are asleep, crashed, off, pointing, up.\n\
             Next: Call `vm_list` for the names, or look with `virsh -c {uri} list --all`."
        )
    );
    let start = format!("Start it: `virsh -c {uri} start off`.");
    let resume = format!("Resume it: `virsh -c {uri} resume asleep`.");

    refused(
        &mut client,
        vec![
            (
                "press_keys",
                json!({"keys": ["a"], "vm": "pointing"}),
                "`input` is not granted for the VM `pointing`, nor is anything else.",
                "Only the person who runs this server can grant it, by `--vm pointing` or in the configuration:\n[vm.\"pointing\"]\nallow = [\"input\"]",
            ),
            (
                "take_screenshot",
                json!({"vm": "pointing"}),
                "`view` is not granted for the VM `pointing`",
                "Only the person",
            ),
            (
                "vm_list",
                json!({"vm": "pointing"}),
                "`view` is not granted for the VM `pointing`",
                "Only the person",
            ),
            (
                "ssh_execute",
                json!({"command": "ls", "vm": "pointing"}),
                "`shell` is not granted for the VM `pointing`",
                "Only the person",
            ),
            (
                "ssh_upload",
                json!({"local_path": "a", "remote_path": "b", "vm": "pointing"}),
                "`files` is not granted for the VM `pointing`",
                "Only the person",
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "vm": "off"}),
                "The VM `off` is shut off.",
                &start,
            ),
            (
                "type_text",
                json!({"text": "a", "vm": "asleep"}),
                "The VM `asleep` is paused.",
                &resume,
            ),
            (
                "run_actions",
                json!({"actions": [{"action": "click"}], "vm": "asleep"}),
                "Action 1 is refused, and nothing was done: the VM `asleep` is paused.",
                &resume,
            ),
            (
                "ssh_execute",
                json!({"command": "ls", "vm": "off"}),
                "The VM `off` is shut off.",
                &start,
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "vm": ""}),
                "The parameters do not fit: a VM's name is not empty and has no NUL or line break.",
                AGAIN,
            ),
            (
                "press_keys",
                json!({"keys": ["a"], "vm": "a\nb"}),
                "The parameters do not fit: a VM's name is not empty",
                AGAIN,
            ),
        ],
    );
}

#[test]
fn without_a_default_the_choice_is_told() {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    command.args(["--uri", &test_driver::host(home.path())]);
    let mut client = Client::start(command);
    assert_eq!(
        client.fails("press_keys", json!({"keys": ["a"]})),
        "No VM is named, and there is no default: running are pointing, up.\n\
         Next: Name one as `vm`, or set the default by `--vm`, VM_NAME or `default_vm` in the \
         configuration. `vm_list` shows all VMs."
    );

    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    let uri = test_driver::host_with(home.path(), &[("off", "5")]);
    command.args(["--uri", &uri]);
    let mut client = Client::start(command);
    let text = client.fails("take_screenshot", json!({}));
    assert!(
        text.starts_with("No VM is named, and there is no default: no VM is running."),
        "{text}"
    );
}

#[test]
fn a_hypervisor_that_cannot_point_says_so() {
    let (home, mut client) = start();
    for (tool, arguments) in [
        ("move_mouse", json!({"x": 5, "y": 5})),
        ("click", json!({"x": 5, "y": 5})),
        ("click", json!({})),
        ("click", json!({"modifiers": ["Ctrl"]})),
        ("press_keys", json!({"keys": ["a"], "hold_ms": 10})),
        (
            "run_actions",
            json!({"actions": [{"action": "wait", "seconds": 0}, {"action": "click"}]}),
        ),
    ] {
        let text = client.fails(tool, arguments.clone());
        let lower = text.to_lowercase();
        assert!(
            lower.contains("the hypervisor of `up` cannot send input"),
            "{tool} {arguments}: {text}"
        );
        assert!(text.contains("virDomainQemuMonitorCommand"), "{text}");
        assert!(text.contains("Next: Mouse and held keys need a QEMU VM; keys and screenshots depend on the driver."), "{text}");
    }

    // Without a tablet there is no talk of attaching one: it would not help.
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI]);
    let mut client = Client::start(command);
    for tool in ["move_mouse", "click"] {
        assert_eq!(
            client.fails(tool, json!({"x": 5, "y": 5})),
            "Libvirt's driver `test`, which runs `test`, cannot point.\n\
             Next: The mouse needs a QEMU VM. Use `press_keys` and `type_text` instead."
        );
    }
    let about = client.done("vm_list", json!({"vm": "test"})).text;
    assert!(about.contains("driver test\ntablet: none\n"), "{about}");
    assert!(!about.contains("attach-device"), "{about}");
}
