//! What russh is told of a connection: its limits, ciphers and kinds of host keys.

use std::time::Duration;

use russh::{cipher, client};

use crate::ssh::host_keys::KnownHosts;

/// A guest that says nothing for so long is gone: it answers keep-alives, and every write. Longer than the channels'
/// windows take at 35 KiB a second, for nothing is heard before they are written.
const INACTIVITY_LIMIT: Duration = Duration::from_mins(2);

pub(super) fn of_client(known: &KnownHosts) -> client::Config {
    let mut config = client::Config {
        window_size: 16 * 1024 * 1024,
        maximum_packet_size: 65535,
        keepalive_interval: Some(Duration::from_secs(15)),
        keepalive_max: 3,
        // Keep-alives rest before the login, and while what is written finds no room.
        inactivity_timeout: Some(INACTIVITY_LIMIT),
        nodelay: true,
        ..client::Config::default()
    };
    config.preferred.cipher = ciphers().into();
    config.preferred.host_key_certificates =
        known.certificate_algorithms(&config.preferred.key).into();
    config.preferred.key = known.preferred_algorithms(&config.preferred.key).into();
    config
}

/// Those of russh, that is of OpenSSH too; where the processor has AES, its authenticated modes are several times
/// as fast as ChaCha20.
fn ciphers() -> Vec<cipher::Name> {
    const BY_AES: [cipher::Name; 2] = [cipher::AES_256_GCM, cipher::AES_128_GCM];

    let usual = client::Config::default().preferred.cipher;
    if !has_aes() {
        return usual.into_owned();
    }
    let others = usual.iter().filter(|name| !BY_AES.contains(name));
    BY_AES.iter().chain(others).copied().collect()
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has_aes = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    has_aes
}
