//! One tool: what a client is told of it, and what runs when it is called.

use std::{future::Future, pin::Pin, sync::Arc};

use rmcp::model::ToolAnnotations;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Capability, VmName},
    perform::Progress,
};

use super::{
    Server,
    error::ToolError,
    reply::Reply,
    schema::{self, Json, OnVm},
};

/// What a call brings along besides its parameters.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: Progress,
    pub(crate) words: Words,
}

/// Takes how far a call is, of how much, and a line that says what was reached.
pub type Words = Arc<dyn Fn(u64, u64, &str) + Send + Sync>;

/// Where a call tells how far it is.
#[derive(Clone)]
pub struct Told {
    pub progress: Progress,
    pub words: Words,
}

impl From<Progress> for Told {
    /// In numbers alone.
    fn from(progress: Progress) -> Self {
        let words = Arc::clone(&progress);
        Self {
            progress,
            words: Arc::new(move |done, total, _| words(done, total)),
        }
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl Call {
    /// Waits for what may be given up at any point, until the call is cancelled.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, ToolError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(ToolError::new(
                "the call was cancelled",
                "Nothing was changed by it.",
            )),
        }
    }
}

type Running = Pin<Box<dyn Future<Output = Result<Reply, ToolError>> + Send>>;
type Run = Box<dyn Fn(Arc<Server>, Json, Call) -> Running + Send + Sync>;

/// A tool. Its description is the doc comment of its parameters.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: String,
    /// Without it for any VM, the tool is not listed.
    pub(crate) needs: Option<Capability>,
    pub(crate) effect: Effect,
    pub(crate) input: Arc<Json>,
    pub(crate) output: Option<Arc<Json>>,
    run: Run,
}

/// What a tool does to the world, as MCP's annotations tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Changes nothing.
    Reads,
    /// Puts something to a place; once more changes nothing.
    Sets,
    /// Adds something that was not there.
    Adds,
    /// May change or destroy anything in the guest.
    Acts,
    /// May replace something that was there.
    Replaces,
}

impl Tool {
    /// A tool whose parameters are `A` alone.
    pub(crate) fn new<A, F, R>(
        name: &'static str,
        title: &'static str,
        needs: Option<Capability>,
        effect: Effect,
        run: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Arc<Server>, A, Call) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<Reply, ToolError>> + Send + 'static,
    {
        let (description, input) = schema::of::<A>();
        let rules = schema::rules_of::<A>();
        Self {
            name,
            title,
            description,
            needs,
            effect,
            input: Arc::new(input),
            output: None,
            run: Box::new(move |server, arguments, call| {
                let decoded = schema::decode(arguments, &rules);
                Box::pin(async move { run(server, decoded?, call).await })
            }),
        }
    }

    /// A tool whose parameters are `vm` and those of `A`.
    pub(crate) fn on_vm<A, F, R>(
        name: &'static str,
        title: &'static str,
        needs: Capability,
        effect: Effect,
        run: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Arc<Server>, Option<VmName>, A, Call) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<Reply, ToolError>> + Send + 'static,
    {
        let apart = move |server, OnVm { vm, act }: OnVm<A>, call| run(server, vm, act, call);
        Self::new(name, title, Some(needs), effect, apart)
    }

    /// The tool with data of type `T` in its replies.
    pub(crate) fn giving<T: JsonSchema>(mut self) -> Self {
        self.output = Some(Arc::new(schema::of_data::<T>()));
        self
    }

    /// The tool with another description than its type's, for types that several tools share.
    pub(crate) fn described(mut self, description: &str) -> Self {
        description.clone_into(&mut self.description);
        self
    }

    /// The tool with another schema than its type's. What runs checks by the type's.
    pub(crate) fn shown_as(mut self, change: impl FnOnce(&mut Json)) -> Self {
        let mut input = Json::clone(&self.input);
        change(&mut input);
        self.input = Arc::new(input);
        self
    }

    pub(crate) fn run(&self, server: Arc<Server>, arguments: Json, call: Call) -> Running {
        (self.run)(server, arguments, call)
    }

    pub(crate) fn to_mcp(&self) -> rmcp::model::Tool {
        let tool =
            rmcp::model::Tool::new(self.name, self.description.clone(), Arc::clone(&self.input));
        let tool = tool
            .with_title(self.title)
            .with_annotations(self.annotations());
        match &self.output {
            Some(output) => tool.with_raw_output_schema(Arc::clone(output)),
            None => tool,
        }
    }

    fn annotations(&self) -> ToolAnnotations {
        let (read_only, destructive, idempotent) = match self.effect {
            Effect::Reads => (true, false, true),
            Effect::Sets => (false, false, true),
            Effect::Adds => (false, false, false),
            Effect::Acts => (false, true, false),
            Effect::Replaces => (false, true, true),
        };
        // Only a guest reaches out into the world; the project tree and waiting do not.
        let open_world = self.needs.is_some_and(|needs| needs != Capability::View);
        ToolAnnotations::new()
            .read_only(read_only)
            .destructive(destructive)
            .idempotent(idempotent)
            .open_world(open_world)
    }
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tool")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
