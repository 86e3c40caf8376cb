//! `virtpilot learn-font`: a glyph table off a screen that shows known text.

use std::{
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use crate::{
    capture::{self, CaptureError},
    cells::{Font, FontError, KnownText, LearnError, Learned, Place, learn},
    config::{Config, ConfigError},
    fleet::{Fleet, FleetError},
    fonts::{self, SaveError},
    hypervisor::Libvirt,
    image::{ImageError, Picture},
    model::{Capability, Point, ScreenSize, VmName, act::TakeScreenshot},
};

use super::Settings;

#[derive(Debug, Args)]
pub struct LearnFont {
    /// The VM whose screen shows the text now [default: the default VM].
    #[arg(value_name = "VM")]
    pub vm: Option<VmName>,
    /// What the screen shows, line by line, all or a part of it, on one background: UTF-8, U+FFFD for a cell to
    /// leave out; - reads it from standard input.
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,
    /// The font's name, such as edk2-8x19. A font that has it already is learned on.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: String,
    /// The size of a character cell in pixels [default: it is found].
    #[arg(long, value_name = "WxH", value_parser = cell)]
    pub cell: Option<ScreenSize>,
    /// The top left pixel of the text's first line [default: it is found].
    #[arg(long, value_name = "X,Y", value_parser = origin, allow_hyphen_values = true)]
    pub origin: Option<Point>,
    /// Learn from this picture, PNG or PPM, rather than from a VM's screen.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vm", "head"])]
    pub picture: Option<PathBuf>,
    /// Which of the VM's screens, from 0.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub head: u32,
    /// The font's file [default: fonts/NAME.psf in the data folder, where screens are read with it].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// Why no font was learned.
#[derive(Debug, thiserror::Error)]
pub enum LearnFontError {
    #[error("the known text cannot be read from {}", path.display())]
    ReadText {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the picture cannot be read from {}", path.display())]
    ReadPicture {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no picture", path.display())]
    NoPicture {
        path: PathBuf,
        #[source]
        source: ImageError,
    },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("the VM's picture cannot be read")]
    BadScreen(#[source] ImageError),
    #[error("the font {} cannot be learned on", path.display())]
    BadFont {
        path: PathBuf,
        #[source]
        source: FontError,
    },
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error("what was learned makes no font")]
    NoFont(#[source] FontError),
    #[error(transparent)]
    Save(#[from] SaveError),
}

impl LearnFontError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::ReadText { .. } => "Give a file of UTF-8 text with `--text`.".to_owned(),
            Self::ReadPicture { .. } => "Give a picture that you may read.".to_owned(),
            Self::NoPicture { .. } => {
                "Give a screenshot at its native size, as PNG or PPM.".to_owned()
            }
            Self::Config(_) => "Correct it there.".to_owned(),
            Self::Fleet(error) => error.hint(),
            Self::Capture(error) => error.hint(),
            Self::BadScreen(_) => "Look again in a moment.".to_owned(),
            Self::BadFont { .. } => {
                "Choose another `--name`, or remove the file to learn it anew.".to_owned()
            }
            Self::Learn(error) => error.hint().to_owned(),
            Self::NoFont(error) => error.hint().to_owned(),
            Self::Save(error) => error.hint(),
        }
    }
}

/// Learns a font and says what it has now. What goes wrong is told with what to do about it; gives the
/// exit status.
pub async fn learn_font(options: LearnFont) -> anyhow::Result<i32> {
    match learned(options).await {
        Ok(text) => {
            let mut out = io::stdout();
            writeln!(out, "{text}")?;
            out.flush()?;
            Ok(0)
        }
        Err(error) => {
            let hint = error.hint();
            let status = super::tell(&error.into());
            writeln!(io::stderr(), "Next: {hint}")?;
            Ok(status)
        }
    }
}

async fn learned(options: LearnFont) -> Result<String, LearnFontError> {
    let text = KnownText::parse(&read_text(&options.text)?)?;
    let mut settings = options.settings;
    if let Some(vm) = &options.vm {
        settings.vms.insert(0, vm.clone());
    }
    let config = Arc::new(super::configure(settings)?);
    let path = options
        .output
        .unwrap_or_else(|| fonts::learned_file(&config.data_dir, &options.name));
    let known = known_font(&path, &options.name)?;
    let picture = match &options.picture {
        Some(path) => read_picture(path)?,
        None => screen(config, options.vm, options.head).await?,
    };
    let place = Place {
        cell: options.cell,
        origin: options.origin,
    };
    let learned = learn(&picture, &text, place, known.as_ref())?;
    let report = Report::of(&learned, known.as_ref());
    let font = learned.into_font(&options.name, known.as_ref());
    let font = font.map_err(LearnFontError::NoFont)?;
    fonts::save(&path, &font)?;
    Ok(report.text(&font, &path))
}

fn read_text(path: &Path) -> Result<String, LearnFontError> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|source| LearnFontError::ReadText {
        path: path.to_owned(),
        source,
    })
}

