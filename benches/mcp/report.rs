//! The tables.

use std::fmt;

use crate::timing::Times;

/// What was measured, in the order of the tables.
pub(crate) struct Report {
    machine: String,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) rates: Vec<Rate>,
    pub(crate) limits: Vec<Limit>,
}

/// One call beside what it cannot do without.
pub(crate) struct Comparison {
    pub(crate) what: String,
    pub(crate) ours: Times,
    pub(crate) floor_name: String,
    pub(crate) floor: Times,
    /// How often the floor's time may go into ours.
    pub(crate) bound: Option<f64>,
}

/// How much goes through in a second, beside somebody else's program or a bare loop.
pub(crate) struct Rate {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// What was moved in the time.
    pub(crate) amount: f64,
    pub(crate) ours: Times,
    pub(crate) floor_name: String,
    pub(crate) floor: Times,
}

/// Something with a bound of its own.
pub(crate) struct Limit {
    pub(crate) what: String,
    pub(crate) value: String,
    pub(crate) bound: &'static str,
    pub(crate) is_met: bool,
}

impl Report {
    pub(crate) fn new(machine: String) -> Self {
        Self {
            machine,
            comparisons: vec![],
            rates: vec![],
            limits: vec![],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        writeln!(
            f,
            "| call | virtpilot | floor | floor's time | ratio | bound |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.comparisons {
            let ratio = row.ours.ratio(&row.floor);
            let bound = match row.bound {
                None => String::new(),
                Some(bound) => format!("≤ {bound}{}", verdict(ratio <= bound)),
            };
            writeln!(
                f,
                "| {} | {} | {} | {} | {ratio:.2} | {bound} |",
                row.what,
                row.ours.milliseconds(),
                row.floor_name,
                row.floor.milliseconds(),
            )?;
        }
        writeln!(
            f,
            "\n| throughput | virtpilot | beside | its throughput | times as long |"
        )?;
        writeln!(f, "|---|---|---|---|---|")?;
        for row in &self.rates {
            let rate =
                |times: &Times| times.shown(row.unit, |time| row.amount / time.as_secs_f64());
            writeln!(
                f,
                "| {} | {} | {} | {} | {:.2} |",
                row.what,
                rate(&row.ours),
                row.floor_name,
                rate(&row.floor),
                row.ours.ratio(&row.floor),
            )?;
        }
        writeln!(f, "\n| the process | measured | bound |")?;
        writeln!(f, "|---|---|---|")?;
        for row in &self.limits {
            let verdict = verdict(row.is_met);
            writeln!(
                f,
                "| {} | {} | {}{verdict} |",
                row.what, row.value, row.bound
            )?;
        }
        Ok(())
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "" } else { " **missed**" }
}
