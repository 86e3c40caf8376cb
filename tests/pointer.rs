//! What reaches the hypervisor when acts drag, scroll, and hold a button: exact events, and that all
//! comes up again.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fake::{Fake, Trouble};
use tokio_util::sync::CancellationToken;
use virtpilot::{
    capture,
    hypervisor::{DomainState, Hypervisor, InputEvent},
    model::{
        Act, Button, ButtonState, Click, Direction, Drag, KeyCode, MouseButton, MoveMode,
        MoveMouse, Point, Scroll, TakeScreenshot, Wait,
    },
    perform::{self, ActError, Outcome, Progress, Refused, let_go, pointer_position},
    vm::Vm,
};

/// A VM `demo` with a screen of 1000×500 pixels.
fn demo() -> (Arc<Fake>, Arc<Vm>) {
    let fake = Fake::new(1000, 500);
    let hypervisor = Arc::clone(&fake) as _;
    let vm = Arc::new(Vm::new("demo".parse().unwrap(), hypervisor, 0, "us"));
    (fake, vm)
}

/// From 10,20, ten pixels to the right.
fn drag(duration_ms: u32, modifiers: &[&str]) -> Act {
    drag_by(10, duration_ms, modifiers)
}

fn drag_by(pixels: i32, duration_ms: u32, modifiers: &[&str]) -> Act {
    Act::Drag(Drag {
        from_x: 10,
        from_y: 20,
        to_x: 10 + pixels,
        to_y: 20,
        through: vec![],
        button: Button::Left,
        modifiers: modifiers.iter().map(|key| (*key).to_owned()).collect(),
        duration_ms,
    })
}

fn scroll(direction: Direction, amount: u32, at: Option<(i32, i32)>, modifiers: &[&str]) -> Act {
    Act::Scroll(Scroll {
        direction,
        amount,
        x: at.map(|(x, _)| x),
        y: at.map(|(_, y)| y),
        modifiers: modifiers.iter().map(|key| (*key).to_owned()).collect(),
    })
}

fn button(button: Button, state: ButtonState) -> Act {
    Act::MouseButton(MouseButton { button, state })
}

fn down() -> Act {
    button(Button::Left, ButtonState::Down)
}

fn up() -> Act {
    button(Button::Left, ButtonState::Up)
}

fn to(x: i32, y: i32) -> Act {
    Act::MoveMouse(MoveMouse {
        x,
        y,
        mode: MoveMode::Absolute,
    })
}

fn click(button: Button) -> Act {
    Act::Click(Click {
        button,
        count: 1,
        x: None,
        y: None,
        modifiers: vec![],
    })
}

fn wait(seconds: f64) -> Act {
    Act::Wait(Wait { seconds })
}

fn silent() -> Progress {
    Arc::new(|_, _| ())
}

async fn perform(
    vm: &Arc<Vm>,
    acts: Vec<Act>,
    cancel: CancellationToken,
    progress: Progress,
) -> Result<Vec<Outcome>, Refused> {
    perform::perform(vm, &fake::guests(), acts, cancel, progress).await
}

