//! What a client is allowed: by `--vm`, `--allow`, `--read-only` and the configuration file.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/test_driver.rs"]
mod test_driver;

use std::fs;

use mcp::{Client, binary};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server of the test driver's own host, with these options and this configuration.
fn start(options: &[&str], config: &str) -> (TempDir, Client) {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("config/virtpilot");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
    let mut command = binary(home.path());
    let uri = test_driver::host(home.path());
    command.args(["--uri", &uri]).args(options);
    let client = Client::start(command);
    (home, client)
}

#[test]
fn the_guest_at_vm_host_gets_no_more_than_any_vm_that_it_may_be() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("config/virtpilot");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("config.toml"),
        "[vm.test]\nallow = [\"view\", \"files\"]\n",
    )
    .unwrap();
    let mut command = binary(home.path());
    // Nothing listens on the discard port: what is granted fails at connecting.
    command
        .args(["--uri", "test:///default"])
        .envs([("VM_HOST", "127.0.0.1"), ("VM_PORT", "9")]);
    let mut client = Client::start(command);
    let text = client.fails("ssh_execute", json!({"command": "true"}));
    assert!(
        text.starts_with("`shell` is not granted for the guest at VM_HOST."),
        "{text}"
    );
    let text = client.fails(
        "ssh_download",
        json!({"remote_path": "a", "local_path": "a"}),
    );
    assert!(text.starts_with("Cannot connect to 127.0.0.1"), "{text}");
}

