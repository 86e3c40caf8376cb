//! The libvirt backend: connections that are made when first used and again after they went away.
//!
//! Each VM has a connection of its own. libvirt's handles may be used from many threads at once, but a
//! call that hangs holds up others of its connection: libvirt 9.0 was seen to hand on an answer only at
//! the next keepalive, after 5 s, and the daemon takes five calls of a connection at a time. Calls that
//! only read are tried again once over a new connection; an act is never sent twice.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use virt::{
    connect::Connect,
    domain::Domain as Handle,
    error::{Error, ErrorNumber},
    stream::Stream,
    sys,
};

use crate::model::{Chord, VmName};

use super::{
    AddressSource, Devices, Domain, DomainState, Forward, Hypervisor, HypervisorError, InputEvent,
    Pointer, Screenshot,
    ffi::Watch,
    handles::{domain_of, is_alive, receive, start_event_loop, state_of},
    qmp::{self, Answer},
};

/// Keepalive: libvirtd is asked after this many quiet seconds, and given up after
/// [`KEEPALIVE_COUNT`] unanswered questions.
const KEEPALIVE_INTERVAL: i32 = 5;
const KEEPALIVE_COUNT: u32 = 3;

/// VMs of one libvirt daemon.
#[derive(Debug)]
pub struct Libvirt {
    uri: String,
    sessions: Mutex<HashMap<Owner, Session>>,
}

/// Whose connection it is: a VM's, or that for all that concerns none.
type Owner = Option<VmName>;

/// A live connection and the handle looked up over it.
#[derive(Debug, Clone)]
struct Session {
    connection: Connect,
    /// Which of this process's connections it is: handles belong to one alone.
    number: u64,
    handle: Option<Handle>,
    watch: Option<Arc<Watch>>,
}

impl Libvirt {
    /// Connects to nothing yet.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            sessions: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Session>> {
        // A panic while it was held leaves at worst a connection that is checked anyway.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, owner: &Owner) -> Result<(Connect, u64), HypervisorError> {
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
        let mut sessions = self.lock();
        if let Some(session) = sessions.get_mut(&owner).filter(|it| it.number == number) {
            session.handle = Some(handle.clone());
            session.watch = watch;
        }
        drop(sessions);
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
    fn call<T>(
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
    fn read<T>(
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
    fn monitor(
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

impl Hypervisor for Libvirt {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn domains(&self) -> Result<Vec<Domain>, HypervisorError> {
        let list = || {
            let (connection, _) = self.connection(&None)?;
            let handles = connection.list_all_domains(0).map_err(|source| {
                if is_alive(&connection) {
                    HypervisorError::List { source }
                } else {
                    let uri = self.uri.clone();
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
        self.read(vm, "tell the state", |connection, handle| {
            domain_of(&connection.lookup_domain_by_uuid(handle.uuid()?)?)
        })
    }

    fn changes(&self, vm: &VmName) -> Option<u64> {
        // Async code asks this, and must not wait for a lock.
        let sessions = self.sessions.try_lock().ok()?;
        let session = sessions.get(&Some(vm.clone()))?;
        let watch = session.watch.as_ref()?;
        is_alive(&session.connection).then(|| watch.changes())
    }

    fn devices(&self, vm: &VmName) -> Result<Devices, HypervisorError> {
        let xml = self.read(vm, "describe the hardware", |_, handle| handle.xml_desc(0))?;
        Devices::from_xml(&xml).map_err(|source| HypervisorError::Description {
            vm: self.full_name(vm),
            source,
        })
    }

    fn send_keys(&self, vm: &VmName, chord: &Chord, hold: Duration) -> Result<(), HypervisorError> {
        let hold_ms = u32::try_from(hold.as_millis()).unwrap_or(u32::MAX);
        let keys: Vec<u32> = chord.keys().iter().map(|key| u32::from(key.0)).collect();
        let count = i32::try_from(keys.len()).unwrap_or(i32::MAX);
        self.call(vm, "press keys", |_, handle| {
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
        match self.monitor(vm, "look at its keyboard", qmp::KEYBOARD_STATUS, hmp) {
            Ok(text) => Ok(qmp::keys_unread(&text)),
            // Other hypervisors have no monitor, and their keyboards are their own affair.
            Err(HypervisorError::Unsupported { .. } | HypervisorError::Call { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn pointers(&self, vm: &VmName) -> Result<Vec<Pointer>, HypervisorError> {
        let text = self.monitor(vm, "look at its pointing devices", qmp::QUERY_MICE, 0)?;
        qmp::pointers(&text).map_err(|source| HypervisorError::Answer {
            vm: self.full_name(vm),
            command: "query-mice",
            source,
        })
    }

    fn input(&self, vm: &VmName, events: &[InputEvent]) -> Result<(), HypervisorError> {
        const COMMAND: &str = "input-send-event";
        let message =
            qmp::input_send_event(events).map_err(|key| HypervisorError::NoSuchKey { key })?;
        let text = self.monitor(vm, "send input", &message, 0)?;
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
            self.read(vm, "take a screenshot", |connection, handle| {
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

    fn addresses(
        &self,
        vm: &VmName,
        source: AddressSource,
    ) -> Result<Vec<IpAddr>, HypervisorError> {
        let source = match source {
            AddressSource::Lease => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
            AddressSource::Arp => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
        };
        let interfaces = self.read(vm, "find the address", |_, handle| {
            handle.interface_addresses(source, 0)
        })?;
        let addresses = interfaces
            .iter()
            .flat_map(|interface| interface.addrs.iter())
            .filter_map(|address| address.addr.parse().ok());
        Ok(addresses.collect())
    }

    fn forwards(&self, vm: &VmName) -> Result<Vec<Forward>, HypervisorError> {
        let devices = self.devices(vm)?;
        if !devices.forwards.is_empty() || !devices.is_qemu() {
            return Ok(devices.forwards);
        }
        // Forwards may have been added since the start, where the XML does not tell them.
        let text = self.monitor(
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
