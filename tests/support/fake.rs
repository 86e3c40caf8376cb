//! A hypervisor that records what reaches it, and computes from that what a guest would have seen:
//! which keys and buttons are down, and how its screen looks.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "each test file uses a part of it, for short"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use virtpilot::{
    cells::Font,
    config::{Config, Environment, Overrides},
    fleet::Fleet,
    guest::Guests,
    hypervisor::{
        AddressSource, Bus, Console, Devices, Domain, DomainState, Forward, Hypervisor,
        HypervisorError, InputEvent, Pointer, Screenshot, VcpuTime,
    },
    model::{Chord, ScreenSize, VmName},
    secrets::Secrets,
};

/// A hypervisor with one VM for each name that it is asked about.
#[derive(Debug)]
pub struct Fake {
    started: Instant,
    state: Mutex<State>,
    /// Told when a blocked call may go on.
    unblocked: Condvar,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct State {
    devices: Devices,
    pointers: Vec<Pointer>,
    domain: DomainState,
    /// How often the VMs changed, where that is told, and how often their state was asked.
    changes: Option<u64>,
    looked_up: usize,
    /// Changes with every start of the VMs.
    id: u32,
    size: ScreenSize,
    /// Sizes of further heads.
    heads: Vec<ScreenSize>,
    mime: &'static str,
    /// What the first head shows, look by look; without any, the picture of [`ppm`].
    scenes: Vec<Scene>,
    then: Then,
    /// What the next call that presses or points brings onto the screen.
    reaction: Option<Scene>,
    /// How many looks the first head had since the scenes were set.
    looks: usize,
    /// What happens just before the so-manieth of them.
    at_looks: BTreeMap<usize, AtLook>,
    /// How many looks are under way, and how many there were at most.
    looking: usize,
    most_looking: usize,
    /// Whether the pointing devices cannot be told.
    hides_pointers: bool,
    restored: bool,
    forwards: Vec<Forward>,
    leases: Vec<IpAddr>,
    neighbours: Vec<IpAddr>,
    is_elsewhere: bool,
    calls: Vec<Call>,
    last_look: Option<Duration>,
    troubles: BTreeMap<usize, Trouble>,
    /// Whether calls that should block still do.
    blocks: bool,
    down: BTreeSet<String>,
    /// Whether guests read their keyboards, and whether there is something that they did not read.
    reads: bool,
    unread: bool,
    /// How often that was asked.
    asked: usize,
    /// Whether their processors wait for the host's half of the time.
    starves: bool,
    /// What guests write to their serial consoles, where they have one.
    console: Option<Arc<Mutex<Vec<u8>>>>,
    /// Of which one can be open at a time, and how long its closing takes.
    open: Arc<Mutex<bool>>,
    closing: Duration,
}

/// What happens to a call that presses or points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is refused, and nothing of it arrives.
    Fails,
    /// The same, since the VM is paused.
    Paused,
    /// It arrives, and its answer makes no sense.
    Garbled,
    /// It does not return before [`Fake::unblock`].
    Blocks,
}

impl State {
    fn react(&mut self) {
        if let Some(scene) = self.reaction.take() {
            self.scenes = vec![scene];
            self.then = Then::Stay;
            self.looks = 0;
        }
    }
}

/// The pointing devices of a PC with a USB tablet whose driver is up.
fn pointers() -> Vec<Pointer> {
    let pointer = |index, name: &str, absolute| Pointer {
        index,
        name: name.to_owned(),
        absolute,
        current: absolute,
    };
    vec![
        pointer(2, "QEMU PS/2 Mouse", false),
        pointer(3, "QEMU HID Tablet", true),
    ]
}

/// What a head shows: white rectangles `[x0, y0, x1, y1]` on the picture of [`ppm`], or QEMU's
/// placeholder.
#[derive(Debug, Clone)]
pub enum Scene {
    Painted {
        width: u32,
        height: u32,
        white: Vec<[u32; 4]>,
    },
    Placeholder,
    /// A text screen of 100×40 cells, these lines in grey from its top left corner.
    Console(Vec<&'static str>),
}

/// What comes after the last scene: it stays, or they begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    Again,
}

/// What happens just before a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLook {
    Becomes(DomainState),
    /// The look does not return before [`Fake::unblock`].
    Blocks,
}

