//! Letters that look the same are the same.
//!
//! A screen draws each letter of a font with the same pixels wherever it stands. Tesseract takes each line by itself
//! and may read a `1` as an `l` here and rightly there, or leave out a `#`. So all that it read votes on what each
//! glyph is, and where a few differ from the many, the many are right.

use std::collections::HashMap;

use super::{
    StripWord, Strips,
    strip::{Cell, Glyph, Strip},
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
        let words = parts
            .into_iter()
            .filter_map(|it| it.corrected(strip, &letters));
        (strip, words.collect())
    });
    corrected.collect()
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
                let known: Option<String> = glyphs().map(|glyph| letters.known(&glyph)).collect();
                let known = known.filter(|text| in_grid && !text.is_empty());
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
const ADDED: u8 = 60;

/// Words and the letters that they are made of.
fn part(strip: &Strip, words: &[StripWord]) -> Vec<Part> {
    let cells = strip.cells();
    let is_within = |cell: &Cell, word: &StripWord| {
        let middle = u32::midpoint(cell.x0, cell.x1);
        word.x0 <= middle && middle < word.x1
    };
    let in_grid = cells.first().is_some_and(|cell| cell.column.is_some());
    if !in_grid {
        let of = |word: &StripWord| Part {
            cells: cells
                .iter()
                .filter(|cell| is_within(cell, word))
                .copied()
                .collect(),
            word: Some(word.clone()),
        };
        return words.iter().map(of).collect();
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
