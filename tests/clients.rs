//! Real MCP clients on the real guest: the Python SDK in both generations of the protocol, and the
//! Inspector's command line. `tests/run` installs them.

#[path = "support/guest.rs"]
mod guest;
#[path = "support/mcp.rs"]
mod mcp;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use virtpilot::image;

/// All tools of the standard set, in the order that clients are shown, as `tests/contract.rs` holds the
/// server to them.
fn tools() -> Vec<String> {
    let snapshot: Value = serde_json::from_str(include_str!("data/tools.json")).unwrap();
    let tools = snapshot.as_array().unwrap().iter();
    tools
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

fn installed(path: &str) -> PathBuf {
    let path = guest::cache().join("clients").join(path);
    assert!(
        path.exists(),
        "{} is missing; `tests/run` installs the clients",
        path.display()
    );
    path
}

/// A client program with the settings that it is to hand on to the server.
fn client(program: &Path, home: &Path) -> Command {
    let demo: HashMap<_, _> = guest::settings().into_iter().collect();
    let mut command = mcp::binary(home);
    let settings: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    command = Command::new(program);
    for (name, value) in settings {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .env("VM_NAME", &demo["VM_NAME"])
        .env("VM_USER", "vmrobot")
        .env("VM_IDENTITY", &demo["VM_IDENTITY"])
        .current_dir(home);
    command
}

fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{error}",
        output.status
    );
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}\n{error}"))
}

#[test]
fn the_python_sdk_works_in_both_generations_of_the_protocol() {
    let _turn = guest::turn();
    let cases = [
        ("legacy", "2025-11-25"),
        ("2026-07-28", "2026-07-28"),
        ("auto", "2026-07-28"),
    ];
    for (mode, protocol) in cases {
        let home = tempfile::tempdir().unwrap();
        let output = client(&installed("venv/bin/python"), home.path())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/sdk.py"))
            .args([mode, env!("CARGO_BIN_EXE_virtpilot")])
            .output()
            .unwrap();
        let mut seen = json_of(&output);
        assert_eq!(seen["protocol"], protocol);
        assert_eq!(seen["tools"], json!(tools()));
        assert_eq!(
            seen["templates"],
            json!([
                "vm://screenshot/{id}",
                "vm://screen/{vm}",
                "vm://job/{id}/{stream}"
            ])
        );
        let prompt = seen["prompt"].as_str().unwrap();
        assert!(prompt.starts_with("# Working habits"), "{prompt}");
        let png = STANDARD
            .decode(seen["picture"]["data"].as_str().unwrap())
            .unwrap();
        let size = image::size(seen["picture"]["mime"].as_str().unwrap(), &png).unwrap();
        assert_eq!(size.to_string(), "1280×800");
        assert_eq!(seen["picture_is_structured"], false);
        let duration = seen["shell"]["duration_ms"].take();
        assert!(duration.is_u64(), "{duration}");
        assert_eq!(
            seen["shell"],
            json!({
                "state": "exited", "exit_code": 3, "stdout": "out\n", "stderr": "err\n",
                "duration_ms": null, "omitted_bytes": 0,
            })
        );
        assert_eq!(seen["moved"], true);
        assert_eq!(seen["refused"], true);
        assert_eq!(seen["same_bytes"], true);
    }
}

fn inspect(home: &Path, arguments: &[&str]) -> Value {
    let node = installed("venv/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths(std::iter::once(node).chain(std::env::split_paths(&path))).unwrap();
    let mut command = client(&installed("node_modules/.bin/mcp-inspector"), home);
    // It hands on only what it is told to.
    let settings: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    command.arg("--cli");
    for setting in &settings {
        command.args(["-e", setting]);
    }
    let output = command
        .env("PATH", path)
        .arg(env!("CARGO_BIN_EXE_virtpilot"))
        .args(arguments)
        .output()
        .unwrap();
    json_of(&output)
}

#[test]
fn the_inspector_lists_and_calls_tools() {
    let _turn = guest::turn();
    let home = tempfile::tempdir().unwrap();
    let list = inspect(home.path(), &["--method", "tools/list"]);
    let names: Vec<_> = list["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, tools());

    let call = |arguments: &[&str]| {
        let all = [&["--method", "tools/call", "--tool-name"], arguments].concat();
        inspect(home.path(), &all)
    };
    let picture = call(&["take_screenshot"]);
    assert_eq!(picture["content"][1]["mimeType"], "image/png");
    let shell = call(&["ssh_execute", "--tool-arg", "command=id -un"]);
    assert_eq!(shell["structuredContent"]["stdout"], "vmrobot\n");
    let moved = call(&["move_mouse", "--tool-arg", "x=100", "y=200"]);
    assert_eq!(moved["content"][0]["text"], "Moved the pointer to 100,200.");

    let resources = inspect(home.path(), &["--method", "resources/list"]);
    assert_eq!(
        resources["resources"][0]["uri"],
        "vm://screen/virtpilot-demo"
    );
    let templates = inspect(home.path(), &["--method", "resources/templates/list"]);
    assert_eq!(
        templates["resourceTemplates"][1]["uriTemplate"],
        "vm://screen/{vm}"
    );
    let prompts = inspect(home.path(), &["--method", "prompts/list"]);
    assert_eq!(prompts["prompts"][0]["name"], "working_habits");
}
