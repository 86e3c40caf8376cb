//! How fast text screens are read by their cells, and other screens are told from them.
//!
//! `cargo bench --bench consoles` prints a table; with `-- --write` it also puts it into `docs/benchmarks.md`. That
//! they are read right is for the tests: `tests/guest/reading.rs` and `tests/firmware.rs` compare every cell.

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

use std::{
    fmt::Write as _,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use guest::Guest;
use run::tell;
use serde_json::json;
use virtpilot::{
    cells::{self, CellScreen},
    fonts::HostFonts,
    image::Picture,
    model::{Grid, OcrLanguage},
    ocr::Ocr,
};

/// Each reading so often; the median counts, the range is told.
const ROUNDS: usize = 101;
/// OCR takes a second.
const OCR_ROUNDS: usize = 3;

/// A virtual console that has no login.
const NUMBER: u32 = 9;

const FONTS: [&str; 4] = [
    "Uni2-Fixed16",
    "Uni2-TerminusBold16",
    "Uni2-VGA8",
    "Uni2-Terminus28x14",
];

fn main() -> ExitCode {
    let needs = || Ok(());
    run::bench("consoles", "consoles", needs, |vm| {
        format!("{}\n\n{}", machine::describe(&vm), table())
    })
}

fn table() -> String {
    let fonts = HostFonts::new("/nonexistent");
    let begun = Instant::now();
    let fonts = fonts.get();
    let loaded = begun.elapsed();
    let mut text = "| screen | characters | font known | font unknown | by OCR instead |\n\
                    |---|---|---|---|---|\n"
        .to_owned();
    for (name, picture) in screens() {
        tell(&name);
        let screen = cells::read(&picture, fonts, None);
        let ocr = recognise(&picture);
        let anew = times(ROUNDS, || drop(cells::read(&picture, fonts, None)));
        let _ = match &screen {
            Some(screen) => {
                let CellScreen { grid, .. } = screen;
                let known = times(ROUNDS, || drop(cells::read(&picture, fonts, Some(grid))));
                let Grid { columns, rows, .. } = grid;
                let read = screen.read();
                writeln!(
                    text,
                    "| {name}, {columns}×{rows} | {read} | {known} | {anew} | {ocr} |"
                )
            }
            None => writeln!(text, "| {name}: no text screen | | | {anew} | {ocr} |"),
        };
    }
    let _ = writeln!(
        text,
        "\nLoading all {} fonts, once in the life of a server: {} ms.",
        fonts.all().len(),
        loaded.as_millis()
    );
    text
}

/// Consoles of the demo guest in several fonts, and its desktop.
fn screens() -> Vec<(String, Picture)> {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let mut look = || {
        let still = json!({"settle": 5000, "pointer": false});
        let reply = client.done("take_screenshot", still);
        Picture::decode("image/png", reply.pictures[0].1.clone()).unwrap()
    };
    let mut screens = vec![("the desktop".to_owned(), look())];
    let console = Console(&mut guest);
    console.0.run(&format!("chvt {NUMBER}"));
    for font in FONTS {
        let fill = "TERM=linux ls --color=always -l /usr/bin; cat /etc/services | head -n 20";
        console.0.run(&format!(
            "setfont -C /dev/tty{NUMBER} {font}; (printf '\\033c'; {fill}; printf '\\033[?25l') > /dev/tty{NUMBER}"
        ));
        screens.push((format!("console in {font}"), look()));
    }
    drop(console);
    screens
}

/// The desktop and the console's font come back, however this ends.
struct Console<'a>(&'a mut Guest);

impl Drop for Console<'_> {
    fn drop(&mut self) {
        self.0.try_run(&format!(
            "setfont -C /dev/tty{NUMBER} Uni2-Fixed16; printf '\\033c' > /dev/tty{NUMBER}; chvt 7"
        ));
    }
}

fn recognise(picture: &Picture) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ocr = Ocr::new(OcrLanguage::default());
    let picture = Arc::new(picture.clone());
    times(OCR_ROUNDS, || {
        let read = ocr.read(Arc::clone(&picture), None);
        runtime.block_on(read).expect("it is read");
    })
}

/// Median and range.
fn times(rounds: usize, mut work: impl FnMut()) -> String {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let ms = |time: Duration| {
        let ms = time.as_secs_f64() * 1000.0;
        if ms < 100.0 {
            format!("{ms:.1}")
        } else {
            format!("{ms:.0}")
        }
    };
    let (first, middle, last) = (times[0], times[rounds / 2], times[rounds - 1]);
    format!("{} ms ({} to {})", ms(middle), ms(first), ms(last))
}
