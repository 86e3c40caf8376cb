//! Whether a value is as a JSON schema says, for the part of JSON schema that our tools use. A keyword
//! that is not known here is an error, so that nothing passes unchecked.
#![allow(unreachable_pub, reason = "it is a module of test files")]

use serde_json::{Map, Value};

pub fn check(value: &Value, schema: &Value) -> Result<(), String> {
    let Value::Object(rules) = schema else {
        return match schema {
            Value::Bool(true) => Ok(()),
            _ => Err(format!("no schema allows {value}")),
        };
    };
    for (keyword, rule) in rules {
        let holds = match keyword.as_str() {
            "description" | "default" | "properties" => true,
            "type" => is_a(value, rule),
            "enum" => rule.as_array().is_some_and(|values| values.contains(value)),
            "const" => rule == value,
            "minimum" => value.as_f64() >= rule.as_f64(),
            "maximum" => value.as_f64() <= rule.as_f64(),
            "minItems" | "maxItems" => {
                let items = value.as_array().map(Vec::len);
                let limit = rule.as_u64().and_then(|limit| usize::try_from(limit).ok());
                match (items, limit) {
                    (Some(items), Some(limit)) if keyword == "minItems" => items >= limit,
                    (Some(items), Some(limit)) => items <= limit,
                    _ => false,
                }
            }
            "required" => rule.as_array().is_some_and(|names| {
                let has = |name: &Value| name.as_str().is_some_and(|it| value.get(it).is_some());
                names.iter().all(has)
            }),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(item, rule)?;
                }
                true
            }
            "anyOf" | "oneOf" => rule
                .as_array()
                .is_some_and(|choices| choices.iter().any(|choice| check(value, choice).is_ok())),
            "additionalProperties" => {
                let known = rules.get("properties").and_then(Value::as_object);
                others(value, known).try_for_each(|it| check(it, rule))?;
                true
            }
            other => return Err(format!("the keyword {other} is not known to this check")),
        };
        if !holds {
            return Err(format!("{value} does not fit {keyword} {rule}"));
        }
    }
    let properties = rules.get("properties").and_then(Value::as_object);
    for (name, rule) in properties.into_iter().flatten() {
        if let Some(field) = value.get(name) {
            check(field, rule).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    // Ours promise all that they give.
    if rules.contains_key("properties")
        && !rules.contains_key("additionalProperties")
        && let Some(unknown) = others(value, properties).next()
    {
        return Err(format!("{unknown} is in no property of the schema"));
    }
    Ok(())
}

/// Fields of an object that its schema does not name.
fn others<'a>(
    value: &'a Value,
    known: Option<&'a Map<String, Value>>,
) -> impl Iterator<Item = &'a Value> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter(move |(name, _)| known.is_none_or(|known| !known.contains_key(*name)))
        .map(|(_, field)| field)
}

fn is_a(value: &Value, kind: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| is_a(value, kind)),
        kind => match kind.as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("number") => value.is_number(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            _ => false,
        },
    }
}
