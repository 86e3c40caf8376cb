//! Connections as calls share them: how many, for whom, and again after they were lost.

use std::{
    fs, iter,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use virtpilot::ssh::{Client, Command, Heard, Manner, SshError, Stay, Target};

use crate::{
    SECONDS_20, command, execute,
    odd_server::{Behaviour, OddServer},
    relay::Relay,
    run,
    sshd::{Sshd, make_key},
    unreachable_target,
};

/// Starts this many commands, each of which runs until the file `go` is there.
fn waiting_commands(
    client: &Client,
    server: &Sshd,
    count: usize,
    timeout: Duration,
) -> JoinSet<Result<String, SshError>> {
    let folder = server.folder().display();
    let mut calls = JoinSet::new();
    for number in 0..count {
        let client = client.clone();
        let line = format!(
            "echo x >> {folder}/started; until test -e {folder}/go; do sleep 0.1; done; echo {number}"
        );
        calls.spawn(async move {
            let output = execute(&client, Command::new(line, timeout)).await?;
            Ok(output.stdout.text())
        });
    }
    calls
}

/// Waits until this many of them run.
async fn started(server: &Sshd, count: usize) {
    let start = Instant::now();
    let file = server.folder().join("started");
    loop {
        let lines = fs::read_to_string(&file)
            .unwrap_or_default()
            .lines()
            .count();
        if lines >= count {
            assert_eq!(lines, count);
            return;
        }
        assert!(start.elapsed() < SECONDS_20, "{lines} of {count} started");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn finish(server: &Sshd, calls: JoinSet<Result<String, SshError>>) {
    fs::write(server.folder().join("go"), "").unwrap();
    let mut outputs: Vec<_> = calls
        .join_all()
        .await
        .into_iter()
        .map(|output| output.unwrap().trim().parse::<usize>().unwrap())
        .collect();
    outputs.sort_unstable();
    let expected: Vec<_> = (0..outputs.len()).collect();
    assert_eq!(outputs, expected);
}

#[tokio::test]
async fn calls_share_a_connection_until_it_is_full() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let eight = waiting_commands(&client, &server, 8, SECONDS_20);
    started(&server, 8).await;
    let usage = client.info().await.usage;
    assert_eq!((usage.connections, usage.channels), (1, 8));
    // The ninth needs another connection.
    assert_eq!(run(&client, "echo ninth").await.stdout.text(), "ninth\n");
    assert_eq!(client.info().await.usage.connections, 2);
    finish(&server, eight).await;
    assert_eq!(client.info().await.usage.channels, 0);
}

#[tokio::test]
async fn a_hundred_commands_at_once_all_run_over_few_connections() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let client = Client::new(Target {
        port: relay.port(),
        ..server.target()
    });
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        calls.spawn(async move {
            let output = run(&client, &format!("echo {number}")).await;
            assert_eq!(output.stdout.text(), format!("{number}\n"));
        });
    }
    calls.join_all().await;
    let connections = relay.connections().await;
    assert!((1..=4).contains(&connections), "{connections}");
}

#[tokio::test]
async fn what_stays_long_leaves_room_for_what_is_brief() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let hours = Duration::from_hours(2);
    let long = waiting_commands(&client, &server, 24, hours);
    started(&server, 24).await;
    let error = execute(&client, Command::new("echo one too many", hours)).await;
    assert!(
        matches!(error, Err(SshError::Busy { limit: 24, .. })),
        "{error:?}"
    );
    let brief = (0..20).map(|_| {
        let client = client.clone();
        async move { run(&client, "echo brief").await.stdout.text() }
    });
    let brief: JoinSet<_> = brief.collect();
    assert_eq!(brief.join_all().await, ["brief\n"; 20]);
    finish(&server, long).await;
}

#[tokio::test]
async fn a_server_of_few_channels_gets_more_connections() {
    let server = Sshd::start_with("MaxSessions 2");
    let client = Client::new(server.target());
    let eight = waiting_commands(&client, &server, 8, SECONDS_20);
    started(&server, 8).await;
    assert_eq!(client.info().await.usage.connections, 4);
    let no_room = execute(&client, command("echo ninth")).await;
    assert!(
        matches!(
            no_room,
            Err(SshError::Busy { .. } | SshError::ChannelRefused { .. })
        ),
        "{no_room:?}"
    );
    finish(&server, eight).await;
    assert_eq!(run(&client, "echo on").await.stdout.text(), "on\n");
}

