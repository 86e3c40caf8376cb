//! The guest behind a VM: where its SSH server is, and the one connection to it.
//!
//! Shell and files do not take the VM's turn: a hung screen must not stop a shell, nor the
//! other way round. A guest whose address is configured is reached without libvirt.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use crate::{
    config::{Config, SshConfig},
    fleet::{Fleet, FleetError},
    hypervisor::AddressSource,
    model::{Capability, VmName},
    ssh::{self, Client, SshError, Target},
    vm::{Vm, VmError},
};

/// The user for commands where nothing names one, as guest-setup makes it.
const DEFAULT_USER: &str = "vmrobot";

const SSH_PORT: u16 = 22;

/// The guests of a fleet, each with its connection.
#[derive(Debug)]
pub struct Guests {
    fleet: Arc<Fleet>,
    known: std::sync::Mutex<HashMap<Label, Arc<Guest>>>,
}

/// What a guest is known by: its VM, or that its address alone is configured.
type Label = Option<VmName>;

/// A guest with an SSH server.
#[derive(Debug)]
pub struct Guest {
    pub client: Client,
    /// How its address was found, in words.
    pub found: String,
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
            Self::NotGranted { .. } => {
                "Only the person who runs this server can grant it, by `--allow` or `allow` in \
                 the configuration."
                    .to_owned()
            }
        }
    }
}

impl Guests {
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self {
            fleet,
            known: std::sync::Mutex::default(),
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
        if let Some(guest) = self.known(&label) {
            return Ok(guest);
        }
        let is_default = self.fleet.is_default(vm.name());
        let config = self.fleet.config().ssh_for(vm.name(), is_default);
        let place = match &config.host {
            Some(host) => Place::configured(host, &config),
            None => find(vm, &config).await?,
        };
        Ok(self.remember(label, place, config).await)
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
        let (is_granted, ssh) = match default {
            Some(vm) => (
                config.grants(vm, true).has(capability),
                config.ssh_for(vm, true),
            ),
            // Whichever VM it turns out to be, it must not get more than its own `allow`.
            None => (
                config.allow.has(capability)
                    && config
                        .vms
                        .keys()
                        .all(|vm| config.grants(vm, true).has(capability)),
                config.default_ssh.clone(),
            ),
        };
        if !is_granted {
            return Err(GuestError::NotGranted { capability });
        }
        let label = default.cloned();
        if let Some(guest) = self.known(&label) {
            return Ok(Some(guest));
        }
        let place = Place::configured(host, &ssh);
        Ok(Some(self.remember(label, place, ssh).await))
    }

