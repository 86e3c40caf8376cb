//! One layout, compiled: which keys print which character, and which key has which name.

use std::{collections::HashMap, fmt};

use xkbcommon::xkb;

use crate::model::{Chord, KeyCode};

use super::Untypable;

/// xkeyboard-config counts keys as X does: evdev's code plus 8.
const XKB_OFFSET: u32 = 8;

/// The highest evdev code that an X keymap has.
const LAST_KEY: u16 = 247;

/// The key between left Shift and Z, which keyboards of many countries lack and guests of
/// those countries map as they like: it types only what no other key does.
const EXTRA_KEY: KeyCode = KeyCode(86);

/// The keysyms of the keypad, `KP_Space` to `KP_9` and `KP_Equal` in `keysymdef.h`.
const KEYPAD: std::ops::RangeInclusive<u32> = 0xff80..=0xffbd;

/// A layout of xkeyboard-config.
#[derive(Clone)]
pub struct Layout {
    name: String,
    characters: HashMap<char, Chord>,
    pub(super) keys: HashMap<String, NamedKey>,
}

/// A key by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedKey {
    pub(super) code: KeyCode,
    /// The modifiers without which the key means something else.
    pub(super) needs: Vec<KeyCode>,
}

/// xkeyboard-config has no such layout, or is not installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keyboard layout `{0}` cannot be loaded")]
pub struct UnknownLayout(pub String);

impl Layout {
    /// Compiles `layout` or `layout:variant`, such as `us` or `us:dvorak`.
    pub fn compile(name: &str) -> Result<Self, UnknownLayout> {
        let unknown = || UnknownLayout(name.to_owned());
        if name.contains('\0') {
            return Err(unknown());
        }
        let (layout, variant) = name.split_once(':').unwrap_or((name, ""));
        let mut context = xkb::Context::new(xkb::CONTEXT_NO_ENVIRONMENT_NAMES);
        context.set_log_level(xkb::LogLevel::Critical);
        let keymap = xkb::Keymap::new_from_names(
            &context,
            "evdev",
            "pc105",
            layout,
            variant,
            None,
            xkb::KEYMAP_COMPILE_NO_FLAGS,
        )
        .ok_or_else(unknown)?;
        Ok(Self::read(name, &keymap))
    }

    fn read(name: &str, keymap: &xkb::Keymap) -> Self {
        let mut read = Self {
            name: name.to_owned(),
            characters: HashMap::new(),
            keys: HashMap::new(),
        };
        let modifiers = Modifiers::of(keymap);
        let usual = (1..=LAST_KEY).map(KeyCode).filter(|it| *it != EXTRA_KEY);
        for code in usual.chain([EXTRA_KEY]) {
            // QEMU swallows keys that it has no name for.
            if code.qcode().is_none() {
                continue;
            }
            let key = xkb::Keycode::new(u32::from(code.0) + XKB_OFFSET);
            for level in 0..keymap.num_levels_for_key(key, 0) {
                let &[keysym] = keymap.key_get_syms_by_level(key, 0, level) else {
                    continue;
                };
                let on_keypad = KEYPAD.contains(&keysym.raw());
                let Some(needs) = modifiers.for_level(keymap, key, level, on_keypad) else {
                    continue;
                };
                read.add_name(keysym, code, &needs);
                if !on_keypad {
                    read.add_character(keysym, code, &needs);
                }
            }
        }
        for (character, key) in [('\n', "return"), ('\t', "tab")] {
            if let Some(chord) = read
                .keys
                .get(key)
                .and_then(|key| Chord::new(vec![key.code]))
            {
                read.characters.insert(character, chord);
            }
        }
        read
    }

    fn add_name(&mut self, keysym: xkb::Keysym, code: KeyCode, needs: &[KeyCode]) {
        let name = xkb::keysym_get_name(keysym);
        let key = NamedKey {
            code,
            needs: needs.to_vec(),
        };
        // Names in any case, so that `A` and `a` are one key: the one with fewest modifiers.
        let known = self.keys.entry(name.to_lowercase());
        known
            .and_modify(|known| {
                if key.needs.len() < known.needs.len() {
                    *known = key.clone();
                }
            })
            .or_insert(key);
    }

