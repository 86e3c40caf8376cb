//! The async handle of one VM: its turn, its time limits, and the one bridge to blocking calls.
//!
//! Two queues keep order. The *turn* belongs to a whole act or batch, so that two clients'
//! inputs never interleave. The *line* belongs to a single libvirt call: tokio cannot abort a
//! blocking closure, so a call that hangs keeps the line, and whoever comes next hears that
//! the VM is still busy instead of piling up threads. Other VMs have lines of their own.

mod memory;
mod nap;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

pub(crate) use memory::Memory;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::{
        AddressSource, Console, Devices, Domain, DomainState, Forward, FullName, Hypervisor,
        HypervisorError, InputEvent, Pointer, Sight, virsh,
    },
    keyboard::{Layout, UnknownLayout},
    model::{CaptureMode, Point, ScreenSize, UnicodeInput, VmName},
    reading::Readers,
};

/// How long one libvirt call may take before its caller is told so. Clients give up at 60 s.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// For how long a VM is taken to run still where no change of it was told.
const STATE_FRESH: Duration = Duration::from_secs(5);

/// How long to wait for the VM's turn and for its line.
const TURN_LIMIT: Duration = Duration::from_secs(20);
const LINE_LIMIT: Duration = Duration::from_secs(10);

/// One VM, shared by all calls that touch it.
#[derive(Debug)]
pub struct Vm {
    name: VmName,
    hypervisor: Arc<dyn Hypervisor>,
    long_edge: u32,
    capture_mode: CaptureMode,
    readers: Readers,
    typing_interval: Duration,
    places: Vec<Point>,
    keymap: String,
    unicode: Option<UnicodeInput>,
    layout: Mutex<Option<Arc<Layout>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    line: Arc<Semaphore>,
    memory: Mutex<Memory>,
}

/// What stops a call before or below the hypervisor.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error("the VM `{vm}` did not answer within {} s", limit.as_secs())]
    TimedOut { vm: FullName, limit: Duration },
    #[error("libvirt at {uri} did not answer within {} s", limit.as_secs())]
    Mute { uri: String, limit: Duration },
    #[error("the VM `{0}` is still busy with a call that does not return")]
    Hung(FullName),
    #[error("the VM `{0}` is busy with another client's acts")]
    Busy(VmName),
    #[error("a call to the VM `{0}` broke down")]
    Broke(VmName, #[source] tokio::task::JoinError),
    #[error(transparent)]
    Layout(#[from] UnknownLayout),
}

impl VmError {
    /// Whether the VM is off, or paused.
    pub fn is_not_running(&self) -> bool {
        matches!(self, Self::Hypervisor(HypervisorError::NotRunning { .. }))
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Hypervisor(error) => error.hint(),
            Self::TimedOut { vm, .. } | Self::Hung(vm) => format!(
                "QEMU or libvirt hangs; `{}` shows whether it answers. Other VMs \
                 are not affected. Try again later.",
                vm.virsh("domstate")
            ),
            Self::Mute { uri, .. } => format!(
                "See whether libvirt answers at all: `{}`.",
                virsh(uri, "list")
            ),
            Self::Busy(_) => "Wait for the running batch to end, then call again.".to_owned(),
            Self::Broke(..) => "Call again; if it stays so, please report it.".to_owned(),
            Self::Layout(_) => {
                "Install xkeyboard-config (Debian: `apt-get install xkb-data`).".to_owned()
            }
        }
    }
}

/// A console that is open. It is closed on the VM's line: libvirt is asked for that, and may hang.
#[derive(Debug)]
pub(crate) struct OpenConsole {
    vm: Arc<Vm>,
    /// Taken when it goes alone.
    console: Option<Box<dyn Console>>,
}

impl OpenConsole {
    /// Closes it here, on the line, where nobody waits for it any more: whoever comes next finds it free.
    fn for_asker(mut self, asked: &Weak<()>) -> Self {
        if asked.strong_count() == 0 {
            self.console = None;
        }
        self
    }
}

impl Drop for OpenConsole {
    fn drop(&mut self) {
        if let Some(console) = self.console.take() {
            self.vm.call_when_free(move |_, _| {
                drop(console);
                Ok(())
            });
        }
    }
}

