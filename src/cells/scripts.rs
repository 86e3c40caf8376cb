//! Which of several characters that look the same is meant: that of the word's own script.

use super::{Cell, Glyph};

/// Scripts whose letters share shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
}

impl Script {
    fn of(character: char) -> Option<Self> {
        match character {
            'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{24f}' => Some(Self::Latin),
            '\u{370}'..='\u{3ff}' => Some(Self::Greek),
            '\u{400}'..='\u{52f}' => Some(Self::Cyrillic),
            _ => None,
        }
    }
}

/// Settles the letters of a row of cells, each beside its glyph. A word with letters that only one script has
/// is all of that script; where nothing tells, the likeliest characters stay.
pub(super) fn settle(cells: &mut [Cell], glyphs: &[Option<&Glyph>]) {
    let mut from = 0;
    while from < cells.len() {
        let word: Vec<&Glyph> = glyphs[from..]
            .iter()
            .map_while(|glyph| glyph.filter(|it| is_letter(it)))
            .collect();
        let to = from + word.len();
        if let Some(script) = script(&word) {
            for (at, (cell, glyph)) in cells[from..to].iter_mut().zip(&word).enumerate() {
                // A digit can look like a letter too, and words begin with capitals, which do most.
                let is_capital = at == 0 && word.len() > 1;
                if cell.character.is_alphabetic() || is_capital {
                    let own = in_script(glyph, script);
                    cell.character = own.unwrap_or(cell.character);
                }
            }
        }
        from = to + 1;
    }
}

/// Some fonts have letters for a second meaning of frames, which is never meant.
fn is_letter(glyph: &Glyph) -> bool {
    let first = glyph.characters.first();
    first.is_some_and(|it| it.is_alphanumeric())
        && glyph.characters.iter().any(|it| it.is_alphabetic())
}

/// The only script that has all letters of the word, where one of them is of no other.
fn script(word: &[&Glyph]) -> Option<Script> {
    let mut telling = word.iter().filter_map(|glyph| only_script(glyph));
    let first = telling.next()?;
    telling.all(|other| other == first).then_some(first)
}

/// The script of all that the glyph can mean.
fn only_script(glyph: &Glyph) -> Option<Script> {
    let letters = glyph.characters.iter().filter(|it| it.is_alphanumeric());
    let mut scripts = letters.map(|it| Script::of(*it));
    let first = scripts.next()??;
    scripts.all(|other| other == Some(first)).then_some(first)
}

fn in_script(glyph: &Glyph, script: Script) -> Option<char> {
    let mut characters = glyph.characters.iter().copied();
    characters.find(|character| Script::of(*character) == Some(script))
}
