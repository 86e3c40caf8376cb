//! Text of any screen, recognised by Tesseract.
//!
//! Tesseract is made for scanned pages. On a whole screen it looks for columns and pictures among windows, takes
//! ten times as long and finds less. So this room takes the screen apart itself: grounds of one colour and what is
//! drawn upon them ([`flat`]), letters and the runs that they stand in ([`rows`]), each run by
//! itself, black on white ([`strip`]). Tesseract is given the runs as pages of one picture, one line each.
//!
//! Tesseract is started as a program, not linked, although that costs 0.1 s each time. A picture from a guest
//! is foreign input to a large library written in C++, and a crash of it must not end this server;
//! a reading that is not wanted any more ends at once, which the library has no way for; it is as
//! parallel as there are processes; and nothing of it is needed for building this program or for running it
//! where nobody reads screens. Pages go in and words come out through pipes, so that no screen is left in a file.
//!
//! What is not known from the past picture alone is recognised: runs are compared by their pixels, so that a
//! scrolled terminal costs one line.

mod error;
mod flat;
mod glyphs;
mod lines;
mod program;
mod rows;
mod sheet;
mod strip;

use std::{
    cmp::Reverse,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    sync::{OnceCell, Semaphore},
    task,
    time::timeout,
};

use crate::{
    image::{ImageError, Picture, scale_grey},
    model::{OcrLanguage, Reader, Reading, ScreenSize},
};

pub use error::{OcrError, debian_package};
use flat::Drawn;
use rows::Run;
use sheet::{Found, Sheet};
use strip::{Place, Strip, as_f32};

/// Each takes 40 MB and 0.1 s to start.
const MOST_PROCESSES: usize = 4;

/// Longer than a full screen takes on a busy host.
const LIMIT: Duration = Duration::from_secs(40);

/// How many screens are read at a time in this process, whoever asks: each takes all cores, and of a large
/// screen of noise much memory.
static TURNS: Semaphore = Semaphore::const_new(2);

/// The height of a line on its page, descenders included, and the white around it, in pixels. Of 30 to 60
/// this one did best on screens with fonts of 9 to 26 pixels.
const HEIGHT: u32 = 48;
const MARGIN: u32 = 10;

/// Tesseract takes no picture that is wider than 32,767 pixels.
const WIDEST: u32 = 30_000;

/// Reads screens in one language.
#[derive(Debug)]
pub struct Ocr {
    program: PathBuf,
    language: OcrLanguage,
    limit: Duration,
    /// Set once the language was found to be there.
    is_ready: OnceCell<()>,
}

/// A picture that was read, for reading the next one sooner.
#[derive(Debug, Clone)]
pub struct Past {
    picture: Arc<Picture>,
    reading: Arc<Reading>,
    strips: Strips,
}

type Strips = HashMap<Arc<Strip>, Arc<[StripWord]>>;

/// A word in pixels of its strip.
#[derive(Debug, Clone, PartialEq)]
struct StripWord {
    text: String,
    confidence: u8,
    x0: u32,
    x1: u32,
    y0: u32,
    y1: u32,
}

/// A run as it is drawn for being read.
struct Drawing {
    strip: Arc<Strip>,
    place: Place,
    run: Run,
}

impl Past {
    pub fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }
}

impl Ocr {
    pub fn new(language: OcrLanguage) -> Self {
        Self::by(Path::new("tesseract"), language, LIMIT)
    }

    /// By another program, and within another time.
    pub fn by(program: &Path, language: OcrLanguage, limit: Duration) -> Self {
        Self {
            program: program.to_owned(),
            language,
            limit,
            is_ready: OnceCell::new(),
        }
    }

    /// What the program says of itself: `tesseract 5.3.0`.
    pub async fn version(&self) -> Result<String, OcrError> {
        program::version(&self.program).await
    }

    /// Fails where the program or the language is missing.
    pub async fn ready(&self) -> Result<(), OcrError> {
        let check = async {
            let installed = program::languages(&self.program).await?;
            let missing = self
                .language
                .parts()
                .find(|part| installed.iter().all(|it| it != part));
            match missing {
                Some(missing) => Err(OcrError::Language {
                    language: self.language.clone(),
                    missing: missing.to_owned(),
                    installed,
                }),
                None => Ok(()),
            }
        };
        self.is_ready.get_or_try_init(|| check).await.copied()
    }

    /// Reads a picture. What is as it was in the past one is not recognised again, wherever it was. Dropping
    /// the future ends all its processes.
    pub async fn read(&self, picture: Arc<Picture>, past: Option<&Past>) -> Result<Past, OcrError> {
        if let Some(past) = past.filter(|it| it.picture == picture) {
            return Ok(Past {
                picture,
                ..past.clone()
            });
        }
        // It is never closed.
        let _turn = TURNS.acquire().await.map_err(|_| OcrError::Broken)?;
        let limit = self.limit;
        let read = timeout(limit, self.read_anew(picture, past)).await;
        read.map_err(|_| OcrError::Slow { limit })?
    }

    async fn read_anew(
        &self,
        picture: Arc<Picture>,
        past: Option<&Past>,
    ) -> Result<Past, OcrError> {
        self.ready().await?;
        let shown = Arc::clone(&picture);
        let drawings = task::spawn_blocking(move || draw(&shown)).await;
        let drawings = drawings.map_err(|_| OcrError::Broken)??;
        let mut strips = Strips::new();
        let mut unknown = vec![];
        for Drawing { strip, .. } in &drawings {
            if strips.contains_key(strip) {
                continue;
            }
            let known = past.and_then(|past| past.strips.get(strip));
            if known.is_none() {
                unknown.push(Arc::clone(strip));
            }
            let words = known.cloned().unwrap_or_default();
            strips.insert(Arc::clone(strip), words);
        }
        strips.extend(self.recognise(unknown).await?);
        let reading = Arc::new(Reading {
            reader: Reader::Ocr,
            lines: lines::join(&drawings, &strips),
        });
        Ok(Past {
            picture,
            reading,
            strips,
        })
    }

