//! Pictures of the screen, at two sizes, by each of the ways to get them.

use std::{
    cell::RefCell,
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use virtpilot::{
    hypervisor::{Hypervisor, Libvirt},
    model::VmName,
};

use crate::{
    floor::Vm,
    guest::Guest,
    mcp::Client,
    report::{Comparison, Limit, Report},
    tell,
    timing::{Times, in_turns, timed},
    vnc::Vnc,
};

const SIZES: [(u16, u16); 2] = [(1280, 800), (1920, 1080)];

const ROUNDS: usize = 30;

/// Screenshots for the memory that they leave in use, and how often it is looked at.
const LOOKS: usize = 5000;
const LOOKS_APART: usize = 500;

const MEMORY_BOUND: usize = 60 * 1024;
/// Less than one picture: growth by less is none.
const GROWTH_BOUND: usize = 512;

/// For how long a still screen is waited on, and for how long it is left alone.
const STILL: Duration = Duration::from_secs(20);

pub(crate) fn all(guest: &mut Guest, report: &mut Report) {
    fill_the_screen(guest);
    let vm = Vm::find(&guest.name);
    for size in SIZES {
        tell(&format!("take_screenshot at {}×{}", size.0, size.1));
        resize(guest, size);
        Pictures::begin(guest, &vm, size).measure(report);
    }
    resize(guest, SIZES[0]);
    memory(guest, report);
    stillness(guest, report);
    for window in ["list", "words"] {
        guest.end(window);
    }
}

/// Windows with text and colours, as people have them.
fn fill_the_screen(guest: &mut Guest) {
    let terminal = |title, geometry, colours: [&'static str; 4], line| {
        let mut program = vec!["xterm", "-T", title, "-geometry", geometry, "+sb"];
        program.extend(colours);
        program.extend(["-e", "sh", "-c", line]);
        program
    };
    let list = "ls --color=always -l /usr/bin | head -60; exec sleep 3600";
    let program = terminal(
        "list",
        "100x40+20+20",
        ["-bg", "black", "-fg", "white"],
        list,
    );
    guest.open_window("list", &program);
    let words = "head -60 /usr/share/common-licenses/GPL-3; exec sleep 3600";
    let program = terminal(
        "words",
        "80x30+600+240",
        ["-bg", "ivory", "-fg", "navy"],
        words,
    );
    guest.open_window("words", &program);
}

fn resize(guest: &mut Guest, (width, height): (u16, u16)) {
    guest.resize(width.into(), height.into());
    // The desktop draws itself anew.
    thread::sleep(Duration::from_secs(3));
}

/// One server with settings of its own.
struct Looker(RefCell<Client>);

impl Looker {
    fn start(guest: &Guest, name: &str, config: &str) -> Self {
        let file = guest.home().join(format!("{name}.toml"));
        fs::write(&file, config).expect("there is room for a file");
        let mut server = guest.server();
        server.arg("--config").arg(file);
        Self(RefCell::new(Client::start(server)))
    }

    fn call(&self, tool: &str, arguments: Value) -> Duration {
        let mut client = self.0.borrow_mut();
        timed(|| {
            let id = client.send_call(tool, arguments);
            let answer = client.answer(id);
            assert!(answer["result"]["isError"] == false, "{tool}: {answer}");
        })
    }

    fn look(&self, pointer: bool) -> Duration {
        self.call("take_screenshot", json!({"pointer": pointer}))
    }
}

/// All ways to a picture, at one size of the screen.
struct Pictures<'a> {
    vm: &'a Vm,
    name: VmName,
    size: (u16, u16),
    libvirt: Libvirt,
    native: Looker,
    scaled: Looker,
    fast: Looker,
    fast_scaled: Looker,
    vnc: Vnc,
}

impl<'a> Pictures<'a> {
    fn begin(guest: &Guest, vm: &'a Vm, size: (u16, u16)) -> Self {
        let native = format!("[vm.\"{}\"]\nlong_edge = 0\n", guest.name);
        let fast = "capture = \"fast\"\n";
        let it = Self {
            vm,
            name: guest.name.parse().expect("a VM's name"),
            size,
            libvirt: Libvirt::new("qemu:///system"),
            native: Looker::start(guest, "native", &native),
            scaled: Looker::start(guest, "scaled", ""),
            fast: Looker::start(guest, "fast", &format!("{fast}{native}")),
            fast_scaled: Looker::start(guest, "fast-scaled", fast),
            vnc: Vnc::connect(vm),
        };
        for looker in [&it.native, &it.fast] {
            looker.look(false);
            looker.call("move_mouse", json!({"x": 640, "y": 400}));
        }
        it
    }

