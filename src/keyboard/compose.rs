//! Characters that take several keystrokes: dead keys and the Compose key.
//!
//! Which keystrokes make which character is told by libX11's file for UTF-8 locales, which X's and
//! Wayland's programs read as well. libxkbcommon 1.5 cannot list a table, so that the layout's own
//! keysyms are tried on it. The user's own `~/.XCompose` is not asked: it is the host's, not the guest's.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
};

use xkbcommon::xkb::{
    self, Keysym,
    compose::{self, Status},
};

use crate::model::Chord;

use super::Typed;

/// The locale whose file serves all UTF-8 locales but a few (`compose.dir` of libX11).
const LOCALE: &str = "en_US.UTF-8";
const LOCALES: &str = "/usr/share/X11/locale";

/// Two keystrokes after a dead key: `ấ` is the longest that layouts offer.
const LONGEST: usize = 3;

/// Where the table is; libX11 and libxkbcommon look there too.
pub(super) fn file() -> PathBuf {
    let locales = env::var_os("XLOCALEDIR").filter(|folder| !folder.is_empty());
    let locales = locales.map_or_else(|| PathBuf::from(LOCALES), PathBuf::from);
    locales.join(LOCALE).join("Compose")
}

/// Whether a keystroke of this begins a sequence.
pub(super) fn begins(keysym: Keysym) -> bool {
    keysym == Keysym::Multi_key || is_dead(keysym)
}

fn is_dead(keysym: Keysym) -> bool {
    xkb::keysym_get_name(keysym).starts_with("dead_")
}

/// Every character that sequences of these keystrokes make, each by the shortest. `None` where the
/// file cannot be read.
pub(super) fn read(file: &Path, strokes: &[(Keysym, &Chord)]) -> Option<HashMap<char, Typed>> {
    let starts = strokes.iter().filter(|(keysym, _)| begins(*keysym));
    let starts: Vec<_> = starts.collect();
    if starts.is_empty() {
        return Some(HashMap::new());
    }
    let text = fs::read(file).ok()?;
    let mut context = xkb::Context::new(xkb::CONTEXT_NO_ENVIRONMENT_NAMES);
    context.set_log_level(xkb::LogLevel::Critical);
    let table = compose::Table::new_from_buffer(
        &context,
        text,
        LOCALE,
        compose::FORMAT_TEXT_V1,
        compose::COMPILE_NO_FLAGS,
    )
    .ok()?;
    let mut search = Search {
        state: compose::State::new(&table, compose::STATE_NO_FLAGS),
        strokes,
        found: HashMap::new(),
    };
    for start in starts {
        search.go_on(&mut vec![*start]);
    }
    let found = search.found.into_iter();
    Some(found.map(|(it, (_, typed))| (it, typed)).collect())
}

/// What makes one way better than another: fewer keystrokes, fewer keys; and the Linux console, to
/// which a dead key after a dead one begins anew, had rather a space.
type Cost = (usize, usize, bool);

struct Search<'k> {
    state: compose::State,
    strokes: &'k [(Keysym, &'k Chord)],
    found: HashMap<char, (Cost, Typed)>,
}

impl<'k> Search<'k> {
    /// Tries every keystroke after these.
    fn go_on(&mut self, before: &mut Vec<(Keysym, &'k Chord)>) {
        for stroke in self.strokes {
            self.state.reset();
            for (keysym, _) in before.iter().chain([stroke]) {
                self.state.feed(*keysym);
            }
            let status = self.state.status();
            before.push(*stroke);
            match status {
                Status::Composed => self.take(before),
                Status::Composing if before.len() < LONGEST => self.go_on(before),
                Status::Composing | Status::Nothing | Status::Cancelled => {}
            }
            before.pop();
        }
    }

    fn take(&mut self, sequence: &[(Keysym, &Chord)]) {
        let Some(text) = self.state.utf8() else {
            return;
        };
        let mut characters = text.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else {
            return;
        };
        let keys = sequence.iter().map(|(_, chord)| chord.keys().len()).sum();
        let ends_dead = sequence.last().is_some_and(|(keysym, _)| is_dead(*keysym));
        let cost = (sequence.len(), keys, ends_dead);
        let known = self.found.get(&character);
        if !character.is_control() && known.is_none_or(|(known, _)| cost < *known) {
            let chords = sequence.iter().map(|(_, chord)| (*chord).clone()).collect();
            self.found.insert(character, (cost, Typed(chords)));
        }
    }
}
