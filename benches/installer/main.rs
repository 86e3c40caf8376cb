//! Debian's installer, driven by what its screens say: an agent's very calls, `wait_for` with text and
//! `press_keys`, and nothing else.
//!
//! ```bash
//! apt-get download debian-installer-12-netboot-amd64    # 133 MB, too much for each test run
//! dpkg-deb -x debian-installer-12-netboot-amd64_*.deb /tmp/installer
//! cargo bench --bench installer -- /tmp/installer/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64
//! ```
//!
//! The folder may be left out where the package is installed. Two VMs of a libvirt of its own boot it, one with
//! a console of 1280×800 pixels and one in VGA's text mode; pictures and texts of all screens go to
//! `target/installer`. Under emulation on two busy cores each takes four minutes. Needs root, as the tests do.

// What fails here ends the run.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../../tests/support/daemon.rs"]
mod daemon;
#[path = "../../tests/support/mcp.rs"]
mod mcp;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use daemon::{Daemon, Machine};
use mcp::Client;
use serde_json::{Value, json};

/// Where Debian's package has it.
const INSTALLED: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";

/// Seconds of one wait, and how many of them a screen may take on a slow machine without KVM.
const WAIT: u32 = 60;
const WAITS: u32 = 6;

/// One screen: what it is called, what it says once it is ready, and the keys that lead on.
struct Step {
    name: &'static str,
    says: &'static [&'static str],
    keys: &'static [&'static str],
}

const STEPS: [Step; 4] = [
    Step {
        name: "language",
        says: &[r"\[!!\] Select a language", r"English +- +English"],
        keys: &["Return"],
    },
    Step {
        name: "country",
        says: &[r"\[!!\] Select your location", r"United Kingdom\b"],
        // From the United States, where it begins.
        keys: &["Up", "Return"],
    },
    Step {
        name: "keyboard",
        says: &[r"\[!!\] Configure the keyboard", r"British English"],
        keys: &["Return"],
    },
    // There is no network device, so it can go no further.
    Step {
        name: "network",
        says: &[r"Detect network hardware", r"No Ethernet card was detected"],
        keys: &[],
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts this program too.
    if !arguments.iter().any(|it| it == "--bench") {
        return ExitCode::SUCCESS;
    }
    let folder = arguments.into_iter().find(|it| it != "--bench");
    let folder = PathBuf::from(folder.unwrap_or_else(|| INSTALLED.to_owned()));
    if !folder.join("initrd.gz").exists() {
        tell(&format!(
            "no installer in {}: see the head of benches/installer/main.rs",
            folder.display()
        ));
        return ExitCode::FAILURE;
    }
    let daemon = Daemon::start();
    let shared = daemon.shared("installer");
    for name in ["linux", "initrd.gz"] {
        let copy = shared.join(name);
        fs::copy(folder.join(name), &copy).unwrap();
        fs::set_permissions(copy, fs::Permissions::from_mode(0o644)).unwrap();
    }
    // Without its driver, the screen stays in the mode that the firmware left it in.
    let modes = [
        ("console", "fb=false"),
        ("vga-text", "fb=false modprobe.blacklist=bochs"),
    ];
    for (mode, words) in modes {
        install(&daemon, &shared, mode, words);
    }
    ExitCode::SUCCESS
}

/// Goes as far as there is a way without a network.
fn install(daemon: &Daemon, installer: &Path, mode: &str, words: &str) {
    let machine = daemon.started(
        mode,
        &format!(
            "<memory unit='MiB'>1200</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{0}/linux</kernel>\
             <initrd>{0}/initrd.gz</initrd><cmdline>vga=normal mitigations=off {words}</cmdline></os>\
             <devices><memballoon model='none'/><video><model type='vga'/></video></devices>",
            installer.display()
        ),
    );
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/installer");
    fs::create_dir_all(&pictures).unwrap();
    let mut client = daemon.client(&[&machine]);
    let begun = Instant::now();
    for (number, step) in STEPS.iter().enumerate() {
        for text in step.says {
            wait_for(&mut client, text);
        }
        let file = format!("{mode}-{}-{}", number + 1, step.name);
        keep(&mut client, &pictures.join(file), mode, step, begun);
        for key in step.keys {
            client.done("press_keys", json!({"keys": [key]}));
        }
    }
    client.hang_up();
    client.wait_for_exit();
    end(daemon, &machine);
}

/// Waits for a text as a client does that must not be silent for long.
fn wait_for(client: &mut Client, pattern: &str) {
    let conditions = json!([{"condition": "text", "pattern": pattern}]);
    for wait in 1.. {
        let arguments = json!({"conditions": conditions, "timeout": WAIT});
        let reply = client.call("wait_for", arguments);
        if !reply.is_error {
            return;
        }
        assert!(wait < WAITS, "{}", reply.text);
    }
}

/// Keeps what a screen shows and what it says, and tells how it was read.
fn keep(client: &mut Client, file: &Path, mode: &str, step: &Step, begun: Instant) {
    let shot = client.done("take_screenshot", json!({"pointer": false, "settle": 5000}));
    let (_, png) = &shot.pictures[0];
    fs::write(file.with_extension("png"), png).unwrap();
    let read = client.done("screen_text", json!({})).data.unwrap();
    let lines = read["lines"].as_array().unwrap().iter();
    let texts: Vec<&str> = lines.filter_map(|line| line["text"].as_str()).collect();
    fs::write(file.with_extension("txt"), texts.join("\n") + "\n").unwrap();
    let field = |name: &str| match &read[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    tell(&format!(
        "{:>5.1} s  {mode}: {}: read by {} {} {}, {} unreadable",
        begun.elapsed().as_secs_f64(),
        step.name,
        field("reader"),
        field("font"),
        field("cells"),
        field("unreadable"),
    ));
}

fn end(daemon: &Daemon, machine: &Machine) {
    daemon.virsh_done(&["destroy", &machine.name]);
}

fn tell(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("stderr takes text");
}
