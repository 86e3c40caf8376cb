//! One layout, compiled: which keystrokes type which character, and which key has which name.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::PathBuf,
    sync::{LazyLock, OnceLock},
};

use xkbcommon::xkb::{self, Keysym};

use crate::model::{Chord, KeyCode, UnicodeInput};

use super::{
    Typed, Untypable, compose,
    levels::{self, Meaning, Shifters},
};

/// A layout of xkeyboard-config.
#[derive(Clone)]
pub struct Layout {
    name: String,
    pub(super) shifters: Shifters,
    /// What each keysym takes, off the keypad, the easiest first.
    strokes: Vec<(Keysym, Chord)>,
    /// Characters of one keystroke.
    characters: HashMap<char, Typed>,
    /// Characters of several, found when a text first needs one. `None` where the table is missing.
    composed: OnceLock<Option<HashMap<char, Typed>>>,
    pub(super) keys: HashMap<String, NamedKey>,
    unicode: Option<UnicodeInput>,
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

static US: LazyLock<Option<Layout>> = LazyLock::new(|| Layout::compile("us").ok());

impl Layout {
    /// Compiles `layout` or `layout:variant`, such as `us` or `us:dvorak`.
    pub fn compile(name: &str) -> Result<Self, UnknownLayout> {
        let keymap = load(name).ok_or_else(|| UnknownLayout(name.to_owned()))?;
        let (shifters, meanings) = levels::read(&keymap);
        Ok(Self::of(name, shifters, &meanings))
    }

    /// The layout `us`, compiled once; `None` where xkeyboard-config is not installed.
    pub fn us() -> Option<&'static Self> {
        US.as_ref()
    }

    /// The layout for guests that take characters by their code points.
    #[must_use]
    pub fn with_unicode(mut self, unicode: Option<UnicodeInput>) -> Self {
        self.unicode = unicode;
        self
    }

    fn of(name: &str, shifters: Shifters, meanings: &[Meaning]) -> Self {
        let mut layout = Self {
            name: name.to_owned(),
            shifters,
            strokes: vec![],
            characters: HashMap::new(),
            composed: OnceLock::new(),
            keys: HashMap::new(),
            unicode: None,
        };
        let mut known = HashSet::new();
        for meaning in meanings {
            layout.add_name(meaning);
            let chord = Chord::new([meaning.needs.as_slice(), &[meaning.code]].concat());
            if let Some(chord) = chord.filter(|_| !meaning.on_keypad)
                && known.insert(meaning.keysym)
            {
                layout.add_character(meaning.keysym, &chord);
                layout.strokes.push((meaning.keysym, chord));
            }
        }
        for (character, key) in [('\n', "return"), ('\t', "tab")] {
            let key = layout.keys.get(key);
            if let Some(chord) = key.and_then(|key| Chord::new(vec![key.code])) {
                layout.characters.insert(character, Typed::at_once(chord));
            }
        }
        layout
    }

