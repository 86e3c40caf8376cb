//! How fast files move, beside OpenSSH's `sftp` and the Python server's library, against a real OpenSSH server on
//! loopback: next door, and 50 ms away.
//!
//! `cargo bench --bench transfers` prints tables; with `-- --write` it also puts them into
//! `docs/benchmarks.md`. All take turns within one run, so that whatever else the machine does slows each.

// What fails here ends the run.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod delay;
#[path = "../mcp/docs.rs"]
mod docs;
#[path = "../mcp/floor.rs"]
#[allow(dead_code, reason = "what describes the machine can ask libvirt too")]
mod floor;
#[path = "../../tests/support/guest.rs"]
mod guest;
#[path = "../mcp/machine.rs"]
#[allow(dead_code, reason = "no guest is measured")]
mod machine;
#[path = "../../tests/support/mcp.rs"]
mod mcp;
mod peers;
#[path = "../mcp/run.rs"]
#[allow(dead_code, reason = "no guest is measured")]
mod run;
#[path = "../../tests/support/sshd.rs"]
mod sshd;

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use peers::{Act, Asyncssh, Sftp, Took, Virtpilot, python};
use run::tell;
use sshd::Sshd;

/// Each so often; the medians count.
const ROUNDS: usize = 5;
const LARGE: u64 = 256 << 20;
const HUGE: u64 = 4 << 30;
const COMMANDS: usize = 101;
const SMALL_FILES: usize = 2000;
/// Half a round trip.
const DELAY: Duration = Duration::from_millis(25);

fn main() -> ExitCode {
    let needs = || {
        if python().is_file() {
            return Ok(());
        }
        Err(
            "asyncssh is not there: python3 -m venv ~/.cache/virtpilot/asyncssh && \
             ~/.cache/virtpilot/asyncssh/bin/pip install asyncssh"
                .to_owned(),
        )
    };
    run::alone("transfers", "transfers", needs, measure)
}

fn measure() -> String {
    let sshd = Sshd::start();
    let machine = machine::describe_with(&versions());
    let at = sshd.folder().join("files");
    fs::create_dir(&at).expect("it can be made");
    let noise = fs::File::open("/dev/urandom").expect("Linux has it");
    let mut large = fs::File::create(at.join("large")).expect("it can be written");
    let mut noise = std::io::Read::take(noise, LARGE);
    std::io::copy(&mut noise, &mut large).expect("the disk has space");
    // What a disk takes to make 2,000 files is much of what both take, and none of either.
    let in_memory = tempfile::tempdir_in("/dev/shm").expect("Linux has it");
    for at in [at.as_path(), in_memory.path()] {
        small_files(&at.join("tree"));
    }
    let mut text = format!(
        "{machine}\n\n| what | **virtpilot** | with verifying | `sftp` | asyncssh | of `sftp` | bound |\n\
         |---|---|---|---|---|---|---|\n"
    );
    let near = sshd.port();
    let far = delay::relay(near, DELAY);
    // Many files from afar are left out: `sftp` alone takes minutes for each round.
    let (disk, memory_disk) = (at.as_path(), in_memory.path());
    let large = "256 MiB";
    let small = "2,000 files of 1 KiB";
    let rows = [
        (Act::Put, near, disk, large, "loopback", 1.0),
        (Act::Get, near, disk, large, "loopback", 1.0),
        (
            Act::PutTree,
            near,
            memory_disk,
            small,
            "loopback, in memory",
            2.0,
        ),
        (
            Act::GetTree,
            near,
            memory_disk,
            small,
            "loopback, in memory",
            2.0,
        ),
        (Act::PutTree, near, disk, small, "loopback, on disk", 2.0),
        (Act::GetTree, near, disk, small, "loopback, on disk", 2.0),
        (Act::Put, far, disk, large, "50 ms away", 1.2),
        (Act::Get, far, disk, large, "50 ms away", 3.0),
    ];
    for (act, port, at, what, place, bound) in rows {
        let way = match act {
            Act::Put | Act::PutTree => "upload",
            Act::Get | Act::GetTree => "download",
        };
        let what = format!("{way} of {what}, {place}");
        tell(&what);
        let medians = compare(&sshd, port, act, at);
        let _ = writeln!(text, "| {what} | {} |", row(act, medians, bound));
    }
    tell("commands");
    let _ = write!(text, "\n{}\n", commands(&sshd));
    tell("memory of 4 GiB");
    let _ = write!(text, "\n{}\n", memory(&sshd, &at));
    text
}

fn small_files(folder: &Path) {
    fs::create_dir(folder).expect("it can be made");
    for number in 0..SMALL_FILES {
        let content = vec![u8::try_from(number % 251).unwrap_or(0); 1024];
        fs::write(folder.join(number.to_string()), content).expect("the disk has space");
    }
}

