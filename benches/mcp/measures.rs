//! What is measured, and beside what.

use std::{
    cell::{Cell, RefCell},
    fs, thread,
    time::Duration,
};

use serde_json::{Value, json};
use virtpilot::keyboard::{Layout, Typed};

use crate::{
    floor::{GAP, PRESS, Vm},
    guest::Guest,
    machine,
    mcp::{self, Client},
    openssh::OpenSsh,
    raw_ssh::RawSsh,
    report::{Comparison, Limit, Rate, Report},
    seeing, tell,
    timing::{in_turns, timed},
};

/// Between two calls, so that none waits for what the one before left to play.
const REST: Duration = Duration::from_millis(15);
/// A press that comes sooner after a click has to wait.
const CLICK_REST: Duration = Duration::from_millis(120);
/// An older look at the screen tells no more how large it is.
const LOOK_AGES: Duration = Duration::from_millis(600);

/// How many rounds of each.
const STARTS: usize = 20;
const MOVES: usize = 100;
const LATE_MOVES: usize = 10;
const CLICKS: usize = 30;
const TAPS: usize = 100;
const TEXTS: usize = 4;
const COMMANDS: usize = 40;
const TRANSFERS: usize = 3;

/// What is typed: with as much Shift as prose and shell lines have.
const TEXT: &str = "The quick brown fox jumps over the lazy dog; ls -l \"$HOME\" | wc -c\n";
const TEXT_REPEATS: usize = 5;

const MEBIBYTE: usize = 1024 * 1024;
const FILE_MEBIBYTES: usize = 32;
/// On the guest.
const REMOTE_FILE: &str = "/tmp/virtpilot-benchmark";

const START_BOUND: Duration = Duration::from_millis(50);
const LIST_BOUND: usize = 40_000;

pub(crate) fn all(vm: Vm) -> Report {
    let mut guest = Guest::enter();
    let mut report = Report::new(machine::describe(&vm));
    starts(&guest, &mut report);

    guest.open_typing_window();
    let bench = Bench {
        client: RefCell::new(guest.client()),
        vm,
        is_left: Cell::new(false),
    };
    bench.tool_list(&mut report);
    bench.moves(&mut report);
    bench.clicks(&mut report);
    bench.taps(&mut report);
    bench.typing(&mut guest, &mut report);
    bench.shell(&guest, &mut report);
    bench.transfers(&mut guest, &mut report);
    drop(bench);
    seeing::all(&mut guest, &mut report);
    report
}

fn starts(guest: &Guest, report: &mut Report) {
    tell("starting the server");
    let start = || {
        let client = RefCell::new(None);
        let time = timed(|| {
            let mut begun = Client::connect(guest.server());
            begun.initialize(mcp::PROTOCOL);
            *client.borrow_mut() = Some(begun);
        });
        drop(client);
        time
    };
    let [started] = in_turns(STARTS, Duration::ZERO, [&start]);
    report.limits.push(Limit {
        what: "process start to the answer to `initialize`".into(),
        value: started.milliseconds(),
        bound: "≤ 50 ms",
        is_met: started.median() <= START_BOUND,
    });
}

/// One server whose calls and their floors take turns.
struct Bench {
    client: RefCell<Client>,
    vm: Vm,
    is_left: Cell<bool>,
}

impl Bench {
    /// A call that must succeed. Its picture is not decoded: that is each client's own affair.
    fn call(&self, tool: &str, arguments: Value) -> Value {
        let mut client = self.client.borrow_mut();
        let id = client.send_call(tool, arguments);
        let answer = client.answer(id);
        let result = &answer["result"];
        assert!(result["isError"] == false, "{tool}: {answer}");
        result["structuredContent"].clone()
    }

    fn timed_call(&self, tool: &str, arguments: Value) -> Duration {
        timed(|| drop(self.call(tool, arguments)))
    }

    fn look(&self) -> Duration {
        self.timed_call("take_screenshot", json!({}))
    }

    /// One of two places within the window that was opened for this, by turns: at the place where
    /// it is, the pointer would have to step aside first.
    fn place(&self) -> (i32, i32) {
        self.is_left.set(!self.is_left.get());
        if self.is_left.get() {
            (500, 480)
        } else {
            (560, 520)
        }
    }

    fn move_there(&self) -> Duration {
        let (x, y) = self.place();
        self.timed_call("move_mouse", json!({"x": x, "y": y}))
    }

