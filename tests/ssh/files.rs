//! Files to and from a real OpenSSH server.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use tokio_util::sync::CancellationToken;
use virtpilot::ssh::{Client, Manner, SshError, Target, Transfer, Unfit, Verified};

use crate::{bytes, download, names_in, relay::Relay, run, sshd, sshd::Sshd, text, upload};

/// Without replacing anything.
const KEEPING: Manner = Manner {
    overwrite: false,
    resume: false,
    verify: true,
};

/// File names that break careless programs.
const NAMES: [&str; 9] = [
    "plain",
    "with space",
    "it's",
    "\"quoted\"",
    "new\nline",
    "ü€😀",
    "$(id)`id`;*?",
    "-n",
    "back\\slash",
];

/// SHA-256 by another program than ours.
fn sha256(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum")
        .stdin(fs::File::open(path).unwrap())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[tokio::test]
async fn moves_files_of_every_size_unchanged() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (here, there) = (server.folder().join("here"), server.folder().join("there"));
    fs::create_dir_all(&here).unwrap();
    fs::create_dir_all(&there).unwrap();
    for size in [0, 1, 261_120, 261_121, 32 << 20] {
        let (local, remote) = (here.join("file"), there.join("file"));
        fs::write(&local, bytes(size)).unwrap();
        let seen = Mutex::new(Vec::new());
        let never = CancellationToken::new();
        let watch = |done, total| seen.lock().unwrap().push((done, total));
        let up = client
            .upload(&local, text(&remote), Manner::default(), &never, watch)
            .await
            .unwrap();
        assert!(fs::read(&remote).unwrap() == bytes(size), "{size} bytes up");
        assert_eq!(
            (up.bytes, up.verified, up.atomic),
            (size as u64, Verified::Sha256, true)
        );
        assert_eq!(up.sha256, sha256(&local));
        let seen = seen.into_inner().unwrap();
        assert!(
            seen.is_sorted() && seen.iter().all(|(_, total)| *total == size as u64),
            "{seen:?}"
        );
        assert_eq!(seen.last().map_or(0, |(done, _)| *done), size as u64);

        let back = here.join("made/on the way/back");
        let down = download(&client, text(&remote), &back).await.unwrap();
        assert!(fs::read(&back).unwrap() == bytes(size), "{size} bytes down");
        assert_eq!((down.bytes, down.verified), (size as u64, Verified::Sha256));
        assert_eq!(down.sha256, up.sha256);
        assert_eq!(names_in(back.parent().unwrap()), ["back"]);
    }
    assert_eq!(names_in(&there), ["file"]);
}

#[tokio::test]
async fn moves_files_with_difficult_names() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (here, there) = (
        server.folder().join("he re"),
        server.folder().join("the'r\\e"),
    );
    fs::create_dir_all(&here).unwrap();
    fs::create_dir_all(&there).unwrap();
    for name in NAMES {
        fs::write(here.join(name), name).unwrap();
        let up = upload(&client, &here.join(name), text(&there.join(name)))
            .await
            .unwrap();
        // Not every sha256sum writes such a name in one line.
        let verified = if name.contains('\n') {
            Verified::ReadBack
        } else {
            Verified::Sha256
        };
        assert_eq!(up.verified, verified, "{name:?}");
        assert_eq!(fs::read_to_string(there.join(name)).unwrap(), name);
        let down = download(&client, text(&there.join(name)), &here.join(name))
            .await
            .unwrap();
        assert_eq!(down.verified, verified, "{name:?}");
        assert_eq!(fs::read_to_string(here.join(name)).unwrap(), name);
    }
    let mut expected = NAMES.map(str::to_owned);
    expected.sort();
    assert_eq!(names_in(&there), expected);
    assert_eq!(names_in(&here), expected);
}

