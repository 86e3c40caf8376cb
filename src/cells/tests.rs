//! Screens drawn here with a font that is made up, and read again.

use super::*;
use crate::{
    image::Picture,
    model::{Point, ScreenSize},
};

const CELL: ScreenSize = ScreenSize {
    width: 8,
    height: 16,
};
const BLACK: Colour = [0; 3];
const GREY: Colour = [0xaa; 3];
const RED: Colour = [0xaa, 0, 0];
const WHITE: Colour = [0xff; 3];

/// A glyph for each of these characters, unlike every other one: its code in the ink of its middle rows.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789:.#";

fn bitmap(character: char) -> Vec<u8> {
    let mut rows = vec![0; 16];
    let [low, high, ..] = u32::from(character).to_le_bytes();
    for (at, row) in rows[3..13].iter_mut().enumerate() {
        *row = 0x40 | (low.rotate_left(u32::try_from(at).unwrap()) & 0x3e) | (high & 0x1c);
    }
    rows
}

fn half(from: usize) -> Vec<u8> {
    let row = |row| {
        if (from..from + 8).contains(&row) {
            0xff
        } else {
            0
        }
    };
    (0..16).map(row).collect()
}

fn font(name: &str, letters: &str) -> Font {
    let letters = letters.chars().map(|it| (bitmap(it), vec![it]));
    let others = [
        (vec![0; 16], vec![' ']),
        (vec![0xff; 16], vec!['█']),
        (half(0), vec!['▀']),
        (half(8), vec!['▄']),
        (dot(), vec!['•']),
        (dot().iter().map(|row| !row).collect(), vec!['◘']),
        (vec![0x10; 16], vec!['│']),
    ];
    Font::new(name, CELL, letters.chain(others)).unwrap()
}

fn dot() -> Vec<u8> {
    let row = |row| if (6..10).contains(&row) { 0x3c } else { 0 };
    (0..16).map(row).collect()
}

fn fonts() -> Fonts {
    Fonts::new(vec![font("made-up", LETTERS)])
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![BLACK; width * height],
        }
    }

    /// Draws a glyph with its upper left corner at a pixel, its columns to the right of it.
    fn draw(&mut self, at: (usize, usize), rows: &[u8], colours: [Colour; 2]) {
        for (y, row) in rows.iter().enumerate() {
            for x in 0..8 {
                let colour = colours[usize::from(row & (0x80 >> x) == 0)];
                self.pixels[(at.1 + y) * self.width + at.0 + x] = colour;
            }
        }
    }

    fn text(&mut self, at: (usize, usize), text: &str, colours: [Colour; 2]) {
        for (column, character) in text.chars().enumerate() {
            if character != ' ' {
                self.draw((at.0 + column * 8, at.1), &bitmap(character), colours);
            }
        }
    }

    fn picture(&self) -> Picture {
        let header = format!("P6 {} {} 255\n", self.width, self.height);
        let bytes = [header.as_bytes(), self.pixels.as_flattened()].concat();
        Picture::decode("image/x-portable-pixmap", bytes).unwrap()
    }
}

fn lines(screen: &CellScreen) -> Vec<String> {
    let lines = screen.to_reading().lines;
    lines.into_iter().map(|line| line.text).collect()
}

fn pointed(x: i32, y: i32) -> Point {
    Point { x, y }
}

