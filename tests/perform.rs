//! What reaches the hypervisor when acts are performed: exact events, in their order and time, and
//! that whatever goes down comes up.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fake::{Call, Fake, Trouble};
use tokio_util::sync::CancellationToken;
use virtpilot::{
    capture::{self, CaptureError},
    hypervisor::{Bus, DomainState, HypervisorError},
    model::{
        Act, Button, Click, MoveMode, MoveMouse, Point, PressKeys, Region, TakeScreenshot,
        TypeText, Wait,
    },
    perform::{self, ActError, Outcome, Progress, Refused},
    vm::{Vm, VmError},
};

fn vm(fake: &Arc<Fake>, name: &str) -> Arc<Vm> {
    Arc::new(Vm::new(
        name.parse().unwrap(),
        Arc::clone(fake) as _,
        0,
        "us",
    ))
}

/// A VM `demo` with a screen of 1000×500 pixels.
fn demo() -> (Arc<Fake>, Arc<Vm>) {
    let fake = Fake::new(1000, 500);
    let vm = vm(&fake, "demo");
    (fake, vm)
}

fn to(x: i32, y: i32) -> Act {
    Act::MoveMouse(MoveMouse {
        x,
        y,
        mode: MoveMode::Absolute,
    })
}

fn by(x: i32, y: i32) -> Act {
    Act::MoveMouse(MoveMouse {
        x,
        y,
        mode: MoveMode::Relative,
    })
}

fn clicks(button: Button, count: u32, at: Option<(i32, i32)>, modifiers: &[&str]) -> Act {
    Act::Click(Click {
        button,
        count,
        x: at.map(|(x, _)| x),
        y: at.map(|(_, y)| y),
        modifiers: modifiers.iter().map(|key| (*key).to_owned()).collect(),
    })
}

fn click() -> Act {
    clicks(Button::Left, 1, None, &[])
}

fn keys(keys: &[&str], repeat: u32, hold_ms: u32) -> Act {
    Act::PressKeys(PressKeys {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        repeat,
        hold_ms,
        adds_modifiers: false,
    })
}

fn press(key: &str) -> Act {
    keys(&[key], 1, 0)
}

fn text(text: &str) -> Act {
    Act::TypeText(TypeText::new(text))
}

fn wait(seconds: f64) -> Act {
    Act::Wait(Wait { seconds })
}

/// Performs acts of which none reaches the guest's own servers.
async fn perform(
    vm: &Arc<Vm>,
    acts: Vec<Act>,
    cancel: CancellationToken,
    progress: Progress,
) -> Result<Vec<Outcome>, Refused> {
    perform::perform(vm, &fake::guests(), acts, cancel, progress).await
}

async fn run(vm: &Arc<Vm>, acts: Vec<Act>) -> Result<Vec<Outcome>, Refused> {
    perform(vm, acts, CancellationToken::new(), silent()).await
}

fn silent() -> Progress {
    Arc::new(|_, _| ())
}

/// Runs acts that must all be done.
async fn done(vm: &Arc<Vm>, acts: Vec<Act>) {
    for outcome in run(vm, acts).await.unwrap() {
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }
}

/// Runs acts of which one fails: its place and the failure.
async fn failure(vm: &Arc<Vm>, acts: Vec<Act>) -> (usize, ActError) {
    let outcomes = run(vm, acts).await.unwrap();
    let at = outcomes
        .iter()
        .position(|outcome| matches!(outcome, Outcome::Failed(_)))
        .unwrap_or_else(|| panic!("nothing failed: {outcomes:?}"));
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Done(_) => assert!(number < at, "{outcomes:?}"),
            Outcome::Failed(_) => assert_eq!(number, at),
            Outcome::NotRun => assert!(number > at, "{outcomes:?}"),
        }
    }
    match outcomes.into_iter().nth(at) {
        Some(Outcome::Failed(error)) => (at, error),
        _ => unreachable!("it was just found"),
    }
}

async fn refusal(vm: &Arc<Vm>, acts: Vec<Act>) -> (usize, ActError) {
    let refused = run(vm, acts).await.unwrap_err();
    (refused.at, *refused.error)
}

/// The pixel 10,20 of 1000×500, and the one beside it that the pointer goes to first where it may
/// be there already.
const AT: &str = "at 344,1343";
const BESIDE: &str = "at 311,1343";

