//! The command line: what the options mean, and the acts for a person at a shell.

mod call;
mod doctor;
mod learn;
mod shell;
mod signals;

use std::{io::Write, path::PathBuf};

pub use call::call;
use clap::{Args, Parser, Subcommand};
pub use doctor::{Doctor, doctor};
pub use learn::{LearnFont, LearnFontError, learn_font};
pub use shell::{print_completions, print_manual};
pub use signals::{end_process, stop_on_signals};

use crate::{
    config::{Config, ConfigError, Environment, Overrides, Toolset},
    keyboard,
    model::{Capability, VmName},
    tools,
};

/// Eyes, hands and a shell on any VM that libvirt runs, from the host, over MCP.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Speak MCP on standard input and output. So does virtpilot without a command.
    Serve(Settings),
    /// Look at everything between here and a VM, and tell what mends each failure.
    Doctor(Doctor),
    /// Call one tool and print what it answers; pictures go to files.
    Call(Call),
    /// Learn a font from a screen that shows known text, so that screens in it can be read.
    LearnFont(LearnFont),
    /// Print the reference of all tools.
    Tools {
        /// Of which toolset: standard or computer.
        #[arg(long, value_name = "NAME", default_value_t)]
        toolset: Toolset,
    },
    /// Print the completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for `man -l -`.
    Man,
}

/// Settings that rank above the environment and the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// The configuration file [default: ~/.config/virtpilot/config.toml].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The libvirt to connect to [default: LIBVIRT_DEFAULT_URI, or qemu:///system].
    #[arg(long, value_name = "URI")]
    pub uri: Option<String>,
    /// The folder of projects and known host keys [default: ~/.local/share/virtpilot].
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// A VM that may be used; may be repeated, and the first one is the default.
    #[arg(long = "vm", value_name = "NAME")]
    pub vms: Vec<VmName>,
    /// How tools that look and point are shown: standard, or computer.
    #[arg(long, value_name = "NAME")]
    pub toolset: Option<String>,
    /// What may be done with VMs, instead of what the configuration says: view,input,shell,files,console.
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub allow: Option<Vec<Capability>>,
    /// Look only: of what is granted, `view` alone stays.
    #[arg(long, conflicts_with = "allow")]
    pub read_only: bool,
}

impl From<Settings> for Overrides {
    fn from(settings: Settings) -> Self {
        Self {
            config: settings.config,
            uri: settings.uri,
            data_dir: settings.data_dir,
            vms: settings.vms,
            allow: settings.allow,
            read_only: settings.read_only,
            toolset: settings.toolset,
        }
    }
}

#[derive(Debug, Args)]
pub struct Call {
    /// The tool, such as take_screenshot; `virtpilot tools` lists them.
    pub tool: String,
    /// Its parameters as a JSON object, such as '{"x": 10, "y": 20}'; - reads them from standard input.
    #[arg(default_value = "{}", value_name = "JSON")]
    pub parameters: String,
    /// Where a picture goes [default: screenshot.png here; more pictures get numbers].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print the reply's data as JSON, where it has any.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// The configuration, in which every name means something.
pub fn configure(settings: Settings) -> Result<Config, ConfigError> {
    let config = Config::load(settings.into(), &Environment::from_process()?)?;
    config.check_keymaps(|name| keyboard::check(name).map_err(|unknown| unknown.allowed()))?;
    Ok(config)
}

/// Prints the reference that the README holds.
pub fn print_tools(toolset: Toolset) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(tools::reference(toolset).as_bytes())?;
    out.flush()
}

/// Tells why the program ends, with the causes; gives the exit status. Nothing is said, and nothing wrong,
/// where nobody reads any more, as behind `head`.
pub fn tell(error: &anyhow::Error) -> i32 {
    let io_error = error.downcast_ref::<std::io::Error>();
    if io_error.is_some_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe) {
        return 0;
    }
    let mut err = std::io::stderr();
    let _ = writeln!(err, "Error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(err, "Caused by: {cause}");
    }
    1
}
