//! The connections to one guest: one as a rule, a few where its channels are all in use.
//!
//! Connecting is nobody's call in particular: one attempt at a time runs by itself, whoever waits for it shares
//! its outcome, and a guest that refuses is asked again only after a pause. A further connection is made when
//! those there are full; calls wait in a fair queue for what is free.

mod room;
mod state;
mod way;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use room::Seat;
pub(super) use room::{Opened, Room};
use state::{Failure, Link, State};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
pub(super) use way::Finder;

use super::{
    SshError, Step, Target,
    fresh_channel::FreshChannel,
    session::{NoChannel, Session},
};

/// Connections to one guest at a time.
const MOST_CONNECTIONS: usize = 4;
/// Channels in use on a connection at a time. OpenSSH permits ten (`MaxSessions`); two stay free for ending
/// commands.
const CHANNELS_EACH: usize = 8;
/// Channels that calls may hold for long. The others are kept for calls that are over soon.
const FOR_LONG: usize = (MOST_CONNECTIONS - 1) * CHANNELS_EACH;
/// What may take longer is for long.
const LONGEST_BRIEF: Duration = Duration::from_secs(45);
/// How long a call waits for others to free a channel.
pub(super) const TURN_LIMIT: Duration = Duration::from_secs(10);
/// How long all of connecting may take, each step of which has a limit of its own: clients give up on a
/// call at 60 s.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection that refused a channel is left alone: commands that are being ended take channels too,
/// and free them soon.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);

/// For how long a call means to keep its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    Brief,
    Long,
}

impl Stay {
    /// That of a command which is waited for so long.
    pub fn of(timeout: Duration) -> Self {
        if timeout > LONGEST_BRIEF {
            Self::Long
        } else {
            Self::Brief
        }
    }
}

pub(super) struct Pool {
    state: Mutex<State>,
    /// Something in `state` is other than before.
    changed: Notify,
    queue: Arc<Semaphore>,
    /// Where those who mean to stay long wait, before they take a turn in the queue. How many get in is for
    /// `state` to say, where servers take fewer channels than usual.
    for_long: Arc<Semaphore>,
    finder: Option<Finder>,
}

/// How much of the connections is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub connections: usize,
    pub channels: usize,
}

/// How long a call waits for room.
#[derive(Clone, Copy)]
struct Wait {
    /// When the call came: a failure after that is its own too.
    asked: Instant,
    until: Instant,
}

impl Wait {
    fn since(asked: Instant) -> Self {
        Self {
            asked,
            until: Instant::now() + TURN_LIMIT,
        }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.until
    }
}

