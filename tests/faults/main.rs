//! What goes wrong on real processes: libvirt daemons and QEMU processes of the tests' own, and a real
//! OpenSSH server. Each fault is told with what failed, the cause and what to do next, and the next call
//! works once it is over.
//!
//! These tests run as root, for file systems that are full and users that may not do something.

#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/mcp.rs"]
mod mcp;
#[path = "../support/sshd.rs"]
mod sshd;

mod disks;
mod lengths;
mod libvirt;
mod machines;
mod shell;
