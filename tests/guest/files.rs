//! `ssh_upload` and `ssh_download`: whole or not at all, and equal on both sides.

use std::{fs, io::Read, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{guest::Guest, mcp::Client};

fn random_bytes(count: u64) -> Vec<u8> {
    let mut bytes = vec![];
    fs::File::open("/dev/urandom")
        .unwrap()
        .take(count)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// What the program sha256sum of the host says.
fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // It puts a backslash in front where it had to escape the name.
    text.trim_start_matches('\\')[..64].to_owned()
}

fn data(client: &mut Client, tool: &str, arguments: Value) -> Value {
    client
        .done(tool, arguments)
        .data
        .expect("transfers give data")
}

#[test]
fn files_go_there_and_back_unchanged() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.run("rm -rf /tmp/virtpilot-files; install -d -o vmrobot -m 755 /tmp/virtpilot-files");
    let names = [
        "plain.bin",
        "with two  spaces.bin",
        "Grüße äöü €.bin",
        "it's \"$HOME\" `id`.bin",
    ];
    for (name, bytes) in names.iter().zip([
        random_bytes(1_000_000),
        vec![],
        random_bytes(1),
        random_bytes(70_000),
    ]) {
        let here = guest.files().join(name);
        let there = format!("/tmp/virtpilot-files/{name}");
        fs::write(&here, &bytes).unwrap();
        let sum = sha256(&here);

        let up = data(
            &mut client,
            "ssh_upload",
            json!({"local_path": name, "remote_path": there}),
        );
        assert_eq!(up["bytes"], bytes.len(), "{up}");
        assert_eq!(up["sha256"], sum.as_str());
        assert_eq!(up["verified"], "sha256");
        let quoted = there.replace('\'', r"'\''");
        let inside = guest.run(&format!("sha256sum < '{quoted}'; stat -c %U '{quoted}'"));
        assert_eq!(inside, format!("{sum}  -\nvmrobot\n"), "{name}");

        let back = format!("new folder/back of {name}");
        let down = data(
            &mut client,
            "ssh_download",
            json!({"remote_path": there, "local_path": back}),
        );
        assert_eq!(down["sha256"], sum.as_str(), "{down}");
        assert_eq!(sha256(&guest.files().join(&back)), sum, "{name}");
    }
    // Nothing is left beside them.
    assert_eq!(guest.run("ls -A /tmp/virtpilot-files | wc -l").trim(), "4");
    guest.run("rm -rf /tmp/virtpilot-files");
}

#[test]
fn what_cannot_be_moved_is_told_and_nothing_changes() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.run("rm -rf /tmp/virtpilot-files; install -d -o vmrobot -m 755 /tmp/virtpilot-files");
    guest.run("echo there > /tmp/virtpilot-files/there; echo secret > /tmp/virtpilot-files/closed");
    guest.run("chmod 600 /tmp/virtpilot-files/closed");
    fs::write(guest.files().join("here"), "here\n").unwrap();
    fs::create_dir(guest.files().join("folder")).unwrap();
    let guest_files = guest.files();
    let up = |local: &str, remote: &str| json!({"local_path": local, "remote_path": remote});
    let down = |remote: &str, local: &str| json!({"local_path": local, "remote_path": remote});
    let not_over = |mut arguments: Value| {
        arguments["overwrite"] = json!(false);
        arguments
    };
    let there = "/tmp/virtpilot-files/there";
    let new = "/tmp/virtpilot-files/new";
    let here = |name: &str| guest_files.join(name).display().to_string();
    let cases = [
        (
            "ssh_upload",
            not_over(up("here", there)),
            format!("`{there}` on the guest exists already."),
        ),
        (
            "ssh_download",
            not_over(down(there, "here")),
            format!("{} on the host exists already.", here("here")),
        ),
        (
            "ssh_upload",
            up("missing", new),
            format!("There is no {}.", here("missing")),
        ),
        (
            "ssh_download",
            down("/tmp/virtpilot-files/missing", "new"),
            "There is no file `/tmp/virtpilot-files/missing` on the guest.".to_owned(),
        ),
        (
            "ssh_upload",
            up("folder", new),
            format!("{} on the host is a folder.", here("folder")),
        ),
        (
            "ssh_upload",
            up("here", "/tmp/virtpilot-files"),
            "`/tmp/virtpilot-files` on the guest is a folder.".to_owned(),
        ),
        (
            "ssh_download",
            down("/tmp/virtpilot-files", "new"),
            "`/tmp/virtpilot-files` on the guest is a folder.".to_owned(),
        ),
        (
            "ssh_upload",
            up("here", "/tmp/virtpilot-files/no/such/file"),
            "There is no folder `/tmp/virtpilot-files/no/such` on the guest.".to_owned(),
        ),
        (
            "ssh_download",
            down("/tmp/virtpilot-files/closed", "new"),
            "The guest does not permit `vmrobot` to read `/tmp/virtpilot-files/closed`.".to_owned(),
        ),
        (
            "ssh_upload",
            up("here", "/etc/virtpilot-test"),
            "The guest does not permit `vmrobot` to write in `/etc`.".to_owned(),
        ),
    ];
    for (tool, arguments, first_line) in cases {
        let error = client.fails(tool, arguments.clone());
        assert_eq!(
            error.lines().next(),
            Some(first_line.as_str()),
            "{arguments}"
        );
    }
    for (tool, arguments) in [
        ("ssh_upload", up("/etc/hostname", new)),
        ("ssh_upload", up("../../../../../../etc/hostname", new)),
        ("ssh_download", down(there, "/etc/virtpilot-test")),
    ] {
        let error = client.fails(tool, arguments.clone());
        assert!(
            error.ends_with("host_folders = [\"/etc\"]"),
            "{arguments}: {error}"
        );
    }
    assert_eq!(guest.run("cat /tmp/virtpilot-files/there"), "there\n");
    assert_eq!(guest.run("ls -A /tmp/virtpilot-files"), "closed\nthere\n");
    assert_eq!(
        fs::read_to_string(guest.files().join("here")).unwrap(),
        "here\n"
    );
    assert!(!guest.files().join("new").exists());
    assert!(!Path::new("/etc/virtpilot-test").exists());
    // Replaced where nothing forbids it.
    data(&mut client, "ssh_upload", up("here", there));
    assert_eq!(guest.run("cat /tmp/virtpilot-files/there"), "here\n");
    guest.run("rm -rf /tmp/virtpilot-files");
}

