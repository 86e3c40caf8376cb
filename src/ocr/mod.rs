//! Text of any screen, recognised by Tesseract.

mod error;
mod flat;
mod program;
mod rows;
mod sheet;
mod strip;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{sync::OnceCell, task, time::timeout};

use crate::{
    image::{ImageError, Picture, scale_grey},
    model::{Line, OcrLanguage, Reader, Reading, Region, ScreenSize, Word},
};

pub use error::{OcrError, debian_package};
use flat::Drawn;
use rows::Run;
use sheet::{Found, Sheet};
use strip::{Place, Strip};

/// Longer than a full screen takes on a busy host.
const LIMIT: Duration = Duration::from_secs(40);

/// The height of a line as Tesseract's network takes it, and the white around it, in pixels.
const HEIGHT: u32 = 36;
const MARGIN: u32 = 10;

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
    pub fn picture(&self) -> &Arc<Picture> {
        &self.picture
    }

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

    pub fn language(&self) -> &OcrLanguage {
        &self.language
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
        let drawings = drawings.map_err(|_| OcrError::Broken)?;
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
            lines: lines(&drawings, &strips),
        });
        Ok(Past {
            picture,
            reading,
            strips,
        })
    }

    async fn recognise(&self, strips: Vec<Arc<Strip>>) -> Result<Strips, OcrError> {
        let processes = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        let mut shares = vec![vec![]; processes];
        let mut widths = vec![0; processes];
        let mut strips = strips;
        strips.sort_by_key(|it| std::cmp::Reverse(it.width * 100 / it.height));
        for strip in strips {
            let least = (0..processes)
                .min_by_key(|at| widths[*at])
                .unwrap_or_default();
            widths[least] += strip.width * 100 / strip.height + 200;
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

/// A page of a strip.
fn enlarge(strip: &Strip) -> Result<(u32, u32, Vec<u8>), ImageError> {
    let from = ScreenSize {
        width: strip.width,
        height: strip.height,
    };
    let to = ScreenSize {
        width: (strip.width * HEIGHT / strip.height).max(1),
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

/// Words in pixels of their strip.
fn settle(strip: &Strip, found: &[Found]) -> Vec<StripWord> {
    let back = |x: u32| (x.saturating_sub(MARGIN) * strip.height / HEIGHT).min(strip.width);
    found
        .iter()
        .map(|word| StripWord {
            text: word.text.clone(),
            confidence: word.confidence,
            x0: back(word.left),
            x1: back(word.left + word.width),
            y0: 0,
            y1: strip.height,
        })
        .collect()
}

fn draw(picture: &Picture) -> Vec<Drawing> {
    let drawn = Drawn::on(picture);
    let mut drawings: Vec<_> = rows::runs(&drawn)
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
    drawings
}

/// The words of all drawings, those of one line together, from top to bottom.
fn lines(drawings: &[Drawing], strips: &Strips) -> Vec<Line> {
    let mut lines: Vec<(&Run, Line)> = vec![];
    for drawing in drawings {
        let words = strips.get(&drawing.strip);
        let mut line = Line {
            text: String::new(),
            words: vec![],
        };
        for word in words.into_iter().flat_map(|it| it.iter()) {
            let edge = |base: u32, at: u32| i32::try_from(base + at).unwrap_or(i32::MAX);
            let Place { x, y } = drawing.place;
            let area = Region {
                x0: edge(x, word.x0),
                y0: edge(y, word.y0),
                x1: edge(x, word.x1),
                y1: edge(y, word.y1),
            };
            if !line.text.is_empty() {
                line.text.push(' ');
            }
            let start = line.text.len();
            line.text.push_str(&word.text);
            line.words.push(Word {
                at: start..line.text.len(),
                area,
                confidence: word.confidence,
            });
        }
        if !line.words.is_empty() {
            lines.push((&drawing.run, line));
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}
