//! Room on the connections of a pool, counted as long as it is kept.

use std::{sync::Arc, time::Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::{Pool, Session, Stay};
use crate::ssh::fresh_channel::FreshChannel;

/// A channel, with room kept on its connection for so many as were asked for.
pub(in crate::ssh) struct Opened {
    pub(in crate::ssh) session: Arc<Session>,
    pub(in crate::ssh) channel: FreshChannel,
    pub(in crate::ssh) room: Room,
}

/// Room on the connections of a pool; free again when it is dropped.
pub(in crate::ssh) struct Room {
    pub(super) _turn: OwnedSemaphorePermit,
    pub(super) for_long: Option<OwnedSemaphorePermit>,
    pub(super) seat: Seat,
}

impl Room {
    /// Whoever has it stays for long after all: it counts as such from now on, even past their share.
    pub(in crate::ssh) fn stays(&mut self) {
        if self.seat.stay == Stay::Long {
            return;
        }
        self.seat.stay = Stay::Long;
        let pool = &self.seat.pool;
        pool.state().for_long += self.seat.channels;
        let channels = u32::try_from(self.seat.channels).unwrap_or(u32::MAX);
        let places = Arc::clone(&pool.for_long);
        self.for_long = places.try_acquire_many_owned(channels).ok();
    }
}

/// Channels that are counted on a connection.
pub(super) struct Seat {
    pub(super) pool: Arc<Pool>,
    pub(super) session: Arc<Session>,
    pub(super) channels: usize,
    pub(super) stay: Stay,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.channels == 0 {
            return;
        }
        let mut state = self.pool.state();
        if self.stay == Stay::Long {
            state.for_long -= self.channels;
        }
        if let Some(link) = state.place_of(&self.session) {
            link.used -= self.channels;
            link.idle_since = Instant::now();
        }
        drop(state);
        self.pool.changed.notify_waiters();
    }
}
