//! The VM itself: its state, devices, screen, pointer and keyboard.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    capture::{self, CaptureError, Shot},
    guest::Guests,
    hypervisor::{Bus, Devices, DomainState, FullName, HypervisorError, Sight},
    image::Picture,
    model::{Act, MoveMode, MoveMouse, PressKeys, TakeScreenshot},
    perform::{self, Outcome},
    tools::ToolError,
    vm::{Vm, VmError},
};

use super::{
    report::{Check, Report},
    restart,
};

/// How long a guest may take to draw a pointer that moved, and to read a key.
const DRAWN: Duration = Duration::from_millis(400);
const READ: Duration = Duration::from_secs(1);

/// Gives why there is no use in looking at the guest behind it, if there is none.
pub(super) async fn look(
    report: &mut Report,
    vm: &Arc<Vm>,
    guests: &Arc<Guests>,
    act: bool,
) -> io::Result<Option<&'static str>> {
    const OFF: &str = "the VM does not run";
    const HUNG: &str = "QEMU does not answer";
    let state = match vm.domain().await {
        Ok(domain) => {
            report.add(state(&vm.full_name(), domain.state))?;
            domain.state
        }
        Err(error) => {
            report.add(Check::refused("state", error))?;
            return Ok(Some("the VM's state is not known"));
        }
    };
    let devices = match vm.devices().await {
        Ok(devices) => devices,
        Err(error) => {
            report.add(Check::refused("devices", error))?;
            return Ok((state != DomainState::Running).then_some(OFF));
        }
    };
    let is_running = state == DomainState::Running;
    let has_answered = report.add(tablet(vm, &devices, is_running).await)?;
    let has_video = report.add(video(&vm.full_name(), &devices, is_running))?;
    let asked = devices.is_qemu() && devices.tablet.is_some();
    let useless = if !is_running {
        Some(OFF)
    } else if asked && !has_answered {
        Some(HUNG)
    } else {
        None
    };
    if let Some(why) = useless {
        for name in ["screen", "pointer", "keyboard"] {
            report.add(Check::skipped(name, why))?;
        }
        return Ok(useless);
    }
    if has_video {
        for head in 0..devices.heads.max(1) {
            report.add(screen(vm, head, devices.heads > 1).await)?;
        }
        report.add(looks(vm).await)?;
    } else {
        report.add(Check::skipped("screen", "there is no video device"))?;
    }
    report.add(if !act {
        Check::skipped("pointer", "not moved; --act moves it")
    } else if devices.tablet.is_none() {
        Check::skipped("pointer", "there is no tablet")
    } else if !has_video {
        Check::skipped("pointer", "there is no screen to move it on")
    } else {
        pointer(vm, guests).await
    })?;
    report.add(keyboard(vm, guests, &devices, act).await)?;
    Ok(None)
}

fn state(vm: &FullName, state: DomainState) -> Check {
    const NAME: &str = "state";
    if state == DomainState::Running {
        return Check::ok(NAME, "running");
    }
    let check = Check::failed(NAME, format!("`{vm}` is {}", state.as_str()));
    match state {
        DomainState::Running => check,
        DomainState::Paused => check.advice("Resume it:").command(vm.virsh("resume")),
        DomainState::Suspended => check.advice("Wake it:").command(vm.virsh("dompmwakeup")),
        DomainState::Crashed => check
            .advice("Its guest crashed. End it and start it again:")
            .command(vm.virsh("destroy"))
            .command(vm.virsh("start")),
        DomainState::Shutdown => check
            .advice("Wait until it is off, then start it:")
            .command(vm.virsh("start")),
        DomainState::Unknown => check
            .advice("See what libvirt says of it:")
            .command(vm.virsh("domstate --reason")),
        DomainState::Shutoff => check.advice("Start it:").command(vm.virsh("start")),
    }
}

