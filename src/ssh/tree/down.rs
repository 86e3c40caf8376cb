//! A tree on its way from the guest, which may tell anything: what is written lands in the folder or nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use russh_sftp::{client::error::Error as SftpError, protocol::StatusCode};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::ssh::{
    Manner, SshError, Verified, checksum,
    download::Landing,
    flow::{IN_FLIGHT, ticking},
    on_files,
    pool::until,
    sftp::{Sftp, is},
    transfer::of_transfer,
};

use super::{
    HostFolder, Permits, TreeTransfer, below, cut_short, folder_of,
    host_side::{
        Arrived, finish_folder, make_folder, make_link, may_be_made_before, name, old_mode, sha256,
        write_small,
    },
    is_blocked, name_of, side_by_side,
    walk::{Entry, PROTECTED, Walk, What, on_host},
};

/// A download of a tree.
pub(super) struct Down<'a, P> {
    sftp: Arc<Sftp>,
    manner: Manner,
    cancel: &'a CancellationToken,
    from: String,
    to: Arc<HostFolder>,
    permits: Permits,
    tree: TreeTransfer,
    /// Folders that this made.
    new: BTreeSet<String>,
    blocked: BTreeSet<String>,
    /// Held by all that is being written, to know when the last of it is removed.
    writing: Arc<RwLock<()>>,
    moved: u64,
    total: u64,
    progress: P,
}

impl<'a, P: FnMut(u64, u64) + Send> Down<'a, P> {
    pub(super) fn new(
        sftp: Arc<Sftp>,
        manner: Manner,
        cancel: &'a CancellationToken,
        (from, to): (String, HostFolder),
        permits: Permits,
        progress: P,
    ) -> Self {
        Self {
            sftp,
            manner,
            cancel,
            from,
            to: Arc::new(to),
            permits,
            tree: TreeTransfer::new(manner, super::Notes::default(), super::Notes::default()),
            new: BTreeSet::new(),
            blocked: BTreeSet::new(),
            writing: Arc::default(),
            moved: 0,
            total: 0,
            progress,
        }
    }

    /// Moves all that it can.
    pub(super) async fn run(mut self, walk: Walk, is_new: bool) -> TreeTransfer {
        let Walk {
            mode,
            times,
            mut entries,
            skipped,
            failed,
        } = walk;
        self.tree.skipped = skipped;
        self.tree.failed = failed;
        let (permits, root, tree) = (&self.permits, &self.to.shown, &mut self.tree);
        entries.retain(|entry| {
            let is_permitted = permits(&on_host(root, &entry.path));
            if !is_permitted {
                tree.skipped.add(&entry.path, PROTECTED);
            }
            is_permitted
        });
        self.total = entries.iter().map(Entry::size).fold(0, u64::saturating_add);
        if is_new {
            self.new.insert(String::new());
            self.tree.folders += 1;
        }
        let own = Entry {
            path: String::new(),
            what: What::Folder,
            mode,
            times,
        };
        let entries = Arc::new(entries);
        let moved = self.move_all(&entries).await;
        // What was on its way to the disk is removed when it is there.
        drop(self.writing.write().await);
        let finished = self.finish_folders(own, &entries, moved.is_ok()).await;
        let stopped = moved.and(finished).err().map(of_transfer);
        self.tree.stopped = stopped.map(cut_short);
        self.tree
    }

    async fn move_all(&mut self, entries: &Arc<Vec<Entry>>) -> Result<(), SshError> {
        let start = Instant::now();
        let cancel = self.cancel;
        // What is made is told, and stays in no mode but its own.
        self.make_folders_and_links(entries).await?;
        self.tree.transfer_time += start.elapsed();

        let most = u64::from(self.sftp.read_length);
        let files = entries
            .iter()
            .filter(|entry| matches!(entry.what, What::File { .. }));
        let (small, large): (Vec<_>, Vec<_>) = files.partition(|entry| entry.size() <= most);
        for group in small.chunks(checksum::MOST_FILES) {
            until(cancel, self.move_group(group)).await?;
        }
        for entry in large {
            self.move_large(entry).await?;
        }
        Ok(())
    }

