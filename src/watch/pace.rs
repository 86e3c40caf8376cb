//! How often to look: soon enough to be of use, and never at the guest's expense.
//!
//! A look costs the host some 5 to 40 ms of one core, and reading what it shows may cost a second. The
//! pause after it is ten times as long at least, so that a wait takes less than a tenth of a core; but a
//! second at most, so that looks that take more than a tenth of one are still worth something. So where
//! each look is followed by OCR or a search, of a screen that goes on changing, it takes more.

use std::time::{Duration, Instant};

/// The pause between two looks, unless something is due earlier;
const INTERVAL: Duration = Duration::from_millis(200);
/// but never less than so many times as long as a look takes,
const COST: u32 = 10;
/// within these limits.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The pause after looks that began then. `due` is when something may hold, where that can be said.
pub(super) fn pause(begun: Instant, due: Option<Duration>) -> Duration {
    let least = (begun.elapsed() * COST).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    due.unwrap_or(INTERVAL).min(INTERVAL).max(least)
}
