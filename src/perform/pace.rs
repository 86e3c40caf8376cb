//! How fast text is typed: as fast as the guest's programs take it.
//!
//! The guest's kernel keeps 64 events for whoever reads a keyboard, which is 21 keys down or up
//! (`drivers/input/evdev.c`), and drops them all where its X server or compositor comes later. Nobody
//! tells the host when that one has read them. But the host sees how busy the guest's processors are, and
//! how long they wait for its own: a program of a guest that has time to spare comes at once.

use std::time::{Duration, Instant};

use crate::hypervisor::VcpuTime;

/// From one key down or up to the next on a guest that has time to spare: the 21 are 38 ms then. The X server
/// of an emulated guest was seen to come up to 21 ms late, in 1,760 times.
const QUICK: Duration = Duration::from_micros(1800);
/// On a guest whose processors are all busy the 21 are 84 ms, and up to 420 ms where they wait for the host's: with
/// 168 ms, 6 to 13 keys in a row were lost in some texts to an emulated guest on a host with three busy programs
/// and two processors.
pub(super) const BUSY: Duration = Duration::from_millis(4);
const SLOWEST: Duration = Duration::from_millis(20);
/// So many of the 21 may still lie there when the guest turns out to be slower.
const UNREAD: u32 = 20;

/// So much of a processor's time a guest may use, or wait for, before it counts as busy: under emulation
/// an X server and its terminal need three quarters of it while text comes in.
const SPARE: f64 = 0.85;

/// So much of its time a processor waits where QEMU's own threads and libvirt share the host's with it, and how
/// much more counts.
const USUAL_WAIT: f64 = 0.2;
const STARVED: f64 = 3.0;
/// Where they wait for so much of their time, one look is enough to tell.
const STARVING: f64 = 0.4;
/// More strain than this counts for no more, or one stall would slow a text for seconds.
const MOST_STRAIN: f64 = 2.35;

/// How often the guest is looked at. libvirt counts in hundredths of a second.
const WINDOW: Duration = Duration::from_millis(200);
/// After so long a first time, before the 21 have gone out: too short to tell anything but that the guest is starved.
const EARLY: Duration = Duration::from_millis(50);

/// How much the newest look counts beside those before: a terminal that scrolls is busy for a moment.
const NEWEST: f64 = 0.4;

/// The pace of one text.
#[derive(Debug)]
pub(super) struct Pace {
    /// What the keyboard itself can take.
    floor: Duration,
    event: Duration,
    seen: Option<(Instant, Vec<VcpuTime>)>,
    has_looked_early: bool,
    strain: Option<f64>,
}

impl Pace {
    /// Begins as if the guest was busy: nobody has looked yet.
    pub(super) fn new(floor: Duration) -> Self {
        Self {
            floor,
            event: BUSY.max(floor),
            seen: None,
            has_looked_early: false,
            strain: None,
        }
    }

    /// The shortest time between two of them.
    pub(super) fn floor(&self) -> Duration {
        self.floor
    }

    /// The time that so many keys down or up take.
    pub(super) fn time_of(&self, events: usize) -> Duration {
        self.event * u32::try_from(events).unwrap_or(u32::MAX)
    }

    pub(super) fn wants_a_look(&self, now: Instant) -> bool {
        let window = if self.has_looked_early { WINDOW } else { EARLY };
        let seen = self.seen.as_ref();
        seen.is_none_or(|(at, _)| now.duration_since(*at) >= window)
    }

    /// Takes note of what the processors did since the last look. Tells how much longer what was sent last should
    /// have taken.
    pub(super) fn look(&mut self, now: Instant, times: Vec<VcpuTime>) -> Duration {
        let usual = self.event.max(BUSY);
        let mut is_early = false;
        if let Some((then, before)) = &self.seen {
            let time = now.duration_since(*then);
            is_early = time < WINDOW;
            self.has_looked_early = true;
            let share = Share::between(before, &times, time);
            if let Some(share) = share.filter(|it| !is_early || it.is_starved()) {
                self.take(&share);
            }
        }
        if !is_early {
            self.seen = Some((now, times));
        }
        self.event.saturating_sub(usual) * UNREAD
    }

    fn take(&mut self, share: &Share) {
        let newest = share.strain();
        let strain = match self.strain {
            // A guest that got a little more of the host is no quicker at once.
            Some(before) if newest < before || !share.is_starved() => {
                before + NEWEST * (newest - before)
            }
            _ => newest,
        };
        self.strain = Some(strain);
        let over = (strain - SPARE).max(0.0) / (1.0 - SPARE);
        let more = BUSY.saturating_sub(QUICK).mul_f64(over);
        self.event = (QUICK + more).min(SLOWEST).max(self.floor);
    }
}

/// How much of their time the processors ran, and how much they waited for the host's.
struct Share {
    ran: f64,
    waited: f64,
}

