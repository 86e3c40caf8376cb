//! The SSH room against a real OpenSSH server, and against servers that misbehave.

#[path = "ssh/certificates.rs"]
mod certificates;
#[path = "ssh/commands.rs"]
mod commands;
#[path = "ssh/connections.rs"]
mod connections;
#[path = "ssh/ending.rs"]
mod ending;
#[path = "support/fake.rs"]
mod fake;
#[path = "ssh/files.rs"]
mod files;
#[path = "ssh/jumps.rs"]
mod jumps;
#[path = "ssh/login.rs"]
mod login;
#[path = "ssh/misbehaving.rs"]
mod misbehaving;
#[path = "ssh/moving.rs"]
mod moving;
#[path = "support/odd_server.rs"]
mod odd_server;
#[path = "ssh/passphrases.rs"]
mod passphrases;
#[path = "support/relay.rs"]
mod relay;
#[path = "ssh/resuming.rs"]
mod resuming;
#[path = "ssh/shells.rs"]
mod shells;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/stage.rs"]
mod stage;
#[path = "ssh/trees.rs"]
mod trees;

use std::{fs, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;
use virtpilot::ssh::{Client, Command, Manner, Output, SshError, Target, Transfer};

const SECONDS_20: Duration = Duration::from_secs(20);

fn command(line: &str) -> Command {
    Command::new(line, SECONDS_20)
}

async fn execute(client: &Client, command: Command) -> Result<Output, SshError> {
    client.execute(command, &CancellationToken::new()).await
}

async fn run(client: &Client, line: &str) -> Output {
    execute(client, command(line)).await.unwrap()
}

fn unreachable_target() -> Target {
    Target {
        host: "127.0.0.1".into(),
        port: sshd::free_port(),
        user: "nobody".into(),
        known_hosts: "/nonexistent/known_hosts".into(),
        ..Target::default()
    }
}

/// So many bytes, without a period that a block of a transfer would fit into.
fn bytes(length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..65_521u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1])
        .collect();
    let mut bytes = block.repeat(length / block.len() + 1);
    bytes.truncate(length);
    bytes
}

async fn upload(client: &Client, local: &Path, remote: &str) -> Result<Transfer, SshError> {
    client
        .upload(
            local,
            remote,
            Manner::default(),
            &CancellationToken::new(),
            |_, _| {},
        )
        .await
}

async fn download(client: &Client, remote: &str, local: &Path) -> Result<Transfer, SshError> {
    client
        .download(
            remote,
            local,
            Manner::default(),
            &CancellationToken::new(),
            |_, _| {},
        )
        .await
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
