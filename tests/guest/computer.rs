//! The toolset `computer`, and with it drags, the wheel and held buttons, as the guest sees them.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    code,
    guest::{Area, Guest},
    mcp::Client,
    pointing::{CONTROL, SHIFT, clicks, open_xev},
};

/// The mask of the left button in the state of X's events, and the numbers of its wheel.
const LEFT_HELD: u32 = 0x100;
const WHEEL_UP: u32 = 4;
const WHEEL_DOWN: u32 = 5;

/// What ends a server.
type End = fn(&mut Client);

fn client(guest: &Guest) -> Client {
    let mut command = guest.server();
    command.args(["--toolset", "computer"]);
    Client::start(command)
}

fn point((x, y): (i32, i32)) -> Value {
    json!([x, y])
}

#[test]
fn clicks_arrive_with_button_count_place_and_modifiers() {
    let mut guest = Guest::enter();
    let mut client = client(&guest);
    let window = open_xev(&mut guest);
    let cases: [(&str, Value, u32, usize, u32); 6] = [
        ("left_click", json!({}), 1, 1, 0),
        ("right_click", json!({}), 3, 1, 0),
        ("middle_click", json!({"text": "shift"}), 2, 1, SHIFT),
        (
            "left_click",
            json!({"text": "ctrl+shift"}),
            1,
            1,
            CONTROL | SHIFT,
        ),
        ("double_click", json!({}), 1, 2, 0),
        ("triple_click", json!({"text": "ctrl"}), 1, 3, CONTROL),
    ];
    let mut before = 0;
    for (at, (tool, mut arguments, button, count, modifiers)) in cases.into_iter().enumerate() {
        let place = window.at(30 + 50 * i32::try_from(at).unwrap(), 60);
        arguments["coordinate"] = point(place);
        client.done(tool, arguments.clone());
        let events = clicks(&mut guest, before + 2 * count).split_off(before);
        before += events.len();
        let seen: Vec<_> = events
            .iter()
            .map(|it| (it.pressed, it.button, it.place, it.state))
            .collect();
        let held = 0x80 << button;
        let once = [
            (true, button, place, modifiers),
            (false, button, place, modifiers | held),
        ];
        assert_eq!(seen, once.repeat(count), "{tool} {arguments}");
    }
}

/// The pointer's places with the left button down, as xev tells them.
pub(crate) fn motions(lines: &[String]) -> Vec<(i32, i32)> {
    let mut places = vec![];
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = lines.get(at + 1..at + 3).map(|lines| lines.join(" ")) else {
            break;
        };
        if !line.starts_with("MotionNotify") || !rest.contains(&format!("state {LEFT_HELD:#x},")) {
            continue;
        }
        let place = rest.split("root:(").nth(1).unwrap();
        let (place, _) = place.split_once(')').unwrap();
        let (x, y) = place.split_once(',').unwrap();
        places.push((x.parse().unwrap(), y.parse().unwrap()));
    }
    places
}

pub(crate) fn open_motion_xev(guest: &mut Guest) -> Area {
    let program = [
        "stdbuf",
        "-oL",
        "xev",
        "-name",
        "clicks",
        "-geometry",
        "400x200+700+450",
        "-event",
        "mouse",
    ];
    guest.open_window("clicks", &program)
}

#[test]
fn a_drag_is_seen_on_its_way() {
    let mut guest = Guest::enter();
    let mut client = client(&guest);
    let window = open_motion_xev(&mut guest);
    let (from, to) = (window.at(20, 20), window.at(320, 140));
    client.done(
        "left_click_drag",
        json!({"start_coordinate": point(from), "coordinate": point(to)}),
    );
    let events: Vec<_> = clicks(&mut guest, 2)
        .iter()
        .map(|it| (it.pressed, it.button, it.place))
        .collect();
    assert_eq!(events, [(true, 1, from), (false, 1, to)]);
    let way = motions(&guest.lines("clicks"));
    assert!(way.len() >= 5, "the way has {} points", way.len());
    assert_eq!(way.last(), Some(&to));
    for (x, y) in way {
        // On the straight line between the two, which falls by 2 in 5.
        let off = (y - from.1) * 5 - (x - from.0) * 2;
        assert!(off.abs() <= 10, "{x},{y} is not on the way");
    }
}

