//! Commands in the guest, over SSH.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    guest::Guest,
    jobs::{ACCEPTANCE, Job, JobError, Manner, State, Waited},
    model::{Capability, VmName},
    ssh::{self, SshError},
};

use super::{
    Server,
    error::ToolError,
    files::counted,
    off_thread,
    outcome::{CommandState, LogData, Outcome, Said},
    reply::Reply,
    tool::{Call, Effect, Tool},
};

/// Clients give up on a call at 60 s as a rule.
const DEFAULT_TIMEOUT: f64 = 45.0;
/// A call of the default time limit, together with what comes before the command, ends before this time.
const BUDGET: Duration = Duration::from_secs(54);
/// Past the budget, what comes before a command takes nothing away from the time that is waited for it.
const LONGEST_IN_BUDGET: Duration = Duration::from_secs(45);
/// How long a cancelled call waits for its command to be ended.
const ENDING_LIMIT: Duration = Duration::from_mins(2);

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
/// failure. What takes longer than timeout goes on as a job: the reply has the output so far and an id for
/// ssh_job. Long output is shown by its beginning and end, and lies whole in a file. Reaches the VM itself only: what runs in a session inside that VM (Citrix, RDP) is reached by the screen alone. There is no
/// terminal: use stdin or flags instead of prompts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SshExecute {
    /// The command, run by the login shell of the SSH user.
    command: String,
    /// How long to wait for its end, in seconds; past that it goes on as a job.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 0.1, max = 86400.0))]
    timeout: f64,
    /// The folder to run it in; the home folder where missing.
    #[serde(default)]
    cwd: Option<String>,
    /// Environment variables, as names and values.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Text for its standard input, which then ends; with background it stays open for ssh_job.
    #[serde(default)]
    stdin: Option<String>,
    /// Return at once with a job id. It ends with this server at the latest.
    #[serde(default)]
    background: bool,
}

pub(super) fn default_timeout() -> f64 {
    DEFAULT_TIMEOUT
}

/// A number of seconds that came as a parameter.
pub(super) fn timeout(seconds: f64) -> Result<Duration, ToolError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| ToolError::new(format!("`timeout`: {error}"), "Give a number of seconds."))
}

#[derive(Debug, Serialize, JsonSchema)]
struct CommandData {
    #[serde(flatten)]
    outcome: Outcome,
    #[serde(flatten)]
    said: Said,
    #[serde(flatten)]
    logs: LogData,
    /// For ssh_job, where it goes on or there is more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
}

async fn ssh_execute(
    server: Arc<Server>,
    vm: Option<VmName>,
    parameters: SshExecute,
    call: Call,
) -> Result<Reply, ToolError> {
    let asked = Instant::now();
    let limit = timeout(parameters.timeout)?;
    let mut command = ssh::Command::new(parameters.command, limit);
    command.cwd = parameters.cwd;
    command.env = parameters.env.into_iter().collect();
    command.stdin = parameters.stdin.map(String::into_bytes);
    command.input_stays_open = parameters.background;
    let manner = if parameters.background {
        Manner::Background
    } else {
        Manner::Foreground
    };
    let guest = call
        .unless_cancelled(server.guests.guest(vm, Capability::Shell))
        .await??;
    let place = server.log_place();
    let starting = server
        .jobs
        .start(&guest, command, manner, place, &call.cancel);
    let job = Box::pin(starting)
        .await
        .map_err(|error| of_guest(&server, &guest, error))?;
    match manner {
        Manner::Background => job.accepted(ACCEPTANCE).await,
        Manner::Foreground => {
            let limit = in_budget(limit, asked.elapsed());
            let waited = job.wait(limit, &call.cancel, |state| {
                (call.words)(state.bytes(), 0, &state.last_line());
            });
            match waited.await {
                Waited::Ended => {}
                Waited::Exited | Waited::TimeUp => server.jobs.keep(&job).await,
                Waited::Cancelled => return Err(end(&server, &guest, &job).await),
            }
        }
    }
    let state = job.state();
    if let Some(Err(error @ SshError::ExecRefused { .. })) = state.status() {
        // It never ran, so there is no job.
        let gone = Arc::clone(&job);
        let jobs = Arc::clone(&server.jobs);
        off_thread(move || jobs.forget(&gone)).await??;
        return Err(of_guest(&server, &guest, error.clone().into()));
    }
    Ok(reply(&server, &guest, &job, &state, manner))
}

