//! Certificates of hosts and of users, as ssh-keygen signs them, on a real OpenSSH server.

use std::{fs, path::Path, process::Command};

use virtpilot::{
    model::HostKeyPolicy,
    ssh::{CertificateFault, Client, SshError, Target},
};

use crate::{
    command, execute,
    login::Agent,
    sshd::{Sshd, make_key, whoami},
};

/// Signs a public key; the certificate lies beside it, as `NAME-cert.pub`.
fn sign(authority: &Path, public: &Path, options: &[&str]) {
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-I", "test", "-s"])
        .arg(authority)
        .args(options)
        .arg(public)
        .status();
    assert!(signed.unwrap().success());
}

/// A server with a host certificate by the key `authority` of its folder.
fn certified(options: &[&str]) -> Sshd {
    let mut server = Sshd::start();
    let at = |name: &str| server.folder().join(name);
    make_key(&at("authority"), "ed25519", "");
    make_key(&at("stranger"), "ed25519", "");
    let host = [&["-h"], options].concat();
    sign(&at("authority"), &at("host_ed25519.pub"), &host);
    let config = fs::read_to_string(at("config")).unwrap();
    let certificate = at("host_ed25519-cert.pub");
    fs::write(
        at("config"),
        format!("{config}\nHostCertificate {}\n", certificate.display()),
    )
    .unwrap();
    server.stop();
    server.start_again();
    server
}

fn key(server: &Sshd, name: &str) -> String {
    let path = server.folder().join(name).with_extension("pub");
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}

/// Strict, with the user's own file of this text.
fn knowing(server: &Sshd, text: &str) -> Target {
    let file = server.folder().join("user_known_hosts");
    fs::write(&file, text).unwrap();
    Target {
        host_keys: HostKeyPolicy::Strict,
        user_known_hosts: vec![file],
        ..server.target()
    }
}

async fn connect(target: Target) -> Result<(), SshError> {
    execute(&Client::new(target), command("true"))
        .await
        .map(drop)
}

#[tokio::test]
async fn trusts_a_host_whose_key_a_known_authority_signed() {
    let server = certified(&["-n", "box,127.0.0.1"]);
    let authority = key(&server, "authority");
    for names in ["*", "127.0.0.1", "[127.0.0.1]:*"] {
        let target = knowing(&server, &format!("@cert-authority {names} {authority}\n"));
        let info = Client::new(target.clone()).info().await;
        assert!(info.connected, "{names}: {info:?}");
        assert_eq!(info.key_algorithm.as_deref(), Some("ssh-ed25519"));
        assert!(info.authority.unwrap().starts_with("ssh-ed25519 SHA256:"));
        // The authority is enough: nothing is learnt.
        assert!(!target.known_hosts.exists());
    }
}

#[tokio::test]
async fn an_authority_counts_for_its_hosts_and_its_own_certificates_alone() {
    let server = certified(&["-n", "127.0.0.1"]);
    let (authority, stranger) = (key(&server, "authority"), key(&server, "stranger"));
    for text in [
        format!("@cert-authority *.example {authority}\n"),
        format!("@cert-authority * {stranger}\n"),
        // Not as an authority.
        format!("127.0.0.2 {authority}\n"),
    ] {
        let error = connect(knowing(&server, &text)).await.unwrap_err();
        assert!(
            matches!(error, SshError::HostKeyUnknown { .. }),
            "{text}: {error:?}"
        );
    }
    // Beside a strange authority the key itself still counts.
    let own = server.host_key("ed25519");
    let text = format!(
        "@cert-authority * {stranger}\n[127.0.0.1]:{} {own}\n",
        server.port()
    );
    connect(knowing(&server, &text)).await.unwrap();
}

#[tokio::test]
async fn refuses_certificates_that_do_not_hold() {
    let other_name = CertificateFault::OtherName {
        names: vec!["box".into(), "127.0.0.*".into()],
    };
    let table: [(&[&str], CertificateFault); 2] = [
        (&["-n", "box,127.0.0.*"], other_name),
        (
            &["-n", "127.0.0.1", "-V", "20200101:20210101"],
            CertificateFault::Time,
        ),
    ];
    for (options, expected) in table {
        let server = certified(options);
        let text = format!("# ours\n@cert-authority * {}\n", key(&server, "authority"));
        let target = Target {
            // Not even a first time.
            host_keys: HostKeyPolicy::AcceptNew,
            ..knowing(&server, &text)
        };
        let error = connect(target.clone()).await.unwrap_err();
        let SshError::HostCertificate {
            fault, file, line, ..
        } = &error
        else {
            panic!("{options:?}: {error:?}");
        };
        assert_eq!(
            (&**fault, file, *line),
            (&expected, &target.user_known_hosts[0], 2)
        );
        assert!(!target.known_hosts.exists());
        // A key that is known by itself needs no certificate.
        let own = server.host_key("ed25519");
        let text = format!("{text}[127.0.0.1]:{} {own}\n", server.port());
        connect(knowing(&server, &text)).await.unwrap();
    }
}

