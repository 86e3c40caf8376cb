//! The contract with clients: the tools with their schemas and annotations, as they are told, as they
//! are documented, and as they answer.
//!
//! `UPDATE_SNAPSHOT=1 cargo test --test contract` writes the snapshot and the README's table anew;
//! what changed is then seen in the diff.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/schema.rs"]
mod schema;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/test_driver.rs"]
mod test_driver;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use mcp::{Client, binary};
use serde_json::{Map, Value, json};
use sshd::Sshd;
use tempfile::TempDir;

/// The most that the tool list may cost a client's context, as bytes of JSON.
const MAX_LIST: usize = 40_000;

/// Tools that can answer with a picture. Some clients show nothing but data where there is any, so
/// these have none.
const PICTURES: [&str; 5] = [
    "take_screenshot",
    "run_actions",
    "wait_for",
    "screenshot",
    "zoom",
];

/// The toolsets, and what was last told of each.
const TOOLSETS: [(&str, &str); 2] = [
    ("standard", "tests/data/tools.json"),
    ("computer", "tests/data/computer.json"),
];

fn start(toolset: &str) -> (TempDir, Client) {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI, "--toolset", toolset]);
    let client = Client::start(command);
    (home, client)
}

/// The tools of the standard set.
fn listed() -> Vec<Value> {
    listed_in("standard")
}

/// The tools of both sets, those that are in both twice.
fn listed_anywhere() -> impl Iterator<Item = Value> {
    TOOLSETS.iter().flat_map(|(toolset, _)| listed_in(toolset))
}

