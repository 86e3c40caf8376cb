//! Disks that are full, or cannot be written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    mcp::{Client, binary},
    shell::Setting,
};

/// A file system of its own on a folder.
struct Mount(PathBuf);

impl Mount {
    fn new(folder: &Path, options: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "virtpilot-test"])
            .arg(folder)
            .status();
        assert!(mounted.unwrap().success(), "these tests need root");
        Self(folder.to_owned())
    }

    fn change(&self, options: &str) {
        let mounted = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .status();
        assert!(mounted.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_is_told_on_either_side_and_keeps_the_old_file() {
    let mut setting = Setting::new();
    let there = setting.there();
    fs::write(setting.files.join("large"), vec![7; 2 << 20]).unwrap();
    fs::write(there.join("large"), vec![7; 2 << 20]).unwrap();
    let small = setting.sshd.folder().join("small");
    let far = Mount::new(&small, "size=1m");
    fs::write(small.join("file"), "old").unwrap();
    let near = Mount::new(&setting.files.join("small"), "size=1m");
    fs::write(near.0.join("file"), "old").unwrap();
    let remote = small.join("file").display().to_string();
    let upload = json!({"local_path": "large", "remote_path": remote});
    let large = there.join("large").display().to_string();
    let download = json!({"local_path": "small/file", "remote_path": large});
    let local = near.0.join("file").display().to_string();

    assert_eq!(
        setting.client.fails("ssh_upload", upload.clone()),
        format!(
            "No space is left on the guest for `{remote}`.\nNext: Free some space on the guest (`df -h`)."
        )
    );
    assert_eq!(
        setting.client.fails("ssh_download", download.clone()),
        format!(
            "Cannot write {local}.\nCause: No space left on device (os error 28)\n\
             Next: Check the permissions and the free space on this host."
        )
    );
    for folder in [&small, &near.0] {
        assert_eq!(names(folder), ["file"], "nothing is left");
        assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "old");
    }
    // With room, the same calls work.
    far.change("size=4m");
    near.change("size=4m");
    setting.client.done("ssh_upload", upload);
    setting.client.done("ssh_download", download);
    for folder in [&small, &near.0] {
        assert_eq!(fs::metadata(folder.join("file")).unwrap().len(), 2 << 20);
    }
}

#[test]
fn a_disk_that_is_read_only_is_told_on_either_side() {
    let mut setting = Setting::new();
    let there = setting.there();
    fs::write(setting.files.join("here"), "new").unwrap();
    let far = Mount::new(&there.join("fixed"), "size=1m,ro");
    let near = Mount::new(&setting.files.join("fixed"), "size=1m,ro");
    let folder = far.0.display().to_string();
    let upload = json!({"local_path": "here", "remote_path": format!("{folder}/file")});
    assert_eq!(
        setting.client.fails("ssh_upload", upload.clone()),
        format!(
            "Cannot write in `{folder}` on the guest.\nCause: Failure: Failure\n\
             Next: Look at the path on the guest (`ls -la`, `df -h`)."
        )
    );
    let here = there.join("here").display().to_string();
    fs::write(&here, "new").unwrap();
    let download = json!({"local_path": "fixed/file", "remote_path": here});
    let error = setting.client.fails("ssh_download", download.clone());
    assert!(
        error.starts_with(&format!("Cannot write in {}.\nCause: ", near.0.display()))
            && error.contains("Read-only file system (os error 30)")
            && error.ends_with("\nNext: Check the permissions and the free space on this host."),
        "{error}"
    );
    far.change("rw");
    near.change("rw");
    setting.client.done("ssh_upload", upload);
    setting.client.done("ssh_download", download);
}

/// A server with its data in a folder of this home.
fn start(home: &TempDir) -> (Client, PathBuf) {
    let mut command = binary(home.path());
    command.args(["--uri", "test:///default", "--vm", "test"]);
    (Client::start(command), home.path().join("data/virtpilot"))
}

#[test]
fn a_data_folder_that_cannot_be_written_costs_projects_alone() {
    let home = TempDir::new().unwrap();
    let (mut client, data) = start(&home);
    let failed = |error: String, act: &str, cause: &str| {
        assert!(error.starts_with(act), "{error}");
        assert!(error.contains(&format!("\nCause: {cause}")), "{error}");
        assert!(
            error.ends_with(
                "exists, that this user may write there, and that the disk has space; or choose another \
                 place with --data-dir."
            ),
            "{error}"
        );
    };
    let projects = data.join("projects");
    let making = format!("Cannot make the folder {}.", projects.display());

    // A file in its place.
    fs::create_dir_all(data.parent().unwrap()).unwrap();
    fs::write(&data, "").unwrap();
    let name = json!({"name": "task"});
    failed(
        client.fails("project_init", name.clone()),
        &making,
        "Not a directory (os error 20)",
    );
    client.fails("project_list", json!({}));
    client.done("take_screenshot", json!({}));
    fs::remove_file(&data).unwrap();

    // A file system that is read-only, and one that is full.
    let mount = Mount::new(&data, "size=64k,ro");
    failed(
        client.fails("project_init", name.clone()),
        &making,
        "Read-only file system (os error 30)",
    );
    client.done("project_list", json!({}));
    mount.change("rw");
    client.done("project_init", name);
    let saved = client.fails(
        "project_save_result",
        json!({"filename": "large.txt", "content": "x".repeat(100_000)}),
    );
    failed(
        saved,
        "Cannot write ",
        "No space left on device (os error 28)",
    );
    let picture = client.done("take_screenshot", json!({}));
    assert_eq!(picture.pictures.len(), 1, "it is given all the same");
    mount.change("ro");
    let shot = client.done("take_screenshot", json!({}));
    assert!(
        shot.text.contains("It was not saved in the project: ")
            && shot.text.contains("Read-only file system (os error 30)"),
        "{}",
        shot.text
    );
    mount.change("rw,size=1m");
    let saved = client.done(
        "project_save_result",
        json!({"filename": "a.txt", "content": "kept"}),
    );
    assert!(
        saved.text.starts_with("Saved 4 bytes in project "),
        "{}",
        saved.text
    );
}

#[test]
fn an_active_project_whose_folder_is_gone_is_told() {
    let home = TempDir::new().unwrap();
    let (mut client, _) = start(&home);
    let made = client.done("project_init", json!({"name": "task"}));
    let folder = made.data.unwrap()["path"].as_str().unwrap().to_owned();
    client.done(
        "project_save_advice",
        json!({"title": "Lesson", "content": "Look first."}),
    );
    let aside = home.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    let gone = format!(
        "The folder of the active project is gone: {folder}.\n\
         Next: Put the folder back, or start another project with `project_init`, or load one with \
         `project_load`."
    );
    for (tool, arguments) in [
        ("project_info", json!({})),
        ("project_read_logs", json!({})),
        ("project_read_advice", json!({})),
        ("project_log", json!({"message": "x"})),
        (
            "project_save_result",
            json!({"filename": "x", "content": "x"}),
        ),
        ("project_save_advice", json!({"title": "x", "content": "x"})),
    ] {
        assert_eq!(client.fails(tool, arguments), gone, "{tool}");
    }
    let shot = client.done("take_screenshot", json!({}));
    assert!(
        shot.text
            .contains("It was not saved in the project: The folder of"),
        "{}",
        shot.text
    );
    assert!(!Path::new(&folder).exists(), "nobody makes half a project");
    // Put back, all of it is there again.
    fs::rename(&aside, &folder).unwrap();
    let info = client.done("project_info", json!({})).data.unwrap();
    assert_eq!(info["advice"], 1);
    for title in ["", " \n"] {
        let error = client.fails(
            "project_save_advice",
            json!({"title": title, "content": "x"}),
        );
        assert_eq!(
            error,
            "The advice title is empty.\nNext: It needs at least one visible character."
        );
    }
}
