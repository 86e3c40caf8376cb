//! An SSH server that goes away in the middle of things, is none, or takes no file.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    daemon::send,
    mcp::{Client, binary},
    sshd::{Sshd, whoami},
};

/// A server whose default VM's guest is an SSH server of this host. No libvirt is needed for it.
pub(crate) fn client(home: &Path, port: u16, identity: &Path) -> Client {
    Client::start(command(home, port, identity))
}

fn command(home: &Path, port: u16, identity: &Path) -> Command {
    let mut command = binary(home);
    command
        .args(["--uri", "test:///default", "--vm", "test"])
        .env("VM_HOST", "127.0.0.1")
        .env("VM_PORT", port.to_string())
        .env("VM_USER", whoami())
        .env("VM_IDENTITY", identity);
    command
}

/// A home with a client of a real server; the folder that transfers may touch is `files`.
pub(crate) struct Setting {
    pub(crate) sshd: Sshd,
    pub(crate) client: Client,
    pub(crate) files: PathBuf,
    _home: TempDir,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let sshd = Sshd::start();
        let home = tempfile::tempdir().unwrap();
        let files = home.path().join("data/virtpilot");
        fs::create_dir_all(&files).unwrap();
        let client = client(home.path(), sshd.port(), &sshd.identity());
        Self {
            sshd,
            client,
            files,
            _home: home,
        }
    }

    /// A folder on the guest.
    pub(crate) fn there(&self) -> PathBuf {
        let there = self.sshd.folder().join("there");
        fs::create_dir_all(&there).unwrap();
        there
    }
}

