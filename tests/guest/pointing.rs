//! `move_mouse` and `click`, as X in the guest sees them.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    code,
    computer::{motions, open_motion_xev},
    guest::{Area, Guest, HEIGHT, WIDTH, virsh_done},
    mcp::Client,
};

pub(crate) const SHIFT: u32 = 1;
pub(crate) const CONTROL: u32 = 4;

fn move_to(client: &mut Client, (x, y): (i32, i32)) {
    client.done("move_mouse", json!({"x": x, "y": y}));
}

#[test]
fn the_pointer_goes_to_the_very_pixel() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let corners = [
        (0, 0),
        (WIDTH - 1, 0),
        (0, HEIGHT - 1),
        (WIDTH - 1, HEIGHT - 1),
    ];
    let mut seed = 1_u32;
    let mut random = |below: i32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i32::try_from(seed >> 8).unwrap() % below
    };
    let places = (0..50).map(|_| (random(WIDTH), random(HEIGHT)));
    for place in corners.into_iter().chain(places) {
        move_to(&mut client, place);
        guest.assert_pointer_at(place);
    }
}

#[test]
fn the_pointer_goes_back_after_the_guest_warped_it() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let place = (1200, 200);
    move_to(&mut client, place);
    guest.assert_pointer_at(place);
    move_to(&mut client, place);
    guest.assert_pointer_at(place);
    guest.run("xdotool mousemove 100 120");
    guest.assert_pointer_at((100, 120));
    move_to(&mut client, place);
    guest.assert_pointer_at(place);
    // A click says where, too.
    guest.run("xdotool mousemove 101 120");
    client.done("click", json!({"x": place.0, "y": place.1}));
    guest.assert_pointer_at(place);
}

#[test]
fn relative_moves_start_where_the_pointer_was_put() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let by = |x: i32, y: i32| json!({"x": x, "y": y, "mode": "relative"});
    let error = client.fails("move_mouse", by(1, 1));
    assert!(error.contains("is not known"), "{error}");
    move_to(&mut client, (640, 400));
    client.done("move_mouse", by(25, -40));
    guest.assert_pointer_at((665, 360));
    client.done("move_mouse", by(-665, 439));
    guest.assert_pointer_at((0, HEIGHT - 1));
    let error = client.fails("move_mouse", by(-1, 0));
    assert!(
        error.starts_with("The point -1,799 is outside the screenshot of 1280×800 pixels."),
        "{error}"
    );
    guest.assert_pointer_at((0, HEIGHT - 1));
}

#[test]
fn points_outside_the_screen_are_refused() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    move_to(&mut client, (640, 400));
    guest.assert_pointer_at((640, 400));
    for (x, y) in [
        (WIDTH, 0),
        (0, HEIGHT),
        (-1, 10),
        (10, -1),
        (100_000, 100_000),
    ] {
        for tool in ["move_mouse", "click"] {
            let error = client.fails(tool, json!({"x": x, "y": y}));
            assert!(
                error.starts_with(&format!(
                    "The point {x},{y} is outside the screenshot of 1280×800 pixels."
                )),
                "{error}"
            );
            assert!(error.ends_with(
                "Next: x goes from 0 to 1279, y from 0 to 799. Take a screenshot to see the present screen."
            ));
        }
    }
    guest.assert_pointer_at((640, 400));
}

/// A press or release as xev tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ButtonEvent {
    pub(crate) pressed: bool,
    pub(crate) button: u32,
    pub(crate) place: (i32, i32),
    pub(crate) state: u32,
    pub(crate) at_ms: u64,
}