fn reply(server: &Server, guest: &Arc<Guest>, job: &Job, state: &State, manner: Manner) -> Reply {
    let data = CommandData {
        outcome: Outcome::of(job, state),
        said: Said::of(state),
        logs: LogData::of(state),
        job: server.jobs.has(job).then(|| job.id.to_string()),
    };
    let error = state.status().and_then(Result::err);
    let error = error.map(|error| of_guest(server, guest, error.clone().into()));
    let id = &job.id;
    let mut text = match (data.outcome.state, manner, &error) {
        (_, _, Some(error)) => error.text(),
        (CommandState::Running, Manner::Background, _) => format!(
            "started as job {id}. `ssh_job` waits for it, reads its output, writes to it, signals it"
        ),
        (CommandState::Running, Manner::Foreground, _) => format!(
            "still running after {:.1} s: it goes on as job {id}. `ssh_job` waits for it, reads its output from \
             offset {} on (stderr: {}), signals it",
            job.duration().as_secs_f64(),
            state.stdout.bytes,
            state.stderr.bytes
        ),
        (CommandState::Unknown, _, None) if state.end.is_none() => format!(
            "whether it runs is unknown: the guest's server has not answered for {:.1} s. Look there before you run \
             it again. It is job {id}: `ssh_job` waits for it, ends it with a signal",
            job.duration().as_secs_f64()
        ),
        (CommandState::Exited | CommandState::Signalled, _, _) if state.end.is_none() => format!(
            "{}. What it writes goes to job {id}: `ssh_job` reads it; `forget` lets go of it",
            data.outcome.in_words()
        ),
        (_, Manner::Background, _) => format!("job {id}: {}", data.outcome.in_words()),
        _ => data.outcome.in_words(),
    };
    if data.said.omitted_bytes > 0 && data.job.is_some() && state.end.is_some() {
        let _ = write!(
            text,
            "\njob {id}: `ssh_job` with action output reads what is left out"
        );
    }
    text.push_str(&data.logs.in_words());
    text.push_str(&data.said.in_words());
    let mut reply = Reply::with_data(text, &data);
    if let Some(error) = error {
        reply.failed_with(&error);
    }
    reply
}

/// Ends a command whose caller is gone, and says how that went.
async fn end(server: &Server, guest: &Arc<Guest>, job: &Job) -> ToolError {
    job.end();
    let never = CancellationToken::new();
    job.wait(ENDING_LIMIT, &never, |_| ()).await;
    let left_running = match job.state().end {
        Some(end) => end.how.left_running.unwrap_or(false),
        None => true,
    };
    of_guest(server, guest, SshError::Cancelled { left_running }.into())
}

/// Takes note of a failure that may be the guest's.
fn of_guest(server: &Server, guest: &Arc<Guest>, error: JobError) -> ToolError {
    match error {
        JobError::Ssh(error) => server.guests.failed(guest, error).into(),
        error => error.into(),
    }
}

/// How long the call waits for the command, so that it ends before its client gives up: what was spent
/// before counts, but for calls that were given longer than a client waits.
fn in_budget(timeout: Duration, spent: Duration) -> Duration {
    if timeout > LONGEST_IN_BUDGET {
        return timeout;
    }
    timeout.min(BUDGET.saturating_sub(spent))
}

/// Tells how the guest is reached over SSH, and whether it is: host, port, user, jump hosts, how the
/// address was found, the host key's fingerprint, what is in use and the round-trip time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SshConnectionInfo {}

#[derive(Debug, Serialize, JsonSchema)]
struct ConnectionData {
    connected: bool,
    host: String,
    port: u16,
    user: String,
    /// The private key file, where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// How the address was found.
    found: String,
    // What let us in: a key, a certificate or the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<String>,
    jump_hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key: Option<String>,
    /// The authority whose certificate vouches for the host key.
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    connections: usize,
    channels_in_use: usize,
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
    let target = info.target;
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
        found: match guest.unconfigured() {
            Some(why) => format!(
                "{}; your SSH configuration is left out ({why})",
                guest.found()
            ),
            None => guest.found(),
        },
        login: info.login,
        jump_hosts: target.jumps.iter().map(ssh::Target::login).collect(),
        proxy_command: {
            let mut hops = target.jumps.iter().chain([&*target]);
            hops.next().and_then(|first| first.proxy_command.clone())
        },
        host_key,
        authority: info.authority,
        server_version: info.server_version,
        round_trip_ms: info
            .round_trip
            .map(|it| (it.as_secs_f64() * 10_000.0).round() / 10.0),
        connections: info.usage.connections,
        channels_in_use: info.usage.channels,
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
    let through = (!data.jump_hosts.is_empty()).then(|| data.jump_hosts.join(", "));
    let in_use = data.connected.then(|| {
        format!(
            "{} of {}",
            counted(data.channels_in_use as u64, "channel", "channels"),
            counted(data.connections as u64, "connection", "connections")
        )
    });
    let details = [
        ("through", through),
        ("proxy command", data.proxy_command.clone()),
        ("identity", data.identity.clone()),
        ("let in by", data.login.clone()),
        ("host key", data.host_key.clone()),
        ("signed by", data.authority.clone()),
        ("server", data.server_version.clone()),
        (
            "round trip",
            data.round_trip_ms.map(|ms| format!("{ms} ms")),
        ),
        ("in use", in_use),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_the_default_time_ends_before_its_client_gives_up() {
        let seconds = Duration::from_secs;
        let cases = [
            // The usual one: connecting takes nothing away.
            (45, 0, 45),
            (45, 9, 45),
            (45, 10, 44),
            // The longest that a turn and connecting take.
            (45, 50, 4),
            (4, 50, 4),
            (45, 60, 0),
            // Who gives more waits longer.
            (46, 40, 46),
        ];
        for (timeout, spent, expected) in cases {
            let limit = in_budget(seconds(timeout), seconds(spent));
            assert_eq!(limit, seconds(expected), "{timeout} after {spent}");
        }
    }
}
