//! What plans depend on, and how names and points are resolved by it.

use std::{sync::Arc, time::Duration};

use crate::{
    hypervisor::{Devices, FullName, Pointer},
    keyboard::{Layout, Typed, UnknownLayout},
    model::{
        Act, Button, Chord, Click, Drag, KeyCode, MoveMode, MoveMouse, Point, PressKeys, Scroll,
        TypeText,
    },
    vm::{Vm, VmError},
};

use super::{
    ActError,
    desktop::{Desktop, Reach},
    detour::Feature,
    plan::{ClickPlan, DragPlan, Plan, ScrollPlan},
};

/// What plans depend on, as it is when the acts begin. Only what they need is asked for.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) vm: FullName,
    pub(super) layout: Option<Arc<Layout>>,
    pub(super) devices: Option<Arc<Devices>>,
    pub(super) desktop: Option<Desktop>,
    /// The pointing devices, for buttons and turns of the wheel that not all of them pass on.
    pub(super) pointers: Vec<Pointer>,
    /// Between two characters, for texts that say nothing else.
    pub(super) typing_interval: Duration,
    pub(super) now: Now,
}

/// What acts change on their way.
#[derive(Debug, Clone, Default)]
pub(super) struct Now {
    pub(super) pointer: Option<Point>,
    pub(super) held: Vec<Button>,
}

impl Stage {
    pub(super) async fn set(vm: &Arc<Vm>, acts: &[Act]) -> Result<Self, ActError> {
        let mut stage = Self {
            vm: vm.full_name(),
            layout: None,
            devices: None,
            desktop: None,
            pointers: vec![],
            typing_interval: vm.typing_interval(),
            now: Now::default(),
        };
        if acts.iter().any(Act::presses) {
            vm.ready().await?;
            stage.devices = Some(vm.devices().await?);
        }
        if acts.iter().any(names_keys) {
            stage.layout = Some(vm.layout()?);
        }
        if acts.iter().any(points) {
            stage.desktop = Some(Desktop::present(vm, stage.devices.as_deref()).await?);
        }
        if acts.iter().filter_map(feature).any(Feature::is_rare) {
            stage.pointers = vm.pointers().await?;
        }
        let desktop = stage.desktop.as_ref();
        let memory = vm.memory();
        stage.now = Now {
            pointer: memory.pointer.and_then(|spot| desktop?.place(spot)),
            held: memory.held.clone(),
        };
        drop(memory);
        Ok(stage)
    }
}

fn names_keys(act: &Act) -> bool {
    match act {
        Act::TypeText(_) | Act::PressKeys(_) => true,
        Act::Click(click) => !click.modifiers.is_empty(),
        Act::Drag(drag) => !drag.modifiers.is_empty(),
        Act::Scroll(scroll) => !scroll.modifiers.is_empty(),
        Act::MoveMouse(_)
        | Act::MouseButton(_)
        | Act::Wait(_)
        | Act::TakeScreenshot(_)
        | Act::WaitFor(_) => false,
    }
}

fn points(act: &Act) -> bool {
    match act {
        Act::MoveMouse(_) | Act::Drag(_) => true,
        Act::Click(click) => click.x.is_some(),
        Act::Scroll(scroll) => scroll.x.is_some(),
        Act::MouseButton(_)
        | Act::TypeText(_)
        | Act::PressKeys(_)
        | Act::Wait(_)
        | Act::TakeScreenshot(_)
        | Act::WaitFor(_) => false,
    }
}

/// What it sends to a pointing device besides motion.
fn feature(act: &Act) -> Option<Feature> {
    match act {
        Act::Click(click) => Some(Feature::Button(click.button)),
        Act::Drag(drag) => Some(Feature::Button(drag.button)),
        Act::MouseButton(mouse) => Some(Feature::Button(mouse.button)),
        Act::Scroll(scroll) => Some(Feature::Wheel(scroll.direction)),
        Act::MoveMouse(_)
        | Act::TypeText(_)
        | Act::PressKeys(_)
        | Act::Wait(_)
        | Act::TakeScreenshot(_)
        | Act::WaitFor(_) => None,
    }
}

impl Stage {
    /// Refuses points that were planned for a screen of another size.
    pub(super) async fn still_fits(&self, vm: &Arc<Vm>) -> Result<(), ActError> {
        match &self.desktop {
            Some(desktop) => desktop.still_fits(vm).await,
            None => Ok(()),
        }
    }

    /// Whether places that the pointer was moved to are estimates.
    pub(super) fn is_estimate(&self) -> bool {
        let desktop = self.desktop.as_ref();
        desktop.is_some_and(|it| it.reach() == Reach::Mouse)
    }

    /// `Stage::set` loads what the acts need, so that these are there whenever they are asked for.
    pub(super) fn layout(&self) -> Result<&Layout, ActError> {
        self.layout
            .as_deref()
            .ok_or_else(|| VmError::from(UnknownLayout(String::new())).into())
    }

    fn desktop(&self) -> Result<&Desktop, ActError> {
        self.desktop
            .as_ref()
            .ok_or_else(|| ActError::NoMouse(self.vm.clone()))
    }

