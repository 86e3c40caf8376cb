//! What a check found, and how that is shown.

use std::io::{self, Write};

use serde::Serialize;

use crate::{model::VmName, tools::ToolError};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// It works, but there is something to know.
    Note,
    Failed,
    /// Not looked at, because of an earlier failure or an option.
    Skipped,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) text: String,
    /// What to do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
    /// What to run at the host's shell, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) commands: Vec<String>,
}

impl Check {
    fn new(name: &'static str, status: Status, text: impl Into<String>) -> Self {
        Self {
            name,
            status,
            text: text.into(),
            advice: None,
            commands: vec![],
        }
    }

    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, text)
    }

    pub(super) fn note(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Note, text)
    }

    pub(super) fn failed(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Failed, text)
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, why)
    }

    /// A failure in the words that a tool would answer with.
    pub(super) fn refused(name: &'static str, error: impl Into<ToolError>) -> Self {
        let error = error.into();
        Self::failed(name, error.line()).advice(error.hint())
    }

    pub(super) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(super) fn command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    pub(super) fn commands(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.commands.extend(commands);
        self
    }

    fn in_words(&self) -> String {
        let mut lines = vec![];
        let mut text = self.text.lines();
        lines.push(format!(
            "{:8} {:14} {}",
            self.status.as_str(),
            self.name,
            text.next().unwrap_or_default()
        ));
        let more = text.chain(self.advice.iter().flat_map(|advice| advice.lines()));
        lines.extend(more.map(|line| format!("{:24}{line}", "")));
        lines.extend(
            self.commands
                .iter()
                .map(|command| format!("{:24}$ {command}", "")),
        );
        lines.join("\n")
    }
}

/// All that was looked at. A person sees each check as it is made, since one may take long.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vm: Option<VmName>,
    /// Whether nothing failed.
    healthy: bool,
    checks: Vec<Check>,
    #[serde(skip)]
    as_json: bool,
}

impl Report {
    pub(super) fn new(as_json: bool) -> Self {
        Self {
            uri: String::new(),
            vm: None,
            healthy: true,
            checks: vec![],
            as_json,
        }
    }

    pub(super) fn about(&mut self, uri: &str) {
        uri.clone_into(&mut self.uri);
    }

    /// Takes note of a check; gives whether it went well.
    pub(super) fn add(&mut self, check: Check) -> io::Result<bool> {
        if !self.as_json {
            writeln!(io::stdout(), "{}", check.in_words())?;
        }
        let is_good = check.status != Status::Failed;
        self.healthy &= is_good;
        self.checks.push(check);
        Ok(is_good)
    }

    /// Ends the report; gives the exit status.
    pub(super) fn end(self) -> io::Result<i32> {
        let mut out = io::stdout();
        let failures = self
            .checks
            .iter()
            .filter(|check| check.status == Status::Failed)
            .count();
        if self.as_json {
            let text = serde_json::to_string_pretty(&self).map_err(io::Error::other)?;
            writeln!(out, "{text}")?;
        } else if failures == 0 {
            writeln!(out, "\nEverything that was looked at works.")?;
        } else {
            let plural = if failures == 1 { "" } else { "s" };
            writeln!(
                out,
                "\n{failures} failure{plural}: mend the first one, then run this again."
            )?;
        }
        out.flush()?;
        Ok(i32::from(!self.healthy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_shown_with_its_advice_and_commands_below() {
        let check = Check::failed("tablet", "there is none")
            .advice("Give it one:")
            .command("virsh attach-device");
        assert_eq!(
            check.in_words(),
            "FAILED   tablet         there is none\n                        Give it one:\n\
             \x20                       $ virsh attach-device"
        );
    }
}
