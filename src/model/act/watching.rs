//! Waiting for something to happen: what can be waited for, and its limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::{Capability, Grants, Pattern, Pixels, Region};

use super::BadAct;

/// A wait that ends as soon as one of its conditions holds.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitFor {
    pub conditions: Vec<Condition>,
    /// In seconds.
    pub timeout: f64,
}

impl WaitFor {
    pub const MAX_CONDITIONS: usize = 16;
    pub const DEFAULT_TIMEOUT: f64 = 30.0;
    /// Long enough for one look.
    pub const MIN_TIMEOUT: f64 = 0.1;
    pub const MAX_TIMEOUT: f64 = 300.0;

    /// Its time limit; negative, huge and non-numbers are refused.
    pub fn limit(&self) -> Result<Duration, BadAct> {
        if !(Self::MIN_TIMEOUT..=Self::MAX_TIMEOUT).contains(&self.timeout) {
            return Err(BadAct::Timeout(self.timeout));
        }
        Ok(Duration::from_secs_f64(self.timeout))
    }

    /// What a client must be granted: waiting is a way of looking.
    pub fn needs(&self) -> Grants {
        let more = self.conditions.iter().filter_map(Condition::needs);
        more.chain([Capability::View]).collect()
    }

    /// Refuses what can never hold.
    pub fn check(&self) -> Result<(), BadAct> {
        if !(1..=Self::MAX_CONDITIONS).contains(&self.conditions.len()) {
            return Err(BadAct::Conditions(self.conditions.len()));
        }
        let limit = self.limit()?;
        for condition in &self.conditions {
            condition.check()?;
            if let Condition::Stable(stable) = condition
                && stable.duration() > limit
            {
                return Err(BadAct::NeverStill {
                    ms: stable.ms,
                    timeout: self.timeout,
                });
            }
        }
        Ok(())
    }
}

/// Something that can be waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Stable(Stable),
    Change(Change),
    Text(Text),
    Ssh(Ssh),
    Port(Port),
    State(State),
    Console(Console),
    Image(Image),
}

impl Condition {
    /// The names of all conditions, as `condition` has them.
    pub const NAMES: [&'static str; 8] = [
        "stable", "change", "text", "image", "ssh", "port", "state", "console",
    ];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Stable(_) => "stable",
            Self::Change(_) => "change",
            Self::Text(_) => "text",
            Self::Ssh(_) => "ssh",
            Self::Port(_) => "port",
            Self::State(_) => "state",
            Self::Console(_) => "console",
            Self::Image(_) => "image",
        }
    }

    /// The head whose change it waits for.
    pub fn changing_head(&self) -> Option<u32> {
        match self {
            Self::Change(change) => Some(change.head),
            Self::Stable(_)
            | Self::Text(_)
            | Self::Ssh(_)
            | Self::Port(_)
            | Self::State(_)
            | Self::Console(_)
            | Self::Image(_) => None,
        }
    }

    /// What it needs besides looking.
    fn needs(&self) -> Option<Capability> {
        match self {
            Self::Ssh(_) | Self::Port(_) => Some(Capability::Shell),
            Self::Console(_) => Some(Capability::Console),
            // Whether a file is a picture that is seen tells something of it.
            Self::Image(image) if image.screenshot().is_none() => Some(Capability::Files),
            Self::Stable(_) | Self::Change(_) | Self::Text(_) | Self::State(_) | Self::Image(_) => {
                None
            }
        }
    }

    /// The head that it looks at.
    pub fn head(&self) -> Option<u32> {
        match self {
            Self::Stable(stable) => Some(stable.head),
            Self::Change(change) => Some(change.head),
            Self::Text(text) => Some(text.head),
            Self::Image(image) => Some(image.head),
            Self::Ssh(_) | Self::Port(_) | Self::State(_) | Self::Console(_) => None,
        }
    }

    fn check(&self) -> Result<(), BadAct> {
        match self {
            Self::Stable(stable) if !(Stable::MIN_MS..=Stable::MAX_MS).contains(&stable.ms) => {
                Err(BadAct::Still(stable.ms))
            }
            Self::Change(change) if !(0.0..=1.0).contains(&change.share) => {
                Err(BadAct::Share(change.share))
            }
            Self::Port(port) if port.port == 0 => Err(BadAct::NoPort),
            Self::Image(image) if !(0.0..=1.0).contains(&image.tolerance) => {
                Err(BadAct::Tolerance(image.tolerance))
            }
            Self::Stable(_)
            | Self::Change(_)
            | Self::Text(_)
            | Self::Ssh(_)
            | Self::Port(_)
            | Self::State(_)
            | Self::Console(_)
            | Self::Image(_) => Ok(()),
        }
    }
}

