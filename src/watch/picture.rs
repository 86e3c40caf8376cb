//! Watching for saved pictures on the screen: `image`.
//!
//! Searched is only after the part that is looked at changed. A picture may have been taken from the
//! screen itself or from what was shown of it, scaled down: where a screen is shown scaled, it is looked
//! for in both.

use std::sync::Arc;

use crate::{
    capture,
    image::{Hit, ImageError, Picture, Sought},
    model::{Condition, Region, ScreenSize, act::Image},
    vm::{Vm, VmError},
};

use super::{Findings, WatchError, eye::not_running, may_be_off, pace::pause, part::Part};

/// Waits until one of the pictures is seen; for ever where there is none.
pub(super) async fn watch(
    vm: &Arc<Vm>,
    conditions: &[Condition],
    findings: &Findings,
) -> Result<String, WatchError> {
    let mut all = vec![];
    for (at, condition) in conditions.iter().enumerate() {
        if let Condition::Image(image) = condition {
            all.push(Wanted::new(at, image)?);
        }
    }
    if all.is_empty() {
        return std::future::pending().await;
    }
    let mut heads: Vec<_> = all.iter().map(|it| it.image.head).collect();
    heads.sort_unstable();
    heads.dedup();
    let may_be_off = may_be_off(conditions);
    loop {
        let begun = std::time::Instant::now();
        for head in &heads {
            let of_head = all.iter_mut().filter(|it| it.image.head == *head);
            match capture::glance(vm, *head).await {
                Ok(picture) => {
                    let picture = Arc::new(picture);
                    for wanted in of_head {
                        match wanted.see(vm, &picture).await? {
                            Some(Seen::Holds(text)) => return Ok(text),
                            Some(Seen::NotYet(text)) => findings.note(wanted.condition, text),
                            None => {}
                        }
                    }
                }
                Err(error) => {
                    let Some(state) = not_running(&error).filter(|_| may_be_off) else {
                        return Err(error.into());
                    };
                    for wanted in of_head {
                        wanted.searched = None;
                        findings.note(wanted.condition, format!("the VM is {}", state.as_str()));
                    }
                }
            }
        }
        tokio::time::sleep(pause(begun, None)).await;
    }
}

/// One picture, and where it was looked for last.
struct Wanted<'a> {
    condition: usize,
    image: &'a Image,
    sought: Arc<Sought>,
    part: Part,
    searched: Option<Arc<Picture>>,
}

enum Seen {
    Holds(String),
    NotYet(String),
}

impl<'a> Wanted<'a> {
    fn new(condition: usize, image: &'a Image) -> Result<Self, WatchError> {
        let unread = || WatchError::PictureUnread(image.path.clone());
        let picture = image.picture.as_ref().ok_or_else(unread)?;
        let sought = Sought::new(Picture::from(picture)).ok_or_else(unread)?;
        Ok(Self {
            condition,
            image,
            sought: Arc::new(sought),
            part: Part::new(image.region),
            searched: None,
        })
    }

    /// `None` where nothing changed since the last search.
    async fn see(
        &mut self,
        vm: &Arc<Vm>,
        screen: &Arc<Picture>,
    ) -> Result<Option<Seen>, WatchError> {
        let native = screen.size();
        let shown = vm.shown(native);
        let part = self.part.of(native, shown)?;
        if let Some(before) = &self.searched
            && before.size() == native
            && screen.differing(before, part) == 0
        {
            return Ok(None);
        }
        self.searched = Some(Arc::clone(screen));
        let search = Search {
            sought: Arc::clone(&self.sought),
            screen: Arc::clone(screen),
            part,
            shown,
            shown_part: self.image.region.unwrap_or(Region::whole(shown)),
            tolerance: self.image.tolerance,
        };
        // Given up in the middle, it ends by itself: its time is bounded by the screen's size.
        let found = tokio::task::spawn_blocking(move || search.run())
            .await
            .map_err(|broke| VmError::Broke(vm.name().clone(), broke))?
            .map_err(|source| capture::CaptureError::Image {
                vm: vm.full_name(),
                source,
            })?;
        let what = self.part.name();
        let Some(Hit { at, difference }) = found else {
            let picture = self.sought.size();
            return match self.image.region {
                Some(region) => Err(WatchError::PictureTooLarge { picture, region }),
                // The screen may yet become larger, as when a guest boots.
                None => Ok(Some(Seen::NotYet(format!(
                    "the picture of {picture} pixels does not fit on the screen of {shown}"
                )))),
            };
        };
        let tolerance = self.image.tolerance;
        Ok(Some(if difference <= tolerance {
            capture::told_of(vm, self.image.head, native);
            let (x, y) = (i32::midpoint(at.x0, at.x1), i32::midpoint(at.y0, at.y1));
            let by = if difference > 0.0 {
                format!("it differs by {difference:.4}")
            } else {
                "it is equal to the pixel".to_owned()
            };
            Seen::Holds(format!(
                "The picture `{}` is on the {what} at {at}, the middle at {x},{y}; {by}",
                self.image.path
            ))
        } else if difference < 1.0 {
            Seen::NotYet(format!(
                "what was most like the picture on the {what}, at {at}, differed by \
                 {difference:.2}, more than {tolerance}"
            ))
        } else {
            Seen::NotYet(format!("nothing on the {what} was like the picture"))
        }))
    }
}

/// One search, off the threads that serve calls.
struct Search {
    sought: Arc<Sought>,
    screen: Arc<Picture>,
    /// In native pixels.
    part: Region,
    shown: ScreenSize,
    shown_part: Region,
    tolerance: f64,
}

impl Search {
    /// The best hit, in pixels of the screen as it is shown. `None` where the picture does not fit.
    fn run(self) -> Result<Option<Hit>, ImageError> {
        let native = self.screen.size();
        let found = self.sought.find(&self.screen, self.part, self.tolerance);
        let found = found.map(|hit| Hit {
            at: hit.at.shown(native, self.shown),
            ..hit
        });
        if native == self.shown || found.is_some_and(|hit| hit.difference <= self.tolerance) {
            return Ok(found);
        }
        let scaled = self.screen.scale(self.shown)?;
        let other = self.sought.find(&scaled, self.shown_part, self.tolerance);
        let all = found.into_iter().chain(other);
        Ok(all.min_by(|a, b| a.difference.total_cmp(&b.difference)))
    }
}
