//! The demo guest: how tests reach it, and how they look at it from inside.
//!
//! What is checked goes through virtpilot; what checks goes through the program `ssh`, as root, so
//! that both share no code. There is one guest with one screen: whoever holds a [`Guest`] has it
//! for itself, and hands it back with no window open and no key down.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "each test file uses a part of it, for short"
)]

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::mcp::{self, Client};

pub const HINT: &str = "run `guest-setup/demo.sh --guest-only` first";

/// The size of the guest's screen.
pub const WIDTH: i32 = 1280;
pub const HEIGHT: i32 = 800;

/// A shell line that keeps both processors of the guest busy.
pub const BUSY: &str = "for n in 1 2; do (while :; do :; done) & done; wait";

/// Longer than the guest takes for anything that tests wait for, on a busy host too.
const PATIENCE: Duration = Duration::from_mins(1);

const AGENT: &str = include_str!("inside.py");

/// The one look from inside that all tests of a process share: under emulation a new one takes
/// seconds. It ends with the process, as its input does.
static INSIDE: Mutex<Option<Inside>> = Mutex::new(None);

/// The demo guest, and the only use of it.
pub struct Guest {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub identity: PathBuf,
    /// What programs in the guest need to reach its X server.
    x_environment: [String; 2],
    inside: MutexGuard<'static, Option<Inside>>,
    home: TempDir,
    /// Whether its screen has another size than usual.
    is_resized: bool,
    _turn: File,
}

/// How a command in the guest ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i64,
    pub stdout: String,
    pub stderr: String,
}

/// A key or button as the guest's kernel saw it go down (1), up (0) or repeat (2).
#[derive(Debug, Clone, PartialEq)]
pub struct KeyEvent {
    pub code: i64,
    pub value: i64,
    pub at_ms: f64,
}

/// Where a window's inner area is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub x: i32,
    pub y: i32,
    pub width: i32,
    pub height: i32,
}

impl Area {
    /// A point within, counted from its upper left corner.
    pub fn at(&self, x: i32, y: i32) -> (i32, i32) {
        assert!(
            x < self.width && y < self.height,
            "{x},{y} is outside {self:?}"
        );
        (self.x + x, self.y + y)
    }
}

impl Guest {
    /// Waits for the guest to be free. Fails where there is none, or where it is not as it should be.
    pub fn enter() -> Self {
        let turn = turn();
        let settings = settings();
        let setting = |name: &str| {
            let found = settings.iter().find(|(key, _)| key == name);
            let (_, value) = found.unwrap_or_else(|| panic!("demo.env has no {name}: {HINT}"));
            value.clone()
        };
        let mut guest = Self {
            name: setting("VM_NAME"),
            host: setting("VM_HOST"),
            port: setting("VM_PORT").parse().expect("VM_PORT is a port"),
            identity: setting("VM_IDENTITY").into(),
            x_environment: [
                format!("DISPLAY={}", setting("GUEST_DISPLAY")),
                format!("XAUTHORITY={}", setting("GUEST_XAUTHORITY")),
            ],
            inside: INSIDE.lock().unwrap_or_else(PoisonError::into_inner),
            home: tempfile::tempdir().expect("there is room for a temporary folder"),
            is_resized: false,
            _turn: turn,
        };
        if guest.inside.as_mut().is_none_or(|inside| !inside.answers()) {
            let inside = Inside::connect(&guest);
            *guest.inside = Some(inside);
        }
        assert_eq!(guest.down(), [0; 0], "a key is down before the test begins");
        guest
    }

    /// The folder that servers of this test take for their home, with their data in `data`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The folder that transfers may touch and relative paths start at: the data folder of those
    /// servers, as they are started at home.
    pub fn files(&self) -> PathBuf {
        let folder = self.home().join("data/virtpilot");
        std::fs::create_dir_all(&folder).expect("folders can be made");
        folder
    }

    /// The server with the demo guest as its default VM.
    pub fn server(&self) -> Command {
        let mut command = mcp::binary(self.home());
        command
            .env("VM_NAME", &self.name)
            .env("VM_HOST", &self.host)
            .env("VM_PORT", self.port.to_string())
            .env("VM_IDENTITY", &self.identity);
        command
    }

    pub fn client(&self) -> Client {
        Client::start(self.server())
    }

    /// Runs a shell line in the guest as root, without waiting for success.
    pub fn try_run(&mut self, line: &str) -> Ran {
        let line = format!("export {}; {line}", self.x_environment.join(" "));
        let ran = self.ask("run", json!([line]));
        Ran {
            code: ran["code"].as_i64().expect("a code"),
            stdout: text_of(&ran["stdout"]),
            stderr: text_of(&ran["stderr"]),
        }
    }