#[test]
fn a_console_is_read_with_its_colours_and_places() {
    let mut canvas = Canvas::new(645, 405);
    canvas.text((0, 0), "debian 12 demo", [GREY, BLACK]);
    canvas.text((16, 64), "login: root", [WHITE, RED]);
    // Under the cursor: no glyph.
    canvas.draw((16 + 12 * 8, 64), &[0xf0; 16], [GREY, BLACK]);
    let screen = read(&canvas.picture(), &fonts(), None).unwrap();
    let grid = Grid {
        origin: pointed(0, 0),
        cell: CELL,
        columns: 80,
        rows: 25,
        font: "made-up".to_owned(),
    };
    assert_eq!(screen.grid, grid);
    assert_eq!((screen.read(), screen.unreadable()), (22, 1));
    let cell = |column: usize, row: usize| screen.cells[row * 80 + column];
    let (foreground, background) = (WHITE, RED);
    assert_eq!(
        cell(2, 4),
        Cell {
            character: 'l',
            foreground,
            background
        }
    );
    let blank = Cell {
        character: ' ',
        foreground: BLACK,
        background: BLACK,
    };
    assert_eq!(cell(79, 24), blank);

    let reading = screen.to_reading();
    assert_eq!(reading.reader, Reader::Cells(grid));
    let texts: Vec<&str> = reading
        .lines
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(texts, ["debian 12 demo", "  login: root \u{fffd}"]);
    let words: Vec<_> = reading.lines[1]
        .words
        .iter()
        .map(|word| (&texts[1][word.at.clone()], word.area.to_string()))
        .collect();
    let expected = [
        ("login:", "[16, 64, 64, 80]"),
        ("root", "[72, 64, 104, 80]"),
        ("\u{fffd}", "[112, 64, 120, 80]"),
    ];
    assert_eq!(words, expected.map(|(word, area)| (word, area.to_owned())));
}

#[test]
fn a_lone_prompt_is_a_console() {
    for prompt in ["login:", "#", "a"] {
        let mut canvas = Canvas::new(640, 400);
        canvas.text((0, 32), prompt, [GREY, BLACK]);
        let end = prompt.chars().count() * 8;
        canvas.draw((end + 8, 32), &[0xf0; 12], [GREY, BLACK]);
        let screen = read(&canvas.picture(), &fonts(), None).unwrap();
        assert_eq!(lines(&screen), [format!("{prompt} \u{fffd}")]);
    }
}

#[test]
fn a_picture_of_anything_else_is_refused() {
    let refused = |canvas: &Canvas| read(&canvas.picture(), &fonts(), None).is_none();
    let empty = Canvas::new(640, 400);
    assert!(refused(&empty), "nothing is there");

    let mut lines = Canvas::new(640, 400);
    for row in 0..25 {
        lines.draw((80, row * 16), &[0x10; 16], [GREY, BLACK]);
    }
    assert!(refused(&lines), "a line is no text");

    let mut noise = Canvas::new(640, 400);
    for (at, pixel) in noise.pixels.iter_mut().enumerate() {
        let byte = |by: usize| u8::try_from(at * by / 7 % 251).unwrap();
        *pixel = [byte(3), byte(17), byte(101)];
    }
    assert!(refused(&noise), "a photograph");

    // A terminal of the console's own font, beside a window with other things, wherever they are.
    for (x, y) in [(83, 101), (80, 96)] {
        let mut desktop = Canvas::new(640, 400);
        for row in 0..5 {
            desktop.text((x, y + row * 16), "total 12 lines of text", [GREY, BLACK]);
            for column in 0..8 {
                let odd = [u8::try_from(row * 7 + column).unwrap() | 0x81; 16];
                desktop.draw((300 + column * 8, 200 + row * 16), &odd, [WHITE, RED]);
            }
        }
        assert!(refused(&desktop), "a desktop with a terminal at {x},{y}");
    }

    let tiny = Canvas::new(7, 15);
    assert!(refused(&tiny), "not one cell");
    let one = Canvas::new(1, 1);
    assert!(refused(&one), "one pixel");
}

#[test]
fn cells_that_begin_elsewhere_are_found() {
    let mut canvas = Canvas::new(700, 420);
    canvas.text((43, 25), "press a key to go on", [GREY, BLACK]);
    canvas.text((51, 57), "or wait", [GREY, BLACK]);
    let screen = read(&canvas.picture(), &fonts(), None).unwrap();
    assert_eq!(lines(&screen), ["press a key to go on", " or wait"]);
    let Grid {
        origin,
        columns,
        rows,
        ..
    } = screen.grid;
    assert_eq!((origin, columns, rows), (pointed(43, 25), 20, 3));
}

