use std::{error::Error, fs, os::unix::fs::PermissionsExt, path::Path, time::Instant};

use tempfile::TempDir;

use super::*;

/// Found nowhere by chance.
const TEXT: &str = "Zq7 \"$HOME\" ü";

fn secrets(source: SecretSource) -> Secrets {
    Secrets::new(BTreeMap::from([("sudo".to_owned(), source)]), vec![])
}

async fn read(source: SecretSource) -> Result<String, SecretError> {
    let secret = secrets(source)
        .read("sudo", &CancellationToken::new())
        .await?;
    Ok(secret.expose().to_owned())
}

fn file(folder: &TempDir, content: &[u8]) -> SecretSource {
    let path = folder.path().join("secret");
    let _ = fs::remove_file(&path);
    fs::write(&path, content).unwrap();
    set_mode(&path, 0o600);
    SecretSource::File(path)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn command(words: &[&str]) -> SecretSource {
    SecretSource::Command {
        program: words[0].to_owned(),
        arguments: words[1..].iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn shell(line: &str) -> SecretSource {
    command(&["sh", "-c", line])
}

/// All that an error could tell, its causes and its `Debug` included.
fn told(error: &SecretError) -> String {
    let cause = error.source().map(ToString::to_string);
    format!("{error} {cause:?} {} {error:?}", error.hint())
}

#[tokio::test]
async fn every_source_gives_its_text() {
    let folder = TempDir::new().unwrap();
    // What cargo sets for tests.
    let variable = SecretSource::Env("CARGO_PKG_NAME".into());
    assert_eq!(read(variable).await.unwrap(), "virtpilot");
    assert_eq!(
        read(file(&folder, TEXT.as_bytes())).await.unwrap(),
        TEXT,
        "a file"
    );
    // Without a shell: nothing in it is expanded.
    assert_eq!(
        read(command(&["printf", "%s\n", TEXT])).await.unwrap(),
        TEXT,
        "a command"
    );
}

#[tokio::test]
async fn one_trailing_line_break_is_no_part_of_it() {
    let folder = TempDir::new().unwrap();
    let cases = [
        ("a", "a"),
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        ("a\nb\n", "a\nb"),
        (" a ", " a "),
        ("\na", "\na"),
    ];
    for (content, text) in cases {
        let got = read(file(&folder, content.as_bytes())).await.unwrap();
        assert_eq!(got, text, "{content:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_in_the_same_words() {
    let folder = TempDir::new().unwrap();
    let long = vec![b'Z'; 65_537];
    let sources = [
        file(&folder, b""),
        shell("printf '\\n'"),
        shell("printf 'Zq7\\377'"),
        shell("true"),
        // It ends no sooner than that it is ended.
        command(&["yes", "Zq7"]),
    ];
    for source in sources {
        let error = read(source.clone()).await.unwrap_err();
        assert!(matches!(error, SecretError::Unusable(_)), "{source:?}");
        assert!(!told(&error).contains('Z'), "{}", told(&error));
    }
    let error = read(file(&folder, &long)).await.unwrap_err();
    assert!(matches!(error, SecretError::Unusable(_)), "{error}");
    assert_eq!(
        read(file(&folder, &long[1..])).await.unwrap().len(),
        65_536,
        "the most that there may be"
    );
}

#[tokio::test]
async fn a_file_that_others_can_use_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
        let source = file(&folder, TEXT.as_bytes());
        set_mode(&path, mode);
        let error = read(source).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the file {} of the secret `sudo` is open to others than its owner (mode {mode:04o})",
                path.display()
            )
        );
        assert_eq!(
            error.hint(),
            format!("Close it: `chmod 600 {}`.", path.display())
        );
    }
    let source = file(&folder, TEXT.as_bytes());
    set_mode(&path, 0o400);
    assert_eq!(read(source.clone()).await.unwrap(), TEXT);
    // The mode of a link means nothing, that of its target all.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let link = SecretSource::File(link);
    assert_eq!(read(link.clone()).await.unwrap(), TEXT);
    set_mode(&path, 0o444);
    let error = read(link).await.unwrap_err();
    assert!(matches!(error, SecretError::OpenToOthers { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_file_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
        let error = read(SecretSource::File(path.to_owned())).await.unwrap_err();
        assert!(
            matches!(error, SecretError::NoFile { .. }),
            "{path:?}: {error}"
        );
    }
    let missing = SecretSource::File(folder.path().join("missing"));
    let error = read(missing).await.unwrap_err();
    assert!(matches!(error, SecretError::ReadFile { .. }), "{error}");
}

#[tokio::test]
async fn a_command_that_fails_is_told_by_its_status_alone() {
    let error = read(shell("echo Zq7; echo Zq7 >&2; exit 3"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the command \"sh\" of the secret `sudo` failed: exit status: 3"
    );
    assert!(!told(&error).contains("Zq7"), "{}", told(&error));
    let error = read(shell("echo Zq7; kill -TERM $$")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the command \"sh\" of the secret `sudo` failed: signal: 15 (SIGTERM)"
    );
    let error = read(command(&["/nonexistent/pass", "Zq7"]))
        .await
        .unwrap_err();
    assert!(matches!(error, SecretError::RunCommand { .. }), "{error}");
    assert!(!told(&error).contains("Zq7"), "{}", told(&error));
}

#[tokio::test]
async fn a_secret_without_its_source_is_named() {
    let error = read(SecretSource::Env("VIRTPILOT_NO_SUCH".into()))
        .await
        .unwrap_err();
    assert!(matches!(error, SecretError::NoVariable { .. }), "{error}");
    let secrets = secrets(command(&["true"]));
    let error = secrets.read("sodu", &CancellationToken::new()).await;
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "the configuration has no secret `sodu`");
    assert_eq!(error.hint(), "Secrets are sudo.");
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    for line in ["sleep 300", "exec >&-; sleep 300"] {
        let mut secrets = secrets(shell(line));
        secrets.limit = Duration::from_millis(300);
        let error = secrets
            .read("sudo", &CancellationToken::new())
            .await
            .unwrap_err();
        assert!(matches!(error, SecretError::Slow { .. }), "{line}: {error}");
    }
}

#[tokio::test]
async fn a_command_that_is_cancelled_ends_with_its_children() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("processes");
    // Written whole or not at all.
    let line = format!(
        "sleep 300 & echo $$ $! > {0}.new; mv {0}.new {0}; wait",
        file.display()
    );
    let secrets = std::sync::Arc::new(secrets(shell(&line)));
    let cancel = CancellationToken::new();
    let reading = {
        let (secrets, cancel) = (std::sync::Arc::clone(&secrets), cancel.clone());
        tokio::spawn(async move { secrets.read("sudo", &cancel).await })
    };
    let end = Instant::now() + Duration::from_secs(20);
    let pause = || tokio::time::sleep(Duration::from_millis(10));
    while !file.exists() {
        assert!(Instant::now() < end, "the command does not start");
        assert!(!reading.is_finished(), "the command ended");
        pause().await;
    }
    cancel.cancel();
    let error = reading.await.unwrap().unwrap_err();
    assert!(matches!(error, SecretError::Cancelled(_)), "{error}");
    let processes = fs::read_to_string(&file).unwrap();
    for process in processes.split_whitespace() {
        while is_alive(process) {
            assert!(Instant::now() < end, "{process} goes on");
            pause().await;
        }
    }
}

/// Whether there is such a process, and not only its remains.
fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    state.flatten().is_some_and(|state| state != 'Z')
}

#[tokio::test]
async fn what_is_known_is_masked_the_longest_first() {
    let folder = TempDir::new().unwrap();
    let sources = BTreeMap::from([
        ("env".to_owned(), SecretSource::Env("CARGO_PKG_NAME".into())),
        ("file".to_owned(), file(&folder, b"virtpilot-and-more\n")),
    ]);
    let secrets = Secrets::new(sources, vec![Secret::new("hunter2"), Secret::new("")]);
    let text = "virtpilot-and-more, hunter2 and virtpilot";
    assert_eq!(secrets.mask(text), "***-and-more, *** and ***");
    secrets
        .read("file", &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(secrets.mask(text), "***, *** and ***");
    assert!(!format!("{secrets:?}").contains("hunter2"));
}

#[test]
fn output_that_is_no_text_is_masked_too() {
    let secrets = Secrets::new(BTreeMap::new(), vec![Secret::new("correct horse")]);
    let masked = |output: &[u8]| secrets.mask_output(output.to_vec());
    assert_eq!(
        masked(b"\xffcorrect horse\0correct horsecorrect hors"),
        b"\xff***\0***correct hors"
    );
    assert_eq!(masked(b"correct horse"), b"***");
    assert_eq!(masked(b""), b"");
    assert_eq!(masked(b"cor"), b"cor");
}
