//! Folders to and from a real OpenSSH server.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hasher as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
    process::Command,
    sync::{Arc, Once},
    time::{Duration, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;
use virtpilot::ssh::{
    Client, Manner, Notes, Permits, SshError, Target, TreeTransfer, Unfit, Verified,
};

use crate::{bytes, names_in, relay::Relay, resuming::bound_by_modes, sshd::Sshd, text};

/// What ended a transfer before its end.
pub(crate) fn stopped_by(done: &TreeTransfer) -> &SshError {
    match &done.stopped {
        Some(SshError::OfFolder(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

const WAYS: [Way; 2] = [Way::Up, Way::Down];

fn all_permitted() -> Permits {
    Arc::new(|_| true)
}

async fn go(
    way: Way,
    client: &Client,
    from: &Path,
    to: &Path,
    manner: Manner,
) -> Result<TreeTransfer, SshError> {
    go_permitted(way, client, from, to, manner, all_permitted()).await
}

async fn go_permitted(
    way: Way,
    client: &Client,
    from: &Path,
    to: &Path,
    manner: Manner,
    permits: Permits,
) -> Result<TreeTransfer, SshError> {
    let never = CancellationToken::new();
    match way {
        Way::Up => {
            let (from, to) = (from, text(to));
            client
                .upload_tree(from, to, manner, permits, &never, |_, _| {})
                .await
        }
        Way::Down => {
            client
                .download_tree(text(from), to, manner, permits, &never, |_, _| {})
                .await
        }
    }
}

/// A tree with everything that may be moved.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("a/deep/er")).unwrap();
    fs::create_dir(root.join("a/empty")).unwrap();
    fs::create_dir(root.join("sp ace")).unwrap();
    fs::write(root.join("zero"), "").unwrap();
    fs::write(root.join("small"), "small").unwrap();
    fs::write(root.join("sp ace/it's $(id)\n;*"), "odd").unwrap();
    fs::write(root.join("a/-n"), "dash").unwrap();
    fs::write(root.join("a/deep/er/large"), bytes(3 << 20)).unwrap();
    fs::write(root.join("a/deep/limit"), bytes(255 << 10)).unwrap();
    fs::write(root.join("n".repeat(255)), "long").unwrap();
    let content = bytes(300 * 7);
    for at in 0..300 {
        fs::write(root.join(format!("a/deep/{at:03}")), &content[..at * 7]).unwrap();
    }
    fs::set_permissions(root.join("small"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(root.join("a/-n"), fs::Permissions::from_mode(0o444)).unwrap();
    symlink("a/deep/er/large", root.join("link")).unwrap();
    symlink("../small", root.join("a/up")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    // From the deepest on, for what is made in a folder changes its time.
    let mut paths: Vec<_> = snapshot(root).into_keys().collect();
    paths.push(String::new());
    for (at, path) in paths.iter().rev().enumerate() {
        let path = root.join(path);
        if !path.is_symlink() {
            let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000 + at as u64);
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
    }
    fs::set_permissions(root.join("a/empty"), fs::Permissions::from_mode(0o555)).unwrap();
}

/// Everything below a folder: kind, mode, time of change and content.
fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let told = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                let content = if metadata.is_dir() {
                    folders.push(path.clone());
                    "folder".to_owned()
                } else {
                    let content = fs::read(&path).unwrap();
                    let mut hash = DefaultHasher::new();
                    hash.write(&content);
                    format!("{} {:x}", content.len(), hash.finish())
                };
                format!(
                    "{:o} {} {content}",
                    metadata.mode() & 0o777,
                    metadata.mtime()
                )
            };
            let name = path.strip_prefix(root).unwrap();
            all.insert(name.to_string_lossy().into_owned(), told);
        }
    }
    all
}

fn told(notes: &Notes) -> Vec<String> {
    let told = notes.first.iter();
    let mut told: Vec<_> = told
        .map(|note| format!("{}: {}", note.path, note.why))
        .collect();
    told.sort();
    assert_eq!(told.len() as u64, notes.count);
    told
}

#[tokio::test]
async fn moves_a_tree_with_all_that_is_in_it() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let from = server.folder().join("from");
    make_tree(&from);
    let expected = snapshot(&from);
    for way in WAYS {
        let to = match way {
            Way::Up => server.folder().join("up"),
            Way::Down => server.folder().join("new/down"),
        };
        let done = go(way, &client, &from, &to, Manner::default())
            .await
            .unwrap();
        assert_eq!(told(&done.failed), [""; 0]);
        assert_eq!(told(&done.skipped), [""; 0]);
        assert!(done.stopped.is_none());
        let bytes: u64 = (0..300).map(|at| at * 7).sum();
        assert_eq!(
            (done.files, done.links, done.folders),
            (307, 3, 6),
            "{way:?}"
        );
        assert_eq!(done.bytes, bytes + (3 << 20) + (255 << 10) + 5 + 3 + 4 + 4);
        // A name with a newline may stand in the way of `sha256sum`.
        assert_eq!(done.unchanged, 0);
        assert_eq!(snapshot(&to), expected, "{way:?}");
        let (own, copy) = (fs::metadata(&from).unwrap(), fs::metadata(&to).unwrap());
        assert_eq!(
            (own.mode(), own.mtime()),
            (copy.mode(), copy.mtime()),
            "{way:?}"
        );
    }
}

#[tokio::test]
async fn leaves_out_what_is_no_file_or_leads_out_and_tells_it() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        fs::create_dir_all(from.join("folder")).unwrap();
        fs::write(from.join("file"), "x").unwrap();
        fs::write(from.join("secret"), "x").unwrap();
        fs::write(from.join(OsStr::from_bytes(b"one\xfc")), "x").unwrap();
        fs::write(from.join(OsStr::from_bytes(b"one\xfd")), "x").unwrap();
        // This one is text, and means what it says.
        fs::write(from.join("mark\u{fffd}"), "x").unwrap();
        symlink("/etc/hostname", from.join("absolute")).unwrap();
        symlink("../../out", from.join("folder/out")).unwrap();
        symlink(OsStr::from_bytes(b"one\xfc"), from.join("to one")).unwrap();
        let fifo = Command::new("mkfifo").arg(from.join("fifo")).status();
        assert!(fifo.unwrap().success());
        let permits: Permits = Arc::new(|path| !path.ends_with("secret"));
        let done = go_permitted(way, &client, &from, &to, Manner::default(), permits);
        let done = done.await.unwrap();
        assert_eq!(told(&done.failed), [""; 0]);
        assert_eq!(
            told(&done.skipped),
            [
                "absolute: a link that leads out of the folder",
                "fifo: no regular file",
                "folder/out: a link that leads out of the folder",
                "one\u{fffd}: its name is not UTF-8",
                "one\u{fffd}: its name is not UTF-8",
                "secret: one of the server's own files",
                "to one: a link to a name that is not UTF-8",
            ],
            "{way:?}"
        );
        assert_eq!(names_in(&to), ["file", "folder", "mark\u{fffd}"], "{way:?}");
    }
}

