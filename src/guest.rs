//! The guest behind a VM: where its SSH server is, and the client that connects to it.
//!
//! Shell and files do not take the VM's turn: a hung screen must not stop a shell, nor the
//! other way round. A guest whose address is configured is reached without libvirt.

mod ways;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    config::SshConfig,
    fleet::{Fleet, FleetError},
    model::{Capability, VmName},
    secrets::Secrets,
    ssh::{Client, NoRoute, SshError, Target},
    vm::{Vm, VmError},
};

use ways::{Found, Way, Ways, configured_way, ways};

/// How long libvirt is asked where a VM is before it is tried where it was.
const FINDING_LIMIT: Duration = Duration::from_secs(5);

/// The guests of a fleet, each with its connection.
#[derive(Debug)]
pub struct Guests {
    fleet: Arc<Fleet>,
    secrets: Arc<Secrets>,
    known: Mutex<HashMap<Label, Arc<Guest>>>,
}

/// What a guest is known by: its VM, or that its address alone is configured.
type Label = Option<VmName>;

/// A guest with an SSH server.
#[derive(Debug)]
pub struct Guest {
    /// Its VM; none where its address alone is configured.
    pub vm: Option<VmName>,
    pub client: Client,
    config: SshConfig,
    ways: Arc<Mutex<Ways>>,
    /// Whether the next call asks anew where it is.
    is_in_doubt: AtomicBool,
}

impl Guest {
    /// How its address was found, in words.
    pub fn found(&self) -> String {
        self.taken().words
    }

    /// Why the user's SSH configuration is left out, where it is.
    pub fn unconfigured(&self) -> Option<NoRoute> {
        self.taken().unconfigured
    }

    /// How the way was found that is taken.
    fn taken(&self) -> Found {
        let target = self.client.target();
        let ways = lock(&self.ways);
        let taken = ways.iter().find(|way| way.target == *target);
        taken.unwrap_or(&ways.first).found.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error("the address of the VM `{vm}` was not found: {}", tried.join("; "))]
    NoAddress { vm: VmName, tried: Vec<String> },
    #[error("the guest is not reached, and your SSH configuration is left out ({why})")]
    Unconfigured {
        why: NoRoute,
        #[source]
        source: Box<SshError>,
    },
    #[error("`{capability}` is not granted for the guest at VM_HOST")]
    NotGranted { capability: Capability },
}

impl GuestError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Fleet(error) => error.hint(),
            Self::Vm(error) => error.hint(),
            Self::Ssh(error) => error.hint(),
            Self::NoAddress { vm, .. } => format!(
                "Set it by VM_HOST (and VM_PORT), or in the configuration:\n[vm.\"{vm}\"]\nssh = \
                 {{ host = \"192.168.122.79\" }}\nIf the guest has only just started, wait until \
                 its network is up."
            ),
            Self::Unconfigured { source, .. } => format!(
                "Correct ~/.ssh/config, if it says how this guest is reached: `ssh -G` shows what is wrong with it. \
                 If it does not: {}",
                source.hint()
            ),
            Self::NotGranted { .. } => {
                "Only the person who runs this server can grant it, by `--allow` or `allow` in \
                 the configuration."
                    .to_owned()
            }
        }
    }
}

impl Guests {
    pub fn new(fleet: Arc<Fleet>, secrets: Arc<Secrets>) -> Self {
        Self {
            fleet,
            secrets,
            known: Mutex::default(),
        }
    }

    /// The guest that a call means, where it is granted what the call needs.
    pub async fn guest(
        &self,
        vm: Option<VmName>,
        capability: Capability,
    ) -> Result<Arc<Guest>, GuestError> {
        if let Some(guest) = self.configured_default(vm.as_ref(), capability).await? {
            return Ok(guest);
        }
        let vm = self.fleet.vm(vm, capability).await?;
        self.of(&vm).await
    }

    /// The guest of a VM, whatever is granted.
    pub async fn of(&self, vm: &Arc<Vm>) -> Result<Arc<Guest>, GuestError> {
        let label = Some(vm.name().clone());
        let is_default = self.fleet.is_default(vm.name());
        let config = self.fleet.config().ssh_for(vm.name(), is_default);
        if let Some(guest) = self.undoubted(&label, &config) {
            return Ok(guest);
        }
        let (all, secrets) = (self.fleet.config(), &self.secrets);
        let (ways, moving) = if let Some(host) = &config.host {
            (configured_way(host, &config, all, secrets).await?, None)
        } else {
            let ways = ways(vm, &config, all, secrets).await?;
            (ways, Some(Arc::clone(vm)))
        };
        Ok(self.remember(label, ways, config, moving))
    }