/// All VMs of a hypervisor. Concerns none of them, and so waits in no VM's line.
pub(crate) async fn list(
    hypervisor: &Arc<dyn Hypervisor>,
    line: &Arc<Semaphore>,
) -> Result<Vec<Domain>, VmError> {
    let uri = hypervisor.uri().to_owned();
    let permit = tokio::time::timeout(LINE_LIMIT, Arc::clone(line).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        let limit = LINE_LIMIT;
        return Err(VmError::Mute { uri, limit });
    };
    let call = move |hypervisor: &dyn Hypervisor| {
        let outcome = hypervisor.domains();
        drop(permit);
        outcome
    };
    match bridge(hypervisor, CALL_LIMIT, call).await {
        Crossed::Returned(outcome) => Ok(outcome?),
        Crossed::Broke(_) | Crossed::TimedOut => Err(VmError::Mute {
            uri,
            limit: CALL_LIMIT,
        }),
    }
}

/// What came back over the bridge.
enum Crossed<T> {
    Returned(Result<T, HypervisorError>),
    Broke(tokio::task::JoinError),
    TimedOut,
}

/// The one bridge from async code to blocking libvirt calls.
async fn bridge<T: Send + 'static>(
    hypervisor: &Arc<dyn Hypervisor>,
    limit: Duration,
    call: impl FnOnce(&dyn Hypervisor) -> Result<T, HypervisorError> + Send + 'static,
) -> Crossed<T> {
    let hypervisor = Arc::clone(hypervisor);
    let running = tokio::task::spawn_blocking(move || call(hypervisor.as_ref()));
    match tokio::time::timeout(limit, running).await {
        Ok(Ok(outcome)) => Crossed::Returned(outcome),
        Ok(Err(broke)) => Crossed::Broke(broke),
        Err(_) => Crossed::TimedOut,
    }
}

impl Vm {
    pub fn new(
        name: VmName,
        hypervisor: Arc<dyn Hypervisor>,
        long_edge: u32,
        keymap: impl Into<String>,
    ) -> Self {
        Self {
            name,
            hypervisor,
            long_edge,
            capture_mode: CaptureMode::default(),
            readers: Readers::default(),
            typing_interval: Duration::ZERO,
            places: vec![],
            keymap: keymap.into(),
            unicode: None,
            layout: Mutex::new(None),
            turn: Arc::default(),
            line: Arc::new(Semaphore::new(1)),
            memory: Mutex::new(Memory::new()),
        }
    }

    /// The VM with another way for the pictures that clients are shown.
    #[must_use]
    pub fn capturing(mut self, mode: CaptureMode) -> Self {
        self.capture_mode = mode;
        self
    }

    /// The VM with so much time between two characters that are typed there.
    #[must_use]
    pub fn typing_every(mut self, interval: Duration) -> Self {
        self.typing_interval = interval;
        self
    }

    /// The VM with a way to type what its layout lacks.
    #[must_use]
    pub fn taking_unicode(mut self, unicode: Option<UnicodeInput>) -> Self {
        self.unicode = unicode;
        self
    }

    /// The VM with the places of its heads' upper left corners on the guest's desktop.
    #[must_use]
    pub fn with_heads_at(mut self, places: Vec<Point>) -> Self {
        self.places = places;
        self
    }

    /// The VM with others who read its screen.
    #[must_use]
    pub fn read_by(mut self, readers: Readers) -> Self {
        self.readers = readers;
        self
    }

    pub fn name(&self) -> &VmName {
        &self.name
    }

    /// Its name and its libvirt, for messages.
    pub(crate) fn full_name(&self) -> FullName {
        self.hypervisor.full_name(&self.name)
    }

    /// The size at which this VM's screen is shown.
    pub(crate) fn shown(&self, native: ScreenSize) -> ScreenSize {
        native.shown(self.long_edge)
    }

    /// By which way pictures come that clients are shown.
    pub(crate) fn capture_mode(&self) -> CaptureMode {
        self.capture_mode
    }

    /// Between two characters of a text that says nothing else; zero is as fast as is safe.
    pub(crate) fn typing_interval(&self) -> Duration {
        self.typing_interval
    }

    /// Where its heads lie on the guest's desktop, as far as that was said.
    pub(crate) fn places(&self) -> &[Point] {
        &self.places
    }

    /// What reads its screen.
    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        // Every write is a single assignment: a panic leaves nothing half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the guest's keyboard layout.
    pub fn keymap(&self) -> &str {
        &self.keymap
    }

    /// The guest's layout, compiled at its first use.
    pub(crate) fn layout(&self) -> Result<Arc<Layout>, VmError> {
        let mut layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = layout.as_ref() {
            return Ok(Arc::clone(layout));
        }
        let compiled = Layout::compile(&self.keymap)?.with_unicode(self.unicode);
        let compiled = Arc::new(compiled);
        *layout = Some(Arc::clone(&compiled));
        Ok(compiled)
    }

