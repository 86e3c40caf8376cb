//! What was done: the active project, its log for people and its log for programs.
//!
//! No secret comes in: only parameters on a list of harmless ones are written out, typed text
//! is told by its length, a command by its beginning with configured secrets masked. A key that
//! types a character is told only where it is part of a shortcut: a password may be typed key by
//! key.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{SecondsFormat, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    capture::Shot,
    keyboard::{self, BadKeys, Layout, types_character},
    model::{
        Act, Button, ButtonState, Condition, Direction, ImageFormat, JobAction, JobId, KeyCode,
        MoveMode, OutputStream, SignalName, VmState,
    },
    secrets::Secrets,
    store::{Level, Project, Projects, ScreenshotId, StoreError},
};

/// Parameters whose text is written out. All other text is told by its length: what is not
/// known to be harmless may be a password in the wrong place.
const PLAIN: &[&str] = &[
    "cwd",
    "description",
    "filename",
    "local_path",
    "name",
    "path",
    "project_path",
    "remote_path",
    "title",
    "vm",
];

/// Parameters whose values are names of keys.
const KEYS: &[&str] = &["keys", "modifiers"];

/// Tools of the computer toolset whose `text` names keys and is not typed.
const KEY_TOOLS: &[&str] = &[
    "double_click",
    "hold_key",
    "key",
    "left_click",
    "left_click_drag",
    "middle_click",
    "right_click",
    "scroll",
    "triple_click",
];

/// Whether a text is one of the words that a parameter takes, which are written out as well.
fn is_word_of(name: &str, text: &str) -> bool {
    fn is_a<T: DeserializeOwned>(text: &str) -> bool {
        serde_json::from_value::<T>(json!(text)).is_ok()
    }
    match name {
        "action" => Act::NAMES.contains(&text) || is_a::<JobAction>(text),
        "button" => is_a::<Button>(text),
        "condition" => Condition::NAMES.contains(&text),
        "direction" | "scroll_direction" => is_a::<Direction>(text),
        "format" => is_a::<ImageFormat>(text),
        _ if KEYS.contains(&name) => is_key(text),
        "level" | "level_filter" => text.parse::<Level>().is_ok(),
        "mode" => is_a::<MoveMode>(text),
        "id" => text.parse::<JobId>().is_ok(),
        "screenshot" => ["none", "end", "on_error"].contains(&text),
        "signal" => text.parse::<SignalName>().is_ok(),
        "state" => is_a::<VmState>(text) || is_a::<ButtonState>(text),
        "stream" => is_a::<OutputStream>(text),
        _ => false,
    }
}

/// Whether this is the name of a key that types no character: those of `us` hold on each layout.
fn is_key(name: &str) -> bool {
    let is_known = |layout: &Layout| {
        let chord = layout.chord(&[name.to_owned()]);
        !matches!(chord, Err(BadKeys::Unknown { .. }))
    };
    !types_character(name) && Layout::us().is_some_and(is_known)
}

/// Whether a key makes the others of its chord a shortcut instead of text: Ctrl, Alt or Super, of
/// either side. AltGr and Shift only make other characters of them.
fn makes_shortcuts(key: &Value) -> bool {
    let Some(name) = key.as_str() else {
        return false;
    };
    let chord = Layout::us().and_then(|layout| layout.chord(&[name.to_owned()]).ok());
    chord.is_some_and(|chord| {
        chord
            .keys()
            .iter()
            .any(|key| KeyCode::OF_SHORTCUTS.contains(key))
    })
}

/// A longer list is told by its length: it is refused everywhere.
const MOST_ITEMS: usize = 1000;

/// So much of a shell command is written out.
const COMMAND_LENGTH: usize = 200;

/// The active project, and the record of every call. The project is the server's, not one
/// client's.
#[derive(Debug)]
pub struct Journal {
    projects: Projects,
    active: Mutex<Option<Arc<Project>>>,
    secrets: Arc<Secrets>,
}

/// A call that has ended.
#[derive(Debug)]
pub struct Entry<'a> {
    pub tool: &'a str,
    pub arguments: &'a Map<String, Value>,
    /// What went wrong, in one line and without anything typed.
    pub failure: Option<&'a str>,
    pub duration: Duration,
}

impl Journal {
    pub fn new(projects: Projects, secrets: Arc<Secrets>) -> Self {
        Self {
            projects,
            active: Mutex::default(),
            secrets,
        }
    }

    pub fn projects(&self) -> &Projects {
        &self.projects
    }

