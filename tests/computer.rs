//! The toolset `computer`: its members do what the standard tools do, under the names and with the
//! parameters that models are trained on.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, clippy::too_many_lines)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/test_driver.rs"]
mod test_driver;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use fake::{Fake, Trouble};
use mcp::{Client, binary};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use virtpilot::{
    config::{Config, Environment, Overrides},
    image::Picture,
    model::{Region, ScreenSize},
    perform::Progress,
    tools::{Reply, Server},
};

const MEMBERS: [&str; 17] = [
    "cursor_position",
    "double_click",
    "hold_key",
    "key",
    "left_click",
    "left_click_drag",
    "left_mouse_down",
    "left_mouse_up",
    "middle_click",
    "mouse_move",
    "right_click",
    "screenshot",
    "scroll",
    "triple_click",
    "type",
    "wait",
    "zoom",
];

/// A server whose VM `demo` is the fake's.
fn server(home: &TempDir, fake: &Arc<Fake>) -> Arc<Server> {
    let environment = Environment {
        home: Some(home.path().to_owned()),
        working_dir: home.path().to_owned(),
        ..Environment::default()
    };
    let overrides = Overrides {
        vms: vec!["demo".parse().unwrap()],
        toolset: Some("computer".to_owned()),
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
    let silent: Progress = Arc::new(|_, _| ());
    server.call(tool, arguments, cancel, silent).await
}

async fn call(server: &Arc<Server>, tool: &str, arguments: Value) -> Reply {
    call_with(server, CancellationToken::new(), tool, arguments).await
}

async fn done(server: &Arc<Server>, tool: &str, arguments: Value) -> String {
    let shown = format!("{tool} {arguments}");
    let reply = call(server, tool, arguments).await;
    assert!(!reply.is_error(), "{shown}: {}", reply.text);
    reply.text
}

/// The pixel 10,20 of 1000×500, and the one beside it that the pointer goes to first where it may
/// be there already.
const AT: &str = "at 344,1343";
const BESIDE: &str = "at 311,1343";

#[tokio::test]
async fn every_member_becomes_exactly_these_events() {
    let at = [10, 20];
    let left = ["left down", "left up"];
    let way = [
        "at 409,1343",
        "at 475,1343",
        "at 540,1343",
        "at 606,1343",
        "at 671,1343",
    ];
    // Ten pixels in steps of one: the usual time is enough for more steps than pixels.
    let fine_way: Vec<String> = (11..=20)
        .map(|x: u32| format!("at {},1343", (2 * x + 1) * 32768 / 2000))
        .collect();
    assert!(way.iter().all(|it| fine_way.contains(&(*it).to_owned())));
    let fine_way: Vec<&str> = fine_way.iter().map(String::as_str).collect();
    let cases: Vec<(&str, Value, Vec<&str>, &str)> = vec![
        (
            "left_click",
            json!({"coordinate": at}),
            [&[BESIDE, AT][..], &left].concat(),
            "Clicked left at 10,20.",
        ),
        ("left_click", json!({}), left.to_vec(), "Clicked left."),
        (
            "left_click",
            json!({"coordinate": null, "text": ""}),
            left.to_vec(),
            "Clicked left.",
        ),
        (
            "left_click",
            json!({"coordinate": "[10, 20]", "text": "ctrl+shift"}),
            vec![
                "29 down, 42 down",
                BESIDE,
                AT,
                "left down",
                "left up",
                "42 up, 29 up",
            ],
            "Clicked left at 10,20 with ctrl+shift.",
        ),
        (
            "right_click",
            json!({"coordinate": [10.0, 20.0]}),
            vec![BESIDE, AT, "right down", "right up"],
            "Clicked right at 10,20.",
        ),
        (
            "middle_click",
            json!({}),
            vec!["middle down", "middle up"],
            "Clicked middle.",
        ),
        (
            "double_click",
            json!({"coordinate": at}),
            [&[BESIDE, AT][..], &left, &left].concat(),
            "Clicked left 2 times at 10,20.",
        ),
        (
            "triple_click",
            json!({"text": "shift"}),
            [&["42 down"][..], &left, &left, &left, &["42 up"]].concat(),
            "Clicked left 3 times with shift.",
        ),
        (
            "left_click_drag",
            json!({"start_coordinate": at, "coordinate": [20, 20]}),
            [&[BESIDE, AT, "left down"][..], &fine_way, &["left up"]].concat(),
            "Dragged from 10,20 to 20,20 with the left button.",
        ),
        (
            "left_click_drag",
            json!({"start_coordinate": at, "coordinate": [20, 20], "text": "alt"}),
            [
                &["56 down", BESIDE, AT, "left down"][..],
                &fine_way,
                &["left up", "56 up"],
            ]
            .concat(),
            "Dragged from 10,20 to 20,20 with the left button and alt.",
        ),
        (
            "mouse_move",
            json!({"coordinate": at}),
            vec![BESIDE, AT],
            "Moved the pointer to 10,20.",
        ),
        (
            "left_mouse_down",
            json!({}),
            vec!["left down"],
            "The left button is down.",
        ),
        (
            "left_mouse_up",
            json!({}),
            vec!["left up"],
            "The left button is up.",
        ),
        (
            "scroll",
            json!({"scroll_direction": "down", "scroll_amount": 2, "coordinate": at}),
            vec![
                BESIDE,
                AT,
                "wheel-down down",
                "wheel-down up",
                "wheel-down down",
                "wheel-down up",
            ],
            "Scrolled down by 2 at 10,20.",
        ),
        (
            "scroll",
            json!({"scroll_direction": "up", "scroll_amount": 1, "text": "ctrl"}),
            vec!["29 down", "wheel-up down", "wheel-up up", "29 up"],
            "Scrolled up by 1 with ctrl.",
        ),
        (
            "type",
            json!({"text": "aA\n"}),
            vec!["keys 30", "keys 42+30", "keys 28"],
            "Typed 3 characters.",
        ),
        (
            "key",
            json!({"text": "ctrl+s"}),
            vec!["keys 29+31"],
            "Pressed ctrl+s.",
        ),
        (
            "key",
            json!({"text": "Page_Up", "repeat": 2}),
            vec!["keys 104", "keys 104"],
            "Pressed Page_Up 2 times.",
        ),
        (
            "key",
            json!({"text": "A"}),
            vec!["keys 42+30"],
            "Pressed A.",
        ),
        (
            "key",
            json!({"text": "ctrl++"}),
            vec!["keys 42+29+13"],
            "Pressed ctrl++.",
        ),
        (
            "key",
            json!({"text": "Down alt+Tab", "repeat": 2}),
            vec!["keys 108", "keys 56+15", "keys 108", "keys 56+15"],
            "Pressed Down alt+Tab, 2 times.",
        ),
        (
            "hold_key",
            json!({"text": "shift+Right", "duration": 0.05}),
            vec!["42 down, 106 down", "106 up, 42 up"],
            "Held shift+Right for 50 ms.",
        ),
        (
            "hold_key",
            json!({"text": "a", "duration": 0}),
            vec!["keys 30"],
            "Pressed a.",
        ),
        ("wait", json!({"duration": 0.01}), vec![], "Waited 0.01 s."),
    ];
    for (tool, arguments, events, text) in cases {
        let home = TempDir::new().unwrap();
        let fake = Fake::new(1000, 500);
        let server = server(&home, &fake);
        let shown = format!("{tool} {arguments}");
        assert_eq!(done(&server, tool, arguments).await, text, "{shown}");
        assert_eq!(fake.events(), events, "{shown}");
        let held: &[&str] = if tool == "left_mouse_down" {
            &["demo: left"]
        } else {
            &[]
        };
        assert_eq!(fake.down(), held, "{shown}");
    }
}

#[tokio::test]
async fn a_button_that_is_held_goes_up_when_the_server_ends() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let server = server(&home, &fake);
    done(&server, "mouse_move", json!({"coordinate": [10, 20]})).await;
    done(&server, "left_mouse_down", json!({})).await;
    done(&server, "mouse_move", json!({"coordinate": [30, 40]})).await;
    done(&server, "wait", json!({"duration": 0.1})).await;
    done(&server, "screenshot", json!({})).await;
    assert_eq!(fake.down(), ["demo: left"]);
    let reply = call(&server, "left_click", json!({})).await;
    assert_eq!(
        reply.text,
        "The left button of `demo` is held down already.\nNext: Let go of it first, with \
         `left_mouse_up`."
    );
    assert_eq!(fake.down(), ["demo: left"]);
    server.shut_down().await;
    assert_eq!(fake.down(), [""; 0]);
    assert_eq!(fake.events().last().unwrap(), "left up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_hangs_does_not_keep_the_server_from_ending() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let server = server(&home, &fake);
    done(&server, "left_mouse_down", json!({})).await;
    fake.trouble_at(1, Trouble::Blocks);
    let begun = Instant::now();
    server.shut_down().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    // The release waits for the VM where it is.
    fake.unblock();
}

#[tokio::test]
async fn a_cancelled_hold_lets_go_of_its_keys() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let server = server(&home, &fake);
    let cancel = CancellationToken::new();
    let arguments = json!({"text": "ctrl+a", "duration": 300});
    let running = call_with(&server, cancel.clone(), "hold_key", arguments);
    let stop = async {
        while fake.down() != ["demo: key 29", "demo: key 30"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (reply, ()) = tokio::join!(running, stop);
    assert!(
        reply.text.starts_with("The call was cancelled; no key"),
        "{}",
        reply.text
    );
    assert_eq!(fake.events(), ["29 down, 30 down", "30 up, 29 up"]);
}

#[tokio::test]
async fn what_could_not_be_let_go_of_goes_up_when_the_server_ends() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    // All tries to let go.
    for call in 2..=4 {
        fake.trouble_at(call, Trouble::Paused);
    }
    let server = server(&home, &fake);
    let cancel = CancellationToken::new();
    let arguments = json!({"text": "ctrl", "duration": 300});
    let running = call_with(&server, cancel.clone(), "hold_key", arguments);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    };
    tokio::join!(running, stop);
    assert_eq!(fake.down(), ["demo: key 29"]);
    server.shut_down().await;
    assert_eq!(fake.down(), [""; 0]);
}

