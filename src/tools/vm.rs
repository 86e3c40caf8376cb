//! Which VMs there are, and what one of them has.

use std::{fmt::Write, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fleet::FleetError,
    hypervisor::{Bus, Domain, DomainState, Sight, tablet_hint},
    model::{Capability, VmName},
};

use super::{
    Server,
    error::ToolError,
    reply::Reply,
    tool::{Call, Effect, Tool},
};

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::new::<VmList, _, _>(
            "vm_list",
            "List VMs",
            Some(Capability::View),
            Effect::Reads,
            vm_list,
        )
        .giving::<VmListData>(),
    ]
}

/// Lists all VMs that libvirt knows, with their state and what this server is granted on each; or
/// tells all about one of them: its screen, tablet, keyboard and network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VmList {
    /// Tell all about this VM only.
    #[serde(default)]
    vm: Option<VmName>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct VmListData {
    /// The libvirt that was asked.
    uri: String,
    vms: Vec<VmData>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct VmData {
    name: VmName,
    state: DomainState,
    uuid: String,
    /// Whether it is meant where a call names no VM.
    default: bool,
    /// What may be done with it; empty: nothing.
    #[schemars(with = "Vec<String>")]
    granted: Vec<Capability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<DevicesData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capture: Option<CaptureData>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CaptureData {
    /// Whether looks that are not shown, such as those of waiting, come through shared memory.
    fast: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What the configuration asks for pictures that are shown: `libvirt` or `fast`.
    shown: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DevicesData {
    driver: String,
    /// How the tablet is attached, without which the pointer is put to places by estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    tablet: Option<Bus>,
    keyboards: Vec<Bus>,
    heads: u32,
    video: Vec<String>,
    networks: Vec<String>,
}

async fn vm_list(server: Arc<Server>, wanted: VmList, _: Call) -> Result<Reply, ToolError> {
    let fleet = &server.fleet;
    // So that it can be marked; that there is none is no failure of listing.
    let _ = fleet.default_vm().await;
    if let Some(name) = wanted.vm {
        return one(&server, name).await;
    }
    let domains = fleet.list().await.map_err(FleetError::from)?;
    let vms: Vec<_> = domains.iter().map(|it| in_short(&server, it)).collect();
    let mut text = if vms.is_empty() {
        format!(
            "libvirt at {} has no VMs. Another URI: LIBVIRT_DEFAULT_URI, or `uri` in the \
             configuration.",
            fleet.uri()
        )
    } else {
        format!("VMs at {}:", fleet.uri())
    };
    for vm in &vms {
        text.push('\n');
        text.push_str(&line(vm));
    }
    let uri = fleet.uri().to_owned();
    Ok(Reply::with_data(text, &VmListData { uri, vms }))
}

async fn one(server: &Arc<Server>, name: VmName) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(Some(name), Capability::View).await?;
    let domain = vm.domain().await?;
    let devices = vm.devices().await?;
    let mut data = in_short(server, &domain);
    let mut text = line(&data);
    let list = |buses: &[Bus]| {
        let names: Vec<_> = buses.iter().map(|bus| bus.as_str()).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\nuuid {}, driver {}\ntablet: {}\nkeyboards: {}\nheads: {} ({})\nnetworks: {}",
        data.uuid,
        devices.driver,
        list(devices.tablet.as_slice()),
        list(&devices.keyboards),
        devices.heads,
        devices.video.join(", "),
        devices.networks.join(", "),
    );
    if devices.tablet.is_none() && devices.is_qemu() {
        text.push('\n');
        text.push_str(&tablet_hint(&vm.full_name()));
    }
    if domain.state == DomainState::Running && !devices.video.is_empty() {
        let shown = vm.capture_mode().as_str();
        // That it cannot be found out now is told by whatever looks next.
        if let Ok(sight) = vm.sight().await {
            let _ = write!(text, "\nlooks: {sight}; `capture` is {shown}");
            let (fast, why) = match sight {
                Sight::Framebuffer => (true, None),
                Sight::Screenshot { why } => (false, Some(why)),
            };
            data.capture = Some(CaptureData { fast, why, shown });
        }
    }
    data.devices = Some(DevicesData {
        driver: devices.driver.clone(),
        tablet: devices.tablet,
        keyboards: devices.keyboards.clone(),
        heads: devices.heads,
        video: devices.video.clone(),
        networks: devices.networks.clone(),
    });
    let uri = server.fleet.uri().to_owned();
    let vms = vec![data];
    Ok(Reply::with_data(text, &VmListData { uri, vms }))
}

fn in_short(server: &Server, domain: &Domain) -> VmData {
    VmData {
        name: domain.name.clone(),
        state: domain.state,
        uuid: domain.uuid.clone(),
        default: server.fleet.is_default(&domain.name),
        granted: server.fleet.grants(&domain.name).iter().collect(),
        devices: None,
        capture: None,
    }
}

fn line(vm: &VmData) -> String {
    let default = if vm.default { ", the default" } else { "" };
    let granted: Vec<_> = vm.granted.iter().map(|it| it.as_str()).collect();
    let granted = if granted.is_empty() {
        "not granted".to_owned()
    } else {
        format!("granted {}", granted.join(", "))
    };
    format!("{}: {}{default}; {granted}", vm.name, vm.state.as_str())
}
