//! `interlock completion` and `interlock man`: made from the same definitions as the options themselves.

use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print a completion script for a shell
#[derive(clap::Args)]
pub(crate) struct CompletionArgs {
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Write man pages, one for each command
#[derive(clap::Args)]
pub(crate) struct ManArgs {
    /// Where to; without it the page of `interlock` itself is printed
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completion<C: CommandFactory>(args: &CompletionArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "interlock", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man<C: CommandFactory>(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut command = C::command();
    command.build();
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            page(&command, "interlock", dir)?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command).render(&mut text)?;
            io::stdout().lock().write_all(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and of those below it: `interlock-connect.1`.
fn page(command: &clap::Command, name: &str, dir: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    // A page has the name under which it is found.
    let shown = command.clone().display_name(name.to_owned());
    clap_mangen::Man::new(shown).title(name).render(&mut text)?;
    std::fs::write(dir.join(format!("{name}.1")), text)?;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        page(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(())
}