/// A call that presses or points.
#[derive(Debug, Clone)]
pub struct Call {
    pub vm: String,
    /// Since the fake was made, when the call began.
    pub at: Duration,
    /// What was asked for: `keys 29+30`, `29 down, 42 down`, `left up`, `at 100,200`; with `!` in
    /// front where it failed.
    pub what: String,
    /// How long QEMU plays it, for taps of keys.
    pub plays: Duration,
}

impl Fake {
    /// VMs with a tablet that never sleeps, a PS/2 keyboard and one screen of this size.
    pub fn new(width: u32, height: u32) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            state: Mutex::new(State {
                devices: Devices {
                    usb: true,
                    driver: "kvm".to_owned(),
                    tablet: Some(Bus::Virtio),
                    keyboards: vec![Bus::Ps2],
                    heads: 1,
                    video: vec!["virtio".to_owned()],
                    forwards: vec![],
                    networks: vec![],
                },
                pointers: pointers(),
                domain: DomainState::Running,
                changes: None,
                looked_up: 0,
                id: 1,
                size: ScreenSize { width, height },
                heads: vec![],
                mime: "image/x-portable-pixmap",
                scenes: vec![],
                then: Then::Stay,
                reaction: None,
                looks: 0,
                at_looks: BTreeMap::new(),
                looking: 0,
                most_looking: 0,
                forwards: vec![],
                leases: vec![],
                neighbours: vec![],
                is_elsewhere: false,
                hides_pointers: false,
                restored: false,
                calls: vec![],
                last_look: None,
                troubles: BTreeMap::new(),
                blocks: true,
                down: BTreeSet::new(),
                reads: true,
                unread: false,
                asked: 0,
                starves: false,
                console: None,
                open: Arc::default(),
                closing: Duration::ZERO,
            }),
            unblocked: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn set_devices(&self, change: impl FnOnce(&mut Devices)) {
        let mut state = self.state();
        change(&mut state.devices);
        state.changes = state.changes.map(|it| it + 1);
    }

    /// The pointing device that events go to.
    pub fn set_pointer(&self, name: &str) {
        self.state().pointers = vec![Pointer {
            index: 2,
            name: name.to_owned(),
            absolute: false,
            current: true,
        }];
    }

    /// Guests without a tablet: with a mouse alone, or with no pointing device at all.
    pub fn take_tablet(&self, leaves_mouse: bool) {
        let mut state = self.state();
        state.devices.tablet = None;
        state.pointers.retain(|it| leaves_mouse && !it.absolute);
        for mouse in &mut state.pointers {
            mouse.current = true;
        }
    }

    pub fn hide_pointers(&self) {
        self.state().hides_pointers = true;
    }

    /// The name of the pointing device that buttons go to.
    pub fn pointer(&self) -> String {
        let state = self.state();
        let mut names = state.pointers.iter().filter(|it| it.current);
        names.next().map(|it| it.name.clone()).unwrap_or_default()
    }

    pub fn set_domain(&self, domain: DomainState) {
        let mut state = self.state();
        state.domain = domain;
        state.changes = state.changes.map(|it| it + 1);
    }

    /// From now on, changes are told.
    pub fn tell_changes(&self) {
        self.state().changes = Some(0);
    }

