//! Waiting and settling over a screen that is played look by look: what ends a wait, what it says, and
//! that nothing else does.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/stage.rs"]
mod stage;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fake::{AtLook, Fake, Scene};
use serde_json::{Value, json};
use sshd::Sshd;
use stage::{SIZE, Stage};
use tokio_util::sync::CancellationToken;
use virtpilot::{
    hypervisor::{DomainState, Forward},
    image,
    perform::Progress,
};

const WIDTH: u32 = SIZE.0;
const HEIGHT: u32 = SIZE.1;

/// The screen with white rectangles on it.
fn white(white: &[[u32; 4]]) -> Scene {
    Scene::Painted {
        width: WIDTH,
        height: HEIGHT,
        white: white.to_vec(),
    }
}

/// 250 pixels are let pass on this screen: a block cursor of 9×18 is.
const CURSOR: [u32; 4] = [100, 100, 109, 118];
/// And this is too large.
const WORD: [u32; 4] = [100, 100, 114, 118];
const LEFT: [u32; 4] = [0, 0, 500, 500];

#[tokio::test]
async fn a_screen_is_still_once_it_stays_as_it_is() {
    let stage = Stage::set();
    stage
        .fake
        .play(vec![white(&[LEFT]), white(&[WORD]), white(&[])]);
    let text = stage
        .held(json!([{"condition": "stable", "ms": 300}]))
        .await;
    assert_eq!(text, "The screen has been still for 300 ms");
    // The third look is the first of its kind; one more at least is needed.
    assert!(stage.fake.looks() >= 4, "{}", stage.fake.looks());
}