    /// Runs a shell line that must succeed, and gives its output.
    pub fn run(&mut self, line: &str) -> String {
        let ran = self.try_run(line);
        assert_eq!(ran.code, 0, "in the guest: {line}: {ran:?}");
        ran.stdout
    }

    /// Gives the screen another size, until the test ends.
    pub fn resize(&mut self, width: u32, height: u32) {
        const REMEMBER: &str = "xdotool getwindowgeometry --shell $(xdotool search --onlyvisible \
             --class xterm | head -n 1) > /tmp/terminal";
        if !self.is_resized {
            self.run(REMEMBER);
            self.is_resized = true;
        }
        self.run(&format!(
            "xrandr --output Virtual-1 --mode {width}x{height}"
        ));
    }

    /// The desktop's own terminal goes back too: a screen that changes its size moves it.
    fn resize_back(&mut self) {
        // It is put by its frame's corner and tells its own.
        const PUT_BACK: &str = ". /tmp/terminal; x=$X y=$Y; xdotool windowmove $WINDOW $x $y; sleep 1; \
             eval $(xdotool getwindowgeometry --shell $WINDOW); \
             xdotool windowmove $WINDOW $((2 * x - X)) $((2 * y - Y)); rm /tmp/terminal";
        if std::mem::take(&mut self.is_resized) {
            self.try_run(&format!(
                "xrandr --output Virtual-1 --mode {WIDTH}x{HEIGHT}"
            ));
            self.try_run(PUT_BACK);
        }
    }

    /// Starts a program on the guest's screen as the user `desktop`. It ends with the test.
    pub fn start(&mut self, name: &str, program: &[&str]) {
        let mut argv: Vec<&str> = vec!["env"];
        let environment = self.x_environment.clone();
        argv.extend(environment.iter().map(String::as_str));
        argv.extend(program);
        self.ask("start", json!([name, argv, "desktop"]));
    }

    /// Resets the VM, as its button does, and waits until all is up again.
    pub fn reset(&mut self) {
        // Dropping it ends a connection that the guest will know nothing of.
        *self.inside = None;
        virsh_done(&["reset", &self.name]);
        let mut client = self.client();
        let is_up = json!({"conditions": [{"condition": "ssh"}], "timeout": 50});
        let tries = (0..4).take_while(|_| client.call("wait_for", is_up.clone()).is_error);
        assert!(tries.count() < 4, "the guest's SSH server is back");
        *self.inside = Some(Inside::connect(self));
        // The desktop's terminal has the keyboard, and a shell runs in it.
        let is_up =
            "pgrep -u desktop -x bash && xprop -id $(xdotool getwindowfocus) WM_CLASS | grep XTerm";
        self.until_within(Duration::from_mins(2), "the desktop is up", |guest| {
            (guest.try_run(is_up).code == 0).then_some(())
        });
    }

    /// What a started program has written so far.
    pub fn lines(&mut self, name: &str) -> Vec<String> {
        let lines = self.ask("lines", json!([name]));
        let lines = lines.as_array().expect("a list");
        lines.iter().map(text_of).collect()
    }

    /// Ends a started program.
    pub fn end(&mut self, name: &str) {
        self.ask("end", json!([name]));
    }

    /// Starts a program whose window bears `title`, puts the focus there, and tells where it is.
    pub fn open_window(&mut self, title: &str, program: &[&str]) -> Area {
        let search = format!("xdotool search --onlyvisible --name '^{title}$'");
        // A busy X server may still show the one of a program that has just ended.
        let none = format!("no window {title} shows");
        self.until(&none, |guest| {
            guest.try_run(&search).stdout.is_empty().then_some(())
        });
        self.start(title, program);
        let shows = format!("the window {title} shows");
        let id = self.until(&shows, |guest| {
            let found = guest.try_run(&search).stdout;
            found.lines().next().map(str::to_owned)
        });
        // More than once: a window of the test before that closes only now hands the focus on.
        let look = format!("xdotool windowactivate {id}; xdotool getwindowfocus");
        self.until(&format!("the window {title} has the focus"), |guest| {
            let focus = guest.try_run(&look).stdout;
            (focus.trim() == id).then_some(())
        });
        let described = self.run(&format!("xwininfo -id {id}"));
        let number = |label: &str| {
            let line = described
                .lines()
                .find_map(|line| line.trim().strip_prefix(label));
            line.and_then(|number| number.trim().parse().ok())
                .unwrap_or_else(|| panic!("no {label} in {described}"))
        };
        Area {
            x: number("Absolute upper-left X:"),
            y: number("Absolute upper-left Y:"),
            width: number("Width:"),
            height: number("Height:"),
        }
    }