/// Waits until a file holds a process id.
fn process_in(file: &Path) -> u32 {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if let Ok(process) = text.trim().parse() {
            return process;
        }
        assert!(Instant::now() < end, "the command does not start");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The process that serves the one connection of a server.
fn connection_of(sshd: &Sshd) -> u32 {
    let children = Command::new("pgrep")
        .args(["--parent", &sshd.process().to_string()])
        .output()
        .unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    let children: Vec<_> = children.lines().collect();
    assert_eq!(children.len(), 1, "one connection is shared by all calls");
    children[0].parse().unwrap()
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_command_leaves_its_end_unknown() {
    let mut setting = Setting::new();
    let endpoint = format!("127.0.0.1:{}", setting.sshd.port());
    let mark = setting.there().join("mark");
    let line = format!(
        "echo begun >> {0}.count; echo $$ > {0}; sleep 30",
        mark.display()
    );
    let running = setting
        .client
        .send_call("ssh_execute", json!({"command": line}));
    let shell = process_in(&mark);
    send("-KILL", connection_of(&setting.sshd));
    let begun = Instant::now();
    let reply = setting.client.reply(running);
    assert!(reply.is_error);
    assert_eq!(
        reply.text,
        format!(
            "The connection to {endpoint} was lost while the command ran; whether it finished is unknown.\n\
             Next: Look whether it ran before you run it again; the next call connects anew."
        )
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    let next = setting
        .client
        .done("ssh_execute", json!({"command": "echo on"}));
    assert_eq!(next.data.unwrap()["stdout"], "on\n");
    let count = fs::read_to_string(mark.with_extension("count")).unwrap();
    assert_eq!(count, "begun\n", "it is never run again by itself");
    // Nobody else ends what the dead server leaves behind.
    let _ = Command::new("pkill")
        .args(["--session", &shell.to_string()])
        .status();
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_transfer_leaves_the_target_as_it_was() {
    let mut setting = Setting::new();
    let endpoint = format!("127.0.0.1:{}", setting.sshd.port());
    let there = setting.there();
    fs::write(there.join("file"), "old").unwrap();
    // Sparse, and longer to move than a process lives after this.
    let large = fs::File::create(setting.files.join("large")).unwrap();
    large.set_len(2 << 30).unwrap();
    fs::hard_link(setting.files.join("large"), there.join("large")).unwrap_or_else(|_| {
        fs::File::create(there.join("large"))
            .unwrap()
            .set_len(2 << 30)
            .unwrap();
    });
    let remote = |name: &str| there.join(name).display().to_string();
    setting
        .client
        .done("ssh_execute", json!({"command": "true"}));
    let lost = format!(
        "The connection to {endpoint} was lost during the transfer.\n\
         Next: Try again: the target is as it was. With `resume` a transfer that is interrupted keeps what has \
         arrived, and the next call goes on from there."
    );

    let upload = json!({"local_path": "large", "remote_path": remote("file")});
    let uploading = setting.client.send_call("ssh_upload", upload);
    await_part(&there);
    send("-KILL", connection_of(&setting.sshd));
    assert_eq!(setting.client.reply(uploading).text, lost);
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "old");
    assert_eq!(parts(&there), [""; 0], "nothing is left");

    fs::write(setting.files.join("kept"), "old").unwrap();
    let download = json!({"local_path": "kept", "remote_path": remote("large")});
    let downloading = setting.client.send_call("ssh_download", download);
    await_part(&setting.files);
    send("-KILL", connection_of(&setting.sshd));
    assert_eq!(setting.client.reply(downloading).text, lost);
    assert_eq!(
        fs::read_to_string(setting.files.join("kept")).unwrap(),
        "old"
    );
    assert_eq!(parts(&setting.files), [""; 0], "nothing is left");

    fs::write(setting.files.join("small"), "new").unwrap();
    let upload = json!({"local_path": "small", "remote_path": remote("file")});
    setting.client.done("ssh_upload", upload);
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "new");
}

#[test]
fn a_server_that_is_killed_leaves_a_part_to_go_on_from_where_that_is_wanted() {
    let mut setting = Setting::new();
    let endpoint = format!("127.0.0.1:{}", setting.sshd.port());
    let there = setting.there();
    let large = setting.files.join("large");
    fs::File::create(&large).unwrap().set_len(1 << 30).unwrap();
    fs::write(there.join("file"), "old").unwrap();
    let remote = there.join("file").display().to_string();
    let part = format!("{}/.file.virtpilot.part", there.display());
    setting
        .client
        .done("ssh_execute", json!({"command": "true"}));
    let upload = json!({"local_path": "large", "remote_path": remote, "resume": true});
    let uploading = setting.client.send_call("ssh_upload", upload.clone());
    let end = Instant::now() + Duration::from_secs(20);
    while fs::metadata(&part).map_or(0, |it| it.len()) == 0 {
        assert!(Instant::now() < end, "the transfer does not begin");
        thread::sleep(Duration::from_millis(5));
    }
    send("-KILL", connection_of(&setting.sshd));
    assert_eq!(
        setting.client.reply(uploading).text,
        format!(
            "The transfer stopped before its end, and what has arrived is kept in `{part}`.\n\
             Cause: the connection to {endpoint} was lost during the transfer\n\
             Next: Call again with `resume` to go on from there; the target is as it was."
        )
    );
    assert_eq!(fs::read_to_string(&remote).unwrap(), "old");
    // A file that is shorter now is moved sooner; what the dead server had taken may still come.
    let arrived = fs::metadata(&part).unwrap().len();
    let whole = arrived + (32 << 20);
    let file = fs::OpenOptions::new().write(true).open(&large).unwrap();
    file.set_len(whole).unwrap();
    let data = setting.client.done("ssh_upload", upload).data.unwrap();
    assert_eq!(data["bytes"], whole);
    let resumed = data["resumed_bytes"].as_u64().unwrap();
    assert!(
        (arrived..whole).contains(&resumed),
        "{resumed} of {arrived}"
    );
    assert_eq!(data["verified"], "sha256");
    assert_eq!(fs::metadata(&remote).unwrap().len(), whole);
    assert_eq!(parts(&there), [""; 0]);
}

#[test]
fn transfers_tell_bytes_and_rate_as_they_go() {
    let mut setting = Setting::new();
    fs::write(setting.files.join("large"), vec![7; 16 << 20]).unwrap();
    let arguments = json!({"local_path": "large", "remote_path": setting.there().join("file")});
    let call =
        json!({"name": "ssh_upload", "arguments": arguments, "_meta": {"progressToken": "up"}});
    let id = setting.client.send("tools/call", call);
    let mut told = vec![];
    loop {
        let message = setting.client.wait_for(|message| {
            message["id"] == id || message["method"] == "notifications/progress"
        });
        if message["id"] == id {
            break;
        }
        told.push(message["params"].clone());
    }
    assert!(!told.is_empty());
    for params in told {
        assert_eq!(
            params["total"].as_f64(),
            Some(f64::from(16 << 20)),
            "{params}"
        );
        let message = params["message"].as_str().unwrap();
        let (sizes, rate) = message.split_once(", ").unwrap();
        assert!(
            sizes.ends_with(" of 16.0 MiB") && (rate.ends_with("/s") || rate == "comparing"),
            "{message}"
        );
    }
}

#[test]
fn folders_are_moved_but_for_what_the_server_keeps_to_itself() {
    let mut setting = Setting::new();
    let there = setting.there();
    let project = setting.client.done("project_init", json!({"name": "task"}));
    let project = PathBuf::from(project.data.unwrap()["path"].as_str().unwrap());
    fs::write(project.join("results/one.txt"), "one").unwrap();
    let name = project.file_name().unwrap().to_str().unwrap();
    let data = setting.files.clone();
    setting
        .client
        .done("ssh_execute", json!({"command": "true"}));
    // The server's own data folder: host keys stay here.
    let up = json!({"local_path": data, "remote_path": there.join("copy"), "recursive": true});
    let reply = setting.client.done("ssh_upload", up.clone());
    assert!(
        reply
            .text
            .contains("\nLeft out: 1\n- known_hosts: one of the server's own files"),
        "{}",
        reply.text
    );
    let copy = there.join("copy/projects").join(name);
    assert_eq!(
        fs::read_to_string(copy.join("results/one.txt")).unwrap(),
        "one"
    );
    assert!(!there.join("copy/known_hosts").exists());

    // Nor are a project's records written.
    fs::write(there.join("copy/known_hosts"), "evil").unwrap();
    fs::write(copy.join("metadata.json"), "evil").unwrap();
    fs::write(copy.join("results/one.txt"), "two").unwrap();
    let known = fs::read_to_string(data.join("known_hosts")).unwrap();
    let down = json!({"remote_path": there.join("copy"), "local_path": data, "recursive": true});
    let reply = setting.client.done("ssh_download", down);
    for path in [
        "known_hosts",
        &format!("projects/{name}/metadata.json"),
        &format!("projects/{name}/logs"),
    ] {
        let line = format!("\n- {path}: one of the server's own files");
        assert!(reply.text.contains(&line), "{}", reply.text);
    }
    assert_eq!(fs::read_to_string(data.join("known_hosts")).unwrap(), known);
    assert_ne!(
        fs::read_to_string(project.join("metadata.json")).unwrap(),
        "evil"
    );
    assert_eq!(
        fs::read_to_string(project.join("results/one.txt")).unwrap(),
        "two"
    );

    let mut file = up;
    file["local_path"] = json!(data.join("projects").join(name).join("results/one.txt"));
    assert_eq!(
        setting.client.fails("ssh_upload", file),
        format!(
            "{}/results/one.txt on the host is no folder.\nNext: Nothing can lie below it: choose another path, or leave out `recursive` for a single file.",
            project.display()
        )
    );
}

/// The temporary files of transfers in a folder.
fn parts(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        name.into_string().unwrap()
    });
    names.filter(|name| name.contains(".virtpilot")).collect()
}

