//! libvirt's event loop, on epoll.
//!
//! libvirt asks its event loop to look away from a connection while a call reads from it, and to look
//! again after. Its own loop waits in poll(2) and has to be woken for each of that, four or five times a
//! call, which cost a call as much again as its answer took. epoll takes such changes while it waits.

use std::{
    collections::BTreeMap,
    ffi::{c_int, c_void},
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use virt::sys;

/// libvirt knows one event loop in a process, and gives its functions no argument to tell it by.
static LOOP: OnceLock<EventLoop> = OnceLock::new();

/// What epoll tells of the clock; libvirt's handles are small numbers.
const CLOCK: u64 = u64::MAX;

/// What epoll and libvirt call the same events.
const EVENTS: [(EventFlags, sys::virEventHandleType); 4] = [
    (EventFlags::IN, sys::VIR_EVENT_HANDLE_READABLE),
    (EventFlags::OUT, sys::VIR_EVENT_HANDLE_WRITABLE),
    (EventFlags::ERR, sys::VIR_EVENT_HANDLE_ERROR),
    (EventFlags::HUP, sys::VIR_EVENT_HANDLE_HANGUP),
];

/// What libvirt wants to be told, and when.
pub(in crate::hypervisor) struct EventLoop {
    epoll: OwnedFd,
    /// Wakes the loop when the next timer is due.
    clock: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    handles: BTreeMap<c_int, Handle>,
    timers: BTreeMap<c_int, Timer>,
    /// The last number that was given: libvirt takes 0 for none.
    last: c_int,
    /// What was removed: libvirt wants it freed from the loop's thread, holding none of its locks.
    removed: Vec<Owned>,
}

#[derive(Clone, Copy)]
struct Handle {
    fd: RawFd,
    is_watched: bool,
    callback: unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void),
    owned: Owned,
}

#[derive(Clone, Copy)]
struct Timer {
    /// `None` while it is switched off.
    every: Option<Duration>,
    due: Instant,
    callback: unsafe extern "C" fn(c_int, *mut c_void),
    owned: Owned,
}

/// What libvirt gave with a callback, and what frees it.
#[derive(Clone, Copy)]
struct Owned {
    opaque: *mut c_void,
    free: sys::virFreeCallback,
}

// SAFETY: libvirt expects its callbacks to run in the loop's thread, whichever thread gave them.
unsafe impl Send for Owned {}

impl EventLoop {
    /// Makes libvirt use this loop, in a thread of its own. Once in a process, and before the first
    /// connection.
    pub(in crate::hypervisor) fn start() -> io::Result<()> {
        let new = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            clock: timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?,
            state: Mutex::default(),
        };
        let it = LOOP.get_or_init(|| new);
        let data = EventData::new_u64(CLOCK);
        epoll::add(&it.epoll, &it.clock, data, EventFlags::IN)?;
        thread::Builder::new()
            .name("libvirt-events".to_owned())
            .spawn(|| {
                while let Err(error) = it.run() {
                    tracing::warn!(%error, "libvirt's event loop stumbled");
                    thread::sleep(Duration::from_secs(1));
                }
            })?;
        // SAFETY: the functions keep to what libvirt-event.h asks of them.
        unsafe {
            sys::virEventRegisterImpl(
                Some(add_handle),
                Some(update_handle),
                Some(remove_handle),
                Some(add_timeout),
                Some(update_timeout),
                Some(remove_timeout),
            );
        }
        Ok(())
    }

    /// Nothing of libvirt's is called under this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits and calls back, for ever.
    fn run(&self) -> io::Result<()> {
        loop {
            let mut space = [MaybeUninit::uninit(); 16];
            let (events, _) = match epoll::wait(&self.epoll, &mut space, None) {
                Err(Errno::INTR) => continue,
                waited => waited?,
            };
            for event in events.iter() {
                let watch = c_int::try_from(event.data.u64());
                if let Ok(watch) = watch {
                    self.tell(watch, event.flags);
                }
            }
            self.ring(Instant::now());
            self.free();
            self.set_clock()?;
        }
    }

    fn tell(&self, watch: c_int, flags: EventFlags) {
        let Some(handle) = self.state().handles.get(&watch).copied() else {
            return;
        };
        let events = EVENTS
            .into_iter()
            .filter(|(flag, _)| flags.contains(*flag))
            .fold(0, |events, (_, it)| events | it);
        let events = c_int::try_from(events).unwrap_or_default();
        // SAFETY: what the callback works on is freed by this very thread, after this.
        unsafe { (handle.callback)(watch, handle.fd, events, handle.owned.opaque) };
    }

    /// Calls back for the timers that are due.
    fn ring(&self, now: Instant) {
        let due: Vec<c_int> = {
            let state = self.state();
            let is_due = |it: &Timer| it.every.is_some() && it.due <= now;
            let due = state.timers.iter().filter(|(_, it)| is_due(it));
            due.map(|(id, _)| *id).collect()
        };
        for id in due {
            // A callback before may have removed it or switched it off.
            let timer = {
                let mut state = self.state();
                let Some(timer) = state.timers.get_mut(&id) else {
                    continue;
                };
                let Some(every) = timer.every else { continue };
                timer.due = now + every;
                *timer
            };
            // SAFETY: as in `tell`.
            unsafe { (timer.callback)(id, timer.owned.opaque) };
        }
    }

    fn free(&self) {
        let removed = std::mem::take(&mut self.state().removed);
        for owned in removed {
            if let Some(free) = owned.free {
                // SAFETY: libvirt removed it, so nothing else uses it any more.
                unsafe { free(owned.opaque) };
            }
        }
    }

    /// To be called after each change of timers, and where something waits to be freed.
    fn set_clock(&self) -> io::Result<()> {
        let state = self.state();
        let timers = state.timers.values().filter(|it| it.every.is_some());
        let next = timers.map(|it| it.due).min();
        let wait = match next {
            _ if !state.removed.is_empty() => Some(Duration::ZERO),
            next => next.map(|next| next.saturating_duration_since(Instant::now())),
        };
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let it_value = match wait {
            // Zero would switch it off.
            Some(wait) => {
                Timespec::try_from(wait.max(Duration::from_nanos(1))).map_err(io::Error::other)?
            }
            None => zero,
        };
        let at = Itimerspec {
            it_interval: zero,
            it_value,
        };
        // Under the lock, so that an older answer never overwrites a newer one. Setting it also takes
        // back that it has rung.
        timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &at)?;
        Ok(())
    }

    /// Has the kernel watch a handle for these events, and not at all for none: a connection that is
    /// gone would be told for ever.
    fn watch(&self, watch: c_int, handle: &mut Handle, events: c_int) -> io::Result<()> {
        let events = u32::try_from(events).unwrap_or_default();
        let flags = EVENTS
            .into_iter()
            .filter(|(_, it)| events & it != 0)
            .fold(EventFlags::empty(), |flags, (flag, _)| flags | flag);
        // SAFETY: libvirt closes a file only after it has removed its handle.
        let fd = unsafe { BorrowedFd::borrow_raw(handle.fd) };
        let data = EventData::new_u64(u64::try_from(watch).unwrap_or(CLOCK));
        match (handle.is_watched, flags.is_empty()) {
            (true, true) => epoll::delete(&self.epoll, fd)?,
            (true, false) => epoll::modify(&self.epoll, fd, data, flags)?,
            (false, false) => epoll::add(&self.epoll, fd, data, flags)?,
            (false, true) => {}
        }
        handle.is_watched = !flags.is_empty();
        Ok(())
    }
}

