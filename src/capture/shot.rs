//! From the hypervisor's picture to the one that a client is shown. Pure.
//!
//! A PNG of the hypervisor's own is passed on untouched where nothing has to be cut, scaled or marked:
//! encoding it again would only cost time.

use std::{borrow::Cow, sync::Arc};

use crate::{
    hypervisor::{PLACEHOLDER_SIZE, Screenshot, is_placeholder},
    image::{ImageError, Picture},
    model::{ImageFormat, Point, Region, ScreenSize},
};

/// The most bytes of one picture: a reply stays near 5 MB once base64 has made it a third longer.
pub(crate) const MAX_BYTES: usize = 3_700_000;

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
    /// Whether it is QEMU's own picture of a head that the guest draws nothing on.
    pub is_placeholder: bool,
    /// Where the pointer is marked, as a pixel of the full screenshot.
    pub mark: Option<Point>,
    pub original: Original,
}

/// The whole screen at its native size, without a mark.
#[derive(Debug, Clone)]
pub enum Original {
    /// The very PNG that is shown.
    Shown,
    Png(Vec<u8>),
    /// To be written as PNG where somebody wants it.
    Picture(Arc<Picture>),
}

/// A whole screen at its native size as it once was.
#[derive(Debug, Clone)]
pub(crate) enum SeenScreen {
    Png(Arc<[u8]>),
    Picture(Arc<Picture>),
}

impl SeenScreen {
    /// Reading a PNG takes some milliseconds.
    pub(super) fn picture(self) -> Result<Arc<Picture>, ImageError> {
        match self {
            Self::Png(bytes) => Picture::decode("image/png", &*bytes).map(Arc::new),
            Self::Picture(picture) => Ok(picture),
        }
    }
}

impl Shot {
    /// What a project saves: PNG at native size, without a mark. This can take some milliseconds.
    pub fn original(&self) -> Result<Cow<'_, [u8]>, ImageError> {
        match &self.original {
            Original::Shown => Ok(Cow::Borrowed(&self.bytes)),
            Original::Png(bytes) => Ok(Cow::Borrowed(bytes)),
            Original::Picture(picture) => picture.to_png().map(Cow::Owned),
        }
    }

    /// The screen that it shows, to compare later ones with.
    pub(super) fn seen(&self) -> SeenScreen {
        match &self.original {
            Original::Shown => SeenScreen::Png(self.bytes.as_slice().into()),
            Original::Png(bytes) => SeenScreen::Png(bytes.as_slice().into()),
            Original::Picture(picture) => SeenScreen::Picture(Arc::clone(picture)),
        }
    }

    /// Tells one thing more of the picture.
    pub(crate) fn add_note(&mut self, text: &str) {
        self.note = Some(match self.note.take() {
            Some(note) => format!("{note} {text}"),
            None => text.to_owned(),
        });
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

/// What is shown of a screen, and how.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) native: ScreenSize,
    pub(super) shown: ScreenSize,
    pub(super) head: u32,
    /// In pixels of what is shown of the whole screen, which it fits.
    pub(super) region: Option<Region>,
    pub(super) enlarged: Enlarged,
    /// As a native pixel.
    pub(super) pointer: Option<Point>,
    pub(super) format: ImageFormat,
}

/// Whether a region is made as large as the whole screen is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enlarged {
    Yes,
    No,
}

