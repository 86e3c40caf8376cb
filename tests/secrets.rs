//! Secrets of the configuration are typed, and told to nobody: through the server, as far as the
//! hypervisor.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/stage.rs"]
mod stage;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fake::Trouble;
use serde_json::{Value, json};
use stage::Stage;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use virtpilot::{perform::Progress, tools::Reply};

/// Found nowhere by chance; every character of it is typed with the layout `us`.
const TEXT: &str = "Zq7 $(x)";

fn write(folder: &TempDir, content: &str, mode: u32) -> PathBuf {
    let path = folder.path().join("secret");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// A server that knows the secret `sudo` from a file of this text.
fn with_file(content: &str) -> (TempDir, Stage) {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, content, 0o600);
    (folder, Stage::with(&[], &from_file(&path)))
}

fn from_file(path: &Path) -> String {
    format!("[secret.sudo]\nfile = '{}'\n", path.display())
}

fn from_command(line: &str) -> String {
    format!("[secret.sudo]\ncommand = ['sh', '-c', '''{line}''']\n")
}

fn sudo() -> Value {
    json!({"secret": "sudo"})
}

/// The codes of the keys that went down, in their order.
fn pressed(stage: &Stage) -> Vec<String> {
    let calls = stage.fake.events();
    let chords = calls.iter().filter_map(|call| call.strip_prefix("keys "));
    let codes = chords.flat_map(|chord| chord.split('+'));
    codes.map(str::to_owned).collect()
}

fn assert_untold(reply: &Reply) {
    let told = format!("{reply:?}");
    assert!(!told.contains("Zq7"), "{told}");
}

#[tokio::test]
async fn every_source_is_typed_as_a_text_is() {
    let plain = Stage::set();
    let reply = plain.call("type_text", json!({"text": TEXT})).await;
    assert_eq!(reply.text, "Typed 8 characters.");
    let keys = plain.fake.events();
    // Shift goes down for Z, for $ and ( together, and for ).
    assert_eq!(pressed(&plain).len(), TEXT.len() + 3);

    let folder = TempDir::new().unwrap();
    let path = write(&folder, &format!("{TEXT}\n"), 0o600);
    for config in [
        from_file(&path),
        from_command(&format!("echo \"{}\"", TEXT.replace('$', "\\$"))),
    ] {
        let stage = Stage::with(&[], &config);
        let reply = stage.call("type_text", sudo()).await;
        assert_eq!(reply.text, "Typed the secret `sudo`.");
        assert_eq!(stage.fake.events(), keys);
        assert_untold(&reply);
    }
}

#[tokio::test]
async fn what_comes_back_of_a_secret_is_masked() {
    let (_folder, stage) = with_file(TEXT);
    let named = |key: &str| json!({"keys": [key]});
    let reply = stage.call("press_keys", named(TEXT)).await;
    assert!(reply.text.contains(TEXT), "nobody has read it yet");
    stage.call("type_text", sudo()).await;
    let reply = stage.call("press_keys", named(TEXT)).await;
    assert_untold(&reply);
    assert!(reply.text.contains("`***`"), "{}", reply.text);
}

