//! Names of keys, as people and models write them.

use xkbcommon::xkb;

use crate::model::{Chord, KeyCode};

use super::{Layout, layout::NamedKey};

/// Modifiers, which mean a place on the keyboard whatever the layout calls it.
const MODIFIERS: &[(&str, KeyCode)] = &[
    ("ctrl", KeyCode::LEFT_CTRL),
    ("control", KeyCode::LEFT_CTRL),
    ("shift", KeyCode::LEFT_SHIFT),
    ("alt", KeyCode::LEFT_ALT),
    ("option", KeyCode::LEFT_ALT),
    (ALTGR, KeyCode::RIGHT_ALT),
    ("super", KeyCode::LEFT_META),
    ("win", KeyCode::LEFT_META),
    ("windows", KeyCode::LEFT_META),
    ("cmd", KeyCode::LEFT_META),
    ("command", KeyCode::LEFT_META),
    ("meta", KeyCode::LEFT_META),
];

/// Where the layout has a key of that meaning elsewhere, it is that one.
const ALTGR: &str = "altgr";

/// Usual names of keys, and the X names that they mean.
const ALIASES: &[(&str, &str)] = &[
    ("enter", "return"),
    ("esc", "escape"),
    ("del", "delete"),
    ("ins", "insert"),
    ("bksp", "backspace"),
    ("pgup", "prior"),
    ("pageup", "prior"),
    ("page_up", "prior"),
    ("pgdn", "next"),
    ("pgdown", "next"),
    ("pagedown", "next"),
    ("page_down", "next"),
    ("spacebar", "space"),
    ("arrowup", "up"),
    ("arrowdown", "down"),
    ("arrowleft", "left"),
    ("arrowright", "right"),
    ("capslock", "caps_lock"),
    ("numlock", "num_lock"),
    ("scrolllock", "scroll_lock"),
    ("printscreen", "print"),
    ("prtsc", "print"),
    ("prtscr", "print"),
    ("sysrq", "print"),
];

/// Why a list of key names makes no chord.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    #[error("there is no key named `{name}`{}", or_rather(near))]
    Unknown { name: String, near: Vec<String> },
    #[error("`{name}` needs {modifiers} on the layout `{layout}`, which `keys` does not list")]
    NeedsModifiers {
        name: String,
        modifiers: String,
        layout: String,
    },
    #[error("`{0}` names a key that is in the chord already")]
    Twice(String),
    #[error("{0} keys are too many for one chord; the limit is {max}", max = Chord::MAX_KEYS)]
    TooMany(usize),
    #[error("no key is named")]
    Empty,
}

impl BadKeys {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } => "Keys are named as in X (Return, Escape, F5, Page_Up, Left, \
                 KP_Enter, XF86AudioMute), by single characters, or as Ctrl, Shift, Alt, AltGr, Super."
                .to_owned(),
            Self::NeedsModifiers { modifiers, .. } => format!(
                "Add {modifiers} to `keys`, or name the key by what it prints alone. \
                 `type_text` finds the modifiers by itself."
            ),
            Self::Twice(_) => "Name each key once.".to_owned(),
            Self::Empty => "Name at least one key.".to_owned(),
            Self::TooMany(_) => {
                "Press the chords one after another, as several calls or in `run_actions`."
                    .to_owned()
            }
        }
    }
}