#[test]
fn folders_go_there_and_back_but_for_what_is_closed() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.run("rm -rf /tmp/virtpilot-files; install -d -o vmrobot -m 755 /tmp/virtpilot-files");
    let tree = guest.files().join("tree");
    fs::create_dir_all(tree.join("a/empty")).unwrap();
    for at in 0..40 {
        fs::write(tree.join(format!("a/{at}")), format!("file {at}\n")).unwrap();
    }
    fs::write(tree.join("large"), random_bytes(1_000_000)).unwrap();
    std::os::unix::fs::symlink("a/1", tree.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", tree.join("out")).unwrap();
    let there = "/tmp/virtpilot-files/tree";
    let up = json!({"local_path": "tree", "remote_path": there, "recursive": true});
    let reply = client.done("ssh_upload", up);
    let sent = reply.data.unwrap();
    assert_eq!(
        (&sent["files"], &sent["verified"]),
        (&json!(41), &json!("sha256")),
        "{sent}"
    );
    assert_eq!(
        sent["tree"],
        json!({
            "folders": 3, "links": 1, "unchanged": 0, "skipped": 1, "failed": 0,
            "notes": [{"path": "out", "why": "a link that leads out of the folder"}]
        })
    );
    let inside = guest.run(&format!(
        "cd {there} && find . -type f | wc -l; cat a/*| wc -l; readlink link; stat -c '%U %a' a/empty; \
         sha256sum < large"
    ));
    let sum = sha256(&tree.join("large"));
    assert_eq!(inside, format!("41\n40\na/1\nvmrobot 755\n{sum}  -\n"));

    guest.run(&format!(
        "install -d -m 700 {there}/closed; chown root {there}/a/7; chmod 600 {there}/a/7"
    ));
    let down = json!({"remote_path": there, "local_path": "back", "recursive": true});
    let error = client.fails("ssh_download", down.clone());
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "2 parts of the folder could not be moved.");
    let told = |path: &str, act: &str| {
        format!("- {path}: the guest does not permit `vmrobot` to {act} `{there}/{path}`")
    };
    for line in [told("closed", "list"), told("a/7", "read")] {
        assert!(lines.contains(&line.as_str()), "{line}: {error}");
    }
    let back = guest.files().join("back");
    assert!(!back.join("a/7").exists());
    assert_eq!(sha256(&back.join("large")), sum);
    assert_eq!(fs::read_to_string(back.join("link")).unwrap(), "file 1\n");

    guest.run(&format!("rm -rf {there}/closed; chmod 644 {there}/a/7"));
    let mut again = down;
    again["resume"] = json!(true);
    let done = data(&mut client, "ssh_download", again);
    assert_eq!(
        (&done["files"], &done["tree"]["unchanged"]),
        (&json!(1), &json!(40)),
        "{done}"
    );
    assert_eq!(fs::read_to_string(back.join("a/7")).unwrap(), "file 7\n");
    guest.run("rm -rf /tmp/virtpilot-files");
}
