//! What shells and `man` want to know of the command line.

use std::io::{self, Write};

use clap::CommandFactory;

use super::CommandLine;

/// Prints the script that completes options and sub-commands.
pub fn print_completions(shell: clap_complete::Shell) -> io::Result<()> {
    let mut command = CommandLine::command();
    let name = command.get_name().to_owned();
    // It panics where its writer fails, as standard output does behind `head`.
    let mut script = vec![];
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&script)
}

/// Prints the manual page: the program, and then each sub-command.
pub fn print_manual() -> io::Result<()> {
    let mut command = CommandLine::command();
    command.build();
    let mut page = vec![];
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command
        .get_subcommands()
        .filter(|it| it.get_name() != "help")
    {
        let man = clap_mangen::Man::new(sub.clone());
        writeln!(
            page,
            ".SH \"{}\"",
            sub.get_display_name().unwrap_or_default().to_uppercase()
        )?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    print(&page)
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(bytes)?;
    out.flush()
}
