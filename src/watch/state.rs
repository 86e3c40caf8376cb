//! Watching what the VM is doing: `state`.

use std::{sync::Arc, time::Duration};

use crate::{
    hypervisor::DomainState,
    model::{Condition, VmState},
    vm::Vm,
};

use super::{Findings, WatchError};

/// libvirt is asked this often; a question takes a millisecond.
const INTERVAL: Duration = Duration::from_millis(500);

/// Waits until the VM is in one of the states; for ever where none is waited for.
pub(super) async fn watch(
    vm: &Arc<Vm>,
    conditions: &[Condition],
    findings: &Findings,
) -> Result<String, WatchError> {
    let wanted: Vec<_> = conditions
        .iter()
        .enumerate()
        .filter_map(|(at, condition)| match condition {
            Condition::State(state) => Some((at, state.state)),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return std::future::pending().await;
    }
    let mut is_known = false;
    loop {
        match vm.domain().await {
            Ok(domain) => {
                is_known = true;
                let is = domain.state.as_str();
                if wanted.iter().any(|(_, state)| is_in(domain.state, *state)) {
                    return Ok(format!("The VM is {is}"));
                }
                for (at, _) in &wanted {
                    findings.note(*at, format!("the VM is {is}"));
                }
            }
            // A VM that is not there, or a libvirt that does not answer, is told at once; once there
            // was an answer, libvirt may come back.
            Err(error) if !is_known => return Err(error.into()),
            Err(error) => {
                for (at, _) in &wanted {
                    findings.note(*at, error.to_string());
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn is_in(state: DomainState, wanted: VmState) -> bool {
    let wanted = match wanted {
        VmState::Running => DomainState::Running,
        VmState::Paused => DomainState::Paused,
        VmState::Shutdown => DomainState::Shutdown,
        VmState::Shutoff => DomainState::Shutoff,
        VmState::Crashed => DomainState::Crashed,
        VmState::Suspended => DomainState::Suspended,
    };
    state == wanted
}
