//! Commands that outlive the call that started them, on a real OpenSSH server, through the program itself.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "jobs/life.rs"]
mod life;
#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/odd_server.rs"]
mod odd_server;
#[path = "jobs/output.rs"]
mod output;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "jobs/trouble.rs"]
mod trouble;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use mcp::{Client, ToolReply, binary};
use serde_json::{Value, json};
use sshd::{Sshd, whoami};
use tempfile::TempDir;

/// A generous limit for what comes soon.
const LIMIT: Duration = Duration::from_secs(20);

/// A real server as the default VM's guest, and a client. No libvirt is needed for it.
struct Setting {
    sshd: Sshd,
    client: Client,
    home: TempDir,
}

impl Setting {
    fn new() -> Self {
        let sshd = Sshd::start();
        let home = TempDir::new().unwrap();
        let client = client(home.path(), sshd.port(), &sshd.identity());
        Self { sshd, client, home }
    }

    /// The folder of logs that belong to no project.
    fn logs(&self) -> PathBuf {
        self.home.path().join("data/virtpilot/jobs")
    }

    /// A path on the guest, where nothing is yet.
    fn there(&self, name: &str) -> PathBuf {
        self.sshd.folder().join(name)
    }

    fn execute(&mut self, arguments: Value) -> Value {
        self.client.done("ssh_execute", arguments).data.unwrap()
    }

    /// Starts a job, which may have ended already; its id.
    fn background(&mut self, command: &str) -> String {
        let data = self.execute(json!({"command": command, "background": true}));
        data["job"].as_str().unwrap().to_owned()
    }

    fn job(&mut self, action: &str, id: &str, more: Value) -> ToolReply {
        let arguments = of_job(action, id, more);
        self.client.done("ssh_job", arguments)
    }

    fn job_data(&mut self, action: &str, id: &str, more: Value) -> Value {
        self.job(action, id, more).data.unwrap()
    }

    fn job_fails(&mut self, action: &str, id: &str, more: Value) -> String {
        self.client.fails("ssh_job", of_job(action, id, more))
    }

    fn assert_next_call_works(&mut self) {
        let data = self.execute(json!({"command": "echo on"}));
        assert_eq!(data["stdout"], "on\n");
    }
}

fn of_job(action: &str, id: &str, mut more: Value) -> Value {
    more["action"] = json!(action);
    more["id"] = json!(id);
    more
}

fn command(home: &Path, port: u16, identity: &Path) -> std::process::Command {
    let mut command = binary(home);
    command
        .args(["--uri", "test:///default", "--vm", "test"])
        .env("VM_HOST", "127.0.0.1")
        .env("VM_PORT", port.to_string())
        .env("VM_USER", whoami())
        .env("VM_IDENTITY", identity);
    command
}

fn client(home: &Path, port: u16, identity: &Path) -> Client {
    Client::start(command(home, port, identity))
}

/// Waits for what must come.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Processes of this machine that sleep with this number.
fn sleeping(unique: &str) -> usize {
    let lines = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines
        .filter(|line| line.starts_with(b"sleep\0"))
        .filter(|line| String::from_utf8_lossy(line).contains(unique))
        .count()
}

/// A number that no other test's processes have.
fn unique(test: u32) -> String {
    format!("6{test}.{}", std::process::id())
}
