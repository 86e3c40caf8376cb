//! The calls to libvirt that nothing can do without, made as barely as libvirt's library allows.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use virt::{connect::Connect, domain::Domain, stream::Stream, sys};
use virtpilot::model::Chord;

/// virtpilot's own times, for floors at the same pace: how long a button stays down, what lies
/// between two events of the tablet, and how long each key of a tap is held.
pub(crate) const PRESS: Duration = Duration::from_millis(30);
pub(crate) const GAP: Duration = Duration::from_millis(8);
pub(crate) const HOLD: Duration = Duration::from_millis(2);

/// The size of the demo guest's screen, and that of a tablet's axis.
const SIZE: (i32, i32) = (1280, 800);
const AXIS: i32 = 0x8000;

/// What the PS/2 keyboard holds that the guest has not read yet.
const QUEUE_BYTES: usize = 16;

const CHUNK: usize = 256 * 1024;

/// A running VM, over a connection of its own.
pub(crate) struct Vm {
    pub(crate) connection: Connect,
    pub(crate) domain: Domain,
}

impl Vm {
    pub(crate) fn find(name: &str) -> Self {
        virt::error::clear_error_callback();
        let connection = Connect::open(Some("qemu:///system")).expect("libvirt answers");
        let domain = connection
            .lookup_domain_by_name(name)
            .expect("the demo guest is defined");
        Self { connection, domain }
    }

    pub(crate) fn screenshot(&self) -> Vec<u8> {
        let stream = Stream::new(&self.connection, 0).expect("a stream");
        self.domain
            .screenshot(&stream, 0, 0)
            .expect("a picture of the screen");
        let mut bytes = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let received = stream.recv(&mut chunk).expect("the stream goes on");
            match usize::try_from(received).expect("it blocks") {
                0 => break,
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
        stream.finish().expect("the stream ends well");
        bytes
    }

    /// Puts the pointer to a pixel.
    pub(crate) fn point(&self, (x, y): (i32, i32)) {
        let axis = |axis: &str, at: i32, of: i32| {
            let value = (2 * at + 1) * AXIS / (2 * of);
            json!({"type": "abs", "data": {"axis": axis, "value": value}})
        };
        self.send(&json!([axis("x", x, SIZE.0), axis("y", y, SIZE.1)]));
    }

    /// Presses and releases the left button where the pointer is.
    pub(crate) fn click(&self, hold: Duration) {
        for down in [true, false] {
            self.send(&json!([{"type": "btn", "data": {"down": down, "button": "left"}}]));
            if down {
                thread::sleep(hold);
            }
        }
    }

    pub(crate) fn send_key(&self, chord: &Chord) {
        let mut keys: Vec<u32> = chord.keys().iter().map(|key| u32::from(key.0)).collect();
        let count = i32::try_from(keys.len()).expect("chords are short");
        let hold = u32::try_from(HOLD.as_millis()).expect("it is short");
        self.domain
            .send_key(
                sys::VIR_KEYCODE_SET_LINUX,
                hold,
                keys.as_mut_ptr(),
                count,
                0,
            )
            .expect("keys are taken");
    }

    /// Types each chord when QEMU has played the one before, and lets the guest read what the
    /// keyboard's queue holds before it overflows: without that, a busy guest loses keys.
    pub(crate) fn type_text(&self, chords: &[Chord]) {
        let mut unread = QUEUE_BYTES;
        for chord in chords {
            // Letters, digits and marks take two bytes, as Shift does.
            let bytes = 2 * chord.keys().len();
            if unread + bytes > QUEUE_BYTES {
                while self.keys_unread() {
                    thread::sleep(Duration::from_millis(1));
                }
                unread = 0;
            }
            unread += bytes;
            self.send_key(chord);
            let keys = u32::try_from(chord.keys().len()).expect("chords are short");
            thread::sleep(HOLD * 2 * keys);
        }
    }

    /// Whether the status port of the keyboard's controller says that a key waits to be read.
    fn keys_unread(&self) -> bool {
        let answer = self
            .domain
            .qemu_monitor_command("i /b 0x64", sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
            .expect("the monitor answers");
        let digits = answer.split_once("= 0x").map(|(_, digits)| digits.trim());
        let status = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        status.expect("a status") & 0x21 == 1
    }

    fn send(&self, events: &Value) {
        let message = json!({"execute": "input-send-event", "arguments": {"events": events}});
        let answer = self
            .domain
            .qemu_monitor_command(&message.to_string(), 0)
            .expect("the monitor answers");
        assert!(answer.contains("\"return\""), "{answer}");
    }
}