#[tokio::test]
async fn writes_through_no_link_and_stays_in_the_tree() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        let outside = server.folder().join("outside");
        for folder in [&from.join("folder"), &outside, &to] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(from.join("folder/file"), "new").unwrap();
        fs::write(from.join("folder/large"), bytes(2 << 20)).unwrap();
        fs::write(from.join("file"), "new").unwrap();
        fs::write(outside.join("file"), "old").unwrap();
        // Links stand where the tree has a folder and a file.
        symlink(&outside, to.join("folder")).unwrap();
        symlink(outside.join("file"), to.join("file")).unwrap();
        let done = go(way, &client, &from, &to, Manner::default())
            .await
            .unwrap();
        let place = match way {
            Way::Up => format!("`{}` on the guest", to.join("folder").display()),
            Way::Down => format!("{} on the host", to.join("folder").display()),
        };
        assert_eq!(
            told(&done.failed),
            [
                "folder/file: its folder is missing".to_owned(),
                "folder/large: its folder is missing".to_owned(),
                format!("folder: {place} is no folder"),
            ]
        );
        assert_eq!(names_in(&outside), ["file"]);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "old");
        assert!(!to.join("file").is_symlink());
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "new");
        assert_eq!(names_in(&to), ["file", "folder"]);
    }
}