#[tokio::test]
async fn a_chord_that_fails_is_told_with_its_place() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let server = server(&home, &fake);
    fake.trouble_at(2, Trouble::Fails);
    let reply = call(&server, "key", json!({"text": "Down Up Return"})).await;
    assert!(
        reply
            .text
            .starts_with("Part 2 of 3 failed: QEMU refused input"),
        "{}",
        reply.text
    );
    assert_eq!(fake.events(), ["keys 108", "!keys 103"]);
}

#[tokio::test]
async fn coordinates_are_those_of_the_scaled_picture() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(2560, 1440);
    let server = server(&home, &fake);
    let reply = call(&server, "screenshot", json!({})).await;
    assert!(
        reply
            .text
            .contains(": 1568×882 pixels, scaled from 2560×1440. "),
        "{}",
        reply.text
    );
    let unknown = call(&server, "cursor_position", json!({})).await;
    assert!(unknown.is_error());
    assert_eq!(
        unknown.text,
        "Where the pointer of `demo` is, is not known.\nNext: This server knows only where it put \
         the pointer itself: move it or click at a place first."
    );
    for [x, y] in [[0, 0], [1567, 881], [784, 441]] {
        done(&server, "left_click", json!({"coordinate": [x, y]})).await;
        let place = done(&server, "cursor_position", json!({})).await;
        assert_eq!(place, format!("X={x}, Y={y}"));
    }
    let outside = call(&server, "mouse_move", json!({"coordinate": [1568, 0]})).await;
    assert!(
        outside
            .text
            .starts_with("The point 1568,0 is outside the screenshot of 1568×882 pixels."),
        "{}",
        outside.text
    );
}

