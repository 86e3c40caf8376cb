//! The guest's SSH server: where it is, whether it lets us in, and what it can do.

use std::{
    cmp::Ordering,
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    guest::{Guest, GuestError, Guests},
    hypervisor::{FullName, virsh},
    model::shell_word,
    ssh::{Command, SshError, Status, Target, USUAL_KEYS},
};

use super::report::{Check, Report};

/// How long a command that does nothing may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// What is looked at once the address is known.
const STEPS: [&str; 4] = ["SSH", "host key", "user", "SFTP"];

/// What the host knows of the VM's network.
#[derive(Default)]
pub(super) struct Places {
    pub(super) vm: Option<FullName>,
    pub(super) networks: Option<Vec<String>>,
    /// The port of its SSH server that is configured.
    pub(super) port: Option<u16>,
}

/// Says why the guest was not looked at.
pub(super) fn skip(report: &mut Report, why: &str) -> io::Result<()> {
    report.add(Check::skipped("address", why))?;
    for name in STEPS {
        report.add(Check::skipped(name, why))?;
    }
    Ok(())
}

pub(super) async fn look(
    report: &mut Report,
    guests: &Guests,
    found: Result<Arc<Guest>, GuestError>,
    config: &Config,
    places: &Places,
) -> io::Result<()> {
    let guest = match found {
        Ok(guest) => guest,
        Err(error) => {
            report.add(no_address(error, places))?;
            for name in STEPS {
                report.add(Check::skipped(name, "the address is not known"))?;
            }
            return Ok(());
        }
    };
    let info = guest.client.info().await;
    let target = &info.target;
    let mut address = format!("{} port {}, {}", target.host, target.port, guest.found());
    for jump in &target.jumps {
        address.push_str(", through ");
        address.push_str(&jump.login());
    }
    report.add(Check::ok("address", address))?;
    if let Some(why) = guest.unconfigured() {
        let check = Check::failed("SSH configuration", format!("left out: {why}"));
        report.add(
            check
                .advice("Correct ~/.ssh/config; this shows what is wrong with it:")
                .command(format!("ssh -G {}", shell_word(&target.host))),
        )?;
    }
    if let Some(error) = info.error {
        for check in refusals(&info.target, &error, config) {
            report.add(check)?;
        }
        let failed = guests.failed(&guest, error);
        tracing::debug!(error = %failed, "the guest is looked for anew");
        return Ok(());
    }
    let version = info.server_version.unwrap_or_default();
    let round_trip = info.round_trip.unwrap_or_default().as_secs_f64() * 1000.0;
    report.add(Check::ok(
        "SSH",
        format!("{version}, {round_trip:.1} ms away"),
    ))?;
    let mut host_key = format!(
        "{} {}",
        info.key_algorithm.unwrap_or_default(),
        info.fingerprint.unwrap_or_default()
    );
    if let Some(authority) = info.authority {
        host_key.push_str(", signed by ");
        host_key.push_str(&authority);
    }
    report.add(Check::ok("host key", host_key))?;
    report.add(user(&guest).await)?;
    report.add(match guest.client.home().await {
        Ok(home) => Check::ok("SFTP", format!("works; the home folder is {home}")),
        Err(error) => Check::refused("SFTP", GuestError::from(error)),
    })?;
    Ok(())
}

/// What gives the guest an address that is found, by the kind of its network.
fn no_address(error: GuestError, places: &Places) -> Check {
    const NAME: &str = "address";
    let GuestError::NoAddress { tried, .. } = &error else {
        return Check::refused(NAME, error);
    };
    let check = Check::failed(NAME, format!("not found: {}", tried.join("\n  ")));
    let (Some(vm), Some(networks)) = (&places.vm, &places.networks) else {
        return check.advice(error.hint());
    };
    let of = |kind: &str| {
        networks
            .iter()
            .find_map(|network| network.strip_prefix(kind))
            .map(|name| shell_word(name.trim()))
    };
    if networks.is_empty() {
        return check
            .advice("The VM has no network interface. Give it one in libvirt's default network, which the first \
                 command starts where it is not active:")
            .command(virsh(&vm.uri, "net-start default"))
            .command(format!(
                "{} network default --model virtio --live --config",
                vm.virsh("attach-interface")
            ));
    }
    if let Some(network) = of("network") {
        return check
            .advice(
                "See that the network is active and whether it gave the guest an address. If not, look at \
                 the guest's screen: it may be starting still, or have no DHCP client. An address that \
                 you know can be set by VM_HOST, or as `host` in the configuration.",
            )
            .command(virsh(&vm.uri, "net-list --all"))
            .command(virsh(&vm.uri, &format!("net-dhcp-leases {network}")));
    }
    if of("user").is_some() {
        return check
            .advice(
                "Its network is a user-mode one, which hides the guest. Forward a port of the host to the \
                 guest's SSH server; this holds until the VM stops:",
            )
            .command(format!(
                "{} --hmp 'hostfwd_add tcp:127.0.0.1:{}-:{}'",
                vm.virsh("qemu-monitor-command"),
                free_port().unwrap_or(2222),
                places.port.unwrap_or(22)
            ));
    }
    check.advice(
        "The guest's network is not libvirt's own: look for the address in the guest (`ip addr`), and set it \
         by VM_HOST, or as `host` in the configuration.",
    )
}

