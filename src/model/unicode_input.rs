//! Characters by their code points.

/// How a guest takes a character that its layout lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnicodeInput {
    /// Ctrl+Shift+U, the code point's hexadecimal digits, and a space: GTK and IBus.
    CtrlShiftU,
}

impl UnicodeInput {
    pub const ALL: [Self; 1] = [Self::CtrlShiftU];

    /// What the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CtrlShiftU => "ctrl-shift-u",
        }
    }
}
