//! Letters that look the same are the same.
//!
//! A screen draws each letter of a font with the same pixels wherever it stands. Tesseract takes each line by itself
//! and may read a `1` as an `l` here and rightly there, or leave out a `#`. So all that it read votes on what each
//! glyph is, and where a few differ from the many, the many are right.

use std::collections::HashMap;

use super::{
    StripWord, Strips,
    strip::{Cell, Glyph, Strip, as_f32},
};

/// A glyph is known when so many letters were read from it, and so much of them as one letter, in per cent.
const ENOUGH: u32 = 2;
const MOST: u32 = 70;

/// What outvotes a reading has so many times its votes.
const TIMES: u32 = 3;

/// Glyphs of one font differ in height by so little at most when they are easily taken for each other.
const ALIKE: usize = 4;

/// How far the box of a word may reach beyond its letters, in pixels.
const SLACK: u32 = 4;

/// A blank between words of a font with letters of different widths: at least so much of the height of its
/// letters, in per cent, and so many times the middle one of all gaps.
const BLANK: u32 = 45;
const WIDER: f32 = 2.5;

/// Lower glyphs are no evidence by themselves: many a speck looks like a dot.
const LOWEST: usize = 5;

/// What has no more letters and is no surer, in per cent, was read off an icon. Signs alone are to be surer.
const SHORT: usize = 4;
const UNSURE: u8 = 30;
const UNSURE_SIGNS: u8 = 70;

/// What a glyph was read as: each letter with its number and the sum of its confidences.
type Votes = HashMap<char, (u32, u32)>;

#[derive(Default)]
struct Letters {
    votes: HashMap<Glyph, Votes>,
    /// The heights of the glyphs that are known to be a letter.
    heights: HashMap<char, Vec<usize>>,
}

impl Letters {
    fn count(&mut self, strip: &Strip, cells: &[Cell], word: &StripWord) {
        for (cell, letter) in cells.iter().zip(word.text.chars()) {
            let votes = self.votes.entry(strip.glyph(*cell)).or_default();
            let (number, weight) = votes.entry(letter).or_default();
            *number += 1;
            *weight += u32::from(word.confidence);
        }
    }

    fn settle(&mut self) {
        for (glyph, votes) in &self.votes {
            if let Some(letter) = known(votes) {
                self.heights.entry(letter).or_default().push(glyph.height());
            }
        }
    }

    fn known(&self, glyph: &Glyph) -> Option<char> {
        known(self.votes.get(glyph)?)
    }

    /// What a glyph is that was read as a letter: another one if most others of it were read so. Where a font
    /// has one glyph for both, as for `I` and `l`, what it was read as stands.
    fn of(&self, glyph: &Glyph, read: char) -> char {
        let weight = |votes: &Votes, letter| votes.get(&letter).map_or(0, |(_, weight)| *weight);
        let corrected = || {
            let votes = self.votes.get(glyph)?;
            let most = known(votes)?;
            let is_outvoted = weight(votes, most) >= weight(votes, read) * TIMES;
            let mut others = self.heights.get(&read)?.iter();
            let differs = others.any(|height| height.abs_diff(glyph.height()) <= ALIKE);
            (most != read && is_outvoted && differs).then_some(most)
        };
        corrected().unwrap_or(read)
    }
}

fn known(votes: &Votes) -> Option<char> {
    let all: u32 = votes.values().map(|(_, weight)| weight).sum();
    let (letter, (number, weight)) = votes
        .iter()
        .max_by_key(|(letter, (_, weight))| (*weight, **letter))?;
    (*number >= ENOUGH && weight * 100 >= all * MOST).then_some(*letter)
}

/// What was read of a screen, each glyph of it as most of its kind.
pub(super) fn agree(strips: &Strips) -> HashMap<&Strip, Vec<StripWord>> {
    let mut letters = Letters::default();
    let parted: Vec<_> = strips
        .iter()
        .map(|(strip, words)| (&**strip, part(strip, words)))
        .collect();
    for (strip, parts) in &parted {
        for Part { cells, word } in parts {
            if let Some(word) = word
                .as_ref()
                .filter(|word| word.text.chars().count() == cells.len())
            {
                letters.count(strip, cells, word);
            }
        }
    }
    letters.settle();
    let corrected = parted.into_iter().map(|(strip, parts)| {
        let words = parts.into_iter();
        let words = words.filter_map(|it| it.corrected(strip, &letters));
        let words: Vec<_> = words.collect();
        (strip, if is_text(&words) { words } else { vec![] })
    });
    corrected.collect()
}

