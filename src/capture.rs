//! From the hypervisor's screen to the picture that a client is shown.
//!
//! The shown picture's pixels are the coordinates of every act, so its size is a fixed
//! function of the screen's. A PNG of the hypervisor's own is passed on untouched where
//! nothing has to be cut or scaled: encoding it again would only cost time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    hypervisor::{FullName, PLACEHOLDER_SIZE, Screenshot, is_placeholder},
    image::{self, ImageError, Picture},
    model::{CaptureMode, ImageFormat, Region, ScreenSize, TakeScreenshot},
    vm::{Vm, VmError},
};

/// The most bytes of one picture: a reply stays near 5 MB once base64 has made it a third longer.
pub(crate) const MAX_BYTES: usize = 3_700_000;

/// For how long a known screen size is taken as the present one.
const SIZE_FRESH: Duration = Duration::from_millis(500);

/// A picture as a client is shown it, and what a project keeps of it.
#[derive(Debug, Clone)]
pub struct Shot {
    pub bytes: Vec<u8>,
    pub mime: &'static str,
    pub native: ScreenSize,
    pub shown: ScreenSize,
    pub head: u32,
    pub region: Option<Region>,
    /// What must be told of the picture: that it is in another format than was asked for, or none of
    /// the guest's.
    pub note: Option<String>,
    /// PNG at native size, where that is another picture than the one shown.
    pub original: Option<Vec<u8>>,
}

impl Shot {
    /// What a project saves: PNG at native size.
    pub fn original(&self) -> &[u8] {
        self.original.as_deref().unwrap_or(&self.bytes)
    }

    /// The sizes, in words for a model.
    pub fn sizes(&self) -> String {
        let scaled = if self.native == self.shown {
            format!("{} pixels, native size", self.shown)
        } else {
            format!("{} pixels, scaled from {}", self.shown, self.native)
        };
        match self.region {
            Some(region) => format!("region {region} of the full screenshot ({scaled})"),
            None => scaled,
        }
    }
}

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
    let screenshot = capture(vm, what.head, vm.capture_mode()).await?;
    let native = size(vm, &screenshot)?;
    let shown = vm.shown(native);
    if let Some(region) = what.region
        && !region.fits(shown)
    {
        return Err(CaptureError::Region { region, shown });
    }
    let what = what.clone();
    // Decoding and encoding take tens of milliseconds: not on the threads that serve calls.
    let shot = tokio::task::spawn_blocking(move || show(screenshot, native, shown, &what))
        .await
        .map_err(|broke| VmError::Broke(vm.name().clone(), broke))?
        .map_err(|source| broken(vm, source))?;
    if shot.head == 0 {
        vm.memory().given = Some(native);
    }
    Ok(shot)
}

/// The present picture of a head at its native size, for looking often: it is shown to nobody, and no
/// act is compared with it.
pub(crate) async fn glance(vm: &Arc<Vm>, head: u32) -> Result<Picture, CaptureError> {
    let screenshot = capture(vm, head, CaptureMode::Fast).await?;
    Picture::decode(&screenshot.mime, screenshot.bytes).map_err(|source| broken(vm, source))
}

/// The present native size of the first head, from a look that is not shown to anybody.
pub(crate) async fn native_size(vm: &Arc<Vm>) -> Result<ScreenSize, CaptureError> {
    let known = vm.memory().native;
    if let Some((size, at)) = known
        && at.elapsed() < SIZE_FRESH
    {
        return Ok(size);
    }
    let screenshot = capture(vm, 0, CaptureMode::Fast).await?;
    size(vm, &screenshot)
}

/// Whether the guest draws anything on a head.
pub(crate) async fn is_in_use(vm: &Arc<Vm>, head: u32) -> Result<bool, CaptureError> {
    Ok(!is_placeholder(&glance(vm, head).await?))
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
    if head == 0 {
        let size = size(vm, &screenshot)?;
        vm.memory().native = Some((size, Instant::now()));
    }
    Ok(screenshot)
}

