//! Servers that refuse, hang, or are no SSH servers at all.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use russh::{
    Channel, ChannelId, ChannelStream,
    keys::PrivateKey,
    server::{self, Auth, ChannelOpenHandle, Msg, Session},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;
use virtpilot::{
    model::Secret,
    ssh::{BadCommand, Client, Manner, SshError, Status, Step, Target, Verified},
};

use crate::{
    bytes, command, download, execute, names_in,
    odd_server::{Behaviour, Exec, Login, OddServer, Sftp},
    relay::Relay,
    run,
    sshd::{Sshd, make_key},
    text,
    trees::stopped_by,
    unreachable_target, upload,
};

async fn odd(behaviour: Behaviour) -> (OddServer, TempDir, Target) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("host");
    make_key(&key, "ed25519", "");
    let server = OddServer::start(&key, behaviour).await;
    let target = Target {
        port: server.port,
        known_hosts: folder.path().join("known_hosts"),
        ..unreachable_target()
    };
    (server, folder, target)
}

fn repeating(login: Login) -> Behaviour {
    Behaviour {
        id: "SSH-2.0-OpenSSH_for_Windows_9.5",
        login,
        exec: Exec::Repeat,
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn logs_in_with_a_password_or_at_a_prompt_or_with_nothing() {
    for login in [
        Login::Anyone,
        Login::Password("s3cret"),
        Login::Prompt("s3cret"),
    ] {
        let (_server, _folder, target) = odd(repeating(login)).await;
        let password = Some(Secret::new("s3cret"));
        let client = Client::new(Target { password, ..target });
        assert_eq!(run(&client, "echo hi").await.stdout.text(), "echo hi");
    }
}

#[tokio::test]
async fn tells_what_was_tried_when_the_password_is_wrong() {
    let table = [
        (Login::Password("s3cret"), "the password", "password"),
        (
            Login::Prompt("s3cret"),
            "the password (keyboard-interactive)",
            "keyboard-interactive",
        ),
    ];
    for (login, expected, method) in table {
        let (_server, _folder, target) = odd(repeating(login)).await;
        let password = Some(Secret::new("wr0ng"));
        let client = Client::new(Target { password, ..target });
        let error = execute(&client, command("true")).await.unwrap_err();
        let SshError::AuthenticationFailed {
            user,
            tried,
            accepted,
            ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(
            (user.as_str(), &tried[..], &accepted[..]),
            (
                "nobody",
                &[expected.to_owned()][..],
                &[method.to_owned()][..]
            )
        );
        assert!(!format!("{error} {error:?} {}", error.hint()).contains("wr0ng"));
    }
}

#[tokio::test]
async fn goes_on_to_the_password_where_the_identity_does_not_do() {
    let (_server, folder, target) = odd(repeating(Login::Password("s3cret"))).await;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("garbage"), "no key").unwrap();
    make_key(&at("locked"), "ed25519", "passphrase");
    for name in ["missing", "garbage", "locked"] {
        let client = Client::new(Target {
            identity: Some(at(name)),
            password: Some(Secret::new("s3cret")),
            ..target.clone()
        });
        let output = run(&client, "echo hi").await;
        assert_eq!(output.stdout.text(), "echo hi", "{name}");
    }
}

/// A server that is gone as soon as anyone wants to log in.
struct Vanishing;

impl server::Handler for Vanishing {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Err(russh::Error::Disconnect)
    }
}

/// Serves one connection so.
async fn serving<H>(handler: H) -> (TempDir, Target)
where
    H: server::Handler<Error = russh::Error> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("host");
    make_key(&key, "ed25519", "");
    let config = Arc::new(server::Config {
        keys: vec![PrivateKey::read_openssh_file(&key).unwrap()],
        ..server::Config::default()
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let session = server::run_stream(config, stream, handler).await;
        let _ = session.unwrap().await;
    });
    let target = Target {
        port,
        known_hosts: folder.path().join("known_hosts"),
        ..unreachable_target()
    };
    (folder, target)
}

#[tokio::test]
async fn tells_a_connection_that_was_lost_from_a_login_that_was_refused() {
    let (_folder, target) = serving(Vanishing).await;
    let port = target.port;
    let client = Client::new(target);
    let error = execute(&client, command("true")).await.unwrap_err();
    assert!(
        matches!(&error, SshError::Disconnected { endpoint, .. } if endpoint.port == port),
        "{error:?}"
    );
}

