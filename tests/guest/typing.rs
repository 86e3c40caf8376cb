//! `type_text`: what is typed is what arrives.

use std::{
    fmt::Write,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    guest::{BUSY, Guest, HEIGHT, Keyboard, WIDTH},
    mcp::Client,
};

#[test]
fn typed_text_arrives_byte_for_byte() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let ascii: String = (' '..='~').collect();
    let texts = [
        ascii.as_str(),
        "\n",
        "\tone\ttab\n",
        "it's \"quoted\" \\ \\\\ \\n\n",
        "$(touch /tmp/ran) `touch /tmp/ran` ${HOME} $HOME; touch /tmp/ran & | > <\n",
        "first line\n\n\nfourth line\n",
        "aaaaaaaaaaAAAAAAAAAA!!!!!!!!!!1111111111\n",
    ];
    let mut expected = String::new();
    for text in texts {
        let reply = client.done("type_text", json!({"text": text}));
        assert_eq!(reply.text, format!("Typed {} characters.", text.len()));
        expected.push_str(text);
    }
    assert_eq!(guest.typed_in_the_end(expected.len()), expected);
    assert_eq!(
        guest.try_run("test -e /tmp/ran").code,
        1,
        "a shell ran what was typed"
    );
}

#[test]
fn a_secret_arrives_byte_for_byte_and_is_told_nowhere() {
    // Found nowhere by chance.
    const MARK: &str = "Zq7";
    let mut guest = Guest::enter();
    let secret: String = MARK.chars().chain(' '..='~').collect();
    let kept = guest.home().join("secret");
    fs::write(&kept, format!("{secret}\n")).unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o600)).unwrap();
    let config = guest.home().join("virtpilot.toml");
    let text = format!(
        "[secret.kept]\nfile = '{0}'\n[secret.said]\ncommand = ['cat', '{0}']\n\
         [secret.env]\nenv = 'TEST_SECRET'\n",
        kept.display()
    );
    fs::write(&config, text).unwrap();
    let stderr = guest.home().join("stderr");
    let mut command = guest.server();
    command
        .arg("--config")
        .arg(&config)
        .env("TEST_SECRET", &secret)
        .env("RUST_LOG", "trace")
        .stderr(File::create(&stderr).unwrap());
    let mut client = Client::start(command);
    let made = client.done("project_init", json!({"name": "secrets"}));
    let project = PathBuf::from(made.data.unwrap()["path"].as_str().unwrap());
    guest.open_typing_window();
    let mut expected = String::new();
    for name in ["kept", "said", "env"] {
        let reply = client.done("type_text", json!({"secret": name}));
        assert_eq!(reply.text, format!("Typed the secret `{name}`."));
        assert!(!reply.raw.to_string().contains(MARK), "{}", reply.raw);
        client.done("press_keys", json!({"keys": ["Return"]}));
        expected.push_str(&secret);
        expected.push('\n');
    }
    assert_eq!(guest.typed_in_the_end(expected.len()), expected);
    client.hang_up();
    assert!(client.wait_for_exit().success());
    let mut files = files_below(&project);
    assert!(files.len() > 2, "{files:?}");
    files.push(stderr);
    for file in files {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains(MARK), "{}: {text}", file.display());
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|it| it.is_dir());
    files.extend(folders.iter().flat_map(|it| files_below(it)));
    files
}

#[test]
fn long_text_arrives_whole() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let text = prose(2_000);
    let started = Instant::now();
    client.done("type_text", json!({"text": text}));
    let rate = 2_000.0 / started.elapsed().as_secs_f64();
    println!("typed {rate:.0} characters a second");
    let typed = guest.typed_in_the_end(2_000);
    assert!(typed == text, "something got lost:\n{typed}");
}

