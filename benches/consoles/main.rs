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

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use guest::Guest;
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
        return refuse("a debug build tells nothing: run `cargo bench --bench consoles`");
    }
    if let Err(reason) = machine::demo_guest_is_there() {
        return refuse(&format!("{reason}: {}", guest::HINT));
    }
    let settings = guest::settings();
    let name = settings.iter().find(|(name, _)| name == "VM_NAME");
    let (_, name) = name.expect("demo.env names the VM");
    let machine = machine::describe(&floor::Vm::find(name));
    let text = format!("{machine}\n\n{}", table());
    io::stdout()
        .write_all(text.as_bytes())
        .expect("stdout takes the table");
    if writes {
        docs::put("consoles", &text);
        tell("docs/benchmarks.md holds this table now");
    }
    ExitCode::SUCCESS
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

fn refuse(reason: &str) -> ExitCode {
    tell(reason);
    ExitCode::FAILURE
}

/// How far it has come, for whoever waits.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "benches: {line}");
}
