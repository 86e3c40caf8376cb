//! `wait_for` and pictures that settle: what the guest and its VM really do ends a wait, and what they
//! only seem to do does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    guest::{Area, Guest, virsh, virsh_done},
    mcp::{Client, ToolReply},
};

fn region(area: Area) -> Value {
    json!([area.x, area.y, area.x + area.width, area.y + area.height])
}

/// Begins a wait, and comes back once it has begun. `name` is its own among those of a client.
pub(crate) fn begin(client: &mut Client, name: &str, arguments: &Value) -> u64 {
    let id = client.send(
        "tools/call",
        json!({"name": "wait_for", "arguments": arguments, "_meta": {"progressToken": name}}),
    );
    let told = client
        .wait_for(|message| message["params"]["progressToken"] == name || message["id"] == id);
    assert_ne!(told["id"], id, "it ended too soon: {told}");
    id
}

/// What a wait that must end says, without the time that it took.
fn held(reply: &ToolReply) -> &str {
    assert!(!reply.is_error, "{}", reply.text);
    reply.text.rsplit_once(", after ").expect("it says when").0
}

/// A window in which everything changes fifty times a second. The guest sleeps in between: one whose
/// cores are all busy draws in bursts, and its screen is still for tenths of seconds.
fn open_busy_window(guest: &mut Guest) -> Area {
    let endless = r#"exec perl -e '$| = 1; for (my $i = 0;; $i++) { print "\e[H", chr(33 + $i % 90) x 179; select(undef, undef, undef, 0.02) }'"#;
    let program = [
        "xterm",
        "-T",
        "busy",
        "-geometry",
        "30x6+40+40",
        "-e",
        "sh",
        "-c",
        endless,
    ];
    guest.open_window("busy", &program)
}

#[test]
fn the_screen_is_still_once_a_window_has_opened() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let program = [
        "xterm", "-T", "opened", "-bg", "#204060", "-e", "sleep", "600",
    ];
    guest.start("opened", &program);
    // Under emulation a window takes a second or more; both are seen, one after the other.
    let change = json!({"conditions": [{"condition": "change", "share": 0.02}]});
    let reply = client.call("wait_for", change);
    assert!(
        held(&reply).starts_with("The screen changed, by "),
        "{}",
        reply.text
    );
    let still = json!({"conditions": [{"condition": "stable", "ms": 1000}]});
    let reply = client.call("wait_for", still);
    assert_eq!(held(&reply), "The screen has been still for 1000 ms");
    let shown = guest.try_run("xdotool search --onlyvisible --name '^opened$'");
    assert_eq!(shown.code, 0, "{shown:?}");
}

#[test]
fn typing_in_a_terminal_is_a_change_there_and_nowhere_else() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let typing =
        guest.run("xdotool search --onlyvisible --name '^typing$' getwindowgeometry --shell");
    let number = |name: &str| -> i32 {
        let line = typing.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|it| it.parse().ok()).expect("a number")
    };
    let window = Area {
        x: number("X="),
        y: number("Y="),
        width: number("WIDTH="),
        height: number("HEIGHT="),
    };
    client.done("wait_for", json!({"conditions": [{"condition": "stable"}]}));
    let elsewhere = [0, 0, 1280, 400];
    assert!(window.y > 400, "{window:?}");
    let conditions = json!([
        {"condition": "change", "region": elsewhere, "share": 0},
        {"condition": "change", "region": region(window), "share": 0},
    ]);
    let id = begin(&mut client, "typing", &json!({"conditions": conditions}));
    client.done("type_text", json!({"text": "hello there\n"}));
    let reply = client.reply(id);
    let what = format!(
        "The region [{}, {}, {}, {}] changed, by ",
        window.x,
        window.y,
        window.x + window.width,
        window.y + window.height
    );
    assert!(held(&reply).starts_with(&what), "{}", reply.text);

    // In one batch: what is typed is awaited by the picture at its end.
    let reply = client.done(
        "run_actions",
        json!({
            "actions": [
                {"action": "type_text", "text": "more\n"},
                {"action": "wait_for", "conditions": [{"condition": "stable", "ms": 300}], "timeout": 20},
            ],
            "screenshot": "end",
        }),
    );
    assert!(
        reply
            .text
            .contains("\n2. wait_for: done. The screen has been still for 300 ms, after "),
        "{}",
        reply.text
    );
    assert!(
        reply.text.ends_with("\nThe screen was still."),
        "{}",
        reply.text
    );
    assert_eq!(reply.pictures.len(), 1);
    assert_eq!(guest.typed(), "hello there\nmore\n");
}

