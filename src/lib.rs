//! Eyes, hands and a shell on any VM that libvirt runs, from the host.
//!
//! The house has four floors, and imports run downward only:
//!
//! | floor | rooms |
//! |---|---|
//! | 3, edges | [`tools`]: MCP, the only room that names `rmcp`; [`cli`]: the command line |
//! | 2, the work | [`fleet`]: which VMs, and what is granted; [`vm`]: one VM's turn and the bridge to blocking calls; [`perform`]: the one interpreter of acts; [`capture`]: screens as shown; [`reading`]: what they say; [`guest`]: SSH servers found and connected; [`jobs`]: commands that outlive their call; [`watch`]: waiting for stillness and other conditions; [`journal`] and [`gallery`]: what was done and seen |
//! | 1, backends | [`hypervisor`]: libvirt and QMP; [`ssh`]: commands and files; [`fonts`]: those that this host has; [`keyboard`]: characters and names to keys; [`ocr`]: Tesseract; [`secrets`]: passwords, from where the configuration says; [`store`]: projects and host paths |
//! | 0, values | [`config`], [`image`], [`model`]; [`cells`]: text screens read exactly |
//!
//! # One call's journey
//!
//! `click{vm, x, y}` is looked up and checked against its schema in [`tools`]; [`fleet`] finds the VM and
//! asks whether `input` is granted; [`perform`] plans the act, which refuses what cannot be done, takes the
//! VM's turn and carries it out through [`vm`], whose bridge calls [`hypervisor`] with a time limit. The
//! outcome goes to the [`journal`] and becomes the reply. A batch is a list of the same acts.
//!
//! # What always holds
//!
//! - All acts of a call are checked before the first one runs.
//! - What goes down comes up: on success, error, cancel, hang-up and shutdown.
//! - A hung VM delays no other VM, and SSH never waits for the screen.
//! - What is typed, and what configuration calls a password, reaches no log.
//! - Standard output carries MCP alone.

// Not among Cargo.toml's lints, which hold for tests as well.
#![warn(clippy::expect_used, clippy::unwrap_used)]

pub mod capture;
pub mod cells;
pub mod cli;
pub mod config;
pub mod fleet;
pub mod fonts;
pub mod gallery;
pub mod guest;
pub mod hypervisor;
pub mod image;
pub mod jobs;
pub mod journal;
pub mod keyboard;
pub mod model;
pub mod ocr;
pub mod perform;
pub mod reading;
pub mod secrets;
pub mod ssh;
pub mod store;
pub mod tools;
pub mod vm;
pub mod watch;
