//! What can be done with a command that goes on: look, wait, write, signal, forget.

use std::{fmt::Write, sync::Arc};

use chrono::SecondsFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    jobs::{Follows, Job, JobError, State, Waited},
    model::{Capability, JobAction, OutputStream, VmName},
    ssh::Stream,
};

use super::{
    Server,
    error::ToolError,
    off_thread,
    outcome::{LogData, OTHER_BYTES, Outcome, Said},
    reply::Reply,
    shell::{default_timeout, timeout},
    tool::{Call, Effect, Tool},
};

/// So much of a command is shown in a list, in characters.
const SHOWN: usize = 200;

pub(crate) fn tools() -> Vec<Tool> {
    vec![
        Tool::new::<SshJob, _, _>(
            "ssh_job",
            "Look after commands that go on",
            Some(Capability::Shell),
            Effect::Acts,
            ssh_job,
        )
        .giving::<JobData>(),
    ]
}

/// Looks after commands of ssh_execute that go on as jobs. Actions: list; status; output (from offset on, with the
/// offset of the next part); wait (for its end, at most timeout); stdin (write text to it, if started with
/// background); signal (to all its processes); forget (an ended job and its output).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SshJob {
    /// What to do.
    action: JobAction,
    /// Which job; needed but for list.
    #[serde(default)]
    id: Option<String>,
    /// For output: of which stream.
    #[serde(default)]
    stream: OutputStream,
    /// For output: from which byte on.
    #[serde(default)]
    offset: u64,
    /// For stdin: what to write, newlines included.
    #[serde(default)]
    text: Option<String>,
    /// For stdin: end the input after text.
    #[serde(default)]
    eof: bool,
    /// For signal: INT, TERM, KILL, HUP, …
    #[serde(default)]
    signal: Option<String>,
    /// For wait: seconds.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 0.1, max = 86400.0))]
    timeout: f64,
    /// Only jobs of this VM.
    #[serde(default)]
    vm: Option<VmName>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct JobData {
    /// Of list: these fields of each, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")]
    jobs: Option<Vec<InShort>>,
    #[serde(flatten)]
    job: Option<InShort>,
    #[serde(flatten)]
    logs: Option<LogData>,
    /// What wait gives of a job that has ended.
    #[serde(flatten)]
    said: Option<Said>,
    #[serde(flatten)]
    part: Option<Part>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct InShort {
    job: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    vm: Option<VmName>,
    command: String,
    started: String,
    #[serde(flatten)]
    outcome: Outcome,
    stdout_bytes: u64,
    stderr_bytes: u64,
    last_line: String,
}

/// A part of a stream.
#[derive(Debug, Serialize, JsonSchema)]
struct Part {
    stream: OutputStream,
    // Where it starts: later than asked for, where what is between is in no file.
    offset: u64,
    // Where the next part starts.
    next_offset: u64,
    text: String,
}

impl InShort {
    fn of(job: &Job, state: &State) -> Self {
        let mut command: String = job.command.chars().take(SHOWN).collect();
        if command.len() < job.command.len() {
            command.push('…');
        }
        Self {
            job: job.id.to_string(),
            vm: job.vm.clone(),
            command,
            started: job.started.to_rfc3339_opts(SecondsFormat::Secs, true),
            outcome: Outcome::of(job, state),
            stdout_bytes: state.stdout.bytes,
            stderr_bytes: state.stderr.bytes,
            last_line: state.last_line(),
        }
    }

    fn in_words(&self) -> String {
        let on = match &self.vm {
            Some(vm) => format!(" on {vm}"),
            None => String::new(),
        };
        let mut text = format!(
            "{}{on}: {}; stdout {} bytes, stderr {} bytes; {}",
            self.job,
            self.outcome.in_words(),
            self.stdout_bytes,
            self.stderr_bytes,
            self.command
        );
        if !self.last_line.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  last line: {}", self.last_line);
        }
        text
    }
}

