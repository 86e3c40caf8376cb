//! Reads a VM's screen: a text screen cell by cell, which makes no mistakes, any other by OCR.
//!
//! What was read is remembered with the VM: the same pixels are not read twice, the font of a text
//! screen is tried first, and OCR reads only what changed. A read screen is not a picture that was
//! shown: `change` is still compared with that one.

mod error;

use std::{collections::VecDeque, sync::Arc};

pub use error::ReadingError;

use crate::{
    capture::{self, CaptureError},
    cells::{self, CellScreen},
    fonts::HostFonts,
    hypervisor::is_placeholder,
    image::Picture,
    model::{Grid, OcrLanguage, Point, Reading, Region, ScreenSize},
    ocr::{self, Ocr},
    vm::{Vm, VmError},
};

/// Of so many parts of a screen it is remembered what OCR read: waiting for text in one while
/// looking at another reads neither anew.
const PARTS: usize = 2;

/// What reads a VM's screens.
#[derive(Debug, Clone)]
pub struct Readers {
    fonts: HostFonts,
    ocr: Arc<Ocr>,
}

impl Readers {
    /// With all the fonts there are, and OCR in one language.
    pub fn new(fonts: HostFonts, language: OcrLanguage) -> Self {
        Self {
            fonts,
            ocr: Arc::new(Ocr::new(language)),
        }
    }
}

/// With the fonts of the host, none that were learned, and OCR in English.
impl Default for Readers {
    fn default() -> Self {
        Self::new(HostFonts::new(""), OcrLanguage::default())
    }
}

/// A head as it was last read.
#[derive(Debug, Default)]
pub(crate) struct Past {
    picture: Option<Arc<Picture>>,
    /// Nothing where the picture is no text screen.
    cells: Option<Arc<CellScreen>>,
    /// Where the last text screen was, and in which font.
    grid: Option<Grid>,
    /// By the part of the screen, the last one first.
    recognised: VecDeque<(Region, Arc<ocr::Past>)>,
}

/// The text of a screen, or of a part of it.
#[derive(Debug)]
pub struct ScreenText {
    pub native: ScreenSize,
    /// The size at which clients are shown the screen.
    pub shown: ScreenSize,
    /// Its places are native pixels of the whole screen.
    pub reading: Reading,
}

/// Reads a head for a client, or a region of it as it is shown. From now on its size is what acts are
/// compared with, as that of a picture is.
pub async fn look(
    vm: &Arc<Vm>,
    head: u32,
    region: Option<Region>,
) -> Result<ScreenText, ReadingError> {
    let picture = Arc::new(capture::glance(vm, head).await?);
    let native = picture.size();
    let shown = vm.shown(native);
    let part = match region {
        Some(region) if !region.fits(shown) => {
            return Err(CaptureError::Region { region, shown }.into());
        }
        Some(region) => region.native(shown, native),
        None => Region::whole(native),
    };
    let reading = read(vm, head, &picture, part).await?;
    capture::told_of(vm, head, native);
    Ok(ScreenText {
        native,
        shown,
        reading,
    })
}

/// Reads a part of a head's picture. Places are pixels of the picture.
pub(crate) async fn read(
    vm: &Arc<Vm>,
    head: u32,
    picture: &Arc<Picture>,
    part: Region,
) -> Result<Reading, ReadingError> {
    if is_placeholder(picture) {
        return Ok(Reading::nothing());
    }
    match by_cells(vm, head, picture).await? {
        Some(cells) => Ok(cells.reading(part)),
        None => recognise(vm, head, picture, part).await,
    }
}

async fn by_cells(
    vm: &Arc<Vm>,
    head: u32,
    picture: &Arc<Picture>,
) -> Result<Option<Arc<CellScreen>>, ReadingError> {
    let grid = {
        let mut memory = vm.memory();
        let past = memory.read.entry(head).or_default();
        if past.picture.as_ref().is_some_and(|then| then == picture) {
            return Ok(past.cells.clone());
        }
        past.grid.clone()
    };
    let fonts = vm.readers().fonts.clone();
    let seen = Arc::clone(picture);
    let reading =
        tokio::task::spawn_blocking(move || cells::read(&seen, fonts.get(), grid.as_ref()));
    let cells = reading
        .await
        .map_err(|broke| VmError::Broke(vm.name().clone(), broke))?
        .map(Arc::new);
    let mut memory = vm.memory();
    let past = memory.read.entry(head).or_default();
    past.picture = Some(Arc::clone(picture));
    if let Some(cells) = &cells {
        past.grid = Some(cells.grid.clone());
    }
    past.cells.clone_from(&cells);
    Ok(cells)
}

async fn recognise(
    vm: &Arc<Vm>,
    head: u32,
    picture: &Arc<Picture>,
    part: Region,
) -> Result<Reading, ReadingError> {
    let known = {
        let memory = vm.memory();
        let all = memory.read.get(&head).into_iter();
        let mut known = all.flat_map(|head| &head.recognised);
        let known = known.find(|(of, _)| *of == part);
        known.map(|(_, known)| Arc::clone(known))
    };
    let cut = Arc::new(picture.crop(part));
    let now = Arc::new(vm.readers().ocr.read(cut, known.as_deref()).await?);
    let mut reading = Reading::clone(now.reading());
    let mut memory = vm.memory();
    let recognised = &mut memory.read.entry(head).or_default().recognised;
    recognised.retain(|(of, _)| *of != part);
    recognised.push_front((part, now));
    recognised.truncate(PARTS);
    let by = Point {
        x: part.x0,
        y: part.y0,
    };
    for word in reading.lines.iter_mut().flat_map(|line| &mut line.words) {
        word.area = word.area.moved(by);
    }
    Ok(reading)
}

impl ScreenText {
    /// The pixels of the full screenshot that a place falls into, as a region's edges.
    pub fn edges(&self, area: Region) -> [i32; 4] {
        let Region { x0, y0, x1, y1 } = area.shown(self.native, self.shown);
        [x0, y0, x1, y1]
    }
}
