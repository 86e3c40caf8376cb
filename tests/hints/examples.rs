//! An example of every failure that there is.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

use virtpilot::{
    capture::{CaptureError, Original, Shot},
    cells::{Fault, Font, FontError, LearnError, Spot},
    cli::LearnFontError,
    config::{ConfigError, Place},
    fleet::FleetError,
    fonts::SaveError,
    gallery::SavedError,
    guest::GuestError,
    hypervisor::{DomainState, FullName, HypervisorError},
    image::{ImageError, Picture},
    jobs::JobError,
    keyboard::{BadKeys, Layout, UnknownLayout, Untypable},
    model::{
        Button, Capability, Direction, Grants, JobId, KeyCode, OcrLanguage, OutputStream, Point,
        Region, ScreenSize, VmName, act::BadAct,
    },
    ocr::OcrError,
    perform::ActError,
    reading::ReadingError,
    secrets::SecretError,
    ssh::{
        BadCommand, CertificateFault, Endpoint, JumpFault, NoRoute, PassphraseUnread, SshError,
        Step, Unfit,
    },
    store::{PathError, StoreError},
    vm::VmError,
    watch::WatchError,
};

/// What a failure tells to do.
pub(crate) struct Told {
    /// The enum and the variant.
    pub(crate) name: String,
    pub(crate) hint: String,
}

/// The names of an enum's variants, and that of a value. Each variant must be listed.
macro_rules! variants {
    ($($error:ident as $room:ident { $($variant:ident),+ $(,)? })+) => {$(
        mod $room {
            use super::$error;

            const NAMES: &[&str] = &[$(stringify!($variant)),+];

            fn name(error: &$error) -> &'static str {
                match error {
                    $($error::$variant { .. } => stringify!($variant)),+
                }
            }

            /// What examples tell; there is one of each variant at least.
            pub(super) fn told(examples: &[$error], hint: fn(&$error) -> String) -> Vec<super::Told> {
                for wanted in NAMES {
                    let found = examples.iter().any(|error| name(error) == *wanted);
                    assert!(found, "no example of {}::{wanted}", stringify!($error));
                }
                let told = examples.iter().map(|error| super::Told {
                    name: format!("{}::{}", stringify!($error), name(error)),
                    hint: hint(error),
                });
                told.collect()
            }
        }
    )+};
}

