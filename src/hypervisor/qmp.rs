//! The QMP messages that we send, and what their answers say. Pure.
//!
//! `virDomainQemuMonitorCommand` returns success for a command that QEMU refused: the
//! refusal is in the answer, so every answer is read.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::{Button, Direction, KeyCode};

use super::{Forward, InputEvent, Pointer, domain_xml::Head};

/// What QEMU answered.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Done,
    Refused(String),
}

pub(super) fn input_send_event(events: &[InputEvent]) -> Result<String, KeyCode> {
    let mut list = Vec::with_capacity(events.len());
    for event in events {
        match *event {
            InputEvent::Key { key, down } => {
                let qcode = key.qcode().ok_or(key)?;
                list.push(json!({"type": "key", "data": {
                    "down": down, "key": {"type": "qcode", "data": qcode}}}));
            }
            InputEvent::Button { button, down } => {
                list.push(json!({"type": "btn", "data": {
                    "down": down, "button": button_name(button)}}));
            }
            InputEvent::Wheel { direction, down } => {
                list.push(json!({"type": "btn", "data": {
                    "down": down, "button": wheel_name(direction)}}));
            }
            InputEvent::Position { x, y } => {
                list.push(json!({"type": "abs", "data": {"axis": "x", "value": x}}));
                list.push(json!({"type": "abs", "data": {"axis": "y", "value": y}}));
            }
            InputEvent::Motion { dx, dy } => {
                list.push(json!({"type": "rel", "data": {"axis": "x", "value": dx}}));
                list.push(json!({"type": "rel", "data": {"axis": "y", "value": dy}}));
            }
        }
    }
    Ok(json!({"execute": "input-send-event", "arguments": {"events": list}}).to_string())
}

/// `InputButton` in QEMU's `qapi/ui.json`.
fn button_name(button: Button) -> &'static str {
    match button {
        Button::Left => "left",
        Button::Middle => "middle",
        Button::Right => "right",
        Button::Back => "side",
        Button::Forward => "extra",
    }
}

fn wheel_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "wheel-up",
        Direction::Down => "wheel-down",
        Direction::Left => "wheel-left",
        Direction::Right => "wheel-right",
    }
}

pub(super) fn read_answer(text: &str) -> Result<Answer, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "return")]
        done: Option<Value>,
        error: Option<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        desc: String,
    }
    let raw: Raw = serde_json::from_str(text)?;
    match (raw.done, raw.error) {
        (_, Some(refusal)) => Ok(Answer::Refused(refusal.desc)),
        (Some(_), None) => Ok(Answer::Done),
        (None, None) => Err(serde::de::Error::missing_field("return")),
    }
}

/// Asks for the pointing devices.
pub(super) const QUERY_MICE: &str = r#"{"execute": "query-mice"}"#;

/// The answer to [`QUERY_MICE`]; one that QEMU refused has none.
pub(super) fn pointers(text: &str) -> Result<Vec<Pointer>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default, rename = "return")]
        mice: Vec<Pointer>,
    }
    serde_json::from_str::<Raw>(text).map(|raw| raw.mice)
}

/// The HMP command that makes a pointing device the one that buttons go to. It answers nothing where it
/// was done.
pub(super) fn mouse_set(index: u32) -> String {
    format!("mouse_set {index}")
}

/// Puts a file that comes along into a set of files of this number, with a note of whose it is.
pub(super) fn add_fd(fdset: u32, opaque: &str) -> String {
    json!({"execute": "add-fd", "arguments": {"fdset-id": fdset, "opaque": opaque}}).to_string()
}

/// Takes a set of files away.
pub(super) fn remove_fd(fdset: i64) -> String {
    json!({"execute": "remove-fd", "arguments": {"fdset-id": fdset}}).to_string()
}

/// Writes a head's picture as PPM into the file of a set.
pub(super) fn screendump(fdset: u32, head: &Head) -> String {
    let mut arguments = json!({"filename": format!("/dev/fdset/{fdset}"), "format": "ppm"});
    if let Some(device) = &head.device {
        arguments["device"] = json!(device);
        arguments["head"] = json!(head.head);
    }
    json!({"execute": "screendump", "arguments": arguments}).to_string()
}

/// Asks for the sets of files that QEMU holds.
pub(super) const QUERY_FDSETS: &str = r#"{"execute": "query-fdsets"}"#;

/// The sets in the answer to [`QUERY_FDSETS`] whose files all have a note, and those notes.
pub(super) fn fdsets(text: &str) -> Result<Vec<(i64, Vec<String>)>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default, rename = "return")]
        sets: Vec<Set>,
    }
    #[derive(Deserialize)]
    struct Set {
        #[serde(rename = "fdset-id")]
        id: i64,
        fds: Vec<File>,
    }
    #[derive(Deserialize)]
    struct File {
        opaque: Option<String>,
    }
    let raw: Raw = serde_json::from_str(text)?;
    let noted = raw.sets.into_iter().filter_map(|set| {
        let notes: Option<Vec<_>> = set.fds.into_iter().map(|file| file.opaque).collect();
        Some((set.id, notes?))
    });
    Ok(noted.collect())
}

