//! Commands that are ended, with all that they started and nothing else, on a real OpenSSH server.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use virtpilot::ssh::{Client, Command, Heard, SshError, Status, Stay, Target};

use crate::{SECONDS_20, command, execute, relay::Relay, run, sshd::Sshd};

/// Digits that no other test's commands have, nor have them among theirs: all are equally long.
pub(crate) fn unique() -> String {
    static TESTS: AtomicU32 = AtomicU32::new(0);

    let test = TESTS.fetch_add(1, Ordering::Relaxed);
    format!("{:07}{test:03}", std::process::id())
}

/// What the processes of this machine were started with, those with `needle` in it.
pub(crate) fn processes_with(needle: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(needle))
        .collect()
}

fn process_is_there(id: &str) -> bool {
    Path::new("/proc").join(id.trim()).exists()
}

/// Waits until a command has come to the `sleep` with this number.
async fn until_it_sleeps(unique: &str) {
    let end = Instant::now() + SECONDS_20;
    while sleeping(unique) == 0 {
        assert!(Instant::now() < end, "the command does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn sleeping(unique: &str) -> usize {
    let processes = processes_with(unique);
    let sleeping = processes.iter().filter(|line| line.starts_with("sleep "));
    sleeping.count()
}

/// Commands that are hard to end, each with a number of its own in what it starts.
fn stubborn_commands(unique: &str) -> Vec<String> {
    vec![
        format!("echo started; sleep 60.{unique}1"),
        format!("echo started; sleep 60.{unique}2 & sleep 60.{unique}2"),
        format!("echo started; sleep 60.{unique}3 | cat | sleep 60.{unique}3"),
        format!("echo started; bash -c 'sleep 60.{unique}4; true'; true"),
        format!(
            "echo started; trap '' TERM INT HUP; sleep 60.{unique}5 & for n in $(seq 60); do sleep 1.{unique}5; done"
        ),
        format!("echo started; setsid sleep 60.{unique}6 & sleep 60.{unique}6"),
        format!("echo started; exec sleep 60.{unique}7"),
        format!("echo started; sleep 60.{unique}8 &"),
        format!(
            "echo started; (sh -c 'trap \"\" TERM; sleep 60.{unique}9; :' &) ; nohup sleep 60.{unique}9"
        ),
    ]
}

#[tokio::test]
async fn ends_a_command_with_all_it_started_when_its_time_is_up() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let unique = unique();
    let mut running = tokio::task::JoinSet::new();
    for line in stubborn_commands(&unique) {
        // A connection has room for eight.
        let client = Client::new(server.target());
        running.spawn(async move {
            let limited = Command::new(line.clone(), Duration::from_secs(5));
            (line, execute(&client, limited).await)
        });
    }
    while let Some(done) = running.join_next().await {
        let (line, output) = done.unwrap();
        let output = output.unwrap_or_else(|error| panic!("{line}: {error:?}"));
        assert_eq!(
            output.status,
            Status::TimedOut {
                left_running: false
            },
            "{line}"
        );
        assert_eq!(output.stdout.text(), "started\n", "{line}");
    }
    assert_eq!(processes_with(&unique), Vec::<String>::new());
    assert_eq!(run(&client, "echo alive").await.stdout.text(), "alive\n");
}

#[tokio::test]
async fn ends_a_command_with_all_it_started_when_it_is_cancelled() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let unique = unique();
    for line in stubborn_commands(&unique).into_iter().take(6) {
        let cancel = CancellationToken::new();
        let run = client.execute(command(&line), &cancel);
        let (result, ()) = tokio::join!(run, async {
            until_it_sleeps(&unique).await;
            cancel.cancel();
        });
        assert!(
            matches!(
                result,
                Err(SshError::Cancelled {
                    left_running: false
                })
            ),
            "{line}: {result:?}"
        );
    }
    assert_eq!(processes_with(&unique), Vec::<String>::new());
}