async fn tablet(vm: &Arc<Vm>, devices: &Devices, is_running: bool) -> Check {
    const NAME: &str = "tablet";
    if !devices.is_qemu() {
        return Check::failed(
            NAME,
            format!(
                "a VM of the driver `{}` has no mouse for us",
                devices.driver
            ),
        )
        .advice("Keys and pictures may still work; pointing needs a QEMU VM.");
    }
    let Some(bus) = devices.tablet else {
        let name = vm.full_name();
        let check = Check::failed(
            NAME,
            "there is none, so the pointer is put to places by estimate at best",
        );
        let attach = |bus: &str, options: &str| {
            let virsh = name.virsh("attach-device");
            format!("echo \"<input type='tablet' bus='{bus}'/>\" | {virsh} /dev/stdin {options}")
        };
        return match (devices.usb, is_running) {
            (true, true) => check
                .advice("Attach one, now and for later starts:")
                .command(attach("usb", "--live --config")),
            (true, false) => check
                .advice("Add one to its configuration:")
                .command(attach("usb", "--config")),
            // A virtio one wants a free slot, which a running VM may not have.
            (false, false) => check
                .advice("It has no USB, so add a virtio one (Windows needs the virtio drivers):")
                .command(attach("virtio", "--config")),
            (false, true) => check
                .advice(
                    "It has no USB, so add a virtio one (Windows needs the virtio drivers), which is \
                     there after a full stop and start:",
                )
                .command(attach("virtio", "--config"))
                .commands(restart(&name)),
        };
    };
    let text = format!("attached by {}", bus.as_str());
    if !is_running {
        return Check::ok(NAME, text);
    }
    match vm.pointers().await {
        Ok(pointers) if pointers.iter().any(|it| it.absolute && it.current) => {
            Check::ok(NAME, format!("{text}; the guest's driver uses it"))
        }
        Ok(_) => Check::note(
            NAME,
            format!(
                "{text}, but the guest uses another device now. That is so in firmware, boot loaders \
                 and text consoles; in a desktop it means that the guest lacks the driver."
            ),
        ),
        Err(error) => Check::refused(NAME, error),
    }
}

fn video(vm: &FullName, devices: &Devices, is_running: bool) -> Check {
    const NAME: &str = "video";
    if !devices.video.is_empty() {
        let heads = match devices.heads {
            1 => "1 head".to_owned(),
            heads => format!("{heads} heads"),
        };
        return Check::ok(NAME, format!("{}, {heads}", devices.video.join(", ")));
    }
    if !devices.is_qemu() {
        return Check::note(NAME, "the hypervisor tells of none");
    }
    // libvirt attaches no video device, but its editor can be any program. One of the type `none` goes.
    let none = "/<video>/,/<\\/video>/d";
    let new = "s|</devices>|<video><model type=\\\"virtio\\\"/></video></devices>|";
    let edit = format!("VISUAL=\"sed -i -e '{none}' -e '{new}'\"");
    let check = Check::failed(NAME, "there is no video device, so there is no screen")
        .command(format!("{edit} {}", vm.virsh("edit")));
    if is_running {
        check
            .advice("Add one, which is there after a full stop and start:")
            .commands(restart(vm))
    } else {
        check.advice("Add one:")
    }
}

async fn screen(vm: &Arc<Vm>, head: u32, is_one_of_several: bool) -> Check {
    const NAME: &str = "screen";
    let begun = Instant::now();
    let outcome = shot(vm, head).await;
    let head = if is_one_of_several {
        format!("head {head}: ")
    } else {
        String::new()
    };
    match outcome {
        Ok(shot) => Check::ok(
            NAME,
            format!(
                "{head}captured: {}, {} kB, {} ms",
                shot.sizes(),
                shot.bytes.len().div_ceil(1000),
                begun.elapsed().as_millis()
            ),
        ),
        // A head that nothing is connected to is no failure of the VM.
        Err(CaptureError::Vm(VmError::Hypervisor(error @ HypervisorError::NoHead { .. }))) => {
            Check::note(NAME, format!("{head}{error}"))
        }
        Err(error) => Check::refused(NAME, error),
    }
}

/// Which way looks take that nobody is shown. Without the quick one all works, but dearer.
async fn looks(vm: &Arc<Vm>) -> Check {
    const NAME: &str = "looks";
    match vm.sight().await {
        Ok(sight @ Sight::Framebuffer) => Check::ok(NAME, sight.to_string()),
        Ok(sight @ Sight::Screenshot { .. }) => Check::note(NAME, sight.to_string()),
        Err(error) => Check::refused(NAME, error),
    }
}

async fn shot(vm: &Arc<Vm>, head: u32) -> Result<Shot, CaptureError> {
    let what = TakeScreenshot {
        head,
        ..TakeScreenshot::default()
    };
    capture::look(vm, &what).await
}

