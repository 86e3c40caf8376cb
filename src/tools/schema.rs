//! Parameters: their schemas as clients are shown them, and the one way they are decoded.
//!
//! The schema that is advertised is also what arguments are checked against, so that the two
//! cannot differ; the width of integers alone is checked and not told, since no model needs it.
//! Whatever is wrong is named together with what would be right.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::{Map, Value, json};

use crate::model::VmName;

use super::error::ToolError;

pub(crate) type Json = Map<String, Value>;

/// The description and the schema of a type: its doc comment and its fields.
pub(crate) fn of<T: JsonSchema>() -> (String, Json) {
    made_of::<T>(Formats::Left)
}

/// The schema of what a reply carries. In what ranges its numbers lie helps nobody who only reads them.
pub(crate) fn of_data<T: JsonSchema>() -> Json {
    let mut schema = Value::Object(of::<T>().1);
    without_ranges(&mut schema);
    match schema {
        Value::Object(schema) => schema,
        _ => Json::new(),
    }
}

fn without_ranges(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property may bear such a name too, and has a schema then instead of a number.
            for range in ["minimum", "maximum"] {
                if fields.get(range).is_some_and(Value::is_number) {
                    fields.remove(range);
                }
            }
            fields.values_mut().for_each(without_ranges);
        }
        Value::Array(items) => items.iter_mut().for_each(without_ranges),
        _ => {}
    }
}

/// The schema that arguments of a type are checked against.
pub(crate) fn rules_of<T: JsonSchema>() -> Json {
    made_of::<T>(Formats::Kept).1
}

/// Whether number formats stay in a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Formats {
    Kept,
    Left,
}

fn made_of<T: JsonSchema>(formats: Formats) -> (String, Json) {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    tidy(&mut schema, formats);
    let Value::Object(mut schema) = schema else {
        return Default::default();
    };
    let description = match schema.remove("description") {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    schema.entry("properties").or_insert_with(|| json!({}));
    (description, schema)
}

/// Takes out what costs a client tokens and tells it nothing: titles, number formats, and that
/// what may be left out may also be `null`.
fn tidy(schema: &mut Value, formats: Formats) {
    match schema {
        Value::Object(fields) => {
            // A field may be called so too; then it is no string but that field's schema.
            if fields.get("title").is_some_and(Value::is_string) {
                fields.remove("title");
            }
            if formats == Formats::Left && fields.get("format").is_some_and(Value::is_string) {
                fields.remove("format");
            }
            if fields.get("default").is_some_and(is_nothing) {
                fields.remove("default");
            }
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(only)] = choices.as_mut_slice() {
                    let only = std::mem::take(only);
                    fields.remove("anyOf");
                    for (key, value) in only {
                        fields.entry(key).or_insert(value);
                    }
                }
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            fields.values_mut().for_each(|it| tidy(it, formats));
        }
        Value::Array(items) => items.iter_mut().for_each(|it| tidy(it, formats)),
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// `vm` and an act's own parameters. Decoded by hand: serde's `flatten` would let unknown
/// parameters through.
pub(crate) struct OnVm<A> {
    pub(crate) vm: Option<VmName>,
    pub(crate) act: A,
}

impl<'de, A: DeserializeOwned> Deserialize<'de> for OnVm<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Json::deserialize(deserializer)?;
        let vm = fields
            .remove("vm")
            .map(serde_json::from_value)
            .transpose()
            .map_err(D::Error::custom)?;
        let act = serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)?;
        Ok(Self { vm, act })
    }
}

impl<A: JsonSchema> JsonSchema for OnVm<A> {
    fn schema_name() -> Cow<'static, str> {
        A::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = A::json_schema(generator);
        let vm =
            json!({"type": "string", "description": "Which VM; the default VM where missing."});
        match schema.get_mut("properties") {
            Some(Value::Object(properties)) => {
                properties.insert("vm".to_owned(), vm);
            }
            _ => {
                schema.insert("properties".to_owned(), json!({"vm": vm}));
            }
        }
        schema
    }
}

/// Checks arguments against the schema and makes them into what the tool runs on.
pub(crate) fn decode<T: DeserializeOwned>(arguments: Json, schema: &Json) -> Result<T, ToolError> {
    let arguments = check(arguments, schema)?;
    serde_json::from_value(Value::Object(arguments)).map_err(|error| {
        ToolError::new(
            format!("the parameters do not fit: {error}"),
            "Correct the value and call again; nothing was done.",
        )
        .logged_as("the parameters do not fit")
    })
}

/// Likewise a part of a tool's arguments, such as a batch's step, by its own type's schema.
pub(crate) fn decode_part<T: DeserializeOwned + JsonSchema>(part: Json) -> Result<T, ToolError> {
    decode(part, &rules_of::<T>())
}