#[tokio::test]
async fn no_name_stands_in_a_line_that_the_guests_shell_reads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("home")).unwrap();
    let gate = format!(
        "cd {}/home\necho \"$SSH_ORIGINAL_COMMAND\" >> ../lines\n\
         case \"$SSH_ORIGINAL_COMMAND\" in internal-sftp) exec /usr/lib/openssh/sftp-server ;; esac\n\
         exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        folder.path().display()
    );
    fs::write(at("gate"), gate).unwrap();
    let server = Sshd::start_with(&format!("ForceCommand /bin/sh {}", text(&at("gate"))));
    let client = Client::new(server.target());
    let never = CancellationToken::new();
    let resuming = Manner {
        resume: true,
        ..Manner::default()
    };
    for name in ["-", "-x", "the name\" & calc & %PATH%"] {
        fs::write(at("home").join(name), bytes(3000)).unwrap();
        // The part, so that the first bytes are hashed too.
        fs::write(at(".back.virtpilot.part"), bytes(1000)).unwrap();
        let back = at("back");
        let down = client.download(name, &back, resuming, &never, |_, _| {});
        let down = down.await.unwrap();
        assert_eq!(
            (down.resumed, down.verified),
            (1000, Verified::Sha256),
            "{name}"
        );
        let up = upload(&client, &back, name).await.unwrap();
        assert_eq!(up.verified, Verified::Sha256, "{name}");
    }
    let lines = fs::read_to_string(at("lines")).unwrap();
    let mut lines: Vec<_> = lines.lines().filter(|line| line.contains("sum")).collect();
    lines.sort_unstable();
    lines.dedup();
    let ends = [
        "xargs -0 head -c 1000 | sha256sum",
        "xargs -0 sha256sum | cut -c 1-65",
    ];
    for line in &lines {
        assert!(ends.iter().any(|end| line.ends_with(end)), "{line}");
        assert!(!line.contains("calc") && !line.contains(".part"), "{line}");
    }
    assert!(lines.len() >= 2, "{lines:?}");
}

#[tokio::test]
async fn what_comes_into_the_way_meanwhile_is_replaced_where_it_may_be() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (local, there) = (server.folder().join("local"), server.folder().join("there"));
    fs::create_dir(&there).unwrap();
    fs::write(&local, "new").unwrap();
    let remote = there.join("file");
    let never = CancellationToken::new();
    for overwrite in [true, false] {
        let manner = Manner {
            overwrite,
            ..Manner::default()
        };
        let come = |_, _| fs::write(&remote, "meanwhile").unwrap();
        let up = client.upload(&local, text(&remote), manner, &never, come);
        let content = match up.await {
            Ok(_) if overwrite => "new",
            Err(SshError::RemoteUnfit { what, .. }) if !overwrite => {
                assert_eq!(what, Unfit::Exists);
                "meanwhile"
            }
            other => panic!("{overwrite}: {other:?}"),
        };
        assert_eq!(fs::read_to_string(&remote).unwrap(), content);
        assert_eq!(names_in(&there), ["file"]);
        fs::remove_file(&remote).unwrap();
    }
}

#[tokio::test]
async fn starts_relative_paths_at_the_home_folder() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let name = format!(".virtpilot-test-{}", std::process::id());
    let local = server.folder().join("file");
    fs::write(&local, "at home").unwrap();
    upload(&client, &local, &format!("~/{name}")).await.unwrap();
    assert_eq!(
        run(&client, &format!("cat {name}")).await.stdout.text(),
        "at home"
    );
    let back = server.folder().join("back");
    download(&client, &name, &back).await.unwrap();
    run(&client, &format!("rm {name}")).await;
    assert_eq!(fs::read_to_string(&back).unwrap(), "at home");
}

