//! The MCP edge: which tools there are, and the one way a call takes through them.
//!
//! The only room that names `rmcp`. A call is looked up, run in a task of its own, recorded and
//! answered here, whoever made it; areas only say what their tools do.

mod computer;
mod error;
mod files;
mod input;
mod job;
mod line;
mod mcp;
mod notes;
mod outcome;
mod project;
mod prompt;
mod reading;
mod reference;
mod reply;
mod resources;
mod schema;
mod screen;
mod shell;
mod tool;
mod vm;
mod waiting;
mod wire;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use mcp::serve_stdio;
pub use reference::reference;
pub use reply::{Reply, ReplyPicture};
use serde_json::{Map, Value};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, Toolset},
    fleet::Fleet,
    gallery::Gallery,
    guest::Guests,
    hypervisor::Hypervisor,
    jobs::Jobs,
    journal::{Entry, Journal},
    secrets::Secrets,
    store::{HostPaths, LogPlace, Project, Projects},
};

pub(crate) use error::ToolError;
use tool::{Call, Effect, Tool};
pub use tool::{Told, Words};

/// How long a shutdown waits for acts to let go of their keys and buttons.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// How long it waits for VMs to take the release of a button that was left down on purpose.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// All that tools work with. One for the process, shared by its clients.
#[derive(Debug)]
pub struct Server {
    fleet: Arc<Fleet>,
    guests: Arc<Guests>,
    secrets: Arc<Secrets>,
    jobs: Arc<Jobs>,
    journal: Journal,
    gallery: Gallery,
    host_paths: HostPaths,
    tools: Vec<Tool>,
    stopping: CancellationToken,
    running: TaskTracker,
}

impl Server {
    /// Connects to nothing yet: VMs, libvirt and SSH are reached when first used.
    pub fn new(config: Config, hypervisor: Arc<dyn Hypervisor>) -> Arc<Self> {
        let config = Arc::new(config);
        let passwords = config
            .vms
            .values()
            .map(|vm| &vm.ssh)
            .chain([&config.default_ssh])
            .filter_map(|ssh| ssh.password.clone())
            .collect();
        let secrets = Arc::new(Secrets::new(config.secrets.clone(), passwords));
        let fleet = Arc::new(Fleet::new(Arc::clone(&config), hypervisor));
        Arc::new(Self {
            guests: Arc::new(Guests::new(Arc::clone(&fleet), Arc::clone(&secrets))),
            fleet,
            jobs: Arc::new(Jobs::new(config.data_dir.clone())),
            journal: Journal::new(Projects::new(&config.data_dir), Arc::clone(&secrets)),
            gallery: Gallery::default(),
            host_paths: HostPaths {
                data_dir: config.data_dir.clone(),
                host_folders: config.host_folders.clone(),
                working_dir: config.working_dir.clone(),
                home: config.home.clone(),
                protected: [
                    config.data_dir.join("known_hosts"),
                    config.working_dir.join(".env"),
                ]
                .into_iter()
                .chain(config.config_file.clone())
                .chain(secrets.files().map(Into::into))
                .chain(config.identities().map(Into::into))
                .collect(),
            },
            secrets,
            tools: all_tools(config.toolset),
            stopping: CancellationToken::new(),
            running: TaskTracker::new(),
        })
    }

    fn toolset(&self) -> Toolset {
        self.fleet.config().toolset
    }

    /// The tools that some VM is granted, in the order of the reference.
    fn listed(&self) -> impl Iterator<Item = &Tool> {
        let grants = self.fleet.config().grants_anywhere();
        self.tools
            .iter()
            .filter(move |tool| tool.needs.is_none_or(|needs| grants.has(needs)))
    }

    /// Whether there is such a tool, granted or not.
    pub fn has_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// Calls a tool. Whatever goes wrong is in the reply; nothing here panics or hangs.
    ///
    /// Where the future is dropped or `cancel` fires, the call stops between its acts and lets go
    /// of what it holds.
    pub async fn call(
        self: &Arc<Self>,
        name: &str,
        arguments: Map<String, Value>,
        cancel: CancellationToken,
        told: impl Into<Told>,
    ) -> Reply {
        let started = Instant::now();
        let own_cancel = self.stopping.child_token();
        let _hung_up = own_cancel.clone().drop_guard();
        let Told { progress, words } = told.into();
        let secrets = Arc::clone(&self.secrets);
        let call = Call {
            cancel: own_cancel.clone(),
            progress,
            words: Arc::new(move |done, of, line| match secrets.mask_in_reply(line) {
                Some(masked) => words(done, of, &masked),
                None => words(done, of, line),
            }),
        };
        let server = Arc::clone(self);
        let name = name.to_owned();
        let mut running = self.running.spawn(async move {
            let reply = match server.run(&name, arguments.clone(), call).await {
                Ok(reply) => reply,
                Err(error) => Reply::error(&error.in_words_of(server.toolset())),
            };
            let reply = reply.masked(&server.secrets);
            server.record(name, arguments, started, reply).await
        });
        tokio::select! {
            outcome = &mut running => return finished(outcome),
            () = cancel.cancelled() => own_cancel.cancel(),
        }
        finished(running.await)
    }