#[tokio::test]
async fn acts_become_exactly_these_events() {
    let ctrl_shift = ["Ctrl", "Shift"];
    let at = Some((10, 20));
    let cases: Vec<(Act, Vec<&str>)> = vec![
        (to(10, 20), vec![BESIDE, AT]),
        (to(0, 0), vec!["at 49,32", "at 16,32"]),
        (to(999, 499), vec!["at 32718,32735", "at 32751,32735"]),
        (click(), vec!["left down", "left up"]),
        (
            clicks(Button::Right, 1, at, &[]),
            vec![BESIDE, AT, "right down", "right up"],
        ),
        (
            clicks(Button::Middle, 3, None, &[]),
            vec![
                "middle down",
                "middle up",
                "middle down",
                "middle up",
                "middle down",
                "middle up",
            ],
        ),
        (
            clicks(Button::Left, 2, at, &ctrl_shift),
            vec![
                "29 down, 42 down",
                BESIDE,
                AT,
                "left down",
                "left up",
                "left down",
                "left up",
                "42 up, 29 up",
            ],
        ),
        (press("Return"), vec!["keys 28"]),
        (keys(&["Ctrl", "Shift", "p"], 1, 0), vec!["keys 29+42+25"]),
        (
            keys(&["Down"], 3, 0),
            vec!["keys 108", "keys 108", "keys 108"],
        ),
        (
            keys(&["Ctrl", "Alt", "F2"], 1, 40),
            vec!["29 down, 56 down, 60 down", "60 up, 56 up, 29 up"],
        ),
        (
            text("aA!\n\t"),
            vec!["keys 30", "keys 42+30+2", "keys 28", "keys 15"],
        ),
        // Five keys at most, none twice, and nothing after Return before that is up.
        (
            text("hello, you\nall"),
            vec![
                "keys 35+18+38",
                "keys 38+24+51+57+21",
                "keys 24+22+28",
                "keys 30+38",
                "keys 38",
            ],
        ),
        (text(""), vec![]),
        (wait(0.0), vec![]),
    ];
    for (act, events) in cases {
        let (fake, vm) = demo();
        let name = format!("{act:?}");
        done(&vm, vec![act]).await;
        assert_eq!(fake.events(), events, "{name}");
        assert_eq!(fake.down(), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn side_buttons_need_a_device_that_has_them() {
    let (fake, vm) = demo();
    let back = || vec![clicks(Button::Back, 1, None, &[])];
    fake.set_pointer("QEMU HID Tablet");
    let (at, error) = refusal(&vm, back()).await;
    assert_eq!(
        (at, error.to_string()),
        (
            0,
            "no pointing device of `demo` passes on the back button".to_owned()
        )
    );
    fake.set_pointer("QEMU Virtio Tablet");
    done(&vm, back()).await;
    assert_eq!(fake.events(), ["back down", "back up"]);
}

#[tokio::test]
async fn the_pointer_steps_aside_only_for_the_place_where_it_may_be() {
    let (fake, vm) = demo();
    done(&vm, vec![to(10, 20)]).await;
    assert_eq!(fake.take_events(), [BESIDE, AT]);
    // Another value of the same pixel: what the tablet has told already is no event for the guest.
    for told in ["at 345,1343", AT] {
        done(&vm, vec![to(10, 20)]).await;
        assert_eq!(fake.take_events(), [told], "the same place again");
    }
    done(&vm, vec![to(500, 250)]).await;
    assert_eq!(fake.take_events(), ["at 16400,16416"], "another place");
    done(&vm, vec![clicks(Button::Left, 1, Some((10, 20)), &[])]).await;
    assert_eq!(fake.take_events(), [AT, "left down", "left up"]);
    done(&vm, vec![by(1, -1), by(0, 0)]).await;
    assert_eq!(fake.take_events(), ["at 376,1277", "at 377,1277"]);
}

#[tokio::test]
async fn a_relative_move_needs_a_known_place_and_a_restart_forgets_it() {
    let (fake, vm) = demo();
    let unknown = "where the pointer of `demo` is, is not known, so that it cannot be moved by an \
                   offset";
    assert_eq!(refusal(&vm, vec![by(1, 1)]).await.1.to_string(), unknown);
    done(&vm, vec![to(990, 20)]).await;
    let (_, error) = refusal(&vm, vec![by(10, 0)]).await;
    assert_eq!(
        error.to_string(),
        "the point 1000,20 is outside the screenshot of 1000×500 pixels"
    );
    done(&vm, vec![by(9, 0)]).await;
    fake.take_events();
    fake.restart();
    assert_eq!(refusal(&vm, vec![by(1, 1)]).await.1.to_string(), unknown);
    assert_eq!(fake.events(), [""; 0]);
}

#[tokio::test]
async fn a_screenshot_marks_where_the_pointer_was_put_until_that_is_unknown() {
    let (fake, vm) = demo();
    fake.add_head(640, 480);
    let mark = async |what: TakeScreenshot| capture::look(&vm, &what).await.unwrap().mark;
    let asked = TakeScreenshot::default;
    assert_eq!(mark(asked()).await, None, "nobody put it anywhere");
    done(&vm, vec![to(990, 20), by(9, -1)]).await;
    let place = Some(Point { x: 999, y: 19 });
    assert_eq!(mark(asked()).await, place);
    let region = Some(Region::from([900, 0, 1000, 20]));
    assert_eq!(mark(TakeScreenshot { region, ..asked() }).await, place);
    let region = Some(Region::from([900, 0, 1000, 19]));
    assert_eq!(mark(TakeScreenshot { region, ..asked() }).await, None);
    let pointer = false;
    assert_eq!(mark(TakeScreenshot { pointer, ..asked() }).await, None);
    assert_eq!(mark(TakeScreenshot { head: 1, ..asked() }).await, None);
    done(&vm, vec![clicks(Button::Left, 1, Some((10, 20)), &[])]).await;
    assert_eq!(mark(asked()).await, Some(Point { x: 10, y: 20 }));
    fake.resize(1000, 600);
    assert_eq!(mark(asked()).await, None, "a screen of another size");
    done(&vm, vec![to(10, 20)]).await;
    assert_eq!(mark(asked()).await, Some(Point { x: 10, y: 20 }));
    fake.restart();
    assert_eq!(mark(asked()).await, None, "a VM that was started anew");
}

#[tokio::test]
async fn the_mark_is_at_the_pixel_of_the_scaled_picture_that_was_pointed_at() {
    for (native, long_edge) in [((400, 200), 100), ((199, 101), 77), ((100, 50), 0)] {
        let fake = Fake::new(native.0, native.1);
        let name = "demo".parse().unwrap();
        let vm = Arc::new(Vm::new(name, Arc::clone(&fake) as _, long_edge, "us"));
        let shot = capture::look(&vm, &TakeScreenshot::default()).await;
        let size = shot.unwrap().shown;
        let (right, bottom) = (size.width.cast_signed() - 1, size.height.cast_signed() - 1);
        for (x, y) in [(0, 0), (right, 0), (0, bottom), (right, bottom), (12, 34)] {
            done(&vm, vec![to(x, y)]).await;
            let shot = capture::look(&vm, &TakeScreenshot::default()).await;
            assert_eq!(
                shot.unwrap().mark,
                Some(Point { x, y }),
                "{native:?} as {size}"
            );
        }
    }
}

#[tokio::test]
async fn points_are_those_of_the_scaled_picture() {
    let fake = Fake::new(4000, 2000);
    let vm = Arc::new(Vm::new(
        "demo".parse().unwrap(),
        Arc::clone(&fake) as _,
        1000,
        "us",
    ));
    done(&vm, vec![to(10, 20)]).await;
    // The middle of the 4×4 native pixels under it: 42,82.
    assert_eq!(
        fake.take_events(),
        ["at 339,1351", "at 348,1351"].map(String::from)
    );
    let (_, error) = refusal(&vm, vec![to(1000, 0)]).await;
    assert_eq!(
        error.to_string(),
        "the point 1000,0 is outside the screenshot of 1000×500 pixels"
    );
}

#[tokio::test]
async fn a_batch_stops_at_its_first_failure() {
    let (fake, vm) = demo();
    fake.trouble_at(2, Trouble::Fails);
    let acts = vec![press("a"), press("b"), press("c"), wait(0.0)];
    let (at, error) = failure(&vm, acts).await;
    assert_eq!(at, 1);
    assert_eq!(
        error.to_string(),
        "QEMU refused input for `demo`: call 2 fails"
    );
    assert_eq!(fake.events(), ["keys 30", "!keys 48"]);
}

#[tokio::test]
async fn nothing_is_done_where_a_later_step_is_bad() {
    let bad: [(Act, &str); 8] = [
        (
            press("Retrun"),
            "there is no key named `Retrun`; near ones are `return`",
        ),
        (
            text("aé"),
            "the keyboard layout `us` cannot type `é` (U+00E9, position 1)",
        ),
        (
            to(1000, 0),
            "the point 1000,0 is outside the screenshot of 1000×500 pixels",
        ),
        (
            clicks(Button::Left, 1, Some((0, -1)), &[]),
            "the point 0,-1 is outside the screenshot of 1000×500 pixels",
        ),
        (
            clicks(Button::Left, 11, None, &[]),
            "`count` is 11, and must be from 1 to 10",
        ),
        (
            clicks(Button::Left, 1, None, &["Crtl"]),
            "there is no key named `Crtl`",
        ),
        (
            keys(&["a"], 0, 0),
            "`repeat` is 0, and must be from 1 to 100",
        ),
        (wait(301.0), "`seconds` is 301, and must be from 0 to 300"),
    ];
    for (act, message) in bad {
        let (fake, vm) = demo();
        let (at, error) = refusal(&vm, vec![press("a"), text("abc"), act]).await;
        assert_eq!(at, 2, "{message}");
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(fake.events(), [""; 0], "{message}");
    }
}

#[tokio::test]
async fn a_vm_that_cannot_take_input_is_told_before_anything_is_sent() {
    let cases = [
        (
            DomainState::Paused,
            "the VM `demo` is paused",
            "Resume it: `virsh -c fake:/// resume demo`.",
        ),
        (
            DomainState::Shutoff,
            "the VM `demo` is shut off",
            "Start it: `virsh -c fake:/// start demo`.",
        ),
        (
            DomainState::Suspended,
            "the VM `demo` is suspended",
            "Wake it: `virsh -c fake:/// dompmwakeup demo`.",
        ),
    ];
    for (state, message, hint) in cases {
        let (fake, vm) = demo();
        fake.set_domain(state);
        let (at, error) = refusal(&vm, vec![wait(0.0), press("a")]).await;
        assert_eq!(
            (at, error.to_string(), error.hint()),
            (0, message.into(), hint.into())
        );
        assert_eq!(fake.events(), [""; 0]);
    }
    let (fake, vm) = demo();
    fake.take_tablet(false);
    let (_, error) = refusal(&vm, vec![to(1, 1)]).await;
    assert_eq!(
        error.to_string(),
        "the VM `demo` has no pointing device, neither a tablet nor a mouse"
    );
    assert!(error.hint().starts_with("Give the VM a tablet: "));
    // It is looked for again: people attach one while the VM runs.
    fake.set_devices(|devices| devices.tablet = Some(Bus::Usb));
    done(&vm, vec![to(1, 1)]).await;
}

#[tokio::test]
async fn several_heads_in_use_are_refused_and_a_blank_one_is_not() {
    let (fake, vm) = demo();
    fake.add_head(640, 480);
    done(&vm, vec![to(1, 1)]).await;
    fake.restart();
    // Black alone is a picture as any other.
    fake.add_head(640, 470);
    let (_, error) = refusal(&vm, vec![to(1, 1)]).await;
    assert_eq!(
        error.to_string(),
        "the VM `demo` shows pictures on 2 heads, and their places are not known"
    );
    // Without a point it does not matter.
    done(&vm, vec![click(), press("a")]).await;
}

#[tokio::test]
async fn a_resized_screen_is_refused_until_it_is_looked_at() {
    let (fake, vm) = demo();
    let look = || async {
        capture::look(&vm, &TakeScreenshot::default())
            .await
            .unwrap()
    };
    look().await;
    done(&vm, vec![to(900, 400)]).await;
    fake.take_events();
    fake.resize(800, 600);
    // A size is taken as the present one for half a second.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for act in [to(1, 1), clicks(Button::Left, 1, Some((1, 1)), &[])] {
        let (at, error) = refusal(&vm, vec![press("a"), act]).await;
        assert_eq!(at, 0);
        assert_eq!(
            error.to_string(),
            "the screen of `demo` is 800×600 now, and was 1000×500 in the last screenshot"
        );
        assert_eq!(
            error.hint(),
            "Take a new screenshot and use its coordinates; nothing was done there."
        );
    }
    assert_eq!(fake.events(), [""; 0]);
    // What has no point may go on, and after a look all may.
    done(&vm, vec![press("a"), click()]).await;
    look().await;
    done(&vm, vec![to(1, 599)]).await;
}

#[tokio::test]
async fn a_screen_that_changes_during_a_batch_stops_it_at_the_next_point() {
    let (fake, vm) = demo();
    let batch = vec![to(900, 400), press("a"), wait(1.0), press("b"), to(1, 1)];
    let resize = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fake.resize(800, 600);
    };
    let ((at, error), ()) = tokio::join!(failure(&vm, batch), resize);
    assert_eq!(at, 4);
    assert_eq!(
        error.to_string(),
        "the screen of `demo` is 800×600 now, and was 1000×500 in the last screenshot"
    );
}

#[tokio::test]
async fn after_a_motion_that_failed_the_pointers_place_is_not_known() {
    let (fake, vm) = demo();
    done(&vm, vec![to(10, 20)]).await;
    fake.trouble_at(1, Trouble::Fails);
    failure(&vm, vec![to(30, 40)]).await;
    let (_, error) = refusal(&vm, vec![by(1, 1)]).await;
    assert!(matches!(error, ActError::PointerUnknown(_)), "{error}");
}

#[tokio::test]
async fn a_click_that_fails_half_way_lets_go_of_all() {
    let act = || vec![clicks(Button::Left, 2, Some((10, 20)), &["Ctrl"])];
    let whole = [
        "29 down",
        BESIDE,
        AT,
        "left down",
        "left up",
        "left down",
        "left up",
        "29 up",
    ];
    // Which call fails, and what is sent in all.
    let cases: [(usize, &[&str]); 6] = [
        (1, &["!29 down", "29 up"]),
        (2, &["29 down", "!at 311,1343", "29 up"]),
        (3, &["29 down", BESIDE, "!at 344,1343", "29 up"]),
        (
            4,
            &["29 down", BESIDE, AT, "!left down", "left up", "29 up"],
        ),
        (
            6,
            &[
                "29 down",
                BESIDE,
                AT,
                "left down",
                "left up",
                "!left down",
                "left up",
                "29 up",
            ],
        ),
        (100, &whole),
    ];
    for (n, events) in cases {
        let (fake, vm) = demo();
        fake.trouble_at(n, Trouble::Fails);
        if n == 100 {
            done(&vm, act()).await;
        } else {
            let (_, error) = failure(&vm, act()).await;
            assert_eq!(
                error.to_string(),
                format!("QEMU refused input for `demo`: call {n} fails")
            );
        }
        assert_eq!(fake.events(), events);
        assert_eq!(fake.down(), [""; 0], "call {n}");
    }
}

#[tokio::test]
async fn a_release_is_tried_again_and_then_told() {
    // A first try that fails is nothing to tell.
    for (act, release) in [
        (click(), 2),
        (clicks(Button::Left, 1, None, &["Ctrl"]), 4),
        (keys(&["a"], 1, 10), 2),
    ] {
        let (fake, vm) = demo();
        fake.trouble_at(release, Trouble::Fails);
        fake.trouble_at(release + 1, Trouble::Fails);
        let name = format!("{act:?}");
        done(&vm, vec![act.clone()]).await;
        assert_eq!(fake.down(), [""; 0], "{name}");

        let (fake, vm) = demo();
        for n in release..release + 3 {
            fake.trouble_at(n, Trouble::Fails);
        }
        let (_, error) = failure(&vm, vec![act]).await;
        assert!(
            matches!(error, ActError::MaybeDown { .. }),
            "{name}: {error:?}"
        );
        assert_eq!(
            error.to_string(),
            "a key or button of `demo` may still be down: it could not be released"
        );
        assert_eq!(fake.down().len(), 1, "{name}: {:?}", fake.down());
    }
}

#[tokio::test]
async fn a_button_that_stays_down_is_told_even_where_its_press_failed() {
    let (fake, vm) = demo();
    for n in 1..=4 {
        fake.trouble_at(n, Trouble::Fails);
    }
    let (_, error) = failure(&vm, vec![click()]).await;
    assert!(matches!(error, ActError::MaybeDown { .. }), "{error:?}");
    assert_eq!(
        fake.events(),
        ["!left down", "!left up", "!left up", "!left up"]
    );
}

#[tokio::test]
async fn a_cancelled_hold_lets_go_at_once() {
    let (fake, vm) = demo();
    let cancel = CancellationToken::new();
    let begun = Instant::now();
    let acts = vec![keys(&["Shift", "a"], 1, 30_000), press("b")];
    let running = perform(&vm, acts, cancel.clone(), silent());
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(fake.down(), ["demo: key 30", "demo: key 42"]);
        cancel.cancel();
    };
    let (outcomes, ()) = tokio::join!(running, stop);
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(matches!(
        outcomes.unwrap().as_slice(),
        [Outcome::Failed(ActError::Cancelled), Outcome::NotRun]
    ));
    assert_eq!(fake.events(), ["42 down, 30 down", "30 up, 42 up"]);
    assert_eq!(fake.down(), [""; 0]);
}