/// Each pixel of the fake's picture tells where it is.
#[tokio::test]
async fn zoom_shows_native_pixels_as_large_as_they_fit() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(2560, 1440);
    let server = server(&home, &fake);
    // A part of the shown picture; its native size; the size that it is shown at.
    let cases = [
        ([0, 0, 784, 441], "1280×720", "1568×882"),
        ([0, 0, 1568, 882], "2560×1440", "1568×882"),
        ([0, 0, 784, 49], "1280×80", "1568×98"),
        ([0, 0, 49, 441], "80×720", "98×882"),
        ([1566, 880, 1568, 882], "4×4", "882×882"),
    ];
    for (region, native, shown) in cases {
        let reply = call(&server, "zoom", json!({"region": region})).await;
        assert!(!reply.is_error(), "{}", reply.text);
        let [picture] = reply.pictures.as_slice() else {
            panic!("{} pictures", reply.pictures.len());
        };
        let size = virtpilot::image::size(picture.mime, &picture.bytes).unwrap();
        assert_eq!(size.to_string(), shown, "{region:?}");
        let [x0, y0, x1, y1] = region;
        let sizes = format!(
            "region [{x0}, {y0}, {x1}, {y1}] of the full screenshot (1568×882 pixels, scaled from \
             2560×1440)."
        );
        assert!(reply.text.contains(&sizes), "{}", reply.text);
        let zoomed = format!("\nThe picture shows its {native} native pixels at {shown}.");
        assert!(reply.text.ends_with(&zoomed), "{}", reply.text);
    }
    let reply = call(&server, "zoom", json!({"region": [0, 0, 1569, 10]})).await;
    assert!(
        reply
            .text
            .starts_with("The region [0, 0, 1569, 10] is empty or not inside the screenshot"),
        "{}",
        reply.text
    );
    // What was native before is so after: the space of coordinates has not changed.
    done(&server, "mouse_move", json!({"coordinate": [1567, 881]})).await;
}

