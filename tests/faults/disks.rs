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
    sshd::whoami,
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
fn a_transfer_that_filled_a_disk_goes_on_when_there_is_room() {
    let mut setting = Setting::new();
    let there = setting.there();
    fs::write(setting.files.join("large"), vec![7; 4 << 20]).unwrap();
    fs::write(there.join("large"), vec![7; 4 << 20]).unwrap();
    let far = Mount::new(&setting.sshd.folder().join("small"), "size=2m");
    let near = Mount::new(&setting.files.join("small"), "size=2m");
    let (remote, local) = (far.0.join("file"), near.0.join("file"));
    let upload = json!({"local_path": "large", "remote_path": remote, "resume": true});
    let large = there.join("large").display().to_string();
    let download = json!({"local_path": local, "remote_path": large, "resume": true});
    let part = |folder: &Path| folder.join(".file.virtpilot.part").display().to_string();
    assert_eq!(
        setting.client.fails("ssh_upload", upload.clone()),
        format!(
            "The transfer stopped before its end, and what has arrived is kept in `{}`.\n\
             Cause: no space is left on the guest for `{}`\n\
             Next: Free some space on the guest (`df -h`). Call again with `resume` to go on from there; the \
             target is as it was.",
            part(&far.0),
            remote.display()
        )
    );
    assert_eq!(
        setting.client.fails("ssh_download", download.clone()),
        format!(
            "The transfer stopped before its end, and what has arrived is kept in `{}`.\n\
             Cause: cannot write {}: No space left on device (os error 28)\n\
             Next: Check the permissions and the free space on this host. Call again with `resume` to go on from \
             there; the target is as it was.",
            part(&near.0),
            local.display()
        )
    );
    for (mount, tool, call) in [
        (&far, "ssh_upload", upload),
        (&near, "ssh_download", download),
    ] {
        assert_eq!(names(&mount.0), [".file.virtpilot.part"]);
        let kept = fs::metadata(part(&mount.0)).unwrap().len();
        assert!(kept > 1 << 20 && kept <= 2 << 20, "{kept}");
        mount.change("size=8m");
        let reply = setting.client.done(tool, call);
        // All of it is a beginning of the file, without a hole.
        assert_eq!(reply.data.unwrap()["resumed_bytes"], kept, "{tool}");
        let end = format!(" {kept} bytes of it were there from an earlier call.");
        assert!(reply.text.ends_with(&end), "{}", reply.text);
        assert_eq!(names(&mount.0), ["file"]);
        assert!(fs::read(mount.0.join("file")).unwrap() == vec![7; 4 << 20]);
    }
}