    /// Last of all, and however it went: what is made in a folder changes its time, it may not be open for writing,
    /// and until now only its owner may look into it. One that is not whole stays open for its owner, so that another
    /// call can go on there; with `resume` that one finishes what this has made.
    async fn finish_folders(
        &mut self,
        own: Entry,
        entries: &[Entry],
        is_whole: bool,
    ) -> Result<(), SshError> {
        let start = Instant::now();
        let folders = entries.iter().filter(|entry| entry.what == What::Folder);
        let folders = [&own].into_iter().chain(folders);
        let takes_old = is_whole && self.manner.resume;
        let folders = folders.map(|entry| (self.new.contains(&entry.path), entry.clone()));
        let folders: Vec<_> = folders.filter(|(is_new, _)| *is_new || takes_old).collect();
        let to = Arc::clone(&self.to);
        let incomplete = self.tree.incomplete.clone();
        on_files(move || {
            for (is_new, entry) in folders.iter().rev() {
                let is_whole = is_whole && !incomplete.contains(&entry.path);
                if let Ok(folder) = to.below(&entry.path)
                    && (*is_new || may_be_made_before(&folder, entry))
                {
                    finish_folder(&folder, entry, is_whole);
                }
            }
            Ok(())
        })
        .await?;
        self.tree.transfer_time += start.elapsed();
        Ok(())
    }

    async fn make_folders_and_links(&mut self, entries: &Arc<Vec<Entry>>) -> Result<(), SshError> {
        let (to, entries) = (Arc::clone(&self.to), Arc::clone(entries));
        let (overwrite, cancel) = (self.manner.overwrite, self.cancel.clone());
        let made = on_files(move || {
            let mut made = Vec::new();
            let mut blocked = BTreeSet::new();
            for (at, entry) in entries.iter().enumerate() {
                if cancel.is_cancelled() {
                    break;
                }
                let outcome = match &entry.what {
                    What::File { .. } => continue,
                    _ if is_blocked(&entry.path, &blocked) => {
                        blocked.insert(entry.path.clone());
                        None
                    }
                    What::Folder => {
                        let outcome = make_folder(&to, &entry.path);
                        if outcome.is_err() {
                            blocked.insert(entry.path.clone());
                        }
                        Some(outcome)
                    }
                    What::Link { target } => {
                        Some(make_link(&to, &entry.path, target, overwrite).map(|()| true))
                    }
                };
                made.push((at, outcome));
            }
            Ok((entries, made, blocked))
        });
        let (entries, made, blocked) = made.await?;
        self.blocked = blocked;
        for (at, outcome) in made {
            let entry = &entries[at];
            match outcome {
                None => self.tree.failed.add(&entry.path, "its folder is missing"),
                Some(Ok(_)) if entry.what != What::Folder => self.tree.links += 1,
                Some(Ok(true)) => {
                    self.tree.folders += 1;
                    self.new.insert(entry.path.clone());
                }
                Some(Ok(false)) => {}
                Some(Err(error)) => self.tree.fail(&entry.path, error)?,
            }
        }
        if self.cancel.is_cancelled() {
            return Err(SshError::TransferCancelled);
        }
        Ok(())
    }