#[tokio::test]
async fn merges_into_a_folder_and_replaces_only_where_it_may() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        for folder in ["both", "clash"] {
            fs::create_dir_all(from.join(folder)).unwrap();
        }
        fs::create_dir_all(to.join("both")).unwrap();
        fs::create_dir(to.join("other")).unwrap();
        fs::write(from.join("both/file"), "new").unwrap();
        fs::write(from.join("both/added"), "new").unwrap();
        fs::write(from.join("clash/file"), "new").unwrap();
        fs::write(from.join("other"), "new").unwrap();
        symlink("both", from.join("link")).unwrap();
        fs::write(to.join("both/file"), "old").unwrap();
        fs::write(to.join("both/kept"), "old").unwrap();
        fs::write(to.join("clash"), "old").unwrap();
        fs::write(to.join("link"), "old").unwrap();
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(to.join("both/file"), mode).unwrap();
        let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();

        let keeping = Manner {
            overwrite: false,
            ..Manner::default()
        };
        let done = go(way, &client, &from, &to, keeping).await.unwrap();
        assert_eq!(
            told(&done.skipped),
            ["both/file: exists already", "link: exists already"],
            "{way:?}"
        );
        assert_eq!(done.failed.count, 3, "{:?}", done.failed);
        assert_eq!(
            (read("both/file"), read("link")),
            ("old".into(), "old".into())
        );
        assert_eq!(read("both/added"), "new");

        let done = go(way, &client, &from, &to, Manner::default())
            .await
            .unwrap();
        assert_eq!(told(&done.skipped), [""; 0]);
        let failed: Vec<_> = done
            .failed
            .first
            .iter()
            .map(|note| &note.path[..])
            .collect();
        assert_eq!(failed, ["clash", "clash/file", "other"], "{way:?}");
        assert_eq!(read("both/file"), "new");
        assert_eq!(
            fs::metadata(to.join("both/file")).unwrap().mode() & 0o777,
            0o640
        );
        assert_eq!(
            (read("both/kept"), read("clash")),
            ("old".into(), "old".into())
        );
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("both"));
        assert_eq!(names_in(&to), ["both", "clash", "link", "other"]);
        assert_eq!(names_in(&to.join("both")), ["added", "file", "kept"]);
    }
}

#[tokio::test]
async fn a_second_call_moves_only_what_is_not_there_yet() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        fs::create_dir(&from).unwrap();
        for at in 0..20 {
            fs::write(from.join(format!("{at}")), bytes(at)).unwrap();
        }
        fs::write(from.join("large"), bytes(2 << 20)).unwrap();
        fs::write(from.join("same size"), "one").unwrap();
        let resuming = Manner {
            resume: true,
            ..Manner::default()
        };
        let first = go(way, &client, &from, &to, resuming).await.unwrap();
        assert_eq!((first.files, first.unchanged), (22, 0));
        fs::write(from.join("same size"), "two").unwrap();
        fs::remove_file(to.join("7")).unwrap();
        let second = go(way, &client, &from, &to, resuming).await.unwrap();
        assert_eq!((second.files, second.unchanged), (2, 20), "{way:?}");
        assert_eq!(fs::read_to_string(to.join("same size")).unwrap(), "two");
        assert!(fs::read(to.join("7")).unwrap() == bytes(7));
        assert_eq!(second.verified, Verified::Sha256);
    }
}

