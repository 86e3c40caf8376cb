//! An MCP client that speaks to the real binary over stdio, line by line, so that tests see exactly
//! what goes over the wire.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "each test file uses a part of it, for short"
)]

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Signals of a process that is broken, as signal(7) numbers them.
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;

/// Longer than any call of a test may take: a hang is a failure, not a wait for ever.
const LIMIT: Duration = Duration::from_mins(3);

/// The oldest protocol version that clients still speak, and a recent one with a handshake.
pub const OLD_PROTOCOL: &str = "2024-11-05";
pub const PROTOCOL: &str = "2025-06-18";

/// A server process and the client's end of its pipes.
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Where nobody reads what the server answers.
    unread: Option<ChildStdout>,
    sender: Option<Sender<String>>,
    lines: Receiver<String>,
    /// Messages that came while another one was waited for.
    pending: VecDeque<Value>,
    next_id: u64,
}

/// What a tool answered.
#[derive(Debug)]
pub struct ToolReply {
    pub is_error: bool,
    pub text: String,
    pub data: Option<Value>,
    /// MIME type and decoded bytes.
    pub pictures: Vec<(String, Vec<u8>)>,
    pub raw: Value,
}

/// The binary under test with nothing of this machine's settings: its data in `home`, which is also
/// its working directory.
pub fn binary(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtpilot"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("VM_") || name.starts_with("VIRTPILOT_") || name == "RUST_LOG" {
            command.env_remove(name.as_ref());
        }
    }
    command
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env_remove("SSH_AUTH_SOCK")
        .env_remove("LIBVIRT_DEFAULT_URI")
        .env_remove("RUST_BACKTRACE")
        .current_dir(home);
    command
}

impl Client {
    /// Starts the server and shakes hands.
    pub fn start(command: Command) -> Self {
        let mut client = Self::connect(command);
        let answer = client.initialize(PROTOCOL);
        assert_eq!(
            answer["result"]["serverInfo"]["name"], "virtpilot",
            "{answer}"
        );
        client
    }

    /// Starts the server and says nothing yet.
    pub fn connect(command: Command) -> Self {
        let mut client = Self::spawn(command);
        client.read_on();
        client
    }

    /// Starts the server and shakes hands, without reading anything that it answers.
    pub fn start_unread(command: Command) -> Self {
        let mut client = Self::spawn(command);
        client.send_initialize(PROTOCOL);
        client.notify("notifications/initialized", json!({}));
        client
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdin = child.stdin.take();
        let unread = child.stdout.take();
        let (sender, lines) = channel();
        Self {
            child,
            stdin,
            unread,
            sender: Some(sender),
            lines,
            pending: VecDeque::new(),
            next_id: 1,
        }
    }

    /// Reads all that the server answered and will answer.
    pub fn read_on(&mut self) {
        let stdout = self.unread.take().expect("stdout is piped and unread");
        let sender = self.sender.take().expect("stdout is unread");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }

    /// Closes the end of a pipe that was not read.
    pub fn close_unread(&mut self) {
        self.unread = None;
    }

    pub fn initialize(&mut self, protocol: &str) -> Value {
        let id = self.send_initialize(protocol);
        let answer = self.answer(id);
        self.notify("notifications/initialized", json!({}));
        answer
    }

    fn send_initialize(&mut self, protocol: &str) -> u64 {
        self.send(
            "initialize",
            json!({
                "protocolVersion": protocol,
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "0"},
            }),
        )
    }

    /// Sends one line as it is.
    pub fn send_raw(&mut self, line: &str) {
        self.send_part(line);
        self.send_part("\n");
    }

    /// Sends a part of a line.
    pub fn send_part(&mut self, part: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(part.as_bytes()).expect("the server reads");
    }

    pub fn notify(&mut self, method: &str, params: Value) {
        self.send_raw(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    /// Sends a request without waiting; its id comes back.
    pub fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send_raw(&message.to_string());
        id
    }

    /// Sends a request and waits for its whole answer.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self, id: u64) -> Value {
        self.wait_for(|message| message["id"] == id && message.get("method").is_none())
    }

    /// Waits for a message that fits; others are kept for later.
    pub fn wait_for(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.pending.iter().position(&fits) {
            return self.pending.remove(at).expect("it was just found");
        }
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("no answer within {LIMIT:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the server hung up"),
            };
            let message: Value = serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("stdout carries MCP alone: {error}: {line}"));
            if fits(&message) {
                return message;
            }
            self.pending.push_back(message);
        }
    }

    /// Calls a tool; a protocol error is a failure of the test.
    pub fn call(&mut self, tool: &str, arguments: Value) -> ToolReply {
        let id = self.send_call(tool, arguments);
        self.reply(id)
    }

    /// Calls a tool that must succeed.
    pub fn done(&mut self, tool: &str, arguments: Value) -> ToolReply {
        let reply = self.call(tool, arguments);
        assert!(!reply.is_error, "{tool}: {}", reply.text);
        reply
    }

    /// Calls a tool that must fail, and gives what it says.
    pub fn fails(&mut self, tool: &str, arguments: Value) -> String {
        let reply = self.call(tool, arguments);
        assert!(reply.is_error, "{tool}: {}", reply.text);
        assert!(
            reply.text.contains("\nNext: "),
            "{tool}: no hint: {}",
            reply.text
        );
        reply.text
    }

    pub fn send_call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.send("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    pub fn reply(&mut self, id: u64) -> ToolReply {
        let raw = self.answer(id);
        let result = raw
            .get("result")
            .unwrap_or_else(|| panic!("a protocol error: {raw}"));
        let content = result["content"].as_array().expect("content is a list");
        let text = content
            .iter()
            .filter_map(|block| block["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n");
        let pictures = content
            .iter()
            .filter(|block| block["type"] == "image")
            .map(|block| {
                let data = block["data"].as_str().expect("a picture has data");
                (
                    block["mimeType"]
                        .as_str()
                        .expect("a picture has a type")
                        .to_owned(),
                    decoded(data),
                )
            })
            .collect();
        ToolReply {
            is_error: result["isError"] == true,
            text,
            data: result.get("structuredContent").cloned(),
            pictures,
            raw: raw.clone(),
        }
    }

    /// Closes the client's end, as a client that goes away does.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits until the server has ended by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the server a signal, by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.process_id())])
            .status();
        assert!(status.expect("there is a shell").success());
    }

    /// The most memory that the server has had so far, in MiB.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process_id());
        let status = std::fs::read_to_string(path).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|it| it.trim().strip_suffix(" kB"));
        kib.and_then(|it| it.parse::<u64>().ok())
            .expect("proc(5) tells it in kB")
            / 1024
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stdin = None;
        // A test that failed half way leaves no server behind.
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                // One that was killed by a test is that test's affair; one that crashed is everybody's.
                let crashed = matches!(status.signal(), Some(SIGABRT | SIGBUS | SIGSEGV));
                assert!(
                    thread::panicking() || !crashed,
                    "the server crashed: {status}"
                );
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What base64 stands for.
pub fn decoded(base64: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64)
        .expect("it is base64")
}
