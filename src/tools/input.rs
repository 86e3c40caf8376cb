//! Mouse, keyboard, waiting, and batches of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    model::{
        Act, Capability, Click, Drag, Grants, MouseButton, MoveMouse, PressKeys, Scroll, Secret,
        TakeScreenshot, TypeText, VmName, Wait,
    },
    perform::{self, Outcome},
    vm::Vm,
};

use super::{
    Server,
    error::ToolError,
    reply::Reply,
    schema::{self, Json, decode_part},
    screen::{self, IfChanged},
    tool::{Call, Effect, Tool},
    waiting,
};

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        single::<MoveMouse>(
            "move_mouse",
            "Move the mouse pointer",
            Effect::Sets,
            Act::MoveMouse,
        ),
        single::<Click>("click", "Click a mouse button", Effect::Acts, Act::Click),
        single::<Drag>("drag", "Drag with the mouse", Effect::Acts, Act::Drag),
        single::<Scroll>("scroll", "Turn the mouse wheel", Effect::Acts, Act::Scroll),
        single::<TypeText>("type_text", "Type text", Effect::Acts, Act::TypeText),
        single::<PressKeys>("press_keys", "Press keys", Effect::Acts, Act::PressKeys),
        Tool::new::<Wait, _, _>("wait", "Wait", None, Effect::Reads, wait),
        Tool::on_vm::<RunActions, _, _>(
            "run_actions",
            "Run a batch of actions",
            Capability::Input,
            Effect::Acts,
            run_actions,
        )
        .shown_as(show_flat_items),
    ]
}

fn single<A>(name: &'static str, title: &'static str, effect: Effect, to_act: fn(A) -> Act) -> Tool
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
{
    Tool::on_vm(
        name,
        title,
        Capability::Input,
        effect,
        move |server: Arc<Server>, vm, act: A, call| perform_one(server, vm, to_act(act), call),
    )
}

async fn perform_one(
    server: Arc<Server>,
    vm: Option<VmName>,
    act: Act,
    call: Call,
) -> Result<Reply, ToolError> {
    let vm = server.fleet.vm(vm, Capability::Input).await?;
    Ok(Reply::text(
        perform_all(&server, &vm, vec![act], call).await?,
    ))
}

/// Performs acts that belong together, and tells the last one in words.
pub(crate) async fn perform_all(
    server: &Server,
    vm: &Arc<Vm>,
    mut acts: Vec<Act>,
    call: Call,
) -> Result<String, ToolError> {
    let count = acts.len();
    read_secrets(server, &mut acts, &call)
        .await
        .map_err(|(_, error)| error)?;
    let outcomes = perform::perform(vm, &server.guests, acts, call.cancel, call.progress)
        .await
        .map_err(|refused| ToolError::from(*refused.error))?;
    let mut text = String::new();
    for (at, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Outcome::Done(done) => text = done.text,
            Outcome::Failed(error) if count == 1 => return Err(error.into()),
            Outcome::Failed(error) => {
                let part = format!("part {} of {count} failed", at + 1);
                return Err(ToolError::from(error).during(&part));
            }
            Outcome::NotRun => break,
        }
    }
    Ok(text)
}

/// Reads the secrets that acts type, each once; says which act cannot be done.
async fn read_secrets(
    server: &Server,
    acts: &mut [Act],
    call: &Call,
) -> Result<(), (usize, ToolError)> {
    perform::check(acts).map_err(|it| (it.at, ToolError::from(*it.error)))?;
    let mut read: BTreeMap<String, Secret> = BTreeMap::new();
    for (at, act) in acts.iter_mut().enumerate() {
        let Act::TypeText(typing) = act else {
            continue;
        };
        let Some(name) = &typing.secret else {
            continue;
        };
        if !read.contains_key(name) {
            let secret = server.secrets.read(name, &call.cancel).await;
            read.insert(name.clone(), secret.map_err(|error| (at, error.into()))?);
        }
        typing.read = read.get(name).cloned();
    }
    Ok(())
}

async fn wait(_: Arc<Server>, wait: Wait, call: Call) -> Result<Reply, ToolError> {
    let duration = wait.duration().map_err(perform::ActError::from)?;
    perform::pause(duration, &call.cancel, &call.progress).await?;
    Ok(Reply::text(format!("Waited {} s.", wait.seconds)))
}