#[tokio::test]
async fn a_secret_is_read_each_time_anew_and_once_for_a_batch() {
    let folder = TempDir::new().unwrap();
    let count = folder.path().join("count");
    let line = format!("echo a >> {0}; printf Zq7; wc -l < {0}", count.display());
    let stage = Stage::with(&[], &from_command(&line));
    stage.call("type_text", sudo()).await;
    let step = json!({"action": "type_text", "secret": "sudo"});
    let press = json!({"action": "press_keys", "keys": ["Tab"]});
    let batch = json!({"actions": [step, press, step]});
    let reply = stage.call("run_actions", batch).await;
    assert_eq!(
        reply.text,
        "3 of 3 actions were done.\n\
         1. type_text: done. Typed the secret `sudo`.\n\
         2. press_keys: done. Pressed Tab.\n\
         3. type_text: done. Typed the secret `sudo`."
    );
    assert_untold(&reply);
    // Shift and Z, q, 7, and the number of the reading; Tab.
    let (first, second) = (["42", "44", "16", "8", "2"], ["42", "44", "16", "8", "3"]);
    let expected = [&first[..], &second[..], &["15"], &second[..]].concat();
    assert_eq!(pressed(&stage), expected);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_before_the_first_key() {
    let (_folder, stage) = with_file(TEXT);
    let cases = [
        (
            json!({"secret": "sodu"}),
            "The configuration has no secret `sodu`.\nNext: Secrets are sudo.",
        ),
        (
            json!({}),
            "The parameter `text` is missing, and no `secret` is named instead.\n\
             Next: Correct the value and call again; nothing was done.",
        ),
        (
            json!({"secret": "sudo", "text": "a"}),
            "`text` and `secret` exclude each other.\n\
             Next: Correct the value and call again; nothing was done.",
        ),
        (
            json!({"secret": 7}),
            "`secret` must be a string, and is a number.\n\
             Next: Correct the value and call again; nothing was done.",
        ),
    ];
    for (arguments, text) in cases {
        assert_eq!(stage.refused("type_text", arguments.clone()).await, text);
        let mut step = arguments;
        step["action"] = json!("type_text");
        let press = json!({"action": "press_keys", "keys": ["a"]});
        let batch = json!({"actions": [press, step]});
        let refused = stage.refused("run_actions", batch).await;
        let (what, rest) = text.split_at(1);
        let expected = format!(
            "Action 2 is refused, and nothing was done: {}{rest}",
            what.to_lowercase()
        );
        assert_eq!(refused, expected);
    }
    assert_eq!(stage.fake.events(), [""; 0]);
    let none = Stage::set().refused("type_text", sudo()).await;
    assert!(none.contains("\nNext: It has none at all."), "{none}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_typed_is_refused_without_a_word_of_it() {
    const REFUSAL: &str = "The secret `sudo` cannot be typed with the keyboard layout `us`.\n\
         Next: Nothing was typed. What is wrong with it is not told: it must be one line, of characters \
         that this layout has, without tabs and other control characters.";
    for content in [
        "Zq7é",
        "é",
        "Zq7\nmore",
        "Zq7\n\n",
        "Zq7\t",
        "\u{1b}Zq7",
        "Zq7\0",
    ] {
        let (_folder, stage) = with_file(content);
        let reply = stage.call("type_text", sudo()).await;
        assert_eq!(reply.text, REFUSAL, "{content:?}");
        assert_untold(&reply);
        assert_eq!(stage.fake.events(), [""; 0]);
    }
    let (_folder, stage) = with_file("");
    let reply = stage.call("type_text", sudo()).await;
    assert!(
        reply
            .text
            .starts_with("What was read for the secret `sudo` cannot be used."),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_source_that_fails_is_told_by_its_name() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, TEXT, 0o644);
    let shown = path.display();
    let missing = folder.path().join("missing");
    let cases = [
        (
            from_file(&path),
            format!(
                "The file {shown} of the secret `sudo` is open to others than its owner (mode 0644).\n\
                 Next: Close it: `chmod 600 {shown}`."
            ),
        ),
        (
            from_file(&missing),
            format!(
                "The file {0} of the secret `sudo` cannot be read.\n\
                 Cause: No such file or directory (os error 2)\n\
                 Next: Look at it: `ls -l {0}`.",
                missing.display()
            ),
        ),
        (
            from_command("echo Zq7; echo Zq7 >&2; exit 7"),
            "The command \"sh\" of the secret `sudo` failed: exit status: 7.\nNext: Run the command".into(),
        ),
        (
            "[secret.sudo]\nenv = 'VIRTPILOT_NO_SUCH'".into(),
            "The environment variable VIRTPILOT_NO_SUCH, which holds the secret `sudo`, is not set.\n\
             Next: Start the server anew"
                .into(),
        ),
    ];
    for (config, text) in cases {
        let stage = Stage::with(&[], &config);
        let reply = stage.call("type_text", sudo()).await;
        assert!(reply.text.starts_with(&text), "{}", reply.text);
        assert_untold(&reply);
        assert_eq!(stage.fake.events(), [""; 0]);
    }
}

#[tokio::test]
async fn progress_does_not_count_the_characters_of_a_secret() {
    let (_folder, stage) = with_file(&"Zq7".repeat(40));
    let told: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let progress = || -> Progress {
        let told = Arc::clone(&told);
        Arc::new(move |done, of| told.lock().unwrap().push((done, of)))
    };
    let cancel = CancellationToken::new;
    stage
        .call_with(cancel(), progress(), "type_text", sudo())
        .await;
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()), [(0, 1), (1, 1)]);
    let step = json!({"action": "type_text", "secret": "sudo"});
    let batch = json!({"actions": [step, {"action": "wait", "seconds": 0}]});
    stage
        .call_with(cancel(), progress(), "run_actions", batch)
        .await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told, [(0, 2000), (1000, 2000)]);
}