async fn ssh_job(server: Arc<Server>, wanted: SshJob, call: Call) -> Result<Reply, ToolError> {
    let vm = wanted.vm;
    if let Some(vm) = &vm
        && !server.guests.grants(Some(vm), Capability::Shell)
    {
        // It tells what is wrong, or finds that this is the default VM.
        let finding = server.fleet.vm(Some(vm.clone()), Capability::Shell);
        call.unless_cancelled(finding).await??;
    }
    let may_be_seen = |job: &Job| {
        let is_meant = vm.is_none()
            || job.vm == vm
            || (job.vm.is_none() && vm.as_ref().is_some_and(|vm| server.fleet.is_default(vm)));
        is_meant && server.guests.grants(job.vm.as_ref(), Capability::Shell)
    };
    if wanted.action == JobAction::List {
        let mut jobs = server.jobs.all();
        jobs.retain(|job| may_be_seen(job));
        return Ok(list(&jobs));
    }
    let Some(id) = &wanted.id else {
        return Err(missing("id", "the action list shows all jobs"));
    };
    let job = server.jobs.find(id, may_be_seen)?;
    match wanted.action {
        JobAction::List | JobAction::Status => Ok(status(&job)),
        JobAction::Output => output(job, wanted.stream, wanted.offset).await,
        JobAction::Wait => {
            let waiting = job.wait(timeout(wanted.timeout)?, &call.cancel, |state| {
                (call.words)(state.bytes(), 0, &state.last_line());
            });
            match waiting.await {
                Waited::Ended | Waited::Exited => Ok(ended(&job)),
                Waited::TimeUp => Ok(status(&job)),
                Waited::Cancelled => Err(ToolError::new(
                    "the call was cancelled",
                    "The job goes on; `ssh_job` ends it with a signal.",
                )),
            }
        }
        JobAction::Stdin => {
            let text = wanted.text.unwrap_or_default();
            if text.is_empty() && !wanted.eof {
                return Err(missing("text", "or set `eof` to end the input"));
            }
            let bytes = text.len();
            job.write(text.into_bytes(), wanted.eof)?;
            let end = if wanted.eof { ", and its end" } else { "" };
            let what = format!("{bytes} bytes of input{end} are handed to job {}", job.id);
            Ok(done(&job, &what))
        }
        JobAction::Signal => {
            let Some(signal) = &wanted.signal else {
                return Err(missing("signal", "such as INT, TERM or KILL"));
            };
            let signal = signal.parse().map_err(|_| JobError::BadSignal {
                found: signal.escape_debug().to_string(),
            })?;
            // Not to be cancelled: what was sent is sent, and it has limits of its own.
            let processes = job.signal(signal).await?;
            let what = format!(
                "{signal} is sent to {processes} processes of job {}",
                job.id
            );
            Ok(done(&job, &what))
        }
        JobAction::Forget => {
            let (jobs, gone) = (Arc::clone(&server.jobs), Arc::clone(&job));
            off_thread(move || jobs.forget(&gone)).await??;
            Ok(done(&job, &format!("job {} is forgotten", job.id)))
        }
    }
}

fn missing(parameter: &str, hint: &str) -> ToolError {
    ToolError::new(
        format!("this action needs `{parameter}`"),
        format!("Give it: {hint}."),
    )
}

fn list(jobs: &[Arc<Job>]) -> Reply {
    let jobs: Vec<_> = jobs
        .iter()
        .map(|job| InShort::of(job, &job.state()))
        .collect();
    let lines: Vec<_> = jobs.iter().map(InShort::in_words).collect();
    let text = if lines.is_empty() {
        "There are no jobs. `ssh_execute` makes one of a command with `background`, or past its `timeout`."
            .to_owned()
    } else {
        lines.join("\n")
    };
    let data = JobData {
        jobs: Some(jobs),
        ..JobData::default()
    };
    Reply::with_data(text, &data)
}

fn status(job: &Job) -> Reply {
    let state = job.state();
    let data = of(job, &state);
    let short = data.job.as_ref().map(InShort::in_words);
    let logs = data.logs.as_ref().map(LogData::in_words);
    let text = format!(
        "job {}{}",
        short.unwrap_or_default(),
        logs.unwrap_or_default()
    );
    Reply::with_data(text, &data)
}

/// What was done, and how far the job is.
fn done(job: &Job, what: &str) -> Reply {
    Reply::with_data(what, &of(job, &job.state()))
}

fn of(job: &Job, state: &State) -> JobData {
    JobData {
        job: Some(InShort::of(job, state)),
        logs: Some(LogData::of(state)),
        ..JobData::default()
    }
}

fn ended(job: &Job) -> Reply {
    let state = job.state();
    let said = Said::of(&state);
    let text = format!(
        "job {}: {}{}{}",
        job.id,
        Outcome::of(job, &state).in_words(),
        LogData::of(&state).in_words(),
        said.in_words()
    );
    let data = JobData {
        said: Some(said),
        ..of(job, &state)
    };
    Reply::with_data(text, &data)
}

async fn output(job: Arc<Job>, stream: OutputStream, offset: u64) -> Result<Reply, ToolError> {
    let reader = Arc::clone(&job);
    // The state from before: what comes meanwhile is another part.
    let state = job.state();
    let reading = move || reader.read(stream, offset, Stream::KEPT);
    let piece = off_thread(reading).await??;
    let end = piece.start + piece.bytes.len() as u64;
    let bytes = state.output(stream).bytes.max(end);
    let follows = match &state.end {
        _ if end < bytes => Follows::Something,
        Some(_) => Follows::Nothing,
        None => Follows::MoreLater,
    };
    let start = piece.start;
    let is_text = std::str::from_utf8(&piece.bytes).is_ok();
    let (text, next_offset) = piece.text(follows);
    let mut head = format!(
        "job {}: {}; {stream} from byte {start} to {next_offset} of {bytes}",
        job.id,
        Outcome::of(&job, &state).in_words()
    );
    if start > offset {
        let cut = state.output(stream).cut.as_deref().unwrap_or("it is gone");
        let _ = write!(head, "\nbytes {offset} to {start} are nowhere: {cut}");
    }
    if !is_text && text.contains('\u{fffd}') {
        let log = state.output(stream).log.as_ref();
        let whole = log.map_or_else(String::new, |log| format!("; {} has them", log.display()));
        let _ = write!(head, "{OTHER_BYTES}{whole}");
    }
    let head = if text.is_empty() {
        head
    } else {
        format!("{head}\n{text}")
    };
    let data = JobData {
        part: Some(Part {
            stream,
            offset: start,
            next_offset,
            text,
        }),
        ..of(&job, &state)
    };
    Ok(Reply::with_data(head, &data))
}