#[tokio::test]
async fn a_blinking_cursor_is_no_change_and_a_word_is_one() {
    let stage = Stage::set();
    let blinking = |what| vec![white(&[]), white(&[what])];
    let still = json!([{"condition": "stable", "ms": 500}]);
    stage.fake.play_again_and_again(blinking(CURSOR));
    let text = stage.held(still.clone()).await;
    assert_eq!(text, "The screen has been still for 500 ms");
    stage.fake.play_again_and_again(blinking(WORD));
    let reply = stage.in_vain(still, 3.0).await;
    assert!(
        reply.text.starts_with(
            "Nothing held within 3 s: `stable`: the screen still changed at the end.\nNext: The \
             picture shows the screen as it was then."
        ),
        "{}",
        reply.text
    );
    // In a region no larger than the cursor, the cursor is what is looked at.
    stage.fake.play_again_and_again(blinking(CURSOR));
    let near = json!([{"condition": "stable", "region": [90, 90, 130, 130]}]);
    let reply = stage.in_vain(near, 3.0).await;
    assert!(
        reply
            .text
            .contains("`stable`: the region [90, 90, 130, 130] still changed at the end"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_change_is_told_by_its_share() {
    let stage = Stage::set();
    let scenes = || vec![white(&[]), white(&[CURSOR]), white(&[LEFT])];
    let cases = [
        (
            json!({"condition": "change"}),
            "The screen changed, by 50 % of its pixels",
            3,
        ),
        (
            json!({"condition": "change", "share": 0}),
            "The screen changed, by 0.03 % of its pixels",
            2,
        ),
        (
            json!({"condition": "change", "region": [90, 90, 130, 130]}),
            "The region [90, 90, 130, 130] changed, by 10 % of its pixels",
            2,
        ),
        (
            json!({"condition": "change", "share": 1, "region": [400, 0, 500, 500]}),
            "The region [400, 0, 500, 500] changed, by 100 % of its pixels",
            3,
        ),
    ];
    for (condition, text, looks) in cases {
        stage.fake.play(scenes());
        assert_eq!(stage.held(json!([condition])).await, text);
        assert_eq!(stage.fake.looks(), looks, "{condition}");
    }
    stage.fake.play(scenes());
    let reply = stage
        .in_vain(
            json!([{"condition": "change", "region": [600, 0, 700, 500]}]),
            3.0,
        )
        .await;
    assert!(
        reply.text.starts_with(
            "Nothing held within 3 s: `change`: at most 0 % of the region [600, 0, 700, 500]'s \
             pixels differed."
        ),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn the_last_picture_comes_with_the_time_out() {
    let stage = Stage::set();
    let reply = stage.in_vain(json!([{"condition": "change"}]), 0.5).await;
    let [picture] = reply.pictures.as_slice() else {
        panic!("{} pictures: {}", reply.pictures.len(), reply.text);
    };
    let size = image::size(picture.mime, &picture.bytes).unwrap();
    assert_eq!((size.width, size.height), (WIDTH, HEIGHT));
    assert!(
        reply
            .text
            .contains(" of demo: 1000×500 pixels, native size. Resource vm://screenshot/"),
        "{}",
        reply.text
    );
    assert_eq!(reply.data, None);
}

#[tokio::test]
async fn any_of_several_conditions_ends_the_wait_and_is_named() {
    let stage = Stage::set();
    let any = json!([
        {"condition": "stable", "ms": 400},
        {"condition": "change"},
        {"condition": "state", "state": "shutoff"},
    ]);
    assert_eq!(
        stage.held(any.clone()).await,
        "The screen has been still for 400 ms"
    );
    stage.fake.play(vec![white(&[]), white(&[LEFT])]);
    assert_eq!(
        stage.held(any.clone()).await,
        "The screen changed, by 50 % of its pixels"
    );
    stage.fake.set_domain(DomainState::Shutoff);
    assert_eq!(stage.held(any).await, "The VM is shut off");
}

#[tokio::test]
async fn a_new_resolution_is_a_change_and_a_new_beginning() {
    let stage = Stage::set();
    let small = || Scene::Painted {
        width: 640,
        height: 400,
        white: vec![],
    };
    stage.fake.play(vec![white(&[]), small()]);
    let change = json!([{"condition": "change", "share": 1}]);
    assert_eq!(
        stage.held(change).await,
        "The screen changed from 1000×500 to 640×400 pixels"
    );
    stage.fake.play(vec![white(&[]), small()]);
    let still = json!([{"condition": "stable", "ms": 500, "region": [0, 0, 640, 400]}]);
    assert_eq!(
        stage.held(still).await,
        "The region [0, 0, 640, 400] has been still for 500 ms"
    );
    assert!(stage.fake.looks() >= 3, "{}", stage.fake.looks());
    stage.fake.play(vec![white(&[]), small()]);
    let gone = json!({"conditions": [{"condition": "stable", "region": [0, 0, 641, 400]}]});
    assert!(stage.refused("wait_for", gone).await.starts_with(
        "The screen became 640×400 pixels large during the wait, and the region [0, 0, 641, 400] of one of 1000×500 pixels is not inside it."
    ));
}

#[tokio::test]
async fn regions_and_heads_that_are_not_there_are_told_at_once() {
    let stage = Stage::set();
    let begun = Instant::now();
    for condition in ["stable", "change"] {
        let outside = json!({"condition": condition, "region": [0, 0, 1001, 1]});
        let text = stage
            .refused("wait_for", json!({"conditions": [outside]}))
            .await;
        assert!(
            text.starts_with(
                "The region [0, 0, 1001, 1] is empty or not inside the screenshot of 1000×500 pixels."
            ),
            "{text}"
        );
        let head = json!({"condition": condition, "head": 1});
        let text = stage
            .refused("wait_for", json!({"conditions": [head]}))
            .await;
        assert!(text.starts_with("The VM `demo` has no head 1."), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    stage.fake.add_head(200, 100);
    let second = json!([{"condition": "stable", "head": 1, "region": [0, 0, 200, 100]}]);
    assert_eq!(
        stage.held(second).await,
        "The region [0, 0, 200, 100] has been still for 500 ms"
    );
}

#[tokio::test]
async fn bad_conditions_are_refused_with_their_place() {
    let stage = Stage::set();
    let cases = [
        (
            json!([]),
            "`conditions` has 0 items, and must have from 1 to 16.",
        ),
        (
            json!([{"condition": "stable"}, {"condition": "sound", "pattern": "a"}]),
            "`conditions[1]`: there is no condition `sound`.\nNext: Conditions are stable, change, \
             text, image, ssh, port, state, console.",
        ),
        (json!([{}]), "`conditions[0]`: `condition` is missing."),
        (
            json!([{"condition": 1}]),
            "`conditions[0]`: `condition` must be a string.",
        ),
        (
            json!([{"condition": "stable", "share": 0.1}]),
            "`conditions[0]`: there is no parameter `share`.\nNext: Accepted are `ms`, `region`, \
             `head`.",
        ),
        (
            json!([{"condition": "ssh", "port": 22}]),
            "`conditions[0]`: there is no parameter `port`.",
        ),
        (
            json!([{"condition": "stable", "ms": 49}]),
            "`conditions[0]`: `ms` is 49, and must be from 50 to 300000.",
        ),
        (
            json!([{"condition": "stable", "ms": 30001}]),
            "The screen cannot be still for 30001 ms within a `timeout` of 30 s.",
        ),
        (
            json!([{"condition": "change", "share": 1.5}]),
            "`conditions[0]`: `share` is 1.5, and must be from 0 to 1.",
        ),
        (
            json!([{"condition": "port"}]),
            "`conditions[0]`: the parameter `port` is missing.",
        ),
        (
            json!([{"condition": "port", "port": 65536}]),
            "`conditions[0]`: `port` is 65536, and must be from 1 to 65535.",
        ),
        (
            json!([{"condition": "state", "state": "off"}]),
            "`conditions[0]`: `state` is \"off\", which is none of its values.\nNext: Allowed are \
             running, paused, shutdown, shutoff, crashed, suspended.",
        ),
        (
            json!(["stable"]),
            "`conditions[0]` must be an object, and is a string.",
        ),
    ];
    for (conditions, begins) in cases {
        let text = stage
            .refused("wait_for", json!({"conditions": conditions}))
            .await;
        assert!(text.starts_with(begins), "{conditions}: {text}");
    }
    let text = stage
        .refused(
            "wait_for",
            json!({"conditions": [{"condition": "stable"}], "timeout": 301}),
        )
        .await;
    assert!(
        text.starts_with("`timeout` is 301, and must be from 0.1 to 300."),
        "{text}"
    );
    assert_eq!(
        stage.fake.looks(),
        0,
        "all is checked before anything begins"
    );
}

#[tokio::test]
async fn what_reaches_into_the_guest_needs_shell() {
    let stage = Stage::with(&[], "allow = [\"view\", \"input\"]\n");
    for condition in [
        json!({"condition": "ssh"}),
        json!({"condition": "port", "port": 80}),
    ] {
        let conditions = json!([{"condition": "stable"}, condition]);
        let refusal = "`shell` is not granted for the VM `demo`";
        let text = stage
            .refused("wait_for", json!({"conditions": conditions}))
            .await;
        assert!(text.starts_with(refusal), "{text}");
        let step = json!({"action": "wait_for", "conditions": conditions});
        let text = stage
            .refused("run_actions", json!({"actions": [step]}))
            .await;
        assert!(text.starts_with(refusal), "{text}");
    }
    assert_eq!(stage.fake.looks(), 0);
    stage.held(json!([{"condition": "stable"}])).await;

    let stage = Stage::with(&[], "allow = [\"input\", \"shell\"]\n");
    let step = json!({"action": "wait_for", "conditions": [{"condition": "ssh"}]});
    let text = stage
        .refused("run_actions", json!({"actions": [step]}))
        .await;
    assert!(text.starts_with("`view` is not granted"), "{text}");
}

#[tokio::test]
async fn a_vm_that_stops_ends_a_look_and_not_a_wait_for_its_state() {
    let stage = Stage::set();
    let moving = || vec![white(&[]), white(&[LEFT])];
    stage.fake.play_again_and_again(moving());
    stage.fake.at_look(3, AtLook::Becomes(DomainState::Shutoff));
    let text = stage
        .refused("wait_for", json!({"conditions": [{"condition": "stable"}]}))
        .await;
    assert!(text.starts_with("The VM `demo` is shut off."), "{text}");
    assert_eq!(stage.fake.looks(), 3);

    // It may be just what is waited for,
    stage.fake.set_domain(DomainState::Running);
    stage.fake.play_again_and_again(moving());
    stage.fake.at_look(3, AtLook::Becomes(DomainState::Shutoff));
    let either = json!([{"condition": "stable"}, {"condition": "state", "state": "shutoff"}]);
    assert_eq!(stage.held(either).await, "The VM is shut off");

    // and a VM that comes back is looked at again.
    stage.fake.play(vec![]);
    let either = json!([{"condition": "stable"}, {"condition": "state", "state": "crashed"}]);
    let start = async {
        while stage.fake.looks() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.fake.set_domain(DomainState::Running);
    };
    let (text, ()) = tokio::join!(stage.held(either), start);
    assert_eq!(text, "The screen has been still for 500 ms");
}

#[tokio::test]
async fn a_state_needs_no_screen() {
    let stage = Stage::set();
    stage.fake.set_domain(DomainState::Shutoff);
    let running = json!([{"condition": "state", "state": "running"}]);
    let reply = stage.in_vain(running.clone(), 0.7).await;
    assert!(
        reply.text.starts_with(
            "Nothing held within 0.7 s: `state`: the VM is shut off.\nNext: The screen could not be \
             seen at the end"
        ),
        "{}",
        reply.text
    );
    assert!(reply.pictures.is_empty());
    let start = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.fake.set_domain(DomainState::Running);
    };
    let (text, ()) = tokio::join!(stage.held(running), start);
    assert_eq!(text, "The VM is running");
    let cases = [
        ("paused", DomainState::Paused, "The VM is paused"),
        ("shutdown", DomainState::Shutdown, "The VM is in shutdown"),
        ("crashed", DomainState::Crashed, "The VM is crashed"),
        ("suspended", DomainState::Suspended, "The VM is suspended"),
    ];
    for (word, state, text) in cases {
        stage.fake.set_domain(state);
        let wanted = json!([{"condition": "state", "state": word}]);
        assert_eq!(stage.held(wanted).await, text);
        assert_eq!(json!(state), word, "`vm_list` gives the same word");
    }
}

#[tokio::test]
async fn a_vm_that_hangs_does_not_prolong_the_wait() {
    let stage = Stage::set();
    stage
        .fake
        .play_again_and_again(vec![white(&[]), white(&[LEFT])]);
    stage.fake.at_look(2, AtLook::Blocks);
    let begun = Instant::now();
    let reply = stage.in_vain(json!([{"condition": "stable"}]), 1.5).await;
    let took = begun.elapsed();
    let calls = (stage.fake.looks(), stage.fake.most_looking());
    // A thread that stays blocked would keep a failing test from ending.
    stage.fake.unblock();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(
        reply
            .text
            .starts_with("Nothing held within 1.5 s: `stable`: "),
        "{}",
        reply.text
    );
    assert!(reply.pictures.is_empty());
    // The call that hangs is the only one below.
    assert_eq!(calls, (2, 1));
}

#[tokio::test]
async fn a_wait_is_cancelled_and_tells_how_far_it_is() {
    let stage = Stage::set();
    let last = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&last);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let progress: Progress = Arc::new(move |waited, of| {
        assert_eq!(of, 60);
        seen.store(waited, Ordering::Relaxed);
        if waited == 2 {
            stop.cancel();
        }
    });
    let arguments = json!({"conditions": [{"condition": "change"}], "timeout": 60});
    let begun = Instant::now();
    let reply = stage
        .call_with(cancel, progress, "wait_for", arguments)
        .await;
    assert!(
        reply.text.starts_with("The call was cancelled."),
        "{}",
        reply.text
    );
    assert_eq!(last.load(Ordering::Relaxed), 2);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn others_may_act_while_one_waits() {
    let stage = Stage::set();
    let waiting = async {
        let arguments = json!({"conditions": [{"condition": "change"}], "timeout": 3});
        assert!(stage.call("wait_for", arguments).await.is_error());
        Instant::now()
    };
    let acting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reply = stage.call("press_keys", json!({"keys": ["a"]})).await;
        assert_eq!(reply.text, "Pressed a.");
        Instant::now()
    };
    let (waited, acted) = tokio::join!(waiting, acting);
    assert!(acted < waited);
}

#[tokio::test]
async fn a_batch_waits_between_its_acts_and_stops_where_it_waits_in_vain() {
    let stage = Stage::set();
    let press = json!({"action": "press_keys", "keys": ["a"]});
    let still = json!({"action": "wait_for", "conditions": [{"condition": "stable", "ms": 200}]});
    let reply = stage
        .call("run_actions", json!({"actions": [press, still, press]}))
        .await;
    assert!(!reply.is_error(), "{}", reply.text);
    let lines: Vec<_> = reply.text.lines().collect();
    assert!(
        lines[2].starts_with("2. wait_for: done. The screen has been still for 200 ms, after "),
        "{}",
        reply.text
    );
    assert_eq!(stage.fake.take_events(), ["keys 30", "keys 30"]);

    let change =
        json!({"action": "wait_for", "conditions": [{"condition": "change"}], "timeout": 0.3});
    for screenshot in ["none", "on_error", "end"] {
        let actions = json!([press, change, press]);
        let reply = stage
            .call(
                "run_actions",
                json!({"actions": actions, "screenshot": screenshot}),
            )
            .await;
        assert!(reply.is_error(), "{}", reply.text);
        assert!(
            reply
                .text
                .contains("\n2. wait_for: failed. Nothing held within 0.3 s: `change`: "),
            "{}",
            reply.text
        );
        assert!(
            reply.text.contains("\n3. press_keys: not run."),
            "{}",
            reply.text
        );
        assert_eq!(reply.pictures.len(), 1, "{screenshot}: {}", reply.text);
        assert_eq!(stage.fake.take_events(), ["keys 30"]);
    }

    let bad = json!({"action": "wait_for", "conditions": [{"condition": "stable", "ms": 2000}], "timeout": 1});
    let text = stage
        .refused("run_actions", json!({"actions": [press, bad]}))
        .await;
    assert!(
        text.starts_with(
            "Action 2 is refused, and nothing was done: the screen cannot be still for 2000 ms"
        ),
        "{text}"
    );
    assert_eq!(stage.fake.take_events(), [""; 0]);
}

#[tokio::test]
async fn a_batch_that_waits_is_cancelled_at_once() {
    let stage = Stage::set();
    let step =
        json!({"action": "wait_for", "conditions": [{"condition": "change"}], "timeout": 60});
    let press = json!({"action": "press_keys", "keys": ["a"]});
    let cancel = CancellationToken::new();
    let silent: Progress = Arc::new(|_, _| ());
    let begun = Instant::now();
    let running = stage.call_with(
        cancel.clone(),
        silent,
        "run_actions",
        json!({"actions": [step, press]}),
    );
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        cancel.cancel();
    };
    let (reply, ()) = tokio::join!(running, cancelling);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(
        reply
            .text
            .contains("\n1. wait_for: failed. The call was cancelled"),
        "{}",
        reply.text
    );
    assert_eq!(stage.fake.events(), [""; 0]);
}

#[tokio::test]
async fn a_picture_that_settles_waits_until_two_looks_are_equal() {
    let stage = Stage::set();
    // Moving, moving, then still but for a cursor.
    stage.fake.play(vec![
        white(&[LEFT]),
        white(&[WORD]),
        white(&[]),
        white(&[CURSOR]),
    ]);
    let reply = stage.call("take_screenshot", json!({"settle": 5000})).await;
    assert!(
        reply.text.ends_with("\nThe screen was still."),
        "{}",
        reply.text
    );
    assert_eq!(reply.pictures.len(), 1);
    // Four looks to see it, and one for the picture.
    assert_eq!(stage.fake.looks(), 5);

    stage
        .fake
        .play_again_and_again(vec![white(&[]), white(&[LEFT])]);
    let begun = Instant::now();
    let reply = stage.call("take_screenshot", json!({"settle": 400})).await;
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(
        reply
            .text
            .ends_with("\nThe screen still changed after 400 ms; this is how it looked then."),
        "{}",
        reply.text
    );
    assert_eq!(reply.pictures.len(), 1);

    // Only the region has to be still.
    stage
        .fake
        .play_again_and_again(vec![white(&[]), white(&[LEFT])]);
    let region = json!({"settle": 30000, "region": [500, 0, 1000, 500]});
    let reply = stage.call("take_screenshot", region).await;
    assert!(
        reply.text.ends_with("\nThe screen was still."),
        "{}",
        reply.text
    );
    assert_eq!(stage.fake.looks(), 3);

    let text = stage
        .refused("take_screenshot", json!({"settle": 30001}))
        .await;
    assert!(
        text.starts_with("`settle` is 30001, and must be from 0 to 30000."),
        "{text}"
    );
    let outside = json!({"settle": 100, "region": [0, 0, 1001, 1]});
    let text = stage.refused("take_screenshot", outside).await;
    assert!(
        text.starts_with("The region [0, 0, 1001, 1] is empty or not inside"),
        "{text}"
    );
}

#[tokio::test]
async fn a_resolution_that_changes_while_settling_is_a_change() {
    let stage = Stage::set();
    let small = Scene::Painted {
        width: 640,
        height: 400,
        white: vec![],
    };
    stage.fake.play(vec![white(&[]), small]);
    let reply = stage.call("take_screenshot", json!({"settle": 5000})).await;
    assert!(reply.text.contains(": 640×400 pixels"), "{}", reply.text);
    assert!(
        reply.text.ends_with("\nThe screen was still."),
        "{}",
        reply.text
    );
    assert_eq!(stage.fake.looks(), 4);
}

#[tokio::test]
async fn the_picture_at_the_end_of_a_batch_is_settled() {
    let stage = Stage::set();
    stage
        .fake
        .play(vec![white(&[LEFT]), white(&[WORD]), white(&[])]);
    let press = json!({"action": "press_keys", "keys": ["a"]});
    let batch = json!({"actions": [press], "screenshot": "end"});
    let reply = stage.call("run_actions", batch).await;
    assert!(
        reply.text.ends_with("\nThe screen was still."),
        "{}",
        reply.text
    );
    let size = &reply.pictures[0];
    let picture = image::Picture::decode(size.mime, &size.bytes).unwrap();
    // Nothing of it is white any more.
    assert!(
        picture
            .rgb()
            .as_chunks::<3>()
            .0
            .iter()
            .all(|it| *it != [255; 3])
    );
}

#[tokio::test]
async fn a_screen_without_a_surface_is_waited_for_shortly_and_once() {
    const NOTE: &str = "This is QEMU's placeholder: the guest shows nothing on head 0 (yet).";
    let stage = Stage::set();
    stage.fake.play(vec![
        Scene::Placeholder,
        Scene::Placeholder,
        Scene::Placeholder,
        white(&[]),
    ]);
    let reply = stage.call("take_screenshot", json!({})).await;
    assert!(reply.text.contains(": 1000×500 pixels"), "{}", reply.text);
    assert!(!reply.text.contains("placeholder"), "{}", reply.text);
    assert_eq!(stage.fake.looks(), 5);

    stage.fake.play(vec![Scene::Placeholder]);
    let begun = Instant::now();
    let reply = stage.call("take_screenshot", json!({})).await;
    let took = begun.elapsed();
    assert!(reply.text.ends_with(NOTE), "{}", reply.text);
    assert!(
        (Duration::from_millis(1400)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    // What shows nothing for long is not waited for each time,
    stage.fake.play(vec![Scene::Placeholder]);
    let reply = stage.call("take_screenshot", json!({})).await;
    assert!(reply.text.ends_with(NOTE), "{}", reply.text);
    assert_eq!(stage.fake.looks(), 1);
    // until the VM is started anew.
    stage.fake.restart();
    stage
        .fake
        .play(vec![Scene::Placeholder, Scene::Placeholder, white(&[])]);
    let reply = stage.call("take_screenshot", json!({})).await;
    assert!(reply.text.contains(": 1000×500 pixels"), "{}", reply.text);
}

#[tokio::test]
async fn an_unchanged_picture_is_told_in_one_line() {
    let stage = Stage::set();
    let look = |more: Value| {
        let mut arguments = json!({"if_changed": true});
        for (name, value) in more.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        stage.call("take_screenshot", arguments)
    };
    let shown = |reply: &virtpilot::tools::Reply| {
        assert_eq!(reply.pictures.len(), 1, "{}", reply.text);
        reply.text.split(' ').nth(1).unwrap().to_owned()
    };
    // Nothing was shown yet.
    let first = shown(&look(json!({})).await);
    let again = look(json!({})).await;
    assert_eq!(
        again.text,
        format!(
            "Unchanged: this picture of demo would be exactly that of screenshot {first}, so it is \
             not sent again."
        )
    );
    assert!(again.pictures.is_empty() && !again.is_error());
    // Another part or format is another picture, and what is not asked for so comes in any case.
    let part = json!({"region": [0, 0, 100, 100]});
    let of_part = shown(&look(part.clone()).await);
    shown(&look(json!({"format": "jpeg"})).await);
    let third = shown(&stage.call("take_screenshot", json!({})).await);
    assert_ne!(third, first);
    let again = look(json!({"settle": 1000})).await;
    assert!(
        again.text.contains(&format!("screenshot {third}, "))
            && again.text.ends_with("\nThe screen was still."),
        "{}",
        again.text
    );
    // As little as a cursor is a change, where it is in the picture.
    stage.fake.play(vec![white(&[CURSOR])]);
    shown(&look(json!({})).await);
    let again = look(part.clone()).await;
    assert!(again.text.contains(&of_part), "{}", again.text);
    stage.fake.play(vec![white(&[[0, 0, 1, 1]])]);
    shown(&look(part).await);
    // In a batch as well.
    let step = json!({"action": "take_screenshot", "if_changed": true});
    let reply = stage
        .call("run_actions", json!({"actions": [step, step]}))
        .await;
    assert_eq!(reply.pictures.len(), 1, "{}", reply.text);
    assert!(reply.text.contains("\nUnchanged: "), "{}", reply.text);
}

#[tokio::test]
async fn a_forwarded_port_counts_where_the_connection_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let stage = Stage::set();
    stage.fake.set_forwards(vec![Forward {
        host: place.ip(),
        host_port: place.port(),
        guest_port: 8080,
    }]);
    let port = json!([{"condition": "port", "port": 8080}]);
    // Connections are taken and kept.
    assert_eq!(
        stage.held(port.clone()).await,
        format!("Port 8080 of the guest takes connections, as seen by the host forward at {place}")
    );
    // As QEMU does where the guest refuses: it takes them and lets go.
    let refuser = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let is_last = stream.peer_addr().is_err();
            drop(stream);
            if is_last {
                return;
            }
        }
    });
    let reply = stage.in_vain(port, 3.0).await;
    assert!(
        reply
            .text
            .contains(&format!("by the host forward at {place}: ")),
        "{}",
        reply.text
    );
    drop(refuser);
    let other = json!([{"condition": "port", "port": 8081}]);
    let reply = stage.in_vain(other, 1.0).await;
    assert!(
        reply
            .text
            .contains("`port`: through SSH: the address of the VM `demo` was not found"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn ssh_and_ports_behind_it_are_waited_for() {
    let server = Sshd::start();
    let port = server.port().to_string();
    let user = sshd::whoami();
    let identity = server.identity();
    let stage = Stage::with(
        &[
            ("VM_HOST", "127.0.0.1"),
            ("VM_PORT", &port),
            ("VM_USER", &user),
            ("VM_IDENTITY", identity.to_str().unwrap()),
        ],
        "",
    );
    assert_eq!(
        stage.held(json!([{"condition": "ssh"}])).await,
        format!("The guest's SSH server takes {user} at 127.0.0.1:{port}")
    );
    // 127.0.0.1 is the host's own here, so that the server behind it is asked.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    assert_eq!(
        stage
            .held(json!([{"condition": "port", "port": open}]))
            .await,
        format!(
            "Port {open} of the guest takes connections, as seen by its SSH server, from inside"
        )
    );
    drop(listener);
    let reply = stage
        .in_vain(json!([{"condition": "port", "port": open}]), 1.0)
        .await;
    assert!(
        reply
            .text
            .contains("`port`: the guest's SSH server cannot connect to it."),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn an_ssh_server_that_is_not_there_yet_is_waited_for_and_told() {
    let stage = Stage::with(&[("VM_HOST", "127.0.0.1"), ("VM_PORT", "9")], "");
    let reply = stage.in_vain(json!([{"condition": "ssh"}]), 1.5).await;
    assert!(
        reply
            .text
            .starts_with("Nothing held within 1.5 s: `ssh`: cannot connect to 127.0.0.1"),
        "{}",
        reply.text
    );
}

/// Waits until the serial console is read.
async fn console_opened(fake: &Fake) {
    while !fake.has_open_console() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Granted `console` besides what is usual.
const LISTENS: &str = "allow = ['view', 'input', 'console']";

#[tokio::test]
async fn what_the_guest_writes_to_its_console_ends_a_wait() {
    let stage = Stage::with(&[], LISTENS);
    stage.fake.write_console("demo login: (before the wait)\n");
    let fake = Arc::clone(&stage.fake);
    let writing = tokio::spawn(async move {
        console_opened(&fake).await;
        for part in ["[\u{1b}[32m  O", "K \u{1b}[0m] Started\r\ndemo lo", "gin: "] {
            fake.write_console(part);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(
        stage
            .held(json!([
                {"condition": "console", "pattern": "never"},
                {"condition": "console", "pattern": "^\\w+ login: $"},
            ]))
            .await,
        "The guest wrote \"demo login:\" to its serial console"
    );
    writing.await.unwrap();

    // It is closed when the wait has ended, but not before its answer.
    while stage.fake.has_open_console() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let fake = Arc::clone(&stage.fake);
    let writing = tokio::spawn(async move {
        console_opened(&fake).await;
        fake.write_console("Booting\n\n");
    });
    let reply = stage
        .in_vain(json!([{"condition": "console", "pattern": "login:"}]), 1.5)
        .await;
    writing.await.unwrap();
    let told = "Nothing held within 1.5 s: `console`: the guest last wrote \"Booting\".";
    assert!(reply.text.starts_with(told), "{}", reply.text);
    assert_eq!(reply.pictures.len(), 1);
}

/// libvirt is asked to close a console, and it may hang. One thread serves all calls here.
#[tokio::test]
async fn a_console_that_is_slow_to_close_delays_no_other_call() {
    let stage = Stage::with(&[], LISTENS);
    stage.fake.write_console("");
    stage.fake.set_closing(Duration::from_secs(6));
    let pattern = json!([{"condition": "console", "pattern": "login:"}]);
    let begun = Instant::now();
    let reply = stage.in_vain(pattern.clone(), 0.3).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{}", reply.text);
    // One that comes next waits until it is closed, and is not refused.
    stage.fake.set_closing(Duration::ZERO);
    let reply = stage.in_vain(pattern, 8.0).await;
    let told = "Nothing held within 8 s: `console`";
    assert!(reply.text.starts_with(told), "{}", reply.text);
}

#[tokio::test]
async fn a_console_that_is_not_there_or_not_granted_or_a_bad_pattern_is_told_at_once() {
    let stage = Stage::with(&[], LISTENS);
    let wait = |pattern: &str| json!({"conditions": [{"condition": "console", "pattern": pattern}], "timeout": 20});
    let cases = [
        ("x", "The VM `demo` has no serial console.\nNext: Add "),
        (
            "",
            "`conditions[0]`: the parameters do not fit: the pattern is empty, and would find anything.",
        ),
        (
            "a(",
            "`conditions[0]`: the parameters do not fit: the pattern is no regular expression: ",
        ),
    ];
    for (pattern, told) in cases {
        let text = stage.refused("wait_for", wait(pattern)).await;
        assert!(text.starts_with(told), "{pattern}: {text}");
    }
    let stage = Stage::set();
    stage.fake.write_console("");
    let text = stage.refused("wait_for", wait("x")).await;
    assert!(text.contains("`console`"), "{text}");
}

#[tokio::test]
async fn a_console_waits_for_a_vm_that_does_not_run_where_its_state_is_waited_for_too() {
    let stage = Stage::with(&[], LISTENS);
    stage.fake.write_console("");
    stage.fake.set_domain(DomainState::Shutoff);
    let text = stage
        .refused(
            "wait_for",
            json!({"conditions": [{"condition": "console", "pattern": "up"}], "timeout": 20}),
        )
        .await;
    assert!(text.starts_with("The VM `demo` is shut off."), "{text}");
    let fake = Arc::clone(&stage.fake);
    let starting = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fake.set_domain(DomainState::Running);
        console_opened(&fake).await;
        fake.write_console("up\n");
    });
    let conditions = json!([
        {"condition": "console", "pattern": "^up$"},
        {"condition": "state", "state": "paused"},
    ]);
    assert_eq!(
        stage.held(conditions).await,
        "The guest wrote \"up\" to its serial console"
    );
    starting.await.unwrap();
}

#[tokio::test]
async fn a_change_since_the_last_picture_that_was_shown_ends_a_wait_at_once() {
    let stage = Stage::set();
    let conditions = || json!([{"condition": "change"}]);
    stage.fake.play(vec![white(&[])]);
    assert!(!stage.call("take_screenshot", json!({})).await.is_error());
    // What a click between the two calls did.
    stage.fake.play(vec![white(&[LEFT])]);
    let half = "The screen changed, by 50 % of its pixels";
    assert_eq!(stage.held(conditions()).await, half);
    assert_eq!(stage.fake.looks(), 1);
    // Nothing was shown since: it is a change still. A picture of a part is one of the screen, too.
    assert_eq!(stage.held(conditions()).await, half);
    let part = json!({"region": [0, 0, 10, 10]});
    assert!(!stage.call("take_screenshot", part).await.is_error());
    let reply = stage.in_vain(conditions(), 0.5).await;
    assert_eq!(reply.pictures.len(), 1);
    // A VM that was started anew is another screen, with which nothing was compared yet.
    stage.fake.restart();
    assert!(
        !stage
            .call("press_keys", json!({"keys": ["a"]}))
            .await
            .is_error()
    );
    stage.fake.play(vec![white(&[])]);
    stage.in_vain(conditions(), 0.5).await;
}

#[tokio::test]
async fn in_a_batch_a_change_is_one_since_before_the_actions_just_done() {
    let stage = Stage::set();
    let batch = json!({"actions": [
        {"action": "press_keys", "keys": ["a"]},
        {"action": "wait", "seconds": 0.1},
        {"action": "press_keys", "keys": ["b"]},
        {"action": "wait_for", "conditions": [{"condition": "change"}], "timeout": 20},
    ]});
    stage.fake.play(vec![white(&[])]);
    // All of the change is there before the wait begins.
    stage.fake.react_with(white(&[LEFT]));
    let reply = stage.call("run_actions", batch.clone()).await;
    let held = "4. wait_for: done. The screen changed, by 50 % of its pixels, after ";
    assert!(reply.text.contains(held), "{}", reply.text);
    // The next one begins with the screen as it is then.
    let mut batch = batch;
    batch["actions"][3]["timeout"] = json!(0.5);
    let reply = stage.call("run_actions", batch).await;
    let failed = "4. wait_for: failed. Nothing held within 0.5 s: `change`: at most 0 %";
    assert!(reply.text.contains(failed), "{}", reply.text);
}

#[tokio::test]
async fn a_wait_in_a_batch_and_a_long_settle_tell_their_progress() {
    let stage = Stage::set();
    stage
        .fake
        .play_again_and_again(vec![white(&[]), white(&[LEFT])]);
    let told: Arc<std::sync::Mutex<Vec<(u64, u64)>>> = Arc::default();
    let progress = || {
        let told = Arc::clone(&told);
        Arc::new(move |done, of| told.lock().unwrap().push((done, of))) as Progress
    };
    let batch = json!({"actions": [
        {"action": "wait", "seconds": 0},
        {"action": "wait_for", "conditions": [{"condition": "stable"}], "timeout": 2.5},
    ]});
    let token = CancellationToken::new;
    stage
        .call_with(token(), progress(), "run_actions", batch)
        .await;
    let batch = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(batch, [(0, 2000), (1000, 2000), (1500, 2000)]);
    let arguments = json!({"settle": 2500});
    stage
        .call_with(token(), progress(), "take_screenshot", arguments)
        .await;
    let settled = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(settled, [(1, 2), (2, 2)]);
}
