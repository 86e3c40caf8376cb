//! Keys as the kernel counts them.

/// A Linux evdev key code, as `linux/input-event-codes.h` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyCode(pub u16);

impl KeyCode {
    pub const LEFT_CTRL: Self = Self(29);
    pub const LEFT_SHIFT: Self = Self(42);
    pub const LEFT_ALT: Self = Self(56);
    pub const RIGHT_ALT: Self = Self(100);
    pub const RIGHT_CTRL: Self = Self(97);
    pub const LEFT_META: Self = Self(125);
    pub const RIGHT_META: Self = Self(126);

    /// With one of these down, a key is a shortcut and types nothing.
    pub const OF_SHORTCUTS: [Self; 5] = [
        Self::LEFT_CTRL,
        Self::RIGHT_CTRL,
        Self::LEFT_ALT,
        Self::LEFT_META,
        Self::RIGHT_META,
    ];

    /// What QEMU calls this key in QMP (`QKeyCode`), or `None` where QEMU's keyboards
    /// have no such key and would swallow it without a word.
    pub fn qcode(self) -> Option<&'static str> {
        QCODES
            .binary_search_by_key(&self.0, |(code, _)| *code)
            .ok()
            .map(|at| QCODES[at].1)
    }
}

/// evdev codes and the names of `QKeyCode` in QEMU's `qapi/ui.json`, sorted by code.
#[rustfmt::skip]
const QCODES: &[(u16, &str)] = &[
    (1, "esc"), (2, "1"), (3, "2"), (4, "3"), (5, "4"), (6, "5"), (7, "6"), (8, "7"), (9, "8"),
    (10, "9"), (11, "0"), (12, "minus"), (13, "equal"), (14, "backspace"), (15, "tab"), (16, "q"),
    (17, "w"), (18, "e"), (19, "r"), (20, "t"), (21, "y"), (22, "u"), (23, "i"), (24, "o"),
    (25, "p"), (26, "bracket_left"), (27, "bracket_right"), (28, "ret"), (29, "ctrl"), (30, "a"),
    (31, "s"), (32, "d"), (33, "f"), (34, "g"), (35, "h"), (36, "j"), (37, "k"), (38, "l"),
    (39, "semicolon"), (40, "apostrophe"), (41, "grave_accent"), (42, "shift"), (43, "backslash"),
    (44, "z"), (45, "x"), (46, "c"), (47, "v"), (48, "b"), (49, "n"), (50, "m"), (51, "comma"),
    (52, "dot"), (53, "slash"), (54, "shift_r"), (55, "kp_multiply"), (56, "alt"), (57, "spc"),
    (58, "caps_lock"), (59, "f1"), (60, "f2"), (61, "f3"), (62, "f4"), (63, "f5"), (64, "f6"),
    (65, "f7"), (66, "f8"), (67, "f9"), (68, "f10"), (69, "num_lock"), (70, "scroll_lock"),
    (71, "kp_7"), (72, "kp_8"), (73, "kp_9"), (74, "kp_subtract"), (75, "kp_4"), (76, "kp_5"),
    (77, "kp_6"), (78, "kp_add"), (79, "kp_1"), (80, "kp_2"), (81, "kp_3"), (82, "kp_0"),
    (83, "kp_decimal"), (86, "less"), (87, "f11"), (88, "f12"), (89, "ro"), (92, "henkan"),
    (93, "katakanahiragana"), (94, "muhenkan"), (96, "kp_enter"), (97, "ctrl_r"),
    (98, "kp_divide"), (99, "sysrq"), (100, "alt_r"), (102, "home"), (103, "up"), (104, "pgup"),
    (105, "left"), (106, "right"), (107, "end"), (108, "down"), (109, "pgdn"), (110, "insert"),
    (111, "delete"), (113, "audiomute"), (114, "volumedown"), (115, "volumeup"), (116, "power"),
    (117, "kp_equals"), (119, "pause"), (121, "kp_comma"), (124, "yen"), (125, "meta_l"),
    (126, "meta_r"), (127, "compose"), (128, "stop"), (129, "again"), (130, "props"),
    (131, "undo"), (132, "front"), (133, "copy"), (134, "open"), (135, "paste"), (136, "find"),
    (137, "cut"), (138, "help"), (139, "menu"), (140, "calculator"), (142, "sleep"), (143, "wake"),
    (155, "mail"), (156, "ac_bookmarks"), (157, "computer"), (158, "ac_back"), (159, "ac_forward"),
    (163, "audionext"), (164, "audioplay"), (165, "audioprev"), (166, "audiostop"),
    (172, "ac_home"), (173, "ac_refresh"), (183, "f13"), (184, "f14"), (185, "f15"), (186, "f16"),
    (187, "f17"), (188, "f18"), (189, "f19"), (190, "f20"), (191, "f21"), (192, "f22"),
    (193, "f23"), (194, "f24"), (226, "mediaselect"),
];

/// Keys that go down in this order and up in reverse: modifiers first.
///
/// At most [`Chord::MAX_KEYS`], which is what one `virDomainSendKey` takes
/// (`VIR_DOMAIN_SEND_KEY_MAX_KEYS` in libvirt-domain.h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chord(Vec<KeyCode>);

impl Chord {
    pub const MAX_KEYS: usize = 16;

    /// `None` where the list is empty, too long or names a key twice: a key cannot
    /// go down while it is down.
    pub fn new(keys: Vec<KeyCode>) -> Option<Self> {
        let repeats = keys
            .iter()
            .enumerate()
            .any(|(at, key)| keys[..at].contains(key));
        let fits = (1..=Self::MAX_KEYS).contains(&keys.len());
        (fits && !repeats).then_some(Self(keys))
    }

    pub fn keys(&self) -> &[KeyCode] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qcodes_are_sorted_so_that_each_is_found() {
        assert!(QCODES.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(KeyCode(29).qcode(), Some("ctrl"));
        assert_eq!(KeyCode(84).qcode(), None);
    }

    #[test]
    fn a_chord_has_one_to_sixteen_different_keys() {
        let keys = |n: u16| (1..=n).map(KeyCode).collect::<Vec<_>>();
        assert!(Chord::new(keys(0)).is_none());
        assert!(Chord::new(keys(16)).is_some());
        assert!(Chord::new(keys(17)).is_none());
        assert!(Chord::new(vec![KeyCode(30), KeyCode(30)]).is_none());
    }
}
