//! What a keymap's keys mean, found by pressing them on a keyboard that exists in libxkbcommon alone.

use xkbcommon::xkb::{self, Keysym};

use crate::model::KeyCode;

/// xkeyboard-config counts keys as X does: evdev's code plus 8.
const XKB_OFFSET: u32 = 8;

/// The highest evdev code that an X keymap has.
const LAST_KEY: u16 = 247;

/// The key between left Shift and Z, which keyboards of many countries lack and guests of
/// those countries map as they like: it types only what no other key does.
pub(super) const EXTRA_KEY: KeyCode = KeyCode(86);

const CAPS_LOCK: KeyCode = KeyCode(58);

/// The keysyms of the keypad, `KP_Space` to `KP_9` and `KP_Equal` in `keysymdef.h`.
const KEYPAD: std::ops::RangeInclusive<u32> = 0xff80..=0xffbd;

/// The keys of a layout that choose a level while they are down, where it has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shifters {
    pub(super) shift: Option<KeyCode>,
    /// AltGr on most keyboards.
    pub(super) level3: Option<KeyCode>,
    pub(super) level5: Option<KeyCode>,
}

/// One meaning of a key.
#[derive(Debug, Clone)]
pub(super) struct Meaning {
    pub(super) keysym: Keysym,
    pub(super) code: KeyCode,
    /// What has to be down with it.
    pub(super) needs: Vec<KeyCode>,
    pub(super) on_keypad: bool,
}

/// All meanings of all keys that QEMU's keyboards have: those with fewer keys down first, and
/// those of [`EXTRA_KEY`] last.
pub(super) fn read(keymap: &xkb::Keymap) -> (Shifters, Vec<Meaning>) {
    let shifters = Shifters::of(keymap);
    let mut usual = vec![];
    let mut extra = vec![];
    for held in shifters.combinations() {
        let state = holding(keymap, &held);
        for code in codes().filter(|code| !held.contains(code)) {
            let Some(keysym) = only_keysym(&state, code) else {
                continue;
            };
            let meanings = if code == EXTRA_KEY {
                &mut extra
            } else {
                &mut usual
            };
            meanings.push(Meaning {
                keysym,
                code,
                needs: held.clone(),
                on_keypad: KEYPAD.contains(&keysym.raw()),
            });
        }
    }
    // A keypad key keeps its name whatever Num Lock does.
    let mut state = xkb::State::new(keymap);
    let num_lock = 1_u32.checked_shl(keymap.mod_get_index(xkb::MOD_NAME_NUM));
    state.update_mask(0, 0, num_lock.unwrap_or(0), 0, 0, 0);
    let locked = codes().filter_map(|code| {
        let keysym = only_keysym(&state, code)?;
        KEYPAD.contains(&keysym.raw()).then_some(Meaning {
            keysym,
            code,
            needs: vec![],
            on_keypad: true,
        })
    });
    usual.splice(0..0, locked.collect::<Vec<_>>());
    usual.append(&mut extra);
    (shifters, usual)
}

/// The keys that QEMU does not swallow for want of a name.
fn codes() -> impl Iterator<Item = KeyCode> {
    (1..=LAST_KEY)
        .map(KeyCode)
        .filter(|code| code.qcode().is_some())
}

fn xkb_code(code: KeyCode) -> xkb::Keycode {
    xkb::Keycode::new(u32::from(code.0) + XKB_OFFSET)
}

/// The keyboard with these keys down, pressed one after another.
fn holding(keymap: &xkb::Keymap, held: &[KeyCode]) -> xkb::State {
    let mut state = xkb::State::new(keymap);
    for code in held {
        state.update_key(xkb_code(*code), xkb::KeyDirection::Down);
    }
    state
}

/// What a key says now; a few keys say several things at once, and are left alone.
fn only_keysym(state: &xkb::State, code: KeyCode) -> Option<Keysym> {
    match state.key_get_syms(xkb_code(code)) {
        [keysym] if *keysym != Keysym::NoSymbol => Some(*keysym),
        _ => None,
    }
}

impl Shifters {
    fn of(keymap: &xkb::Keymap) -> Self {
        let state = xkb::State::new(keymap);
        let find = |wanted: Keysym| {
            let found = codes().filter(|code| only_keysym(&state, *code) == Some(wanted));
            // Where several do, those that are nothing else on other keyboards.
            found.min_by_key(|code| match *code {
                KeyCode::LEFT_SHIFT | KeyCode::RIGHT_ALT => 0,
                EXTRA_KEY => 2,
                CAPS_LOCK => 3,
                _ => 1,
            })
        };
        Self {
            shift: find(Keysym::Shift_L).or_else(|| find(Keysym::Shift_R)),
            level3: find(Keysym::ISO_Level3_Shift),
            level5: find(Keysym::ISO_Level5_Shift),
        }
    }

    /// Everything that may be held, the least first.
    fn combinations(self) -> Vec<Vec<KeyCode>> {
        let mut all = vec![vec![]];
        for key in [self.shift, self.level3, self.level5].into_iter().flatten() {
            let with: Vec<_> = all
                .iter()
                .map(|held: &Vec<KeyCode>| [held.as_slice(), &[key]].concat())
                .collect();
            all.extend(with);
        }
        all.sort_by_key(Vec::len);
        all
    }
}