impl Share {
    /// `None` where that cannot be told.
    fn between(before: &[VcpuTime], after: &[VcpuTime], time: Duration) -> Option<Self> {
        if before.len() != after.len() || before.is_empty() || time.is_zero() {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a machine has few processors")]
        let all = time.as_secs_f64() * after.len() as f64;
        let part = |of: fn(&VcpuTime) -> Duration| {
            let times = before.iter().zip(after);
            let spent = times.map(|(before, after)| of(after).saturating_sub(of(before)));
            spent.sum::<Duration>().as_secs_f64() / all
        };
        Some(Self {
            ran: part(|it| it.ran),
            waited: part(|it| it.waited),
        })
    }

    /// Much waiting counts more: then even an interrupt comes late.
    fn strain(&self) -> f64 {
        let strain = self.ran + self.waited + STARVED * (self.waited - USUAL_WAIT).max(0.0);
        strain.min(MOST_STRAIN)
    }

    fn is_starved(&self) -> bool {
        self.waited >= STARVING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// How many milliseconds each of two processors ran and waited.
    type Step = [(u64, u64); 2];

    fn paced(floor: Duration, steps: &[Step]) -> Pace {
        let mut pace = Pace::new(floor);
        let mut now = Instant::now();
        let mut times = [VcpuTime::default(); 2];
        pace.look(now, times.to_vec());
        for step in steps {
            now += MS(200);
            for (time, (ran, waited)) in times.iter_mut().zip(step) {
                time.ran += MS(*ran);
                time.waited += MS(*waited);
            }
            pace.look(now, times.to_vec());
        }
        pace
    }

    #[test]
    fn a_guest_with_time_to_spare_is_typed_to_quickly() {
        let cases: &[(&[Step], u64)] = &[
            // Nobody has looked twice yet.
            (&[], 4000),
            (&[[(0, 0), (0, 0)]], 1800),
            (&[[(140, 0), (140, 0)]], 1800),
            // One busy processor of two leaves the other.
            (&[[(200, 0), (60, 0)]], 1800),
            (&[[(200, 0), (200, 0)]], 4000),
            (&[[(185, 0), (185, 0)]], 2900),
            // The guest wants little, and does not get it.
            (&[[(60, 70), (60, 70)]], 5467),
            (&[[(100, 100), (100, 100)]], 17_200),
            (&[[(20, 180), (20, 180)]], 20_000),
            // That counts at once; less of it, and all the rest, in the long run.
            (&[[(0, 0), (0, 0)], [(100, 100), (100, 100)]], 17_200),
            (&[[(20, 180), (20, 180)], [(20, 82), (20, 82)]], 16_701),
            (&[[(0, 1600), (0, 1600)], [(0, 0), (0, 0)]], 10_013),
            (&[[(200, 0), (200, 0)], [(0, 0), (0, 0)]], 1800),
            // A moment's work is no busy guest.
            (&[[(0, 0), (0, 0)], [(200, 0), (200, 0)]], 1800),
        ];
        for (steps, micros) in cases {
            let event = paced(Duration::ZERO, steps).event;
            let off = event.abs_diff(Duration::from_micros(*micros));
            assert!(off < Duration::from_micros(5), "{steps:?}: {event:?}");
        }
    }

    #[test]
    fn what_was_sent_too_soon_to_a_starved_guest_is_waited_for() {
        let now = Instant::now();
        let starved = vec![VcpuTime {
            ran: MS(25),
            waited: MS(25),
        }];
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(pace.look(now, vec![VcpuTime::default()]), MS(0));
        assert!(!pace.wants_a_look(now + MS(49)));
        assert!(pace.wants_a_look(now + MS(50)));
        // 20 keys down or up, each 13.2 ms too soon.
        assert_eq!(pace.look(now + MS(50), starved.clone()), MS(264));
        assert!(!pace.wants_a_look(now + MS(199)));
        assert!(pace.wants_a_look(now + MS(200)));
        assert_eq!(pace.look(now + MS(250), starved), MS(0));
    }

    #[test]
    fn an_early_look_makes_nothing_quicker() {
        let now = Instant::now();
        let idle = vec![VcpuTime::default()];
        let mut pace = Pace::new(Duration::ZERO);
        pace.look(now, idle.clone());
        pace.look(now + MS(50), idle.clone());
        assert_eq!(pace.event, BUSY);
        pace.look(now + MS(200), idle);
        assert_eq!(pace.event, QUICK);
    }

    #[test]
    fn no_keyboard_gets_more_than_it_can_take() {
        let idle = [[(0, 0), (0, 0)]];
        assert_eq!(paced(MS(8), &[]).event, MS(8));
        assert_eq!(paced(MS(8), &idle).event, MS(8));
        assert_eq!(paced(MS(8), &idle).time_of(3), MS(24));
    }

    #[test]
    fn what_nobody_tells_changes_nothing() {
        let mut pace = Pace::new(Duration::ZERO);
        let now = Instant::now();
        assert!(pace.wants_a_look(now));
        pace.look(now, vec![]);
        pace.look(now + MS(50), vec![]);
        assert!(!pace.wants_a_look(now + MS(199)));
        assert!(pace.wants_a_look(now + MS(200)));
        pace.look(now + MS(200), vec![]);
        pace.look(now + MS(400), vec![VcpuTime::default()]);
        assert_eq!(pace.event, BUSY);
    }
}
