//! A tree on its way to the guest.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Instant};

use russh_sftp::protocol::FileAttributes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ssh::{
    Client, Manner, SshError, Verified, checksum, exec,
    flow::IN_FLIGHT,
    on_files,
    pool::until,
    sftp::Sftp,
    source::Source,
    transfer::{SETTLING_PAUSE, join, left_behind, mode_and_times, of_transfer},
    upload::Place,
};

use super::{
    HostFolder, TreeTransfer, below, cut_short, depth, folder_of,
    guest_side::{make_folder, make_link},
    is_blocked, may_be_unfinished,
    sending::Wanted,
    side_by_side,
    walk::{Entry, Walk, What},
};

/// An upload of a tree.
pub(super) struct Up<'a, P> {
    client: &'a Client,
    pub(super) sftp: Arc<Sftp>,
    pub(super) manner: Manner,
    pub(super) cancel: &'a CancellationToken,
    pub(super) from: Arc<HostFolder>,
    pub(super) to: String,
    pub(super) tree: TreeTransfer,
    /// Folders that this made. Nothing can be there in them.
    pub(super) new: BTreeSet<String>,
    /// Folders that get their modes and times in the end: those, and with `resume` what an interrupted call may
    /// have made.
    unfinished: BTreeSet<String>,
    pub(super) blocked: BTreeSet<String>,
    /// Files on the guest that have not their names yet.
    pub(super) temporaries: BTreeSet<String>,
    token: u64,
    numbered: u64,
    pub(super) moved: u64,
    pub(super) total: u64,
    pub(super) progress: P,
}

impl<'a, P: FnMut(u64, u64) + Send> Up<'a, P> {
    pub(super) fn new(
        client: &'a Client,
        sftp: Arc<Sftp>,
        manner: Manner,
        cancel: &'a CancellationToken,
        (from, to): (HostFolder, String),
        progress: P,
    ) -> Self {
        Self {
            client,
            sftp,
            manner,
            cancel,
            from: Arc::new(from),
            to,
            tree: TreeTransfer::new(manner, super::Notes::default(), super::Notes::default()),
            new: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            blocked: BTreeSet::new(),
            temporaries: BTreeSet::new(),
            token: exec::random() >> 32,
            numbered: 0,
            moved: 0,
            total: 0,
            progress,
        }
    }

    /// Moves all that it can.
    pub(super) async fn run(mut self, walk: Walk, old: Option<FileAttributes>) -> TreeTransfer {
        let Walk {
            mode,
            times,
            entries,
            skipped,
            failed,
        } = walk;
        self.tree.skipped = skipped;
        self.tree.failed = failed;
        self.total = entries.iter().map(Entry::size).fold(0, u64::saturating_add);
        self.note_folder(String::new(), mode, old);
        let own = Entry {
            path: String::new(),
            what: What::Folder,
            mode,
            times,
        };
        let mut stopped = self.move_all(&own, &entries).await.err().map(of_transfer);
        if !self.temporaries.is_empty() {
            // A task that is stopped may have asked for one more.
            sleep(SETTLING_PAUSE).await;
            let left: Vec<_> = self.temporaries.iter().cloned().collect();
            let leftover = self.client.clean_up(&self.sftp, &left).await;
            stopped = stopped.map(|error| left_behind(error, leftover));
        }
        self.tree.stopped = stopped.map(cut_short);
        self.tree
    }

    async fn move_all(&mut self, own: &Entry, entries: &[Entry]) -> Result<(), SshError> {
        let start = Instant::now();
        let cancel = self.cancel;
        until(cancel, self.make_folders(entries)).await?;
        until(cancel, self.make_links(entries)).await?;
        self.tree.transfer_time += start.elapsed();

        let most = u64::from(self.sftp.write_length);
        let files = entries
            .iter()
            .filter(|entry| matches!(entry.what, What::File { .. }));
        let (small, large): (Vec<_>, Vec<_>) = files.partition(|entry| entry.size() <= most);
        for group in small.chunks(checksum::MOST_FILES) {
            for wanted in self.move_group(group).await? {
                self.move_alone(wanted).await?;
            }
        }
        for entry in large {
            let start = Instant::now();
            let wanted = until(cancel, self.wanted(&[entry])).await?;
            self.tree.transfer_time += start.elapsed();
            for wanted in wanted {
                self.move_alone(wanted).await?;
            }
        }

        // Last of all: what is made in a folder changes its time, and it may not be open for writing.
        let start = Instant::now();
        let folders = entries.iter().filter(|entry| entry.what == What::Folder);
        let mut unfinished: Vec<_> = folders.chain([own]).collect();
        unfinished.retain(|entry| self.unfinished.contains(&entry.path));
        unfinished.sort_by_key(|entry| Reverse(depth(&entry.path)));
        for level in unfinished.chunk_by(|one, other| depth(&one.path) == depth(&other.path)) {
            let mut set = Vec::new();
            for entry in level {
                let (sftp, path) = (Arc::clone(&self.sftp), below(&self.to, &entry.path));
                // Where something failed, another call can go on.
                let is_incomplete = self.tree.incomplete.contains(&entry.path);
                let for_owner = if is_incomplete { 0o700 } else { 0 };
                let mode = entry.mode.unwrap_or(0o755) | for_owner;
                let wanted = mode_and_times(mode, entry.times);
                // Some file systems have neither.
                set.push(async move { drop(sftp.set_attributes_at(&path, wanted).await) });
            }
            let setting = side_by_side(IN_FLIGHT, set, |()| Ok(()));
            until(cancel, setting).await?;
        }
        self.tree.transfer_time += start.elapsed();
        Ok(())
    }

