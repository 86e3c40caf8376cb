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