#[tokio::test]
async fn a_file_that_would_be_taken_for_the_part_of_another_is_left_out() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        fs::create_dir_all(from.join("a")).unwrap();
        for folder in [&from, &from.join("a")] {
            fs::write(folder.join("big"), bytes(2 << 20)).unwrap();
        }
        let part = ".big.virtpilot.part";
        fs::write(from.join(part), "precious").unwrap();
        symlink("big", from.join("a").join(part)).unwrap();
        // There is no `other` beside it.
        fs::write(from.join(".other.virtpilot.part"), "kept").unwrap();
        let resuming = Manner {
            resume: true,
            ..Manner::default()
        };
        let done = go(way, &client, &from, &to, resuming).await.unwrap();
        assert_eq!(
            told(&done.skipped),
            [
                ".big.virtpilot.part: the part of an interrupted transfer",
                "a/.big.virtpilot.part: the part of an interrupted transfer",
            ],
            "{way:?}"
        );
        assert_eq!((done.files, done.links, done.failed.count), (3, 0, 0));
        assert_eq!(names_in(&to), [".other.virtpilot.part", "a", "big"]);
        assert_eq!(names_in(&to.join("a")), ["big"]);
        let whole = go(way, &client, &from, &to, Manner::default());
        let whole = whole.await.unwrap();
        assert_eq!((whole.files, whole.links, whole.skipped.count), (4, 1, 0));
        assert_eq!(fs::read_to_string(to.join(part)).unwrap(), "precious");
    }
}

#[tokio::test]
async fn files_that_their_owner_may_not_read_on_the_guest_are_verified_all_the_same() {
    let (server, _gate) = bound_by_modes("true");
    let client = Client::new(server.target());
    let (from, to) = (server.folder().join("from"), server.folder().join("to"));
    let files = [("small", 7), ("large", 2 << 20)];
    for folder in [&from, &to] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(from.join("readable"), "x").unwrap();
    for (name, length) in files {
        fs::write(from.join(name), bytes(length)).unwrap();
        fs::write(to.join(name), "old").unwrap();
        fs::set_permissions(to.join(name), fs::Permissions::from_mode(0o200)).unwrap();
    }
    let done = go(Way::Up, &client, &from, &to, Manner::default())
        .await
        .unwrap();
    assert_eq!(told(&done.failed), [""; 0]);
    assert_eq!((done.files, done.verified), (3, Verified::Sha256));
    assert_eq!(names_in(&to), ["large", "readable", "small"]);
    for (name, length) in files {
        let path = to.join(name);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o200);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(fs::read(&path).unwrap() == bytes(length), "{name}");
    }
}

#[tokio::test]
async fn tells_why_a_tree_cannot_be_moved() {
    let server = Sshd::start();
    let client = Client::new(server.target());
    let at = |name: &str| server.folder().join(name);
    fs::write(at("file"), "x").unwrap();
    fs::create_dir(at("folder")).unwrap();
    for way in WAYS {
        let from_file = go(way, &client, &at("file"), &at("new"), Manner::default()).await;
        let onto_file = go(way, &client, &at("folder"), &at("file"), Manner::default()).await;
        for outcome in [from_file, onto_file] {
            assert!(
                matches!(
                    outcome,
                    Err(SshError::LocalUnfit {
                        what: Unfit::NoFolder,
                        ..
                    } | SshError::RemoteUnfit {
                        what: Unfit::NoFolder,
                        ..
                    })
                ),
                "{way:?}: {outcome:?}"
            );
        }
        let missing = go(way, &client, &at("missing"), &at("new"), Manner::default()).await;
        assert!(
            matches!(
                missing,
                Err(SshError::LocalMissing { .. } | SshError::RemoteMissing { .. })
            ),
            "{way:?}: {missing:?}"
        );
    }
    let nowhere = at("missing/below");
    let error = go(Way::Up, &client, &at("folder"), &nowhere, Manner::default()).await;
    let expected = format!(
        "Make it with `mkdir -p '{}'` on the guest.",
        at("missing").display()
    );
    assert_eq!(error.unwrap_err().hint(), expected);
    assert!(!at("new").exists());
}

/// Stops when so many bytes have moved, by what is given.
async fn stopped(
    way: Way,
    client: &Client,
    (from, to): (&Path, &Path),
    manner: Manner,
    cancel: &CancellationToken,
    stop: impl Fn() + Send + Sync,
) -> TreeTransfer {
    let progress = |done, total| {
        if done > total / 2 {
            stop();
        }
    };
    let outcome = match way {
        Way::Up => {
            client
                .upload_tree(from, text(to), manner, all_permitted(), cancel, progress)
                .await
        }
        Way::Down => {
            client
                .download_tree(text(from), to, manner, all_permitted(), cancel, progress)
                .await
        }
    };
    outcome.unwrap()
}

