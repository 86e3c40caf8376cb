//! Keys that are locked with a passphrase, which is a secret of the configuration.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::json;
use virtpilot::{
    model::Secret,
    ssh::{Passphrase, PassphraseUnread, SshError, Target},
};

use crate::{
    login::connect,
    sshd::{Sshd, whoami},
    stage::Stage,
};

/// A target whose identity is locked, and whose passphrase is this.
fn locked(server: &Sshd, kind: &str, passphrase: Result<&'static str, &'static str>) -> Target {
    let key = server.folder().join("locked");
    let _ = fs::remove_file(&key);
    // The second one is the format of old.
    let options: &[&str] = match kind {
        "OpenSSH" => &["-t", "ed25519"],
        _ => &["-t", "rsa", "-m", "PEM"],
    };
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", "open sesame", "-f"])
        .arg(&key)
        .args(options)
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    fs::write(server.folder().join("authorized"), public).unwrap();
    Target {
        identity: Some(key),
        passphrase: Some(Passphrase::new("key", move || {
            let answer = passphrase
                .map(Secret::new)
                .map_err(|text| PassphraseUnread {
                    text: text.into(),
                    hint: "Look at it.".into(),
                });
            Box::pin(async move { answer })
        })),
        ..server.target()
    }
}

#[tokio::test]
async fn unlocks_the_identity_with_its_passphrase() {
    let server = Sshd::start();
    for kind in ["OpenSSH", "PEM"] {
        connect(locked(&server, kind, Ok("open sesame")))
            .await
            .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
    }
    // And those that the SSH configuration names.
    let target = locked(&server, "OpenSSH", Ok("open sesame"));
    connect(Target {
        identities_of_config: target.identity.clone().into_iter().collect(),
        identity: None,
        ..target
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn tells_that_a_passphrase_is_wrong_or_cannot_be_had() {
    let server = Sshd::start();
    for kind in ["OpenSSH", "PEM"] {
        let error = connect(locked(&server, kind, Ok("open barley")))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SshError::WrongPassphrase { secret, .. } if secret == "key"),
            "{kind}: {error:?}"
        );
        let told = format!("{error} {error:?} {}", error.hint());
        assert!(!told.contains("barley"), "{told}");
    }
    let error = connect(locked(&server, "OpenSSH", Err("no such file")))
        .await
        .unwrap_err();
    assert!(matches!(&error, SshError::NoPassphrase { .. }), "{error:?}");
    assert_eq!(error.hint(), "Look at it.");
}

#[tokio::test]
async fn the_configuration_names_the_secret_that_unlocks_a_key() {
    let server = Sshd::start();
    let target = locked(&server, "OpenSSH", Err("not asked"));
    let file = server.folder().join("secret");
    fs::write(&file, "open sesame\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let port = server.port();
    let stage = Stage::with(
        &[],
        &format!(
            "[secret.key]\nfile = '{}'\n[vm.demo]\nssh = {{ host = '127.0.0.1', port = {port}, \
             user = '{}', identity = '{}', passphrase = 'key' }}\n",
            file.display(),
            whoami(),
            target.identity.unwrap().display()
        ),
    );
    // Its content is asked for when it is needed: mended, it counts at once.
    fs::write(&file, "open barley").unwrap();
    let refused = stage
        .refused("ssh_execute", json!({"command": "true"}))
        .await;
    assert!(
        refused.starts_with("The secret `key` does not unlock the identity "),
        "{refused}"
    );
    fs::remove_file(&file).unwrap();
    let refused = stage
        .refused("ssh_execute", json!({"command": "true"}))
        .await;
    assert!(
        refused.contains("is locked, and its passphrase cannot be had.\nCause: the file "),
        "{refused}"
    );
    fs::write(&file, "open sesame\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let reply = stage
        .call("ssh_execute", json!({"command": "echo let in"}))
        .await;
    assert!(reply.text.ends_with("\nlet in\n"), "{}", reply.text);
}
