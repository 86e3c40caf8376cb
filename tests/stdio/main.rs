//! The wire: handshakes, lines that are no requests, calls at once, and how a server ends. No guest is
//! needed: the VM is one of libvirt's test driver.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "../support/mcp.rs"]
mod mcp;
#[path = "../support/test_driver.rs"]
mod test_driver;

mod calls;
mod ending;
mod handshake;
mod lines;
mod reading;

use std::process::Command;

use mcp::{Client, binary};
use serde_json::{Value, json};
use tempfile::TempDir;

fn server(home: &TempDir) -> Command {
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI]);
    command
}

fn start() -> (TempDir, Client) {
    let home = TempDir::new().unwrap();
    let client = Client::start(server(&home));
    (home, client)
}

/// What a server may be busy with when it ends.
fn busy_with() -> [(&'static str, Value); 4] {
    let batch: Vec<_> = (0..200)
        .map(|_| json!({"action": "wait", "seconds": 1}))
        .collect();
    [
        ("wait", json!({"seconds": 300})),
        (
            "wait_for",
            json!({"conditions": [{"condition": "change"}], "timeout": 300}),
        ),
        ("run_actions", json!({"actions": batch})),
        ("type_text", json!({"text": "x".repeat(50_000)})),
    ]
}
