use super::*;

const SCREEN: ScreenSize = ScreenSize {
    width: 640,
    height: 400,
};
const GREY: [u8; 3] = [0xaa; 3];
const BLACK: [u8; 3] = [0; 3];
const TEXT: &str = "two words and two more\nwords that are two more";

fn firmware() -> (Font, &'static str) {
    let psf = include_bytes!("../../fonts/data/edk2-8x19.psf");
    let text = include_str!("../../fonts/data/edk2-8x19.txt");
    (Font::from_psf("firmware", psf).unwrap(), text)
}

fn kernel() -> (Font, &'static str) {
    let psf = include_bytes!("../../fonts/data/linux-8x16.psf");
    let text = include_str!("../../fonts/data/linux-8x16.txt");
    (Font::from_psf("kernel", psf).unwrap(), text)
}

/// A screen's pixels.
struct Canvas(Vec<[u8; 3]>);

impl Canvas {
    fn new() -> Self {
        let pixels = SCREEN.width * SCREEN.height;
        Self(vec![BLACK; pixels as usize])
    }

    fn fill(&mut self, x: u32, y: u32, size: ScreenSize, colour: [u8; 3]) {
        for y in y..y + size.height {
            let start = (y * SCREEN.width + x) as usize;
            self.0[start..start + size.width as usize].fill(colour);
        }
    }

    fn draw(&mut self, font: &Font, text: &str, x: u32, y: u32, ink: [u8; 3]) {
        let cell = font.cell();
        for (line, row) in text.lines().zip(0..) {
            for (character, column) in line.chars().zip(0..) {
                let mut glyphs = font.glyphs().iter();
                let glyph = glyphs
                    .find(|it| it.characters.contains(&character))
                    .unwrap();
                let stride = cell.width.div_ceil(8);
                for (down, across) in
                    (0..cell.height).flat_map(|y| (0..cell.width).map(move |x| (y, x)))
                {
                    let byte = glyph.bitmap[(down * stride + across / 8) as usize];
                    if byte & (0x80 >> (across % 8)) != 0 {
                        let x = x + column * cell.width + across;
                        let y = y + row * cell.height + down;
                        self.0[(y * SCREEN.width + x) as usize] = ink;
                    }
                }
            }
        }
    }

    fn picture(&self) -> Picture {
        let mut ppm = format!("P6 {} {} 255\n", SCREEN.width, SCREEN.height).into_bytes();
        ppm.extend(self.0.as_flattened());
        Picture::decode("image/x-portable-pixmap", ppm).unwrap()
    }
}

fn shown(font: &Font, text: &str, x: u32, y: u32) -> Picture {
    let mut canvas = Canvas::new();
    canvas.draw(font, text, x, y, GREY);
    canvas.picture()
}

fn known_text(text: &str) -> KnownText {
    KnownText::parse(text).unwrap()
}

fn at(x: i32, y: i32) -> Place {
    Place {
        origin: Some(Point { x, y }),
        cell: None,
    }
}

#[test]
fn a_whole_font_is_learned_from_where_its_text_stands() {
    for ((font, text), x, y) in [(firmware(), 40, 105), (kernel(), 0, 16)] {
        let picture = shown(&font, text, x, y);
        let learned = learn(&picture, &known_text(text), Place::default(), None).unwrap();
        let origin = (
            learned.origin.x.unsigned_abs(),
            learned.origin.y.unsigned_abs(),
        );
        assert_eq!((origin, learned.cell), ((x, y), font.cell()));
        let again = learned.into_font("again", None).unwrap();
        assert_eq!(again.to_psf(), font.to_psf(), "{}", font.name());
    }
}

#[test]
fn a_file_that_is_written_is_the_font_that_was() {
    for (font, _) in [firmware(), kernel()] {
        let again = Font::from_psf(font.name(), &font.to_psf()).unwrap();
        assert_eq!((again.cell(), again.glyphs()), (font.cell(), font.glyphs()));
    }
    // Cells of more than eight columns, of no whole bytes.
    let cell = ScreenSize {
        width: 11,
        height: 6,
    };
    let glyphs = [([0x80, 0x20].repeat(6), vec!['É', 'x'])];
    let font = Font::new("wide", cell, glyphs).unwrap();
    let again = Font::from_psf("wide", &font.to_psf()).unwrap();
    assert_eq!((again.cell(), again.glyphs()), (cell, font.glyphs()));
}

