//! MCP itself: rmcp's server, put before [`Server`].

use std::{io, sync::Arc, time::Duration};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult,
        CustomRequest, CustomResult, ErrorCode, GetPromptRequestParams, GetPromptResponse,
        Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
        ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
        ReadResourceRequestParams, ReadResourceResponse, ResourceContents, ServerCapabilities,
        ServerConfig,
    },
    service::{RequestContext, ServerInitializeError},
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::perform;

use super::{
    Server, Told, prompt,
    reply::mask,
    resources,
    wire::{Wire, Withdrawal},
};

/// How long a call may go on when the client has hung up, counted from when it was asked for. So what
/// a script pipes in is answered, and an act that has gone on for longer stops with the client. The
/// same time after the end all is over: clients that give a server 2 s to end need not kill it.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Speaks MCP on standard input and output until the client hangs up or `stop` fires. Calls that
/// still run then are stopped, and let go of what they hold.
pub async fn serve_stdio(server: Arc<Server>, stop: CancellationToken) -> io::Result<()> {
    let (wire, output_broke) = Wire::open(|| io::stdin().lock(), || io::stdout().lock())?;
    tokio::spawn(end_calls(wire.clone(), server.stopping.clone()));
    let handler = Handler {
        server: Arc::clone(&server),
        hung_up: wire.hung_up(),
    };
    let outcome = tokio::select! {
        outcome = speak(handler, wire.clone()) => outcome,
        // A client that reads no more has gone.
        Ok(error) = output_broke => match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        },
        () = stop.cancelled() => Ok(()),
    };
    server.shut_down().await;
    wire.flush().await;
    outcome
}

/// Once the input has ended, ends what still runs or waits, in time.
async fn end_calls(wire: Wire, stopping: CancellationToken) {
    wire.hung_up().cancelled().await;
    tokio::time::sleep(LAST_ANSWERS).await;
    stopping.cancel();
    wire.give_up();
}

async fn speak(handler: Handler, wire: Wire) -> io::Result<()> {
    loop {
        return match handler.clone().serve(wire.clone()).await {
            Ok(service) => service.waiting().await.map(drop).map_err(io::Error::other),
            // A client that leaves before it has said anything is no failure of ours.
            Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
            // rmcp gives up where a notification or an answer comes before the first request. It
            // asks for nothing, so the first request may still come.
            Err(ServerInitializeError::ExpectedInitializeRequest(_)) => continue,
            Err(error) => Err(io::Error::other(error)),
        };
    }
}

/// The methods that are answered here and take parameters.
const METHODS: [&str; 8] = [
    "completion/complete",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "tools/call",
    "tools/list",
];

#[derive(Debug, Clone)]
struct Handler {
    server: Arc<Server>,
    hung_up: CancellationToken,
}

impl Handler {
    /// Waits until nobody wants a call any more that was asked for then.
    async fn unwanted(&self, asked: Instant, withdrawal: Option<Withdrawal>) {
        let outlives_client = async {
            self.hung_up.cancelled().await;
            tokio::time::sleep_until(asked + LAST_ANSWERS).await;
        };
        let withdrawal = withdrawal.map(|it| it.0).unwrap_or_default();
        tokio::select! {
            () = withdrawal.cancelled() => {}
            () = outlives_client => {}
        }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .enable_completions()
            .build();
        let mut implementation = Implementation::default();
        env!("CARGO_PKG_NAME").clone_into(&mut implementation.name);
        implementation.title = Some("virtpilot".to_owned());
        env!("CARGO_PKG_VERSION").clone_into(&mut implementation.version);
        let mut info = ServerConfig::new(capabilities);
        info.server_info = implementation;
        info.instructions = Some(prompt::instructions(self.server.toolset()).to_owned());
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.server.listed().map(super::Tool::to_mcp).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !self.server.has_tool(&request.name) {
            let message = format!("there is no tool `{}`", request.name);
            return Err(ErrorData::invalid_params(message, None));
        }
        let asked = Instant::now();
        let arguments = request.arguments.unwrap_or_default();
        let cancel = context.ct.child_token();
        let withdrawal = context.extensions.get::<Withdrawal>().cloned();
        let telling = Telling::start(&context);
        let told = telling.told.clone();
        let call = self
            .server
            .call(&request.name, arguments, cancel.clone(), told);
        tokio::pin!(call);
        let reply = tokio::select! {
            reply = &mut call => reply,
            () = self.unwanted(asked, withdrawal) => {
                cancel.cancel();
                call.await
            }
        };
        telling.end().await;
        Ok(reply.into_result().into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompt::list()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompt::get(&request.name, self.server.toolset()).map(Into::into)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(
            resources::list(&self.server).await,
        ))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(
            resources::templates(),
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let mut read = resources::read(&self.server, &request.uri).await?;
        for contents in &mut read.contents {
            if let ResourceContents::TextResourceContents { text, .. } = contents {
                mask(text, &self.server.secrets);
            }
        }
        Ok(read.into())
    }

    /// What rmcp cannot decode comes here, as if it were a method of somebody else's.
    async fn on_custom_request(
        &self,
        CustomRequest { method, .. }: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if METHODS.contains(&method.as_str()) {
            let message = format!("the parameters of `{method}` have not the form that MCP asks");
            return Err(ErrorData::invalid_params(message, None));
        }
        let message = format!("there is no method `{method}`");
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None))
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        resources::complete(&self.server, &request).await
    }
}

/// Tells the client of progress where it asked: always the newest, at the pace it is taken.
struct Telling {
    told: Told,
    teller: Option<(CancellationToken, JoinHandle<()>)>,
}

/// The protocol wants progress to grow each time, also while nothing more is counted, or anew.
const MOVE: f64 = 0.001;

impl Telling {
    fn start(context: &RequestContext<RoleServer>) -> Self {
        let Some(token) = context.meta.get_progress_token() else {
            return Self {
                told: perform::untold().into(),
                teller: None,
            };
        };
        let peer = context.peer.clone();
        let (sender, mut newest) = watch::channel((0, 0, None));
        let sender = Arc::new(sender);
        let over = CancellationToken::new();
        let seen_over = over.clone();
        let task = tokio::spawn(async move {
            let mut last = -MOVE;
            while let Some(Ok(())) = seen_over.run_until_cancelled(newest.changed()).await {
                let (done, total, line): (u64, u64, Option<String>) =
                    newest.borrow_and_update().clone();
                last = number(done).max(last + MOVE);
                let mut progress = ProgressNotificationParam::new(token.clone(), last);
                progress.total = (total > 0).then(|| number(total));
                progress.message = line;
                if peer.notify_progress(progress).await.is_err() {
                    return;
                }
            }
        });
        Self {
            told: Told {
                words: {
                    let sender = Arc::clone(&sender);
                    Arc::new(move |done, total, line| {
                        sender.send_replace((done, total, Some(line.to_owned())));
                    })
                },
                progress: Arc::new(move |done, total| {
                    sender.send_replace((done, total, None));
                }),
            },
            teller: Some((over, task)),
        }
    }

    /// Nothing is told after this: a client must hear of no progress once it has its answer.
    async fn end(self) {
        if let Some((over, task)) = self.teller {
            over.cancel();
            // What is on its way is let through; a task that broke has nothing more to tell.
            _ = task.await;
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of bytes and characters stay far below 2^53"
)]
fn number(count: u64) -> f64 {
    count as f64
}