variants! {
    HypervisorError as hypervisor {
        Connect, Denied, Lost, UnknownVm, NotRunning, NoInputDevice, KeysUnread, Changed, GivenUp, NoSuchKey, NoHead,
        NoVideo, NoConsole, ConsoleTaken, ConsoleEnded, ConsoleBroke, Unsupported, Call, List, Refused, Answer, Description,
        BrokenPicture,
    }
    VmError as vm { Hypervisor, TimedOut, Mute, Hung, Busy, Broke, Layout }
    CaptureError as capture { Vm, Image, Saved, Region }
    BadKeys as keys { Unknown, NeedsModifiers, Twice, TooMany, Empty }
    BadAct as act {
        Count, HalfAPoint, NoWay, Through, DragDuration, Amount, NoText, TextAndSecret, NoKeys, Repeat, Interval, Hold,
        RepeatedHold, Seconds, Settle, Conditions, Timeout, Still,
        NeverStill, Share, NoPort, Tolerance,
    }
    OcrError as ocr { Missing, Start, Language, Failed, Talk, Slow, TooMuch, Draw, Broken }
    ReadingError as reading { Capture, Vm, Ocr }
    WatchError as watch { Bad, Vm, Capture, Reading, Guest, RegionGone, PictureTooLarge, PictureUnread, TimedOut }
    SavedError as saved { Path, Store, NoScreenshot, NoFile, TooLarge, Read, NoPicture, Part, OneColour }
    ActError as perform {
        Bad, Keys, Untypable, Vm, Capture, Watch, Outside, Resized, PointerUnknown, OffsetTooLong, NoMouse, NoPointing,
        SeveralHeads, HeadPlaces, HeadsOverlap, HeadDark, NoSuchButton, NoSuchWheel, ButtonHeld, NoPosition, LetGo, Typing,
        CancelledTyping, SecretUnread, UntypableSecret, TypingSecret, CancelledSecret, Cancelled, MaybeDown,
    }
    SecretError as secrets {
        Unknown, NoVariable, ReadFile, NoFile, OpenToOthers, RunCommand, CommandFailed, Slow, Unusable, Cancelled,
    }
    FleetError as fleet { NotGranted, NoDefault, Vm }
    GuestError as guest { Fleet, Vm, Ssh, NoAddress, Unconfigured, NotGranted }
    BadCommand as command { Empty, EmptyCwd, Nul, VariableName, TooLong, Windows, ForeignShell }
    SshError as ssh {
        VmNotRunning, Resolve, Unreachable, Slow, ClosedAtOnce, NotSsh, Handshake, BadJump, AtJump, NotForwarded,
        BadProxyCommand, ProxyCommandNotRun, ProxyCommandFailed, ReadKnownHosts, WriteKnownHosts,
        HostKeyUnknown, HostKeyChanged, HostKeyRevoked, HostCertificate, ReadIdentity, BadIdentity, LockedIdentity, NoPassphrase,
        WrongPassphrase,
        AuthenticationFailed, ChannelRefused, Disconnected, ConnectionLost, Busy, Cancelled, BadCommand,
        ExecRefused, NoExitStatus, NoProcess, NoSftp, TransferLost, TransferCancelled,
        LeftBehind, OldAside, MaybeReplaced, Interrupted, OfFolder, TransferBusy, TooMany, LocalMissing, LocalUnfit, Local, BadRemotePath,
        NameTooLong, RemoteMissing, RemoteFolderMissing, RemoteUnfit, RemoteDenied, RemoteFull, Remote,
        Damaged,
    }
    JobError as job {
        Ssh, TooMany, Unknown, Running, Ended, InputEnded, InputFull, BadSignal, NotSignalled, PastEnd, Lost, TooLarge, Cut, ReadLog,
        Store,
    }
    StoreError as store {
        Empty, NoSuchProject, Gone, NoMetadata, BadMetadata, BadFileName, Exists, NotPlain, NoScreenshot,
        BadLevel, BadLineCount, BadScreenshotId, BadEntry, BadPicture, Read, Write, MakeFolder,
    }
    PathError as path {
        Empty, Nul, HomeUnknown, Outside, Protected, Missing, UpFromNowhere, TooManyLinks, LookUp,
    }
    FontError as font {
        UnknownFormat, CutOff, BadHeader, BadCell, BadTable, NoTable, NoGlyphs, TooLarge, BrokenGzip,
    }
    LearnError as learn {
        NoText, BadCharacter, TooFewRepeats, BadCell, OtherCell, TooLarge, NotFound, Contradiction, Ambiguous,
    }
    SaveError as save { Read, MakeFolder, Write }
    LearnFontError as learn_font {
        ReadText, ReadPicture, NoPicture, Config, Fleet, Capture, BadScreen, BadFont, Learn, NoFont, Save,
    }
    ConfigError as config {
        Unreadable, Syntax, UnknownKey, WrongValue, KeyNotYet, ValueNotYet, DotEnvLine, HomeUnknown,
        NoDataDir, WorkingDir,
    }
}

/// Every failure of every room.
pub(crate) fn all() -> Vec<Told> {
    let mut all = vec![];
    all.extend(hypervisor::told(&of_hypervisor(), HypervisorError::hint));
    all.extend(vm::told(&of_vm(), VmError::hint));
    all.extend(capture::told(&of_capture(), CaptureError::hint));
    all.extend(keys::told(&of_keys(), BadKeys::hint));
    let acts = act::told(&of_acts(), |error| ActError::Bad(error.clone()).hint());
    all.extend(acts);
    all.extend(ocr::told(&of_ocr(), OcrError::hint));
    all.extend(reading::told(&of_reading(), ReadingError::hint));
    all.extend(watch::told(&of_watch(), WatchError::hint));
    all.extend(saved::told(&of_saved(), SavedError::hint));
    all.extend(perform::told(&of_perform(), ActError::hint));
    all.extend(secrets::told(&of_secrets(), SecretError::hint));
    all.extend(fleet::told(&of_fleet(), FleetError::hint));
    all.extend(guest::told(&of_guest(), GuestError::hint));
    let commands = command::told(&of_commands(), |error| SshError::from(error.clone()).hint());
    all.extend(commands);
    all.extend(ssh::told(&of_ssh(), SshError::hint));
    all.extend(job::told(&of_jobs(), JobError::hint));
    all.extend(store::told(&of_store(), StoreError::hint));
    all.extend(path::told(&of_paths(), PathError::hint));
    all.extend(font::told(&of_fonts(), |error| error.hint().to_owned()));
    all.extend(learn::told(&of_learning(), |error| error.hint().to_owned()));
    all.extend(save::told(&of_saving(), SaveError::hint));
    all.extend(learn_font::told(&of_learn_font(), LearnFontError::hint));
    // What is wrong at the start says in one sentence what would be right.
    let config = config::told(&of_config(), |error| format!("{error}."));
    all.extend(config);
    all
}

fn demo() -> VmName {
    "demo".parse().unwrap()
}

fn full(name: &str) -> FullName {
    FullName {
        uri: uri(),
        name: name.parse().unwrap(),
    }
}

fn uri() -> String {
    "qemu:///system".to_owned()
}

fn denied() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