#[test]
fn text_in_a_window_is_learned_beside_other_text() {
    let (font, _) = kernel();
    let mut canvas = Canvas::new();
    canvas.fill(0, 0, SCREEN, [0, 0, 0xaa]);
    canvas.draw(
        &font,
        "a menu's head line\nand another one",
        0,
        0,
        [0xff; 3],
    );
    canvas.fill(
        80,
        96,
        ScreenSize {
            width: 320,
            height: 160,
        },
        GREY,
    );
    canvas.draw(&font, TEXT, 96, 112, BLACK);
    let picture = canvas.picture();
    let learned = learn(&picture, &known_text(TEXT), Place::default(), None).unwrap();
    assert_eq!(
        (learned.origin, learned.cell),
        (Point { x: 96, y: 112 }, font.cell())
    );
    let characters: String = learned.glyphs.keys().collect();
    assert_eq!(characters, "adehmnorstw");
    for (character, bitmap) in learned.glyphs {
        let mut glyphs = font.glyphs().iter();
        let glyph = glyphs.find(|it| it.characters.contains(&character));
        assert_eq!(
            Some(bitmap),
            glyph.map(|it| it.bitmap.clone()),
            "{character}"
        );
    }
}

#[test]
fn what_contradicts_is_told_with_its_place() {
    let (font, _) = kernel();
    let wrong = |shown_text: &str, text: &str| {
        let picture = shown(&font, shown_text, 16, 32);
        let cell = Some(font.cell());
        let place = Place { cell, ..at(16, 32) };
        learn(&picture, &known_text(text), place, None)
            .unwrap_err()
            .to_string()
    };
    let begin = "the known text is not what the picture shows at 16,32 in cells of 8×16: ";
    let cases = [
        (
            "abab\nabxb",
            "abab\nabab",
            "`a` looks otherwise in line 2, column 3 (at 32,48) than in line 1, column 1 (at 16,32)",
        ),
        (
            "ab ab",
            "abcab",
            "nothing is drawn in line 1, column 3 (at 32,32), where `c` should be",
        ),
        (
            "abcab",
            "ab ab",
            "something is drawn in line 1, column 3 (at 32,32), where a blank should be",
        ),
        (
            "aXb",
            "a│b",
            "what is drawn in line 1, column 2 (at 24,32) does not reach the edges of its cell, as `│` does",
        ),
        ("????", "abcd", "a b c d look the same"),
    ];
    for (shown, text, fault) in cases {
        assert_eq!(wrong(shown, text), format!("{begin}{fault}"));
    }
    let mut canvas = Canvas::new();
    canvas.draw(&font, "ab", 16, 32, GREY);
    canvas.fill(
        17,
        40,
        ScreenSize {
            width: 1,
            height: 1,
        },
        [1, 2, 3],
    );
    let place = Place {
        cell: Some(font.cell()),
        ..at(16, 32)
    };
    let error = learn(&canvas.picture(), &known_text("ab"), place, None).unwrap_err();
    let fault =
        "there are more than two colours in line 1, column 1 (at 16,32), where `a` should be";
    assert_eq!(error.to_string(), format!("{begin}{fault}"));
}

