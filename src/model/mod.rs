//! The words of the house: plain values that every floor shares.
//!
//! Nothing here does I/O, waits or locks. Each value is valid once it exists, so
//! that the rooms above never check twice.

pub mod act;
pub mod capture_mode;
pub mod geometry;
pub mod grant;
pub mod host_key_policy;
pub mod job;
pub mod key;
pub mod ocr_language;
pub mod pattern;
pub mod pixels;
pub mod reading;
pub mod secret;
mod shell_word;
pub mod unicode_input;
pub mod vm_name;

pub use act::{
    Act, Button, ButtonState, Click, Condition, Direction, Drag, ImageFormat, MouseButton,
    MoveMode, MoveMouse, PressKeys, Scroll, TakeScreenshot, TypeText, VmState, Wait, WaitFor,
};
pub use capture_mode::CaptureMode;
pub use geometry::{Point, Region, ScreenSize, Spot};
pub use grant::{Capability, Grants};
pub use host_key_policy::HostKeyPolicy;
pub use job::{BadJobId, BadSignal, JobAction, JobId, OutputStream, SignalName};
pub use key::{Chord, KeyCode};
pub use ocr_language::OcrLanguage;
pub use pattern::Pattern;
pub use pixels::Pixels;
pub use reading::{Grid, Hit, Line, Reader, Reading, UNREADABLE, Word};
pub use secret::Secret;
pub(crate) use shell_word::shell_word;
pub use unicode_input::UnicodeInput;
pub use vm_name::VmName;