#[tokio::test]
async fn what_goes_on_after_its_call_leaves_room_for_what_is_brief() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let mut going_on = JoinSet::new();
    for _ in 0..24 {
        let mut process = client
            .start(command("sleep 3"), Stay::Brief, &CancellationToken::new())
            .await
            .unwrap();
        process.stays();
        going_on.spawn(async move { while !matches!(process.hear().await, Heard::Ended(_)) {} });
    }
    let long = Command::new("echo one too many", Duration::from_hours(2));
    let refused = execute(&client, long);
    // It waits for its turn, and the others are past soon.
    assert!(
        tokio::time::timeout(Duration::from_millis(500), refused)
            .await
            .is_err()
    );
    assert_eq!(run(&client, "echo brief").await.stdout.text(), "brief\n");
    going_on.join_all().await;
    let long = Command::new("echo long", Duration::from_hours(2));
    assert_eq!(
        execute(&client, long).await.unwrap().stdout.text(),
        "long\n"
    );
}

#[tokio::test]
async fn waits_for_a_channel_that_the_server_refuses() {
    let server = Sshd::start_with("MaxSessions 1");
    let client = Client::new(server.target());
    // One on each of the connections there may be.
    let four = waiting_commands(&client, &server, 4, SECONDS_20);
    started(&server, 4).await;
    let mut fifth = Box::pin(run(&client, "echo fifth"));
    let waits = tokio::time::timeout(Duration::from_secs(2), &mut fifth).await;
    assert!(waits.is_err(), "{waits:?}");
    finish(&server, four).await;
    assert_eq!(fifth.await.stdout.text(), "fifth\n");
}

#[tokio::test]
async fn what_stays_long_leaves_room_on_a_server_of_few_channels_too() {
    let server = Sshd::start_with("MaxSessions 1");
    let client = Client::new(server.target());
    let hours = Duration::from_hours(2);
    let long = waiting_commands(&client, &server, 3, hours);
    started(&server, 3).await;
    let error = execute(&client, Command::new("echo one too many", hours)).await;
    assert!(matches!(error, Err(SshError::Busy { .. })), "{error:?}");
    assert_eq!(run(&client, "echo brief").await.stdout.text(), "brief\n");
    finish(&server, long).await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_waits_holds_nothing() {
    let server = Sshd::start_with("MaxSessions 1");
    let client = Client::new(server.target());
    let four = waiting_commands(&client, &server, 4, SECONDS_20);
    started(&server, 4).await;
    let cancel = CancellationToken::new();
    let (result, ()) = tokio::join!(client.execute(command("echo never"), &cancel), async {
        cancel.cancel();
    });
    assert!(
        matches!(
            result,
            Err(SshError::Cancelled {
                left_running: false
            })
        ),
        "{result:?}"
    );
    finish(&server, four).await;
    assert_eq!(client.info().await.usage.channels, 0);
}

#[tokio::test]
async fn calls_that_are_cancelled_while_their_channel_opens_leave_none_open() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let client = Client::new(Target {
        port: relay.port(),
        ..server.target()
    });
    run(&client, "true").await;
    let pause = Duration::from_millis(30);
    // More than the ten that the server permits.
    for _ in 0..12 {
        let cancel = CancellationToken::new();
        let (result, ()) = tokio::join!(biased; client.execute(command("true"), &cancel), async {
            // By now it has asked for its channel, and the answer cannot have come.
            cancel.cancel();
        });
        assert!(
            matches!(result, Err(SshError::Cancelled { .. })),
            "{result:?}"
        );
        tokio::time::sleep(pause).await;
    }
    // And where SFTP starts on it.
    for milliseconds in 0..12 {
        let limit = Duration::from_millis(milliseconds);
        let _ = tokio::time::timeout(limit, client.home()).await;
        tokio::time::sleep(pause).await;
    }
    assert_eq!(run(&client, "echo on").await.stdout.text(), "on\n");
    assert_eq!(relay.connections().await, 1);
}

/// Hangs up on everybody, and notes when they came.
async fn refusing() -> (u16, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let visits = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&visits);
    tokio::spawn(async move {
        loop {
            let visit = listener.accept().await.unwrap();
            seen.lock().unwrap().push(Instant::now());
            drop(visit);
        }
    });
    (port, visits)
}