#[test]
fn a_busy_screen_settles_at_the_limit_and_says_so() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let window = open_busy_window(&mut guest);
    // A guest that gets little of the host's time pauses now and then: what counts is that the limit ends
    // the wait where it does not.
    guest.until("a picture is taken at the limit", |_| {
        let begun = Instant::now();
        let reply = client.done("take_screenshot", json!({"settle": 300}));
        assert_eq!(reply.pictures.len(), 1);
        let (_, told) = reply.text.rsplit_once('\n').expect("it says how it was");
        match told {
            "The screen was still." => None,
            "The screen still changed after 300 ms; this is how it looked then." => {
                assert!(begun.elapsed() >= Duration::from_millis(300));
                Some(())
            }
            told => panic!("{told}"),
        }
    });
    let still = json!({"conditions": [{"condition": "stable", "ms": 2500}], "timeout": 6});
    let reply = client.call("wait_for", still);
    assert!(reply.is_error, "{}", reply.text);
    assert!(
        reply
            .text
            .starts_with("Nothing held within 6 s: `stable`: the screen "),
        "{}",
        reply.text
    );
    assert_eq!(reply.pictures.len(), 1);
    // What is beside the window is still,
    assert!(window.y + window.height < 700, "{window:?}");
    let beside = json!([0, 700, 1280, 800]);
    let settled = client.done("take_screenshot", json!({"settle": 5000, "region": beside}));
    assert!(
        settled.text.ends_with("\nThe screen was still."),
        "{}",
        settled.text
    );
    // and so is all of it when the window is gone.
    guest.end("busy");
    let settled = client.done("take_screenshot", json!({"settle": 20_000}));
    assert!(
        settled.text.ends_with("\nThe screen was still."),
        "{}",
        settled.text
    );
}

#[test]
fn a_blinking_cursor_keeps_no_screen_from_being_still() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let program = [
        "xterm",
        "-T",
        "blinking",
        "-bc",
        "-bcn",
        "200",
        "-bcf",
        "200",
        "-geometry",
        "80x24+40+40",
        "-e",
        "sleep",
        "600",
    ];
    let window = guest.open_window("blinking", &program);
    // It does blink.
    let cursor = json!([window.x, window.y, window.x + 60, window.y + 30]);
    for _ in 0..2 {
        let change = json!({"conditions": [{"condition": "change", "share": 0, "region": cursor}]});
        let reply = client.call("wait_for", change);
        assert!(held(&reply).starts_with("The region ["), "{}", reply.text);
    }
    let still = json!({"conditions": [{"condition": "stable", "ms": 2000}]});
    assert_eq!(
        held(&client.call("wait_for", still)),
        "The screen has been still for 2000 ms"
    );
    let still =
        json!({"conditions": [{"condition": "stable", "ms": 2000, "region": region(window)}]});
    let reply = client.call("wait_for", still);
    assert!(
        held(&reply).ends_with(" has been still for 2000 ms"),
        "{}",
        reply.text
    );
    let settled = client.done("take_screenshot", json!({"settle": 10_000}));
    assert!(
        settled.text.ends_with("\nThe screen was still."),
        "{}",
        settled.text
    );
}

#[test]
fn an_unchanged_screen_costs_one_line() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    client.done(
        "wait_for",
        json!({"conditions": [{"condition": "stable", "ms": 1000}]}),
    );
    let corner = json!({"region": [1000, 600, 1280, 800], "if_changed": true});
    let shown = client.done("take_screenshot", corner.clone());
    assert_eq!(shown.pictures.len(), 1);
    let id = shown.text.split(' ').nth(1).expect("an id");
    let again = client.done("take_screenshot", corner.clone());
    assert_eq!(
        again.text,
        format!(
            "Unchanged: this picture of {} would be exactly that of screenshot {id}, so it is not \
             sent again.",
            guest.name
        )
    );
    assert!(again.pictures.is_empty());
    let program = [
        "xterm",
        "-T",
        "corner",
        "-bg",
        "#308050",
        "-geometry",
        "30x8-0-0",
        "-e",
        "sleep",
        "600",
    ];
    guest.open_window("corner", &program);
    guest.until("the window is painted", |_| {
        let reply = client.done("take_screenshot", corner.clone());
        (reply.pictures.len() == 1).then_some(())
    });
}

