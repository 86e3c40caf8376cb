//! How long pictures of screens take to be written, and how large they become, in virtpilot's way and in
//! others.
//!
//! `cargo bench --bench encoding` prints tables; with `-- --write` it also puts them into
//! `docs/benchmarks.md`. The screens are got anew each time, and lie in `target/screens` for looking at.

// What fails here ends the run.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../mcp/docs.rs"]
mod docs;
#[path = "../mcp/floor.rs"]
#[allow(
    dead_code,
    reason = "what describes the machine asks libvirt through it"
)]
mod floor;
#[path = "../../tests/support/guest.rs"]
mod guest;
#[path = "../mcp/machine.rs"]
mod machine;
#[path = "../../tests/support/mcp.rs"]
mod mcp;
#[path = "../mcp/run.rs"]
mod run;
mod screens;
mod ways;

use std::{
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use run::tell;
use screens::Screen;
use ways::WAYS;

/// Each way so often; its median counts.
const ROUNDS: usize = 15;

fn main() -> ExitCode {
    let needs = screens::programs_are_there;
    run::bench("encoding", "encoding", needs, |vm| {
        let mut text = format!("{}\n", machine::describe(&vm));
        for screens in &screens::all(tell) {
            let _ = write!(text, "\n{}", table(screens));
        }
        text
    })
}

/// One row for each way, one column for each screen.
fn table(screens: &[Screen]) -> String {
    let size = screens[0].picture.size();
    tell(&format!("measuring {size}"));
    let mut rows: Vec<_> = WAYS.iter().map(|way| format!("| {} |", way.name)).collect();
    let mut reading = "| reading libvirt's PNG |".to_owned();
    for screen in screens {
        for (row, cell) in rows.iter_mut().zip(cells(screen)) {
            let _ = write!(row, " {cell} |");
        }
        let (time, _) = median(&mut || Some(screen.read().rgb().len())).expect("it is read");
        let kilobytes = screen.png.len().div_ceil(1000);
        let _ = write!(reading, " {time:.1} ms, {kilobytes} kB |");
    }
    rows.push(reading);
    let names: Vec<_> = screens.iter().map(|screen| screen.name).collect();
    format!(
        "| {size} | {} |\n|---|{}\n{}\n",
        names.join(" | "),
        "---|".repeat(names.len()),
        rows.join("\n")
    )
}

/// What each way makes of a screen.
fn cells(screen: &Screen) -> Vec<String> {
    let written = screen.picture.to_png().expect("it can be written");
    let again = virtpilot::image::Picture::decode("image/png", written).expect("it can be read");
    assert!(
        again == screen.picture,
        "{}: other pixels came back",
        screen.name
    );
    WAYS.iter()
        .map(|way| {
            let measured = median(&mut || (way.write)(&screen.picture).map(|bytes| bytes.len()));
            measured.map_or("–".to_owned(), |(time, bytes)| {
                format!("{time:.1} ms, {} kB", bytes.div_ceil(1000))
            })
        })
        .collect()
}

/// The median in milliseconds, and what came out. `None` where nothing did.
fn median(act: &mut dyn FnMut() -> Option<usize>) -> Option<(f64, usize)> {
    let mut length = act()?;
    let mut times = [Duration::ZERO; ROUNDS];
    for time in &mut times {
        let begun = Instant::now();
        length = act()?;
        *time = begun.elapsed();
    }
    times.sort_unstable();
    Some((times[ROUNDS / 2].as_secs_f64() * 1000.0, length))
}