#[tokio::test]
async fn a_guest_that_refuses_is_not_hammered() {
    let (port, visits) = refusing().await;
    let client = Client::new(Target {
        port,
        ..unreachable_target()
    });
    let hundred = (0..100).map(|_| {
        let client = client.clone();
        async move { execute(&client, command("true")).await }
    });
    let hundred: JoinSet<_> = hundred.collect();
    for result in hundred.join_all().await {
        assert!(
            matches!(result, Err(SshError::ClosedAtOnce { .. })),
            "{result:?}"
        );
    }
    assert_eq!(visits.lock().unwrap().len(), 1);

    // One after the other, each call asks anew, with a longer pause before it.
    for _ in 0..3 {
        execute(&client, command("true")).await.unwrap_err();
    }
    let visits = visits.lock().unwrap();
    let pauses: Vec<_> = visits
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_millis())
        .collect();
    assert_eq!(pauses.len(), 3);
    for (pause, least) in pauses.iter().zip([200, 400, 800]) {
        assert!(*pause >= least, "{pauses:?}");
    }
}

#[tokio::test]
async fn a_guest_that_went_down_is_reached_again_when_it_is_up() {
    let mut server = Sshd::start();
    let client = Client::new(server.target());
    let (result, ()) = tokio::join!(execute(&client, command("echo begun; sleep 15")), async {
        while client.info().await.usage.channels == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.stop();
    });
    assert!(
        matches!(
            result,
            Err(SshError::ConnectionLost { .. } | SshError::Disconnected { .. })
        ),
        "{result:?}"
    );
    let down = execute(&client, command("true")).await;
    assert!(
        matches!(down, Err(SshError::Unreachable { .. })),
        "{down:?}"
    );
    server.start_again();
    assert_eq!(run(&client, "echo up").await.stdout.text(), "up\n");
}

#[tokio::test]
async fn a_guest_that_fell_silent_is_reached_anew_and_what_ran_there_is_unknown() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let client = Client::new(Target {
        port: relay.port(),
        ..server.target()
    });
    let witness = server.folder().join("witness");
    let line = format!("echo ran >> {}; sleep 300", witness.display());
    let running = Command::new(line, Duration::from_hours(1));
    let running = tokio::spawn({
        let client = client.clone();
        async move { execute(&client, running).await }
    });
    while !witness.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // As a guest whose power was cut: nothing says goodbye.
    relay.freeze();
    assert_eq!(run(&client, "echo on").await.stdout.text(), "on\n");
    let result = tokio::time::timeout(Duration::from_secs(90), running).await;
    let result = result.expect("nobody notices").unwrap();
    assert!(
        matches!(result, Err(SshError::ConnectionLost { .. })),
        "{result:?}"
    );
    assert_eq!(fs::read_to_string(&witness).unwrap(), "ran\n");
}

#[tokio::test]
async fn a_guest_that_falls_silent_while_it_is_written_to_is_given_up() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let client = Client::new(Target {
        port: relay.port(),
        ..server.target()
    });
    let (local, there) = (server.folder().join("local"), server.folder().join("there"));
    fs::create_dir(&there).unwrap();
    fs::File::create(&local).unwrap().set_len(1 << 30).unwrap();
    let half_way = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&half_way);
    let (never, remote) = (CancellationToken::new(), there.join("file"));
    let uploading = client.upload(
        &local,
        remote.to_str().unwrap(),
        Manner::default(),
        &never,
        move |done, _| {
            if done > 1 << 20 {
                notify.notify_one();
            }
        },
    );
    // As a rule the socket takes what the channels' windows let out, and keep-alives notice it beside that.
    let both = async {
        tokio::join!(uploading, async {
            half_way.notified().await;
            relay.freeze();
        })
    };
    let both = tokio::time::timeout(Duration::from_secs(200), Box::pin(both)).await;
    let (result, ()) = both.expect("nobody notices");
    assert!(
        matches!(result, Err(SshError::TransferLost { .. })),
        "{result:?}"
    );
    assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
}