/// A port of the host that nothing listens on now.
fn free_port() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    listener.local_addr().ok().map(|it| it.port())
}

/// Which of the steps failed, and that those after it were not reached.
fn refusals(target: &Target, error: &SshError, config: &Config) -> Vec<Check> {
    let at = match error {
        SshError::HostKeyUnknown { .. }
        | SshError::HostKeyChanged { .. }
        | SshError::HostKeyRevoked { .. }
        | SshError::HostCertificate { .. }
        | SshError::ReadKnownHosts { .. }
        | SshError::WriteKnownHosts { .. } => 1,
        SshError::ReadIdentity { .. }
        | SshError::BadIdentity { .. }
        | SshError::LockedIdentity { .. }
        | SshError::NoPassphrase { .. }
        | SshError::WrongPassphrase { .. }
        | SshError::AuthenticationFailed { .. } => 2,
        _ => 0,
    };
    STEPS
        .into_iter()
        .enumerate()
        .map(|(step, name)| match step.cmp(&at) {
            Ordering::Less => Check::ok(name, "reached"),
            Ordering::Equal => {
                let check = Check::refused(name, GuestError::from(error.clone()));
                mended(check, target, error, config)
            }
            Ordering::Greater => Check::skipped(name, "not reached"),
        })
        .collect()
}

/// What lets us in, run at the host or in the guest.
fn mended(check: Check, target: &Target, error: &SshError, config: &Config) -> Check {
    let place = format!("{}@{}", target.user, target.host);
    match error {
        SshError::HostKeyChanged { .. } | SshError::AtJump { .. } => {
            match error.forgetting_command() {
                Some(command) => check.command(command),
                None => check,
            }
        }
        SshError::LockedIdentity { path } => {
            check.command(format!("ssh-add {}", shell_word(path.display())))
        }
        SshError::AuthenticationFailed { accepted, .. } => {
            let has_password = accepted
                .iter()
                .any(|it| it == "password" || it == "keyboard-interactive");
            let key = public_key(target, config);
            let mut check = check;
            let key = match (key, &target.identity) {
                (Some(key), _) => key,
                // No other key is shown to the guest.
                (None, Some(identity)) => {
                    let private = identity.display();
                    let public = format!("{private}.pub");
                    check = check.command(format!(
                        "ssh-keygen -y -f {} > {}",
                        shell_word(private),
                        shell_word(&public)
                    ));
                    public
                }
                (None, None) => {
                    check = check.command("ssh-keygen -t ed25519");
                    "~/.ssh/id_ed25519.pub".to_owned()
                }
            };
            if target.user == "root" {
                return check.advice(
                    "Better choose another user, by VM_USER or `user`; guest-setup/prepare-linux-guest.sh, \
                     run in the guest as root, makes `vmrobot` and lets your key in.",
                );
            }
            let in_guest = format!(
                "guest-setup/prepare-linux-guest.sh in the guest, as root, with --user {} and the line of \
                 {key} in --key",
                shell_word(&target.user)
            );
            if has_password {
                check
                    .advice(format!(
                        "With the user's password, put your key there by the last command; without it, run \
                         {in_guest}. Or set another `user` or `identity` for this VM."
                    ))
                    .command(format!(
                        "ssh-copy-id -i {} -p {} {}",
                        // The shell has to expand a leading tilde.
                        if key.starts_with("~/") { key } else { shell_word(&key) },
                        target.port,
                        shell_word(&place)
                    ))
            } else {
                check.advice(format!(
                    "This server takes keys alone, and none of yours. Set the right one as VM_IDENTITY or \
                     `identity`, or the right user; or let your key in: run {in_guest}."
                ))
            }
        }
        SshError::Unreachable { .. } | SshError::ClosedAtOnce { .. } | SshError::Slow { .. } => {
            let hint = error.hint();
            check.advice(format!(
                "{hint} A Linux guest without an SSH server gets one by \
                 guest-setup/prepare-linux-guest.sh, run in the guest as root."
            ))
        }
        _ => check,
    }
}

/// The public half of the key that would be used, where it lies in a file.
fn public_key(target: &Target, config: &Config) -> Option<String> {
    let of_home = |name: &str| Some(config.home.as_ref()?.join(".ssh").join(name));
    let mut keys: Vec<_> = target.identity.iter().cloned().collect();
    if keys.is_empty() {
        keys.extend(target.identities_of_config.iter().cloned());
        keys.extend(USUAL_KEYS.into_iter().filter_map(of_home));
    }
    let public = |path: PathBuf| match path.extension() {
        Some(extension) if extension == "pub" => path.display().to_string(),
        _ => format!("{}.pub", path.display()),
    };
    keys.into_iter()
        .map(public)
        .find(|path| Path::new(path).is_file())
}