fn versions() -> String {
    let ssh = Command::new("ssh").arg("-V").output().expect("ssh starts");
    let ssh = String::from_utf8_lossy(&ssh.stderr).trim().to_owned();
    let ssh = ssh.split(',').next().unwrap_or_default().replace('_', " ");
    let asyncssh = Command::new(python())
        .args(["-c", "import asyncssh; print(asyncssh.__version__)"])
        .output()
        .expect("Python starts");
    format!(
        "{ssh}, asyncssh {}",
        String::from_utf8_lossy(&asyncssh.stdout).trim()
    )
}

/// The medians of all three, in turns.
fn compare(sshd: &Sshd, port: u16, act: Act, at: &Path) -> [Took; 3] {
    let mut virtpilot = Virtpilot::start(sshd, port, at);
    let mut sftp = Sftp::connect(sshd, port);
    let mut asyncssh = Asyncssh::connect(&python(), sshd, port);
    let from = at.join(if act.is_of_tree() { "tree" } else { "large" });
    let mut all: [Vec<Took>; 3] = Default::default();
    // One more than counts, so that no one pays for what happens once.
    for round in 0..=ROUNDS {
        for (who, times) in all.iter_mut().enumerate() {
            // A tree's copy stays: for minutes, ext4 looks at each inode that was freed before it takes another.
            let to = at.join(match act {
                Act::PutTree => format!("up-{round}-{who}"),
                Act::GetTree => format!("down-{round}-{who}"),
                Act::Put | Act::Get => "copy".to_owned(),
            });
            let took = match who {
                0 => virtpilot.take(act, &from, &to),
                1 => sftp.take(act, &from, &to),
                _ => asyncssh.take(act, &from, &to),
            };
            times.push(took);
            if act.is_of_tree() {
                assert_eq!(fs::read_dir(&to).expect("it is there").count(), SMALL_FILES);
            } else {
                assert_eq!(fs::metadata(&to).expect("it is there").len(), LARGE);
                fs::remove_file(&to).expect("it is ours");
            }
        }
    }
    all.map(|mut times| {
        times.remove(0);
        let median = |of: fn(&Took) -> Duration| {
            let mut times: Vec<_> = times.iter().map(of).collect();
            times.sort_unstable();
            times[times.len() / 2]
        };
        Took {
            transfer: median(|took| took.transfer),
            all: median(|took| took.all),
        }
    })
}

fn row(act: Act, [virtpilot, sftp, asyncssh]: [Took; 3], bound: f64) -> String {
    let told = |time: Duration| {
        if act.is_of_tree() {
            return format!("{:.2} s", time.as_secs_f64());
        }
        let mib = f64::from(u32::try_from(LARGE >> 20).unwrap_or(0));
        format!("{:.0} MiB/s", mib / time.as_secs_f64())
    };
    let times = sftp.transfer.as_secs_f64() / virtpilot.transfer.as_secs_f64();
    let missed = if times < bound { " **missed**" } else { "" };
    format!(
        "{} | {} | {} | {} | {times:.2} | ≥ {bound:.1}{missed}",
        told(virtpilot.transfer),
        told(virtpilot.all),
        told(sftp.transfer),
        told(asyncssh.transfer),
    )
}

/// How long a command takes that does nothing, in turns with `ssh`.
fn commands(sshd: &Sshd) -> String {
    let mut virtpilot = Virtpilot::start(sshd, sshd.port(), sshd.folder());
    let ssh = Sftp::connect(sshd, sshd.port());
    let mut all: [Vec<Duration>; 2] = Default::default();
    for _ in 0..COMMANDS {
        all[0].push(virtpilot.execute("true"));
        all[1].push(ssh.execute("true"));
    }
    let [ours, theirs] = all.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1000.0
    });
    format!(
        "`ssh_execute` of `true` on loopback takes {ours:.2} ms, `ssh` over a connection that is kept open {theirs:.2} ms: \
         {:.2} times as long (medians of {COMMANDS} in turns).",
        ours / theirs
    )
}

/// What a transfer of a sparse file of 4 GiB costs the server.
fn memory(sshd: &Sshd, at: &Path) -> String {
    let huge = fs::File::create(at.join("huge")).expect("it can be written");
    huge.set_len(HUGE).expect("it is sparse");
    let mut virtpilot = Virtpilot::start(sshd, sshd.port(), sshd.folder());
    let idle = virtpilot.most_memory();
    let mut most = Vec::new();
    for act in [Act::Put, Act::Get] {
        virtpilot.take(act, &at.join("huge"), &at.join("copy"));
        most.push(virtpilot.most_memory());
        fs::remove_file(at.join("copy")).expect("it is ours");
    }
    format!(
        "Most memory of the server: {idle} MiB before, {} MiB during an upload of a sparse file of 4 GiB, {} MiB \
         during its download.",
        most[0], most[1]
    )
}
