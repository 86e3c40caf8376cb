//! Why an act was refused or failed.

use crate::{
    capture::{CaptureError, Shot},
    hypervisor::{FullName, HypervisorError, tablet_hint},
    keyboard::{BadKeys, Untypable},
    model::{Button, Direction, Point, ScreenSize, VmName, act::BadAct},
    vm::VmError,
    watch::WatchError,
};

#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error(transparent)]
    Bad(#[from] BadAct),
    #[error(transparent)]
    Keys(#[from] BadKeys),
    #[error(transparent)]
    Untypable(#[from] Untypable),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("the point {point} is outside the screenshot of {shown} pixels")]
    Outside { point: Point, shown: ScreenSize },
    #[error("the screen of `{vm}` is {now} now, and was {then} in the last screenshot")]
    Resized {
        vm: VmName,
        now: ScreenSize,
        then: ScreenSize,
    },
    #[error("where the pointer of `{0}` is, is not known, so that it cannot be moved by an offset")]
    PointerUnknown(VmName),
    #[error("an offset of {offset} is longer than the screen, of {shown} pixels")]
    OffsetTooLong { offset: Point, shown: ScreenSize },
    #[error("the VM `{0}` has no pointing device, neither a tablet nor a mouse")]
    NoMouse(FullName),
    #[error("libvirt's driver `{driver}`, which runs `{vm}`, cannot point")]
    NoPointing { vm: VmName, driver: String },
    #[error("the VM `{vm}` shows pictures on {heads} heads, and their places are not known")]
    SeveralHeads { vm: VmName, heads: usize },
    #[error(
        "`heads` of `{vm}` in the configuration has a length of {places}, and the VM shows pictures on the \
         heads {}",
        numbers(in_use)
    )]
    HeadPlaces {
        vm: VmName,
        places: usize,
        in_use: Vec<u32>,
    },
    #[error(
        "at the places in the configuration, head {} of `{vm}` ({}) and head {} ({}) lie over each other",
        heads[0], sizes[0], heads[1], sizes[1]
    )]
    HeadsOverlap {
        vm: VmName,
        heads: [u32; 2],
        sizes: [ScreenSize; 2],
    },
    #[error("head {head} of `{vm}`, which the last screenshot showed, is dark now")]
    HeadDark { vm: VmName, head: u32 },
    #[error("no pointing device of `{vm}` passes on the {} button", button.as_str())]
    NoSuchButton { vm: VmName, button: Button },
    #[error("no pointing device of `{vm}` passes on a wheel that turns {}", direction.as_str())]
    NoSuchWheel { vm: VmName, direction: Direction },
    #[error("the {} button of `{vm}` is held down already", button.as_str())]
    ButtonHeld { vm: VmName, button: Button },
    #[error("where the pointer of `{0}` is, is not known")]
    NoPosition(VmName),
    #[error(
        "the act failed, and what was held was let go of: the {} button",
        names(buttons)
    )]
    LetGo {
        buttons: Vec<Button>,
        source: Box<ActError>,
    },
    #[error("typing broke off after {typed} of {of} characters")]
    Typing {
        typed: usize,
        of: usize,
        source: VmError,
    },
    #[error("the call was cancelled after {typed} of {of} characters were typed")]
    CancelledTyping { typed: usize, of: usize },
    #[error("the secret `{0}` was named and not read")]
    SecretUnread(String),
    #[error("the secret `{secret}` cannot be typed with the keyboard layout `{layout}`")]
    UntypableSecret { secret: String, layout: String },
    #[error("typing the secret `{secret}` broke off")]
    TypingSecret {
        secret: String,
        source: Option<VmError>,
    },
    #[error("the call was cancelled while the secret `{0}` was typed")]
    CancelledSecret(String),
    #[error("the call was cancelled; no key and no button is down")]
    Cancelled,
    #[error("a key or button of `{vm}` may still be down: it could not be released")]
    MaybeDown { vm: VmName, source: HypervisorError },
}

impl ActError {
    /// The screen at the end of a wait that was in vain.
    pub fn last(&self) -> Option<&Shot> {
        match self {
            Self::Watch(error) => error.last(),
            _ => None,
        }
    }

