//! Where programs inside a guest are blind: a text console's login prompt, and what goes to the serial
//! console. (Firmware has tests of its own, in `tests/looks.rs`.)

use serde_json::json;

use crate::{
    guest::{Guest, HEIGHT, WIDTH},
    mcp::Client,
    waiting::begin,
};

/// The desktop comes back, however the test ends.
struct Console<'a>(&'a mut Guest);

impl Drop for Console<'_> {
    fn drop(&mut self) {
        self.0.try_run("pkill -x login; chvt 7");
    }
}

/// Width and height, from the header of a PNG.
fn size(png: &[u8]) -> (i32, i32) {
    let side = |at: usize| i32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (side(16), side(20))
}

#[test]
fn a_login_prompt_of_a_text_console_is_waited_for_seen_and_answered() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let console = Console(&mut guest);
    // A prompt on an empty screen: what an earlier run left there would be read too.
    console.0.run("printf '\\033c' > /dev/tty1; pkill -t tty1");
    console.0.until("the prompt is back", |guest| {
        let screen = guest.run("cat /dev/vcs1");
        screen.trim_end().ends_with("login:").then_some(())
    });
    let reply = client.done(
        "run_actions",
        json!({
            "actions": [
                {"action": "press_keys", "keys": ["Ctrl", "Alt", "F1"]},
                {"action": "wait_for", "conditions": [{"condition": "text", "pattern": "login:$"}]},
            ],
            "screenshot": "end",
        }),
    );
    assert!(
        reply
            .text
            .contains("\n2. wait_for: done. The screen shows \"login:\" at ["),
        "{}",
        reply.text
    );
    assert!(
        reply.text.contains("The screen was still."),
        "{}",
        reply.text
    );
    let [(mime, bytes)] = reply.pictures.as_slice() else {
        panic!("{} pictures", reply.pictures.len());
    };
    assert_eq!((mime.as_str(), size(bytes)), ("image/png", (WIDTH, HEIGHT)));
    assert_eq!(console.0.run("fgconsole").trim(), "1");

    // Two clients: one waits while the other types.
    let mut other = console.0.client();
    let conditions = json!([{"condition": "text", "pattern": "^Password:$"}]);
    let waiting = client.send_call("wait_for", json!({"conditions": conditions}));
    other.done("type_text", json!({"text": "nobody-here\n"}));
    let reply = client.reply(waiting);
    assert!(!reply.is_error, "{}", reply.text);
    assert!(
        reply
            .text
            .starts_with("The screen shows \"Password:\" at ["),
        "{}",
        reply.text
    );
    let screen = console.0.run("cat /dev/vcs1");
    assert!(screen.trim_end().ends_with("Password:"), "{screen}");
    let reply = client.done(
        "take_screenshot",
        json!({"region": [0, 0, 640, 200], "settle": 3000}),
    );
    let [(_, bytes)] = reply.pictures.as_slice() else {
        panic!("{} pictures", reply.pictures.len());
    };
    assert_eq!(size(bytes), (640, 200));
}

#[test]
fn what_the_guest_writes_to_its_serial_console_ends_a_wait() {
    let mut guest = Guest::enter();
    let mut server = guest.server();
    server.args(["--allow", "view,console"]);
    let mut client = Client::start(server);
    let conditions = json!([{"condition": "console", "pattern": "^result: [0-9]+$"}]);
    let waiting = begin(&mut client, "serial", &json!({"conditions": conditions}));
    guest.run("printf '\\033[32mresult:\\033[0m 42\\r\\n' > /dev/ttyS0");
    let reply = client.reply(waiting);
    assert!(!reply.is_error, "{}", reply.text);
    let begin = "The guest wrote \"result: 42\" to its serial console, after ";
    assert!(reply.text.starts_with(begin), "{}", reply.text);
}