/// Runs several actions in one call, in order: faster than single calls, and nothing comes
/// between them. All are checked before the first runs; the first failure stops the batch, and
/// each action is reported as done, failed or not run. `mouse_button` holds a button between actions, and with
/// state `release_all` lets go of every button and modifier; what is still down at the end is let go of. At most 1000 actions, whose waits add up to an hour. Example: [{"action": "press_keys", "keys":
/// ["Ctrl", "l"]}, {"action": "type_text", "text": "example.org\n"}, {"action": "wait", "seconds":
/// 2}] with screenshot "end".
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunActions {
    /// The actions: `action` is the name of a tool, the other fields are that tool's parameters.
    actions: Vec<Map<String, Value>>,
    /// A picture at the end of the reply: never, always, or after a failure. It waits up to 2 s for
    /// the screen to be still.
    #[serde(default)]
    screenshot: FinalPicture,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum FinalPicture {
    #[default]
    None,
    End,
    OnError,
}

async fn run_actions(
    server: Arc<Server>,
    vm: Option<VmName>,
    batch: RunActions,
    call: Call,
) -> Result<Reply, ToolError> {
    if batch.actions.is_empty() {
        return Err(ToolError::new(
            "`actions` is empty",
            "Give at least one action.",
        ));
    }
    if batch.actions.len() > MAX_ACTIONS {
        return Err(ToolError::new(
            format!(
                "`actions` has {} items, and can have {MAX_ACTIONS}; nothing was done",
                batch.actions.len()
            ),
            "Divide them into several batches, and look at the screen between those.",
        ));
    }
    let mut acts = batch
        .actions
        .into_iter()
        .enumerate()
        .map(|(at, item)| decode_step(item).map_err(|error| refused(at, error)))
        .collect::<Result<Vec<_>, _>>()?;
    let vm = server.fleet.vm(vm, Capability::Input).await?;
    // A batch needs what its parts need.
    let mut needs: Grants = acts.iter().flat_map(Act::needs).collect();
    if batch.screenshot != FinalPicture::None {
        needs.extend([Capability::View]);
    }
    for capability in needs {
        let vm = Some(vm.name().clone());
        server.fleet.vm(vm, capability).await?;
    }
    for (at, act) in acts.iter_mut().enumerate() {
        if let Act::WaitFor(what) = act {
            let reading = waiting::read_pictures(&server, &vm, what);
            reading.await.map_err(|error| refused(at, error))?;
        }
    }
    read_secrets(&server, &mut acts, &call)
        .await
        .map_err(|(at, error)| refused(at, error))?;
    let steps: Vec<_> = acts
        .iter()
        .map(|act| (act.name(), if_changed(act)))
        .collect();
    for (at, act) in acts.iter().enumerate() {
        act.check()
            .map_err(|bad| refused(at, perform::ActError::from(bad).into()))?;
    }
    let interval = vm.typing_interval();
    let pauses: Duration = acts.iter().map(|act| act.pause(interval)).sum();
    if pauses > MAX_PAUSES {
        return Err(ToolError::new(
            format!(
                "the waits, holds and time limits of `actions` add up to {} s, and can be {} s; nothing was \
                 done",
                pauses.as_secs_f64().ceil(),
                MAX_PAUSES.as_secs()
            ),
            "Divide them into several batches, or wait for less.",
        ));
    }
    let report = perform::perform_batch(&vm, &server.guests, acts, call.cancel, call.progress)
        .await
        .map_err(|it| refused(it.at, (*it.error).into()))?;
    let outcomes = report.outcomes;

    let mut reply = Reply::default();
    // Whether the screen as it is in the end was shown already.
    let mut is_shown = false;
    let done = outcomes
        .iter()
        .filter(|it| matches!(it, Outcome::Done(_)))
        .count();
    reply.add_line(&format!("{done} of {} actions were done.", steps.len()));
    for (at, ((name, if_changed), outcome)) in steps.iter().zip(outcomes).enumerate() {
        let at = at + 1;
        match outcome {
            Outcome::Done(done) => {
                reply.add_line(&format!("{at}. {name}: done. {}", done.text));
                if let Some(shot) = done.shot {
                    screen::show(&server, vm.name(), shot, *if_changed, &mut reply).await?;
                }
            }
            Outcome::Failed(error) => {
                let last = error.last().cloned();
                let error = ToolError::from(error);
                reply.add_line(&format!("{at}. {name}: failed. {}", error.text()));
                reply.failed_with(&error);
                if let Some(shot) = last {
                    screen::show(&server, vm.name(), shot, IfChanged::No, &mut reply).await?;
                    is_shown = true;
                }
            }
            Outcome::NotRun => reply.add_line(&format!("{at}. {name}: not run.")),
        }
    }
    match report.let_go {
        Ok(buttons) if buttons.is_empty() => {}
        Ok(buttons) => reply.add_line(&format!(
            "At the end, what was still down was let go of: the {} button.",
            perform::names(&buttons)
        )),
        Err(error) => {
            let error = ToolError::from(error);
            reply.add_line(&format!(
                "At the end, letting go of what was down failed. {}",
                error.text()
            ));
            reply.failed_with(&error);
        }
    }
    let wanted = match batch.screenshot {
        FinalPicture::None => false,
        FinalPicture::End => true,
        FinalPicture::OnError => reply.is_error(),
    };
    if wanted && !is_shown {
        screen::add_look(&server, &vm, &mut reply).await;
    }
    Ok(reply)
}

fn if_changed(act: &Act) -> IfChanged {
    match act {
        Act::TakeScreenshot(what) => IfChanged::of(what),
        _ => IfChanged::No,
    }
}

fn refused(at: usize, error: ToolError) -> ToolError {
    error.during(&format!(
        "action {} is refused, and nothing was done",
        at + 1
    ))
}

/// The most actions of a batch, and how long all its waits can be together: a batch ends some day.
const MAX_ACTIONS: usize = 1000;
const MAX_PAUSES: Duration = Duration::from_hours(1);

/// The pause of a batch's `wait` that does not say how long.
const DEFAULT_WAIT: f64 = 0.5;

fn decode_step(mut item: Json) -> Result<Act, ToolError> {
    let name = match item.remove("action") {
        Some(Value::String(name)) => name,
        Some(_) => {
            return Err(ToolError::new("`action` must be a string", known_actions()));
        }
        None => return Err(ToolError::new("`action` is missing", known_actions())),
    };
    match name.as_str() {
        "move_mouse" => decode_part(item).map(Act::MoveMouse),
        "click" => decode_part(item).map(Act::Click),
        "drag" => decode_part(item).map(Act::Drag),
        "scroll" => decode_part(item).map(Act::Scroll),
        "mouse_button" => decode_part(item).map(Act::MouseButton),
        "type_text" => decode_part(item).map(Act::TypeText),
        "press_keys" => decode_part(item).map(Act::PressKeys),
        "wait" => {
            item.entry("seconds").or_insert(json!(DEFAULT_WAIT));
            decode_part(item).map(Act::Wait)
        }
        "take_screenshot" => decode_part(item).map(Act::TakeScreenshot),
        "wait_for" => decode_part::<waiting::Parameters>(item)?
            .act()
            .map(Act::WaitFor),
        _ => Err(
            ToolError::new(format!("there is no action `{name}`"), known_actions())
                .logged_as("there is no such action"),
        ),
    }
}

fn known_actions() -> String {
    format!("Actions are {}.", Act::NAMES.join(", "))
}

/// Shows a batch's items as one flat object: the union of all actions' fields, each with the
/// actions that take it. Decoding stays with each action's own type.
fn show_flat_items(input: &mut Json) {
    let parts: [(&str, Json); 10] = [
        ("move_mouse", schema::of::<MoveMouse>().1),
        ("click", schema::of::<Click>().1),
        ("drag", schema::of::<Drag>().1),
        ("scroll", schema::of::<Scroll>().1),
        ("mouse_button", schema::of::<MouseButton>().1),
        ("type_text", schema::of::<TypeText>().1),
        ("press_keys", schema::of::<PressKeys>().1),
        ("wait", schema::of::<Wait>().1),
        ("take_screenshot", schema::of::<TakeScreenshot>().1),
        ("wait_for", schema::of::<waiting::Parameters>().1),
    ];
    let mut fields = Map::new();
    fields.insert(
        "action".to_owned(),
        json!({"type": "string", "enum": Act::NAMES}),
    );
    for (action, part) in parts {
        let Some(Value::Object(properties)) = part.get("properties") else {
            continue;
        };
        for (name, property) in properties {
            let known = fields.entry(name.clone()).or_insert_with(|| {
                let mut property = property.clone();
                if let Value::Object(property) = &mut property {
                    property.remove("description");
                    property.remove("default");
                }
                property
            });
            let takers = match known["description"].as_str() {
                Some(takers) => format!("{takers}, {action}"),
                None => format!("of {action}"),
            };
            known["description"] = json!(takers);
        }
    }
    if let Some(seconds) = fields.get_mut("seconds") {
        seconds["description"] = json!("of wait; 0.5 where missing");
    }
    let items = json!({"type": "object", "properties": fields, "required": ["action"]});
    if let Some(actions) = input
        .get_mut("properties")
        .and_then(|properties| properties.get_mut("actions"))
    {
        actions["items"] = items;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(item: Value) -> Result<Act, String> {
        let Value::Object(item) = item else {
            unreachable!("the cases are objects")
        };
        decode_step(item).map_err(|error| error.line())
    }

    #[test]
    fn steps_are_decoded_as_the_tools_are() {
        assert_eq!(
            step(json!({"action": "wait"})),
            Ok(Act::Wait(Wait { seconds: 0.5 }))
        );
        assert_eq!(
            step(json!({"action": "click", "button": "right"})).map(|act| act.name()),
            Ok("click")
        );
        let cases = [
            (json!({}), "`action` is missing"),
            (json!({"action": 1}), "`action` must be a string"),
            (json!({"action": "hunter2"}), "there is no such action"),
            (
                json!({"action": "wait", "vm": "x"}),
                "there is no such parameter",
            ),
            (
                json!({"action": "press_keys"}),
                "the parameter `keys` is missing",
            ),
        ];
        for (item, line) in cases {
            assert_eq!(step(item).unwrap_err(), line);
        }
    }

    #[test]
    fn items_are_shown_as_one_flat_object() {
        let tool = tools().pop().unwrap();
        let items = &tool.input["properties"]["actions"]["items"];
        assert_eq!(
            items["properties"]["x"]["description"],
            "of move_mouse, click, scroll"
        );
        assert_eq!(items["properties"]["text"]["description"], "of type_text");
        assert_eq!(items["required"], json!(["action"]));
    }
}
