//! Transfers that are interrupted and taken up again.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use virtpilot::ssh::{Client, Manner, SshError, Target, Transfer, Verified};

use crate::{
    bytes, names_in,
    relay::Relay,
    sshd::{self, Sshd},
    text,
};

const SIZE: usize = 24 << 20;
const RESUMING: Manner = Manner {
    overwrite: true,
    resume: true,
    verify: true,
};

#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

/// A server with a large file on this side, and a small old one on the other.
struct Setting {
    server: Sshd,
    from: PathBuf,
    folder: PathBuf,
    to: PathBuf,
    partial: PathBuf,
}

impl Setting {
    fn new() -> Self {
        Self::on(Sshd::start())
    }

    fn on(server: Sshd) -> Self {
        let folder = server.folder().join("target");
        fs::create_dir(&folder).unwrap();
        let from = server.folder().join("from");
        fs::write(&from, bytes(SIZE)).unwrap();
        let to = folder.join("file");
        fs::write(&to, "old").unwrap();
        Self {
            from,
            to,
            partial: folder.join(".file.virtpilot.part"),
            folder,
            server,
        }
    }

    async fn go(
        &self,
        way: Way,
        client: &Client,
        cancel: &CancellationToken,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Transfer, SshError> {
        match way {
            Way::Up => {
                client
                    .upload(&self.from, text(&self.to), RESUMING, cancel, progress)
                    .await
            }
            Way::Down => {
                client
                    .download(text(&self.from), &self.to, RESUMING, cancel, progress)
                    .await
            }
        }
    }

    /// A transfer that is cancelled on its way.
    async fn interrupt(&self, way: Way, client: &Client) -> SshError {
        let cancel = CancellationToken::new();
        let stop = |done, _| {
            if done > 2 << 20 {
                cancel.cancel();
            }
        };
        self.go(way, client, &cancel, stop).await.unwrap_err()
    }

    fn assert_old(&self) {
        assert_eq!(fs::read_to_string(&self.to).unwrap(), "old");
        assert_eq!(names_in(&self.folder), [".file.virtpilot.part", "file"]);
    }

    fn assert_done(&self, content: &[u8]) {
        assert!(fs::read(&self.to).unwrap() == content);
        assert_eq!(names_in(&self.folder), ["file"]);
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A server whose user has to keep to the modes of files, root too; before it gives a checksum it runs a line of shell,
/// in the folder that is given back.
pub(crate) fn bound_by_modes(before_sums: &str) -> (Sshd, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let lines = format!(
        "case \"$SSH_ORIGINAL_COMMAND\" in\ninternal-sftp) exec /usr/lib/openssh/sftp-server ;;\n\
         *sha256sum*) (cd {} && {before_sums}) ;;\nesac\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        folder.path().display()
    );
    fs::write(&gate, lines).unwrap();
    let bound = if sshd::whoami() == "root" {
        "setpriv --bounding-set=-dac_override,-dac_read_search "
    } else {
        ""
    };
    let forced = format!("ForceCommand {bound}/bin/sh {}", gate.display());
    (Sshd::start_with(&forced), folder)
}

#[tokio::test]
async fn goes_on_from_where_it_was_cancelled() {
    for way in [Way::Up, Way::Down] {
        let setting = Setting::new();
        let client = Client::new(setting.server.target());
        fs::set_permissions(&setting.to, fs::Permissions::from_mode(0o640)).unwrap();
        let error = setting.interrupt(way, &client).await;
        match &error {
            SshError::Interrupted { partial, source } => {
                assert_eq!(partial, text(&setting.partial));
                assert!(
                    matches!(**source, SshError::TransferCancelled),
                    "{source:?}"
                );
            }
            other => panic!("{way:?}: {other:?}"),
        }
        assert_eq!(
            error.hint(),
            "Call again with `resume` to go on from there; the target is as it was."
        );
        setting.assert_old();
        let there = length(&setting.partial);
        assert!(there > 0 && there < SIZE as u64, "{there}");

        let (first, last) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        let never = CancellationToken::new();
        let note = |done, total| {
            assert_eq!(total, SIZE as u64);
            let before = last.swap(done, Ordering::Relaxed);
            assert!(done >= before, "{done} after {before}");
            first.fetch_min(done, Ordering::Relaxed);
        };
        let done = setting.go(way, &client, &never, note).await.unwrap();
        assert_eq!((done.resumed, done.bytes), (there, SIZE as u64), "{way:?}");
        assert_eq!(done.verified, Verified::Sha256);
        assert!(first.into_inner() >= there, "only the rest is moved");
        assert_eq!(last.into_inner(), SIZE as u64);
        setting.assert_done(&bytes(SIZE));
        let mode = fs::metadata(&setting.to).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}

#[tokio::test]
async fn starts_over_where_the_source_changed_or_the_part_is_none_of_it() {
    for way in [Way::Up, Way::Down] {
        for case in ["changed", "longer", "other", "link", "theirs"] {
            if case == "theirs" && sshd::whoami() != "root" {
                continue;
            }
            let setting = Setting::new();
            let client = Client::new(setting.server.target());
            let victim = setting.server.folder().join("victim");
            fs::write(&victim, bytes(1000)).unwrap();
            let mut content = bytes(SIZE);
            if case != "changed" {
                content.truncate(1 << 20);
                fs::write(&setting.from, &content).unwrap();
            }
            match case {
                "changed" => {
                    setting.interrupt(way, &client).await;
                    content[1000] ^= 1;
                    fs::write(&setting.from, &content).unwrap();
                }
                "longer" => fs::write(&setting.partial, bytes(2 << 20)).unwrap(),
                "other" => fs::write(&setting.partial, "something else").unwrap(),
                // A beginning of the file, by somebody who could go on writing to it.
                "theirs" => {
                    fs::write(&setting.partial, bytes(1 << 19)).unwrap();
                    std::os::unix::fs::chown(&setting.partial, Some(1), Some(1)).unwrap();
                }
                _ => std::os::unix::fs::symlink(&victim, &setting.partial).unwrap(),
            }
            let never = CancellationToken::new();
            let done = setting.go(way, &client, &never, |_, _| {}).await;
            if matches!(case, "link" | "theirs") && matches!(way, Way::Down) {
                // Whoever put it there may mean harm.
                assert!(matches!(done, Err(SshError::Local { .. })), "{done:?}");
                assert_eq!(fs::read_to_string(&setting.to).unwrap(), "old");
            } else {
                assert_eq!(done.unwrap().resumed, 0, "{way:?} {case}");
                setting.assert_done(&content);
            }
            assert!(fs::read(&victim).unwrap() == bytes(1000), "{case}");
        }
    }
}

#[tokio::test]
async fn goes_on_over_a_new_connection_when_one_is_cut_half_way() {
    for way in [Way::Up, Way::Down] {
        let setting = Setting::new();
        let relay = Relay::to(setting.server.port()).await;
        let client = Client::new(Target {
            port: relay.port(),
            ..setting.server.target()
        });
        let half_way = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&half_way);
        let never = CancellationToken::new();
        let progress = move |done, total| {
            if done > total / 2 {
                notify.notify_one();
            }
        };
        let (result, ()) = tokio::join!(setting.go(way, &client, &never, progress), async {
            half_way.notified().await;
            relay.cut().await;
        });
        match result {
            Err(SshError::Interrupted { source, .. }) => assert!(
                matches!(*source, SshError::TransferLost { .. }),
                "{source:?}"
            ),
            other => panic!("{way:?}: {other:?}"),
        }
        setting.assert_old();
        let done = setting.go(way, &client, &never, |_, _| {}).await.unwrap();
        assert!(done.resumed >= SIZE as u64 / 4, "{way:?}: {}", done.resumed);
        setting.assert_done(&bytes(SIZE));
    }
}

#[tokio::test]
async fn two_transfers_to_one_target_do_not_meet() {
    for way in [Way::Up, Way::Down] {
        let setting = Setting::new();
        let client = Client::new(setting.server.target());
        let begun = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&begun);
        let cancel = CancellationToken::new();
        let progress = move |_, _| notify.notify_one();
        let never = CancellationToken::new();
        let (first, second) = tokio::join!(setting.go(way, &client, &cancel, progress), async {
            begun.notified().await;
            let second = setting.go(way, &client, &never, |_, _| {}).await;
            cancel.cancel();
            second
        });
        // The first may have come to its end before the second was refused, and then it had its turn.
        match second {
            Err(SshError::TransferBusy { path }) => {
                assert_eq!(path, text(&setting.to));
                assert!(first.is_ok() || setting.partial.exists());
            }
            Ok(_) => assert!(first.is_ok(), "{first:?}"),
            other => panic!("{way:?}: {other:?}"),
        }
        setting.go(way, &client, &never, |_, _| {}).await.unwrap();
        setting.assert_done(&bytes(SIZE));
    }
}

#[tokio::test]
async fn a_file_that_is_to_be_read_only_is_gone_on_from_after_a_cancel_while_it_is_compared() {
    for way in [Way::Up, Way::Down] {
        // The first checksum does not come.
        let (server, waiting) = bound_by_modes("if mkdir first 2> /dev/null; then sleep 20; fi");
        let setting = Setting::on(server);
        let client = Client::new(setting.server.target());
        let then = UNIX_EPOCH + Duration::from_secs(1_000_000_001);
        let from = fs::File::options().write(true).open(&setting.from);
        from.unwrap().set_modified(then).unwrap();
        for file in [&setting.from, &setting.to] {
            set_mode(file, 0o444);
        }
        let cancel = CancellationToken::new();
        let first = waiting.path().join("first");
        let (stopped, ()) = tokio::join!(setting.go(way, &client, &cancel, |_, _| {}), async {
            while !first.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        });
        assert!(
            matches!(
                &stopped,
                Err(SshError::Interrupted { source, .. })
                    if matches!(**source, SshError::TransferCancelled)
            ),
            "{way:?}: {stopped:?}"
        );
        setting.assert_old();
        let part = mode(&setting.partial);

        let never = CancellationToken::new();
        let done = setting.go(way, &client, &never, |_, _| {}).await.unwrap();
        assert_eq!(
            (done.resumed, done.verified),
            (SIZE as u64, Verified::Sha256),
            "{way:?}"
        );
        // Root on this side could open any.
        assert_eq!(part, 0o600, "{way:?}");
        setting.assert_done(&bytes(SIZE));
        let done = fs::metadata(&setting.to).unwrap();
        assert_eq!(
            (mode(&setting.to), done.modified().unwrap()),
            (0o444, then),
            "{way:?}"
        );
    }
}

#[tokio::test]
async fn a_part_on_the_guest_that_is_read_only_already_is_gone_on_from() {
    let (server, _gate) = bound_by_modes("true");
    let setting = Setting::on(server);
    let client = Client::new(setting.server.target());
    // As a connection leaves it that is cut right before the rename.
    fs::write(&setting.partial, bytes(SIZE)).unwrap();
    for file in [&setting.partial, &setting.to] {
        set_mode(file, 0o444);
    }
    let never = CancellationToken::new();
    let done = setting.go(Way::Up, &client, &never, |_, _| {}).await;
    assert_eq!(done.unwrap().resumed, SIZE as u64);
    setting.assert_done(&bytes(SIZE));
    assert_eq!(mode(&setting.to), 0o444);
}

#[tokio::test]
async fn a_file_that_cannot_get_its_name_here_leaves_a_part_to_go_on_from() {
    let setting = Setting::new();
    let client = Client::new(setting.server.target());
    set_mode(&setting.from, 0o444);
    fs::remove_file(&setting.to).unwrap();
    // A folder takes its place meanwhile.
    let come = |done, total| {
        if done == total && !setting.to.exists() {
            fs::create_dir(&setting.to).unwrap();
        }
    };
    let never = CancellationToken::new();
    let stopped = setting.go(Way::Down, &client, &never, come).await;
    assert!(
        matches!(&stopped, Err(SshError::Interrupted { .. })),
        "{stopped:?}"
    );
    assert_eq!(mode(&setting.partial) & 0o600, 0o600);
    fs::remove_dir(&setting.to).unwrap();
    let done = setting.go(Way::Down, &client, &never, |_, _| {}).await;
    assert_eq!(done.unwrap().resumed, SIZE as u64);
    assert_eq!(mode(&setting.to), 0o444);
}