fn await_part(folder: &Path) {
    let end = Instant::now() + Duration::from_secs(10);
    while parts(folder).is_empty() {
        assert!(Instant::now() < end, "the transfer does not begin");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn paths_that_cannot_be_are_told_by_what_is_wrong_with_them() {
    let mut setting = Setting::new();
    let there = setting.there();
    fs::write(there.join("file"), "a file").unwrap();
    fs::write(setting.files.join("here"), "here").unwrap();
    let remote = |name: &str| there.join(name).display().to_string();
    let long = "n".repeat(256);
    let too_long = format!(
        "`{long}` is too long for a file name: 256 bytes, where file systems take 255.\n\
         Next: Choose a shorter name."
    );
    let below = format!(
        "`{}` on the guest is no folder.\nNext: Nothing can lie below it: choose another path, or leave out `recursive` for a single file.",
        remote("file")
    );
    let tilde = "Next: `~` stands for the user's own home folder alone, as in `~/file`. Give the \
                 absolute path.";
    let cases = [
        ("ssh_upload", remote("file/new"), below.clone()),
        ("ssh_upload", remote("file/deep/er/new"), below),
        ("ssh_upload", remote(&long), too_long.clone()),
        (
            "ssh_upload",
            remote(&format!("{long}/new")),
            too_long.clone(),
        ),
        ("ssh_download", remote(&long), too_long),
        (
            "ssh_upload",
            remote("missing/new"),
            format!(
                "There is no folder `{0}` on the guest.\nNext: Make it with `mkdir -p '{0}'` on the guest.",
                remote("missing")
            ),
        ),
        (
            "ssh_upload",
            "~nobody/new".to_owned(),
            format!("There is no folder `~nobody` on the guest.\n{tilde}"),
        ),
        (
            "ssh_download",
            "~nobody/file".to_owned(),
            format!("There is no file `~nobody/file` on the guest.\n{tilde}"),
        ),
    ];
    for (tool, path, expected) in cases {
        let local = if tool == "ssh_upload" { "here" } else { "new" };
        let arguments = json!({"local_path": local, "remote_path": path});
        assert_eq!(setting.client.fails(tool, arguments), expected, "{path}");
    }

    // The host's side.
    let folder = setting.files.join("folder");
    fs::create_dir(&folder).unwrap();
    let local = |name: &str| setting.files.join(name).display().to_string();
    let cases = [
        (
            "ssh_upload",
            "folder".to_owned(),
            format!(
                "{} on the host is a folder.\nNext: Give the full name of the file, not only its folder; or set \
                 `recursive` to move a folder.",
                folder.display()
            ),
        ),
        (
            "ssh_download",
            long.clone(),
            format!(
                "Cannot look up {}.\nCause: File name too long (os error 36)\n\
                 Next: Choose a shorter name: file systems take 255 bytes.",
                local(&long)
            ),
        ),
        (
            "ssh_download",
            "here/new".to_owned(),
            format!(
                "Cannot look up {}.\nCause: Not a directory (os error 20)\n\
                 Next: A file stands where a folder should be: choose another path.",
                local("here/new")
            ),
        ),
    ];
    for (tool, path, expected) in cases {
        let arguments = json!({"local_path": path, "remote_path": remote("file")});
        assert_eq!(setting.client.fails(tool, arguments), expected, "{path}");
    }
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "a file");
    assert_eq!(parts(&there), [""; 0]);
}

#[test]
fn an_ssh_configuration_that_ssh_refuses_is_told_until_it_is_mended() {
    let home = tempfile::tempdir().unwrap();
    let (programs, broken) = (home.path().join("bin"), home.path().join("broken"));
    fs::create_dir(&programs).unwrap();
    let said = "/home/ann/.ssh/config: line 1: Bad configuration option: prot";
    let ssh = format!(
        "#!/bin/sh\n[ -e {} ] || exec /usr/bin/ssh \"$@\"\necho '{said}' >&2; exit 255\n",
        broken.display()
    );
    fs::write(programs.join("ssh"), ssh).unwrap();
    fs::set_permissions(programs.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&broken, "").unwrap();
    let mut sshd = Sshd::start();
    let path = std::env::var("PATH").unwrap();
    let mut command = command(home.path(), sshd.port(), &sshd.identity());
    command.env("PATH", format!("{}:{path}", programs.display()));
    let mut client = Client::start(command);
    // What does not need it works.
    client.done("ssh_execute", json!({"command": "true"}));
    let info = client.done("ssh_connection_info", json!({}));
    let line =
        format!("\naddress: configured; your SSH configuration is left out (ssh says: {said})\n");
    assert!(info.text.contains(&line), "{}", info.text);
    sshd.stop();
    let run = json!({"command": "true"});
    let error = until_refused(&mut client, &run);
    let place = format!("127.0.0.1:{}", sshd.port());
    assert_eq!(
        error,
        format!(
            "The guest is not reached, and your SSH configuration is left out (ssh says: {said}).\n\
             Cause: cannot connect to {place}: Connection refused (os error 111)\n\
             Next: Correct ~/.ssh/config, if it says how this guest is reached: `ssh -G` shows what is wrong with it. \
             If it does not: Check that the guest runs, that its SSH server is started (`systemctl status ssh` in \
             the guest) and that no firewall is in between."
        )
    );
    fs::remove_file(&broken).unwrap();
    let error = client.fails("ssh_execute", run.clone());
    assert!(error.starts_with("Cannot connect to "), "{error}");
    sshd.start_again();
    client.done("ssh_execute", run);
    let info = client.done("ssh_connection_info", json!({}));
    assert!(!info.text.contains("left out"), "{}", info.text);
}

/// What a call is told once it is noticed that the server has gone.
fn until_refused(client: &mut Client, arguments: &Value) -> String {
    loop {
        let error = client.fails("ssh_execute", arguments.clone());
        if !error.contains("broke down") && !error.contains("was lost") {
            return error;
        }
    }
}

/// Takes connections, says this to each, after it was spoken to where `listens`, and keeps them open.
fn saying(words: &'static str, listens: bool) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut open = vec![];
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if listens {
                let _ = stream.read(&mut [0; 100]);
            }
            let _ = stream.write_all(words.as_bytes());
            open.push(stream);
        }
    });
    port
}

