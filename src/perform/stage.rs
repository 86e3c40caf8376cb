//! What plans depend on, and how names and points are resolved by it.

use std::{sync::Arc, time::Duration};

use crate::{
    capture,
    hypervisor::{Bus, Devices, FullName, Pointer},
    keyboard::{Layout, Typed, UnknownLayout},
    model::{
        Act, Button, Chord, Click, Drag, KeyCode, MoveMode, MoveMouse, Point, PressKeys,
        ScreenSize, Scroll, TypeText,
    },
    vm::{Vm, VmError},
};

use super::{
    ActError,
    plan::{ClickPlan, DragPlan, ScrollPlan},
};

/// What plans depend on, as it is when the acts begin. Only what they need is asked for.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) vm: FullName,
    pub(super) layout: Option<Arc<Layout>>,
    pub(super) devices: Option<Arc<Devices>>,
    pub(super) screen: Option<Screen>,
    /// The pointing devices, for a wheel that not all of them have.
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
            stage.screen = Some(present_screen(vm, stage.devices.as_deref()).await?);
        }
        if acts.iter().any(turns_sideways) {
            stage.pointers = vm.pointers().await?;
        }
        let memory = vm.memory();
        stage.now = Now {
            pointer: memory.pointer,
            held: memory.held.clone(),
        };
        drop(memory);
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

fn turns_sideways(act: &Act) -> bool {
    matches!(act, Act::Scroll(scroll) if scroll.direction.is_sideways())
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
    pub(super) fn layout(&self) -> Result<&Layout, ActError> {
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

    pub(super) fn target(
        &self,
        motion: &MoveMouse,
        pointer: Option<Point>,
    ) -> Result<Point, ActError> {
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

    pub(super) fn click(&self, click: &Click) -> Result<ClickPlan, ActError> {
        self.check_button(click.button)?;
        Ok(ClickPlan {
            at: self.place(click.x, click.y)?,
            button: click.button,
            count: click.count,
            modifiers: self.modifiers(&click.modifiers)?,
        })
    }

    pub(super) fn drag(&self, drag: &Drag) -> Result<DragPlan, ActError> {
        self.check_button(drag.button)?;
        let point = |x, y| self.native(Point { x, y });
        Ok(DragPlan {
            from: point(drag.from_x, drag.from_y)?,
            to: point(drag.to_x, drag.to_y)?,
            button: drag.button,
            modifiers: self.modifiers(&drag.modifiers)?,
            duration: Duration::from_millis(u64::from(drag.duration_ms)),
        })
    }

    pub(super) fn scroll(&self, scroll: &Scroll) -> Result<ScrollPlan, ActError> {
        // QEMU's tablets, USB and virtio, know no such wheel and drop it without a word
        // (`hw/input/hid.c`, `hw/input/virtio-input-hid.c`); its PS/2 mouse has one.
        let takes_it = |it: &Pointer| it.current && it.name.contains("PS/2");
        if scroll.direction.is_sideways() && !self.pointers.iter().any(takes_it) {
            return Err(ActError::NoSuchWheel {
                vm: self.vm.name.clone(),
                direction: scroll.direction,
            });
        }
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

    /// Refuses a button that the VM's tablet drops.
    pub(super) fn check_button(&self, button: Button) -> Result<(), ActError> {
        let at_the_side = matches!(button, Button::Back | Button::Forward);
        let tablet = self.devices.as_ref().and_then(|devices| devices.tablet);
        if at_the_side && tablet == Some(Bus::Usb) {
            return Err(ActError::NoSuchButton {
                vm: self.vm.name.clone(),
                button,
            });
        }
        Ok(())
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