    /// Makes the folders, each level when the one above is there.
    async fn make_folders(&mut self, entries: &[Entry]) -> Result<(), SshError> {
        let folders = entries.iter().filter(|entry| entry.what == What::Folder);
        let mut folders: Vec<_> = folders.collect();
        folders.sort_by_key(|entry| depth(&entry.path));
        for level in folders.chunk_by(|one, other| depth(&one.path) == depth(&other.path)) {
            let mut making = Vec::new();
            for entry in level {
                if is_blocked(&entry.path, &self.blocked) {
                    self.tree.failed.add(&entry.path, "its folder is missing");
                    self.blocked.insert(entry.path.clone());
                    continue;
                }
                let (sftp, path) = (Arc::clone(&self.sftp), below(&self.to, &entry.path));
                let (name, wanted) = (entry.path.clone(), entry.mode);
                making.push(async move {
                    let made = make_folder(&sftp, &path, wanted.unwrap_or(0o755)).await;
                    (name, wanted, made)
                });
            }
            side_by_side(IN_FLIGHT, making, |(path, wanted, made)| {
                match made {
                    Ok(old) => self.note_folder(path, wanted, old),
                    Err(error) => {
                        self.tree.fail(&path, error)?;
                        self.blocked.insert(path);
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Takes note of a folder that is there now, and of what it was before.
    fn note_folder(&mut self, path: String, mode: Option<u32>, old: Option<FileAttributes>) {
        let Some(old) = old else {
            self.tree.folders += 1;
            self.new.insert(path.clone());
            self.unfinished.insert(path);
            return;
        };
        let wanted = mode.unwrap_or(0o755);
        let there = old.permissions;
        if self.manner.resume && there.is_some_and(|there| may_be_unfinished(&path, there, wanted))
        {
            self.unfinished.insert(path);
        }
    }

    async fn make_links(&mut self, entries: &[Entry]) -> Result<(), SshError> {
        let mut making = Vec::new();
        for entry in entries {
            let What::Link { target } = &entry.what else {
                continue;
            };
            if is_blocked(&entry.path, &self.blocked) {
                self.tree.failed.add(&entry.path, "its folder is missing");
                continue;
            }
            let temporary = self.temporary(&entry.path);
            self.temporaries.insert(temporary.clone());
            let (sftp, path) = (Arc::clone(&self.sftp), below(&self.to, &entry.path));
            let (name, target) = (entry.path.clone(), target.clone());
            let overwrite = self.manner.overwrite;
            making.push(async move {
                let made = make_link(&sftp, &path, &target, &temporary, overwrite).await;
                if made.is_err() {
                    // It may never have been made.
                    let _ = sftp.remove(&temporary).await;
                }
                (name, temporary, made)
            });
        }
        let (tree, temporaries) = (&mut self.tree, &mut self.temporaries);
        side_by_side(IN_FLIGHT, making, |(path, temporary, made)| {
            temporaries.remove(&temporary);
            match made {
                Ok(()) => tree.links += 1,
                Err(error) => tree.fail(&path, error)?,
            }
            Ok(())
        })
        .await
    }

    /// Moves one file as [`Client::upload`] does.
    async fn move_alone(&mut self, wanted: Wanted<'_>) -> Result<(), SshError> {
        let start = Instant::now();
        let wanted = until(self.cancel, self.without_unchanged(vec![wanted])).await?;
        self.tree.transfer_time += start.elapsed();
        for Wanted { entry, old } in wanted {
            let (from, file) = (Arc::clone(&self.from), entry.path.clone());
            let path = below(&self.to, &entry.path);
            let (moved, total) = (self.moved, self.total);
            let (sftp, cancel) = (&self.sftp, self.cancel);
            let progress = &mut self.progress;
            let progress = |done, _| progress(moved + done, total.max(moved + done));
            let sent = async {
                let opening = on_files(move || {
                    let (file, shown) = from.file(&file)?;
                    Source::of(file, shown)
                });
                let mut source = opening.await?;
                let place = Place::at(sftp, path, old, self.manner)?;
                self.client
                    .send(sftp, &place, &mut source, cancel, progress)
                    .await
            };
            match sent.await {
                Ok(transfer) => {
                    self.tree.files += 1;
                    self.tree.bytes += transfer.bytes;
                    self.tree.transfer_time += transfer.transfer_time;
                    self.tree.verify_time += transfer.verify_time;
                    if transfer.verified == Verified::ReadBack {
                        self.tree.verified = Verified::ReadBack;
                    }
                }
                Err(error) => self.tree.fail(&entry.path, error)?,
            }
            self.moved += entry.size();
        }
        Ok(())
    }

    /// A name beside a file of the tree that nothing else has.
    pub(super) fn temporary(&mut self, path: &str) -> String {
        self.numbered += 1;
        let folder = below(&self.to, folder_of(path));
        let name = format!(".virtpilot-{:08x}-{}.part", self.token, self.numbered);
        join(&folder, &name)
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.moved += bytes;
        (self.progress)(self.moved, self.total.max(self.moved));
    }
}