/// Reads lines such as
/// `ButtonPress event, serial 33, synthetic NO, window 0x1200001,` and, indented,
/// `root 0x60, subw 0x0, time 66666, (150,100), root:(654,321),` and
/// `state 0x4, button 1, same_screen YES`.
fn button_events(lines: &[String]) -> Vec<ButtonEvent> {
    let mut events = vec![];
    for (at, line) in lines.iter().enumerate() {
        let pressed = line.starts_with("ButtonPress event");
        if !pressed && !line.starts_with("ButtonRelease event") {
            continue;
        }
        let Some(rest) = lines.get(at + 1..at + 3).map(|lines| lines.join(" ")) else {
            break;
        };
        let after = |label: &str| {
            let rest = rest.split(label).nth(1);
            rest.unwrap_or_else(|| panic!("no {label:?} in {rest:?}"))
                .to_owned()
        };
        let number = |label: &str| -> String {
            after(label)
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect()
        };
        let place = after("root:(");
        let (x, y) = place
            .split_once(')')
            .and_then(|(place, _)| place.split_once(','))
            .unwrap();
        events.push(ButtonEvent {
            pressed,
            button: number("button ").parse().unwrap(),
            place: (x.parse().unwrap(), y.parse().unwrap()),
            state: u32::from_str_radix(&number("state 0x"), 16).unwrap(),
            at_ms: number("time ").parse().unwrap(),
        });
    }
    events
}

pub(crate) fn open_xev(guest: &mut Guest) -> Area {
    let program = [
        "stdbuf",
        "-oL",
        "xev",
        "-name",
        "clicks",
        "-geometry",
        "400x200+700+450",
        "-event",
        "button",
    ];
    guest.open_window("clicks", &program)
}

/// Waits for so many events in all, and a moment more for those that must not come.
pub(crate) fn clicks(guest: &mut Guest, count: usize) -> Vec<ButtonEvent> {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let events = button_events(&guest.lines("clicks"));
        if events.len() >= count || Instant::now() > end {
            break;
        }
    }
    thread::sleep(Duration::from_millis(100));
    button_events(&guest.lines("clicks"))
}

#[test]
fn clicks_arrive_with_button_place_and_modifiers() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    let cases: [(Value, u32, u32); 6] = [
        (json!({}), 1, 0),
        (json!({"button": "middle"}), 2, 0),
        (json!({"button": "right"}), 3, 0),
        (json!({"modifiers": ["Ctrl"]}), 1, CONTROL),
        (json!({"modifiers": ["Shift"]}), 1, SHIFT),
        (
            json!({"modifiers": ["Ctrl", "Shift"], "button": "right"}),
            3,
            CONTROL | SHIFT,
        ),
    ];
    let mut before = 0;
    for (at, (arguments, button, modifiers)) in cases.into_iter().enumerate() {
        let step = i32::try_from(at).unwrap();
        let place = window.at(20 + 50 * step, 150 - 20 * step);
        let mut arguments = arguments;
        arguments["x"] = json!(place.0);
        arguments["y"] = json!(place.1);
        client.done("click", arguments.clone());
        let mut events = clicks(&mut guest, before + 2).split_off(before);
        before += events.len();
        for event in &mut events {
            event.at_ms = 0;
        }
        let event = |pressed, state| ButtonEvent {
            pressed,
            button,
            place,
            state,
            at_ms: 0,
        };
        let held = 0x80 << button;
        assert_eq!(
            events,
            [event(true, modifiers), event(false, modifiers | held)],
            "{arguments}"
        );
    }
}

#[test]
fn without_a_point_the_click_is_where_the_pointer_is() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    let place = window.at(33, 44);
    move_to(&mut client, place);
    client.done("click", json!({}));
    let events = clicks(&mut guest, 2);
    assert_eq!(
        events.iter().map(|event| event.place).collect::<Vec<_>>(),
        [place; 2]
    );
}

#[test]
fn a_double_click_is_two_pairs_in_time() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    let (x, y) = window.at(100, 100);
    client.done("click", json!({"x": x, "y": y, "count": 2}));
    let events = clicks(&mut guest, 4);
    let pressed: Vec<_> = events.iter().map(|event| event.pressed).collect();
    assert_eq!(pressed, [true, false, true, false]);
}

