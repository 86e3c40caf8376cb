//! Mouse buttons that an act leaves down on purpose, and how they come up again in the end.

use std::sync::Arc;

use crate::{
    hypervisor::{Hypervisor, HypervisorError, InputEvent},
    model::{Button, ButtonState},
    vm::{Vm, VmError},
};

use super::{
    ActError,
    hands::{Hands, Outcome, release, settle, wait_for_input},
    pointer::{REST, begin_rest, wait_for_buttons},
};

impl Hands {
    /// Presses a button that stays down after this act, or lets go of one.
    pub(super) async fn button(
        &mut self,
        button: Button,
        state: ButtonState,
    ) -> Result<(), ActError> {
        let call = move |hypervisor: &dyn Hypervisor, vm: &Vm| {
            wait_for_input(vm);
            wait_for_buttons(vm);
            Ok(match state {
                ButtonState::Down => press_and_keep(hypervisor, vm, button),
                ButtonState::Up => Outcome {
                    done: Ok(()),
                    released: release_held(hypervisor, vm, button),
                },
            })
        };
        let outcome = self.vm.call(2 * REST, call).await?;
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
            let released = release_held(hypervisor, vm, button);
            outcome.released = outcome.released.and(released);
        }
        Ok(outcome)
    };
    let outcome = match vm.call(2 * REST, call.clone()).await {
        Err(error @ (VmError::Hung(_) | VmError::TimedOut { .. })) => {
            vm.call_when_free(call);
            return Err(error.into());
        }
        outcome => outcome?,
    };
    settle(vm, outcome)?;
    Ok(held)
}

fn press_and_keep(hypervisor: &dyn Hypervisor, vm: &Vm, button: Button) -> Outcome {
    // Remembered first: its answer may get lost, but not the event.
    vm.memory().held.push(button);
    let done = hypervisor.input(vm.name(), &[InputEvent::Button { button, down: true }]);
    begin_rest(vm);
    let released = match done {
        Ok(()) => Ok(()),
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
