//! The guest behind a VM: where its SSH server is, and the client that connects to it.
//!
//! Shell and files do not take the VM's turn: a hung screen must not stop a shell, nor the
//! other way round. A guest whose address is configured is reached without libvirt.

use std::{
    collections::HashMap,
    error::Error as _,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, SshConfig},
    fleet::{Fleet, FleetError},
    hypervisor::AddressSource,
    model::{Capability, VmName},
    secrets::Secrets,
    ssh::{
        self, Client, HostConfig, NoRoute, Passphrase, PassphraseUnread, Route, SshError, Target,
    },
    vm::{Vm, VmError},
};

/// The user for commands where nothing names one, as guest-setup makes it.
const DEFAULT_USER: &str = "vmrobot";

const SSH_PORT: u16 = 22;

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
        self.way().words
    }

    /// Why the user's SSH configuration is left out, where it is.
    pub fn unconfigured(&self) -> Option<NoRoute> {
        self.way().unconfigured
    }

    fn way(&self) -> Found {
        let target = self.client.target();
        let ways = lock(&self.ways);
        let taken = ways.iter().find(|way| way.target == *target);
        taken.unwrap_or(&ways.first).found.clone()
    }
}

/// How a guest was found.
#[derive(Debug, Clone)]
struct Found {
    words: String,
    unconfigured: Option<NoRoute>,
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
            let place = Place::configured(host, &config);
            let way = target(place, config.clone(), all, secrets).await?;
            (Ways::only(way), None)
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
        let place = Place::configured(host, &ssh);
        let way = target(place, ssh.clone(), config, &self.secrets).await?;
        Ok(Some(self.remember(label, Ways::only(way), ssh, None)))
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

/// How a guest is reached.
#[derive(Debug)]
struct Way {
    target: Target,
    found: Found,
}

/// The likeliest way to a guest, and those that may lead to it as well.
#[derive(Debug)]
struct Ways {
    first: Way,
    others: Vec<Way>,
}

impl Ways {
    fn only(way: Way) -> Self {
        Self {
            first: way,
            others: vec![],
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Way> {
        [&self.first].into_iter().chain(&self.others)
    }

    fn targets(&self) -> Vec<Target> {
        self.iter().map(|way| way.target.clone()).collect()
    }
}

/// Where an SSH server is, and how that was found.
struct Place {
    host: String,
    port: Option<u16>,
    found: String,
    /// The domain's UUID, where libvirt gave the address: the name that host keys go by.
    uuid: Option<String>,
    /// Whether the address is one of this host's networks: at the same one of another host's, anybody may be here.
    is_here: bool,
}

impl Place {
    fn configured(host: &str, config: &SshConfig) -> Self {
        Self {
            host: host.to_owned(),
            port: config.port,
            found: "configured".to_owned(),
            uuid: None,
            is_here: true,
        }
    }
}

/// Asks libvirt where the VM may be, the likeliest place first: leases, then its ARP view, then the forwards of a
/// user-mode network.
async fn find(vm: &Arc<Vm>, config: &SshConfig) -> Result<Vec<Place>, GuestError> {
    let domain = vm.ready().await?;
    let is_here = vm.is_on_this_host().await?;
    let mut tried = vec!["no host is configured".to_owned()];
    let mut places: Vec<Place> = Vec::new();
    let sources = [
        (AddressSource::Lease, "libvirt's DHCP leases"),
        (AddressSource::Arp, "the host's ARP table"),
    ];
    for (source, name) in sources {
        match vm.addresses(source).await {
            Ok(addresses) => {
                let usable = usable(&addresses);
                if usable.is_empty() {
                    tried.push(format!("{name}: nothing"));
                }
                for address in usable {
                    let host = address.to_string();
                    if places.iter().all(|it| it.host != host) {
                        places.push(Place {
                            host,
                            port: config.port,
                            found: name.to_owned(),
                            uuid: Some(domain.uuid.clone()),
                            is_here,
                        });
                    }
                }
            }
            Err(error) => tried.push(format!("{name}: {error}")),
        }
    }
    if !places.is_empty() {
        return Ok(places);
    }
    let guest_port = config.port.unwrap_or(SSH_PORT);
    match vm.forwards().await {
        Ok(_) if !is_here => tried.push("host forwards: those of another host".to_owned()),
        Ok(forwards) => {
            let to_ssh = forwards
                .iter()
                .find(|forward| forward.guest_port == guest_port);
            if let Some(forward) = to_ssh {
                return Ok(vec![Place {
                    host: forward.host.to_string(),
                    port: Some(forward.host_port),
                    found: "a host forward of the user-mode network".to_owned(),
                    uuid: Some(domain.uuid),
                    is_here,
                }]);
            }
            tried.push(format!("host forwards: none to port {guest_port}"));
        }
        Err(error) => tried.push(format!("host forwards: {error}")),
    }
    Err(GuestError::NoAddress {
        vm: vm.name().clone(),
        tried,
    })
}

/// IPv4 before IPv6; an address that only holds on one link needs a zone that nobody gives.
fn usable(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let is_usable = |address: &&IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    };
    let mut usable: Vec<_> = addresses.iter().filter(is_usable).copied().collect();
    usable.sort_by_key(IpAddr::is_ipv6);
    usable
}

/// Asks libvirt where the VM may be, and the SSH configuration how that is reached. An address in a network of another
/// host may be anybody's here, and is left out where no way there is configured.
async fn ways(
    vm: &Arc<Vm>,
    config: &SshConfig,
    all: &Config,
    secrets: &Arc<Secrets>,
) -> Result<Ways, GuestError> {
    let (mut ways, mut tried) = (Vec::new(), Vec::new());
    let mut failure = None;
    for place in find(vm, config).await? {
        let (host, is_here) = (place.host.clone(), place.is_here);
        let way = match target(place, config.clone(), all, secrets).await {
            Ok(way) => way,
            Err(error) => {
                failure.get_or_insert(error);
                continue;
            }
        };
        if is_here || !way.target.jumps.is_empty() || way.target.proxy_command.is_some() {
            ways.push(way);
        } else {
            tried.push(format!(
                "{}: {host}, in a network of another host, to which your SSH configuration names no ProxyJump or ProxyCommand",
                way.found.words
            ));
        }
    }
    let mut ways = ways.into_iter();
    match (ways.next(), failure) {
        (Some(first), _) => Ok(Ways {
            first,
            others: ways.collect(),
        }),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(GuestError::NoAddress {
            vm: vm.name().clone(),
            tried,
        }),
    }
}

async fn target(
    place: Place,
    config: SshConfig,
    all: &Config,
    secrets: &Arc<Secrets>,
) -> Result<Way, SshError> {
    // The user's SSH configuration speaks of hosts that people name; one that libvirt found
    // may still have a `Host` pattern for its network.
    let (route, unconfigured) = match ssh::route(&place.host).await? {
        Ok(route) => (Some(route), None),
        Err(NoRoute::NoClient) => (None, None),
        Err(why) => {
            tracing::debug!(%why, "the SSH configuration is left out");
            (None, Some(why))
        }
    };
    let found = Found {
        words: place.found.clone(),
        unconfigured,
    };
    let passphrase = config.passphrase.clone();
    let target = Target {
        passphrase: passphrase.map(|name| passphrase_of(name, Arc::clone(secrets))),
        ..target_by(route, place, config, all)
    };
    Ok(Way { target, found })
}

/// The passphrase that is a secret of this name, read when a key is to be unlocked.
fn passphrase_of(name: String, secrets: Arc<Secrets>) -> Passphrase {
    Passphrase::new(name.clone(), move || {
        let (name, secrets) = (name.clone(), Arc::clone(&secrets));
        Box::pin(async move {
            // Who gives up connecting drops the reading too, and that ends it.
            let secret = secrets.read(&name, &CancellationToken::new()).await;
            secret.map_err(|error| PassphraseUnread {
                hint: error.hint(),
                text: match error.source() {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                },
            })
        })
    })
}

fn target_by(route: Option<Route>, place: Place, config: SshConfig, all: &Config) -> Target {
    let (own, jumps) = match route {
        Some(Route { host, jumps }) => (Some(host), jumps),
        None => (None, vec![]),
    };
    let home_ssh = |name: &str| all.home.as_ref().map(|home| home.join(".ssh").join(name));
    let host_keys = config.host_keys.unwrap_or_default();
    let target = |at: HostConfig, user| Target {
        host: at.hostname,
        port: at.port,
        user,
        identity: None,
        identities_of_config: at.identity_files,
        certificates_of_config: at.certificate_files,
        only_these: at.only_these,
        agent: at.agent,
        passphrase: None,
        password: None,
        host_keys,
        key_name: None,
        host_key_alias: at.host_key_alias,
        known_hosts: all.data_dir.join("known_hosts"),
        user_known_hosts: at
            .known_hosts
            .unwrap_or_else(|| home_ssh("known_hosts").into_iter().collect())
            .into_iter()
            .chain(["/etc/ssh/ssh_known_hosts".into()])
            .collect(),
        jumps: vec![],
        proxy_command: at.proxy_command,
    };
    let jumps = jumps.into_iter().map(|mut jump| {
        let user = jump.user.take();
        target(jump, user.unwrap_or_else(|| DEFAULT_USER.to_owned()))
    });
    let jumps = jumps.collect();
    let mut own = own.unwrap_or_else(|| HostConfig {
        hostname: place.host.clone(),
        port: SSH_PORT,
        ..HostConfig::default()
    });
    if place.uuid.is_some() {
        own.hostname = place.host;
    }
    own.port = place.port.unwrap_or(own.port);
    let user = config.user.or(own.user.take());
    Target {
        identity: config.identity,
        password: config.password,
        key_name: place.uuid,
        jumps,
        ..target(own, user.unwrap_or_else(|| DEFAULT_USER.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::HostKeyPolicy, ssh::HostConfig};

    #[test]
    fn usable_addresses_are_those_that_the_host_can_use() {
        let parse = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let cases: &[(&[&str], &[&str])] = &[
            (&["fe80::1", "127.0.0.1", "169.254.1.1"], &[]),
            (
                &["2001:db8::1", "192.168.122.5", "192.168.122.9"],
                &["192.168.122.5", "192.168.122.9", "2001:db8::1"],
            ),
            (&["fe80::1", "2001:db8::1"], &["2001:db8::1"]),
        ];
        for (addresses, expected) in cases {
            assert_eq!(usable(&parse(addresses)), parse(expected));
        }
    }

    #[test]
    fn the_way_to_a_guest_is_that_of_the_ssh_configuration() {
        let environment = crate::config::Environment {
            home: Some("/home/ann".into()),
            ..Default::default()
        };
        let all = Config::load(crate::config::Overrides::default(), &environment).unwrap();
        let host = |hostname: &str, port, user: Option<&str>| HostConfig {
            hostname: hostname.to_owned(),
            port,
            user: user.map(str::to_owned),
            identity_files: vec![format!("/k/{hostname}").into()],
            ..HostConfig::default()
        };
        let route = Route {
            host: host("10.0.0.9", 2222, None),
            jumps: vec![
                HostConfig {
                    proxy_command: Some("nc %h %p".into()),
                    ..host("10.0.0.1", 22, Some("bob"))
                },
                host("10.0.0.2", 2200, Some("eve")),
            ],
        };
        let config = SshConfig {
            password: Some(crate::model::Secret::new("the guest's alone")),
            host_keys: Some(HostKeyPolicy::Strict),
            ..SshConfig::default()
        };
        let place = Place::configured("alias", &config);
        let target = target_by(Some(route), place, config, &all);
        let logins: Vec<_> = target.jumps.iter().chain([&target]).collect();
        let logins = logins.iter().map(|it| it.login()).collect::<Vec<_>>();
        assert_eq!(
            logins,
            [
                "bob@10.0.0.1:22",
                "eve@10.0.0.2:2200",
                "vmrobot@10.0.0.9:2222"
            ]
        );
        assert_eq!(target.jumps[0].proxy_command.as_deref(), Some("nc %h %p"));
        for jump in &target.jumps {
            assert_eq!(jump.host_keys, HostKeyPolicy::Strict);
            assert_eq!((&jump.password, &jump.key_name), (&None, &None));
            assert_eq!(jump.known_hosts, target.known_hosts);
            assert_eq!(jump.user_known_hosts, target.user_known_hosts);
            let key = format!("/k/{}", jump.host);
            assert_eq!(jump.identities_of_config, [std::path::PathBuf::from(key)]);
        }
    }
}