impl Layout {
    /// The keys of these names, none twice.
    fn keys_of(&self, names: &[String]) -> Result<Vec<NamedKey>, BadKeys> {
        let found: Vec<_> = names.iter().map(|name| self.key(name)).collect();
        let mut held = found.iter().flatten().map(|key| key.code);
        let is_shortcut = held.any(|code| KeyCode::OF_SHORTCUTS.contains(&code));
        let mut keys: Vec<NamedKey> = Vec::with_capacity(names.len());
        for (name, key) in names.iter().zip(found) {
            let latin = || is_shortcut.then(|| latin_key(name)).flatten();
            // Some layouts have capitals alone, on their Shift level; in a shortcut the case means nothing.
            let is_capital = matches!(name.as_bytes(), [b'A'..=b'Z']);
            let key = match key {
                Ok(key) if is_capital && !key.needs.is_empty() => latin().unwrap_or(key),
                Ok(key) => key,
                Err(error) => latin().ok_or(error)?,
            };
            if keys.iter().any(|known| known.code == key.code) {
                return Err(BadKeys::Twice(name.clone()));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// The chord that these names mean to the program xdotool: as [`Layout::chord`] has it, with the
    /// Shift and AltGr in front that a key needs. A capital letter alone is typed as one; in a shortcut
    /// its case means nothing, as in `ctrl+C`.
    pub fn whole_chord(&self, names: &[String]) -> Result<Chord, BadKeys> {
        if let [name] = names
            && let (Some(character), None) = (name.chars().next(), name.chars().nth(1))
            && let Some(key) = self.key_of(character)
        {
            let keys = [key.needs.as_slice(), &[key.code]].concat();
            return Chord::new(keys).ok_or(BadKeys::Empty);
        }
        let keys = self.keys_of(names)?;
        let mut codes: Vec<KeyCode> = vec![];
        for needed in keys.iter().flat_map(|key| &key.needs) {
            let is_named = keys.iter().any(|key| key.code == *needed);
            if !is_named && !codes.contains(needed) {
                codes.push(*needed);
            }
        }
        codes.extend(keys.iter().map(|key| key.code));
        match codes.len() {
            0 => Err(BadKeys::Empty),
            count if count > Chord::MAX_KEYS => Err(BadKeys::TooMany(count)),
            _ => Chord::new(codes).ok_or(BadKeys::Empty),
        }
    }

    /// The chord that these names mean, down in this order.
    ///
    /// A letter names its key whatever its case: Shift is down only where it is listed. A
    /// name that means another key without Shift or AltGr is refused unless those are listed.
    /// In a shortcut, a Latin letter or digit that the layout lacks names the key where `us` has it.
    pub fn chord(&self, names: &[String]) -> Result<Chord, BadKeys> {
        if names.is_empty() {
            return Err(BadKeys::Empty);
        }
        if names.len() > Chord::MAX_KEYS {
            return Err(BadKeys::TooMany(names.len()));
        }
        let keys = self.keys_of(names)?;
        let codes: Vec<_> = keys.iter().map(|key| key.code).collect();
        for (name, key) in names.iter().zip(&keys) {
            let missing: Vec<_> = key
                .needs
                .iter()
                .filter(|needed| !codes.contains(needed))
                .map(|needed| self.modifier_name(*needed))
                .collect();
            if !missing.is_empty() {
                return Err(BadKeys::NeedsModifiers {
                    name: name.clone(),
                    modifiers: missing.join(" and "),
                    layout: self.name().to_owned(),
                });
            }
        }
        Chord::new(codes).ok_or(BadKeys::Empty)
    }

    fn key(&self, name: &str) -> Result<NamedKey, BadKeys> {
        let lower = name.to_lowercase();
        if let Some((alias, code)) = MODIFIERS.iter().find(|(alias, _)| *alias == lower) {
            let elsewhere = self.shifters.level3.filter(|_| *alias == ALTGR);
            return Ok(NamedKey {
                code: elsewhere.unwrap_or(*code),
                needs: vec![],
            });
        }
        let mut characters = name.chars();
        if let (Some(character), None) = (characters.next(), characters.next()) {
            return self
                .key_of_character(character)
                .or_else(|| self.dead_key_of(character))
                .ok_or_else(|| self.unknown(name));
        }
        self.keys
            .get(x_name(&lower))
            .cloned()
            .ok_or_else(|| self.unknown(name))
    }

    fn key_of_character(&self, character: char) -> Option<NamedKey> {
        let lower: Vec<char> = character.to_lowercase().collect();
        match (self.key_of(character), lower.as_slice()) {
            // A capital on a key's Shift level: the letter's own key.
            (Some(upper), [lower]) if *lower != character => self
                .key_of(*lower)
                .filter(|key| key.code == upper.code)
                .or(Some(upper)),
            (key, _) => key,
        }
    }

    /// What to call a key that chooses a level.
    fn modifier_name(&self, key: KeyCode) -> &'static str {
        if Some(key) == self.shifters.level3 {
            "AltGr"
        } else if Some(key) == self.shifters.level5 {
            "ISO_Level5_Shift"
        } else {
            "Shift"
        }
    }

    fn unknown(&self, name: &str) -> BadKeys {
        let lower = name.to_lowercase();
        let mut near: Vec<(usize, &str)> = self
            .keys
            .keys()
            .map(String::as_str)
            .chain(MODIFIERS.iter().map(|(alias, _)| *alias))
            .chain(ALIASES.iter().map(|(alias, _)| *alias))
            .filter(|known| known.len() > 1)
            .map(|known| (strsim::damerau_levenshtein(known, &lower), known))
            .filter(|(distance, known)| *distance <= 2 && *distance < known.len())
            .collect();
        near.sort_unstable();
        near.dedup();
        let near = near.into_iter().take(3).map(|(_, known)| known.to_owned());
        BadKeys::Unknown {
            name: name.to_owned(),
            near: near.collect(),
        }
    }
}

/// The X name that a name means.
fn x_name(lower: &str) -> &str {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
    alias.map_or(lower, |(_, x_name)| x_name)
}

/// Whether a key of this name types a character, or a part of one.
pub(crate) fn types_character(name: &str) -> bool {
    if name.chars().count() == 1 {
        return true;
    }
    // No C string, and so no name of X's.
    if name.contains('\0') {
        return false;
    }
    let lower = name.to_lowercase();
    let x_name = x_name(&lower);
    let keysym = xkb::keysym_from_name(x_name, xkb::KEYSYM_CASE_INSENSITIVE);
    let character = char::from_u32(xkb::keysym_to_utf32(keysym));
    let is_blank = |it: char| it.is_control() || it == ' ';
    x_name.starts_with("dead_") || character.is_some_and(|it| !is_blank(it))
}

/// The key of a Latin letter or digit on `us`: where toolkits take shortcuts to be that the layout at hand,
/// such as `gr` or `ru`, cannot name (Qt: `QXkbCommon::lookupLatinKeysym`).
fn latin_key(name: &str) -> Option<NamedKey> {
    let [letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9')] = name.as_bytes() else {
        return None;
    };
    Layout::us()?.key_of(char::from(letter.to_ascii_lowercase()))
}

fn or_rather(near: &[String]) -> String {
    if near.is_empty() {
        return String::new();
    }
    let names: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
    format!("; near ones are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chord(names: &[&str]) -> Result<Vec<u16>, BadKeys> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let chord = Layout::compile("us").unwrap().chord(&names)?;
        Ok(chord.keys().iter().map(|key| key.0).collect())
    }

    #[test]
    fn names_of_x_aliases_and_characters_name_keys() {
        let cases: &[(&[&str], &[u16])] = &[
            (&["Return"], &[28]),
            (&["ENTER"], &[28]),
            (&["F5"], &[63]),
            (&["Page_Up"], &[104]),
            (&["PgDn"], &[109]),
            (&["KP_Enter"], &[96]),
            (&["KP_1"], &[79]),
            (&["XF86AudioMute"], &[113]),
            (&["Print"], &[99]),
            (&["Menu"], &[127]),
            (&["Pause"], &[119]),
            (&["Win"], &[125]),
            (&["AltGr", "e"], &[100, 18]),
            (&["Ctrl", "P"], &[29, 25]),
            (&["Ctrl", "Shift", "p"], &[29, 42, 25]),
            (&["Ctrl", "Alt", "Del"], &[29, 56, 111]),
            (&["Shift", "!"], &[42, 2]),
            (&["Shift", "plus"], &[42, 13]),
            (&["/"], &[53]),
            (&[" "], &[57]),
            (&["Control_R"], &[97]),
            (&["space"], &[57]),
        ];
        for (names, codes) in cases {
            assert_eq!(chord(names).as_deref(), Ok(*codes), "{names:?}");
        }
    }

    #[test]
    fn keys_are_those_of_the_layout() {
        let cases: &[(&str, &[&str], &[u16])] = &[
            ("de", &["Ctrl", "z"], &[29, 21]),
            ("de", &["Ctrl", "Shift", "Y"], &[29, 42, 44]),
            ("de", &["ö"], &[39]),
            // The dead key that prints it before a space.
            ("de", &["Ctrl", "^"], &[29, 41]),
            ("de", &["AltGr", "q"], &[100, 16]),
            ("fr", &["Ctrl", "a"], &[29, 16]),
            ("us:dvorak", &["Ctrl", "s"], &[29, 39]),
            ("de:neo", &["AltGr", "u"], &[43, 30]),
            ("ru", &["й"], &[16]),
            // What `ru` and `gr` lack is where `us` has it, in shortcuts alone.
            ("ru", &["Ctrl", "z"], &[29, 44]),
            ("gr", &["Alt", "Shift", "T"], &[56, 42, 20]),
            // Which has Latin capitals alone.
            ("il", &["Ctrl", "C"], &[29, 46]),
            ("ru", &["Super_R", "l"], &[126, 38]),
        ];
        for (layout, names, codes) in cases {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chord = Layout::compile(layout).unwrap().chord(&names).unwrap();
            let keys: Vec<_> = chord.keys().iter().map(|key| key.0).collect();
            assert_eq!(keys, *codes, "{layout}: {names:?}");
        }
        let russian = Layout::compile("ru").unwrap();
        for names in [&["z"][..], &["Shift", "z"], &["Ctrl", "é"]] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let error = russian.chord(&names).unwrap_err();
            assert!(matches!(error, BadKeys::Unknown { .. }), "{names:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_near_ones() {
        let error = chord(&["Retrun"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no key named `Retrun`; near ones are `return`"
        );
        let nothing_near = BadKeys::Unknown {
            name: "Frobnicate".into(),
            near: vec![],
        };
        assert_eq!(chord(&["Frobnicate"]), Err(nothing_near));
        assert!(matches!(chord(&["é"]), Err(BadKeys::Unknown { .. })));
        assert!(matches!(chord(&[""]), Err(BadKeys::Unknown { .. })));
    }

    #[test]
    fn shift_is_down_only_where_it_is_listed() {
        assert_eq!(
            chord(&["Ctrl", "+"]).unwrap_err().to_string(),
            "`+` needs Shift on the layout `us`, which `keys` does not list"
        );
    }

    #[test]
    fn a_whole_chord_has_the_modifiers_that_its_keys_need() {
        let cases: &[(&[&str], &[u16])] = &[
            (&["a"], &[30]),
            (&["A"], &[42, 30]),
            (&["Return"], &[28]),
            (&["plus"], &[42, 13]),
            (&["+"], &[42, 13]),
            (&["ctrl", "+"], &[42, 29, 13]),
            (&["ctrl", "shift", "+"], &[29, 42, 13]),
            (&["ctrl", "C"], &[29, 46]),
            (&["shift", "A"], &[42, 30]),
            (&["exclam"], &[42, 2]),
            (&["ISO_Left_Tab"], &[42, 15]),
            (&["?", "!"], &[42, 53, 2]),
        ];
        let layout = Layout::compile("us").unwrap();
        for (names, codes) in cases {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chord = layout.whole_chord(&names).unwrap();
            let keys: Vec<_> = chord.keys().iter().map(|key| key.0).collect();
            assert_eq!(keys, *codes, "{names:?}");
        }
        assert_eq!(layout.whole_chord(&[]), Err(BadKeys::Empty));
        let many: Vec<_> = ('a'..='q').map(String::from).collect();
        assert_eq!(layout.whole_chord(&many), Err(BadKeys::TooMany(17)));
    }

    #[test]
    fn a_chord_names_each_key_once_and_not_too_many() {
        assert_eq!(
            chord(&["Ctrl", "Control"]),
            Err(BadKeys::Twice("Control".into()))
        );
        assert_eq!(chord(&["a"; 17]), Err(BadKeys::TooMany(17)));
        assert_eq!(chord(&[]), Err(BadKeys::Empty));
    }
}