#[test]
fn ssh_and_ports_are_reached_and_others_are_not() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let reply = client.call("wait_for", json!({"conditions": [{"condition": "ssh"}]}));
    assert!(
        held(&reply).starts_with("The guest's SSH server takes ")
            && held(&reply).ends_with(&format!(" at {}:{}", guest.host, guest.port)),
        "{}",
        reply.text
    );
    let port = |port: u16, timeout: u16| json!({"conditions": [{"condition": "port", "port": port}], "timeout": timeout});
    let reply = client.call("wait_for", port(22, 30));
    assert_eq!(
        held(&reply),
        "Port 22 of the guest takes connections, as seen by its SSH server, from inside"
    );
    // The host's own forward to SSH is no port of the guest.
    for closed in [guest.port, 8099] {
        let reply = client.call("wait_for", port(closed, 2));
        assert!(reply.is_error, "{}", reply.text);
        assert!(
            reply.text.starts_with(
                "Nothing held within 2 s: `port`: the guest's SSH server cannot connect"
            ),
            "{}",
            reply.text
        );
    }
    // One that opens during the wait.
    let id = begin(&mut client, "port", &port(8099, 60));
    guest.start("listener", &["python3", "-m", "http.server", "8099"]);
    let reply = client.reply(id);
    assert_eq!(
        held(&reply),
        "Port 8099 of the guest takes connections, as seen by its SSH server, from inside"
    );
    guest.end("listener");
}

/// A VM of this test alone, without a disk: its firmware finds nothing to start.
struct OwnVm;

impl OwnVm {
    const NAME: &str = "virtpilot-waiting";

    fn define() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a temporary folder");
        let file = folder.path().join("vm.xml");
        let xml = format!(
            "<domain type='qemu'><name>{}</name><memory unit='MiB'>64</memory>\
             <os><type arch='x86_64'>hvm</type></os>\
             <devices><video><model type='vga'/></video></devices></domain>",
            Self::NAME
        );
        std::fs::write(&file, xml).expect("the folder can be written");
        let vm = Self;
        virsh_done(&["define", file.to_str().expect("the path is UTF-8")]);
        vm
    }
}

impl Drop for OwnVm {
    fn drop(&mut self) {
        let _ = virsh(&["destroy", Self::NAME]);
        let _ = virsh(&["undefine", Self::NAME]);
    }
}

#[test]
fn a_vm_is_waited_for_while_it_starts_and_stops() {
    let home = tempfile::tempdir().expect("there is room for a temporary folder");
    let _vm = OwnVm::define();
    let mut command = crate::mcp::binary(home.path());
    command.args(["--vm", OwnVm::NAME]);
    let mut client = Client::start(command);
    let state = |state: &str| json!({"conditions": [{"condition": "state", "state": state}]});
    assert_eq!(
        held(&client.call("wait_for", state("shutoff"))),
        "The VM is shut off"
    );
    let error = client.fails("wait_for", json!({"conditions": [{"condition": "stable"}]}));
    assert!(
        error.starts_with(&format!("The VM `{}` is shut off.", OwnVm::NAME)),
        "{error}"
    );

    let id = begin(&mut client, "running", &state("running"));
    virsh_done(&["start", OwnVm::NAME]);
    let reply = client.reply(id);
    assert_eq!(held(&reply), "The VM is running");
    // A picture of the guest's own, not QEMU's placeholder of a screen that is not there yet.
    let reply = client.done("take_screenshot", json!({"settle": 20_000}));
    assert!(!reply.text.contains("placeholder"), "{}", reply.text);
    assert!(
        reply.text.ends_with("\nThe screen was still."),
        "{}",
        reply.text
    );

    // It stops while its screen is looked at,
    let change = json!({"conditions": [{"condition": "change", "share": 1}], "timeout": 60});
    let id = begin(&mut client, "change", &change);
    virsh_done(&["destroy", OwnVm::NAME]);
    let reply = client.reply(id);
    assert!(
        reply.is_error
            && reply
                .text
                .starts_with(&format!("The VM `{}` is shut off.", OwnVm::NAME)),
        "{}",
        reply.text
    );
    // and while that is waited for as well.
    virsh_done(&["start", OwnVm::NAME]);
    let either = json!({
        "conditions": [{"condition": "change", "share": 1}, {"condition": "state", "state": "shutoff"}],
        "timeout": 60,
    });
    client.done("take_screenshot", json!({"settle": 20_000}));
    let id = begin(&mut client, "either", &either);
    virsh_done(&["destroy", OwnVm::NAME]);
    assert_eq!(held(&client.reply(id)), "The VM is shut off");
}
