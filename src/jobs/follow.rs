//! The one task that hears a command, keeps its state and writes its logs.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chrono::Utc;
use tokio::{
    fs::File,
    io::AsyncWriteExt as _,
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    model::{JobId, OutputStream, VmName},
    ssh::{Heard, Process, Stream},
    store::{LogPlace, StoreError},
};

use super::{
    Jobs,
    job::{End, Exit, Job, Order, State},
    lock,
};

/// How long a disk may take for one piece of output, or for making its file: meanwhile the command's connection
/// stands still, with all that others have on it.
pub(super) const DISK_LIMIT: Duration = Duration::from_secs(5);

/// The longest log of one stream: a command that never stops must not fill the host's disk.
const LONGEST_LOG: u64 = 16 << 30;

/// A job for a command that was just started, and what follows it to its end.
pub(super) fn new(
    jobs: Arc<Jobs>,
    vm: Option<VmName>,
    command: String,
    place: LogPlace,
    mut process: Process,
) -> (Arc<Job>, impl Future<Output = ()> + Send) {
    let (orders, received) = mpsc::unbounded_channel();
    let job = Arc::new(Job {
        id: JobId::now(),
        vm,
        command,
        started: Utc::now(),
        begun: Instant::now(),
        state: watch::Sender::new(State::default()),
        orders,
        input: Mutex::new(process.take_input()),
        signaller: Mutex::new(process.signaller()),
        logs: Mutex::default(),
    });
    let follower = Follower {
        jobs,
        job: Arc::clone(&job),
        place,
        logs: Logs::NotYet,
    };
    (job, follower.follow(process, received))
}

struct Follower {
    jobs: Arc<Jobs>,
    job: Arc<Job>,
    place: LogPlace,
    logs: Logs,
}

enum Logs {
    NotYet,
    /// That of stdout, and that of stderr.
    Open(Box<[Log; 2]>),
    /// They could not be made.
    Impossible,
}

/// The file of one stream; none after a write that failed.
struct Log {
    path: PathBuf,
    file: Option<File>,
}

impl Follower {
    async fn follow(mut self, mut process: Process, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                heard = process.hear() => match heard {
                    Heard::Accepted => self.change(|state| state.accepted = true),
                    Heard::Stdout(bytes) => self.take(OutputStream::Stdout, &bytes).await,
                    Heard::Stderr(bytes) => self.take(OutputStream::Stderr, &bytes).await,
                    Heard::Exited(status) => {
                        let after = self.job.begun.elapsed();
                        self.change(|state| state.exit = Some(Exit { status, after }));
                    }
                    Heard::Ended(how) => {
                        // Of one that was ended, no reply tells.
                        if how.left_running.is_none() {
                            self.keep_what_is_no_text().await;
                        }
                        // Before anybody hears of the end: locks and files are given back.
                        self.logs = Logs::Impossible;
                        *lock(&self.job.input) = None;
                        *lock(&self.job.signaller) = None;
                        let after = self.job.begun.elapsed();
                        self.change(|state| state.end = Some(End { how, after }));
                        return;
                    }
                },
                // The job holds the other end, and this holds the job.
                Some(order) = orders.recv() => match order {
                    Order::Keep(done) => {
                        process.stays();
                        self.open().await;
                        let _ = done.send(());
                    }
                    Order::End => {
                        self.change(|state| state.is_ending = true);
                        process.end();
                    }
                    Order::LetGo => process.let_go(),
                },
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.job.state.send_modify(change);
    }

    async fn take(&mut self, stream: OutputStream, bytes: &[u8]) {
        let so_far = self.job.state.borrow().output(stream).bytes;
        if so_far + bytes.len() as u64 > Stream::KEPT as u64 && matches!(self.logs, Logs::NotYet) {
            self.open().await;
            // There is more of it than a reply holds, so it must be found later on.
            self.jobs.remember(&self.job);
        }
        // First the file, so that nobody looks there for what is not yet in it.
        self.write(stream, bytes).await;
        self.change(|state| {
            state.output_mut(stream).push(bytes);
            state.latest = stream;
        });
    }

    /// A reply shows text alone: what is none would be lost with it.
    async fn keep_what_is_no_text(&mut self) {
        let is_text = {
            let state = self.job.state.borrow();
            state.stdout.kept.is_text(true) && state.stderr.kept.is_text(true)
        };
        if !is_text && matches!(self.logs, Logs::NotYet) {
            self.open().await;
            self.jobs.remember(&self.job);
        }
    }