#[test]
fn a_drag_selects_text_and_the_middle_button_pastes_it() {
    let mut guest = Guest::enter();
    let mut client = client(&guest);
    let line = "0123456789abcdefghij";
    let program = [
        "xterm",
        "-T",
        "selecting",
        "-geometry",
        "40x4+60+540",
        "-b",
        "0",
        "+sb",
        "-e",
        "sh",
        "-c",
        "printf 0123456789abcdefghij; exec sleep 600",
    ];
    let area = guest.open_window("selecting", &program);
    guest.open_typing_window();
    let cell = (area.width / 40, area.height / 4);
    let at = |column: i32, quarter: i32| {
        point(area.at(column * cell.0 + quarter * cell.0 / 4, cell.1 / 2))
    };
    client.done("wait", json!({"duration": 0.5}));
    // From the left part of one character to the left part of another: those between.
    client.done(
        "left_click_drag",
        json!({"start_coordinate": at(3, 1), "coordinate": at(12, 1)}),
    );
    let typing =
        guest.run("xdotool search --onlyvisible --name '^typing$' getwindowgeometry --shell");
    let number = |name: &str| -> i32 {
        let line = typing.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    };
    let inside = [number("X=") + 40, number("Y=") + 40];
    client.done("middle_click", json!({"coordinate": inside}));
    assert_eq!(guest.typed_in_the_end(9), line[3..12]);
}

#[test]
fn the_wheel_turns_where_it_is_told_and_how_often() {
    let mut guest = Guest::enter();
    let mut client = client(&guest);
    let window = open_xev(&mut guest);
    let place = window.at(100, 100);
    let mut before = 0;
    for (direction, amount, text, button, state) in [
        ("down", 5, "", WHEEL_DOWN, 0),
        ("up", 3, "ctrl", WHEEL_UP, CONTROL),
        ("down", 100, "", WHEEL_DOWN, 0),
    ] {
        client.done(
            "scroll",
            json!({"scroll_direction": direction, "scroll_amount": amount, "coordinate": point(place), "text": text}),
        );
        let events = clicks(&mut guest, before + 2 * amount).split_off(before);
        before += events.len();
        let presses: Vec<_> = events
            .iter()
            .filter(|it| it.pressed)
            .map(|it| (it.button, it.place, it.state))
            .collect();
        assert_eq!(
            presses,
            [(button, place, state)].repeat(amount),
            "{direction}"
        );
        assert_eq!(events.len(), 2 * amount, "{direction}");
    }
}

#[test]
fn a_held_button_stays_down_until_it_is_let_go_of() {
    let mut guest = Guest::enter();
    let mut client = client(&guest);
    let window = open_motion_xev(&mut guest);
    let places = [window.at(20, 20), window.at(120, 60), window.at(200, 150)];
    client.done("mouse_move", json!({"coordinate": point(places[0])}));
    client.done("left_mouse_down", json!({}));
    guest.until("the button is down", |guest| {
        (guest.down() == [code::BUTTON_LEFT]).then_some(())
    });
    for place in &places[1..] {
        client.done("mouse_move", json!({"coordinate": point(*place)}));
        client.done("screenshot", json!({}));
        assert_eq!(guest.down(), [code::BUTTON_LEFT]);
    }
    client.done("left_mouse_up", json!({}));
    guest.assert_nothing_down();
    let events: Vec<_> = clicks(&mut guest, 2)
        .iter()
        .map(|it| (it.pressed, it.button, it.place))
        .collect();
    assert_eq!(events, [(true, 1, places[0]), (false, 1, places[2])]);
    let way = motions(&guest.lines("clicks"));
    assert!(
        way.contains(&places[1]) && way.contains(&places[2]),
        "{way:?}"
    );
}

#[test]
fn a_held_button_goes_up_however_the_server_ends() {
    let mut guest = Guest::enter();
    let ends: [(&str, End); 3] = [
        ("the end of input", Client::hang_up),
        ("TERM", |client| client.signal("TERM")),
        ("INT", |client| client.signal("INT")),
    ];
    for (how, end) in ends {
        let mut client = client(&guest);
        client.done("mouse_move", json!({"coordinate": [1200, 700]}));
        client.done("left_mouse_down", json!({}));
        guest.until("the button is down", |guest| {
            (guest.down() == [code::BUTTON_LEFT]).then_some(())
        });
        end(&mut client);
        assert!(client.wait_for_exit().success(), "{how}");
        guest.assert_nothing_down();
    }
}