fn listed(client: &mut Client) -> Vec<String> {
    let answer = client.request("tools/list", json!({}));
    let tools = answer["result"]["tools"].as_array().unwrap();
    let mut names: Vec<_> = tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What `vm_list` says is granted, for each VM that has anything.
fn granted(client: &mut Client) -> Value {
    let data = client.done("vm_list", json!({})).data.unwrap();
    let vms = data["vms"].as_array().unwrap();
    vms.iter()
        .filter(|vm| vm["granted"] != json!([]))
        .map(|vm| {
            (
                vm["name"].as_str().unwrap().to_owned(),
                vm["granted"].clone(),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

const ALWAYS: [&str; 10] = [
    "project_info",
    "project_init",
    "project_list",
    "project_load",
    "project_log",
    "project_read_advice",
    "project_read_logs",
    "project_save_advice",
    "project_save_result",
    "wait",
];
/// Tools by what they need; later ones are allowed to come.
const BY_NEED: [(&str, &[&str]); 4] = [
    ("view", &["take_screenshot", "vm_list"]),
    (
        "input",
        &[
            "click",
            "move_mouse",
            "press_keys",
            "run_actions",
            "type_text",
        ],
    ),
    ("shell", &["ssh_connection_info", "ssh_execute", "ssh_job"]),
    ("files", &["ssh_download", "ssh_upload"]),
];

#[test]
fn tools_are_listed_where_some_vm_is_granted_them() {
    let cases: [(&[&str], &str, &[&str]); 10] = [
        (&[], "", &["view", "input", "shell", "files"]),
        (&["--read-only"], "", &["view"]),
        (&["--allow", "view"], "", &["view"]),
        (&["--allow", "view,input"], "", &["view", "input"]),
        (
            &["--allow", "shell", "--allow", "files"],
            "",
            &["shell", "files"],
        ),
        (&[], "allow = ['input']", &["input"]),
        (&[], "allow = []", &[]),
        (
            &["--read-only"],
            "allow = ['view', 'input']\n[vm.up]\nallow = ['shell']",
            &["view"],
        ),
        (
            &[],
            "default_vm = 'up'\nallow = ['view']\n[vm.off]\nallow = ['files']",
            &["view", "files"],
        ),
        (
            &["--vm", "up"],
            "[vm.up]\nallow = ['view', 'shell']",
            &["view", "shell"],
        ),
    ];
    for (options, config, needs) in cases {
        let (_home, mut client) = start(options, config);
        let names = listed(&mut client);
        let shown = format!("{options:?} {config:?}");
        for tool in ALWAYS {
            assert!(names.iter().any(|name| name == tool), "{shown}: {tool}");
        }
        for (need, tools) in BY_NEED {
            for tool in tools {
                let is_listed = names.iter().any(|name| name == tool);
                assert_eq!(is_listed, needs.contains(&need), "{shown}: {tool}");
            }
        }
        // What is not listed is refused as well, and says why.
        if !needs.contains(&"input") {
            let text = client.fails("press_keys", json!({"keys": ["a"], "vm": "up"}));
            assert!(text.contains("`input`"), "{shown}: {text}");
        }
    }
    // Looking is all that is left of it.
    let (_home, mut client) = start(&["--read-only"], "");
    let view = BY_NEED[0].1;
    let acts: Vec<_> = listed(&mut client)
        .into_iter()
        .filter(|name| !ALWAYS.contains(&name.as_str()) && !view.contains(&name.as_str()))
        .filter(|name| !["screen_text", "wait_for"].contains(&name.as_str()))
        .collect();
    assert_eq!(acts, [""; 0]);
}

#[test]
fn only_the_default_vm_and_those_named_are_granted_anything() {
    let all = json!(["view", "input", "shell", "files"]);
    let cases: [(&[&str], &str, Value); 7] = [
        (&[], "", json!({})),
        (&["--vm", "up"], "", json!({"up": all})),
        (
            &["--vm", "up", "--vm", "off"],
            "",
            json!({"off": all, "up": all}),
        ),
        (&[], "default_vm = 'up'", json!({"up": all})),
        (
            &[],
            "[vm.up]\n[vm.off]\nallow = ['view']",
            json!({"off": ["view"], "up": all}),
        ),
        (
            &["--allow", "view"],
            "[vm.up]\n[vm.off]\nallow = ['shell']",
            json!({"off": ["view"], "up": ["view"]}),
        ),
        (
            &["--vm", "asleep", "--read-only"],
            "[vm.up]",
            json!({"asleep": ["view"], "up": ["view"]}),
        ),
    ];
    for (options, config, expected) in cases {
        let (_home, mut client) = start(options, config);
        assert_eq!(granted(&mut client), expected, "{options:?} {config:?}");
    }
}

#[test]
fn the_first_vm_is_the_default_and_the_only_running_one_is_found() {
    let (_home, mut client) = start(&["--vm", "up", "--vm", "off"], "default_vm = 'asleep'");
    let data = client.done("vm_list", json!({})).data.unwrap();
    let defaults = |data: &Value| -> Vec<String> {
        let vms = data["vms"].as_array().unwrap();
        vms.iter()
            .filter(|vm| vm["default"] == true)
            .map(|vm| vm["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(defaults(&data), ["up"]);

    let home = TempDir::new().unwrap();
    let uri = test_driver::host_with(home.path(), &[("a", "5"), ("b", "1"), ("c", "3")]);
    let mut command = binary(home.path());
    command.args(["--uri", &uri]);
    let mut client = Client::start(command);
    client.done("press_keys", json!({"keys": ["a"]}));
    assert_eq!(
        granted(&mut client),
        json!({"b": ["view", "input", "shell", "files"]})
    );
    let text = client.fails("press_keys", json!({"keys": ["a"], "vm": "c"}));
    assert!(
        text.starts_with("`input` is not granted for the VM `c`"),
        "{text}"
    );

    let mut command = binary(home.path());
    command.args(["--uri", &uri]).env("VM_NAME", "a");
    let mut client = Client::start(command);
    let text = client.fails("press_keys", json!({"keys": ["a"]}));
    assert!(text.starts_with("The VM `a` is shut off."), "{text}");
}

#[test]
fn a_batch_needs_what_its_parts_need() {
    let (_home, mut client) = start(&["--vm", "up", "--allow", "input"], "");
    let press = json!({"action": "press_keys", "keys": ["a"]});
    client.done("run_actions", json!({"actions": [press]}));
    let not_viewed = [
        json!({"actions": [press, {"action": "take_screenshot"}]}),
        json!({"actions": [press], "screenshot": "end"}),
        json!({"actions": [press], "screenshot": "on_error"}),
    ];
    for arguments in not_viewed {
        let text = client.fails("run_actions", arguments);
        assert!(
            text.starts_with("`view` is not granted for the VM `up`; granted are input."),
            "{text}"
        );
    }
    for uri in ["vm://screen/up", "vm://screenshot/20260101-000000-000000"] {
        let answer = client.request("resources/read", json!({"uri": uri}));
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .starts_with("`view` is"),
            "{answer}"
        );
    }
    let resources = client.request("resources/list", json!({}));
    assert_eq!(resources["result"]["resources"], json!([]));

    let (_home, mut client) = start(&["--vm", "up", "--read-only"], "");
    client.done("take_screenshot", json!({}));
    let text = client.fails(
        "run_actions",
        json!({"actions": [{"action": "take_screenshot"}]}),
    );
    assert!(
        text.starts_with("`run_actions` needs `input`, which is granted for no VM."),
        "{text}"
    );
}