    /// Opens a terminal that writes into a file of the guest what is typed in it. Tests that press
    /// keys do it there: the desktop's own terminal would take them for its shell.
    pub fn open_typing_window(&mut self) {
        let reader = "stty -icanon -ixon min 1; exec cat > /tmp/typed";
        self.run("rm -f /tmp/typed");
        let geometry = "70x12+420+420";
        let program = [
            "xterm",
            "-T",
            "typing",
            "-geometry",
            geometry,
            "-e",
            "sh",
            "-c",
            reader,
        ];
        self.open_window("typing", &program);
        self.until("the terminal takes text", |guest| {
            (guest.try_run("test -e /tmp/typed").code == 0).then_some(())
        });
    }

    /// What was typed so far.
    pub fn typed(&mut self) -> String {
        self.run("cat /tmp/typed")
    }

    /// Waits until so much was typed, as long as for anything else, and a moment more for what must
    /// not come; gives it all, so that what is lost shows where it is compared.
    pub fn typed_in_the_end(&mut self, characters: usize) -> String {
        let size = "stat -c %s /tmp/typed";
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let size: usize = self.run(size).trim().parse().expect("a number");
            if size >= characters {
                break;
            }
            thread::sleep(Duration::from_millis(30));
        }
        thread::sleep(Duration::from_millis(100));
        self.typed()
    }

    /// Waits until nothing more comes, and gives it all: a terminal may be seconds behind.
    pub fn typed_once_it_stays(&mut self) -> String {
        let mut before = self.typed();
        loop {
            thread::sleep(Duration::from_millis(1500));
            let typed = self.typed();
            if typed == before {
                return typed;
            }
            before = typed;
        }
    }

    /// Where X says that the pointer is.
    pub fn pointer(&mut self) -> (i32, i32) {
        let text = self.run("xdotool getmouselocation --shell");
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.parse().ok())
                .unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        (number("X="), number("Y="))
    }

    /// Waits until the pointer is there; X may be a little behind the kernel.
    pub fn assert_pointer_at(&mut self, place: (i32, i32)) {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.pointer();
            if seen == place || Instant::now() > end {
                assert_eq!(seen, place, "where the pointer is");
                return;
            }
        }
    }

    /// Where the log of the kernel's key events is now.
    pub fn mark(&mut self) -> Value {
        self.ask("mark", json!([]))
    }

    /// The key and button events since a mark.
    pub fn events(&mut self, mark: &Value) -> Vec<KeyEvent> {
        let events = self.ask("events", json!([mark]));
        let events = events.as_array().expect("a list");
        events
            .iter()
            .map(|event| KeyEvent {
                code: event["code"].as_i64().expect("a code"),
                value: event["value"].as_i64().expect("a value"),
                at_ms: event["at_ms"].as_f64().expect("a time"),
            })
            .collect()
    }

    /// Waits for so many events since a mark, and a moment more for those that must not come.
    pub fn events_in_the_end(&mut self, mark: &Value, count: usize) -> Vec<KeyEvent> {
        let end = Instant::now() + Duration::from_secs(20);
        while self.events(mark).len() < count && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        self.events(mark)
    }

    /// Waits long enough for an event that must not come.
    pub fn assert_no_events(&mut self, mark: &Value) {
        thread::sleep(Duration::from_millis(300));
        assert_eq!(self.events(mark), [], "nothing was to be pressed");
    }

    /// The codes of all keys and buttons that the kernel holds for pressed.
    pub fn down(&mut self) -> Vec<i64> {
        let down = self.ask("down", json!([]));
        let down = down.as_array().expect("a list");
        down.iter()
            .map(|key| key["code"].as_i64().expect("a code"))
            .collect()
    }

    /// Waits until the guest has suspended every USB device, for nobody uses them.
    pub fn until_usb_sleeps(&mut self) {
        let states = "cat /sys/bus/usb/devices/[0-9]*-[0-9]/power/runtime_status";
        self.until("the USB devices sleep", |guest| {
            let states = guest.run(states);
            states
                .lines()
                .all(|state| state == "suspended")
                .then_some(())
        });
    }

    /// Waits until nothing is down; a release may be on its way.
    pub fn assert_nothing_down(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let down = self.down();
            if down.is_empty() || Instant::now() > end {
                assert_eq!(down, [0; 0], "codes of keys and buttons that stay down");
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `found` finds something.
    pub fn until<T>(&mut self, what: &str, found: impl FnMut(&mut Self) -> Option<T>) -> T {
        self.until_within(PATIENCE, what, found)
    }

    fn until_within<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut found: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain until {what}");
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn ask(&mut self, what: &str, with: Value) -> Value {
        let inside = self
            .inside
            .as_mut()
            .expect("it is connected while a guest is held");
        inside.ask(what, &with)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if self.inside.as_mut().is_none_or(|inside| !inside.answers()) {
            // Dropping it ends what it started; the next test connects anew.
            *self.inside = None;
            return;
        }
        self.ask("end_all", json!([]));
        self.resize_back();
        let end = Instant::now() + Duration::from_secs(2);
        let mut down = self.down();
        while !down.is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
            down = self.down();
        }
        for key in &down {
            // The tests after this one are to find the guest in order.
            let _ = virsh(&[
                "send-key",
                &self.name,
                "--codeset",
                "linux",
                &key.to_string(),
            ]);
        }
        assert!(
            failed || down.is_empty(),
            "still down after the test: {down:?}"
        );
    }
}