#[tokio::test]
async fn a_tree_that_is_interrupted_leaves_whole_files_alone() {
    for way in WAYS {
        let server = Sshd::start();
        let relay = Relay::to(server.port()).await;
        let client = Client::new(Target {
            port: relay.port(),
            ..server.target()
        });
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        fs::create_dir(&from).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).unwrap();
        let content = bytes(20_000);
        for at in 0..600 {
            fs::write(from.join(format!("{at:03}")), &content).unwrap();
        }
        let mode = || fs::metadata(&to).unwrap().mode() & 0o777;
        let check = |done: &TreeTransfer| {
            assert!(done.files < 600, "{}", done.files);
            let names = names_in(&to);
            // Of the last ones the guest's answer may have been lost.
            assert!(
                names.len() as u64 >= done.files && names.len() < 600,
                "{names:?}"
            );
            for name in names {
                assert_eq!(name.len(), 3, "{name} is left");
                assert!(fs::read(to.join(&name)).unwrap() == content, "{name}");
            }
        };
        let cancel = CancellationToken::new();
        let stop = || {
            if matches!(way, Way::Down) {
                assert_eq!(mode(), 0o700, "nobody else looks in before it is done");
            }
            cancel.cancel();
        };
        let done = stopped(way, &client, (&from, &to), Manner::default(), &cancel, stop).await;
        assert_eq!(mode(), 0o755, "{way:?}");
        assert!(
            matches!(stopped_by(&done), SshError::TransferCancelled),
            "{:?}",
            done.stopped
        );
        check(&done);
        fs::remove_dir_all(&to).unwrap();

        let half_way = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&half_way);
        let never = CancellationToken::new();
        let ends = (&*from, &*to);
        let stop = move || notify.notify_one();
        let (done, ()) = tokio::join!(
            stopped(way, &client, ends, Manner::default(), &never, stop),
            async {
                half_way.notified().await;
                relay.cut().await;
            }
        );
        assert!(
            matches!(stopped_by(&done), SshError::TransferLost { .. }),
            "{way:?}: {:?}",
            done.stopped
        );
        check(&done);
        let whole = go(way, &client, &from, &to, Manner::default())
            .await
            .unwrap();
        assert_eq!(whole.files, 600);
    }
}

#[tokio::test]
async fn folders_of_an_interrupted_tree_get_their_modes_and_times_from_the_call_that_goes_on() {
    for way in WAYS {
        let (server, _gate) = bound_by_modes("true");
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        fs::create_dir_all(from.join("closed/deep")).unwrap();
        for at in 0..600 {
            fs::write(from.join(format!("closed/{at:03}")), bytes(20_000)).unwrap();
        }
        for (at, (folder, mode)) in [("closed/deep", 0o750), ("closed", 0o555), ("", 0o755)]
            .into_iter()
            .enumerate()
        {
            let folder = from.join(folder);
            let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000 + at as u64);
            fs::File::open(&folder).unwrap().set_modified(time).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        }
        let resuming = Manner {
            resume: true,
            ..Manner::default()
        };
        let cancel = CancellationToken::new();
        let ends = (&*from, &*to);
        let done = stopped(way, &client, ends, resuming, &cancel, || cancel.cancel()).await;
        assert!(
            matches!(stopped_by(&done), SshError::TransferCancelled),
            "{way:?}: {:?}",
            done.stopped
        );
        let left = fs::metadata(to.join("closed")).unwrap().mode() & 0o777;
        assert_eq!(left, 0o755, "{way:?}: its owner goes on there");

        let done = go(way, &client, &from, &to, resuming).await.unwrap();
        assert_eq!(told(&done.failed), [""; 0], "{way:?}");
        assert!(done.unchanged > 0 && done.files > 0, "{way:?}: {done:?}");
        let [own, copy] = [&from, &to].map(|root| {
            let all = snapshot(root).into_iter();
            all.partition::<BTreeMap<_, _>, _>(|(_, told)| told.ends_with("folder"))
        });
        assert_eq!(copy.0, own.0, "{way:?}");
        assert!(copy.1 == own.1, "{way:?}");
        let (own, copy) = (fs::metadata(&from).unwrap(), fs::metadata(&to).unwrap());
        assert_eq!((own.mode(), own.mtime()), (copy.mode(), copy.mtime()));
        for folder in [&from, &to] {
            // To be removed by whoever runs this.
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder.join("closed"), open).unwrap();
        }
    }
}