    /// Deals the strips out to as many processes as there are processors, the longest ones first.
    async fn recognise(&self, strips: Vec<Arc<Strip>>) -> Result<Strips, OcrError> {
        let processes = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_PROCESSES);
        let mut shares = vec![vec![]; processes];
        let mut widths = vec![0; processes];
        let mut strips = strips;
        strips.sort_by_key(|it| Reverse(enlarged(it)));
        for strip in strips {
            let least = (0..processes)
                .min_by_key(|at| widths[*at])
                .unwrap_or_default();
            widths[least] += enlarged(&strip) + 2 * HEIGHT;
            shares[least].push(strip);
        }
        let mut running = task::JoinSet::new();
        for share in shares.into_iter().filter(|it| !it.is_empty()) {
            let (program, language) = (self.program.clone(), self.language.clone());
            running.spawn(async move { recognise_share(&program, &language, share).await });
        }
        let mut all = Strips::new();
        while let Some(done) = running.join_next().await {
            all.extend(done.map_err(|_| OcrError::Broken)??);
        }
        Ok(all)
    }
}

async fn recognise_share(
    program: &Path,
    language: &OcrLanguage,
    strips: Vec<Arc<Strip>>,
) -> Result<Strips, OcrError> {
    let drawn = strips.clone();
    let sheet = task::spawn_blocking(move || {
        let mut sheet = Sheet::new();
        for strip in &drawn {
            let (width, height, grey) = enlarge(strip)?;
            sheet.page(width, height, &grey);
        }
        Ok::<_, ImageError>(sheet.into_bytes())
    });
    let tiff = sheet.await.map_err(|_| OcrError::Broken)??;
    let tsv = program::recognise(program, language, &tiff).await?;
    let mut found: Vec<Vec<Found>> = vec![vec![]; strips.len()];
    for word in sheet::words(&tsv) {
        if let Some(page) = found.get_mut(word.page) {
            page.push(word);
        }
    }
    let words = strips.into_iter().zip(found).map(|(strip, found)| {
        let words = settle(&strip, &found);
        (strip, Arc::from(words))
    });
    Ok(words.collect())
}

/// How wide a strip is on its page.
fn enlarged(strip: &Strip) -> u32 {
    (strip.width * HEIGHT / strip.height).clamp(1, WIDEST)
}

/// A page of a strip.
fn enlarge(strip: &Strip) -> Result<(u32, u32, Vec<u8>), ImageError> {
    let from = ScreenSize {
        width: strip.width,
        height: strip.height,
    };
    let to = ScreenSize {
        width: enlarged(strip),
        height: HEIGHT,
    };
    let grey = scale_grey(&strip.grey, from, to)?;
    let (width, height) = (to.width + 2 * MARGIN, to.height + 2 * MARGIN);
    let mut page = vec![255; width as usize * height as usize];
    for (y, row) in grey.chunks_exact(to.width as usize).enumerate() {
        let start = (y + MARGIN as usize) * width as usize + MARGIN as usize;
        page[start..start + row.len()].copy_from_slice(row);
    }
    Ok((width, height, page))
}

/// Words in pixels of their strip. Of letters that are all equally wide it is known what is a blank;
/// others are taken as they were found.
fn settle(strip: &Strip, found: &[Found]) -> Vec<StripWord> {
    let wide = u64::from(enlarged(strip));
    let back = |x: u32| {
        let x = u64::from(x.saturating_sub(MARGIN)) * u64::from(strip.width) / wide;
        u32::try_from(x).map_or(strip.width, |x| x.min(strip.width))
    };
    let gaps = strip.gaps();
    let pitch = strip.pitch();
    let mut words: Vec<StripWord> = vec![];
    for word in found {
        let (x0, x1) = (back(word.left), back(word.left + word.width));
        let confidence = word.confidence;
        if let (Some(last), Some(pitch)) = (words.last_mut(), pitch) {
            // The widest gap where one ends and the other begins.
            let (from, to) = (last.x1.min(x0).saturating_sub(2), last.x1.max(x0) + 2);
            let between = gaps.iter().filter(|it| it.x1 > from && it.x0 < to);
            let gap = between.map(|it| it.width()).max().unwrap_or(0);
            if as_f32(gap) < pitch * 0.95 {
                last.text.push_str(&word.text);
                last.x1 = x1;
                last.confidence = last.confidence.min(confidence);
                continue;
            }
        }
        words.push(StripWord {
            text: word.text.clone(),
            confidence,
            x0,
            x1,
            y0: 0,
            y1: strip.height,
        });
    }
    for word in &mut words {
        word.x1 = word.x1.max(word.x0 + 1);
        (word.y0, word.y1) = strip.rows(word.x0, word.x1);
    }
    words
}

fn draw(picture: &Picture) -> Result<Vec<Drawing>, OcrError> {
    let drawn = Drawn::on(picture);
    let runs = rows::runs(&drawn).ok_or(OcrError::TooMuch)?;
    let mut drawings: Vec<_> = runs
        .into_iter()
        .map(|run| {
            let (strip, place) = strip::draw(&drawn, &run);
            Drawing {
                strip: Arc::new(strip),
                place,
                run,
            }
        })
        .collect();
    drawings.sort_by_key(|it| (it.run.baseline, it.place.x));
    Ok(drawings)
}