/// The screen stays as it is for some time.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stable {
    /// For how long, in milliseconds, 50 to 300000; 500 where missing.
    #[serde(default = "half_a_second")]
    #[schemars(range(min = 50, max = 300_000))]
    pub ms: u32,
    /// Only this part, as [x0, y0, x1, y1] in pixels of the full screenshot.
    #[serde(default)]
    pub region: Option<Region>,
    /// Which of the VM's screens, from 0.
    #[serde(default)]
    pub head: u32,
}

impl Stable {
    /// The shortest time between two looks.
    pub const MIN_MS: u32 = 50;
    pub const MAX_MS: u32 = 300_000;

    pub fn duration(&self) -> Duration {
        Duration::from_millis(u64::from(self.ms))
    }
}

/// The screen becomes another than a client was last shown it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// How much of it has to differ, 0 (one pixel) to 1; 0.001 where missing.
    #[serde(default = "a_thousandth")]
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
    /// Only this part, as [x0, y0, x1, y1] in pixels of the full screenshot.
    #[serde(default)]
    pub region: Option<Region>,
    /// Which of the VM's screens, from 0.
    #[serde(default)]
    pub head: u32,
}

/// The screen shows a text.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// A regular expression; `^` and `$` are the ends of lines, which have no blanks at their end.
    pub pattern: Pattern,
    /// Only this part, as [x0, y0, x1, y1] in pixels of the full screenshot.
    #[serde(default)]
    pub region: Option<Region>,
    /// Which of the VM's screens, from 0.
    #[serde(default)]
    pub head: u32,
}

/// The guest's SSH server can be logged in to.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {}

/// A TCP port of the guest accepts a connection.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The guest's TCP port, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// The VM is in a state.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The state of the VM, as `vm_list` gives it.
    pub state: VmState,
}

/// The guest writes something to its serial console, from when the wait began.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// A regular expression; `^` and `$` are the ends of lines.
    pub pattern: Pattern,
}

/// A saved picture, or a part of one, is seen on the screen.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The picture: a screenshot's URI, vm://screenshot/ID, or a PNG or JPEG file of the host in a folder
    /// that this server may touch.
    pub path: String,
    /// Only this part of the picture, as [x0, y0, x1, y1]: of a screenshot in pixels of the full
    /// screenshot as it was shown, of a file in its own.
    #[serde(default)]
    pub part: Option<Region>,
    /// How much it may differ: 0 is equal to the pixel, 1 is as unlike as a flat area; 0.1 where missing,
    /// which lets pass what JPEG does, another smoothing of letters and a caret.
    #[serde(default = "a_tenth")]
    #[schemars(range(min = 0, max = 1))]
    pub tolerance: f64,
    /// Only this part, as [x0, y0, x1, y1] in pixels of the full screenshot.
    #[serde(default)]
    pub region: Option<Region>,
    /// Which of the VM's screens, from 0.
    #[serde(default)]
    pub head: u32,
    /// What is looked for. No parameter: whoever takes the call reads `path` and cuts `part` out.
    #[serde(skip)]
    #[schemars(skip)]
    pub picture: Option<Pixels>,
}

impl Image {
    /// The resource of one screenshot is this and its id.
    pub const SCREENSHOT_URI: &'static str = "vm://screenshot/";

