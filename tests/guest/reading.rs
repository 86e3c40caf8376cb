//! Text screens read off pictures, against what the guest's kernel says that its consoles hold.

use std::{sync::LazyLock, thread, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use virtpilot::{
    cells::{self, CellScreen, Colour},
    fonts::HostFonts,
    image::Picture,
};

use crate::{guest::Guest, mcp::Client};

/// All fonts of the host, as the server has them; nothing was learned.
static FONTS: LazyLock<HostFonts> = LazyLock::new(|| HostFonts::new("/nonexistent"));

/// A virtual console that has no login, and its device.
const NUMBER: u32 = 9;

/// The kernel's colours, in the order of VGA's attributes. Source: `default_red` and its like in `vt.c`.
const PALETTE: [Colour; 16] = [
    [0, 0, 0],
    [0, 0, 0xaa],
    [0, 0xaa, 0],
    [0, 0xaa, 0xaa],
    [0xaa, 0, 0],
    [0xaa, 0, 0xaa],
    [0xaa, 0x55, 0],
    [0xaa, 0xaa, 0xaa],
    [0x55, 0x55, 0x55],
    [0x55, 0x55, 0xff],
    [0x55, 0xff, 0x55],
    [0x55, 0xff, 0xff],
    [0xff, 0x55, 0x55],
    [0xff, 0x55, 0xff],
    [0xff, 0xff, 0x55],
    [0xff, 0xff, 0xff],
];

/// A console in the foreground, in place of the desktop, which comes back when it is dropped.
struct Console<'a> {
    guest: &'a mut Guest,
    client: Client,
}

/// What the kernel says about one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Truth {
    character: char,
    foreground: Colour,
    background: Colour,
}

struct Held {
    columns: usize,
    cursor: usize,
    cells: Vec<Truth>,
}

impl<'a> Console<'a> {
    fn enter(guest: &'a mut Guest) -> Self {
        let client = guest.client();
        let mut console = Self { guest, client };
        console.switch(NUMBER);
        console
    }

    fn switch(&mut self, number: u32) {
        self.guest.run(&format!("chvt {number}"));
        self.guest.until("the console is in front", |guest| {
            let shown = guest.run("fgconsole");
            (shown.trim() == number.to_string()).then_some(())
        });
    }

    /// Loads a font, and empties the screen.
    fn set_font(&mut self, name: &str) {
        // Only from the first look at its characters on does the kernel keep them.
        self.guest.run(&format!(
            "setfont -C /dev/tty{NUMBER} {name} && cat /dev/vcsu{NUMBER} > /tmp/held && \
             printf '\\033c' > /dev/tty{NUMBER}"
        ));
    }

    /// Writes the output of a shell line on the screen.
    fn write(&mut self, line: &str) {
        self.guest.run(&format!("({line}) > /dev/tty{NUMBER}"));
    }

    fn picture(&mut self) -> Picture {
        let reply = self
            .client
            .done("take_screenshot", json!({"pointer": false}));
        Picture::decode("image/png", reply.pictures[0].1.clone()).unwrap()
    }

    /// What the screen holds now. `is_large` is its font if it has more than 256 glyphs, which takes a bit of
    /// each cell's colours.
    fn held(&mut self, is_large: bool) -> Held {
        let mut bytes = |device: &str| {
            let text = self
                .guest
                .run(&format!("base64 -w 0 /dev/{device}{NUMBER}"));
            STANDARD.decode(text.trim()).unwrap()
        };
        let (characters, attributes) = (bytes("vcsu"), bytes("vcsa"));
        let [_, columns, x, y] = attributes[..4] else {
            panic!("vcsa begins with the size and the cursor")
        };
        let columns = usize::from(columns);
        let shift = u32::from(is_large);
        let colours = attributes[4..].as_chunks::<2>().0.iter().map(|cell| {
            let word = u16::from_le_bytes(*cell);
            let colour = |at: u32, mask: u16| PALETTE[usize::from((word >> (at + shift)) & mask)];
            (colour(8, 15), colour(12, 7))
        });
        let characters = characters.as_chunks::<4>().0.iter().map(|cell| {
            let character = char::from_u32(u32::from_le_bytes(*cell));
            character.filter(|it| *it != '\0').unwrap_or(' ')
        });
        let cells = characters.zip(colours);
        Held {
            columns,
            cursor: usize::from(y) * columns + usize::from(x),
            cells: cells
                .map(|(character, (foreground, background))| Truth {
                    character,
                    foreground,
                    background,
                })
                .collect(),
        }
    }