#[tokio::test]
async fn what_left_its_session_is_told_as_not_known() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let unique = unique();
    let line = format!("setsid -f sleep 60.{unique} </dev/null >/dev/null 2>&1; sleep 60.{unique}");
    let cancel = CancellationToken::new();
    let (result, ()) = tokio::join!(client.execute(command(&line), &cancel), async {
        let end = Instant::now() + SECONDS_20;
        while sleeping(&unique) < 2 {
            assert!(Instant::now() < end, "the command does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    });
    let error = result.unwrap_err();
    assert!(
        error
            .hint()
            .contains("(`setsid`, a daemon) and goes on is not known"),
        "{error:?}"
    );
    // It does go on.
    assert_eq!(sleeping(&unique), 1);
    run(&client, &format!("pkill -f '^sleep 60.{unique}'")).await;
}

#[tokio::test]
async fn ends_a_command_whose_caller_went_away() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let unique = unique();
    let line = format!("sleep 60.{unique} & sleep 60.{unique}");
    tokio::select! {
        output = execute(&client, command(&line)) => panic!("{output:?}"),
        () = until_it_sleeps(&unique) => {}
    }
    let start = Instant::now();
    while !processes_with(&unique).is_empty() {
        assert!(
            start.elapsed() < SECONDS_20,
            "{:?}",
            processes_with(&unique)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn ends_commands_on_a_server_that_permits_one_channel() {
    let server = Sshd::start_with("MaxSessions 1");
    let client = Client::new(server.target());
    let unique = unique();
    let limited = Command::new(format!("sleep 60.{unique}"), Duration::from_millis(500));
    let output = execute(&client, limited).await.unwrap();
    assert_eq!(
        output.status,
        Status::TimedOut {
            left_running: false
        }
    );
    assert_eq!(processes_with(&unique), Vec::<String>::new());
}

/// A server that starts the script that ends commands only after `before_kill` has run.
fn server_with_slow_kills(folder: &Path, before_kill: &str) -> Sshd {
    let gate = folder.join("gate");
    let script = format!(
        "#!/bin/bash\nif [ \"$SSH_ORIGINAL_COMMAND\" = sh ]; then {before_kill}; fi\n\
         exec bash -c \"$SSH_ORIGINAL_COMMAND\"\n"
    );
    fs::write(&gate, script).unwrap();
    fs::set_permissions(&gate, fs::Permissions::from_mode(0o755)).unwrap();
    Sshd::start_with(&format!("ForceCommand {}", gate.display()))
}

#[tokio::test]
async fn ends_many_commands_that_are_cancelled_at_once_on_a_slow_guest() {
    let folder = tempfile::tempdir().unwrap();
    // Eight of them, two at a time: the last ones wait for longer than one may take.
    let server = server_with_slow_kills(folder.path(), "sleep 7");
    let client = Client::new(server.target());
    let unique = unique();
    let cancel = CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let (client, cancel) = (client.clone(), cancel.clone());
        let mut line = command(&format!("sleep 90.{unique}"));
        line.timeout = Duration::from_secs(90);
        running.spawn(async move { client.execute(line, &cancel).await });
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    cancel.cancel();
    // A call that comes meanwhile finds a channel, if it may wait.
    assert_eq!(run(&client, "echo alive").await.stdout.text(), "alive\n");
    for result in running.join_all().await {
        assert!(
            matches!(
                result,
                Err(SshError::Cancelled {
                    left_running: false
                })
            ),
            "{result:?}"
        );
    }
    assert_eq!(processes_with(&unique), Vec::<String>::new());
}

#[tokio::test]
async fn tries_once_more_to_end_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("tried");
    let fails_once = format!("mkdir {} && exit 1", flag.display());
    let server = server_with_slow_kills(folder.path(), &fails_once);
    let client = Client::new(server.target());
    let unique = unique();
    let limited = Command::new(format!("sleep 60.{unique}"), Duration::from_millis(500));
    let output = execute(&client, limited).await.unwrap();
    assert_eq!(
        output.status,
        Status::TimedOut {
            left_running: false
        }
    );
    assert!(flag.exists());
    assert_eq!(processes_with(&unique), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_login_shell_says_first_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = server_with_slow_kills(folder.path(), "echo hello; printf 'left 1'");
    let client = Client::new(server.target());
    let unique = unique();
    let limited = Command::new(format!("sleep 60.{unique}"), Duration::from_secs(1));
    let output = execute(&client, limited).await.unwrap();
    let ended = Status::TimedOut {
        left_running: false,
    };
    assert_eq!(output.status, ended);
    assert_eq!(processes_with(&unique), Vec::<String>::new());

    let line = command(&format!("exec sleep 60.{unique}"));
    let never = CancellationToken::new();
    let mut process = client.start(line, Stay::Brief, &never).await.unwrap();
    let signaller = process.signaller().unwrap();
    let signal = async {
        until_it_sleeps(&unique).await;
        assert_eq!(signaller.send("TERM").await.unwrap(), 1);
    };
    let hearing = async {
        loop {
            if let Heard::Ended(end) = process.hear().await {
                return end;
            }
        }
    };
    let (end, ()) = tokio::join!(hearing, signal);
    assert_eq!(end.status.unwrap(), Status::Signalled("TERM".to_owned()));
}

#[tokio::test]
async fn a_command_on_a_connection_that_nothing_passes_is_ended_over_another() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let target = Target {
        port: relay.port(),
        ..server.target()
    };
    let client = Client::new(target);
    let unique = unique();
    let line = command(&format!("echo started; sleep 60.{unique}"));
    let never = CancellationToken::new();
    let mut process = client.start(line, Stay::Brief, &never).await.unwrap();
    let end = loop {
        match process.hear().await {
            Heard::Accepted | Heard::Exited(_) | Heard::Stderr(_) => {}
            Heard::Stdout(_) => {
                relay.freeze();
                process.end();
            }
            Heard::Ended(end) => break end,
        }
    };
    // Nobody heard of its end on the connection that it ran on.
    assert_eq!(end.left_running, Some(true));
    assert_eq!(processes_with(&unique), Vec::<String>::new());
}

#[tokio::test]
async fn ends_a_command_that_never_stops_talking() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let unique = unique();
    let line = format!("yes {unique} & yes {unique} >&2");
    let limited = Command::new(line, Duration::from_secs(1));
    let output = execute(&client, limited).await.unwrap();
    let ended = Status::TimedOut {
        left_running: false,
    };
    assert_eq!(output.status, ended);
    assert_eq!(processes_with(&unique), Vec::<String>::new());
}

#[tokio::test]
async fn a_command_that_floods_the_connection_and_cannot_be_ended_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = server_with_slow_kills(folder.path(), "exit 1");
    let client = Client::new(server.target());
    let unique = unique();
    // What others write keeps the way out as full as the flood keeps the way in.
    let mut writing = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let client = client.clone();
        writing.spawn(async move {
            let mut taking = command("cat >/dev/null; echo taken");
            taking.stdin = Some(vec![b'x'; 100_000_000]);
            execute(&client, taking).await.unwrap().stdout.text()
        });
    }
    let cancel = CancellationToken::new();
    let flood = command(&format!("yes {unique}"));
    let mut process = client.start(flood, Stay::Brief, &cancel).await.unwrap();
    let begun = Instant::now();
    let hearing = async {
        loop {
            if let Heard::Ended(end) = process.hear().await {
                return end;
            }
            // Slowly, so that both ways are full whenever something comes of it.
            tokio::time::sleep(Duration::from_millis(2)).await;
            if begun.elapsed() > Duration::from_millis(300) {
                process.end();
            }
        }
    };
    let end = tokio::time::timeout(SECONDS_20, hearing).await;
    assert_eq!(end.expect("it hangs").left_running, Some(true));
    assert_eq!(writing.join_all().await, ["taken\n"; 6]);
    assert_eq!(run(&client, "echo on").await.stdout.text(), "on\n");
}

#[tokio::test]
async fn leaves_other_commands_of_the_same_user_alone() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let bystander = tokio::spawn({
        let client = client.clone();
        async move { run(&client, "sleep 3; echo unharmed").await }
    });
    let daemon = run(
        &client,
        "setsid sleep 30 </dev/null >/dev/null 2>&1 & echo $!",
    )
    .await;
    let limited = Command::new("sleep 60", Duration::from_millis(300));
    let output = execute(&client, limited).await.unwrap();
    assert_eq!(
        output.status,
        Status::TimedOut {
            left_running: false
        }
    );
    assert_eq!(bystander.await.unwrap().stdout.text(), "unharmed\n");
    let daemon = daemon.stdout.text();
    assert!(process_is_there(&daemon));
    run(&client, &format!("kill {daemon}")).await;
}

