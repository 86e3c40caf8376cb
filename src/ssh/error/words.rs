//! What errors speak of, in their words.

use std::fmt;

/// A step of setting up a connection, each with its own time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Resolve,
    Tcp,
    Greeting,
    KeyExchange,
    Authentication,
    Channel,
    Ping,
    Sftp,
    Request,
    Signal,
    /// All of them together, up to an open channel.
    All,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "name lookup",
            Self::Tcp => "TCP connection",
            Self::Greeting => "SSH greeting",
            Self::KeyExchange => "key exchange",
            Self::Authentication => "authentication",
            Self::Channel => "opening a channel",
            Self::Ping => "answer to a ping",
            Self::Sftp => "starting SFTP",
            Self::Request => "a request of the transfer",
            Self::Signal => "sending a signal",
            Self::All => "connecting, all in all",
        })
    }
}

/// Why a jump host cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JumpFault {
    Unreadable,
    Loop,
    TooMany,
}

impl fmt::Display for JumpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "is no jump host that ssh understands",
            Self::Loop => "was passed before: its jump hosts go round in a circle",
            Self::TooMany => "is one jump host too many",
        })
    }
}

/// What is wrong with a host certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFault {
    Signature,
    NotForHosts,
    Time,
    UnknownOption,
    OtherName { names: Vec<String> },
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "has no valid signature",
            Self::NotForHosts => "is one for users, not for hosts",
            Self::Time => "is not valid at this time",
            Self::UnknownOption => "has a critical option that is not known",
            Self::OtherName { names } => return write!(f, "is made out to {}", names.join(", ")),
        })
    }
}

/// Why a path cannot be the file of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    Folder,
    NoFolder,
    Special,
    Exists,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "is a folder",
            Self::NoFolder => "is no folder",
            Self::Special => "is no regular file",
            Self::Exists => "exists already",
        })
    }
}