#[tokio::test]
async fn replaces_a_file_whole_and_keeps_its_mode_and_its_links() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;

    let server = Sshd::start();
    let client = Client::new(server.target());
    let (local, there) = (server.folder().join("local"), server.folder().join("there"));
    fs::create_dir(&there).unwrap();
    fs::write(&local, "new").unwrap();

    let plain = there.join("plain");
    upload(&client, &local, text(&plain)).await.unwrap();
    assert_eq!(mode(&plain), mode(&local));
    fs::set_permissions(&local, fs::Permissions::from_mode(0o750)).unwrap();
    let program = there.join("program");
    upload(&client, &local, text(&program)).await.unwrap();
    assert_eq!(mode(&program), 0o750);
    // Set-user-id is a power, not a mode.
    fs::set_permissions(&local, fs::Permissions::from_mode(0o4711)).unwrap();
    upload(&client, &local, text(&there.join("power")))
        .await
        .unwrap();
    assert_eq!(mode(&there.join("power")), 0o711);

    let old = there.join("old");
    fs::write(&old, "old").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = sshd::whoami() == "root";
    if is_root {
        std::os::unix::fs::chown(&old, Some(1), Some(2)).unwrap();
    }
    symlink("old", there.join("link")).unwrap();
    let done = upload(&client, &local, text(&there.join("link")))
        .await
        .unwrap();
    assert!(done.atomic);
    assert_eq!(
        (fs::read_to_string(&old).unwrap().as_str(), mode(&old)),
        ("new", 0o640)
    );
    assert!(there.join("link").is_symlink());
    if is_root {
        let metadata = fs::metadata(&old).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1, 2));
    }

    let kept = server.folder().join("kept");
    fs::write(&kept, "old").unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("kept", server.folder().join("local link")).unwrap();
    download(&client, text(&program), &server.folder().join("local link"))
        .await
        .unwrap();
    assert_eq!(
        (fs::read_to_string(&kept).unwrap().as_str(), mode(&kept)),
        ("new", 0o600)
    );
    assert!(server.folder().join("local link").is_symlink());
    let fresh = server.folder().join("fresh");
    download(&client, text(&program), &fresh).await.unwrap();
    assert_eq!(mode(&fresh) & 0o700, 0o700);
    assert_eq!(mode(&fresh) & !0o750, 0);
}

#[tokio::test]
async fn tells_why_a_file_cannot_be_moved() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let at = server.folder();
    fs::write(at.join("file"), "content").unwrap();
    fs::write(at.join("taken"), "precious").unwrap();
    fs::create_dir(at.join("folder")).unwrap();
    let fifo = at.join("fifo");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let (file, taken, folder) = (at.join("file"), at.join("taken"), at.join("folder"));
    let (missing, below) = (at.join("missing"), at.join("missing/below"));
    let never = CancellationToken::new();

    let unfit = |result: Result<Transfer, SshError>| match result {
        Err(SshError::LocalUnfit { what, .. }) => ("local", what),
        Err(SshError::RemoteUnfit { what, .. }) => ("remote", what),
        other => panic!("{other:?}"),
    };
    let new = text(&missing);
    assert_eq!(
        unfit(upload(&client, &folder, new).await),
        ("local", Unfit::Folder)
    );
    assert_eq!(
        unfit(upload(&client, &fifo, new).await),
        ("local", Unfit::Special)
    );
    assert_eq!(
        unfit(upload(&client, &file, text(&folder)).await),
        ("remote", Unfit::Folder)
    );
    assert_eq!(
        unfit(upload(&client, &file, &format!("{new}/")).await),
        ("remote", Unfit::Folder)
    );
    assert_eq!(
        unfit(upload(&client, &file, text(&fifo)).await),
        ("remote", Unfit::Special)
    );
    let kept = client
        .upload(&file, text(&taken), KEEPING, &never, |_, _| {})
        .await;
    assert_eq!(unfit(kept), ("remote", Unfit::Exists));
    assert_eq!(
        unfit(download(&client, text(&folder), &missing).await),
        ("remote", Unfit::Folder)
    );
    assert_eq!(
        unfit(download(&client, text(&fifo), &missing).await),
        ("remote", Unfit::Special)
    );
    assert_eq!(
        unfit(download(&client, text(&file), &folder).await),
        ("local", Unfit::Folder)
    );
    assert_eq!(
        unfit(download(&client, text(&file), &fifo).await),
        ("local", Unfit::Special)
    );
    let kept = client
        .download(text(&file), &taken, KEEPING, &never, |_, _| {})
        .await;
    assert_eq!(unfit(kept), ("local", Unfit::Exists));

    let gone = upload(&client, &missing, text(&taken)).await;
    assert!(
        matches!(&gone, Err(SshError::LocalMissing { path }) if *path == missing),
        "{gone:?}"
    );
    let gone = download(&client, text(&missing), &taken).await;
    assert!(
        matches!(&gone, Err(SshError::RemoteMissing { path }) if path == new),
        "{gone:?}"
    );
    let error = upload(&client, &file, text(&below)).await.unwrap_err();
    assert!(
        matches!(&error, SshError::RemoteFolderMissing { folder } if folder == new),
        "{error:?}"
    );
    assert_eq!(
        error.hint(),
        format!("Make it with `mkdir -p '{new}'` on the guest.")
    );

    assert_eq!(fs::read_to_string(&taken).unwrap(), "precious");
    assert_eq!(names_in(&folder), Vec::<String>::new());
    assert!(
        !names_in(at).iter().any(|name| name.contains(".virtpilot-")),
        "{:?}",
        names_in(at)
    );
}

