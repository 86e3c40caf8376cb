//! Screens before there is a system, and of one that crashed, read on real VMs: every cell is right, or it
//! is told as unreadable.
//!
//! `UPDATE_FONTS=1 cargo test --test firmware` learns the glyph tables in `src/fonts/data` anew;
//! `docs/fonts.md` tells what they come from.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/initrd.rs"]
mod initrd;
#[path = "support/mcp.rs"]
mod mcp;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use daemon::{Daemon, Machine};
use tempfile::TempDir;
use virtpilot::{
    cells::{self, CellScreen},
    fonts::HostFonts,
    hypervisor::{Hypervisor, Libvirt},
    image::Picture,
    model::UNREADABLE,
};

/// Far longer than anything here takes to come up under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

const VGA_MEMORY: u32 = 0xb_8000;
const COLUMNS: usize = 80;
const ROWS: usize = 25;

/// How screens are looked at and read: with the fonts that come with the program and those of this host.
struct Reader {
    libvirt: Libvirt,
    fonts: HostFonts,
    _nothing_learned: TempDir,
}

impl Reader {
    fn new(daemon: &Daemon) -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            libvirt: Libvirt::new(daemon.uri()),
            fonts: HostFonts::new(folder.path()),
            _nothing_learned: folder,
        }
    }

    fn picture(&self, machine: &Machine) -> Picture {
        let name = machine.name.parse().unwrap();
        let shot = self.libvirt.screenshot(&name, 0).unwrap();
        Picture::decode(&shot.mime, shot.bytes).unwrap()
    }

    fn read(&self, machine: &Machine) -> Option<CellScreen> {
        cells::read(&self.picture(machine), self.fonts.get(), None)
    }

    /// The text screen of a VM, once it is what is waited for.
    fn once(&self, machine: &Machine, is_it: impl Fn(&[String]) -> bool) -> CellScreen {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.read(machine);
            let lines = screen.as_ref().map(rows).unwrap_or_default();
            if let Some(screen) = screen.filter(|_| is_it(&lines)) {
                return screen;
            }
            assert!(Instant::now() < end, "{}: {lines:#?}", machine.name);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Once its last row with text is this one.
    fn once_it_ends(&self, machine: &Machine, last: &str) -> CellScreen {
        self.once(machine, |rows| rows.last().is_some_and(|row| row == last))
    }
}

/// The text of each row, without blanks at its end, up to the last one with text.
fn rows(screen: &CellScreen) -> Vec<String> {
    let mut rows: Vec<String> = screen
        .rows()
        .map(|cells| cells.iter().map(|cell| cell.character).collect::<String>())
        .map(|row| row.trim_end().to_owned())
        .collect();
    while rows.last().is_some_and(String::is_empty) {
        rows.pop();
    }
    rows
}

/// The font, and the size and place of the grid, in short.
fn grid(screen: &CellScreen) -> String {
    let it = &screen.grid;
    format!(
        "{} {}×{} cells of {} at {}",
        it.font, it.columns, it.rows, it.cell, it.origin
    )
}

/// What the VGA card has in its cells, as the firmware wrote it: two bytes each, the character first.
fn vga_memory(daemon: &Daemon, machine: &Machine) -> Vec<String> {
    let bytes = daemon.bytes(machine, VGA_MEMORY, COLUMNS * ROWS * 2);
    let characters: Vec<char> = bytes
        .chunks(2)
        .map(|cell| of_code_page_437(cell[0]))
        .collect();
    let rows = characters.chunks(COLUMNS).map(|row| row.iter().collect());
    rows.collect()
}

fn of_code_page_437(code: u8) -> char {
    match code {
        0 | 0xff => ' ',
        0x18 => '↑',
        0x19 => '↓',
        0x20..=0x7e => char::from(code),
        0xb3 => '│',
        0xbf => '┐',
        0xc0 => '└',
        0xc4 => '─',
        0xd9 => '┘',
        0xda => '┌',
        _ => panic!("{code:#x} is not known here"),
    }
}