    /// Reads the screen until it shows what it holds, and gives how many cells show a character.
    fn assert_read(&mut self, name: &str, is_large: bool) -> usize {
        let mut wrong = vec![];
        for _ in 0..20 {
            let held = self.held(is_large);
            let picture = self.picture();
            let screen = cells::read(&picture, FONTS.get(), None);
            let screen = screen.unwrap_or_else(|| panic!("{name}: this is a text screen"));
            // Cells of the same size and place, whatever font of the same glyphs is named.
            let again = cells::read(&picture, FONTS.get(), Some(&screen.grid));
            assert_eq!(again.as_ref(), Some(&screen), "{name}: read with a hint");
            wrong = differences(&screen, &held);
            if wrong.is_empty() {
                return screen.read();
            }
            // The kernel paints a little after the cells are written.
            thread::sleep(Duration::from_millis(200));
        }
        panic!(
            "{name}: {} cells: {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(20)]
        );
    }
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        self.guest.try_run(&format!(
            "setfont -C /dev/tty{NUMBER} Uni2-Fixed16; chvt 7; deallocvt {NUMBER}"
        ));
        if !thread::panicking() {
            self.switch(7);
        }
    }
}

/// The cells that are not read as they are held, all but the cursor's.
fn differences(screen: &CellScreen, held: &Held) -> Vec<String> {
    assert_eq!(screen.grid.columns as usize, held.columns);
    assert_eq!(screen.cells.len(), held.cells.len());
    let cells = screen.cells.iter().zip(&held.cells).enumerate();
    let cells = cells.filter(|(at, _)| *at != held.cursor);
    let wrong = cells.filter(|(_, (cell, truth))| {
        let shown = (cell.character, cell.foreground, cell.background);
        let is_blank = truth.character == ' ' || truth.foreground == truth.background;
        // Of a blank nobody sees the foreground.
        let expected = match truth.character {
            _ if is_blank => (' ', truth.background, truth.background),
            '█' => (' ', truth.foreground, truth.foreground),
            character => (character, truth.foreground, truth.background),
        };
        shown != expected
    });
    let told = wrong.map(|(at, (cell, truth))| {
        let place = (at % held.columns, at / held.columns);
        format!("{place:?} {truth:?} read as {cell:?}")
    });
    told.collect()
}

const PANGRAM: &str =
    r##"The quick brown fox jumps over the lazy dog. 0123456789 !"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##;

/// Text in all colours, bold and inverse, and a coloured list of files.
fn fill(console: &mut Console<'_>, words: &str) {
    console.write(&format!(
        "cat <<'END'\n{PANGRAM}\n{words}\n┌──┬─┐ ▒█\n├──┼─┤\n└──┴─┘\nEND\n\
         for f in 30 31 32 33 34 35 36 37; do for b in 40 41 42 43 44 45 46 47; do \
         printf '\\033[%s;%sm A%s%s \\033[1mq\\033[0m' $f $b $f $b; done; echo; done; \
         printf '\\033[7m inverse text \\033[0m\\n'; \
         TERM=linux ls --color=always -la /usr/bin | head -20; printf 'demo login: '"
    ));
}

#[test]
fn a_console_is_read_exactly_in_any_font() {
    let mut guest = Guest::enter();
    let mut console = Console::enter(&mut guest);
    // The font, whether it has more than 256 glyphs, its cell, and words in what else it can show.
    let cases = [
        (
            "Uni2-Fixed16",
            true,
            (8, 16),
            "grüße Ünï ñ¿ привет мир Łódź",
        ),
        (
            "Uni2-Terminus16",
            true,
            (8, 16),
            "grüße Ünï ñ¿ привет мир Łódź",
        ),
        (
            "Uni2-TerminusBold16",
            true,
            (8, 16),
            "grüße Ünï ñ¿ привет мир Łódź",
        ),
        (
            "Uni2-Terminus28x14",
            true,
            (14, 28),
            "grüße Ünï ñ¿ привет мир",
        ),
        (
            "Uni2-Terminus12x6",
            true,
            (6, 12),
            "grüße Ünï ñ¿ привет мир",
        ),
        ("Uni2-VGA16", true, (8, 16), "grüße Ünï ñ¿ привет мир"),
        ("Uni2-VGA8", true, (8, 8), "grüße"),
        ("Uni2-VGA32x16", true, (16, 32), "grüße Ünï"),
        ("Lat15-Fixed18", false, (8, 18), "grüße Ünï ñ¿"),
        ("Lat15-TerminusBold20x10", false, (10, 20), "grüße Ünï ñ¿"),
        ("CyrSlav-Fixed16", false, (8, 16), "привет мир Сервис"),
        ("CyrSlav-VGA14", false, (8, 14), "привет мир Сервис"),
    ];
    for (name, is_large, (width, height), words) in cases {
        console.set_font(name);
        fill(&mut console, words);
        let read = console.assert_read(name, is_large);
        let grid = cells::read(&console.picture(), FONTS.get(), None)
            .unwrap()
            .grid;
        assert_eq!(
            (grid.cell.width, grid.cell.height),
            (width, height),
            "{name}"
        );
        println!(
            "{name}: {}×{} cells, {read} characters, read as {}",
            grid.columns, grid.rows, grid.font
        );
    }
}