#[tokio::test]
async fn leaves_nothing_behind_when_a_transfer_is_cancelled() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (local, there, back) = (
        server.folder().join("local"),
        server.folder().join("there"),
        server.folder().join("back"),
    );
    fs::create_dir(&there).unwrap();
    fs::create_dir(&back).unwrap();
    fs::write(&local, bytes(64 << 20)).unwrap();
    fs::write(there.join("file"), "old").unwrap();

    let cancel = CancellationToken::new();
    let stop = |done, _| {
        if done > 1 << 20 {
            cancel.cancel();
        }
    };
    let up = client
        .upload(
            &local,
            text(&there.join("file")),
            Manner::default(),
            &cancel,
            stop,
        )
        .await;
    assert!(matches!(up, Err(SshError::TransferCancelled)), "{up:?}");
    assert_eq!(names_in(&there), ["file"]);
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "old");

    let cancel = CancellationToken::new();
    let stop = |done, _| {
        if done > 1 << 20 {
            cancel.cancel();
        }
    };
    let down = client
        .download(
            text(&local),
            &back.join("file"),
            Manner::default(),
            &cancel,
            stop,
        )
        .await;
    assert!(matches!(down, Err(SshError::TransferCancelled)), "{down:?}");
    assert_eq!(names_in(&back), Vec::<String>::new());
}

#[tokio::test]
async fn refuses_to_upload_a_file_that_shrinks_meanwhile() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (local, there) = (server.folder().join("local"), server.folder().join("there"));
    fs::create_dir(&there).unwrap();
    fs::write(&local, bytes(64 << 20)).unwrap();
    fs::write(there.join("file"), "old").unwrap();
    let file = fs::OpenOptions::new().write(true).open(&local).unwrap();
    let never = CancellationToken::new();
    let shrink = |_, _| file.set_len(1 << 20).unwrap();
    let up = client
        .upload(
            &local,
            text(&there.join("file")),
            Manner::default(),
            &never,
            shrink,
        )
        .await;
    match up {
        Err(SshError::Damaged { path, what }) => assert_eq!(
            (path.as_str(), what),
            (text(&local), "the file shrank while it was read")
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(names_in(&there), ["file"]);
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "old");
}

#[tokio::test]
async fn cleans_up_over_a_new_connection_when_one_breaks_during_a_transfer() {
    let server = Sshd::start();
    let relay = Relay::to(server.port()).await;
    let client = Client::new(Target {
        port: relay.port(),
        ..server.target()
    });
    let (local, there) = (server.folder().join("local"), server.folder().join("there"));
    fs::create_dir(&there).unwrap();
    fs::write(&local, bytes(64 << 20)).unwrap();
    let half_way = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&half_way);
    let never = CancellationToken::new();
    let remote = there.join("file");
    let uploading = client.upload(
        &local,
        text(&remote),
        Manner::default(),
        &never,
        move |done, _| {
            if done > 1 << 20 {
                notify.notify_one();
            }
        },
    );
    let (result, ()) = tokio::join!(uploading, async {
        half_way.notified().await;
        relay.cut().await;
    });
    assert!(
        matches!(result, Err(SshError::TransferLost { .. })),
        "{result:?}"
    );
    assert_eq!(names_in(&there), Vec::<String>::new());
}

#[tokio::test]
async fn reads_files_without_a_size_and_files_that_grow() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let back = server.folder().join("back");
    let down = download(&client, "/proc/version", &back).await.unwrap();
    assert_eq!(fs::read(&back).unwrap(), fs::read("/proc/version").unwrap());
    assert_eq!(down.verified, Verified::No);

    let log = server.folder().join("log");
    fs::write(&log, bytes(8 << 20)).unwrap();
    let growing = Mutex::new(fs::OpenOptions::new().append(true).open(&log).unwrap());
    let never = CancellationToken::new();
    let grow = |_, _| std::io::Write::write_all(&mut *growing.lock().unwrap(), b"x").unwrap();
    let down = client
        .download(text(&log), &back, Manner::default(), &never, grow)
        .await
        .unwrap();
    assert_eq!(down.verified, Verified::Sha256);
    assert!(fs::metadata(&log).unwrap().len() > 8 << 20);
    assert!(fs::read(&back).unwrap() == bytes(8 << 20));
}