fn show(
    screenshot: Screenshot,
    native: ScreenSize,
    shown: ScreenSize,
    what: &TakeScreenshot,
) -> Result<Shot, ImageError> {
    let passed_on = what.region.is_none()
        && shown == native
        && what.format == ImageFormat::Png
        && screenshot.mime == "image/png"
        && screenshot.bytes.len() <= MAX_BYTES;
    let mut shot = Shot {
        bytes: vec![],
        mime: "image/png",
        native,
        shown,
        head: what.head,
        region: what.region,
        note: None,
        original: None,
    };
    // The rest is worth no look at every pixel.
    let may_be_placeholder = native == PLACEHOLDER_SIZE;
    if passed_on && !may_be_placeholder {
        shot.bytes = screenshot.bytes;
        return Ok(shot);
    }
    // A PNG is read and kept, anything else becomes the picture.
    let (png, whole) = if screenshot.mime == "image/png" {
        let whole = Picture::decode(&screenshot.mime, &screenshot.bytes)?;
        (Some(screenshot.bytes), whole)
    } else {
        (None, Picture::decode(&screenshot.mime, screenshot.bytes)?)
    };
    if may_be_placeholder && is_placeholder(&whole) {
        shot.note = Some(format!(
            "This is QEMU's placeholder: the guest shows nothing on head {} (yet).",
            what.head
        ));
    }
    let original = match png {
        Some(png) if passed_on => {
            shot.bytes = png;
            return Ok(shot);
        }
        Some(png) => png,
        None => whole.to_png()?,
    };
    let picture = match what.region {
        Some(region) => whole.crop(region.native(shown, native)),
        None => whole.scale(shown)?,
    };
    (shot.bytes, shot.mime) = match what.format {
        ImageFormat::Png => (picture.to_png()?, "image/png"),
        ImageFormat::Jpeg => (picture.to_jpeg()?, "image/jpeg"),
    };
    if shot.bytes.len() > MAX_BYTES {
        shrink(&mut shot, picture)?;
    }
    shot.original = Some(original);
    Ok(shot)
}

/// A saved picture, made small enough for a reply where it is not.
pub(crate) fn fit(
    mime: &'static str,
    bytes: Vec<u8>,
) -> Result<(&'static str, Vec<u8>), ImageError> {
    if bytes.len() <= MAX_BYTES {
        return Ok((mime, bytes));
    }
    let (_, bytes) = smaller(Picture::decode(mime, &bytes)?)?;
    Ok(("image/jpeg", bytes))
}

/// Makes a picture small enough for a reply, and says so.
fn shrink(shot: &mut Shot, picture: Picture) -> Result<(), ImageError> {
    let asked = shot.bytes.len();
    let whole = picture.size();
    let (size, bytes) = smaller(picture)?;
    shot.mime = "image/jpeg";
    shot.bytes = bytes;
    let at = if size == whole {
        String::new()
    } else {
        format!(" at {size} (coordinates still mean {})", shot.shown)
    };
    shot.note = Some(format!(
        "The picture had {asked} bytes, too many for a reply: it is sent as JPEG{at}."
    ));
    Ok(())
}

/// As JPEG, and at half the size as long as needed. A screenshot keeps its size as long as JPEG
/// suffices, so that pixels stay coordinates.
fn smaller(mut picture: Picture) -> Result<(ScreenSize, Vec<u8>), ImageError> {
    let mut bytes = picture.to_jpeg()?;
    while bytes.len() > MAX_BYTES {
        let size = picture.size();
        picture = picture.scale(ScreenSize {
            width: (size.width / 2).max(1),
            height: (size.height / 2).max(1),
        })?;
        bytes = picture.to_jpeg()?;
    }
    Ok((picture.size(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: u32, height: u32) -> Screenshot {
        let mut state = 1_u32;
        let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
        bytes.extend((0..width * height * 3).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        }));
        Screenshot {
            mime: "image/x-portable-pixmap".into(),
            bytes,
        }
    }

    #[test]
    fn a_png_with_nothing_to_do_is_passed_on_untouched() {
        let size = ScreenSize {
            width: 40,
            height: 30,
        };
        let ppm = noise(40, 30);
        let png = Picture::decode(&ppm.mime, &ppm.bytes)
            .unwrap()
            .to_png()
            .unwrap();
        let screenshot = Screenshot {
            mime: "image/png".into(),
            bytes: png.clone(),
        };
        let shot = show(screenshot, size, size, &TakeScreenshot::default()).unwrap();
        assert_eq!(shot.bytes, png);
        assert_eq!(shot.original, None);
    }

    #[test]
    fn a_picture_too_large_for_a_reply_is_sent_as_jpeg_and_says_so() {
        let size = ScreenSize {
            width: 1568,
            height: 1200,
        };
        let shot = show(noise(1568, 1200), size, size, &TakeScreenshot::default()).unwrap();
        assert!(shot.bytes.len() <= MAX_BYTES);
        assert_eq!(shot.mime, "image/jpeg");
        let note = shot.note.unwrap();
        assert!(note.contains("too many for a reply"), "{note}");
        let original = shot.original.unwrap();
        assert_eq!(image::size("image/png", &original).unwrap(), size);
    }

    #[test]
    fn a_scaled_picture_keeps_its_native_original() {
        let native = ScreenSize {
            width: 200,
            height: 100,
        };
        let shown = native.shown(100);
        let shot = show(noise(200, 100), native, shown, &TakeScreenshot::default()).unwrap();
        assert_eq!(image::size("image/png", &shot.bytes).unwrap(), shown);
        assert_eq!(image::size("image/png", shot.original()).unwrap(), native);
    }
}
