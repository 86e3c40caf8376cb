//! From acts to plans: everything that can be refused is refused here, before anything runs.

use std::time::Duration;

use crate::{
    keyboard::Typed,
    model::{
        Act, Button, ButtonState, Chord, Direction, KeyCode, MouseButton, Point, TakeScreenshot,
        WaitFor,
    },
};

use super::{
    ActError, Refused,
    detour::Feature,
    stage::{Now, Stage},
};

/// An act with all names resolved and all points in native pixels.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    Move(Point),
    /// Moves a mouse by so many native pixels, which brings it to a place that may be known.
    MoveBy {
        offset: Point,
        to: Option<Point>,
    },
    Click(ClickPlan),
    Drag(DragPlan),
    Scroll(ScrollPlan),
    Button {
        button: Button,
        state: ButtonState,
    },
    Type {
        /// The keystrokes of each character.
        text: Vec<Typed>,
        interval: Duration,
    },
    Press {
        chord: Chord,
        repeat: u32,
    },
    Hold {
        chord: Chord,
        hold: Duration,
    },
    Wait(Duration),
    Look(TakeScreenshot),
    WaitFor(WaitFor),
}

impl Plan {
    /// Whether it depends on the screen's size.
    pub(super) fn points(&self) -> bool {
        match self {
            Self::Move(_) | Self::MoveBy { .. } | Self::Drag(_) => true,
            Self::Click(click) => click.at.is_some(),
            Self::Scroll(scroll) => scroll.at.is_some(),
            Self::Button { .. }
            | Self::Type { .. }
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DragPlan {
    /// From the first point, where the button goes down, to the last one.
    pub(super) path: Vec<Point>,
    pub(super) button: Button,
    pub(super) modifiers: Vec<KeyCode>,
    pub(super) duration: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScrollPlan {
    pub(super) at: Option<Point>,
    pub(super) direction: Direction,
    pub(super) amount: u32,
    pub(super) modifiers: Vec<KeyCode>,
}

/// What can be refused without the VM.
pub(crate) fn check(acts: &[Act]) -> Result<(), Refused> {
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
    let mut now = stage.now.clone();
    acts.iter()
        .enumerate()
        .map(|(at, act)| {
            plan_one(act, stage, &mut now).map_err(|error| Refused {
                at,
                error: Box::new(error),
            })
        })
        .collect()
}

fn plan_one(act: &Act, stage: &Stage, now: &mut Now) -> Result<Plan, ActError> {
    match act {
        Act::MoveMouse(motion) => {
            let (plan, to) = stage.motion(motion, now.pointer)?;
            now.pointer = to;
            Ok(plan)
        }
        Act::Click(click) => {
            stage.check_free(click.button, now)?;
            let plan = stage.click(click)?;
            now.pointer = plan.at.or(now.pointer);
            Ok(Plan::Click(plan))
        }
        Act::Drag(drag) => {
            stage.check_free(drag.button, now)?;
            let plan = stage.drag(drag)?;
            now.pointer = plan.path.last().copied();
            Ok(Plan::Drag(plan))
        }
        Act::Scroll(scroll) => {
            let plan = stage.scroll(scroll)?;
            now.pointer = plan.at.or(now.pointer);
            Ok(Plan::Scroll(plan))
        }
        Act::MouseButton(MouseButton { button, state: way }) => {
            let (button, way) = (*button, *way);
            match way {
                ButtonState::Down => {
                    stage.check_feature(Feature::Button(button))?;
                    stage.check_free(button, now)?;
                    now.held.push(button);
                }
                ButtonState::Up => {
                    stage.check_feature(Feature::Button(button))?;
                    now.held.retain(|held| *held != button);
                }
                ButtonState::ReleaseAll => now.held.clear(),
            }
            Ok(Plan::Button { button, state: way })
        }
        Act::TypeText(typing) => Ok(Plan::Type {
            text: stage.typing(typing)?,
            interval: typing.interval().unwrap_or(stage.typing_interval),
        }),
        Act::PressKeys(press) => {
            let chord = stage.chord(press)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        hypervisor::{Bus, Devices, FullName},
        keyboard::Layout,
        model::{Click, MoveMode, MoveMouse, PressKeys, ScreenSize, TypeText, Wait},
        perform::desktop::Desktop,
    };

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
            desktop: Some(Desktop::of_one(native, native.shown(long_edge))),
            pointers: vec![],
            typing_interval: Duration::ZERO,
            now: Now {
                pointer,
                held: vec![],
            },
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
        let typing = Act::TypeText(TypeText::new("é"));
        let press = Act::PressKeys(PressKeys {
            keys: vec!["Retrun".into()],
            repeat: 1,
            hold_ms: 0,
            adds_modifiers: false,
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
                "no pointing device of `demo` passes on the back button",
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
}
