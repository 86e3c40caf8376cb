//! What can be done with a VM's screen, mouse and keyboard: one struct per act.
//!
//! The same struct is the tool's parameters, a batch's step and what the interpreter
//! runs. A struct's doc comment is the tool's description, a field's its schema text.

mod pointing;
mod watching;

use std::{fmt, time::Duration};

pub use pointing::{
    Button, ButtonState, Click, Direction, Drag, MouseButton, MoveMode, MoveMouse, Scroll,
};
use schemars::JsonSchema;
use serde::Deserialize;
pub use watching::{
    Change, Condition, Console, Image, Port, Ssh, Stable, State, Text, VmState, WaitFor,
};

use super::{Grants, Region, Secret};

/// One act. A single tool is one of them; a batch is a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    MoveMouse(MoveMouse),
    Click(Click),
    Drag(Drag),
    Scroll(Scroll),
    /// Of batches, and of the computer toolset.
    MouseButton(MouseButton),
    TypeText(TypeText),
    PressKeys(PressKeys),
    Wait(Wait),
    TakeScreenshot(TakeScreenshot),
    WaitFor(WaitFor),
}

impl Act {
    /// The names that `action` in a batch's step may have.
    pub const NAMES: [&'static str; 10] = [
        "move_mouse",
        "click",
        "drag",
        "scroll",
        "mouse_button",
        "type_text",
        "press_keys",
        "wait",
        "take_screenshot",
        "wait_for",
    ];

    pub fn name(&self) -> &'static str {
        match self {
            Self::MoveMouse(_) => "move_mouse",
            Self::Click(_) => "click",
            Self::Drag(_) => "drag",
            Self::Scroll(_) => "scroll",
            Self::MouseButton(_) => "mouse_button",
            Self::TypeText(_) => "type_text",
            Self::PressKeys(_) => "press_keys",
            Self::Wait(_) => "wait",
            Self::TakeScreenshot(_) => "take_screenshot",
            Self::WaitFor(_) => "wait_for",
        }
    }

    /// Whether it reaches the VM's keyboard or mouse.
    pub fn presses(&self) -> bool {
        match self {
            Self::MoveMouse(_)
            | Self::Click(_)
            | Self::Drag(_)
            | Self::Scroll(_)
            | Self::MouseButton(_)
            | Self::TypeText(_)
            | Self::PressKeys(_) => true,
            Self::Wait(_) | Self::TakeScreenshot(_) | Self::WaitFor(_) => false,
        }
    }

    /// What it needs besides `input`, without which there are no batches.
    pub fn needs(&self) -> Grants {
        match self {
            Self::TakeScreenshot(_) => Grants::read_only(),
            Self::WaitFor(wait) => wait.needs(),
            Self::MoveMouse(_)
            | Self::Click(_)
            | Self::Drag(_)
            | Self::Scroll(_)
            | Self::MouseButton(_)
            | Self::TypeText(_)
            | Self::PressKeys(_)
            | Self::Wait(_) => Grants::none(),
        }
    }

    /// The name of the secret that it types, if it types one.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::TypeText(typing) => typing.secret.as_deref(),
            Self::MoveMouse(_)
            | Self::Click(_)
            | Self::Drag(_)
            | Self::Scroll(_)
            | Self::MouseButton(_)
            | Self::PressKeys(_)
            | Self::Wait(_)
            | Self::TakeScreenshot(_)
            | Self::WaitFor(_) => None,
        }
    }

    /// How long it means to take at most, besides what it takes to do it; a text that does not say how long
    /// it is between two characters has so much of it.
    pub fn pause(&self, between_characters: Duration) -> Duration {
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        match self {
            Self::Wait(wait) => wait.duration().unwrap_or_default(),
            Self::WaitFor(wait) => Duration::try_from_secs_f64(wait.timeout).unwrap_or_default(),
            Self::PressKeys(press) => ms(press.hold_ms),
            Self::Drag(drag) => ms(drag.duration_ms),
            Self::TakeScreenshot(look) => ms(look.settle),
            Self::MoveMouse(_) | Self::Click(_) | Self::Scroll(_) | Self::MouseButton(_) => {
                Duration::ZERO
            }
            Self::TypeText(typing) => {
                let characters = typing.text.iter().flat_map(|text| text.chars()).count();
                let characters = u32::try_from(characters).unwrap_or(u32::MAX);
                let interval = typing.interval().unwrap_or(between_characters);
                interval.saturating_mul(characters)
            }
        }
    }

    /// Refuses values that no VM could make sense of.
    pub fn check(&self) -> Result<(), BadAct> {
        match self {
            Self::MoveMouse(_) | Self::MouseButton(_) => Ok(()),
            Self::TypeText(typing) => typing.check(),
            Self::TakeScreenshot(look) => look.check(),
            Self::WaitFor(wait) => wait.check(),
            Self::Click(click) => click.check(),
            Self::Drag(drag) => drag.check(),
            Self::Scroll(scroll) => scroll.check(),
            Self::PressKeys(press) => press.check(),
            Self::Wait(wait) => wait.duration().map(drop),
        }
    }
}