#[tokio::test]
async fn a_zoom_at_its_own_size_has_the_very_pixels() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    let server = server(&home, &fake);
    let whole = ScreenSize {
        width: 1000,
        height: 500,
    };
    let whole = Picture::decode("image/x-portable-pixmap", fake::ppm(whole)).unwrap();
    let reply = call(&server, "zoom", json!({"region": [0, 0, 1000, 500]})).await;
    let picture = Picture::decode("image/png", &reply.pictures[0].bytes).unwrap();
    assert!(picture.rgb() == whole.rgb());
    // Twice as large, the middle of each block of four pixels stays near the one that it was.
    let reply = call(&server, "zoom", json!({"region": [500, 250, 1000, 500]})).await;
    let picture = Picture::decode("image/png", &reply.pictures[0].bytes).unwrap();
    assert_eq!(picture.size().to_string(), "1000×500");
    let part = whole.crop(Region::from([500, 250, 1000, 500]));
    let small = picture.scale(part.size()).unwrap();
    let apart = small
        .rgb()
        .iter()
        .zip(part.rgb())
        .map(|(a, b)| a.abs_diff(*b));
    let far = apart.filter(|apart| *apart > 8).count();
    // The colours of the fake's picture jump where their counters start anew.
    assert!(far * 20 < part.rgb().len(), "{far} of {}", part.rgb().len());
}

#[tokio::test]
async fn hints_name_the_tools_of_this_set() {
    let home = TempDir::new().unwrap();
    let fake = Fake::new(1000, 500);
    fake.set_devices(|devices| {
        devices.tablet = None;
        devices.driver = "xen".to_owned();
    });
    let server = server(&home, &fake);
    let reply = call(&server, "mouse_move", json!({"coordinate": [1, 2]})).await;
    assert_eq!(
        reply.text,
        "Libvirt's driver `xen`, which runs `demo`, cannot point.\nNext: The mouse needs a QEMU VM. \
         Use `key` and `type` instead."
    );
}

/// A server of the test driver's host with the VM `up` as its default.
fn start(options: &[&str]) -> (TempDir, Client) {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    let uri = test_driver::host(home.path());
    command.args(["--uri", &uri, "--vm", "up"]).args(options);
    let client = Client::start(command);
    (home, client)
}