    /// The default VM's guest where its host is configured: libvirt is not asked for anything.
    async fn configured_default(
        &self,
        vm: Option<&VmName>,
        capability: Capability,
    ) -> Result<Option<Arc<Guest>>, GuestError> {
        let config = self.fleet.config();
        let Some(host) = &config.default_ssh.host else {
            return Ok(None);
        };
        let default = self.fleet.known_default();
        if vm.is_some() && vm != default {
            return Ok(None);
        }
        if !self.grants(default, capability) {
            return Err(GuestError::NotGranted { capability });
        }
        let ssh = match default {
            Some(vm) => config.ssh_for(vm, true),
            None => config.default_ssh.clone(),
        };
        let label = default.cloned();
        if let Some(guest) = self.undoubted(&label, &ssh) {
            return Ok(Some(guest));
        }
        let way = configured_way(host, &ssh, config, &self.secrets).await?;
        Ok(Some(self.remember(label, way, ssh, None)))
    }

    /// Whether this is granted for a guest that is known by its VM, or by its address alone.
    pub fn grants(&self, vm: Option<&VmName>, capability: Capability) -> bool {
        let config = self.fleet.config();
        if let Some(vm) = vm {
            return self.fleet.grants(vm).has(capability);
        }
        // Whichever VM it turns out to be, it must not get more than its own `allow`.
        let mut vms = config.vms.keys();
        config.allow.has(capability) && vms.all(|vm| config.grants(vm, true).has(capability))
    }

    /// Takes note of a failure. Where it was one of connecting, the next call asks anew where the guest is and
    /// what the SSH configuration says of it, and tells what has become of its VM.
    pub fn failed(&self, guest: &Arc<Guest>, error: SshError) -> GuestError {
        if !error.is_of_the_way() {
            return error.into();
        }
        guest.is_in_doubt.store(true, Ordering::Relaxed);
        match guest.unconfigured() {
            Some(why) => GuestError::Unconfigured {
                why,
                source: Box::new(error),
            },
            None => error.into(),
        }
    }

    /// Ends all connections politely.
    pub async fn close(&self) {
        let guests: Vec<_> = self.known().drain().map(|(_, guest)| guest).collect();
        for guest in guests {
            guest.client.close().await;
        }
    }

    /// The guest that is known with these settings, which are others once it turns out to be the default VM's.
    fn undoubted(&self, label: &Label, config: &SshConfig) -> Option<Arc<Guest>> {
        let guest = self.known().get(label).cloned()?;
        let is_it = guest.config == *config && !guest.is_in_doubt.load(Ordering::Relaxed);
        is_it.then_some(guest)
    }

    /// The guest that is reached in one of these ways, which is the known one where there is one. `moving` is the VM
    /// whose address libvirt tells.
    fn remember(
        &self,
        label: Label,
        ways: Ways,
        config: SshConfig,
        moving: Option<Arc<Vm>>,
    ) -> Arc<Guest> {
        let is_refused =
            |way: &Way| matches!(way.found.unconfigured, Some(NoRoute::Refused { .. }));
        // Until it is mended, which no call can know.
        let is_in_doubt = ways.iter().any(is_refused);
        let targets = ways.targets();
        let mut known = self.known();
        if let Some(guest) = known.get(&label)
            && guest.config == config
        {
            *lock(&guest.ways) = ways;
            guest.client.move_to(&targets);
            guest.is_in_doubt.store(is_in_doubt, Ordering::Relaxed);
            return Arc::clone(guest);
        }
        let first = ways.first.target.clone();
        let ways = Arc::new(Mutex::new(ways));
        let client = match moving {
            None => Client::new(first),
            Some(vm) => self.client_of(vm, config.clone(), first, Arc::clone(&ways)),
        };
        let guest = Arc::new(Guest {
            vm: label.clone(),
            client,
            config,
            ways,
            is_in_doubt: AtomicBool::new(is_in_doubt),
        });
        known.insert(label, Arc::clone(&guest));
        guest
    }

    /// A client that follows its VM to another lease.
    fn client_of(
        &self,
        vm: Arc<Vm>,
        config: SshConfig,
        at: Target,
        known: Arc<Mutex<Ways>>,
    ) -> Client {
        let (fleet, secrets) = (Arc::clone(&self.fleet), Arc::clone(&self.secrets));
        Client::of_moving_guest(at, move || {
            let (vm, config, fleet) = (Arc::clone(&vm), config.clone(), Arc::clone(&fleet));
            let (known, secrets) = (Arc::clone(&known), Arc::clone(&secrets));
            Box::pin(async move {
                let ways = ways(&vm, &config, fleet.config(), &secrets);
                match timeout(FINDING_LIMIT, ways).await {
                    Ok(Ok(ways)) => {
                        let targets = ways.targets();
                        *lock(&known) = ways;
                        Ok(targets)
                    }
                    // Whoever answers at its address is another VM.
                    Ok(Err(GuestError::Vm(error))) if error.is_not_running() => {
                        Err(SshError::VmNotRunning {
                            text: error.to_string(),
                            hint: error.hint(),
                        })
                    }
                    Ok(Err(_)) | Err(_) => Ok(vec![]),
                }
            })
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Label, Arc<Guest>>> {
        lock(&self.known)
    }
}
