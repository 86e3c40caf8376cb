//! By which way pictures come that clients are shown.

/// Where a delivered picture comes from. Looks that nobody is shown take the quickest way always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaptureMode {
    /// `virDomainScreenshot`, whose PNG is passed on as it is where nothing has to be done to it.
    #[default]
    Libvirt,
    /// QEMU's framebuffer through shared memory, where that works, and a PNG of our own.
    Fast,
}

impl CaptureMode {
    pub const ALL: [Self; 2] = [Self::Libvirt, Self::Fast];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::Fast => "fast",
        }
    }
}
