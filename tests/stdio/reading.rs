//! OCR that is missing, slow or given up: the screen of libvirt's test driver is a desktop.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::{mcp::Client, server, start};

/// A Tesseract that never comes to an end, and tells the ids of its processes.
struct Endless {
    folder: PathBuf,
}

impl Endless {
    fn new(home: &TempDir) -> Self {
        let folder = home.path().join("bin");
        fs::create_dir(&folder).unwrap();
        let program = folder.join("tesseract");
        let script = "#!/bin/sh\n\
            case \"$*\" in\n\
            *--list-langs*) printf 'List of available languages (1):\\neng\\n' ;;\n\
            *--version*) echo tesseract 5.3.0 ;;\n\
            *) echo $$ >> \"$0.pids\"; exec sleep 600 ;;\n\
            esac\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn used_by(&self, server: &mut Command) {
        let path = std::env::var("PATH").unwrap();
        server.env("PATH", format!("{}:{path}", self.folder.display()));
    }

    /// Waits until it has been started, and gives its processes.
    fn processes(&self) -> Vec<String> {
        let file = self.folder.join("tesseract.pids");
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            // A line that is not whole yet is no process.
            if let Ok(pids) = fs::read_to_string(&file)
                && pids.ends_with('\n')
            {
                return pids.lines().map(str::to_owned).collect();
            }
            assert!(Instant::now() < end, "it was never started");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Waits until none of them runs; whoever was killed may be waited for a moment later.
fn assert_gone(processes: &[String]) {
    let is_running = |pid: &&String| {
        let state = fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        state.is_ok_and(|state| !state.contains(") Z "))
    };
    let end = Instant::now() + Duration::from_secs(5);
    while let Some(pid) = processes.iter().find(is_running) {
        assert!(Instant::now() < end, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const WORDS: &str = "World-?Wide";

#[test]
fn without_tesseract_reading_says_what_to_install_and_all_else_works() {
    let home = TempDir::new().unwrap();
    let mut command = server(&home);
    command.env("PATH", home.path());
    let mut client = Client::start(command);
    let told = client.fails("screen_text", json!({}));
    assert!(
        told.starts_with("The screen shows no text in cells, and cannot be read by OCR."),
        "{told}"
    );
    assert!(
        told.contains("`sudo apt-get install tesseract-ocr`"),
        "{told}"
    );
    // Nothing but words is waited for: it is told at once, not when the time is up.
    let text = json!({"condition": "text", "pattern": WORDS});
    let begun = Instant::now();
    let told = client.fails("wait_for", json!({"conditions": [text], "timeout": 60}));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(
        told.contains("`sudo apt-get install tesseract-ocr`"),
        "{told}"
    );
    // Something else may still come.
    let running = json!({"condition": "state", "state": "running"});
    let reply = client.done("wait_for", json!({"conditions": [text, running]}));
    assert!(
        reply.text.starts_with("The VM is running"),
        "{}",
        reply.text
    );
    let off = json!({"condition": "state", "state": "shutoff"});
    let told = client.call("wait_for", json!({"conditions": [text, off], "timeout": 2}));
    assert!(
        told.text
            .contains("`text`: Tesseract, which reads screens, is not installed"),
        "{}",
        told.text
    );
    assert_eq!(client.done("take_screenshot", json!({})).pictures.len(), 1);
}

#[test]
fn a_language_that_is_missing_is_named_with_its_package() {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("c.toml"), "ocr_language = \"eng+xyz\"\n").unwrap();
    let mut command = server(&home);
    command.args(["--config", "c.toml"]);
    let mut client = Client::start(command);
    let told = client.fails("screen_text", json!({}));
    assert!(
        told.contains("no language `eng+xyz`; installed: "),
        "{told}"
    );
    assert!(
        told.contains("`sudo apt-get install tesseract-ocr-xyz`"),
        "{told}"
    );
}

#[test]
fn whoever_gives_up_reading_ends_it_at_once() {
    let home = TempDir::new().unwrap();
    let endless = Endless::new(&home);
    for tool in ["screen_text", "wait_for"] {
        let _ = fs::remove_file(endless.folder.join("tesseract.pids"));
        let mut command = server(&home);
        endless.used_by(&mut command);
        let mut client = Client::start(command);
        let arguments = match tool {
            "wait_for" => json!({"conditions": [{"condition": "text", "pattern": WORDS}]}),
            _ => json!({}),
        };
        let id = client.send_call(tool, arguments);
        let processes = endless.processes();
        let begun = Instant::now();
        client.notify("notifications/cancelled", json!({"requestId": id}));
        assert_gone(&processes);
        assert_eq!(client.done("take_screenshot", json!({})).pictures.len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(15), "{tool}");
    }
}

#[test]
fn a_wait_for_words_ends_in_time_though_reading_hangs() {
    let home = TempDir::new().unwrap();
    let endless = Endless::new(&home);
    let mut command = server(&home);
    endless.used_by(&mut command);
    let mut client = Client::start(command);
    let text = json!([{"condition": "text", "pattern": WORDS}]);
    // Long enough for the fonts and the first look on a busy machine.
    let reply = client.call("wait_for", json!({"conditions": text, "timeout": 20}));
    assert!(reply.is_error);
    assert!(
        reply.text.starts_with("Nothing held within 20 s: `text`: "),
        "{}",
        reply.text
    );
    assert_gone(&endless.processes());
}

#[test]
fn a_server_that_ends_leaves_no_reading_behind() {
    let home = TempDir::new().unwrap();
    let endless = Endless::new(&home);
    let mut command = server(&home);
    endless.used_by(&mut command);
    let mut client = Client::start(command);
    client.send_call("screen_text", json!({}));
    let processes = endless.processes();
    client.hang_up();
    assert!(client.wait_for_exit().success());
    assert_gone(&processes);
}

#[test]
fn words_on_a_desktop_are_read_and_found() {
    let (_home, mut client) = start();
    let reply = client.done("screen_text", json!({"pattern": "command successful"}));
    let found = reply.data.unwrap()["matches"].take();
    assert_eq!(found[0]["text"], "command successful");
    // Looked up in the driver's picture by eye.
    let edges: Vec<i64> = serde_json::from_value(found[0]["box"].clone()).unwrap();
    let about = [828, 43, 935, 54];
    for (edge, about) in edges.iter().zip(about) {
        assert!((edge - about).abs() <= 4, "{edges:?}");
    }
}