    fn measure(&self, report: &mut Report) {
        let raw = || timed(|| drop(self.vm.screenshot()));
        let glance = || timed(|| drop(self.libvirt.glance(&self.name, 0).expect("a picture")));
        let virsh = || timed(|| self.virsh());
        let vnc = || timed(|| assert!(self.vnc.picture(self.size) > 0));
        let rests = Duration::ZERO;
        let [floor, native, marked, fast, fast_marked, glance, virsh, vnc] = in_turns(
            ROUNDS,
            rests,
            [
                &raw,
                &|| self.native.look(false),
                &|| self.native.look(true),
                &|| self.fast.look(false),
                &|| self.fast.look(true),
                &glance,
                &virsh,
                &vnc,
            ],
        );
        let size = format!("{}×{}", self.size.0, self.size.1);
        let mut add = |what: &str, ours: &Times, floor_name: &str, floor: &Times, bound| {
            report.comparisons.push(Comparison {
                what: format!("{what}, {size}"),
                ours: ours.clone(),
                floor_name: floor_name.to_owned(),
                floor: floor.clone(),
                bound,
            });
        };
        let name = "`virDomainScreenshot` and its stream";
        add(
            "`take_screenshot`, passed on as it is",
            &native,
            name,
            &floor,
            Some(1.2),
        );
        add(
            "`take_screenshot`, the pointer drawn",
            &marked,
            name,
            &floor,
            Some(1.6),
        );
        add(
            "`take_screenshot`, `capture` fast",
            &fast,
            name,
            &floor,
            Some(0.6),
        );
        add(
            "the same, the pointer drawn",
            &fast_marked,
            name,
            &floor,
            Some(0.6),
        );
        add(
            "a look that is not shown (capture alone)",
            &glance,
            name,
            &floor,
            Some(0.25),
        );
        add(
            "`take_screenshot`, passed on as it is",
            &native,
            "`virsh screenshot` into a file",
            &virsh,
            None,
        );
        add(
            "`take_screenshot`, `capture` fast",
            &fast,
            "a whole picture over VNC, not encoded",
            &vnc,
            None,
        );
        if self.size.0 > 1568 {
            let [floor, scaled, fast_scaled] = in_turns(
                ROUNDS,
                rests,
                [&raw, &|| self.scaled.look(false), &|| {
                    self.fast_scaled.look(false)
                }],
            );
            add(
                "`take_screenshot`, scaled to 1568×882",
                &scaled,
                name,
                &floor,
                Some(1.6),
            );
            add(
                "the same, `capture` fast",
                &fast_scaled,
                name,
                &floor,
                Some(0.6),
            );
        }
        self.libvirt.close();
    }

    fn virsh(&self) {
        let status = Command::new("virsh")
            .args([
                "-c",
                "qemu:///system",
                "screenshot",
                self.name.as_str(),
                "/dev/null",
            ])
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("virsh is there").success(), "a screenshot");
    }
}

fn memory(guest: &Guest, report: &mut Report) {
    tell("memory after five thousand screenshots");
    let looker = Looker::start(guest, "memory", "capture = \"fast\"\n");
    let process = looker.0.borrow().process_id();
    looker.look(true);
    looker.call("move_mouse", json!({"x": 640, "y": 400}));
    let mut samples = vec![];
    for look in 1..=LOOKS {
        looker.look(look % 2 == 0);
        if look % LOOKS_APART == 0 {
            samples.push(resident_kib(process));
        }
    }
    let half = samples[samples.len() / 2 - 1];
    let end = samples[samples.len() - 1];
    let list: Vec<_> = samples
        .iter()
        .map(|kib| format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024))
        .collect();
    report.limits.push(Limit {
        what: format!(
            "resident memory after {LOOKS_APART}, {}, … {LOOKS} screenshots, with `capture` fast",
            2 * LOOKS_APART
        ),
        value: format!("{} MiB", list.join(", ")),
        bound: "≤ 60 MiB, and no growth in the second half",
        is_met: end <= MEMORY_BOUND && end <= half + GROWTH_BOUND,
    });
}

/// `VmRSS` of proc(5), which is in KiB.
fn resident_kib(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number
        .and_then(|it| it.trim().parse().ok())
        .expect("a number")
}

/// What waiting on a screen that does not change costs the host, besides what the guest costs anyway.
fn stillness(guest: &mut Guest, report: &mut Report) {
    for size in SIZES {
        tell(&format!("waiting for a change at {}×{}", size.0, size.1));
        resize(guest, size);
        let looker = Looker::start(guest, "still", "");
        let processes = [
            looker.0.borrow().process_id(),
            process_of("/run/libvirtd.pid"),
            process_of(&format!("/run/libvirt/qemu/{}.pid", guest.name)),
        ];
        let used = |act: &dyn Fn()| {
            let before: f64 = processes.iter().map(|it| seconds_of_processor(*it)).sum();
            act();
            let after: f64 = processes.iter().map(|it| seconds_of_processor(*it)).sum();
            after - before
        };
        let idle = used(&|| thread::sleep(STILL));
        let waiting = used(&|| {
            let mut client = looker.0.borrow_mut();
            let conditions = json!([{"condition": "change", "share": 0.5}]);
            let arguments = json!({"conditions": conditions, "timeout": STILL.as_secs()});
            let id = client.send_call("wait_for", arguments);
            let answer = client.answer(id);
            assert!(
                answer["result"]["isError"] == true,
                "nothing changes: {answer}"
            );
        });
        let share = (waiting - idle) / STILL.as_secs_f64() * 100.0;
        report.limits.push(Limit {
            what: format!(
                "waiting on a still screen of {}×{}: processor of the server, libvirt and QEMU, \
                 less what they use anyway",
                size.0, size.1
            ),
            value: format!("{share:.1} % of one core"),
            bound: "≤ 10 %",
            is_met: share <= 10.0,
        });
    }
    resize(guest, SIZES[0]);
}

fn process_of(file: &str) -> u32 {
    let text = fs::read_to_string(file).expect("it runs");
    text.trim().parse().expect("a process id")
}

/// User and system time of a process: fields 14 and 15 of proc(5)'s `stat`, in hundredths of a second.
fn seconds_of_processor(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let (_, behind) = stat.rsplit_once(')').expect("proc(5)");
    let times = behind.split_whitespace().skip(11).take(2);
    times
        .map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0)
        .sum()
}
