//! Real screens and what is written on them: terminals of the demo guest, programs on an X server of the
//! host, pages in a browser.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use virtpilot::image::Picture;

use crate::guest::{Guest, virsh_done};

/// Longer than a guest under emulation takes to draw its windows.
const DRAWN: Duration = Duration::from_secs(8);

/// Text as configuration files, code and lists have it.
const NOTE: &str = include_str!("note.txt");
const CODE: &str = include_str!("code.txt");

const MENU: &str = "New Ctrl+N New Window Shift+Ctrl+N New From Template Open... Ctrl+O Open Recent Save Ctrl+S \
    Save As... Shift+Ctrl+S Save All Reload Print... Ctrl+P Detach Tab Ctrl+D Close Tab Ctrl+W Close Window \
    Shift+Ctrl+W Quit Ctrl+Q Edit Search View Document Help";
const SETTINGS: &str = "Mousepad Preferences View Editor Window File Plugins Display Show line numbers Display \
    whitespace Display line endings Long line margin at column: 80 Highlight current line Highlight matching \
    brackets Wrap long lines Font Use system monospace font Monospace Regular 10 Color Scheme None";
const DIALOG: &str = "Replace file? A file named report-2024.txt already exists in this folder. Do you want to \
    replace it? Its contents will be overwritten. No Yes";
const FILES: &str = "address.txt budget.txt diary.txt garden.txt harbor.txt invoice.txt kitchen.txt letter.txt \
    minutes.txt order.txt picture.txt report.txt summary.txt ticket.txt voucher.txt weather.txt File Edit View \
    Bookmarks Go Tools Help Places Home Folder 16 items";

/// A terminal of the guest: what it is, its options and where it stands.
const TERMINALS: [(&str, &[&[&str]]); 4] = [
    (
        "terminal, DejaVu Sans Mono 10 pt, dark on light",
        &[&[
            "-fa",
            "DejaVu Sans Mono",
            "-fs",
            "10",
            "-geometry",
            "110x40+10+10",
        ]],
    ),
    (
        "terminal, DejaVu Sans Mono 9 pt, light on dark",
        &[&[
            "-fa",
            "DejaVu Sans Mono",
            "-fs",
            "9",
            "-bg",
            "black",
            "-fg",
            "grey80",
            "-geometry",
            "110x40+10+10",
        ]],
    ),
    (
        "terminal, bitmap font 6×13",
        &[&["-fn", "6x13", "-geometry", "120x50+10+10"]],
    ),
    (
        "three terminals side by side and over another",
        &[
            &[
                "-fa",
                "DejaVu Sans Mono",
                "-fs",
                "9",
                "-geometry",
                "70x14+10+10",
            ],
            &[
                "-fa",
                "DejaVu Sans Mono",
                "-fs",
                "10",
                "-bg",
                "#002b36",
                "-fg",
                "#93a1a1",
                "-geometry",
                "70x14+640+30",
            ],
            &[
                "-fa",
                "DejaVu Sans Mono",
                "-fs",
                "11",
                "-geometry",
                "90x16+200+360",
            ],
        ],
    ),
];

pub(crate) struct Screen {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) picture: Arc<Picture>,
    /// The words that are to be seen; more may be.
    pub(crate) words: Vec<String>,
}

impl Screen {
    fn load(name: &str, file: &Path, text: &str) -> Self {
        let png = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self {
            name: name.to_owned(),
            file: file.to_string_lossy().into_owned(),
            picture: Arc::new(Picture::decode("image/png", png).expect("a PNG")),
            words: text.split_whitespace().map(str::to_owned).collect(),
        }
    }
}

pub(crate) fn all(tell: fn(&str)) -> Vec<Screen> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/reading");
    fs::create_dir_all(&folder).expect("there is a place for the screens");
    let mut screens = vec![];
    for (number, (name, windows)) in TERMINALS.into_iter().enumerate() {
        tell(name);
        let file = folder.join(format!("terminal-{number}.png"));
        screens.push(Screen::load(name, &file, &terminals(windows, &file)));
    }
    tell("programs on an X server of the host");
    fs::write(folder.join("note.txt"), NOTE).expect("a note can be written");
    fs::write(folder.join("code.rs"), CODE).expect("code can be written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/reading/programs.sh");
    let status = Command::new(script).arg(&folder).status();
    assert!(status.expect("the script starts").success(), "the programs");
    let programs = [
        ("editor", "editor", NOTE),
        ("menu", "menu of an editor, one row selected", MENU),
        ("settings", "settings in front of an editor", SETTINGS),
        ("dialog", "dialog", DIALOG),
        ("files", "file manager", FILES),
        ("code", "code in colours, with tool bar and tree", CODE),
    ];
    for (file, name, text) in programs {
        screens.push(Screen::load(
            name,
            &folder.join(format!("{file}.png")),
            text,
        ));
    }
    tell("pages");
    let pages = [
        ("benches/encoding/page.html", "web page", "</style>"),
        (
            "benches/reading/windows.html",
            "windows in Liberation Sans and Noto Sans, 11 to 13 px",
            "</style>",
        ),
    ];
    for (number, (page, name, from)) in pages.into_iter().enumerate() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let html = fs::read_to_string(&page).expect("the page is there");
        let (_, body) = html.split_once(from).expect("the page has a body");
        let file = folder.join(format!("page-{number}.png"));
        browse(&page, &file);
        screens.push(Screen::load(name, &file, &text_of(body)));
    }
    screens
}

/// Windows of the guest, each with the note in it, as much as it has rows and columns for.
fn terminals(windows: &[&[&str]], file: &Path) -> String {
    let mut guest = Guest::enter();
    let mut all = String::new();
    for (number, options) in windows.iter().enumerate() {
        let size = options
            .last()
            .and_then(|it| it.split('+').next())
            .expect("a geometry");
        let rows: usize = size
            .split('x')
            .nth(1)
            .and_then(|it| it.parse().ok())
            .expect("rows");
        // The last row is the cursor's.
        let shown: Vec<_> = NOTE.lines().skip(number * 12).take(rows - 1).collect();
        let text = shown.join("\n");
        let command = format!("cat <<'END'\n{text}\nEND\nsleep 100");
        let mut program = vec!["xterm"];
        program.extend(*options);
        program.extend(["-e", "sh", "-c", &command]);
        guest.start(&format!("window {number}"), &program);
        thread::sleep(DRAWN / 2);
        all.push_str(&text);
        all.push('\n');
    }
    thread::sleep(DRAWN);
    virsh_done(&["screenshot", &guest.name, &file.to_string_lossy()]);
    all
}

fn browse(page: &Path, file: &Path) {
    let profile = tempfile::tempdir().expect("there is room for a temporary folder");
    let status = Command::new("chromium")
        // Its sandbox refuses to run as root, and these pages are our own.
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--window-size=1280,800")
        .arg(format!("--screenshot={}", file.display()))
        .arg(format!("file://{}", page.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the browser starts");
    assert!(status.success(), "the browser: {status}");
}

/// A page's text: what colours a part of a word parts no words, all else does.
fn text_of(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        let (tag, rest) = part.split_once('>').unwrap_or(("", part));
        let name = tag
            .trim_start_matches('/')
            .split(' ')
            .next()
            .unwrap_or_default();
        if !["b", "i", "span"].contains(&name) {
            text.push(' ');
        }
        text.push_str(rest);
    }
    text.replace("&nbsp;", " ")
        .replace("&lt;", "<")
        .replace("&amp;", "&")
}
