//! What to do with a host key that is not known yet.

/// How SSH treats a host whose key it has not seen before. A changed key is refused
/// by both, as with `StrictHostKeyChecking` of OpenSSH.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// Keep the key of a new host and trust it from then on.
    #[default]
    AcceptNew,
    /// Refuse a host whose key is not known.
    Strict,
}

impl HostKeyPolicy {
    pub const ALL: [Self; 2] = [Self::AcceptNew, Self::Strict];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcceptNew => "accept-new",
            Self::Strict => "strict",
        }
    }
}