    /// Moves small files: all are fetched, then compared, then named.
    async fn move_group(&mut self, group: &[&Entry]) -> Result<(), SshError> {
        let start = Instant::now();
        let mut wanted = Vec::new();
        for entry in group {
            if is_blocked(&entry.path, &self.blocked) {
                self.tree.failed.add(&entry.path, "its folder is missing");
            } else {
                wanted.push(*entry);
            }
        }
        let wanted = self.without_unchanged(wanted).await?;
        let folders = self.folders_of(&wanted).await?;
        let fetching = wanted.into_iter().map(|entry| {
            let (sftp, folder) = (
                Arc::clone(&self.sftp),
                folders[folder_of(&entry.path)].clone(),
            );
            let (entry, remote) = (entry.clone(), below(&self.from, &entry.path));
            let overwrite = self.manner.overwrite;
            let writing = Arc::clone(&self.writing);
            async move {
                let path = entry.path.clone();
                let fetched = async {
                    let folder = folder?;
                    let data = fetch_small(&sftp, remote, entry.size()).await?;
                    let writing = writing.read_owned().await;
                    on_files(move || write_small(folder, &entry, &data, overwrite, writing)).await
                };
                (path, fetched.await)
            }
        });
        let fetching = fetching.collect();
        let mut arrived = Vec::new();
        let tree = &mut self.tree;
        let (moved, total, progress) = (&mut self.moved, self.total, &mut self.progress);
        side_by_side(IN_FLIGHT, fetching, |(path, fetched)| {
            match fetched {
                Ok(file) => {
                    *moved += file.bytes;
                    progress(*moved, total.max(*moved));
                    arrived.push(file);
                }
                Err(error) => tree.fail(&path, error)?,
            }
            Ok(())
        })
        .await?;
        self.tree.transfer_time += start.elapsed();

        let start = Instant::now();
        if self.manner.verify {
            arrived = self.verify_group(arrived).await?;
        }
        self.tree.verify_time += start.elapsed();

        let start = Instant::now();
        let overwrite = self.manner.overwrite;
        let named = on_files(move || {
            let name = |it: Arrived| (it.path.clone(), it.bytes, name(it, overwrite));
            Ok(arrived.into_iter().map(name).collect::<Vec<_>>())
        });
        for (path, bytes, named) in named.await? {
            match named {
                Ok(()) => {
                    self.tree.files += 1;
                    self.tree.bytes += bytes;
                }
                Err(error) => self.tree.fail(&path, error)?,
            }
        }
        self.tree.transfer_time += start.elapsed();
        Ok(())
    }

    /// Opens the folders that these files lie in, each once.
    async fn folders_of(
        &self,
        files: &[&Entry],
    ) -> Result<BTreeMap<String, Result<Arc<HostFolder>, SshError>>, SshError> {
        let paths = files.iter().map(|entry| folder_of(&entry.path).to_owned());
        let paths: BTreeSet<_> = paths.collect();
        let to = Arc::clone(&self.to);
        on_files(move || {
            let open = |path: String| {
                let folder = to.below(&path).map(Arc::new);
                (path, folder)
            };
            Ok(paths.into_iter().map(open).collect())
        })
        .await
    }