/// Checks a VGA text screen against the card's memory; gives how many cells show a character.
fn check_vga(daemon: &Daemon, machine: &Machine, screen: &CellScreen) -> usize {
    assert_eq!(grid(screen), "SeaBIOS-8x16 80×25 cells of 9×16 at 0,0");
    let truth = vga_memory(daemon, machine);
    let mut drawn = 0;
    let mut unreadable = 0;
    for ((row, cells), truth) in screen.rows().enumerate().zip(&truth) {
        for ((column, cell), wanted) in cells.iter().enumerate().zip(truth.chars()) {
            drawn += usize::from(wanted != ' ');
            if cell.character == UNREADABLE {
                unreadable += 1;
            } else {
                assert_eq!(cell.character, wanted, "row {row}, column {column}");
            }
        }
    }
    // The cursor's.
    assert!(unreadable <= 1, "{unreadable} cells are unreadable");
    drawn
}

#[test]
fn the_messages_of_a_bios_are_read() {
    let daemon = Daemon::start();
    let reader = Reader::new(&daemon);
    let bios = daemon.usual_machine("bios");
    let is_done = |rows: &[String]| rows.iter().any(|row| row == "No bootable device.");
    let screen = reader.once(&bios, is_done);
    assert!(rows(&screen)[0].starts_with("SeaBIOS (version "));
    assert!(check_vga(&daemon, &bios, &screen) > 100);
}

#[test]
fn the_menu_of_grub_is_read() {
    let daemon = Daemon::start();
    let reader = Reader::new(&daemon);
    let folder = daemon.shared("grub");
    let disk = grub_disk(&folder, "normal", MENU);
    let grub = grub_machine(&daemon, "grub", &[&disk]);
    let screen = reader.once(&grub, is_whole_menu);
    assert!(check_vga(&daemon, &grub, &screen) > 350);
    let rows = rows(&screen);
    let frame = rows.iter().position(|row| row.contains('┌')).unwrap();
    let line = "─".repeat(76);
    assert_eq!(rows[frame], format!(" ┌{line}┐"));
    let entries: Vec<&str> = rows[frame + 1..frame + 5]
        .iter()
        .map(|row| row.trim_matches([' ', '│']))
        .collect();
    assert_eq!(entries, ENTRIES);
    // The chosen entry is black on grey.
    let chosen = screen.rows().nth(frame + 1).unwrap()[3];
    assert_eq!(
        (chosen.character, chosen.foreground, chosen.background),
        ('D', [0; 3], [0xa8; 3])
    );
}

#[test]
fn the_graphical_menu_of_grub_is_read() {
    let daemon = Daemon::start();
    let reader = Reader::new(&daemon);
    let folder = daemon.shared("grub");
    let draw = "loadfont (hd1)/unicode.pf2\nset gfxmode=800x600\nterminal_output gfxterm\n";
    let modules = "normal biosdisk tar font gfxterm vbe";
    let disk = grub_disk(&folder, modules, &format!("{draw}{MENU}"));
    // GRUB's font is too large for what fits behind the first sector. GRUB reads archives as disks.
    let fonts = folder.join("fonts.tar");
    let packed = Command::new("tar")
        .args(["--create", "--directory=/usr/share/grub", "--file"])
        .arg(&fonts)
        .arg("unicode.pf2")
        .status();
    assert!(packed.unwrap().success());
    open_to_all(&fonts, 0o666);
    let grub = grub_machine(&daemon, "gfx", &[&disk, &fonts]);
    let screen = reader.once(&grub, is_whole_menu);
    assert_eq!(screen.grid.font, "GRUB-Unifont");
    assert_eq!(screen.unreadable(), 0);
    let rows = rows(&screen);
    let frame = rows.iter().position(|row| row.contains('┏')).unwrap();
    let entries: Vec<&str> = rows[frame + 1..frame + 5]
        .iter()
        .map(|row| row.trim_matches([' ', '┃']))
        .collect();
    assert_eq!(entries, ENTRIES);
    let help: Vec<&str> = rows
        .iter()
        .rev()
        .take(3)
        .rev()
        .map(|it| it.trim())
        .collect();
    assert_eq!(
        help,
        [
            "Use the ↑ and ↓ keys to select which entry is highlighted.",
            "Press enter to boot the selected OS, `e' to edit the commands before booting or `c'",
            "for a command-line.",
        ]
    );
}

