//! Commands on a real OpenSSH server.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use virtpilot::ssh::{BadCommand, Client, Heard, SshError, Status, Stay, Stream, Target};

use crate::{bytes, command, execute, relay::Relay, run, sshd::Sshd, unreachable_target};

#[tokio::test]
async fn runs_commands_as_plain_ssh_does() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let table: [(&str, &str, &str, i32); 20] = [
        ("true", "", "", 0),
        ("exit 3", "", "", 3),
        ("exit 255", "", "", 255),
        ("false; exit", "", "", 1),
        ("echo 'a b'  \"c  d\" e\\ f", "a b c  d e f\n", "", 0),
        ("echo \"it's\" '\"'", "it's \"\n", "", 0),
        ("echo $(echo inner) `echo tick`", "inner tick\n", "", 0),
        ("echo '$(id) `id` $HOME'", "$(id) `id` $HOME\n", "", 0),
        ("echo one\necho two >&2\nexit 4", "one\n", "two\n", 4),
        ("cat <<'END'\nhere $x\nEND", "here $x\n", "", 0),
        ("# only a comment", "", "", 0),
        ("printf 'no newline'", "no newline", "", 0),
        ("echo a | tr a b | cat", "b\n", "", 0),
        ("cat", "", "", 0),
        ("read line; echo \"[$line]\"", "[]\n", "", 0),
        ("printf 'gr\\303\\274\\303\\237e'", "grüße", "", 0),
        ("printf 'a\\377b'", "a\u{fffd}b", "", 0),
        ("x=1; (exit 7); echo $?", "7\n", "", 0),
        ("echo \\\\ '\\' \"\\\\\"", "\\ \\ \\\n", "", 0),
        ("exec sh -c 'exit 9'", "", "", 9),
    ];
    for (line, stdout, stderr, code) in table {
        let output = run(&client, line).await;
        assert_eq!(output.stdout.text(), stdout, "{line:?}");
        assert_eq!(output.stderr.text(), stderr, "{line:?}");
        assert_eq!(output.status, Status::Exited(code), "{line:?}");
        let plain = plain_ssh(&server, line).await;
        assert_eq!(
            String::from_utf8_lossy(&plain.stdout),
            stdout,
            "plain ssh: {line:?}"
        );
        assert_eq!(plain.status.code(), Some(code), "plain ssh: {line:?}");
    }
    // What the shell itself says is the same too, line numbers included.
    for line in [
        "nonsense-command",
        "echo 'unfinished",
        "if then",
        "true\nnonsense-command",
    ] {
        let output = run(&client, line).await;
        let plain = plain_ssh(&server, line).await;
        assert_eq!(
            output.stderr.text(),
            String::from_utf8_lossy(&plain.stderr),
            "{line:?}"
        );
        assert_eq!(
            output.status,
            Status::Exited(plain.status.code().unwrap()),
            "{line:?}"
        );
    }
}

/// What OpenSSH's client makes of a command; it keeps one connection as ours does.
async fn plain_ssh(server: &Sshd, line: &str) -> std::process::Output {
    tokio::process::Command::new("ssh")
        .args(["-F", "none", "-n", "-q", "-o", "BatchMode=yes"])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "ControlMaster=auto", "-o", "ControlPersist=5", "-o"])
        .arg(format!(
            "ControlPath={}",
            server.folder().join("control").display()
        ))
        .args(["-p", &server.port().to_string(), "-i"])
        .arg(server.identity())
        .args(["127.0.0.1", line])
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn tells_a_command_that_a_signal_ended() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let output = run(&client, "kill -KILL $$").await;
    assert_eq!(output.status, Status::Signalled("KILL".into()));
}

#[tokio::test]
async fn hands_input_over_and_ends_it() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let big = bytes(5_000_000);

    let mut counting = command("wc -c; echo done");
    counting.stdin = Some(big.clone());
    assert_eq!(
        execute(&client, counting).await.unwrap().stdout.text(),
        "5000000\ndone\n"
    );

    // A command that reads nothing of it neither hangs nor fails, however much it is.
    let mut deaf = command("echo deaf");
    deaf.stdin = Some(vec![b'x'; 40_000_000]);
    let output = execute(&client, deaf).await.unwrap();
    assert_eq!(
        (output.stdout.text().as_str(), output.status),
        ("deaf\n", Status::Exited(0))
    );

    // Input and output at the same time, both larger than any buffer.
    let mut echoing = command("tee /dev/stderr");
    echoing.stdin = Some(big.clone());
    let output = execute(&client, echoing).await.unwrap();
    let omitted = (big.len() - Stream::KEPT) as u64;
    assert_eq!(
        (output.stdout.omitted, output.stderr.omitted),
        (omitted, omitted)
    );
    assert_eq!(output.stdout.head, big[..16_384]);
    assert_eq!(output.stdout.tail, big[big.len() - 16_384..]);
}

