//! Looks that wait until the screen is still, or until there is one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    capture::{self, CaptureError, Shot},
    hypervisor::is_placeholder,
    image::Picture,
    model::{Region, TakeScreenshot},
    perform::Progress,
    vm::Vm,
};

use super::eye::is_still;

/// The time between two looks that are compared, at first, and on a screen that has gone on changing for
/// a while: at 50 ms, looking takes a tenth to a fifth of one core.
const APART: Duration = Duration::from_millis(50);
const LATER_APART: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_secs(1);

/// How long a VM that was just started may take to show something, and how often that is looked at.
const SURFACE_LIMIT: Duration = Duration::from_millis(1500);
const SURFACE_INTERVAL: Duration = Duration::from_millis(100);

/// Takes a picture for a client, once the screen is still where that is asked for. May be given up at
/// any point.
pub async fn look(
    vm: &Arc<Vm>,
    what: &TakeScreenshot,
    progress: &Progress,
) -> Result<Shot, CaptureError> {
    let limit = Duration::from_millis(u64::from(what.settle));
    let mut still = settle(vm, what, limit, progress).await?;
    let mut shot = capture::look(vm, what).await?;
    if shot.is_placeholder && surface_comes(vm, what.head).await? {
        still = settle(vm, what, limit, progress).await?;
        shot = capture::look(vm, what).await?;
    }
    if let Some(is_still) = still {
        shot.add_note(&if is_still {
            "The screen was still.".to_owned()
        } else {
            format!(
                "The screen still changed after {} ms; this is how it looked then.",
                what.settle
            )
        });
    }
    Ok(shot)
}

/// Waits until two looks are equal, and tells whether they were before the limit; `None` where
/// nothing was to be waited for.
async fn settle(
    vm: &Arc<Vm>,
    what: &TakeScreenshot,
    limit: Duration,
    progress: &Progress,
) -> Result<Option<bool>, CaptureError> {
    if limit.is_zero() {
        return Ok(None);
    }
    let begun = Instant::now();
    let mut told = 0;
    let mut before = capture::glance(vm, what.head).await?;
    loop {
        let waited = begun.elapsed();
        let apart = if waited < LATER { APART } else { LATER_APART };
        tokio::time::sleep(apart.min(limit.saturating_sub(waited))).await;
        if waited.as_secs() > told {
            told = waited.as_secs();
            progress(told, limit.as_secs());
        }
        let after = capture::glance(vm, what.head).await?;
        if is_still(&before, &after, part(vm, what.region, &after)?) {
            return Ok(Some(true));
        }
        if begun.elapsed() >= limit {
            return Ok(Some(false));
        }
        before = after;
    }
}

/// The part of a picture that has to be still, in native pixels.
fn part(vm: &Vm, region: Option<Region>, picture: &Picture) -> Result<Region, CaptureError> {
    let native = picture.size();
    let Some(region) = region else {
        return Ok(Region::whole(native));
    };
    let shown = vm.shown(native);
    if !region.fits(shown) {
        return Err(CaptureError::Region { region, shown });
    }
    Ok(region.native(shown, native))
}

/// Waits shortly for the first picture of a guest's own. In vain once for each head and start of the
/// VM: one that shows nothing then, such as a second head that is not in use, goes on so.
async fn surface_comes(vm: &Arc<Vm>, head: u32) -> Result<bool, CaptureError> {
    let start = vm.domain().await?.id;
    if vm.memory().blank.contains(&(head, start)) {
        return Ok(false);
    }
    let end = Instant::now() + SURFACE_LIMIT;
    while Instant::now() < end {
        tokio::time::sleep(SURFACE_INTERVAL).await;
        if !is_placeholder(&capture::glance(vm, head).await?) {
            return Ok(true);
        }
    }
    let mut memory = vm.memory();
    memory.blank.retain(|(_, known)| *known == start);
    memory.blank.push((head, start));
    Ok(false)
}
