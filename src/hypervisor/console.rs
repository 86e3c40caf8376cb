//! What a guest writes to its serial console, from the moment it is opened.

use std::fmt;

use virt::{
    error::{Error, ErrorNumber},
    stream::Stream,
    sys,
};

use crate::model::VmName;

use super::{HypervisorError, sessions::Sessions};

/// An open console. It belongs to one reader at a time, and is free again when this goes.
pub trait Console: fmt::Debug + Send {
    /// What the guest has written since the last call, without waiting for more.
    fn read(&mut self) -> Result<Vec<u8>, HypervisorError>;
}

/// The most that one read gives; the rest comes with the next.
const MAX_READ: usize = 1 << 20;

/// A console over a stream of libvirt's.
pub(super) struct LibvirtConsole {
    vm: VmName,
    /// Taken when it ends alone.
    stream: Option<Stream>,
}

impl fmt::Debug for LibvirtConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LibvirtConsole({})", self.vm)
    }
}

impl LibvirtConsole {
    /// Opens the VM's first console.
    pub(super) fn open(sessions: &Sessions, vm: &VmName) -> Result<Self, HypervisorError> {
        let open = || {
            sessions.read(vm, "open its console", |connection, handle| {
                let stream = Stream::new(connection, sys::VIR_STREAM_NONBLOCK)?;
                handle.open_console(None, &stream, sys::VIR_DOMAIN_CONSOLE_SAFE)?;
                Ok(stream)
            })
        };
        let stream = open().map_err(|error| match error {
            HypervisorError::Call { source, .. } if is_missing(&source) => {
                HypervisorError::NoConsole {
                    vm: sessions.full_name(vm),
                }
            }
            HypervisorError::Call { source, .. } if is_taken(&source) => {
                HypervisorError::ConsoleTaken {
                    vm: sessions.full_name(vm),
                }
            }
            error => error,
        })?;
        Ok(Self {
            vm: vm.clone(),
            stream: Some(stream),
        })
    }
}

impl Console for LibvirtConsole {
    fn read(&mut self) -> Result<Vec<u8>, HypervisorError> {
        let mut bytes = vec![];
        let mut chunk = vec![0; 16 * 1024];
        let vm = || self.vm.clone();
        let Some(stream) = &self.stream else {
            return Err(HypervisorError::ConsoleEnded { vm: vm() });
        };
        while bytes.len() < MAX_READ {
            match stream.recv(&mut chunk) {
                Ok(0) => return Err(HypervisorError::ConsoleEnded { vm: vm() }),
                Ok(length) => match usize::try_from(length) {
                    Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                    // -2: nothing there yet.
                    Err(_) => break,
                },
                // What came before it is worth more; the next read fails again.
                Err(_) if !bytes.is_empty() => break,
                Err(source) => {
                    return Err(HypervisorError::ConsoleBroke { vm: vm(), source });
                }
            }
        }
        Ok(bytes)
    }
}

impl Drop for LibvirtConsole {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.abort();
        }
    }
}

/// libvirt's own words (`qemuDomainOpenConsole` in qemu_driver.c).
fn is_missing(error: &Error) -> bool {
    let is_internal = error.code().is(ErrorNumber::InternalError);
    is_internal && error.message().contains("cannot find character device")
}

fn is_taken(error: &Error) -> bool {
    error.code().is(ErrorNumber::OperationFailed)
        && error.message().contains("Active console session exists")
}
