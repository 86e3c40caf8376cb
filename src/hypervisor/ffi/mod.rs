//! The libvirt calls that the crate `virt` lacks: the house's only `unsafe`.

#![expect(unsafe_code, reason = "the C library is called directly")]

mod event_loop;
mod files;
mod stats;
mod watch;

pub(super) use event_loop::EventLoop;
pub(super) use files::monitor_command_with_file;
pub(super) use stats::vcpu_times;
pub(super) use watch::Watch;
