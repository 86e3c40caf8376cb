//! Looks at a VM's screen, shown to a client or not.
//!
//! The shown picture's pixels are the coordinates of every act, so its size is a fixed function of the
//! screen's, and what was seen of that is remembered with the VM.

mod shot;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    hypervisor::{FullName, Screenshot, is_placeholder},
    image::{self, ImageError, Picture},
    model::{CaptureMode, Point, Region, ScreenSize, Spot, TakeScreenshot},
    vm::{Vm, VmError},
};

use shot::{Enlarged, View};
pub(crate) use shot::{MAX_BYTES, SeenScreen, fit};
pub use shot::{Original, Shot};

/// For how long a known screen size is taken as the present one.
const SIZE_FRESH: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error("the screen of `{vm}` cannot be shown")]
    Image { vm: FullName, source: ImageError },
    #[error("the saved screenshot cannot be shown")]
    Saved(#[source] ImageError),
    #[error("the region {region} is empty or not inside the screenshot of {shown} pixels")]
    Region { region: Region, shown: ScreenSize },
}

impl CaptureError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Vm(error) => error.hint(),
            Self::Image { vm, .. } => format!(
                "Take the screenshot again. If it stays so, compare with `{}`.",
                vm.virsh("screenshot")
            ),
            Self::Saved(_) => "Take a new one with `take_screenshot`.".to_owned(),
            Self::Region { shown, .. } => format!(
                "A region is [x0, y0, x1, y1] with 0 ≤ x0 < x1 ≤ {} and 0 ≤ y0 < y1 ≤ {}.",
                shown.width, shown.height
            ),
        }
    }
}

/// Takes a picture for a client. From now on its size is what acts are compared with.
pub async fn look(vm: &Arc<Vm>, what: &TakeScreenshot) -> Result<Shot, CaptureError> {
    see(vm, what, Enlarged::No).await
}

/// Takes a picture of a part of the screen, made as large as it fits into the size at which the whole
/// screen is shown: a model sees small things better where they are large.
pub async fn zoom(vm: &Arc<Vm>, region: Region) -> Result<Shot, CaptureError> {
    let what = TakeScreenshot {
        region: Some(region),
        ..TakeScreenshot::default()
    };
    see(vm, &what, Enlarged::Yes).await
}

async fn see(
    vm: &Arc<Vm>,
    what: &TakeScreenshot,
    enlarged: Enlarged,
) -> Result<Shot, CaptureError> {
    let screenshot = capture(vm, what.head, vm.capture_mode()).await?;
    let native = size(vm, &screenshot)?;
    let shown = vm.shown(native);
    if let Some(region) = what.region
        && !region.fits(shown)
    {
        return Err(CaptureError::Region { region, shown });
    }
    let pointer = if what.pointer {
        pointer(vm, what.head).await
    } else {
        None
    };
    let view = View {
        native,
        shown,
        head: what.head,
        region: what.region,
        enlarged,
        pointer,
        format: what.format,
    };
    // Decoding and encoding take tens of milliseconds: not on the threads that serve calls.
    let shot = tokio::task::spawn_blocking(move || view.show(screenshot))
        .await
        .map_err(|broke| VmError::Broke(vm.name().clone(), broke))?
        .map_err(|source| broken(vm, source))?;
    vm.memory().shown.insert(shot.head, shot.seen());
    // There is nothing to point at where the guest shows nothing.
    if head_is_shown(&shot) {
        told_of(vm, shot.head, native);
    }
    Ok(shot)
}

fn head_is_shown(shot: &Shot) -> bool {
    shot.head == 0 || !shot.is_placeholder
}

/// A client is told of places on a head of this size: acts are compared with it from now on, and mean this
/// head where there are several.
pub(crate) fn told_of(vm: &Vm, head: u32, native: ScreenSize) {
    let mut memory = vm.memory();
    memory.given.insert(head, native);
    memory.given_head = head;
}

/// A head as a client was last shown it; `None` where it never was.
pub(crate) async fn last_shown(vm: &Arc<Vm>, head: u32) -> Option<Arc<Picture>> {
    let seen = vm.memory().shown.get(&head).cloned()?;
    let reading = tokio::task::spawn_blocking(move || seen.picture());
    // One that was broken was told when it was shown.
    reading.await.ok()?.ok()
}

/// Where the pointer was last put, as a native pixel of this head. A VM that was started since has it
/// elsewhere.
async fn pointer(vm: &Arc<Vm>, head: u32) -> Option<Point> {
    let on_it = |spot: Spot| (spot.head == head).then_some(spot.at);
    vm.memory().pointer.and_then(on_it)?;
    // It forgets the place where it finds another start. That it takes no input now is no matter here.
    let _ = vm.ready().await;
    vm.memory().pointer.and_then(on_it)
}

/// The present picture of a head at its native size, for looking often: it is shown to nobody, and no
/// act is compared with it.
pub(crate) async fn glance(vm: &Arc<Vm>, head: u32) -> Result<Picture, CaptureError> {
    let Screenshot { mime, bytes } = capture(vm, head, CaptureMode::Fast).await?;
    let picture = if mime == "image/png" {
        // That takes milliseconds; raw pixels are taken as they are.
        tokio::task::spawn_blocking(move || Picture::decode(&mime, bytes))
            .await
            .map_err(|broke| VmError::Broke(vm.name().clone(), broke))?
    } else {
        Picture::decode(&mime, bytes)
    };
    picture.map_err(|source| broken(vm, source))
}

/// The present native size of a head, from a look that is not shown to anybody.
pub(crate) async fn native_size(vm: &Arc<Vm>, head: u32) -> Result<ScreenSize, CaptureError> {
    let known = vm.memory().native.get(&head).copied();
    if let Some((size, at)) = known
        && at.elapsed() < SIZE_FRESH
    {
        return Ok(size);
    }
    let screenshot = capture(vm, head, CaptureMode::Fast).await?;
    size(vm, &screenshot)
}

/// The present native size of a head that the guest draws on; `None` where it draws nothing there.
pub(crate) async fn size_in_use(
    vm: &Arc<Vm>,
    head: u32,
) -> Result<Option<ScreenSize>, CaptureError> {
    let picture = glance(vm, head).await?;
    Ok((!is_placeholder(&picture)).then(|| picture.size()))
}

fn size(vm: &Vm, screenshot: &Screenshot) -> Result<ScreenSize, CaptureError> {
    image::size(&screenshot.mime, &screenshot.bytes).map_err(|source| broken(vm, source))
}

fn broken(vm: &Vm, source: ImageError) -> CaptureError {
    let vm = vm.full_name();
    CaptureError::Image { vm, source }
}

async fn capture(vm: &Arc<Vm>, head: u32, mode: CaptureMode) -> Result<Screenshot, CaptureError> {
    // What was handed over but has not arrived yet belongs into the picture.
    vm.input_arrived().await;
    let screenshot = vm
        .call(Duration::ZERO, move |hypervisor, vm| match mode {
            CaptureMode::Libvirt => hypervisor.screenshot(vm.name(), head),
            CaptureMode::Fast => hypervisor.glance(vm.name(), head),
        })
        .await?;
    let size = size(vm, &screenshot)?;
    let mut memory = vm.memory();
    let then = memory.native.insert(head, (size, Instant::now()));
    // Whoever changes a screen's size puts the pointer somewhere else.
    if then.is_some_and(|(then, _)| then != size) {
        memory.pointer = None;
    }
    drop(memory);
    Ok(screenshot)
}