    fn add_character(&mut self, keysym: xkb::Keysym, code: KeyCode, needs: &[KeyCode]) {
        let Some(character) = char::from_u32(xkb::keysym_to_utf32(keysym)) else {
            return;
        };
        if character.is_control() {
            return;
        }
        let Some(chord) = Chord::new([needs, &[code]].concat()) else {
            return;
        };
        let known = self.characters.entry(character);
        known
            .and_modify(|known| {
                if code != EXTRA_KEY && chord.keys().len() < known.keys().len() {
                    *known = chord.clone();
                }
            })
            .or_insert(chord);
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys that type this text, or every character of it that has none.
    pub fn type_text(&self, text: &str) -> Result<Vec<Chord>, Untypable> {
        let mut chords = Vec::with_capacity(text.len());
        let mut missing: Vec<(usize, char)> = Vec::new();
        for (at, character) in text.chars().enumerate() {
            match self.characters.get(&character) {
                Some(chord) => chords.push(chord.clone()),
                None if missing.iter().any(|(_, it)| *it == character) => {}
                None => missing.push((at, character)),
            }
        }
        if missing.is_empty() {
            return Ok(chords);
        }
        Err(Untypable {
            layout: self.name.clone(),
            characters: missing,
        })
    }

    /// The key that prints this character, and what has to be down with it.
    pub(super) fn key_of(&self, character: char) -> Option<NamedKey> {
        let chord = self.characters.get(&character)?;
        let (code, needs) = chord.keys().split_last()?;
        Some(NamedKey {
            code: *code,
            needs: needs.to_vec(),
        })
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layout({})", self.name)
    }
}

/// The masks of the modifiers that we press, and of the one that we take as given.
struct Modifiers {
    shift: xkb::ModMask,
    level3: xkb::ModMask,
    num_lock: xkb::ModMask,
}

impl Modifiers {
    fn of(keymap: &xkb::Keymap) -> Self {
        let mask = |name: &str| {
            let index = keymap.mod_get_index(name);
            1_u32.checked_shl(index).unwrap_or(0)
        };
        Self {
            shift: mask(xkb::MOD_NAME_SHIFT),
            level3: mask(xkb::MOD_NAME_ISO_LEVEL3_SHIFT),
            num_lock: mask(xkb::MOD_NAME_NUM),
        }
    }

    /// The fewest keys that reach a level of a key, or `None` where Shift and AltGr do not.
    /// A keypad key keeps its name whatever Num Lock does.
    fn for_level(
        &self,
        keymap: &xkb::Keymap,
        key: xkb::Keycode,
        level: xkb::LevelIndex,
        on_keypad: bool,
    ) -> Option<Vec<KeyCode>> {
        let mut masks = [0; 64];
        let count = keymap.key_get_mods_for_level(key, 0, level, &mut masks);
        let ignored = if on_keypad { self.num_lock } else { 0 };
        masks[..count]
            .iter()
            .map(|mask| mask & !ignored)
            .filter(|mask| mask & !(self.shift | self.level3) == 0)
            .min_by_key(|mask| mask.count_ones())
            .map(|mask| {
                let pairs = [
                    (self.shift, KeyCode::LEFT_SHIFT),
                    (self.level3, KeyCode::RIGHT_ALT),
                ];
                let pressed = pairs.into_iter().filter(|(bit, _)| mask & bit != 0);
                pressed.map(|(_, key)| key).collect()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us() -> Layout {
        Layout::compile("us").unwrap()
    }

    fn codes(chords: &[Chord]) -> Vec<Vec<u16>> {
        let of = |chord: &Chord| chord.keys().iter().map(|key| key.0).collect();
        chords.iter().map(of).collect()
    }

    #[test]
    fn types_all_of_ascii_on_the_main_block() {
        let text: String = (' '..='~').collect();
        let chords = us().type_text(&text).unwrap();
        assert_eq!(chords.len(), 95);
        for (character, chord) in text.chars().zip(&chords) {
            let keys = chord.keys();
            assert!(keys.len() <= 2, "{character}");
            assert!(keys.last().unwrap().0 <= 57, "{character} on {keys:?}");
        }
        assert_eq!(
            codes(&us().type_text("aA*\n\t").unwrap()),
            [vec![30], vec![42, 30], vec![42, 9], vec![28], vec![15]]
        );
    }

    #[test]
    fn names_every_character_that_cannot_be_typed_once() {
        let error = us().type_text("aéb🦀é\u{7}").unwrap_err();
        assert_eq!(error.characters, [(1, 'é'), (3, '🦀'), (5, '\u{7}')]);
        assert_eq!(
            error.to_string(),
            "the keyboard layout `us` cannot type `é` (U+00E9, position 1), \
             `🦀` (U+1F980, position 3), (U+0007, position 5)"
        );
    }

    #[test]
    fn altgr_and_variants_come_from_xkeyboard_config() {
        let german = Layout::compile("de").unwrap();
        assert_eq!(
            codes(&german.type_text("zß@€").unwrap()),
            [vec![21], vec![12], vec![100, 16], vec![100, 18]]
        );
        let dvorak = Layout::compile("us:dvorak").unwrap();
        assert_eq!(codes(&dvorak.type_text("o").unwrap()), [vec![31]]);
    }

    #[test]
    fn an_unknown_layout_is_an_error() {
        for bad in ["nowhere", "us:nowhere", "a\0b"] {
            assert_eq!(
                Layout::compile(bad).unwrap_err(),
                UnknownLayout(bad.to_owned())
            );
        }
    }
}
