//! The fonts that screens are read with: what comes with this program, what the host has, and what was
//! learned.
//!
//! A file that is no font is told once and left out: it is no reason to read nothing.

mod learned;

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use crate::cells::{Font, FontError, Fonts};
pub use learned::{SaveError, existing, learned_file, learned_folder, save};

/// Glyphs that no file of a host has. `docs/fonts.md` tells where each comes from.
const BUILT_IN: &[(&str, &[u8])] = &[
    ("edk2-8x19", include_bytes!("data/edk2-8x19.psf")),
    ("linux-8x16", include_bytes!("data/linux-8x16.psf")),
];

/// Where distributions keep the fonts of consoles: Debian, Fedora and SUSE, Arch.
const FOLDERS: [&str; 4] = [
    "/usr/share/consolefonts",
    "/usr/share/kbd/consolefonts",
    "/usr/lib/kbd/consolefonts",
    "/lib/kbd/consolefonts",
];

/// Where QEMU's VGA BIOS is. All of SeaBIOS's have the same fonts, so the first one that is there does.
const VGA_BIOS: [&str; 4] = [
    "/usr/share/seabios/vgabios-stdvga.bin",
    "/usr/share/seavgabios/vgabios-stdvga.bin",
    "/usr/share/qemu/vgabios-stdvga.bin",
    "/usr/share/qemu-kvm/vgabios-stdvga.bin",
];

/// Where GRUB keeps the font of its graphical menus, GNU Unifont.
const GRUB: [&str; 3] = [
    "/usr/share/grub/unicode.pf2",
    "/boot/grub/fonts/unicode.pf2",
    "/boot/grub2/fonts/unicode.pf2",
];

/// Endings of files with fonts, packed or not.
const ENDINGS: [&str; 3] = [".psf", ".psfu", ".fnt"];

/// No font's file is larger by far; who knows what else lies in a folder.
const MAX_FILE: u64 = 2 << 20;

/// GRUB's has 57,000 glyphs in 2.4 MB.
const MAX_GRUB: u64 = 16 << 20;

/// All fonts of this host, loaded when first asked for.
#[derive(Debug, Clone)]
pub struct HostFonts {
    learned: PathBuf,
    loaded: Arc<OnceLock<Fonts>>,
}