/// The TCP forwards in the answer to HMP `info usernet`, whose lines read
/// `TCP[HOST_FORWARD]  11  127.0.0.1  2222  10.0.2.15  22  0  0`.
pub(super) fn usernet_forwards(text: &str) -> Vec<Forward> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            if words.next()? != "TCP[HOST_FORWARD]" {
                return None;
            }
            let host = words.nth(1)?;
            let host_port = words.next()?.parse().ok()?;
            let guest_port = words.nth(1)?.parse().ok()?;
            Some(Forward {
                host: reachable(host)?,
                host_port,
                guest_port,
            })
        })
        .collect()
}

/// The HMP command that reads the status port of a PC's keyboard controller, which changes nothing.
pub(super) const KEYBOARD_STATUS: &str = "i /b 0x64";

/// Whether a key waits in the controller, as the answer `portb[0x0064] = 0x1d` tells: bit 0 says that
/// there is something to read, bit 5 that it is the mouse's. All bits are set where there is no
/// controller.
pub(super) fn keys_unread(text: &str) -> bool {
    const FULL: u8 = 0x01;
    const MOUSE: u8 = 0x20;
    let status = text
        .split_once("= 0x")
        .and_then(|(_, digits)| u8::from_str_radix(digits.trim(), 16).ok());
    status.is_some_and(|status| status & (FULL | MOUSE) == FULL)
}

/// A forward bound to every address is reached by loopback.
pub(super) fn reachable(host: &str) -> Option<IpAddr> {
    let any = ["", "*", "0.0.0.0"].contains(&host);
    if any { "127.0.0.1" } else { host }.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_qemu_reads_them() {
        let events = [
            InputEvent::Position { x: 1, y: 32767 },
            InputEvent::Motion { dx: -127, dy: 0 },
            InputEvent::Button {
                button: Button::Back,
                down: true,
            },
            InputEvent::Wheel {
                direction: Direction::Left,
                down: true,
            },
            InputEvent::Key {
                key: KeyCode::LEFT_CTRL,
                down: false,
            },
        ];
        let message: Value = serde_json::from_str(&input_send_event(&events).unwrap()).unwrap();
        assert_eq!(
            message,
            json!({"execute": "input-send-event", "arguments": {"events": [
                {"type": "abs", "data": {"axis": "x", "value": 1}},
                {"type": "abs", "data": {"axis": "y", "value": 32767}},
                {"type": "rel", "data": {"axis": "x", "value": -127}},
                {"type": "rel", "data": {"axis": "y", "value": 0}},
                {"type": "btn", "data": {"down": true, "button": "side"}},
                {"type": "btn", "data": {"down": true, "button": "wheel-left"}},
                {"type": "key", "data": {"down": false,
                    "key": {"type": "qcode", "data": "ctrl"}}},
            ]}})
        );
    }

    #[test]
    fn a_key_that_qemu_lacks_is_named() {
        let events = [InputEvent::Key {
            key: KeyCode(84),
            down: true,
        }];
        assert_eq!(input_send_event(&events), Err(KeyCode(84)));
    }

    #[test]
    fn a_refusal_is_no_success() {
        let refusal = r#"{"id":"libvirt-9","error":{"class":"GenericError","desc":"Input handler not found for event type abs"}}"#;
        assert_eq!(
            read_answer(refusal).unwrap(),
            Answer::Refused("Input handler not found for event type abs".into())
        );
        assert_eq!(
            read_answer(r#"{"return":{},"id":"libvirt-8"}"#).unwrap(),
            Answer::Done
        );
        assert!(read_answer("{}").is_err());
        assert!(read_answer("").is_err());
    }

    #[test]
    fn tells_a_waiting_key_from_all_else() {
        let cases = [
            ("portb[0x0064] = 0x1c\r\n", false),
            ("portb[0x0064] = 0x1d\r\n", true),
            ("portb[0x0064] = 0x3d\r\n", false),
            ("portb[0x0064] = 0xff\r\n", false),
            ("unknown command: 'i'\r\n", false),
            ("", false),
        ];
        for (text, unread) in cases {
            assert_eq!(keys_unread(text), unread, "{text}");
        }
    }

    #[test]
    fn reads_host_forwards_from_info_usernet() {
        let text = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
             TCP[ESTABLISHED]   31       127.0.0.1  2222       10.0.2.15    22     0     0\r\n  \
             TCP[HOST_FORWARD]  11       127.0.0.1  2222       10.0.2.15    22     0     0\r\n  \
             TCP[HOST_FORWARD]  12               *  8080       10.0.2.15    80     0     0\r\n  \
             UDP[HOST_FORWARD]  13               *  5353       10.0.2.15    53     0     0\r\n";
        let forward = |host_port, guest_port| Forward {
            host: "127.0.0.1".parse().unwrap(),
            host_port,
            guest_port,
        };
        assert_eq!(
            usernet_forwards(text),
            [forward(2222, 22), forward(8080, 80)]
        );
    }
}