#[test]
fn after_a_pause_all_comes_at_its_time_and_in_its_order() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    let (x, y) = window.at(100, 100);
    // What the guest finds all at once as its tablet wakes is the bouncing of a worn button for libinput.
    for _ in 0..3 {
        guest.until_usb_sleeps();
        let mark = guest.mark();
        client.done("click", json!({"x": x, "y": y, "count": 2}));
        let times: Vec<_> = guest
            .events_in_the_end(&mark, 4)
            .iter()
            .map(|event| event.at_ms)
            .collect();
        assert_eq!(times.len(), 4);
        assert!(times[2] - times[1] > 25.0, "{times:?}");
        guest.until_usb_sleeps();
        let mark = guest.mark();
        let steps = json!([
            {"action": "click", "x": x, "y": y},
            {"action": "press_keys", "keys": ["p"]},
        ]);
        client.done("run_actions", json!({"actions": steps}));
        let codes: Vec<_> = guest
            .events_in_the_end(&mark, 4)
            .iter()
            .map(|event| event.code)
            .collect();
        assert_eq!(
            codes,
            [code::BUTTON_LEFT, code::BUTTON_LEFT, code::P, code::P]
        );
    }
}

#[test]
fn two_clicks_take_a_word_three_a_line_and_a_drag_what_it_goes_over() {
    // A terminal tells by pasting what it has selected. Its cells are 6 by 13 pixels, with 2 around them.
    const TIME: u64 = 1000;
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let words = "printf 'alpha beta gamma\n'; stty -icanon -echo min 1; exec cat > /tmp/words";
    let resource = format!("XTerm*multiClickTime: {TIME}");
    let program = [
        "xterm",
        "-T",
        "words",
        "-xrm",
        &resource,
        "-fn",
        "6x13",
        "-geometry",
        "40x6+500+300",
        "-e",
        "sh",
        "-c",
        words,
    ];
    guest.run("rm -f /tmp/words");
    let window = guest.open_window("words", &program);
    guest.until("the terminal takes text", |guest| {
        (guest.try_run("test -e /tmp/words").code == 0).then_some(())
    });
    let cell = |column: i32| window.at(2 + 6 * column + 1, 2 + 6);
    let (x, y) = cell(7);
    let ((from_x, from_y), (to_x, to_y)) = (cell(2), cell(9));
    let cases = [
        ("click", json!({"x": x, "y": y, "count": 2}), "beta"),
        (
            "click",
            json!({"x": x, "y": y, "count": 3}),
            "alpha beta gamma",
        ),
        (
            "drag",
            json!({"from_x": from_x, "from_y": from_y, "to_x": to_x, "to_y": to_y}),
            "pha bet",
        ),
    ];
    for (tool, arguments, selected) in cases {
        let before = guest.run("cat /tmp/words").len();
        client.done(tool, arguments.clone());
        // What comes sooner would count as one more click.
        thread::sleep(Duration::from_millis(TIME + 100));
        client.done("click", json!({"x": x, "y": y, "button": "middle"}));
        let pasted = guest.until(&format!("{tool} {arguments} pastes"), |guest| {
            let pasted = guest.run("cat /tmp/words").split_off(before);
            (pasted.len() >= selected.len()).then_some(pasted)
        });
        assert_eq!(pasted.trim_end(), selected, "{tool} {arguments}");
    }
    guest.end("words");
    guest.run("rm -f /tmp/words");
}

#[test]
fn a_hundred_clicks_lose_none() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    let (x, y) = window.at(200, 100);
    for _ in 0..10 {
        client.done("click", json!({"x": x, "y": y, "count": 10}));
    }
    let events = clicks(&mut guest, 200);
    let pressed: Vec<_> = events.iter().map(|event| event.pressed).collect();
    assert_eq!(pressed, [true, false].repeat(100));
}