/// A server with one file, whose beginning it holds back; the rest it gives byte by byte.
struct Dripping(Option<Channel<Msg>>);

impl server::Handler for Dripping {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.0 = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        let channel = self.0.take().unwrap();
        tokio::spawn(drip(channel.into_stream()));
        Ok(())
    }
}

/// Answers SFTP's requests as they are numbered in draft-ietf-secsh-filexfer-02.
async fn drip(mut stream: ChannelStream<Msg>) -> io::Result<()> {
    loop {
        let mut request = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut request).await?;
        let offset = request.len().saturating_sub(12);
        let (kind, body): (u8, &[u8]) = match request[0] {
            // What stands for the id is its version, and that of the answer.
            1 => (2, &[]),
            3 => (102, b"\0\0\0\x01h"),
            5 if request[offset..offset + 8] == [0; 8] => continue,
            5 => (103, b"\0\0\0\x01x"),
            // Size and mode: 1 GiB, a regular file.
            7 | 8 | 17 => (105, b"\0\0\0\x05\0\0\0\0\x40\0\0\0\0\0\x81\xa4"),
            16 => (104, b"\0\0\0\x01\0\0\0\x05/file\0\0\0\0\0\0\0\0"),
            _ => (101, &[0; 12]),
        };
        let length = u32::try_from(5 + body.len()).unwrap();
        let answer = [&length.to_be_bytes(), &[kind][..], &request[1..5], body];
        stream.write_all(&answer.concat()).await?;
    }
}

#[tokio::test]
async fn a_server_that_gives_a_file_byte_by_byte_but_not_its_beginning_is_given_up() {
    let (folder, target) = serving(Dripping(None)).await;
    let (client, to) = (Client::new(target), folder.path().join("to"));
    let down = download(&client, "/file", &to);
    let down = tokio::time::timeout(Duration::from_mins(1), down).await;
    match down.expect("it is waited for without end") {
        Err(SshError::Remote { act, path, .. }) => {
            assert_eq!((act, path.as_str()), ("read", "/file"));
        }
        other => panic!("{other:?}"),
    }
    assert!(!to.exists());
}

#[tokio::test]
async fn hands_commands_bare_to_a_windows_guest() {
    let (_server, _folder, target) = odd(repeating(Login::Anyone)).await;
    let client = Client::new(target);
    let output = run(&client, "dir C:\\ & ver").await;
    assert_eq!(output.stdout.text(), "dir C:\\ & ver");
    assert_eq!(output.status, Status::Exited(0));
    let mut inside = command("dir");
    inside.cwd = Some("C:\\".into());
    let error = execute(&client, inside).await.unwrap_err();
    assert!(
        matches!(error, SshError::BadCommand(BadCommand::Windows)),
        "{error:?}"
    );
}

#[tokio::test]
async fn hands_commands_bare_to_a_guest_that_runs_no_sh() {
    let router = Behaviour {
        id: "SSH-2.0-Router-1.25",
        exec: Exec::Router,
        ..Behaviour::default()
    };
    let (_server, _folder, target) = odd(router).await;
    let client = Client::new(target);
    let output = run(&client, "show version").await;
    assert_eq!(output.stdout.text(), "1.0\n");
    assert_eq!(output.status, Status::Exited(0));
    let mut inside = command("show version");
    inside.env = vec![("A".into(), "1".into())];
    let error = execute(&client, inside).await.unwrap_err();
    assert!(
        matches!(error, SshError::BadCommand(BadCommand::ForeignShell)),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_a_guest_refuses_for_ending_a_command_is_closed() {
    let full = Behaviour {
        id: "SSH-2.0-OpenSSH_odd",
        exec: Exec::Hang,
        ..Behaviour::default()
    };
    let closed = Arc::clone(&full.closed);
    let (_server, _folder, target) = odd(full).await;
    let client = Client::new(target);
    let mut endless = command("cat");
    endless.timeout = Duration::from_millis(300);
    let output = execute(&client, endless).await.unwrap();
    assert_eq!(output.status, Status::TimedOut { left_running: true });
    // Its own channel, and those of the attempts to end it.
    let all = async {
        while closed.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .unwrap();
}

#[tokio::test]
async fn tells_that_a_server_runs_no_commands_or_hides_how_they_end() {
    let (_server, _folder, target) = odd(Behaviour::default()).await;
    let error = execute(&Client::new(target), command("true"))
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::ExecRefused { .. }), "{error:?}");

    let silent = Behaviour {
        exec: Exec::SayNothing,
        ..Behaviour::default()
    };
    let (_server, _folder, target) = odd(silent).await;
    let error = execute(&Client::new(target), command("true"))
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::NoExitStatus { .. }), "{error:?}");
}