impl View {
    /// The picture for a client, out of the hypervisor's.
    pub(super) fn show(self, screenshot: Screenshot) -> Result<Shot, ImageError> {
        let region = self.region.map(|it| it.native(self.shown, self.native));
        // On the screen as it is now, and in what is shown of it.
        let pointer = self
            .pointer
            .filter(|at| self.native.contains(*at) && region.is_none_or(|it| it.has(*at)));
        let mut shot = Shot {
            bytes: vec![],
            mime: "image/png",
            native: self.native,
            shown: self.shown,
            head: self.head,
            region: self.region,
            note: None,
            is_placeholder: false,
            mark: pointer.map(|at| self.native.shown_point(self.shown, at)),
            original: Original::Shown,
        };
        let is_whole = region.is_none() && self.shown == self.native;
        let is_plain = is_whole && self.format == ImageFormat::Png && shot.mark.is_none();
        let passed_on =
            is_plain && screenshot.mime == "image/png" && screenshot.bytes.len() <= MAX_BYTES;
        // The rest is worth no look at every pixel.
        let may_be_placeholder = self.native == PLACEHOLDER_SIZE;
        if passed_on && !may_be_placeholder {
            shot.bytes = screenshot.bytes;
            return Ok(shot);
        }
        // A PNG is read and kept, anything else becomes the picture.
        let (png, mut whole) = if screenshot.mime == "image/png" {
            let whole = Picture::decode(&screenshot.mime, &screenshot.bytes)?;
            (Some(screenshot.bytes), whole)
        } else {
            (None, Picture::decode(&screenshot.mime, screenshot.bytes)?)
        };
        if may_be_placeholder && is_placeholder(&whole) {
            shot.is_placeholder = true;
            shot.add_note(&format!(
                "This is QEMU's placeholder: the guest shows nothing on head {} (yet).",
                self.head
            ));
        }
        if let Some(bytes) = png {
            if passed_on {
                shot.bytes = bytes;
                return Ok(shot);
            }
            shot.original = Original::Png(bytes);
        }
        // The mark has its own size in every picture, and so is drawn when that is cut or scaled.
        let (mut part, place) = match region {
            Some(region) => {
                let part = whole.crop(region);
                let native = part.size();
                let part = self.enlarge(part, &mut shot)?;
                let place = |at| part.size().native_point(native, region.within(at));
                let place = pointer.map(place);
                (Some(part), place)
            }
            None if is_whole => (None, shot.mark),
            None => (Some(whole.scale(self.shown)?), shot.mark),
        };
        let picture = part.as_mut().unwrap_or(&mut whole);
        let covered = place.map(|place| picture.mark(place));
        (shot.bytes, shot.mime) = match self.format {
            ImageFormat::Png => (picture.to_png()?, "image/png"),
            ImageFormat::Jpeg => (picture.to_jpeg()?, "image/jpeg"),
        };
        let is_too_large = shot.bytes.len() > MAX_BYTES;
        if is_too_large {
            shrink(&mut shot, picture)?;
        }
        if let Original::Shown = shot.original
            && (is_too_large || !is_plain)
        {
            if is_whole && let Some(covered) = covered {
                whole.unmark(&covered);
            }
            shot.original = Original::Picture(Arc::new(whole));
        }
        Ok(shot)
    }

    fn enlarge(&self, part: Picture, shot: &mut Shot) -> Result<Picture, ImageError> {
        if self.enlarged == Enlarged::No {
            return Ok(part);
        }
        let native = part.size();
        let size = native.fitted(self.shown);
        shot.add_note(&format!(
            "The picture shows its {native} native pixels at {size}."
        ));
        part.scale(size)
    }
}

/// A saved picture, made small enough for a reply where it is not.
pub(crate) fn fit(
    mime: &'static str,
    bytes: Vec<u8>,
) -> Result<(&'static str, Vec<u8>), ImageError> {
    if bytes.len() <= MAX_BYTES {
        return Ok((mime, bytes));
    }
    let (_, bytes) = smaller(&Picture::decode(mime, bytes)?)?;
    Ok(("image/jpeg", bytes))
}

/// Makes a picture small enough for a reply, and says so.
fn shrink(shot: &mut Shot, picture: &Picture) -> Result<(), ImageError> {
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
    shot.add_note(&format!(
        "The picture had {asked} bytes, too many for a reply: it is sent as JPEG{at}."
    ));
    Ok(())
}

