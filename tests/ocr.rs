//! Reading pictures with Tesseract, and with programs that stand in for it where it would not fail.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use virtpilot::{
    image::Picture,
    model::{OcrLanguage, Reader, Region},
    ocr::{Ocr, OcrError},
};

const LONG: Duration = Duration::from_mins(2);

/// A picture of text in a font of 8×16 pixels, each line with its colour of ink and of ground.
fn picture(lines: &[(&str, [u8; 3], [u8; 3])]) -> Arc<Picture> {
    const WIDTH: usize = 640;
    let high = lines.len() * 24;
    let mut rgb = vec![0; WIDTH * high * 3];
    for (row, (text, ink, ground)) in lines.iter().enumerate() {
        for y in 0..24 {
            for x in 0..WIDTH {
                let column = x / 8;
                let glyph = text.as_bytes().get(column.wrapping_sub(2)).copied();
                let is_ink = glyph.is_some_and(|glyph| {
                    (4..20).contains(&y)
                        && FONT[(usize::from(glyph) - 32) * 16 + y - 4] >> (7 - x % 8) & 1 == 1
                });
                let at = ((row * 24 + y) * WIDTH + x) * 3;
                rgb[at..at + 3].copy_from_slice(if is_ink { ink } else { ground });
            }
        }
    }
    let ppm = [format!("P6 {WIDTH} {high} 255\n").as_bytes(), &rgb].concat();
    Arc::new(Picture::decode("image/x-portable-pixmap", ppm).unwrap())
}

/// The printable characters of ASCII from the console font that Debian uses, as its package has it.
static FONT: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
    const FILE: &str = "/usr/share/consolefonts/Lat15-Terminus16.psf.gz";
    let unpacked = std::process::Command::new("gzip")
        .args(["-dc", FILE])
        .output()
        .unwrap();
    let psf = unpacked.stdout;
    assert_eq!(psf[..2], [0x36, 0x04], "{FILE} is no PSF of version 1");
    assert_eq!(psf[3], 16, "{FILE} has another height");
    psf[4 + 32 * 16..4 + 127 * 16].to_vec()
});

fn ocr() -> Ocr {
    Ocr::by(Path::new("tesseract"), OcrLanguage::default(), LONG)
}