#[tokio::test]
async fn a_hold_ends_even_where_nobody_waits_for_it() {
    let (fake, vm) = demo();
    let acts = vec![keys(&["a"], 1, 200)];
    let dropped = tokio::time::timeout(
        Duration::from_millis(50),
        perform(&vm, acts, CancellationToken::new(), silent()),
    )
    .await;
    assert!(dropped.is_err());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(fake.events(), ["30 down", "30 up"]);
}

#[tokio::test]
async fn a_cancel_stops_typing_and_batches_between_their_parts() {
    let (fake, vm) = demo();
    let cancel = CancellationToken::new();
    let stopper = cancel.clone();
    let progress: Progress = Arc::new(move |typed, _| {
        if typed >= 32 {
            stopper.cancel();
        }
    });
    let outcomes = perform(&vm, vec![text(&"a".repeat(100))], cancel, progress).await;
    match outcomes.unwrap().as_slice() {
        [Outcome::Failed(error)] => assert_eq!(
            error.to_string(),
            "the call was cancelled after 40 of 100 characters were typed"
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(fake.take_events().len(), 40);

    let cancel = CancellationToken::new();
    let acts = vec![press("a"), wait(60.0), press("b")];
    let running = perform(&vm, acts, cancel.clone(), silent());
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    };
    let (outcomes, ()) = tokio::join!(running, stop);
    assert!(matches!(
        outcomes.unwrap().as_slice(),
        [
            Outcome::Done(_),
            Outcome::Failed(ActError::Cancelled),
            Outcome::NotRun
        ]
    ));
    assert_eq!(fake.events(), ["keys 30"]);
}

#[tokio::test]
async fn typing_that_breaks_off_tells_how_far_it_came() {
    let (fake, vm) = demo();
    fake.trouble_at(4, Trouble::Fails);
    let (_, error) = failure(&vm, vec![text(&"a".repeat(50))]).await;
    assert_eq!(
        error.to_string(),
        "typing broke off after 3 of 50 characters"
    );
    assert_eq!(fake.events().len(), 4);
}

/// Never two chords in QEMU's queue, no more of the first so many than a keyboard takes in a time, and nothing
/// else before they are over.
fn assert_one_at_a_time(fake: &Fake, typed: usize, event: Duration) {
    let calls = fake.calls();
    for (at, pair) in calls.windows(2).enumerate() {
        let keys = pair[0].what.split('+').count();
        let needs = if at < typed {
            event * u32::try_from(2 * keys).unwrap()
        } else {
            pair[0].plays
        };
        assert!(pair[1].at >= pair[0].at + needs, "{pair:?}");
    }
}

#[tokio::test]
async fn a_guest_that_gets_half_of_the_host_gets_its_keys_later() {
    let (fake, vm) = demo();
    fake.starve();
    done(&vm, vec![text("abcdefghijklmno")]).await;
    let calls = fake.calls();
    assert_eq!(calls.len(), 3);
    // Ten keys went out at the usual pace, 4 ms for each time one goes down or up; then each should have had 17.2.
    let due = calls[0].at + Duration::from_millis(80 + 264);
    assert!(calls[2].at >= due, "{calls:?}");
}

#[tokio::test]
async fn keys_are_handed_over_as_the_keyboard_takes_them_and_nothing_overtakes_them() {
    for (keyboard, hold, event) in [(Bus::Ps2, 2, 1800), (Bus::Usb, 8, 8000)] {
        let (fake, vm) = demo();
        fake.set_devices(|devices| devices.keyboards = vec![keyboard]);
        done(
            &vm,
            vec![
                text(&"aB".repeat(20)),
                clicks(Button::Left, 1, Some((10, 20)), &[]),
                keys(&["Ctrl", "Shift", "Alt", "a"], 3, 0),
                keys(&["a"], 1, 10),
                keys(&["Ctrl", "Shift", "Alt", "a"], 1, 0),
                clicks(Button::Left, 1, None, &["Ctrl"]),
                press("a"),
                to(0, 0),
            ],
        )
        .await;
        assert_one_at_a_time(&fake, 40, Duration::from_micros(event));
        let calls = fake.calls();
        for typed in calls[..40].chunks(2) {
            let what = [typed[0].what.as_str(), typed[1].what.as_str()];
            assert_eq!(what, ["keys 30", "keys 42+48"]);
        }
        let chord = calls.iter().find(|it| it.what == "keys 29+42+56+30");
        assert_eq!(chord.unwrap().plays, Duration::from_millis(8 * hold));

        // A picture shows what was typed before it.
        done(&vm, vec![text("abc")]).await;
        let last = fake.calls().pop().unwrap();
        assert_eq!(last.what, "keys 30+48+46");
        let end = last.at + Duration::from_micros(6 * event);
        capture::look(&vm, &TakeScreenshot::default())
            .await
            .unwrap();
        let seen = fake.last_look().unwrap();
        assert!(seen >= end, "{last:?}, seen at {seen:?}");
    }
}

#[tokio::test]
async fn a_chord_that_the_keyboards_queue_cannot_hold_goes_out_in_parts() {
    let (fake, vm) = demo();
    let chord = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    done(&vm, vec![keys(&chord, 1, 0)]).await;
    assert_eq!(
        fake.events(),
        [
            "30 down, 48 down, 46 down, 32 down",
            "18 down, 33 down, 34 down, 35 down",
            "23 down",
            "23 up, 35 up, 34 up, 33 up",
            "18 up, 32 up, 46 up, 48 up",
            "30 up",
        ]
    );
}

#[tokio::test]
async fn a_chord_whose_releases_may_have_had_no_room_is_not_told_as_done() {
    // Ten bytes as they go down, and ten as they come up.
    let chord = ["Super", "AltGr", "Control_R", "Print"];
    let (fake, vm) = demo();
    fake.set_reads(false);
    let (_, error) = failure(&vm, vec![keys(&chord, 1, 0)]).await;
    assert_eq!(
        error.to_string(),
        "a key or button of `demo` may still be down: it could not be released"
    );
    let down = "125 down, 100 down, 97 down, 99 down";
    let up = "99 up, 97 up, 100 up, 125 up";
    assert_eq!(fake.take_events(), [down, up]);
    fake.set_reads(true);
    done(&vm, vec![press("a")]).await;
    assert_eq!(fake.take_events(), [up, "keys 30"]);
}

#[tokio::test]
async fn text_for_nested_sessions_and_other_hypervisors_is_tapped_key_by_key() {
    let slowly = |interval| {
        let mut typing = TypeText::new("aB");
        typing.interval_ms = Some(interval);
        vec![Act::TypeText(typing)]
    };
    // A quarter of the interval, but no less than a key needs and no more than any does.
    for (driver, interval, hold) in [
        // No quicker than for a busy guest.
        ("qemu", 1, 4),
        ("qemu", 40, 10),
        ("qemu", 200, 20),
        ("xen", 0, 2),
    ] {
        let (fake, vm) = demo();
        fake.set_devices(|devices| devices.driver = driver.to_owned());
        done(&vm, slowly(interval)).await;
        let calls = fake.calls();
        let seen: Vec<_> = calls
            .iter()
            .map(|it| (it.what.as_str(), it.plays))
            .collect();
        let hold = Duration::from_millis(hold);
        let name = format!("{driver}, {interval} ms");
        assert_eq!(
            seen,
            [("keys 30", 2 * hold), ("keys 42+48", 4 * hold)],
            "{name}"
        );
        let apart = calls[1].at.checked_sub(calls[0].at).unwrap();
        assert!(
            apart >= Duration::from_millis(interval.into()),
            "{name}: {apart:?}"
        );
    }
    let (fake, vm) = demo();
    let (_, error) = refusal(&vm, slowly(1001)).await;
    assert_eq!(
        error.to_string(),
        "`interval_ms` is 1001, and must be at most 1000"
    );
    assert_eq!(fake.events(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_waits_for_a_guest_that_reads_its_keyboard_late() {
    // A queue of 16 bytes takes two for a key.
    let cases = [("a", 8), ("A", 4), ("\t", 8)];
    for (character, fit) in cases {
        let (fake, vm) = demo();
        fake.set_reads(false);
        let typing = {
            let vm = Arc::clone(&vm);
            let text = text(&character.repeat(20));
            tokio::spawn(async move { done(&vm, vec![text]).await })
        };
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(fake.events().len(), fit, "{character:?}");
        fake.set_reads(true);
        typing.await.unwrap();
        assert_eq!(fake.events().len(), 20, "{character:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_for_a_guest_that_does_not_listen_fails_and_single_keys_do_not() {
    let (fake, vm) = demo();
    fake.set_reads(false);
    // Firmware is called by a key that is pressed over and over before it listens.
    done(&vm, vec![keys(&["F12"], 9, 0)]).await;
    assert_eq!(fake.take_events(), ["keys 88"; 9]);
    // The keyboard's queue may have room for a part of these alone, and their release would be lost.
    for keys in [&["Ctrl", "Alt", "Delete"][..], &["Home"], &["Pause"]] {
        let (_, error) = failure(&vm, vec![self::keys(keys, 1, 0)]).await;
        assert_eq!(
            error.to_string(),
            "the guest of `demo` does not read its keyboard"
        );
    }
    // The last of the taps had no room that was known.
    assert_eq!(fake.take_events(), ["88 up"]);
    let (_, error) = failure(&vm, vec![text(&"a".repeat(50))]).await;
    assert_eq!(
        error.to_string(),
        "typing broke off after 0 of 50 characters"
    );
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(
        cause.to_string(),
        "the guest of `demo` does not read its keyboard"
    );
    assert_eq!(fake.events(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_a_moments_pause_may_have_swallowed_is_not_told_as_typed() {
    let (fake, vm) = demo();
    fake.tell_changes();
    done(&vm, vec![press("a")]).await;
    let pausing = Arc::clone(&fake);
    let progress: Progress = Arc::new(move |typed, _| {
        if typed == 20 {
            pausing.set_domain(DomainState::Paused);
            pausing.set_domain(DomainState::Running);
        }
    });
    let typing = vec![text(&"ab".repeat(30))];
    let outcomes = perform(&vm, typing, CancellationToken::new(), progress).await;
    let outcomes = outcomes.unwrap();
    let [Outcome::Failed(error)] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    assert_eq!(
        error.to_string(),
        "typing broke off after 20 of 60 characters"
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("was paused meanwhile"), "{cause}");
    fake.take_events();
    done(&vm, vec![press("c")]).await;
    assert_eq!(fake.events(), ["30 up, 48 up", "keys 46"]);

    // Repeated keys are no other.
    let pausing = Arc::clone(&fake);
    let pause = tokio::spawn(async move {
        while pausing.events().len() < 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pausing.set_domain(DomainState::Paused);
        pausing.set_domain(DomainState::Running);
    });
    let (_, error) = failure(&vm, vec![keys(&["a"], 100, 0)]).await;
    pause.await.unwrap();
    assert!(
        error.to_string().contains("was paused meanwhile"),
        "{error}"
    );
}

#[tokio::test]
async fn each_press_each_release_and_each_step_has_its_time() {
    let (fake, vm) = demo();
    done(
        &vm,
        vec![clicks(Button::Left, 2, Some((10, 20)), &["Ctrl"])],
    )
    .await;
    let calls = fake.calls();
    let gaps: Vec<_> = calls
        .windows(2)
        .map(|pair| pair[1].at.saturating_sub(pair[0].at))
        .collect();
    let least = [30, 8, 8, 30, 100, 30, 100].map(Duration::from_millis);
    assert_eq!(gaps.len(), least.len(), "{calls:?}");
    for (gap, least) in gaps.iter().zip(least) {
        assert!(*gap >= least, "{gaps:?}");
    }
    for call in calls {
        let both = call.what.contains("down") && call.what.contains("up");
        assert!(!both, "a press and a release in one call: {}", call.what);
    }

    let (fake, vm) = demo();
    done(&vm, vec![keys(&["a"], 1, 150)]).await;
    let calls = fake.calls();
    let held = calls[1].at.saturating_sub(calls[0].at);
    assert!(held >= Duration::from_millis(150), "{held:?}");
}

/// Between two events of the tablet.
const GAP: Duration = Duration::from_millis(8);

#[tokio::test]
async fn the_reply_does_not_wait_for_what_only_the_next_act_must() {
    let (fake, vm) = demo();
    // A busy machine may delay some replies, but not each of them.
    let mut shortest = [Duration::MAX; 2];
    for x in 0..20 {
        for (shortest, act) in shortest.iter_mut().zip([to(x, 0), click()]) {
            done(&vm, vec![act]).await;
            let last = fake.calls().pop().unwrap();
            *shortest = (*shortest).min(fake.now().saturating_sub(last.at));
        }
    }
    assert!(shortest.iter().all(|time| *time < GAP), "{shortest:?}");
}

#[tokio::test]
async fn whatever_follows_waits_until_the_tablet_is_done() {
    for act in [to(10, 20), click()] {
        for next in [
            to(30, 40),
            click(),
            press("a"),
            keys(&["a"], 1, 10),
            clicks(Button::Left, 1, None, &["Ctrl"]),
        ] {
            let (fake, vm) = demo();
            let name = format!("{act:?}, then {next:?}");
            done(&vm, vec![act.clone()]).await;
            let before = fake.calls();
            done(&vm, vec![next]).await;
            let after = fake.calls();
            let last = before[before.len() - 1].at;
            let gap = after[before.len()].at.saturating_sub(last);
            assert!(gap >= GAP, "{name}: {gap:?}");
        }
        let (fake, vm) = demo();
        done(&vm, vec![act]).await;
        capture::look(&vm, &TakeScreenshot::default())
            .await
            .unwrap();
        let last = fake.calls().pop().unwrap().at;
        let gap = fake.last_look().unwrap().saturating_sub(last);
        assert!(gap >= GAP, "a look: {gap:?}");
    }
}

#[tokio::test]
async fn a_tablet_that_sleeps_is_given_time_to_wake() {
    let twice = |at| clicks(Button::Left, 2, at, &[]);
    let here = Some((10, 20));
    let cases = [
        // What comes only once it is awake.
        (vec![twice(here)], "left down"),
        (vec![twice(None)], "left down"),
        (vec![clicks(Button::Left, 1, here, &["Ctrl"])], "left down"),
        (vec![clicks(Button::Back, 1, here, &[])], "back down"),
        (vec![to(10, 20), press("a")], "keys 30"),
        (vec![to(10, 20), text("a")], "keys 30"),
        (vec![to(10, 20), keys(&["a"], 1, 10)], "30 down"),
        (vec![click(), press("a")], "keys 30"),
        (vec![click(), text("a")], "keys 30"),
        (vec![to(10, 20), to(30, 40), to(50, 60)], "at "),
    ];
    for (acts, call) in cases {
        let (fake, vm) = demo();
        fake.set_devices(|it| it.tablet = Some(Bus::Usb));
        let name = format!("{acts:?}");
        done(&vm, acts).await;
        let calls = fake.calls();
        let wakes = |it: &&Call| ["at ", "left "].iter().any(|of| it.what.starts_with(of));
        let woken = calls.iter().find(wakes).expect(&name).at;
        let late = calls
            .iter()
            .rev()
            .find(|it| it.what.starts_with(call))
            .unwrap_or_else(|| panic!("{name}: {calls:?}"));
        let gap = late.at.saturating_sub(woken);
        assert!(gap >= Duration::from_millis(380), "{name}: {gap:?}");
    }
}

#[tokio::test]
async fn a_usb_keyboard_that_sleeps_gets_few_keys_and_then_time_to_wake() {
    let cases = [
        (vec![press("a"), press("b")], "keys 48"),
        (vec![text("abcdefghij")], "keys 33"),
        // A key that is held down is so for its time.
        (vec![keys(&["a"], 1, 10)], "30 down"),
    ];
    for (acts, call) in cases {
        let (fake, vm) = demo();
        fake.set_devices(|it| it.keyboards = vec![Bus::Usb]);
        let name = format!("{acts:?}");
        done(&vm, acts).await;
        let calls = fake.calls();
        let late = calls.iter().find(|it| it.what.starts_with(call));
        let late = late.unwrap_or_else(|| panic!("{name}: {calls:?}"));
        let gap = late.at.saturating_sub(calls[0].at);
        assert!(gap >= Duration::from_millis(380), "{name}: {gap:?}");
    }
    // It tells a code at a time, of which an arrow has two.
    let (fake, vm) = demo();
    fake.set_devices(|it| it.keyboards = vec![Bus::Usb]);
    done(&vm, vec![press("a"), press("Down")]).await;
    let plays: Vec<_> = fake.calls().iter().map(|it| it.plays).collect();
    assert_eq!(plays, [16, 32].map(Duration::from_millis));
}

#[tokio::test]
async fn a_slow_pace_leaves_a_usb_keyboard_time_for_each_code() {
    let fake = Fake::new(1000, 500);
    fake.set_devices(|it| it.keyboards = vec![Bus::Usb]);
    let vm = Arc::new(Vm::new(
        "demo".parse().unwrap(),
        Arc::clone(&fake) as _,
        0,
        "de",
    ));
    let mut typing = TypeText::new("a@");
    typing.interval_ms = Some(1);
    done(&vm, vec![Act::TypeText(typing)]).await;
    let calls = fake.calls();
    let seen: Vec<_> = calls
        .iter()
        .map(|it| (it.what.as_str(), it.plays))
        .collect();
    // AltGr has two.
    let [plain, with_alt_gr] = [16, 64].map(Duration::from_millis);
    assert_eq!(seen, [("keys 30", plain), ("keys 100+16", with_alt_gr)]);
}

#[tokio::test]
async fn a_keyboard_plugged_in_within_a_batch_gets_its_own_pace() {
    let (fake, vm) = demo();
    fake.tell_changes();
    let plugging = Arc::clone(&fake);
    let progress: Progress = Arc::new(move |done, _| {
        if done == 1000 {
            plugging.set_devices(|it| it.keyboards = vec![Bus::Usb]);
        }
    });
    let acts = vec![press("a"), press("b")];
    let outcomes = perform(&vm, acts, CancellationToken::new(), progress).await;
    let outcomes = outcomes.unwrap();
    assert!(
        matches!(outcomes.as_slice(), [Outcome::Done(_), Outcome::Done(_)]),
        "{outcomes:?}"
    );
    let plays: Vec<_> = fake.calls().iter().map(|it| it.plays).collect();
    assert_eq!(plays, [4, 16].map(Duration::from_millis));
}

#[tokio::test]
async fn single_keys_ask_the_keyboard_only_where_its_queue_may_be_full() {
    let (fake, vm) = demo();
    let mut asked = vec![];
    // A queue of 16 bytes holds eight keys, or four of the later ones.
    for key in ["a"; 17].into_iter().chain(["Home"; 5]) {
        done(&vm, vec![press(key)]).await;
        asked.push(fake.take_asked());
    }
    let expected: Vec<_> = (0..22)
        .map(|at| usize::from([0, 8, 16, 20].contains(&at)))
        .collect();
    assert_eq!(asked, expected);

    // What is not known to be read is as good as full.
    let unknown: [(&str, Act); 3] = [
        ("held", keys(&["a"], 1, 10)),
        ("a modifier", clicks(Button::Left, 1, None, &["Ctrl"])),
        ("nothing", wait(0.0)),
    ];
    for (what, act) in unknown {
        done(&vm, vec![press("a")]).await;
        if what == "nothing" {
            fake.restart();
        }
        done(&vm, vec![act]).await;
        fake.take_asked();
        done(&vm, vec![press("a")]).await;
        assert_eq!(fake.take_asked(), 1, "after {what}");
    }

    let (fake, vm) = demo();
    fake.trouble_at(2, Trouble::Fails);
    done(&vm, vec![press("a")]).await;
    failure(&vm, vec![press("a")]).await;
    fake.take_asked();
    done(&vm, vec![press("a")]).await;
    assert_eq!(fake.take_asked(), 1, "after a failure");
}

#[tokio::test]
async fn the_state_is_asked_anew_only_where_it_may_have_changed() {
    let (fake, vm) = demo();
    let press = || keys(&["a"], 1, 0);
    done(&vm, vec![press()]).await;
    done(&vm, vec![press()]).await;
    assert_eq!(fake.take_looked_up(), 2, "nobody tells of changes");
    fake.tell_changes();
    for _ in 0..3 {
        done(&vm, vec![press()]).await;
    }
    assert_eq!(fake.take_looked_up(), 1);
    fake.set_domain(DomainState::Paused);
    let (_, error) = refusal(&vm, vec![press()]).await;
    assert_eq!(error.to_string(), "the VM `demo` is paused");
    refusal(&vm, vec![press()]).await;
    assert_eq!(
        fake.take_looked_up(),
        2,
        "one that does not run may at any time"
    );
    fake.set_domain(DomainState::Running);
    done(&vm, vec![press()]).await;
}

/// A VM that is paused while taps are played, as QEMU tells nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_stayed_down_is_let_go_of_however_often_that_fails() {
    let (fake, vm) = demo();
    fake.trouble_at(1, Trouble::Blocks);
    let typing = {
        let vm = Arc::clone(&vm);
        let chord = keys(&["a", "b", "c", "d", "e", "f"], 2, 0);
        tokio::spawn(async move { failure(&vm, vec![chord]).await })
    };
    fake.wait_for_call(1);
    fake.set_domain(DomainState::Paused);
    fake.unblock();
    let (_, error) = typing.await.unwrap();
    assert_eq!(error.to_string(), "the VM `demo` is paused");
    fake.set_domain(DomainState::Running);

    // a to f, four at a time; the first four cannot be let go of, in three tries.
    fake.take_events();
    for n in 1..=3 {
        fake.trouble_at(n, Trouble::Fails);
    }
    let press = || keys(&["x"], 1, 0);
    // Once alone: else nothing would be done on this VM any more.
    refusal(&vm, vec![press()]).await;
    let first = "33 up, 18 up, 32 up, 46 up";
    assert_eq!(
        fake.take_events(),
        [
            format!("!{first}"),
            format!("!{first}"),
            format!("!{first}")
        ]
    );
    done(&vm, vec![press()]).await;
    assert_eq!(fake.take_events(), ["48 up, 30 up", "keys 45"]);
    done(&vm, vec![press()]).await;
    assert_eq!(fake.take_events(), ["keys 45"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_one_vm_never_interleave() {
    let (fake, vm) = demo();
    let batch = |key: &str| {
        let steps = (0..10).flat_map(|_| [press(key), wait(0.005)]).collect();
        let vm = Arc::clone(&vm);
        tokio::spawn(async move { done(&vm, steps).await })
    };
    let running: Vec<_> = ["a", "b", "c"].into_iter().map(batch).collect();
    for batch in running {
        batch.await.unwrap();
    }
    let events = fake.events();
    assert_eq!(events.len(), 30);
    for run in events.chunks(10) {
        assert!(run.iter().all(|event| *event == run[0]), "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_vm_hears_that_it_is_busy_and_delays_no_other() {
    let fake = Fake::new(1000, 500);
    let (hung, other) = (vm(&fake, "hung"), vm(&fake, "other"));
    fake.trouble_at(1, Trouble::Blocks);
    let stuck = {
        let hung = Arc::clone(&hung);
        tokio::spawn(async move { run(&hung, vec![press("a")]).await })
    };
    fake.wait_for_call(1);

    let begun = Instant::now();
    let acts = vec![press("b"), clicks(Button::Left, 1, Some((10, 20)), &[])];
    done(&other, acts).await;
    capture::look(&other, &TakeScreenshot::default())
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));

    let begun = Instant::now();
    let error = capture::look(&hung, &TakeScreenshot::default())
        .await
        .unwrap_err();
    assert!(matches!(&error, CaptureError::Vm(VmError::Hung(vm)) if vm.name.as_str() == "hung"));
    assert_eq!(
        error.to_string(),
        "the VM `hung` is still busy with a call that does not return"
    );
    assert_eq!(
        error.hint(),
        "QEMU or libvirt hangs; `virsh -c fake:/// domstate hung` shows whether it answers. Other VMs \
         are not affected. Try again later."
    );
    assert!(begun.elapsed() < Duration::from_secs(18));

    // What comes back late is done, and the VM is free again.
    fake.unblock();
    let outcomes = stuck.await.unwrap().unwrap();
    assert!(
        matches!(outcomes.as_slice(), [Outcome::Done(_)]),
        "{outcomes:?}"
    );
    done(&hung, vec![press("c")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_had_still_to_do_is_not_done_once_its_failure_was_told() {
    let click = clicks(Button::Left, 1, Some((10, 20)), &[]);
    let acts = [(click, "left down"), (by(300, 0), "by ")];
    let gives_up = |(act, late): (Act, &'static str)| async move {
        let (fake, vm) = demo();
        if late == "by " {
            fake.take_tablet(true);
        }
        // The first motion.
        fake.trouble_at(1, Trouble::Blocks);
        let (_, error) = failure(&vm, vec![act]).await;
        assert!(error.to_string().contains("did not answer"), "{error}");
        let before = fake.events().len();
        fake.unblock();
        // Comes after the call that hung, on the VM's line.
        done(&vm, vec![press("a")]).await;
        let events = fake.events();
        let is_late = |event: &String| event.starts_with(late);
        assert!(!events[before..].iter().any(is_late), "{events:?}");
    };
    // Side by side: each waits until its limit is over.
    let all: Vec<_> = acts.map(|act| tokio::spawn(gives_up(act))).into();
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn what_may_be_down_is_let_go_of_by_the_next_act_whatever_hindered_its_release() {
    let (fake, vm) = demo();
    for n in 2..=4 {
        fake.trouble_at(n, Trouble::Garbled);
    }
    let (_, error) = failure(&vm, vec![keys(&["a"], 1, 10)]).await;
    assert_eq!(error.hint(), "The next act on the VM lets go of it.");
    fake.take_events();
    done(&vm, vec![press("b")]).await;
    assert_eq!(fake.events(), ["30 up", "keys 48"]);
}

#[tokio::test]
async fn a_mouse_that_is_nowhere_known_moves_no_further_than_the_screen_is_wide() {
    let (fake, vm) = demo();
    fake.take_tablet(true);
    for (x, y) in [(2_000_000_000, 0), (0, -501), (i32::MIN, i32::MIN)] {
        let (_, error) = refusal(&vm, vec![by(x, y)]).await;
        assert_eq!(
            error.to_string(),
            format!("an offset of {x},{y} is longer than the screen, of 1000×500 pixels")
        );
    }
    assert_eq!(fake.events(), [""; 0]);
    done(&vm, vec![by(-1000, 500)]).await;
}

#[tokio::test]
async fn progress_counts_steps_of_a_batch_and_characters_of_a_text() {
    let told: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let progress = || {
        let told = Arc::clone(&told);
        Arc::new(move |done, total| told.lock().unwrap().push((done, total))) as Progress
    };
    let (_fake, vm) = demo();
    let cancel = CancellationToken::new;
    perform(&vm, vec![text(&"a".repeat(40))], cancel(), progress())
        .await
        .unwrap();
    assert_eq!(
        std::mem::take(&mut *told.lock().unwrap()),
        [(20, 40), (40, 40)]
    );
    let acts = vec![press("a"), text(&"a".repeat(40)), press("b")];
    perform(&vm, acts, cancel(), progress()).await.unwrap();
    assert_eq!(
        std::mem::take(&mut *told.lock().unwrap()),
        [(0, 3000), (1000, 3000), (1500, 3000), (2000, 3000)]
    );
}

#[tokio::test]
async fn an_act_on_a_hypervisor_without_it_says_so_and_fears_nothing() {
    // The real backend gives this for drivers other than QEMU's: nothing can have gone down.
    let libvirt = virtpilot::hypervisor::Libvirt::new("test:///default");
    let vm = Arc::new(Vm::new("test".parse().unwrap(), Arc::new(libvirt), 0, "us"));
    for act in [
        click(),
        clicks(Button::Left, 1, None, &["Ctrl"]),
        keys(&["a"], 1, 10),
    ] {
        let (_, error) = failure(&vm, vec![act]).await;
        assert!(
            matches!(
                &error,
                ActError::Vm(VmError::Hypervisor(HypervisorError::Unsupported { .. }))
            ),
            "{error:?}"
        );
    }
}