#[tokio::test]
async fn signals_every_process_of_a_command_and_no_other() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let unique = unique();
    let bystander = "setsid sleep 61 </dev/null >/dev/null 2>&1 & echo $!";
    let bystander = run(&client, bystander).await.stdout.text();
    let line = format!(
        "trap 'echo hung up' HUP; sleep 60.{unique} & sleep 60.{unique}; echo again; sleep 60.{unique}"
    );
    let cancel = CancellationToken::new();
    let mut process = client
        .start(command(&line), Stay::Brief, &cancel)
        .await
        .unwrap();
    let signaller = process.signaller().unwrap();
    let said = Mutex::new(String::new());
    let signals = async {
        let end = Instant::now() + SECONDS_20;
        while sleeping(&unique) < 2 {
            assert!(Instant::now() < end, "the command does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The shell and two that sleep; the shell alone lives on, to sleep once more.
        assert_eq!(signaller.send("HUP").await.unwrap(), 3);
        while !said.lock().unwrap().contains("again") {
            assert!(Instant::now() < end, "the command does not go on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        until_it_sleeps(&unique).await;
        assert_eq!(signaller.send("KILL").await.unwrap(), 2);
    };
    let hearing = async {
        loop {
            match process.hear().await {
                Heard::Accepted | Heard::Exited(_) => {}
                Heard::Stdout(bytes) | Heard::Stderr(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    said.lock().unwrap().push_str(&text);
                }
                Heard::Ended(end) => return end,
            }
        }
    };
    let (end, ()) = tokio::join!(hearing, signals);
    assert!(
        matches!(&end.status, Ok(Status::Signalled(name)) if name == "KILL"),
        "{end:?}"
    );
    let said = said.into_inner().unwrap();
    assert!(said.contains("hung up"), "{said}");
    assert_eq!(sleeping(&unique), 0);
    assert!(process_is_there(&bystander));
    run(&client, &format!("kill {bystander}")).await;
}