/// A program that stands in for Tesseract, as a shell script; `$0.log` has a line for each start of it.
fn stand_in(folder: &TempDir, script: &str) -> PathBuf {
    let path = folder.path().join("tesseract");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = --list-langs ] && {{ echo 'List of languages:'; echo eng; exit; }}\n\
         echo $$ >> \"$0.log\"\n{script}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn starts(program: &Path) -> Vec<String> {
    let log = fs::read_to_string(program.with_extension("log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

const BLACK: [u8; 3] = [0; 3];
const WHITE: [u8; 3] = [255; 3];

#[tokio::test]
async fn dark_light_and_faint_lines_are_read_where_they_stand() {
    let shown = [
        ("The quick brown fox jumps over", BLACK, WHITE),
        ("Password for the administrator", WHITE, [20, 40, 120]),
        ("Installation is complete", [150, 150, 150], [230, 230, 230]),
    ];
    let past = ocr().read(picture(&shown), None).await.unwrap();
    let reading = past.reading();
    assert_eq!(reading.reader, Reader::Ocr);
    let read: Vec<_> = reading
        .lines
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(read, shown.map(|(text, ..)| text));
    for (row, (line, (text, ..))) in (0..).zip(reading.lines.iter().zip(shown)) {
        let columns = text.split(' ').scan(2, |at, word| {
            let from = *at;
            *at += word.len() + 1;
            Some((from * 8, (from + word.len()) * 8))
        });
        for (word, (x0, x1)) in line.words.iter().zip(columns) {
            // The cells of its letters, with a pixel to spare where it was scaled.
            let cells = Region::from([
                i32::try_from(x0).unwrap() - 1,
                row * 24 + 3,
                i32::try_from(x1).unwrap() + 1,
                row * 24 + 21,
            ]);
            assert_eq!(
                cells.around(word.area),
                cells,
                "{}",
                &line.text[word.at.clone()]
            );
            assert!(word.confidence > 50, "{word:?}");
        }
        assert_eq!(line.words.len(), text.split(' ').count());
    }
}

#[tokio::test]
async fn what_was_read_before_is_not_read_again_wherever_it_is_now() {
    let folder = TempDir::new().unwrap();
    // It tells how many pages it was given, as one word for each.
    let script = "pages=$(tesseract \"$@\" | tee \"$0.out\" | cut -f 2 | sort -n | tail -n 1)\n\
                  echo \"$pages\" >> \"$0.pages\"; cat \"$0.out\"";
    // One process only, so that the shares do not mix.
    let program = stand_in(&folder, &format!("exec 9> \"$0.lock\"; flock 9\n{script}"));
    let ocr = Ocr::by(&program, OcrLanguage::default(), LONG);
    let one = ("first line here", BLACK, WHITE);
    let two = ("second line there", BLACK, WHITE);
    let three = ("third line is new", BLACK, WHITE);
    let past = ocr.read(picture(&[one, two]), None).await.unwrap();
    let pages = || -> u32 {
        let told = fs::read_to_string(folder.path().join("tesseract.pages")).unwrap();
        told.lines().map(|line| line.parse::<u32>().unwrap()).sum()
    };
    assert_eq!(pages(), 2);
    let same = ocr.read(picture(&[one, two]), Some(&past)).await.unwrap();
    assert_eq!(same.reading(), past.reading());
    assert_eq!(pages(), 2, "nothing changed");
    let moved = ocr.read(picture(&[two, three]), Some(&past)).await.unwrap();
    assert_eq!(pages(), 3, "one line is new");
    let read: Vec<_> = moved
        .reading()
        .lines
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(read, [two.0, three.0]);
}

#[tokio::test]
async fn an_empty_picture_starts_nothing() {
    let folder = TempDir::new().unwrap();
    let program = stand_in(&folder, "exit 1");
    let ocr = Ocr::by(&program, OcrLanguage::default(), LONG);
    let past = ocr
        .read(picture(&[("", BLACK, WHITE)]), None)
        .await
        .unwrap();
    assert_eq!(past.reading().lines, []);
    assert_eq!(starts(&program), [""; 0]);
}

#[tokio::test]
async fn a_reading_that_nobody_waits_for_ends_its_processes() {
    let folder = TempDir::new().unwrap();
    let program = stand_in(&folder, "exec sleep 1000");
    let ocr = Arc::new(Ocr::by(&program, OcrLanguage::default(), LONG));
    let shown = picture(&[
        ("hello there", BLACK, WHITE),
        ("good evening", BLACK, WHITE),
    ]);
    let reading = tokio::spawn({
        let ocr = Arc::clone(&ocr);
        async move { ocr.read(shown, None).await.map(drop) }
    });
    while starts(&program).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    // It waits as long as it takes: what does not end is seen by the test's own time limit.
    for pid in starts(&program) {
        let stat = PathBuf::from(format!("/proc/{pid}/cmdline"));
        while fs::read(&stat).is_ok_and(|it| !it.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_pattern_that_could_be_thousands_of_letters_is_refused() {
    let (width, height) = (2560, 1440);
    let mut ppm = format!("P6 {width} {height} 255\n").into_bytes();
    for y in 0..height {
        for x in 0..width {
            let is_ink = x % 40 < 5 && y % 14 < 7 && (x + y) % 5 != 0;
            ppm.extend([if is_ink { 0 } else { 255 }; 3]);
        }
    }
    let picture = Picture::decode("image/x-portable-pixmap", ppm).unwrap();
    let read = ocr().read(Arc::new(picture), None).await;
    assert!(matches!(read, Err(OcrError::TooMuch)), "{read:?}");
}

#[tokio::test]
async fn failures_say_what_is_missing() {
    let shown = picture(&[("hello there", BLACK, WHITE)]);
    let absent = Ocr::by(
        Path::new("/nonexistent/tesseract"),
        OcrLanguage::default(),
        LONG,
    );
    let error = absent.read(Arc::clone(&shown), None).await.unwrap_err();
    assert!(matches!(error, OcrError::Missing { .. }), "{error:?}");
    assert!(error.hint().contains("apt-get install tesseract-ocr"));

    let folder = TempDir::new().unwrap();
    let program = stand_in(&folder, "echo first >&2; echo 'last words' >&2; exit 3");
    let strange = Ocr::by(&program, "eng+tlh".parse().unwrap(), LONG);
    let error = strange.read(Arc::clone(&shown), None).await.unwrap_err();
    let OcrError::Language {
        missing, installed, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        (missing.as_str(), installed.as_slice()),
        ("tlh", &["eng".to_owned()][..])
    );
    assert!(error.hint().contains("apt-get install tesseract-ocr-tlh"));

    let failing = Ocr::by(&program, OcrLanguage::default(), LONG);
    let error = failing.read(Arc::clone(&shown), None).await.unwrap_err();
    assert_eq!(error.to_string(), "Tesseract failed: last words");

    let program = stand_in(&folder, "exec sleep 1000");
    let slow = Ocr::by(&program, OcrLanguage::default(), Duration::from_millis(300));
    let error = slow.read(shown, None).await.unwrap_err();
    assert!(matches!(error, OcrError::Slow { .. }), "{error:?}");
}