    fn native(&self, point: Point) -> Result<Point, ActError> {
        self.desktop()?.native(point)
    }

    /// What moves the pointer, and where it is then as far as that is known.
    pub(super) fn motion(
        &self,
        motion: &MoveMouse,
        pointer: Option<Point>,
    ) -> Result<(Plan, Option<Point>), ActError> {
        let point = Point {
            x: motion.x,
            y: motion.y,
        };
        if motion.mode == MoveMode::Absolute {
            let to = self.native(point)?;
            return Ok((Plan::Move(to), Some(to)));
        }
        let desktop = self.desktop()?;
        let offset = desktop.native_offset(point);
        let to = pointer
            .map(|pointer| desktop.moved(pointer, offset))
            .transpose()?;
        match (desktop.reach(), to) {
            (Reach::Tablet, Some(to)) => Ok((Plan::Move(to), Some(to))),
            (Reach::Tablet, None) => Err(ActError::PointerUnknown(self.vm.name.clone())),
            // A mouse knows no places anyway.
            (Reach::Mouse, to) => {
                if !desktop.spans(offset) {
                    let (offset, shown) = (point, desktop.shown());
                    return Err(ActError::OffsetTooLong { offset, shown });
                }
                Ok((Plan::MoveBy { offset, to }, to))
            }
        }
    }

    pub(super) fn click(&self, click: &Click) -> Result<ClickPlan, ActError> {
        self.check_feature(Feature::Button(click.button))?;
        Ok(ClickPlan {
            at: self.place(click.x, click.y)?,
            button: click.button,
            count: click.count,
            modifiers: self.modifiers(&click.modifiers)?,
        })
    }

    pub(super) fn drag(&self, drag: &Drag) -> Result<DragPlan, ActError> {
        self.check_feature(Feature::Button(drag.button))?;
        let ends = [[drag.from_x, drag.from_y], [drag.to_x, drag.to_y]];
        let points = ends[..1].iter().chain(&drag.through).chain(&ends[1..]);
        Ok(DragPlan {
            path: points
                .map(|&[x, y]| self.native(Point { x, y }))
                .collect::<Result<_, _>>()?,
            button: drag.button,
            modifiers: self.modifiers(&drag.modifiers)?,
            duration: Duration::from_millis(u64::from(drag.duration_ms)),
        })
    }

    pub(super) fn scroll(&self, scroll: &Scroll) -> Result<ScrollPlan, ActError> {
        self.check_feature(Feature::Wheel(scroll.direction))?;
        Ok(ScrollPlan {
            at: self.place(scroll.x, scroll.y)?,
            direction: scroll.direction,
            amount: scroll.amount,
            modifiers: self.modifiers(&scroll.modifiers)?,
        })
    }

    fn place(&self, x: Option<i32>, y: Option<i32>) -> Result<Option<Point>, ActError> {
        match (x, y) {
            (Some(x), Some(y)) => self.native(Point { x, y }).map(Some),
            _ => Ok(None),
        }
    }

    fn modifiers(&self, names: &[String]) -> Result<Vec<KeyCode>, ActError> {
        if names.is_empty() {
            return Ok(vec![]);
        }
        Ok(self.layout()?.chord(names)?.keys().to_vec())
    }

    pub(super) fn typing(&self, typing: &TypeText) -> Result<Vec<Typed>, ActError> {
        let layout = self.layout()?;
        let Some(name) = &typing.secret else {
            let text = typing.text.as_deref().unwrap_or_default();
            return Ok(layout.type_text(text)?);
        };
        let Some(secret) = &typing.read else {
            return Err(ActError::SecretUnread(name.clone()));
        };
        // Return would send off what comes before it, and Tab leave the field.
        let is_one_line = !secret.expose().contains(char::is_control);
        let typed = layout.type_text(secret.expose()).ok();
        typed
            .filter(|_| is_one_line)
            .ok_or_else(|| ActError::UntypableSecret {
                secret: name.clone(),
                layout: layout.name().to_owned(),
            })
    }

    pub(super) fn chord(&self, press: &PressKeys) -> Result<Chord, ActError> {
        let layout = self.layout()?;
        Ok(if press.adds_modifiers {
            layout.whole_chord(&press.keys)?
        } else {
            layout.chord(&press.keys)?
        })
    }

    /// Refuses what no pointing device of the VM passes on.
    pub(super) fn check_feature(&self, feature: Feature) -> Result<(), ActError> {
        if !feature.is_rare() || self.pointers.iter().any(|it| feature.passes(it)) {
            return Ok(());
        }
        let vm = self.vm.name.clone();
        Err(match feature {
            Feature::Button(button) => ActError::NoSuchButton { vm, button },
            Feature::Wheel(direction) => ActError::NoSuchWheel { vm, direction },
        })
    }

    /// Refuses to press a button that is down: the guest would see nothing of it.
    pub(super) fn check_free(&self, button: Button, now: &Now) -> Result<(), ActError> {
        if now.held.contains(&button) {
            return Err(ActError::ButtonHeld {
                vm: self.vm.name.clone(),
                button,
            });
        }
        Ok(())
    }
}