#[tokio::test]
async fn keeps_the_time_of_change() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let at = |name: &str| server.folder().join(name);
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_001);
    let changed = |name: &str| fs::metadata(at(name)).unwrap().modified().unwrap();
    for name in ["here", "there"] {
        fs::write(at(name), "x").unwrap();
        let file = fs::File::options().write(true).open(at(name)).unwrap();
        file.set_modified(then).unwrap();
    }
    fs::write(at("old"), "x").unwrap();
    upload(&client, &at("here"), text(&at("old")))
        .await
        .unwrap();
    upload(&client, &at("here"), text(&at("new")))
        .await
        .unwrap();
    download(&client, text(&at("there")), &at("back"))
        .await
        .unwrap();
    for name in ["old", "new", "back"] {
        assert_eq!(changed(name), then, "{name}");
    }
}

#[tokio::test]
async fn compares_nothing_where_it_is_not_asked_to() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (local, remote) = (
        server.folder().join("local"),
        server.folder().join("remote"),
    );
    fs::write(&local, bytes(300_000)).unwrap();
    let manner = Manner {
        verify: false,
        ..Manner::default()
    };
    let never = CancellationToken::new();
    let up = client.upload(&local, text(&remote), manner, &never, |_, _| {});
    let up = up.await.unwrap();
    assert_eq!(
        (up.verified, up.sha256),
        (Verified::Skipped, sha256(&local))
    );
    let back = server.folder().join("back");
    let down = client.download(text(&remote), &back, manner, &never, |_, _| {});
    assert_eq!(down.await.unwrap().verified, Verified::Skipped);
    assert!(fs::read(&back).unwrap() == bytes(300_000));
}

#[tokio::test]
async fn refuses_to_move_what_is_rewritten_meanwhile_and_takes_of_what_grows_what_was_there() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (local, there) = (server.folder().join("local"), server.folder().join("there"));
    fs::create_dir(&there).unwrap();
    fs::write(&local, bytes(8 << 20)).unwrap();
    fs::write(there.join("file"), "old").unwrap();
    let remote = there.join("file");
    let file = fs::OpenOptions::new().write(true).open(&local).unwrap();
    let never = CancellationToken::new();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
    let rewrite = |_, _| {
        std::os::unix::fs::FileExt::write_at(&file, b"x", 0).unwrap();
        file.set_modified(later).unwrap();
    };
    let up = client.upload(&local, text(&remote), Manner::default(), &never, rewrite);
    match up.await {
        Err(SshError::Damaged { path, what }) => assert_eq!(
            (path.as_str(), what),
            (text(&local), "the file was written to while it was read")
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(names_in(&there), ["file"]);
    assert_eq!(fs::read_to_string(&remote).unwrap(), "old");

    fs::write(&local, bytes(8 << 20)).unwrap();
    let log = Mutex::new(fs::OpenOptions::new().append(true).open(&local).unwrap());
    let grow = |_, _| std::io::Write::write_all(&mut *log.lock().unwrap(), b"x").unwrap();
    let up = client.upload(&local, text(&remote), Manner::default(), &never, grow);
    assert_eq!(up.await.unwrap().bytes, 8 << 20);
    assert!(fs::read(&remote).unwrap() == bytes(8 << 20));

    // What is longer afterwards may have been rewritten all the same.
    fs::write(&local, bytes(8 << 20)).unwrap();
    fs::write(&remote, "old").unwrap();
    let longer = |_, _| fs::write(&local, vec![7; 9 << 20]).unwrap();
    let up = client.upload(&local, text(&remote), Manner::default(), &never, longer);
    match up.await {
        Err(SshError::Damaged { path, what }) => assert_eq!(
            (path.as_str(), what),
            (text(&local), "the file was written to while it was read")
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(names_in(&there), ["file"]);
    assert_eq!(fs::read_to_string(&remote).unwrap(), "old");
}

#[tokio::test]
async fn takes_no_file_that_the_guest_rewrites_or_cuts_meanwhile() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let (remote, back) = (server.folder().join("remote"), server.folder().join("back"));
    fs::create_dir(&back).unwrap();
    let local = back.join("file");
    fs::write(&local, "old").unwrap();
    let never = CancellationToken::new();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
    for verify in [true, false] {
        for length in [4 << 20, 32 << 20] {
            fs::write(&remote, bytes(32 << 20)).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&remote).unwrap();
            let change = |_, _| {
                file.set_len(length).unwrap();
                std::os::unix::fs::FileExt::write_at(&file, b"x", 1).unwrap();
                file.set_modified(later).unwrap();
            };
            let manner = Manner {
                verify,
                ..Manner::default()
            };
            let down = client.download(text(&remote), &local, manner, &never, change);
            match down.await {
                Err(SshError::Damaged { path, what }) => assert_eq!(
                    (path.as_str(), what),
                    (text(&remote), "the guest was writing to it")
                ),
                other => panic!("{verify} {length}: {other:?}"),
            }
            assert_eq!(names_in(&back), ["file"]);
            assert_eq!(fs::read_to_string(&local).unwrap(), "old");
        }
    }
}

#[tokio::test]
async fn a_link_that_leads_to_itself_is_told_on_either_side() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let at = |name: &str| server.folder().join(name);
    fs::write(at("file"), "x").unwrap();
    std::os::unix::fs::symlink("loop", at("loop")).unwrap();
    let outcomes = [
        upload(&client, &at("loop"), text(&at("new"))).await,
        download(&client, text(&at("file")), &at("loop")).await,
    ];
    for outcome in outcomes {
        match outcome {
            Err(SshError::Local { act, path, source }) => assert_eq!(
                (act, path, source.raw_os_error()),
                ("look at", at("loop"), Some(40))
            ),
            other => panic!("{other:?}"),
        }
    }
    let error = download(&client, text(&at("loop")), &at("new")).await;
    assert!(
        matches!(&error, Err(SshError::RemoteMissing { path }) if path == text(&at("loop"))),
        "{error:?}"
    );
    assert!(at("loop").is_symlink() && !at("new").exists());
    // To the guest it leads to nothing, and is replaced itself.
    upload(&client, &at("file"), text(&at("loop")))
        .await
        .unwrap();
    assert!(!at("loop").is_symlink());
    assert_eq!(fs::read_to_string(at("loop")).unwrap(), "x");
}

