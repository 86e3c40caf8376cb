//! The toolset `computer`: looking and pointing under the names, and with the parameters, that models are
//! trained on.
//!
//! Thin names over the same acts as the standard tools; each is for the default VM. Nothing here
//! decides what an act does.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    capture,
    keyboard::chords_of,
    model::{
        Act, Button, ButtonState, Capability, Click, Direction, Drag, MouseButton, MoveMode,
        MoveMouse, PressKeys, Region, Scroll, TakeScreenshot, TypeText, Wait,
    },
    perform::{self, ActError},
    watch,
};

use super::{
    Server,
    error::ToolError,
    input::perform_all,
    reply::Reply,
    screen::{self, IfChanged},
    tool::{Call, Effect, Tool},
};

/// What stands for a standard tool in this toolset, for hints.
pub(crate) const NAMES: [(&str, &str); 6] = [
    ("take_screenshot", "screenshot"),
    ("mouse_button", "left_mouse_up"),
    ("move_mouse", "mouse_move"),
    ("type_text", "type"),
    ("press_keys", "key"),
    ("run_actions", "key"),
];

/// The most chords that one `key` presses, not counting repeats.
const MAX_CHORDS: usize = 100;

pub(crate) fn tools() -> Vec<Tool> {
    let view = Some(Capability::View);
    vec![
        Tool::new::<Screenshot, _, _>(
            "screenshot",
            "Take a screenshot",
            view,
            Effect::Reads,
            screenshot,
        ),
        Tool::new::<Zoom, _, _>("zoom", "Zoom in", view, Effect::Reads, zoom),
        clicking("left_click", "Click", Button::Left, 1).described(
            "Clicks the left mouse button, at a pixel of the last screenshot if given, else where the \
             pointer is. A click is no proof of focus: look at the screen afterwards.",
        ),
        clicking("right_click", "Click the right button", Button::Right, 1).described(
            "Clicks the right mouse button, which opens a menu in most programs.",
        ),
        clicking("middle_click", "Click the middle button", Button::Middle, 1).described(
            "Clicks the middle mouse button, which pastes the selection in X and opens a link in a new \
             tab in browsers.",
        ),
        clicking("double_click", "Double-click", Button::Left, 2).described(
            "Clicks the left mouse button twice, which opens things and selects a word.",
        ),
        clicking("triple_click", "Triple-click", Button::Left, 3).described(
            "Clicks the left mouse button three times, which selects a line or a paragraph.",
        ),
        acting("left_click_drag", "Drag", Effect::Acts, left_click_drag),
        acting("mouse_move", "Move the mouse pointer", Effect::Sets, |asked: MouseMove| {
            let [x, y] = asked.coordinate;
            let mode = MoveMode::Absolute;
            Ok(Act::MoveMouse(MoveMouse { x, y, mode }))
        }),
        holding(
            "left_mouse_down",
            "Press the left button",
            ButtonState::Down,
        )
        .described(
            "Presses the left mouse button where the pointer is, and leaves it down: move with \
             mouse_move, then let go with left_mouse_up. After an act that failed or was cancelled on its \
             way, and at the end of the connection, it is let go of by itself.",
        ),
        holding("left_mouse_up", "Let go of the left button", ButtonState::Up)
            .described("Lets go of the left mouse button where the pointer is."),
        Tool::new::<CursorPosition, _, _>(
            "cursor_position",
            "Tell where the pointer is",
            view,
            Effect::Reads,
            cursor_position,
        ),
        acting("scroll", "Turn the mouse wheel", Effect::Acts, scroll),
        acting("type", "Type text", Effect::Acts, |Type { text }| {
            Ok(Act::TypeText(TypeText::new(text)))
        }),
        Tool::new::<Key, _, _>(
            "key",
            "Press keys",
            Some(Capability::Input),
            Effect::Acts,
            key,
        ),
        acting("hold_key", "Hold keys down", Effect::Acts, |asked: HoldKey| hold_key(&asked)),
        Tool::new::<Pause, _, _>("wait", "Wait", None, Effect::Reads, wait),
    ]
}

/// A tool that is one act.
fn acting<A, F>(name: &'static str, title: &'static str, effect: Effect, act_of: F) -> Tool
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    F: Fn(A) -> Result<Act, ToolError> + Copy + Send + Sync + 'static,
{
    let run = move |server: Arc<Server>, asked: A, call: Call| async move {
        let act = act_of(asked)?;
        let vm = server.fleet.vm(None, Capability::Input).await?;
        Ok(Reply::text(
            perform_all(&server, &vm, vec![act], call).await?,
        ))
    };
    Tool::new(name, title, Some(Capability::Input), effect, run)
}

