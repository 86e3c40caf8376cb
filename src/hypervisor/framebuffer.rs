//! Memory that QEMU writes pictures into: no encoding, no file on a disk, no stream.
//!
//! A memory file is handed to QEMU once, as a *set of files* of a number that we choose. QEMU then
//! writes a picture into it as often as it is asked, some five times as fast as it makes a PNG.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{Seek, SeekFrom},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
    process,
};

use rustix::fs::{MemfdFlags, memfd_create};

use virt::error::ErrorNumber;

use crate::{image, model::VmName};

use super::{
    FullName, HypervisorError, Screenshot,
    domain_xml::Head,
    ffi::monitor_command_with_file,
    qmp::{self, Answer},
    sessions::Sessions,
};

/// What our sets of files are marked with, before the process.
const MARK: &str = "virtpilot";

/// A picture of more bytes would not be taken; the header before its pixels is short.
const MAX_BYTES: u64 = image::MAX_BYTES + 64;

/// The memory file of one run of a VM.
#[derive(Debug)]
pub(super) struct Framebuffer {
    fdset: u32,
    /// For us to read.
    memory: File,
    /// The same for QEMU to write, which shares this one's position.
    writer: File,
    heads: Vec<Head>,
}

/// Why QEMU gave no picture this way.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot be had this way; in words.
    Refused(String),
    /// It could not be had at all now.
    Failed(HypervisorError),
}

impl From<HypervisorError> for Trouble {
    fn from(error: HypervisorError) -> Self {
        use std::error::Error as _;
        match error {
            // Something else of the VM's, as a snapshot, takes long just now.
            HypervisorError::Call { ref source, .. }
                if source.code().is(ErrorNumber::OperationTimeout) =>
            {
                Self::Failed(error)
            }
            // Other hypervisors, and libvirts that pass on no files.
            HypervisorError::Call { .. } | HypervisorError::Unsupported { .. } => {
                let cause = error.source().map(ToString::to_string);
                Self::Refused(cause.unwrap_or_else(|| error.to_string()))
            }
            error => Self::Failed(error),
        }
    }
}

impl Framebuffer {
    /// Hands a memory file to the VM's QEMU, and takes away what processes left there that are gone.
    pub(super) fn open(sessions: &Sessions, vm: &VmName) -> Result<Self, Trouble> {
        if !sessions.is_local_socket(vm)? {
            // To try it would end the connection.
            let why = "libvirt takes files over a local socket alone".to_owned();
            return Err(Trouble::Refused(why));
        }
        let local = |error: &dyn std::fmt::Display| {
            Trouble::Refused(format!("this process got no memory file: {error}"))
        };
        let memory = memfd_create("virtpilot-screen", MemfdFlags::CLOEXEC);
        let memory = File::from(memory.map_err(|error| local(&error))?);
        // QEMU takes a file of a set only where it is open for just what it asks, writing.
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let writer = File::options().write(true).open(path);
        let writer = writer.map_err(|error| local(&error))?;

        let xml = sessions.read(vm, "describe the hardware", |_, handle| handle.xml_desc(0))?;
        let heads = Head::all_from_xml(&xml).map_err(|source| HypervisorError::Description {
            vm: sessions.full_name(vm),
            source,
        })?;
        clear_away(sessions, vm)?;
        let fdset = fdset();
        let command = qmp::add_fd(fdset, &mark(process::id()));
        let text = sessions.call(vm, "hand a file to QEMU", |_, handle| {
            monitor_command_with_file(handle, &command, writer.as_fd())
        })?;
        done(&text, sessions.full_name(vm), "add-fd")?;
        Ok(Self {
            fdset,
            memory,
            writer,
            heads,
        })
    }