#[tokio::test]
async fn a_guest_that_gets_another_address_while_it_is_connected_is_followed() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let old = Target {
        port: relay.port(),
        ..server.target()
    };
    let now = server.target();
    let client = Client::of_moving_guest(old, move || {
        let now = now.clone();
        Box::pin(async move { Ok(vec![now]) })
    });
    assert_eq!(run(&client, "echo here").await.stdout.text(), "here\n");
    // The connection stays, and nobody answers there any more.
    relay.freeze();
    drop(relay);
    assert_eq!(run(&client, "echo there").await.stdout.text(), "there\n");
    assert_eq!(client.target().port, server.port());
}

#[tokio::test]
async fn the_same_call_goes_on_where_the_guest_is_now() {
    let mut server = Sshd::start();
    let old = server.target();
    server.stop();
    server.start_elsewhere();
    let now = server.target();
    let asked = Arc::new(AtomicUsize::new(0));
    let finder = {
        let (now, asked) = (now.clone(), Arc::clone(&asked));
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            let now = now.clone();
            Box::pin(async move { Ok(vec![now]) }) as _
        }
    };
    let client = Client::of_moving_guest(old, finder);
    assert_eq!(run(&client, "echo here").await.stdout.text(), "here\n");
    assert_eq!(client.target().port, now.port);
    assert_eq!(run(&client, "echo here").await.stdout.text(), "here\n");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_guest_that_refuses_the_login_is_told_whatever_other_addresses_do() {
    let server = Sshd::start();
    let stranger = server.folder().join("stranger");
    make_key(&stranger, "ed25519", "");
    let target = Target {
        identity: Some(stranger),
        ..server.target()
    };
    let places = vec![target.clone(), unreachable_target()];
    let client = Client::of_moving_guest(target.clone(), move || {
        let places = places.clone();
        Box::pin(async move { Ok(places) })
    });
    let result = execute(&client, command("true")).await;
    assert!(
        matches!(result, Err(SshError::AuthenticationFailed { .. })),
        "{result:?}"
    );
    assert_eq!(*client.target(), target);
}

#[tokio::test]
async fn a_port_that_answers_nothing_costs_no_connection() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    assert!(client.reaches(server.port()).await.unwrap());
    // Linux lets so many wait to be taken, and answers nobody else.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let place = listener.local_addr().unwrap();
    let moment = Duration::from_millis(500);
    let waiting: Vec<_> =
        iter::from_fn(|| std::net::TcpStream::connect_timeout(&place, moment).ok()).collect();
    assert!(!waiting.is_empty());
    let before = run(&client, "echo $SSH_CONNECTION").await.stdout.text();
    assert!(!client.reaches(place.port()).await.unwrap());
    let after = run(&client, "echo $SSH_CONNECTION").await.stdout.text();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_guest_that_is_still_where_it_was_is_asked_once() {
    let (port, visits) = refusing().await;
    let target = Target {
        port,
        ..unreachable_target()
    };
    let same = target.clone();
    let client = Client::of_moving_guest(target, move || {
        let same = same.clone();
        Box::pin(async move { Ok(vec![same]) })
    });
    let result = execute(&client, command("true")).await;
    assert!(
        matches!(result, Err(SshError::ClosedAtOnce { .. })),
        "{result:?}"
    );
    assert_eq!(visits.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_that_is_told_of_another_place_leaves_the_old_one() {
    let (one, other) = (Sshd::start(), Sshd::start());
    let client = Client::new(one.target());
    let port = |output: virtpilot::ssh::Output| {
        let text = output.stdout.text();
        text.trim().rsplit(' ').next().unwrap().to_owned()
    };
    let which = "echo $SSH_CONNECTION";
    assert_eq!(port(run(&client, which).await), one.port().to_string());
    client.move_to(&[other.target()]);
    assert_eq!(port(run(&client, which).await), other.port().to_string());
}

#[tokio::test]
async fn a_server_that_permits_no_channel_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("host");
    make_key(&key, "ed25519", "");
    let server = OddServer::start(
        &key,
        Behaviour {
            channels: false,
            ..Behaviour::default()
        },
    )
    .await;
    let client = Client::new(Target {
        port: server.port,
        known_hosts: folder.path().join("known_hosts"),
        ..unreachable_target()
    });
    let result = execute(&client, command("true")).await;
    assert!(
        matches!(result, Err(SshError::ChannelRefused { .. })),
        "{result:?}"
    );
}