#[test]
fn a_cancelled_drag_lets_go_at_once() {
    let mut guest = Guest::enter();
    // As slow as the standard tool can be asked to be.
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    let (from, to) = (window.at(20, 20), window.at(320, 140));
    let id = client.send_call(
        "drag",
        json!({"from_x": from.0, "from_y": from.1, "to_x": to.0, "to_y": to.1, "duration_ms": 10_000, "modifiers": ["Shift"]}),
    );
    guest.until("the button and the key are down", |guest| {
        (guest.down().len() == 2).then_some(())
    });
    client.notify("notifications/cancelled", json!({"requestId": id}));
    guest.assert_nothing_down();
    let events = clicks(&mut guest, 2);
    assert_eq!(events.len(), 2);
    assert_ne!(events[1].place, to, "it went all the way");
}

#[test]
fn keys_and_text_arrive() {
    let mut guest = Guest::enter();
    let mut client = client(&guest);
    guest.open_typing_window();
    client.done("type", json!({"text": "It's $(x) \"y\".\n"}));
    client.done("key", json!({"text": "a B plus question"}));
    client.done("key", json!({"text": "shift+c", "repeat": 2}));
    client.done("key", json!({"text": "Return"}));
    let expected = "It's $(x) \"y\".\naB+?CC\n";
    assert_eq!(guest.typed_in_the_end(expected.len()), expected);

    let mark = guest.mark();
    client.done("hold_key", json!({"text": "shift+F9", "duration": 0.5}));
    let mut events = guest.events_in_the_end(&mark, 4);
    // A held key repeats by itself.
    events.retain(|event| event.value != 2);
    let seen: Vec<_> = events.iter().map(|it| (it.code, it.value)).collect();
    let (shift, f9) = (code::LEFT_SHIFT, code::F9);
    assert_eq!(seen, [(shift, 1), (f9, 1), (f9, 0), (shift, 0)]);
    let held = events[2].at_ms - events[1].at_ms;
    assert!((450.0..5000.0).contains(&held), "held for {held} ms");
}

#[test]
fn a_hold_of_minutes_is_let_go_of_when_it_is_cancelled() {
    let mut guest = Guest::enter();
    let mut client = client(&guest);
    guest.open_typing_window();
    let id = client.send_call("hold_key", json!({"text": "F9", "duration": 300}));
    guest.until("the key is down", |guest| {
        (guest.down() == [code::F9]).then_some(())
    });
    client.notify("notifications/cancelled", json!({"requestId": id}));
    guest.assert_nothing_down();
    client.done("key", json!({"text": "F9"}));
}

#[test]
fn the_pointer_is_where_it_is_said_to_be_also_on_a_scaled_picture() {
    let mut guest = Guest::enter();
    let config = guest.home().join("scaled.toml");
    let text = format!(
        "toolset = \"computer\"\n[vm.{:?}]\nlong_edge = 640\n",
        guest.name
    );
    std::fs::write(&config, text).unwrap();
    let mut command = guest.server();
    command.arg("--config").arg(&config);
    let mut client = Client::start(command);
    let error = client.fails("cursor_position", json!({}));
    assert!(
        error.starts_with("Where the pointer of `virtpilot-demo` is, is not known."),
        "{error}"
    );
    let reply = client.done("screenshot", json!({}));
    assert!(
        reply
            .text
            .contains(": 640×400 pixels, scaled from 1280×800. "),
        "{}",
        reply.text
    );
    for (x, y) in [(0, 0), (639, 399), (0, 399), (639, 0), (123, 45)] {
        client.done("mouse_move", json!({"coordinate": [x, y]}));
        let reply = client.done("cursor_position", json!({}));
        assert_eq!(reply.text, format!("X={x}, Y={y}"));
        // The middle of the four pixels that the shown one stands for.
        guest.assert_pointer_at((2 * x + 1, 2 * y + 1));
    }
    // Where nothing blinks: the corner of a window of one colour.
    let program = [
        "xterm",
        "-T",
        "red",
        "-bg",
        "#ff0000",
        "-fg",
        "#ff0000",
        "-cr",
        "#ff0000",
        "-b",
        "0",
        "-geometry",
        "20x5+60+560",
        "-e",
        "sleep",
        "600",
    ];
    let area = guest.open_window("red", &program);
    let (x, y) = (area.x / 2 + 4, area.y / 2 + 4);
    // A window is there some time before it is painted.
    guest.until("the window is seen red", |_| {
        let reply = client.done("zoom", json!({"region": [x, y, x + 20, y + 10]}));
        assert!(
            reply
                .text
                .ends_with("\nThe picture shows its 40×20 native pixels at 640×320."),
            "{}",
            reply.text
        );
        let (mime, bytes) = &reply.pictures[0];
        let picture = virtpilot::image::Picture::decode(mime, bytes).unwrap();
        assert_eq!(picture.size().to_string(), "640×320");
        let is_red = |pixel: &[u8]| pixel == [255, 0, 0];
        picture.rgb().chunks(3).all(is_red).then_some(())
    });
}