    pub fn active(&self) -> Option<Arc<Project>> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.clone()
    }

    pub fn activate(&self, project: Project) -> Arc<Project> {
        let project = Arc::new(project);
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        *active = Some(Arc::clone(&project));
        project
    }

    /// Writes a call into the active project, if there is one.
    pub fn record(&self, entry: &Entry<'_>) {
        let Some(project) = self.active() else {
            return;
        };
        let parameters = self.parameters(entry.tool, entry.arguments);
        let line = match entry.failure {
            None => (
                Level::Info,
                format!("TOOL: {}({})", entry.tool, in_words(&parameters)),
            ),
            Some(failure) => (
                Level::Error,
                format!("ERROR in {}: {}", entry.tool, self.secrets.mask(failure)),
            ),
        };
        let action = Action {
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            tool: entry.tool,
            parameters: &parameters,
            outcome: if entry.failure.is_none() {
                "done"
            } else {
                "failed"
            },
            error: entry.failure.map(|failure| self.secrets.mask(failure)),
            duration_ms: u64::try_from(entry.duration.as_millis()).unwrap_or(u64::MAX),
        };
        let written = project
            .log(line.0, &line.1)
            .and_then(|()| project.append_action(&action));
        if let Err(error) = written {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                project = project.folder(),
                "a call could not be written into the project"
            );
        }
    }

    /// Saves a picture into the active project; `None` where there is none.
    pub fn save_shot(
        &self,
        shot: &Shot,
    ) -> Result<Option<(ScreenshotId, PathBuf, String)>, StoreError> {
        let Some(project) = self.active() else {
            return Ok(None);
        };
        let original = shot
            .original()
            .map_err(|source| StoreError::BadPicture { source })?;
        let (id, path) =
            project.save_screenshot(ScreenshotId::now(), ImageFormat::Png, &original)?;
        Ok(Some((id, path, project.folder())))
    }

    fn parameters(&self, tool: &str, arguments: &Map<String, Value>) -> Map<String, Value> {
        let mut parameters = self.harmless(arguments);
        if let Some(Value::String(text)) = arguments.get("text")
            && KEY_TOOLS.contains(&tool)
            && let Ok(chords) = keyboard::chords_of(text)
        {
            let chords: Vec<_> = chords.iter().map(|keys| self.chord(keys)).collect();
            parameters.insert("text".to_owned(), json!(chords.join(" ")));
        }
        parameters
    }

    /// A chord as far as it may be told, in one word.
    fn chord(&self, keys: &[String]) -> String {
        let Value::Array(keys) = self.harmless_value("keys", &json!(keys)) else {
            return String::new();
        };
        let keys: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
        keys.join("+")
    }

    fn harmless(&self, arguments: &Map<String, Value>) -> Map<String, Value> {
        arguments
            .iter()
            .map(|(name, value)| (harmless_name(name), self.harmless_value(name, value)))
            .collect()
    }

    fn harmless_value(&self, name: &str, value: &Value) -> Value {
        match value {
            Value::String(text) if name == "command" => {
                let masked = self.secrets.mask(text);
                let end = masked
                    .char_indices()
                    .nth(COMMAND_LENGTH)
                    .map_or(masked.len(), |(at, _)| at);
                let mut shown = masked[..end].to_owned();
                if end < masked.len() {
                    shown.push('…');
                }
                json!(shown)
            }
            Value::String(text) if name == "secret" && self.secrets.has(text) => json!(text),
            Value::String(text) if PLAIN.contains(&name) || is_word_of(name, text) => {
                json!(self.secrets.mask(text))
            }
            Value::String(text) if KEYS.contains(&name) && types_character(text) => {
                json!("<character>")
            }
            Value::String(text) => json!(format!("<{} characters>", text.chars().count())),
            Value::Array(keys) if KEYS.contains(&name) && keys.iter().any(makes_shortcuts) => keys
                .iter()
                .map(|key| match key {
                    Value::String(text) if types_character(text) => key.clone(),
                    key => self.harmless_value(name, key),
                })
                .collect(),
            Value::Array(items) if items.len() > MOST_ITEMS => {
                json!(format!("<{} items>", items.len()))
            }
            Value::Array(items) => items
                .iter()
                .map(|item| self.harmless_value(name, item))
                .collect(),
            // An object's own names decide; those of `env` are chosen by the caller.
            Value::Object(fields) if name == "env" => fields
                .keys()
                .map(|key| (harmless_name(key), json!("<value>")))
                .collect(),
            Value::Object(fields) => Value::Object(self.harmless(fields)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// The longest name of a parameter or variable that is written out.
const NAME_LENGTH: usize = 64;

/// A name as it is where it can be one; else its length, since it may be a value by mistake.
fn harmless_name(name: &str) -> String {
    let is_plain = name
        .bytes()
        .all(|it| it.is_ascii_alphanumeric() || it == b'_');
    if is_plain && name.len() <= NAME_LENGTH {
        name.to_owned()
    } else {
        format!("<{} characters>", name.chars().count())
    }
}

#[derive(Serialize)]
struct Action<'a> {
    time: String,
    tool: &'a str,
    parameters: &'a Map<String, Value>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    duration_ms: u64,
}

/// `button=left, count=1`, as the Python server wrote it.
fn in_words(parameters: &Map<String, Value>) -> String {
    let words = parameters.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        value => format!("{name}={value}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SecretSource, model::Secret};

    fn secrets() -> Arc<Secrets> {
        let sources = [("sudo".to_owned(), SecretSource::File("/nonexistent".into()))];
        let passwords = vec![Secret::new("hunter2"), Secret::new("")];
        Arc::new(Secrets::new(sources.into(), passwords))
    }

    fn harmless(arguments: Value) -> String {
        let journal = Journal::new(Projects::new("/nonexistent".as_ref()), secrets());
        let Value::Object(arguments) = arguments else {
            unreachable!("the cases are objects")
        };
        in_words(&journal.harmless(&arguments))
    }

    #[test]
    fn only_harmless_parameters_are_written_out() {
        let cases = [
            (
                json!({"button": "left", "count": 1}),
                "button=left, count=1",
            ),
            (
                json!({"action": "mouse_button", "state": "release_all"}),
                "action=mouse_button, state=release_all",
            ),
            (
                json!({"actions": vec![json!({}); 1001]}),
                "actions=<1001 items>",
            ),
            (json!({"text": "pässword"}), "text=<8 characters>"),
            (json!({"secret": "sudo"}), "secret=sudo"),
            (json!({"secret": "hunter3"}), "secret=<7 characters>"),
            (json!({"txet": "password"}), "txet=<8 characters>"),
            (
                json!({"a b": 1, "env": {"TOKEN=abc": "", "OK": "x"}}),
                r#"<3 characters>=1, env={"<9 characters>":"<value>","OK":"<value>"}"#,
            ),
            (
                json!({"keys": ["Ctrl", "ü", "hunter3"], "modifiers": "XF86AudioMute"}),
                r#"keys=["Ctrl","ü","<7 characters>"], modifiers=XF86AudioMute"#,
            ),
            (
                json!({"button": "hunter3", "mode": "relative", "level": "warn", "format": "gif"}),
                "button=<7 characters>, mode=relative, level=warn, format=<3 characters>",
            ),
            (
                json!({"command": "echo hunter2", "stdin": "hunter2", "env": {"A": "b"}}),
                r#"command=echo ***, stdin=<7 characters>, env={"A":"<value>"}"#,
            ),
            (
                json!({"action": "signal", "id": "20261122-062613-660053", "signal": "TERM"}),
                "action=signal, id=20261122-062613-660053, signal=TERM",
            ),
            (
                json!({"action": "stdin", "id": "hunter3", "text": "hunter3", "signal": "hunter3"}),
                "action=stdin, id=<7 characters>, text=<7 characters>, signal=<7 characters>",
            ),
            (
                json!({"actions": [{"action": "type_text", "text": "abc"}, "x"]}),
                r#"actions=[{"action":"type_text","text":"<3 characters>"},"<1 characters>"]"#,
            ),
        ];
        for (arguments, words) in cases {
            assert_eq!(harmless(arguments), words);
        }
    }

    #[test]
    fn a_key_that_types_is_told_in_shortcuts_alone() {
        let cases = [
            (json!(["a"]), r#"["<character>"]"#),
            (json!("a"), "<character>"),
            (json!(["ab\0"]), r#"["<3 characters>"]"#),
            (
                json!(["KP_1", "exclam", "Dead_Acute", "spacebar", "Return"]),
                r#"["<character>","<character>","<character>","spacebar","Return"]"#,
            ),
            (json!(["Shift", "A"]), r#"["Shift","<character>"]"#),
            (json!(["AltGr", "q"]), r#"["AltGr","<character>"]"#),
            (
                json!(["a", "ü", "Enter"]),
                r#"["<character>","<character>","Enter"]"#,
            ),
            (json!(["CTRL", "c"]), r#"["CTRL","c"]"#),
            (json!(["c", "control"]), r#"["c","control"]"#),
            (json!(["Control_R", "c"]), r#"["Control_R","c"]"#),
            (json!(["option", "Shift", "x"]), r#"["option","Shift","x"]"#),
            (
                json!(["Win", "l", "hunter3"]),
                r#"["Win","l","<7 characters>"]"#,
            ),
            (json!(["Super_R", "l"]), r#"["Super_R","l"]"#),
            (json!(["F5"]), r#"["F5"]"#),
        ];
        for (keys, words) in cases {
            assert_eq!(harmless(json!({"keys": keys})), format!("keys={words}"));
        }
    }

    #[test]
    fn keys_in_one_word_are_told_as_those_in_a_list() {
        let journal = Journal::new(Projects::new("/nonexistent".as_ref()), secrets());
        let told = |tool: &str, text: &str| {
            let Value::Object(arguments) = json!({ "text": text }) else {
                unreachable!("it is an object")
            };
            in_words(&journal.parameters(tool, &arguments))
        };
        let cases = [
            ("key", "ctrl+shift+p", "text=ctrl+shift+p"),
            ("key", "Down Return", "text=Down Return"),
            ("key", "h u", "text=<character> <character>"),
            ("key", "hunter2", "text=<7 characters>"),
            ("key", "ctrl+", "text=<5 characters>"),
            ("left_click", "ctrl", "text=ctrl"),
            ("type", "ctrl+s", "text=<6 characters>"),
            ("type_text", "Return", "text=<6 characters>"),
        ];
        for (tool, text, words) in cases {
            assert_eq!(told(tool, text), words);
        }
    }

    #[test]
    fn a_command_is_told_by_its_first_characters() {
        let words = harmless(json!({"command": "ü".repeat(300)}));
        assert_eq!(words, format!("command={}…", "ü".repeat(200)));
    }
}