    fn add_name(&mut self, meaning: &Meaning) {
        let name = xkb::keysym_get_name(meaning.keysym);
        let key = NamedKey {
            code: meaning.code,
            needs: meaning.needs.clone(),
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

    fn add_character(&mut self, keysym: Keysym, chord: &Chord) {
        let character = char::from_u32(xkb::keysym_to_utf32(keysym));
        if let Some(character) = character.filter(|it| !it.is_control()) {
            let typed = || Typed::at_once(chord.clone());
            self.characters.entry(character).or_insert_with(typed);
        }
    }

    /// The keys that are held down to reach characters, wherever this layout has them.
    pub(crate) fn modifiers(&self) -> impl Iterator<Item = KeyCode> {
        let shifters = &self.shifters;
        [shifters.shift, shifters.level3, shifters.level5]
            .into_iter()
            .flatten()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keystrokes of each character of this text, or every character of it that has none.
    pub fn type_text(&self, text: &str) -> Result<Vec<Typed>, Untypable> {
        let mut typed = Vec::with_capacity(text.len());
        let mut missing: Vec<(usize, char)> = Vec::new();
        for (at, character) in text.chars().enumerate() {
            match self.type_character(character) {
                Some(it) => typed.push(it),
                None if missing.iter().any(|(_, it)| *it == character) => {}
                None => missing.push((at, character)),
            }
        }
        if missing.is_empty() {
            return Ok(typed);
        }
        Err(Untypable {
            layout: self.name.clone(),
            characters: missing,
            compose_file: self.missing_compose_file(),
        })
    }

    fn type_character(&self, character: char) -> Option<Typed> {
        if let Some(typed) = self.characters.get(&character) {
            return Some(typed.clone());
        }
        if character.is_control() {
            return None;
        }
        let composed = self.composed().and_then(|it| it.get(&character));
        composed.cloned().or_else(|| match self.unicode? {
            UnicodeInput::CtrlShiftU => self.by_code_point(character),
        })
    }

    fn composed(&self) -> Option<&HashMap<char, Typed>> {
        let read = || {
            let strokes: Vec<_> = self
                .strokes
                .iter()
                .map(|(it, chord)| (*it, chord))
                .collect();
            compose::read(&compose::file(), &strokes)
        };
        self.composed.get_or_init(read).as_ref()
    }

    /// The table that the layout's dead keys want and that is not there.
    fn missing_compose_file(&self) -> Option<PathBuf> {
        self.composed().is_none().then(compose::file)
    }

    /// As GTK and IBus take it: Ctrl+Shift+U, the digits, and a space, which is not typed but ends them.
    fn by_code_point(&self, character: char) -> Option<Typed> {
        let shift = self.shifters.shift?;
        let u = self.key_of('u').filter(|key| key.needs.is_empty())?;
        let mut chords = vec![Chord::new(vec![KeyCode::LEFT_CTRL, shift, u.code])?];
        for digit in format!("{:x}", u32::from(character)).chars() {
            chords.push(self.key_of_digit(digit)?);
        }
        chords.extend_from_slice(self.characters.get(&' ')?.chords());
        Some(Typed(chords.into()))
    }

    /// The key of a digit of a code point, pressed alone even where the digit itself needs Shift: letting
    /// go of Shift would end the digits, and a key that has a digit on any level is taken for it
    /// (`canonical_hex_keyval` and `gtk_im_context_simple_filter_keypress` in GTK 3's
    /// `gtkimcontextsimple.c`).
    fn key_of_digit(&self, digit: char) -> Option<Chord> {
        let key = self.key_of(digit)?;
        let alone = Chord::new(vec![key.code])?;
        let is_another = |it: char| {
            let typed = self.characters.get(&it);
            it != digit && typed.is_some_and(|it| it.chords() == [alone.clone()])
        };
        let is_taken = "0123456789abcdef".chars().any(is_another);
        (!is_taken).then_some(alone)
    }

    /// The key that prints this character, and what has to be down with it.
    pub(super) fn key_of(&self, character: char) -> Option<NamedKey> {
        let chord = self.characters.get(&character)?.chords().first()?;
        named_key(chord)
    }

    /// The dead key that prints this character before a space.
    pub(super) fn dead_key_of(&self, character: char) -> Option<NamedKey> {
        let typed = self.composed()?.get(&character)?;
        let space = self.characters.get(&' ')?;
        match (typed.chords(), space.chords()) {
            ([dead, last], [space]) if last == space => named_key(dead),
            _ => None,
        }
    }
}

/// The keymap that a guest has with this layout.
pub(super) fn load(name: &str) -> Option<xkb::Keymap> {
    if name.contains('\0') {
        return None;
    }
    let (layout, variant) = name.split_once(':').unwrap_or((name, ""));
    let mut context = xkb::Context::new(xkb::CONTEXT_NO_ENVIRONMENT_NAMES);
    context.set_log_level(xkb::LogLevel::Critical);
    xkb::Keymap::new_from_names(
        &context,
        "evdev",
        "pc105",
        layout,
        variant,
        None,
        xkb::KEYMAP_COMPILE_NO_FLAGS,
    )
}

fn named_key(chord: &Chord) -> Option<NamedKey> {
    let (code, needs) = chord.keys().split_last()?;
    Some(NamedKey {
        code: *code,
        needs: needs.to_vec(),
    })
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layout({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us() -> Layout {
        Layout::compile("us").unwrap()
    }

    /// The keystrokes of a text, each as the evdev codes that go down.
    fn typed(layout: &Layout, text: &str) -> Vec<Vec<u16>> {
        let typed = layout.type_text(text).unwrap();
        let chords = typed.iter().flat_map(Typed::chords);
        chords
            .map(|chord| chord.keys().iter().map(|key| key.0).collect())
            .collect()
    }

    fn missing(layout: &Layout, text: &str) -> Vec<(usize, char)> {
        layout.type_text(text).unwrap_err().characters
    }

    #[test]
    fn types_all_of_ascii_on_the_main_block() {
        let text: String = (' '..='~').collect();
        let typed_text = us().type_text(&text).unwrap();
        assert_eq!(typed_text.len(), 95);
        for (character, typed) in text.chars().zip(&typed_text) {
            let [chord] = typed.chords() else {
                panic!("{character} takes one keystroke");
            };
            let keys = chord.keys();
            assert!(keys.len() <= 2, "{character}");
            assert!(keys.last().unwrap().0 <= 57, "{character} on {keys:?}");
        }
        assert_eq!(
            typed(&us(), "aA*\n\t"),
            [vec![30], vec![42, 30], vec![42, 9], vec![28], vec![15]]
        );
    }

    #[test]
    fn every_layout_types_by_its_own_keys() {
        // What `xkbcli how-to-type` and the layouts' drawings say; codes of linux/input-event-codes.h.
        const LEFT_SHIFT: u16 = 42;
        const ALTGR: u16 = 100;
        let cases: &[(&str, &str, &[&[u16]])] = &[
            ("de", "zyß", &[&[21], &[44], &[12]]),
            ("de", "@€{", &[&[ALTGR, 16], &[ALTGR, 18], &[ALTGR, 8]]),
            (
                "de",
                "<|ẞ",
                &[&[86], &[ALTGR, 86], &[LEFT_SHIFT, ALTGR, 31]],
            ),
            // Dead keys, and the space that makes them characters.
            ("de", "^", &[&[41], &[57]]),
            ("de", "`", &[&[LEFT_SHIFT, 13], &[57]]),
            ("de", "´", &[&[13], &[13]]),
            ("de", "é", &[&[13], &[18]]),
            ("de", "Ê", &[&[41], &[LEFT_SHIFT, 18]]),
            ("de:nodeadkeys", "^`´", &[&[41], &[LEFT_SHIFT, 13], &[13]]),
            ("fr", "azé1", &[&[16], &[17], &[3], &[LEFT_SHIFT, 2]]),
            ("fr", "@#", &[&[ALTGR, 11], &[ALTGR, 4]]),
            ("fr", "ê", &[&[26], &[18]]),
            (
                "gb",
                "\"@£#",
                &[&[LEFT_SHIFT, 3], &[LEFT_SHIFT, 40], &[LEFT_SHIFT, 4], &[43]],
            ),
            ("es", "ñ¿á", &[&[39], &[LEFT_SHIFT, 13], &[40], &[30]]),
            ("ru", "йЙ.", &[&[16], &[LEFT_SHIFT, 16], &[53]]),
            ("gr", "αά", &[&[30], &[39], &[30]]),
            ("us:dvorak", "os", &[&[31], &[39]]),
            // A dead key of its own beats one more keystroke.
            ("us:intl", "'", &[&[ALTGR, 40]]),
            ("us:intl", "é", &[&[ALTGR, 18]]),
            ("us:intl", "\"", &[&[LEFT_SHIFT, ALTGR, 40]]),
            // Level 3 on a key beside Return, level 5 on the right Alt.
            ("de:neo", "x@", &[&[16], &[43, 40]]),
            ("de:neo", "α", &[&[42, 43, 32]]),
            // A dead key, and a letter that has an accent already.
            ("us:intl", "ấ", &[&[LEFT_SHIFT, 7], &[ALTGR, 30]]),
        ];
        for (name, text, keys) in cases {
            let layout = Layout::compile(name).unwrap();
            assert_eq!(typed(&layout, text), *keys, "{name}: {text}");
        }
    }

    #[test]
    fn every_letter_of_a_layout_can_be_typed_and_no_key_is_down_twice() {
        let cases = [
            ("de", "äöüÄÖÜß"),
            ("fr", "àâæçéèêëîïôùûüÿ«»€"),
            ("fr:oss", "œŒÀÉ…"),
            ("es", "áéíñóúü¿¡ºª"),
            ("ru", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя№"),
            ("gr", "αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊΐ"),
            ("cz", "ěščřžýáíéůúďťň"),
            ("pl", "ąćęłńóśźż"),
            ("tr", "ığşçöüİ"),
            ("se", "åäö"),
            ("il", "אבגדה"),
            ("ara", "ابتث"),
        ];
        for (name, text) in cases {
            let layout = Layout::compile(name).unwrap();
            assert_eq!(
                layout.type_text(text).map(|typed| typed.len()),
                Ok(text.chars().count()),
                "{name}"
            );
        }
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
    fn by_code_point_anything_but_control_characters_is_typed() {
        let layout = us().with_unicode(Some(UnicodeInput::CtrlShiftU));
        let cases: &[(&str, &[u16])] = &[
            ("é", &[18, 10, 57]),
            // A combining mark, one beyond the first 65,536, and an emoji.
            ("\u{301}", &[4, 11, 2, 57]),
            ("𝄞", &[2, 32, 2, 2, 18, 57]),
            ("🦀", &[2, 33, 10, 9, 11, 57]),
            ("\u{10ffff}", &[2, 11, 33, 33, 33, 33, 57]),
        ];
        for (text, keys) in cases {
            let mut expected = vec![vec![29, 42, 22]];
            expected.extend(keys.iter().map(|key| vec![*key]));
            assert_eq!(typed(&layout, text), expected, "{text:?}");
            assert_eq!(layout.type_text(text).unwrap().len(), 1);
        }
        // What the layout has is typed as ever.
        assert_eq!(typed(&layout, "a\n"), [[30], [28]]);
        assert_eq!(
            missing(&layout, "\0é\u{7}\r\u{1b}\u{7f}\u{85}"),
            [
                (0, '\0'),
                (2, '\u{7}'),
                (3, '\r'),
                (4, '\u{1b}'),
                (5, '\u{7f}'),
                (6, '\u{85}')
            ]
        );
    }

    #[test]
    fn the_digits_of_a_code_point_are_keys_of_the_layout_without_shift() {
        let french = Layout::compile("fr").unwrap();
        let french = french.with_unicode(Some(UnicodeInput::CtrlShiftU));
        assert_eq!(
            typed(&french, "⇒"),
            [
                vec![29, 42, 22],
                vec![3],
                vec![2],
                vec![32],
                vec![3],
                vec![57]
            ]
        );
        // Without Latin letters there is no U to begin with.
        let russian = Layout::compile("ru").unwrap();
        let russian = russian.with_unicode(Some(UnicodeInput::CtrlShiftU));
        assert_eq!(missing(&russian, "é"), [(0, 'é')]);
    }

    #[test]
    fn without_the_table_of_sequences_the_error_says_what_to_install() {
        let mut german = Layout::compile("de").unwrap();
        german.composed = OnceLock::from(None);
        let error = german.type_text("ä^").unwrap_err();
        assert_eq!(error.characters, [(1, '^')]);
        assert!(
            error.hint().contains("apt-get install libx11-data"),
            "{}",
            error.hint()
        );
        // A layout without dead keys wants no such file.
        let strokes = us().strokes;
        let strokes: Vec<_> = strokes.iter().map(|(it, chord)| (*it, chord)).collect();
        assert_eq!(
            compose::read("/nonexistent".as_ref(), &strokes),
            Some(HashMap::new())
        );
        let strokes: Vec<_> = german
            .strokes
            .iter()
            .map(|(it, chord)| (*it, chord))
            .collect();
        assert_eq!(compose::read("/nonexistent".as_ref(), &strokes), None);
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
