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
        let length = glyphs[from..].iter().take_while(|glyph| is_letter(**glyph));
        let to = from + length.count();
        if let Some(script) = script(&glyphs[from..to]) {
            for (cell, glyph) in cells[from..to].iter_mut().zip(&glyphs[from..to]) {
                let own = glyph.and_then(|glyph| in_script(glyph, script));
                cell.character = own.unwrap_or(cell.character);
            }
        }
        from = to + 1;
    }
}

fn is_letter(glyph: Option<&Glyph>) -> bool {
    glyph.is_some_and(|glyph| glyph.characters.iter().any(|it| it.is_alphabetic()))
}

/// The only script other than Latin that letters of the word can be of, where there are such and none that is only Latin.
fn script(word: &[Option<&Glyph>]) -> Option<Script> {
    let mut only = None;
    for glyph in word.iter().flatten() {
        let scripts = glyph.characters.iter().filter_map(|it| Script::of(*it));
        let mut scripts: Vec<Script> = scripts.collect();
        scripts.dedup();
        match scripts.as_slice() {
            [Script::Latin] => return None,
            [script] if only.is_some_and(|only| only != *script) => return None,
            [script] => only = Some(*script),
            _ => {}
        }
    }
    only
}

fn in_script(glyph: &Glyph, script: Script) -> Option<char> {
    let mut characters = glyph.characters.iter().copied();
    characters.find(|character| Script::of(*character) == Some(script))
}
