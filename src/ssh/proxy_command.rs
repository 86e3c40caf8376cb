//! A `ProxyCommand` of the user's SSH configuration: a program whose input and output are the connection.
//!
//! It is run as ssh runs it, for it stands where ssh takes it from. It ends with the connection.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, Join, join},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::model::shell_word;

use super::{Endpoint, SshError, Target};

/// So much of what the program complains of is told.
const MOST_WORDS: usize = 300;
/// And so much is kept, in bytes.
const MOST_HEARD: usize = 4096;

pub(super) struct ProxyCommand {
    _child: Child,
    words: Words,
}

/// What the program said last.
#[derive(Clone)]
pub(super) struct Words {
    endpoint: Endpoint,
    command: String,
    last: Arc<Mutex<String>>,
}

impl ProxyCommand {
    pub(super) fn start(
        line: &str,
        target: &Target,
    ) -> Result<(Self, Join<ChildStdout, ChildStdin>), SshError> {
        let command = expand(line, target)?;
        let endpoint = target.endpoint();
        let cannot_run = |error| SshError::ProxyCommandNotRun {
            command: command.clone(),
            source: Arc::new(error),
        };
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("exec {command}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot_run)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(cannot_run(std::io::ErrorKind::BrokenPipe.into()));
        };
        let last = Arc::new(Mutex::new(String::new()));
        tokio::spawn(listen(stderr, Arc::clone(&last)));
        let words = Words {
            endpoint,
            command,
            last,
        };
        let program = Self {
            _child: child,
            words,
        };
        Ok((program, join(stdout, stdin)))
    }

    pub(super) fn words(&self) -> Words {
        self.words.clone()
    }
}

impl Words {
    /// A failure of connecting, with what the program said to it. Once the server itself has spoken, it is
    /// none of the program's.
    pub(super) fn with(self, error: SshError) -> SshError {
        if !matches!(error, SshError::Handshake { .. } | SshError::Slow { .. }) {
            return error;
        }
        let said = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        SshError::ProxyCommandFailed {
            endpoint: self.endpoint,
            command: self.command,
            said: if said.is_empty() {
                "nothing".to_owned()
            } else {
                format!("`{said}`")
            },
            source: Box::new(error),
        }
    }
}

/// Keeps the program's last line, until it ends.
async fn listen(mut stderr: ChildStderr, last: Arc<Mutex<String>>) {
    let mut heard = Vec::new();
    while let Ok(1..) = stderr.read_buf(&mut heard).await {
        heard.drain(..heard.len().saturating_sub(MOST_HEARD));
        let text = String::from_utf8_lossy(&heard);
        let mut lines = text.lines().rev().map(str::trim);
        if let Some(line) = lines.find(|line| !line.is_empty()) {
            let plain = line.chars().take(MOST_WORDS);
            let plain = plain.map(|c| if c.is_control() { '.' } else { c });
            *last.lock().unwrap_or_else(PoisonError::into_inner) = plain.collect();
        }
    }
}

/// Puts in what stands for `%h` and the like (ssh_config(5), TOKENS).
fn expand(line: &str, target: &Target) -> Result<String, SshError> {
    let port = target.port.to_string();
    let mut command = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        let value = match (c, if c == '%' { rest.next() } else { None }) {
            ('%', Some('%')) => "%",
            ('%', Some('h')) => &target.host,
            ('%', Some('p')) => &port,
            ('%', Some('r')) => &target.user,
            ('%', _) => {
                return Err(SshError::BadProxyCommand {
                    command: line.to_owned(),
                    what: "tokens other than %%, %h, %n, %p and %r are not known there".to_owned(),
                });
            }
            _ => {
                command.push(c);
                continue;
            }
        };
        // A shell reads it, within quotes or without: nothing that means anything to one.
        if value != "%" && shell_word(value) != value {
            return Err(SshError::BadProxyCommand {
                command: line.to_owned(),
                what: format!("{value:?} means something to a shell"),
            });
        }
        command.push_str(value);
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::host_keys;

    #[test]
    fn fills_in_tokens_that_no_shell_can_misread() {
        let mut target = host_keys::tests::target("10.0.0.5", 2222, None);
        let expanded = |line: &str, target: &Target| expand(line, target).ok();
        assert_eq!(
            expanded("nc -X 5 '%h' %p # %r 100%%", &target).as_deref(),
            Some("nc -X 5 '10.0.0.5' 2222 # user 100%")
        );
        for bad in ["nc %h %x", "nc %"] {
            assert_eq!(expanded(bad, &target), None, "{bad}");
        }
        target.user = "a;id".into();
        assert_eq!(
            expanded("nc %h %p", &target).as_deref(),
            Some("nc 10.0.0.5 2222")
        );
        assert_eq!(expanded("nc %r@%h", &target), None);
        target.host = "$(id)".into();
        assert_eq!(expanded("nc %h", &target), None);
    }
}
