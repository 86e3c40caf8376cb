//! From acts to plans: everything that can be refused is refused here, before anything runs.

use std::{sync::Arc, time::Duration};

use crate::{
    capture,
    hypervisor::{Bus, Devices, FullName},
    keyboard::{Layout, UnknownLayout},
    model::{
        Act, Button, Chord, Click, KeyCode, MoveMode, MoveMouse, Point, ScreenSize, TakeScreenshot,
        WaitFor,
    },
    vm::{Vm, VmError},
};

use super::{ActError, Refused};

/// An act with all names resolved and all points in native pixels.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    Move(Point),
    Click(ClickPlan),
    Type(Vec<Chord>),
    Press { chord: Chord, repeat: u32 },
    Hold { chord: Chord, hold: Duration },
    Wait(Duration),
    Look(TakeScreenshot),
    WaitFor(WaitFor),
}

impl Plan {
    /// Whether it depends on the screen's size.
    pub(super) fn points(&self) -> bool {
        match self {
            Self::Move(_) => true,
            Self::Click(click) => click.at.is_some(),
            Self::Type(_)
            | Self::Press { .. }
            | Self::Hold { .. }
            | Self::Wait(_)
            | Self::Look(_)
            | Self::WaitFor(_) => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClickPlan {
    pub(super) at: Option<Point>,
    pub(super) button: Button,
    pub(super) count: u32,
    pub(super) modifiers: Vec<KeyCode>,
}

/// What plans depend on, as it is when the acts begin. Only what they need is asked for.
#[derive(Debug)]
pub(super) struct Stage {
    vm: FullName,
    layout: Option<Arc<Layout>>,
    pub(super) devices: Option<Arc<Devices>>,
    pub(super) screen: Option<Screen>,
    pointer: Option<Point>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) native: ScreenSize,
    pub(super) shown: ScreenSize,
}

impl Stage {
    pub(super) async fn set(vm: &Arc<Vm>, acts: &[Act]) -> Result<Self, ActError> {
        let mut stage = Self {
            vm: vm.full_name(),
            layout: None,
            devices: None,
            screen: None,
            pointer: None,
        };
        if acts.iter().any(presses) {
            vm.ready().await?;
            stage.devices = Some(vm.devices().await?);
        }
        if acts.iter().any(names_keys) {
            stage.layout = Some(vm.layout()?);
        }
        if acts.iter().any(points) {
            stage.screen = Some(present_screen(vm, stage.devices.as_deref()).await?);
        }
        stage.pointer = vm.memory().pointer;
        Ok(stage)
    }
}

/// The screen that points refer to: one head, of the size that the client last saw.
async fn present_screen(vm: &Arc<Vm>, devices: Option<&Devices>) -> Result<Screen, ActError> {
    if let Some(devices) = devices.filter(|devices| devices.tablet.is_none()) {
        return Err(if devices.is_qemu() {
            ActError::NoTablet(vm.full_name())
        } else {
            ActError::NoPointing {
                vm: vm.name().clone(),
                driver: devices.driver.clone(),
            }
        });
    }
    let heads = devices.map_or(1, |devices| devices.heads);
    let mut in_use = 1;
    for head in 1..heads {
        if capture::is_in_use(vm, head).await? {
            in_use += 1;
        }
    }
    if in_use > 1 {
        return Err(ActError::SeveralHeads {
            vm: vm.name().clone(),
            heads: in_use,
        });
    }
    let native = capture::native_size(vm).await?;
    let given = vm.memory().given;
    if let Some(then) = given.filter(|given| *given != native) {
        return Err(ActError::Resized {
            vm: vm.name().clone(),
            now: native,
            then,
        });
    }
    Ok(Screen {
        native,
        shown: vm.shown(native),
    })
}

fn presses(act: &Act) -> bool {
    match act {
        Act::MoveMouse(_) | Act::Click(_) | Act::TypeText(_) | Act::PressKeys(_) => true,
        Act::Wait(_) | Act::TakeScreenshot(_) | Act::WaitFor(_) => false,
    }
}

fn names_keys(act: &Act) -> bool {
    match act {
        Act::TypeText(_) | Act::PressKeys(_) => true,
        Act::Click(click) => !click.modifiers.is_empty(),
        Act::MoveMouse(_) | Act::Wait(_) | Act::TakeScreenshot(_) | Act::WaitFor(_) => false,
    }
}

fn points(act: &Act) -> bool {
    match act {
        Act::MoveMouse(_) => true,
        Act::Click(click) => click.x.is_some(),
        Act::TypeText(_)
        | Act::PressKeys(_)
        | Act::Wait(_)
        | Act::TakeScreenshot(_)
        | Act::WaitFor(_) => false,
    }
}

/// What can be refused without the VM.
pub(super) fn check(acts: &[Act]) -> Result<(), Refused> {
    for (at, act) in acts.iter().enumerate() {
        act.check().map_err(|error| Refused {
            at,
            error: Box::new(error.into()),
        })?;
    }
    Ok(())
}

/// Plans all acts, or says which one cannot be done and why.
pub(super) fn plan(acts: &[Act], stage: &Stage) -> Result<Vec<Plan>, Refused> {
    let mut pointer = stage.pointer;
    acts.iter()
        .enumerate()
        .map(|(at, act)| {
            plan_one(act, stage, &mut pointer).map_err(|error| Refused {
                at,
                error: Box::new(error),
            })
        })
        .collect()
}

fn plan_one(act: &Act, stage: &Stage, pointer: &mut Option<Point>) -> Result<Plan, ActError> {
    match act {
        Act::MoveMouse(motion) => {
            let to = stage.target(motion, *pointer)?;
            *pointer = Some(to);
            Ok(Plan::Move(to))
        }
        Act::Click(click) => {
            let plan = stage.click(click)?;
            *pointer = plan.at.or(*pointer);
            Ok(Plan::Click(plan))
        }
        Act::TypeText(typing) => Ok(Plan::Type(stage.layout()?.type_text(&typing.text)?)),
        Act::PressKeys(press) => {
            let chord = stage.layout()?.chord(&press.keys)?;
            Ok(if press.hold_ms == 0 {
                Plan::Press {
                    chord,
                    repeat: press.repeat,
                }
            } else {
                Plan::Hold {
                    chord,
                    hold: Duration::from_millis(u64::from(press.hold_ms)),
                }
            })
        }
        Act::Wait(wait) => Ok(Plan::Wait(wait.duration()?)),
        Act::TakeScreenshot(what) => Ok(Plan::Look(what.clone())),
        Act::WaitFor(what) => Ok(Plan::WaitFor(what.clone())),
    }
}

impl Stage {
    /// Refuses points that were planned for a screen of another size.
    pub(super) async fn still_fits(&self, vm: &Arc<Vm>) -> Result<(), ActError> {
        let now = capture::native_size(vm).await?;
        match self.screen {
            Some(screen) if screen.native != now => Err(ActError::Resized {
                vm: self.vm.name.clone(),
                now,
                then: screen.native,
            }),
            _ => Ok(()),
        }
    }

    /// `Stage::set` loads what the acts need, so that these are there whenever they are asked for.
    fn layout(&self) -> Result<&Layout, ActError> {
        self.layout
            .as_deref()
            .ok_or_else(|| VmError::from(UnknownLayout(String::new())).into())
    }

    fn screen(&self) -> Result<Screen, ActError> {
        self.screen
            .ok_or_else(|| ActError::NoTablet(self.vm.clone()))
    }

    fn native(&self, point: Point) -> Result<Point, ActError> {
        let Screen { native, shown } = self.screen()?;
        if !shown.contains(point) {
            return Err(ActError::Outside { point, shown });
        }
        Ok(native.native_point(shown, point))
    }

    fn target(&self, motion: &MoveMouse, pointer: Option<Point>) -> Result<Point, ActError> {
        let offset = Point {
            x: motion.x,
            y: motion.y,
        };
        match motion.mode {
            MoveMode::Absolute => self.native(offset),
            MoveMode::Relative => {
                let Screen { native, shown } = self.screen()?;
                let from = pointer.ok_or_else(|| ActError::PointerUnknown(self.vm.name.clone()))?;
                let to = |from: i32, offset: i32, native: u32, shown: u32| {
                    let moved =
                        i64::from(from) + i64::from(offset) * i64::from(native) / i64::from(shown);
                    i32::try_from(moved).unwrap_or(if offset < 0 { i32::MIN } else { i32::MAX })
                };
                let to = Point {
                    x: to(from.x, offset.x, native.width, shown.width),
                    y: to(from.y, offset.y, native.height, shown.height),
                };
                if native.contains(to) {
                    return Ok(to);
                }
                // Told in the coordinates that the client knows.
                let shown_at = |at: i32, native: u32, shown: u32| {
                    let at = i64::from(at) * i64::from(shown) / i64::from(native);
                    i32::try_from(at).unwrap_or(i32::MAX)
                };
                Err(ActError::Outside {
                    point: Point {
                        x: shown_at(to.x, native.width, shown.width),
                        y: shown_at(to.y, native.height, shown.height),
                    },
                    shown,
                })
            }
        }
    }

    fn click(&self, click: &Click) -> Result<ClickPlan, ActError> {
        let at = match (click.x, click.y) {
            (Some(x), Some(y)) => Some(self.native(Point { x, y })?),
            _ => None,
        };
        let sideways = matches!(click.button, Button::Back | Button::Forward);
        let tablet = self.devices.as_ref().and_then(|devices| devices.tablet);
        if sideways && tablet == Some(Bus::Usb) {
            return Err(ActError::NoSuchButton {
                vm: self.vm.name.clone(),
                button: click.button,
            });
        }
        let modifiers = if click.modifiers.is_empty() {
            vec![]
        } else {
            self.layout()?.chord(&click.modifiers)?.keys().to_vec()
        };
        Ok(ClickPlan {
            at,
            button: click.button,
            count: click.count,
            modifiers,
        })
    }
}

/// A done act, in words. Typed text is told by its length.
pub(super) fn in_words(act: &Act) -> String {
    match act {
        Act::MoveMouse(motion) => match motion.mode {
            MoveMode::Absolute => format!("Moved the pointer to {},{}.", motion.x, motion.y),
            MoveMode::Relative => format!("Moved the pointer by {},{}.", motion.x, motion.y),
        },
        Act::Click(click) => {
            let place = match (click.x, click.y) {
                (Some(x), Some(y)) => format!(" at {x},{y}"),
                _ => String::new(),
            };
            let times = match click.count {
                1 => String::new(),
                count => format!(" {count} times"),
            };
            let with = match click.modifiers.as_slice() {
                [] => String::new(),
                keys => format!(" with {}", keys.join("+")),
            };
            format!("Clicked {}{times}{place}{with}.", click.button.as_str())
        }
        Act::TypeText(typing) => format!("Typed {} characters.", typing.text.chars().count()),
        Act::PressKeys(press) => {
            let keys = press.keys.join("+");
            match (press.repeat, press.hold_ms) {
                (1, 0) => format!("Pressed {keys}."),
                (repeat, 0) => format!("Pressed {keys} {repeat} times."),
                (_, hold) => format!("Held {keys} for {hold} ms."),
            }
        }
        Act::Wait(wait) => format!("Waited {} s.", wait.seconds),
        Act::TakeScreenshot(_) => "Took a screenshot.".to_owned(),
        // What it found says more.
        Act::WaitFor(_) => "Waited.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PressKeys, TypeText, Wait};

    fn stage(native: ScreenSize, long_edge: u32, pointer: Option<Point>) -> Stage {
        Stage {
            vm: FullName {
                uri: "qemu:///system".to_owned(),
                name: "demo".parse().unwrap(),
            },
            layout: Some(Arc::new(Layout::compile("us").unwrap())),
            devices: Some(Arc::new(Devices {
                usb: true,
                driver: "qemu".into(),
                tablet: Some(Bus::Usb),
                keyboards: vec![Bus::Ps2],
                heads: 1,
                video: vec![],
                forwards: vec![],
                networks: vec![],
            })),
            screen: Some(Screen {
                native,
                shown: native.shown(long_edge),
            }),
            pointer,
        }
    }

    fn full_hd(pointer: Option<Point>) -> Stage {
        let native = ScreenSize {
            width: 1920,
            height: 1080,
        };
        stage(native, 960, pointer)
    }

    fn motion(x: i32, y: i32, mode: MoveMode) -> Act {
        Act::MoveMouse(MoveMouse { x, y, mode })
    }

    fn click(button: Button, at: Option<(i32, i32)>, modifiers: &[&str]) -> Act {
        Act::Click(Click {
            button,
            count: 1,
            x: at.map(|(x, _)| x),
            y: at.map(|(_, y)| y),
            modifiers: modifiers.iter().map(|key| (*key).to_owned()).collect(),
        })
    }

    fn refusal(acts: &[Act], stage: &Stage) -> (usize, String) {
        let refused = plan(acts, stage).unwrap_err();
        (refused.at, refused.error.to_string())
    }

    #[test]
    fn shown_points_become_native_ones_and_offsets_follow_the_batch() {
        let acts = [
            motion(100, 100, MoveMode::Absolute),
            motion(10, -10, MoveMode::Relative),
            click(Button::Left, Some((959, 539)), &["Ctrl"]),
            motion(0, -1, MoveMode::Relative),
        ];
        let plans = plan(&acts, &full_hd(None)).unwrap();
        let at = |x, y| Point { x, y };
        assert_eq!(
            plans,
            [
                Plan::Move(at(201, 201)),
                Plan::Move(at(221, 181)),
                Plan::Click(ClickPlan {
                    at: Some(at(1919, 1079)),
                    button: Button::Left,
                    count: 1,
                    modifiers: vec![KeyCode::LEFT_CTRL],
                }),
                Plan::Move(at(1919, 1077)),
            ]
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_place_in_the_batch() {
        let fine = Act::Wait(Wait { seconds: 0.0 });
        let typing = Act::TypeText(TypeText { text: "é".into() });
        let press = Act::PressKeys(PressKeys {
            keys: vec!["Retrun".into()],
            repeat: 1,
            hold_ms: 0,
        });
        let edge = Point { x: 1919, y: 0 };
        let cases = [
            (
                motion(960, 0, MoveMode::Absolute),
                None,
                "the point 960,0 is outside the screenshot of 960×540 pixels",
            ),
            (
                motion(1, 0, MoveMode::Relative),
                Some(edge),
                "the point 960,0 is outside the screenshot of 960×540 pixels",
            ),
            (
                motion(1, 0, MoveMode::Relative),
                None,
                "where the pointer of `demo` is, is not known, so that it cannot be moved by an offset",
            ),
            (
                click(Button::Left, Some((-1, 0)), &[]),
                None,
                "the point -1,0 is outside the screenshot of 960×540 pixels",
            ),
            (
                click(Button::Back, None, &[]),
                None,
                "the USB tablet of `demo` drops the back button without a word",
            ),
            (
                typing,
                None,
                "the keyboard layout `us` cannot type `é` (U+00E9, position 0)",
            ),
            (
                press,
                None,
                "there is no key named `Retrun`; near ones are `return`",
            ),
        ];
        for (act, pointer, text) in cases {
            let acts = [fine.clone(), act];
            assert_eq!(refusal(&acts, &full_hd(pointer)), (1, text.to_owned()));
        }
    }

    #[test]
    fn words_never_carry_typed_text() {
        let act = Act::TypeText(TypeText {
            text: "hunter2".into(),
        });
        assert_eq!(in_words(&act), "Typed 7 characters.");
    }
}