/// Why an act's values cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadAct {
    #[error("`count` is {0}, and must be from 1 to {max}", max = Click::MAX_COUNT)]
    Count(u32),
    #[error("`x` and `y` belong together: give both or neither")]
    HalfAPoint,
    #[error("a drag needs two different points, and {0},{1} is both")]
    NoWay(i32, i32),
    #[error("`through` has {0} points, and can have {max}", max = Drag::MAX_THROUGH)]
    Through(usize),
    #[error("`duration_ms` is {0}, and must be at most {max}", max = Drag::MAX_DURATION_MS)]
    DragDuration(u32),
    #[error("`amount` is {0}, and must be from 1 to {max}", max = Scroll::MAX_AMOUNT)]
    Amount(u32),
    #[error("`interval_ms` is {0}, and must be at most {max}", max = TypeText::MAX_INTERVAL_MS)]
    Interval(u32),
    #[error("the parameter `text` is missing, and no `secret` is named instead")]
    NoText,
    #[error("`text` and `secret` exclude each other")]
    TextAndSecret,
    #[error("`keys` is empty; name at least one key")]
    NoKeys,
    #[error("`repeat` is {0}, and must be from 1 to {max}", max = PressKeys::MAX_REPEAT)]
    Repeat(u32),
    #[error("`hold_ms` is {0}, and must be at most {max}", max = PressKeys::MAX_HOLD_MS)]
    Hold(u32),
    #[error("`repeat` and `hold_ms` exclude each other: a held key repeats by itself")]
    RepeatedHold,
    #[error("`seconds` is {0}, and must be from 0 to {max}", max = Wait::MAX_SECONDS)]
    Seconds(f64),
    #[error("`settle` is {0}, and must be at most {max}", max = TakeScreenshot::MAX_SETTLE_MS)]
    Settle(u32),
    #[error("`conditions` has {0} items, and must have from 1 to {max}", max = WaitFor::MAX_CONDITIONS)]
    Conditions(usize),
    #[error(
        "`timeout` is {0}, and must be from {min} to {max}",
        min = WaitFor::MIN_TIMEOUT,
        max = WaitFor::MAX_TIMEOUT
    )]
    Timeout(f64),
    #[error("`ms` is {0}, and must be from {min} to {max}", min = Stable::MIN_MS, max = Stable::MAX_MS)]
    Still(u32),
    #[error("the screen cannot be still for {ms} ms within a `timeout` of {timeout} s")]
    NeverStill { ms: u32, timeout: f64 },
    #[error("`share` is {0}, and must be from 0 to 1")]
    Share(f64),
    #[error("`port` is 0, which is no port")]
    NoPort,
    #[error("`tolerance` is {0}, and must be from 0 to 1")]
    Tolerance(f64),
}

/// Types text on the VM's keyboard, literally, into whatever has the focus: look first. A newline
/// presses Return, a tab presses Tab. Characters that the keyboard layout lacks are refused before
/// the first key.
#[derive(Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypeText {
    /// The text to type.
    #[serde(default)]
    pub text: Option<String>,
    /// Instead of `text`: the name of a secret that the server's configuration has, such as a password. You are
    /// never told what it is. A wrong name is answered with those that there are.
    #[serde(default)]
    pub secret: Option<String>,
    /// The named secret, once it is read. No parameter.
    #[serde(skip)]
    #[schemars(skip)]
    pub read: Option<Secret>,
    /// At least so many milliseconds from one character to the next, up to 1000: for nested sessions (Citrix,
    /// RDP) that lose keys. 0 is as fast as is safe; the default is 0 as well, unless the VM's configuration
    /// says otherwise.
    #[serde(default)]
    #[schemars(range(max = 1000))]
    pub interval_ms: Option<u32>,
}

