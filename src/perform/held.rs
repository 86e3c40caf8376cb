//! Mouse buttons that an act leaves down on purpose, how they come up again in the end, and how all comes
//! up that anybody has left down.

use std::{sync::Arc, thread::sleep, time::Duration};

use crate::{
    hypervisor::{Hypervisor, HypervisorError, InputEvent},
    model::{Button, ButtonState, KeyCode},
    vm::{Vm, VmError},
};

use super::{
    ActError,
    detour::{self, Feature},
    hands::{
        Hands, MODIFIER_LAG, Outcome, key_events, release, release_left, send, settle,
        wait_for_input,
    },
    pointer::{PRESS, REST, begin_rest, wait_for_buttons},
};

/// The modifiers of both sides: Ctrl, Shift, Alt and AltGr, Meta (`linux/input-event-codes.h`).
const MODIFIERS: [KeyCode; 8] = [
    KeyCode(29),
    KeyCode(97),
    KeyCode(42),
    KeyCode(54),
    KeyCode(56),
    KeyCode(100),
    KeyCode(125),
    KeyCode(126),
];

/// More than it takes to let go of all of them, on several pointing devices.
const RELEASE_ALL: Duration = Duration::from_secs(5);

impl Hands {
    /// Presses a button that stays down after this act, or lets go of one or of all.
    pub(super) async fn button(
        &mut self,
        button: Button,
        state: ButtonState,
    ) -> Result<(), ActError> {
        let call = move |hypervisor: &dyn Hypervisor, vm: &Vm| {
            wait_for_input(vm);
            wait_for_buttons(vm);
            let change = || match state {
                ButtonState::Down => press_and_keep(hypervisor, vm, button),
                ButtonState::Up => Outcome {
                    done: Ok(()),
                    released: release_held(hypervisor, vm, button),
                },
                ButtonState::ReleaseAll => release_all(hypervisor, vm),
            };
            Ok(match state {
                ButtonState::Down | ButtonState::Up => {
                    detour::through(hypervisor, vm, Feature::Button(button), change)
                }
                ButtonState::ReleaseAll => change(),
            })
        };
        let outcome = self.vm.call(2 * REST + RELEASE_ALL, call).await?;
        settle(&self.vm, outcome)
    }
}

/// Lets go of the buttons that acts left down on purpose, and tells which those were.
pub async fn let_go(vm: &Arc<Vm>) -> Result<Vec<Button>, ActError> {
    let held = vm.memory().held.clone();
    if held.is_empty() {
        return Ok(held);
    }
    let buttons = held.clone();
    let call = move |hypervisor: &dyn Hypervisor, vm: &Vm| {
        let mut outcome = Outcome::fine();
        for button in buttons {
            wait_for_input(vm);
            wait_for_buttons(vm);
            let up = || Outcome {
                done: Ok(()),
                released: release_held(hypervisor, vm, button),
            };
            let up = detour::through(hypervisor, vm, Feature::Button(button), up);
            outcome.done = outcome.done.and(up.done);
            outcome.released = outcome.released.and(up.released);
        }
        Ok(outcome)
    };
    let outcome = match vm.call(2 * REST + 2 * MODIFIER_LAG, call.clone()).await {
        Err(error @ (VmError::Hung(_) | VmError::TimedOut { .. })) => {
            vm.call_when_free(call);
            return Err(error.into());
        }
        outcome => outcome?,
    };
    settle(vm, outcome)?;
    Ok(held)
}

/// Lets go of every button of every pointing device and of every modifier, whoever pressed it. QEMU passes
/// on releases of what it does not hold for pressed, and so clears what another monitor, a viewer or an
/// earlier start of the guest's driver has left.
fn release_all(hypervisor: &dyn Hypervisor, vm: &Vm) -> Outcome {
    let mut outcome = Outcome::fine();
    // Where they cannot be told, the modifiers are let go of all the same.
    let pointers = hypervisor.pointers(vm.name()).unwrap_or_else(|error| {
        outcome.done = Err(error);
        vec![]
    });
    for device in &pointers {
        let buttons = Button::ALL.into_iter().filter(|it| device.passes(*it));
        let let_go = || release_buttons(hypervisor, vm, buttons);
        let let_go = detour::by(hypervisor, vm, &pointers, device, let_go);
        outcome.done = outcome.done.and(let_go.done);
        outcome.released = outcome.released.and(let_go.released);
    }
    if outcome.done.is_ok() && outcome.released.is_ok() {
        vm.memory().held.clear();
    }
    let mut modifiers = MODIFIERS.to_vec();
    if let Ok(layout) = vm.layout() {
        modifiers.extend(layout.modifiers().filter(|key| !MODIFIERS.contains(key)));
    }
    // They stay noted where they fail for a reason that passes, and the next act begins with them.
    let ups = key_events(&modifiers, false);
    let mut memory = vm.memory();
    memory.unreleased.retain(|it| !ups.contains(it));
    memory.unreleased.extend(ups);
    drop(memory);
    let released = release_left(hypervisor, vm);
    outcome.released = outcome.released.and(released);
    outcome
}

/// One by one: a PS/2 mouse tells each in a packet of its own, and keeps four.
fn release_buttons(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    buttons: impl Iterator<Item = Button>,
) -> Outcome {
    let mut outcome = Outcome::fine();
    for button in buttons {
        wait_for_input(vm);
        let up = InputEvent::Button {
            button,
            down: false,
        };
        let released = release(hypervisor, vm, &[up]);
        outcome.released = outcome.released.and(released);
        begin_rest(vm);
        sleep(PRESS);
    }
    outcome
}

fn press_and_keep(hypervisor: &dyn Hypervisor, vm: &Vm, button: Button) -> Outcome {
    // Remembered first: its answer may get lost, but not the event.
    vm.memory().held.push(button);
    let done = send(hypervisor, vm, &[InputEvent::Button { button, down: true }]);
    begin_rest(vm);
    let released = match done {
        Ok(()) => Ok(()),
        // Where there is no such call nothing went down.
        Err(HypervisorError::Unsupported { .. }) => {
            vm.memory().held.retain(|held| *held != button);
            Ok(())
        }
        Err(_) => release_held(hypervisor, vm, button),
    };
    Outcome { done, released }
}

/// A button that cannot be let go of now is let go of by the next act, or else stays one that is held.
fn release_held(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    button: Button,
) -> Result<(), HypervisorError> {
    let up = InputEvent::Button {
        button,
        down: false,
    };
    let released = release(hypervisor, vm, &[up]);
    let mut memory = vm.memory();
    if released.is_ok() || memory.unreleased.contains(&up) {
        memory.held.retain(|held| *held != button);
    }
    drop(memory);
    begin_rest(vm);
    released
}
