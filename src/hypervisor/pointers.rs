//! The pointing devices of a VM, and what each of them passes on.

use serde::Deserialize;

use crate::model::{Button, Direction};

/// A pointing device as QEMU sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pointer {
    /// QEMU's number of it, which it keeps.
    pub index: u32,
    pub name: String,
    /// Whether it takes positions and not distances.
    pub absolute: bool,
    /// Whether it is the one that buttons and the wheel go to.
    pub current: bool,
}

impl Pointer {
    /// Whether the guest sees this button. QEMU's USB devices drop those at the side without a word
    /// (`hw/input/hid.c` of QEMU 7.2); its virtio devices and its PS/2 mouse have them.
    pub fn passes(&self, button: Button) -> bool {
        match button {
            Button::Left | Button::Middle | Button::Right => true,
            Button::Back | Button::Forward => self.is_ps2() || self.name.contains("Virtio"),
        }
    }

    /// Whether the guest sees the wheel turn this way. QEMU's tablets know no wheel that turns sideways
    /// (`hw/input/hid.c`, `hw/input/virtio-input-hid.c`); its PS/2 mouse has one.
    pub fn turns(&self, direction: Direction) -> bool {
        self.is_ps2() || !direction.is_sideways()
    }

    fn is_ps2(&self) -> bool {
        self.name.contains("PS/2")
    }
}