fn listed(client: &mut Client) -> Vec<String> {
    let answer = client.request("tools/list", json!({}));
    let tools = answer["result"]["tools"].as_array().unwrap();
    let mut names: Vec<_> = tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_members_take_the_place_of_what_looks_and_points() {
    let (_home, mut standard) = start(&[]);
    let (_home, mut computer) = start(&["--toolset", "computer"]);
    let others = |names: Vec<String>| -> Vec<String> {
        let is_other = |name: &String| {
            ["vm_", "ssh_", "project_"]
                .iter()
                .any(|area| name.starts_with(area))
        };
        names.into_iter().filter(is_other).collect()
    };
    let names = listed(&mut computer);
    let members: Vec<_> = names
        .iter()
        .filter(|name| MEMBERS.contains(&name.as_str()))
        .collect();
    assert_eq!(members, MEMBERS.iter().collect::<Vec<_>>());
    let rest = others(names.clone());
    assert_eq!(rest, others(listed(&mut standard)));
    assert_eq!(names.len(), MEMBERS.len() + rest.len(), "{names:?}");
    for gone in ["take_screenshot", "click", "run_actions"] {
        let arguments = json!({"name": gone, "arguments": {}});
        let answer = computer.request("tools/call", arguments);
        assert_eq!(
            answer["error"]["message"],
            json!(format!("there is no tool `{gone}`"))
        );
    }
}

#[test]
fn the_configuration_file_chooses_the_toolset_and_the_command_line_ranks_above_it() {
    let home = TempDir::new().unwrap();
    let config = home.path().join("config/virtpilot/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "toolset = \"computer\"\n").unwrap();
    for (options, expected) in [(&[][..], true), (&["--toolset", "standard"], false)] {
        let mut command = binary(home.path());
        command.args(["--uri", test_driver::URI]).args(options);
        let mut client = Client::start(command);
        let names = listed(&mut client);
        assert_eq!(names.contains(&"left_click".to_owned()), expected);
        assert_eq!(names.contains(&"take_screenshot".to_owned()), !expected);
    }
}

#[test]
fn looking_needs_view_and_the_rest_input() {
    let cases: [(&[&str], &[&str]); 3] = [
        (
            &["--read-only"],
            &["cursor_position", "screenshot", "wait", "zoom"],
        ),
        (&["--allow", "shell"], &["wait"]),
        (
            &["--allow", "input"],
            &[
                "double_click",
                "hold_key",
                "key",
                "left_click",
                "left_click_drag",
                "left_mouse_down",
                "left_mouse_up",
                "middle_click",
                "mouse_move",
                "right_click",
                "scroll",
                "triple_click",
                "type",
                "wait",
            ],
        ),
    ];
    for (options, expected) in cases {
        let options = [&["--toolset", "computer"], options].concat();
        let (_home, mut client) = start(&options);
        let mut names = listed(&mut client);
        names.retain(|name| MEMBERS.contains(&name.as_str()));
        assert_eq!(names, expected, "{options:?}");
    }
    let (_home, mut client) = start(&["--toolset", "computer", "--read-only"]);
    let text = client.fails("type", json!({"text": "a"}));
    assert!(
        text.starts_with("`type` needs `input`, which is granted for no VM."),
        "{text}"
    );
}

#[test]
fn pictures_are_content_and_resources() {
    let (_home, mut client) = start(&["--toolset", "computer"]);
    let reply = client.done("screenshot", json!({}));
    assert!(
        reply
            .text
            .contains(" of up: 1120×832 pixels, native size. Resource vm://screenshot/"),
        "{}",
        reply.text
    );
    assert_eq!((reply.data, reply.pictures.len()), (None, 1));
    let reply = client.done("zoom", json!({"region": [0, 0, 560, 100]}));
    assert_eq!((reply.data, reply.pictures.len()), (None, 1));
    let (mime, bytes) = &reply.pictures[0];
    assert_eq!(
        virtpilot::image::size(mime, bytes).unwrap().to_string(),
        "1120×200"
    );
}

const AGAIN: &str = "Correct the value and call again; nothing was done.";

#[test]
fn what_is_wrong_is_refused_with_what_would_be_right() {
    let (_home, mut client) = start(&["--toolset", "computer"]);
    let outside = "The point 1120,0 is outside the screenshot of 1120×832 pixels.";
    let sizes = "x goes from 0 to 1119, y from 0 to 831.";
    let no_vm = "There is no parameter `vm`";
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        (
            "screenshot",
            json!({"vm": "up"}),
            no_vm,
            "It takes no parameters.",
        ),
        (
            "screenshot",
            json!({"region": [0, 0, 1, 1]}),
            "There is no parameter `region`",
            "It takes",
        ),
        (
            "zoom",
            json!({}),
            "The parameter `region` is missing.",
            "Give it: array.",
        ),
        (
            "zoom",
            json!({"region": [0, 0, 1]}),
            "`region` has 3 items.",
            "It takes 4.",
        ),
        (
            "zoom",
            json!({"region": "all"}),
            "`region` must be a list, and is a string.",
            AGAIN,
        ),
        (
            "zoom",
            json!({"region": [10, 0, 10, 5]}),
            "The region [10, 0, 10, 5] is empty or not inside the screenshot of 1120×832 pixels.",
            "A region is [x0, y0, x1, y1]",
        ),
        (
            "left_click",
            json!({"vm": "up"}),
            no_vm,
            "Accepted are `coordinate`, `text`.",
        ),
        (
            "left_click",
            json!({"x": 1, "y": 2}),
            "There is no parameter `x`",
            "Accepted are",
        ),
        (
            "left_click",
            json!({"coordinate": [1]}),
            "`coordinate` has 1 items.",
            "It takes 2.",
        ),
        (
            "right_click",
            json!({"coordinate": [1, 2, 3]}),
            "`coordinate` has 3 items.",
            "It takes 2.",
        ),
        (
            "middle_click",
            json!({"coordinate": 7}),
            "`coordinate` must be a list",
            AGAIN,
        ),
        (
            "double_click",
            json!({"coordinate": [1.5, 2]}),
            "`coordinate[0]` must be an integer",
            AGAIN,
        ),
        (
            "triple_click",
            json!({"coordinate": [1120, 0]}),
            outside,
            sizes,
        ),
        (
            "left_click",
            json!({"text": "crtl"}),
            "There is no key named `crtl`",
            "Keys are named",
        ),
        (
            "left_click",
            json!({"text": "ctrl shift"}),
            "`text` names 2 chords, and can be one.",
            "Join keys that are held together by `+`",
        ),
        (
            "left_click",
            json!({"text": "ctrl+"}),
            "There is no key named `ctrl+`.",
            "Keys are named",
        ),
        (
            "left_click",
            json!({"text": "ctrl+ctrl"}),
            "`ctrl` names a key that is in the chord",
            "Name each",
        ),
        (
            "left_click_drag",
            json!({"coordinate": [1, 2]}),
            "The parameter `start_coordinate` is missing.",
            "Give it: array. Where the button goes down",
        ),
        (
            "left_click_drag",
            json!({"start_coordinate": [1, 2], "coordinate": [1, 2]}),
            "A drag needs two different points, and 1,2 is both.",
            AGAIN,
        ),
        (
            "left_click_drag",
            json!({"start_coordinate": [1, 2], "coordinate": [1120, 0]}),
            outside,
            sizes,
        ),
        (
            "mouse_move",
            json!({}),
            "The parameter `coordinate` is missing.",
            "Give it: array.",
        ),
        (
            "mouse_move",
            json!({"coordinate": null}),
            "`coordinate` must be a list, and is null.",
            AGAIN,
        ),
        (
            "mouse_move",
            json!({"coordinate": [1120, 0]}),
            outside,
            sizes,
        ),
        (
            "mouse_move",
            json!({"coordinate": [3_000_000_000_u32, 0]}),
            "`coordinate[0]` is 3000000000, and must be from",
            AGAIN,
        ),
        (
            "left_mouse_down",
            json!({"coordinate": [1, 2]}),
            "There is no parameter `coordinate`",
            "It takes",
        ),
        (
            "left_mouse_up",
            json!({"button": "left"}),
            "There is no parameter `button`",
            "It takes",
        ),
        (
            "cursor_position",
            json!({"vm": "up"}),
            no_vm,
            "It takes no parameters.",
        ),
        (
            "cursor_position",
            json!({}),
            "Where the pointer of `up` is, is not known.",
            "This server knows only where it put the pointer itself",
        ),
        (
            "scroll",
            json!({"scroll_direction": "down"}),
            "The parameter `scroll_amount` is missing.",
            "Give it: integer.",
        ),
        (
            "scroll",
            json!({"scroll_direction": "in", "scroll_amount": 1}),
            "`scroll_direction` is \"in\", which is none of its values.",
            "Allowed are up, down, left, right.",
        ),
        (
            "scroll",
            json!({"scroll_direction": "up", "scroll_amount": 0}),
            "`scroll_amount` is 0, and must be from 1 to 100.",
            AGAIN,
        ),
        (
            "scroll",
            json!({"scroll_direction": "up", "scroll_amount": 101}),
            "`scroll_amount` is 101, and must be from 1 to 100.",
            AGAIN,
        ),
        (
            "scroll",
            json!({"scroll_direction": "up", "scroll_amount": 1, "coordinate": [1120, 0]}),
            outside,
            sizes,
        ),
        (
            "type",
            json!({}),
            "The parameter `text` is missing.",
            "Give it: string.",
        ),
        (
            "type",
            json!({"text": 7}),
            "`text` must be a string, and is a number.",
            AGAIN,
        ),
        (
            "type",
            json!({"text": "é"}),
            "The keyboard layout `us` cannot type `é`",
            "Nothing was typed.",
        ),
        (
            "key",
            json!({}),
            "The parameter `text` is missing.",
            "Give it: string.",
        ),
        (
            "key",
            json!({"text": ""}),
            "No key is named.",
            "Name at least one key.",
        ),
        (
            "key",
            json!({"text": "a Retrun"}),
            "There is no key named `Retrun`",
            "Keys are named",
        ),
        (
            "key",
            json!({"text": "ctrl-s"}),
            "There is no key named `ctrl-s`",
            "Keys are named",
        ),
        (
            "key",
            json!({"text": "a", "repeat": 0}),
            "`repeat` is 0, and must be from 1 to 100.",
            AGAIN,
        ),
        (
            "key",
            json!({"text": "a", "repeat": 101}),
            "`repeat` is 101, and must be from",
            AGAIN,
        ),
        (
            "key",
            json!({"text": "a ".repeat(101)}),
            "`text` names 101 chords, and can be 100.",
            "Press fewer at a time, or give what is to be written to `type`.",
        ),
        (
            "key",
            json!({"text": "a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q"}),
            "17 keys are too many for one chord",
            "Press the chords one after another, as several calls or in `key`.",
        ),
        (
            "hold_key",
            json!({"text": "a"}),
            "The parameter `duration` is missing.",
            "Give it: number.",
        ),
        (
            "hold_key",
            json!({"text": "a", "duration": 300.5}),
            "`duration` is 300.5, and must be from 0 to 300.",
            AGAIN,
        ),
        (
            "hold_key",
            json!({"text": "a", "duration": -1}),
            "`duration` is -1, and must be from 0 to 300.",
            AGAIN,
        ),
        (
            "hold_key",
            json!({"text": "a b", "duration": 1}),
            "`text` names 2 chords, and can be one.",
            "Join keys",
        ),
        (
            "wait",
            json!({}),
            "The parameter `duration` is missing.",
            "Give it: number.",
        ),
        (
            "wait",
            json!({"seconds": 1}),
            "There is no parameter `seconds`",
            "Accepted are `duration`.",
        ),
        (
            "wait",
            json!({"duration": 301}),
            "`duration` is 301, and must be from 0 to 300.",
            AGAIN,
        ),
    ];
    let mut tried: Vec<_> = cases.iter().map(|(tool, ..)| *tool).collect();
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried, MEMBERS);
    for (tool, arguments, what, next) in cases {
        let shown = format!("{tool} {arguments}");
        let text = client.fails(tool, arguments);
        assert!(text.starts_with(what), "{shown}: {text}");
        let hint = text.split_once("\nNext: ").unwrap().1;
        assert!(hint.starts_with(next), "{shown}: {text}");
    }
    // The server is none the worse for it.
    client.done("key", json!({"text": "a"}));
}