/// An error of libvirt's own.
fn libvirt() -> virt::error::Error {
    virt::error::clear_error_callback();
    virt::connect::Connect::open(Some("no-such-driver:///")).unwrap_err()
}

fn no_json() -> serde_json::Error {
    serde_json::from_str::<u8>("?").unwrap_err()
}

const SIZE: ScreenSize = ScreenSize {
    width: 1280,
    height: 800,
};

fn of_hypervisor() -> Vec<HypervisorError> {
    use HypervisorError as E;
    let states = [
        DomainState::Running,
        DomainState::Paused,
        DomainState::Shutdown,
        DomainState::Shutoff,
        DomainState::Crashed,
        DomainState::Suspended,
        DomainState::Unknown,
    ];
    let mut errors: Vec<_> = states
        .map(|state| E::NotRunning {
            vm: full("demo"),
            state,
        })
        .into();
    let act = "press keys";
    let command = "input-send-event";
    errors.extend([
        E::Connect {
            uri: uri(),
            source: libvirt(),
        },
        E::Denied {
            uri: uri(),
            source: libvirt(),
        },
        E::Lost {
            uri: uri(),
            source: libvirt(),
        },
        E::UnknownVm {
            vm: full("demo"),
            known: vec![],
        },
        E::NoInputDevice { vm: full("demo") },
        E::KeysUnread { vm: demo() },
        E::Changed { vm: full("demo") },
        E::GivenUp { vm: full("demo") },
        E::NoSuchKey { key: KeyCode(84) },
        E::NoHead {
            vm: demo(),
            head: 1,
        },
        E::NoVideo { vm: full("demo") },
        E::NoConsole { vm: full("demo") },
        E::ConsoleTaken { vm: full("demo") },
        E::ConsoleEnded { vm: demo() },
        E::ConsoleBroke {
            vm: demo(),
            source: libvirt(),
        },
        E::Unsupported {
            vm: demo(),
            act,
            source: libvirt(),
        },
        E::Call {
            vm: demo(),
            act,
            source: libvirt(),
        },
        E::List { source: libvirt() },
        E::Refused {
            vm: full("demo"),
            command,
            description: "no".into(),
        },
        E::Answer {
            vm: full("demo"),
            command,
            source: no_json(),
        },
        E::Description {
            vm: full("demo"),
            source: quick_xml::de::from_str::<u8>("<a").unwrap_err(),
        },
        E::BrokenPicture {
            vm: demo(),
            received: 1,
            source: libvirt(),
        },
    ]);
    errors
}

fn not_running() -> HypervisorError {
    HypervisorError::NotRunning {
        vm: full("win 10"),
        state: DomainState::Paused,
    }
}

fn broken_task() -> tokio::task::JoinError {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        task.await.unwrap_err()
    })
}

fn of_vm() -> Vec<VmError> {
    let limit = Duration::from_secs(20);
    vec![
        VmError::Hypervisor(not_running()),
        VmError::TimedOut {
            vm: full("demo"),
            limit,
        },
        VmError::Mute { uri: uri(), limit },
        VmError::Hung(full("demo")),
        VmError::Busy(demo()),
        VmError::Broke(demo(), broken_task()),
        VmError::Layout(UnknownLayout("xx".into())),
    ]
}

fn of_capture() -> Vec<CaptureError> {
    vec![
        CaptureError::Vm(VmError::Hung(full("demo"))),
        CaptureError::Image {
            vm: full("demo"),
            source: ImageError::Broken("it is empty"),
        },
        CaptureError::Saved(ImageError::Broken("it is empty")),
        CaptureError::Region {
            region: serde_json::from_str::<Region>("[1, 1, 1, 1]").unwrap(),
            shown: SIZE,
        },
    ]
}

fn of_keys() -> Vec<BadKeys> {
    vec![
        BadKeys::Unknown {
            name: "x y".into(),
            near: vec![],
        },
        BadKeys::NeedsModifiers {
            name: "A".into(),
            modifiers: "Shift".into(),
            layout: "us".into(),
        },
        BadKeys::Twice("a".into()),
        BadKeys::TooMany(17),
        BadKeys::Empty,
    ]
}

fn of_acts() -> Vec<BadAct> {
    vec![
        BadAct::Count(0),
        BadAct::HalfAPoint,
        BadAct::NoText,
        BadAct::TextAndSecret,
        BadAct::NoKeys,
        BadAct::Repeat(0),
        BadAct::NoWay(1, 1),
        BadAct::Through(101),
        BadAct::DragDuration(10_001),
        BadAct::Amount(0),
        BadAct::Interval(1001),
        BadAct::Hold(300_001),
        BadAct::RepeatedHold,
        BadAct::Seconds(-1.0),
        BadAct::Settle(30_001),
        BadAct::Conditions(0),
        BadAct::Timeout(301.0),
        BadAct::Still(1),
        BadAct::NeverStill {
            ms: 2000,
            timeout: 1.0,
        },
        BadAct::Share(2.0),
        BadAct::NoPort,
        BadAct::Tolerance(2.0),
    ]
}