/// Whether words of a run are likely to be text, not an icon.
fn is_text(words: &[StripWord]) -> bool {
    let letters = || words.iter().flat_map(|word| word.text.chars());
    let sure = words.iter().map(|word| word.confidence).max().unwrap_or(0);
    let is_short = letters().count() <= SHORT;
    let is_sign = is_short && !letters().any(char::is_alphanumeric);
    !(is_short && sure < UNSURE || is_sign && sure < UNSURE_SIGNS)
}

/// The letters of a word as they are drawn, and as they were read if they were.
struct Part {
    cells: Vec<Cell>,
    word: Option<StripWord>,
}

impl Part {
    fn corrected(self, strip: &Strip, letters: &Letters) -> Option<StripWord> {
        let Self { cells, word } = self;
        let glyphs = || cells.iter().map(|cell| strip.glyph(*cell));
        match word {
            Some(word) if word.text.chars().count() == cells.len() => {
                let read = glyphs().zip(word.text.chars());
                let text = read.map(|(glyph, read)| letters.of(&glyph, read)).collect();
                Some(StripWord { text, ..word })
            }
            // Nothing was read here, or too many letters, or too few.
            word => {
                let in_grid = cells.iter().all(|cell| cell.column.is_some());
                let is_evident = word.is_none() && glyphs().all(|glyph| glyph.height() >= LOWEST);
                let known: Option<String> = glyphs().map(|glyph| letters.known(&glyph)).collect();
                let known = known.filter(|text| (in_grid || is_evident) && !text.is_empty());
                let Some(text) = known else { return word };
                let (x0, x1) = (cells.first()?.x0, cells.last()?.x1);
                let (y0, y1) = strip.rows(x0, x1);
                let confidence = word.map_or(ADDED, |word| word.confidence);
                Some(StripWord {
                    text,
                    confidence,
                    x0,
                    x1,
                    y0,
                    y1,
                })
            }
        }
    }
}

/// The confidence in a word that only its glyphs tell.
const ADDED: u8 = 80;

/// Words and the letters that they are made of.
fn part(strip: &Strip, words: &[StripWord]) -> Vec<Part> {
    let cells = strip.cells();
    let is_within = |cell: &Cell, word: &StripWord| {
        let middle = u32::midpoint(cell.x0, cell.x1);
        word.x0 <= middle && middle < word.x1
    };
    let in_grid = cells.first().is_some_and(|cell| cell.column.is_some());
    if !in_grid {
        if words.is_empty() {
            return vec![Part { cells, word: None }];
        }
        let of = |word: &StripWord| {
            let own = cells.iter().filter(|cell| is_within(cell, word));
            split(strip, own.copied().collect(), word)
        };
        return words.iter().flat_map(of).collect();
    }
    let follow = |a: &Cell, b: &Cell| a.column.zip(b.column).is_some_and(|(a, b)| b <= a + 1);
    let mut taken = vec![false; words.len()];
    let mut parts = vec![];
    for cells in cells.chunk_by(follow) {
        let (x0, x1) = (cells[0].x0, cells[cells.len() - 1].x1);
        let touching: Vec<_> = (0..words.len())
            .filter(|at| words[*at].x0 < x1 && x0 < words[*at].x1)
            .collect();
        let word = match touching[..] {
            [] => None,
            // Boxes of words may be a little wider than their letters.
            [at] if words[at].x0 + SLACK >= x0 && words[at].x1 <= x1 + SLACK => {
                taken[at] = true;
                Some(words[at].clone())
            }
            _ => continue,
        };
        let cells = cells.to_vec();
        parts.push(Part { cells, word });
    }
    // What does not go with the grid is as it was read.
    let left = words.iter().zip(taken).filter(|(_, taken)| !taken);
    parts.extend(left.map(|(word, _)| Part {
        cells: vec![],
        word: Some(word.clone()),
    }));
    parts.sort_by_key(|part| match (&part.word, part.cells.first()) {
        (_, Some(cell)) => cell.x0,
        (Some(word), None) => word.x0,
        (None, None) => 0,
    });
    parts
}

