//! What is remembered of a VM.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::nap::Nap;
use crate::{
    capture::SeenScreen,
    hypervisor::{Devices, Domain, InputEvent},
    model::{Button, ScreenSize, Spot},
    reading::Past,
};

/// What is remembered between acts. A plain lock: it is never held across a wait.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Which start of the VM the rest is about.
    pub(super) instance: Option<u32>,
    /// The VM at the last look, when that was, and how many changes had been told before.
    pub(super) seen: Option<(Domain, Instant, u64)>,
    /// The hardware at the last look, and how many changes had been told before.
    pub(super) devices: Option<(Arc<Devices>, u64)>,
    /// Where the pointer was last put.
    pub(crate) pointer: Option<Spot>,
    /// The axes that the tablet was last told.
    pub(crate) tablet: Option<(u32, u32)>,
    /// Each head's native size at the last look, delivered or not, and when that was.
    pub(crate) native: BTreeMap<u32, (ScreenSize, Instant)>,
    /// Each head as a client was last shown it.
    pub(crate) shown: BTreeMap<u32, SeenScreen>,
    /// The native size of each head in the last picture that a client was given, and which head that was
    /// last.
    pub(crate) given: BTreeMap<u32, ScreenSize>,
    pub(crate) given_head: u32,
    /// When all that was handed to QEMU will have reached the guest's devices: its keys are played,
    /// and the tablet has told its last event, but for a motion that wakes it.
    pub(crate) input_end: Instant,
    /// How much of the keyboard's queue the guest may not have read yet, in bytes; `None` where that
    /// is not known.
    pub(crate) keys_unread: Option<usize>,
    /// The shortest time between two keys down or up that the keyboard takes; none where that is the PS/2 one.
    pub(crate) key_gap: Duration,
    /// The sleep of the keyboard that keys go to, and of the tablet.
    pub(crate) keyboard_nap: Nap,
    pub(crate) tablet_nap: Nap,
    /// For how long the PS/2 keyboard of a guest that has another is taken for one without use, once it was not
    /// read. Firmware and boot loaders read no other.
    pub(crate) ps2_idle_until: Option<Instant>,
    /// Cancelled once nobody waits any more for the call on the line.
    pub(super) given_up: CancellationToken,
    /// What could not be let go of, because the VM was paused or libvirt away: the next act begins
    /// with it.
    pub(crate) unreleased: Vec<InputEvent>,
    /// Buttons that an act left down on purpose, until another lets go of them.
    pub(crate) held: Vec<Button>,
    /// The pointing device that buttons are to go to again, where an act has switched to another.
    pub(crate) switched_from: Option<u32>,
    /// When a button may go down again, one that is held up, and the pointer elsewhere.
    pub(crate) buttons_rested: Instant,
    /// Heads that showed nothing in spite of waiting, each with the start of the VM that it was.
    pub(crate) blank: Vec<(u32, Option<u32>)>,
    /// Each head as it was last read. The same pixels say the same after another start.
    pub(crate) read: BTreeMap<u32, Past>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            instance: None,
            seen: None,
            devices: None,
            pointer: None,
            tablet: None,
            native: BTreeMap::new(),
            shown: BTreeMap::new(),
            given: BTreeMap::new(),
            given_head: 0,
            input_end: Instant::now(),
            keys_unread: None,
            key_gap: Duration::ZERO,
            keyboard_nap: Nap::new(),
            tablet_nap: Nap::new(),
            ps2_idle_until: None,
            given_up: CancellationToken::new(),
            unreleased: vec![],
            held: vec![],
            switched_from: None,
            buttons_rested: Instant::now(),
            blank: vec![],
            read: BTreeMap::new(),
        }
    }

    /// The head that a client was last given a picture of, with its size then; the first where there was
    /// none.
    pub(crate) fn last_given(&self) -> (u32, Option<ScreenSize>) {
        (self.given_head, self.given.get(&self.given_head).copied())
    }
}