#[tokio::test]
async fn folders_that_no_interrupted_call_can_have_made_keep_their_modes() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        // Each with its mode there, here, and after a call with `resume`.
        let folders = [
            ("", 0o755, 0o700, 0o700),
            ("private", 0o750, 0o700, 0o700),
            ("shared", 0o755, 0o1777, 0o1777),
            ("wider", 0o750, 0o755, 0o755),
            // As one is that such a call has made.
            ("made", 0o555, 0o755, 0o555),
        ];
        for (name, there, here, _) in folders {
            for (root, mode) in [(&from, there), (&to, here)] {
                fs::create_dir(root.join(name)).unwrap();
                fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::write(from.join("file"), "x").unwrap();
        let modes = || folders.map(|it| fs::metadata(to.join(it.0)).unwrap().mode() & 0o7777);
        for resume in [false, true] {
            let manner = Manner {
                resume,
                ..Manner::default()
            };
            go(way, &client, &from, &to, manner).await.unwrap();
            let expected = folders.map(|(_, _, here, then)| if resume { then } else { here });
            assert_eq!(modes(), expected, "{way:?} {resume}");
        }
    }
}

#[tokio::test]
async fn a_folder_that_something_failed_in_stays_open_for_the_next_call() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        fs::create_dir_all(from.join("closed")).unwrap();
        fs::write(from.join("closed/file"), "x").unwrap();
        fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
        let obstacle = to.join("closed/file");
        fs::create_dir_all(&obstacle).unwrap();
        fs::set_permissions(to.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
        let mode = || fs::metadata(to.join("closed")).unwrap().mode() & 0o777;
        let resuming = Manner {
            resume: true,
            ..Manner::default()
        };
        let done = go(way, &client, &from, &to, resuming).await.unwrap();
        assert_eq!((done.failed.count, mode()), (1, 0o755), "{way:?}");
        fs::remove_dir(&obstacle).unwrap();
        let done = go(way, &client, &from, &to, resuming).await.unwrap();
        assert_eq!((done.failed.count, mode()), (0, 0o555), "{way:?}");
    }
}

/// The processes that serve a server's channels: those which have none below them.
fn leaves_of(process: u32) -> Vec<u32> {
    let below = Command::new("pgrep")
        .args(["--parent", &process.to_string()])
        .output()
        .unwrap();
    let below = String::from_utf8(below.stdout).unwrap();
    let below: Vec<u32> = below.lines().map(|line| line.parse().unwrap()).collect();
    if below.is_empty() {
        return vec![process];
    }
    below.into_iter().flat_map(leaves_of).collect()
}

#[tokio::test]
async fn a_tree_whose_channel_dies_stops_at_once_and_tells_why() {
    for way in WAYS {
        let server = Sshd::start();
        let client = Client::new(server.target());
        let (from, to) = (server.folder().join("from"), server.folder().join("to"));
        fs::create_dir(&from).unwrap();
        for at in 0..600 {
            fs::write(from.join(format!("{at:03}")), bytes(20_000)).unwrap();
        }
        let killed = Once::new();
        let kill = || {
            killed.call_once(|| {
                for process in leaves_of(server.process()) {
                    let process = process.to_string();
                    let killed = Command::new("kill").args(["-KILL", &process]).status();
                    assert!(killed.unwrap().success());
                }
            });
        };
        let never = CancellationToken::new();
        let done = stopped(way, &client, (&from, &to), Manner::default(), &never, kill).await;
        assert!(
            matches!(stopped_by(&done), SshError::TransferLost { .. }),
            "{way:?}: {:?}",
            done.stopped
        );
        assert_eq!(told(&done.failed), [""; 0], "{way:?}");
        assert!(names_in(&to).iter().all(|name| name.len() == 3));
        // The connection itself lives on.
        let whole = go(way, &client, &from, &to, Manner::default()).await;
        assert_eq!(whole.unwrap().files, 600);
    }
}