#[tokio::test]
async fn keeps_head_and_tail_of_long_output() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let output = run(&client, "seq 1 200000").await;
    let all: Vec<_> = (1..=200_000).map(|n| n.to_string()).collect();
    let all = all.join("\n") + "\n";
    assert_eq!(output.stdout.omitted, (all.len() - Stream::KEPT) as u64);
    assert_eq!(output.stdout.head, all.as_bytes()[..16_384]);
    assert_eq!(output.stdout.tail, all.as_bytes()[all.len() - 16_384..]);
}

#[tokio::test]
async fn hands_on_output_while_the_command_runs() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let gate = server.folder().join("gate");
    let line = format!(
        "echo one; until [ -e {} ]; do sleep 0.05; done; echo two >&2; printf three",
        gate.display()
    );
    let cancel = CancellationToken::new();
    let mut process = client
        .start(command(&line), Stay::Brief, &cancel)
        .await
        .unwrap();
    let mut said = String::new();
    let end = loop {
        match process.hear().await {
            Heard::Accepted | Heard::Exited(_) => {}
            Heard::Stdout(bytes) | Heard::Stderr(bytes) => {
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
            Heard::Ended(end) => break end,
        }
        // The command goes on only after this was heard.
        if said == "one\n" {
            fs::write(&gate, "").unwrap();
        }
    };
    assert!(matches!(end.status, Ok(Status::Exited(0))), "{end:?}");
    assert!(
        ["one\ntwo\nthree", "one\nthreetwo\n"].contains(&said.as_str()),
        "{said}"
    );
}

#[tokio::test]
async fn a_command_takes_input_for_as_long_as_it_stays_open() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let mut open = command("cat; echo end");
    open.stdin = Some(b"first\n".to_vec());
    open.input_stays_open = true;
    let mut process = client
        .start(open, Stay::Brief, &CancellationToken::new())
        .await
        .unwrap();
    let mut input = process.take_input();
    assert!(process.take_input().is_none());
    let mut said = Vec::new();
    let end = loop {
        match process.hear().await {
            Heard::Accepted | Heard::Exited(_) => {}
            Heard::Stdout(bytes) | Heard::Stderr(bytes) => said.extend(bytes),
            Heard::Ended(end) => break end,
        }
        if said.ends_with(b"first\n") {
            input
                .as_ref()
                .unwrap()
                .send(b"second\n".to_vec())
                .await
                .unwrap();
        }
        if said.ends_with(b"second\n") {
            input = None;
        }
    };
    assert!(matches!(end.status, Ok(Status::Exited(0))), "{end:?}");
    assert_eq!(String::from_utf8_lossy(&said), "first\nsecond\nend\n");
}

/// Values of variables that shells may take for something else.
pub(crate) const VALUES: [&str; 18] = [
    "",
    " ",
    "plain",
    "it's",
    "\"quoted\"",
    "$(touch /tmp/virtpilot-broke-out)",
    "`id`",
    "a\nb",
    "\\",
    "\\'",
    "'; exit 9; '",
    "*",
    "~",
    "ü€😀",
    "-n",
    "a\tb",
    "!x",
    "#",
];

/// Names of folders, likewise.
pub(crate) const FOLDERS: [&str; 9] = [
    "plain",
    "with space",
    "it's",
    "a$(id)`id`",
    "new\nline",
    "-",
    "~",
    "back\\slash",
    "ü",
];

#[tokio::test]
async fn runs_in_the_folder_and_with_the_variables_given() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    for value in VALUES {
        let mut with = command("printf '%s' \"$VALUE_1\"");
        with.env = vec![
            ("VALUE_1".into(), value.into()),
            ("OTHER".into(), "x".into()),
        ];
        let output = execute(&client, with).await.unwrap();
        assert_eq!(output.stdout.text(), value, "{value:?}");
        assert_eq!(output.status, Status::Exited(0), "{value:?}");
    }
    assert!(!Path::new("/tmp/virtpilot-broke-out").exists());

    for name in FOLDERS {
        let folder = server.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let mut inside = command("pwd -P");
        inside.cwd = Some(folder.to_str().unwrap().to_owned());
        let output = execute(&client, inside).await.unwrap();
        assert_eq!(
            output.stdout.text(),
            format!("{}\n", folder.display()),
            "{name:?}"
        );
    }
    let mut home = command("pwd");
    home.cwd = Some("~".into());
    let expected = run(&client, "echo $HOME").await.stdout.text();
    assert_eq!(
        execute(&client, home).await.unwrap().stdout.text(),
        expected
    );

    let mut nowhere = command("echo ran");
    nowhere.cwd = Some("/no/such folder".into());
    let output = execute(&client, nowhere).await.unwrap();
    assert_eq!(
        (output.stdout.text().as_str(), output.status),
        ("", Status::Exited(1))
    );
    assert!(output.stderr.text().contains("/no/such folder"));
}