fn clicking(name: &'static str, title: &'static str, button: Button, count: u32) -> Tool {
    acting(name, title, Effect::Acts, move |asked: ClickAt| {
        let (x, y) = columns(asked.coordinate);
        Ok(Act::Click(Click {
            button,
            count,
            x,
            y,
            modifiers: modifiers(asked.text)?,
        }))
    })
}

fn holding(name: &'static str, title: &'static str, state: ButtonState) -> Tool {
    acting(name, title, Effect::Acts, move |Nothing {}| {
        let button = Button::Left;
        Ok(Act::MouseButton(MouseButton { button, state }))
    })
}

fn columns(coordinate: Option<[i32; 2]>) -> (Option<i32>, Option<i32>) {
    coordinate.map_or((None, None), |[x, y]| (Some(x), Some(y)))
}

/// The one chord in a text that names keys to hold down meanwhile.
fn modifiers(text: Option<String>) -> Result<Vec<String>, ToolError> {
    // Clients that fill in every parameter give an empty one.
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) => one_chord(&text),
        None => Ok(vec![]),
    }
}

fn one_chord(text: &str) -> Result<Vec<String>, ToolError> {
    let mut chords = chords_of(text).map_err(ActError::from)?;
    match (chords.pop(), chords.len()) {
        (Some(chord), 0) => Ok(chord),
        (_, before) => Err(ToolError::new(
            format!("`text` names {} chords, and can be one", before + 1),
            "Join keys that are held together by `+`, as in `ctrl+shift`.",
        )),
    }
}

/// Takes no parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Takes a screenshot and returns the picture. Works at any time, in firmware, boot loaders, installers
/// and on locked screens. Its pixels are the coordinates of every other tool. With a project active the
/// picture is saved there as well.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Screenshot {}

async fn screenshot(server: Arc<Server>, _: Screenshot, _: Call) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(None, Capability::View).await?;
    let shot = watch::look(&vm, &TakeScreenshot::default(), &perform::untold()).await?;
    screen::reply_with(&server, vm.name(), shot, IfChanged::No).await
}

/// Shows a part of the screen at its native resolution, as large as it fits into the size of a screenshot:
/// for small text and icons. Coordinates of other tools still mean the full screenshot.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Zoom {
    /// The part, as [x0, y0, x1, y1] in pixels of the full screenshot, right and bottom edges exclusive.
    region: Region,
}

async fn zoom(server: Arc<Server>, asked: Zoom, _: Call) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(None, Capability::View).await?;
    let shot = capture::zoom(&vm, asked.region).await?;
    screen::reply_with(&server, vm.name(), shot, IfChanged::No).await
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClickAt {
    /// Where, as [x, y] in pixels of the screenshot; where the pointer is, if missing.
    #[serde(default)]
    coordinate: Option<[i32; 2]>,
    /// Keys held down during the click, such as `ctrl` or `ctrl+shift`.
    #[serde(default)]
    text: Option<String>,
}

/// Presses the left mouse button at one point of the last screenshot, moves to another with the button
/// down, and lets go there: selects text, drags and drops, draws, moves sliders and windows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LeftClickDrag {
    /// Where the button goes down, as [x, y] in pixels of the screenshot.
    start_coordinate: [i32; 2],
    /// Where it comes up, as [x, y].
    coordinate: [i32; 2],
    /// Keys held down during the drag, such as `ctrl` or `ctrl+shift`.
    #[serde(default)]
    text: Option<String>,
}

fn left_click_drag(asked: LeftClickDrag) -> Result<Act, ToolError> {
    let [from_x, from_y] = asked.start_coordinate;
    let [to_x, to_y] = asked.coordinate;
    Ok(Act::Drag(Drag {
        from_x,
        from_y,
        to_x,
        to_y,
        through: vec![],
        button: Button::Left,
        modifiers: modifiers(asked.text)?,
        duration_ms: Drag::usual_duration_ms(),
    }))
}

/// Moves the mouse pointer to a pixel of the last screenshot, without clicking.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MouseMove {
    /// Where to, as [x, y] in pixels of the screenshot.
    coordinate: [i32; 2],
}

/// Tells where the pointer is, in pixels of the screenshot, as this server last put it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CursorPosition {}

async fn cursor_position(
    server: Arc<Server>,
    _: CursorPosition,
    _: Call,
) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(None, Capability::View).await?;
    let place = perform::pointer_position(&vm).await?;
    Ok(Reply::text(format!("X={}, Y={}", place.x, place.y)))
}

