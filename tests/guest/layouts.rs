//! Keyboard layouts: what is typed for a guest's layout is what a guest with that layout gets.

use std::fs;

use serde_json::json;

use crate::{code, guest::Guest, mcp::Client};

/// A text console that has no login.
const CONSOLE: u32 = 8;

/// What Debian's own start loads into the guest's consoles.
const USUAL_KEYMAP: &str = "/etc/console-setup/cached_UTF-8_del.kmap.gz";

/// The same for German guests; see there.
const GERMAN_KEYMAP: &str = include_str!("../data/consoles/de.kmap");

/// All that the layout `de` types with one key, Shift and AltGr, beyond ASCII.
const GERMAN: &str =
    "äöüÄÖÜßẞ§°€µ²³¹½¼¬·…–—«»„“”‚‘’‹›¡¿¢£¤¥±×÷ªº®©™¶æÆøØþÞðÐđŋŊħĦłŁŧŦſĸΩ←↓→↑⅛⅜⅝⅞′″¯ı";

/// A client of a server that is told this of the guest.
fn client(guest: &Guest, settings: &str) -> Client {
    let folder = guest.home().join("config/virtpilot");
    fs::create_dir_all(&folder).unwrap();
    let text = format!("[vm.{:?}]\n{settings}\n", guest.name);
    fs::write(folder.join("config.toml"), text).unwrap();
    guest.client()
}

/// The guest's X server with another layout, until this is dropped.
struct Desktop<'a>(&'a mut Guest);

impl<'a> Desktop<'a> {
    fn with(guest: &'a mut Guest, keymap: &str) -> Self {
        let desktop = Self(guest);
        desktop.0.run(&set(keymap));
        desktop
    }
}

impl Drop for Desktop<'_> {
    fn drop(&mut self) {
        self.0.try_run(&set("us"));
    }
}

fn set(keymap: &str) -> String {
    let (layout, variant) = keymap.split_once(':').unwrap_or((keymap, ""));
    format!("setxkbmap -layout {layout} -variant '{variant}'")
}

/// A console with another keymap that writes down what is typed in it, until this is dropped.
struct Console<'a>(&'a mut Guest);

impl<'a> Console<'a> {
    fn open(guest: &'a mut Guest) -> Self {
        let console = Self(guest);
        console.0.run(&format!(
            "rm -f /tmp/typed; openvt -c {CONSOLE} -s -- \
             sh -c 'stty -icanon -ixon -echo min 1; exec cat > /tmp/typed'"
        ));
        console.0.until("the console takes text", |guest| {
            let is_there = guest.try_run("test -e /tmp/typed").code == 0;
            (is_there && guest.run("fgconsole").trim() == CONSOLE.to_string()).then_some(())
        });
        console
    }
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        self.0.try_run(&format!(
            "pkill -t tty{CONSOLE}; zcat {USUAL_KEYMAP} | loadkeys -q -; chvt 7; deallocvt {CONSOLE}"
        ));
    }
}

/// Types a text where it is written down, and compares.
fn assert_arrives(guest: &mut Guest, client: &mut Client, text: &str, what: &str) {
    let before = guest.typed();
    let reply = client.done("type_text", json!({"text": text}));
    let characters = text.chars().count();
    assert_eq!(
        reply.text,
        format!("Typed {characters} characters."),
        "{what}"
    );
    let expected = format!("{before}{text}");
    let typed = guest.typed_in_the_end(expected.len());
    assert_eq!(typed, expected, "{what}");
}

fn ascii() -> String {
    (' '..='~').collect()
}

#[test]
fn all_that_us_and_de_type_arrives_in_a_terminal() {
    let mut guest = Guest::enter();
    guest.open_typing_window();
    let mut american = client(&guest, "keymap = \"us\"");
    assert_arrives(&mut guest, &mut american, &format!("\t{}\n", ascii()), "us");
    let mut german = client(&guest, "keymap = \"de\"");
    let desktop = Desktop::with(&mut guest, "de");
    // ^ and ` are dead keys there, and so is ´; the letters take one and a letter.
    let text = format!("\t{}\n{GERMAN}\n´éèêÀ\n", ascii());
    assert_arrives(desktop.0, &mut german, &text, "de");
}