    /// Guests have a serial console from now on, and write this.
    pub fn write_console(&self, text: &str) {
        let console = self.state().console.get_or_insert_default().clone();
        console.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    /// From now on, closing a console takes so long.
    pub fn set_closing(&self, time: Duration) {
        self.state().closing = time;
    }

    /// Whether a serial console is being read.
    pub fn has_open_console(&self) -> bool {
        *self.state().open.lock().unwrap()
    }

    /// How often a VM's state was asked, since this was last called.
    pub fn take_looked_up(&self) -> usize {
        std::mem::take(&mut self.state().looked_up)
    }

    /// Guests begin or cease to read their keyboards.
    pub fn set_reads(&self, reads: bool) {
        let mut state = self.state();
        state.reads = reads;
        state.unread &= !reads;
    }

    /// The VMs are started anew.
    pub fn restart(&self) {
        self.state().id += 1;
    }

    /// Starts it anew as it was when it was saved.
    pub fn restore(&self) {
        let mut state = self.state();
        state.id += 1;
        state.restored = true;
    }

    pub fn resize(&self, width: u32, height: u32) {
        self.state().size = ScreenSize { width, height };
    }

    /// A further head with a picture of this size.
    pub fn add_head(&self, width: u32, height: u32) {
        let mut state = self.state();
        state.heads.push(ScreenSize { width, height });
        state.devices.heads += 1;
    }

    /// A further head has another size from now on; with 640×480 it shows nothing.
    pub fn resize_head(&self, head: usize, width: u32, height: u32) {
        self.state().heads[head - 1] = ScreenSize { width, height };
    }

    /// From now on the first head shows these, one for each look, and then the last one.
    pub fn play(&self, scenes: Vec<Scene>) {
        let mut state = self.state();
        state.scenes = scenes;
        state.then = Then::Stay;
        state.looks = 0;
        state.at_looks.clear();
    }

    /// The next call that presses or points brings this onto the screen, at once.
    pub fn react_with(&self, scene: Scene) {
        self.state().reaction = Some(scene);
    }

    /// As [`Fake::play`], and then from the beginning again.
    pub fn play_again_and_again(&self, scenes: Vec<Scene>) {
        self.play(scenes);
        self.state().then = Then::Again;
    }

    /// What happens just before the `n`-th look, counted from 1 and from when the scenes were set.
    pub fn at_look(&self, n: usize, what: AtLook) {
        self.state().at_looks.insert(n, what);
    }

    /// How many looks the first head had since the scenes were set.
    pub fn looks(&self) -> usize {
        self.state().looks
    }

    /// How many looks were under way at a time, at most.
    pub fn most_looking(&self) -> usize {
        self.state().most_looking
    }

    /// What libvirt's leases say.
    pub fn set_leases(&self, addresses: Vec<IpAddr>) {
        self.state().leases = addresses;
    }

    /// What the host's ARP table says.
    pub fn set_neighbours(&self, addresses: Vec<IpAddr>) {
        self.state().neighbours = addresses;
    }

    /// The hypervisor is another host's.
    pub fn is_elsewhere(&self) {
        self.state().is_elsewhere = true;
    }

    pub fn set_forwards(&self, forwards: Vec<Forward>) {
        self.state().forwards = forwards;
    }

    /// What happens at the `n`-th call that presses or points, counted from 1 and from now.
    pub fn trouble_at(&self, n: usize, trouble: Trouble) {
        let mut state = self.state();
        let n = state.calls.len() + n;
        state.troubles.insert(n, trouble);
    }

    pub fn unblock(&self) {
        self.state().blocks = false;
        self.unblocked.notify_all();
    }

    /// All calls that pressed or pointed.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// What they asked for.
    pub fn events(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.what).collect()
    }

    /// Forgets the calls so far, and gives what they asked for.
    pub fn take_events(&self) -> Vec<String> {
        let mut state = self.state();
        state.troubles.clear();
        let calls = std::mem::take(&mut state.calls);
        calls.into_iter().map(|call| call.what).collect()
    }

