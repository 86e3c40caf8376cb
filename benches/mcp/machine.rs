//! What the numbers were taken on.

use std::fs;

use crate::{
    floor::Vm,
    guest::{cache, settings, virsh},
};

/// Whether the demo guest runs; else why it cannot be measured.
pub(crate) fn demo_guest_is_there() -> Result<(), String> {
    let file = cache().join("demo.env");
    if !file.is_file() {
        return Err(format!(
            "there is no demo guest ({} is missing)",
            file.display()
        ));
    }
    let settings = settings();
    let name = settings.iter().find(|(name, _)| name == "VM_NAME");
    let Some((_, name)) = name else {
        return Err(format!("{} names no VM", file.display()));
    };
    let state = virsh(&["domstate", name]);
    let text = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    match (state.status.success(), text.as_str()) {
        (true, "running") => Ok(()),
        (true, state) => Err(format!("the demo guest is {state}")),
        (false, _) => Err("libvirt knows no demo guest".to_owned()),
    }
}

/// Date, machine, versions and how busy the machine was, in lines of Markdown.
pub(crate) fn describe(vm: &Vm) -> String {
    let xml = vm.domain.xml_desc(0).expect("libvirt describes the VM");
    let accelerator = if xml.contains("type='kvm'") {
        "KVM"
    } else {
        "TCG (emulated, no KVM)"
    };
    let libvirt = version(vm.connection.lib_version().unwrap_or(0));
    let qemu = version(vm.connection.hyp_version().unwrap_or(0));
    describe_with(&format!(
        "libvirt {libvirt}, QEMU {qemu}, guest under {accelerator}"
    ))
}

/// The same of what else is measured on this machine.
pub(crate) fn describe_with(others: &str) -> String {
    let date = chrono::Utc::now().format("%Y-%m-%d");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{date}, virtpilot {}, {}, {cores} cores, {}, {others}; load average before the run: {load}.",
        env!("CARGO_PKG_VERSION"),
        processor(),
        system(),
    )
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn system() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || "Linux".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

/// libvirt tells versions as major × 1,000,000 + minor × 1,000 + release.
fn version(number: u32) -> String {
    format!(
        "{}.{}.{}",
        number / 1_000_000,
        number / 1000 % 1000,
        number % 1000
    )
}