    /// With `resume`, leaves out the files that are here already.
    async fn without_unchanged<'e>(
        &mut self,
        wanted: Vec<&'e Entry>,
    ) -> Result<Vec<&'e Entry>, SshError> {
        if !self.manner.resume {
            return Ok(wanted);
        }
        let files = wanted.iter().map(|it| (it.path.clone(), it.size()));
        let files: Vec<_> = files.collect();
        let (to, cancel) = (Arc::clone(&self.to), self.cancel.clone());
        let hash = move |it: &_| sha256(&to, it, &cancel);
        let ours = on_files(move || Ok(files.iter().map(hash).collect::<Vec<_>>()));
        let (moved, total, progress) = (self.moved, self.total, &mut self.progress);
        let mut tick = || progress(moved, total.max(moved));
        let ours = ticking(&mut tick, ours).await?;
        let (mut others, mut alike) = (Vec::new(), Vec::new());
        for (entry, ours) in wanted.into_iter().zip(ours) {
            match ours {
                Some(ours) => alike.push((entry, ours)),
                None => others.push(entry),
            }
        }
        let paths: Vec<_> = alike
            .iter()
            .map(|(it, _)| below(&self.from, &it.path))
            .collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let bytes = alike
            .iter()
            .map(|(it, _)| it.size())
            .fold(0, u64::saturating_add);
        let theirs = if paths.is_empty() {
            None
        } else {
            ticking(tick, checksum::of_all(&self.sftp, &paths, bytes)).await
        };
        let theirs = theirs.unwrap_or_else(|| vec![String::new(); alike.len()]);
        for ((entry, ours), theirs) in alike.into_iter().zip(theirs) {
            if ours == theirs {
                self.tree.unchanged += 1;
                self.moved += entry.size();
                (self.progress)(self.moved, self.total.max(self.moved));
            } else {
                others.push(entry);
            }
        }
        Ok(others)
    }

    /// Compares what has arrived with what the guest has; what differs is removed.
    async fn verify_group(&mut self, arrived: Vec<Arrived>) -> Result<Vec<Arrived>, SshError> {
        if arrived.is_empty() {
            return Ok(arrived);
        }
        let paths: Vec<_> = arrived
            .iter()
            .map(|it| below(&self.from, &it.path))
            .collect();
        let bytes = arrived.iter().map(|it| it.bytes).sum();
        let (moved, total, progress) = (self.moved, self.total, &mut self.progress);
        let sums = self.tree.sums(&self.sftp, &paths, bytes);
        let sums = ticking(|| progress(moved, total.max(moved)), sums).await?;
        let mut whole = Vec::new();
        for ((it, sum), path) in arrived.into_iter().zip(sums).zip(paths) {
            match sum {
                Ok(sum) if sum == it.sha256 => whole.push(it),
                Ok(_) => {
                    let what = "the guest was writing to it, or it was damaged";
                    self.tree.fail(&it.path, SshError::Damaged { path, what })?;
                }
                Err(error) => self.tree.fail(&it.path, error)?,
            }
        }
        Ok(whole)
    }

    async fn move_large(&mut self, entry: &Entry) -> Result<(), SshError> {
        if is_blocked(&entry.path, &self.blocked) {
            self.tree.failed.add(&entry.path, "its folder is missing");
            return Ok(());
        }
        let start = Instant::now();
        let wanted = until(self.cancel, self.without_unchanged(vec![entry])).await?;
        self.tree.transfer_time += start.elapsed();
        if wanted.is_empty() {
            return Ok(());
        }
        let (to, path, manner) = (Arc::clone(&self.to), entry.path.clone(), self.manner);
        let landing = on_files(move || {
            let folder = to.below(folder_of(&path))?;
            let old_mode = old_mode(&folder, name_of(&path), manner.overwrite)?;
            let shown = folder.shown.join(name_of(&path));
            let landing = Landing::at(&folder.at(name_of(&path)), shown, old_mode, manner);
            // Open as long as files are named through it.
            Ok((landing, folder))
        });
        let (moved, total) = (self.moved, self.total);
        let (sftp, cancel) = (&self.sftp, self.cancel);
        let remote = below(&self.from, &entry.path);
        let progress = &mut self.progress;
        let progress = |done, _| progress(moved + done, total.max(moved + done));
        let taken = async {
            let (landing, _folder) = landing.await?;
            landing.take(sftp, &remote, cancel, progress).await
        };
        match taken.await {
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
        Ok(())
    }
}

/// Reads a file that fits into one request.
async fn fetch_small(sftp: &Sftp, remote: String, size: u64) -> Result<Vec<u8>, SshError> {
    let handle = sftp.open(&remote).await?;
    let read = read_small(sftp, &handle, size).await;
    // Nothing was written through it.
    let _ = sftp.close(&handle).await;
    match read {
        Ok(Some(data)) => Ok(data),
        Ok(None) => Err(SshError::Damaged {
            path: remote,
            what: "the guest was writing to it",
        }),
        Err(error) => Err(sftp.failure("read", &remote, error)),
    }
}

/// Reads a small file to its end; `None` where it is none any more.
async fn read_small(sftp: &Sftp, handle: &str, size: u64) -> Result<Option<Vec<u8>>, SftpError> {
    let most = sftp.read_length;
    let mut data = Vec::new();
    loop {
        let part = match sftp.raw.read(handle, data.len() as u64, most).await {
            Ok(part) => part.data,
            Err(error) if is(&error, StatusCode::Eof) => Vec::new(),
            Err(error) => return Err(error),
        };
        let is_end = part.is_empty();
        data.extend(part);
        // Its length was told before; one without a length, as those of /proc, is read to its end.
        if is_end || (size > 0 && data.len() as u64 == size) {
            return Ok(Some(data));
        }
        if data.len() > 2 * most as usize {
            return Ok(None);
        }
    }
}