const MENU: &str = "set timeout=-1\n\
    menuentry 'Debian GNU/Linux' { true }\n\
    menuentry 'Advanced options for Debian GNU/Linux' { true }\n\
    menuentry 'Memory test (memtest86+)' { true }\n";

/// The first lines within the menu's frame.
const ENTRIES: [&str; 4] = [
    "*Debian GNU/Linux",
    "Advanced options for Debian GNU/Linux",
    "Memory test (memtest86+)",
    "",
];

fn is_whole_menu(rows: &[String]) -> bool {
    rows.iter().any(|row| row.ends_with("for a command-line."))
}

/// A VM that boots from the first of these disks.
fn grub_machine(daemon: &Daemon, suffix: &str, disks: &[&Path]) -> Machine {
    let disks = disks.iter().zip('a'..).map(|(disk, letter)| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/>\
             <source file='{}'/><target dev='hd{letter}' bus='ide'/></disk>",
            disk.display()
        )
    });
    daemon.started(
        suffix,
        &format!(
            "<memory unit='MiB'>64</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <devices><memballoon model='none'/><video><model type='vga'/></video>{}</devices>",
            disks.collect::<String>()
        ),
    )
}

/// A disk that boots into GRUB, which has these modules behind its first sector.
fn grub_disk(folder: &Path, modules: &str, menu: &str) -> PathBuf {
    let [config, core, disk] = ["grub.cfg", "core.img", "disk.img"].map(|it| folder.join(it));
    fs::write(&config, menu).unwrap();
    let made = Command::new("grub-mkstandalone")
        .arg("--format=i386-pc")
        .args(["--install-modules", modules, "--modules", modules])
        .args(["--fonts=", "--locales=", "--themes=", "--output"])
        .arg(&core)
        .arg(format!("boot/grub/grub.cfg={}", config.display()))
        .output()
        .expect("grub-mkstandalone is there (Debian: grub-common, grub-pc-bin)");
    assert!(made.status.success(), "{made:?}");
    let sector = fs::read("/usr/lib/grub/i386-pc/boot.img").unwrap();
    fs::write(&disk, [sector, fs::read(core).unwrap()].concat()).unwrap();
    // A disk that can be written, as an IDE disk must be.
    open_to_all(&disk, 0o666);
    disk
}

/// A VM that runs the demo guest's kernel, on a screen of 1280×800 and with its messages in a file.
struct KernelMachine {
    machine: Machine,
    serial: PathBuf,
}

fn kernel_machine(
    daemon: &Daemon,
    suffix: &str,
    initrd: Option<Vec<u8>>,
    words: &str,
) -> KernelMachine {
    let folder = daemon.shared(suffix);
    // The guest's own is not for everybody to read.
    let kernel = folder.join("kernel");
    fs::copy(demo_kernel(), &kernel).unwrap();
    open_to_all(&kernel, 0o644);
    let initrd = initrd.map(|bytes| {
        let path = folder.join("initrd");
        fs::write(&path, bytes).unwrap();
        open_to_all(&path, 0o644);
        format!("<initrd>{}</initrd>", path.display())
    });
    let serial = folder.join("serial");
    // 0x37a is 1280×800 in 32 bits in QEMU's VGA BIOS: <https://www.qemu.org/docs/master/specs/standard-vga.html>
    // tells of its interface, and SeaBIOS's vgasrc/bochsvga.c has the list of modes.
    let machine = daemon.started(
        suffix,
        &format!(
            "<memory unit='MiB'>256</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{}</kernel>{}\
             <cmdline>vga=0x37a mitigations=off {words}</cmdline></os>\
             <devices><memballoon model='none'/><video><model type='vga'/></video>\
             <serial type='file'><source path='{}'/></serial></devices>",
            kernel.display(),
            initrd.unwrap_or_default(),
            serial.display()
        ),
    );
    KernelMachine { machine, serial }
}