/// A program of the whole screen, with frames and shades of ncurses's own, which ends when its file is gone.
const FULL_SCREEN: &str = r#"
import curses, os, time

def show(screen):
    curses.curs_set(0)
    for colour in range(1, 8):
        curses.init_pair(colour, colour, 7 - colour)
    height, width = screen.getmaxyx()
    screen.box()
    screen.addstr(0, 4, " Configure the network ", curses.A_REVERSE)
    for row in range(2, height - 2, 3):
        colour = curses.color_pair(row % 7 + 1)
        screen.addstr(row, 3, "%3d  eth0: Ethernet, link is up " % row, colour)
        screen.hline(row + 1, 1, curses.ACS_HLINE, width - 2)
        screen.addch(row + 1, 0, curses.ACS_LTEE)
        screen.addch(row + 1, width - 1, curses.ACS_RTEE)
        screen.addch(row + 1, width // 2, curses.ACS_PLUS)
    for row in range(2, height - 4):
        screen.addch(row, width - 4, curses.ACS_CKBOARD)
        screen.addch(row, width // 2 + 3, curses.ACS_VLINE, curses.A_BOLD)
    screen.addstr(1, 8, "<Go Back>", curses.A_REVERSE | curses.A_BOLD)
    screen.refresh()
    open("/tmp/full-screen", "w").close()
    while os.path.exists("/tmp/full-screen"):
        time.sleep(0.05)

curses.wrapper(show)
"#;

#[test]
fn frames_of_a_full_screen_program_are_read() {
    let mut guest = Guest::enter();
    let mut console = Console::enter(&mut guest);
    for (name, is_large) in [
        ("Uni2-Fixed16", true),
        ("Uni2-Terminus24x12", true),
        ("Lat15-VGA16", false),
    ] {
        console.set_font(name);
        console.guest.run(&format!(
            "rm -f /tmp/full-screen; cat > /tmp/full-screen.py <<'END'\n{FULL_SCREEN}\nEND\n\
             (TERM=linux LANG=C.UTF-8 setsid -f python3 /tmp/full-screen.py \
             < /dev/tty{NUMBER} > /dev/tty{NUMBER} 2>&1)"
        ));
        console
            .guest
            .until("the program has drawn its screen", |guest| {
                (guest.try_run("test -e /tmp/full-screen").code == 0).then_some(())
            });
        let read = console.assert_read(name, is_large);
        let screen = cells::read(&console.picture(), FONTS.get(), None).unwrap();
        console.guest.run("rm /tmp/full-screen");
        let lines: Vec<String> = screen
            .to_reading()
            .lines
            .into_iter()
            .map(|line| line.text)
            .collect();
        let [first, .., last] = lines.as_slice() else {
            panic!("{name}: {lines:?}")
        };
        let width = screen.grid.columns as usize;
        let title = " Configure the network ";
        assert_eq!(
            *first,
            format!("┌───{title}{}┐", "─".repeat(width - 5 - title.len())),
            "{name}"
        );
        assert_eq!(*last, format!("└{}┘", "─".repeat(width - 2)), "{name}");
        let button = lines.iter().find(|line| line.contains("<Go Back>"));
        assert!(
            button.is_some_and(|line| line.starts_with("│       <Go Back>")),
            "{name}: {button:?}"
        );
        println!("{name}: {read} characters");
    }
}

#[test]
fn what_the_kernel_says_is_read() {
    let mut guest = Guest::enter();
    let mut console = Console::enter(&mut guest);
    console.set_font("Uni2-Fixed16");
    console.guest.run(
        "echo '<2>virtpilot: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700' > /dev/kmsg",
    );
    console
        .guest
        .until("the message is on the console", |guest| {
            let held = guest.run(&format!("cat /dev/vcs{NUMBER}"));
            held.contains("flags 0x80700").then_some(())
        });
    console.assert_read("Uni2-Fixed16", true);
    let screen = cells::read(&console.picture(), FONTS.get(), None).unwrap();
    let lines = screen.to_reading().lines;
    let said = "virtpilot: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700";
    assert!(
        lines.iter().any(|line| line.text.ends_with(said)),
        "{lines:?}"
    );
}

#[test]
fn a_desktop_is_no_text_screen() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    // A terminal in a font that consoles have too, with a frame around it and a desktop behind.
    let program = [
        "xterm",
        "-T",
        "same font",
        "-fn",
        "8x13",
        "-e",
        "sh",
        "-c",
        "ls -la /usr/bin | head -24; sleep 600",
    ];
    guest.open_window("same font", &program);
    for _ in 0..3 {
        let reply = client.done("take_screenshot", json!({"pointer": false}));
        let picture = Picture::decode("image/png", reply.pictures[0].1.clone()).unwrap();
        let screen = cells::read(&picture, FONTS.get(), None);
        assert_eq!(screen.map(|screen| screen.to_reading()), None);
        thread::sleep(Duration::from_millis(300));
    }
}
