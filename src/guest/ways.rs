//! The ways to a guest's SSH server: what libvirt and the user's SSH configuration say of them.

use std::{error::Error as _, net::IpAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::GuestError;
use crate::{
    config::{Config, SshConfig},
    hypervisor::AddressSource,
    secrets::Secrets,
    ssh::{self, HostConfig, NoRoute, Passphrase, PassphraseUnread, Route, SshError, Target},
    vm::Vm,
};

/// The user for commands where nothing names one, as guest-setup makes it.
const DEFAULT_USER: &str = "vmrobot";

const SSH_PORT: u16 = 22;

/// How a guest was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) words: String,
    pub(super) unconfigured: Option<NoRoute>,
}

/// How a guest is reached.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) target: Target,
    pub(super) found: Found,
}

/// The likeliest way to a guest, and those that may lead to it as well.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) first: Way,
    others: Vec<Way>,
}

impl Ways {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Way> {
        [&self.first].into_iter().chain(&self.others)
    }

    pub(super) fn targets(&self) -> Vec<Target> {
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

/// The way to a host that is configured: libvirt is not asked.
pub(super) async fn configured_way(
    host: &str,
    config: &SshConfig,
    all: &Config,
    secrets: &Arc<Secrets>,
) -> Result<Ways, SshError> {
    let place = Place::configured(host, config);
    Ok(Ways {
        first: target(place, config.clone(), all, secrets).await?,
        others: vec![],
    })
}

/// Asks libvirt where the VM may be, and the SSH configuration how that is reached. An address in a network of another
/// host may be anybody's here, and is left out where no way there is configured.
pub(super) async fn ways(
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
        if is_here || leads_elsewhere(&way.target) {
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

/// Whether the address is dialled on another host than this one, or by a program of the user's.
fn leads_elsewhere(target: &Target) -> bool {
    !target.jumps.is_empty() || target.proxy_command.is_some()
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
        assert!(leads_elsewhere(&target));
        assert_eq!(target.jumps[0].proxy_command.as_deref(), Some("nc %h %p"));
        for jump in &target.jumps {
            assert_eq!(jump.host_keys, HostKeyPolicy::Strict);
            assert_eq!((&jump.password, &jump.key_name), (&None, &None));
            assert_eq!(jump.known_hosts, target.known_hosts);
            assert_eq!(jump.user_known_hosts, target.user_known_hosts);
            let key = format!("/k/{}", jump.host);
            assert_eq!(jump.identities_of_config, [std::path::PathBuf::from(key)]);
        }
        // By its program, and directly.
        assert!(leads_elsewhere(&target.jumps[0]));
        assert!(!leads_elsewhere(&target.jumps[1]));
    }
}