/// A mode that the guest's screen has for a while. It is taken back however the test ends.
struct Mode<'a> {
    guest: &'a mut Guest,
    name: String,
}

impl<'a> Mode<'a> {
    fn set(guest: &'a mut Guest, width: i32, height: i32) -> Self {
        let name = format!("odd{width}");
        let timing = format!(
            "100 {width} {} {} {} {height} {} {} {}",
            width + 40,
            width + 80,
            width + 160,
            height + 3,
            height + 6,
            height + 20
        );
        let mode = Self { guest, name };
        let name = &mode.name;
        mode.guest.run(&format!(
            "xrandr --newmode {name} {timing}; xrandr --addmode Virtual-1 {name} && xrandr --output \
             Virtual-1 --mode {name}"
        ));
        mode
    }
}

impl Drop for Mode<'_> {
    fn drop(&mut self) {
        let name = &self.name;
        self.guest.try_run(&format!(
            "xrandr --output Virtual-1 --mode 1280x800; xrandr --delmode Virtual-1 {name}; xrandr \
             --rmmode {name}"
        ));
    }
}

#[test]
fn on_a_screen_of_odd_size_every_corner_is_reached_and_old_coordinates_are_refused() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    for (width, height) in [(1366, 768), (1921, 1081)] {
        client.done("take_screenshot", json!({}));
        let mode = Mode::set(&mut guest, width, height);
        // Until the size is looked at again, which is half a second later.
        let moved = json!({"x": 5, "y": 5});
        let resized = mode.guest.until("the new size is known", |_| {
            let reply = client.call("move_mouse", moved.clone());
            reply.is_error.then_some(reply.text)
        });
        let expected = format!(
            "The screen of `virtpilot-demo` is {width}×{height} now, and was 1280×800 in the last \
             screenshot.\nNext: Take a new screenshot and use its coordinates; nothing was done there."
        );
        assert_eq!(resized, expected);
        let text = client.done("take_screenshot", json!({})).text;
        // The larger one is scaled, and then a pixel that is shown stands for more than one.
        let shown: (i32, i32) = if width > 1568 {
            (1568, 882)
        } else {
            (width, height)
        };
        assert!(
            text.contains(&format!(": {}×{} pixels, ", shown.0, shown.1)),
            "{text}"
        );
        let places = [
            (0, 0),
            (shown.0 - 1, 0),
            (0, shown.1 - 1),
            (shown.0 - 1, shown.1 - 1),
            (shown.0 / 2, shown.1 / 2),
            (shown.0 - 2, 1),
        ];
        for (x, y) in places {
            client.done("move_mouse", json!({"x": x, "y": y}));
            let native = |at: i32, shown: i32, native: i32| (2 * at + 1) * native / (2 * shown);
            let place = (native(x, shown.0, width), native(y, shown.1, height));
            mode.guest.assert_pointer_at(place);
        }
        drop(mode);
        guest.until("the old size is back", |guest| {
            let seen = guest.run("xrandr | head -1");
            seen.contains("current 1280 x 800").then_some(())
        });
        thread::sleep(Duration::from_millis(600));
    }
    client.done("take_screenshot", json!({}));
    client.done("move_mouse", json!({"x": 640, "y": 400}));
}
