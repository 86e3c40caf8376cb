//! Watching what the guest writes to its serial console: `console`.

use std::{sync::Arc, time::Duration};

use crate::{
    hypervisor::HypervisorError,
    model::{Condition, Pattern},
    vm::{Vm, VmError},
};

use super::{Findings, WatchError, may_be_off};

/// How often what was written is fetched.
const INTERVAL: Duration = Duration::from_millis(100);

/// So much of what was written last can match.
const KEPT: usize = 64 * 1024;

/// Of the line that matched, so many characters are told.
const QUOTED: usize = 200;

/// Waits until the guest has written what one of the patterns finds; for ever where there is none.
pub(super) async fn watch(
    vm: &Arc<Vm>,
    conditions: &[Condition],
    findings: &Findings,
) -> Result<String, WatchError> {
    let wanted: Vec<_> = conditions
        .iter()
        .enumerate()
        .filter_map(|(at, condition)| match condition {
            Condition::Console(console) => Some((at, &console.pattern)),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return std::future::pending().await;
    }
    let note = |text: &str| {
        for (at, _) in &wanted {
            findings.note(*at, text);
        }
    };
    let may_be_off = may_be_off(conditions);
    let mut open = None;
    let mut written = Written::default();
    loop {
        let outcome = match open.take() {
            Some(console) => vm.read_console(console).await,
            None => vm.console().await.map(|console| (console, vec![])),
        };
        match outcome {
            Ok((console, bytes)) => {
                open = Some(console);
                written.add(&bytes);
                let found = wanted.iter().find_map(|(_, pattern)| written.find(pattern));
                if let Some(line) = found {
                    return Ok(format!("The guest wrote \"{line}\" to its serial console"));
                }
                note(&written.told());
            }
            Err(error) if may_be_off && is_off(&error) => note(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether the VM does not run, or ceased to just now.
fn is_off(error: &VmError) -> bool {
    matches!(
        error,
        VmError::Hypervisor(
            HypervisorError::NotRunning { .. }
                | HypervisorError::ConsoleEnded { .. }
                | HypervisorError::ConsoleBroke { .. }
        )
    )
}

/// What was written since the wait began, as a person would read it.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// Without colours and other commands to a terminal.
    text: String,
}

impl Written {
    fn add(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..excess);
        // All of it anew: a character or a command may have come in parts.
        self.text = strip_ansi_escapes::strip_str(String::from_utf8_lossy(&self.bytes));
    }

    /// The line that matches, or the one in which the match begins.
    fn find(&self, pattern: &Pattern) -> Option<String> {
        let found = pattern.find(&self.text)?;
        let begin = self.text[..found.start].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[begin..].lines().next().unwrap_or_default().trim();
        Some(line.chars().take(QUOTED).collect())
    }

    fn told(&self) -> String {
        match self.text.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => {
                let line: String = line.trim().chars().take(QUOTED).collect();
                format!("the guest last wrote \"{line}\"")
            }
            None => "the guest wrote nothing".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]]) -> Written {
        let mut written = Written::default();
        for part in parts {
            written.add(part);
        }
        written
    }

    fn found(written: &Written, pattern: &str) -> Option<String> {
        written.find(&pattern.parse().unwrap())
    }

    #[test]
    fn lines_are_found_without_colours_and_though_they_come_in_parts() {
        let boot = written(&[
            b"[\x1b[0;32m  O",
            b"K  \x1b[0m] Reached target \x1b[0;1;39mLo",
            b"gin Prompts\xc3",
            b"\xa4\x1b[0m.\r\n\r\ndemo log",
            b"in: ",
        ]);
        assert_eq!(
            found(&boot, "^demo login: $").as_deref(),
            Some("demo login:")
        );
        assert_eq!(
            found(&boot, r"\[  OK  \] Reached").as_deref(),
            Some("[  OK  ] Reached target Login Promptsä.")
        );
        assert_eq!(found(&boot, "Login\n"), None);
        assert_eq!(boot.told(), "the guest last wrote \"demo login:\"");
        assert_eq!(Written::default().told(), "the guest wrote nothing");
    }

    #[test]
    fn only_the_last_of_much_is_kept() {
        let mut much = written(&[b"first\n"]);
        for _ in 0..100 {
            much.add(&[b'x'; 1024]);
        }
        assert_eq!(found(&much, "first"), None);
        assert_eq!(much.bytes.len(), KEPT);
        assert_eq!(found(&much, "x+$").map(|line| line.len()), Some(QUOTED));
    }
}
