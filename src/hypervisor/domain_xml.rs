//! What a domain's XML says about its hardware. Pure.
//!
//! Only what an act depends on is read; the rest of the XML may be anything.

use std::net::IpAddr;

use quick_xml::de::from_str;
use serde::{Deserialize, Serialize};

use super::{Forward, qmp::reachable};

/// The hardware that seeing and acting depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// The hypervisor's driver: `qemu`, `kvm`, `xen`, `test`, …
    pub driver: String,
    pub tablet: Option<Bus>,
    /// Whether there is a USB controller to attach devices to.
    pub usb: bool,
    pub keyboards: Vec<Bus>,
    /// All heads of all video devices.
    pub heads: u32,
    pub video: Vec<String>,
    pub forwards: Vec<Forward>,
    pub networks: Vec<String>,
}

/// How an input device is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Bus {
    Ps2,
    Usb,
    Virtio,
    Other,
}

impl Bus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ps2 => "ps2",
            Self::Usb => "usb",
            Self::Virtio => "virtio",
            Self::Other => "other",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "ps2" => Self::Ps2,
            "usb" => Self::Usb,
            "virtio" => Self::Virtio,
            _ => Self::Other,
        }
    }
}

#[derive(Deserialize)]
struct DomainXml {
    #[serde(rename = "@type", default)]
    driver: String,
    #[serde(default)]
    devices: DevicesXml,
    #[serde(default)]
    commandline: CommandLineXml,
}

#[derive(Deserialize, Default)]
struct DevicesXml {
    #[serde(default)]
    controller: Vec<ControllerXml>,
    #[serde(default)]
    input: Vec<InputXml>,
    #[serde(default)]
    video: Vec<VideoXml>,
    #[serde(default)]
    interface: Vec<InterfaceXml>,
}

#[derive(Deserialize)]
struct ControllerXml {
    #[serde(rename = "@type", default)]
    kind: String,
    #[serde(rename = "@model", default)]
    model: String,
}

#[derive(Deserialize)]
struct InputXml {
    #[serde(rename = "@type", default)]
    kind: String,
    #[serde(rename = "@bus", default)]
    bus: String,
}

#[derive(Deserialize)]
struct VideoXml {
    model: Option<ModelXml>,
    alias: Option<AliasXml>,
}

#[derive(Deserialize)]
struct AliasXml {
    #[serde(rename = "@name")]
    name: String,
}

#[derive(Deserialize)]
struct ModelXml {
    #[serde(rename = "@type", default)]
    kind: String,
    #[serde(rename = "@heads")]
    heads: Option<u32>,
}

#[derive(Deserialize)]
struct InterfaceXml {
    #[serde(rename = "@type", default)]
    kind: String,
    source: Option<SourceXml>,
    #[serde(rename = "portForward", default)]
    forwards: Vec<PortForwardXml>,
}

#[derive(Deserialize)]
struct SourceXml {
    // A running VM's interface in a network of libvirt's has the network's bridge beside it.
    #[serde(rename = "@network")]
    network: Option<String>,
    #[serde(rename = "@bridge")]
    bridge: Option<String>,
    #[serde(rename = "@dev")]
    device: Option<String>,
}

impl SourceXml {
    fn name(&self) -> Option<&String> {
        let Self {
            network,
            bridge,
            device,
        } = self;
        network.as_ref().or(bridge.as_ref()).or(device.as_ref())
    }
}

#[derive(Deserialize)]
struct PortForwardXml {
    #[serde(rename = "@proto", default)]
    proto: String,
    #[serde(rename = "@address", default)]
    address: String,
    #[serde(default)]
    range: Vec<RangeXml>,
}

#[derive(Deserialize)]
struct RangeXml {
    #[serde(rename = "@start")]
    start: u16,
    #[serde(rename = "@to")]
    to: Option<u16>,
}

#[derive(Deserialize, Default)]
struct CommandLineXml {
    #[serde(default)]
    arg: Vec<ArgXml>,
}

#[derive(Deserialize)]
struct ArgXml {
    #[serde(rename = "@value", default)]
    value: String,
}

/// One head as QEMU names it: a head of a video device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// `None` where libvirt gave the device no name.
    pub(super) device: Option<String>,
    pub(super) head: u32,
}

impl Head {
    /// All heads of a running VM, in libvirt's order: all of the first video device, then of the next.
    pub(super) fn all_from_xml(xml: &str) -> Result<Vec<Self>, quick_xml::DeError> {
        let domain: DomainXml = from_str(xml)?;
        let mut heads = vec![];
        for video in domain.devices.video {
            let Some(model) = video.model.filter(|model| model.kind != "none") else {
                continue;
            };
            let device = video.alias.map(|alias| alias.name);
            heads.extend((0..model.heads.unwrap_or(1)).map(|head| Self {
                device: device.clone(),
                head,
            }));
        }
        Ok(heads)
    }
}