    /// Waits until the `n`-th call has begun.
    pub fn wait_for_call(&self, n: usize) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.state().calls.len() < n {
            assert!(
                Instant::now() < end,
                "there is no call {n}: {:?}",
                self.events()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// From now on the guests' processors get half of what they want of the host's.
    pub fn starve(&self) {
        self.state().starves = true;
    }

    /// How often it was asked whether keys are unread, since this was last called.
    pub fn take_asked(&self) -> usize {
        std::mem::take(&mut self.state().asked)
    }

    /// The time since the fake was made, as calls tell it.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// When the screen was last looked at, since the fake was made.
    pub fn last_look(&self) -> Option<Duration> {
        self.state().last_look
    }

    /// Keys and buttons that are down in the guests.
    pub fn down(&self) -> Vec<String> {
        self.state().down.iter().cloned().collect()
    }

    /// One call that presses or points.
    fn act(&self, vm: &VmName, what: String, plays: Duration) -> Result<(), HypervisorError> {
        let mut state = self.state();
        let n = state.calls.len() + 1;
        let trouble = state.troubles.get(&n).copied();
        let mark = if matches!(trouble, Some(Trouble::Fails | Trouble::Paused)) {
            "!"
        } else {
            ""
        };
        state.react();
        state.calls.push(Call {
            vm: vm.to_string(),
            at: self.started.elapsed(),
            what: format!("{mark}{what}"),
            plays,
        });
        match trouble {
            Some(Trouble::Fails) => {
                return Err(HypervisorError::Refused {
                    vm: self.full_name(vm),
                    command: "input",
                    description: format!("call {n} fails"),
                });
            }
            Some(Trouble::Paused) => {
                return Err(HypervisorError::NotRunning {
                    vm: self.full_name(vm),
                    state: DomainState::Paused,
                });
            }
            Some(Trouble::Garbled) => {
                return Err(HypervisorError::Answer {
                    vm: self.full_name(vm),
                    command: "input",
                    source: serde_json::from_str::<()>("?").unwrap_err(),
                });
            }
            Some(Trouble::Blocks) => {
                drop(
                    self.unblocked
                        .wait_while(state, |state| state.blocks)
                        .unwrap(),
                );
            }
            None => {}
        }
        Ok(())
    }

    /// What the event does to the guest; a thing that goes down twice or up without having been
    /// down is told by the test's own expectations.
    fn feel(&self, vm: &VmName, event: &InputEvent) {
        let (thing, down) = match event {
            InputEvent::Key { key, down } => (format!("{vm}: key {}", key.0), *down),
            InputEvent::Button { button, down } => (format!("{vm}: {}", button.as_str()), *down),
            InputEvent::Wheel { direction, down } => {
                (format!("{vm}: wheel {}", direction.as_str()), *down)
            }
            InputEvent::Position { .. } | InputEvent::Motion { .. } => return,
        };
        let mut state = self.state();
        let current = state.pointers.iter().find(|it| it.current);
        let passes = match event {
            InputEvent::Button { button, .. } => current.is_none_or(|it| it.passes(*button)),
            InputEvent::Wheel { direction, .. } => current.is_none_or(|it| it.turns(*direction)),
            _ => true,
        };
        // The device drops it, and says nothing.
        if !passes {
            return;
        }
        if down {
            state.down.insert(thing);
        } else {
            state.down.remove(&thing);
        }
    }
}

impl Hypervisor for Fake {
    fn uri(&self) -> &'static str {
        "fake:///"
    }

    fn domains(&self) -> Result<Vec<Domain>, HypervisorError> {
        Ok(vec![self.domain(&"demo".parse().unwrap())?])
    }

    fn domain(&self, vm: &VmName) -> Result<Domain, HypervisorError> {
        let mut state = self.state();
        state.looked_up += 1;
        Ok(Domain {
            name: vm.clone(),
            uuid: format!("uuid-of-{vm}"),
            state: state.domain,
            id: (state.domain != DomainState::Shutoff).then_some(state.id),
            restored: state.restored,
        })
    }

    fn changes(&self, _: &VmName) -> Option<u64> {
        self.state().changes
    }

    fn devices(&self, _: &VmName) -> Result<Devices, HypervisorError> {
        Ok(self.state().devices.clone())
    }

    fn send_keys(&self, vm: &VmName, chord: &Chord, hold: Duration) -> Result<(), HypervisorError> {
        let codes: Vec<_> = chord.keys().iter().map(|key| key.0.to_string()).collect();
        let plays = hold * 2 * u32::try_from(codes.len()).unwrap();
        self.act(vm, format!("keys {}", codes.join("+")), plays)?;
        let mut state = self.state();
        state.unread = !state.reads;
        Ok(())
    }

    fn keys_unread(&self, _: &VmName) -> Result<bool, HypervisorError> {
        let mut state = self.state();
        state.asked += 1;
        Ok(state.unread)
    }

    fn vcpu_times(&self, _: &VmName) -> Result<Vec<VcpuTime>, HypervisorError> {
        let half = self.started.elapsed() / 2;
        let starved = VcpuTime {
            ran: half,
            waited: half,
        };
        Ok(Vec::from_iter(self.state().starves.then_some(starved)))
    }

    fn pointers(&self, vm: &VmName) -> Result<Vec<Pointer>, HypervisorError> {
        if self.state().hides_pointers {
            let vm = self.full_name(vm);
            return Err(HypervisorError::NoInputDevice { vm });
        }
        Ok(self.state().pointers.clone())
    }

    fn switch_pointer(&self, vm: &VmName, index: u32) -> Result<(), HypervisorError> {
        self.act(vm, format!("pointer {index}"), Duration::ZERO)?;
        for pointer in &mut self.state().pointers {
            pointer.current = pointer.index == index;
        }
        Ok(())
    }

    fn input(&self, vm: &VmName, events: &[InputEvent]) -> Result<(), HypervisorError> {
        let way = |down| if down { "down" } else { "up" };
        let mut what = String::new();
        for event in events {
            let between = if what.is_empty() { "" } else { ", " };
            match event {
                InputEvent::Key { key, down } => write!(what, "{between}{} {}", key.0, way(*down)),
                InputEvent::Button { button, down } => {
                    write!(what, "{between}{} {}", button.as_str(), way(*down))
                }
                InputEvent::Wheel { direction, down } => {
                    write!(what, "{between}wheel-{} {}", direction.as_str(), way(*down))
                }
                InputEvent::Position { x, y } => write!(what, "{between}at {x},{y}"),
                InputEvent::Motion { dx, dy } => write!(what, "{between}by {dx},{dy}"),
            }
            .unwrap();
        }
        self.act(vm, what, Duration::ZERO)?;
        for event in events {
            self.feel(vm, event);
        }
        if events.iter().any(|it| matches!(it, InputEvent::Key { .. })) {
            let mut state = self.state();
            state.unread = !state.reads;
        }
        Ok(())
    }

    fn screenshot(&self, vm: &VmName, head: u32) -> Result<Screenshot, HypervisorError> {
        let mut state = self.state();
        state.last_look = Some(self.started.elapsed());
        if head == 0 {
            state.looks += 1;
            state.looking += 1;
            state.most_looking = state.most_looking.max(state.looking);
            let looks = state.looks;
            match state.at_looks.get(&looks).copied() {
                Some(AtLook::Becomes(domain)) => {
                    state.domain = domain;
                    state.changes = state.changes.map(|it| it + 1);
                }
                Some(AtLook::Blocks) => {
                    state = self
                        .unblocked
                        .wait_while(state, |state| state.blocks)
                        .unwrap();
                }
                None => {}
            }
            state.looking -= 1;
        }
        if matches!(state.domain, DomainState::Shutoff | DomainState::Crashed) {
            return Err(HypervisorError::NotRunning {
                vm: self.full_name(vm),
                state: state.domain,
            });
        }
        let at = (state.looks.max(1) - 1) % state.scenes.len().max(1);
        let scene = match state.then {
            Then::Again => state.scenes.get(at),
            Then::Stay => state
                .scenes
                .get(state.looks.max(1) - 1)
                .or(state.scenes.last()),
        };
        if head == 0
            && let Some(scene) = scene
        {
            return Ok(Screenshot {
                mime: state.mime.to_owned(),
                bytes: scene.picture(),
            });
        }
        let size = match head {
            0 => state.size,
            head => *state
                .heads
                .get(head as usize - 1)
                .ok_or_else(|| HypervisorError::NoHead {
                    vm: vm.clone(),
                    head,
                })?,
        };
        Ok(Screenshot {
            mime: state.mime.to_owned(),
            bytes: if head > 0 && size == BLANK {
                blank()
            } else {
                ppm(size)
            },
        })
    }

    fn console(&self, vm: &VmName) -> Result<Box<dyn Console>, HypervisorError> {
        let (written, open, closing, state) = {
            let state = self.state();
            let open = Arc::clone(&state.open);
            (state.console.clone(), open, state.closing, state.domain)
        };
        let vm = self.full_name(vm);
        if state != DomainState::Running {
            return Err(HypervisorError::NotRunning { vm, state });
        }
        let written = written.ok_or_else(|| HypervisorError::NoConsole { vm: vm.clone() })?;
        {
            let mut open = open.lock().unwrap();
            if *open {
                return Err(HypervisorError::ConsoleTaken { vm });
            }
            // Whoever sees it open may write what is to be read.
            written.lock().unwrap().clear();
            *open = true;
        }
        Ok(Box::new(FakeConsole {
            written,
            open,
            closing,
        }))
    }

    fn addresses(&self, _: &VmName, source: AddressSource) -> Result<Vec<IpAddr>, HypervisorError> {
        let state = self.state();
        Ok(match source {
            AddressSource::Lease => state.leases.clone(),
            AddressSource::Arp => state.neighbours.clone(),
        })
    }

    fn is_on_this_host(&self, _: &VmName) -> Result<bool, HypervisorError> {
        Ok(!self.state().is_elsewhere)
    }

    fn forwards(&self, _: &VmName) -> Result<Vec<Forward>, HypervisorError> {
        Ok(self.state().forwards.clone())
    }
}

impl Scene {
    pub fn picture(&self) -> Vec<u8> {
        let (size, white) = match self {
            Self::Painted {
                width,
                height,
                white,
            } => {
                let (width, height) = (*width, *height);
                (ScreenSize { width, height }, white)
            }
            Self::Placeholder => return blank(),
            Self::Console(lines) => return console(lines),
        };
        let mut bytes = ppm(size);
        let width = size.width as usize;
        let start = bytes.len() - width * size.height as usize * 3;
        for [x0, y0, x1, y1] in white {
            for y in *y0..*y1 {
                let row = start + y as usize * width * 3;
                bytes[row + *x0 as usize * 3..row + *x1 as usize * 3].fill(255);
            }
        }
        bytes
    }
}

/// Where the font of text screens is, of Debian's package console-setup-linux.
const FONT: &str = "/usr/share/consolefonts/Uni2-Fixed16.psf.gz";
const CELL: (usize, usize) = (8, 16);
const CELLS: (usize, usize) = (100, 40);

fn console(lines: &[&str]) -> Vec<u8> {
    let file = std::fs::read(FONT).expect("console-setup-linux is installed");
    let font = Font::from_psf("Fixed", &file).expect("it is a font");
    let (width, height) = (CELLS.0 * CELL.0, CELLS.1 * CELL.1);
    let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
    let start = bytes.len();
    bytes.resize(start + width * height * 3, 0);
    for (row, line) in lines.iter().enumerate() {
        for (column, character) in line.chars().enumerate() {
            let mut glyphs = font.glyphs().iter();
            let glyph = glyphs.find(|glyph| glyph.characters.contains(&character));
            let glyph = glyph.unwrap_or_else(|| panic!("the font has no {character:?}"));
            for (y, ink) in glyph.bitmap.iter().enumerate() {
                for x in (0..CELL.0).filter(|x| ink & (0x80 >> x) != 0) {
                    let pixel = (row * CELL.1 + y) * width + column * CELL.0 + x;
                    bytes[start + pixel * 3..][..3].fill(0xaa);
                }
            }
        }
    }
    bytes
}

/// The size of a further head that shows nothing.
const BLANK: ScreenSize = ScreenSize {
    width: 640,
    height: 480,
};

/// What QEMU shows there: a line of grey text in the middle of black.
fn blank() -> Vec<u8> {
    let mut bytes = b"P6\n640 480\n255\n".to_vec();
    for y in 0..480 {
        for x in 0..640 {
            let is_text = (224..240).contains(&y) && (144..496).contains(&x) && (x + y) % 3 == 0;
            bytes.extend([if is_text { 0xaa } else { 0 }; 3]);
        }
    }
    bytes
}

/// What was written since it was opened or last read.
#[derive(Debug)]
struct FakeConsole {
    written: Arc<Mutex<Vec<u8>>>,
    open: Arc<Mutex<bool>>,
    closing: Duration,
}

impl Console for FakeConsole {
    fn read(&mut self) -> Result<Vec<u8>, HypervisorError> {
        Ok(std::mem::take(&mut *self.written.lock().unwrap()))
    }
}

impl Drop for FakeConsole {
    fn drop(&mut self) {
        std::thread::sleep(self.closing);
        *self.open.lock().unwrap() = false;
    }
}

/// Guests that nothing is known of.
pub fn guests() -> Arc<Guests> {
    let environment = Environment {
        home: Some("/nonexistent".into()),
        ..Environment::default()
    };
    let config = Config::load(Overrides::default(), &environment).expect("defaults are allowed");
    let hypervisor: Arc<dyn Hypervisor> = Fake::new(1000, 500);
    let fleet = Arc::new(Fleet::new(Arc::new(config), hypervisor));
    let secrets = Arc::new(Secrets::new(BTreeMap::new(), vec![]));
    Arc::new(Guests::new(fleet, secrets))
}

/// A picture in which every pixel tells where it is: red is its column, green its row, each by 256,
/// blue is 7.
pub fn ppm(size: ScreenSize) -> Vec<u8> {
    let mut bytes = format!("P6\n{} {}\n255\n", size.width, size.height).into_bytes();
    // Made row by row: looks are to be quick without optimisation too.
    let mut row: Vec<u8> = (0..size.width)
        .flat_map(|x| [x.to_le_bytes()[0], 0, 7])
        .collect();
    for y in 0..size.height {
        for green in row.iter_mut().skip(1).step_by(3) {
            *green = y.to_le_bytes()[0];
        }
        bytes.extend_from_slice(&row);
    }
    bytes
}
