//! Host keys and logging in, on a real OpenSSH server.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use virtpilot::{
    model::{HostKeyPolicy, Secret},
    ssh::{AgentSocket, Client, SshError, Target},
};

use crate::{
    command, execute,
    sshd::{Sshd, make_key, whoami},
};

/// The fingerprint as OpenSSH tells it.
fn fingerprint(key_file: &Path) -> String {
    let output = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(key_file)
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split(' ').nth(1).unwrap().to_owned()
}

pub(crate) async fn connect(target: Target) -> Result<(), SshError> {
    execute(&Client::new(target), command("true"))
        .await
        .map(drop)
}

#[tokio::test]
async fn learns_a_new_host_key_once() {
    let server = Sshd::start();
    let target = server.target();
    connect(target.clone()).await.unwrap();
    connect(Target {
        host_keys: HostKeyPolicy::Strict,
        ..target.clone()
    })
    .await
    .unwrap();
    let (kind, key) = server
        .host_key("ed25519")
        .split_once(' ')
        .map(|(kind, rest)| (kind.to_owned(), rest.split(' ').next().unwrap().to_owned()))
        .unwrap();
    assert_eq!(
        fs::read_to_string(&target.known_hosts).unwrap(),
        format!("[127.0.0.1]:{} {kind} {key}\n", server.port())
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&target.known_hosts), 0o600);
    assert_eq!(mode(target.known_hosts.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn refuses_an_unknown_host_key_where_only_known_ones_count() {
    let server = Sshd::start();
    let target = Target {
        host_keys: HostKeyPolicy::Strict,
        ..server.target()
    };
    let error = connect(target.clone()).await.unwrap_err();
    let SshError::HostKeyUnknown {
        name,
        presented,
        line,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*name, format!("[127.0.0.1]:{}", server.port()));
    let expected = fingerprint(&server.folder().join("host_ed25519.pub"));
    assert_eq!(*presented, format!("ssh-ed25519 {expected}"));
    assert!(!target.known_hosts.exists());

    // The hint's line is one that works, also where the key goes by a name of its own.
    let named = Target {
        key_name: Some("6695eb01-f6a4-8304-79aa-97f2502e193f".into()),
        ..target.clone()
    };
    let error_of_named = connect(named.clone()).await.unwrap_err();
    let SshError::HostKeyUnknown { line: other, .. } = &error_of_named else {
        panic!("{error_of_named:?}");
    };
    let file = target.known_hosts.display();
    for (line, error) in [(line, &error), (other, &error_of_named)] {
        let hint = error.hint();
        assert!(
            hint.contains(&format!(" add this line to {file}: `{line}`")),
            "{hint}"
        );
    }
    fs::create_dir(target.known_hosts.parent().unwrap()).unwrap();
    fs::write(&target.known_hosts, format!("{line}\n{other}")).unwrap();
    connect(target).await.unwrap();
    connect(named).await.unwrap();
}

#[tokio::test]
async fn refuses_a_changed_host_key_and_names_what_forgets_it() {
    let server = Sshd::start();
    let target = Target {
        known_hosts: server.folder().join("Ann's data/known_hosts"),
        ..server.target()
    };
    make_key(&server.folder().join("old"), "ed25519", "");
    let old = fs::read_to_string(server.folder().join("old.pub")).unwrap();
    fs::create_dir(target.known_hosts.parent().unwrap()).unwrap();
    let text = format!("# ours\n\n[127.0.0.1]:{} {old}", server.port());
    fs::write(&target.known_hosts, text).unwrap();

    let error = connect(target.clone()).await.unwrap_err();
    let SshError::HostKeyChanged {
        file,
        line,
        known,
        presented,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((file, *line), (&target.known_hosts, 3));
    assert_eq!(
        *known,
        format!(
            "ssh-ed25519 {}",
            fingerprint(&server.folder().join("old.pub"))
        )
    );
    assert_eq!(
        *presented,
        format!(
            "ssh-ed25519 {}",
            fingerprint(&server.folder().join("host_ed25519.pub"))
        )
    );

    // The hint's command is one that works.
    let hint = error.hint();
    let forget = hint.split('`').nth(1).unwrap();
    assert!(forget.starts_with("ssh-keygen -R "), "{hint}");
    let done = Command::new("sh")
        .args(["-c", forget])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(done.unwrap().success());
    connect(target).await.unwrap();
}

#[tokio::test]
async fn refuses_a_revoked_host_key() {
    let server = Sshd::start();
    let revoked = server.folder().join("user_known_hosts");
    fs::write(
        &revoked,
        format!("@revoked * {}\n", server.host_key("ed25519")),
    )
    .unwrap();
    for key_name in [
        None,
        Some("6695eb01-f6a4-8304-79aa-97f2502e193f".to_owned()),
    ] {
        let target = Target {
            key_name,
            user_known_hosts: vec![revoked.clone()],
            ..server.target()
        };
        let error = connect(target).await.unwrap_err();
        assert!(
            matches!(&error, SshError::HostKeyRevoked { file, line: 1, .. } if *file == revoked),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn trusts_the_users_own_file_whatever_kind_of_key_it_has() {
    let server = Sshd::start();
    let file = server.folder().join("user_known_hosts");
    // An RSA key and a hashed name; the server would rather show its Ed25519 key.
    fs::write(
        &file,
        format!("[127.0.0.1]:{} {}\n", server.port(), server.host_key("rsa")),
    )
    .unwrap();
    let hashed = Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(hashed.unwrap().success());
    assert!(fs::read_to_string(&file).unwrap().starts_with("|1|"));
    let target = Target {
        host_keys: HostKeyPolicy::Strict,
        user_known_hosts: vec![file],
        ..server.target()
    };
    let client = Client::new(target.clone());
    let info = client.info().await;
    assert!(info.connected, "{info:?}");
    assert_eq!(info.key_algorithm.as_deref(), Some("ssh-rsa"));
    assert_eq!(
        info.fingerprint.unwrap(),
        fingerprint(&server.folder().join("host_rsa.pub"))
    );
    assert!(!target.known_hosts.exists());
}

#[tokio::test]
async fn keeps_a_guests_key_under_its_own_name_wherever_it_answers() {
    let (one, other) = (Sshd::start(), Sshd::start());
    let stale = one.folder().join("user_known_hosts");
    fs::write(
        &stale,
        format!("[127.0.0.1]:{} {}\n", one.port(), other.host_key("ed25519")),
    )
    .unwrap();
    let named = Target {
        key_name: Some("6695eb01-f6a4-8304-79aa-97f2502e193f".into()),
        user_known_hosts: vec![stale],
        ..one.target()
    };
    connect(named.clone()).await.unwrap();
    let text = fs::read_to_string(&named.known_hosts).unwrap();
    assert!(
        text.starts_with("6695eb01-f6a4-8304-79aa-97f2502e193f ssh-ed25519 "),
        "{text}"
    );
    // Another machine that answers under this name is refused.
    let error = connect(Target {
        port: other.port(),
        ..named
    })
    .await
    .unwrap_err();
    assert!(
        matches!(error, SshError::HostKeyChanged { line: 1, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn knows_a_host_by_the_alias_of_the_configuration() {
    let server = Sshd::start();
    let users = server.folder().join("user_known_hosts");
    fs::write(&users, format!("pet {}\n", server.host_key("ed25519"))).unwrap();
    let strict = Target {
        host_keys: HostKeyPolicy::Strict,
        user_known_hosts: vec![users],
        ..server.target()
    };
    let error = connect(strict.clone()).await.unwrap_err();
    assert!(
        matches!(error, SshError::HostKeyUnknown { .. }),
        "{error:?}"
    );
    connect(Target {
        host_key_alias: Some("pet".into()),
        ..strict
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn logs_in_with_keys_of_every_kind() {
    let server = Sshd::start();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = server.folder().join(format!("key_{kind}"));
        make_key(&key, kind, "");
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        fs::write(server.folder().join("authorized"), public).unwrap();
        connect(Target {
            identity: Some(key),
            ..server.target()
        })
        .await
        .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
    }
}

#[tokio::test]
async fn tells_why_an_identity_does_not_do() {
    let server = Sshd::start();
    let at = |name: &str| server.folder().join(name);
    make_key(&at("stranger"), "ed25519", "");
    make_key(&at("locked"), "ed25519", "passphrase");
    fs::write(at("garbage"), "no key").unwrap();
    let with = |name: &str| {
        connect(Target {
            identity: Some(at(name)),
            ..server.target()
        })
    };

    let error = with("missing").await.unwrap_err();
    assert!(
        matches!(&error, SshError::ReadIdentity { path, .. } if *path == at("missing")),
        "{error:?}"
    );
    let error = with("/dev/zero").await.unwrap_err();
    assert!(
        matches!(&error, SshError::ReadIdentity { path, .. } if *path == Path::new("/dev/zero")),
        "{error:?}"
    );
    let error = connect(Target {
        user_known_hosts: vec!["/dev/null".into(), "/dev/zero".into()],
        ..server.target()
    });
    let error = error.await.unwrap_err();
    assert!(
        matches!(&error, SshError::ReadKnownHosts { path, .. } if *path == Path::new("/dev/zero")),
        "{error:?}"
    );
    let error = with("garbage").await.unwrap_err();
    assert!(
        matches!(&error, SshError::BadIdentity { path, .. } if *path == at("garbage")),
        "{error:?}"
    );
    let error = with("locked").await.unwrap_err();
    assert!(
        matches!(&error, SshError::LockedIdentity { path } if *path == at("locked")),
        "{error:?}"
    );

    let error = with("stranger").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "127.0.0.1:{} does not let the user `{}` in; tried: identity {}; it accepts: publickey",
            server.port(),
            whoami(),
            at("stranger").display()
        )
    );
    // A key cannot be copied to where passwords are not taken.
    assert_eq!(
        error.hint(),
        "This server takes keys alone: set the right one as VM_IDENTITY or `identity` for this VM, or the right \
         `user`; or let your key in by running guest-setup/prepare-linux-guest.sh in the guest."
    );
}

#[tokio::test]
async fn tells_of_the_identity_where_the_password_does_not_do_either() {
    let server = Sshd::start_with("Match all\nPasswordAuthentication yes");
    let at = |name: &str| server.folder().join(name);
    fs::write(at("garbage"), "no key").unwrap();
    make_key(&at("locked"), "ed25519", "passphrase");
    let table = [
        ("missing", "cannot read the identity PATH: No such file"),
        ("garbage", "the identity PATH is no private key"),
        ("locked", "the identity PATH is locked with a passphrase"),
    ];
    for (name, fault) in table {
        let target = Target {
            identity: Some(at(name)),
            password: Some(Secret::new("wr0ng")),
            ..server.target()
        };
        let error = connect(target).await.unwrap_err();
        let SshError::AuthenticationFailed { tried, .. } = &error else {
            panic!("{name}: {error:?}");
        };
        let fault = fault.replace("PATH", at(name).to_str().unwrap());
        assert!(tried[0].starts_with(&fault), "{tried:?}");
        assert_eq!(tried[1..], ["the password".to_owned()]);
        let command = format!("`ssh-copy-id -p {} {}@127.0.0.1`", server.port(), whoami());
        assert!(error.hint().contains(&command), "{}", error.hint());
    }
}

#[tokio::test]
async fn tells_that_the_server_hung_up_after_too_many_attempts() {
    let server = Sshd::start_with("MaxAuthTries 1");
    make_key(&server.folder().join("stranger"), "ed25519", "");
    let target = Target {
        identity: Some(server.folder().join("stranger")),
        ..server.target()
    };
    let error = connect(target).await.unwrap_err();
    let SshError::AuthenticationFailed { tried, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(
        tried[1].starts_with("then it hung up (") && tried[1].contains("Too many"),
        "{tried:?}"
    );
}

/// An agent with its keys; it ends when this is dropped.
pub(crate) struct Agent(Child);

impl Agent {
    pub(crate) async fn start(socket: &Path, keys: &[&Path]) -> Self {
        let agent = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self(agent);
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let added = Command::new("ssh-add")
            .arg("-q")
            .args(keys)
            .env("SSH_AUTH_SOCK", socket)
            .status();
        assert!(added.unwrap().success());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one of the tests below in a process of its own, with this agent.
pub(crate) fn inside(test: &str, server: &Sshd, socket: &Path) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", &format!("login::{test}")])
        .env("HOME", server.folder().join("home"))
        .env("SSH_AUTH_SOCK", socket)
        .env("VIRTPILOT_TEST_PORT", server.port().to_string())
        .env("VIRTPILOT_TEST_FOLDER", server.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{test}: {said}");
}

/// The agent and the home folder are found through the environment, which only another process can have
/// for itself: this test runs those below there.
#[tokio::test]
async fn logs_in_with_the_agent_and_with_the_keys_of_the_home_folder() {
    let server = Sshd::start();
    let at = |name: &str| server.folder().join(name);
    let home = at("home");
    fs::create_dir(home.join(".ssh")).unwrap();
    fs::copy(server.identity(), at("locked")).unwrap();
    let strangers: Vec<_> = (0..6)
        .map(|number| at(&format!("stranger{number}")))
        .collect();
    for stranger in &strangers {
        make_key(stranger, "ed25519", "");
    }
    let strangers: Vec<_> = strangers.iter().map(|path| &**path).collect();
    let locked = at("locked");
    let many = [&strangers[..], &[&*locked]].concat();
    let _agents = (
        Agent::start(&at("agent"), &[&at("locked")]).await,
        Agent::start(&at("agent_of_strangers"), &strangers).await,
        Agent::start(&at("agent_of_many"), &many).await,
    );
    let relocked = Command::new("ssh-keygen")
        .args(["-q", "-p", "-N", "passphrase", "-f"])
        .arg(at("locked"))
        .stdout(Stdio::null())
        .status();
    assert!(relocked.unwrap().success());

    let inner = |test: &str, socket: &str| inside(test, &server, &at(socket));
    inner("inside_with_the_agent", "agent");
    inner("inside_with_a_configured_file", "agent_of_strangers");
    inner("inside_with_a_configured_key_of_the_agent", "agent_of_many");
    fs::copy(server.identity(), home.join(".ssh/id_ed25519")).unwrap();
    inner("inside_with_the_home_folder", "no agent");
}

fn target_from_environment() -> Option<Target> {
    let folder = std::path::PathBuf::from(env::var_os("VIRTPILOT_TEST_FOLDER")?);
    Some(Target {
        host: "127.0.0.1".into(),
        port: env::var("VIRTPILOT_TEST_PORT").ok()?.parse().ok()?,
        user: whoami(),
        known_hosts: folder.join("inside_known_hosts"),
        ..Target::default()
    })
}

#[tokio::test]
#[ignore = "run by logs_in_with_the_agent_and_with_the_keys_of_the_home_folder"]
async fn inside_with_the_agent() {
    let target = target_from_environment().unwrap();
    connect(target.clone()).await.unwrap();
    let at = |name: &str| target.known_hosts.with_file_name(name);
    connect(Target {
        identity: Some(at("locked")),
        ..target.clone()
    })
    .await
    .unwrap();
    // What the SSH configuration names keeps no other key of the agent back.
    connect(Target {
        identities_of_config: vec![at("missing"), at("stranger0")],
        ..target.clone()
    })
    .await
    .unwrap();
    // Unless it says so, or that no agent is to be asked.
    refused(Target {
        identities_of_config: vec![at("stranger0")],
        only_these: true,
        ..target.clone()
    })
    .await;
    refused(Target {
        agent: AgentSocket::None,
        ..target
    })
    .await;
}

async fn refused(target: Target) {
    let error = connect(target).await.unwrap_err();
    assert!(
        matches!(error, SshError::AuthenticationFailed { .. }),
        "{error:?}"
    );
}

#[tokio::test]
#[ignore = "run by certificates::logs_in_with_a_certificate_of_the_agent"]
async fn inside_with_the_agent_alone() {
    connect(target_from_environment().unwrap()).await.unwrap();
}

#[tokio::test]
#[ignore = "run by certificates::logs_in_with_a_certificate_beside_a_key_that_the_agent_has_without"]
async fn inside_with_a_certificate_beside_a_key() {
    let target = target_from_environment().unwrap();
    let key = target.known_hosts.with_file_name("key");
    connect(Target {
        identities_of_config: vec![key],
        ..target
    })
    .await
    .unwrap();
}

#[tokio::test]
#[ignore = "run by logs_in_with_the_agent_and_with_the_keys_of_the_home_folder"]
async fn inside_with_a_configured_file() {
    let target = target_from_environment().unwrap();
    let at = |name: &str| target.known_hosts.with_file_name(name);
    let with = |files: &[&str]| {
        connect(Target {
            identities_of_config: files.iter().map(|name| at(name)).collect(),
            ..target.clone()
        })
    };
    with(&["stranger0", "user"]).await.unwrap();

    // The agent's first, and nothing twice.
    let error = with(&["stranger1", "locked", "config"]).await.unwrap_err();
    let SshError::AuthenticationFailed { tried, .. } = &error else {
        panic!("{error:?}");
    };
    let locked = format!("{} (locked with a passphrase)", at("locked").display());
    let agents = tried
        .iter()
        .filter(|it| it.starts_with("agent key"))
        .count();
    assert_eq!((agents, tried.last()), (3, Some(&locked)), "{tried:?}");
    assert!(tried[0].starts_with(&at("config").display().to_string()));
    assert_eq!(tried.len(), 5, "{tried:?}");
}

#[tokio::test]
#[ignore = "run by logs_in_with_the_agent_and_with_the_keys_of_the_home_folder"]
async fn inside_with_a_configured_key_of_the_agent() {
    let target = target_from_environment().unwrap();
    let locked = target.known_hosts.with_file_name("locked");
    connect(Target {
        identities_of_config: vec![locked],
        ..target
    })
    .await
    .unwrap();
}

#[tokio::test]
#[ignore = "run by logs_in_with_the_agent_and_with_the_keys_of_the_home_folder"]
async fn inside_with_the_home_folder() {
    let target = target_from_environment().unwrap();
    let stranger = target.known_hosts.with_file_name("stranger0");
    refused(Target {
        identities_of_config: vec![stranger],
        only_these: true,
        ..target.clone()
    })
    .await;
    connect(target).await.unwrap();
}

#[tokio::test]
async fn asks_the_agent_that_is_configured_for_the_keys_that_are() {
    let server = Sshd::start();
    let at = |name: &str| server.folder().join(name);
    for name in [
        "stranger0",
        "stranger1",
        "stranger2",
        "stranger3",
        "stranger4",
        "stranger5",
    ] {
        make_key(&at(name), "ed25519", "");
    }
    let keys = [
        &*at("stranger0"),
        &at("stranger1"),
        &at("stranger2"),
        &at("stranger3"),
        &at("stranger4"),
        &at("stranger5"),
        &server.identity(),
    ];
    let _agent = Agent::start(&at("agent"), &keys).await;
    // As for a key in hardware: its public half alone is there.
    fs::copy(at("user.pub"), at("card.pub")).unwrap();
    let with = |files: &[&str]| Target {
        identity: None,
        identities_of_config: files.iter().map(|name| at(name)).collect(),
        only_these: true,
        agent: AgentSocket::At(at("agent")),
        ..server.target()
    };
    for file in ["card", "card.pub"] {
        connect(with(&[file])).await.unwrap();
        connect(Target {
            identity: Some(at(file)),
            ..with(&[])
        })
        .await
        .unwrap();
    }

    let tried = async |target| match connect(target).await {
        Err(SshError::AuthenticationFailed { tried, .. }) => tried,
        other => panic!("{other:?}"),
    };
    let strangers = tried(with(&["stranger1.pub", "stranger4.pub"])).await;
    assert_eq!(strangers.len(), 2, "{strangers:?}");
    assert!(
        strangers.iter().all(|it| it.starts_with("agent key ")),
        "{strangers:?}"
    );
    let without_agent = tried(Target {
        identity: Some(at("card")),
        agent: AgentSocket::None,
        ..with(&[])
    });
    assert_eq!(
        without_agent.await,
        [format!(
            "identity {} (only its public half is there, and the agent does not hold it)",
            at("card").display()
        )]
    );
}

#[tokio::test]
async fn the_command_that_forgets_a_key_fits_lines_of_patterns_too() {
    let server = Sshd::start();
    let target = server.target();
    make_key(&server.folder().join("old"), "ed25519", "");
    let old = fs::read_to_string(server.folder().join("old.pub")).unwrap();
    fs::create_dir(target.known_hosts.parent().unwrap()).unwrap();
    fs::write(&target.known_hosts, format!("# mine\n[127.0.0.*]:* {old}")).unwrap();
    let error = connect(target.clone()).await.unwrap_err();
    assert!(
        matches!(error, SshError::HostKeyChanged { line: 2, .. }),
        "{error:?}"
    );
    let forget = error.forgetting_command().unwrap();
    assert!(error.hint().contains(&format!("`{forget}`")));
    let done = Command::new("sh").args(["-c", &forget]).status();
    assert!(done.unwrap().success());
    connect(target.clone()).await.unwrap();
    let text = fs::read_to_string(&target.known_hosts).unwrap();
    assert!(text.starts_with("# mine\n[127.0.0.1]:"), "{text}");
}

#[tokio::test]
async fn refuses_a_new_host_key_that_cannot_be_remembered() {
    let server = Sshd::start();
    let target = Target {
        known_hosts: "/proc/virtpilot/known_hosts".into(),
        ..server.target()
    };
    let error = connect(target.clone()).await.unwrap_err();
    let SshError::WriteKnownHosts { path, line, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*path, target.known_hosts);
    assert!(error.hint().contains(&format!("`{line}`")));
    // The line does what the hint says, wherever it stands.
    let file = server.folder().join("user_known_hosts");
    fs::write(&file, line).unwrap();
    connect(Target {
        user_known_hosts: vec![file],
        ..target
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn servers_that_learn_at_once_lose_nothing_of_each_other() {
    let server = Sshd::start();
    let targets = (0..12).map(|number| Target {
        key_name: Some(format!("6695eb01-f6a4-8304-79aa-97f2502e19{number:02}")),
        ..server.target()
    });
    let targets: Vec<_> = targets.collect();
    let mut all = tokio::task::JoinSet::new();
    for target in targets.clone() {
        all.spawn(connect(target));
    }
    for result in all.join_all().await {
        result.unwrap();
    }
    let text = fs::read_to_string(&targets[0].known_hosts).unwrap();
    assert_eq!(text.lines().count(), 12);
    for target in targets {
        let strict = Target {
            host_keys: HostKeyPolicy::Strict,
            ..target
        };
        connect(strict).await.unwrap();
    }
}
