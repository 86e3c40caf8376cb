//! A monitor command that hands an open file to QEMU.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use virt::{domain::Domain as Handle, error::Error, sys};

/// QEMU's answer to one QMP command that brings a file along. Needs a local libvirt of 8.2 or newer.
pub(in crate::hypervisor) fn monitor_command_with_file(
    domain: &Handle,
    command: &str,
    file: BorrowedFd<'_>,
) -> Result<String, Error> {
    let command = CString::new(command)?;
    let mut files = [file.as_raw_fd()];
    let mut result = ptr::null_mut();
    // SAFETY: domain, command and file live through the call, which copies the file. libvirt takes null
    // for files that it could hand back, and QMP has none to hand back.
    let outcome = unsafe {
        sys::virDomainQemuMonitorCommandWithFiles(
            domain.as_ptr(),
            command.as_ptr(),
            1,
            files.as_mut_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut result,
            sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT,
        )
    };
    if outcome < 0 || result.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: on success, libvirt gives a string of its own that the caller frees by free(3).
    let answer = unsafe {
        let answer = CStr::from_ptr(result).to_string_lossy().into_owned();
        free(result.cast());
        answer
    };
    Ok(answer)
}

unsafe extern "C" {
    fn free(memory: *mut std::ffi::c_void);
}
