//! The tools as a table, for the README and `virtpilot tools`.

use std::fmt::Write;

use serde_json::Value;

use crate::config::Toolset;

use super::{all_tools, tool::Tool};

/// All tools of a toolset in Markdown, made from what clients are told.
pub fn reference(toolset: Toolset) -> String {
    let mut text = String::from("| tool | needs | what it does |\n|---|---|---|\n");
    for tool in all_tools(toolset) {
        let needs = tool.needs.map_or("", crate::model::Capability::as_str);
        let first = tool
            .description
            .split_inclusive(". ")
            .next()
            .unwrap_or_default()
            .trim_end();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{}` | {needs} | {first} |", signature(&tool));
    }
    text
}

/// `name(required, optional=default, [optional])`.
fn signature(tool: &Tool) -> String {
    let required: Vec<&str> = tool
        .input
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let none = serde_json::Map::new();
    let properties = tool
        .input
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let parameters = properties.iter().map(|(name, property)| {
        if required.contains(&name.as_str()) {
            return name.clone();
        }
        match property.get("default") {
            Some(default) => format!("{name}={default}"),
            None => format!("[{name}]"),
        }
    });
    format!(
        "{}({})",
        tool.name,
        parameters.collect::<Vec<_>>().join(", ")
    )
}
