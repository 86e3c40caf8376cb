//! What can go wrong below: one variant per act that failed.

use crate::model::{KeyCode, VmName};

use super::{DomainState, FullName, tablet_hint, virsh};

/// A failed call, with libvirt's own words as its source.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    #[error("libvirt at {uri} cannot be reached")]
    Connect {
        uri: String,
        source: virt::error::Error,
    },
    #[error("libvirt at {uri} refuses access")]
    Denied {
        uri: String,
        source: virt::error::Error,
    },
    #[error("the connection to libvirt at {uri} was lost")]
    Lost {
        uri: String,
        source: virt::error::Error,
    },
    #[error("there is no VM named `{vm}` at {}{}", vm.uri, listed(known))]
    UnknownVm { vm: FullName, known: Vec<String> },
    #[error("the VM `{vm}` is {}", state.as_str())]
    NotRunning { vm: FullName, state: DomainState },
    #[error("the VM `{vm}` has no input device that takes this event")]
    NoInputDevice { vm: FullName },
    #[error("the guest of `{vm}` does not read its keyboard")]
    KeysUnread { vm: VmName },
    #[error("the VM `{vm}` was paused meanwhile, or a device of it came or went")]
    Changed { vm: FullName },
    #[error("the call to `{vm}` took too long and was given up")]
    GivenUp { vm: FullName },
    #[error("QEMU has no key with the evdev code {}", key.0)]
    NoSuchKey { key: KeyCode },
    #[error("the VM `{vm}` has no head {head}")]
    NoHead { vm: VmName, head: u32 },
    #[error("the VM `{vm}` has no video device, and so no screen")]
    NoVideo { vm: FullName },
    #[error("the VM `{vm}` has no serial console")]
    NoConsole { vm: FullName },
    #[error("the serial console of `{vm}` is read by somebody else")]
    ConsoleTaken { vm: FullName },
    #[error("the serial console of `{vm}` was closed")]
    ConsoleEnded { vm: VmName },
    #[error("the serial console of `{vm}` broke off")]
    ConsoleBroke {
        vm: VmName,
        source: virt::error::Error,
    },
    #[error("the hypervisor of `{vm}` cannot {act}")]
    Unsupported {
        vm: VmName,
        act: &'static str,
        source: virt::error::Error,
    },
    #[error("libvirt could not {act} for `{vm}`")]
    Call {
        vm: VmName,
        act: &'static str,
        source: virt::error::Error,
    },
    #[error("libvirt could not list its VMs")]
    List { source: virt::error::Error },
    #[error("QEMU refused {command} for `{vm}`: {description}")]
    Refused {
        vm: FullName,
        command: &'static str,
        description: String,
    },
    #[error("QEMU's answer to {command} for `{vm}` is no QMP")]
    Answer {
        vm: FullName,
        command: &'static str,
        source: serde_json::Error,
    },
    #[error("libvirt's description of `{vm}` cannot be read")]
    Description {
        vm: FullName,
        source: quick_xml::DeError,
    },
    #[error("the screenshot of `{vm}` broke off after {received} bytes")]
    BrokenPicture {
        vm: VmName,
        received: usize,
        source: virt::error::Error,
    },
}

impl HypervisorError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Connect { uri, .. } => format!(
                "Check that libvirt runs and that the URI is right: `{}`. \
                 Start it with `sudo systemctl start libvirtd`, or `virtlogd -d && libvirtd -d` \
                 where no service manager runs. Another URI: LIBVIRT_DEFAULT_URI or `uri` in the \
                 configuration.",
                virsh(uri, "list --all")
            ),
            Self::Denied { .. } => "Add the user to libvirt's group and log in again: \
                 `sudo usermod -aG libvirt $USER`."
                .to_owned(),
            Self::Lost { .. } => {
                "Call again: the connection is made anew. Whether the act arrived is unknown, so \
                 take a screenshot first."
                    .to_owned()
            }
            Self::GivenUp { .. } => {
                "Take a screenshot to see what was done, then try again.".to_owned()
            }
            Self::UnknownVm { vm, .. } => format!(
                "Call `vm_list` for the names, or look with `{}`.",
                virsh(&vm.uri, "list --all")
            ),
            Self::NotRunning { vm, state } => match state {
                DomainState::Paused => format!("Resume it: `{}`.", vm.virsh("resume")),
                DomainState::Suspended => format!("Wake it: `{}`.", vm.virsh("dompmwakeup")),
                // libvirt may keep it as it was at the crash, and then refuses to start it.
                DomainState::Crashed => format!(
                    "Its last screen can still be looked at with `take_screenshot`. Then start it \
                     anew: `{}`, and `{}`.",
                    vm.virsh("destroy"),
                    vm.virsh("start")
                ),
                DomainState::Shutdown => format!(
                    "Wait until it is off, then start it: `{}`.",
                    vm.virsh("start")
                ),
                DomainState::Unknown => {
                    format!("Look what libvirt says: `{}`.", vm.virsh("domstate"))
                }
                DomainState::Shutoff | DomainState::Running => {
                    format!("Start it: `{}`.", vm.virsh("start"))
                }
            },
            Self::NoInputDevice { vm } => tablet_hint(vm),
            Self::KeysUnread { .. } => {
                "Take a screenshot: the guest may be starting still, or hang.".to_owned()
            }
            Self::Changed { .. } => "Take a screenshot to see what arrived.".to_owned(),
            Self::NoSuchKey { .. } => {
                "Use another key, or do the same by a menu or a command.".to_owned()
            }
            Self::NoHead { .. } => "Heads count from 0; `vm_list` tells how many there are.".into(),
            Self::NoVideo { vm } => format!(
                "Add `<video><model type='vga'/></video>` inside `<devices>` with `{}`, \
                 and start the VM anew. `ssh_execute` needs no screen.",
                vm.virsh("edit")
            ),
            Self::NoConsole { vm } => format!(
                "Add `<serial type='pty'/>` inside `<devices>` with `{}`, and start the VM anew; a Linux \
                 guest writes there with `console=ttyS0` on its kernel's command line.",
                vm.virsh("edit")
            ),
            Self::ConsoleTaken { vm } => format!(
                "One alone can read it: end `{}`, or wait until the other has ended.",
                vm.virsh("console")
            ),
            Self::ConsoleEnded { .. } | Self::ConsoleBroke { .. } => {
                "See with `vm_list` whether the VM still runs.".to_owned()
            }
            Self::Unsupported { .. } => {
                "Mouse and held keys need a QEMU VM; keys and screenshots depend on the driver."
                    .to_owned()
            }
            Self::Call { .. } | Self::List { .. } | Self::BrokenPicture { .. } => {
                "Call again. If it stays so, libvirt's log tells more: `journalctl -u libvirtd`, \
                 or the VM's log below /var/log/libvirt/qemu."
                    .to_owned()
            }
            Self::Refused { vm, .. } | Self::Answer { vm, .. } | Self::Description { vm, .. } => {
                format!(
                    "This QEMU or libvirt answers otherwise than expected; `{}` tells which they \
                     are. Please report it.",
                    virsh(&vm.uri, "version")
                )
            }
        }
    }
}

/// How many names an error lists.
const LISTED: usize = 20;

fn listed(known: &[String]) -> String {
    match known {
        [] => String::new(),
        _ if known.len() > LISTED => {
            let more = known.len() - LISTED;
            format!("; there are {} and {more} more", known[..LISTED].join(", "))
        }
        known => format!("; there are {}", known.join(", ")),
    }
}