#[test]
fn a_line_of_each_layout_arrives() {
    let lines = [
        (
            "fr",
            "Où est-ce ? «ça y est», 100 % à l'été: {@#|\\}[~^`] <été> ÀÊÏ 12:34\n",
        ),
        ("gb", "\"Fair\" @ £3.50 #1 ~ 'half' \\ | ¬ `tick` €\n"),
        (
            "es",
            "¿Qué año? ¡Mañana! Pingüino, Ñandú: [a]{b}\\|@#~€ ç^`´ º ª\n",
        ),
        (
            "ru",
            "Съешь ещё этих мягких французских булок, да выпей чаю. №5 (10%)?\n",
        ),
        (
            "us:dvorak",
            "The quick brown fox; jumps over: 'the' \"lazy\" {dog}? [1/2] @#$%^&*~`\n",
        ),
        ("gr", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· ΐ ΰ\n"),
    ];
    let mut guest = Guest::enter();
    guest.open_typing_window();
    for (keymap, line) in lines {
        let mut client = client(&guest, &format!("keymap = {keymap:?}"));
        let desktop = Desktop::with(&mut guest, keymap);
        assert_arrives(desktop.0, &mut client, line, keymap);
    }
}

#[test]
fn all_that_us_and_de_type_arrives_in_a_text_console() {
    let mut guest = Guest::enter();
    let mut american = client(&guest, "keymap = \"us\"");
    let mut german = client(&guest, "keymap = \"de\"");
    let console = Console::open(&mut guest);
    assert_arrives(console.0, &mut american, &format!("\t{}\n", ascii()), "us");
    console
        .0
        .run(&format!("loadkeys -q - <<'END'\n{GERMAN_KEYMAP}END"));
    // Of accents the kernel knows those of Latin 1, and none alone.
    let text = format!("{}\n{GERMAN}\néèêÀ\n", ascii());
    assert_arrives(console.0, &mut german, &text, "de");
}

#[test]
fn a_letter_in_a_chord_is_the_key_that_prints_it() {
    let mut guest = Guest::enter();
    guest.open_typing_window();
    // Y and Z, as `us` names them; and what `ru` has no letter for is where `us` has it.
    for (keymap, key) in [("us", 44), ("de", 21), ("fr", 17), ("ru", 44)] {
        let mut client = client(&guest, &format!("keymap = {keymap:?}"));
        let mark = guest.mark();
        client.done("press_keys", json!({"keys": ["Ctrl", "z"]}));
        let events = guest.events_in_the_end(&mark, 4);
        let downs = events.iter().filter(|event| event.value == 1);
        let downs: Vec<_> = downs.map(|event| event.code).collect();
        assert_eq!(downs, [code::LEFT_CTRL, key], "{keymap}");
    }
}

/// An editor on the desktop with an empty file of its own, which goes when this is dropped.
struct Editor<'a>(&'a mut Guest);

impl<'a> Editor<'a> {
    const FOLDER: &'static str = "/tmp/by-code-point";

    fn open(guest: &'a mut Guest, file: &str) -> Self {
        let folder = Self::FOLDER;
        let editor = Self(guest);
        editor.0.run(&format!(
            "rm -rf {folder} && install -d -o desktop {folder} && \
             install -o desktop /dev/null {folder}/{file}"
        ));
        let path = format!("{folder}/{file}");
        editor.0.open_window(file, &["l3afpad", &path]);
        editor
    }
}

impl Drop for Editor<'_> {
    fn drop(&mut self) {
        self.0.try_run(&format!("rm -rf {}", Self::FOLDER));
    }
}

#[test]
fn characters_that_no_key_has_go_by_their_code_points() {
    let text = "naïve — 🦀 𝄞 e\u{301} 漢字, then plain\n";
    let mut guest = Guest::enter();
    for keymap in ["us", "fr"] {
        let file = format!("in-{keymap}");
        let settings = format!("keymap = {keymap:?}\nunicode = \"ctrl-shift-u\"");
        let mut client = client(&guest, &settings);
        let editor = Editor::open(&mut guest, &file);
        let desktop = Desktop::with(editor.0, keymap);
        client.done("type_text", json!({"text": text}));
        client.done("press_keys", json!({"keys": ["Ctrl", "s"]}));
        let read = format!("cat {}/{file}", Editor::FOLDER);
        let saved = desktop.0.until("the text is saved", |guest| {
            let saved = guest.run(&read);
            (!saved.is_empty()).then_some(saved)
        });
        assert_eq!(saved, text, "{keymap}");
        desktop.0.end(&file);
    }
}
