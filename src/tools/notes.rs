//! What is written into a project and read from it: log lines, results and lessons.

use std::{fmt::Write, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::{Advice, Level};

use super::{
    Server,
    error::ToolError,
    off_thread,
    reply::Reply,
    tool::{Call, Effect, Tool},
};

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::new::<ProjectLog, _, _>(
            "project_log",
            "Write into the project's log",
            None,
            Effect::Adds,
            project_log,
        ),
        Tool::new::<ProjectReadLogs, _, _>(
            "project_read_logs",
            "Read the project's log",
            None,
            Effect::Reads,
            project_read_logs,
        )
        .giving::<LogData>(),
        Tool::new::<ProjectSaveResult, _, _>(
            "project_save_result",
            "Save a result file",
            None,
            Effect::Replaces,
            project_save_result,
        )
        .giving::<SavedData>(),
        Tool::new::<ProjectSaveAdvice, _, _>(
            "project_save_advice",
            "Save a lesson",
            None,
            Effect::Adds,
            project_save_advice,
        )
        .giving::<SavedData>(),
        Tool::new::<ProjectReadAdvice, _, _>(
            "project_read_advice",
            "Read the lessons",
            None,
            Effect::Reads,
            project_read_advice,
        )
        .giving::<AdviceData>(),
    ]
}

/// Writes a line into the active project's log. Every call is logged there by itself; use this for
/// what you found out or decided.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectLog {
    /// The line.
    message: String,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL.
    #[serde(default = "info")]
    level: String,
}

fn info() -> String {
    "INFO".to_owned()
}

async fn project_log(server: Arc<Server>, entry: ProjectLog, _: Call) -> Result<Reply, ToolError> {
    let level: Level = entry.level.parse()?;
    let folder = off_thread(move || {
        let project = server.project()?;
        project.log(level, &entry.message)?;
        Ok::<_, ToolError>(project.folder())
    })
    .await??;
    Ok(Reply::text(format!("Logged in project {folder}.")))
}

/// Returns the last lines of the active project's log, oldest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectReadLogs {
    /// How many, 1 to 10000.
    #[serde(default = "fifty")]
    lines: i64,
    /// Only entries of this level, such as ERROR; all where empty.
    #[serde(default)]
    level_filter: String,
}

fn fifty() -> i64 {
    50
}

#[derive(Debug, Serialize, JsonSchema)]
struct LogData {
    lines: Vec<String>,
}

async fn project_read_logs(
    server: Arc<Server>,
    wanted: ProjectReadLogs,
    _: Call,
) -> Result<Reply, ToolError> {
    let level = Level::filter(&wanted.level_filter)?;
    let lines = off_thread(move || {
        let project = server.project()?;
        Ok::<_, ToolError>(project.read_logs(wanted.lines, level)?)
    })
    .await??;
    let text = if lines.is_empty() {
        "The log has no such entries.".to_owned()
    } else {
        lines.join("\n")
    };
    Ok(Reply::with_data(text, &LogData { lines }))
}

/// Saves a text file among the active project's results.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectSaveResult {
    /// A plain file name, such as report.md.
    filename: String,
    /// What the file holds.
    content: String,
    /// Whether a file of this name is replaced; false makes that an error.
    #[serde(default = "yes")]
    overwrite: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, JsonSchema)]
struct SavedData {
    project: String,
    path: String,
    bytes: usize,
}

async fn project_save_result(
    server: Arc<Server>,
    wanted: ProjectSaveResult,
    _: Call,
) -> Result<Reply, ToolError> {
    let data = off_thread(move || {
        let project = server.project()?;
        let content = wanted.content.as_bytes();
        let path = project.save_result(&wanted.filename, content, wanted.overwrite)?;
        Ok::<_, ToolError>(SavedData {
            project: project.folder(),
            path: path.display().to_string(),
            bytes: content.len(),
        })
    })
    .await??;
    Ok(saved(&data))
}

/// Saves a lesson for later sessions into the active project: what worked, which shortcut gives the
/// focus, how long to wait. `project_load` shows it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectSaveAdvice {
    /// What it is about, in a few words.
    title: String,
    /// The lesson, as Markdown.
    content: String,
}

async fn project_save_advice(
    server: Arc<Server>,
    advice: ProjectSaveAdvice,
    _: Call,
) -> Result<Reply, ToolError> {
    let data = off_thread(move || {
        let project = server.project()?;
        let path = project.save_advice(&advice.title, &advice.content)?;
        Ok::<_, ToolError>(SavedData {
            project: project.folder(),
            path: path.display().to_string(),
            bytes: advice.content.len(),
        })
    })
    .await??;
    Ok(saved(&data))
}

fn saved(data: &SavedData) -> Reply {
    let text = format!(
        "Saved {} bytes in project {}: {}",
        data.bytes, data.project, data.path
    );
    Reply::with_data(text, data)
}

/// Returns all advice of the active project, oldest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectReadAdvice {}

#[derive(Debug, Serialize, JsonSchema)]
struct AdviceData {
    advice: Vec<AdviceItem>,
}

async fn project_read_advice(
    server: Arc<Server>,
    _: ProjectReadAdvice,
    _: Call,
) -> Result<Reply, ToolError> {
    let advice: Vec<AdviceItem> = off_thread(move || {
        let advice = server.project()?.read_advice()?;
        Ok::<_, ToolError>(advice.into_iter().map(AdviceItem::from).collect())
    })
    .await??;
    let text = advice_in_words(&advice);
    Ok(Reply::with_data(text, &AdviceData { advice }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AdviceItem {
    title: String,
    file: String,
    content: String,
}

impl From<Advice> for AdviceItem {
    fn from(advice: Advice) -> Self {
        Self {
            title: advice.title,
            file: advice.file,
            content: advice.content,
        }
    }
}

pub(super) fn advice_in_words(advice: &[AdviceItem]) -> String {
    if advice.is_empty() {
        return "It has no advice yet.".to_owned();
    }
    let mut text = format!("Advice ({}):", advice.len());
    for item in advice {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n\n# {}\n{}", item.title, item.content.trim_end());
    }
    text
}
