//! Which protocol is spoken, and what may come before that is clear.

use serde_json::json;
use tempfile::TempDir;

use crate::{
    mcp::{Client, OLD_PROTOCOL, PROTOCOL},
    server,
};

#[test]
fn every_protocol_with_a_handshake_is_answered_in_kind() {
    let newest_with_handshake = "2025-11-25";
    let cases = [
        (OLD_PROTOCOL, OLD_PROTOCOL),
        ("2025-03-26", "2025-03-26"),
        (PROTOCOL, PROTOCOL),
        (newest_with_handshake, newest_with_handshake),
        // This one has no handshake, and the others do not exist.
        ("2026-07-28", newest_with_handshake),
        ("1999-01-01", newest_with_handshake),
        ("latest", newest_with_handshake),
    ];
    let home = TempDir::new().unwrap();
    for (asked, answered) in cases {
        let mut client = Client::connect(server(&home));
        let result = client.initialize(asked)["result"].take();
        assert_eq!(result["protocolVersion"], answered, "{asked}");
        assert_eq!(
            result["serverInfo"],
            json!({
                "name": "virtpilot",
                "title": "virtpilot",
                "version": env!("CARGO_PKG_VERSION"),
            })
        );
        assert_eq!(
            result["capabilities"],
            json!({"completions": {}, "prompts": {}, "resources": {}, "tools": {}})
        );
        let instructions = result["instructions"].as_str().unwrap();
        assert!(
            instructions.contains("Look before you act"),
            "{instructions}"
        );
        let reply = client.done("wait", json!({"seconds": 0}));
        assert_eq!(reply.text, "Waited 0 s.");
    }
}

#[test]
fn the_newest_protocol_works_without_a_handshake() {
    let home = TempDir::new().unwrap();
    let mut client = Client::connect(server(&home));
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let discovered = client.request("server/discover", json!({"_meta": meta}))["result"].take();
    let versions = discovered["supportedVersions"].as_array().unwrap();
    for version in [OLD_PROTOCOL, PROTOCOL, "2026-07-28"] {
        assert!(
            versions.contains(&json!(version)),
            "{version}: {versions:?}"
        );
    }
    assert_eq!(
        discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "virtpilot"
    );
    assert_eq!(discovered["resultType"], "complete");

    let listed = client.request("tools/list", json!({"_meta": meta}))["result"].take();
    assert!(listed["tools"].as_array().unwrap().len() >= 20, "{listed}");
    let call = json!({"_meta": meta, "name": "wait", "arguments": {"seconds": 0}});
    let called = client.request("tools/call", call)["result"].take();
    assert_eq!(called["content"][0]["text"], "Waited 0 s.");
    assert_eq!(called["resultType"], "complete");

    // Each request stands for itself.
    let bare = client.request("tools/list", json!({}));
    assert_eq!(bare["error"]["code"], -32602, "{bare}");
    let unknown = json!({
        "io.modelcontextprotocol/protocolVersion": "2030-01-01",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let unknown = client.request("tools/list", json!({"_meta": unknown}));
    assert!(unknown["error"]["message"].is_string(), "{unknown}");
}

#[test]
fn a_request_before_the_handshake_is_refused_and_the_handshake_still_works() {
    let home = TempDir::new().unwrap();
    let mut client = Client::connect(server(&home));
    let early = client.request(
        "tools/call",
        json!({"name": "wait", "arguments": {"seconds": 0}}),
    );
    assert_eq!(early["error"]["code"], -32602, "{early}");
    let ping = client.request("ping", json!({}));
    assert_eq!(ping["result"], json!({}));
    assert_eq!(
        client.initialize(PROTOCOL)["result"]["protocolVersion"],
        PROTOCOL
    );
    client.done("wait", json!({"seconds": 0}));
}

#[test]
fn what_asks_for_nothing_may_come_before_the_handshake() {
    let home = TempDir::new().unwrap();
    let mut client = Client::connect(server(&home));
    client.notify("notifications/initialized", json!({}));
    client.notify("notifications/cancelled", json!({"requestId": 1}));
    client.send_raw(r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#);
    client.send_raw(r#"{"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}}"#);
    assert_eq!(client.request("ping", json!({}))["result"], json!({}));
    client.notify("notifications/initialized", json!({}));
    assert_eq!(
        client.initialize(PROTOCOL)["result"]["protocolVersion"],
        PROTOCOL
    );
    client.done("wait", json!({"seconds": 0}));
}
