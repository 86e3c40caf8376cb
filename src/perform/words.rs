//! Acts that were done, in words for a reply.

use crate::model::{Act, ButtonState, MouseButton, MoveMode};

/// What is added where the pointer went to a place without a tablet.
pub(super) const ESTIMATE: &str = " That place is an estimate, since the VM has no tablet: a mouse moved there \
     from a corner of the screen. Look where the pointer is; `virtpilot doctor` tells how to add a tablet.";

/// A done act, in words. Typed text is told by its length, a secret by its name.
pub(super) fn in_words(act: &Act) -> String {
    match act {
        Act::MoveMouse(motion) => match motion.mode {
            MoveMode::Absolute => format!("Moved the pointer to {},{}.", motion.x, motion.y),
            MoveMode::Relative => format!("Moved the pointer by {},{}.", motion.x, motion.y),
        },
        Act::Click(click) => {
            let times = match click.count {
                1 => String::new(),
                count => format!(" {count} times"),
            };
            let place = place(click.x, click.y);
            let with = with(&click.modifiers);
            format!("Clicked {}{times}{place}{with}.", click.button.as_str())
        }
        Act::Drag(drag) => format!(
            "Dragged from {},{}{} to {},{} with the {} button{}.",
            drag.from_x,
            drag.from_y,
            match drag.through.len() {
                0 => String::new(),
                1 => " through 1 point".to_owned(),
                points => format!(" through {points} points"),
            },
            drag.to_x,
            drag.to_y,
            drag.button.as_str(),
            and(&drag.modifiers)
        ),
        Act::Scroll(scroll) => format!(
            "Scrolled {} by {}{}{}.",
            scroll.direction.as_str(),
            scroll.amount,
            place(scroll.x, scroll.y),
            with(&scroll.modifiers)
        ),
        Act::MouseButton(MouseButton { button, state }) => match state {
            ButtonState::Down => format!("The {} button is down.", button.as_str()),
            ButtonState::Up => format!("The {} button is up.", button.as_str()),
            ButtonState::ReleaseAll => "Let go of every mouse button and modifier.".to_owned(),
        },
        Act::TypeText(typing) => match (&typing.secret, &typing.text) {
            (Some(secret), _) => format!("Typed the secret `{secret}`."),
            (None, text) => {
                let characters = text.iter().flat_map(|text| text.chars()).count();
                format!("Typed {characters} characters.")
            }
        },
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
        Act::WaitFor(_) => "Waited.".to_owned(),
    }
}

fn place(x: Option<i32>, y: Option<i32>) -> String {
    match (x, y) {
        (Some(x), Some(y)) => format!(" at {x},{y}"),
        _ => String::new(),
    }
}

fn with(modifiers: &[String]) -> String {
    match modifiers {
        [] => String::new(),
        keys => format!(" with {}", keys.join("+")),
    }
}

fn and(modifiers: &[String]) -> String {
    match modifiers {
        [] => String::new(),
        keys => format!(" and {}", keys.join("+")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Secret, TypeText};

    #[test]
    fn words_never_carry_typed_text() {
        let act = Act::TypeText(TypeText::new("hunter2"));
        assert_eq!(in_words(&act), "Typed 7 characters.");
        let act = Act::TypeText(TypeText {
            secret: Some("sudo".into()),
            read: Some(Secret::new("hunter2")),
            ..TypeText::default()
        });
        assert_eq!(in_words(&act), "Typed the secret `sudo`.");
    }
}
