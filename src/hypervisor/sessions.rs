//! Connections to libvirt that are made when first used and again after they went away.
//!
//! Each VM has a connection of its own. libvirt's handles may be used from many threads at once, but a
//! call that hangs holds up others of its connection: libvirt 9.0 was seen to hand on an answer only at
//! the next keepalive, after 5 s, and the daemon takes five calls of a connection at a time. Calls that
//! only read are tried again once over a new connection; an act is never sent twice.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use virt::{
    connect::Connect,
    domain::Domain as Handle,
    error::{Error, ErrorNumber},
};

use crate::model::VmName;

use super::{
    DomainState, FullName, HypervisorError,
    ffi::Watch,
    handles::{is_alive, start_event_loop, state_of},
};

/// Keepalive: libvirtd is asked after this many quiet seconds, and given up after
/// [`KEEPALIVE_COUNT`] unanswered questions.
const KEEPALIVE_INTERVAL: i32 = 5;
const KEEPALIVE_COUNT: u32 = 3;

/// The connections to one libvirt daemon.
#[derive(Debug)]
pub(super) struct Sessions {
    uri: String,
    live: Mutex<HashMap<Owner, Session>>,
}

/// Whose connection it is: a VM's, or that for all that concerns none.
pub(super) type Owner = Option<VmName>;

/// A live connection and the handle looked up over it.
#[derive(Debug, Clone)]
struct Session {
    connection: Connect,
    /// Which of this process's connections it is: handles belong to one alone.
    number: u64,
    handle: Option<Handle>,
    watch: Option<Arc<Watch>>,
}