#[test]
fn a_server_of_another_kind_is_told_by_what_it_says() {
    let home = tempfile::tempdir().unwrap();
    let cases = [
        ("SSH-1.5-OpenSSH_1.2.27\n", false, "SSH-1.5-OpenSSH_1.2.27"),
        ("220 mail ESMTP ready\r\n", false, "220 mail ESMTP ready"),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            true,
            "HTTP/1.1 400 Bad Request",
        ),
    ];
    let mut calls = vec![];
    for (words, listens, shown) in cases {
        let port = saying(words, listens);
        let mut client = client(home.path(), port, Path::new("/nonexistent"));
        let begun = Instant::now();
        let call = client.send_call("ssh_execute", json!({"command": "true"}));
        calls.push((client, call, begun, port, shown));
    }
    for (mut client, call, begun, port, shown) in calls {
        assert_eq!(
            client.reply(call).text,
            format!(
                "127.0.0.1:{port} is no SSH server of protocol 2: it says `{shown}`.\n\
                 Next: Set the port of the guest's SSH server: VM_PORT for the default VM, or `port` in the \
                 configuration."
            )
        );
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn a_guest_that_says_nothing_delays_no_other() {
    let sshd = Sshd::start();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config/virtpilot");
    fs::create_dir_all(&config).unwrap();
    let port = saying("", false);
    let silent = format!("[vm.silent]\nssh = {{ host = '127.0.0.1', port = {port} }}\n");
    fs::write(config.join("config.toml"), silent).unwrap();
    let mut client = client(home.path(), sshd.port(), &sshd.identity());
    let held = client.send_call("ssh_execute", json!({"command": "true", "vm": "silent"}));
    let other = client.send_call("ssh_execute", json!({"command": "echo on"}));
    // Whichever comes first.
    let first = client.wait_for(|message| message.get("result").is_some());
    assert_eq!(first["id"], other, "{first}");
    assert_eq!(first["result"]["structuredContent"]["stdout"], "on\n");
    let error = client.reply(held);
    let told = format!("127.0.0.1:{port} did not answer within 10s (SSH greeting).");
    assert!(error.text.starts_with(&told), "{}", error.text);
}

#[test]
fn what_goes_wrong_with_one_connection_leaves_the_next_call_alone() {
    let sshd = Sshd::start();
    let home = tempfile::tempdir().unwrap();
    let cases: [(&str, Option<usize>, &str); 4] = [
        ("220 mail ESMTP ready\r\n", None, "is no SSH server"),
        ("", None, "closed the connection before it said anything"),
        ("SSH-2.0-Odd\r\n", None, "The SSH handshake with "),
        // In the middle of what both sides say before the login.
        ("", Some(600), "The SSH handshake with "),
    ];
    for (words, relayed, told) in cases {
        let port = going_wrong_once(words, relayed, sshd.port());
        let mut client = client(home.path(), port, &sshd.identity());
        let run = json!({"command": "echo on"});
        let error = client.fails("ssh_execute", run.clone());
        assert!(error.contains(told), "{words:?}: {error}");
        let next = client.done("ssh_execute", run);
        assert_eq!(next.data.unwrap()["stdout"], "on\n");
    }
}

/// Relays all connections to a port but the first, which hears these words, or the server's first bytes, and is
/// closed.
fn going_wrong_once(words: &'static str, relayed: Option<usize>, port: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    let to_server = move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let relay = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    thread::spawn(move || {
        let mut first = listener.incoming().next().unwrap().unwrap();
        if let Some(bytes) = relayed {
            let server = to_server();
            relay(first.try_clone().unwrap(), server.try_clone().unwrap());
            let _ = io::copy(&mut server.take(bytes as u64), &mut first);
        } else {
            let _ = first.write_all(words.as_bytes());
        }
        let _ = first.shutdown(Shutdown::Both);
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), to_server());
            relay(client.try_clone().unwrap(), server.try_clone().unwrap());
            relay(server, client);
        }
    });
    own
}