/// What stands before the first command of a connection.
const HEAD: &str = "sh -c '{ read -r shell </proc/$PPID/comm || shell=$(ps -o comm= -p $PPID); } 2>/dev/null; \
                    echo virtpilot-0123456789abcdef:$PPID:${shell##*/}'; ";

#[tokio::test]
async fn only_the_first_command_starts_a_process_beside_its_own() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let line = "tr '\\0' '\\n' < /proc/$$/cmdline | tail -n 1; true";
    let mut seen = vec![];
    for _ in 0..3 {
        let shown = run(&client, line).await.stdout.text();
        let head = shown.strip_suffix(&format!("{line}\n")).unwrap();
        seen.push(head.split_once(" virtpilot-").unwrap().0.to_owned());
    }
    let first = HEAD.split_once(" virtpilot-").unwrap().0;
    assert_eq!(seen, [first, "\\echo", "\\echo"]);
}

#[tokio::test]
async fn runs_the_longest_line_that_it_takes() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let head = HEAD.len();
    let words = "x".repeat(120_000 - head - "printf %s  | wc -c".len());
    let output = run(&client, &format!("printf %s {words} | wc -c")).await;
    assert_eq!(output.stdout.text(), format!("{}\n", words.len()));
}

#[tokio::test]
async fn refuses_commands_that_no_shell_can_take() {
    // Nothing listens there: these are refused before anything is connected.
    let client = Client::new(unreachable_target());
    let mut bad_name = command("true");
    bad_name.env = vec![("A;id".into(), "x".into())];
    let mut nul_value = command("true");
    nul_value.env = vec![("A".into(), "x\0y".into())];
    let mut no_folder = command("true");
    no_folder.cwd = Some(String::new());
    let head = HEAD.len();
    let too_long = command(&"x".repeat(120_001 - head));
    let mut long_value = command("true");
    long_value.env = vec![("A".into(), "x".repeat(120_000))];
    let length = head + "export A='' || exec false; true".len() + 120_000;
    let table = [
        (command(" \n"), BadCommand::Empty),
        (command("a\0b"), BadCommand::Nul { part: "command" }),
        (
            bad_name,
            BadCommand::VariableName {
                name: "A;id".into(),
            },
        ),
        (nul_value, BadCommand::Nul { part: "env" }),
        (no_folder, BadCommand::EmptyCwd),
        (too_long, BadCommand::TooLong { length: 120_001 }),
        (long_value, BadCommand::TooLong { length }),
    ];
    for (bad, expected) in table {
        match execute(&client, bad).await {
            Err(SshError::BadCommand(error)) => assert_eq!(error, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn reports_a_command_as_unknown_when_the_connection_breaks_and_never_runs_it_again() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let client = Client::new(Target {
        port: relay.port(),
        ..server.target()
    });
    let witness = server.folder().join("witness");
    let line = format!("echo ran >> {}; sleep 4", witness.display());
    let (result, ()) = tokio::join!(execute(&client, command(&line)), async {
        while !witness.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        relay.cut().await;
    });
    assert!(
        matches!(result, Err(SshError::ConnectionLost { .. })),
        "{result:?}"
    );
    // The next call connects anew, and only runs what it was given.
    assert_eq!(run(&client, "echo back").await.stdout.text(), "back\n");
    assert_eq!(fs::read_to_string(&witness).unwrap(), "ran\n");
}

#[tokio::test]
async fn tells_about_the_connection_and_its_end() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let begun = Instant::now();
    let info = client.info().await;
    assert!(info.connected, "{info:?}");
    let identity = format!("identity {}", server.identity().display());
    assert_eq!(info.login.as_ref(), Some(&identity));
    assert!(info.server_version.unwrap().starts_with("SSH-2.0-OpenSSH_"));
    assert_eq!(info.key_algorithm.as_deref(), Some("ssh-ed25519"));
    assert!(info.fingerprint.unwrap().starts_with("SHA256:"));
    assert!(info.round_trip.unwrap() <= begun.elapsed());
    client.close().await;
    assert_eq!(run(&client, "echo again").await.stdout.text(), "again\n");

    let info = Client::new(unreachable_target()).info().await;
    assert!(!info.connected);
    assert!(
        matches!(info.error, Some(SshError::Unreachable { .. })),
        "{info:?}"
    );
}
