//! Watching what the guest offers: `ssh` and `port`.
//!
//! A port is looked for where it can be told best. At an address of the guest's own that is the host's
//! own connection. A host forward of a user-mode network says little: QEMU takes the connection
//! whether the guest listens or not. So the guest's SSH server is asked before, and a forward counts
//! only where QEMU keeps the connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    guest::{Guest, GuestError, Guests},
    hypervisor::AddressSource,
    model::Condition,
    ssh::SshError,
    vm::Vm,
};

use super::{Findings, WatchError};

/// The time between two attempts,
const INTERVAL: Duration = Duration::from_secs(1);
/// and after a refused login, which servers count.
const LOGIN_INTERVAL: Duration = Duration::from_secs(3);
/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For how long QEMU has to keep a forwarded connection: a guest's refusal comes at once.
const KEPT: Duration = Duration::from_secs(1);

/// Waits until one of the conditions on the guest holds; for ever where there is none.
pub(super) async fn watch(
    vm: &Arc<Vm>,
    guests: &Guests,
    conditions: &[Condition],
    findings: &Findings,
) -> Result<String, WatchError> {
    let mut asks_ssh = vec![];
    let mut ports = vec![];
    for (at, condition) in conditions.iter().enumerate() {
        match condition {
            Condition::Ssh(_) => asks_ssh.push(at),
            Condition::Port(port) => ports.push((at, port.port)),
            Condition::Stable(_)
            | Condition::Change(_)
            | Condition::Text(_)
            | Condition::State(_)
            | Condition::Console(_)
            | Condition::Image(_) => {}
        }
    }
    tokio::select! {
        held = ssh(vm, guests, &asks_ssh, findings) => held,
        held = any_port(vm, guests, &ports, findings) => held,
    }
}

async fn ssh(
    vm: &Arc<Vm>,
    guests: &Guests,
    conditions: &[usize],
    findings: &Findings,
) -> Result<String, WatchError> {
    if conditions.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let error = match login(vm, guests).await {
            Ok(guest) => {
                let target = guest.client.target();
                return Ok(format!(
                    "The guest's SSH server takes {} at {}:{}",
                    target.user, target.host, target.port
                ));
            }
            Err(error) if is_final(&error) => return Err(error.into()),
            Err(error) => error,
        };
        for at in conditions {
            findings.note(*at, error.to_string());
        }
        tokio::time::sleep(pause_after(&error)).await;
    }
}

async fn login(vm: &Arc<Vm>, guests: &Guests) -> Result<Arc<Guest>, GuestError> {
    let guest = guests.of(vm).await?;
    match guest.client.info().await.error {
        None => Ok(guest),
        Some(error) => Err(guests.failed(&guest, error)),
    }
}

/// Whether waiting does not help. A refused login may: an account is often made late in a boot.
fn is_final(error: &GuestError) -> bool {
    matches!(
        error,
        GuestError::Ssh(
            SshError::HostKeyUnknown { .. }
                | SshError::HostKeyChanged { .. }
                | SshError::HostKeyRevoked { .. }
                | SshError::HostCertificate { .. }
                | SshError::ReadKnownHosts { .. }
                | SshError::WriteKnownHosts { .. }
                | SshError::ReadIdentity { .. }
                | SshError::BadIdentity { .. }
                | SshError::LockedIdentity { .. }
                | SshError::WrongPassphrase { .. }
        ) | GuestError::Fleet(_)
            | GuestError::NotGranted { .. }
    )
}

fn pause_after(error: &GuestError) -> Duration {
    match error {
        GuestError::Ssh(SshError::AuthenticationFailed { .. }) => LOGIN_INTERVAL,
        _ => INTERVAL,
    }
}