fn of_ocr() -> Vec<OcrError> {
    vec![
        OcrError::Missing {
            program: "tesseract".into(),
            source: io::ErrorKind::NotFound.into(),
        },
        OcrError::Start { source: denied() },
        OcrError::Language {
            language: "eng+deu".parse::<OcrLanguage>().unwrap(),
            missing: "deu".into(),
            installed: vec!["eng".into()],
        },
        OcrError::Failed {
            said: "Image too small to scale!!".into(),
        },
        OcrError::Talk { source: denied() },
        OcrError::Slow {
            limit: Duration::from_secs(40),
        },
        OcrError::TooMuch,
        OcrError::Draw(ImageError::Broken("its pixels do not fill it")),
        OcrError::Broken,
    ]
}

fn of_reading() -> Vec<ReadingError> {
    vec![
        ReadingError::Capture(CaptureError::Vm(VmError::Busy(demo()))),
        ReadingError::Vm(VmError::Busy(demo())),
        ReadingError::Ocr(OcrError::Broken),
    ]
}

fn of_saved() -> Vec<SavedError> {
    use SavedError as E;
    let path = || "/srv/a picture.png".into();
    vec![
        E::Path(PathError::Empty),
        E::Store(StoreError::BadScreenshotId { found: "a".into() }),
        E::NoScreenshot("20261122-062613-660053".parse().unwrap()),
        E::NoFile(path()),
        E::TooLarge {
            path: path(),
            bytes: 1 << 30,
        },
        E::Read {
            path: path(),
            source: denied(),
        },
        E::NoPicture {
            path: "a.gif".into(),
            source: ImageError::NoPicture,
        },
        E::Part {
            part: Region::from([0, 0, 2, 2]),
            picture: Region::from([0, 0, 1, 1]),
        },
        E::OneColour,
    ]
}

fn of_watch() -> Vec<WatchError> {
    let timed_out = |last| WatchError::TimedOut {
        limit: Duration::from_secs(30),
        findings: vec!["`stable`: the screen still changed at the end".into()],
        last,
    };
    let shot = Shot {
        bytes: vec![],
        mime: "image/png",
        native: SIZE,
        shown: SIZE,
        head: 0,
        region: None,
        note: None,
        is_placeholder: false,
        mark: None,
        original: Original::Shown,
    };
    vec![
        WatchError::Bad(BadAct::NoPort),
        WatchError::Vm(VmError::Busy(demo())),
        WatchError::Capture(CaptureError::Vm(VmError::Busy(demo()))),
        WatchError::Reading(ReadingError::Ocr(OcrError::Broken)),
        WatchError::Guest(GuestError::Vm(VmError::Busy(demo()))),
        WatchError::PictureTooLarge {
            picture: SIZE,
            region: Region::from([0, 0, 1, 1]),
        },
        WatchError::PictureUnread("a.png".into()),
        WatchError::RegionGone {
            region: Region::from([0, 0, 1, 1]),
            then: SIZE,
            now: SIZE,
        },
        timed_out(None),
        timed_out(Some(Box::new(shot))),
    ]
}

fn of_perform() -> Vec<ActError> {
    use ActError as E;
    let lost = || HypervisorError::Lost {
        uri: uri(),
        source: libvirt(),
    };
    let point = Point { x: 1280, y: 0 };
    vec![
        E::Bad(BadAct::NoKeys),
        E::Keys(BadKeys::Empty),
        E::Untypable(Untypable {
            layout: "us".into(),
            characters: vec![(0, 'ß')],
            compose_file: None,
        }),
        E::Vm(VmError::Busy(demo())),
        E::Capture(CaptureError::Vm(VmError::Busy(demo()))),
        E::Watch(WatchError::Vm(VmError::Busy(demo()))),
        E::Outside { point, shown: SIZE },
        E::Resized {
            vm: demo(),
            now: SIZE,
            then: SIZE,
        },
        E::PointerUnknown(demo()),
        E::OffsetTooLong {
            offset: Point { x: 2000, y: 0 },
            shown: SIZE,
        },
        E::NoMouse(full("demo")),
        E::NoPointing {
            vm: demo(),
            driver: "xen".into(),
        },
        E::SeveralHeads {
            vm: demo(),
            heads: 2,
        },
        E::HeadPlaces {
            vm: demo(),
            places: 3,
            in_use: vec![0, 1],
        },
        E::HeadsOverlap {
            vm: demo(),
            heads: [0, 1],
            sizes: [SIZE, SIZE],
        },
        E::HeadDark {
            vm: demo(),
            head: 1,
        },
        E::NoSuchButton {
            vm: demo(),
            button: Button::Back,
        },
        E::NoSuchWheel {
            vm: demo(),
            direction: Direction::Left,
        },
        E::ButtonHeld {
            vm: demo(),
            button: Button::Left,
        },
        E::NoPosition(demo()),
        E::LetGo {
            buttons: vec![Button::Left],
            source: Box::new(E::Cancelled),
        },
        E::Typing {
            typed: 1,
            of: 2,
            source: not_running().into(),
        },
        E::Typing {
            typed: 1,
            of: 2,
            source: lost().into(),
        },
        E::Typing {
            typed: 1,
            of: 2,
            source: VmError::Hung(full("demo")),
        },
        E::CancelledTyping { typed: 1, of: 2 },
        E::SecretUnread("sudo".into()),
        E::UntypableSecret {
            secret: "sudo".into(),
            layout: "us".into(),
        },
        E::TypingSecret {
            secret: "sudo".into(),
            source: Some(not_running().into()),
        },
        E::TypingSecret {
            secret: "sudo".into(),
            source: None,
        },
        E::CancelledSecret("sudo".into()),
        E::Cancelled,
        E::MaybeDown {
            vm: demo(),
            source: not_running(),
        },
        E::MaybeDown {
            vm: demo(),
            source: lost(),
        },
    ]
}

