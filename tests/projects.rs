//! Projects: the tree on disk, what may be in a name, and a project of the Python server.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/test_driver.rs"]
mod test_driver;

use std::{
    fs,
    path::{Path, PathBuf},
};

use mcp::{Client, binary};
use serde_json::{Value, json};
use tempfile::TempDir;

fn start(home: &TempDir) -> Client {
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI]);
    Client::start(command)
}

/// Where the server keeps projects if nothing else is said.
fn tree(home: &TempDir) -> PathBuf {
    home.path().join("data/virtpilot/projects")
}

fn init(client: &mut Client, name: &str) -> PathBuf {
    let made = client.done("project_init", json!({"name": name}));
    PathBuf::from(made.data.unwrap()["path"].as_str().unwrap())
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_project_is_a_folder_with_everything_in_it() {
    let home = TempDir::new().unwrap();
    let mut client = start(&home);
    let made = client.done(
        "project_init",
        json!({"name": "Prüfung", "description": "was es soll"}),
    );
    let data = made.data.unwrap();
    let folder = data["folder"].as_str().unwrap();
    let created_at = data["created_at"].as_str().unwrap();
    assert_eq!(folder, format!("{created_at}_Prüfung"));
    assert_eq!(created_at.len(), "20260131-235959".len());
    let path = tree(&home).join(folder);
    assert_eq!(data["path"], path.to_str().unwrap());
    assert_eq!(
        names(&path),
        ["advice", "logs", "metadata.json", "results", "screenshots"]
    );
    let metadata: Value =
        serde_json::from_str(&fs::read_to_string(path.join("metadata.json")).unwrap()).unwrap();
    assert_eq!(
        metadata,
        json!({"name": "Prüfung", "created_at": created_at, "description": "was es soll"})
    );

    let saved = client.done(
        "project_save_result",
        json!({"filename": "report.txt", "content": "grün\n"}),
    );
    let result = path.join("results/report.txt");
    assert_eq!(
        saved.data.unwrap(),
        json!({"project": folder, "path": result.to_str().unwrap(), "bytes": 6})
    );
    assert!(saved.text.contains(folder), "{}", saved.text);
    assert_eq!(fs::read_to_string(result).unwrap(), "grün\n");

    let shot = client.done("take_screenshot", json!({}));
    let kept = names(&path.join("screenshots"));
    let [file] = kept.as_slice() else {
        panic!("{kept:?}");
    };
    assert!(
        shot.text
            .contains(&format!("Saved in project {folder} at native size: "))
    );
    assert!(shot.text.contains(file.as_str()), "{}", shot.text);
    assert_eq!(
        fs::read(path.join("screenshots").join(file)).unwrap(),
        shot.pictures[0].1
    );

    client.done(
        "project_save_advice",
        json!({"title": "Fokus", "content": "Erst sehen."}),
    );
    let info = client.done("project_info", json!({})).data.unwrap();
    assert_eq!(info["screenshots"], 1);
    assert_eq!(info["results"], 1);
    assert_eq!(info["advice"], 1);
    // That it was made, and a line for each of the four calls.
    assert_eq!(info["log_entries"], 5, "{info}");
    assert_eq!(info["description"], "was es soll");
}

#[test]
fn names_in_any_script_make_safe_folders() {
    let home = TempDir::new().unwrap();
    let mut client = start(&home);
    let cases = [
        ("sample task", "sample task"),
        ("検査 проверка ελ", "検査 проверка ελ"),
        ("مشروع", "مشروع"),
        ("🦀 crab", "🦀 crab"),
        ("../../../etc", "___.._.._etc"),
        ("/etc/passwd", "_etc_passwd"),
        ("a\u{0}b\nc", "a_b_c"),
        ("..", "__"),
        ("con: a|b?", "con_ a_b_"),
    ];
    for (name, safe) in cases {
        let path = init(&mut client, name);
        let folder = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(&folder[16..], safe, "{name:?}");
        assert_eq!(path.parent().unwrap(), tree(&home), "{name:?}");
        let info = client.done("project_info", json!({})).data.unwrap();
        assert_eq!(info["name"], name);
    }
    assert_eq!(names(&tree(&home)).len(), cases.len());
    let listed = client.done("project_list", json!({})).data.unwrap();
    assert_eq!(listed["projects"].as_array().unwrap().len(), cases.len());
    for name in ["", "  ", "\n"] {
        let text = client.fails("project_init", json!({"name": name}));
        assert!(text.starts_with("The project name is empty."), "{text}");
    }
    // However long, and the same in one second.
    let long = "検".repeat(500);
    let first = init(&mut client, &long);
    let second = init(&mut client, &long);
    assert_ne!(first, second);
}

#[test]
fn result_files_stay_in_their_folder() {
    let home = TempDir::new().unwrap();
    let mut client = start(&home);
    let path = init(&mut client, "results");
    let fault = |text: &str, fault: &str| {
        assert!(text.contains(fault), "{fault}: {text}");
        assert!(
            text.contains("Next: Give a plain file name such as `report.txt`"),
            "{text}"
        );
    };
    let long = "x".repeat(256);
    let cases = [
        ("", "it is empty"),
        (".", "it names a folder"),
        ("..", "it names a folder"),
        ("../x", "it has a separator"),
        ("a/b", "it has a separator"),
        ("/tmp/x", "it has a separator"),
        ("a\\b", "it has a separator"),
        ("a\u{0}b", "it has a control character"),
        ("a\nb", "it has a control character"),
        (&long, "it is longer than 255 bytes"),
    ];
    for (name, why) in cases {
        let text = client.fails(
            "project_save_result",
            json!({"filename": name, "content": "x"}),
        );
        fault(&text, why);
    }
    assert_eq!(names(&path.join("results")), [""; 0]);

    for name in ["a..b", ".hidden", "検査.txt", "with space", "-rf"] {
        client.done(
            "project_save_result",
            json!({"filename": name, "content": name}),
        );
        assert_eq!(
            fs::read_to_string(path.join("results").join(name)).unwrap(),
            name
        );
    }
    let again =
        |overwrite: bool| json!({"filename": "a..b", "content": "new", "overwrite": overwrite});
    let text = client.fails("project_save_result", again(false));
    assert!(text.contains("exists already"), "{text}");
    assert_eq!(
        fs::read_to_string(path.join("results/a..b")).unwrap(),
        "a..b"
    );
    client.done("project_save_result", again(true));
    assert_eq!(
        fs::read_to_string(path.join("results/a..b")).unwrap(),
        "new"
    );

    // A link that somebody put there leads nowhere.
    let outside = home.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    std::os::unix::fs::symlink(&outside, path.join("results/link")).unwrap();
    client.call(
        "project_save_result",
        json!({"filename": "link", "content": "gotcha"}),
    );
    assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
}

#[test]
fn logs_are_read_back_by_number_and_level() {
    let home = TempDir::new().unwrap();
    let mut client = start(&home);
    init(&mut client, "logs");
    for (message, level) in [
        ("one", "INFO"),
        ("two", "warning"),
        ("three\nlines\u{1b}[31m", "ERROR"),
        ("four", "DEBUG"),
        ("five", "CRITICAL"),
    ] {
        client.done("project_log", json!({"message": message, "level": level}));
    }
    let lines = |client: &mut Client, arguments: Value| -> Vec<String> {
        let data = client.done("project_read_logs", arguments).data.unwrap();
        let lines = data["lines"].as_array().unwrap();
        // Without the time.
        lines
            .iter()
            .map(|line| line.as_str().unwrap()[22..].to_owned())
            .collect()
    };
    assert_eq!(
        lines(&mut client, json!({"level_filter": "ERROR"})),
        ["[ERROR] three\\nlines\\u{1b}[31m"]
    );
    assert_eq!(
        lines(&mut client, json!({"level_filter": "warn"})),
        ["[WARNING] two"]
    );
    let last = lines(&mut client, json!({"lines": 1}));
    assert_eq!(last, ["[INFO] TOOL: project_read_logs(level_filter=warn)"]);
    assert!(lines(&mut client, json!({})).len() > 10);
    assert_eq!(
        lines(&mut client, json!({"level_filter": "CRITICAL"})),
        ["[CRITICAL] five"]
    );
    for count in [0, -1, 10_001] {
        let text = client.fails("project_read_logs", json!({"lines": count}));
        assert!(
            text.starts_with(&format!("`lines` is {count}, and must be from 1 to 10000.")),
            "{text}"
        );
    }
    let text = client.fails("project_read_logs", json!({"level_filter": "loud"}));
    assert!(text.starts_with("`loud` is no log level."), "{text}");
}

#[test]
fn without_a_project_the_tools_say_how_to_get_one() {
    let home = TempDir::new().unwrap();
    let mut client = start(&home);
    for (tool, arguments) in [
        ("project_info", json!({})),
        ("project_log", json!({"message": "a"})),
        ("project_read_logs", json!({})),
        (
            "project_save_result",
            json!({"filename": "a", "content": "b"}),
        ),
        ("project_save_advice", json!({"title": "a", "content": "b"})),
        ("project_read_advice", json!({})),
    ] {
        assert_eq!(
            client.fails(tool, arguments),
            "No project is active.\nNext: Start one with `project_init`, or load one with \
             `project_load` (`project_list` shows them)."
        );
    }
    let text = client.fails("project_load", json!({"project_path": "nothing"}));
    assert_eq!(
        text,
        "There is no project `nothing`.\nNext: There are no projects yet: make one with \
         `project_init`."
    );
    // Nothing was made in passing.
    assert!(!home.path().join("data/virtpilot").exists());
}

#[test]
fn a_project_is_loaded_by_name_by_path_and_from_the_working_directory() {
    let home = TempDir::new().unwrap();
    let mut client = start(&home);
    let path = init(&mut client, "first");
    client.done("project_save_advice", json!({"title": "T", "content": "C"}));
    let folder = path.file_name().unwrap().to_str().unwrap().to_owned();
    for given in [
        folder.clone(),
        path.to_str().unwrap().to_owned(),
        format!("data/virtpilot/projects/{folder}"),
        format!("./data/../data/virtpilot/projects/{folder}/"),
    ] {
        init(&mut client, "another");
        let loaded = client.done("project_load", json!({"project_path": given}));
        let data = loaded.data.unwrap();
        assert_eq!(data["path"], path.to_str().unwrap(), "{given}");
        assert_eq!(data["advice"][0]["title"], "T");
        assert_eq!(data["advice"][0]["content"], "C\n");
        assert!(
            loaded.text.contains("Advice (1):\n\n# T\nC"),
            "{}",
            loaded.text
        );
    }
    let text = client.fails("project_load", json!({"project_path": "firs"}));
    assert!(
        text.starts_with("There is no project `firs`.\nNext: Give a folder name or a path"),
        "{text}"
    );
    assert!(text.contains(&folder), "{text}");
    for (given, what) in [
        ("", "The project path is empty."),
        ("/etc", "/etc is no project: it has no metadata.json."),
        ("a\u{0}b", "There is no project `a\\0b`."),
    ] {
        let text = client.fails("project_load", json!({"project_path": given}));
        assert!(text.starts_with(what), "{text}");
    }
    // The active one is as it was.
    let info = client.done("project_info", json!({})).data.unwrap();
    assert_eq!(info["folder"], folder);

    fs::write(path.join("metadata.json"), "{").unwrap();
    let text = client.fails("project_load", json!({"project_path": folder}));
    assert!(
        text.contains("metadata.json cannot be understood.\nCause: "),
        "{text}"
    );
    let listed = client.done("project_list", json!({}));
    assert!(
        listed
            .text
            .contains(&format!("{folder}: cannot be loaded: ")),
        "{}",
        listed.text
    );
}

#[test]
fn projects_of_the_python_server_are_adopted() {
    let home = TempDir::new().unwrap();
    let data = home.path().join("mcp-qemu-vm/data");
    let projects = data.join("projects");
    let copied = std::process::Command::new("sh")
        .args(["-c", "mkdir -p \"$2\" && cp -r \"$1\"/. \"$2\""])
        .arg("sh")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/python-project"))
        .arg(&projects)
        .status();
    assert!(copied.unwrap().success());
    let folder = "20261122-082825_sample task";
    let before = fs::read_to_string(projects.join(folder).join("logs/project.log")).unwrap();

    let mut command = binary(home.path());
    command
        .args(["--uri", test_driver::URI, "--data-dir"])
        .arg(&data);
    let mut client = Client::start(command);
    let listed = client.done("project_list", json!({})).data.unwrap();
    assert_eq!(listed["projects"][0]["folder"], folder);
    assert_eq!(listed["projects"][0]["name"], "sample task");

    let loaded = client.done("project_load", json!({"project_path": folder}));
    let metadata: Value = serde_json::from_str(
        &fs::read_to_string(projects.join(folder).join("metadata.json")).unwrap(),
    )
    .unwrap();
    let data = loaded.data.unwrap();
    assert_eq!(data["description"], metadata["description"]);
    assert_eq!(data["created_at"], metadata["created_at"]);
    let advice = data["advice"].as_array().unwrap();
    assert_eq!(advice.len(), 1);
    let file = "20261122-082825_Focus in Citrix_ use keys.md";
    assert_eq!(advice[0]["file"], file);
    let content = advice[0]["content"].as_str().unwrap().trim_end();
    let kept = fs::read_to_string(projects.join(folder).join("advice").join(file)).unwrap();
    assert!(kept.contains(content) && !content.is_empty(), "{kept}");
    assert!(loaded.text.contains(content), "{}", loaded.text);

    let info = client.done("project_info", json!({})).data.unwrap();
    assert_eq!(info["screenshots"], 1);
    assert_eq!(info["results"], 1);
    // Its log goes on.
    client.done("project_log", json!({"message": "taken over"}));
    let after = fs::read_to_string(projects.join(folder).join("logs/project.log")).unwrap();
    assert!(after.starts_with(&before), "{after}");
    assert!(after.contains("] [INFO] taken over\n"), "{after}");

    // Its pictures are found by their ids.
    let read = client.request(
        "resources/read",
        json!({"uri": "vm://screenshot/20261122-062613-660053"}),
    );
    let blob = read["result"]["contents"][0]["blob"].as_str().unwrap();
    let picture = fs::read(
        projects
            .join(folder)
            .join("screenshots/20261122-062613-660053.png"),
    )
    .unwrap();
    assert_eq!(mcp::decoded(blob), picture);
}

#[test]
fn a_saved_picture_that_is_damaged_is_told() {
    let home = TempDir::new().unwrap();
    let mut client = start(&home);
    let id = "20260101-000000-000000";
    let picture = init(&mut client, "damaged").join(format!("screenshots/{id}.png"));
    // Only what is too large for a reply is decoded.
    fs::write(picture, vec![0; 4_000_000]).unwrap();
    let uri = format!("vm://screenshot/{id}");
    let answer = client.request("resources/read", json!({"uri": uri}));
    assert_eq!(
        answer["error"]["message"],
        "The saved screenshot cannot be shown.\n\
         Cause: the picture cannot be read: it has no PNG header\n\
         Next: Take a new one with `take_screenshot`."
    );
}

#[test]
fn two_servers_share_one_tree() {
    let home = TempDir::new().unwrap();
    let (mut one, mut two) = (start(&home), start(&home));
    let path = init(&mut one, "shared");
    two.done(
        "project_load",
        json!({"project_path": path.to_str().unwrap()}),
    );
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let said = json!({"message": format!("line {n}")});
            (
                one.send_call("project_log", said.clone()),
                two.send_call("project_log", said),
            )
        })
        .collect();
    for (first, second) in calls {
        assert!(!one.reply(first).is_error);
        assert!(!two.reply(second).is_error);
    }
    let log = fs::read_to_string(path.join("logs/project.log")).unwrap();
    for n in 0..50 {
        let said = format!("[INFO] line {n}\n");
        assert_eq!(log.matches(&said).count(), 2, "line {n}");
    }
    let actions = fs::read_to_string(path.join("logs/actions.jsonl")).unwrap();
    for line in actions.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}