enum Look {
    Found(Seat),
    Failed(SshError),
    Connecting,
    /// All that there may be are in use.
    Full,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target())
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(target: Target, finder: Option<Finder>) -> Self {
        Self {
            state: Mutex::new(State {
                target: Arc::new(target),
                told: Instant::now(),
                links: Vec::new(),
                most: CHANNELS_EACH,
                learnt: Instant::now(),
                for_long: 0,
                attempt: None,
                failure: None,
            }),
            changed: Notify::new(),
            queue: Arc::new(Semaphore::new(MOST_CONNECTIONS * CHANNELS_EACH)),
            for_long: Arc::new(Semaphore::new(FOR_LONG)),
            finder,
        }
    }

    pub(super) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.state().target)
    }

    pub(super) fn usage(&self) -> Usage {
        let state = self.state();
        let live = state.links.iter().filter(|link| link.session.is_alive());
        live.fold(Usage::default(), |usage, link| Usage {
            connections: usage.connections + 1,
            channels: usage.channels + link.used,
        })
    }

    /// Opens a channel, on a new connection if the one there is turns out to be dead or is full. Room is kept for
    /// further `channels - 1` on the same connection.
    pub(super) async fn open(
        self: &Arc<Self>,
        channels: u32,
        stay: Stay,
        cancel: &CancellationToken,
    ) -> Result<Opened, SshError> {
        let asked = Instant::now();
        until(cancel, async {
            let for_long = match stay {
                Stay::Brief => None,
                Stay::Long => Some(self.turn(&self.for_long, channels, FOR_LONG).await?),
            };
            let all = MOST_CONNECTIONS * CHANNELS_EACH;
            let turn = self.turn(&self.queue, channels, all).await?;
            let (seat, channel) = self
                .in_time(self.any_channel(channels as usize, stay, asked))
                .await?;
            Ok(Opened {
                session: Arc::clone(&seat.session),
                channel,
                room: Room {
                    _turn: turn,
                    for_long,
                    seat,
                },
            })
        })
        .await
    }

    /// A live connection, however full it is.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, SshError> {
        let wait = Wait::since(Instant::now());
        let seat = self.in_time(self.seat(0, Stay::Brief, wait, None)).await?;
        Ok(Arc::clone(&seat.session))
    }

    /// Takes a dead connection out of use. One that hangs takes the others with it, for they lead to the same
    /// guest; what runs on them goes on while it can.
    pub(super) fn forget(&self, dead: &Arc<Session>) {
        let mut state = self.state();
        if dead.is_alive() {
            if state.place_of(dead).is_some() {
                state.links.clear();
            }
        } else {
            state.links.retain(|link| !Arc::ptr_eq(&link.session, dead));
        }
    }

    /// Ends all connections politely; the next call connects anew.
    pub(super) async fn close(&self) {
        let links = {
            let mut state = self.state();
            if let Some(attempt) = state.attempt.take() {
                attempt.abort();
            }
            std::mem::take(&mut state.links)
        };
        self.changed.notify_waiters();
        for link in links {
            link.session.close().await;
        }
    }

    async fn turn(
        &self,
        places: &Arc<Semaphore>,
        channels: u32,
        limit: usize,
    ) -> Result<OwnedSemaphorePermit, SshError> {
        let turn = Arc::clone(places).acquire_many_owned(channels);
        match timeout(TURN_LIMIT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(SshError::Busy {
                endpoint: self.target().endpoint(),
                limit,
            }),
        }
    }

    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, SshError>>,
    ) -> Result<T, SshError> {
        let outcome = timeout(CONNECT_LIMIT, connecting).await;
        outcome.map_err(|_| SshError::Slow {
            endpoint: self.target().endpoint(),
            step: Step::All,
            limit: CONNECT_LIMIT,
        })?
    }

    async fn any_channel(
        self: &Arc<Self>,
        channels: usize,
        stay: Stay,
        asked: Instant,
    ) -> Result<(Seat, FreshChannel), SshError> {
        let wait = Wait::since(asked);
        let mut refusal = None;
        let mut has_been_dead = false;
        loop {
            let seat = self.seat(channels, stay, wait, refusal.take()).await?;
            // Nothing was run yet, so trying once more is safe.
            match seat.session.open_channel().await {
                Ok(channel) => return Ok((seat, channel)),
                Err(NoChannel::Refused(error)) => {
                    self.refused(&seat);
                    if wait.is_over() {
                        return Err(error);
                    }
                    refusal = Some(error);
                }
                Err(NoChannel::Dead(error)) => {
                    self.forget(&seat.session);
                    if has_been_dead {
                        return Err(error);
                    }
                    tracing::debug!(%error, "connecting again");
                    has_been_dead = true;
                }
            }
        }
    }

    /// Room on a connection. Where there is none in time, it tells the last `refusal` of the server.
    async fn seat(
        self: &Arc<Self>,
        channels: usize,
        stay: Stay,
        wait: Wait,
        refusal: Option<SshError>,
    ) -> Result<Seat, SshError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.look(channels, stay, wait.asked) {
                Look::Found(seat) => return Ok(seat),
                Look::Failed(error) => return Err(error),
                Look::Connecting => changed.await,
                Look::Full if !wait.is_over() => {
                    let _ = timeout(REFUSAL_PAUSE, changed).await;
                }
                Look::Full => {
                    return Err(refusal.unwrap_or_else(|| SshError::Busy {
                        endpoint: self.target().endpoint(),
                        limit: self.usage().channels,
                    }));
                }
            }
        }
    }

    fn look(self: &Arc<Self>, channels: usize, stay: Stay, asked: Instant) -> Look {
        let mut state = self.state();
        state.tidy();
        let channels = channels.min(state.most);
        if stay == Stay::Long && state.for_long + channels > state.share_for_long() {
            return Look::Full;
        }
        if let Some(session) = state.take(channels, stay) {
            return Look::Found(Seat {
                pool: Arc::clone(self),
                session,
                channels,
                stay,
            });
        }
        if let Some(attempt) = &state.attempt
            && !attempt.is_finished()
        {
            return Look::Connecting;
        }
        // Whoever waited while an attempt failed shares its failure, or they would all wait in a row.
        let failed = state.failure.as_ref().filter(|it| it.when >= asked);
        match failed {
            Some(failure) if state.links.is_empty() => return Look::Failed(failure.error.clone()),
            Some(_) => return Look::Full,
            None if state.links.len() >= MOST_CONNECTIONS => return Look::Full,
            None => {}
        }
        let attempt = tokio::spawn(Arc::clone(self).attempt(state.pause()));
        state.attempt = Some(attempt.abort_handle());
        Look::Connecting
    }

    async fn attempt(self: Arc<Self>, pause: Duration) {
        tokio::time::sleep(pause).await;
        let outcome = Box::pin(self.connect()).await;
        {
            let mut state = self.state();
            state.attempt = None;
            match outcome {
                Ok(session) => {
                    state.failure = None;
                    // The guest may have been said to be elsewhere in the meantime.
                    if *session.target() == *state.target {
                        state.links.push(Link::new(session));
                    }
                }
                Err(error) => {
                    let before = state.failure.as_ref().map_or(0, |it| it.in_a_row);
                    state.failure = Some(Failure {
                        when: Instant::now(),
                        error,
                        in_a_row: before.saturating_add(1),
                    });
                }
            }
        }
        self.changed.notify_waiters();
    }

    /// Learns how many channels a connection takes.
    fn refused(&self, seat: &Seat) {
        let mut state = self.state();
        if let Some(link) = state.place_of(&seat.session) {
            link.full_until = Some(Instant::now() + REFUSAL_PAUSE);
            let others = link.used - seat.channels;
            state.most = others.clamp(1, state.most);
            state.learnt = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something that changes nothing on the guest, until it is cancelled.
pub(super) async fn until<T>(
    cancel: &CancellationToken,
    act: impl Future<Output = Result<T, SshError>>,
) -> Result<T, SshError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(SshError::Cancelled { left_running: false }),
        result = act => result,
    }
}