fn of_secrets() -> Vec<SecretError> {
    use SecretError as E;
    let secret = || "sudo".to_owned();
    let unknown = |known| E::Unknown {
        name: "sodu".into(),
        known,
    };
    vec![
        unknown(vec![]),
        unknown(vec![secret(), "login".into()]),
        E::NoVariable {
            secret: secret(),
            variable: "VM_PASSWORD".into(),
        },
        E::ReadFile {
            secret: secret(),
            file: "/my files/sudo".into(),
            source: denied(),
        },
        E::NoFile {
            secret: secret(),
            file: "/dev".into(),
        },
        E::OpenToOthers {
            secret: secret(),
            file: "/my files/sudo".into(),
            mode: 0o644,
        },
        E::RunCommand {
            secret: secret(),
            program: "pass".into(),
            source: denied(),
        },
        E::CommandFailed {
            secret: secret(),
            program: "pass".into(),
            status: ExitStatus::from_raw(1 << 8),
        },
        E::Slow {
            secret: secret(),
            limit: Duration::from_secs(10),
        },
        E::Unusable(secret()),
        E::Cancelled(secret()),
    ]
}

fn of_fleet() -> Vec<FleetError> {
    let refused = |is_named, grants| FleetError::NotGranted {
        vm: "win 10".parse().unwrap(),
        capability: Capability::View,
        grants,
        is_named,
    };
    let input: Grants = [Capability::Input].into_iter().collect();
    vec![
        refused(false, Grants::none()),
        refused(true, input),
        FleetError::NoDefault { running: vec![] },
        FleetError::Vm(VmError::Busy(demo())),
    ]
}

fn of_guest() -> Vec<GuestError> {
    vec![
        GuestError::Fleet(FleetError::NoDefault { running: vec![] }),
        GuestError::Vm(VmError::Busy(demo())),
        GuestError::Ssh(SshError::ExecRefused {
            endpoint: endpoint(),
        }),
        GuestError::NoAddress {
            vm: "win 10".parse().unwrap(),
            tried: vec![],
        },
        GuestError::Unconfigured {
            why: NoRoute::Slow,
            source: Box::new(SshError::ConnectionLost {
                endpoint: endpoint(),
            }),
        },
        GuestError::NotGranted {
            capability: Capability::Shell,
        },
    ]
}

fn of_commands() -> Vec<BadCommand> {
    vec![
        BadCommand::Empty,
        BadCommand::EmptyCwd,
        BadCommand::Nul { part: "command" },
        BadCommand::VariableName { name: "1".into() },
        BadCommand::TooLong { length: 200_000 },
        BadCommand::Windows,
        BadCommand::ForeignShell,
    ]
}

fn endpoint() -> Endpoint {
    Endpoint {
        host: "192.0.2.1".into(),
        port: 22,
    }
}