    /// Makes the files, and puts into them what came before. Nothing of it is left out of memory yet.
    async fn open(&mut self) {
        if matches!(self.logs, Logs::NotYet) && timeout(DISK_LIMIT, self.make_logs()).await.is_err()
        {
            self.give_up(&format!("its disk does not answer in {DISK_LIMIT:?}"));
        }
    }

    async fn make_logs(&mut self) {
        let jobs = Arc::clone(&self.jobs);
        // That may take its time, and nobody waits for it.
        drop(spawn_blocking(move || jobs.clear_old()));
        let (place, id) = (self.place.clone(), self.job.id.clone());
        let (sender, making) = oneshot::channel();
        spawn_blocking(move || {
            if let Err(Ok(made)) = sender.send(place.make(&id)) {
                // Nobody waits any more, and nobody would find it.
                let _ = made.logs.remove();
            }
        });
        let made = match making.await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return self.give_up(&with_cause(&error)),
            Err(_) => return self.give_up("the server is ending"),
        };
        let log = |stream, file| Log {
            path: made.logs.path(stream),
            file: Some(File::from_std(file)),
        };
        self.logs = Logs::Open(Box::new([
            log(OutputStream::Stdout, made.stdout),
            log(OutputStream::Stderr, made.stderr),
        ]));
        let paths = OutputStream::ALL.map(|stream| made.logs.path(stream));
        *lock(&self.job.logs) = Some(made.logs);
        for (stream, path) in OutputStream::ALL.into_iter().zip(paths) {
            let before = {
                let state = self.job.state.borrow();
                let kept = &state.output(stream).kept;
                [&kept.head[..], &kept.tail].concat()
            };
            self.change(|state| state.output_mut(stream).log = Some(path));
            self.write(stream, &before).await;
        }
    }

    fn give_up(&mut self, why: &str) {
        tracing::warn!(why, "the output of a command goes to no file");
        self.logs = Logs::Impossible;
        self.change(|state| {
            for stream in OutputStream::ALL {
                state.output_mut(stream).cut = Some(why.to_owned());
            }
        });
    }

    async fn write(&mut self, stream: OutputStream, bytes: &[u8]) {
        let Logs::Open(logs) = &mut self.logs else {
            return;
        };
        let [stdout, stderr] = &mut **logs;
        let log = match stream {
            OutputStream::Stdout => stdout,
            OutputStream::Stderr => stderr,
        };
        let logged = self.job.state.borrow().output(stream).logged;
        match log.append(bytes, logged).await {
            Ok(0) => {}
            Ok(more) => self.change(|state| state.output_mut(stream).logged += more),
            Err(why) => {
                tracing::warn!(why, "the log of a command is cut");
                self.change(|state| state.output_mut(stream).cut = Some(why));
            }
        }
    }
}

impl Log {
    /// Writes what follows the bytes that are `logged`, unless it ended before; tells how much that was, or why it
    /// ends here.
    async fn append(&mut self, bytes: &[u8], logged: u64) -> Result<u64, String> {
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        let more = bytes.len() as u64;
        let path = self.path.display();
        let why = if logged + more > LONGEST_LOG {
            format!("a log takes {} GiB at most", LONGEST_LOG >> 30)
        } else {
            match timeout(DISK_LIMIT, write_through(file, bytes)).await {
                Ok(Ok(())) => return Ok(more),
                Ok(Err(error)) => format!("cannot write {path}: {error}"),
                Err(_) => format!("writing {path} takes longer than {DISK_LIMIT:?}"),
            }
        };
        self.file = None;
        Err(why)
    }
}

async fn write_through(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes).await?;
    // Else an error would be heard of too late, and a reader might come too early.
    file.flush().await
}

fn with_cause(error: &StoreError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::OwnedFd};

    use super::*;

    #[tokio::test]
    async fn a_log_whose_disk_hangs_is_cut_there() {
        // A pipe that nobody reads takes some, and then keeps whoever writes.
        let (reader, writer) = io::pipe().unwrap();
        let mut log = Log {
            path: "log".into(),
            file: Some(File::from_std(fs::File::from(OwnedFd::from(writer)))),
        };
        assert_eq!(log.append(b"first", 0).await, Ok(5));
        let cut = log.append(&vec![0; 1 << 20], 5).await;
        assert_eq!(cut, Err("writing log takes longer than 5s".to_owned()));
        assert_eq!(log.append(b"later", 5).await, Ok(0));
        // The thread that writes gets away by that.
        drop(reader);
    }
}