fn open_to_all(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

fn demo_kernel() -> PathBuf {
    let xml = Command::new("virsh")
        .args(["--connect", "qemu:///system", "dumpxml", "virtpilot-demo"])
        .output()
        .expect("virsh runs (Debian: libvirt-clients)");
    let xml = String::from_utf8(xml.stdout).unwrap();
    let (_, rest) = xml
        .split_once("<kernel>")
        .expect("run `guest-setup/demo.sh --guest-only` first");
    rest.split_once("</kernel>").unwrap().0.into()
}

#[test]
fn a_crashed_kernels_last_words_are_read() {
    let daemon = Daemon::start();
    let reader = Reader::new(&daemon);
    // It has no root file system, and says so.
    let crash = kernel_machine(&daemon, "crash", None, "console=ttyS0 console=tty0");
    let end = "---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---";
    let screen = reader.once(&crash.machine, |rows| {
        rows.iter().any(|row| row.ends_with(end))
    });
    assert_eq!(grid(&screen), "linux-8x16 160×50 cells of 8×16 at 0,0");

    // The same was written to the serial port, where no row ends.
    let written = fs::read_to_string(&crash.serial).unwrap();
    let wrapped = written.lines().flat_map(|line| {
        let line: Vec<char> = line.trim_end_matches('\r').chars().collect();
        let rows = line.chunks(160).map(|row| row.iter().collect::<String>());
        let rows: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
        if rows.is_empty() {
            vec![String::new()]
        } else {
            rows
        }
    });
    let wrapped: Vec<String> = wrapped.collect();
    let mut seen = rows(&screen);
    // The cursor blinks below.
    if seen
        .last()
        .is_some_and(|row| *row == UNREADABLE.to_string())
    {
        seen.pop();
    }
    assert_eq!(seen.len(), 49);
    assert_eq!(seen, wrapped[wrapped.len() - seen.len()..]);
    assert!(screen.read() > 1500 && screen.unreadable() <= 1);
}

const KERNEL_TEXT: &str = include_str!("../src/fonts/data/linux-8x16.txt");
const UEFI_TEXT: &str = include_str!("../src/fonts/data/edk2-8x19.txt");

#[test]
fn the_kernels_own_font_is_learned_from_what_it_shows() {
    let daemon = Daemon::start();
    let reader = Reader::new(&daemon);
    let script = "#!/bin/sh\n\
        exec >/dev/tty1 </dev/tty1\n\
        printf '\\033[?25l\\033[2J\\033[H'\n\
        while IFS= read -r line; do printf '%s\\n' \"$line\"; done </text\n\
        while :; do read -r line; done\n";
    let initrd = initrd::initrd(script, &[("text", KERNEL_TEXT)]);
    let kernel = kernel_machine(&daemon, "kernel", Some(initrd), "quiet console=tty0").machine;
    is_learned(&daemon, &reader, &kernel, "linux-8x16", KERNEL_TEXT);
    let screen = reader.read(&kernel).unwrap();
    assert_eq!(grid(&screen), "linux-8x16 160×50 cells of 8×16 at 0,0");
    assert_eq!(rows(&screen), as_read(KERNEL_TEXT));
}

#[test]
fn uefi_firmware_is_read_and_its_font_is_learned() {
    let daemon = Daemon::start();
    let reader = Reader::new(&daemon);
    let folder = daemon.shared("disk");
    fs::write(
        folder.join("startup.nsh"),
        "@echo -off\r\nfs0:\r\ncls\r\ntype text.txt\r\n",
    )
    .unwrap();
    // Its shell reads text as UTF-16, of little end.
    let text = format!("\u{feff}{}", UEFI_TEXT.replace('\n', "\r\n"));
    let text: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(folder.join("text.txt"), text).unwrap();
    let disk = format!(
        "<disk type='dir' device='disk'><driver name='qemu' type='fat'/><source dir='{}'/>\
         <target dev='vda' bus='virtio'/><readonly/></disk>",
        folder.display()
    );
    let uefi = daemon.uefi_machine_with("uefi-font", &disk);
    is_learned(&daemon, &reader, &uefi, "edk2-8x19", UEFI_TEXT);
    let screen = reader.read(&uefi).unwrap();
    assert_eq!(grid(&screen), "edk2-8x19 100×31 cells of 8×19 at 240,105");
    let seen = rows(&screen);
    let text = as_read(UEFI_TEXT);
    assert_eq!(seen[..text.len()], text);
    assert_eq!(
        seen[text.len() + 1].trim_end_matches(['_', UNREADABLE]),
        "FS0:\\> "
    );

    // Another size of screen, with a menu in several colours.
    for key in ["KEY_E", "KEY_X", "KEY_I", "KEY_T", "KEY_ENTER"] {
        daemon.virsh_done(&["send-key", &uefi.name, key]);
    }
    let screen = reader.once_it_ends(&uefi, "  ↑↓=Move Highlight       <Enter>=Select Entry");
    assert_eq!(grid(&screen), "edk2-8x19 80×25 cells of 8×19 at 0,2");
    assert_eq!(screen.unreadable(), 0);
    let seen = rows(&screen);
    let menu: Vec<&str> = seen[7..14]
        .iter()
        .map(|row| row.get(..56).unwrap_or(row).trim_end())
        .collect();
    let expected = [
        "   Select Language            <Standard English>",
        "",
        " ► Device Manager",
        " ► Boot Manager",
        " ► Boot Maintenance Manager",
        "",
        "   Continue",
    ];
    assert_eq!(menu, expected, "{seen:#?}");
}

/// A text as it is read. What looks the same with its colours exchanged cannot be told apart.
fn as_read(text: &str) -> Vec<String> {
    let text = text.replace('█', " ").replace('◘', "•").replace('◙', "○");
    text.lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Checks that a font is learned from a VM's screen, once that shows the known text, as it comes with the
/// program.
fn is_learned(daemon: &Daemon, reader: &Reader, machine: &Machine, name: &str, text: &str) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fonts/data");
    let home = daemon.home();
    let known = data.join(format!("{name}.txt"));
    assert_eq!(fs::read_to_string(&known).unwrap(), text);
    let end = Instant::now() + PATIENCE;
    loop {
        let learned = mcp::binary(&home)
            .args([
                "learn-font",
                &machine.name,
                "--uri",
                &daemon.uri(),
                "--name",
                name,
                "--text",
            ])
            .arg(&known)
            .output()
            .unwrap();
        if learned.status.success() {
            let said = String::from_utf8(learned.stdout).unwrap();
            assert!(
                said.contains("; all of printable ASCII is there."),
                "{said}"
            );
            break;
        }
        let said = String::from_utf8(learned.stderr).unwrap();
        assert!(said.contains("\nNext: "), "{said}");
        assert!(
            Instant::now() < end,
            "{said}: {:#?}",
            reader.read(machine).as_ref().map(rows)
        );
        thread::sleep(Duration::from_millis(500));
    }
    // Where a server looks for learned fonts.
    let learned = fs::read(home.join(format!("data/virtpilot/fonts/{name}.psf"))).unwrap();
    let built_in = data.join(format!("{name}.psf"));
    if env::var_os("UPDATE_FONTS").is_some() {
        fs::write(&built_in, &learned).unwrap();
    }
    assert!(
        fs::read(&built_in).unwrap() == learned,
        "{name} is another one now"
    );
}
