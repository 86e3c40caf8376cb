//! The libvirt backend on libvirt's own test driver.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/test_driver.rs"]
mod test_driver;

use std::time::Duration;

use tempfile::TempDir;
use test_driver::{HEIGHT, STATES, URI, WIDTH};
use virtpilot::{
    hypervisor::{
        AddressSource, Bus, Domain, DomainState, Hypervisor, HypervisorError, InputEvent, Libvirt,
    },
    image::Picture,
    model::{Button, Chord, KeyCode, VmName},
};

const MILLISECOND: Duration = Duration::from_millis(1);

fn vm(name: &str) -> VmName {
    name.parse().unwrap()
}

fn click() -> [InputEvent; 1] {
    [InputEvent::Button {
        button: Button::Left,
        down: true,
    }]
}

/// The backend on a host of its own; the folder must outlive it.
fn host() -> (TempDir, Libvirt) {
    let folder = TempDir::new().unwrap();
    let uri = test_driver::host(folder.path());
    (folder, Libvirt::new(uri))
}

#[test]
fn lists_vms_in_every_state() {
    let (_folder, libvirt) = host();
    let mut domains = libvirt.domains().unwrap();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    let found: Vec<_> = domains
        .iter()
        .map(|it| (it.name.as_str(), it.state))
        .collect();
    let expected = [
        ("asleep", DomainState::Paused),
        ("crashed", DomainState::Crashed),
        ("off", DomainState::Shutoff),
        ("pointing", DomainState::Running),
        ("up", DomainState::Running),
    ];
    assert_eq!(found, expected);
    assert_eq!(STATES.len(), expected.len());
    for domain in domains {
        assert_eq!(domain.uuid.len(), 36, "{domain:?}");
        // What is shut off has no running instance.
        assert_eq!(
            domain.id.is_none(),
            domain.name.as_str() == "off",
            "{domain:?}"
        );
    }
}

#[test]
fn tells_one_vm() {
    let libvirt = Libvirt::new(URI);
    assert_eq!(libvirt.uri(), URI);
    let domain = libvirt.domain(&vm("test")).unwrap();
    assert_eq!(
        domain,
        Domain {
            name: vm("test"),
            uuid: "6695eb01-f6a4-8304-79aa-97f2502e193f".to_owned(),
            state: DomainState::Running,
            id: Some(1),
            restored: false,
        }
    );
    let devices = libvirt.devices(&vm("test")).unwrap();
    assert_eq!(devices.driver, "test");
    assert_eq!(devices.tablet, None);
    assert_eq!(devices.networks, ["network default"]);
    assert!(!devices.is_qemu());
    let (_folder, libvirt) = host();
    let devices = libvirt.devices(&vm("up")).unwrap();
    assert_eq!(devices.tablet, Some(Bus::Usb));
    assert_eq!(devices.video, ["vga"]);
    assert_eq!(devices.heads, 1);
}

#[test]
fn an_unknown_vm_is_answered_with_the_known_ones() {
    let libvirt = Libvirt::new(URI);
    let calls: [(&str, Result<(), HypervisorError>); 4] = [
        ("domain", libvirt.domain(&vm("nowhere")).map(drop)),
        ("devices", libvirt.devices(&vm("nowhere")).map(drop)),
        (
            "screenshot",
            libvirt.screenshot(&vm("nowhere"), 0).map(drop),
        ),
        ("input", libvirt.input(&vm("nowhere"), &click())),
    ];
    for (call, outcome) in calls {
        let error = outcome.unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no VM named `nowhere` at test:///default; there are test",
            "{call}"
        );
        assert_eq!(
            error.hint(),
            "Call `vm_list` for the names, or look with `virsh -c test:///default list --all`.",
            "{call}"
        );
    }
}

#[test]
fn a_screenshot_is_a_whole_picture() {
    let libvirt = Libvirt::new(URI);
    let screenshot = libvirt.screenshot(&vm("test"), 0).unwrap();
    assert_eq!(screenshot.mime, "image/png");
    let picture = Picture::decode(&screenshot.mime, &screenshot.bytes).unwrap();
    assert_eq!(
        (picture.size().width, picture.size().height),
        (WIDTH, HEIGHT)
    );
    assert_eq!(picture.rgb().len(), (WIDTH * HEIGHT * 3) as usize);
    // Again, and from several threads at once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(libvirt.screenshot(&vm("test"), 0).unwrap(), screenshot));
        }
    });
}

#[test]
fn keys_are_taken_by_a_running_vm_alone() {
    let (_folder, libvirt) = host();
    let uri = libvirt.uri();
    let chord = Chord::new(vec![KeyCode::LEFT_CTRL, KeyCode(30)]).unwrap();
    libvirt.send_keys(&vm("up"), &chord, MILLISECOND).unwrap();
    let most = Chord::new((1..=16).map(KeyCode).collect()).unwrap();
    libvirt.send_keys(&vm("up"), &most, MILLISECOND).unwrap();
    let error = libvirt
        .send_keys(&vm("off"), &chord, MILLISECOND)
        .unwrap_err();
    assert_eq!(error.to_string(), "the VM `off` is shut off");
    assert_eq!(
        error.hint(),
        format!("Start it: `virsh -c {uri} start off`.")
    );
}

#[test]
fn a_driver_without_a_monitor_says_so() {
    let libvirt = Libvirt::new(URI);
    let error = libvirt.input(&vm("test"), &click()).unwrap_err();
    assert!(
        matches!(error, HypervisorError::Unsupported { .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "the hypervisor of `test` cannot send input"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("virDomainQemuMonitorCommand"), "{source}");
    assert!(
        error
            .hint()
            .starts_with("Mouse and held keys need a QEMU VM")
    );
    // Nor does it forward ports; that is no error.
    assert_eq!(libvirt.forwards(&vm("test")).unwrap(), []);
}

#[test]
fn addresses_come_from_the_drivers_leases() {
    let libvirt = Libvirt::new(URI);
    let found = libvirt
        .addresses(&vm("test"), AddressSource::Lease)
        .unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].is_ipv4());
    let (_folder, libvirt) = host();
    let found = libvirt.addresses(&vm("up"), AddressSource::Lease);
    assert!(found.unwrap().is_empty());
}

#[test]
fn a_libvirt_that_is_not_there_is_told_by_its_uri() {
    for uri in [
        "qemu+unix:///system?socket=/nonexistent",
        "test:///nonexistent.xml",
        "unheard-of:///system",
    ] {
        let libvirt = Libvirt::new(uri);
        for _ in 0..2 {
            let error = libvirt.domains().unwrap_err();
            assert!(
                matches!(error, HypervisorError::Connect { .. }),
                "{error:?}"
            );
            assert_eq!(
                error.to_string(),
                format!("libvirt at {uri} cannot be reached")
            );
            assert!(error.hint().contains(uri), "{}", error.hint());
        }
    }
}
