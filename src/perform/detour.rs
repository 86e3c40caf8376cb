//! Buttons and turns of the wheel that not every pointing device passes on.
//!
//! QEMU feeds them to one device at a time, and a USB tablet drops some of them without a word. For as long
//! as such an act takes, another device of the VM is the one that they go to; positions go to the tablet all
//! the same.

use std::thread::sleep;

use crate::{
    hypervisor::{Hypervisor, HypervisorError, Pointer},
    model::{Button, Direction},
    vm::Vm,
};

use super::hands::{MODIFIER_LAG, Outcome, wait_for_tablet};

/// What an act sends to a pointing device besides motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Button(Button),
    Wheel(Direction),
}

impl Feature {
    /// Whether there are devices that drop it.
    pub(super) fn is_rare(self) -> bool {
        match self {
            Self::Button(button) => matches!(button, Button::Back | Button::Forward),
            Self::Wheel(direction) => direction.is_sideways(),
        }
    }

    pub(super) fn passes(self, pointer: &Pointer) -> bool {
        match self {
            Self::Button(button) => pointer.passes(button),
            Self::Wheel(direction) => pointer.turns(direction),
        }
    }
}

/// Does what sends a feature, through a device that passes it on.
pub(super) fn through(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    feature: Feature,
    act: impl FnOnce() -> Outcome,
) -> Outcome {
    if !feature.is_rare() {
        return act();
    }
    let pointers = match hypervisor.pointers(vm.name()) {
        Ok(pointers) => pointers,
        Err(error) => return failed(error),
    };
    let passing = |it: &&Pointer| feature.passes(it);
    let current = pointers.iter().filter(passing).find(|it| it.current);
    match current.or_else(|| pointers.iter().find(passing)) {
        Some(device) => by(hypervisor, vm, &pointers, device, act),
        // It was there when the act was planned.
        None => failed(HypervisorError::NoInputDevice { vm: vm.full_name() }),
    }
}

/// Does something while a device is the one that buttons and the wheel go to.
pub(super) fn by(
    hypervisor: &dyn Hypervisor,
    vm: &Vm,
    pointers: &[Pointer],
    device: &Pointer,
    act: impl FnOnce() -> Outcome,
) -> Outcome {
    if device.current {
        return act();
    }
    // Devices are not ordered against each other: what the tablet was told last comes first.
    wait_for_tablet(vm);
    sleep(MODIFIER_LAG);
    // Remembered first: the answer may get lost, but not the switch.
    vm.memory().switched_from = pointers.iter().find(|it| it.current).map(|it| it.index);
    let mut outcome = match hypervisor.switch_pointer(vm.name(), device.index) {
        Ok(()) => act(),
        Err(error) => failed(error),
    };
    let back = switch_back(hypervisor, vm);
    outcome.done = outcome.done.and(back);
    outcome
}

/// Makes the device that buttons went to before the one that they go to again. What fails is left to the
/// next act.
pub(super) fn switch_back(hypervisor: &dyn Hypervisor, vm: &Vm) -> Result<(), HypervisorError> {
    const TRIES: usize = 3;
    let Some(index) = vm.memory().switched_from else {
        return Ok(());
    };
    let mut outcome = hypervisor.switch_pointer(vm.name(), index);
    for _ in 1..TRIES {
        if outcome.is_ok() {
            break;
        }
        outcome = hypervisor.switch_pointer(vm.name(), index);
    }
    // Where QEMU goes on refusing it the device is gone, and with it what there was to go back to.
    if let Ok(()) | Err(HypervisorError::Refused { .. }) = outcome {
        vm.memory().switched_from = None;
    }
    outcome
}

fn failed(error: HypervisorError) -> Outcome {
    Outcome {
        done: Err(error),
        released: Ok(()),
    }
}
