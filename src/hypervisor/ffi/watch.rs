//! Being told of a domain's starts, stops and pauses, and of devices that come and go.

use std::{
    ffi::{c_char, c_int, c_uint, c_void},
    mem::transmute,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use virt::{
    connect::Connect,
    domain::Domain as Handle,
    error::Error,
    sys::{self, virConnectPtr, virDomainPtr},
};

/// A domain's events, counted for as long as this lives.
#[derive(Debug)]
pub(in crate::hypervisor) struct Watch {
    connection: Connect,
    ids: Vec<c_int>,
    changes: Arc<AtomicU64>,
}

type Generic = unsafe extern "C" fn(virConnectPtr, virDomainPtr, *mut c_void);
type Lifecycle =
    unsafe extern "C" fn(virConnectPtr, virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type Device = unsafe extern "C" fn(virConnectPtr, virDomainPtr, *const c_char, *mut c_void);

impl Watch {
    pub(in crate::hypervisor) fn new(connection: &Connect, domain: &Handle) -> Result<Self, Error> {
        static WATCHES: AtomicU64 = AtomicU64::new(0);
        let first = WATCHES.fetch_add(1, Ordering::Relaxed) << 32;
        let mut watch = Self {
            connection: connection.clone(),
            ids: vec![],
            changes: Arc::new(AtomicU64::new(first)),
        };
        // SAFETY: libvirt calls back with the arguments of these types, whatever the parameter's type says;
        // its own macro VIR_DOMAIN_EVENT_CALLBACK does this very cast.
        let (lifecycle, device) = unsafe {
            let lifecycle = transmute::<Lifecycle, Generic>(count);
            (lifecycle, transmute::<Device, Generic>(count_device))
        };
        for (event, callback) in [
            (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, device),
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, device),
        ] {
            watch.register(domain, event, callback)?;
        }
        Ok(watch)
    }

    fn register(&mut self, domain: &Handle, event: c_uint, callback: Generic) -> Result<(), Error> {
        let event = c_int::try_from(event).unwrap_or_default();
        let opaque = Arc::into_raw(Arc::clone(&self.changes))
            .cast_mut()
            .cast::<c_void>();
        // SAFETY: connection and domain live through the call, and the callback is one of this event's.
        // `opaque` is an Arc that is taken back once, by `forget`.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connection.as_ptr(),
                domain.as_ptr(),
                event,
                Some(callback),
                opaque,
                Some(forget),
            )
        };
        if id < 0 {
            let error = Error::last_error();
            // SAFETY: what is not registered is not freed by libvirt.
            unsafe { forget(opaque) };
            return Err(error);
        }
        self.ids.push(id);
        Ok(())
    }

    /// A number that grows each time the domain is started, stopped, paused or resumed, or one of its
    /// devices comes or goes, and that no other watch ever has. It grows in the thread of libvirt's event
    /// loop.
    pub(in crate::hypervisor) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for id in &self.ids {
            // SAFETY: the connection is live, and the id is one that it gave. A callback keeps its connection
            // open, so without this a lost one would never be freed.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connection.as_ptr(), *id) };
        }
    }
}

unsafe extern "C" fn count(
    _: virConnectPtr,
    _: virDomainPtr,
    _: c_int,
    _: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt hands back what it was given.
    unsafe { count_one(opaque) };
    0
}

unsafe extern "C" fn count_device(
    _: virConnectPtr,
    _: virDomainPtr,
    _: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt hands back what it was given.
    unsafe { count_one(opaque) };
}

unsafe fn count_one(opaque: *mut c_void) {
    // SAFETY: this is the counter, which lives until `forget`.
    let changes = unsafe { &*opaque.cast::<AtomicU64>() };
    changes.fetch_add(1, Ordering::Release);
}

unsafe extern "C" fn forget(opaque: *mut c_void) {
    // SAFETY: the pointer came from `Arc::into_raw`, and is given up here alone.
    drop(unsafe { Arc::from_raw(opaque.cast::<AtomicU64>()) });
}
