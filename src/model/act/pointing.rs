//! Acts of the pointer: moving, clicking, dragging, scrolling.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BadAct, one};

/// Moves the mouse pointer to a pixel of the last full screenshot (origin top left), or by an
/// offset with mode `relative`. Nothing is clicked. A point outside the screen is an error.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveMouse {
    /// Column in pixels of the screenshot; with mode `relative` the offset to the right.
    pub x: i32,
    /// Row in pixels of the screenshot; with mode `relative` the offset downwards.
    pub y: i32,
    /// `absolute`: x,y is the pixel to go to. `relative`: x,y is added to the place where this
    /// server last put the pointer.
    #[serde(default)]
    pub mode: MoveMode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MoveMode {
    #[default]
    Absolute,
    Relative,
}

/// Clicks a mouse button, at x,y of the last full screenshot if given, else where the pointer is.
/// `count` 2 is a double click. A click is no proof of focus: look at the screen afterwards.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Click {
    /// Which button.
    #[serde(default)]
    pub button: Button,
    /// How many times, 1 to 10.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub count: u32,
    /// Column in pixels of the screenshot; needs `y`.
    #[serde(default)]
    pub x: Option<i32>,
    /// Row in pixels of the screenshot; needs `x`.
    #[serde(default)]
    pub y: Option<i32>,
    /// Keys held down during the click, such as ["Ctrl"] or ["Shift"].
    #[serde(default)]
    pub modifiers: Vec<String>,
}

impl Click {
    pub const MAX_COUNT: u32 = 10;

    pub(super) fn check(&self) -> Result<(), BadAct> {
        if !(1..=Self::MAX_COUNT).contains(&self.count) {
            return Err(BadAct::Count(self.count));
        }
        if self.x.is_some() != self.y.is_some() {
            return Err(BadAct::HalfAPoint);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Button {
    #[default]
    Left,
    Middle,
    Right,
    Back,
    Forward,
}

impl Button {
    pub const ALL: [Self; 5] = [
        Self::Left,
        Self::Middle,
        Self::Right,
        Self::Back,
        Self::Forward,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Middle => "middle",
            Self::Right => "right",
            Self::Back => "back",
            Self::Forward => "forward",
        }
    }
}

/// Presses a mouse button at one point of the last full screenshot, moves to another with the button
/// down, `through` points between if given, and lets go there: selects text, drags and drops, draws, moves
/// sliders and windows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drag {
    /// Column where the button goes down, in pixels of the screenshot.
    pub from_x: i32,
    /// Row where the button goes down.
    pub from_y: i32,
    /// Column where the button comes up.
    pub to_x: i32,
    /// Row where the button comes up.
    pub to_y: i32,
    /// Points on the way, each [x, y], at most 100: for curves, and around what must not be crossed.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub through: Vec<[i32; 2]>,
    /// Which button.
    #[serde(default)]
    pub button: Button,
    /// Keys held down during the drag, such as ["Ctrl"] to copy what is dragged.
    #[serde(default)]
    pub modifiers: Vec<String>,
    /// How long the way takes, in milliseconds, at most 10000; slower for programs that lag behind.
    #[serde(default = "Drag::usual_duration_ms")]
    #[schemars(range(max = 10000))]
    pub duration_ms: u32,
}

impl Drag {
    pub const MAX_DURATION_MS: u32 = 10_000;
    pub const MAX_THROUGH: usize = 100;

    /// Long enough for toolkits that take a hasty motion for a click.
    pub fn usual_duration_ms() -> u32 {
        300
    }

    pub(super) fn check(&self) -> Result<(), BadAct> {
        if self.through.len() > Self::MAX_THROUGH {
            return Err(BadAct::Through(self.through.len()));
        }
        let from = [self.from_x, self.from_y];
        let to = [self.to_x, self.to_y];
        if from == to && self.through.iter().all(|it| *it == from) {
            return Err(BadAct::NoWay(self.to_x, self.to_y));
        }
        if self.duration_ms > Self::MAX_DURATION_MS {
            return Err(BadAct::DragDuration(self.duration_ms));
        }
        Ok(())
    }
}

/// Turns the mouse wheel, at x,y of the last full screenshot if given, else where the pointer is.
/// What moves is what lies under the pointer, whatever has the focus.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scroll {
    /// Which way: `down` shows what is further below.
    pub direction: Direction,
    /// How many notches of the wheel, 1 to 100; one moves a text by about three lines.
    #[serde(default = "Scroll::usual_amount")]
    #[schemars(range(min = 1, max = 100))]
    pub amount: u32,
    /// Column in pixels of the screenshot; needs `y`.
    #[serde(default)]
    pub x: Option<i32>,
    /// Row in pixels of the screenshot; needs `x`.
    #[serde(default)]
    pub y: Option<i32>,
    /// Keys held down meanwhile, such as ["Ctrl"] to zoom in a browser.
    #[serde(default)]
    pub modifiers: Vec<String>,
}

impl Scroll {
    pub const MAX_AMOUNT: u32 = 100;

    fn usual_amount() -> u32 {
        3
    }

    pub(super) fn check(&self) -> Result<(), BadAct> {
        if !(1..=Self::MAX_AMOUNT).contains(&self.amount) {
            return Err(BadAct::Amount(self.amount));
        }
        if self.x.is_some() != self.y.is_some() {
            return Err(BadAct::HalfAPoint);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Direction {
    Up,
    Down,
    Left,
    Right,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    pub fn is_sideways(self) -> bool {
        matches!(self, Self::Left | Self::Right)
    }
}

/// Presses a mouse button and leaves it down, or lets go of it. `release_all` lets go of every button and of
/// Ctrl, Shift, Alt, AltGr and Meta, whoever pressed them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MouseButton {
    /// Which button.
    #[serde(default)]
    pub button: Button,
    /// `down`, `up`, or `release_all`, which asks for no button.
    pub state: ButtonState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ButtonState {
    Down,
    Up,
    ReleaseAll,
}