fn read_picture(path: &Path) -> Result<Picture, LearnFontError> {
    let path = path.to_owned();
    match fs::read(&path) {
        Ok(bytes) => {
            let mime = if bytes.starts_with(b"P6") {
                "image/x-portable-pixmap"
            } else {
                "image/png"
            };
            Picture::decode(mime, bytes)
                .map_err(|source| LearnFontError::NoPicture { path, source })
        }
        Err(source) => Err(LearnFontError::ReadPicture { path, source }),
    }
}

fn known_font(path: &Path, name: &str) -> Result<Option<Font>, LearnFontError> {
    let Some(bytes) = fonts::existing(path)? else {
        return Ok(None);
    };
    let font = Font::from_psf(name, &bytes).map_err(|source| LearnFontError::BadFont {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(font))
}

/// The VM's screen now, at its native size.
async fn screen(
    config: Arc<Config>,
    vm: Option<VmName>,
    head: u32,
) -> Result<Picture, LearnFontError> {
    let libvirt = Arc::new(Libvirt::new(&config.uri));
    let fleet = Fleet::new(config, libvirt);
    let what = TakeScreenshot {
        head,
        pointer: false,
        ..TakeScreenshot::default()
    };
    let vm = fleet.vm(vm, Capability::View).await?;
    let shot = capture::look(&vm, &what).await;
    fleet.close().await;
    let shot = shot?;
    let png = shot.original().map_err(LearnFontError::BadScreen)?;
    Picture::decode("image/png", png.into_owned()).map_err(LearnFontError::BadScreen)
}

/// What is told of what was learned.
struct Report {
    cell: ScreenSize,
    origin: Point,
    shown: usize,
    new: usize,
}

impl Report {
    fn of(learned: &Learned, known: Option<&Font>) -> Self {
        let is_new = |character: &&char| {
            !known.is_some_and(|known| {
                let mut glyphs = known.glyphs().iter();
                glyphs.any(|glyph| glyph.characters.contains(character))
            })
        };
        Self {
            cell: learned.cell,
            origin: learned.origin,
            shown: learned.glyphs.len(),
            new: learned.glyphs.keys().filter(is_new).count(),
        }
    }

    fn text(&self, font: &Font, path: &Path) -> String {
        let Self {
            cell,
            origin,
            shown,
            new,
        } = self;
        let has = |character: &char| {
            let mut glyphs = font.glyphs().iter();
            glyphs.any(|glyph| glyph.characters.contains(character))
        };
        let all: usize = font.glyphs().iter().map(|it| it.characters.len()).sum();
        let missing: String = ('!'..='~').filter(|it| !has(it)).collect();
        let missing = if missing.is_empty() {
            "all of printable ASCII is there".to_owned()
        } else {
            format!("of printable ASCII these are missing: {missing}")
        };
        format!(
            "Found the text at {origin}, in cells of {cell}: {shown} characters, {new} of them new.\n\
             {} has {all} characters now; {missing}.",
            path.display()
        )
    }
}

/// A name that is a file's, too.
fn name(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() <= 64 && text.chars().all(is_fine) && !text.starts_with('.') && !text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err(
            "a font's name has up to 64 letters, digits and - _ . and does not begin with a point"
                .to_owned(),
        )
    }
}

fn cell(text: &str) -> Result<ScreenSize, String> {
    let split = text.split_once(['x', '×']);
    let size = split.and_then(|(width, height)| {
        Some(ScreenSize {
            width: width.parse().ok()?,
            height: height.parse().ok()?,
        })
    });
    size.ok_or_else(|| "a cell is its width and height in pixels, such as 8x16".to_owned())
}

fn origin(text: &str) -> Result<Point, String> {
    let split = text.split_once(',');
    let point = split.and_then(|(x, y)| {
        let edge = |text: &str| text.trim().parse().ok().filter(|edge| *edge >= 0);
        Some(Point {
            x: edge(x)?,
            y: edge(y)?,
        })
    });
    point.ok_or_else(|| "an origin is a pixel, such as 240,105".to_owned())
}
