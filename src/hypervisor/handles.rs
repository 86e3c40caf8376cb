//! What libvirt's handles tell, in our words, and the event loop that they need.

use std::{sync::Once, time::Duration};

use virt::{
    connect::Connect,
    domain::{
        Domain as Handle, DomainRunningReason, DomainState as RawState, DomainStateEnum,
        DomainStateReason,
    },
    enumutil::Enum,
    error::Error,
    stream::Stream,
};

use crate::model::VmName;

use super::{Domain, DomainState, ffi::EventLoop};

/// One read of a screenshot's stream. libvirt's own messages carry up to 256 KiB.
const STREAM_CHUNK: usize = 256 * 1024;

pub(super) fn is_alive(connection: &Connect) -> bool {
    connection.is_alive().unwrap_or(false)
}

/// All that a stream has to give; on failure, how much came before.
pub(super) fn receive(stream: &Stream) -> Result<Vec<u8>, (usize, Error)> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; STREAM_CHUNK];
    loop {
        match stream.recv(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(length) => match usize::try_from(length) {
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                // -2: nothing there yet.
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            },
            Err(error) => return Err((bytes.len(), error)),
        }
    }
}

pub(super) fn domain_of(handle: &Handle) -> Result<Domain, Error> {
    let name = handle.name()?;
    let name = VmName::try_from(name).map_err(|_| Error::last_error())?;
    let (state, reason) = handle.state()?;
    let restored = matches!(
        reason,
        Enum::Known(DomainStateReason::Running(Enum::Known(
            DomainRunningReason::Restored | DomainRunningReason::FromSnapshot
        )))
    );
    Ok(Domain {
        name,
        uuid: handle.uuid_string()?,
        state: state_from(state),
        id: handle.id(),
        restored,
    })
}

pub(super) fn state_of(handle: &Handle) -> Result<DomainState, Error> {
    let (state, _) = handle.state()?;
    Ok(state_from(state))
}

fn state_from(state: DomainStateEnum) -> DomainState {
    match state.unwrap_or(RawState::NoState) {
        RawState::Running | RawState::Blocked => DomainState::Running,
        RawState::Paused => DomainState::Paused,
        RawState::Shutdown => DomainState::Shutdown,
        RawState::Shutoff => DomainState::Shutoff,
        RawState::Crashed => DomainState::Crashed,
        RawState::PMSuspended => DomainState::Suspended,
        RawState::NoState => DomainState::Unknown,
    }
}

/// libvirt's keepalive and its notice of a closed socket need an event loop; one for the process.
pub(super) fn start_event_loop() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Its own handler prints to stderr; the errors reach us as values.
        virt::error::clear_error_callback();
        if let Err(error) = EventLoop::start() {
            tracing::warn!(%error, "no event loop for libvirt: a dead connection is noticed late");
        }
    });
}