fn of_ssh() -> Vec<SshError> {
    use SshError as E;
    let file = || "/data/known_hosts".into();
    let io = || Arc::new(denied());
    let protocol = || Arc::new(russh::Error::Disconnect);
    let sftp = russh_sftp::client::error::Error::UnexpectedPacket;
    let (name, known, presented) = (|| "demo".to_owned(), String::new, String::new);
    let there = || "/there".to_owned();
    let limit = Duration::from_secs(10);
    let steps = [
        Step::Resolve,
        Step::Tcp,
        Step::Greeting,
        Step::KeyExchange,
        Step::Authentication,
        Step::Channel,
        Step::Ping,
        Step::Sftp,
        Step::Request,
        Step::All,
    ];
    let mut errors: Vec<_> = steps
        .map(|step| E::Slow {
            endpoint: endpoint(),
            step,
            limit,
        })
        .into();
    for what in [
        Unfit::Folder,
        Unfit::NoFolder,
        Unfit::Special,
        Unfit::Exists,
    ] {
        errors.push(E::LocalUnfit { path: file(), what });
        errors.push(E::RemoteUnfit {
            path: there(),
            what,
        });
    }
    errors.extend([
        E::Resolve {
            host: name(),
            source: io(),
        },
        E::Unreachable {
            endpoint: endpoint(),
            source: io(),
        },
        E::ClosedAtOnce {
            endpoint: endpoint(),
        },
        E::NotSsh {
            endpoint: endpoint(),
            said: "HTTP/1.1".into(),
        },
        E::Handshake {
            endpoint: endpoint(),
            source: protocol(),
        },
        E::ReadKnownHosts {
            path: file(),
            source: io(),
        },
        E::BadJump {
            host: name(),
            jump: name(),
            fault: JumpFault::Loop,
        },
        E::AtJump {
            jump: endpoint(),
            source: Box::new(E::Unreachable {
                endpoint: endpoint(),
                source: io(),
            }),
        },
        E::AtJump {
            jump: endpoint(),
            source: Box::new(E::AuthenticationFailed {
                endpoint: endpoint(),
                user: name(),
                tried: vec![],
                accepted: vec![],
            }),
        },
        E::NotForwarded {
            jump: endpoint(),
            to: endpoint(),
            source: protocol(),
        },
        E::NotForwarded {
            jump: endpoint(),
            to: endpoint(),
            source: Arc::new(russh::Error::ChannelOpenFailure(
                russh::ChannelOpenFailure::AdministrativelyProhibited,
            )),
        },
        E::BadProxyCommand {
            command: name(),
            what: name(),
        },
        E::ProxyCommandNotRun {
            command: name(),
            source: io(),
        },
        E::ProxyCommandFailed {
            endpoint: endpoint(),
            command: name(),
            said: name(),
            source: Box::new(E::Handshake {
                endpoint: endpoint(),
                source: protocol(),
            }),
        },
        E::HostKeyChanged {
            name: name(),
            file: file(),
            line: 1,
            by_pattern: false,
            known: known(),
            presented: presented(),
        },
        E::HostKeyChanged {
            name: name(),
            file: file(),
            line: 1,
            by_pattern: true,
            known: known(),
            presented: presented(),
        },
        E::HostKeyRevoked {
            name: name(),
            file: file(),
            line: 1,
            revoked: known(),
            presented: presented(),
        },
        E::HostCertificate {
            name: name(),
            fault: Box::new(CertificateFault::Time),
            authority: known(),
            file: file(),
            line: 1,
            presented: presented(),
        },
        E::VmNotRunning {
            text: name(),
            hint: "Wait until it runs.".into(),
        },
        E::ReadIdentity {
            path: file(),
            source: io(),
        },
        E::BadIdentity {
            path: file(),
            source: Arc::new(russh::keys::Error::CouldNotReadKey),
        },
        E::LockedIdentity { path: file() },
        E::NoPassphrase {
            path: file(),
            source: PassphraseUnread {
                text: name(),
                hint: "Check the secret's file.".into(),
            },
        },
        E::WrongPassphrase {
            path: file(),
            secret: name(),
            source: Arc::new(russh::keys::Error::CouldNotReadKey),
        },
        E::AuthenticationFailed {
            endpoint: endpoint(),
            user: name(),
            tried: vec![],
            accepted: vec![],
        },
        E::ChannelRefused {
            endpoint: endpoint(),
            source: protocol(),
        },
        E::Disconnected {
            endpoint: endpoint(),
            source: protocol(),
        },
        E::ConnectionLost {
            endpoint: endpoint(),
        },
        E::Busy {
            endpoint: endpoint(),
            limit: 8,
        },
        E::Cancelled { left_running: true },
        E::Cancelled {
            left_running: false,
        },
        E::BadCommand(BadCommand::Empty),
        E::ExecRefused {
            endpoint: endpoint(),
        },
        E::NoExitStatus {
            endpoint: endpoint(),
        },
        E::NoProcess {
            endpoint: endpoint(),
        },
        E::NoSftp {
            endpoint: endpoint(),
            source: None,
        },
        E::TransferLost {
            endpoint: endpoint(),
        },
        E::TransferCancelled,
        E::LeftBehind {
            leftover: there(),
            source: Box::new(E::TransferCancelled),
        },
        E::OldAside {
            path: there(),
            aside: format!("{}.old", there()),
            source: Box::new(E::TransferCancelled),
        },
        E::MaybeReplaced {
            path: there(),
            source: Box::new(E::TransferLost {
                endpoint: endpoint(),
            }),
        },
        E::Interrupted {
            partial: there(),
            source: Box::new(E::TransferCancelled),
        },
        E::Interrupted {
            partial: there(),
            source: Box::new(E::RemoteFull { path: there() }),
        },
        E::OfFolder(Box::new(E::TransferCancelled)),
        E::OfFolder(Box::new(E::LeftBehind {
            leftover: there(),
            source: Box::new(E::TransferCancelled),
        })),
        E::OfFolder(Box::new(E::RemoteFull { path: there() })),
        E::TransferBusy { path: there() },
        E::TooMany {
            limit: "1000 files".into(),
        },
        E::LocalMissing { path: file() },
        E::Local {
            act: "write",
            path: file(),
            source: io(),
        },
        E::BadRemotePath { path: there() },
        E::NameTooLong {
            name: "n".repeat(256),
        },
        E::RemoteMissing { path: there() },
        E::RemoteMissing {
            path: "~other/file".into(),
        },
        E::RemoteFolderMissing { folder: there() },
        E::RemoteFolderMissing {
            folder: "~other".into(),
        },
        E::RemoteDenied {
            user: name(),
            act: "write",
            path: there(),
        },
        E::RemoteDenied {
            user: name(),
            act: "read",
            path: there(),
        },
        E::RemoteDenied {
            user: name(),
            act: "find",
            path: there(),
        },
        E::RemoteFull { path: there() },
        E::Remote {
            act: "write",
            path: there(),
            source: sftp,
        },
        E::Damaged {
            path: there(),
            what: "its size differs",
        },
    ]);
    // Their hints quote a line of a file, which is none of ours.
    errors.push(E::WriteKnownHosts {
        path: file(),
        line: "_".into(),
        source: io(),
    });
    errors.push(E::HostKeyUnknown {
        name: name(),
        presented: presented(),
        file: file(),
        line: "_".into(),
    });
    errors
}

