//! `virtpilot doctor`: looks at everything between this program and a guest, one thing after another,
//! and says for each failure what mends it.
//!
//! It goes the very way that the tools go, so that what works here works there. Only grants do not
//! stop it: whoever runs it could do all of this with `virsh`.

mod guest;
mod host;
mod machine;
mod report;

use std::sync::Arc;

use clap::Args;

use crate::{
    config::{Config, ConfigError},
    fleet::Fleet,
    guest::Guests,
    hypervisor::{Domain, FullName, Hypervisor, Libvirt, virsh},
    model::{Capability, VmName, shell_word},
    secrets::Secrets,
    vm::Vm,
};

use super::Settings;
use report::{Check, Report};

#[derive(Debug, Args)]
pub struct Doctor {
    /// The VM to look at [default: the default VM].
    #[arg(value_name = "VM")]
    pub vm: Option<VmName>,
    /// Move the pointer and tap the left Ctrl key, to see that the guest takes them.
    #[arg(long)]
    pub act: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// Starts the VM anew, for what only a new start brings. A guest that does not shut down within a minute
/// is left as it is.
fn restart(vm: &FullName) -> [String; 3] {
    let wait = format!(
        "n=0; until LC_ALL=C {} | grep -q off || [ $n = 60 ]; do sleep 1; n=$((n + 1)); done",
        vm.virsh("domstate")
    );
    [
        vm.virsh("shutdown"),
        // The user's own shell may have other loops.
        format!("sh -c {}", shell_word(&wait)),
        vm.virsh("start"),
    ]
}

/// The configuration as a server has it that is started for the VM: it is the default VM where nothing
/// else is, and so what the environment says of SSH is said of it. Beside it, whether that is so only
/// because it is asked for here.
fn configure(settings: Settings, vm: Option<&VmName>) -> Result<(Config, bool), ConfigError> {
    let config = super::configure(settings.clone())?;
    match vm {
        Some(vm) if config.default_vm.is_none() => {
            let is_assumed = !config.vms.contains_key(vm);
            let vms = vec![vm.clone()];
            let config = super::configure(Settings { vms, ..settings })?;
            Ok((config, is_assumed))
        }
        _ => Ok((config, false)),
    }
}

/// Looks at everything and prints what it finds; gives 1 where something failed.
pub async fn doctor(options: Doctor) -> anyhow::Result<i32> {
    let mut report = Report::new(options.json);
    let (config, is_assumed) = match configure(options.settings, options.vm.as_ref()) {
        Ok((config, is_assumed)) => (Arc::new(config), is_assumed),
        Err(error) => {
            report.add(Check::failed("configuration", error.to_string()).advice(
                "Correct it there; the README's section on configuration tells what there is.",
            ))?;
            return Ok(report.end()?);
        }
    };
    report.about(&config.uri);
    report.add(host::configuration(&config))?;
    report.add(host::data_folder(&config))?;
    let language = match &options.vm {
        Some(vm) => config.ocr_language(vm),
        None => config.ocr_language.clone(),
    };
    report.add(host::ocr(&language).await)?;

    let hypervisor: Arc<dyn Hypervisor> = Arc::new(Libvirt::new(&config.uri));
    let fleet = Arc::new(Fleet::new(Arc::clone(&config), hypervisor));
    let secrets = Arc::new(Secrets::new(config.secrets.clone(), vec![]));
    let guests = Arc::new(Guests::new(Arc::clone(&fleet), secrets));
    let vm = match fleet.list().await {
        Ok(domains) => {
            report.add(host::libvirt(&config.uri, &domains))?;
            if let Some(check) = host::strangers(&config, &domains) {
                report.add(check)?;
            }
            choose(&mut report, &fleet, options.vm, &domains).await?
        }
        Err(error) => {
            report.add(host::no_libvirt(&config.uri, error))?;
            None
        }
    };
    if let Some(vm) = &vm {
        report.vm = Some(vm.name().clone());
        let useless = machine::look(&mut report, vm, &guests, options.act).await?;
        let is_default = fleet.is_default(vm.name());
        let ssh = config.ssh_for(vm.name(), is_default);
        if let Some(why) = useless.filter(|_| ssh.host.is_none()) {
            guest::skip(&mut report, why)?;
        } else {
            let found = guests.of(vm).await;
            let networks = vm.devices().await.map(|it| it.networks.clone());
            let places = guest::Places {
                vm: Some(vm.full_name()),
                networks: networks.ok(),
                port: ssh.port,
            };
            guest::look(&mut report, &guests, found, &config, &places).await?;
        }
        report.add(host::grants(&fleet, vm.name(), is_assumed))?;
    } else if config.default_ssh.host.is_some() {
        // It is reached without libvirt.
        let guest = guests.guest(None, Capability::Shell).await;
        guest::look(
            &mut report,
            &guests,
            guest,
            &config,
            &guest::Places::default(),
        )
        .await?;
    }
    tokio::join!(guests.close(), fleet.close());
    Ok(report.end()?)
}

/// The VM that is meant, if there is one.
async fn choose(
    report: &mut Report,
    fleet: &Fleet,
    named: Option<VmName>,
    domains: &[Domain],
) -> anyhow::Result<Option<Arc<Vm>>> {
    const NAME: &str = "VM";
    let is_there = |name: &VmName| domains.iter().any(|it| it.name == *name);
    let missing = |name: &VmName| {
        Check::failed(
            NAME,
            format!("there is no VM named `{name}` at {}", fleet.uri()),
        )
        .advice("These are there:")
        .command(virsh(fleet.uri(), "list --all"))
    };
    let name = match named {
        Some(name) if !is_there(&name) => {
            report.add(missing(&name))?;
            return Ok(None);
        }
        Some(name) => {
            // Not needed here, but what it is granted depends on whether it is the default VM.
            let _ = fleet.default().await;
            report.add(Check::ok(NAME, format!("`{name}`, as you say")))?;
            name
        }
        None => match fleet.default().await {
            Ok(default) if !is_there(&default.name) => {
                let mut check = missing(&default.name);
                check.text = format!("{}; it is {}", check.text, default.found);
                report.add(check)?;
                return Ok(None);
            }
            Ok(default) => {
                let text = format!("`{}`, {}", default.name, default.found);
                report.add(Check::ok(NAME, text))?;
                default.name.clone()
            }
            Err(error) => {
                let check = Check::refused(NAME, error);
                report.add(check.command("virtpilot doctor NAME"))?;
                return Ok(None);
            }
        },
    };
    Ok(Some(fleet.inspected(&name)))
}
