//! Times that are taken in turns, so that a machine that slows down meanwhile slows all sides alike.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Times of one act, from the shortest to the longest.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn median(&self) -> Duration {
        self.at(2)
    }

    /// How often the other median goes into this one.
    pub(crate) fn ratio(&self, floor: &Self) -> f64 {
        self.median().as_secs_f64() / floor.median().as_secs_f64()
    }

    /// The median with the quartiles around it.
    pub(crate) fn shown(&self, unit: &str, of: impl Fn(Duration) -> f64) -> String {
        let quartiles = [self.at(1), self.at(3)].map(&of);
        let [low, high] = [
            quartiles[0].min(quartiles[1]),
            quartiles[0].max(quartiles[1]),
        ];
        let median = of(self.median());
        let digits = usize::from(median < 100.0) + usize::from(median < 10.0);
        format!("{median:.digits$} {unit} ({low:.digits$} to {high:.digits$})")
    }

    pub(crate) fn milliseconds(&self) -> String {
        self.shown("ms", |time| time.as_secs_f64() * 1000.0)
    }

    /// Each by a number of parts, as for the time of one character of a text.
    pub(crate) fn per(&self, parts: usize) -> Self {
        let parts = u32::try_from(parts).expect("texts are short");
        Self(self.0.iter().map(|time| *time / parts).collect())
    }

    /// The first, second (the median) or third quartile.
    fn at(&self, quarter: usize) -> Duration {
        self.0[(self.0.len() - 1) * quarter / 4]
    }
}

pub(crate) fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

/// Does each act once in every round, with a rest after it. Acts tell their own time, so that what
/// they prepare does not count.
pub(crate) fn in_turns<const N: usize>(
    rounds: usize,
    rest: Duration,
    acts: [&dyn Fn() -> Duration; N],
) -> [Times; N] {
    // Not counted: they fill caches and make connections.
    let warm_up = if rounds < 10 { 1 } else { 2 };
    let mut times = [(); N].map(|()| Vec::with_capacity(rounds));
    for round in 0..warm_up + rounds {
        for (times, act) in times.iter_mut().zip(&acts) {
            let time = act();
            if round >= warm_up {
                times.push(time);
            }
            thread::sleep(rest);
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        Times(times)
    })
}