#[test]
fn text_beyond_an_earlier_grid_is_read_too() {
    let mut canvas = Canvas::new(700, 420);
    canvas.text((43, 25), "press a key to go on", [GREY, BLACK]);
    let before = read(&canvas.picture(), &fonts(), None).unwrap();
    let again = read(&canvas.picture(), &fonts(), Some(&before.grid)).unwrap();
    assert_eq!(again, before);
    canvas.text((43, 41), "and here is one more line", [GREY, BLACK]);
    let after = read(&canvas.picture(), &fonts(), Some(&before.grid)).unwrap();
    assert_eq!(
        lines(&after),
        ["press a key to go on", "and here is one more line"]
    );
}

#[test]
fn firmware_has_its_cells_in_the_middle() {
    let cell = ScreenSize {
        width: 8,
        height: 19,
    };
    let tall = |rows: Vec<u8>| [rows, vec![0; 3]].concat();
    let glyphs = LETTERS.chars().map(|it| (tall(bitmap(it)), vec![it]));
    let fonts = Fonts::new(vec![Font::new("firmware", cell, glyphs).unwrap()]);
    let cases = [
        ((1280, 800), (240, 105), (100, 31)),
        // Its rows are of another mode, the largest one that this screen has room for.
        ((1280, 800), (0, 1), (160, 42)),
        ((640, 480), (0, 2), (80, 25)),
        ((1024, 768), (0, 4), (128, 40)),
    ];
    for ((width, height), (x, y), mode) in cases {
        let mut canvas = Canvas::new(width, height);
        canvas.text((x + 16, y + 19), "bds: boot device", [GREY, BLACK]);
        let screen = read(&canvas.picture(), &fonts, None).unwrap();
        assert_eq!(lines(&screen), ["  bds: boot device"]);
        let grid = screen.grid;
        let origin = pointed(i32::try_from(x).unwrap(), i32::try_from(y).unwrap());
        assert_eq!((grid.origin, (grid.columns, grid.rows)), (origin, mode));
    }
}

#[test]
fn vga_text_mode_has_cells_of_nine_columns() {
    let mut glyphs: Vec<(Vec<u8>, Vec<char>)> =
        LETTERS.chars().map(|it| (bitmap(it), vec![it])).collect();
    glyphs.resize(0xc4, (vec![0; 16], vec![]));
    let rule: Vec<u8> = (0..16).map(|row| if row == 8 { 0xff } else { 0 }).collect();
    glyphs.push((rule.clone(), vec!['─']));
    let fonts = Fonts::new(vec![Font::new("vga", CELL, glyphs).unwrap()]);
    let mut canvas = Canvas::new(720, 400);
    for (column, character) in "boot: 1".chars().enumerate() {
        if character != ' ' {
            canvas.draw((column * 9, 0), &bitmap(character), [GREY, BLACK]);
        }
    }
    for column in 0..3 {
        // The ninth column is drawn as the eighth.
        canvas.draw((column * 9 + 1, 16), &rule, [GREY, BLACK]);
        canvas.draw((column * 9, 16), &rule, [GREY, BLACK]);
    }
    let screen = read(&canvas.picture(), &fonts, None).unwrap();
    assert_eq!(lines(&screen), ["boot: 1", "───"]);
    let cell = ScreenSize {
        width: 9,
        height: 16,
    };
    assert_eq!((screen.grid.cell, screen.grid.columns), (cell, 80));
}

#[test]
fn a_glyph_is_preferred_to_its_complement() {
    let mut canvas = Canvas::new(640, 400);
    canvas.text((0, 0), "inverse", [BLACK, GREY]);
    canvas.draw((80, 0), &half(0), [GREY, BLACK]);
    canvas.draw((88, 0), &half(8), [GREY, BLACK]);
    canvas.draw((96, 0), &dot(), [GREY, BLACK]);
    canvas.draw((104, 0), &dot(), [BLACK, GREY]);
    canvas.draw((112, 0), &[0xff; 16], [GREY, BLACK]);
    canvas.draw((120, 0), &bitmap('x'), [BLACK, GREY]);
    let screen = read(&canvas.picture(), &fonts(), None).unwrap();
    assert_eq!(lines(&screen), ["inverse   ▀▄•• x"]);
    let colours = |column: usize| {
        let cell = screen.cells[column];
        [cell.foreground, cell.background]
    };
    assert_eq!(colours(0), [BLACK, GREY]);
    for column in 10..=12 {
        assert_eq!(colours(column), [GREY, BLACK], "{column}");
    }
    assert_eq!(colours(13), [BLACK, GREY]);
    assert_eq!(
        colours(14),
        [GREY, GREY],
        "a full block is a blank of its colour"
    );
}