#[test]
fn an_alias_of_the_ssh_configuration_leads_by_its_jump_host() {
    let (sshd, jump) = (Sshd::start(), Sshd::start());
    let home = tempfile::tempdir().unwrap();
    let programs = home.path().join("bin");
    fs::create_dir(&programs).unwrap();
    // As OpenSSH answers of a ~/.ssh/config, which lies in the home folder of whoever runs this.
    let of = |server: &Sshd| {
        format!(
            "hostname 127.0.0.1\nport {}\nuser {}\nidentityfile {}\n",
            server.port(),
            whoami(),
            server.identity().display()
        )
    };
    let ssh = format!(
        "#!/bin/sh\nfor name; do :; done\ncase $name in\nguest) echo '{}proxyjump gate';;\ngate) echo '{}';;\n\
         *) exit 255;;\nesac\n",
        of(&sshd),
        of(&jump)
    );
    fs::write(programs.join("ssh"), ssh).unwrap();
    fs::set_permissions(programs.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = binary(home.path());
    command
        .args(["--uri", "test:///default", "--vm", "test"])
        .env("VM_HOST", "guest")
        .env("PATH", format!("{}:{path}", programs.display()));
    let mut client = Client::start(command);
    let run = json!({"command": "echo $SSH_CONNECTION"});
    let data = client.done("ssh_execute", run).data.unwrap();
    let end = format!(" 127.0.0.1 {}\n", sshd.port());
    assert!(data["stdout"].as_str().unwrap().ends_with(&end), "{data}");
    let info = client.done("ssh_connection_info", json!({})).data.unwrap();
    let through = format!("{}@127.0.0.1:{}", whoami(), jump.port());
    assert_eq!(info["jump_hosts"], json!([through]));
    assert_eq!(info["login"], sshd.identity().to_str().unwrap());
    assert!(jump.log().contains("Accepted publickey"), "{}", jump.log());
}

#[test]
fn a_command_that_cannot_be_ended_keeps_nobody() {
    // The script that ends commands hangs.
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    fs::write(
        &gate,
        "#!/bin/sh\ncase \"$SSH_ORIGINAL_COMMAND\" in sh) exec sleep 20 ;; *) exec sh -c \
         \"$SSH_ORIGINAL_COMMAND\" ;; esac\n",
    )
    .unwrap();
    let sshd = Sshd::start_with(&format!("ForceCommand /bin/sh {}", gate.display()));
    let home = tempfile::tempdir().unwrap();
    let mut client = client(home.path(), sshd.port(), &sshd.identity());
    let arguments: Value = json!({"command": "echo so far; sleep 30", "timeout": 3});
    let data = client.done("ssh_execute", arguments).data.unwrap();
    assert_eq!(data["state"], "running");
    assert_eq!(data["stdout"], "so far\n");
    // Nor does it keep the server from its end.
    let begun = Instant::now();
    client.signal("TERM");
    assert_eq!(client.wait_for_exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15), "{begun:?}");
}
