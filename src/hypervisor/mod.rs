//! What a hypervisor does for us, as plain blocking calls.
//!
//! The trait lies below the async bridge: implementations may block for as long as
//! libvirt does, and whoever calls sets the time limits. This is the only room that
//! names `virt`.

mod console;
mod domain_xml;
mod error;
mod eyes;
mod ffi;
mod framebuffer;
mod handles;
mod libvirt;
mod placeholder;
mod pointers;
mod qmp;
mod sessions;
mod virsh;

use std::{fmt, net::IpAddr, time::Duration};

pub use console::Console;
pub use domain_xml::{Bus, Devices};
pub use error::HypervisorError;
pub use libvirt::Libvirt;
pub(crate) use placeholder::{PLACEHOLDER_SIZE, is_placeholder};
pub use pointers::Pointer;
use serde::Serialize;
pub use virsh::FullName;
pub(crate) use virsh::{tablet_hint, virsh};

use crate::model::{Button, Chord, Direction, KeyCode, VmName};

/// A connection to a hypervisor that is made when first used, and again after it went away.
pub trait Hypervisor: fmt::Debug + Send + Sync {
    /// Where it connects to, for messages.
    fn uri(&self) -> &str;

    /// One of its VMs, for messages.
    fn full_name(&self, vm: &VmName) -> FullName {
        FullName {
            uri: self.uri().to_owned(),
            name: vm.clone(),
        }
    }

    /// All VMs, running or not.
    fn domains(&self) -> Result<Vec<Domain>, HypervisorError>;

    /// One VM as it is now.
    fn domain(&self, vm: &VmName) -> Result<Domain, HypervisorError>;

    /// A number that becomes another one whenever the VM starts, stops, pauses or goes on, or a device of
    /// it comes or goes; `None` where nobody tells. Does not block.
    fn changes(&self, _vm: &VmName) -> Option<u64> {
        None
    }

    /// What hardware the VM has at present.
    fn devices(&self, vm: &VmName) -> Result<Devices, HypervisorError>;

    /// Starts to play a tap: all keys down in order, held for `hold`, up in reverse. Returns
    /// before the keys are played; QEMU takes `2 × keys × hold` for it.
    fn send_keys(&self, vm: &VmName, chord: &Chord, hold: Duration) -> Result<(), HypervisorError>;

    /// Whether the guest has yet to read keys that its PS/2 keyboard took. False where that cannot
    /// be seen.
    fn keys_unread(&self, _vm: &VmName) -> Result<bool, HypervisorError> {
        Ok(false)
    }

    /// The time of each of its virtual processors since it started. Empty where nobody tells.
    fn vcpu_times(&self, _vm: &VmName) -> Result<Vec<VcpuTime>, HypervisorError> {
        Ok(vec![])
    }

    /// The pointing devices that the guest's drivers have taken up or could. Empty where that cannot be
    /// seen.
    fn pointers(&self, _vm: &VmName) -> Result<Vec<Pointer>, HypervisorError> {
        Ok(vec![])
    }

    /// Makes the pointing device of this index the one that buttons and the wheel go to. Positions still
    /// go to the tablet.
    fn switch_pointer(&self, _vm: &VmName, _index: u32) -> Result<(), HypervisorError> {
        Ok(())
    }

    /// Feeds events to the VM's input devices, in order and at once.
    fn input(&self, vm: &VmName, events: &[InputEvent]) -> Result<(), HypervisorError>;

    /// The present picture of one head.
    fn screenshot(&self, vm: &VmName, head: u32) -> Result<Screenshot, HypervisorError>;

    /// The present picture of one head, by the quickest way there is: for looking often.
    fn glance(&self, vm: &VmName, head: u32) -> Result<Screenshot, HypervisorError> {
        self.screenshot(vm, head)
    }

    /// Which way [`Self::glance`] takes, found out by taking it.
    fn sight(&self, _vm: &VmName) -> Result<Sight, HypervisorError> {
        let why = "this hypervisor has no quicker one".to_owned();
        Ok(Sight::Screenshot { why })
    }

    /// What the guest writes to its serial console from now on.
    fn console(&self, vm: &VmName) -> Result<Box<dyn Console>, HypervisorError>;

    /// Takes back what it left in running VMs. It works on: what is needed again is made again.
    fn close(&self) {}

    /// The guest's addresses as the hypervisor's host knows them.
    fn addresses(&self, vm: &VmName, source: AddressSource)
    -> Result<Vec<IpAddr>, HypervisorError>;

    /// Whether it runs its VMs on this host, whose networks theirs are then.
    fn is_on_this_host(&self, _vm: &VmName) -> Result<bool, HypervisorError> {
        Ok(true)
    }

    /// The host ports that a user-mode network forwards to the guest.
    fn forwards(&self, vm: &VmName) -> Result<Vec<Forward>, HypervisorError>;
}

/// A VM, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub name: VmName,
    pub uuid: String,
    pub state: DomainState,
    /// The running instance: changes with every start. `None` where it does not run.
    pub id: Option<u32>,
    /// Whether it goes on where it was when it was saved.
    pub restored: bool,
}

/// What a VM is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum DomainState {
    Running,
    Paused,
    Shutdown,
    Shutoff,
    Crashed,
    Suspended,
    Unknown,
}

impl DomainState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Shutdown => "in shutdown",
            Self::Shutoff => "shut off",
            Self::Crashed => "crashed",
            Self::Suspended => "suspended",
            Self::Unknown => "in an unknown state",
        }
    }
}

/// One event of an input device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputEvent {
    Key {
        key: KeyCode,
        down: bool,
    },
    Button {
        button: Button,
        down: bool,
    },
    /// One notch of the wheel: it turns when it goes down, and comes up as a button does.
    Wheel {
        direction: Direction,
        down: bool,
    },
    /// Both axes of an absolute device, 0..=[`crate::model::geometry::AXIS_MAX`].
    Position {
        x: u32,
        y: u32,
    },
    /// A distance on both axes of a relative device, in its counts.
    Motion {
        dx: i32,
        dy: i32,
    },
}

/// How much a virtual processor ran, and how long it waited for one of the host's to be free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuTime {
    pub ran: Duration,
    /// Zero where libvirt or the host's kernel does not tell.
    pub waited: Duration,
}

/// A picture as the hypervisor made it.
#[derive(Clone, PartialEq, Eq)]
pub struct Screenshot {
    pub mime: String,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Screenshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Screenshot({}, {} bytes)", self.mime, self.bytes.len())
    }
}

/// Which way looks take that are not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// QEMU writes its framebuffer into memory that it shares with us.
    Framebuffer,
    /// `virDomainScreenshot`, as the quick way cannot be taken.
    Screenshot { why: String },
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Framebuffer => write!(f, "fast, QEMU's framebuffer through shared memory"),
            Self::Screenshot { why } => write!(f, "screenshots alone, as {why}"),
        }
    }
}

/// Who was asked for a guest's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSource {
    /// The DHCP leases of libvirt's own networks.
    Lease,
    /// The host's ARP table.
    Arp,
}

/// A host port that reaches a port of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    pub host: IpAddr,
    pub host_port: u16,
    pub guest_port: u16,
}
