//! `interlock completion` and `interlock man`: made from the same definitions as the options themselves.

use crate::complete;
use clap::CommandFactory;
use clap_complete::Shell;
use interlock_target::help::{self, Known};
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
    /// Directory to write to; default: print the page of `interlock` itself
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completion<C: CommandFactory>(args: &CompletionArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "interlock", &mut script);
    let script = with_names(args.shell, String::from_utf8(script)?, &C::command());
    io::stdout().lock().write_all(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A script that also asks for what the daemon has.
fn with_names(shell: Shell, script: String, root: &clap::Command) -> String {
    match shell {
        Shell::Bash => script + complete::BASH,
        Shell::Fish => script + &complete::fish(root),
        // The last lines say which function completes.
        Shell::Zsh => match script.rfind("\nif [ \"$funcstack[1]\"") {
            Some(end) => {
                let last = script[end..].replace("    _interlock \"$@\"", "    _interlock_with_names \"$@\"");
                let last = last.replace("compdef _interlock ", "compdef _interlock_with_names ");
                format!("{}{}{last}", &script[..end], complete::ZSH)
            }
            None => script,
        },
        _ => script,
    }
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
            text.extend_from_slice(sections("interlock").as_bytes());
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
    text.extend_from_slice(sections(name).as_bytes());
    std::fs::write(dir.join(format!("{name}.1")), text)?;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        page(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(())
}

/// What the definitions of options do not say: how a command ends, which files it knows, and where more is.
fn sections(name: &str) -> String {
    let exit = match name {
        "interlock-drill" => {
            "0: all scenarios are safe. 1: something unsafe was found. 2: inconclusive. 3: the drill did not take place."
        }
        "interlock-fence" => {
            "0: with --wait, nothing of this host can change the namespace any more. 1: something can, or it is not known."
        }
        "interlock-doctor" => "0: nothing is unsafe. 1: a finding is UNSAFE, or something could not be looked at.",
        "interlock-handover" => "0: the subsystem may be written. 1: it may not, or it is not known.",
        "interlock-daemon" => {
            "0: it ended, and nothing is left unanswered. 1: it did not begin, or has left something unanswered."
        }
        _ => {
            "0: done. 1: it failed, and standard error says why; with \\-o json standard output has a document with the kind."
        }
    };
    let mut text = format!(".SH \"EXIT STATUS\"\n{exit}\n");
    if name == "interlock-target" {
        text.push_str(&list("FAULTS", &help::FAULTS));
        text.push_str(&list("LIMITS", &help::LIMITS));
    }
    if matches!(name, "interlock" | "interlock-daemon" | "interlock-connect-all" | "interlock-discover") {
        text.push_str(".SH FILES\n");
        for (file, what) in FILES {
            text.push_str(&format!(".TP\n\\fI{file}\\fR\n{what}\n"));
        }
    }
    let other = if name == "interlock" { "interlock\\-daemon" } else { "interlock" };
    text + &format!(".SH \"SEE ALSO\"\n\\fB{other}\\fR(1), \\fBnvme\\fR(1)\n")
}

/// What a target knows of a kind, with the keys or the default of each.
fn list(title: &str, all: &[help::Known]) -> String {
    let entry = |known: &help::Known| {
        let Known { name, with, what } = *known;
        format!(
            ".TP\n\\fB{}\\fR {}\n{}\n",
            name.replace('-', "\\-"),
            with.replace('-', "\\-"),
            what.replace('-', "\\-")
        )
    };
    format!(".SH {title}\n{}", all.iter().map(entry).collect::<String>())
}

/// Files of the service; those of other users are below their home.
const FILES: [(&str, &str); 6] = [
    ("/etc/interlock/interlock.toml", "The configuration."),
    ("/etc/nvme/hostnqn, /etc/nvme/hostid", "The identity of this host, shared with other NVMe tools."),
    (
        "/etc/nvme/discovery.conf, /etc/nvme/config.json, /etc/nvme/nvme-fabrics.conf",
        "Connections of nvme-cli: read by connect-all and discover, and by the daemon if the configuration says so.",
    ),
    ("/etc/nvme/exclusions.conf", "What is never connected by itself."),
    ("/run/interlock/control.sock", "The control socket of the daemon."),
    ("/var/lib/interlock", "What must survive a restart: instances that are not fenced, names, exports, the journal."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_target_names_every_fault_and_limit() {
        let text = sections("interlock-target").replace("\\-", "-");
        for Known { name, with, what } in help::FAULTS.into_iter().chain(help::LIMITS) {
            assert!(text.contains(&format!("\\fB{name}\\fR {with}\n{what}\n")), "{name}: {text}");
        }
    }

    #[test]
    fn scripts_ask_for_what_is_connected() {
        for (shell, ends) in [
            (Shell::Bash, "complete -F _interlock_with_names -o bashdefault -o default interlock\n"),
            (Shell::Zsh, "compdef _interlock_with_names interlock\nfi\n"),
            (Shell::Fish, " -l accept-risk -r -f -a '(__fish_interlock_names)'\n"),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut crate::Cli::command(), "interlock", &mut script);
            let script = with_names(shell, String::from_utf8(script).expect("text"), &crate::Cli::command());
            assert!(script.ends_with(ends), "{shell}: {}", &script[script.len().saturating_sub(300)..]);
            assert!(script.contains(complete::ASKED_BY_SCRIPTS), "{shell}");
        }
    }

    #[test]
    fn every_page_says_how_its_command_ends() {
        let dir = tempfile::tempdir().expect("a place");
        let mut command = crate::Cli::command();
        command.build();
        page(&command, "interlock", dir.path()).expect("pages");
        let pages: Vec<String> = std::fs::read_dir(dir.path())
            .expect("pages")
            .map(|entry| std::fs::read_to_string(entry.expect("one").path()).expect("text"))
            .collect();
        assert!(pages.len() > 30, "{}", pages.len());
        for text in &pages {
            assert!(text.contains(".SH \"EXIT STATUS\"") && text.contains(".SH \"SEE ALSO\""), "{text}");
        }
        let main = std::fs::read_to_string(dir.path().join("interlock.1")).expect("the first page");
        assert!(main.contains(".SH FILES") && main.contains("/etc/interlock/interlock.toml"), "{main}");
    }
}