impl TypeText {
    pub const MAX_INTERVAL_MS: u32 = 1000;

    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: Some(text.into()),
            ..Self::default()
        }
    }

    pub fn interval(&self) -> Option<Duration> {
        let milliseconds = self.interval_ms?;
        Some(Duration::from_millis(milliseconds.into()))
    }

    fn check(&self) -> Result<(), BadAct> {
        match (&self.text, &self.secret, self.interval_ms) {
            (None, None, _) => Err(BadAct::NoText),
            (Some(_), Some(_), _) => Err(BadAct::TextAndSecret),
            (_, _, Some(interval)) if interval > Self::MAX_INTERVAL_MS => {
                Err(BadAct::Interval(interval))
            }
            _ => Ok(()),
        }
    }
}

/// Typed text may be a password: it is shown by its length alone, and a secret not even by that.
impl fmt::Debug for TypeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "TypeText({} characters)", text.chars().count()),
            None => f.write_str("TypeText(a secret)"),
        }
    }
}

/// Presses keys together and releases them: a shortcut such as ["Ctrl", "Shift", "p"], or one key
/// such as ["Return"]. Names as in X (Return, F5, Page_Up, KP_Enter, XF86AudioMute), usual aliases
/// in any case (Ctrl, Esc, Del, Win, Cmd, AltGr, PgDn), or single characters. A letter means its
/// key: add "Shift" for a capital.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PressKeys {
    /// The keys of the chord, modifiers first.
    pub keys: Vec<String>,
    /// How many times the chord is pressed, 1 to 100.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub repeat: u32,
    /// How long the keys stay down, in milliseconds, at most 300000; 0 is a tap.
    #[serde(default)]
    #[schemars(range(max = 300_000))]
    pub hold_ms: u32,
    /// Whether Shift and AltGr go down by themselves where a key needs them, as with the program
    /// xdotool. No parameter: the tool `press_keys` wants them listed.
    #[serde(skip)]
    #[schemars(skip)]
    pub adds_modifiers: bool,
}

impl PressKeys {
    pub const MAX_REPEAT: u32 = 100;
    pub const MAX_HOLD_MS: u32 = 300_000;

    fn check(&self) -> Result<(), BadAct> {
        if self.keys.is_empty() {
            return Err(BadAct::NoKeys);
        }
        if !(1..=Self::MAX_REPEAT).contains(&self.repeat) {
            return Err(BadAct::Repeat(self.repeat));
        }
        if self.hold_ms > Self::MAX_HOLD_MS {
            return Err(BadAct::Hold(self.hold_ms));
        }
        if self.hold_ms > 0 && self.repeat > 1 {
            return Err(BadAct::RepeatedHold);
        }
        Ok(())
    }
}

/// Waits, up to 300 s. Use it where only a pause will do, and `wait_for` else: a command palette 0.5 s, after Return
/// 0.5 to 1 s, a command 1 to 2 s.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// How long, in seconds, 0 to 300.
    #[schemars(range(min = 0, max = 300))]
    pub seconds: f64,
}

impl Wait {
    pub const MAX_SECONDS: f64 = 300.0;

    /// Negative, huge and non-numbers are refused.
    pub fn duration(&self) -> Result<Duration, BadAct> {
        if !(0.0..=Self::MAX_SECONDS).contains(&self.seconds) {
            return Err(BadAct::Seconds(self.seconds));
        }
        Ok(Duration::from_secs_f64(self.seconds))
    }
}

/// Takes a screenshot of the VM and returns the picture. Works at any time, in firmware, boot
/// loaders, installers and on locked screens. Its pixels are the coordinates of every other tool.
/// With a project active the picture is saved there as well.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeScreenshot {
    /// Only this part, as [x0, y0, x1, y1] in pixels of the full screenshot, right and bottom edges
    /// exclusive, shown at the screen's native resolution. Coordinates of other tools still mean the
    /// full screenshot.
    #[serde(default)]
    pub region: Option<Region>,
    /// `png` is exact; `jpeg` is smaller for photographs.
    #[serde(default)]
    pub format: ImageFormat,
    /// Which of the VM's screens, from 0. Where several are in use, points of other tools mean the one that
    /// was shown last.
    #[serde(default)]
    pub head: u32,
    /// Draws a magenta ring around the pixel where this server last put the mouse pointer, since pictures
    /// of a VM's screen often lack the pointer itself. None where that is unknown.
    #[serde(default = "yes")]
    pub pointer: bool,
    /// Waits for at most so many milliseconds, up to 30000, until the screen (or the region) is
    /// still: two looks 50 ms apart show the same, but for something as small as a blinking cursor.
    /// The reply says whether it was. 0 does not wait.
    #[serde(default)]
    #[schemars(range(max = 30000))]
    pub settle: u32,
    /// Answers with one line and no picture where the picture would be exactly the last one that was
    /// shown of the same head and region in the same format; the line names that screenshot. A
    /// blinking cursor counts as a change.
    #[serde(default)]
    pub if_changed: bool,
}