/// A word in two where a blank was not seen: where each of its letters is known, the gaps between them are.
fn split(strip: &Strip, cells: Vec<Cell>, word: &StripWord) -> Vec<Part> {
    let gap = |pair: &[Cell]| pair[1].x0.saturating_sub(pair[0].x1);
    let mut gaps: Vec<u32> = cells.windows(2).map(gap).collect();
    gaps.sort_unstable();
    // The lower one of two: of few gaps a blank is not to measure itself.
    let middle = gaps
        .get(gaps.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default();
    let is_blank =
        |gap: u32| gap * 100 >= strip.cap * BLANK && as_f32(gap) >= as_f32(middle) * WIDER;
    if word.text.chars().count() != cells.len() || !gaps.into_iter().any(is_blank) {
        let word = Some(word.clone());
        return vec![Part { cells, word }];
    }
    let mut letters = word.text.chars();
    let parts = cells.chunk_by(|a, b| !is_blank(gap(&[*a, *b])));
    let part = |cells: &[Cell]| {
        let (x0, x1) = (cells[0].x0, cells[cells.len() - 1].x1);
        let (y0, y1) = strip.rows(x0, x1);
        let text = letters.by_ref().take(cells.len()).collect();
        Part {
            cells: cells.to_vec(),
            word: Some(StripWord {
                text,
                confidence: word.confidence,
                x0,
                x1,
                y0,
                y1,
            }),
        }
    };
    parts.map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A strip of letters, each by its columns, five rows high; a letter is a row of bits.
    fn strip(letters: &[(u32, &[u8])]) -> Strip {
        const HIGH: usize = 6;
        let (last, letter) = letters.last().unwrap();
        let width = *last as usize + letter.len();
        let mut grey = vec![255; width * HIGH];
        for (x, columns) in letters {
            for (at, bits) in columns.iter().enumerate() {
                for y in 0..HIGH {
                    if bits >> y & 1 == 1 {
                        grey[y * width + *x as usize + at] = 0;
                    }
                }
            }
        }
        Strip {
            width: u32::try_from(width).unwrap(),
            height: 6,
            grey,
            cap: 6,
        }
    }

    const ONE: &[u8] = &[0b100_010, 0b111_111, 0b100_000];
    const ELL: &[u8] = &[0b000_001, 0b111_111, 0b100_000];

    fn word(text: &str, confidence: u8, x0: u32, x1: u32) -> StripWord {
        let text = text.to_owned();
        StripWord {
            text,
            confidence,
            x0,
            x1,
            y0: 0,
            y1: 6,
        }
    }

    fn read(all: Vec<(Strip, Vec<StripWord>)>) -> Vec<String> {
        let keys: Vec<_> = all.iter().map(|(strip, _)| strip.clone()).collect();
        let strips: Strips = all
            .into_iter()
            .map(|(strip, words)| (Arc::new(strip), Arc::from(words)))
            .collect();
        let agreed = agree(&strips);
        let texts = |strip| agreed[strip].iter().map(|word| word.text.as_str());
        keys.iter()
            .map(|strip| texts(strip).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn a_glyph_is_what_most_of_its_kind_were_read_as() {
        let ones = strip(&[(0, ONE), (4, ONE), (8, ONE), (12, ONE)]);
        let ells = strip(&[(0, ELL), (4, ELL)]);
        let all = vec![
            (ones, vec![word("11l1", 90, 0, 15)]),
            (ells, vec![word("ll", 90, 0, 7)]),
        ];
        assert_eq!(read(all), ["1111", "ll"]);
    }

    #[test]
    fn where_a_font_has_one_glyph_for_two_letters_each_is_as_it_was_read() {
        let both = strip(&[(0, ELL), (4, ELL), (8, ELL), (12, ELL)]);
        assert_eq!(read(vec![(both, vec![word("llIl", 90, 0, 15)])]), ["llIl"]);
    }

    #[test]
    fn what_was_not_read_is_known_by_its_glyphs() {
        let ones = strip(&[(0, ONE), (4, ONE)]);
        let one = strip(&[(0, ONE)]);
        let all = vec![(ones, vec![word("11", 90, 0, 7)]), (one, vec![])];
        assert_eq!(read(all), ["11", "1"]);
    }

    #[test]
    fn a_wide_gap_parts_words() {
        let ones = strip(&[(0, ONE), (4, ONE), (12, ELL)]);
        assert_eq!(read(vec![(ones, vec![word("11l", 90, 0, 15)])]), ["11 l"]);
    }

    #[test]
    fn what_was_hardly_read_off_an_icon_is_left_out() {
        let icon = strip(&[(0, ELL), (4, ONE)]);
        let read =
            |text, confidence| read(vec![(icon.clone(), vec![word(text, confidence, 0, 7)])]);
        assert_eq!(read("Fk", 29), [""]);
        assert_eq!(read("Fk", 30), ["Fk"]);
        assert_eq!(read(">=", 69), [""]);
        assert_eq!(read(">=", 70), [">="]);
    }
}
