//! From characters and key names to keys, by the layout that the guest uses.
//!
//! Layouts come from xkeyboard-config through libxkbcommon, the only room that names
//! `xkbcommon`; none is written by hand. A [`Layout`] is compiled once and is plain data
//! afterwards; what its dead keys type is found when a text first needs it.

mod compose;
mod layout;
mod levels;
mod listing;
mod names;
mod spelling;

use std::{path::PathBuf, sync::Arc};

pub use layout::{Layout, UnknownLayout};
pub use listing::{NotListed, check};
pub use names::BadKeys;
pub(crate) use names::types_character;
pub use spelling::chords_of;

use crate::model::Chord;

/// The keystrokes of one character: most take one, those of dead keys and the like several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed(Arc<[Chord]>);

impl Typed {
    fn at_once(chord: Chord) -> Self {
        Self([chord].into())
    }

    /// Pressed one after another; never empty.
    pub fn chords(&self) -> &[Chord] {
        &self.0
    }
}

/// Characters of a text that a layout cannot type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keyboard layout `{layout}` cannot type {}", list(characters))]
pub struct Untypable {
    pub layout: String,
    /// Each such character with its position in the text, counted in characters from 0;
    /// every character is named once.
    pub characters: Vec<(usize, char)>,
    /// The file that tells of dead keys, where the layout has such and the host lacks the file.
    pub compose_file: Option<PathBuf>,
}

impl Untypable {
    /// What to do next.
    pub fn hint(&self) -> String {
        let install = match &self.compose_file {
            Some(file) => format!(
                "What dead keys type stands in {}, which is missing on the host: install it \
                 (Debian: `apt-get install libx11-data`). Else leave",
                file.display()
            ),
            None => "Leave".to_owned(),
        };
        format!(
            "Nothing was typed. {install} those characters out, or put the text into the guest with \
             `ssh_execute` or `ssh_upload`. In the configuration, `keymap` names the layout that the \
             guest uses, and `unicode = \"ctrl-shift-u\"` lets GTK and IBus take any character."
        )
    }
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