    /// The same failure of typing a secret, without what tells its length or its characters.
    pub(super) fn of_secret(self, secret: &str) -> Self {
        let secret = secret.to_owned();
        match self {
            Self::Typing { source, .. } => Self::TypingSecret {
                secret,
                source: names_no_key(&source).then_some(source),
            },
            Self::CancelledTyping { .. } => Self::CancelledSecret(secret),
            other => other,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Bad(_) => "Correct the value and call again; nothing was done.".to_owned(),
            Self::Keys(error) => error.hint(),
            Self::Untypable(error) => error.hint(),
            Self::Vm(error) => error.hint(),
            Self::Capture(error) => error.hint(),
            Self::Watch(error) => error.hint(),
            Self::Outside { shown, .. } => format!(
                "x goes from 0 to {}, y from 0 to {}. Take a screenshot to see the present screen.",
                shown.width - 1,
                shown.height - 1
            ),
            Self::Resized { .. } => {
                "Take a new screenshot and use its coordinates; nothing was done there.".to_owned()
            }
            Self::PointerUnknown(_) => {
                "Call `move_mouse` with mode `absolute` first: relative moves start where this \
                 server last put the pointer."
                    .to_owned()
            }
            Self::OffsetTooLong { .. } => {
                "Move by no more than the screen's width and height; nothing was done.".to_owned()
            }
            Self::NoMouse(vm) => tablet_hint(vm),
            Self::NoPointing { .. } => {
                "The mouse needs a QEMU VM. Use `press_keys` and `type_text` instead.".to_owned()
            }
            Self::SeveralHeads { vm, heads } => format!(
                "One tablet spans all heads. Only the person who runs this server can say where the upper \
                 left corner of each lies on the guest's desktop, in the configuration; for {heads} beside \
                 each other:\n[vm.\"{vm}\"]\nheads = [{}]\nOr let the guest use one screen only.",
                side_by_side(*heads)
            ),
            Self::HeadPlaces { .. } | Self::HeadsOverlap { .. } => {
                "Only the person who runs this server can mend it: `heads` in the configuration lists the \
                 upper left corner of each head on the guest's desktop, from head 0 on, as the guest's \
                 display settings have them. Or let the guest use one screen only."
                    .to_owned()
            }
            Self::HeadDark { .. } => {
                "Take a screenshot of another head, and use its coordinates.".to_owned()
            }
            Self::NoSuchButton { .. } => {
                "Press Alt+Left for back and Alt+Right for forward instead, or give the VM a \
                 virtio tablet or a PS/2 mouse."
                    .to_owned()
            }
            Self::NoSuchWheel { .. } => {
                "QEMU's tablets turn up and down alone, and it has no PS/2 mouse. Hold Shift while you \
                 scroll, which many programs take for sideways, or press Left or Right."
                    .to_owned()
            }
            Self::ButtonHeld { .. } => "Let go of it first, with `mouse_button`.".to_owned(),
            Self::NoPosition(_) => {
                "This server knows only where it put the pointer itself: move it or click at a \
                 place first."
                    .to_owned()
            }
            Self::LetGo { source, .. } => source.hint(),
            Self::Typing { source, .. } => match first_of(source) {
                Some(first) => format!(
                    "{first} Then take a screenshot to see what arrived, and type the rest."
                ),
                None => "Take a screenshot to see what arrived, then type the rest.".to_owned(),
            },
            Self::SecretUnread(_) => {
                "Nothing was typed. This is a defect of the server; please report it.".to_owned()
            }
            Self::UntypableSecret { .. } => {
                "Nothing was typed. What is wrong with it is not told: it must be one line, of characters \
                 that this layout has, without tabs and other control characters."
                    .to_owned()
            }
            Self::TypingSecret { source, .. } => {
                let rest = "Take a screenshot, clear the field, and type the secret again.";
                match source.as_ref().and_then(first_of) {
                    Some(first) => format!("{first} {rest}"),
                    None => rest.to_owned(),
                }
            }
            Self::CancelledSecret(_) => {
                "Part of it may have been typed: take a screenshot, and clear the field.".to_owned()
            }
            Self::CancelledTyping { .. } | Self::Cancelled => {
                "Take a screenshot before going on.".to_owned()
            }
            Self::MaybeDown { source, .. } if is_left_to_next_act(source) => {
                let next = "The next act on the VM lets go of it.";
                match first(source) {
                    Some(first) => format!("{first} {next}"),
                    None => next.to_owned(),
                }
            }
            Self::MaybeDown { .. } => {
                "Tap the same key, or click the same button, once: its release lets go.".to_owned()
            }
        }
    }
}

fn numbers(heads: &[u32]) -> String {
    let numbers: Vec<_> = heads.iter().map(ToString::to_string).collect();
    numbers.join(" and ")
}

/// The places of so many heads of 1280 pixels' width, for an example.
fn side_by_side(heads: usize) -> String {
    let places: Vec<_> = (0..heads).map(|at| format!("[{}, 0]", at * 1280)).collect();
    places.join(", ")
}

pub(crate) fn names(buttons: &[Button]) -> String {
    let names: Vec<_> = buttons.iter().map(|button| button.as_str()).collect();
    names.join(" and the ")
}

/// Whether an error says nothing of the key that was sent, not by the words of QEMU or libvirt either.
fn names_no_key(error: &VmError) -> bool {
    matches!(
        error,
        VmError::TimedOut { .. }
            | VmError::Mute { .. }
            | VmError::Hung(_)
            | VmError::Hypervisor(
                HypervisorError::Connect { .. }
                    | HypervisorError::Denied { .. }
                    | HypervisorError::Lost { .. }
                    | HypervisorError::UnknownVm { .. }
                    | HypervisorError::NotRunning { .. }
                    | HypervisorError::KeysUnread { .. }
                    | HypervisorError::Changed { .. }
            )
    )
}

/// Whether a release that failed so is made up for by the next act.
pub(super) fn is_left_to_next_act(error: &HypervisorError) -> bool {
    // Of these it is not known: libvirt may have been busy with the VM.
    let may_pass = matches!(
        error,
        HypervisorError::Call { .. } | HypervisorError::Answer { .. }
    );
    may_pass || passes(error)
}

/// Whether what hinders an act is known to end: the VM is resumed, the guest reads, libvirt comes back.
pub(super) fn passes(error: &HypervisorError) -> bool {
    matches!(
        error,
        HypervisorError::NotRunning { .. }
            | HypervisorError::KeysUnread { .. }
            | HypervisorError::Connect { .. }
            | HypervisorError::Denied { .. }
            | HypervisorError::Lost { .. }
    )
}

/// What has to be done before a call to the VM can succeed.
fn first_of(error: &VmError) -> Option<String> {
    match error {
        VmError::Hypervisor(error) => first(error),
        other => Some(other.hint()),
    }
}

/// What has to be done before the VM takes anything again.
fn first(source: &HypervisorError) -> Option<String> {
    let is_needed = matches!(
        source,
        HypervisorError::NotRunning { .. }
            | HypervisorError::Connect { .. }
            | HypervisorError::Denied { .. }
    );
    is_needed.then(|| source.hint())
}