    /// Waits until no other act of this VM runs; the next may begin when the guard goes.
    pub(crate) async fn turn(&self) -> Result<OwnedMutexGuard<()>, VmError> {
        tokio::time::timeout(TURN_LIMIT, Arc::clone(&self.turn).lock_owned())
            .await
            .map_err(|_| VmError::Busy(self.name.clone()))
    }

    /// The turn, where no other act runs.
    pub(crate) fn turn_if_free(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Runs one blocking call on the VM's line. `extra` is what the call itself means to wait.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        extra: Duration,
        call: impl FnOnce(&dyn Hypervisor, &Vm) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, VmError> {
        let permit = tokio::time::timeout(LINE_LIMIT, Arc::clone(&self.line).acquire_owned())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| VmError::Hung(self.full_name()))?;
        let limit = CALL_LIMIT + extra;
        let vm = Arc::clone(self);
        let given_up = CancellationToken::new();
        let told = given_up.clone();
        let call = move |hypervisor: &dyn Hypervisor| {
            vm.memory().given_up = told;
            let outcome = call(hypervisor, &vm);
            drop(permit);
            outcome
        };
        match bridge(&self.hypervisor, limit, call).await {
            Crossed::Returned(outcome) => Ok(outcome?),
            Crossed::Broke(broke) => Err(VmError::Broke(self.name.clone(), broke)),
            Crossed::TimedOut => {
                given_up.cancel();
                Err(VmError::TimedOut {
                    vm: self.full_name(),
                    limit,
                })
            }
        }
    }

    /// Refuses to go on with a call whose failure was told already: what it did now, nobody would expect.
    pub(crate) fn still_wanted(&self) -> Result<(), HypervisorError> {
        if self.memory().given_up.is_cancelled() {
            let vm = self.full_name();
            return Err(HypervisorError::GivenUp { vm });
        }
        Ok(())
    }