    fn tool_list(&self, report: &mut Report) {
        let answer = self.client.borrow_mut().request("tools/list", json!({}));
        let bytes = answer["result"].to_string().len();
        let tools = answer["result"]["tools"].as_array().map_or(0, Vec::len);
        report.limits.push(Limit {
            what: format!("the list of {tools} tools, as JSON"),
            value: format!("{bytes} bytes"),
            bound: "≤ 40 kB",
            is_met: bytes <= LIST_BOUND,
        });
    }

    fn moves(&self, report: &mut Report) {
        tell("move_mouse");
        let point = || timed(|| self.vm.point((520, 500)));
        let [ours, floor] = in_turns(MOVES, REST, [&|| self.move_there(), &point]);
        report.comparisons.push(Comparison {
            what: "`move_mouse`, one after the other".into(),
            ours,
            floor_name: "1 × `input-send-event`".into(),
            floor,
            bound: Some(1.5),
        });

        let look_and_point = || {
            timed(|| {
                self.vm.screenshot();
                self.vm.point((540, 500));
            })
        };
        let acts: [&dyn Fn() -> Duration; 2] = [&|| self.move_there(), &look_and_point];
        let [ours, floor] = in_turns(LATE_MOVES, LOOK_AGES, acts);
        report.comparisons.push(Comparison {
            what: "`move_mouse`, more than 0.5 s after the last look".into(),
            ours,
            floor_name: "`virDomainScreenshot`, 1 × `input-send-event`".into(),
            floor,
            bound: Some(1.5),
        });
    }

    fn clicks(&self, report: &mut Report) {
        tell("click");
        let click = || self.timed_call("click", json!({}));
        let bare = || timed(|| self.vm.click(Duration::ZERO));
        let held = || timed(|| self.vm.click(PRESS));
        let [ours, bare, held] = in_turns(CLICKS, CLICK_REST, [&click, &bare, &held]);
        report.comparisons.push(Comparison {
            what: "`click` where the pointer is".into(),
            ours: ours.clone(),
            floor_name: "2 × `input-send-event`, 30 ms between".into(),
            floor: held,
            bound: Some(1.3),
        });
        report.comparisons.push(Comparison {
            what: "the same".into(),
            ours,
            floor_name: "2 × `input-send-event`, nothing between".into(),
            floor: bare,
            bound: None,
        });

        let click_there = || {
            self.look();
            let (x, y) = self.place();
            self.timed_call("click", json!({"x": x, "y": y}))
        };
        let point_and_click = || {
            timed(|| {
                self.vm.point((520, 500));
                thread::sleep(GAP);
                self.vm.click(PRESS);
            })
        };
        let acts: [&dyn Fn() -> Duration; 2] = [&click_there, &point_and_click];
        let [ours, floor] = in_turns(CLICKS, CLICK_REST, acts);
        report.comparisons.push(Comparison {
            what: "`click` at a place, after a look".into(),
            ours,
            floor_name: "3 × `input-send-event`, 8 and 30 ms between".into(),
            floor,
            bound: Some(1.3),
        });
    }

    fn taps(&self, report: &mut Report) {
        tell("press_keys");
        let chord = Layout::compile("us")
            .expect("the layout is installed")
            .chord(&["F5".to_owned()])
            .expect("the layout has this key");
        let press = || self.timed_call("press_keys", json!({"keys": ["F5"]}));
        let raw = || timed(|| self.vm.send_key(&chord));
        let [ours, floor] = in_turns(TAPS, REST, [&press, &raw]);
        report.comparisons.push(Comparison {
            what: "`press_keys`, one key, until the reply".into(),
            ours,
            floor_name: "`virDomainSendKey`".into(),
            floor,
            bound: Some(1.5),
        });
    }

