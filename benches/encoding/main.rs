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
mod screens;
mod ways;

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use screens::Screen;
use ways::WAYS;

/// Each way so often; its median counts.
const ROUNDS: usize = 15;

fn main() -> ExitCode {
    let mut writes = false;
    let mut is_bench = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--write" => writes = true,
            other => return refuse(&format!("no such option: {other}; there is `--write`")),
        }
    }
    // `cargo test --all-targets` starts this program too.
    if !is_bench {
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        return refuse("a debug build tells nothing: run `cargo bench --bench encoding`");
    }
    if let Err(reason) = machine::demo_guest_is_there() {
        return refuse(&format!("{reason}: {}", guest::HINT));
    }
    if let Err(reason) = screens::programs_are_there() {
        return refuse(&reason);
    }
    let settings = guest::settings();
    let name = settings.iter().find(|(name, _)| name == "VM_NAME");
    let (_, name) = name.expect("demo.env names the VM");
    let machine = machine::describe(&floor::Vm::find(name));
    let sizes = screens::all(tell);
    let mut text = format!("{machine}\n");
    for screens in &sizes {
        let _ = write!(text, "\n{}", table(screens));
    }
    io::stdout()
        .write_all(text.as_bytes())
        .expect("stdout takes the tables");
    if writes {
        docs::put("encoding", &text);
        tell("docs/benchmarks.md holds these tables now");
    }
    ExitCode::SUCCESS
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

fn refuse(reason: &str) -> ExitCode {
    tell(reason);
    ExitCode::FAILURE
}

/// How far it has come, for whoever waits.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "benches: {line}");
}