    /// Runs a blocking call as soon as the line is free, however long that takes: for releases
    /// that must not be given up because the VM hangs. It is before all calls that come later.
    pub(crate) fn call_when_free<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&dyn Hypervisor, &Vm) -> Result<T, HypervisorError> + Send + 'static,
    ) {
        let vm = Arc::clone(self);
        let mut permit = Box::pin(Arc::clone(&self.line).acquire_owned());
        // A task may begin late: its place in the line is taken now.
        let taken = permit
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        tokio::spawn(async move {
            let permit = match taken {
                Poll::Ready(permit) => permit,
                Poll::Pending => permit.await,
            };
            let Ok(permit) = permit else {
                return;
            };
            let hypervisor = Arc::clone(&vm.hypervisor);
            let late = move |hypervisor: &dyn Hypervisor| {
                vm.memory().given_up = CancellationToken::new();
                let outcome = call(hypervisor, &vm);
                drop(permit);
                outcome
            };
            match bridge(&hypervisor, CALL_LIMIT, late).await {
                Crossed::Returned(Ok(_)) => {}
                Crossed::Returned(Err(error)) => tracing::warn!(%error, "a late call failed"),
                Crossed::Broke(_) | Crossed::TimedOut => tracing::warn!("a late call failed"),
            }
        });
    }

    /// The VM as it is now; what was remembered of an earlier start is forgotten.
    pub(crate) async fn domain(self: &Arc<Self>) -> Result<Domain, VmError> {
        let changes = self.changes();
        let domain = self
            .call(Duration::ZERO, |hypervisor, vm| hypervisor.domain(&vm.name))
            .await?;
        let mut memory = self.memory();
        memory.seen = changes.map(|changes| (domain.clone(), Instant::now(), changes));
        if memory.instance != domain.id {
            memory.instance = domain.id;
            memory.devices = None;
            memory.pointer = None;
            memory.native.clear();
            memory.shown.clear();
            memory.keys_unread = None;
            memory.ps2_idle_until = None;
            memory.switched_from = None;
            let held = std::mem::take(&mut memory.held);
            if domain.restored {
                // All of it is down still.
                let up = |button| InputEvent::Button {
                    button,
                    down: false,
                };
                memory.unreleased.extend(held.into_iter().map(up));
            } else {
                memory.unreleased.clear();
            }
        }
        Ok(domain)
    }

    /// A number that becomes another one with each change of the VM that libvirt tells; `None` where it
    /// tells none.
    pub(crate) fn changes(&self) -> Option<u64> {
        self.hypervisor.changes(&self.name)
    }

    /// How often libvirt had told a change of this VM when its state was last asked for.
    pub(crate) fn changes_when_seen(&self) -> Option<u64> {
        self.memory().seen.as_ref().map(|(_, _, changes)| *changes)
    }

    /// Refuses a VM that cannot take input now. libvirt is asked only where it may have changed.
    pub(crate) async fn ready(self: &Arc<Self>) -> Result<Domain, VmError> {
        let seen = self.memory().seen.clone();
        if let Some((domain, at, changes)) = seen
            && domain.state == DomainState::Running
            && at.elapsed() < STATE_FRESH
            && self.changes() == Some(changes)
        {
            return Ok(domain);
        }
        self.ready_now().await
    }

    /// Refuses a VM that cannot take input at this very moment.
    pub(crate) async fn ready_now(self: &Arc<Self>) -> Result<Domain, VmError> {
        let domain = self.domain().await?;
        if domain.state == DomainState::Running {
            return Ok(domain);
        }
        let error = HypervisorError::NotRunning {
            vm: self.full_name(),
            state: domain.state,
        };
        Err(error.into())
    }

    /// The VM's hardware, read again only where it may have changed.
    pub(crate) async fn devices(self: &Arc<Self>) -> Result<Arc<Devices>, VmError> {
        let changes = self.changes();
        let known = self.memory().devices.clone();
        if let Some((devices, at)) = known
            && changes == Some(at)
        {
            return Ok(devices);
        }
        let devices = self
            .call(Duration::ZERO, |hypervisor, vm| {
                hypervisor.devices(&vm.name)
            })
            .await?;
        let devices = Arc::new(devices);
        self.memory().devices = changes.map(|changes| (Arc::clone(&devices), changes));
        Ok(devices)
    }

    /// What the guest's drivers make of the pointing devices.
    pub(crate) async fn pointers(self: &Arc<Self>) -> Result<Vec<Pointer>, VmError> {
        self.call(Duration::ZERO, |hypervisor, vm| {
            hypervisor.pointers(&vm.name)
        })
        .await
    }

    /// Which way looks take that nobody is shown.
    pub(crate) async fn sight(self: &Arc<Self>) -> Result<Sight, VmError> {
        self.call(Duration::ZERO, |hypervisor, vm| hypervisor.sight(&vm.name))
            .await
    }

    /// What the guest writes to its serial console from now on.
    pub(crate) async fn console(self: &Arc<Self>) -> Result<OpenConsole, VmError> {
        let vm = Arc::clone(self);
        let asking = Arc::new(());
        let asked = Arc::downgrade(&asking);
        self.call(Duration::ZERO, move |hypervisor, _| {
            let console = Some(hypervisor.console(&vm.name)?);
            Ok(OpenConsole { vm, console }.for_asker(&asked))
        })
        .await
    }

    /// What came over a console since it was last asked.
    pub(crate) async fn read_console(
        self: &Arc<Self>,
        mut open: OpenConsole,
    ) -> Result<(OpenConsole, Vec<u8>), VmError> {
        let asking = Arc::new(());
        let asked = Arc::downgrade(&asking);
        self.call(Duration::ZERO, move |_, _| {
            let bytes = match &mut open.console {
                Some(console) => console.read()?,
                None => vec![],
            };
            Ok((open.for_asker(&asked), bytes))
        })
        .await
    }

    /// Whether keys wait that the guest has yet to read.
    pub(crate) async fn keys_unread(self: &Arc<Self>) -> Result<bool, VmError> {
        self.call(Duration::ZERO, |hypervisor, vm| {
            hypervisor.keys_unread(&vm.name)
        })
        .await
    }

    /// The guest's addresses and forwards, for finding its SSH server.
    pub(crate) async fn addresses(
        self: &Arc<Self>,
        source: AddressSource,
    ) -> Result<Vec<IpAddr>, VmError> {
        self.call(Duration::ZERO, move |hypervisor, vm| {
            hypervisor.addresses(&vm.name, source)
        })
        .await
    }

    /// Whether the hypervisor that runs it is this host's.
    pub(crate) async fn is_on_this_host(self: &Arc<Self>) -> Result<bool, VmError> {
        self.call(Duration::ZERO, |hypervisor, vm| {
            hypervisor.is_on_this_host(&vm.name)
        })
        .await
    }

    pub(crate) async fn forwards(self: &Arc<Self>) -> Result<Vec<Forward>, VmError> {
        self.call(Duration::ZERO, |hypervisor, vm| {
            hypervisor.forwards(&vm.name)
        })
        .await
    }

    /// Waits until all that was pressed and pointed has reached the guest: nothing may overtake it.
    pub(crate) async fn input_arrived(&self) {
        let end = {
            let memory = self.memory();
            memory.input_end.max(memory.tablet_nap.awake_from())
        };
        tokio::time::sleep_until(end.into()).await;
    }
}