fn of_jobs() -> Vec<JobError> {
    use JobError as E;
    let id = JobId::now;
    vec![
        E::Ssh(SshError::ExecRefused {
            endpoint: endpoint(),
        }),
        E::TooMany {
            running: vec![id()],
        },
        E::Unknown {
            id: "no such".into(),
            known: vec![],
        },
        E::Unknown {
            id: "no such".into(),
            known: vec![id()],
        },
        E::Running { id: id() },
        E::Ended {
            id: id(),
            how: "exit code 0".into(),
        },
        E::Lost {
            id: id(),
            how: "exit code 3".into(),
        },
        E::InputEnded { id: id() },
        E::InputFull { id: id() },
        E::BadSignal { found: "9".into() },
        E::NotSignalled {
            id: id(),
            signal: "TERM".parse().unwrap(),
        },
        E::PastEnd {
            stream: OutputStream::Stdout,
            offset: 9,
            bytes: 3,
            running: true,
        },
        E::TooLarge {
            id: id(),
            stream: OutputStream::Stderr,
            bytes: 4_000_000,
            most: 3_000_000,
            log: Some("/a b/stderr".into()),
        },
        E::Cut {
            id: id(),
            stream: OutputStream::Stderr,
            why: "cannot write /a b/stderr: no space left".into(),
        },
        E::ReadLog {
            path: "/a b/stdout".into(),
            source: denied(),
        },
        E::Store(StoreError::MakeFolder {
            path: "/a b".into(),
            source: denied(),
        }),
    ]
}

fn of_learning() -> Vec<LearnError> {
    use LearnError as E;
    let cell = ScreenSize {
        width: 8,
        height: 16,
    };
    let origin = Point { x: 240, y: 105 };
    let here = Spot {
        line: 1,
        column: 2,
        at: origin,
    };
    vec![
        E::NoText,
        E::BadCharacter {
            character: '\t',
            line: 2,
        },
        E::TooFewRepeats(3),
        E::BadCell { cell },
        E::OtherCell { known: cell, cell },
        E::TooLarge {
            picture: cell,
            origin: Some(origin),
        },
        E::NotFound { cells: vec![cell] },
        E::Contradiction {
            cell,
            origin,
            fault: Fault::Drawn { here },
        },
        E::Ambiguous {
            places: vec![(cell, origin)],
        },
    ]
}

fn of_saving() -> Vec<SaveError> {
    let path = || "/srv/own fonts/edk2.psf".into();
    let source = || io::Error::from(io::ErrorKind::PermissionDenied);
    vec![
        SaveError::Read {
            path: path(),
            source: source(),
        },
        SaveError::MakeFolder {
            path: path(),
            source: source(),
        },
        SaveError::Write {
            path: path(),
            source: source(),
        },
    ]
}

