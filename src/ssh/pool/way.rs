//! Where the guest is, and connecting there.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use super::{Pool, Session, SshError, Target};

/// For so long after it was said where the guest is, nobody is asked again before connecting there.
const FRESH: Duration = Duration::from_secs(5);

/// Tells where the guest may be now, the likeliest place first; nowhere where that is not known. A failure tells
/// that it cannot be reached at all.
pub(in crate::ssh) type Finder = Box<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<Vec<Target>, SshError>> + Send>> + Send + Sync,
>;

impl Pool {
    /// The guest is at one of these places from now on, the likeliest first. What runs on the connections to where it
    /// was goes on.
    pub(in crate::ssh) fn move_to(&self, places: &[Target]) {
        if !self.goes_to(places) {
            return;
        }
        if let Some(attempt) = self.state().attempt.take() {
            attempt.abort();
        }
        self.changed.notify_waiters();
    }

    /// Connects where the guest is. Another VM may answer at its old address by now, so that after a while, and
    /// where nothing leads there, it is found anew.
    pub(super) async fn connect(&self) -> Result<Session, SshError> {
        let mut places = None;
        if self.may_have_moved() {
            let found = self.find().await?;
            self.goes_to(&found);
            places = Some(found);
        }
        let target = self.target();
        match self.in_time(Session::connect(&target)).await {
            Err(error) if error.may_be_elsewhere() => {
                let places = match places {
                    Some(places) => places,
                    None => self.find().await?,
                };
                self.connect_elsewhere(places, &target, error).await
            }
            outcome => outcome,
        }
    }

    /// Whether it was said too long ago where the guest is.
    fn may_have_moved(&self) -> bool {
        let state = self.state();
        state.links.is_empty() && state.told.elapsed() > FRESH
    }

    /// Where the guest may be; nowhere where nobody can be asked.
    async fn find(&self) -> Result<Vec<Target>, SshError> {
        match &self.finder {
            Some(finder) => finder().await,
            None => Ok(vec![]),
        }
    }

    /// Tries the other places, after this `error` at the usual one.
    async fn connect_elsewhere(
        &self,
        places: Vec<Target>,
        usual: &Target,
        error: SshError,
    ) -> Result<Session, SshError> {
        let is_known_there = places.contains(usual);
        let mut likeliest = None;
        for place in places.into_iter().filter(|it| it != usual) {
            tracing::debug!(%error, host = place.host, port = place.port, "the guest may have moved");
            match self.in_time(Session::connect(&place)).await {
                Err(error) if error.may_be_elsewhere() => {
                    likeliest.get_or_insert((place, error));
                }
                outcome => {
                    self.state().moved(place);
                    return outcome;
                }
            }
        }
        match likeliest {
            Some((place, error)) if !is_known_there => {
                self.state().moved(place);
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// Goes to the likeliest of these places, unless the guest is known to be at one of them; tells whether it went.
    fn goes_to(&self, places: &[Target]) -> bool {
        let mut state = self.state();
        let Some(first) = places.first() else {
            return false;
        };
        if places.contains(&state.target) {
            state.told = Instant::now();
            return false;
        }
        tracing::debug!(host = first.host, port = first.port, "the guest has moved");
        state.moved(first.clone());
        true
    }
}
