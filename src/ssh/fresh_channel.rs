//! A channel between its opening and its use, which may never come: whoever asked for it may have gone.

use russh::{Channel, client::Msg};
use tokio::runtime::Handle;

/// A channel that nobody uses yet. Dropped, it is closed: the server counts it as long as it is open.
pub(super) struct FreshChannel(Option<Channel<Msg>>);

#[expect(
    clippy::expect_used,
    reason = "only `take` and the drop empty it, and nothing comes after them"
)]
impl FreshChannel {
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        Self(Some(channel))
    }

    pub(super) fn get(&mut self) -> &mut Channel<Msg> {
        self.0.as_mut().expect("it is there until it is taken")
    }

    /// Whoever takes it has to close it.
    pub(super) fn take(mut self) -> Channel<Msg> {
        self.0.take().expect("it is there until it is taken")
    }
}

impl Drop for FreshChannel {
    fn drop(&mut self) {
        if let (Some(channel), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move { channel.close().await });
        }
    }
}
