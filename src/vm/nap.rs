//! USB devices that sleep.
//!
//! Linux suspends QEMU's USB keyboards and tablets after 2 s without use (systemd's `60-autosuspend.hwdb`), and
//! QEMU's descriptors ask Windows to. The first event wakes the device, which took the demo guest some 90 ms, and
//! 250 ms where its root hub is only polled, every 256 ms. Until then QEMU keeps 16 codes of keys and drops those
//! that come after them, releases too; it adds motions to what is unread before them; and all that it has kept
//! reaches the guest at once.

use std::time::{Duration, Instant};

/// A device that was not used for so long may be asleep.
const AWAKE: Duration = Duration::from_secs(1);

/// So long after its first event a device is taken to be awake.
const WAKING: Duration = Duration::from_millis(400);

/// What is known of a device's sleep.
#[derive(Debug)]
pub(crate) struct Nap {
    /// Whether it ever sleeps.
    sleeps: bool,
    used: Option<Instant>,
    awake_from: Instant,
}

impl Nap {
    pub(crate) fn new() -> Self {
        Self {
            sleeps: false,
            used: None,
            awake_from: Instant::now(),
        }
    }

    /// To be said before the device is used.
    pub(crate) fn set_sleeps(&mut self, sleeps: bool) {
        if self.sleeps != sleeps {
            *self = Self::new();
            self.sleeps = sleeps;
        }
    }

    /// Takes note that events were sent to the device now, the last of them to be played at a time.
    pub(crate) fn used(&mut self, now: Instant, last: Instant) {
        if self.may_sleep(now) {
            self.awake_from = now + WAKING;
        }
        self.used = Some(last.max(now));
    }

    pub(crate) fn may_sleep(&self, now: Instant) -> bool {
        self.sleeps && self.used.is_none_or(|used| now >= used + AWAKE)
    }

    /// From when on it takes events at its usual pace.
    pub(crate) fn awake_from(&self) -> Instant {
        self.awake_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_long_takes_its_time_to_wake() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut nap = Nap::new();
        nap.used(at(0), at(0));
        assert!(nap.awake_from() <= Instant::now(), "others never sleep");
        assert!(!nap.may_sleep(at(9000)));
        nap.set_sleeps(true);
        assert!(nap.may_sleep(at(100)));
        nap.used(at(100), at(150));
        assert!(!nap.may_sleep(at(1100)) && nap.may_sleep(at(1150)));
        assert_eq!(nap.awake_from(), at(500));
        // In use, or for a moment not.
        nap.set_sleeps(true);
        nap.used(at(120), at(2000));
        nap.used(at(2900), at(2900));
        assert_eq!(nap.awake_from(), at(500));
        nap.used(at(4000), at(4000));
        assert_eq!(nap.awake_from(), at(4400));
        // Another took its place.
        nap.set_sleeps(false);
        nap.set_sleeps(true);
        nap.used(at(4100), at(4100));
        assert_eq!(nap.awake_from(), at(4500));
    }
}
