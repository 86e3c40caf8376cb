//! Waiting for the screen, the VM and its guest.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    gallery,
    model::{
        Capability, Condition, VmName, WaitFor,
        act::{Change, Console, Image, Port, Ssh, Stable, State, Text},
    },
    perform::ActError,
    vm::Vm,
    watch,
};

use super::{
    Server,
    error::ToolError,
    off_thread,
    reply::Reply,
    schema::{self, Json, decode_part},
    screen::{self, IfChanged},
    tool::{Call, Effect, Tool},
};

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::on_vm::<Parameters, _, _>(
            "wait_for",
            "Wait for something to happen",
            Capability::View,
            Effect::Reads,
            wait_for,
        )
        .shown_as(show_flat_conditions),
    ]
}

/// Waits until one of several conditions holds and says which: instead of guessing with `wait`.
/// Conditions: `stable` (the screen is still for `ms`; small things such as a blinking cursor are
/// let pass), `change` (the screen differs by `share` of its pixels from the last picture that was shown, or
/// in a batch from how it was before the actions just done; 0.001 of 1280×800 is 1024 pixels, some 20
/// letters, so give a region for less), `text` (a regular expression is found in what `screen_text`
/// reads; the screen is read only when it changed), `ssh` (the guest's
/// SSH server can be logged in to), `port` (a TCP port of the guest takes connections), `state` (the
/// VM is running, shutoff, …), `console` (the guest writes to its serial console, from now on, what a
/// regular expression finds; needs the grant `console`), `image` (a saved picture, or a part of one, is
/// seen; the reply tells its box and its middle, to click on; a file needs the grant `files`). On time-out it fails with a picture of the screen. Others may act
/// meanwhile; the screen is looked at about five times a second, for at most a tenth of a host
/// core; OCR and searching for pictures take more while the screen changes. Example: [{"condition": "stable"}] after opening a program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// What to wait for, any of 1 to 16: `condition` is a name, the other fields belong to it.
    conditions: Vec<Map<String, Value>>,
    /// How long at most, in seconds, 0.1 to 300.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 0.1, max = 300))]
    timeout: f64,
}

fn default_timeout() -> f64 {
    WaitFor::DEFAULT_TIMEOUT
}

impl Parameters {
    /// The act, with each condition checked by its own rules.
    pub(crate) fn act(self) -> Result<WaitFor, ToolError> {
        let conditions = self.conditions.into_iter().enumerate().map(|(at, item)| {
            condition(item).map_err(|error| error.during(&format!("`conditions[{at}]`")))
        });
        Ok(WaitFor {
            conditions: conditions.collect::<Result<_, _>>()?,
            timeout: self.timeout,
        })
    }
}

fn condition(mut item: Json) -> Result<Condition, ToolError> {
    let name = match item.remove("condition") {
        Some(Value::String(name)) => name,
        Some(_) => {
            return Err(ToolError::new("`condition` must be a string", known()));
        }
        None => return Err(ToolError::new("`condition` is missing", known())),
    };
    match name.as_str() {
        "stable" => decode_part(item).map(Condition::Stable),
        "change" => decode_part(item).map(Condition::Change),
        "text" => decode_part(item).map(Condition::Text),
        "ssh" => decode_part(item).map(Condition::Ssh),
        "port" => decode_part(item).map(Condition::Port),
        "state" => decode_part(item).map(Condition::State),
        "console" => decode_part(item).map(Condition::Console),
        "image" => decode_part(item).map(Condition::Image),
        _ => Err(
            ToolError::new(format!("there is no condition `{name}`"), known())
                .logged_as("there is no such condition"),
        ),
    }
}

fn known() -> String {
    format!("Conditions are {}.", Condition::NAMES.join(", "))
}

/// Shows the conditions as one flat object: the union of all their fields, each with the conditions
/// that take it. Decoding stays with each condition's own type.
fn show_flat_conditions(input: &mut Json) {
    let parts: [(&str, Json); 8] = [
        ("stable", schema::of::<Stable>().1),
        ("change", schema::of::<Change>().1),
        ("text", schema::of::<Text>().1),
        ("ssh", schema::of::<Ssh>().1),
        ("port", schema::of::<Port>().1),
        ("state", schema::of::<State>().1),
        ("console", schema::of::<Console>().1),
        ("image", schema::of::<Image>().1),
    ];
    let mut fields = Map::new();
    fields.insert(
        "condition".to_owned(),
        json!({"type": "string", "enum": Condition::NAMES}),
    );
    for (condition, part) in parts {
        let Some(Value::Object(properties)) = part.get("properties") else {
            continue;
        };
        for (name, property) in properties {
            let text = property["description"].as_str().unwrap_or_default();
            if let Some(known) = fields.get_mut(name) {
                let both = known["description"].as_str().unwrap_or_default();
                known["description"] = json!(both.replacen(':', &format!(", {condition}:"), 1));
            } else {
                let mut property = property.clone();
                property["description"] = json!(format!("of {condition}: {text}"));
                fields.insert(name.clone(), property);
            }
        }
    }
    let items = json!({"type": "object", "properties": fields, "required": ["condition"]});
    if let Some(conditions) = input
        .get_mut("properties")
        .and_then(|properties| properties.get_mut("conditions"))
    {
        conditions["items"] = items;
    }
}

/// Reads the saved pictures that a wait looks for.
pub(crate) async fn read_pictures(
    server: &Arc<Server>,
    vm: &Arc<Vm>,
    what: &mut WaitFor,
) -> Result<(), ToolError> {
    for (at, condition) in what.conditions.iter_mut().enumerate() {
        let Condition::Image(image) = condition else {
            continue;
        };
        let (server, vm, wanted) = (Arc::clone(server), Arc::clone(vm), image.clone());
        let loaded = off_thread(move || {
            let shown = |native| vm.shown(native);
            gallery::load(
                &server.gallery,
                &server.journal,
                &server.host_paths,
                shown,
                &wanted,
            )
        });
        let picture = loaded
            .await?
            .map_err(|error| ToolError::from(error).during(&format!("`conditions[{at}]`")))?;
        image.picture = Some(picture.into());
    }
    Ok(())
}

async fn wait_for(
    server: Arc<Server>,
    vm: Option<VmName>,
    parameters: Parameters,
    call: Call,
) -> Result<Reply, ToolError> {
    let mut what = parameters.act()?;
    what.check().map_err(ActError::from)?;
    let vm = server.fleet.vm(vm, Capability::View).await?;
    for capability in what.needs() {
        server.fleet.vm(Some(vm.name().clone()), capability).await?;
    }
    read_pictures(&server, &vm, &mut what).await?;
    match watch::wait_for(
        &vm,
        &server.guests,
        &what,
        watch::Before::new(),
        &call.progress,
    )
    .await
    {
        Ok(text) => Ok(Reply::text(text)),
        Err(error) => {
            let last = error.last().cloned();
            let mut reply = Reply::error(&ActError::from(error).into());
            if let Some(shot) = last {
                screen::show(&server, vm.name(), shot, IfChanged::No, &mut reply).await?;
            }
            Ok(reply)
        }
    }
}