    fn typing(&self, guest: &mut Guest, report: &mut Report) {
        tell("type_text");
        let text = TEXT.repeat(TEXT_REPEATS);
        let typed = Layout::compile("us")
            .expect("the layout is installed")
            .type_text(&text)
            .expect("the layout has these characters");
        let chords: Vec<_> = typed.iter().flat_map(Typed::chords).cloned().collect();
        let guest = RefCell::new(guest);
        let type_text = || {
            let before = guest.borrow_mut().typed().len();
            let time = self.timed_call("type_text", json!({"text": text}));
            let typed = guest.borrow_mut().typed_in_the_end(before + text.len());
            assert!(
                typed[before..] == text,
                "what was typed is not what arrived"
            );
            time
        };
        let raw = || timed(|| self.vm.type_text(&chords));
        let [ours, floor] = in_turns(TEXTS, LOOK_AGES, [&type_text, &raw]);
        let characters = f64::from(u32::try_from(text.len()).expect("it is short"));
        report.comparisons.push(Comparison {
            what: "`type_text`, each character".into(),
            ours: ours.per(text.len()),
            floor_name: "`virDomainSendKey`, each key held for 2 ms".into(),
            floor: floor.per(text.len()),
            bound: None,
        });
        report.rates.push(Rate {
            what: "`type_text`".into(),
            unit: "characters/s",
            amount: characters,
            ours,
            floor_name: "`virDomainSendKey`, each key held for 2 ms".into(),
            floor,
        });
    }

    /// The user that commands run as.
    fn user(&self) -> String {
        let info = self.call("ssh_connection_info", json!({}));
        info["user"].as_str().expect("a user").to_owned()
    }

    fn shell(&self, guest: &Guest, report: &mut Report) {
        tell("ssh_execute");
        let user = self.user();
        let openssh = OpenSsh::connect(guest, &user);
        let russh = RawSsh::connect(guest, &user);
        let execute = || self.timed_call("ssh_execute", json!({"command": "true"}));
        let ssh = || timed(|| openssh.execute("true"));
        let raw = || timed(|| russh.execute("true"));
        let [ours, ssh, raw] = in_turns(COMMANDS, REST, [&execute, &ssh, &raw]);
        report.comparisons.push(Comparison {
            what: "`ssh_execute` of `true`".into(),
            ours: ours.clone(),
            floor_name: "`ssh` over a connection kept open".into(),
            floor: ssh,
            bound: Some(1.15),
        });
        report.comparisons.push(Comparison {
            what: "the same".into(),
            ours,
            floor_name: "russh alone, without starting a program".into(),
            floor: raw,
            bound: None,
        });
    }

    fn transfers(&self, guest: &mut Guest, report: &mut Report) {
        tell("ssh_upload, ssh_download");
        let openssh = OpenSsh::connect(guest, &self.user());
        let [here, back] = ["benchmark", "benchmark-back"].map(|it| guest.files().join(it));
        let content: Vec<u8> = (0..FILE_MEBIBYTES * MEBIBYTE)
            .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13).to_le_bytes()[0])
            .collect();
        fs::write(&here, &content).expect("there is room for a file");

        // What the call says of its transfer alone.
        let transfer = Cell::new(Duration::ZERO);
        let whole = |tool: &str, local: &std::path::Path| {
            let mut data = Value::Null;
            let time = timed(|| {
                data = self.call(
                    tool,
                    json!({"local_path": local, "remote_path": REMOTE_FILE}),
                );
            });
            assert_eq!(data["verified"], "sha256", "{data}");
            let milliseconds = data["transfer_ms"].as_u64().expect("a time");
            transfer.set(Duration::from_millis(milliseconds));
            time
        };
        let alone = || transfer.get();
        let put = format!("put \"{}\" {REMOTE_FILE}", here.display());
        let get = format!("get {REMOTE_FILE} \"{}\"", back.display());
        let cases = [("ssh_upload", &here, put), ("ssh_download", &back, get)];
        for (tool, local, line) in cases {
            let ours = || whole(tool, local);
            let sftp = || timed(|| openssh.sftp(&line));
            let [ours, alone, sftp] = in_turns(TRANSFERS, REST, [&ours, &alone, &sftp]);
            let amount = f64::from(u32::try_from(FILE_MEBIBYTES).expect("it is small"));
            for (what, ours) in [
                (
                    format!("`{tool}` of 32 MiB, with the guest's SHA-256"),
                    ours,
                ),
                ("its transfer alone".to_owned(), alone),
            ] {
                report.rates.push(Rate {
                    what,
                    unit: "MiB/s",
                    amount,
                    ours,
                    floor_name: "`sftp -b` over a connection kept open".into(),
                    floor: sftp.clone(),
                });
            }
        }
        let arrived = fs::read(&back).expect("the file came back");
        assert!(arrived == content, "what came back is what went");
        guest.run(&format!("rm -f {REMOTE_FILE}"));
    }
}