    async fn run(
        self: &Arc<Self>,
        name: &str,
        arguments: Map<String, Value>,
        call: Call,
    ) -> Result<Reply, ToolError> {
        let Some(tool) = self.tools.iter().find(|tool| tool.name == name) else {
            let names: Vec<_> = self.listed().map(|tool| tool.name).collect();
            return Err(ToolError::new(
                format!("there is no tool `{name}`"),
                format!("There are {}.", names.join(", ")),
            ));
        };
        if let Some(needs) = tool.needs
            && !self.fleet.config().grants_anywhere().has(needs)
        {
            return Err(ToolError::new(
                format!("`{name}` needs `{needs}`, which is granted for no VM"),
                "Only the person who runs this server can grant it, by `--allow` or `allow` in \
                 the configuration.",
            ));
        }
        let running = tool.run(Arc::clone(self), arguments, call.clone());
        if tool.effect == Effect::Reads {
            // What only looks can be given up wherever it is.
            return call.unless_cancelled(running).await?;
        }
        running.await
    }

    async fn record(
        self: Arc<Self>,
        tool: String,
        arguments: Map<String, Value>,
        started: Instant,
        reply: Reply,
    ) -> Reply {
        let duration = started.elapsed();
        let failure = reply.failure.clone();
        tracing::info!(
            tool,
            ms = duration.as_millis(),
            failed = failure.is_some(),
            "call"
        );
        // Without a project nothing is written, and there is no thread to wait for.
        if self.journal.active().is_none() {
            return reply;
        }
        let server = Arc::clone(&self);
        // A call that cannot be recorded was still done; the journal warns by itself.
        let _ = off_thread(move || {
            server.journal.record(&Entry {
                tool: &tool,
                arguments: &arguments,
                failure: failure.as_deref(),
                duration,
            });
        })
        .await;
        reply
    }

    /// The active project, which most project tools need.
    fn project(&self) -> Result<Arc<Project>, ToolError> {
        self.journal.active().ok_or_else(|| {
            ToolError::new(
                "no project is active",
                "Start one with `project_init`, or load one with `project_load` \
                 (`project_list` shows them).",
            )
        })
    }

    /// Whether commands go on that nobody waits for.
    pub fn has_jobs(&self) -> bool {
        self.jobs.all().iter().any(|job| !job.has_exited())
    }

    /// Where the output of a command goes: the active project, else the data folder.
    fn log_place(&self) -> LogPlace {
        match self.journal.active() {
            Some(project) => LogPlace::Project(project),
            None => self.jobs.data_folder(),
        }
    }

    /// Stops all calls between their acts, so that no key stays down, ends all commands on their guests, lets
    /// go of what is held, and ends the connections.
    pub async fn shut_down(&self) {
        self.stopping.cancel();
        self.running.close();
        let ended = async { tokio::join!(self.running.wait(), self.jobs.end_all()) };
        if tokio::time::timeout(SHUTDOWN_LIMIT, ended).await.is_err() {
            tracing::warn!("some calls or commands did not end in time");
        }
        let _ = tokio::time::timeout(RELEASE_LIMIT, self.fleet.let_go()).await;
        let guests = tokio::time::timeout(SHUTDOWN_LIMIT, self.guests.close());
        let _ = tokio::join!(guests, self.fleet.close());
    }
}

fn all_tools(toolset: Toolset) -> Vec<Tool> {
    let looking_and_pointing = match toolset {
        Toolset::Standard => vec![
            screen::tools(),
            reading::tools(),
            input::tools(),
            waiting::tools(),
        ],
        Toolset::Computer => vec![computer::tools()],
    };
    let others = [
        shell::tools(),
        job::tools(),
        files::tools(),
        vm::tools(),
        project::tools(),
        notes::tools(),
    ];
    let areas = looking_and_pointing.into_iter().chain(others);
    areas.flatten().collect()
}

fn finished(outcome: Result<Reply, tokio::task::JoinError>) -> Reply {
    outcome.unwrap_or_else(|broke| {
        tracing::error!(error = %broke, "a call broke down");
        Reply::error(&ToolError::new(
            "the call broke down",
            "This is a defect of the server; please report it. Other calls are not affected.",
        ))
    })
}

/// Runs what reads or writes files on a thread that may block.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ToolError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        ToolError::new(
            "the call broke down",
            "This is a defect of the server; please report it.",
        )
    })
}
