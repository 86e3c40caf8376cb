//! How a server ends: with its input, with its client, by a signal.

use std::{
    fs::{self, File},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::{busy_with, mcp::Client, server, start};

/// Soon enough for clients, which wait 2 s for a server to end before they kill it.
const SOON: Duration = Duration::from_millis(1900);

/// Sooner than what is still to be answered may take.
const AT_ONCE: Duration = Duration::from_millis(800);

/// What ends a server.
type End = fn(&mut Client);

/// Ends by itself with status 0, within the time.
fn ends_within(limit: Duration, mut client: Client, how: &str) {
    let begun = Instant::now();
    let status = client.wait_for_exit();
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{how}");
    assert!(took < limit, "{how}: it took {took:?}");
}

#[test]
fn the_end_of_input_ends_the_server() {
    let home = TempDir::new().unwrap();
    let mut client = Client::connect(server(&home));
    client.hang_up();
    ends_within(AT_ONCE, client, "before the handshake");

    let mut client = Client::start(server(&home));
    client.hang_up();
    ends_within(AT_ONCE, client, "idle");

    for (tool, arguments) in busy_with() {
        let mut client = Client::start(server(&home));
        client.send_call(tool, arguments);
        thread::sleep(Duration::from_millis(300));
        client.hang_up();
        ends_within(SOON, client, tool);
    }
}

#[test]
fn what_has_gone_on_for_more_than_a_second_ends_with_the_input() {
    let home = TempDir::new().unwrap();
    for (tool, arguments) in busy_with() {
        let mut client = Client::start(server(&home));
        client.send_call(tool, arguments);
        thread::sleep(Duration::from_millis(1200));
        client.hang_up();
        ends_within(AT_ONCE, client, tool);
    }
}

#[test]
fn what_is_asked_just_before_the_end_of_input_is_answered() {
    let (_home, mut client) = start();
    let id = client.send_call("wait", json!({"seconds": 0.3}));
    client.hang_up();
    assert_eq!(client.reply(id).text, "Waited 0.3 s.");
    assert_eq!(client.wait_for_exit().code(), Some(0));
}

#[test]
fn the_end_of_input_ends_the_last_line() {
    let (_home, mut client) = start();
    client.send_part(r#"{"jsonrpc": "2.0", "id": 70, "method": "ping"}"#);
    client.hang_up();
    assert_eq!(client.answer(70)["result"], json!({}));
    assert_eq!(client.wait_for_exit().code(), Some(0));
}

#[test]
fn signals_end_the_server() {
    let home = TempDir::new().unwrap();
    for name in ["TERM", "INT", "HUP"] {
        let client = Client::start(server(&home));
        client.signal(name);
        ends_within(SOON, client, name);
        for (tool, arguments) in busy_with() {
            let mut client = Client::start(server(&home));
            client.send_call(tool, arguments);
            thread::sleep(Duration::from_millis(300));
            client.signal(name);
            ends_within(SOON, client, &format!("{name} in {tool}"));
        }
    }
}

/// A client that reads nothing: it has asked for more than is answered unread, and then for what
/// takes long.
fn unread(home: &TempDir, stderr: &str) -> Client {
    let mut command = server(home);
    command.stderr(File::create(home.path().join(stderr)).unwrap());
    let mut client = Client::start_unread(command);
    for (tool, arguments) in busy_with() {
        client.send_call(tool, arguments);
    }
    for _ in 0..400 {
        client.send("tools/list", json!({}));
    }
    client.send_raw("no JSON");
    thread::sleep(Duration::from_millis(1200));
    client
}

#[test]
fn a_server_whose_answers_nobody_reads_ends_as_soon() {
    const SAID: &str = "WARN virtpilot::tools::wire: the last answers were not sent: the client does \
                        not read them\n";
    let home = TempDir::new().unwrap();
    let ways: [(&str, End); 3] = [
        ("the end of input", Client::hang_up),
        ("TERM", |client| client.signal("TERM")),
        ("HUP", |client| client.signal("HUP")),
    ];
    for (name, end) in ways {
        let mut client = unread(&home, name);
        end(&mut client);
        ends_within(SOON, client, name);
        let said = fs::read_to_string(home.path().join(name)).unwrap();
        assert!(
            said.ends_with(SAID) && said.lines().count() == 1,
            "{name}: {said}"
        );
    }
    // The client is gone, and nothing is wrong with that.
    let mut client = unread(&home, "gone");
    client.close_unread();
    ends_within(SOON, client, "gone");
    assert_eq!(fs::read_to_string(home.path().join("gone")).unwrap(), "");
}

#[test]
fn an_end_in_the_middle_of_calls_and_errors_is_nothing_to_tell_on_stderr() {
    let home = TempDir::new().unwrap();
    let said = home.path().join("said");
    let ways: [End; 2] = [Client::hang_up, |client| client.signal("TERM")];
    for end in ways {
        let mut command = server(&home);
        command.stderr(File::create(&said).unwrap());
        let mut client = Client::start(command);
        client.request("tools/cook", json!({}));
        client.request("resources/read", json!({"uri": "vm://screenshot/none"}));
        client.send_raw("no JSON");
        client.wait_for(|message| message.get("error").is_some());
        for (tool, arguments) in busy_with() {
            client.send_call(tool, arguments);
        }
        thread::sleep(Duration::from_millis(300));
        end(&mut client);
        ends_within(SOON, client, "busy");
        assert_eq!(fs::read_to_string(&said).unwrap(), "");
    }
}