impl Devices {
    /// Reads the XML that `virDomainGetXMLDesc` gives.
    pub(super) fn from_xml(xml: &str) -> Result<Self, quick_xml::DeError> {
        let domain: DomainXml = from_str(xml)?;
        let devices = domain.devices;
        let bus_of = |kind: &str| {
            devices
                .input
                .iter()
                .filter(|input| input.kind == kind)
                .map(|input| Bus::parse(&input.bus))
                .collect::<Vec<_>>()
        };
        let models: Vec<_> = devices
            .video
            .iter()
            .filter_map(|video| video.model.as_ref())
            .filter(|model| model.kind != "none")
            .collect();
        let from_interfaces = devices
            .interface
            .iter()
            .flat_map(|interface| interface.forwards.iter())
            .filter(|forward| forward.proto == "tcp")
            .flat_map(port_forwards);
        let from_arguments = domain
            .commandline
            .arg
            .iter()
            .flat_map(|arg| arg.value.split(','))
            .filter_map(host_forward);
        Ok(Self {
            tablet: bus_of("tablet").first().copied(),
            usb: devices
                .controller
                .iter()
                .any(|controller| controller.kind == "usb" && controller.model != "none"),
            keyboards: bus_of("keyboard"),
            heads: models.iter().map(|model| model.heads.unwrap_or(1)).sum(),
            video: models.iter().map(|model| model.kind.clone()).collect(),
            forwards: from_interfaces.chain(from_arguments).collect(),
            networks: devices
                .interface
                .iter()
                .map(
                    |interface| match interface.source.as_ref().and_then(SourceXml::name) {
                        Some(name) => format!("{} {name}", interface.kind),
                        None => interface.kind.clone(),
                    },
                )
                .collect(),
            driver: domain.driver,
        })
    }

    /// Whether QEMU runs it, so that QMP is there.
    pub fn is_qemu(&self) -> bool {
        matches!(self.driver.as_str(), "qemu" | "kvm" | "hvf")
    }
}

fn port_forwards(forward: &PortForwardXml) -> Vec<Forward> {
    let Some(host) = reachable(&forward.address) else {
        return vec![];
    };
    let to = |range: &RangeXml| Forward {
        host,
        host_port: range.start,
        guest_port: range.to.unwrap_or(range.start),
    };
    forward.range.iter().map(to).collect()
}

/// `hostfwd=tcp:[HOST]:PORT-[GUEST]:PORT`, an option of QEMU's `-netdev user`.
fn host_forward(option: &str) -> Option<Forward> {
    let rule = option.strip_prefix("hostfwd=tcp:")?;
    let (host, guest) = rule.split_once('-')?;
    let (address, host_port) = host.rsplit_once(':')?;
    let (_, guest_port) = guest.rsplit_once(':')?;
    let host: IpAddr = reachable(address)?;
    Some(Forward {
        host,
        host_port: host_port.parse().ok()?,
        guest_port: guest_port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(host: &str, host_port: u16, guest_port: u16) -> Forward {
        Forward {
            host: host.parse().unwrap(),
            host_port,
            guest_port,
        }
    }

    #[test]
    fn reads_inputs_heads_and_forwards() {
        let xml = r"<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
          <name>a</name><uuid>x</uuid>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            <controller type='usb' index='0' model='qemu-xhci'/><controller type='pci' index='0'/>
            <input type='tablet' bus='usb'><alias name='input0'/></input>
            <input type='mouse' bus='ps2'/><input type='keyboard' bus='ps2'/>
            <input type='keyboard' bus='virtio'/>
            <video><model type='virtio' heads='2' primary='yes'/></video>
            <video><model type='cirrus'/></video>
            <interface type='network'>
              <source network='default' portid='b1a5' bridge='virbr0'/><target dev='vnet3'/>
            </interface>
            <interface type='bridge'><source bridge='br0'/></interface>
            <interface type='direct'><source dev='eth0' mode='bridge'/></interface>
            <interface type='user'><backend type='passt'/>
              <portForward proto='tcp' address='127.0.0.2'><range start='2022' to='22'/><range start='80'/></portForward>
              <portForward proto='udp'><range start='53'/></portForward>
            </interface>
          </devices>
          <qemu:commandline>
            <qemu:arg value='-netdev'/>
            <qemu:arg value='user,id=n,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp::8080-10.0.2.15:80'/>
          </qemu:commandline>
        </domain>";
        assert_eq!(
            Devices::from_xml(xml).unwrap(),
            Devices {
                driver: "kvm".into(),
                tablet: Some(Bus::Usb),
                usb: true,
                keyboards: vec![Bus::Ps2, Bus::Virtio],
                heads: 3,
                video: vec!["virtio".into(), "cirrus".into()],
                forwards: vec![
                    forward("127.0.0.2", 2022, 22),
                    forward("127.0.0.2", 80, 80),
                    forward("127.0.0.1", 2222, 22),
                    forward("127.0.0.1", 8080, 80),
                ],
                networks: vec![
                    "network default".into(),
                    "bridge br0".into(),
                    "direct eth0".into(),
                    "user".into()
                ],
            }
        );
    }

    #[test]
    fn a_bare_domain_has_nothing() {
        let devices = Devices::from_xml(
            "<domain type='test'><name>t</name><devices><controller type='usb' model='none'/>\
             </devices></domain>",
        )
        .unwrap();
        assert_eq!(devices.tablet, None);
        assert!(!devices.usb);
        assert_eq!(devices.heads, 0);
        assert!(!devices.is_qemu());
    }

    #[test]
    fn broken_xml_is_an_error() {
        assert!(Devices::from_xml("<domain type='kvm'><devices></domain>").is_err());
    }
}
