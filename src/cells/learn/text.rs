//! Text that a screen is known to show.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::UNREADABLE;

use super::LearnError;

/// Lines of characters, a cell each. The blanks before a line's first character and after its last one say
/// nothing of the screen, nor does U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownText {
    lines: Vec<Vec<char>>,
}

impl KnownText {
    /// Takes lines as an editor writes them. Empty ones before the first and after the last are dropped.
    pub fn parse(text: &str) -> Result<Self, LearnError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        for (at, line) in lines.iter().enumerate() {
            let is_bad =
                |c: &char| c.is_control() || (*c != ' ' && c.is_whitespace() && *c != '\u{a0}');
            if let Some(character) = line.chars().find(is_bad) {
                let line = at + 1;
                return Err(LearnError::BadCharacter { character, line });
            }
        }
        let first = lines.iter().position(|line| !line.is_empty());
        let last = lines.iter().rposition(|line| !line.is_empty());
        let (Some(first), Some(last)) = (first, last) else {
            return Err(LearnError::NoText);
        };
        let lines = lines[first..=last].iter();
        Ok(Self {
            lines: lines.map(|line| line.chars().collect()).collect(),
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.lines.len()
    }

    /// Of the longest line.
    pub(super) fn columns(&self) -> usize {
        self.lines.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// What a line says: columns, and the characters there.
    pub(super) fn line(&self, line: usize) -> impl Iterator<Item = (usize, char)> {
        let line = self.lines[line].iter().copied().enumerate();
        line.skip_while(|(_, character)| *character == ' ')
            .filter(|(_, character)| *character != UNREADABLE)
    }

    /// All that it says: lines, columns, and the characters there.
    pub(super) fn cells(&self) -> impl Iterator<Item = (usize, usize, char)> {
        let lines = 0..self.lines.len();
        lines.flat_map(|at| self.line(at).map(move |(column, it)| (at, column, it)))
    }

    /// The characters that it shows.
    pub fn characters(&self) -> BTreeSet<char> {
        let shown = self.cells().map(|(.., character)| character);
        shown.filter(|character| *character != ' ').collect()
    }

    /// Pairs of cells that must look the same, of one line: its character there, and the same before.
    pub(super) fn pairs(&self, line: usize) -> Vec<(usize, usize)> {
        let mut first = BTreeMap::new();
        let cells = self.line(line).filter(|(_, character)| *character != ' ');
        let pairs = cells.filter_map(|(column, character)| {
            let before = *first.entry(character).or_insert(column);
            (before != column).then_some((before, column))
        });
        pairs.collect()
    }

    /// How many cells show a character that is elsewhere, too.
    pub(super) fn repeats(&self) -> usize {
        let drawn = self.cells().filter(|(.., character)| *character != ' ');
        drawn.count() - self.characters().len()
    }
}