#[tokio::test]
async fn tells_that_it_goes_on_while_the_guest_compares() {
    // Its `sha256sum` takes its time.
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    fs::write(
        &gate,
        "case \"$SSH_ORIGINAL_COMMAND\" in internal-sftp) exec /usr/lib/openssh/sftp-server ;; *sha256sum*) sleep 2.5 \
         ;; esac\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
    )
    .unwrap();
    let server = Sshd::start_with(&format!("ForceCommand /bin/sh {}", gate.display()));
    let client = Client::new(server.target());
    let at = |name: &str| server.folder().join(name);
    let never = CancellationToken::new();
    fs::create_dir(at("tree")).unwrap();
    for name in ["file", "tree/file"] {
        fs::write(at(name), "12345").unwrap();
    }
    let told = Mutex::new(0);
    let tell = |done, total| {
        assert_eq!((done, total), (5, 5));
        *told.lock().unwrap() += 1;
    };
    let count = || std::mem::take(&mut *told.lock().unwrap());
    let (manner, all) = (Manner::default(), || Arc::new(|_: &Path| true));
    let (file, up, down) = (at("file"), at("up"), at("down"));
    let up = client.upload(&file, text(&up), manner, &never, tell);
    assert_eq!(up.await.unwrap().verified, Verified::Sha256);
    assert!(count() >= 3, "once of the bytes, then each second");
    let down = client.download(text(&file), &down, manner, &never, tell);
    assert_eq!(down.await.unwrap().verified, Verified::Sha256);
    assert!(count() >= 3);
    let (from, there, here) = (at("tree"), at("trees/up"), at("trees/down"));
    fs::create_dir(at("trees")).unwrap();
    let up = client.upload_tree(&from, text(&there), manner, all(), &never, tell);
    assert_eq!(up.await.unwrap().files, 1);
    assert!(count() >= 3);
    let down = client.download_tree(text(&from), &here, manner, all(), &never, tell);
    assert_eq!(down.await.unwrap().files, 1);
    assert!(count() >= 3);
}
