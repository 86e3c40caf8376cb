//! Saved pictures that a wait looks for: screenshots by their URI, and files of the host.
//!
//! A part of a screenshot is in pixels of the full screenshot as it was shown, like all places; a part
//! of a file in the file's own.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use crate::{
    image::{ImageError, Picture, Sought},
    journal::Journal,
    model::{Point, Region, ScreenSize, act::Image},
    store::{HostPaths, PathError, ScreenshotId, StoreError},
};

use super::{Gallery, Kept};

/// The largest file that is read: an 8K screen that hardly compresses has less.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Why a saved picture cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no screenshot {0}")]
    NoScreenshot(ScreenshotId),
    #[error("{} is no regular file", .0.display())]
    NoFile(PathBuf),
    #[error("{} has {bytes} bytes, and a picture at most {MAX_FILE_BYTES}", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is no picture that can be read")]
    NoPicture {
        path: String,
        #[source]
        source: ImageError,
    },
    #[error("the part {part} is empty or not inside the picture, which is {picture}")]
    Part { part: Region, picture: Region },
    #[error("the picture is of one colour, which is found anywhere")]
    OneColour,
}

impl SavedError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Path(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::NoScreenshot(_) => {
                "Without a project only the last ones are kept. Take a new one with `take_screenshot`."
                    .to_owned()
            }
            Self::NoFile(_) => "Give the path of a PNG or JPEG file.".to_owned(),
            Self::TooLarge { .. } => "Cut out what is to be seen, and save that.".to_owned(),
            Self::Read { path, .. } => format!(
                "See who may read it: `ls -l {}`.",
                crate::model::shell_word(path.display())
            ),
            Self::NoPicture { .. } => {
                "Save it as PNG or JPEG, of at most the size of an 8K screen; screenshots of this \
                 server are."
                    .to_owned()
            }
            Self::Part { picture, .. } => format!(
                "A part is [x0, y0, x1, y1] with {} ≤ x0 < x1 ≤ {} and {} ≤ y0 < y1 ≤ {}.",
                picture.x0, picture.x1, picture.y0, picture.y1
            ),
            Self::OneColour => {
                "Choose a part with an edge, a letter or a symbol in it.".to_owned()
            }
        }
    }
}

/// A picture, and which part of what it was taken from it shows: in which coordinates parts are told.
struct Saved {
    picture: Picture,
    place: Region,
}

/// Reads the picture that a condition names, and cuts its part out. `shown` is the size at which a
/// screen is shown. May take some tens of milliseconds.
pub fn load(
    gallery: &Gallery,
    journal: &Journal,
    host_paths: &HostPaths,
    shown: impl Fn(ScreenSize) -> ScreenSize,
    wanted: &Image,
) -> Result<Picture, SavedError> {
    let Saved { picture, place } = match wanted.screenshot() {
        Some(id) => screenshot(gallery, journal, shown, wanted, &id.parse()?)?,
        None => file(host_paths, wanted)?,
    };
    let picture = match wanted.part {
        None => picture,
        Some(part) => {
            let to = Point {
                x: -place.x0,
                y: -place.y0,
            };
            let size = ScreenSize {
                width: place.x0.abs_diff(place.x1),
                height: place.y0.abs_diff(place.y1),
            };
            let moved = part.moved(to);
            if !moved.fits(size) {
                return Err(SavedError::Part {
                    part,
                    picture: place,
                });
            }
            picture.crop(moved.native(size, picture.size()))
        }
    };
    match Sought::new(picture.clone()) {
        Some(_) => Ok(picture),
        None => Err(SavedError::OneColour),
    }
}

fn read(wanted: &Image, bytes: &[u8]) -> Result<Picture, SavedError> {
    Picture::read(bytes).map_err(|source| SavedError::NoPicture {
        path: wanted.path.clone(),
        source,
    })
}

fn screenshot(
    gallery: &Gallery,
    journal: &Journal,
    shown: impl Fn(ScreenSize) -> ScreenSize,
    wanted: &Image,
    id: &ScreenshotId,
) -> Result<Saved, SavedError> {
    if let Some(Kept { bytes, place, .. }) = gallery.find(id) {
        let picture = read(wanted, &bytes)?;
        return Ok(Saved { picture, place });
    }
    let active = match journal.active() {
        Some(project) => project.screenshot(id)?,
        None => None,
    };
    let saved = match active {
        Some(saved) => Some(saved),
        None => journal.projects().find_screenshot(id)?,
    };
    let saved = saved.ok_or_else(|| SavedError::NoScreenshot(id.clone()))?;
    let picture = read(wanted, &saved.bytes)?;
    let place = Region::whole(shown(picture.size()));
    Ok(Saved { picture, place })
}

fn file(host_paths: &HostPaths, wanted: &Image) -> Result<Saved, SavedError> {
    let path = host_paths.readable(&wanted.path)?;
    let failed = |source| SavedError::Read {
        path: path.clone(),
        source,
    };
    // Looked at before it is opened: opening a pipe waits for its writer.
    let known = path.metadata().map_err(failed)?;
    if !known.is_file() {
        return Err(SavedError::NoFile(path));
    }
    let mut bytes = vec![];
    let file = File::open(&path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let bytes = known.len().max(bytes.len() as u64);
        return Err(SavedError::TooLarge { path, bytes });
    }
    let picture = read(wanted, &bytes)?;
    let place = Region::whole(picture.size());
    Ok(Saved { picture, place })
}