async fn any_port(
    vm: &Arc<Vm>,
    guests: &Guests,
    ports: &[(usize, u16)],
    findings: &Findings,
) -> Result<String, WatchError> {
    if ports.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let mut pause = INTERVAL;
        for (at, port) in ports {
            match reach(vm, guests, *port).await {
                Ok(way) => {
                    return Ok(format!(
                        "Port {port} of the guest takes connections, as seen {way}"
                    ));
                }
                Err(NoWay { tried, refused }) => {
                    findings.note(*at, tried.join(", "));
                    if refused {
                        pause = LOGIN_INTERVAL;
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// What was tried in vain to reach a port.
struct NoWay {
    tried: Vec<String>,
    /// Whether the SSH server refused the login.
    refused: bool,
}

/// Connects to a port of the guest, and says by which way.
async fn reach(vm: &Arc<Vm>, guests: &Guests, port: u16) -> Result<String, NoWay> {
    let mut tried = vec![];
    let addresses = addresses(vm, guests).await;
    for address in &addresses {
        match connect(SocketAddr::new(*address, port)).await {
            Ok(_) => return Ok(format!("from the host at {address}")),
            Err(error) => tried.push(format!("at {address}: {error}")),
        }
    }
    let mut refused = false;
    if addresses.is_empty() {
        match through_ssh(vm, guests, port).await {
            Ok(true) => return Ok("by its SSH server, from inside".to_owned()),
            Ok(false) => {
                tried.push("the guest's SSH server cannot connect to it".to_owned());
                return Err(NoWay { tried, refused });
            }
            Err(error) => {
                refused = pause_after(&error) == LOGIN_INTERVAL;
                tried.push(format!("through SSH: {error}"));
            }
        }
        let forwards = match vm.is_on_this_host().await {
            Ok(true) => vm.forwards().await.unwrap_or_default(),
            // Those of another host are ports of that one.
            Ok(false) | Err(_) => vec![],
        };
        for forward in forwards.iter().filter(|it| it.guest_port == port) {
            let place = SocketAddr::new(local(forward.host), forward.host_port);
            match kept(place).await {
                Ok(()) => return Ok(format!("by the host forward at {place}")),
                Err(error) => tried.push(format!("by the host forward at {place}: {error}")),
            }
        }
    }
    Err(NoWay { tried, refused })
}

/// Addresses at which the host reaches the guest itself: the configured one, or those that libvirt
/// knows. One of the host's own is that of a forward for SSH alone.
async fn addresses(vm: &Arc<Vm>, guests: &Guests) -> Vec<IpAddr> {
    if let Ok(guest) = guests.of(vm).await {
        let target = guest.client.target();
        let found = lookup_host((target.host.as_str(), target.port)).await;
        let found: Vec<_> = found
            .into_iter()
            .flatten()
            .map(|place| place.ip())
            .collect();
        if found.iter().any(|address| !address.is_loopback()) {
            return found;
        }
        return vec![];
    }
    // In a network of another host they may be anybody's here.
    if !vm.is_on_this_host().await.unwrap_or(false) {
        return vec![];
    }
    for source in [AddressSource::Lease, AddressSource::Arp] {
        let found = vm.addresses(source).await.unwrap_or_default();
        let usable = found.into_iter().filter(|it| !it.is_loopback());
        let usable: Vec<_> = usable.filter(IpAddr::is_ipv4).collect();
        if !usable.is_empty() {
            return usable;
        }
    }
    vec![]
}

/// Where a forward listens on all addresses of the host, this one is among them.
fn local(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(it) if it.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(it) if it.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

async fn connect(place: SocketAddr) -> io::Result<TcpStream> {
    timeout(CONNECT_LIMIT, TcpStream::connect(place))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Connects, and waits for a first word or for being kept.
async fn kept(place: SocketAddr) -> io::Result<()> {
    let mut stream = connect(place).await?;
    match timeout(KEPT, stream.read(&mut [0])).await {
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0)) => Err(io::ErrorKind::ConnectionReset.into()),
        Ok(Err(error)) => Err(error),
    }
}

async fn through_ssh(vm: &Arc<Vm>, guests: &Guests, port: u16) -> Result<bool, GuestError> {
    let guest = guests.of(vm).await?;
    match guest.client.reaches(port).await {
        Ok(reaches) => Ok(reaches),
        Err(error) => Err(guests.failed(&guest, error)),
    }
}