/// A keyboard besides the PC's own, which is there until it is dropped.
pub struct Keyboard {
    vm: String,
    xml: tempfile::NamedTempFile,
}

impl Keyboard {
    /// libvirt's word for the bus, and what X calls the keyboard.
    pub const USB: (&str, &str) = ("usb", "USB Keyboard");
    pub const VIRTIO: (&str, &str) = ("virtio", "Virtio Keyboard");

    pub fn attach(guest: &mut Guest, (bus, name): (&str, &str)) -> Self {
        let xml = tempfile::NamedTempFile::new().expect("there is room for a temporary file");
        let device = format!("<input type='keyboard' bus='{bus}'/>");
        std::fs::write(xml.path(), device).expect("files can be written");
        let keyboard = Self {
            vm: guest.name.clone(),
            xml,
        };
        keyboard.virsh("attach-device");
        let seen = format!("xinput list --name-only | grep -q '{name}'");
        guest.until("X has the keyboard", |guest| {
            (guest.try_run(&seen).code == 0).then_some(())
        });
        keyboard
    }

    fn virsh(&self, command: &str) {
        let file = self.xml.path().display().to_string();
        virsh_done(&[command, &self.vm, &file, "--live"]);
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.virsh("detach-device");
        // The guest lets go of it in its own time.
        thread::sleep(Duration::from_secs(2));
    }
}

/// One test at a time has the guest, whatever process it is in; the lock goes with the file, also
/// where a test panics.
pub fn turn() -> File {
    let path = std::env::temp_dir().join("virtpilot-demo-guest.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().expect("locks work in the temporary folder");
    file
}

/// The lines of the file that guest-setup/demo.sh writes when the guest is up.
pub fn settings() -> Vec<(String, String)> {
    let path = cache().join("demo.env");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("no demo guest ({}: {error}): {HINT}", path.display()));
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Where guest-setup/demo.sh and tests/run keep what they made.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    cache.join("virtpilot")
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Runs virsh on the system's libvirt.
pub fn virsh(arguments: &[&str]) -> Output {
    Command::new("virsh")
        .args(["--quiet", "--connect", "qemu:///system"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("virsh runs")
}

/// Runs a virsh command that must succeed, and gives its output.
pub fn virsh_done(arguments: &[&str]) -> String {
    let output = virsh(arguments);
    assert!(output.status.success(), "virsh {arguments:?}: {output:?}");
    String::from_utf8(output.stdout)
        .expect("virsh writes UTF-8")
        .trim()
        .to_owned()
}

/// The program `inside.py` at the other end of an ssh process.
struct Inside {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Inside {
    fn connect(guest: &Guest) -> Self {
        let quoted = AGENT.replace('\'', r"'\''");
        let known_hosts = format!(
            "UserKnownHostsFile={}",
            cache().join("guest_known_hosts").display()
        );
        let mut child = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-T",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
            ])
            .args([
                "-o",
                "ConnectTimeout=60",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                &known_hosts,
            ])
            .arg("-i")
            .arg(&guest.identity)
            .args([
                "-p",
                &guest.port.to_string(),
                &format!("root@{}", guest.host),
            ])
            .arg(format!("exec python3 -u -c '{quoted}'"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh starts (Debian: openssh-client)");
        let requests = child.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut inside = Self {
            child,
            requests,
            answers,
        };
        assert!(inside.answers(), "the demo guest does not answer: {HINT}");
        inside
    }

    fn answers(&mut self) -> bool {
        self.try_ask("mark", &json!([])).is_some()
    }

    fn ask(&mut self, what: &str, with: &Value) -> Value {
        let answer = self
            .try_ask(what, with)
            .unwrap_or_else(|| panic!("the connection into the guest is lost: {HINT}"));
        match answer.get("ok") {
            Some(answer) => answer.clone(),
            None => panic!("in the guest, {what} with {with}: {answer}"),
        }
    }

    fn try_ask(&mut self, what: &str, with: &Value) -> Option<Value> {
        let request = json!({"do": what, "with": with});
        writeln!(self.requests, "{request}").ok()?;
        let mut line = String::new();
        self.answers.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