    /// The id where `path` is a screenshot's URI.
    pub fn screenshot(&self) -> Option<&str> {
        self.path.strip_prefix(Self::SCREENSHOT_URI)
    }
}

/// The states that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum VmState {
    Running,
    Paused,
    Shutdown,
    Shutoff,
    Crashed,
    Suspended,
}

fn half_a_second() -> u32 {
    500
}

fn a_thousandth() -> f64 {
    0.001
}

fn a_tenth() -> f64 {
    0.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(conditions: Vec<Condition>, timeout: f64) -> WaitFor {
        WaitFor {
            conditions,
            timeout,
        }
    }

    fn stable(ms: u32) -> Condition {
        Condition::Stable(Stable {
            ms,
            region: None,
            head: 0,
        })
    }

    fn change(share: f64) -> Condition {
        Condition::Change(Change {
            share,
            region: None,
            head: 0,
        })
    }

    fn image(path: &str, tolerance: f64) -> Condition {
        Condition::Image(Image {
            path: path.to_owned(),
            part: None,
            tolerance,
            region: None,
            head: 0,
            picture: None,
        })
    }

    #[test]
    fn refuses_what_can_never_hold() {
        let port = Condition::Port(Port { port: 0 });
        let cases = [
            (wait(vec![], 30.0), BadAct::Conditions(0)),
            (wait(vec![stable(500); 17], 30.0), BadAct::Conditions(17)),
            (wait(vec![stable(500)], 0.0), BadAct::Timeout(0.0)),
            (wait(vec![stable(500)], 300.1), BadAct::Timeout(300.1)),
            (wait(vec![stable(49)], 30.0), BadAct::Still(49)),
            (wait(vec![stable(300_001)], 300.0), BadAct::Still(300_001)),
            (
                wait(vec![Condition::Ssh(Ssh {}), stable(1001)], 1.0),
                BadAct::NeverStill {
                    ms: 1001,
                    timeout: 1.0,
                },
            ),
            (wait(vec![change(-0.1)], 30.0), BadAct::Share(-0.1)),
            (wait(vec![change(1.1)], 30.0), BadAct::Share(1.1)),
            (wait(vec![port], 30.0), BadAct::NoPort),
            (wait(vec![image("a", -0.1)], 30.0), BadAct::Tolerance(-0.1)),
            (wait(vec![image("a", 1.1)], 30.0), BadAct::Tolerance(1.1)),
        ];
        for (wait, error) in cases {
            assert_eq!(wait.check(), Err(error));
        }
        assert_eq!(
            wait(vec![stable(1000), change(0.0), change(1.0)], 1.0).check(),
            Ok(())
        );
        let endless = wait(vec![stable(500)], f64::NAN);
        assert!(matches!(endless.limit(), Err(BadAct::Timeout(_))));
    }

    #[test]
    fn what_reaches_into_the_guest_needs_shell() {
        let looks = Grants::read_only();
        let reaches = Grants::from_iter([Capability::View, Capability::Shell]);
        let state = Condition::State(State {
            state: VmState::Running,
        });
        assert_eq!(wait(vec![stable(500), state], 1.0).needs(), looks);
        let ssh = Condition::Ssh(Ssh {});
        assert_eq!(wait(vec![change(0.1), ssh], 1.0).needs(), reaches);
        let port = Condition::Port(Port { port: 80 });
        assert_eq!(wait(vec![port], 1.0).needs(), reaches);
        let console = Condition::Console(Console {
            pattern: "login:".parse().unwrap(),
        });
        let shot = image("vm://screenshot/20261122-062613-660053", 0.1);
        assert_eq!(wait(vec![shot], 1.0).needs(), looks);
        let touches = Grants::from_iter([Capability::View, Capability::Files]);
        assert_eq!(wait(vec![image("/a.png", 0.1)], 1.0).needs(), touches);
        let reads = Grants::from_iter([Capability::View, Capability::Console]);
        assert_eq!(wait(vec![console], 1.0).needs(), reads);
    }
}