/// As JPEG, and at half the size as long as needed. A screenshot keeps its size as long as JPEG
/// suffices, so that pixels stay coordinates.
fn smaller(picture: &Picture) -> Result<(ScreenSize, Vec<u8>), ImageError> {
    let mut size = picture.size();
    let mut bytes = picture.to_jpeg()?;
    while bytes.len() > MAX_BYTES {
        size = ScreenSize {
            width: (size.width / 2).max(1),
            height: (size.height / 2).max(1),
        };
        bytes = picture.scale(size)?.to_jpeg()?;
    }
    Ok((size, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{image, model::TakeScreenshot};

    fn show(
        screenshot: Screenshot,
        native: ScreenSize,
        shown: ScreenSize,
        pointer: Option<Point>,
        what: &TakeScreenshot,
    ) -> Result<Shot, ImageError> {
        let view = View {
            native,
            shown,
            head: what.head,
            region: what.region,
            enlarged: Enlarged::No,
            pointer,
            format: what.format,
        };
        view.show(screenshot)
    }

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
        let shot = show(screenshot, size, size, None, &TakeScreenshot::default()).unwrap();
        assert_eq!(shot.bytes, png);
        assert_eq!(shot.original().unwrap(), png);
    }

    #[test]
    fn what_is_shown_as_it_is_is_written_once() {
        let size = size_of(40, 30);
        let shot = show(noise(40, 30), size, size, None, &TakeScreenshot::default()).unwrap();
        assert!(matches!(shot.original, Original::Shown));
        assert_eq!(shot.original().unwrap(), shot.bytes);
        let plain = noise(40, 30);
        assert!(decoded("image/png", &shot.bytes) == decoded(&plain.mime, &plain.bytes));
    }

    #[test]
    fn a_picture_too_large_for_a_reply_is_sent_as_jpeg_and_says_so() {
        let size = ScreenSize {
            width: 1568,
            height: 1200,
        };
        let shot = show(
            noise(1568, 1200),
            size,
            size,
            None,
            &TakeScreenshot::default(),
        )
        .unwrap();
        assert!(shot.bytes.len() <= MAX_BYTES);
        assert_eq!(shot.mime, "image/jpeg");
        let note = shot.note.as_deref().unwrap();
        assert!(note.contains("too many for a reply"), "{note}");
        let original = shot.original().unwrap();
        assert_eq!(image::size("image/png", &original).unwrap(), size);
    }

    #[test]
    fn a_scaled_picture_keeps_its_native_original() {
        let native = ScreenSize {
            width: 200,
            height: 100,
        };
        let shown = native.shown(100);
        let shot = show(
            noise(200, 100),
            native,
            shown,
            None,
            &TakeScreenshot::default(),
        )
        .unwrap();
        assert_eq!(image::size("image/png", &shot.bytes).unwrap(), shown);
        assert_eq!(
            image::size("image/png", &shot.original().unwrap()).unwrap(),
            native
        );
    }

    fn size_of(width: u32, height: u32) -> ScreenSize {
        ScreenSize { width, height }
    }

    /// The same screen as `noise`, as a PNG.
    fn noise_as_png(width: u32, height: u32) -> Screenshot {
        let ppm = noise(width, height);
        Screenshot {
            mime: "image/png".into(),
            bytes: decoded(&ppm.mime, &ppm.bytes).to_png().unwrap(),
        }
    }

    fn decoded(mime: &str, bytes: &[u8]) -> Picture {
        Picture::decode(mime, bytes).unwrap()
    }

    fn at(x: i32, y: i32) -> Point {
        Point { x, y }
    }

    #[test]
    fn the_pointer_is_marked_in_what_is_shown_and_not_in_what_is_saved() {
        let size = size_of(60, 40);
        let plain = noise(60, 40);
        let plain = decoded(&plain.mime, &plain.bytes);
        let mut marked = plain.clone();
        marked.mark(Point { x: 50, y: 7 });
        for screenshot in [noise(60, 40), noise_as_png(60, 40)] {
            let mime = screenshot.mime.clone();
            let what = TakeScreenshot::default();
            let shot = show(screenshot, size, size, Some(at(50, 7)), &what).unwrap();
            assert_eq!(shot.mark, Some(at(50, 7)));
            assert!(decoded("image/png", &shot.bytes) == marked, "{mime}");
            let saved = shot.original().unwrap();
            assert!(decoded("image/png", &saved) == plain, "{mime}");
        }
    }

    #[test]
    fn the_mark_has_its_own_size_in_scaled_pictures_and_in_regions() {
        let (native, shown) = (size_of(200, 100), size_of(100, 50));
        let whole = noise(200, 100);
        let whole = decoded(&whole.mime, &whole.bytes);
        let region = Region::from([20, 10, 60, 40]);
        let cases = [
            (
                None,
                Some(at(101, 60)),
                whole.scale(shown).unwrap(),
                (50, 30),
            ),
            (
                Some(region),
                Some(at(101, 60)),
                whole.crop(Region::from([40, 20, 120, 80])),
                (61, 40),
            ),
        ];
        for (region, pointer, mut expected, (x, y)) in cases {
            let what = TakeScreenshot {
                region,
                ..TakeScreenshot::default()
            };
            let shot = show(noise(200, 100), native, shown, pointer, &what).unwrap();
            // In the one space of coordinates, whatever is shown.
            assert_eq!(shot.mark, Some(at(50, 30)));
            expected.mark(Point { x, y });
            assert!(decoded("image/png", &shot.bytes) == expected, "{region:?}");
            let saved = shot.original().unwrap();
            assert!(decoded("image/png", &saved) == whole, "{region:?}");
        }
    }

    #[test]
    fn nothing_is_marked_where_the_pointer_is_not_in_the_picture() {
        let size = size_of(60, 40);
        let region = Some(Region::from([10, 10, 20, 20]));
        for (pointer, region) in [
            (None, None),
            (Some(at(60, 0)), None),
            (Some(at(0, 40)), None),
            (Some(at(9, 10)), region),
            (Some(at(20, 10)), region),
            (Some(at(10, 9)), region),
            (Some(at(10, 20)), region),
        ] {
            let what = TakeScreenshot {
                region,
                ..TakeScreenshot::default()
            };
            let shot = show(noise(60, 40), size, size, pointer, &what).unwrap();
            let plain = show(noise(60, 40), size, size, None, &what).unwrap();
            assert_eq!(shot.mark, None, "{pointer:?} {region:?}");
            assert!(shot.bytes == plain.bytes, "{pointer:?} {region:?}");
        }
    }

    #[test]
    fn a_picture_too_large_for_a_reply_is_saved_without_the_mark() {
        let size = size_of(1568, 1200);
        let what = TakeScreenshot::default();
        let shot = show(noise(1568, 1200), size, size, Some(at(3, 3)), &what).unwrap();
        assert_eq!((shot.mime, shot.mark), ("image/jpeg", Some(at(3, 3))));
        let saved = shot.original().unwrap();
        let plain = noise(1568, 1200);
        assert!(decoded("image/png", &saved) == decoded(&plain.mime, &plain.bytes));
    }

    #[test]
    fn an_enlarged_region_is_marked_where_its_pixel_became_large() {
        let size = size_of(200, 100);
        let plain = noise(200, 100);
        let plain = decoded(&plain.mime, &plain.bytes);
        let region = Region::from([20, 10, 60, 30]);
        let view = View {
            native: size,
            shown: size,
            head: 0,
            region: Some(region),
            enlarged: Enlarged::Yes,
            pointer: Some(at(30, 20)),
            format: ImageFormat::Png,
        };
        let shot = view.show(noise(200, 100)).unwrap();
        // Five times as large: each pixel becomes five, and the third of them is its middle.
        let mut expected = plain.crop(region).scale(size).unwrap();
        expected.mark(at(52, 52));
        assert!(decoded("image/png", &shot.bytes) == expected);
        assert_eq!(shot.mark, Some(at(30, 20)));
        let note = "The picture shows its 40×20 native pixels at 200×100.";
        assert_eq!(shot.note.as_deref(), Some(note));
        assert!(decoded("image/png", &shot.original().unwrap()) == plain);
    }
}
