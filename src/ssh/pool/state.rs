//! What is known of the connections to a guest, and of the attempts to make one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::{CHANNELS_EACH, MOST_CONNECTIONS, Session, SshError, Stay, Target};

/// The pause after a failed attempt, doubled with each that follows, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What a refusal told of a server's limit holds for this long: commands that were being ended may have been why.
const LEARNT_LIMIT: Duration = Duration::from_mins(1);
/// A further connection that nobody used for this long is closed when the next call comes.
const IDLE_LIMIT: Duration = Duration::from_mins(1);

pub(super) struct State {
    pub(super) target: Arc<Target>,
    /// When it was last said that the guest is there.
    pub(super) told: Instant,
    pub(super) links: Vec<Link>,
    /// How many channels a connection takes, as far as is known: what one was refused, all are.
    pub(super) most: usize,
    /// When a refusal last told that.
    pub(super) learnt: Instant,
    /// Channels in use by those who stay long.
    pub(super) for_long: usize,
    pub(super) attempt: Option<AbortHandle>,
    pub(super) failure: Option<Failure>,
}

/// One connection and its use.
pub(super) struct Link {
    pub(super) session: Arc<Session>,
    pub(super) used: usize,
    pub(super) full_until: Option<Instant>,
    pub(super) idle_since: Instant,
}

pub(super) struct Failure {
    pub(super) when: Instant,
    pub(super) error: SshError,
    pub(super) in_a_row: u32,
}

impl State {
    pub(super) fn place_of(&mut self, session: &Arc<Session>) -> Option<&mut Link> {
        let mut links = self.links.iter_mut();
        links.find(|link| Arc::ptr_eq(&link.session, session))
    }

    /// Lets go of what is dead, and of further connections that are no longer needed.
    pub(super) fn tidy(&mut self) {
        self.links.retain(|link| link.session.is_alive());
        if self.links.is_empty() || self.learnt.elapsed() > LEARNT_LIMIT {
            self.most = CHANNELS_EACH;
        }
        let mut at = 0;
        self.links.retain(|link| {
            at += 1;
            at == 1 || link.used > 0 || link.idle_since.elapsed() < IDLE_LIMIT
        });
    }

    /// So much may be in use by those who stay long; the rest is for what is brief.
    pub(super) fn share_for_long(&self) -> usize {
        (MOST_CONNECTIONS - 1) * self.most
    }

    /// The first connection with room. One that has less than was asked for gives of its reserve, which is
    /// better than to leave a channel unused.
    pub(super) fn take(&mut self, channels: usize, stay: Stay) -> Option<Arc<Session>> {
        let most = self.most;
        let mut links = self.links.iter_mut();
        let link = links.find(|link| channels == 0 || link.has_room(most))?;
        link.used += channels;
        let session = Arc::clone(&link.session);
        if stay == Stay::Long {
            self.for_long += channels;
        }
        Some(session)
    }

    /// The guest is there from now on.
    pub(super) fn moved(&mut self, target: Target) {
        self.target = Arc::new(target);
        self.told = Instant::now();
        self.links.clear();
        self.failure = None;
    }

    /// How long the next attempt has to wait.
    pub(super) fn pause(&self) -> Duration {
        match &self.failure {
            Some(failure) => pause_after(failure.in_a_row).saturating_sub(failure.when.elapsed()),
            None => Duration::ZERO,
        }
    }
}

impl Link {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session: Arc::new(session),
            used: 0,
            full_until: None,
            idle_since: Instant::now(),
        }
    }

    fn has_room(&self, most: usize) -> bool {
        self.used < most && self.full_until.is_none_or(|until| until <= Instant::now())
    }
}

fn pause_after(failures_in_a_row: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures_in_a_row.saturating_sub(1));
    FIRST_PAUSE
        .saturating_mul(doubled.unwrap_or(u32::MAX))
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_refuses_is_asked_less_and_less_often() {
        let pauses: Vec<_> = [1, 2, 3, 4, 5, 6, 40, u32::MAX]
            .map(|failures| pause_after(failures).as_millis())
            .into();
        assert_eq!(pauses, [200, 400, 800, 1600, 2000, 2000, 2000, 2000]);
    }
}
