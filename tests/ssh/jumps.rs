//! Guests behind jump hosts and programs of the SSH configuration, on real OpenSSH servers.

use std::{fs, path::Path};

use virtpilot::{
    model::HostKeyPolicy,
    ssh::{Client, SshError, Target},
};

use crate::{
    bytes, command, download, execute, run,
    sshd::{Sshd, free_port, make_key},
    text,
};

/// A target behind others, all of which keep host keys in the same file.
fn behind(server: &Sshd, jumps: &[&Sshd]) -> Target {
    let target = server.target();
    let jumps = jumps.iter().map(|jump| Target {
        known_hosts: target.known_hosts.clone(),
        ..jump.target()
    });
    Target {
        jumps: jumps.collect(),
        ..target
    }
}

fn names_in(known_hosts: &Path) -> Vec<String> {
    let text = fs::read_to_string(known_hosts).unwrap();
    let names = text.lines().map(|line| line.split(' ').next().unwrap());
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn goes_through_jump_hosts_one_after_the_other() {
    let (first, second, guest) = (Sshd::start(), Sshd::start(), Sshd::start());
    let target = behind(&guest, &[&first, &second]);
    let client = Client::new(target.clone());
    assert_eq!(run(&client, "echo there").await.stdout.text(), "there\n");

    // Each was let in by its own key, and its host key learnt under its own name.
    let expected = [&first, &second, &guest].map(|it| format!("[127.0.0.1]:{}", it.port()));
    assert_eq!(names_in(&target.known_hosts), expected);
    for server in [&first, &second, &guest] {
        assert!(server.log().contains("Accepted publickey"));
    }
    // Whole files come through.
    let data = bytes(3_000_000);
    fs::write(guest.folder().join("file"), &data).unwrap();
    let local = guest.folder().join("back");
    download(&client, text(&guest.folder().join("file")), &local)
        .await
        .unwrap();
    assert!(fs::read(&local).unwrap() == data);
    // And the connections end with it.
    client.close().await;
    drop(client);
}

#[tokio::test]
async fn tells_which_jump_host_says_no() {
    let (first, second, guest) = (Sshd::start(), Sshd::start(), Sshd::start());
    let stranger = guest.folder().join("stranger");
    make_key(&stranger, "ed25519", "");
    let mut target = behind(&guest, &[&first, &second]);
    target.jumps[1].identity = Some(stranger);
    let error = execute(&Client::new(target), command("true"))
        .await
        .unwrap_err();
    let SshError::AtJump { jump, source } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(jump.port, second.port());
    assert!(
        matches!(&**source, SshError::AuthenticationFailed { endpoint, .. } if endpoint.port == second.port()),
        "{source:?}"
    );
    let command = format!("`ssh-copy-id -p {} ", second.port());
    assert!(error.hint().contains(&command), "{}", error.hint());
}

#[tokio::test]
async fn checks_the_host_keys_of_jump_hosts() {
    let (jump, guest) = (Sshd::start(), Sshd::start());
    let mut target = behind(&guest, &[&jump]);
    target.jumps[0].host_keys = HostKeyPolicy::Strict;
    let error = execute(&Client::new(target.clone()), command("true"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SshError::AtJump { source, .. }
            if matches!(**source, SshError::HostKeyUnknown { .. })),
        "{error:?}"
    );
    target.jumps[0].host_keys = HostKeyPolicy::AcceptNew;
    let wrong = format!(
        "[127.0.0.1]:{} {}\n",
        jump.port(),
        guest.host_key("ed25519")
    );
    fs::create_dir_all(target.known_hosts.parent().unwrap()).unwrap();
    fs::write(&target.known_hosts, wrong).unwrap();
    let error = execute(&Client::new(target), command("true"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SshError::AtJump { source, .. }
            if matches!(**source, SshError::HostKeyChanged { line: 1, .. })),
        "{error:?}"
    );
    assert!(error.forgetting_command().is_some());
}

#[tokio::test]
async fn tells_that_a_jump_host_does_not_lead_on() {
    let (jump, guest) = (Sshd::start(), Sshd::start());
    let nobody = Target {
        port: free_port(),
        ..behind(&guest, &[&jump])
    };
    let error = execute(&Client::new(nobody.clone()), command("true"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SshError::NotForwarded { jump: at, to, .. }
            if at.port == jump.port() && to.port == nobody.port),
        "{error:?}"
    );
    assert!(error.may_be_elsewhere());

    let closed = Sshd::start_with("AllowTcpForwarding no");
    let error = execute(&Client::new(behind(&guest, &[&closed])), command("true"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SshError::NotForwarded { jump, .. } if jump.port == closed.port()),
        "{error:?}"
    );
    assert!(
        error.hint().contains("`AllowTcpForwarding`"),
        "{}",
        error.hint()
    );
}

#[tokio::test]
async fn tells_that_a_jump_host_is_not_there() {
    let (jump, guest) = (Sshd::start(), Sshd::start());
    let mut target = behind(&guest, &[&jump]);
    target.jumps[0].port = free_port();
    let error = execute(&Client::new(target), command("true"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SshError::AtJump { source, .. }
            if matches!(**source, SshError::Unreachable { .. })),
        "{error:?}"
    );
}

/// What copies both ways, with nothing but bash.
const COPIER: &str = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & exec cat >&3'";

#[tokio::test]
async fn connects_by_a_program_of_the_configuration() {
    let server = Sshd::start();
    let client = Client::new(Target {
        proxy_command: Some(COPIER.into()),
        ..server.target()
    });
    assert_eq!(
        run(&client, "echo through").await.stdout.text(),
        "through\n"
    );
}

#[tokio::test]
async fn tells_what_a_program_that_leads_nowhere_said() {
    let server = Sshd::start();
    let with = |line: &str| {
        let client = Client::new(Target {
            proxy_command: Some(line.into()),
            ..server.target()
        });
        async move { execute(&client, command("true")).await.unwrap_err() }
    };
    let error = with("sh -c 'echo first >&2; echo no way >&2; sleep 0.3; exit 1'").await;
    assert!(
        matches!(&error, SshError::ProxyCommandFailed { said, .. } if said == "`no way`"),
        "{error:?}"
    );
    let error = with("nc %z").await;
    assert!(
        matches!(error, SshError::BadProxyCommand { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_program_that_hangs_is_given_up_and_ended() {
    let server = Sshd::start();
    let process = server.folder().join("process");
    let line = format!("sh -c 'echo $$ > {}; exec sleep 600'", process.display());
    let client = Client::new(Target {
        proxy_command: Some(line),
        ..server.target()
    });
    let error = execute(&client, command("true")).await.unwrap_err();
    assert!(
        matches!(&error, SshError::ProxyCommandFailed { source, .. }
            if matches!(**source, SshError::Slow { .. })),
        "{error:?}"
    );
    let id = fs::read_to_string(&process).unwrap();
    let there = Path::new("/proc").join(id.trim()).join("cmdline");
    let start = std::time::Instant::now();
    // Gone, or waiting to be reaped, which has no command line any more.
    while fs::read(&there).is_ok_and(|line| !line.is_empty()) {
        assert!(start.elapsed() < crate::SECONDS_20, "the program stays");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