#[tokio::test]
async fn tells_that_a_server_has_no_sftp() {
    let (_server, folder, target) = odd(Behaviour::default()).await;
    let local = folder.path().join("file");
    fs::write(&local, "x").unwrap();
    let error = upload(&Client::new(target), &local, "/tmp/x")
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::NoSftp { .. }), "{error:?}");
    assert!(error.hint().contains("openssh-sftp-server"));

    // A shell that greets, which no client of the protocol understands.
    let gate = folder.path().join("gate");
    fs::write(&gate, "#!/bin/sh\necho hello\nexec cat >/dev/null\n").unwrap();
    fs::set_permissions(&gate, fs::Permissions::from_mode(0o755)).unwrap();
    let server = Sshd::start_with(&format!("ForceCommand {}", gate.display()));
    let error = upload(&Client::new(server.target()), &local, "/tmp/x")
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::NoSftp { .. }), "{error:?}");
    assert!(error.hint().contains("`~/.bashrc`"), "{}", error.hint());
}

#[tokio::test]
async fn moves_files_with_a_server_that_knows_only_the_protocol() {
    let plain = Behaviour {
        sftp: Some(Sftp::default()),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(plain).await;
    let client = Client::new(target);
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("there")).unwrap();
    fs::write(at("local"), bytes(300_000)).unwrap();
    let remote = at("there/file");

    let first = upload(&client, &at("local"), text(&remote)).await.unwrap();
    assert_eq!((first.verified, first.atomic), (Verified::ReadBack, true));
    let second = upload(&client, &at("local"), text(&remote)).await.unwrap();
    assert_eq!(
        (second.verified, second.atomic),
        (Verified::ReadBack, false)
    );
    assert!(fs::read(&remote).unwrap() == bytes(300_000));
    assert_eq!(names_in(&at("there")), ["file"]);

    // Its reads all come up short.
    let down = download(&client, text(&remote), &at("back")).await.unwrap();
    assert_eq!(down.verified, Verified::ReadBack);
    assert!(fs::read(at("back")).unwrap() == bytes(300_000));
}

#[tokio::test]
async fn an_old_file_that_cannot_come_back_is_told_by_its_name() {
    let stuck = Behaviour {
        sftp: Some(Sftp {
            renames_once: true,
            ..Sftp::default()
        }),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(stuck).await;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("there")).unwrap();
    fs::write(at("local"), "new").unwrap();
    fs::write(at("there/file"), "old").unwrap();

    let client = Client::new(target);
    let error = upload(&client, &at("local"), text(&at("there/file"))).await;
    let SshError::OldAside { path, aside, .. } = error.unwrap_err() else {
        panic!("the old file is not told");
    };
    assert_eq!(path, text(&at("there/file")));
    assert_eq!(fs::read(&aside).unwrap(), b"old");
    assert_eq!(names_in(&at("there")).len(), 1);
}

