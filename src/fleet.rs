//! Which VMs there are for a client: names, the default one, and what each is granted.
//!
//! Nothing reaches a VM but through [`Fleet::vm`], which asks for the capability first: a VM
//! that nothing names is granted nothing.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OnceCell, Semaphore},
    task::JoinSet,
};

use crate::{
    config::Config,
    fonts::{self, HostFonts},
    hypervisor::{AddressSource, Domain, DomainState, Hypervisor, HypervisorError},
    model::{Capability, Grants, VmName, shell_word},
    perform,
    reading::Readers,
    vm::{self, Vm, VmError},
};

/// The VMs of one hypervisor, as one configuration sees them.
#[derive(Debug)]
pub struct Fleet {
    config: Arc<Config>,
    hypervisor: Arc<dyn Hypervisor>,
    /// Once found it stays, so that a second VM that starts changes nothing.
    default: OnceCell<DefaultVm>,
    vms: Mutex<HashMap<VmName, Arc<Vm>>>,
    /// Loaded once for all VMs.
    fonts: HostFonts,
    /// One list at a time: a libvirt that hangs must not collect blocked threads.
    listing: Arc<Semaphore>,
}

/// The default VM, and how it came to be that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultVm {
    pub name: VmName,
    /// In words.
    pub found: String,
}

/// How long one VM may take to tell whether it is the one at `VM_HOST`.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How long ending waits for VMs to give back what looking left in them.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error(
        "`{capability}` is not granted for the VM `{vm}`{}",
        granted_instead(grants)
    )]
    NotGranted {
        vm: VmName,
        capability: Capability,
        grants: Grants,
        /// Whether the configuration or the command line says something of this VM.
        is_named: bool,
    },
    #[error("no VM is named, and there is no default: {}", choice(running))]
    NoDefault { running: Vec<VmName> },
    #[error(transparent)]
    Vm(#[from] VmError),
}

impl FleetError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NotGranted {
                vm,
                capability,
                grants,
                is_named,
            } => {
                let by_name = if *is_named {
                    String::new()
                } else {
                    format!("by `--vm {}` or ", shell_word(vm))
                };
                let mut list: Vec<_> = grants.iter().map(Capability::as_str).collect();
                list.push(capability.as_str());
                let list: Vec<_> = list.iter().map(|name| format!("\"{name}\"")).collect();
                format!(
                    "Only the person who runs this server can grant it, {by_name}in the \
                     configuration:\n[vm.\"{vm}\"]\nallow = [{}]",
                    list.join(", ")
                )
            }
            Self::NoDefault { .. } => {
                "Name one as `vm`, or set the default by `--vm`, VM_NAME or `default_vm` in the \
                 configuration. `vm_list` shows all VMs."
                    .to_owned()
            }
            Self::Vm(error) => error.hint(),
        }
    }
}

fn granted_instead(grants: &Grants) -> String {
    if *grants == Grants::none() {
        ", nor is anything else".to_owned()
    } else {
        format!("; granted are {grants}")
    }
}

fn choice(running: &[VmName]) -> String {
    if running.is_empty() {
        return "no VM is running".to_owned();
    }
    let names: Vec<_> = running.iter().map(VmName::as_str).collect();
    format!("running are {}", names.join(", "))
}