#[test]
fn the_font_that_has_most_of_the_glyphs_is_taken() {
    let fonts = Fonts::new(vec![
        font("few", "abcdefgh"),
        font("first", LETTERS),
        font("second", LETTERS),
    ]);
    let mut canvas = Canvas::new(640, 400);
    canvas.text((0, 0), "abcdefgh abcdefgh abc", [GREY, BLACK]);
    let name = |canvas: &Canvas, hint: Option<&Grid>| {
        let screen = read(&canvas.picture(), &fonts, hint).unwrap();
        (screen.grid.font.clone(), screen.unreadable(), screen.grid)
    };
    let (few, _, _) = name(&canvas, None);
    assert_eq!(few, "few", "all have them, and it is the first");
    canvas.text((0, 16), "xyz", [GREY, BLACK]);
    let (first, unreadable, grid) = name(&canvas, None);
    assert_eq!((first.as_str(), unreadable), ("first", 0));
    let hint = Grid {
        font: "second".to_owned(),
        ..grid
    };
    let (second, _, _) = name(&canvas, Some(&hint));
    assert_eq!(second, "second", "it was so before");
    let hint = Grid {
        font: "few".to_owned(),
        ..hint
    };
    let (first, _, _) = name(&canvas, Some(&hint));
    assert_eq!(first, "first", "a worse font is no longer the screen's");
}

#[test]
fn a_screen_of_another_size_has_another_grid() {
    let mut small = Canvas::new(640, 400);
    small.text((0, 0), "before", [GREY, BLACK]);
    let before = read(&small.picture(), &fonts(), None).unwrap();
    for (width, height, columns, rows) in [(1280, 800, 160, 50), (320, 200, 40, 12)] {
        let mut canvas = Canvas::new(width, height);
        canvas.text((0, 16), "after", [GREY, BLACK]);
        let after = read(&canvas.picture(), &fonts(), Some(&before.grid)).unwrap();
        assert_eq!((after.grid.columns, after.grid.rows), (columns, rows));
        assert_eq!(lines(&after), ["after"]);
    }
}

#[test]
fn letters_that_look_alike_are_of_the_words_own_script() {
    let mut glyphs: Vec<(Vec<u8>, Vec<char>)> = "bdiklmnv"
        .chars()
        .map(|it| (bitmap(it), vec![it]))
        .collect();
    // As Latin and Cyrillic letters share them.
    for (latin, cyrillic) in [('a', 'а'), ('c', 'с'), ('p', 'р'), ('e', 'е'), ('o', 'о')] {
        glyphs.push((bitmap(latin), vec![cyrillic, latin]));
    }
    glyphs.push((bitmap('3'), vec!['3', 'З']));
    glyphs.push((vec![0x10; 16], vec!['│', 'ж']));
    for cyrillic in ['в', 'и', 'к'] {
        glyphs.push((bitmap(cyrillic), vec![cyrillic]));
    }
    let fonts = Fonts::new(vec![Font::new("two scripts", CELL, glyphs).unwrap()]);
    let mut canvas = Canvas::new(640, 400);
    // The second word could be of either script; the Latin letters of the next two are shared ones, and
    // so is the digit.
    canvas.text((0, 0), "bad ace cepвиc poк 3вoк poк3 3", [GREY, BLACK]);
    // A frame is no letter, whatever the font says.
    canvas.draw((32 * 8, 0), &bitmap('в'), [GREY, BLACK]);
    canvas.draw((33 * 8, 0), &[0x10; 16], [GREY, BLACK]);
    let screen = read(&canvas.picture(), &fonts, None).unwrap();
    assert_eq!(lines(&screen), ["bad ace сервис рок Звок рок3 3  в│"]);
}
