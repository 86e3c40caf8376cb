//! Being asked to end, and ending.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that fires at the first INT, TERM or HUP. A second one ends the process at once.
pub fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    for kind in kinds {
        let mut signals = signal(kind).context("signals cannot be caught")?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
            // Whoever asks twice does not want to wait for keys to be let go.
            signals.recv().await;
            end_process(128 + kind.as_raw_value());
        });
    }
    Ok(stop)
}

/// Ends the process without the clean-up of the C libraries: a thread that is still inside libvirt, or
/// that ends just then, would crash in what OpenSSL has already torn down. Nothing of ours waits in a
/// buffer; whoever prints flushes.
pub fn end_process(status: i32) -> ! {
    signal_hook::low_level::exit(status)
}
