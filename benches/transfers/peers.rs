//! Who moves the same files: virtpilot over MCP, OpenSSH's `sftp`, and asyncssh.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    mcp::{self, binary},
    sshd::{Sshd, whoami},
};

/// What is moved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Put,
    Get,
    PutTree,
    GetTree,
}

impl Act {
    pub(crate) fn is_of_tree(self) -> bool {
        matches!(self, Self::PutTree | Self::GetTree)
    }
}

/// How long a transfer took: by itself, and with the comparing of both sides.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) transfer: Duration,
    pub(crate) all: Duration,
}

/// The release binary, as an MCP client drives it.
pub(crate) struct Virtpilot {
    client: mcp::Client,
    _home: TempDir,
}

impl Virtpilot {
    /// A server that may read and write there on the host.
    pub(crate) fn start(sshd: &Sshd, port: u16, folder: &Path) -> Self {
        let home = tempfile::tempdir().expect("a folder can be made");
        let config = home.path().join("config/virtpilot");
        std::fs::create_dir_all(&config).expect("it can be made");
        let folders = format!("host_folders = ['{}']\n", folder.display());
        std::fs::write(config.join("config.toml"), folders).expect("it can be written");
        let mut command = binary(home.path());
        command
            .args(["--uri", "test:///default", "--vm", "test"])
            .env("VM_HOST", "127.0.0.1")
            .env("VM_PORT", port.to_string())
            .env("VM_USER", whoami())
            .env("VM_IDENTITY", sshd.identity());
        let mut client = mcp::Client::start(command);
        client.done("ssh_execute", json!({"command": "true"}));
        Self {
            client,
            _home: home,
        }
    }

    pub(crate) fn take(&mut self, act: Act, from: &Path, to: &Path) -> Took {
        let (tool, local, remote) = match act {
            Act::Put | Act::PutTree => ("ssh_upload", from, to),
            Act::Get | Act::GetTree => ("ssh_download", to, from),
        };
        let arguments = json!({
            "local_path": local, "remote_path": remote, "recursive": act.is_of_tree()
        });
        let begun = Instant::now();
        let reply = self.client.done(tool, arguments);
        let all = begun.elapsed();
        let data = reply.data.expect("transfers give data");
        assert_eq!(data["verified"], "sha256", "{data}");
        let milliseconds = data["transfer_ms"].as_u64().expect("it is there");
        Took {
            transfer: Duration::from_millis(milliseconds),
            all,
        }
    }

    pub(crate) fn execute(&mut self, line: &str) -> Duration {
        let begun = Instant::now();
        self.client.done("ssh_execute", json!({"command": line}));
        begun.elapsed()
    }

    /// The most memory that the server has had since this was asked last, in MiB.
    pub(crate) fn most_memory(&self) -> u64 {
        let process = self.client.process_id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status"));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = kib
            .and_then(|kib| kib.parse().ok())
            .expect("Linux tells it");
        // 5 sets the mark back to what is in use: proc_pid_clear_refs(5).
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("it is ours");
        kib / 1024
    }
}

/// `sftp` over a connection that is kept open.
pub(crate) struct Sftp {
    options: Vec<String>,
    destination: String,
    _folder: TempDir,
}

impl Sftp {
    pub(crate) fn connect(sshd: &Sshd, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let values = [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=no".to_owned(),
            "UserKnownHostsFile=/dev/null".to_owned(),
            "LogLevel=ERROR".to_owned(),
            format!("Port={port}"),
            format!("IdentityFile={}", sshd.identity().display()),
            format!("ControlPath={}", folder.path().join("ssh").display()),
        ];
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        options.extend(values.into_iter().flat_map(|it| ["-o".to_owned(), it]));
        let shared = Self {
            options,
            destination: format!("{}@127.0.0.1", whoami()),
            _folder: folder,
        };
        let mut master = Command::new("ssh");
        master.args(&shared.options).args(["-M", "-N", "-f"]);
        let status = master.arg(&shared.destination).status();
        assert!(status.expect("ssh starts").success(), "ssh connects");
        shared
    }

    pub(crate) fn take(&mut self, act: Act, from: &Path, to: &Path) -> Took {
        let line = match act {
            Act::Put => format!("put {} {}", from.display(), to.display()),
            Act::Get => format!("get {} {}", from.display(), to.display()),
            Act::GetTree => format!("get -r {} {}", from.display(), to.display()),
            // It puts a folder into one that is there.
            Act::PutTree => format!("mkdir {0}\nput -r {1}/. {0}", to.display(), from.display()),
        };
        let begun = Instant::now();
        let mut child = Command::new("sftp")
            .args(&self.options)
            .args(["-q", "-b", "-", &self.destination])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sftp starts");
        let mut batch = child.stdin.take().expect("stdin is piped");
        writeln!(batch, "{line}").expect("sftp reads its batch");
        drop(batch);
        assert!(child.wait().expect("it ends").success(), "sftp: {line}");
        let all = begun.elapsed();
        Took { transfer: all, all }
    }

    /// How long `ssh` takes over the same connection.
    pub(crate) fn execute(&self, line: &str) -> Duration {
        let begun = Instant::now();
        let status = Command::new("ssh")
            .args(&self.options)
            .args(["-T", &self.destination, line])
            .stdin(Stdio::null())
            .status();
        assert!(status.expect("ssh starts").success(), "ssh: {line}");
        begun.elapsed()
    }
}

impl Drop for Sftp {
    fn drop(&mut self) {
        let mut end = Command::new("ssh");
        end.args(&self.options)
            .args(["-O", "exit", &self.destination]);
        let _ = end.stderr(Stdio::null()).status();
    }
}

/// The Python server's library.
pub(crate) struct Asyncssh {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Asyncssh {
    pub(crate) fn connect(python: &Path, sshd: &Sshd, port: u16) -> Self {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/transfers/asyncssh_peer.py"
        );
        let mut child = Command::new(python)
            .args([script, &port.to_string(), &whoami()])
            .arg(sshd.identity())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut peer = Self {
            child,
            stdin,
            stdout,
        };
        assert_eq!(peer.line(), "ready");
        peer
    }

    pub(crate) fn take(&mut self, act: Act, from: &Path, to: &Path) -> Took {
        let word = match act {
            Act::Put => "put",
            Act::Get => "get",
            Act::PutTree => "put-tree",
            Act::GetTree => "get-tree",
        };
        writeln!(self.stdin, "{word} {} {}", from.display(), to.display()).expect("it listens");
        let seconds: f64 = self.line().parse().expect("it tells seconds");
        let all = Duration::from_secs_f64(seconds);
        Took { transfer: all, all }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it answers");
        line.trim().to_owned()
    }
}

impl Drop for Asyncssh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the bench's Python is.
pub(crate) fn python() -> PathBuf {
    crate::guest::cache().join("asyncssh/bin/python")
}