#[tokio::test]
async fn a_name_that_was_given_as_the_connection_was_lost_is_told_as_unsure() {
    let sftp = Sftp::default();
    let renaming = sftp.renaming.clone();
    let plain = Behaviour {
        sftp: Some(sftp),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(plain).await;
    let relay = Relay::to(target.port).await;
    let client = Client::new(Target {
        port: relay.port(),
        ..target
    });
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("there")).unwrap();
    fs::write(at("local"), "new").unwrap();
    let (local, remote) = (at("local"), at("there/file"));
    // The guest has renamed it, and has not answered yet.
    let (result, ()) = tokio::join!(upload(&client, &local, text(&remote)), async {
        renaming.cancelled().await;
        relay.cut().await;
    });
    match result {
        Err(SshError::MaybeReplaced { path, source }) => {
            assert_eq!(path, text(&remote));
            assert!(
                matches!(*source, SshError::TransferLost { .. }),
                "{source:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(&remote).unwrap(), "new");
    assert_eq!(names_in(&at("there")), ["file"]);
}

#[tokio::test]
async fn a_download_goes_on_where_the_guest_hashes_nothing() {
    let plain = Behaviour {
        sftp: Some(Sftp::default()),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(plain).await;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("from"), bytes(300_000)).unwrap();
    fs::write(at(".to.virtpilot.part"), bytes(100_000)).unwrap();
    let resuming = Manner {
        resume: true,
        ..Manner::default()
    };
    let (client, never) = (Client::new(target), CancellationToken::new());
    let (from, to) = (at("from"), at("to"));
    let down = client.download(text(&from), &to, resuming, &never, |_, _| {});
    let down = down.await.unwrap();
    assert_eq!((down.resumed, down.verified), (100_000, Verified::ReadBack));
    assert!(fs::read(&to).unwrap() == bytes(300_000));
}

/// A folder that has itself in it, and so on.
const ENDLESS: &str = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd\
                       dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

#[tokio::test]
async fn a_guest_that_lies_of_its_files_reaches_nothing_else_of_the_host() {
    let lying = Behaviour {
        sftp: Some(Sftp {
            lies: &[
                ("", 0o100_644, ""),
                ("..", 0o040_755, ""),
                ("../escape", 0o100_644, ""),
                ("/tmp/virtpilot-escape", 0o100_644, ""),
                ("in/../../escape", 0o100_644, ""),
                ("out", 0o120_777, "../outside"),
                // Once more, to be written through the link.
                ("out", 0o040_755, ""),
                ("out/file", 0o100_644, ""),
                ("in", 0o120_777, "file"),
                ("in", 0o040_755, ""),
                ("up", 0o120_777, "in/../../outside"),
                ("file", 0o100_644, ""),
                (ENDLESS, 0o040_755, ""),
            ],
            ..Sftp::default()
        }),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(lying).await;
    let at = |name: &str| folder.path().join(name);
    for name in ["there", "outside"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("there/file"), "evil").unwrap();
    fs::write(at("outside/file"), "old").unwrap();
    let client = Client::new(target);
    let done = client
        .download_tree(
            text(&at("there")),
            &at("to"),
            Manner::default(),
            Arc::new(|_| true),
            &CancellationToken::new(),
            |_, _| {},
        )
        .await
        .unwrap();
    assert!(done.stopped.is_none(), "{:?}", done.stopped);
    // Of the deeper folders it has the names alone.
    assert_eq!(done.files, 1);
    assert!(done.folders > 2 && done.folders < 30, "{}", done.folders);
    let why = |path: &str| {
        let told = done.skipped.first.iter().filter(|note| note.path == path);
        told.map(|note| note.why.as_str()).collect::<Vec<_>>()
    };
    for path in [
        "../escape",
        "/tmp/virtpilot-escape",
        "in/../../escape",
        "out/file",
    ] {
        assert_eq!(why(path), ["no name of a file"], "{path}");
    }
    let (leads_out, twice) = (
        "a link that leads out of the folder",
        "told twice by the guest",
    );
    assert_eq!(why("out"), [leads_out, twice]);
    assert_eq!(why("up"), [leads_out]);
    assert_eq!(why("in"), [twice]);

    assert_eq!(names_in(&at("to")), [ENDLESS, "file", "in"]);
    assert_eq!(fs::read_link(at("to/in")).unwrap(), Path::new("file"));
    assert_eq!(fs::read_to_string(at("to/file")).unwrap(), "evil");
    assert_eq!(names_in(&at("outside")), ["file"]);
    assert_eq!(fs::read_to_string(at("outside/file")).unwrap(), "old");
    assert!(!at("escape").exists() && !Path::new("/tmp/virtpilot-escape").exists());
}

#[tokio::test]
async fn tells_that_the_guest_has_no_space_left() {
    let sftp = Sftp {
        full: true,
        ..Sftp::default()
    };
    let open = Arc::clone(&sftp.open);
    let full = Behaviour {
        sftp: Some(sftp),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(full).await;
    let there = folder.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("file"), "old").unwrap();
    let local = folder.path().join("local");
    fs::write(&local, bytes(300_000)).unwrap();
    let error = upload(&Client::new(target), &local, text(&there.join("file")))
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::RemoteFull { .. }), "{error:?}");
    assert_eq!(names_in(&there), ["file"]);
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "old");
    assert_eq!(open.load(Ordering::SeqCst), 0, "what failed is closed too");
}

#[tokio::test]
async fn what_was_written_behind_a_failure_is_no_part_to_go_on_from() {
    let sftp = Sftp::default();
    sftp.refuses.store(65_536, Ordering::SeqCst);
    let plain = Behaviour {
        sftp: Some(sftp),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(plain).await;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("from"), bytes(300_000)).unwrap();
    let resuming = Manner {
        resume: true,
        ..Manner::default()
    };
    let (client, never) = (Client::new(target), CancellationToken::new());
    let (from, to) = (at("from"), at("to"));
    let up = || client.upload(&from, text(&to), resuming, &never, |_, _| {});
    let error = up().await.unwrap_err();
    assert!(matches!(error, SshError::Interrupted { .. }), "{error:?}");
    assert!(fs::read(at(".to.virtpilot.part")).unwrap() == bytes(65_536));
    let done = up().await.unwrap();
    assert_eq!((done.resumed, done.bytes), (65_536, 300_000));
    assert!(fs::read(&to).unwrap() == bytes(300_000));
}

#[tokio::test]
async fn a_download_that_fails_here_closes_the_file_there() {
    let sftp = Sftp::default();
    let open = Arc::clone(&sftp.open);
    let plain = Behaviour {
        sftp: Some(sftp),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(plain).await;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("from"), bytes(300_000)).unwrap();
    std::os::unix::fs::symlink("elsewhere", at(".to.virtpilot.part")).unwrap();
    let resuming = Manner {
        resume: true,
        ..Manner::default()
    };
    let (client, never) = (Client::new(target), CancellationToken::new());
    let (from, to) = (at("from"), at("to"));
    let down = client.download(text(&from), &to, resuming, &never, |_, _| {});
    let error = down.await.unwrap_err();
    assert!(matches!(error, SshError::Local { .. }), "{error:?}");
    assert_eq!(open.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_naming_leaves_no_file_without_its_name() {
    let sftp = Sftp::default();
    let cancel = sftp.renaming.clone();
    let plain = Behaviour {
        sftp: Some(sftp),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(plain).await;
    let at = |name: &str| folder.path().join(name);
    for side in ["from", "to"] {
        fs::create_dir(at(side)).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(at(side).join(name), side).unwrap();
        }
    }
    let done = Client::new(target)
        .upload_tree(
            &at("from"),
            text(&at("to")),
            Manner::default(),
            Arc::new(|_| true),
            &cancel,
            |_, _| {},
        )
        .await
        .unwrap();
    assert!(
        matches!(stopped_by(&done), SshError::TransferCancelled),
        "{done:?}"
    );
    assert_eq!(done.files, 3, "what was sent and compared gets its names");
    assert_eq!(names_in(&at("to")), ["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        let content = fs::read_to_string(at("to").join(name)).unwrap();
        assert_eq!(content, "from");
    }
}

/// A server that hangs as soon as it is to rename something, which cancels the token; with a file to send, and a folder
/// for it.
async fn hanging() -> (OddServer, TempDir, Client, CancellationToken) {
    let sftp = Sftp {
        hangs_renaming: true,
        ..Sftp::default()
    };
    let renaming = sftp.renaming.clone();
    let stuck = Behaviour {
        sftp: Some(sftp),
        ..Behaviour::default()
    };
    let (server, folder, target) = odd(stuck).await;
    for name in ["from", "there"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("from/file"), "new").unwrap();
    (server, folder, Client::new(target), renaming)
}

#[tokio::test]
async fn a_cancel_ends_the_wait_for_a_guest_that_hangs_at_the_rename() {
    for (has_old, resume) in [(false, false), (false, true), (true, false)] {
        let (_server, folder, client, cancel) = hanging().await;
        let at = |name: &str| folder.path().join(name);
        let remote = at("there/file");
        if has_old {
            fs::write(&remote, "old").unwrap();
        }
        let manner = Manner {
            resume,
            ..Manner::default()
        };
        let local = at("from/file");
        let up = client.upload(&local, text(&remote), manner, &cancel, |_, _| {});
        let up = tokio::time::timeout(Duration::from_mins(1), up).await;
        let source = match up.expect("the cancel is not heard") {
            Err(SshError::OldAside { path, source, .. }) if has_old => {
                assert_eq!(path, text(&remote));
                source
            }
            // Whether the part is still there nobody can say either.
            Err(SshError::MaybeReplaced { path, source }) if !has_old => {
                assert_eq!(path, text(&remote));
                source
            }
            other => panic!("{has_old} {resume}: {other:?}"),
        };
        assert!(matches!(*source, SshError::TransferCancelled), "{source:?}");
        let names = names_in(&at("there"));
        let expected: &[&str] = match (has_old, resume) {
            (true, _) => &["file"],
            (false, true) => &[".file.virtpilot.part"],
            (false, false) => &[],
        };
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn a_cancel_of_a_tree_whose_guest_hangs_at_the_rename_tells_what_is_not_known() {
    let (_server, folder, client, cancel) = hanging().await;
    let at = |name: &str| folder.path().join(name);
    let (from, there) = (at("from"), at("there"));
    let manner = Manner::default();
    let all = Arc::new(|_: &Path| true);
    let up = client.upload_tree(&from, text(&there), manner, all, &cancel, |_, _| {});
    let up = tokio::time::timeout(Duration::from_mins(1), up).await;
    let done = up.expect("the cancel is not heard").unwrap();
    assert_eq!(done.files, 0);
    match stopped_by(&done) {
        SshError::MaybeReplaced { path, source } => {
            assert_eq!(path, text(&there));
            assert!(
                matches!(**source, SshError::TransferCancelled),
                "{source:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_that_is_given_soon_after_a_cancel_is_told_as_given() {
    let sftp = Sftp::default();
    // With the first rename, which takes its time.
    let cancel = sftp.renaming.clone();
    let plain = Behaviour {
        sftp: Some(sftp),
        ..Behaviour::default()
    };
    let (_server, folder, target) = odd(plain).await;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("local"), "new").unwrap();
    let (client, local, remote) = (Client::new(target), at("local"), at("remote"));
    let manner = Manner::default();
    let up = client.upload(&local, text(&remote), manner, &cancel, |_, _| {});
    assert_eq!(up.await.unwrap().bytes, 3);
    assert_eq!(fs::read_to_string(&remote).unwrap(), "new");
}

/// A server that sends this and then waits, or closes.
async fn saying(greeting: &'static str, waits: bool) -> Client {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(greeting.as_bytes()).await.unwrap();
            if waits {
                open.push(stream);
            }
        }
    });
    Client::new(Target {
        port,
        ..unreachable_target()
    })
}

#[tokio::test]
async fn gives_up_on_servers_that_hang_and_tells_which_step_hung() {
    let start = Instant::now();
    let mute = saying("", true).await;
    let stuck = saying("SSH-2.0-stuck\r\n", true).await;
    // Calls that wait for the same connection share its failure, instead of waiting in a row.
    let (one, two, three, four) = tokio::join!(
        execute(&mute, command("true")),
        execute(&mute, command("true")),
        execute(&mute, command("true")),
        execute(&stuck, command("true")),
    );
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    for (result, expected) in [
        (one, Step::Greeting),
        (two, Step::Greeting),
        (three, Step::Greeting),
        (four, Step::KeyExchange),
    ] {
        match result {
            Err(SshError::Slow { step, .. }) => assert_eq!(step, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn tells_what_is_wrong_with_what_is_not_an_ssh_server() {
    let closing = execute(&saying("", false).await, command("true"))
        .await
        .unwrap_err();
    assert!(
        matches!(closing, SshError::ClosedAtOnce { .. }),
        "{closing:?}"
    );

    let web = saying("HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    let web = execute(&web, command("true")).await.unwrap_err();
    assert!(
        matches!(&web, SshError::NotSsh { said, .. } if said == "HTTP/1.1 400 Bad Request"),
        "{web:?}"
    );

    let nobody = execute(&Client::new(unreachable_target()), command("true"))
        .await
        .unwrap_err();
    assert!(matches!(nobody, SshError::Unreachable { .. }), "{nobody:?}");

    let nowhere = Target {
        host: "no-such-host.invalid".into(),
        ..unreachable_target()
    };
    let nowhere = execute(&Client::new(nowhere), command("true"))
        .await
        .unwrap_err();
    assert!(
        matches!(&nowhere, SshError::Resolve { host, .. } if host == "no-such-host.invalid"),
        "{nowhere:?}"
    );
}
