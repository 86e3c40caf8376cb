//! The program at a shell: its sub-commands, and settings that are refused at start.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/test_driver.rs"]
mod test_driver;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use mcp::binary;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs the program with nothing on its standard input.
fn run(home: &Path, arguments: &[&str]) -> Output {
    binary(home)
        .args(arguments)
        .env("LIBVIRT_DEFAULT_URI", test_driver::URI)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What a program says that cannot start: a line or more on standard error, and nothing else.
fn refused(home: &Path, arguments: &[&str], parts: &[&str]) {
    let output = run(home, arguments);
    let stderr = text(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    for part in parts {
        assert!(stderr.contains(part), "{arguments:?}: {part}: {stderr}");
    }
}

#[test]
fn help_version_and_reference_are_printed() {
    let home = TempDir::new().unwrap();
    let version = run(home.path(), &["--version"]);
    let expected = format!("virtpilot {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&version.stdout), expected);
    let help = run(home.path(), &["--help"]);
    assert!(help.status.success());
    for word in [
        "serve",
        "call",
        "tools",
        "--config",
        "--uri",
        "--data-dir",
        "--vm",
        "--allow",
        "--read-only",
    ] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    let tools = run(home.path(), &["tools"]);
    assert!(tools.status.success());
    let tools = text(&tools.stdout);
    assert!(tools.starts_with("| tool |"), "{tools}");
    assert!(tools.lines().count() >= 22, "{tools}");
    for help in [["serve", "--help"], ["call", "--help"], ["tools", "--help"]] {
        assert!(run(home.path(), &help).status.success(), "{help:?}");
    }
}

#[test]
fn completions_and_the_manual_know_every_sub_command() {
    let home = TempDir::new().unwrap();
    let commands = [
        "serve",
        "doctor",
        "call",
        "learn-font",
        "tools",
        "completions",
        "man",
    ];
    for arguments in [
        vec!["completions", "bash"],
        vec!["completions", "zsh"],
        vec!["completions", "fish"],
        vec!["man"],
    ] {
        let output = run(home.path(), &arguments);
        assert!(output.status.success(), "{arguments:?}");
        // A manual page marks hyphens.
        let printed = text(&output.stdout).replace('\\', "");
        for word in commands {
            assert!(printed.contains(word), "{arguments:?}: {word}");
        }
    }
    refused(
        home.path(),
        &["completions", "dish"],
        &["dish", "bash", "fish"],
    );
}

#[test]
fn a_font_is_not_learned_from_what_is_wrong() {
    let home = TempDir::new().unwrap();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let [text, empty, tabs] = ["text", "empty", "tabs"].map(at);
    fs::write(&text, "twice the same words\nthe same words twice\n").unwrap();
    fs::write(&empty, "\n").unwrap();
    fs::write(&tabs, "a\tb\n").unwrap();
    let picture = at("black.ppm");
    let pixels = vec![0; 320 * 200 * 3];
    fs::write(&picture, [b"P6 320 200 255\n".as_slice(), &pixels].concat()).unwrap();
    let bad_font = at("bad.psf");
    fs::write(&bad_font, "no font").unwrap();
    let missing = at("missing");
    let shown = ["--picture", picture.as_str()];
    let cases: [(&[&str], &[&str]); 12] = [
        (
            &["--text", &missing],
            &["text cannot be read from", "Next: "],
        ),
        (&["--text", &empty], &["the known text is empty", "Next: "]),
        (&["--text", &tabs], &["U+0009 in its line 1", "Next: "]),
        (
            &["--text", &text, "--picture", &missing],
            &["picture cannot be read from", "Next: "],
        ),
        (
            &["--text", &text, "--picture", &text],
            &["is no picture", "Next: "],
        ),
        (
            &["--text", &text, shown[0], shown[1]],
            &["nowhere in the picture", "Next: "],
        ),
        (
            &["--text", &text, shown[0], shown[1], "--output", &bad_font],
            &["cannot be learned on", "Next: "],
        ),
        (
            &["--text", &text, shown[0], shown[1], "--cell", "3x5"],
            &["cells of 3×5", "Next: "],
        ),
        (
            &["--text", &text, shown[0], shown[1], "--origin", "310,0"],
            &["from 310,0 on", "Next: "],
        ),
        (&["--text", &text, "--cell", "8"], &["such as 8x16"]),
        (&["--text", &text, "--origin", "-1,0"], &["such as 240,105"]),
        (&["nobody", "--text", &text], &["no VM", "Next: "]),
    ];
    for (arguments, parts) in cases {
        let arguments = [&["learn-font", "--name", "font"], arguments].concat();
        refused(home.path(), &arguments, parts);
    }
    let name = ["learn-font", "--text", &text, "--name", "../font"];
    refused(home.path(), &name, &["a font's name has"]);
    // Nothing was written, and what was there is there still.
    assert!(!home.path().join("data").exists());
    assert_eq!(fs::read_to_string(&bad_font).unwrap(), "no font");
}

#[test]
fn serving_ends_with_its_input_under_each_name() {
    let home = TempDir::new().unwrap();
    for arguments in [
        vec![],
        vec!["serve"],
        vec!["serve", "--vm", "test"],
        vec!["--read-only"],
    ] {
        let output = run(home.path(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn one_call_prints_its_text_or_its_data() {
    let home = TempDir::new().unwrap();
    let output = run(home.path(), &["call", "vm_list"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("test: running, the default; granted view"));
    assert_eq!(text(&output.stderr), "");

    let output = run(home.path(), &["call", "vm_list", "--json"]);
    let data: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(data["vms"][0]["name"], "test");

    let output = run(
        home.path(),
        &["call", "press_keys", r#"{"keys": ["Ctrl", "l"]}"#],
    );
    assert_eq!(text(&output.stdout), "Pressed Ctrl+l.\n");
    let output = run(
        home.path(),
        &["call", "wait", r#"{"seconds": 0}"#, "--json"],
    );
    assert_eq!(text(&output.stdout), "Waited 0 s.\n", "there is no data");

    let mut child = binary(home.path())
        .args(["call", "type_text", "-", "--uri", test_driver::URI])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let parameters = json!({"text": "a secret"}).to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(parameters.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "Typed 8 characters.\n");
}

#[test]
fn a_call_writes_its_pictures_into_files() {
    let home = TempDir::new().unwrap();
    let output = run(home.path(), &["call", "take_screenshot"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("Screenshot "));
    assert_eq!(text(&output.stderr), "Picture: screenshot.png\n");
    let png = fs::read(home.path().join("screenshot.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));

    let two = r#"{"actions": [{"action": "take_screenshot"}], "screenshot": "end"}"#;
    let output = run(home.path(), &["call", "run_actions", two, "-o", "shot.png"]);
    assert_eq!(
        text(&output.stderr),
        "Picture: shot.png\nPicture: shot-2.png\n"
    );
    for file in ["shot.png", "shot-2.png"] {
        assert_eq!(fs::read(home.path().join(file)).unwrap(), png, "{file}");
    }
    let output = run(
        home.path(),
        &["call", "take_screenshot", "-o", "/nonexistent/x.png"],
    );
    assert_eq!(output.status.code(), Some(1));
    let error = "the picture cannot be written to /nonexistent/x.png";
    assert!(
        text(&output.stderr).contains(error),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_failed_call_goes_to_standard_error() {
    let home = TempDir::new().unwrap();
    let cases: [(&[&str], &str); 7] = [
        (
            &["call", "make_coffee"],
            "There is no tool `make_coffee`.\nNext: There are ",
        ),
        (
            &["call", "wait"],
            "The parameter `seconds` is missing.\nNext: ",
        ),
        (
            &["call", "wait", r#"{"seconds": -1}"#],
            "`seconds` is -1, and must be from 0 to 300.\nNext: ",
        ),
        (
            &["call", "click"],
            "The hypervisor of `test` cannot send input.\nCause: ",
        ),
        (
            &["call", "press_keys", r#"{"keys": ["a"]}"#, "--read-only"],
            "`press_keys` needs `input`, which is granted for no VM.\nNext: ",
        ),
        (
            &["call", "wait", "[1]"],
            "Error: the parameters must be a JSON object",
        ),
        (&["call", "wait", "{"], "Error: the parameters are no JSON"),
    ];
    for (arguments, expected) in cases {
        let output = run(home.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert!(
            text(&output.stderr).starts_with(expected),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn options_that_are_not_understood_are_refused() {
    let home = TempDir::new().unwrap();
    let cases: [(&[&str], &[&str]); 10] = [
        (
            &["--nonsense"],
            &["unexpected argument '--nonsense'", "--help"],
        ),
        (&["dance"], &["'dance'"]),
        (
            &["--allow", "everything"],
            &[
                "`everything` is no capability",
                "view, input, shell, files and console",
            ],
        ),
        (
            &["--allow", "power"],
            &["the capability `power` is not supported yet"],
        ),
        (
            &["--allow", "view", "--read-only"],
            &["cannot be used with"],
        ),
        (&["--vm", ""], &["a VM's name is not empty"]),
        (
            &["--uri", "with space"],
            &["command line: `--uri` is \"with space\"; allowed: a libvirt URI"],
        ),
        (&["--data-dir", ""], &["--data-dir"]),
        (
            &["--toolset", "fancy"],
            &["command line: `--toolset` is \"fancy\"; allowed: \"standard\" or \"computer\""],
        ),
        (
            &["--config", "/nonexistent.toml"],
            &[
                "/nonexistent.toml: cannot be read",
                "No such file or directory",
            ],
        ),
    ];
    for (arguments, parts) in cases {
        refused(home.path(), arguments, parts);
    }
}

#[test]
fn a_wrong_configuration_names_the_file_the_key_and_what_is_allowed() {
    let cases = [
        (
            "uri = 7",
            "line 1: `uri` is 7; allowed: a libvirt URI such as \"qemu:///system\"",
        ),
        (
            "\ndefualt_vm = 'a'",
            "line 2: unknown key `defualt_vm` (did you mean `default_vm`?); allowed here: ",
        ),
        (
            "[vm.a]\nkeymaps = 'de'",
            "line 2: unknown key `vm.a.keymaps` (did you mean `keymap`?)",
        ),
        (
            "[vm.a]\nssh = { port = 0 }",
            "line 2: `vm.a.ssh.port` is 0; allowed: a port, 1 to 65535",
        ),
        (
            "allow = ['veiw']",
            "line 1: `allow` is \"veiw\"; allowed: view, input, shell, files, console",
        ),
        (
            "[vm.a]\nlong_edge = 0\nkeymap = 'dee'",
            "line 3: `vm.a.keymap` is \"dee\"; allowed: one layout of xkeyboard-config, or \
             \"layout:variant\"; near ones are \"de\"",
        ),
        (
            "[vm.a]\nkeymap = 'us:dvork'",
            "line 2: `vm.a.keymap` is \"us:dvork\"; allowed: one layout of xkeyboard-config, or \
             \"layout:variant\"; near ones are \"us:dvorak\"",
        ),
        (
            "[vm.a]\nkeymap = 'us,ru'",
            "line 2: `vm.a.keymap` is \"us,ru\"; allowed: one layout of xkeyboard-config, or ",
        ),
        (
            "[vm.a]\nlong_edge = 5",
            "line 2: `vm.a.long_edge` is 5; allowed: 0 (native size), or 100 to 8192 pixels",
        ),
        ("[[", "line 1: not valid TOML: "),
    ];
    for (config, message) in cases {
        let home = TempDir::new().unwrap();
        let file = home.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let path = file.to_str().unwrap();
        for command in [
            vec!["--config", path],
            vec!["call", "vm_list", "--config", path],
        ] {
            refused(home.path(), &command, &[path, message]);
        }
        // It is found by itself, too.
        let usual = home.path().join("config/virtpilot");
        fs::create_dir_all(&usual).unwrap();
        fs::copy(&file, usual.join("config.toml")).unwrap();
        refused(home.path(), &[], &[usual.to_str().unwrap(), message]);
    }
}

#[test]
fn wrong_variables_are_named() {
    let home = TempDir::new().unwrap();
    for (name, value, message) in [
        (
            "VM_PORT",
            "ssh",
            "environment: `VM_PORT` is \"ssh\"; allowed: a port, 1 to 65535",
        ),
        (
            "VM_HOST",
            "a b",
            "environment: `VM_HOST` is \"a b\"; allowed: a host name or address",
        ),
        ("VM_NAME", "a\nb", "environment: `VM_NAME` is "),
    ] {
        let output = binary(home.path())
            .env(name, value)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(text(&output.stdout), "", "{name}");
        assert!(
            text(&output.stderr).contains(message),
            "{}",
            text(&output.stderr)
        );
    }
    // A `.env` file of the working directory counts, and its place is named.
    fs::write(home.path().join(".env"), "VM_PORT=many\nOTHER=1\n").unwrap();
    let file = home.path().join(".env");
    let expected = format!("{}: `VM_PORT` is \"many\"", file.display());
    refused(home.path(), &["call", "vm_list"], &[&expected]);
}
