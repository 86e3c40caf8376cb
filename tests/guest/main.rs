//! Every tool on the real demo guest: called through MCP as clients do, checked from inside the
//! guest. Where there is no guest, these tests fail.

#[path = "../support/guest.rs"]
mod guest;
#[path = "../support/mcp.rs"]
mod mcp;

mod batches;
mod computer;
mod doctor;
mod editor;
mod faults;
mod files;
mod keys;
mod layouts;
mod letting_go;
mod pictures;
mod places;
mod pointing;
mod reading;
mod resetting;
mod screen;
mod shell;
mod texts;
mod typing;
mod waiting;

/// Codes of linux/input-event-codes.h.
mod code {
    pub(crate) const LEFT_CTRL: i64 = 29;
    pub(crate) const LEFT_SHIFT: i64 = 42;
    pub(crate) const P: i64 = 25;
    pub(crate) const F5: i64 = 63;
    pub(crate) const F9: i64 = 67;
    pub(crate) const KP_ENTER: i64 = 96;
    pub(crate) const PAGE_UP: i64 = 104;
    pub(crate) const BUTTON_LEFT: i64 = 0x110;
    pub(crate) const BUTTON_BACK: i64 = 0x113;
}