fn of_learn_font() -> Vec<LearnFontError> {
    use LearnFontError as E;
    let path = || "/srv/screen".into();
    let source = || io::Error::from(io::ErrorKind::NotFound);
    let font = || Font::from_psf("none", b"").unwrap_err();
    let picture = || Picture::decode("text/plain", vec![]).unwrap_err();
    vec![
        E::ReadText {
            path: path(),
            source: source(),
        },
        E::ReadPicture {
            path: path(),
            source: source(),
        },
        E::NoPicture {
            path: path(),
            source: picture(),
        },
        E::Config(of_config().remove(0)),
        E::Fleet(FleetError::Vm(of_vm().remove(0))),
        E::Capture(of_capture().remove(0)),
        E::BadScreen(picture()),
        E::BadFont {
            path: path(),
            source: font(),
        },
        E::Learn(LearnError::NoText),
        E::NoFont(font()),
        E::Save(of_saving().remove(0)),
    ]
}

fn of_store() -> Vec<StoreError> {
    use StoreError as E;
    let path = || "/data/projects/task".into();
    vec![
        E::Empty {
            what: "advice title",
        },
        E::NoSuchProject {
            path: "x".into(),
            others: vec![],
        },
        E::NoSuchProject {
            path: "x".into(),
            others: vec!["y".into()],
        },
        E::Gone { path: path() },
        E::NoMetadata { path: path() },
        E::BadMetadata {
            path: path(),
            source: no_json(),
        },
        E::BadFileName {
            name: "/".into(),
            fault: "it has a separator",
        },
        E::Exists { path: path() },
        E::NotPlain {
            path: path(),
            wanted: "folder",
        },
        E::NoScreenshot { path: path() },
        E::BadLevel { found: "x".into() },
        E::BadLineCount { found: 0 },
        E::BadScreenshotId { found: "x".into() },
        E::BadEntry { source: no_json() },
        E::BadPicture {
            source: ImageError::Broken("it is empty"),
        },
        E::Read {
            path: path(),
            source: denied(),
        },
        E::Write {
            path: path(),
            source: denied(),
        },
        E::MakeFolder {
            path: path(),
            source: denied(),
        },
    ]
}

fn of_paths() -> Vec<PathError> {
    use PathError as E;
    let path = || "/srv/file".into();
    let look_up = |kind: io::ErrorKind| E::LookUp {
        path: path(),
        source: kind.into(),
    };
    vec![
        E::Empty,
        E::Nul { path: "\\0".into() },
        E::HomeUnknown { path: "~/x".into() },
        E::Outside {
            path: path(),
            allowed: vec![],
            host_folders: vec!["/srv".into()],
        },
        E::Protected { path: path() },
        E::Missing { path: path() },
        E::UpFromNowhere { path: path() },
        E::TooManyLinks { path: path() },
        look_up(io::ErrorKind::PermissionDenied),
        look_up(io::ErrorKind::InvalidFilename),
        look_up(io::ErrorKind::NotADirectory),
    ]
}

fn of_fonts() -> Vec<FontError> {
    vec![
        FontError::UnknownFormat,
        FontError::CutOff("its glyphs"),
        FontError::BadHeader("its glyphs are not of its size"),
        FontError::BadCell {
            width: 0,
            height: 16,
        },
        FontError::BadTable,
        FontError::NoTable(512),
        FontError::NoGlyphs,
        FontError::TooLarge(2 << 20),
        FontError::BrokenGzip(io::ErrorKind::UnexpectedEof.into()),
    ]
}

fn of_config() -> Vec<ConfigError> {
    use ConfigError as E;
    let place = || Place::Environment;
    let key = || "long_edge".to_owned();
    vec![
        E::Unreadable {
            file: "/config.toml".into(),
            source: denied(),
        },
        E::Syntax {
            place: place(),
            message: "a quote is missing".into(),
        },
        E::UnknownKey {
            place: place(),
            key: "uri".into(),
            nearest: Some("uri"),
            allowed: &["uri"],
        },
        E::WrongValue {
            place: place(),
            key: key(),
            found: "-1".into(),
            allowed: "0".into(),
        },
        E::KeyNotYet {
            place: place(),
            key: key(),
        },
        E::ValueNotYet {
            place: place(),
            key: key(),
            found: "1".into(),
            allowed: "0".into(),
        },
        E::DotEnvLine {
            place: place(),
            variable: "VM_HOST",
        },
        E::HomeUnknown {
            place: place(),
            key: key(),
        },
        E::NoDataDir,
        E::WorkingDir { source: denied() },
    ]
}

/// Layouts have one failure alone, which is an example above.
#[test]
fn a_layout_that_does_not_exist_fails_as_in_the_example() {
    let error = Layout::compile("no-such-layout").map(drop).unwrap_err();
    assert_eq!(error, UnknownLayout("no-such-layout".into()));
}