fn check(arguments: Json, schema: &Json) -> Result<Json, ToolError> {
    let none = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut checked = Map::new();
    for (name, value) in arguments {
        let Some(property) = properties.get(&name) else {
            return Err(unknown(&name, properties));
        };
        if value.is_null() && !required.contains(&name.as_str()) {
            continue;
        }
        checked.insert(name.clone(), check_value(&name, value, property)?);
    }
    for name in required {
        if !checked.contains_key(name) {
            return Err(ToolError::new(
                format!("the parameter `{name}` is missing"),
                format!("Give it: {}", describe(name, properties)),
            ));
        }
    }
    Ok(checked)
}

/// The longest name that a message quotes whole.
const QUOTED: usize = 64;

fn unknown(name: &str, properties: &Json) -> ToolError {
    let end = name.floor_char_boundary(QUOTED);
    let (name, more) = match &name[..end] {
        whole if whole.len() == name.len() => (whole, ""),
        cut => (cut, "…"),
    };
    let near = properties
        .keys()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default();
    let accepted: Vec<_> = properties.keys().map(|name| format!("`{name}`")).collect();
    let hint = if accepted.is_empty() {
        "It takes no parameters.".to_owned()
    } else {
        format!("Accepted are {}.", accepted.join(", "))
    };
    // Something typed may have slipped into the name's place.
    ToolError::new(format!("there is no parameter `{name}{more}`{near}"), hint)
        .logged_as("there is no such parameter")
}

fn describe(name: &str, properties: &Json) -> String {
    let property = properties.get(name).unwrap_or(&Value::Null);
    let kind = property["type"].as_str().unwrap_or("value");
    match property["description"].as_str() {
        Some(text) => format!("{kind}. {text}"),
        None => format!("{kind}."),
    }
}

fn check_value(name: &str, value: Value, property: &Value) -> Result<Value, ToolError> {
    let Some(kind) = property["type"].as_str() else {
        return Ok(value);
    };
    let value = match value {
        // Some clients send lists, numbers and booleans as JSON in a string.
        Value::String(text) if kind != "string" => match serde_json::from_str::<Value>(&text) {
            Ok(inner) if is_a(kind, &inner) => inner,
            _ => return Err(wrong_type(name, kind, &Value::String(text))),
        },
        value => value,
    };
    if !is_a(kind, &value) {
        return Err(wrong_type(name, kind, &value));
    }
    if let Some(choices) = property["enum"].as_array()
        && !choices.contains(&value)
    {
        let choices: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
        return Err(ToolError::new(
            format!("`{name}` is {value}, which is none of its values"),
            format!("Allowed are {}.", choices.join(", ")),
        )
        .logged_as(format!("`{name}` is none of its values")));
    }
    check_range(name, &value, property)?;
    if let (Value::Array(items), Some(item)) = (&value, property.get("items")) {
        let items = items
            .iter()
            .enumerate()
            .map(|(at, value)| check_value(&format!("{name}[{at}]"), value.clone(), item))
            .collect::<Result<Vec<_>, _>>()?;
        let fewest = property["minItems"].as_u64().unwrap_or(0);
        let most = property["maxItems"].as_u64().unwrap_or(u64::MAX);
        if !(fewest..=most).contains(&(items.len() as u64)) {
            let takes = match most {
                u64::MAX => format!("{fewest} or more"),
                most if most == fewest => fewest.to_string(),
                most => format!("{fewest} to {most}"),
            };
            return Err(ToolError::new(
                format!("`{name}` has {} items", items.len()),
                format!("It takes {takes}."),
            ));
        }
        return Ok(Value::Array(items));
    }
    if let (Value::Object(fields), Some(field)) = (&value, property.get("additionalProperties"))
        && field.is_object()
    {
        let checked = |(key, value): (&String, &Value)| {
            let value = check_value(&format!("{name}.{key}"), value.clone(), field)?;
            Ok((key.clone(), value))
        };
        return Ok(Value::Object(
            fields
                .iter()
                .map(checked)
                .collect::<Result<_, ToolError>>()?,
        ));
    }
    // JSON knows no integers: 3.0 is one.
    match value.as_f64() {
        Some(float) if kind == "integer" && value.is_f64() => Ok(json!(whole(float))),
        _ => Ok(value),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`is_a` lets only whole numbers below 2^53 through"
)]
fn whole(float: f64) -> i64 {
    float as i64
}

