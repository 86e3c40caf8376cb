//! The libvirt backend: each call as libvirt has it.

use std::{net::IpAddr, time::Duration};

use virt::{
    error::{Error, ErrorNumber},
    stream::Stream,
    sys,
};

use crate::model::{Chord, VmName};

use super::{
    AddressSource, Console, Devices, Domain, Forward, Hypervisor, HypervisorError, InputEvent,
    Pointer, Screenshot, Sight, VcpuTime,
    console::LibvirtConsole,
    eyes::Eyes,
    ffi,
    handles::{domain_of, is_alive, receive},
    qmp::{self, Answer},
    sessions::Sessions,
};

/// VMs of one libvirt daemon.
#[derive(Debug)]
pub struct Libvirt {
    sessions: Sessions,
    eyes: Eyes,
}

impl Libvirt {
    /// Connects to nothing yet.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            sessions: Sessions::new(uri),
            eyes: Eyes::default(),
        }
    }
}

impl Hypervisor for Libvirt {
    fn uri(&self) -> &str {
        self.sessions.uri()
    }

    fn domains(&self) -> Result<Vec<Domain>, HypervisorError> {
        let list = || {
            let (connection, _) = self.sessions.connection(&None)?;
            let handles = connection.list_all_domains(0).map_err(|source| {
                if is_alive(&connection) {
                    HypervisorError::List { source }
                } else {
                    let uri = self.sessions.uri().to_owned();
                    HypervisorError::Lost { uri, source }
                }
            })?;
            // A VM that is undefined at this very moment is none to list.
            Ok(handles.iter().filter_map(|it| domain_of(it).ok()).collect())
        };
        match list() {
            Err(HypervisorError::Lost { .. }) => list(),
            outcome => outcome,
        }
    }

    fn domain(&self, vm: &VmName) -> Result<Domain, HypervisorError> {
        // A handle keeps the instance's number of when it was looked up, so this looks again.
        self.sessions
            .read(vm, "tell the state", |connection, handle| {
                domain_of(&connection.lookup_domain_by_uuid(handle.uuid()?)?)
            })
    }

    fn changes(&self, vm: &VmName) -> Option<u64> {
        self.sessions.changes(vm)
    }

    fn devices(&self, vm: &VmName) -> Result<Devices, HypervisorError> {
        let xml = self
            .sessions
            .read(vm, "describe the hardware", |_, handle| handle.xml_desc(0))?;
        Devices::from_xml(&xml).map_err(|source| HypervisorError::Description {
            vm: self.full_name(vm),
            source,
        })
    }

    fn send_keys(&self, vm: &VmName, chord: &Chord, hold: Duration) -> Result<(), HypervisorError> {
        let hold_ms = u32::try_from(hold.as_millis()).unwrap_or(u32::MAX);
        let keys: Vec<u32> = chord.keys().iter().map(|key| u32::from(key.0)).collect();
        let count = i32::try_from(keys.len()).unwrap_or(i32::MAX);
        self.sessions.call(vm, "press keys", |_, handle| {
            // libvirt reads `count` codes from the pointer and keeps none of them.
            let mut keys = keys.clone();
            handle.send_key(
                sys::VIR_KEYCODE_SET_LINUX,
                hold_ms,
                keys.as_mut_ptr(),
                count,
                0,
            )
        })
    }

