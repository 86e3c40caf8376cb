//! What a line may be, and what is answered to it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::start;

const LONE_HIGH_SURROGATE: &str = r#"{"jsonrpc": "2.0", "id": 93, "method": "tools/call", "params": {"name": "type_text", "arguments": {"text": "a\ud83e"}}}"#;
const LONE_LOW_SURROGATE: &str = r#"{"jsonrpc": "2.0", "id": 94, "method": "tools/call", "params": {"name": "type_text", "arguments": {"text": "\udd80b"}}}"#;

#[test]
fn lines_that_are_no_requests_are_answered_and_harm_nobody() {
    let (_home, mut client) = start();
    // Each with the error and the id of its answer, where it gets one.
    let cases = [
        ("", None),
        ("{\"jsonrpc\": \"2.0\", \"id\"", Some((-32700, Value::Null))),
        ("Content-Length: 120\r", Some((-32700, Value::Null))),
        ("\u{0}", Some((-32700, Value::Null))),
        ("[]", Some((-32600, Value::Null))),
        (
            r#"[{"jsonrpc": "2.0", "id": 90, "method": "ping"}]"#,
            Some((-32600, Value::Null)),
        ),
        ("null", Some((-32600, Value::Null))),
        ("7", Some((-32600, Value::Null))),
        (r#"{"id": 91, "method": "ping"}"#, Some((-32600, json!(91)))),
        (
            r#"{"jsonrpc": "2.0", "id": "b", "method": 7}"#,
            Some((-32600, json!("b"))),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "notifications/unheard-of"}"#,
            None,
        ),
        (r#"{"jsonrpc": "2.0", "id": 92, "result": {}}"#, None),
        // Half a character is no text.
        (LONE_HIGH_SURROGATE, Some((-32700, Value::Null))),
        (LONE_LOW_SURROGATE, Some((-32700, Value::Null))),
    ];
    for (line, error) in cases {
        client.send_raw(line);
        if let Some((code, id)) = error {
            let answer = client.wait_for(|_| true);
            assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
            assert_eq!(answer.get("id"), Some(&id), "{line}: {answer}");
        }
        // Nothing but what was expected has come before.
        let id = client.send("ping", json!({}));
        let answer = client.wait_for(|_| true);
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": id, "result": {}}),
            "{line}"
        );
    }
}

#[test]
fn a_line_of_20_mb_is_refused_by_its_id_and_costs_little_memory() {
    let (_home, mut client) = start();
    let text = "x".repeat(20_000_000);
    let call = format!(r#""params": {{"name": "type_text", "arguments": {{"text": "{text}"}}}}"#);
    let method = r#""jsonrpc": "2.0", "method": "tools/call""#;
    let cases = [
        (format!(r#"{{"id": 5, {method}, {call}}}"#), json!(5)),
        (format!(r#"{{{method}, {call}, "id": "f"}}"#), json!("f")),
        (format!("\"{text}\""), Value::Null),
    ];
    for (line, id) in cases {
        client.send_raw(&line);
        let answer = client.wait_for(|_| true);
        assert_eq!(answer.get("id"), Some(&id), "{answer}");
        assert_eq!(
            answer["error"],
            json!({
                "code": -32600,
                "message": "the line is longer than 16777216 bytes, the most that is read; send \
                            less at once, and files with `ssh_upload`",
            })
        );
        client.done("wait", json!({"seconds": 0}));
    }
    let peak = client.peak_memory();
    assert!(peak < 64, "{peak} MiB");
}

#[test]
fn a_second_request_with_the_id_of_one_in_flight_is_refused() {
    let (_home, mut client) = start();
    let call = |seconds: f64| {
        json!({
            "jsonrpc": "2.0", "id": "same", "method": "tools/call",
            "params": {"name": "wait", "arguments": {"seconds": seconds}},
        })
        .to_string()
    };
    client.send_raw(&call(0.6));
    client.send_raw(&call(0.2));
    let second = client.wait_for(|_| true);
    assert_eq!(
        second,
        json!({
            "jsonrpc": "2.0", "id": "same",
            "error": {
                "code": -32600,
                "message": "the id same belongs to a request that is still worked on",
            },
        })
    );
    let first = client.wait_for(|_| true);
    assert_eq!(first["id"], "same");
    assert_eq!(first["result"]["content"][0]["text"], "Waited 0.6 s.");
    // Then it is free again.
    client.send_raw(&call(300.0));
    client.notify("notifications/cancelled", json!({"requestId": "same"}));
    // A call that was cancelled is not answered, and nor is another one in its name. Its id is free
    // when it has let go of what it held.
    let third = loop {
        client.send_raw(&call(0.1));
        let answer = client.wait_for(|_| true);
        if answer["error"] != second["error"] {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(third["result"]["content"][0]["text"], "Waited 0.1 s.");
}

#[test]
fn a_line_may_come_in_parts() {
    let (_home, mut client) = start();
    let other = client.send_call("wait", json!({"seconds": 0.1}));
    client.send_part(r#"{"jsonrpc": "2.0", "id": 70, "#);
    assert_eq!(client.reply(other).text, "Waited 0.1 s.");
    client.send_part("\"method\": \"ping\"}\n{\"jsonrpc\": \"2.0\", \"id\": 71, ");
    assert_eq!(client.answer(70)["result"], json!({}));
    client.send_part("\"method\": \"ping\"}\n");
    assert_eq!(client.answer(71)["result"], json!({}));
}

#[test]
fn requests_for_what_does_not_exist_are_protocol_errors() {
    let (_home, mut client) = start();
    let cases: [(&str, Value, i64, &str); 9] = [
        (
            "tools/cook",
            json!({}),
            -32601,
            "there is no method `tools/cook`",
        ),
        (
            "tools/call",
            json!({"name": "wait", "arguments": [1]}),
            -32602,
            "the parameters of `tools/call` have not the form",
        ),
        (
            "tools/call",
            json!({"arguments": {}}),
            -32602,
            "the parameters of `tools/call` have not the form",
        ),
        (
            "resources/read",
            json!({"uri": 7}),
            -32602,
            "the parameters of `resources/read` have not the form",
        ),
        (
            "tools/call",
            json!({"name": "make_coffee"}),
            -32602,
            "there is no tool `make_coffee`",
        ),
        (
            "prompts/get",
            json!({"name": "poem"}),
            -32602,
            "there is no prompt `poem`; there is `working_habits`",
        ),
        (
            "resources/read",
            json!({"uri": "file:///etc/passwd"}),
            -32002,
            "There is no resource file:///etc/passwd.",
        ),
        (
            "resources/read",
            json!({"uri": "vm://screenshot/../../etc/passwd"}),
            -32002,
            "`../../etc/passwd` is no screenshot id.",
        ),
        (
            "resources/read",
            json!({"uri": "vm://screenshot/20200101-000000-000000"}),
            -32002,
            "There is no screenshot 20200101-000000-000000.",
        ),
    ];
    for (method, params, code, message) in cases {
        let error = client.request(method, params)["error"].take();
        assert_eq!(error["code"], code, "{error}");
        let text = error["message"].as_str().unwrap();
        assert!(text.starts_with(message), "{text}");
    }
    client.done("wait", json!({"seconds": 0}));
}

#[test]
fn ids_come_back_as_they_were_sent() {
    let (_home, mut client) = start();
    for id in [json!("a"), json!(0), json!(9_007_199_254_740_991_i64)] {
        client.send_raw(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string());
        let answer = client.wait_for(|message| message["id"] == id);
        assert_eq!(answer["result"], json!({}));
    }
}