async fn outcome(vm: &Arc<Vm>, act: Act) -> Result<String, ActError> {
    let outcomes = perform(vm, vec![act], CancellationToken::new(), silent()).await;
    let outcomes = outcomes.map_err(|refused| *refused.error)?;
    match outcomes.into_iter().next() {
        Some(Outcome::Done(done)) => Ok(done.text),
        Some(Outcome::Failed(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

async fn done(vm: &Arc<Vm>, act: Act) -> String {
    outcome(vm, act).await.unwrap()
}

async fn error(vm: &Arc<Vm>, act: Act) -> String {
    outcome(vm, act).await.unwrap_err().to_string()
}

const AT: &str = "at 344,1343";
const BESIDE: &str = "at 311,1343";

/// The way from 10,20 to 20,20 in five steps.
const WAY: [&str; 5] = [
    "at 409,1343",
    "at 475,1343",
    "at 540,1343",
    "at 606,1343",
    "at 671,1343",
];

/// The first pixel of that way.
const FIRST: &str = "at 376,1343";

#[tokio::test]
async fn a_drag_presses_moves_in_steps_and_lets_go() {
    let (fake, vm) = demo();
    assert_eq!(
        done(&vm, drag(0, &[])).await,
        "Dragged from 10,20 to 20,20 with the left button."
    );
    let plain = [&[BESIDE, AT, "left down"][..], &WAY, &["left up"]].concat();
    assert_eq!(fake.take_events(), plain);

    // The pointer is known to be elsewhere now, so it need not step aside.
    assert_eq!(
        done(&vm, drag(0, &["Ctrl", "Shift"])).await,
        "Dragged from 10,20 to 20,20 with the left button and Ctrl+Shift."
    );
    let keys = "29 down, 42 down";
    let with_keys = [
        &[keys, AT, "left down"][..],
        &WAY,
        &["left up", "42 up, 29 up"],
    ]
    .concat();
    assert_eq!(fake.take_events(), with_keys);
    assert_eq!(fake.down(), [""; 0]);
    assert_eq!(pointer_position(&vm).await.unwrap().to_string(), "20,20");
}

#[tokio::test]
async fn a_drag_takes_its_time_and_never_presses_and_lets_go_in_one_call() {
    let (fake, vm) = demo();
    done(&vm, drag(200, &["Ctrl"])).await;
    let calls = fake.calls();
    let at = |what: &str| calls.iter().find(|call| call.what == what).unwrap().at;
    let apart = |from: &str, to: &str| at(to).saturating_sub(at(from));
    assert!(apart("29 down", BESIDE) >= Duration::from_millis(30));
    // Ten steps of 20 ms, one pixel each, after the press has been seen.
    let positions = calls.iter().filter(|call| call.what.starts_with("at "));
    assert_eq!(positions.count(), 2 + 10);
    assert!(apart("left down", FIRST) >= Duration::from_millis(100));
    assert!(apart(FIRST, WAY[4]) >= Duration::from_millis(9 * 20));
    assert!(apart(WAY[4], "left up") >= Duration::from_millis(100));
    assert!(apart("left up", "29 up") >= Duration::from_millis(100));
    for pair in calls.windows(2) {
        let gap = pair[1].at.saturating_sub(pair[0].at);
        assert!(gap >= Duration::from_millis(8), "{pair:?}");
    }
}

#[tokio::test]
async fn a_drag_that_fails_anywhere_lets_go_of_all() {
    let whole = 3 + 1 + WAY.len() + 2;
    for n in 1..=whole {
        let (fake, vm) = demo();
        fake.trouble_at(n, Trouble::Fails);
        let outcome = outcome(&vm, drag(0, &["Ctrl"])).await;
        let is_release = n > whole - 2;
        // A release is tried again, and then all is well.
        assert_eq!(outcome.is_ok(), is_release, "call {n}: {outcome:?}");
        let events = fake.events();
        assert_eq!(fake.down(), [""; 0], "call {n}: {events:?}");
        let ups = events.iter().filter(|it| *it == "left up").count();
        assert_eq!(ups, usize::from(n >= 4), "call {n}: {events:?}");
        assert_eq!(events.last().unwrap(), "29 up", "call {n}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_drag_and_a_cancelled_scroll_let_go_at_once() {
    for act in [
        drag(10_000, &["Ctrl"]),
        // All of its time is between the only two points.
        drag_by(1, 10_000, &["Ctrl"]),
        scroll(Direction::Up, 100, None, &["Ctrl"]),
    ] {
        let (fake, vm) = demo();
        let cancel = CancellationToken::new();
        let begun = Instant::now();
        let running = perform(&vm, vec![act, wait(0.0)], cancel.clone(), silent());
        let stop = async {
            while !fake.down().contains(&"demo: key 29".to_owned()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (outcomes, ()) = tokio::join!(running, stop);
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
        let outcomes = outcomes.unwrap();
        assert!(
            matches!(
                outcomes.as_slice(),
                [Outcome::Failed(ActError::Cancelled), Outcome::NotRun]
            ),
            "{outcomes:?}"
        );
        assert_eq!(fake.down(), [""; 0]);
        assert_eq!(fake.events().last().unwrap(), "29 up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cancelled_while_it_waits_lets_go_of_nothing_of_anothers() {
    let (fake, vm) = demo();
    let batch = {
        let vm = Arc::clone(&vm);
        let acts = vec![button(Button::Left, ButtonState::Down), wait(1.0)];
        tokio::spawn(async move { perform(&vm, acts, CancellationToken::new(), silent()).await })
    };
    while fake.down().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cancel = CancellationToken::new();
    cancel.cancel();
    let refused = perform(&vm, vec![wait(0.0)], cancel, silent()).await;
    assert!(matches!(*refused.unwrap_err().error, ActError::Cancelled));
    assert_eq!(fake.down(), ["demo: left"]);
    batch.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_wheel_turns_notch_by_notch() {
    let (fake, vm) = demo();
    assert_eq!(
        done(&vm, scroll(Direction::Down, 2, Some((10, 20)), &["Ctrl"])).await,
        "Scrolled down by 2 at 10,20 with Ctrl."
    );
    let (wheel_down, wheel_up) = ("wheel-down down", "wheel-down up");
    assert_eq!(
        fake.take_events(),
        [
            "29 down", BESIDE, AT, wheel_down, wheel_up, wheel_down, wheel_up, "29 up"
        ]
    );
    assert_eq!(
        done(&vm, scroll(Direction::Up, 1, None, &[])).await,
        "Scrolled up by 1."
    );
    assert_eq!(fake.take_events(), ["wheel-up down", "wheel-up up"]);
    done(&vm, scroll(Direction::Up, 100, None, &[])).await;
    let calls = fake.calls();
    assert_eq!(calls.len(), 200);
    for pair in calls.windows(2) {
        let gap = pair[1].at.saturating_sub(pair[0].at);
        assert!(gap >= Duration::from_millis(8), "{pair:?}");
    }
}

/// QEMU's USB tablet adds a motion to what the guest has not read yet.
#[tokio::test]
async fn what_a_button_or_the_wheel_did_is_read_before_the_pointer_goes_on() {
    for act in [
        click(Button::Left),
        scroll(Direction::Up, 1, None, &[]),
        down(),
        up(),
        drag(0, &[]),
    ] {
        let (fake, vm) = demo();
        let name = format!("{act:?}");
        done(&vm, act).await;
        let before = fake.calls();
        done(&vm, to(500, 250)).await;
        let next = fake.calls()[before.len()].at;
        let gap = next.saturating_sub(before.last().unwrap().at);
        assert!(gap >= Duration::from_millis(100), "{name}: {gap:?}");
    }
}

#[tokio::test]
async fn a_wheel_that_the_pointing_device_lacks_is_refused() {
    for (direction, word) in [(Direction::Left, "left"), (Direction::Right, "right")] {
        let (fake, vm) = demo();
        let refusal = format!("no pointing device of `demo` passes on a wheel that turns {word}");
        fake.take_tablet(false);
        assert_eq!(error(&vm, scroll(direction, 1, None, &[])).await, refusal);
        fake.set_pointer("QEMU HID Tablet");
        assert_eq!(error(&vm, scroll(direction, 1, None, &[])).await, refusal);
        assert_eq!(fake.take_events(), [""; 0]);
        fake.set_pointer("QEMU PS/2 Mouse");
        done(&vm, scroll(direction, 1, None, &[])).await;
        let events = [format!("wheel-{word} down"), format!("wheel-{word} up")];
        assert_eq!(fake.take_events(), events);
    }
}

#[tokio::test]
async fn a_held_button_survives_other_acts_until_it_is_let_go_of() {
    let (fake, vm) = demo();
    assert_eq!(done(&vm, down()).await, "The left button is down.");
    for act in [
        to(30, 40),
        click(Button::Right),
        scroll(Direction::Up, 1, None, &[]),
    ] {
        done(&vm, act).await;
        assert_eq!(fake.down(), ["demo: left"]);
    }
    // Pressed once more, the guest would see nothing but the release.
    for act in [down(), click(Button::Left), drag(0, &[])] {
        let message = "the left button of `demo` is held down already";
        assert_eq!(error(&vm, act).await, message);
        assert_eq!(fake.down(), ["demo: left"], "a refusal changes nothing");
    }
    // What is bad in itself leaves it down as well.
    error(&vm, to(5000, 1)).await;
    assert_eq!(fake.down(), ["demo: left"]);
    fake.take_events();
    assert_eq!(done(&vm, up()).await, "The left button is up.");
    assert_eq!(fake.take_events(), ["left up"]);
    done(&vm, click(Button::Left)).await;
    // Where nothing is held, letting go does no harm.
    done(&vm, up()).await;
    assert_eq!(fake.take_events(), ["left down", "left up", "left up"]);
}

#[tokio::test]
async fn within_a_batch_it_is_known_what_is_held() {
    let (fake, vm) = demo();
    let acts = vec![
        down(),
        to(30, 40),
        up(),
        click(Button::Left),
        down(),
        down(),
    ];
    let refused = perform(&vm, acts, CancellationToken::new(), silent()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.at, 5);
    assert!(matches!(*refused.error, ActError::ButtonHeld { .. }));
    assert_eq!(fake.events(), [""; 0]);
}

#[tokio::test]
async fn after_a_failure_or_a_cancel_nothing_stays_held() {
    let (fake, vm) = demo();
    done(&vm, down()).await;
    fake.trouble_at(1, Trouble::Fails);
    let failed = outcome(&vm, to(30, 40)).await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "the act failed, and what was held was let go of: the left button"
    );
    let cause = std::error::Error::source(&failed).unwrap().to_string();
    assert!(
        cause.starts_with("QEMU refused input for `demo`: "),
        "{cause}"
    );
    assert_eq!(fake.down(), [""; 0]);

    done(&vm, down()).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let cancelled = perform(&vm, vec![wait(1.0)], cancel, silent()).await;
    let text = format!("{cancelled:?}");
    assert!(
        text.contains("LetGo") && text.contains("Cancelled"),
        "{text}"
    );
    assert_eq!(fake.down(), [""; 0]);
}

#[tokio::test]
async fn a_press_that_fails_is_let_go_of() {
    let (fake, vm) = demo();
    fake.trouble_at(1, Trouble::Fails);
    error(&vm, down()).await;
    assert_eq!(fake.take_events(), ["!left down", "left up"]);
    assert_eq!(let_go(&vm).await.unwrap(), []);
    assert_eq!(fake.events(), [""; 0]);
}

#[tokio::test]
async fn what_is_held_is_let_go_of_once_and_told() {
    let (fake, vm) = demo();
    done(&vm, down()).await;
    done(&vm, button(Button::Right, ButtonState::Down)).await;
    fake.take_events();
    assert_eq!(let_go(&vm).await.unwrap(), [Button::Left, Button::Right]);
    assert_eq!(fake.take_events(), ["left up", "right up"]);
    assert_eq!(let_go(&vm).await.unwrap(), []);
    assert_eq!(fake.events(), [""; 0]);
}

#[tokio::test]
async fn what_could_not_be_let_go_of_stays_known() {
    let (fake, vm) = demo();
    done(&vm, down()).await;
    for n in 1..=3 {
        fake.trouble_at(n, Trouble::Fails);
    }
    let stays = outcome(&vm, up()).await.unwrap_err();
    assert!(matches!(stays, ActError::LetGo { .. }), "{stays}");
    assert_eq!(fake.down(), [""; 0], "tried once more after the failure");
}

#[tokio::test]
async fn a_vm_that_was_started_anew_holds_nothing_any_more() {
    let (fake, vm) = demo();
    done(&vm, down()).await;
    fake.restart();
    fake.take_events();
    done(&vm, down()).await;
    assert_eq!(fake.take_events(), ["left down"]);
    // But for one that was saved and restored, where all of it is down still.
    fake.restore();
    done(&vm, down()).await;
    assert_eq!(fake.take_events(), ["left up", "left down"]);
    fake.set_domain(DomainState::Shutoff);
    let stopped = let_go(&vm).await;
    assert!(stopped.is_ok(), "{stopped:?}");
}

#[tokio::test]
async fn the_place_of_the_pointer_is_told_in_pixels_of_the_picture() {
    let fake = Fake::new(4000, 2000);
    let hypervisor = Arc::clone(&fake) as _;
    let vm = Arc::new(Vm::new("demo".parse().unwrap(), hypervisor, 1000, "us"));
    let unknown = "where the pointer of `demo` is, is not known";
    assert_eq!(
        pointer_position(&vm).await.unwrap_err().to_string(),
        unknown
    );
    for (x, y) in [(0, 0), (999, 499), (123, 45)] {
        done(&vm, to(x, y)).await;
        let place = pointer_position(&vm).await.unwrap();
        assert_eq!((place.x, place.y), (x, y));
    }
    fake.trouble_at(1, Trouble::Fails);
    error(&vm, to(5, 5)).await;
    assert_eq!(
        pointer_position(&vm).await.unwrap_err().to_string(),
        unknown
    );
    done(&vm, to(5, 5)).await;
    fake.restart();
    assert_eq!(
        pointer_position(&vm).await.unwrap_err().to_string(),
        unknown
    );
    // Where the screen has become so small that it cannot be there.
    done(&vm, to(900, 5)).await;
    fake.resize(800, 600);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(
        pointer_position(&vm).await.unwrap_err().to_string(),
        unknown
    );
}

fn click_at(button: Button, x: i32, y: i32) -> Act {
    Act::Click(Click {
        button,
        count: 1,
        x: Some(x),
        y: Some(y),
        modifiers: vec![],
    })
}

fn by(x: i32, y: i32) -> Act {
    Act::MoveMouse(MoveMouse {
        x,
        y,
        mode: MoveMode::Relative,
    })
}

/// What the tablet drops goes by the PS/2 mouse, and then all goes to the tablet again.
const TABLET: &str = "QEMU HID Tablet";

/// Acts that the USB tablet would drop, each with what becomes of it.
fn detours() -> Vec<(Act, Vec<&'static str>)> {
    let (to_mouse, back) = ("pointer 2", "pointer 3");
    let drag = Act::Drag(Drag {
        from_x: 10,
        from_y: 20,
        to_x: 11,
        to_y: 20,
        through: vec![],
        button: Button::Forward,
        modifiers: vec![],
        duration_ms: 0,
    });
    vec![
        (
            click_at(Button::Back, 10, 20),
            vec![BESIDE, AT, to_mouse, "back down", "back up", back],
        ),
        (
            scroll(Direction::Left, 2, None, &["Shift"]),
            vec![
                "42 down",
                to_mouse,
                "wheel-left down",
                "wheel-left up",
                "wheel-left down",
                "wheel-left up",
                back,
                "42 up",
            ],
        ),
        (
            drag,
            vec![
                BESIDE,
                AT,
                to_mouse,
                "forward down",
                FIRST,
                "forward up",
                back,
            ],
        ),
    ]
}

#[tokio::test]
async fn what_the_tablet_drops_goes_by_a_mouse_that_has_it() {
    for (act, events) in detours() {
        let (fake, vm) = demo();
        let name = format!("{act:?}");
        done(&vm, act).await;
        assert_eq!(fake.take_events(), events, "{name}");
        assert_eq!(fake.pointer(), TABLET, "{name}");
        assert_eq!(fake.down(), [""; 0], "{name}");
        // What any device has goes straight to the one in use.
        done(&vm, click(Button::Left)).await;
        assert_eq!(fake.events(), ["left down", "left up"], "{name}");
    }
    let (fake, vm) = demo();
    done(&vm, button(Button::Back, ButtonState::Down)).await;
    assert_eq!(
        (fake.pointer().as_str(), fake.down()),
        (TABLET, vec!["demo: back".to_owned()])
    );
    done(&vm, button(Button::Back, ButtonState::Up)).await;
    assert_eq!((fake.pointer().as_str(), fake.down()), (TABLET, vec![]));
    done(&vm, button(Button::Forward, ButtonState::Down)).await;
    assert_eq!(let_go(&vm).await.unwrap(), [Button::Forward]);
    assert_eq!((fake.pointer().as_str(), fake.down()), (TABLET, vec![]));
}

#[tokio::test]
async fn a_detour_that_fails_anywhere_ends_at_the_tablet() {
    for (at, (_, events)) in detours().iter().enumerate() {
        for n in 1..=events.len() {
            let (fake, vm) = demo();
            let (act, _) = detours().swap_remove(at);
            fake.trouble_at(n, Trouble::Fails);
            let _ = outcome(&vm, act).await;
            let found = (fake.pointer(), fake.down());
            assert_eq!(
                found,
                (TABLET.to_owned(), vec![]),
                "call {n}: {:?}",
                fake.events()
            );
        }
    }
}

/// A libvirt that is away until the act is over.
#[tokio::test]
async fn a_switch_back_that_never_succeeds_is_the_next_acts_first() {
    let (fake, vm) = demo();
    for n in 4..=6 {
        fake.trouble_at(n, Trouble::Paused);
    }
    let failed = error(&vm, click(Button::Back)).await;
    assert_eq!(failed, "the VM `demo` is paused");
    assert_eq!(fake.pointer(), "QEMU PS/2 Mouse");
    fake.take_events();
    done(&vm, click(Button::Left)).await;
    assert_eq!(fake.events(), ["pointer 3", "left down", "left up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detour_that_is_cancelled_ends_at_the_tablet() {
    let (fake, vm) = demo();
    let cancel = CancellationToken::new();
    let acts = vec![scroll(Direction::Right, 100, None, &[])];
    let running = perform(&vm, acts, cancel.clone(), silent());
    let stop = async {
        while fake.pointer() == TABLET {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (outcomes, ()) = tokio::join!(running, stop);
    let outcomes = outcomes.unwrap();
    assert!(
        matches!(outcomes.as_slice(), [Outcome::Failed(ActError::Cancelled)]),
        "{outcomes:?}"
    );
    assert_eq!((fake.pointer().as_str(), fake.down()), (TABLET, vec![]));
}

#[tokio::test]
async fn release_all_lets_go_of_what_anybody_pressed() {
    let (fake, vm) = demo();
    let name = "demo".parse().unwrap();
    done(&vm, down()).await;
    // Somebody else's.
    for key in [29, 97, 42, 54, 56, 100, 125, 126] {
        let press = InputEvent::Key {
            key: KeyCode(key),
            down: true,
        };
        fake.input(&name, &[press]).unwrap();
    }
    let press = InputEvent::Button {
        button: Button::Right,
        down: true,
    };
    fake.input(&name, &[press]).unwrap();
    fake.take_events();
    let all = || button(Button::Left, ButtonState::ReleaseAll);
    assert_eq!(
        done(&vm, all()).await,
        "Let go of every mouse button and modifier."
    );
    assert_eq!(fake.down(), [""; 0]);
    assert_eq!(fake.pointer(), TABLET);
    // Each device has its buttons; a keyboard's queue has room for four such keys.
    let buttons = ["left up", "middle up", "right up"];
    let mouse = [
        &["pointer 2"],
        &buttons[..],
        &["back up", "forward up", "pointer 3"],
    ]
    .concat();
    let keys = [
        "126 up, 125 up, 100 up, 56 up",
        "54 up, 42 up, 97 up, 29 up",
    ];
    let events = fake.take_events();
    assert_eq!(events, [&mouse[..], &buttons, &keys].concat());
    // What this server pressed is forgotten too.
    assert_eq!(let_go(&vm).await.unwrap(), []);
    for n in 1..=events.len() {
        done(&vm, down()).await;
        fake.take_events();
        fake.trouble_at(n, Trouble::Fails);
        let _ = outcome(&vm, all()).await;
        let found = (fake.pointer(), fake.down());
        assert_eq!(
            found,
            (TABLET.to_owned(), vec![]),
            "call {n}: {:?}",
            fake.events()
        );
        fake.take_events();
        done(&vm, all()).await;
    }
    // Where there is no mouse there are keys.
    fake.take_tablet(false);
    fake.take_events();
    done(&vm, all()).await;
    assert_eq!(fake.take_events(), keys);
    // And where nobody tells which there are, which is told.
    fake.hide_pointers();
    outcome(&vm, all()).await.unwrap_err();
    assert_eq!(fake.events(), keys);
    // Some layouts have others than the usual ones.
    let fake = Fake::new(1000, 500);
    let neo = Arc::clone(&fake) as _;
    let vm = Arc::new(Vm::new("demo".parse().unwrap(), neo, 0, "de:neo"));
    done(&vm, all()).await;
    let events = fake.events();
    let keys = [
        "43 up, 126 up, 125 up, 100 up",
        "56 up, 54 up, 42 up, 97 up",
        "29 up",
    ];
    assert_eq!(events[mouse.len() + buttons.len()..], keys);
}

#[tokio::test]
async fn at_the_end_of_a_batch_nothing_stays_down() {
    let (fake, vm) = demo();
    let batch = |acts| {
        let (vm, guests) = (Arc::clone(&vm), fake::guests());
        async move {
            let cancel = CancellationToken::new();
            let report = perform::perform_batch(&vm, &guests, acts, cancel, silent()).await;
            report.unwrap().let_go.unwrap()
        }
    };
    let back = button(Button::Back, ButtonState::Down);
    let held = batch(vec![down(), to(30, 40), back]).await;
    assert_eq!(held, [Button::Left, Button::Back]);
    assert_eq!(fake.down(), [""; 0]);
    assert_eq!(batch(vec![down(), up()]).await, []);
    // After a failure that is told with it.
    fake.trouble_at(2, Trouble::Fails);
    assert_eq!(batch(vec![down(), to(30, 41), up()]).await, []);
    assert_eq!(fake.down(), [""; 0]);
}

#[tokio::test]
async fn a_drag_goes_through_all_its_points_in_order() {
    let (fake, vm) = demo();
    let act = |through: &[[i32; 2]]| {
        Act::Drag(Drag {
            from_x: 10,
            from_y: 20,
            to_x: 10,
            to_y: 20,
            through: through.to_vec(),
            button: Button::Left,
            modifiers: vec![],
            duration_ms: 0,
        })
    };
    assert_eq!(
        done(&vm, act(&[[12, 20], [12, 22]])).await,
        "Dragged from 10,20 through 2 points to 10,20 with the left button."
    );
    let corners = ["at 344,1343", "at 409,1343", "at 409,1474", "at 344,1343"];
    let events = fake.take_events();
    let mut rest = events.iter().skip_while(|it| *it != "left down");
    for corner in &corners[1..] {
        assert!(rest.any(|it| it == corner), "{corner} in {events:?}");
    }
    assert_eq!(rest.next().unwrap(), "left up");
    let outside = error(&vm, act(&[[1000, 20]])).await;
    assert_eq!(
        outside,
        "the point 1000,20 is outside the screenshot of 1000×500 pixels"
    );
    let nowhere = error(&vm, act(&[[10, 20], [10, 20]])).await;
    assert_eq!(
        nowhere,
        "a drag needs two different points, and 10,20 is both"
    );
    let many = error(&vm, act(&[[1, 1]; 101])).await;
    assert_eq!(many, "`through` has 101 points, and can have 100");
    assert_eq!(fake.events(), [""; 0]);
}

/// How far a mouse was moved after the corner, and all other events.
fn moved(events: &[String]) -> ((i32, i32), Vec<String>) {
    let mut sum = (0, 0);
    let mut others = vec![];
    for event in events {
        match event.strip_prefix("by ").and_then(|it| it.split_once(',')) {
            Some((dx, dy)) => {
                let (dx, dy): (i32, i32) = (dx.parse().unwrap(), dy.parse().unwrap());
                if dx.abs() == 127 {
                    continue;
                }
                assert!(dx.abs() <= 3 && dy.abs() <= 3, "{event}");
                sum = (sum.0 + dx, sum.1 + dy);
            }
            None => others.push(event.clone()),
        }
    }
    (sum, others)
}

#[tokio::test]
async fn without_a_tablet_a_mouse_goes_there_from_a_corner() {
    let (fake, vm) = demo();
    fake.take_tablet(true);
    let text = done(&vm, to(10, 480)).await;
    assert!(
        text.starts_with(
            "Moved the pointer to 10,480. That place is an estimate, since the VM has no tablet"
        ),
        "{text}"
    );
    let events = fake.take_events();
    // Far enough for any screen of this size, and a guest with a slow pointer.
    let pushes = events.iter().take_while(|it| *it == "by -127,127").count();
    assert_eq!(pushes, 16);
    assert_eq!(moved(&events), ((10, -19), vec![]));
    assert_eq!(pointer_position(&vm).await.unwrap().to_string(), "10,480");

    done(&vm, by(20, -5)).await;
    assert_eq!(moved(&fake.take_events()), ((20, -5), vec![]));
    assert_eq!(pointer_position(&vm).await.unwrap().to_string(), "30,475");
    let outside = error(&vm, by(-31, 0)).await;
    assert_eq!(
        outside,
        "the point -1,475 is outside the screenshot of 1000×500 pixels"
    );

    let text = done(&vm, click_at(Button::Right, 990, 490)).await;
    assert!(text.contains(" That place is an estimate"), "{text}");
    let clicked = ["right down", "right up"].map(str::to_owned).to_vec();
    assert_eq!(moved(&fake.take_events()), ((-9, -9), clicked));
    assert_eq!(done(&vm, click(Button::Left)).await, "Clicked left.");

    fake.take_events();
    let drag = Act::Drag(Drag {
        from_x: 10,
        from_y: 490,
        to_x: 40,
        to_y: 499,
        through: vec![],
        button: Button::Left,
        modifiers: vec![],
        duration_ms: 0,
    });
    done(&vm, drag).await;
    let dragged = ["left down", "left up"].map(str::to_owned).to_vec();
    assert_eq!(moved(&fake.take_events()), ((40, 0), dragged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mouse_on_its_way_stops_when_it_is_cancelled() {
    let (fake, vm) = demo();
    fake.take_tablet(true);
    let cancel = CancellationToken::new();
    let running = perform(
        &vm,
        vec![click_at(Button::Left, 499, 0)],
        cancel.clone(),
        silent(),
    );
    let stop = async {
        while fake.events().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (outcomes, ()) = tokio::join!(running, stop);
    let outcomes = outcomes.unwrap();
    assert!(
        matches!(outcomes.as_slice(), [Outcome::Failed(ActError::Cancelled)]),
        "{outcomes:?}"
    );
    assert_eq!(moved(&fake.events()).1, [""; 0], "no click");
    assert!(pointer_position(&vm).await.is_err());
    // Without a known place a mouse can still go on from where it is.
    fake.take_events();
    done(&vm, by(4, 0)).await;
    assert_eq!(fake.events(), ["by 2,0", "by 2,0"]);
}

/// Two heads, the second to the right of the first.
fn two_heads(places: &[(i32, i32)]) -> (Arc<Fake>, Arc<Vm>) {
    let fake = Fake::new(1000, 500);
    fake.add_head(800, 600);
    let hypervisor = Arc::clone(&fake) as _;
    let places = places.iter().map(|&(x, y)| Point { x, y }).collect();
    let vm = Vm::new("demo".parse().unwrap(), hypervisor, 0, "us").with_heads_at(places);
    (fake, Arc::new(vm))
}

async fn look(vm: &Arc<Vm>, head: u32) -> Option<Point> {
    let what = TakeScreenshot {
        head,
        ..TakeScreenshot::default()
    };
    capture::look(vm, &what).await.unwrap().mark
}

#[tokio::test]
async fn points_mean_the_head_that_was_last_shown() {
    let (fake, vm) = two_heads(&[(0, 0), (1000, 0)]);
    // Of 1800×600 pixels in all. Before any look the first head is meant.
    done(&vm, to(10, 20)).await;
    assert_eq!(fake.take_events(), ["at 172,1119", "at 191,1119"]);
    look(&vm, 1).await;
    done(&vm, to(10, 20)).await;
    assert_eq!(fake.take_events(), ["at 18395,1119"]);
    // The mark is on the head that the pointer is on.
    let at = Point { x: 10, y: 20 };
    assert_eq!((look(&vm, 0).await, look(&vm, 1).await), (None, Some(at)));
    done(&vm, to(10, 20)).await;
    // Another value of the same pixel.
    assert_eq!(fake.take_events(), ["at 18396,1119"]);
    // An offset leads from one head to the other.
    done(&vm, by(-20, 0)).await;
    let at = Point { x: 990, y: 20 };
    assert_eq!((look(&vm, 1).await, look(&vm, 0).await), (None, Some(at)));
    // Below the first head there is nothing.
    let outside = error(&vm, by(0, 490)).await;
    assert_eq!(
        outside,
        "the point 990,510 is outside the screenshot of 1000×500 pixels"
    );
    let outside = error(&vm, to(10, 550)).await;
    assert_eq!(
        outside,
        "the point 10,550 is outside the screenshot of 1000×500 pixels"
    );
    look(&vm, 1).await;
    done(&vm, to(799, 599)).await;
    assert_eq!(fake.events().last().unwrap(), "at 32758,32740");
}

#[tokio::test]
async fn the_size_is_compared_for_each_head() {
    let (fake, vm) = two_heads(&[(0, 0), (1000, 0)]);
    look(&vm, 0).await;
    look(&vm, 1).await;
    fake.resize_head(1, 1024, 768);
    assert_eq!(
        error(&vm, to(1, 1)).await,
        "the screen of `demo` is 1024×768 now, and was 800×600 in the last screenshot"
    );
    look(&vm, 0).await;
    done(&vm, to(1, 1)).await;
    look(&vm, 1).await;
    fake.resize_head(1, 640, 480);
    assert_eq!(
        error(&vm, to(1, 1)).await,
        "head 1 of `demo`, which the last screenshot showed, is dark now"
    );
    // Of a head that shows nothing no points are meant.
    look(&vm, 0).await;
    look(&vm, 1).await;
    done(&vm, to(1, 1)).await;
}

#[tokio::test]
async fn places_that_cannot_be_are_refused() {
    let cases: [(&[(i32, i32)], &str); 5] = [
        (
            &[],
            "the VM `demo` shows pictures on 2 heads, and their places are not known",
        ),
        (
            &[(0, 0)],
            "`heads` of `demo` in the configuration has a length of 1, and the VM shows pictures on the heads 0 \
             and 1",
        ),
        (
            &[(0, 0), (1000, 0), (2000, 0)],
            "`heads` of `demo` in the configuration has a length of 3, and the VM shows pictures on the heads 0 \
             and 1",
        ),
        (
            &[(0, 0), (999, 0)],
            "at the places in the configuration, head 0 of `demo` (1000×500) and head 1 (800×600) lie over \
             each other",
        ),
        (
            &[(0, 599), (0, 0)],
            "at the places in the configuration, head 0 of `demo` (1000×500) and head 1 (800×600) lie over \
             each other",
        ),
    ];
    for (places, message) in cases {
        let (fake, vm) = two_heads(places);
        assert_eq!(error(&vm, to(1, 1)).await, message);
        assert_eq!(fake.events(), [""; 0]);
        // Without a point it does not matter.
        done(&vm, click(Button::Left)).await;
        // One head alone is the whole desktop.
        fake.resize_head(1, 640, 480);
        done(&vm, to(999, 499)).await;
        assert_eq!(fake.events().last().unwrap(), "at 32751,32735");
    }
    let (_, vm) = two_heads(&[(0, 600), (0, 0)]);
    done(&vm, to(1, 1)).await;
}