    fn keys_unread(&self, vm: &VmName) -> Result<bool, HypervisorError> {
        let hmp = sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP;
        match self
            .sessions
            .monitor(vm, "look at its keyboard", qmp::KEYBOARD_STATUS, hmp)
        {
            Ok(text) => Ok(qmp::keys_unread(&text)),
            // Other hypervisors have no monitor, and their keyboards are their own affair.
            Err(HypervisorError::Unsupported { .. } | HypervisorError::Call { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn vcpu_times(&self, vm: &VmName) -> Result<Vec<VcpuTime>, HypervisorError> {
        self.sessions
            .call(vm, "tell its processors' times", |_, handle| {
                ffi::vcpu_times(handle)
            })
    }

    fn pointers(&self, vm: &VmName) -> Result<Vec<Pointer>, HypervisorError> {
        let text = self
            .sessions
            .monitor(vm, "look at its pointing devices", qmp::QUERY_MICE, 0)?;
        qmp::pointers(&text).map_err(|source| HypervisorError::Answer {
            vm: self.full_name(vm),
            command: "query-mice",
            source,
        })
    }

    fn switch_pointer(&self, vm: &VmName, index: u32) -> Result<(), HypervisorError> {
        let text = self.sessions.monitor(
            vm,
            "switch its pointing device",
            &qmp::mouse_set(index),
            sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
        )?;
        if text.trim().is_empty() {
            return Ok(());
        }
        Err(HypervisorError::Refused {
            vm: self.full_name(vm),
            command: "mouse_set",
            description: text.trim().to_owned(),
        })
    }

    fn input(&self, vm: &VmName, events: &[InputEvent]) -> Result<(), HypervisorError> {
        const COMMAND: &str = "input-send-event";
        let message =
            qmp::input_send_event(events).map_err(|key| HypervisorError::NoSuchKey { key })?;
        let text = self.sessions.monitor(vm, "send input", &message, 0)?;
        match qmp::read_answer(&text) {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Refused(description)) if description.contains("handler not found") => {
                let vm = self.full_name(vm);
                Err(HypervisorError::NoInputDevice { vm })
            }
            // A VM that is paused takes no events, and QEMU no names of the state.
            Ok(Answer::Refused(description)) if description.contains("VM not running") => {
                let state = self.domain(vm)?.state;
                let vm = self.full_name(vm);
                Err(HypervisorError::NotRunning { vm, state })
            }
            Ok(Answer::Refused(description)) => Err(HypervisorError::Refused {
                vm: self.full_name(vm),
                command: COMMAND,
                description,
            }),
            Err(source) => Err(HypervisorError::Answer {
                vm: self.full_name(vm),
                command: COMMAND,
                source,
            }),
        }
    }

    fn screenshot(&self, vm: &VmName, head: u32) -> Result<Screenshot, HypervisorError> {
        let begin = || {
            self.sessions
                .read(vm, "take a screenshot", |connection, handle| {
                    let stream = Stream::new(connection, 0)?;
                    let mime = handle.screenshot(&stream, head, 0)?;
                    Ok((mime, stream))
                })
        };
        let (mime, stream) = begin().map_err(|error| match error {
            HypervisorError::Call { source, .. } if is_no_head(&source, head) => {
                HypervisorError::NoHead {
                    vm: vm.clone(),
                    head,
                }
            }
            HypervisorError::Call { source, .. } if is_no_video(&source) => {
                let vm = self.full_name(vm);
                HypervisorError::NoVideo { vm }
            }
            error => error,
        })?;
        match receive(&stream) {
            Ok(bytes) => {
                let received = bytes.len();
                stream
                    .finish()
                    .map_err(|source| HypervisorError::BrokenPicture {
                        vm: vm.clone(),
                        received,
                        source,
                    })?;
                Ok(Screenshot { mime, bytes })
            }
            Err((received, source)) => {
                let _ = stream.abort();
                Err(HypervisorError::BrokenPicture {
                    vm: vm.clone(),
                    received,
                    source,
                })
            }
        }
    }

    fn glance(&self, vm: &VmName, head: u32) -> Result<Screenshot, HypervisorError> {
        match self.eyes.look(&self.sessions, vm, head)? {
            Some(picture) => Ok(picture),
            None => self.screenshot(vm, head),
        }
    }

    fn sight(&self, vm: &VmName) -> Result<Sight, HypervisorError> {
        self.eyes.sight(&self.sessions, vm)
    }

    fn console(&self, vm: &VmName) -> Result<Box<dyn Console>, HypervisorError> {
        Ok(Box::new(LibvirtConsole::open(&self.sessions, vm)?))
    }

    fn close(&self) {
        self.eyes.close(&self.sessions);
    }

    fn addresses(
        &self,
        vm: &VmName,
        source: AddressSource,
    ) -> Result<Vec<IpAddr>, HypervisorError> {
        let source = match source {
            AddressSource::Lease => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
            AddressSource::Arp => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
        };
        let interfaces = self.sessions.read(vm, "find the address", |_, handle| {
            handle.interface_addresses(source, 0)
        })?;
        let addresses = interfaces
            .iter()
            .flat_map(|interface| interface.addrs.iter())
            .filter_map(|address| address.addr.parse().ok());
        Ok(addresses.collect())
    }

    fn is_on_this_host(&self, vm: &VmName) -> Result<bool, HypervisorError> {
        self.sessions.is_local_socket(vm)
    }

    fn forwards(&self, vm: &VmName) -> Result<Vec<Forward>, HypervisorError> {
        let devices = self.devices(vm)?;
        if !devices.forwards.is_empty() || !devices.is_qemu() {
            return Ok(devices.forwards);
        }
        // Forwards may have been added since the start, where the XML does not tell them.
        let text = self.sessions.monitor(
            vm,
            "list its forwards",
            "info usernet",
            sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
        )?;
        Ok(qmp::usernet_forwards(&text))
    }
}

/// libvirt has no head but the first where there is one video device at most, and says otherwise
/// that there is no such screen (`qemuDomainScreenshot` in qemu_driver.c).
fn is_no_head(error: &Error, head: u32) -> bool {
    let code = error.code();
    let is_unknown =
        code.is(ErrorNumber::OperationInvalid) && error.message().contains("no such screen");
    head > 0 && (code.is(ErrorNumber::InvalidArg) || is_unknown)
}

/// QEMU's own words (`qmp_screendump` in ui/console.c).
fn is_no_video(error: &Error) -> bool {
    error
        .message()
        .contains("no console to take a screendump from")
}