#[test]
fn what_is_typed_is_in_no_log_and_what_is_pressed_is_named() {
    let (home, mut client) = start(&["--toolset", "computer"]);
    client.done("project_init", json!({"name": "logged"}));
    client.done("type", json!({"text": "Zq7typed"}));
    client.done("key", json!({"text": "ctrl+shift+p Return"}));
    client.done("key", json!({"text": "h u n"}));
    client.call("key", json!({"text": "Zq7typed"}));
    client.call("left_click", json!({"text": "ctrl", "coordinate": [1, 2]}));
    client.call(
        "scroll",
        json!({"scroll_direction": "down", "scroll_amount": 3}),
    );
    let folder = home.path().join("data/virtpilot/projects");
    let project = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let log = fs::read_to_string(project.path().join("logs/project.log")).unwrap();
    let actions = fs::read_to_string(project.path().join("logs/actions.jsonl")).unwrap();
    for text in [&log, &actions] {
        assert!(!text.contains("Zq7"), "{text}");
    }
    for line in [
        "TOOL: type(text=<8 characters>)",
        "TOOL: key(text=ctrl+shift+p Return)",
        "TOOL: key(text=<character> <character> <character>)",
        "ERROR in key: there is no such key",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    for part in [
        r#""tool":"left_click","parameters":{"text":"ctrl","coordinate":[1,2]}"#,
        r#""scroll_direction":"down","scroll_amount":3"#,
    ] {
        assert!(actions.contains(part), "{part}: {actions}");
    }
}
