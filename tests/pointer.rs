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
    hypervisor::DomainState,
    model::{
        Act, Button, ButtonState, Click, Direction, Drag, MouseButton, MoveMode, MoveMouse, Scroll,
        Wait,
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
    Act::Drag(Drag {
        from_x: 10,
        from_y: 20,
        to_x: 20,
        to_y: 20,
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
async fn a_vm_that_was_started_anew_holds_nothing() {
    let (fake, vm) = demo();
    done(&vm, down()).await;
    fake.restart();
    done(&vm, down()).await;
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
