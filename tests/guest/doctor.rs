//! `virtpilot doctor` on a guest that has everything.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    code,
    guest::{Guest, HEIGHT, WIDTH},
};

#[test]
fn everything_is_found_well_and_the_pointer_and_a_key_arrive() {
    let mut guest = Guest::enter();
    let mark = guest.mark();
    let output = guest
        .server()
        .args(["doctor", "--json", "--act"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["healthy"], true, "{report:#}");
    let checks: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| {
            (
                check["name"].as_str().unwrap(),
                check["status"].as_str().unwrap(),
            )
        })
        .collect();
    let names = [
        "configuration",
        "data folder",
        "OCR",
        "libvirt",
        "VM",
        "state",
        "tablet",
        "video",
        "screen",
        "looks",
        "pointer",
        "keyboard",
        "address",
        "SSH",
        "host key",
        "user",
        "SFTP",
        "grants",
    ];
    assert_eq!(checks, names.map(|name| (name, "ok")), "{report:#}");
    guest.assert_pointer_at((WIDTH / 2, HEIGHT / 2));
    let events: Vec<_> = guest
        .events_in_the_end(&mark, 2)
        .iter()
        .map(|event| (event.code, event.value))
        .collect();
    assert_eq!(events, [(code::LEFT_CTRL, 1), (code::LEFT_CTRL, 0)]);
}