impl Fleet {
    pub fn new(config: Arc<Config>, hypervisor: Arc<dyn Hypervisor>) -> Self {
        let named = config.default_vm.clone().map(|name| DefaultVm {
            name,
            found: config.default_vm_place.clone(),
        });
        Self {
            default: OnceCell::new_with(named),
            fonts: HostFonts::new(fonts::learned_folder(&config.data_dir)),
            config,
            hypervisor,
            vms: Mutex::default(),
            listing: Arc::new(Semaphore::new(1)),
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn uri(&self) -> &str {
        self.hypervisor.uri()
    }

    /// All VMs, sorted by name.
    pub async fn list(&self) -> Result<Vec<Domain>, VmError> {
        let mut domains = vm::list(&self.hypervisor, &self.listing).await?;
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(domains)
    }

    /// The VM that a call means, where it is granted what the call needs.
    pub async fn vm(
        &self,
        name: Option<VmName>,
        capability: Capability,
    ) -> Result<Arc<Vm>, FleetError> {
        let name = match name {
            Some(name) => {
                // It may be the default one, which is granted what others are not.
                if !self.config.vms.contains_key(&name) {
                    let _ = self.default_vm().await;
                }
                name
            }
            None => self.default_vm().await?,
        };
        if let Err(refusal) = self.demand(&name, capability) {
            return Err(self.unknown(&name).await.unwrap_or(refusal));
        }
        Ok(self.handle(&name))
    }

    /// A VM for the person at the host, who may do all of this with `virsh` anyway: nothing is asked for.
    pub fn inspected(&self, name: &VmName) -> Arc<Vm> {
        self.handle(name)
    }

    /// That there is no such VM says more than that it is not granted.
    async fn unknown(&self, name: &VmName) -> Option<FleetError> {
        let domains = self.list().await.ok()?;
        if domains.iter().any(|domain| domain.name == *name) {
            return None;
        }
        let error = HypervisorError::UnknownVm {
            vm: self.hypervisor.full_name(name),
            known: domains.into_iter().map(|it| it.name.into()).collect(),
        };
        Some(VmError::from(error).into())
    }

    /// What is granted for a VM now.
    pub fn grants(&self, vm: &VmName) -> Grants {
        self.config.grants(vm, self.is_default(vm))
    }

    /// Whether it is the default VM, as far as that is known yet.
    pub fn is_default(&self, vm: &VmName) -> bool {
        self.known_default() == Some(vm)
    }

    /// The default VM, where it is configured or was found already.
    pub fn known_default(&self) -> Option<&VmName> {
        self.default.get().map(|it| &it.name)
    }

    /// Names that are known without asking libvirt, for completion.
    pub fn known_names(&self) -> Vec<VmName> {
        let mut names: Vec<_> = self.config.vms.keys().cloned().collect();
        names.extend(self.known_default().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// The default VM: the configured one; else the running one whose address is `VM_HOST`; else
    /// the only running one.
    pub async fn default_vm(&self) -> Result<VmName, FleetError> {
        Ok(self.default().await?.name.clone())
    }

    /// The default VM with how it was found.
    pub async fn default(&self) -> Result<&DefaultVm, FleetError> {
        self.default.get_or_try_init(|| self.find_default()).await
    }

    async fn find_default(&self) -> Result<DefaultVm, FleetError> {
        let running: Vec<VmName> = self
            .list()
            .await?
            .into_iter()
            .filter(|domain| domain.state == DomainState::Running)
            .map(|domain| domain.name)
            .collect();
        if let Some(host) = &self.config.default_ssh.host
            && let Some(name) = self.find_at(host, &running).await
        {
            let found = format!("the running VM at VM_HOST, {host}");
            return Ok(DefaultVm { name, found });
        }
        match running.as_slice() {
            [only] => Ok(DefaultVm {
                name: only.clone(),
                found: "the only running VM".to_owned(),
            }),
            _ => Err(FleetError::NoDefault { running }),
        }
    }

    /// The VM at an address. All are asked at once, so that one that hangs delays no other.
    async fn find_at(&self, host: &str, running: &[VmName]) -> Option<VmName> {
        let port = self.config.default_ssh.port;
        let hosts: Arc<[IpAddr]> = tokio::net::lookup_host((host, port.unwrap_or(0)))
            .await
            .ok()?
            .map(|address| address.ip())
            .collect();
        let mut asked = JoinSet::new();
        for name in running {
            let (vm, hosts) = (self.handle(name), Arc::clone(&hosts));
            asked.spawn(async move {
                let is_there = tokio::time::timeout(ASK_LIMIT, is_at(&vm, &hosts, port)).await;
                is_there.unwrap_or(false).then(|| vm.name().clone())
            });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some(name)) = answer {
                return Some(name);
            }
        }
        None
    }

    /// Takes back what looking left in running VMs. One that hangs is left as it is.
    pub async fn close(&self) {
        let hypervisor = Arc::clone(&self.hypervisor);
        let closing = tokio::task::spawn_blocking(move || hypervisor.close());
        let _ = tokio::time::timeout(CLOSE_LIMIT, closing).await;
    }

    /// Lets go of the mouse buttons that acts left down on purpose, and of what they could not let go of,
    /// on all VMs at once.
    pub async fn let_go(&self) {
        let vms: Vec<_> = {
            let vms = self.vms.lock().unwrap_or_else(PoisonError::into_inner);
            vms.values().cloned().collect()
        };
        let mut letting_go = JoinSet::new();
        for vm in vms {
            letting_go.spawn(async move {
                let held = perform::let_go(&vm).await.map(drop);
                if let Err(error) = held.and(perform::let_go_of_left(&vm).await) {
                    let error = &error as &dyn std::error::Error;
                    let vm = vm.name().as_str();
                    tracing::warn!(error, vm, "a key or a button may still be down");
                }
            });
        }
        letting_go.join_all().await;
    }

    fn demand(&self, vm: &VmName, capability: Capability) -> Result<(), FleetError> {
        let grants = self.grants(vm);
        if grants.has(capability) {
            return Ok(());
        }
        Err(FleetError::NotGranted {
            vm: vm.clone(),
            capability,
            grants,
            is_named: self.config.vms.contains_key(vm),
        })
    }

    fn handle(&self, name: &VmName) -> Arc<Vm> {
        let mut vms = self.vms.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let long_edge = self.config.long_edge(name);
            let hypervisor = Arc::clone(&self.hypervisor);
            let keymap = self.config.keymap(name);
            let vm = Vm::new(name.clone(), hypervisor, long_edge, keymap);
            let vm = vm.taking_unicode(self.config.unicode(name));
            let language = self.config.ocr_language(name);
            let vm = vm.read_by(Readers::new(self.fonts.clone(), language));
            let vm = vm.typing_every(self.config.typing_interval(name));
            let vm = vm.with_heads_at(self.config.heads(name));
            Arc::new(vm.capturing(self.config.capture))
        };
        Arc::clone(vms.entry(name.clone()).or_insert_with(new))
    }
}

async fn is_at(vm: &Arc<Vm>, hosts: &[IpAddr], port: Option<u16>) -> bool {
    for source in [AddressSource::Lease, AddressSource::Arp] {
        // A driver that cannot tell addresses is no reason to stop looking.
        let found = vm.addresses(source).await.unwrap_or_default();
        if found.iter().any(|address| hosts.contains(address)) {
            return true;
        }
    }
    let forwards = vm.forwards().await.unwrap_or_default();
    forwards
        .iter()
        .any(|forward| hosts.contains(&forward.host) && Some(forward.host_port) == port)
}
