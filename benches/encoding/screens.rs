//! Real screens: the demo guest's desktop and text console, and a web page and a photograph as Debian's
//! browser shows them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use virtpilot::image::Picture;

use crate::guest::{Guest, virsh_done};

/// Longer than a guest under emulation takes to draw its windows.
const DRAWN: Duration = Duration::from_secs(8);

const BROWSER: &str = "chromium";
/// Of Debian's package `mate-backgrounds`.
const PHOTOGRAPH: &str = "/usr/share/backgrounds/mate/nature/LadyBird.jpg";
/// Its own making, beside this file.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/encoding/page.html");

const SIZES: [(u32, u32); 2] = [(1280, 800), (1920, 1080)];

/// A terminal's options, where it stands at both sizes, and what it shows.
const WINDOWS: [(&str, [&str; 2], &str); 4] = [
    (
        "",
        ["90x24+220+60", "100x40+700+40"],
        "ls -la --color=always /usr/bin",
    ),
    (
        "-bg black -fg grey",
        ["80x28+560+330", "110x44+760+440"],
        "ls -la --color=always /etc",
    ),
    (
        "-fa Mono -fs 10",
        ["60x18+30+380", "80x30+30+420"],
        "cat /etc/ssh/sshd_config",
    ),
    (
        "-fa Mono -fs 9 -bg #002b36 -fg #93a1a1",
        ["70x12+20+30", "90x20+20+30"],
        "ls --color=always /etc",
    ),
];

pub(crate) struct Screen {
    pub(crate) name: &'static str,
    /// As it came.
    pub(crate) png: Vec<u8>,
    pub(crate) picture: Picture,
}

impl Screen {
    fn load(name: &'static str, file: &Path) -> Self {
        let png = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let picture = Picture::decode("image/png", &png).expect("a PNG");
        Self { name, png, picture }
    }

    pub(crate) fn read(&self) -> Picture {
        Picture::decode("image/png", &self.png).expect("a PNG")
    }
}

/// Else what to install.
pub(crate) fn programs_are_there() -> Result<(), String> {
    let version = Command::new(BROWSER).arg("--version").output();
    if version.is_ok_and(|it| it.status.success()) && Path::new(PHOTOGRAPH).is_file() {
        return Ok(());
    }
    Err("the screens need a browser and a photograph: \
         apt-get install chromium fonts-dejavu-core mate-backgrounds"
        .to_owned())
}

/// All screens, by size.
pub(crate) fn all(tell: fn(&str)) -> Vec<Vec<Screen>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screens");
    fs::create_dir_all(&folder).expect("there is a place for the screens");
    let mut sizes = vec![];
    for (at, size) in SIZES.into_iter().enumerate() {
        let (width, height) = size;
        tell(&format!("getting the screens of {width}×{height}"));
        let file = |name: &str| folder.join(format!("{name}-{width}x{height}.png"));
        let mut screens = vec![];
        desktop(at, size, &file("desktop"));
        screens.push(Screen::load("desktop", &file("desktop")));
        if at == 0 {
            // The kernel's console keeps the size that it had at the start.
            console(&file("console"));
            screens.push(Screen::load("text console", &file("console")));
        }
        browse(&format!("file://{PAGE}"), size, &file("page"));
        screens.push(Screen::load("web page", &file("page")));
        let photograph = over_photograph(&folder, "photograph", "");
        browse(&photograph, size, &file("photograph"));
        screens.push(Screen::load("photograph", &file("photograph")));
        let window = format!(
            "<iframe src='file://{PAGE}' style='position:absolute;left:10%;top:8%;width:62%;height:70%;border:0'></iframe>"
        );
        let both = over_photograph(&folder, "both", &window);
        browse(&both, size, &file("both"));
        screens.push(Screen::load("page over photograph", &file("both")));
        sizes.push(screens);
    }
    sizes
}

/// The windows end with the guest's use, as does the screen's size.
fn desktop(at: usize, (width, height): (u32, u32), file: &Path) {
    let mut guest = Guest::enter();
    guest.resize(width, height);
    for (number, (options, places, shows)) in WINDOWS.into_iter().enumerate() {
        let mut program = vec!["xterm", "-geometry", places[at], "-hold"];
        program.extend(options.split_whitespace());
        program.push("-e");
        program.extend(shows.split_whitespace());
        guest.start(&format!("window {number}"), &program);
    }
    thread::sleep(DRAWN);
    virsh_done(&["screenshot", &guest.name, &file.to_string_lossy()]);
}

fn console(file: &Path) {
    let mut guest = Guest::enter();
    let desktop = guest.run("fgconsole").trim().to_owned();
    guest.run("chvt 3 && { dmesg | tail -n 60; ls -la /usr/bin | head -n 40; } > /dev/tty3");
    thread::sleep(DRAWN / 4);
    virsh_done(&["screenshot", &guest.name, &file.to_string_lossy()]);
    // The login prompt was written over: a new one comes.
    guest.run(&format!(
        "printf '\\033c' > /dev/tty3; pkill -t tty3; chvt {desktop}"
    ));
}

/// A page with the photograph behind what it holds.
fn over_photograph(folder: &Path, name: &str, holds: &str) -> String {
    let path: PathBuf = folder.join(format!("{name}.html"));
    let page = format!(
        "<!doctype html><body style='margin:0;height:100vh;background:url(file://{PHOTOGRAPH}) center/cover'>{holds}"
    );
    fs::write(&path, page).expect("a page can be written");
    format!("file://{}", path.display())
}

fn browse(address: &str, (width, height): (u32, u32), file: &Path) {
    let profile = tempfile::tempdir().expect("there is room for a temporary folder");
    let status = Command::new(BROWSER)
        // Its sandbox refuses to run as root, and these pages are our own.
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", file.display()))
        .arg(address)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the browser starts");
    assert!(status.success(), "the browser: {status}");
}