/// The pointing device that QEMU feeds buttons to.
fn current_mouse(guest: &Guest) -> String {
    let answer = virsh_done(&[
        "qemu-monitor-command",
        &guest.name,
        r#"{"execute": "query-mice"}"#,
    ]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let mice = answer["return"].as_array().unwrap();
    let current = mice.iter().find(|it| it["current"] == true).unwrap();
    current["name"].as_str().unwrap().to_owned()
}

#[test]
fn what_the_tablet_drops_arrives_once_at_the_very_pixel() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    // X's numbers of them, and of the button that follows.
    let cases = [
        ("click", json!({"button": "back"}), 8, 1),
        ("click", json!({"button": "forward"}), 9, 1),
        ("scroll", json!({"direction": "left", "amount": 5}), 6, 5),
        ("scroll", json!({"direction": "right", "amount": 5}), 7, 5),
    ];
    let mut before = 0;
    for (at, (tool, mut arguments, button, times)) in cases.into_iter().enumerate() {
        let step = i32::try_from(at).unwrap();
        let place = window.at(30 + 60 * step, 150 - 20 * step);
        arguments["x"] = json!(place.0);
        arguments["y"] = json!(place.1);
        client.done(tool, arguments);
        assert_eq!(current_mouse(&guest), "QEMU HID Tablet", "{tool} {button}");
        let events = clicks(&mut guest, before + 2 * times).split_off(before);
        before += events.len();
        let seen: Vec<_> = events
            .iter()
            .map(|it| (it.pressed, it.button, it.place))
            .collect();
        let expected = [(true, button, place), (false, button, place)].repeat(times);
        assert_eq!(seen, expected, "{tool} {button}");
        // An ordinary click right after it is where it was meant to be.
        let next = window.at(350 - 40 * step, 20 + 10 * step);
        client.done("click", json!({"x": next.0, "y": next.1}));
        let events = clicks(&mut guest, before + 2).split_off(before);
        before += events.len();
        let seen: Vec<_> = events
            .iter()
            .map(|it| (it.pressed, it.button, it.place))
            .collect();
        assert_eq!(
            seen,
            [(true, 1, next), (false, 1, next)],
            "after {tool} {button}"
        );
    }
}

#[test]
fn a_sideways_wheel_that_is_cut_off_leaves_the_tablet_in_use() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_xev(&mut guest);
    let (x, y) = window.at(200, 100);
    let mark = guest.mark();
    client.send_call(
        "scroll",
        json!({"direction": "right", "amount": 100, "modifiers": ["Ctrl"], "x": x, "y": y}),
    );
    guest.until("the wheel turns", |guest| {
        (button_events(&guest.lines("clicks")).len() > 2).then_some(())
    });
    client.hang_up();
    assert!(client.wait_for_exit().success());
    guest.assert_nothing_down();
    assert_eq!(current_mouse(&guest), "QEMU HID Tablet");
    let keys = guest.events_in_the_end(&mark, 2);
    let ups = keys
        .iter()
        .filter(|it| it.code == code::LEFT_CTRL && it.value == 0);
    assert_eq!(ups.count(), 1, "{keys:?}");
    let turned = clicks(&mut guest, 3).len() / 2;
    assert!(turned < 100, "all was turned");
    let mut client = guest.client();
    client.done("click", json!({"x": x + 5, "y": y + 5}));
    guest.until("the click arrives", |guest| {
        let events = button_events(&guest.lines("clicks"));
        let last = events.last().filter(|it| it.button == 1 && !it.pressed)?;
        (last.place == (x + 5, y + 5)).then_some(())
    });
}

#[test]
fn a_curve_is_drawn_through_its_points_in_order() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_motion_xev(&mut guest);
    // A circle of eight corners, back to where it began.
    let around = [
        (70, 0),
        (50, 50),
        (0, 70),
        (-50, 50),
        (-70, 0),
        (-50, -50),
        (0, -70),
        (50, -50),
        (70, 0),
    ];
    let points: Vec<_> = around
        .iter()
        .map(|(x, y)| window.at(200 + x, 100 + y))
        .collect();
    let through: Vec<_> = points[1..8].iter().map(|(x, y)| [*x, *y]).collect();
    let ((x, y), last) = (points[0], points[8]);
    client.done(
        "drag",
        json!({"from_x": x, "from_y": y, "to_x": last.0, "to_y": last.1, "through": through,
               "duration_ms": 800}),
    );
    let events: Vec<_> = clicks(&mut guest, 2)
        .iter()
        .map(|it| (it.pressed, it.button, it.place))
        .collect();
    assert_eq!(events, [(true, 1, points[0]), (false, 1, last)]);
    let way = motions(&guest.lines("clicks"));
    let mut rest = way.iter();
    for corner in &points[1..] {
        assert!(
            rest.any(|place| place == corner),
            "{corner:?} is not in its turn on {way:?}"
        );
    }
    assert!(
        way.len() > 3 * around.len(),
        "there are points between: {way:?}"
    );
}
