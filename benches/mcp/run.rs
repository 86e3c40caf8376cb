//! How every bench begins and ends: its options, what it needs, and where its tables go.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{docs, floor::Vm, guest, machine};

/// Runs the bench of this name on the demo guest, as [`alone`] does. `needs` tells what is missing besides the
/// guest.
pub(crate) fn bench(
    name: &str,
    block: &str,
    needs: impl FnOnce() -> Result<(), String>,
    measure: impl FnOnce(Vm) -> String,
) -> ExitCode {
    let all = || {
        machine::demo_guest_is_there().map_err(|reason| format!("{reason}: {}", guest::HINT))?;
        needs()
    };
    alone(name, block, all, || {
        let settings = guest::settings();
        let vm = settings.iter().find(|(name, _)| name == "VM_NAME");
        let (_, vm) = vm.expect("demo.env names the VM");
        measure(Vm::find(vm))
    })
}

/// Runs the bench of this name, and prints its tables; with `--write` they become the part `block` of
/// `docs/benchmarks.md`. `needs` tells what is missing.
pub(crate) fn alone(
    name: &str,
    block: &str,
    needs: impl FnOnce() -> Result<(), String>,
    measure: impl FnOnce() -> String,
) -> ExitCode {
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
        return refuse(&format!(
            "a debug build tells nothing: run `cargo bench --bench {name}`"
        ));
    }
    if let Err(reason) = needs() {
        return refuse(&reason);
    }
    let tables = measure();
    io::stdout()
        .write_all(tables.as_bytes())
        .expect("stdout takes the tables");
    if writes {
        docs::put(block, &tables);
        tell("docs/benchmarks.md holds these tables now");
    }
    ExitCode::SUCCESS
}

fn refuse(reason: &str) -> ExitCode {
    tell(reason);
    ExitCode::FAILURE
}

/// How far it has come, for whoever waits.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "benches: {line}");
}