#[tokio::test]
async fn refuses_certificates_of_revoked_keys() {
    let server = certified(&["-n", "127.0.0.1"]);
    let authority = key(&server, "authority");
    for revoked in [&authority, &server.host_key("ed25519")] {
        let text = format!("@cert-authority * {authority}\n@revoked * {revoked}\n");
        let error = connect(knowing(&server, &text)).await.unwrap_err();
        assert!(
            matches!(error, SshError::HostKeyRevoked { line: 2, .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn keeps_certificates_apart_from_keys_under_a_name_of_its_own() {
    let uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
    let server = certified(&["-n", uuid]);
    let authority = key(&server, "authority");
    // The user's files speak of addresses, and this guest's may be another's tomorrow.
    let target = Target {
        key_name: Some(uuid.into()),
        ..knowing(&server, &format!("@cert-authority * {authority}\n"))
    };
    let error = connect(target.clone()).await.unwrap_err();
    assert!(
        matches!(error, SshError::HostKeyUnknown { .. }),
        "{error:?}"
    );
    fs::create_dir_all(target.known_hosts.parent().unwrap()).unwrap();
    fs::write(
        &target.known_hosts,
        format!("@cert-authority {uuid} {authority}\n"),
    )
    .unwrap();
    connect(target).await.unwrap();
}

/// A server that lets in whom its authority signed, and nobody else.
fn trusting() -> Sshd {
    let server = Sshd::start();
    let at = |name: &str| server.folder().join(name);
    make_key(&at("authority"), "ed25519", "");
    fs::remove_file(at("authorized")).unwrap();
    let line = format!(
        "cert-authority,principals=\"{}\" {}\n",
        whoami(),
        key(&server, "authority")
    );
    fs::write(at("authorized"), line).unwrap();
    server
}

#[tokio::test]
async fn logs_in_with_the_certificate_beside_the_identity() {
    let server = trusting();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let identity = server.folder().join(format!("key_{kind}"));
        make_key(&identity, kind, "");
        let target = Target {
            identity: Some(identity.clone()),
            ..server.target()
        };
        let error = connect(target.clone()).await.unwrap_err();
        assert!(
            matches!(error, SshError::AuthenticationFailed { .. }),
            "{kind}: {error:?}"
        );
        let public = identity.with_extension("pub");
        sign(
            &server.folder().join("authority"),
            &public,
            &["-n", &whoami()],
        );
        connect(target)
            .await
            .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
    }
}

#[tokio::test]
async fn logs_in_with_a_certificate_that_the_configuration_names() {
    let server = trusting();
    let at = |name: &str| server.folder().join(name);
    make_key(&at("key"), "ed25519", "");
    sign(&at("authority"), &at("key.pub"), &["-n", &whoami()]);
    fs::rename(at("key-cert.pub"), at("elsewhere")).unwrap();
    let target = Target {
        identity: Some(at("key")),
        certificates_of_config: vec![at("missing"), at("authority.pub"), at("elsewhere")],
        ..server.target()
    };
    connect(target.clone()).await.unwrap();
    connect(Target {
        identities_of_config: target.identity.clone().into_iter().collect(),
        identity: None,
        ..target
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn tells_that_a_certificate_was_tried() {
    let server = trusting();
    let identity = server.folder().join("key");
    make_key(&identity, "ed25519", "");
    let public = identity.with_extension("pub");
    sign(
        &server.folder().join("authority"),
        &public,
        &["-n", "somebody-else"],
    );
    let target = Target {
        identity: Some(identity.clone()),
        ..server.target()
    };
    let error = connect(target).await.unwrap_err();
    let SshError::AuthenticationFailed { tried, .. } = error else {
        panic!("{error:?}");
    };
    let name = format!("identity {}", identity.display());
    assert_eq!(tried, [format!("{name} with its certificate"), name]);
}

#[tokio::test]
async fn logs_in_with_a_certificate_of_the_agent() {
    let server = trusting();
    let at = |name: &str| server.folder().join(name);
    make_key(&at("key"), "rsa", "");
    sign(&at("authority"), &at("key.pub"), &["-n", &whoami()]);
    let socket = at("agent");
    // ssh-add takes the certificate that lies beside the key with it.
    let _agent = Agent::start(&socket, &[&at("key")]).await;
    crate::login::inside("inside_with_the_agent_alone", &server, &socket);
}

#[tokio::test]
async fn logs_in_with_a_certificate_beside_a_key_that_the_agent_has_without() {
    let server = trusting();
    let at = |name: &str| server.folder().join(name);
    make_key(&at("key"), "ed25519", "");
    let socket = at("agent");
    let _agent = Agent::start(&socket, &[&at("key")]).await;
    sign(&at("authority"), &at("key.pub"), &["-n", &whoami()]);
    crate::login::inside("inside_with_a_certificate_beside_a_key", &server, &socket);
}