/// Moves the pointer between two places. The picture shows it only where the guest draws it into the
/// screen, or where something under it reacts.
async fn pointer(vm: &Arc<Vm>, guests: &Arc<Guests>) -> Check {
    const NAME: &str = "pointer";
    let outcome = async {
        let size = shot(vm, 0).await?.shown;
        let mut pictures = vec![];
        for part in [4, 2] {
            let to = MoveMouse {
                x: i32::try_from(size.width / part).unwrap_or_default(),
                y: i32::try_from(size.height / part).unwrap_or_default(),
                mode: MoveMode::Absolute,
            };
            act(vm, guests, Act::MoveMouse(to)).await?;
            tokio::time::sleep(DRAWN).await;
            pictures.push(shot(vm, 0).await?);
        }
        Ok::<_, ToolError>(pictures)
    };
    let pictures = match outcome.await {
        Ok(pictures) => pictures,
        Err(error) => return Check::refused(NAME, error),
    };
    let changed = match pictures.as_slice() {
        [before, after] => changed_pixels(before, after),
        _ => None,
    };
    match changed {
        Some(0) | None => Check::ok(
            NAME,
            "moved to the middle of the screen. The pictures show no pointer, as usual where the \
             guest's display hardware draws it; screenshots bear a mark at its place.",
        ),
        Some(pixels) => Check::ok(
            NAME,
            format!("moved to the middle of the screen; {pixels} pixels changed with it"),
        ),
    }
}

fn changed_pixels(before: &Shot, after: &Shot) -> Option<usize> {
    let decoded = |shot: &Shot| Picture::decode("image/png", shot.original().ok()?).ok();
    let (before, after) = (decoded(before)?, decoded(after)?);
    let pixels = |picture: &Picture| -> Vec<[u8; 3]> { picture.rgb().as_chunks().0.to_vec() };
    let changed = pixels(&before)
        .into_iter()
        .zip(pixels(&after))
        .filter(|(before, after)| before != after)
        .count();
    (before.size() == after.size()).then_some(changed)
}

async fn keyboard(vm: &Arc<Vm>, guests: &Arc<Guests>, devices: &Devices, act_too: bool) -> Check {
    const NAME: &str = "keyboard";
    let buses: Vec<_> = devices.keyboards.iter().map(|bus| bus.as_str()).collect();
    let kind = match devices.keyboards.as_slice() {
        [] => "of the hypervisor's own".to_owned(),
        [Bus::Ps2] => "ps2".to_owned(),
        _ => format!(
            "{}; one that is not ps2 takes the keys once the guest's driver is up",
            buses.join(", ")
        ),
    };
    let pace = 1000 / (2 * perform::hold(devices).as_millis()).max(1);
    let keymap = vm.keymap();
    let text = format!("{kind}; layout {keymap}; typed at up to {pace} keys a second");
    if !act_too {
        return Check::ok(NAME, text);
    }
    let tap = PressKeys {
        keys: vec!["Control_L".to_owned()],
        repeat: 1,
        hold_ms: 0,
        adds_modifiers: false,
    };
    let begun = Instant::now();
    if let Err(error) = act(vm, guests, Act::PressKeys(tap)).await {
        return Check::refused(NAME, error);
    }
    vm.input_arrived().await;
    loop {
        match vm.keys_unread().await {
            Ok(false) => {
                let took = begun.elapsed().as_millis();
                return Check::ok(NAME, format!("{text}; a key was taken within {took} ms"));
            }
            Ok(true) if begun.elapsed() < READ => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(true) => {
                return Check::note(
                    NAME,
                    format!("{text}; a key was pressed, but the guest does not read it now"),
                )
                .advice("Look at the screen: it may be starting still, or hang.");
            }
            Err(error) => return Check::refused(NAME, error),
        }
    }
}

/// One act, the way that tools do it.
async fn act(vm: &Arc<Vm>, guests: &Arc<Guests>, act: Act) -> Result<(), ToolError> {
    let cancel = CancellationToken::new();
    let outcomes = perform::perform(vm, guests, vec![act], cancel, perform::untold()).await;
    match outcomes {
        Ok(outcomes) => outcomes
            .into_iter()
            .find_map(|outcome| match outcome {
                Outcome::Failed(error) => Some(Err(error.into())),
                Outcome::Done(_) | Outcome::NotRun => None,
            })
            .unwrap_or(Ok(())),
        Err(refused) => Err((*refused.error).into()),
    }
}
