//! How well and how fast screens are read, beside Tesseract as it comes.
//!
//! `cargo bench --bench reading` prints a table; with `-- --write` it also puts it into `docs/benchmarks.md`. The
//! screens are got anew each time, and lie in `target/reading` for looking at.

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

use std::{
    collections::HashMap,
    fmt::Write as _,
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, Instant},
};

use run::tell;
use screens::Screen;
use virtpilot::{model::OcrLanguage, ocr::Ocr};

/// Each screen so often; the median of the times counts.
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let needs = || Ok(());
    run::bench("reading", "reading", needs, |vm| {
        let machine = machine::describe(&vm);
        format!("{machine}\n\n{}", table(&screens::all(tell)))
    })
}

/// How much of the words that are there was found, how much of what was found is there, and how long it
/// took.
struct Score {
    found: usize,
    said: usize,
    seconds: f64,
}

fn table(screens: &[Screen]) -> String {
    let mut text =
        "| screen | words | **virtpilot** | `tesseract --psm 3` | `tesseract --psm 11` |\n\
                    |---|---|---|---|---|\n"
            .to_owned();
    let mut sums = [0, 0, 0];
    for screen in screens {
        tell(&screen.name);
        let scores = [ours(screen), theirs(screen, "3"), theirs(screen, "11")];
        let words = screen.words.len();
        let _ = write!(text, "| {} | {words} |", screen.name);
        for (sum, score) in sums.iter_mut().zip(&scores) {
            *sum += score.found;
            let (recall, precision) = (share(score.found, words), share(score.found, score.said));
            let _ = write!(text, " {recall} ({precision}), {:.2} s |", score.seconds);
        }
        text.push('\n');
    }
    let words = screens.iter().map(|screen| screen.words.len()).sum();
    let _ = write!(text, "| all | {words} |");
    for sum in sums {
        let _ = write!(text, " {} |", share(sum, words));
    }
    text.push('\n');
    text
}

fn share(part: usize, all: usize) -> String {
    let (part, all) = (u32::try_from(part), u32::try_from(all.max(1)));
    let percent = 100.0 * f64::from(part.expect("few words")) / f64::from(all.expect("few words"));
    format!("{percent:.1} %")
}

fn ours(screen: &Screen) -> Score {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ocr = Ocr::new(OcrLanguage::default());
    score(screen, || {
        let read = ocr.read(Arc::clone(&screen.picture), None);
        let past = runtime.block_on(read).expect("it is read");
        let lines = past.reading().lines.iter();
        lines
            .map(|line| line.text.clone())
            .collect::<Vec<_>>()
            .join("\n")
    })
}

fn theirs(screen: &Screen, mode: &str) -> Score {
    score(screen, || {
        let read = Command::new("tesseract")
            .args([&screen.file, "-", "--psm", mode])
            .output()
            .expect("tesseract starts");
        String::from_utf8_lossy(&read.stdout).into_owned()
    })
}

fn score(screen: &Screen, read: impl Fn() -> String) -> Score {
    let mut times = [Duration::ZERO; ROUNDS];
    let mut text = String::new();
    for time in &mut times {
        let begun = Instant::now();
        text = read();
        *time = begun.elapsed();
    }
    times.sort_unstable();
    let mut wanted: HashMap<&str, usize> = HashMap::new();
    for word in &screen.words {
        *wanted.entry(word).or_default() += 1;
    }
    let mut missing = wanted.clone();
    for word in text.split_whitespace() {
        if let Some(count) = missing.get_mut(word) {
            *count = count.saturating_sub(1);
        }
    }
    let missed: usize = missing.values().sum();
    Score {
        found: screen.words.len() - missed,
        said: text.split_whitespace().count(),
        seconds: times[ROUNDS / 2].as_secs_f64(),
    }
}
