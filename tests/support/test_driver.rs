//! libvirt's own test driver: VMs that exist in the asking process alone. It takes keys and gives
//! one picture, but has no QEMU monitor, and so no pointer.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "each test file uses a part of it, for short"
)]

use std::{fmt::Write, fs, path::Path};

/// The driver's built-in host, with the running VM `test`.
pub const URI: &str = "test:///default";

/// The size of the picture that it gives of every VM.
pub const WIDTH: u32 = 1120;
pub const HEIGHT: u32 = 832;

/// VMs in every state that matters: their names, and what libvirt calls the state.
pub const STATES: [(&str, &str, &str); 5] = [
    ("asleep", "3", "paused"),
    ("crashed", "6", "crashed"),
    ("off", "5", "shutoff"),
    ("pointing", "1", "running"),
    ("up", "1", "running"),
];

/// Writes a host of one's own with the VMs of [`STATES`] into `folder`; its URI comes back. All of
/// them have a tablet, and none a network.
pub fn host(folder: &Path) -> String {
    host_with(folder, &STATES.map(|(name, state, _)| (name, state)))
}

/// A host with VMs of these names and libvirt's numbers of their states.
pub fn host_with(folder: &Path, vms: &[(&str, &str)]) -> String {
    let mut domains = String::new();
    for (name, state) in vms {
        write!(
            domains,
            "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>\
             <name>{name}</name><memory>8192</memory><os><type>hvm</type></os>\
             <devices><input type='tablet' bus='usb'/><video><model type='vga'/></video>\
             </devices><test:runstate>{state}</test:runstate></domain>"
        )
        .expect("a string takes all");
    }
    let file = folder.join("host.xml");
    fs::write(&file, format!("<node>{domains}</node>")).expect("the folder can be written");
    format!("test://{}", file.display())
}
