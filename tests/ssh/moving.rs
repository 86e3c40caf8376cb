//! A VM whose SSH server is somewhere else than it was, as libvirt tells.

use std::{fs, net::Ipv4Addr, sync::Arc, time::Duration};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use virtpilot::{
    config::{Config, Environment, Overrides},
    hypervisor::{DomainState, Forward},
    perform::Progress,
    tools::Server,
};

use crate::{
    fake::Fake,
    sshd::{Sshd, whoami},
    stage::Stage,
};

/// What was said of a guest's place is believed for so long.
const FRESH: Duration = Duration::from_secs(5);

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
    stage.fake.set_forwards(vec![forward(server)]);
}

fn forward(server: &Sshd) -> Forward {
    Forward {
        host: Ipv4Addr::LOCALHOST.into(),
        host_port: server.port(),
        guest_port: 22,
    }
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

#[tokio::test]
async fn whoever_answers_where_a_vm_was_that_is_off_is_another() {
    let mut server = Sshd::start();
    let stage = stage_with(&server);
    says(&stage, "here").await;
    // As a clone of the VM does, which has its host key, and its address by now.
    server.stop();
    server.start_again();
    stage.fake.set_domain(DomainState::Shutoff);
    tokio::time::sleep(FRESH).await;
    let touched = server.folder().join("touched");
    let command = json!({"command": format!("touch {}", touched.display())});
    for _ in 0..2 {
        let refused = stage.refused("ssh_execute", command.clone()).await;
        assert!(refused.contains("shut off"), "{refused}");
        assert!(!touched.exists());
    }
    stage.fake.set_domain(DomainState::Running);
    says(&stage, "up").await;
}

/// The VM's address is for libvirt to say.
fn stage_at_port_of(server: &Sshd) -> Stage {
    let config = format!(
        "[vm.demo]\nssh = {{ port = {}, user = '{}', identity = '{}' }}\n",
        server.port(),
        whoami(),
        server.identity().display()
    );
    Stage::with(&[], &config)
}

#[tokio::test]
async fn a_vm_that_got_another_lease_is_found_again() {
    let mut server = Sshd::start();
    let stage = stage_at_port_of(&server);
    let [first, second] = [1, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
    // Both are loopback's, unseen.
    stage.fake.set_leases(vec![first.to_ipv6_mapped().into()]);
    says(&stage, "here").await;
    server.stop();
    server.start_at(second);
    stage.fake.set_leases(vec![second.to_ipv6_mapped().into()]);
    says(&stage, "there").await;
    let info = stage.call("ssh_connection_info", json!({})).await;
    let place = format!(
        "Connected: {}@{} port {}\naddress: libvirt's DHCP leases\n",
        whoami(),
        second.to_ipv6_mapped(),
        server.port()
    );
    assert!(info.text.starts_with(&place), "{}", info.text);
    // One that has no lease any more, but speaks to this host.
    stage.fake.set_leases(vec![]);
    stage
        .fake
        .set_neighbours(vec![first.to_ipv6_mapped().into()]);
    server.stop();
    server.start_at(first);
    says(&stage, "back").await;
    let info = stage.call("ssh_connection_info", json!({})).await;
    let found = "\naddress: the host's ARP table\n";
    assert!(info.text.contains(found), "{}", info.text);
}

#[tokio::test]
async fn every_address_is_tried_that_libvirt_tells() {
    let server = Sshd::start();
    let stage = stage_at_port_of(&server);
    // The lease of a system that was there before, and then the right one; both are loopback's, unseen.
    let [before, own] = [2, 1].map(|last| Ipv4Addr::new(127, 0, 0, last).to_ipv6_mapped());
    stage.fake.set_leases(vec![before.into(), own.into()]);
    says(&stage, "here").await;
    let info = stage.call("ssh_connection_info", json!({})).await;
    let place = format!("Connected: {}@{own} port {}", whoami(), server.port());
    assert!(info.text.starts_with(&place), "{}", info.text);
}

#[tokio::test]
async fn addresses_in_networks_of_another_host_are_left_alone() {
    let server = Sshd::start();
    let stage = stage_with(&server);
    stage.fake.is_elsewhere();
    let refused = stage
        .refused("ssh_execute", json!({"command": "true"}))
        .await;
    assert!(refused.contains("those of another host"), "{refused}");
    stage.fake.set_leases(vec![[192, 0, 2, 1].into()]);
    let refused = stage
        .refused("ssh_execute", json!({"command": "true"}))
        .await;
    assert!(
        refused.contains("192.0.2.1, in a network of another host"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_guest_that_turns_out_to_be_the_default_one_gets_its_settings() {
    let server = Sshd::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.toml");
    let ssh = format!(
        "[vm.demo]\nssh = {{ user = '{}', identity = '{}' }}\n",
        whoami(),
        server.identity().display()
    );
    fs::write(&file, ssh).unwrap();
    let environment = Environment {
        home: Some(home.path().to_owned()),
        working_dir: home.path().to_owned(),
        variables: [("VM_USER".to_owned(), "stranger".into())].into(),
        ..Environment::default()
    };
    let overrides = Overrides {
        config: Some(file),
        ..Overrides::default()
    };
    let fake = Fake::new(1000, 500);
    fake.set_forwards(vec![forward(&server)]);
    let config = Config::load(overrides, &environment).unwrap();
    let server = Server::new(config, fake);
    let user_of = async |arguments: serde_json::Value| {
        let serde_json::Value::Object(arguments) = arguments else {
            panic!("{arguments}");
        };
        let cancel = CancellationToken::new();
        let info = server.call(
            "ssh_connection_info",
            arguments,
            cancel,
            Arc::new(|_, _| ()) as Progress,
        );
        info.await.data.unwrap()["user"].clone()
    };
    // Which VM is the default one, nobody has asked yet.
    assert_eq!(user_of(json!({"vm": "demo"})).await, whoami());
    assert_eq!(user_of(json!({})).await, "stranger");
    assert_eq!(user_of(json!({"vm": "demo"})).await, "stranger");
}

#[tokio::test]
async fn a_vm_that_moved_is_not_taken_for_the_clone_at_its_old_address() {
    let (mut clone, mut own) = (Sshd::start(), Sshd::start());
    own.stop();
    for name in ["host_ed25519", "host_rsa", "authorized"] {
        fs::copy(clone.folder().join(name), own.folder().join(name)).unwrap();
    }
    own.start_again();
    let stage = stage_with(&clone);
    says(&stage, "here").await;
    clone.stop();
    clone.start_again();
    forward_to(&stage, &own);
    tokio::time::sleep(FRESH).await;
    let where_it_ran = json!({"command": "echo at $SSH_CONNECTION."});
    let reply = stage.call("ssh_execute", where_it_ran).await;
    assert!(
        reply.text.contains(&format!(" {}.", own.port())),
        "{}",
        reply.text
    );
}
