//! What was read off a picture: lines and words, and where they are.

use std::ops::Range;

use super::{Pattern, Point, Region, ScreenSize};

/// Stands for what is there but cannot be read: a covered cell, the one under the cursor.
pub const UNREADABLE: char = '\u{fffd}';

/// The text of a picture, from top to bottom. All places are in the picture's own pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub reader: Reader,
    pub lines: Vec<Line>,
}

/// Who read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// Nobody: the guest draws nothing there.
    Nobody,
    /// Each cell was compared with the glyphs of a font: what is read is right.
    Cells(Grid),
    /// Recognised by shape: mistakes are to be expected.
    Ocr,
}

/// Where the character cells of a text screen are, and in which font they are drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// The top left pixel of the first cell.
    pub origin: Point,
    pub cell: ScreenSize,
    pub columns: u32,
    pub rows: u32,
    /// The name of the font, as its file has it.
    pub font: String,
}

/// A line of text. Of a text screen it is one row of cells, with all its blanks but those at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub words: Vec<Word>,
}

/// What stands between blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its bytes within the text of its line.
    pub at: Range<usize>,
    pub area: Region,
    /// How sure the reader is, 0 to 100.
    pub confidence: u8,
}

/// What a pattern matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub text: String,
    /// `None` where only blanks were matched.
    pub area: Option<Region>,
}

impl Reading {
    /// What there is to read where the guest draws nothing.
    pub fn nothing() -> Self {
        Self {
            reader: Reader::Nobody,
            lines: vec![],
        }
    }

    /// What a pattern matches, at most so many times, from top to bottom. A match may go on in the
    /// lines below.
    pub fn find(&self, pattern: &Pattern, most: usize) -> Vec<Hit> {
        let lines: Vec<_> = self.lines.iter().map(Line::without_cursor).collect();
        let text = lines.join("\n");
        let hits = pattern.find_all(&text).take(most).map(|found| Hit {
            text: text[found.clone()].to_owned(),
            area: self.area_of(found),
        });
        hits.collect()
    }

    /// The smallest rectangle around a part of the text.
    fn area_of(&self, part: Range<usize>) -> Option<Region> {
        let mut begin = 0;
        let areas = self.lines.iter().filter_map(|line| {
            let end = begin + line.without_cursor().len();
            let from = part.start.clamp(begin, end) - begin;
            let to = part.end.clamp(begin, end) - begin;
            begin = end + 1;
            line.area_of(from..to)
        });
        areas.reduce(Region::around)
    }

    /// How many characters could not be read.
    pub fn unreadable(&self) -> usize {
        let lines = self.lines.iter();
        lines
            .map(|line| line.text.matches(UNREADABLE).count())
            .sum()
    }
}

impl Line {
    /// The text up to a cursor that stands at its end: a prompt ends where the cursor waits, whether
    /// that is drawn just now or blinks.
    pub fn without_cursor(&self) -> &str {
        match self.text.strip_suffix(UNREADABLE) {
            Some(before) => before.trim_end(),
            None => &self.text,
        }
    }

    /// The smallest rectangle around all its words; `None` where it has none.
    pub fn area(&self) -> Option<Region> {
        let areas = self.words.iter().map(|word| word.area);
        areas.reduce(Region::around)
    }

    /// The smallest rectangle around a part of its text, bytes at the bounds of characters; `None` where
    /// only blanks are there. Within a word all characters are taken to be of the same width, as
    /// those of a text screen are.
    pub fn area_of(&self, part: Range<usize>) -> Option<Region> {
        let touched = self.words.iter().filter_map(|word| {
            let from = part.start.max(word.at.start);
            let to = part.end.min(word.at.end);
            let text = self.text.get(word.at.clone())?;
            let before = self.text.get(word.at.start..from)?.chars().count();
            let within = self.text.get(from..to)?.chars().count();
            (within > 0).then(|| word.area.columns(before, within, text.chars().count()))
        });
        touched.reduce(Region::around)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two words with cells of 8×16 pixels, at 0,32.
    fn line() -> Line {
        let word = |at: Range<usize>, x0, x1| Word {
            at,
            area: Region::from([x0, 32, x1, 48]),
            confidence: 100,
        };
        Line {
            text: "größe  ist".to_owned(),
            words: vec![word(0..7, 0, 40), word(9..12, 56, 80)],
        }
    }

    #[test]
    fn a_line_reaches_from_its_first_word_to_its_last() {
        assert_eq!(line().area(), Some(Region::from([0, 32, 80, 48])));
        let empty = Line {
            text: String::new(),
            words: vec![],
        };
        assert_eq!(empty.area(), None);
    }

    #[test]
    fn a_pattern_is_found_over_lines_too() {
        let mut below = line();
        for word in &mut below.words {
            word.area = word.area.moved(Point { x: 0, y: 16 });
        }
        let reading = Reading {
            reader: Reader::Ocr,
            lines: vec![line(), below],
        };
        let found = |pattern: &str, most| {
            let hits = reading.find(&pattern.parse().unwrap(), most);
            let hits = hits.into_iter().map(|hit| (hit.text, hit.area));
            hits.collect::<Vec<_>>()
        };
        let at = |area| Some(Region::from(area));
        let st = |area| ("st".to_owned(), at(area));
        assert_eq!(
            found("st$", 9),
            [st([64, 32, 80, 48]), st([64, 48, 80, 64])]
        );
        assert_eq!(found("st$", 1), [st([64, 32, 80, 48])]);
        assert_eq!(
            found(r"ist\ngr", 9),
            [("ist\ngr".to_owned(), at([0, 32, 80, 64]))]
        );
        assert_eq!(found(" +", 1), [("  ".to_owned(), None)]);
        assert_eq!(found("ost", 9), []);
    }

    #[test]
    fn a_cursor_at_the_end_of_a_line_is_no_part_of_what_is_found() {
        let mut prompt = line();
        prompt.text.push_str(" \u{fffd}");
        assert_eq!(prompt.without_cursor(), "größe  ist");
        let mut below = line();
        for word in &mut below.words {
            word.area = word.area.moved(Point { x: 0, y: 16 });
        }
        let reading = Reading {
            reader: Reader::Ocr,
            lines: vec![prompt, below],
        };
        let areas = reading.find(&"ist$".parse().unwrap(), 9);
        let areas: Vec<_> = areas.into_iter().map(|hit| hit.area).collect();
        let at = |y| Some(Region::from([56, y, 80, y + 16]));
        assert_eq!(areas, [at(32), at(48)]);
        assert_eq!(reading.unreadable(), 1);
    }

    #[test]
    fn a_part_of_a_line_is_where_its_characters_are() {
        let cases = [
            (0..7, Some([0, 32, 40, 48])),
            // `öß`, two bytes each.
            (2..6, Some([16, 32, 32, 48])),
            (6..10, Some([32, 32, 64, 48])),
            (7..9, None),
            (3..3, None),
        ];
        for (part, area) in cases {
            let found = line().area_of(part.clone());
            assert_eq!(found, area.map(Region::from), "{part:?}");
        }
    }
}
