//! From characters and key names to keys, by the layout that the guest uses.
//!
//! Layouts come from xkeyboard-config through libxkbcommon, the only room that names
//! `xkbcommon`; none is written by hand. A [`Layout`] is compiled once and is plain data
//! afterwards.

mod layout;
mod names;
mod spelling;

pub use layout::{Layout, UnknownLayout};
pub use names::BadKeys;
pub use spelling::chords_of;

/// Characters of a text that a layout cannot type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keyboard layout `{layout}` cannot type {}", list(characters))]
pub struct Untypable {
    pub layout: String,
    /// Each such character with its position in the text, counted in characters from 0;
    /// every character is named once.
    pub characters: Vec<(usize, char)>,
}

/// How many of them an error names.
const NAMED: usize = 8;

fn list(characters: &[(usize, char)]) -> String {
    let mut names: Vec<_> = characters
        .iter()
        .take(NAMED)
        .map(|(at, it)| {
            let shown = if it.is_control() {
                String::new()
            } else {
                format!("`{it}` ")
            };
            format!("{shown}(U+{:04X}, position {at})", u32::from(*it))
        })
        .collect();
    if characters.len() > NAMED {
        names.push(format!("{} more", characters.len() - NAMED));
    }
    names.join(", ")
}