fn check_range(name: &str, value: &Value, property: &Value) -> Result<(), ToolError> {
    let Some(number) = value.as_f64() else {
        return Ok(());
    };
    let (narrowest, widest) = match property["format"].as_str() {
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        _ => (None, None),
    };
    let least = property["minimum"].as_f64().or(narrowest);
    let most = property["maximum"].as_f64().or(widest);
    let inside =
        least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
    if inside {
        return Ok(());
    }
    let limits = match (least, most) {
        (Some(least), Some(most)) => format!("from {least} to {most}"),
        (Some(least), None) => format!("{least} or more"),
        (None, Some(most)) => format!("{most} or less"),
        (None, None) => return Ok(()),
    };
    Err(ToolError::new(
        format!("`{name}` is {value}, and must be {limits}"),
        "Correct the value and call again; nothing was done.",
    ))
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|number| {
            // Past 2^53 a float is no exact integer.
            number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0
        }),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn wrong_type(name: &str, kind: &str, value: &Value) -> ToolError {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let must = match kind {
        "integer" => "an integer",
        "array" => "a list",
        "object" => "an object",
        "boolean" => "true or false",
        "number" => "a number",
        _ => "a string",
    };
    ToolError::new(
        format!("`{name}` must be {must}, and is {is}"),
        "Correct the value and call again; nothing was done.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Click, MoveMouse, PressKeys, TakeScreenshot, Wait};

    fn decoded<T: DeserializeOwned + JsonSchema>(arguments: Value) -> Result<T, String> {
        let Value::Object(arguments) = arguments else {
            unreachable!("the cases are objects")
        };
        decode(arguments, &rules_of::<T>()).map_err(|error| error.text())
    }

    #[test]
    fn a_schema_is_flat_and_without_noise() {
        let (description, schema) = of::<Click>();
        assert!(description.starts_with("Clicks a mouse button, at x,y"));
        assert_eq!(
            Value::Object(schema),
            json!({
                "type": "object",
                "properties": {
                    "button": {
                        "description": "Which button.",
                        "type": "string",
                        "enum": ["left", "middle", "right", "back", "forward"],
                        "default": "left",
                    },
                    "count": {
                        "description": "How many times, 1 to 10.",
                        "type": "integer", "minimum": 1, "maximum": 10, "default": 1,
                    },
                    "x": {
                        "description": "Column in pixels of the screenshot; needs `y`.",
                        "type": "integer",
                    },
                    "y": {
                        "description": "Row in pixels of the screenshot; needs `x`.",
                        "type": "integer",
                    },
                    "modifiers": {
                        "description": "Keys held down during the click, such as [\"Ctrl\"] or [\"Shift\"].",
                        "type": "array", "items": {"type": "string"},
                    },
                },
                "additionalProperties": false,
            })
        );
    }

    #[test]
    fn a_field_called_title_stays() {
        #[derive(JsonSchema)]
        struct Titled {
            #[expect(dead_code, reason = "only its schema is looked at")]
            title: String,
        }
        let (_, schema) = of::<Titled>();
        assert_eq!(schema["properties"], json!({"title": {"type": "string"}}));
    }

    #[test]
    fn json_in_strings_nulls_and_whole_floats_are_accepted() {
        let motion: MoveMouse = decoded(json!({"x": "10", "y": 20.0, "mode": null})).unwrap();
        assert_eq!((motion.x, motion.y), (10, 20));
        let press: PressKeys = decoded(json!({"keys": "[\"Ctrl\", \"l\"]"})).unwrap();
        assert_eq!(press.keys, ["Ctrl", "l"]);
        for region in [json!("[0, 1, 2, 3]"), json!(["0", 1.0, "2", 3])] {
            let look: TakeScreenshot = decoded(json!({ "region": region })).unwrap();
            assert_eq!(look.region.unwrap().to_string(), "[0, 1, 2, 3]");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let cases = [
            (
                json!({"x": 1, "z": 2}),
                "There is no parameter `z`; did you mean `x`?\nNext: Accepted are `x`, `y`, `mode`.",
            ),
            (
                json!({"x": 1}),
                "The parameter `y` is missing.\nNext: Give it: integer. Row in pixels of the \
                 screenshot; with mode `relative` the offset downwards.",
            ),
            (
                json!({"x": 1.5, "y": 1}),
                "`x` must be an integer, and is a number.\nNext: Correct the value and call \
                 again; nothing was done.",
            ),
            (
                json!({"x": "one", "y": 1}),
                "`x` must be an integer, and is a string.\nNext: Correct the value and call \
                 again; nothing was done.",
            ),
            (
                json!({"x": 1, "y": 1, "mode": "sideways"}),
                "`mode` is \"sideways\", which is none of its values.\nNext: Allowed are \
                 absolute, relative.",
            ),
            (
                json!({"x": null, "y": 1}),
                "`x` must be an integer, and is null.\nNext: Correct the value and call again; \
                 nothing was done.",
            ),
        ];
        for (arguments, text) in cases {
            assert_eq!(decoded::<MoveMouse>(arguments).unwrap_err(), text);
        }
        let error = decoded::<Wait>(json!({"seconds": -1})).unwrap_err();
        assert!(error.starts_with("`seconds` is -1, and must be from 0 to 300."));
        let error = decoded::<PressKeys>(json!({"keys": ["a", 1]})).unwrap_err();
        assert!(error.starts_with("`keys[1]` must be a string, and is a number."));
        let error = decoded::<MoveMouse>(json!({"x": 3_000_000_000_u32, "y": 1})).unwrap_err();
        assert!(
            error.starts_with("`x` is 3000000000, and must be from -2147483648 to 2147483647."),
            "{error}"
        );
        let error = decoded::<TakeScreenshot>(json!({"head": 4_294_967_296_u64})).unwrap_err();
        assert!(
            error.starts_with("`head` is 4294967296, and must be from 0 to 4294967295."),
            "{error}"
        );
    }
}
