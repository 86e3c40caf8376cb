//! A libvirt daemon of a test's own, with tiny VMs of nothing but firmware: it can be stopped, and so can
//! its VMs, without harm to anybody.
//!
//! It is a session daemon of the user `nobody`, since one of root's would share the folders of the
//! system's daemon. All of it lies in one temporary folder and goes with it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "each test file uses a part of it, for short"
)]

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::mcp::{Client, binary};

/// The user `nobody`, on every Linux.
const NOBODY: u32 = 65534;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Daemon {
    process: Option<Child>,
    folder: TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a temporary folder");
        for name in ["run", "config/libvirt", "cache", "data", "socket", "home"] {
            fs::create_dir_all(folder.path().join(name)).expect("folders can be made");
        }
        // Without it, QEMU's output would go through a daemon more.
        let qemu = folder.path().join("config/libvirt/qemu.conf");
        fs::write(qemu, "stdio_handler = \"file\"\n").expect("files can be written");
        let sockets = folder.path().join("socket");
        let config = format!(
            "unix_sock_dir = \"{}\"\nauth_unix_rw = \"none\"\n",
            sockets.display()
        );
        fs::write(folder.path().join("libvirtd.conf"), config).expect("files can be written");
        for entry in [
            "",
            "run",
            "config",
            "config/libvirt",
            "cache",
            "data",
            "socket",
        ] {
            chown(folder.path().join(entry), Some(NOBODY), Some(NOBODY))
                .expect("these tests need root");
        }
        let mut daemon = Self {
            process: None,
            folder,
        };
        daemon.start_again();
        daemon
    }

    /// Starts it where it was stopped.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let at = |name: &str| self.folder.path().join(name);
        let log = fs::File::create(at("log")).expect("files can be written");
        let id = format!("--reuid={NOBODY}");
        let group = format!("--regid={NOBODY}");
        let process = Command::new("setpriv")
            .args([&id, &group, "--clear-groups", "libvirtd", "--config"])
            .arg(at("libvirtd.conf"))
            .arg("--pid-file")
            .arg(at("run/pid"))
            .env("HOME", at(""))
            .env("XDG_RUNTIME_DIR", at("run"))
            .env("XDG_CONFIG_HOME", at("config"))
            .env("XDG_CACHE_HOME", at("cache"))
            .env("XDG_DATA_HOME", at("data"))
            .current_dir(at(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv and libvirtd are there (Debian: util-linux, libvirt-daemon)");
        self.process = Some(process);
        let end = Instant::now() + PATIENCE;
        while !self.virsh(&["uri"]).status.success() {
            assert!(
                Instant::now() < end,
                "libvirtd does not start: {}",
                fs::read_to_string(at("log")).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Stops it as a service manager does; its VMs go on.
    pub fn stop(&mut self) {
        self.end("-TERM");
    }

    /// It dies; its VMs go on.
    pub fn kill(&mut self) {
        self.end("-KILL");
    }

    fn end(&mut self, signal: &str) {
        let mut process = self.process.take().expect("it runs");
        send(signal, process.id());
        process.wait().expect("it is our child");
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket/libvirt-sock")
    }

    pub fn uri(&self) -> String {
        format!("qemu+unix:///session?socket={}", self.socket().display())
    }

    /// A folder for servers and files of the test.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The server with these VMs; the first one is its default.
    pub fn server(&self, vms: &[&Machine]) -> Command {
        let mut command = binary(&self.home());
        command.args(["--uri", &self.uri()]);
        for vm in vms {
            command.args(["--vm", &vm.name]);
        }
        command
    }

    pub fn client(&self, vms: &[&Machine]) -> Client {
        Client::start(self.server(vms))
    }

    pub fn virsh(&self, arguments: &[&str]) -> Output {
        Command::new("virsh")
            .args(["--quiet", "--connect", &self.uri()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("virsh runs (Debian: libvirt-clients)")
    }

    /// Runs a virsh command that must succeed, and gives its output.
    pub fn virsh_done(&self, arguments: &[&str]) -> String {
        let output = self.virsh(arguments);
        assert!(output.status.success(), "virsh {arguments:?}: {output:?}");
        String::from_utf8(output.stdout)
            .expect("virsh writes UTF-8")
            .trim()
            .to_owned()
    }

    /// Makes a VM and starts it. It has a tablet and these devices besides, and its firmware has come up.
    pub fn machine(&self, suffix: &str, devices: &str) -> Machine {
        let name = format!("virtpilot-test-{suffix}");
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><on_crash>preserve</on_crash>\
             <devices><memballoon model='none'/><input type='tablet' bus='usb'/>{devices}</devices>\
             </domain>"
        );
        let file = self.folder.path().join("domain.xml");
        fs::write(&file, xml).expect("files can be written");
        self.virsh_done(&["define", file.to_str().expect("UTF-8")]);
        let machine = Machine { name };
        self.boot(&machine);
        machine
    }

    /// A VM with UEFI firmware, which writes to its serial console too, and nothing to boot, as it starts.
    pub fn uefi_machine(&self, suffix: &str) -> Machine {
        self.uefi_machine_with(suffix, "")
    }

    /// The same with these devices besides.
    pub fn uefi_machine_with(&self, suffix: &str, devices: &str) -> Machine {
        let firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd";
        assert!(
            Path::new(firmware).exists(),
            "the firmware is there (Debian: ovmf)"
        );
        self.started(
            suffix,
            &format!(
                "<memory unit='MiB'>256</memory>\
                 <os><type arch='x86_64' machine='q35'>hvm</type>\
                 <loader readonly='yes' type='pflash'>{firmware}</loader>\
                 <nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'/></os><features><acpi/></features>\
                 <devices><memballoon model='none'/><input type='tablet' bus='usb'/>\
                 <video><model type='vga'/></video><serial type='pty'/>{devices}</devices>"
            ),
        )
    }

    /// A VM of this description, as it starts.
    pub fn started(&self, suffix: &str, description: &str) -> Machine {
        let name = format!("virtpilot-test-{suffix}");
        let xml =
            format!("<domain type='qemu'><name>{name}</name><vcpu>1</vcpu>{description}</domain>");
        let file = self.folder.path().join("domain.xml");
        fs::write(&file, xml).expect("files can be written");
        self.virsh_done(&["define", file.to_str().expect("UTF-8")]);
        self.virsh_done(&["start", &name]);
        Machine { name }
    }

    /// A folder of this name that VMs may read and write.
    pub fn shared(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).expect("folders can be made");
        chown(&folder, Some(NOBODY), Some(NOBODY)).expect("these tests need root");
        folder
    }

    /// A VM with one screen.
    pub fn usual_machine(&self, suffix: &str) -> Machine {
        self.machine(suffix, "<video><model type='vga'/></video>")
    }

    /// Starts a VM, and waits until its firmware takes keys.
    pub fn boot(&self, machine: &Machine) {
        self.virsh_done(&["start", &machine.name]);
        self.await_firmware(machine);
    }

    /// Waits until the firmware takes keys. Its search for something to boot ends with a wait.
    pub fn await_firmware(&self, machine: &Machine) {
        let end = Instant::now() + PATIENCE;
        // The keyboard buffer's start, which SeaBIOS writes when it sets the keyboard up.
        while self.bytes(machine, 0x480, 2) != [0x1e, 0x00] {
            assert!(Instant::now() < end, "{} does not boot", machine.name);
            thread::sleep(Duration::from_millis(30));
        }
        thread::sleep(Duration::from_millis(500));
    }

    /// Bytes of the VM's memory.
    pub fn bytes(&self, machine: &Machine, address: u32, count: usize) -> Vec<u8> {
        let command = format!("xp /{count}bx {address:#x}");
        let text = self.virsh_done(&["qemu-monitor-command", &machine.name, "--hmp", &command]);
        // `0000000000000417: 0x04 0x00`, eight bytes a line.
        let bytes = text.lines().filter_map(|line| line.split_once(':'));
        bytes
            .flat_map(|(_, bytes)| bytes.split_whitespace())
            .map(|byte| {
                let digits = byte.trim_start_matches("0x");
                u8::from_str_radix(digits, 16).expect("the monitor writes hexadecimal")
            })
            .collect()
    }

    /// Which of Shift (right 1, left 2), Ctrl (4) and Alt (8) the firmware holds for pressed.
    pub fn modifiers_down(&self, machine: &Machine) -> u8 {
        // The first byte of the keyboard's flags in the BIOS data area.
        self.bytes(machine, 0x417, 1)[0] & 0x0f
    }

    /// Waits until the firmware sees these modifiers down.
    pub fn await_modifiers(&self, machine: &Machine, wanted: u8) {
        let end = Instant::now() + PATIENCE;
        loop {
            let down = self.modifiers_down(machine);
            if down == wanted || Instant::now() > end {
                assert_eq!(
                    down, wanted,
                    "the modifiers of {} that are down",
                    machine.name
                );
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What was typed since the start, as far as the firmware keeps it: 15 keys.
    pub fn typed(&self, machine: &Machine) -> String {
        // Two bytes a key, the character first.
        let buffer = self.bytes(machine, 0x41e, 32);
        let characters = buffer.chunks(2).map(|key| char::from(key[0]));
        characters.filter(|c| *c != '\0').collect()
    }

    /// The VM's QEMU process.
    pub fn process(&self, machine: &Machine) -> u32 {
        let file = format!("run/libvirt/qemu/run/{}.pid", machine.name);
        read_id(&self.folder.path().join(file)).expect("libvirt writes the process id")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let run = self.folder.path().join("run/libvirt/qemu/run");
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        for entry in fs::read_dir(run).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_vm = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("virtpilot-test-"));
            if is_vm && let Some(id) = read_id(&path) {
                let _ = Command::new("kill")
                    .args(["-KILL", &id.to_string()])
                    .output();
            }
        }
    }
}

fn read_id(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A VM of a [`Daemon`]. It ends with it.
pub struct Machine {
    pub name: String,
}

/// Sends a signal to a process that is there.
pub fn send(signal: &str, process: u32) {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
}