/// Runs a command that every POSIX guest has.
async fn user(guest: &Guest) -> Check {
    const NAME: &str = "user";
    let user = guest.client.target().user.clone();
    let command = Command::new("id -un", COMMAND_LIMIT);
    let cancel = CancellationToken::new();
    match guest.client.execute(command, &cancel).await {
        Ok(output) if output.status == Status::Exited(0) => Check::ok(
            NAME,
            format!("{}, who can run commands", output.stdout.text().trim()),
        ),
        Ok(output) => Check::note(
            NAME,
            format!(
                "{user} is let in, but `id -un` failed: {}",
                output.stderr.text().trim()
            ),
        )
        .advice("Fine for a guest that is no POSIX system; its commands are its own."),
        Err(error) => Check::refused(NAME, GuestError::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::doctor::report::Status as Found,
        config::{Environment, Overrides},
        ssh::{CertificateFault, Endpoint, Step},
    };

    fn target() -> Target {
        Target {
            host: "guest".into(),
            port: 22,
            user: "ann".into(),
            known_hosts: "/data/known_hosts".into(),
            ..Target::default()
        }
    }

    #[test]
    fn each_refusal_is_told_at_its_step_with_what_mends_it() {
        let endpoint = || Endpoint {
            host: "guest".into(),
            port: 22,
        };
        let name = || "guest".to_owned();
        let shown = || "ssh-ed25519 SHA256:new".to_owned();
        let refused = || SshError::Unreachable {
            endpoint: endpoint(),
            source: Arc::new(io::ErrorKind::ConnectionRefused.into()),
        };
        let changed = || SshError::HostKeyChanged {
            name: name(),
            file: "/data/known_hosts".into(),
            line: 3,
            by_pattern: false,
            known: "ssh-ed25519 SHA256:old".into(),
            presented: shown(),
        };
        let forget = "ssh-keygen -R guest -f /data/known_hosts";
        let setup = "guest-setup/prepare-linux-guest.sh";
        let cases = [
            (refused(), "SSH", setup),
            (
                SshError::ClosedAtOnce {
                    endpoint: endpoint(),
                },
                "SSH",
                "may still be starting up",
            ),
            (
                SshError::Slow {
                    endpoint: endpoint(),
                    step: Step::Greeting,
                    limit: Duration::from_secs(10),
                },
                "SSH",
                "may still be starting up",
            ),
            (
                SshError::AtJump {
                    jump: endpoint(),
                    source: Box::new(refused()),
                },
                "SSH",
                "the jump host is up",
            ),
            (
                SshError::AtJump {
                    jump: endpoint(),
                    source: Box::new(changed()),
                },
                "SSH",
                forget,
            ),
            (changed(), "host key", forget),
            (
                SshError::HostKeyUnknown {
                    name: name(),
                    presented: shown(),
                    file: "/data/known_hosts".into(),
                    line: "guest ssh-ed25519 AAAA".into(),
                },
                "host key",
                "guest ssh-ed25519 AAAA",
            ),
            (
                SshError::HostKeyRevoked {
                    name: name(),
                    file: "/data/known_hosts".into(),
                    line: 3,
                    revoked: shown(),
                    presented: shown(),
                },
                "host key",
                "sed -i 3d /data/known_hosts",
            ),
            (
                SshError::HostCertificate {
                    name: name(),
                    fault: Box::new(CertificateFault::Time),
                    authority: shown(),
                    file: "/data/known_hosts".into(),
                    line: 3,
                    presented: shown(),
                },
                "host key",
                "check the clocks",
            ),
            (
                SshError::LockedIdentity {
                    path: "/keys/of ann".into(),
                },
                "user",
                "ssh-add '/keys/of ann'",
            ),
            (
                SshError::ReadIdentity {
                    path: "/keys/ann".into(),
                    source: Arc::new(io::ErrorKind::NotFound.into()),
                },
                "user",
                "Correct `identity`",
            ),
        ];
        let environment = Environment {
            home: Some("/nonexistent".into()),
            ..Environment::default()
        };
        let config = Config::load(Overrides::default(), &environment).unwrap();
        for (error, step, mend) in cases {
            let checks = refusals(&target(), &error, &config);
            let at = checks.iter().position(|it| it.status == Found::Failed);
            let at = at.unwrap_or_else(|| panic!("{error:?}"));
            assert_eq!(checks[at].name, step, "{error:?}");
            let before = checks[..at].iter().all(|it| it.status == Found::Ok);
            let after = checks[at + 1..]
                .iter()
                .all(|it| it.status == Found::Skipped);
            assert!(before && after, "{checks:?}");
            let advice = checks[at].advice.clone().unwrap_or_default();
            let told = format!("{advice}\n{}", checks[at].commands.join("\n"));
            assert!(told.contains(mend), "{error:?}: {told}");
        }
    }
}