#[tokio::test]
async fn where_typing_breaks_off_is_not_told() {
    let (_folder, stage) = with_file(TEXT);
    stage.fake.trouble_at(2, Trouble::Fails);
    let reply = stage.call("type_text", sudo()).await;
    assert_eq!(
        reply.text,
        "Typing the secret `sudo` broke off.\n\
         Next: Take a screenshot, clear the field, and type the secret again."
    );
    let (_folder, stage) = with_file(TEXT);
    stage.fake.trouble_at(2, Trouble::Paused);
    let reply = stage.call("type_text", sudo()).await;
    assert_eq!(
        reply.text,
        "Typing the secret `sudo` broke off.\n\
         Cause: the VM `demo` is paused\n\
         Next: Resume it: `virsh -c fake:/// resume demo`. Take a screenshot, clear the field, and \
         type the secret again."
    );

    let (_folder, stage) = with_file(&"Zq7".repeat(100));
    let cancel = CancellationToken::new();
    let progress: Progress = {
        let cancel = cancel.clone();
        Arc::new(move |_, _| cancel.cancel())
    };
    let reply = stage.call_with(cancel, progress, "type_text", sudo()).await;
    assert_eq!(
        reply.text,
        "The call was cancelled while the secret `sudo` was typed.\n\
         Next: Part of it may have been typed: take a screenshot, and clear the field."
    );
}

#[tokio::test]
async fn a_source_that_hangs_is_given_up_with_the_call() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("child");
    let line = format!(
        "sleep 300 & echo $! > {0}.new; mv {0}.new {0}; wait",
        file.display()
    );
    let stage = Stage::with(&[], &from_command(&line));
    let cancel = CancellationToken::new();
    let end = Instant::now() + Duration::from_secs(20);
    let pause = || tokio::time::sleep(Duration::from_millis(10));
    let stop = async {
        while !file.exists() {
            assert!(Instant::now() < end, "the command does not start");
            pause().await;
        }
        cancel.cancel();
    };
    let silent: Progress = Arc::new(|_, _| ());
    let call = stage.call_with(cancel.clone(), silent, "type_text", sudo());
    let (reply, ()) = tokio::join!(call, stop);
    assert_eq!(
        reply.text,
        "The call was cancelled while the secret `sudo` was read.\n\
         Next: Nothing was done with it; call again."
    );
    let child = fs::read_to_string(&file).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    // What is left of an ended process says Z until its parent looks.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "the child goes on");
        pause().await;
    }
    assert_eq!(stage.fake.events(), [""; 0]);
}

#[tokio::test]
async fn a_transfer_does_not_take_the_file_of_a_secret() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, TEXT, 0o600);
    let config = format!(
        "host_folders = ['{}']\n{}",
        folder.path().display(),
        from_file(&path)
    );
    let stage = Stage::with(&[("VM_HOST", "127.0.0.1"), ("VM_PORT", "1")], &config);
    for (tool, from, to) in [
        ("ssh_upload", "local_path", "remote_path"),
        ("ssh_download", "local_path", "remote_path"),
    ] {
        let text = stage.refused(tool, json!({from: path, to: "/tmp/x"})).await;
        let expected = format!(
            "{} is one of the server's own files, which transfers do not touch.",
            path.display()
        );
        assert!(text.starts_with(&expected), "{text}");
    }
}
