//! How fast and how surely what is typed and clicked arrives in the demo guest:
//! `cargo bench --bench hands [-- --write]`.
//!
//! Texts of 10,000 characters go into a terminal of the guest, over MCP, on each kind of keyboard, while the
//! guest has nothing else to do and while both its processors are busy, and are compared byte by byte with
//! what arrived. So does what the program xdotool types, started over SSH as the Python server did.

#[path = "../mcp/docs.rs"]
mod docs;
#[path = "../mcp/floor.rs"]
#[allow(dead_code, reason = "the other bench makes more raw calls")]
mod floor;
#[path = "../../tests/support/guest.rs"]
mod guest;
#[path = "../mcp/machine.rs"]
#[allow(dead_code, reason = "the other bench asks more")]
mod machine;
#[path = "../../tests/support/mcp.rs"]
mod mcp;
#[path = "../mcp/run.rs"]
mod run;

use std::{
    fmt::Write as _,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use guest::{Guest, HEIGHT, Keyboard, WIDTH};
use run::tell;
use serde_json::json;
use virtpilot::keyboard::{Layout, Typed};

/// So long is a text, in lines of 99 characters, and so many are typed.
const LENGTH: usize = 10_000;
const LINE: usize = 99;
const RUNS: usize = 5;
/// Clients give up after a minute or more, so that a text is typed in several calls.
const CALL: usize = 2_000;
/// Slow keyboards and xdotool get less.
const SHORT_LENGTH: usize = 1_000;

const CLICKS: usize = 200;

fn main() -> ExitCode {
    run::bench(
        "hands",
        "hands",
        || Ok(()),
        |vm| format!("{}\n\n{}", machine::describe(&vm), tables()),
    )
}

fn tables() -> String {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let mut text = String::from(
        "| typed into an X terminal of the guest | guest | runs | characters each | characters/s | lost or wrong |\n\
         |---|---|---|---|---|---|\n",
    );
    let keyboards = [
        ("PS/2", None, LENGTH),
        ("USB", Some(Keyboard::USB), SHORT_LENGTH),
        ("virtio", Some(Keyboard::VIRTIO), SHORT_LENGTH),
    ];
    for (keyboard, more, length) in keyboards {
        let attached = more.map(|kind| Keyboard::attach(&mut guest, kind));
        for is_busy in [false, true] {
            if is_busy {
                guest.start("busy", &["sh", "-c", guest::BUSY]);
            }
            let name = format!("`type_text`, {keyboard} keyboard");
            let by_mcp = |_: &mut Guest, text: &str| {
                for part in parts(text) {
                    client.done("type_text", json!({"text": part}));
                }
            };
            text.push_str(&row(&name, is_busy, RUNS, length, &mut guest, by_mcp));
            if keyboard == "PS/2" {
                let name = "`virDomainSendKey` alone, each key held for 2 ms";
                text.push_str(&row(name, is_busy, 1, SHORT_LENGTH, &mut guest, bare));
                let name = "`xdotool type` over SSH, in the guest";
                text.push_str(&row(name, is_busy, 1, SHORT_LENGTH, &mut guest, xdotool));
            }
            if is_busy {
                guest.end("busy");
            }
        }
        drop(attached);
    }
    let _ = write!(text, "\n{}", clicks(&mut guest));
    text
}

/// One kind of typing, in one state of the guest.
fn row(
    name: &str,
    is_busy: bool,
    runs: usize,
    length: usize,
    guest: &mut Guest,
    mut type_it: impl FnMut(&mut Guest, &str),
) -> String {
    let state = if is_busy {
        "both processors busy"
    } else {
        "idle"
    };
    let mut rates = vec![];
    let mut wrong = 0;
    for run in 0..runs {
        tell(&format!("{name}, {state}, run {} of {runs}", run + 1));
        guest.open_typing_window();
        let text = mixed(length, run);
        let begun = Instant::now();
        type_it(guest, &text);
        let seconds = begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "texts are short")]
        rates.push(length as f64 / seconds);
        wrong += differences(&text, &arrived(guest, length));
        guest.end("typing");
    }
    rates.sort_by(f64::total_cmp);
    let (first, middle, last) = (rates[0], rates[runs / 2], rates[runs - 1]);
    let row = format!(
        "| {name} | {state} | {runs} | {length} | {middle:.0} ({first:.0} to {last:.0}) | {wrong} |\n"
    );
    tell(row.trim_end());
    row
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len())
        .step_by(CALL)
        .map(|at| &text[at..text.len().min(at + CALL)])
}