#[test]
fn a_folder_that_does_not_fit_stops_with_whole_files_and_goes_on_when_there_is_room() {
    let mut setting = Setting::new();
    let there = setting.there();
    for folder in [setting.files.join("tree"), there.join("tree")] {
        fs::create_dir(&folder).unwrap();
        for at in 0..600 {
            fs::write(folder.join(format!("{at:03}")), vec![7; 4096]).unwrap();
        }
    }
    let far = Mount::new(&setting.sshd.folder().join("small"), "size=1600k");
    let near = Mount::new(&setting.files.join("small"), "size=1600k");
    let (remote, local) = (far.0.join("tree"), near.0.join("tree"));
    let options = |mut call: serde_json::Value| {
        call["recursive"] = json!(true);
        call["resume"] = json!(true);
        call
    };
    let upload = options(json!({"local_path": "tree", "remote_path": remote}));
    let download = options(json!({"local_path": local, "remote_path": there.join("tree")}));
    let calls = [
        (
            &far,
            "ssh_upload",
            upload,
            "No space is left on the guest for `",
        ),
        (&near, "ssh_download", download, "Cannot write "),
    ];
    for (mount, tool, call, cause) in calls {
        let error = setting.client.fails(tool, call.clone());
        let lower = cause[..1].to_lowercase() + &cause[1..];
        assert!(
            error.starts_with(&format!("The transfer stopped early: {lower}")),
            "{error}"
        );
        let next = "What was moved until then stays; call again with `resume` to go on from there.";
        assert!(error.contains(next), "{error}");
        let moved = names(&mount.0.join("tree"));
        // Of the files, 256 are sent at a time.
        assert_eq!(moved.len(), 256, "{error}");
        assert!(moved.iter().all(|name| name.len() == 3), "{moved:?}");
        mount.change("size=8m");
        let data = setting.client.done(tool, call).data.unwrap();
        assert_eq!(
            (&data["files"], &data["tree"]["unchanged"]),
            (&json!(344), &json!(256))
        );
        assert_eq!(names(&mount.0.join("tree")).len(), 600);
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

#[test]
fn a_folder_that_permits_nothing_is_told_on_either_side() {
    let mut setting = Setting::new();
    let far = Mount::new(&setting.there().join("mount"), "size=1m");
    let near = Mount::new(&setting.files.join("mount"), "size=1m");
    let change = |act: &str, folder: &Path| {
        let changed = Command::new("chattr").arg(act).arg(folder).status();
        assert!(changed.unwrap().success());
    };
    // Not even root writes in an immutable folder.
    for mount in [&far, &near] {
        fs::write(mount.0.join("file"), "old").unwrap();
        change("+i", &mount.0);
    }
    let (there, here) = (far.0.display().to_string(), near.0.display().to_string());
    let from = setting.sshd.folder().join("from");
    fs::write(&from, "new").unwrap();
    fs::write(setting.files.join("from"), "new").unwrap();
    let upload = json!({"local_path": "from", "remote_path": format!("{there}/file")});
    assert_eq!(
        setting.client.fails("ssh_upload", upload.clone()),
        format!(
            "The guest does not permit `{}` to write in `{there}`.\n\
             Next: Choose a folder of that user, and move the file with `sudo` afterwards.",
            whoami()
        )
    );
    let download = json!({"local_path": "mount/file", "remote_path": from});
    let error = setting.client.fails("ssh_download", download.clone());
    assert!(
        error.starts_with(&format!("Cannot write in {here}.\nCause: "))
            && error.contains("Operation not permitted (os error 1)")
            && error.ends_with("\nNext: Check the permissions and the free space on this host."),
        "{error}"
    );
    for mount in [&far, &near] {
        change("-i", &mount.0);
        assert_eq!(names(&mount.0), ["file"]);
        assert_eq!(fs::read_to_string(mount.0.join("file")).unwrap(), "old");
    }
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

#[test]
fn a_log_that_the_disk_has_no_room_for_is_cut_and_its_command_goes_on() {
    let mut setting = Setting::new();
    let _small = Mount::new(&setting.files.join("jobs"), "size=1m");
    let line = "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2; exit 3";
    let reply = setting.client.done("ssh_execute", json!({"command": line}));
    let data = reply.data.unwrap();
    let log = data["log"].as_str().unwrap().to_owned();
    let why = format!("cannot write {log}: No space left on device (os error 28)");
    assert_eq!(data["exit_code"], 3, "{data}");
    assert_eq!(data["stderr"], "end\n");
    assert_eq!(data["log_cut"], why);
    let told = format!("\nnot all output is in a file: {why}\n");
    assert!(reply.text.contains(&told), "{}", &reply.text[..600]);
    let logged = fs::metadata(&log).unwrap().len();
    assert!((500_000..=1 << 20).contains(&logged), "{logged}");

    // What is in the file is read from there, the end from memory, and what is between is told.
    let id = data["job"].as_str().unwrap();
    let mut next = 0;
    let mut gaps = vec![];
    while next < 3_000_000 {
        let output = json!({"action": "output", "id": id, "offset": next});
        let part = setting.client.done("ssh_job", output);
        let data = part.data.unwrap();
        if data["offset"] != next {
            gaps.push((next, data["offset"].as_u64().unwrap()));
            assert!(part.text.contains(&why), "{}", &part.text[..600]);
        }
        next = data["next_offset"].as_u64().unwrap();
    }
    assert_eq!(next, 3_000_000);
    let [(from, to)] = gaps[..] else {
        panic!("{gaps:?}");
    };
    assert!(from <= logged && to == 3_000_000 - 16 * 1024, "{gaps:?}");
    let on = setting
        .client
        .done("ssh_execute", json!({"command": "echo on"}));
    assert_eq!(on.data.unwrap()["stdout"], "on\n");
}

#[test]
fn a_folder_that_takes_no_log_does_not_keep_a_command_from_running() {
    let mut setting = Setting::new();
    let jobs = setting.files.join("jobs");
    fs::write(&jobs, "no folder").unwrap();
    let started = json!({"command": "echo out", "background": true});
    let started = setting.client.done("ssh_execute", started).data.unwrap();
    let id = started["job"].as_str().unwrap();
    let wait = json!({"action": "wait", "id": id});
    let ended = setting.client.done("ssh_job", wait).data.unwrap();
    assert_eq!(
        (&ended["exit_code"], &ended["stdout"]),
        (&json!(0), &json!("out\n"))
    );
    assert_eq!(
        ended["log_cut"],
        format!(
            "cannot make the folder {}: File exists (os error 17)",
            jobs.display()
        )
    );
    assert_eq!(ended.get("log"), None);
    let output = json!({"action": "output", "id": id});
    let output = setting.client.done("ssh_job", output).data.unwrap();
    assert_eq!(output["text"], "out\n");
}
