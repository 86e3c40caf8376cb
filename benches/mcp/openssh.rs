//! OpenSSH's own programs, over one connection that is kept open.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::guest::{self, Guest};

/// A connection that `ssh` and `sftp` share, ended with this value.
pub(crate) struct OpenSsh {
    options: Vec<String>,
    port: String,
    destination: String,
}

impl OpenSsh {
    pub(crate) fn connect(guest: &Guest, user: &str) -> Self {
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let known_hosts = guest::cache().join("guest_known_hosts");
        let values = [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            option("IdentityFile", &guest.identity),
            option("UserKnownHostsFile", &known_hosts),
            option("ControlPath", &guest.home().join("ssh")),
        ];
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        options.extend(values.into_iter().flat_map(|it| ["-o".to_owned(), it]));
        let shared = Self {
            options,
            port: guest.port.to_string(),
            destination: format!("{user}@{}", guest.host),
        };
        let status = shared
            .ssh()
            .args(["-M", "-N", "-f", &shared.destination])
            .status();
        assert!(status.expect("ssh starts").success(), "ssh connects");
        shared
    }

    pub(crate) fn execute(&self, line: &str) {
        let output = self.ssh().args([&self.destination, line]).output();
        let output = output.expect("ssh starts");
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs one line of an sftp batch.
    pub(crate) fn sftp(&self, line: &str) {
        let mut child = Command::new("sftp")
            .args(&self.options)
            .args(["-q", "-P", &self.port, "-b", "-", &self.destination])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sftp starts");
        let mut batch = child.stdin.take().expect("stdin is piped");
        writeln!(batch, "{line}").expect("sftp reads its batch");
        drop(batch);
        let status = child.wait().expect("sftp ends");
        assert!(status.success(), "sftp: {line}");
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(&self.options)
            .args(["-T", "-p", &self.port])
            .stdin(Stdio::null());
        command
    }
}

impl Drop for OpenSsh {
    fn drop(&mut self) {
        let _ = self
            .ssh()
            .args(["-q", "-O", "exit", &self.destination])
            .status();
    }
}