/// Why a file gives no font.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read")]
    Unread(#[source] io::Error),
    #[error("it is too large for a font")]
    TooLarge,
    #[error("it is no regular file")]
    NoFile,
    #[error("it is no font")]
    NoFont(#[source] FontError),
}

impl HostFonts {
    /// With the fonts that were learned into a folder, which need not be there.
    pub fn new(learned: impl Into<PathBuf>) -> Self {
        Self {
            learned: learned.into(),
            loaded: Arc::default(),
        }
    }

    /// Blocks while they are loaded, the first time.
    pub fn get(&self) -> &Fonts {
        self.loaded.get_or_init(|| load(&self.learned))
    }
}

fn load(learned: &Path) -> Fonts {
    let mut fonts = folder(learned);
    fonts.extend(BUILT_IN.iter().filter_map(|(name, bytes)| {
        let font = Font::from_psf(*name, bytes);
        told(Path::new(name), font.map_err(Unusable::NoFont))
    }));
    fonts.extend(vga_bios());
    let mut of_host: Vec<Font> = FOLDERS
        .iter()
        .flat_map(|it| folder(Path::new(it)))
        .collect();
    of_host.sort_by_key(|font| likelihood(font.name()));
    fonts.extend(of_host);
    // Most of its letters are those of a console's font, which is likelier.
    fonts.extend(grub());
    // One font can lie in several folders, and under several names.
    let mut known = HashSet::new();
    let is_new: Vec<bool> = fonts
        .iter()
        .map(|font| known.insert((font.cell().to_string(), font.glyphs())))
        .collect();
    let mut is_new = is_new.into_iter();
    fonts.retain(|_| is_new.next().unwrap_or(true));
    Fonts::new(fonts)
}

/// Debian's names begin with the repertoire: what most guests have, and has most characters, comes first.
fn likelihood(name: &str) -> u8 {
    match name.split('-').next() {
        Some("Uni2") => 0,
        Some("Lat15") => 1,
        Some("Uni1" | "Uni3") => 2,
        _ => 3,
    }
}

fn vga_bios() -> Vec<Font> {
    let Some(path) = VGA_BIOS.iter().map(Path::new).find(|path| path.exists()) else {
        return vec![];
    };
    let fonts = contents(path, MAX_FILE).and_then(|bytes| {
        let fonts = Font::from_vga_bios("SeaBIOS", &bytes);
        fonts.map_err(Unusable::NoFont)
    });
    told(path, fonts).unwrap_or_default()
}

fn grub() -> Option<Font> {
    let path = GRUB.iter().map(Path::new).find(|path| path.exists())?;
    let font = contents(path, MAX_GRUB)
        .and_then(|bytes| Font::from_pf2("GRUB-Unifont", &bytes).map_err(Unusable::NoFont));
    told(path, font)
}

/// The fonts of a folder, by name.
fn folder(path: &Path) -> Vec<Font> {
    let Ok(entries) = fs::read_dir(path) else {
        return vec![];
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<(String, PathBuf)> = paths
        .filter_map(|path| Some((font_name(&path)?, path)))
        .collect();
    files.sort();
    let fonts = files.into_iter().filter_map(|(name, path)| {
        let font = contents(&path, MAX_FILE)
            .and_then(|bytes| Font::from_psf(name, &bytes).map_err(Unusable::NoFont));
        told(&path, font)
    });
    fonts.collect()
}

/// The name of a font's file without its endings; `None` where it is no font's.
fn font_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let stem = ENDINGS.iter().find_map(|end| name.strip_suffix(end));
    stem.filter(|stem| !stem.is_empty()).map(str::to_owned)
}

fn contents(path: &Path, most: u64) -> Result<Vec<u8>, Unusable> {
    let about = fs::metadata(path).map_err(Unusable::Unread)?;
    // Reading a pipe would never end.
    if !about.is_file() {
        return Err(Unusable::NoFile);
    }
    if about.len() > most {
        return Err(Unusable::TooLarge);
    }
    fs::read(path).map_err(Unusable::Unread)
}

fn told<T>(path: &Path, font: Result<T, Unusable>) -> Option<T> {
    font.inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        tracing::warn!(file = %path.display(), error, "a font is left out");
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PSF font of 256 glyphs for text mode, each with its code and `mark` in it.
    fn font(mark: u8) -> Vec<u8> {
        let glyphs = (0..=u8::MAX).flat_map(|code| [code, mark, 0, 0, 0, 0, 0, 0]);
        [0x36, 0x04, 0, 8].into_iter().chain(glyphs).collect()
    }

    fn names(fonts: &[Font]) -> Vec<&str> {
        fonts.iter().map(Font::name).collect()
    }

    #[test]
    fn files_that_are_no_fonts_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        put("second.psfu", &font(2));
        put("first.psf", &font(1));
        put("cut.psf", &font(3)[..100]);
        put("empty.psf", b"");
        put("damaged.psf.gz", b"\x1f\x8bno");
        put(
            "large.fnt",
            &vec![0; usize::try_from(MAX_FILE).unwrap() + 1],
        );
        put(".psf", &font(4));
        put("README", &font(5));
        put("desktop.ttf", &font(6));
        fs::create_dir(folder.path().join("folder.psf")).unwrap();
        let gone = folder.path().join("nowhere");
        std::os::unix::fs::symlink(&gone, folder.path().join("dangling.psf")).unwrap();
        assert_eq!(names(&super::folder(folder.path())), ["first", "second"]);
        assert_eq!(names(&super::folder(&gone)), [""; 0]);
    }

    #[test]
    fn learned_fonts_come_first_and_each_font_once() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mark) in [("b", 2), ("a", 1), ("copy of a", 1)] {
            fs::write(folder.path().join(name).with_extension("psf"), font(mark)).unwrap();
        }
        let host = HostFonts::new(folder.path());
        let fonts = names(host.get().all());
        assert_eq!(fonts[..2], ["a", "b"]);
        assert!(!fonts.contains(&"copy of a"));
        let built_in: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        assert_eq!(fonts[2..][..built_in.len()], built_in);
    }

    #[test]
    fn likely_fonts_are_before_others() {
        let mut names = [
            "Thai-Fixed16",
            "Lat15-VGA16",
            "Uni3-Fixed16",
            "Uni2-Fixed16",
            "Uni1-VGA16",
        ];
        names.sort_by_key(|name| likelihood(name));
        let expected = [
            "Uni2-Fixed16",
            "Lat15-VGA16",
            "Uni3-Fixed16",
            "Uni1-VGA16",
            "Thai-Fixed16",
        ];
        assert_eq!(names, expected);
    }
}