    /// The present picture of a head; `None` for a head that there is not.
    pub(super) fn picture(
        &mut self,
        sessions: &Sessions,
        vm: &VmName,
        head: u32,
    ) -> Result<Option<Screenshot>, Trouble> {
        let wanted = usize::try_from(head).ok();
        let Some(head) = wanted.and_then(|head| self.heads.get(head)) else {
            return Ok(None);
        };
        let local = |error: std::io::Error| {
            Trouble::Refused(format!("the memory file cannot be used: {error}"))
        };
        self.writer.seek(SeekFrom::Start(0)).map_err(local)?;
        let command = qmp::screendump(self.fdset, head);
        let text = sessions.monitor(vm, "look at its framebuffer", &command, 0)?;
        done(&text, sessions.full_name(vm), "screendump")?;
        // Where QEMU ceased to write is how much of the file is this picture.
        let length = self.writer.stream_position().map_err(local)?;
        if length > MAX_BYTES {
            return Err(Trouble::Refused(format!("the picture has {length} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.memory.read_exact_at(&mut bytes, 0).map_err(local)?;
        Ok(Some(Screenshot {
            mime: "image/x-portable-pixmap".to_owned(),
            bytes,
        }))
    }

    /// Takes the file away from QEMU.
    pub(super) fn close(self, sessions: &Sessions, vm: &VmName) {
        let command = qmp::remove_fd(self.fdset.into());
        if let Err(error) = sessions.monitor(vm, "take a file from QEMU", &command, 0) {
            tracing::debug!(%error, %vm, "a memory file stays with QEMU");
        }
    }
}

/// A number that no other set of this QEMU has, nor any of the next one when the VM is started anew:
/// whoever wrote there by a number of before could write into a log of libvirt's. libvirt counts its own
/// from 0, and goes on behind the largest that it finds, in 32 bits.
fn fdset() -> u32 {
    const SMALLEST: u32 = 1 << 20;
    let random = RandomState::new().hash_one(process::id());
    SMALLEST + (random >> 34) as u32
}

/// Takes away the sets of files that processes of ours left which are gone.
fn clear_away(sessions: &Sessions, vm: &VmName) -> Result<(), Trouble> {
    let text = sessions.monitor(vm, "list QEMU's files", qmp::QUERY_FDSETS, 0)?;
    let sets = qmp::fdsets(&text).map_err(|source| HypervisorError::Answer {
        vm: sessions.full_name(vm),
        command: "query-fdsets",
        source,
    })?;
    for (id, marks) in sets {
        if !marks.is_empty() && marks.iter().all(|mark| is_left_over(mark)) {
            let command = qmp::remove_fd(id);
            sessions.monitor(vm, "take a file from QEMU", &command, 0)?;
        }
    }
    Ok(())
}

/// A process's number may be given anew, so its start goes with it.
fn mark(process: u32) -> String {
    let start = start_of(process).unwrap_or_default();
    format!("{MARK} {process} {start}")
}

/// Whether a mark is of a process of ours that is gone.
fn is_left_over(text: &str) -> bool {
    let mut words = text.split(' ');
    let ours = words.next() == Some(MARK);
    let process = words.next().and_then(|word| word.parse().ok());
    ours && process.is_some_and(|process| text != mark(process))
}

/// When a process started, in the kernel's ticks: field 22 of proc(5)'s `stat`, counted behind the
/// program's name, which may hold anything.
fn start_of(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(19).map(str::to_owned)
}

fn done(text: &str, vm: FullName, command: &'static str) -> Result<(), Trouble> {
    match qmp::read_answer(text) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(description)) => Err(Trouble::Refused(format!(
            "QEMU refused {command}: {description}"
        ))),
        Err(source) => {
            let error = HypervisorError::Answer {
                vm,
                command,
                source,
            };
            Err(Trouble::Failed(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marks_of_processes_that_are_gone_are_left_over() {
        let ours = mark(process::id());
        assert!(ours.starts_with(&format!("virtpilot {} ", process::id())));
        assert!(!is_left_over(&ours));
        // The same number given to another process, and a number that none can have.
        assert!(is_left_over(&format!("virtpilot {} 1", process::id())));
        assert!(is_left_over("virtpilot 4194305 12345"));
        for foreign in [
            "",
            "virtpilot",
            "virtpilot x y",
            "libvirt 4194305 1",
            "rdonly:/x",
        ] {
            assert!(!is_left_over(foreign), "{foreign}");
        }
    }

    #[test]
    fn numbers_of_sets_are_far_from_libvirts_and_fit_its_own() {
        for _ in 0..1000 {
            let fdset = fdset();
            assert!((1 << 20..(1 << 30) + (1 << 20)).contains(&fdset), "{fdset}");
        }
    }
}
