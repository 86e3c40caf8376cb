//! Watching the screen: `stable` and `change`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    capture::{self, CaptureError},
    hypervisor::{DomainState, HypervisorError},
    image::Picture,
    model::{Condition, Region, ScreenSize},
    vm::{Vm, VmError},
};

use super::{Before, Findings, WatchError, may_be_off, pace::pause, part::Part, seconds};

/// So much of a screen may differ while it is still: a block cursor of 9×18 pixels is 0.016 % of
/// 1280×800 and 0.05 % of 640×480; a moved one is twice that, as is a clock's digit that changes.
/// Three typed letters are more.
const STILL_SHARE: u64 = 2000;
/// In a region at most so much of it: a cursor in a window is let pass, a figure in a small field not.
const STILL_REGION_SHARE: u64 = 100;

/// Waits until one of the conditions on the screen holds; for ever where there is none.
pub(super) async fn watch(
    vm: &Arc<Vm>,
    conditions: &[Condition],
    mut before: Before,
    findings: &Findings,
) -> Result<String, WatchError> {
    let mut eyes: Vec<_> = conditions
        .iter()
        .enumerate()
        .filter_map(|(at, condition)| Eye::open(at, condition))
        .collect();
    if eyes.is_empty() {
        return std::future::pending().await;
    }
    for head in conditions.iter().filter_map(Condition::changing_head) {
        if !before.contains_key(&head)
            && let Some(shown) = capture::last_shown(vm, head).await
        {
            before.insert(head, shown);
        }
    }
    for eye in &mut eyes {
        eye.begin(&before);
    }
    let mut heads: Vec<_> = eyes.iter().map(|eye| eye.head).collect();
    heads.sort_unstable();
    heads.dedup();
    let may_be_off = may_be_off(conditions);
    loop {
        let begun = Instant::now();
        for head in &heads {
            let picture = match capture::glance(vm, *head).await {
                Ok(picture) => Arc::new(picture),
                Err(error) if may_be_off => {
                    let Some(state) = not_running(&error) else {
                        return Err(error.into());
                    };
                    let of_head = eyes.iter_mut().filter(|eye| eye.head == *head);
                    for eye in of_head {
                        eye.forget();
                        findings.note(eye.condition, format!("the VM is {}", state.as_str()));
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            for eye in eyes.iter_mut().filter(|eye| eye.head == *head) {
                match eye.see(&picture, vm.shown(picture.size()), now)? {
                    Seen::Holds(text) => return Ok(text),
                    Seen::NotYet(finding) => findings.note(eye.condition, finding),
                }
            }
        }
        let due = eyes.iter().filter_map(|eye| eye.due(Instant::now())).min();
        tokio::time::sleep(pause(begun, due)).await;
    }
}

/// The state of a VM that cannot be looked at for not running.
pub(super) fn not_running(error: &CaptureError) -> Option<DomainState> {
    match error {
        CaptureError::Vm(VmError::Hypervisor(HypervisorError::NotRunning { state, .. })) => {
            Some(*state)
        }
        _ => None,
    }
}

/// Whether two pictures are the same but for something as small as a cursor.
pub(super) fn is_still(before: &Picture, after: &Picture, region: Region) -> bool {
    if before.size() != after.size() {
        return false;
    }
    let screen = Region::whole(after.size()).pixels();
    let tolerated = (screen / STILL_SHARE).min(region.pixels() / STILL_REGION_SHARE);
    after.differing(before, region) <= tolerated
}

/// One condition on the screen, and what was seen for it.
struct Eye {
    condition: usize,
    head: u32,
    part: Part,
    wanted: Wanted,
    /// What later pictures are compared with, and since when it is so.
    before: Option<(Arc<Picture>, Instant)>,
}

enum Wanted {
    Stillness(Duration),
    Change { share: f64, most: f64 },
}

enum Seen {
    Holds(String),
    NotYet(String),
}

impl Eye {
    fn open(condition: usize, what: &Condition) -> Option<Self> {
        let (head, region, wanted) = match what {
            Condition::Stable(stable) => (
                stable.head,
                stable.region,
                Wanted::Stillness(stable.duration()),
            ),
            Condition::Change(change) => {
                let share = change.share;
                let wanted = Wanted::Change { share, most: 0.0 };
                (change.head, change.region, wanted)
            }
            Condition::Text(_)
            | Condition::Ssh(_)
            | Condition::Port(_)
            | Condition::State(_)
            | Condition::Console(_)
            | Condition::Image(_) => return None,
        };
        Some(Self {
            condition,
            head,
            part: Part::new(region),
            wanted,
            before: None,
        })
    }

    /// What changes has to differ from this, where it is known.
    fn begin(&mut self, before: &Before) {
        if let Wanted::Change { .. } = self.wanted {
            let before = before.get(&self.head).map(Arc::clone);
            self.before = before.map(|picture| (picture, Instant::now()));
        }
    }

    /// Begins anew with the next picture.
    fn forget(&mut self) {
        self.before = None;
    }

    /// When it may hold, where that can be said.
    fn due(&self, now: Instant) -> Option<Duration> {
        match (&self.wanted, &self.before) {
            (Wanted::Stillness(time), Some((_, since))) => {
                Some((*since + *time).saturating_duration_since(now))
            }
            _ => None,
        }
    }

    fn see(
        &mut self,
        picture: &Arc<Picture>,
        shown: ScreenSize,
        now: Instant,
    ) -> Result<Seen, WatchError> {
        let size = picture.size();
        let resized = matches!(&self.before, Some((before, _)) if before.size() != size);
        if let (Wanted::Change { .. }, Some((before, _)), true) =
            (&self.wanted, &self.before, resized)
        {
            let text = format!("The screen changed from {} to {size} pixels", before.size());
            return Ok(Seen::Holds(text));
        }
        let part = self.part.of(size, shown)?;
        let what = self.part.name();
        let Some((before, since)) = &self.before else {
            self.before = Some((Arc::clone(picture), now));
            return Ok(Seen::NotYet(format!("the {what} was seen only once")));
        };
        match &mut self.wanted {
            Wanted::Stillness(time) => {
                let still = now.saturating_duration_since(*since);
                // Always compared with how it was at the beginning: what creeps is not still.
                if !is_still(before, picture, part) {
                    self.before = Some((Arc::clone(picture), now));
                    return Ok(Seen::NotYet(format!("the {what} still changed at the end")));
                }
                Ok(if still >= *time {
                    let ms = time.as_millis();
                    Seen::Holds(format!("The {what} has been still for {ms} ms"))
                } else {
                    Seen::NotYet(format!("the {what} had been still for {}", seconds(still)))
                })
            }
            Wanted::Change { share, most } => {
                let differing = picture.differing(before, part);
                let differs = share_of(differing, part.pixels());
                *most = most.max(differs);
                Ok(if differing > 0 && differs >= *share {
                    let percent = percent(differs);
                    Seen::Holds(format!("The {what} changed, by {percent} of its pixels"))
                } else {
                    let percent = percent(*most);
                    Seen::NotYet(format!("at most {percent} of the {what}'s pixels differed"))
                })
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no screen has 2^52 pixels")]
fn share_of(pixels: u64, all: u64) -> f64 {
    pixels as f64 / all as f64
}

/// As exact as is of use: `0.02 %`, `12 %`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 {
        format!("{percent:.0} %")
    } else if percent >= 0.01 {
        format!("{percent:.2} %")
    } else {
        "less than 0.01 %".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::act::{Change, Stable};

    const SIZE: ScreenSize = ScreenSize {
        width: 1280,
        height: 800,
    };

    /// A black screen with so many white pixels at its beginning.
    fn screen(white: usize) -> Arc<Picture> {
        let mut ppm = format!("P6 {} {} 255\n", SIZE.width, SIZE.height).into_bytes();
        let start = ppm.len();
        ppm.resize(start + SIZE.width as usize * SIZE.height as usize * 3, 0);
        ppm[start..start + white * 3].fill(255);
        Arc::new(Picture::decode("image/x-portable-pixmap", &ppm).unwrap())
    }

    fn stable(ms: u32) -> Eye {
        let stable = Stable {
            ms,
            region: None,
            head: 0,
        };
        Eye::open(0, &Condition::Stable(stable)).unwrap()
    }

    /// What an eye finds in pictures that come at these milliseconds.
    fn found(eye: &mut Eye, looks: &[(u64, usize)]) -> Vec<String> {
        let begin = Instant::now();
        let looks = looks.iter().map(|(at, white)| {
            let at = begin + Duration::from_millis(*at);
            match eye.see(&screen(*white), SIZE, at).unwrap() {
                Seen::Holds(text) => format!("holds: {text}"),
                Seen::NotYet(text) => text,
            }
        });
        looks.collect()
    }

    #[test]
    fn a_screen_is_still_when_all_looks_of_the_time_are_as_the_first() {
        let looks = [(0, 0), (200, 162), (400, 0), (499, 512), (500, 0)];
        assert_eq!(
            found(&mut stable(500), &looks),
            [
                "the screen was seen only once",
                "the screen had been still for 0.2 s",
                "the screen had been still for 0.4 s",
                "the screen had been still for 0.5 s",
                "holds: The screen has been still for 500 ms",
            ]
        );
        let looks = [(0, 0), (200, 513), (500, 513), (700, 513)];
        assert_eq!(
            found(&mut stable(500), &looks),
            [
                "the screen was seen only once",
                "the screen still changed at the end",
                "the screen had been still for 0.3 s",
                "holds: The screen has been still for 500 ms",
            ]
        );
    }

    #[test]
    fn what_creeps_is_not_still() {
        // Each look differs from the one before by what alone would be let pass.
        let looks: Vec<_> = (0..20)
            .map(|n| (n * 100, 200 * usize::try_from(n).unwrap()))
            .collect();
        let found = found(&mut stable(500), &looks);
        assert!(found.iter().all(|it| !it.starts_with("holds")), "{found:?}");
    }

    #[test]
    fn the_next_look_is_due_when_the_stillness_may_have_lasted() {
        let mut eye = stable(500);
        let begin = Instant::now();
        assert_eq!(eye.due(begin), None);
        eye.see(&screen(0), SIZE, begin).unwrap();
        let later = |ms| begin + Duration::from_millis(ms);
        assert_eq!(eye.due(later(200)), Some(Duration::from_millis(300)));
        assert_eq!(eye.due(later(900)), Some(Duration::ZERO));
        eye.forget();
        assert_eq!(eye.due(later(200)), None);
    }

    #[test]
    fn a_change_holds_from_its_share_on() {
        let change = |share| {
            let change = Change {
                share,
                region: None,
                head: 0,
            };
            Eye::open(0, &Condition::Change(change)).unwrap()
        };
        // A thousandth of the screen is 1024 pixels.
        let looks = [(0, 0), (200, 1023), (400, 0), (600, 1024)];
        assert_eq!(
            found(&mut change(0.001), &looks),
            [
                "the screen was seen only once",
                "at most 0.10 % of the screen's pixels differed",
                "at most 0.10 % of the screen's pixels differed",
                "holds: The screen changed, by 0.10 % of its pixels",
            ]
        );
        let looks = [(0, 0), (200, 0), (400, 1)];
        assert_eq!(
            found(&mut change(0.0), &looks),
            [
                "the screen was seen only once",
                "at most 0 % of the screen's pixels differed",
                "holds: The screen changed, by less than 0.01 % of its pixels",
            ]
        );
    }

    #[test]
    fn a_cursor_is_let_pass_in_a_window_and_not_in_a_small_field() {
        let cases = [
            // A block cursor of a terminal, in all of the screen and in the terminal.
            (162, [0, 0, 1280, 800], true),
            (162, [0, 0, 720, 432], true),
            // The most, and one more.
            (512, [0, 0, 1280, 800], true),
            (513, [0, 0, 1280, 800], false),
            // A field of one line.
            (162, [0, 0, 400, 20], false),
        ];
        for (white, region, still) in cases {
            let is = is_still(&screen(0), &screen(white), Region::from(region));
            assert_eq!(is, still, "{white} in {region:?}");
        }
    }
}
