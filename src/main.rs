//! The program: command line, configuration, logging to stderr, runtime.

#![warn(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, prelude::*};
use virtpilot::{
    cli::{self, Command, CommandLine, Settings},
    hypervisor::Libvirt,
    tools::{self, Server},
};

fn main() {
    let command_line = CommandLine::parse();
    log_to_stderr();
    let status = carry_out(command_line).unwrap_or_else(|error| cli::tell(&error));
    cli::end_process(status)
}

/// The exit status.
fn carry_out(CommandLine { command, settings }: CommandLine) -> anyhow::Result<i32> {
    match command {
        None => run(serve(settings)),
        Some(Command::Serve(settings)) => run(serve(settings)),
        Some(Command::Call(call)) => run(async {
            let server = server(call.settings.clone())?;
            // Before signals are caught: reading standard input can be broken off as usual.
            let parameters = call.read_parameters()?;
            cli::call(&server, &call, parameters, cli::stop_on_signals()?).await
        }),
        Some(Command::Doctor(doctor)) => run(cli::doctor(doctor)),
        Some(Command::LearnFont(options)) => run(cli::learn_font(options)),
        Some(Command::Tools { toolset }) => done(cli::print_tools(toolset)),
        Some(Command::Completions { shell }) => done(cli::print_completions(shell)),
        Some(Command::Man) => done(cli::print_manual()),
    }
}

/// The exit status of what cannot fail but by printing.
fn done(printed: std::io::Result<()>) -> anyhow::Result<i32> {
    printed.map(|()| 0).map_err(Into::into)
}

/// A blocking call that hangs must not keep the process alive: what it waits for may never come.
fn run(work: impl Future<Output = anyhow::Result<i32>>) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime cannot be started")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings) -> anyhow::Result<i32> {
    let server = server(settings)?;
    tools::serve_stdio(server, cli::stop_on_signals()?)
        .await
        .context("MCP on standard input and output broke off")?;
    Ok(0)
}

fn server(settings: Settings) -> anyhow::Result<Arc<Server>> {
    let config = cli::configure(settings)?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let libvirt = Libvirt::new(&config.uri);
    Ok(Server::new(config, Arc::new(libvirt)))
}

/// `RUST_LOG` chooses what is logged. Other crates log whole requests, which hold what is typed, so
/// whatever it says they only warn. What rmcp warns of, nobody can act on: its client is told of
/// errors in requests, and the wire is ours.
fn log_to_stderr() {
    let chosen = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
    let safe = filter_fn(|it| {
        let is_warning = *it.level() <= Level::WARN && !it.target().starts_with("rmcp");
        is_warning || it.target().starts_with("virtpilot")
    });
    let to_stderr = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry()
        .with(EnvFilter::new(chosen))
        .with(safe)
        .with(to_stderr)
        .init();
}
