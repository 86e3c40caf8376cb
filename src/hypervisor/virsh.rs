//! Lines for virsh, as a person runs them at the host's shell.
//!
//! They always name the URI: by itself virsh takes another libvirt than this server where the user is not
//! root, and the VM is not there.

use std::fmt;

use crate::model::{VmName, shell_word};

/// A VM and the libvirt that has it. Shows as the VM's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullName {
    pub uri: String,
    pub name: VmName,
}

impl FullName {
    /// A virsh command on the VM; what it needs beyond the VM can be added at the end.
    pub(crate) fn virsh(&self, command: &str) -> String {
        format!("{} {}", virsh(&self.uri, command), shell_word(&self.name))
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// A virsh command on a libvirt.
pub(crate) fn virsh(uri: &str, command: &str) -> String {
    format!("virsh -c {} {command}", shell_word(uri))
}

/// How to give a VM the device that pointing needs.
pub(crate) fn tablet_hint(vm: &FullName) -> String {
    format!(
        "Give the VM a tablet: put `<input type='tablet' bus='usb'/>` into a file and run \
         `{} FILE --live --config`.",
        vm.virsh("attach-device")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_libvirt_and_the_vm() {
        let cases = [
            (
                "qemu:///system",
                "demo",
                "virsh -c qemu:///system start demo",
            ),
            (
                "qemu:///session?socket=/run/x",
                "win 10",
                "virsh -c 'qemu:///session?socket=/run/x' start 'win 10'",
            ),
        ];
        for (uri, name, line) in cases {
            let vm = FullName {
                uri: uri.to_owned(),
                name: name.parse().unwrap(),
            };
            assert_eq!(vm.virsh("start"), line);
            assert_eq!(vm.to_string(), name);
        }
        assert_eq!(
            virsh("qemu:///system", "list --all"),
            "virsh -c qemu:///system list --all"
        );
    }
}