#[test]
fn what_is_not_there_or_fits_in_several_places_is_not_learned() {
    let (font, _) = kernel();
    let learn = |picture: &Picture, text: &str, place| {
        learn(picture, &known_text(text), place, None).unwrap_err()
    };
    let other = shown(&font, "nothing of the kind\nhere or there", 0, 0);
    let error = learn(&other, TEXT, Place::default());
    assert!(
        matches!(&error, LearnError::NotFound { cells } if cells.len() > 10),
        "{error}"
    );
    // No glyph of it reaches an edge of its cell.
    let error = learn(&shown(&font, TEXT, 21, 33), TEXT, Place::default());
    let LearnError::Ambiguous { places } = &error else {
        panic!("{error}");
    };
    assert!(
        places.contains(&(font.cell(), Point { x: 21, y: 33 })),
        "{error}"
    );
    let error = learn(&other, "abc", Place::default());
    assert_eq!(error, LearnError::TooFewRepeats(0));
    let cell = ScreenSize {
        width: 2,
        height: 6,
    };
    let place = Place {
        cell: Some(cell),
        origin: None,
    };
    assert_eq!(learn(&other, TEXT, place), LearnError::BadCell { cell });
    for (x, y) in [(600, 0), (0, 392), (640, 400), (i32::MAX, i32::MAX)] {
        let error = learn(&other, TEXT, at(x, y));
        assert!(matches!(&error, LearnError::TooLarge { .. }), "{error}");
    }
    let long = "word ".repeat(40);
    let error = learn(&other, &long, Place::default());
    assert!(matches!(&error, LearnError::TooLarge { .. }), "{error}");
}

#[test]
fn a_font_is_learned_on_where_it_looks_as_before() {
    let (font, _) = kernel();
    let first = learn(
        &shown(&font, TEXT, 0, 0),
        &known_text(TEXT),
        Place::default(),
        None,
    );
    let first = first.unwrap().into_font("font", None).unwrap();
    // Where its cells are is told by what is known already.
    let more = "more letters are here\nand there are more words";
    let learned = learn(
        &shown(&font, more, 21, 33),
        &known_text(more),
        Place::default(),
        Some(&first),
    );
    let learned = learned.unwrap();
    assert_eq!(learned.origin, Point { x: 21, y: 33 });
    let both = learned.into_font("font", Some(&first)).unwrap();
    let characters = |font: &Font| -> String {
        let mut all: Vec<char> = font
            .glyphs()
            .iter()
            .flat_map(|it| it.characters.clone())
            .collect();
        all.sort_unstable();
        all.into_iter().collect()
    };
    assert_eq!(characters(&first), " adehmnorstw");
    assert_eq!(characters(&both), " adehlmnorstw");

    let place = Place {
        cell: Some(font.cell()),
        ..at(0, 0)
    };
    let error = learn(
        &shown(&font, "xb", 0, 0),
        &known_text("ab"),
        place,
        Some(&first),
    )
    .unwrap_err();
    let fault =
        "`a` looks otherwise in line 1, column 1 (at 0,0) than in the font that is learned on";
    assert!(error.to_string().ends_with(fault), "{error}");
    let cell = ScreenSize {
        width: 8,
        height: 19,
    };
    let place = Place {
        cell: Some(cell),
        origin: None,
    };
    let error = learn(
        &shown(&font, TEXT, 0, 0),
        &known_text(TEXT),
        place,
        Some(&first),
    )
    .unwrap_err();
    assert_eq!(
        error,
        LearnError::OtherCell {
            known: font.cell(),
            cell
        }
    );
}

#[test]
fn a_cell_that_the_text_leaves_out_may_show_anything() {
    let (font, _) = kernel();
    let picture = shown(&font, "ab_ab", 0, 0);
    let place = Place {
        cell: Some(font.cell()),
        ..at(0, 0)
    };
    let learned = learn(&picture, &known_text("ab\u{fffd}ab"), place, None).unwrap();
    assert_eq!(learned.glyphs.keys().collect::<String>(), "ab");
}

#[test]
fn a_text_is_lines_of_cells() {
    let text = KnownText::parse("\u{feff}\r\n\n  ab \r\n\nc\n\n").unwrap();
    let cells: Vec<_> = text.cells().collect();
    assert_eq!(cells, [(0, 2, 'a'), (0, 3, 'b'), (2, 0, 'c')]);
    assert_eq!((text.rows(), text.columns()), (3, 4));
    assert_eq!(KnownText::parse(" \n\n"), Err(LearnError::NoText));
    let bad = KnownText::parse("ab\n\tc");
    assert_eq!(
        bad,
        Err(LearnError::BadCharacter {
            character: '\t',
            line: 2
        })
    );
}