#[test]
fn any_keyboard_and_a_busy_guest_get_the_whole_text() {
    let mut guest = Guest::enter();
    // One that knew the VM before its keyboards came.
    let mut client = guest.client();
    client.done("press_keys", json!({"keys": ["Shift"]}));
    let cases = [
        ("PS/2, busy", None, true),
        ("USB", Some(Keyboard::USB), false),
        ("virtio", Some(Keyboard::VIRTIO), false),
    ];
    for (name, keyboard, is_busy) in cases {
        let attached = keyboard.map(|kind| Keyboard::attach(&mut guest, kind));
        if is_busy {
            guest.start("busy", &["sh", "-c", BUSY]);
        }
        guest.open_typing_window();
        let text = prose(400);
        guest.until_usb_sleeps();
        client.done("type_text", json!({"text": text}));
        assert_eq!(guest.typed_in_the_end(400), text, "{name}");
        guest.end("typing");
        if is_busy {
            guest.end("busy");
        }
        drop(attached);
    }
}

#[test]
fn text_for_nested_sessions_arrives_whole_too() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    guest.open_typing_window();
    let text = prose(100);
    client.done("type_text", json!({"text": text, "interval_ms": 15}));
    assert_eq!(guest.typed_in_the_end(100), text);
    guest.assert_nothing_down();
}

/// Lines with many capitals and signs, which need Shift.
fn prose(length: usize) -> String {
    let mut text = String::new();
    for number in 0.. {
        writeln!(
            text,
            "{number}: The Quick Brown FOX (jumps) \"over\" {{the}} lazy_dog & co! @#%^*"
        )
        .unwrap();
        if text.len() >= length {
            break;
        }
    }
    text.truncate(length);
    text
}

#[test]
fn what_the_layout_lacks_is_refused_before_the_first_key() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let mark = guest.mark();
    let error = client.fails("type_text", json!({"text": "plain, then grün"}));
    assert!(
        error.starts_with("The keyboard layout `us` cannot type `ü` (U+00FC, position 14)."),
        "{error}"
    );
    guest.assert_no_events(&mark);
}

#[test]
fn text_consoles_take_keys_and_show_pictures() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    client.done("press_keys", json!({"keys": ["Ctrl", "Alt", "F3"]}));
    let _back = BackToDesktop(guest.name.clone());
    guest.until("console 3 shows", |guest| {
        (guest.run("fgconsole").trim() == "3").then_some(())
    });
    let shows = |guest: &mut Guest, wanted: &str| {
        guest.until(&format!("console 3 shows {wanted:?}"), |guest| {
            let screen = guest.run("cat /dev/vcs3");
            // Blanks are there or not; the cursor is no character.
            screen.trim_end().ends_with(wanted).then_some(())
        });
    };
    shows(&mut guest, "virtpilot-demo login:");
    let name = "Someone_0-9";
    client.done("type_text", json!({"text": name}));
    shows(&mut guest, &format!("login: {name}"));
    let reply = client.done("take_screenshot", json!({}));
    assert!(
        reply
            .text
            .contains(&format!("{WIDTH}×{HEIGHT} pixels, native size")),
        "{}",
        reply.text
    );
    client.done(
        "press_keys",
        json!({"keys": ["BackSpace"], "repeat": name.len()}),
    );
    shows(&mut guest, "login:");
    client.done("press_keys", json!({"keys": ["Ctrl", "Alt", "F7"]}));
    guest.until("the desktop shows", |guest| {
        (guest.run("fgconsole").trim() == "7").then_some(())
    });
    guest.assert_nothing_down();
}

/// Shows the desktop again, whatever became of the test.
struct BackToDesktop(String);

impl Drop for BackToDesktop {
    fn drop(&mut self) {
        if thread::panicking() {
            let keys = ["KEY_LEFTCTRL", "KEY_LEFTALT", "KEY_F7"];
            let _ = crate::guest::virsh(&[&["send-key", self.0.as_str()], &keys[..]].concat());
            thread::sleep(Duration::from_secs(1));
        }
    }
}
