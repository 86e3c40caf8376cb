//! How long a picture is looked for on a screen of 1920×1080, beside OpenCV's `matchTemplate`.
//!
//! `cargo bench --bench finding` prints a table; with `-- --write` it also puts it into
//! `docs/benchmarks.md`.

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
#[path = "../encoding/screens.rs"]
#[allow(dead_code, reason = "the other bench reads them anew")]
mod screens;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use run::tell;
use virtpilot::{
    image::{Hit, Picture, Sought},
    model::Region,
};

/// Each search so often; its median counts.
const ROUNDS: usize = 9;

/// How much may differ where a wait does not say.
const TOLERANCE: f64 = 0.1;

/// The parts that are looked for: where terminals, the page's text and the photograph's ladybird lie.
const PARTS: [[i32; 4]; 4] = [
    [790, 520, 806, 536],
    [790, 520, 854, 552],
    [790, 520, 1190, 820],
    [480, 270, 1440, 810],
];

fn main() -> ExitCode {
    let python = guest::cache().join("opencv/bin/python");
    let needs = || {
        if !python.is_file() {
            let hint = "OpenCV is not there: python3 -m venv ~/.cache/virtpilot/opencv && \
                        ~/.cache/virtpilot/opencv/bin/pip install opencv-python-headless";
            return Err(hint.to_owned());
        }
        screens::programs_are_there()
    };
    run::bench("finding", "finding", needs, |vm| {
        let machine = machine::describe(&vm);
        screens::all(tell);
        format!("{machine}\n\n{}", table(&python))
    })
}

/// Parts of each screen, looked for on that screen and on the next one, which does not have them.
fn table(python: &Path) -> String {
    let mut text =
        "| on a screen of 1920×1080 | part | virtpilot | found | OpenCV |\n|---|---|---|---|---|\n"
            .to_owned();
    let names = ["desktop", "page", "photograph", "both"];
    for (at, name) in names.into_iter().enumerate() {
        let screen = read(name);
        for from in [name, names[(at + 1) % names.len()]] {
            let source = read(from);
            for part in PARTS {
                tell(&format!("{name}: {part:?} of {from}"));
                let [x0, y0, x1, y1] = part;
                let size = format!("{}×{}", x1 - x0, y1 - y0);
                let region = Region::from(part);
                let Some(sought) = Sought::new(source.crop(region)) else {
                    continue;
                };
                let (time, hit) = median(|| {
                    sought
                        .find(&screen, Region::whole(screen.size()), TOLERANCE)
                        .expect("it fits")
                });
                let found = if hit.difference <= TOLERANCE {
                    "yes"
                } else {
                    "no"
                };
                let peer = opencv(python, name, part, from);
                let _ = writeln!(
                    text,
                    "| {name} | {size} of {from} | {time:.0} ms | {found} | {peer} ms |"
                );
            }
        }
    }
    text
}

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screens");
    folder.join(format!("{name}-1920x1080.png"))
}

fn read(name: &str) -> Picture {
    let bytes = std::fs::read(file(name)).expect("the screen was saved");
    Picture::read(&bytes).expect("a PNG")
}

/// The median in milliseconds, and what was found.
fn median(find: impl Fn() -> Hit) -> (f64, Hit) {
    let mut hit = find();
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            hit = find();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[ROUNDS / 2].as_secs_f64() * 1000.0, hit)
}

fn opencv(python: &Path, screen: &str, part: [i32; 4], from: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/finding/opencv.py");
    let output = Command::new(python)
        .arg(script)
        .arg(file(screen))
        .args(part.map(|it| it.to_string()))
        .arg(file(from))
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
