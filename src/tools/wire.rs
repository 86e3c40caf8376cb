//! The wire: MCP's messages on standard input and output.
//!
//! rmcp's own transport says nothing about lines that it cannot read, takes in calls without bound
//! while nobody reads their answers, and does not tell when the input ended. Here a thread reads and
//! another one writes, since either may be blocked for as long as the client likes. Between them and
//! rmcp everything is counted. A cancel overtakes the calls that wait for their turn.

use std::{
    collections::HashMap,
    io::{self, BufRead, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rmcp::{
    RoleServer,
    model::{ClientNotification, GetExtensions, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::line::{Line, Lines, Message, Refusal};

/// How many requests are worked on at once. One counts until its answer is written, so a client
/// that reads no answers gets no more calls done than these.
const MAX_CALLS: usize = 256;

/// How many KiB of lines are held that are not answered yet, and what each counts at least. What is
/// beyond `MAX_CALLS` waits here, and what is beyond this stays with the client.
const MAX_HELD: u32 = 64 * 1024;
const LEAST_HELD: u32 = 16;

/// How many answers lie ready for the writing thread.
const MAX_READY: usize = 16;

/// How long the last answers may take to be written. They are done in no time, unless nobody reads.
const LAST_WRITES: Duration = Duration::from_millis(500);

/// Why an answer did not go out.
#[derive(Debug, Error)]
pub(super) enum WireError {
    #[error("the client takes no more answers")]
    Closed,
    #[error("a message cannot be made into JSON")]
    Encode(#[source] serde_json::Error),
}

/// Both ends of the wire. Its clones are the same wire.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    inbox: Arc<tokio::sync::Mutex<Inbox>>,
    /// The requests that are not answered yet.
    asked: Arc<Mutex<HashMap<RequestId, Asked>>>,
    calls: Arc<Semaphore>,
    outbox: mpsc::Sender<Outgoing>,
    hung_up: CancellationToken,
    given_up: CancellationToken,
}

#[derive(Debug)]
struct Inbox {
    lines: mpsc::UnboundedReceiver<Incoming>,
    /// What came, until it is passed on whole: rmcp drops its waiting for a message whenever it has
    /// something else to do.
    next: Option<Incoming>,
}

#[derive(Debug)]
struct Incoming {
    line: Line,
    held: OwnedSemaphorePermit,
}

/// Fires when the client cancels a request, which carries it among its extensions. The notification
/// itself does not reach rmcp, which would forget the request at once: another one with its id would
/// get its answer.
#[derive(Debug, Clone)]
pub(super) struct Withdrawal(pub(super) CancellationToken);

/// The places that a request takes up until its answer is written.
#[derive(Debug)]
struct Asked {
    withdrawal: CancellationToken,
    _call: Option<OwnedSemaphorePermit>,
    _held: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Outgoing {
    Line {
        text: Vec<u8>,
        answered: Option<Asked>,
    },
    /// Everything before it is written.
    Flushed(oneshot::Sender<()>),
}

impl Wire {
    /// Opens the wire. What comes back beside it tells when the output takes nothing more, and why.
    pub(super) fn open<R: BufRead, W: Write>(
        input: impl FnOnce() -> R + Send + 'static,
        output: impl FnOnce() -> W + Send + 'static,
    ) -> io::Result<(Self, oneshot::Receiver<io::Error>)> {
        let (incoming, lines) = mpsc::unbounded_channel();
        let (outbox, outgoing) = mpsc::channel(MAX_READY);
        let (broke, broken) = oneshot::channel();
        let hung_up = CancellationToken::new();
        let asked: Arc<Mutex<HashMap<RequestId, Asked>>> = Arc::default();
        let reader = Reader {
            held: Arc::new(Semaphore::new(MAX_HELD as usize)),
            incoming,
            runtime: Handle::current(),
            asked: Arc::clone(&asked),
        };
        let end_of_input = hung_up.clone().drop_guard();
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let _end_of_input = end_of_input;
                if let Err(error) = reader.read(input()) {
                    tracing::warn!(%error, "standard input broke off");
                }
            })?;
        thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                if let Err(error) = write_lines(output(), outgoing) {
                    let _ = broke.send(error);
                }
            })?;
        let wire = Self {
            inbox: Arc::new(tokio::sync::Mutex::new(Inbox { lines, next: None })),
            asked,
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            outbox,
            hung_up,
            given_up: CancellationToken::new(),
        };
        Ok((wire, broken))
    }

    /// Fires when the input has ended, whatever of it is not yet worked on.
    pub(super) fn hung_up(&self) -> CancellationToken {
        self.hung_up.clone()
    }

    /// From now on, nothing waits for a client that does not read.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Waits until what was sent is written, but not for long.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let writing = async {
            self.outbox.send(Outgoing::Flushed(done)).await.ok()?;
            written.await.ok()
        };
        if tokio::time::timeout(LAST_WRITES, writing).await.is_err() {
            tracing::warn!("the last answers were not sent: the client does not read them");
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<RequestId, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what comes when the client reads its answers.
    async fn unless_given_up<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.given_up.cancelled() => None,
        }
    }

    async fn next_message(&self) -> Option<Message> {
        let mut inbox = self.inbox.lock().await;
        loop {
            let next = inbox.peek().await?;
            if let Line::Message(message) = &next.line
                && let JsonRpcMessage::Request(request) = message.as_ref()
                && self.asked().contains_key(&request.id)
            {
                next.line = Line::Refused(Refusal::of_repeated_id(request.id.clone()));
            }
            if let Line::Refused(refusal) = &next.line {
                let slot = self.unless_given_up(self.outbox.reserve()).await?.ok()?;
                slot.send(Outgoing::Line {
                    text: refusal.to_line(),
                    answered: None,
                });
            }
            let call = if next.is_request() {
                let turn = Arc::clone(&self.calls).acquire_owned();
                Some(self.unless_given_up(turn).await?.ok()?)
            } else {
                None
            };
            // Nothing waits from here on.
            if let Some(Incoming { line, held }) = inbox.next.take()
                && let Line::Message(message) = line
                && let Some(message) = self.take_in(*message, call, held)
            {
                return Some(message);
            }
        }
    }

    /// What of a message is for rmcp.
    fn take_in(
        &self,
        mut message: Message,
        call: Option<OwnedSemaphorePermit>,
        held: OwnedSemaphorePermit,
    ) -> Option<Message> {
        match &mut message {
            JsonRpcMessage::Request(request) => {
                let withdrawal = CancellationToken::new();
                let carried = Withdrawal(withdrawal.clone());
                request.request.extensions_mut().insert(carried);
                let asked = Asked {
                    withdrawal,
                    _call: call,
                    _held: held,
                };
                self.asked().insert(request.id.clone(), asked);
            }
            JsonRpcMessage::Notification(it) => {
                if let ClientNotification::CancelledNotification(it) = &it.notification {
                    if let Some(id) = &it.params.request_id
                        && let Some(asked) = self.asked().get(id)
                    {
                        asked.withdrawal.cancel();
                    }
                    return None;
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        Some(message)
    }
}

impl Incoming {
    fn is_request(&self) -> bool {
        matches!(&self.line, Line::Message(it) if matches!(**it, JsonRpcMessage::Request(_)))
    }
}

impl Inbox {
    async fn peek(&mut self) -> Option<&mut Incoming> {
        if self.next.is_none() {
            self.next = self.lines.recv().await;
        }
        self.next.as_mut()
    }
}

impl Transport<RoleServer> for Wire {
    type Error = WireError;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), WireError>> + Send + 'static {
        let answered = match &message {
            JsonRpcMessage::Response(answer) => self.asked().remove(&answer.id),
            JsonRpcMessage::Error(error) => {
                error.id.as_ref().and_then(|id| self.asked().remove(id))
            }
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let wire = self.clone();
        async move {
            // Who cancels a request expects no answer.
            if answered
                .as_ref()
                .is_some_and(|it| it.withdrawal.is_cancelled())
            {
                return Ok(());
            }
            let mut text = serde_json::to_vec(&message).map_err(WireError::Encode)?;
            drop(message);
            text.push(b'\n');
            let slot = wire.unless_given_up(wire.outbox.reserve()).await;
            let Some(Ok(slot)) = slot else {
                return Err(WireError::Closed);
            };
            slot.send(Outgoing::Line { text, answered });
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.next_message().await
    }

    /// Nothing is to be closed: the streams are the process's own.
    async fn close(&mut self) -> Result<(), WireError> {
        Ok(())
    }
}

/// What the reading thread works with.
struct Reader {
    held: Arc<Semaphore>,
    incoming: mpsc::UnboundedSender<Incoming>,
    runtime: Handle,
    asked: Arc<Mutex<HashMap<RequestId, Asked>>>,
}

impl Reader {
    /// Cancels a call that runs, ahead of all that waits. One that has not begun is found in its turn.
    fn cancel(&self, message: &Message) {
        if let JsonRpcMessage::Notification(it) = message
            && let ClientNotification::CancelledNotification(it) = &it.notification
            && let Some(id) = &it.params.request_id
        {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(asked) = asked.get(id) {
                asked.withdrawal.cancel();
            }
        }
    }

    fn read(self, input: impl BufRead) -> io::Result<()> {
        let mut lines = Lines::new(input);
        while let Some((line, bytes)) = lines.read()? {
            if let Line::Message(message) = &line {
                self.cancel(message);
            }
            let size = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
            let size = size.clamp(LEAST_HELD, MAX_HELD);
            let waiting = Arc::clone(&self.held).acquire_many_owned(size);
            let Ok(held) = self.runtime.block_on(waiting) else {
                break;
            };
            if self.incoming.send(Incoming { line, held }).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn write_lines(mut output: impl Write, mut lines: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    while let Some(next) = lines.blocking_recv() {
        match next {
            Outgoing::Line { text, answered } => {
                output.write_all(&text)?;
                output.flush()?;
                drop(answered);
            }
            // Whoever asked may have stopped waiting.
            Outgoing::Flushed(done) => drop(done.send(())),
        }
    }
    Ok(())
}
