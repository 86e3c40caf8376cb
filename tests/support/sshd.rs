//! A real OpenSSH server on a free loopback port, with keys and configuration of its own.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use virtpilot::ssh::Target;

const SSHD: &str = "/usr/sbin/sshd";

/// The server; it ends when this is dropped.
pub(crate) struct Sshd {
    child: Child,
    address: Ipv4Addr,
    port: u16,
    folder: TempDir,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with further lines in its configuration.
    pub(crate) fn start_with(extra: &str) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "these tests need {SSHD} (Debian: openssh-server)"
        );
        let folder = tempfile::tempdir().unwrap();
        for (name, kind) in [
            ("host_ed25519", "ed25519"),
            ("host_rsa", "rsa"),
            ("user", "ed25519"),
        ] {
            make_key(&folder.path().join(name), kind, "");
        }
        fs::copy(
            folder.path().join("user.pub"),
            folder.path().join("authorized"),
        )
        .unwrap();
        if whoami() == "root" {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = free_port();
        let at = folder.path().display();
        // The start-up files of whoever runs the tests are slow on some machines, and none of ours.
        fs::create_dir(folder.path().join("home")).unwrap();
        let config = format!(
            "SetEnv HOME={at}/home\nListenAddress 127.0.0.1:{port}\nHostKey {at}/host_ed25519\nHostKey {at}/host_rsa\n\
             AuthorizedKeysFile {at}/authorized\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             MaxStartups 100\nSubsystem sftp internal-sftp\n{extra}\n"
        );
        fs::write(folder.path().join("config"), config).unwrap();
        let server = Self {
            child: start(folder.path()),
            address: Ipv4Addr::LOCALHOST,
            port,
            folder,
        };
        server.await_start();
        server
    }

    /// Ends the server and its connections, as a guest that goes down.
    pub(crate) fn stop(&mut self) {
        let connections = Command::new("pgrep")
            .args(["--parent", &self.process().to_string()])
            .output()
            .unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for process in String::from_utf8(connections.stdout).unwrap().lines() {
            // It may have ended by itself.
            let _ = Command::new("kill").args(["-KILL", process]).status();
        }
    }

    /// Starts it again after `stop`.
    pub(crate) fn start_again(&mut self) {
        self.child = start(self.folder.path());
        self.await_start();
    }

    /// Starts it again after `stop`, on another port.
    pub(crate) fn start_elsewhere(&mut self) {
        let file = self.folder.path().join("config");
        let port = free_port();
        let config = fs::read_to_string(&file).unwrap();
        let (before, after) = (format!(":{}", self.port), format!(":{port}"));
        fs::write(&file, config.replacen(&before, &after, 1)).unwrap();
        self.port = port;
        self.start_again();
    }

    /// Starts it again after `stop`, at another address of this machine.
    pub(crate) fn start_at(&mut self, address: Ipv4Addr) {
        let file = self.folder.path().join("config");
        let config = fs::read_to_string(&file).unwrap();
        let (before, after) = (
            format!("ListenAddress {}:", self.address),
            format!("ListenAddress {address}:"),
        );
        fs::write(&file, config.replacen(&before, &after, 1)).unwrap();
        self.address = address;
        self.start_again();
    }

    fn await_start(&self) {
        let start = Instant::now();
        while TcpStream::connect((self.address, self.port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "sshd does not start: {}",
                fs::read_to_string(self.folder.path().join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The process that listens.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What the server has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The key that the server lets in.
    pub(crate) fn identity(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    pub(crate) fn host_key(&self, kind: &str) -> String {
        let path = self.folder.path().join(format!("host_{kind}.pub"));
        fs::read_to_string(path).unwrap().trim_end().to_owned()
    }

    /// What leads to this server.
    pub(crate) fn target(&self) -> Target {
        Target {
            host: "127.0.0.1".into(),
            port: self.port,
            user: whoami(),
            identity: Some(self.identity()),
            known_hosts: self.folder.path().join("data/known_hosts"),
            ..Target::default()
        }
    }
}

fn start(folder: &Path) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    Command::new(SSHD)
        .args(["-D", "-e", "-f"])
        .arg(folder.join("config"))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn make_key(path: &Path, kind: &str, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn whoami() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