fn listed_in(toolset: &str) -> Vec<Value> {
    let (_home, mut client) = start(toolset);
    let answer = client.request("tools/list", json!({}));
    assert_eq!(
        answer["result"].get("nextCursor"),
        None,
        "one page holds all"
    );
    answer["result"]["tools"].as_array().unwrap().clone()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn is_updating() -> bool {
    std::env::var_os("UPDATE_SNAPSHOT").is_some()
}

#[test]
fn the_lists_of_tools_equal_their_snapshots() {
    for (toolset, file) in TOOLSETS {
        let now = format!("{:#}\n", Value::Array(listed_in(toolset)));
        let file = here(file);
        if is_updating() {
            fs::write(&file, &now).unwrap();
            continue;
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        let differs = now
            .lines()
            .zip(kept.lines())
            .position(|(now, kept)| now != kept);
        let at = differs.map(|at| now.lines().nth(at).unwrap_or_default());
        assert!(
            now == kept,
            "the {toolset} tools changed, first at {at:?}; if that is meant: UPDATE_SNAPSHOT=1"
        );
    }
}

fn reference(toolset: &str) -> String {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    let output = command.args(["tools", "--toolset", toolset]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn the_readmes_tables_equal_the_reference() {
    let home = TempDir::new().unwrap();
    let output = binary(home.path()).arg("tools").output().unwrap();
    let standard = String::from_utf8(output.stdout).unwrap();
    assert_eq!(standard, reference("standard"));
    let table = readme_part("tools", &standard);
    for tool in listed() {
        let row = format!("\n| `{}(", tool["name"].as_str().unwrap());
        assert_eq!(table.matches(&row).count(), 1, "{row}");
    }
    // Of the other toolset, what it has of its own; the head is two lines.
    let computer = reference("computer");
    let is_own = |(at, line): &(usize, &str)| *at < 2 || !standard.lines().any(|it| it == *line);
    let own: Vec<_> = computer.lines().enumerate().filter(is_own).collect();
    assert_eq!(own.len(), 2 + 17);
    let own: Vec<_> = own.iter().map(|(_, line)| *line).collect();
    readme_part("computer", &format!("{}\n", own.join("\n")));
}

/// The tools that a text names. Those of one word are left out: they are words of English as well.
fn tools_named(text: &str) -> BTreeSet<String> {
    let known: BTreeSet<String> = listed_anywhere()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .filter(|name| name.contains('_'))
        .collect();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).map(str::to_owned);
    words.filter(|word| known.contains(word)).collect()
}

#[test]
fn what_a_model_is_told_names_no_tool_that_is_not_there() {
    for (toolset, _) in TOOLSETS {
        let home = TempDir::new().unwrap();
        let mut command = binary(home.path());
        command.args(["--uri", test_driver::URI, "--toolset", toolset]);
        let mut client = Client::connect(command);
        let told = client.initialize(mcp::PROTOCOL)["result"].take();
        let instructions = told["instructions"].as_str().unwrap().to_owned();
        let mut prompt = client.request("prompts/get", json!({"name": "working_habits"}));
        let habits = prompt["result"]["messages"][0]["content"]["text"].take();
        let templates = client.request("resources/templates/list", json!({}));
        let tools = listed_in(toolset);
        let names: BTreeSet<_> = tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect();
        let texts = [
            instructions,
            habits.as_str().unwrap().to_owned(),
            templates["result"].to_string(),
            Value::Array(tools).to_string(),
        ];
        for text in &texts {
            let missing: Vec<_> = tools_named(text).difference(&names).cloned().collect();
            assert_eq!(missing, [""; 0], "{toolset}: {text}");
        }
        // The names that the standard texts are full of are not found missing for want of a search.
        assert!(tools_named(&texts[0]).contains("project_load"), "{toolset}");
        for part in [
            "## Wait for what you expect",
            "| after | pause |",
            "## Commands go",
            "## Leave",
        ] {
            assert!(texts[1].contains(part), "{toolset}: {part}");
        }
        let batches = texts[1].contains("run_actions");
        assert_eq!(batches, toolset == "standard");
    }
}

#[test]
fn the_readmes_habits_equal_the_prompt() {
    let habits = fs::read_to_string(here("src/tools/habits.md")).unwrap();
    // One level lower, and without the title.
    let (_, rest) = habits.split_once("\n\n").unwrap();
    let lower = format!("\n{rest}").replace("\n## ", "\n### ");
    readme_part("habits", &format!("{}\n", lower.trim()));
}

/// Two tests may write the README at once.
static WRITING: Mutex<()> = Mutex::new(());

/// What stands between the README's marks of this name, which has to be this text.
fn readme_part(name: &str, expected: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let file = here("README.md");
    let _writing = WRITING.lock();
    let readme = fs::read_to_string(&file).unwrap();
    let (before, rest) = readme.split_once(&begin).unwrap();
    let (part, after) = rest.split_once(&end).unwrap();
    if is_updating() {
        fs::write(&file, format!("{before}{begin}{expected}{end}{after}")).unwrap();
        return expected.to_owned();
    }
    assert!(
        part == expected,
        "the README's {name} are not those of the program: UPDATE_SNAPSHOT=1"
    );
    part.to_owned()
}

#[test]
fn the_list_of_tools_is_short_enough() {
    for (toolset, _) in TOOLSETS {
        let bytes = Value::Array(listed_in(toolset)).to_string().len();
        assert!(bytes < MAX_LIST, "{toolset}: {bytes} bytes");
    }
}

#[test]
fn every_tool_of_the_python_server_is_there_as_it_was() {
    let seed = fs::read_to_string(here("tests/data/seed-tools.json")).unwrap();
    let seed: Map<String, Value> = serde_json::from_str(&seed).unwrap();
    assert_eq!(seed.len(), 20);
    let tools = listed();
    for (name, was) in seed {
        let tool = tools
            .iter()
            .find(|tool| tool["name"] == name)
            .unwrap_or_else(|| panic!("{name} is gone"));
        let schema = &tool["inputSchema"];
        for (parameter, was) in was["parameters"].as_object().unwrap() {
            let is = &schema["properties"][parameter];
            assert_eq!(is["type"], was["type"], "{name}: {parameter}");
            assert_eq!(
                is["items"]["type"], was["items"]["type"],
                "{name}: {parameter}"
            );
            // An empty text as the default is that there is none.
            let default = |of: &Value| of.get("default").cloned().unwrap_or_else(|| json!(""));
            assert_eq!(default(is), default(was), "{name}: {parameter}");
        }
        let required = |of: &Value| -> BTreeSet<String> {
            let names = of.as_array().cloned().unwrap_or_default();
            names
                .iter()
                .map(|it| it.as_str().unwrap().to_owned())
                .collect()
        };
        let mut was = required(&was["required"]);
        if name == "type_text" {
            // `secret` may stand in its place.
            was.remove("text");
        }
        assert_eq!(required(&schema["required"]), was, "{name}");
    }
}

#[test]
fn every_tool_tells_a_model_and_a_person_what_it_is() {
    for (toolset, _) in TOOLSETS {
        check_descriptions(listed_in(toolset));
    }
}

fn check_descriptions(tools: Vec<Value>) {
    let mut names = BTreeSet::new();
    let mut titles = BTreeSet::new();
    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        let title = tool["title"].as_str().unwrap_or_default();
        assert!(title.len() > 3, "{name} has no title");
        assert!(titles.insert(title.to_owned()), "{title} is there twice");
        let description = tool["description"].as_str().unwrap_or_default();
        assert!(
            description.len() > 30 && description.ends_with('.'),
            "{name}: {description}"
        );
        assert!(
            !description.contains("  ") && !description.contains('\n'),
            "{name}: {description}"
        );
        let schema = &tool["inputSchema"];
        assert_eq!(schema["type"], "object", "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
        for (parameter, property) in schema["properties"].as_object().unwrap() {
            let text = property["description"].as_str().unwrap_or_default();
            assert!(text.len() > 5, "{name}: {parameter} has no description");
            assert!(
                property.get("type").is_some(),
                "{name}: {parameter} has no type"
            );
        }
    }
}

const HINTS: [&str; 4] = [
    "readOnlyHint",
    "destructiveHint",
    "idempotentHint",
    "openWorldHint",
];

#[test]
fn every_tool_has_all_four_hints_and_they_fit_together() {
    // Whether a tool changes nothing, may destroy, is the same when called twice, and reaches out of
    // this server.
    let expected = [
        ("take_screenshot", [true, false, true, false]),
        ("vm_list", [true, false, true, false]),
        ("move_mouse", [false, false, true, true]),
        ("click", [false, true, false, true]),
        ("drag", [false, true, false, true]),
        ("scroll", [false, true, false, true]),
        ("type_text", [false, true, false, true]),
        ("press_keys", [false, true, false, true]),
        ("run_actions", [false, true, false, true]),
        ("wait", [true, false, true, false]),
        ("ssh_execute", [false, true, false, true]),
        ("ssh_job", [false, true, false, true]),
        ("ssh_connection_info", [true, false, true, true]),
        ("ssh_upload", [false, true, true, true]),
        ("ssh_download", [false, true, true, true]),
        ("project_init", [false, false, false, false]),
        ("project_load", [false, false, true, false]),
        ("project_list", [true, false, true, false]),
        ("project_info", [true, false, true, false]),
        ("project_log", [false, false, false, false]),
        ("project_read_logs", [true, false, true, false]),
        ("project_save_result", [false, true, true, false]),
        ("project_save_advice", [false, false, false, false]),
        ("project_read_advice", [true, false, true, false]),
        ("screenshot", [true, false, true, false]),
        ("zoom", [true, false, true, false]),
        ("cursor_position", [true, false, true, false]),
        ("left_click", [false, true, false, true]),
        ("right_click", [false, true, false, true]),
        ("middle_click", [false, true, false, true]),
        ("double_click", [false, true, false, true]),
        ("triple_click", [false, true, false, true]),
        ("left_click_drag", [false, true, false, true]),
        ("mouse_move", [false, false, true, true]),
        ("left_mouse_down", [false, true, false, true]),
        ("left_mouse_up", [false, true, false, true]),
        ("type", [false, true, false, true]),
        ("key", [false, true, false, true]),
        ("hold_key", [false, true, false, true]),
    ];
    let tools: Vec<_> = listed_anywhere().collect();
    for tool in &tools {
        let name = tool["name"].as_str().unwrap();
        let hints = HINTS.map(|hint| {
            tool["annotations"][hint]
                .as_bool()
                .unwrap_or_else(|| panic!("{name} has no {hint}"))
        });
        let [reads, destroys, repeats, _] = hints;
        assert!(!(reads && destroys), "{name} reads and destroys");
        assert!(
            !reads || repeats,
            "{name} reads, and differs when it reads again"
        );
        if let Some((_, expected)) = expected.iter().find(|(known, _)| *known == name) {
            assert_eq!(hints, *expected, "{name}");
        }
    }
    for (name, _) in expected {
        assert!(
            tools.iter().any(|tool| tool["name"] == name),
            "{name} is gone"
        );
    }
}

#[test]
fn tools_that_answer_with_pictures_promise_no_data() {
    for tool in listed_anywhere() {
        let name = tool["name"].as_str().unwrap();
        if PICTURES.contains(&name) {
            assert_eq!(tool.get("outputSchema"), None, "{name}");
        } else if let Some(output) = tool.get("outputSchema") {
            assert_eq!(output["type"], "object", "{name}");
            assert!(
                !output["properties"].as_object().unwrap().is_empty(),
                "{name}"
            );
        }
    }
}

#[test]
fn data_is_as_its_schema_promises() {
    let sshd = Sshd::start();
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    command
        .args([
            "--uri",
            &test_driver::host(home.path()),
            "--vm",
            "up",
            "--vm",
            "off",
        ])
        .env("VM_HOST", "127.0.0.1")
        .env("VM_PORT", sshd.port().to_string())
        .env("VM_USER", sshd::whoami())
        .env("VM_IDENTITY", sshd.identity());
    fs::write(home.path().join("config.local"), "local").unwrap();
    command.args(["--config", "config.toml"]);
    let folders = format!("host_folders = [{:?}]\n", home.path());
    fs::write(home.path().join("config.toml"), folders).unwrap();
    let mut client = Client::start(command);
    let tools = client.request("tools/list", json!({}))["result"]["tools"].take();
    let tools = tools.as_array().unwrap();

    let here = home.path().join("config.local");
    let there = sshd.folder().join("uploaded");
    let (here, there) = (here.to_str().unwrap(), there.to_str().unwrap());
    let calls = [
        ("vm_list", json!({})),
        ("vm_list", json!({"vm": "up"})),
        ("vm_list", json!({"vm": "off"})),
        ("screen_text", json!({"words": true})),
        ("screen_text", json!({"pattern": "[a-z]"})),
        ("project_list", json!({})),
        ("project_init", json!({"name": "a", "description": "b"})),
        ("project_save_advice", json!({"title": "a", "content": "b"})),
        ("project_read_advice", json!({})),
        (
            "project_save_result",
            json!({"filename": "a", "content": "b"}),
        ),
        ("project_read_logs", json!({})),
        ("project_info", json!({})),
        ("project_list", json!({})),
        ("ssh_connection_info", json!({})),
        (
            "ssh_execute",
            json!({"command": "echo out; echo err >&2; exit 3"}),
        ),
        ("ssh_execute", json!({"command": "kill -9 $$"})),
        (
            "ssh_execute",
            json!({"command": "sleep 30", "timeout": 0.3}),
        ),
        (
            "ssh_execute",
            json!({"command": "cat", "stdin": "in", "cwd": "/", "env": {"A": "b"}}),
        ),
        (
            "ssh_upload",
            json!({"local_path": here, "remote_path": there}),
        ),
        (
            "ssh_download",
            json!({"remote_path": there, "local_path": format!("{here}.back")}),
        ),
    ];
    let mut reached = BTreeSet::new();
    for (name, arguments) in calls {
        let reply = client.done(name, arguments);
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        let data = reply
            .data
            .unwrap_or_else(|| panic!("{name} gave no data: {}", reply.text));
        schema::check(&data, &tool["outputSchema"])
            .unwrap_or_else(|why| panic!("{name}: {why}: {data}"));
        assert!(
            !reply.text.is_empty(),
            "{name}: the text carries the whole answer"
        );
        reached.insert(name);
    }
    let folder = client.done("project_info", json!({})).data.unwrap()["folder"].take();
    let loaded = client.done("project_load", json!({"project_path": folder}));
    let load = tools
        .iter()
        .find(|tool| tool["name"] == "project_load")
        .unwrap();
    schema::check(&loaded.data.unwrap(), &load["outputSchema"]).unwrap();
    reached.insert("project_load");

    let job = tools.iter().find(|tool| tool["name"] == "ssh_job").unwrap();
    let background = json!({"command": "cat; echo err >&2", "background": true});
    let started = client.done("ssh_execute", background).data.unwrap();
    let id = started["job"].as_str().unwrap();
    let of_job = [
        json!({"action": "list"}),
        json!({"action": "status", "id": id}),
        json!({"action": "stdin", "id": id, "text": "in"}),
        json!({"action": "signal", "id": id, "signal": "CONT"}),
        json!({"action": "wait", "id": id, "timeout": 0.1}),
        json!({"action": "stdin", "id": id, "eof": true}),
        json!({"action": "wait", "id": id}),
        json!({"action": "output", "id": id, "stream": "stderr"}),
        json!({"action": "forget", "id": id}),
    ];
    for arguments in of_job {
        let reply = client.done("ssh_job", arguments.clone());
        let data = reply.data.unwrap();
        schema::check(&data, &job["outputSchema"])
            .unwrap_or_else(|why| panic!("{arguments}: {why}: {data}"));
        assert!(!reply.text.is_empty(), "{arguments}");
    }
    reached.insert("ssh_job");

    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        let promises = tool.get("outputSchema").is_some();
        assert_eq!(
            promises,
            reached.contains(name),
            "{name} is not among the calls"
        );
    }

    // A failure has no data, whatever its schema.
    let reply = client.call("ssh_execute", json!({"command": "true", "vm": "nowhere"}));
    assert!(reply.is_error);
    assert_eq!(reply.data, None);
}
