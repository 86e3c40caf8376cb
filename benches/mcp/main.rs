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
mod run;
mod seeing;
mod timing;
mod vnc;

use std::process::ExitCode;

use run::tell;

fn main() -> ExitCode {
    let needs = || Ok(());
    run::bench("mcp", "measured", needs, |vm| measures::all(vm).to_string())
}