    /// Takes note of a failure. Where it was one of connecting, the next call looks for the guest
    /// anew: a VM may have got another lease.
    pub fn failed(&self, guest: &Arc<Guest>, error: SshError) -> GuestError {
        let elsewhere = matches!(
            error,
            SshError::Resolve { .. }
                | SshError::Unreachable { .. }
                | SshError::Slow { .. }
                | SshError::ClosedAtOnce { .. }
                | SshError::Handshake { .. }
                | SshError::NotSsh { .. }
                | SshError::HostKeyChanged { .. }
                | SshError::AuthenticationFailed { .. }
        );
        if elsewhere {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, it| !Arc::ptr_eq(it, guest));
        }
        error.into()
    }

    /// Ends all connections politely.
    pub async fn close(&self) {
        let guests: Vec<_> = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.drain().map(|(_, guest)| guest).collect()
        };
        for guest in guests {
            guest.client.close().await;
        }
    }

    fn known(&self, label: &Label) -> Option<Arc<Guest>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(label).cloned()
    }

    async fn remember(&self, label: Label, place: Place, config: SshConfig) -> Arc<Guest> {
        let found = place.found.clone();
        let target = target(place, config, self.fleet.config()).await;
        let guest = Arc::new(Guest {
            client: Client::new(target),
            found,
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Two calls may have looked at once: the first one's connection is everybody's.
        Arc::clone(known.entry(label).or_insert(guest))
    }
}

/// Where an SSH server is, and how that was found.
struct Place {
    host: String,
    port: Option<u16>,
    found: String,
    /// The domain's UUID, where libvirt gave the address: the name that host keys go by.
    uuid: Option<String>,
}

impl Place {
    fn configured(host: &str, config: &SshConfig) -> Self {
        Self {
            host: host.to_owned(),
            port: config.port,
            found: "configured".to_owned(),
            uuid: None,
        }
    }
}

/// Asks libvirt: leases, then its ARP view, then the forwards of a user-mode network.
async fn find(vm: &Arc<Vm>, config: &SshConfig) -> Result<Place, GuestError> {
    let domain = vm.ready().await?;
    let mut tried = vec!["no host is configured".to_owned()];
    let sources = [
        (AddressSource::Lease, "libvirt's DHCP leases"),
        (AddressSource::Arp, "the host's ARP table"),
    ];
    for (source, name) in sources {
        match vm.addresses(source).await {
            Ok(addresses) => match best(&addresses) {
                Some(address) => {
                    return Ok(Place {
                        host: address.to_string(),
                        port: config.port,
                        found: name.to_owned(),
                        uuid: Some(domain.uuid),
                    });
                }
                None => tried.push(format!("{name}: nothing")),
            },
            Err(error) => tried.push(format!("{name}: {error}")),
        }
    }
    let guest_port = config.port.unwrap_or(SSH_PORT);
    match vm.forwards().await {
        Ok(forwards) => {
            let to_ssh = forwards
                .iter()
                .find(|forward| forward.guest_port == guest_port);
            if let Some(forward) = to_ssh {
                return Ok(Place {
                    host: forward.host.to_string(),
                    port: Some(forward.host_port),
                    found: "a host forward of the user-mode network".to_owned(),
                    uuid: Some(domain.uuid),
                });
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
fn best(addresses: &[IpAddr]) -> Option<IpAddr> {
    let usable = |address: &&IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    };
    addresses
        .iter()
        .filter(usable)
        .min_by_key(|address| address.is_ipv6())
        .copied()
}

async fn target(place: Place, config: SshConfig, all: &Config) -> Target {
    // The user's SSH configuration speaks of hosts that people name; one that libvirt found
    // may still have a `Host` pattern for its network.
    let own = ssh::host_config(&place.host).await;
    let home_ssh = |name: &str| all.home.as_ref().map(|home| home.join(".ssh").join(name));
    let (hostname, own_port, own_user, own_identities) = match own {
        Some(own) => (own.hostname, Some(own.port), own.user, own.identity_files),
        None => (place.host.clone(), None, None, vec![]),
    };
    Target {
        host: if place.uuid.is_some() {
            place.host
        } else {
            hostname
        },
        port: place.port.or(own_port).unwrap_or(SSH_PORT),
        user: config
            .user
            .or(own_user)
            .unwrap_or_else(|| DEFAULT_USER.to_owned()),
        identity: config.identity,
        identities_of_config: own_identities,
        password: config.password,
        host_keys: config.host_keys.unwrap_or_default(),
        key_name: place.uuid,
        known_hosts: all.data_dir.join("known_hosts"),
        user_known_hosts: home_ssh("known_hosts")
            .into_iter()
            .chain(["/etc/ssh/ssh_known_hosts".into()])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_address_is_one_that_the_host_can_use() {
        let parse = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["fe80::1", "127.0.0.1", "169.254.1.1"], None),
            (&["2001:db8::1", "192.168.122.5"], Some("192.168.122.5")),
            (&["fe80::1", "2001:db8::1"], Some("2001:db8::1")),
        ];
        for (addresses, expected) in cases {
            let expected: Option<IpAddr> = expected.map(|text| text.parse().unwrap());
            assert_eq!(best(&parse(addresses)), expected);
        }
    }
}