impl Default for TakeScreenshot {
    fn default() -> Self {
        Self {
            region: None,
            format: ImageFormat::default(),
            head: 0,
            pointer: true,
            settle: 0,
            if_changed: false,
        }
    }
}

impl TakeScreenshot {
    pub const MAX_SETTLE_MS: u32 = 30_000;

    fn check(&self) -> Result<(), BadAct> {
        if self.settle > Self::MAX_SETTLE_MS {
            return Err(BadAct::Settle(self.settle));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ImageFormat {
    #[default]
    Png,
    Jpeg,
}

impl ImageFormat {
    pub fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn click(count: u32, x: Option<i32>, y: Option<i32>) -> Act {
        Act::Click(Click {
            button: Button::Left,
            count,
            x,
            y,
            modifiers: vec![],
        })
    }

    fn drag(from: (i32, i32), to: (i32, i32), duration_ms: u32) -> Act {
        Act::Drag(Drag {
            from_x: from.0,
            from_y: from.1,
            to_x: to.0,
            to_y: to.1,
            through: vec![],
            button: Button::Left,
            modifiers: vec![],
            duration_ms,
        })
    }

    fn scroll(amount: u32, x: Option<i32>, y: Option<i32>) -> Act {
        Act::Scroll(Scroll {
            direction: Direction::Down,
            amount,
            x,
            y,
            modifiers: vec![],
        })
    }

    fn press(keys: &[&str], repeat: u32, hold_ms: u32) -> Act {
        Act::PressKeys(PressKeys {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            repeat,
            hold_ms,
            adds_modifiers: false,
        })
    }

    #[test]
    fn refuses_values_out_of_range() {
        let cases = [
            (click(0, None, None), BadAct::Count(0)),
            (click(11, None, None), BadAct::Count(11)),
            (click(1, Some(1), None), BadAct::HalfAPoint),
            (drag((5, 6), (5, 6), 0), BadAct::NoWay(5, 6)),
            (drag((0, 0), (5, 6), 10_001), BadAct::DragDuration(10_001)),
            (scroll(0, None, None), BadAct::Amount(0)),
            (scroll(101, None, None), BadAct::Amount(101)),
            (scroll(1, None, Some(1)), BadAct::HalfAPoint),
            (press(&[], 1, 0), BadAct::NoKeys),
            (press(&["a"], 0, 0), BadAct::Repeat(0)),
            (press(&["a"], 101, 0), BadAct::Repeat(101)),
            (press(&["a"], 1, 300_001), BadAct::Hold(300_001)),
            (press(&["a"], 2, 10), BadAct::RepeatedHold),
            (Act::TypeText(TypeText::default()), BadAct::NoText),
            (
                Act::TypeText(TypeText {
                    secret: Some("sudo".into()),
                    ..TypeText::new("abc")
                }),
                BadAct::TextAndSecret,
            ),
            (Act::Wait(Wait { seconds: -0.1 }), BadAct::Seconds(-0.1)),
            (Act::Wait(Wait { seconds: 1e300 }), BadAct::Seconds(1e300)),
        ];
        for (act, error) in cases {
            assert_eq!(act.check(), Err(error));
        }
        assert_eq!(click(10, Some(0), Some(0)).check(), Ok(()));
        assert_eq!(drag((5, 6), (5, 7), 10_000).check(), Ok(()));
        assert_eq!(scroll(100, Some(0), Some(0)).check(), Ok(()));
        let wait = Wait { seconds: f64::NAN };
        assert!(matches!(wait.duration(), Err(BadAct::Seconds(_))));
    }

    #[test]
    fn typed_text_is_debugged_by_its_length_and_a_secret_not_at_all() {
        let act = Act::TypeText(TypeText::new("pässword"));
        assert_eq!(format!("{act:?}"), "TypeText(TypeText(8 characters))");
        let act = Act::TypeText(TypeText {
            secret: Some("hunter2".into()),
            read: Some(Secret::new("hunter2")),
            ..TypeText::default()
        });
        assert_eq!(format!("{act:?}"), "TypeText(TypeText(a secret))");
    }
}