impl Sessions {
    /// Connects to nothing yet.
    pub(super) fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            live: Mutex::default(),
        }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn full_name(&self, vm: &VmName) -> FullName {
        FullName {
            uri: self.uri.clone(),
            name: vm.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Session>> {
        // A panic while it was held leaves at worst a connection that is checked anyway.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connection(&self, owner: &Owner) -> Result<(Connect, u64), HypervisorError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        // Those that are gone end after the lock: ending one may take long, as may making one.
        let gone: Vec<_> = {
            let mut sessions = self.lock();
            if let Some(live) = sessions.get(owner).filter(|it| is_alive(&it.connection)) {
                return Ok((live.connection.clone(), live.number));
            }
            sessions
                .extract_if(|_, session| !is_alive(&session.connection))
                .collect()
        };
        drop(gone);
        start_event_loop();
        let connection = Connect::open(Some(&self.uri)).map_err(|source| self.refusal(source))?;
        // Drivers inside our own process (`test:///`) have no keepalive, and need none.
        let _ = connection.set_keep_alive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT);
        tracing::info!(uri = self.uri, "connected to libvirt");
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let session = Session {
            connection: connection.clone(),
            number,
            handle: None,
            watch: None,
        };
        let _older = self.lock().insert(owner.clone(), session);
        Ok((connection, number))
    }

    /// A number that becomes another one whenever the VM starts, stops, pauses or goes on, or a device of
    /// it comes or goes; `None` where nobody tells.
    pub(super) fn changes(&self, vm: &VmName) -> Option<u64> {
        // Async code asks this, and must not wait for a lock.
        let live = self.live.try_lock().ok()?;
        let session = live.get(&Some(vm.clone()))?;
        let watch = session.watch.as_ref()?;
        is_alive(&session.connection).then(|| watch.changes())
    }

    /// Which connection a VM has at present: another number is another connection.
    pub(super) fn number(&self, vm: &VmName) -> Result<u64, HypervisorError> {
        self.connection(&Some(vm.clone())).map(|(_, number)| number)
    }

    /// Whether a VM's connection goes through a Unix socket of this host, and not through ssh, TCP or a
    /// program.
    pub(super) fn is_local_socket(&self, vm: &VmName) -> Result<bool, HypervisorError> {
        // libvirt's own word, since ours may be an alias of its configuration.
        let uri = self.read(vm, "tell its URI", |connection, _| connection.uri())?;
        Ok(has_local_socket(&uri))
    }

    fn refusal(&self, source: Error) -> HypervisorError {
        let uri = self.uri.clone();
        let denied = source.code().is_any(vec![
            ErrorNumber::AuthFailed,
            ErrorNumber::AuthCancelled,
            ErrorNumber::AuthUnavailable,
            ErrorNumber::AccessDenied,
            ErrorNumber::OperationDenied,
        ]) || source.message().contains("Permission denied");
        if denied {
            HypervisorError::Denied { uri, source }
        } else {
            HypervisorError::Connect { uri, source }
        }
    }

    fn handle(&self, vm: &VmName) -> Result<(Connect, Handle), HypervisorError> {
        let owner = Some(vm.clone());
        let (connection, number) = self.connection(&owner)?;
        let known = self
            .lock()
            .get(&owner)
            .filter(|session| session.number == number)
            .and_then(|session| session.handle.clone());
        if let Some(handle) = known {
            return Ok((connection, handle));
        }
        let handle = connection
            .lookup_domain_by_name(vm.as_str())
            .map_err(|source| {
                if source.code().is(ErrorNumber::NoDomain) {
                    self.unknown(vm, &connection)
                } else {
                    self.failure(vm, "look it up", &connection, source)
                }
            })?;
        let watch = match Watch::new(&connection, &handle) {
            Ok(watch) => Some(Arc::new(watch)),
            Err(error) => {
                tracing::debug!(%error, %vm, "its changes are not told");
                None
            }
        };
        // Freed after the lock, since that is a call to libvirt.
        let mut _older = None;
        if let Some(session) = self.lock().get_mut(&owner)
            && session.number == number
        {
            session.handle = Some(handle.clone());
            _older = std::mem::replace(&mut session.watch, watch);
        }
        Ok((connection, handle))
    }

    fn unknown(&self, vm: &VmName, connection: &Connect) -> HypervisorError {
        let known = connection
            .list_all_domains(0)
            .unwrap_or_default()
            .iter()
            .filter_map(|handle| handle.name().ok())
            .collect();
        HypervisorError::UnknownVm {
            vm: self.full_name(vm),
            known,
        }
    }

    /// Calls libvirt for one VM, once.
    pub(super) fn call<T>(
        &self,
        vm: &VmName,
        act: &'static str,
        call: impl Fn(&Connect, &Handle) -> Result<T, Error>,
    ) -> Result<T, HypervisorError> {
        let (connection, handle) = self.handle(vm)?;
        let outcome = call(&connection, &handle);
        let stale = matches!(&outcome, Err(error) if error.code().is(ErrorNumber::NoDomain));
        if !stale {
            return outcome.map_err(|source| self.failure(vm, act, &connection, source));
        }
        // The VM was defined anew since its handle was looked up: libvirt did nothing yet.
        if let Some(session) = self.lock().get_mut(&Some(vm.clone())) {
            session.handle = None;
        }
        let (connection, handle) = self.handle(vm)?;
        call(&connection, &handle).map_err(|source| self.failure(vm, act, &connection, source))
    }

    /// Like [`Self::call`], and again over a new connection where the old one was lost.
    pub(super) fn read<T>(
        &self,
        vm: &VmName,
        act: &'static str,
        call: impl Fn(&Connect, &Handle) -> Result<T, Error>,
    ) -> Result<T, HypervisorError> {
        match self.call(vm, act, &call) {
            Err(HypervisorError::Lost { .. }) => self.call(vm, act, &call),
            outcome => outcome,
        }
    }

    fn failure(
        &self,
        vm: &VmName,
        act: &'static str,
        connection: &Connect,
        source: Error,
    ) -> HypervisorError {
        if !is_alive(connection) {
            return HypervisorError::Lost {
                uri: self.uri.clone(),
                source,
            };
        }
        let code = source.code();
        if code.is(ErrorNumber::OperationInvalid)
            && let Ok(handle) = connection.lookup_domain_by_name(vm.as_str())
            && let Ok(state) = state_of(&handle)
            && state != DomainState::Running
        {
            let vm = self.full_name(vm);
            return HypervisorError::NotRunning { vm, state };
        }
        let vm = vm.clone();
        if code.is(ErrorNumber::NoSupport) || code.is(ErrorNumber::InvalidConn) {
            return HypervisorError::Unsupported { vm, act, source };
        }
        HypervisorError::Call { vm, act, source }
    }

    /// One monitor command. `flags` choose QMP or the human monitor (HMP).
    pub(super) fn monitor(
        &self,
        vm: &VmName,
        act: &'static str,
        command: &str,
        flags: u32,
    ) -> Result<String, HypervisorError> {
        self.call(vm, act, |_, handle| {
            handle.qemu_monitor_command(command, flags)
        })
    }
}

/// Whether a URI of libvirt's means a Unix socket: `driver:///path` or `driver+unix:///path`, without a
/// host.
fn has_local_socket(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return false;
    };
    let transport = scheme.split_once('+').map(|(_, transport)| transport);
    rest.starts_with('/') && matches!(transport, None | Some("unix"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uris_without_a_host_or_another_transport_mean_a_local_socket() {
        for uri in [
            "qemu:///system",
            "qemu:///session",
            "qemu+unix:///session?socket=/x",
        ] {
            assert!(has_local_socket(uri), "{uri}");
        }
        for uri in [
            "qemu+ssh:///system",
            "qemu+ssh://root@host/system",
            "qemu+tcp://127.0.0.1/system",
            "qemu+ext:///session?command=/x",
            "qemu://host/system",
            "system",
            "",
        ] {
            assert!(!has_local_socket(uri), "{uri}");
        }
    }
}