/// As barely as libvirt allows, a call for each character.
fn bare(guest: &mut Guest, text: &str) {
    let layout = Layout::compile("us").expect("the layout is installed");
    let typed = layout.type_text(text).expect("it has these characters");
    let chords: Vec<_> = typed.iter().flat_map(Typed::chords).cloned().collect();
    floor::Vm::find(&guest.name).type_text(&chords);
}

fn xdotool(guest: &mut Guest, text: &str) {
    for part in parts(text) {
        // A shell line that holds it is as the Python server had it, and is limited in length.
        let quoted = part.replace('\'', r"'\''");
        guest.run(&format!("xdotool type --delay 12 -- '{quoted}'"));
    }
}

/// Printable characters of all kinds, half of which need Shift, in no order and the same each time.
fn mixed(length: usize, seed: usize) -> String {
    let mut state = 0x9E37_79B9_u32 ^ u32::try_from(seed).expect("few runs") ^ 0x5bd1;
    let mut character = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b' ' + u8::try_from(state % 95).expect("less than 95"))
    };
    let each = |at: usize| {
        if at % (LINE + 1) == LINE {
            '\n'
        } else {
            character()
        }
    };
    (0..length).map(each).collect()
}

/// What is there once nothing more comes: a slow terminal takes its time, and what is lost never comes.
fn arrived(guest: &mut Guest, length: usize) -> String {
    let mut before = usize::MAX;
    loop {
        let typed = guest.typed();
        if typed.len() >= length || typed.len() == before {
            return typed;
        }
        before = typed.len();
        thread::sleep(Duration::from_secs(3));
    }
}

/// How many characters are missing, or are not those that were typed.
fn differences(typed: &str, arrived: &str) -> usize {
    let same = typed.bytes().zip(arrived.bytes());
    let first = same.take_while(|(typed, arrived)| typed == arrived).count();
    if typed == arrived {
        return 0;
    }
    let kept = typed.bytes().rev().zip(arrived.bytes().rev());
    let last = kept.take_while(|(typed, arrived)| typed == arrived).count();
    typed
        .len()
        .abs_diff(arrived.len())
        .max(typed.len().saturating_sub(first + last))
        .max(1)
}

/// Clicks at places all over the screen, each told by the guest's X server.
fn clicks(guest: &mut Guest) -> String {
    let mut client = guest.client();
    let mut text = format!(
        "| {CLICKS} clicks at random pixels | arrived | with the pointer on that very pixel | one takes |\n\
         |---|---|---|---|\n"
    );
    client.done("take_screenshot", json!({}));
    let by_mcp = |_: &mut Guest, (x, y)| {
        client.done("click", json!({"x": x, "y": y, "button": "middle"}));
    };
    text.push_str(&row_of_clicks("`click`", guest, by_mcp));
    let by_xdotool = |guest: &mut Guest, (x, y)| {
        guest.run(&format!("xdotool mousemove {x} {y} click 2"));
    };
    text.push_str(&row_of_clicks(
        "`xdotool click` over SSH, in the guest",
        guest,
        by_xdotool,
    ));
    text
}

fn row_of_clicks(
    name: &str,
    guest: &mut Guest,
    mut click: impl FnMut(&mut Guest, (i32, i32)),
) -> String {
    tell(&format!("clicks at random pixels: {name}"));
    guest.start("clicks", &["xinput", "test-xi2", "--root"]);
    guest.until("the watcher listens", |guest| {
        (!guest.lines("clicks").is_empty()).then_some(())
    });
    let mut state = 0x1234_5678_u32;
    let mut below = |limit: i32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        i32::try_from(state % limit.unsigned_abs()).expect("it is below an i32")
    };
    let mut hits = 0;
    let mut times = vec![];
    for _ in 0..CLICKS {
        let place = (below(WIDTH), below(HEIGHT));
        let begun = Instant::now();
        click(guest, place);
        times.push(begun.elapsed());
        hits += usize::from(guest.pointer() == place);
    }
    let presses = guest.until("all clicks were told", |guest| {
        let lines = guest.lines("clicks");
        let presses = lines
            .iter()
            .filter(|it| it.contains("(RawButtonPress)"))
            .count();
        (presses >= CLICKS).then_some(presses)
    });
    guest.end("clicks");
    times.sort();
    let middle = times[CLICKS / 2].as_secs_f64() * 1000.0;
    let row = format!("| {name} | {presses} | {hits} | {middle:.0} ms |\n");
    tell(row.trim_end());
    row
}
