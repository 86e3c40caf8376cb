//! Projects: where a task's pictures, logs, results and lessons are kept; starting and finding them.

use std::{fmt::Write, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::Project;

use super::{
    Server,
    error::ToolError,
    notes::{AdviceItem, advice_in_words},
    off_thread,
    reply::Reply,
    tool::{Call, Effect, Tool},
};

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::new::<ProjectInit, _, _>(
            "project_init",
            "Start a project",
            None,
            Effect::Adds,
            project_init,
        )
        .giving::<ProjectData>(),
        Tool::new::<ProjectLoad, _, _>(
            "project_load",
            "Load a project",
            None,
            Effect::Sets,
            project_load,
        )
        .giving::<LoadData>(),
        Tool::new::<ProjectList, _, _>(
            "project_list",
            "List projects",
            None,
            Effect::Reads,
            project_list,
        )
        .giving::<ListData>(),
        Tool::new::<ProjectInfo, _, _>(
            "project_info",
            "Show the project",
            None,
            Effect::Reads,
            project_info,
        )
        .giving::<InfoData>(),
    ]
}

/// Starts a new project and makes it the active one: from now on screenshots, a log of every call,
/// results and advice are kept in its folder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectInit {
    /// What the task is, in a few words; any script.
    name: String,
    /// What it is about.
    #[serde(default)]
    description: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ProjectData {
    name: String,
    description: String,
    created_at: String,
    /// The folder's name, which `project_load` takes.
    folder: String,
    path: String,
}

impl ProjectData {
    fn of(project: &Project) -> Self {
        let metadata = project.metadata();
        Self {
            name: metadata.name.clone(),
            description: metadata.description.clone(),
            created_at: metadata.created_at.clone(),
            folder: project.folder(),
            path: project.path().display().to_string(),
        }
    }
}

async fn project_init(
    server: Arc<Server>,
    wanted: ProjectInit,
    _: Call,
) -> Result<Reply, ToolError> {
    let data = off_thread(move || {
        let project = server
            .journal
            .projects()
            .create(&wanted.name, &wanted.description)?;
        Ok::<_, ToolError>(ProjectData::of(&server.journal.activate(project)))
    })
    .await??;
    let text = format!(
        "Project {} is active. Folder: {}\nScreenshots and a log of every call are kept there.",
        data.folder, data.path
    );
    Ok(Reply::with_data(text, &data))
}

/// Makes an earlier project the active one and returns all its advice: read that before acting.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectLoad {
    /// A folder name from `project_list`, or a path.
    project_path: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LoadData {
    #[serde(flatten)]
    project: ProjectData,
    advice: Vec<AdviceItem>,
}

async fn project_load(
    server: Arc<Server>,
    wanted: ProjectLoad,
    _: Call,
) -> Result<Reply, ToolError> {
    let data = off_thread(move || {
        let working_dir = &server.fleet.config().working_dir;
        let project = server
            .journal
            .projects()
            .load(&wanted.project_path, working_dir)?;
        let advice = project.read_advice()?;
        let project = server.journal.activate(project);
        Ok::<_, ToolError>(LoadData {
            project: ProjectData::of(&project),
            advice: advice.into_iter().map(AdviceItem::from).collect(),
        })
    })
    .await??;
    let mut text = format!(
        "Project {} is active. Folder: {}\n",
        data.project.folder, data.project.path
    );
    if !data.project.description.is_empty() {
        let _ = writeln!(text, "{}", data.project.description);
    }
    text.push_str(&advice_in_words(&data.advice));
    Ok(Reply::with_data(text, &data))
}

/// Lists all projects, newest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectList {}

#[derive(Debug, Serialize, JsonSchema)]
struct ListData {
    /// The folder that holds them.
    folder: String,
    projects: Vec<ListItem>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ListItem {
    folder: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Why it cannot be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn project_list(server: Arc<Server>, _: ProjectList, _: Call) -> Result<Reply, ToolError> {
    let data = off_thread(move || {
        let projects = server.journal.projects();
        let items = projects.list()?.into_iter().map(|summary| {
            let created_at = summary.created_at().to_owned();
            let (name, description, error) = match summary.metadata {
                Ok(metadata) => (Some(metadata.name), Some(metadata.description), None),
                Err(error) => (None, None, Some(ToolError::from(error).line())),
            };
            ListItem {
                folder: summary.folder,
                created_at,
                name,
                description,
                error,
            }
        });
        Ok::<_, ToolError>(ListData {
            projects: items.collect(),
            folder: projects.folder().display().to_string(),
        })
    })
    .await??;
    let mut text = format!("Projects in {} ({}):", data.folder, data.projects.len());
    for item in &data.projects {
        let about = match (&item.name, &item.description, &item.error) {
            (_, _, Some(error)) => format!("cannot be loaded: {error}"),
            (Some(name), Some(about), None) if !about.is_empty() => format!("{name}: {about}"),
            (name, _, None) => name.clone().unwrap_or_default(),
        };
        let _ = write!(text, "\n{}: {about}", item.folder);
    }
    Ok(Reply::with_data(text, &data))
}

/// Shows the active project and counts its screenshots, results, log entries and advice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectInfo {}

#[derive(Debug, Serialize, JsonSchema)]
struct InfoData {
    #[serde(flatten)]
    project: ProjectData,
    screenshots: usize,
    results: usize,
    log_entries: usize,
    advice: usize,
}

async fn project_info(server: Arc<Server>, _: ProjectInfo, _: Call) -> Result<Reply, ToolError> {
    let data = off_thread(move || {
        let project = server.project()?;
        let info = project.info()?;
        Ok::<_, ToolError>(InfoData {
            project: ProjectData::of(&project),
            screenshots: info.screenshots,
            results: info.results,
            log_entries: info.log_entries,
            advice: info.advice,
        })
    })
    .await??;
    let text = format!(
        "Project {}: {}\n{}\nScreenshots: {}, results: {}, log entries: {}, advice: {}.\n\
         Folder: {}",
        data.project.folder,
        data.project.name,
        data.project.description,
        data.screenshots,
        data.results,
        data.log_entries,
        data.advice,
        data.project.path
    );
    Ok(Reply::with_data(text, &data))
}
