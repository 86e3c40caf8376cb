//! Commands in the guest, over SSH.

use std::{collections::BTreeMap, fmt::Write, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Capability, VmName},
    ssh::{self, Status},
};

use super::{
    Server,
    error::ToolError,
    reply::Reply,
    tool::{Call, Effect, Tool},
};

/// Clients give up on a call at 60 s as a rule.
const DEFAULT_TIMEOUT: f64 = 45.0;

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::on_vm::<SshExecute, _, _>(
            "ssh_execute",
            "Run a command in the guest",
            Capability::Shell,
            Effect::Acts,
            ssh_execute,
        )
        .giving::<CommandData>(),
        Tool::on_vm::<SshConnectionInfo, _, _>(
            "ssh_connection_info",
            "Show the SSH connection",
            Capability::Shell,
            Effect::Reads,
            ssh_connection_info,
        )
        .giving::<ConnectionData>(),
    ]
}

/// Runs a shell command in the guest over SSH and returns its exit code and output. Much faster than
/// typing into a terminal, and it works without a screen. A non-zero exit is a result, not a
/// failure. Reaches the VM itself only: what runs in a session inside that VM (Citrix, RDP) is
/// reached by the screen alone. There is no terminal: use stdin or flags instead of prompts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SshExecute {
    /// The command, run by the login shell of the SSH user.
    command: String,
    /// How long it may take, in seconds; past that it is ended with all its children, and the
    /// output so far is returned.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 0.1, max = 86400.0))]
    timeout: f64,
    /// The folder to run it in; the home folder where missing.
    #[serde(default)]
    cwd: Option<String>,
    /// Environment variables, as names and values.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Text for its standard input, which then ends.
    #[serde(default)]
    stdin: Option<String>,
}

fn default_timeout() -> f64 {
    DEFAULT_TIMEOUT
}

#[derive(Debug, Serialize, JsonSchema)]
struct CommandData {
    state: CommandState,
    /// Only where the command exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// Only where a signal ended it, without SIG.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    stdout: String,
    stderr: String,
    duration_ms: u64,
    /// Bytes that are left out of stdout and stderr together.
    omitted_bytes: u64,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum CommandState {
    Exited,
    Signalled,
    TimedOut,
}

async fn ssh_execute(
    server: Arc<Server>,
    vm: Option<VmName>,
    parameters: SshExecute,
    call: Call,
) -> Result<Reply, ToolError> {
    let limit = Duration::try_from_secs_f64(parameters.timeout).map_err(|error| {
        ToolError::new(format!("`timeout`: {error}"), "Give a number of seconds.")
    })?;
    let mut command = ssh::Command::new(parameters.command, limit);
    command.cwd = parameters.cwd;
    command.env = parameters.env.into_iter().collect();
    command.stdin = parameters.stdin.map(String::into_bytes);
    let guest = call
        .unless_cancelled(server.guests.guest(vm, Capability::Shell))
        .await??;
    let mut lines = 0;
    let progress = call.progress;
    let execution = guest.client.execute(command, &call.cancel, |_| {
        lines += 1;
        progress(lines, 0);
    });
    let output = Box::pin(execution)
        .await
        .map_err(|error| server.guests.failed(&guest, error))?;
    let (state, exit_code, signal, how) = match output.status {
        Status::Exited(code) => (
            CommandState::Exited,
            Some(code),
            None,
            format!("exit code {code}"),
        ),
        Status::Signalled(signal) => {
            let how = format!("ended by signal {signal}");
            (CommandState::Signalled, None, Some(signal), how)
        }
        Status::TimedOut { left_running } => {
            let fate = if left_running {
                "it could not be seen to end, and may still be running"
            } else {
                "it was ended with all its children"
            };
            let how = format!(
                "timed out after {} s: {fate}. Give a longer `timeout`, or start it in the \
                 background with its output in a file",
                parameters.timeout
            );
            (CommandState::TimedOut, None, None, how)
        }
    };
    let data = CommandData {
        state,
        exit_code,
        signal,
        stdout: output.stdout.text(),
        stderr: output.stderr.text(),
        duration_ms: milliseconds(output.duration),
        omitted_bytes: output.stdout.omitted + output.stderr.omitted,
    };
    let mut text = format!("{how} ({} ms)", data.duration_ms);
    for (name, stream) in [("stdout", &data.stdout), ("stderr", &data.stderr)] {
        if !stream.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{name}:\n{stream}");
        }
    }
    Ok(Reply::with_data(text, &data))
}

/// Tells how the guest is reached over SSH, and whether it is: host, port, user, how the address was
/// found, the host key's fingerprint and the round-trip time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SshConnectionInfo {}

#[derive(Debug, Serialize, JsonSchema)]
struct ConnectionData {
    connected: bool,
    host: String,
    port: u16,
    user: String,
    /// The private key file; missing where the agent or the usual keys are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// How the address was found.
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    /// Why it is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn ssh_connection_info(
    server: Arc<Server>,
    vm: Option<VmName>,
    _: SshConnectionInfo,
    _: Call,
) -> Result<Reply, ToolError> {
    let guest = server.guests.guest(vm, Capability::Shell).await?;
    let info = guest.client.info().await;
    let target = guest.client.target();
    let error = info
        .error
        .map(|error| ToolError::from(server.guests.failed(&guest, error)).text());
    let host_key = info
        .fingerprint
        .map(|fingerprint| match info.key_algorithm {
            Some(algorithm) => format!("{algorithm} {fingerprint}"),
            None => fingerprint,
        });
    let data = ConnectionData {
        connected: info.connected,
        host: target.host.clone(),
        port: target.port,
        user: target.user.clone(),
        identity: target
            .identity
            .as_ref()
            .map(|path| path.display().to_string()),
        found: guest.found.clone(),
        host_key,
        server_version: info.server_version,
        round_trip_ms: info
            .round_trip
            .map(|it| (it.as_secs_f64() * 10_000.0).round() / 10.0),
        error,
    };
    Ok(Reply::with_data(connection_in_words(&data), &data))
}

fn connection_in_words(data: &ConnectionData) -> String {
    let state = if data.connected {
        "Connected"
    } else {
        "Not connected"
    };
    let mut lines = vec![
        format!("{state}: {}@{} port {}", data.user, data.host, data.port),
        format!("address: {}", data.found),
    ];
    let details = [
        ("identity", data.identity.clone()),
        ("host key", data.host_key.clone()),
        ("server", data.server_version.clone()),
        (
            "round trip",
            data.round_trip_ms.map(|ms| format!("{ms} ms")),
        ),
        ("why", data.error.clone()),
    ];
    for (name, detail) in details {
        lines.extend(detail.map(|detail| format!("{name}: {detail}")));
    }
    lines.join("\n")
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