/// Turns the mouse wheel. What moves is what lies under the pointer, whatever has the focus.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScrollAt {
    /// Which way: `down` shows what is further below.
    scroll_direction: Direction,
    /// How many notches of the wheel, 1 to 100; one moves a text by about three lines.
    #[schemars(range(min = 1, max = 100))]
    scroll_amount: u32,
    /// Where, as [x, y] in pixels of the screenshot; where the pointer is, if missing.
    #[serde(default)]
    coordinate: Option<[i32; 2]>,
    /// Keys held down meanwhile, such as `ctrl` to zoom in a browser.
    #[serde(default)]
    text: Option<String>,
}

fn scroll(asked: ScrollAt) -> Result<Act, ToolError> {
    let (x, y) = columns(asked.coordinate);
    Ok(Act::Scroll(Scroll {
        direction: asked.scroll_direction,
        amount: asked.scroll_amount,
        x,
        y,
        modifiers: modifiers(asked.text)?,
    }))
}

/// Types text on the keyboard, literally, into whatever has the focus: look first. A newline presses
/// Return, a tab presses Tab. Characters that the keyboard layout lacks are refused before the first key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Type {
    /// The text to type.
    text: String,
}

/// Presses a key or a shortcut, as the program xdotool names them: Return, ctrl+s, alt+Tab, Page_Up,
/// super, ctrl+plus. Several, divided by spaces, are pressed one after another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Key {
    /// The keys, joined by `+` where they are pressed together. Shift is added where a character needs it.
    text: String,
    /// How many times, 1 to 100.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 100))]
    repeat: u32,
}

fn once() -> u32 {
    1
}

async fn key(server: Arc<Server>, asked: Key, call: Call) -> Result<Reply, ToolError> {
    let chords = chords_of(&asked.text).map_err(ActError::from)?;
    if chords.len() > MAX_CHORDS {
        return Err(ToolError::new(
            format!(
                "`text` names {} chords, and can be {MAX_CHORDS}",
                chords.len()
            ),
            "Press fewer at a time, or give what is to be written to `type`.",
        ));
    }
    let press = |keys: &Vec<String>, repeat| {
        Act::PressKeys(PressKeys {
            keys: keys.clone(),
            repeat,
            hold_ms: 0,
            adds_modifiers: true,
        })
    };
    let vm = server.fleet.vm(None, Capability::Input).await?;
    if let [keys] = chords.as_slice() {
        let acts = vec![press(keys, asked.repeat)];
        return Ok(Reply::text(perform_all(&server, &vm, acts, call).await?));
    }
    let once = chords.iter().map(|keys| press(keys, 1));
    let acts = once.cycle().take(chords.len() * asked.repeat as usize);
    perform_all(&server, &vm, acts.collect(), call).await?;
    let words: Vec<_> = chords.iter().map(|keys| keys.join("+")).collect();
    let times = match asked.repeat {
        1 => String::new(),
        repeat => format!(", {repeat} times"),
    };
    Ok(Reply::text(format!("Pressed {}{times}.", words.join(" "))))
}

/// Holds a key or a shortcut down for a time, and lets go of it: for games, and for menus that show
/// while a key is down.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HoldKey {
    /// The keys, named as with `key` and joined by `+`.
    text: String,
    /// How long, in seconds, 0 to 300.
    #[schemars(range(min = 0, max = 300))]
    duration: f64,
}

fn hold_key(asked: &HoldKey) -> Result<Act, ToolError> {
    // The schema lets only what a duration can be through; a wait has the same limits.
    let wait = Wait {
        seconds: asked.duration,
    };
    let duration: Duration = wait.duration().map_err(ActError::from)?;
    Ok(Act::PressKeys(PressKeys {
        keys: one_chord(&asked.text)?,
        repeat: 1,
        hold_ms: u32::try_from(duration.as_millis()).unwrap_or(u32::MAX),
        adds_modifiers: true,
    }))
}

/// Waits, up to 300 s: 0.5 s after a palette or window switch, 0.5 to 1 s after Return, 1 to 2 s for a
/// command.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Pause {
    /// How long, in seconds, 0 to 300.
    #[schemars(range(min = 0, max = 300))]
    duration: f64,
}

async fn wait(_: Arc<Server>, asked: Pause, call: Call) -> Result<Reply, ToolError> {
    let wait = Wait {
        seconds: asked.duration,
    };
    let duration = wait.duration().map_err(ActError::from)?;
    let pause = perform::pause(duration, &call.cancel, &call.progress);
    // A button that is held stays so: nothing was done that could have failed.
    pause
        .await
        .map_err(|_| ToolError::new("the wait was cancelled", "Nothing was changed by it."))?;
    Ok(Reply::text(format!("Waited {} s.", asked.duration)))
}