unsafe extern "C" fn add_handle(
    fd: c_int,
    events: c_int,
    callback: sys::virEventHandleCallback,
    opaque: *mut c_void,
    free: sys::virFreeCallback,
) -> c_int {
    let (Some(it), Some(callback)) = (LOOP.get(), callback) else {
        return -1;
    };
    let mut handle = Handle {
        fd,
        is_watched: false,
        callback,
        owned: Owned { opaque, free },
    };
    let mut state = it.state();
    let watch = state.last + 1;
    if it.watch(watch, &mut handle, events).is_err() {
        return -1;
    }
    state.last = watch;
    state.handles.insert(watch, handle);
    watch
}

unsafe extern "C" fn update_handle(watch: c_int, events: c_int) {
    let Some(it) = LOOP.get() else { return };
    let mut state = it.state();
    if let Some(handle) = state.handles.get_mut(&watch)
        && let Err(error) = it.watch(watch, handle, events)
    {
        tracing::warn!(%error, "a connection to libvirt is not watched");
    }
}

unsafe extern "C" fn remove_handle(watch: c_int) -> c_int {
    let Some(it) = LOOP.get() else { return -1 };
    let mut state = it.state();
    let Some(mut handle) = state.handles.remove(&watch) else {
        return -1;
    };
    let _ = it.watch(watch, &mut handle, 0);
    state.removed.push(handle.owned);
    drop(state);
    outcome(it.set_clock())
}

unsafe extern "C" fn add_timeout(
    milliseconds: c_int,
    callback: sys::virEventTimeoutCallback,
    opaque: *mut c_void,
    free: sys::virFreeCallback,
) -> c_int {
    let (Some(it), Some(callback)) = (LOOP.get(), callback) else {
        return -1;
    };
    let every = interval(milliseconds);
    let timer = Timer {
        every,
        due: Instant::now() + every.unwrap_or_default(),
        callback,
        owned: Owned { opaque, free },
    };
    let id = {
        let mut state = it.state();
        state.last += 1;
        let id = state.last;
        state.timers.insert(id, timer);
        id
    };
    if outcome(it.set_clock()) == 0 { id } else { -1 }
}

unsafe extern "C" fn update_timeout(id: c_int, milliseconds: c_int) {
    let Some(it) = LOOP.get() else { return };
    if let Some(timer) = it.state().timers.get_mut(&id) {
        timer.every = interval(milliseconds);
        timer.due = Instant::now() + timer.every.unwrap_or_default();
    }
    outcome(it.set_clock());
}

unsafe extern "C" fn remove_timeout(id: c_int) -> c_int {
    let Some(it) = LOOP.get() else { return -1 };
    let mut state = it.state();
    let Some(timer) = state.timers.remove(&id) else {
        return -1;
    };
    state.removed.push(timer.owned);
    drop(state);
    outcome(it.set_clock())
}

/// Below zero, a timer is switched off.
fn interval(milliseconds: c_int) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// As libvirt wants it told.
fn outcome(done: io::Result<()>) -> c_int {
    match done {
        Ok(()) => 0,
        Err(error) => {
            tracing::warn!(%error, "libvirt's timers are not kept");
            -1
        }
    }
}
