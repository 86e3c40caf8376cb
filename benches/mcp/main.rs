//! How long virtpilot's tools take on the demo guest, each beside the calls that it cannot do without.
//!
//! `cargo bench --bench mcp` prints tables; with `-- --write` it also puts them into
//! `docs/benchmarks.md`. The release binary is driven over stdio as an MCP client drives it. A call
//! and its floor take turns within one run, so that whatever else the machine does slows both.

// What fails here ends the run.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod docs;
mod floor;
#[path = "../../tests/support/guest.rs"]
mod guest;
mod machine;
#[path = "../../tests/support/mcp.rs"]
mod mcp;
mod measures;
mod openssh;
mod raw_ssh;
mod report;
mod seeing;
mod timing;
mod vnc;

use std::{
    io::{self, Write},
    process::ExitCode,
};

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
        return refuse("a debug build tells nothing: run `cargo bench --bench mcp`");
    }
    if let Err(reason) = machine::demo_guest_is_there() {
        return refuse(&format!("{reason}: {}", guest::HINT));
    }
    let tables = measures::all().to_string();
    io::stdout()
        .write_all(tables.as_bytes())
        .expect("stdout takes the tables");
    if writes {
        docs::put("measured", &tables);
        tell("docs/benchmarks.md holds these tables now");
    }
    ExitCode::SUCCESS
}

fn refuse(reason: &str) -> ExitCode {
    tell(reason);
    ExitCode::FAILURE
}

/// How far it has come, for whoever waits.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "benches: {line}");
}
