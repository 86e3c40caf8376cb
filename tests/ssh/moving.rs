//! A VM whose SSH server is somewhere else than it was, as libvirt tells.

use std::{fs, net::Ipv4Addr};

use serde_json::json;
use virtpilot::hypervisor::{DomainState, Forward};

use crate::{
    sshd::{Sshd, whoami},
    stage::Stage,
};

fn stage_with(server: &Sshd) -> Stage {
    let stage = Stage::with(
        &[],
        &format!(
            "[vm.demo]\nssh = {{ user = '{}', identity = '{}' }}\n",
            whoami(),
            server.identity().display()
        ),
    );
    forward_to(&stage, server);
    stage
}

fn forward_to(stage: &Stage, server: &Sshd) {
    stage.fake.set_forwards(vec![Forward {
        host: Ipv4Addr::LOCALHOST.into(),
        host_port: server.port(),
        guest_port: 22,
    }]);
}

async fn says(stage: &Stage, word: &str) {
    let command = json!({"command": format!("echo {word}")});
    let reply = stage.call("ssh_execute", command).await;
    assert!(!reply.is_error(), "{}", reply.text);
    assert!(
        reply.text.ends_with(&format!("\n{word}\n")),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_vm_that_moved_is_found_again_by_the_same_call() {
    let mut server = Sshd::start();
    let stage = stage_with(&server);
    says(&stage, "here").await;
    server.stop();
    server.start_elsewhere();
    forward_to(&stage, &server);
    says(&stage, "there").await;
    let info = stage.call("ssh_connection_info", json!({})).await;
    let place = format!("Connected: {}@127.0.0.1 port {}", whoami(), server.port());
    assert!(info.text.starts_with(&place), "{}", info.text);
    assert!(
        info.text.contains("\nin use: 0 channels of 1 connection"),
        "{}",
        info.text
    );
    // It is the same guest, whose key goes by its own name.
    let known = stage.home.path().join(".local/share/virtpilot/known_hosts");
    assert_eq!(fs::read_to_string(known).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn another_vm_at_the_old_address_is_not_taken_for_this_one() {
    let (mut server, other) = (Sshd::start(), Sshd::start());
    let stage = stage_with(&server);
    says(&stage, "here").await;
    server.stop();
    forward_to(&stage, &other);
    let refused = stage
        .refused("ssh_execute", json!({"command": "true"}))
        .await;
    assert!(refused.contains("The host key of `"), "{refused}");
    assert!(refused.contains("has changed"), "{refused}");
    // And it is found where it is after that.
    server.start_elsewhere();
    forward_to(&stage, &server);
    says(&stage, "back").await;
}

#[tokio::test]
async fn a_vm_that_was_shut_off_is_told_as_such() {
    let mut server = Sshd::start();
    let stage = stage_with(&server);
    says(&stage, "here").await;
    server.stop();
    stage.fake.set_domain(DomainState::Shutoff);
    stage
        .refused("ssh_execute", json!({"command": "true"}))
        .await;
    let refused = stage
        .refused("ssh_execute", json!({"command": "true"}))
        .await;
    assert!(refused.contains("shut off"), "{refused}");
    // The same guest starts again.
    server.start_again();
    stage.fake.set_domain(DomainState::Running);
    says(&stage, "up").await;
}
