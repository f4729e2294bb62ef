//! What of the daemon could stand where a shell completes a command line: devices, NQNs, exports.
//!
//! A completion script is made once, and what is connected changes: the script asks `interlock __complete WORDS...` each time, with
//! the words of the line after the program, the last of which is being typed. It prints a name in each line, and nothing where
//! nothing of the daemon can stand or nobody listens. It is no command of users.

use crate::ask::usual_socket;
use clap::{Command, CommandFactory};
use interlock_api::{Client, Status};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// The name under which scripts ask.
pub(crate) const ASKED_BY_SCRIPTS: &str = "__complete";

/// A shell waits for this.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What may stand at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Controller,
    Subsystem,
    Namespace,
    Nqn,
    Export,
    Discovery,
    Unfenced,
}

use Name::{Controller, Discovery, Export, Namespace, Nqn, Subsystem, Unfenced};

/// The arguments of commands that name something of the daemon: command, argument, what.
const PLACES: [(&str, &str, &[Name]); 24] = [
    ("disconnect", "nqn", &[Nqn]),
    ("disconnect", "device", &[Controller, Subsystem]),
    ("disconnect", "discovery", &[Discovery]),
    ("disconnect-all", "exclude", &[Controller, Subsystem, Namespace, Nqn]),
    ("connect", "nqn", &[Nqn]),
    ("reconnect", "devices", &[Controller, Subsystem]),
    ("reset", "devices", &[Controller, Subsystem]),
    ("ns-rescan", "devices", &[Controller, Subsystem]),
    ("rescan", "devices", &[Controller, Subsystem]),
    ("set", "device", &[Controller, Subsystem]),
    ("list", "device", &[Controller, Subsystem, Namespace]),
    ("list-subsys", "device", &[Controller, Subsystem, Namespace]),
    ("show-topology", "device", &[Controller, Subsystem, Namespace]),
    ("status", "device", &[Controller, Subsystem, Namespace]),
    ("explain", "id", &[Controller]),
    ("id-ctrl", "device", &[Controller, Subsystem, Namespace]),
    ("doctor", "device", &[Controller, Subsystem, Namespace]),
    ("doctor", "nqn", &[Nqn]),
    ("handover", "nqn", &[Nqn]),
    ("fence", "wait", &[Namespace]),
    ("fence", "accept_risk", &[Unfenced]),
    ("export", "namespace", &[Namespace]),
    ("unexport", "name", &[Export]),
    ("clear-flush-error", "namespace", &[Namespace]),
];

/// What may stand where the last of these words is typed.
fn what(root: &Command, words: &[String]) -> &'static [Name] {
    let [verb, before @ .., _] = words else { return &[] };
    let Some(command) = root.find_subcommand(verb) else { return &[] };
    let of = |id: &str| {
        PLACES.iter().find(|(one, argument, _)| one == verb && *argument == id).map_or(&[][..], |(.., names)| names)
    };
    let option = before.last().and_then(|word| {
        let letter = word.strip_prefix('-').and_then(|rest| rest.chars().next().filter(|_| rest.chars().count() == 1));
        command.get_arguments().find(|arg| match word.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => letter.is_some() && arg.get_short() == letter,
        })
    });
    match option.filter(|arg| arg.get_action().takes_values()) {
        Some(arg) => of(arg.get_id().as_str()),
        None => command.get_positionals().next().map_or(&[], |arg| of(arg.get_id().as_str())),
    }
}

/// The names of these kinds.
fn names(status: &Status, kinds: &[Name]) -> BTreeSet<String> {
    let of = |kind: &Name| -> Vec<String> {
        match kind {
            Controller => status.controllers.iter().map(|one| one.name.clone()).collect(),
            Subsystem => status.subsystems.iter().map(|one| one.name.clone()).collect(),
            Namespace => status.namespaces.iter().map(|one| one.name.clone()).collect(),
            Nqn => status.subsystems.iter().map(|one| one.nqn.clone()).collect(),
            Export => status.exports.iter().map(|one| one.name.clone()).collect(),
            Discovery => status.discovery.iter().map(|one| one.path.to_string()).collect(),
            Unfenced => status.tombstones.iter().map(|one| one.life.clone()).collect(),
        }
    };
    // A name that a shell or a terminal would take for something else is not offered.
    kinds.iter().flat_map(of).filter(|name| !name.chars().any(char::is_control)).collect()
}

/// Prints what may stand there. Whoever completes a line wants no errors in it.
pub(crate) fn run<C: CommandFactory>(words: &[String]) {
    let kinds = what(&C::command(), words);
    if kinds.is_empty() {
        return;
    }
    let after = |name: &str| words.iter().position(|word| word == name).and_then(|place| words.get(place + 1));
    let socket = after("--socket").map(PathBuf::from);
    let socket =
        socket.or_else(|| std::env::var_os("INTERLOCK_SOCKET").map(PathBuf::from)).unwrap_or_else(usual_socket);
    let Ok(status) = Client::new(socket, ANSWER_WITHIN).get::<Status>("/v1/status") else { return };
    let text: String = names(&status, kinds).iter().map(|name| format!("{name}\n")).collect();
    if !text.is_empty() {
        // The shell may have gone.
        let _ = crate::output::print(&text);
    }
}

/// What is put behind the script that clap makes for bash: the words are read from the line itself, because bash splits NQNs and
/// addresses at colons.
pub(crate) const BASH: &str = r#"
_interlock_with_names() {
    _interlock "$@"
    local line=${COMP_LINE:0:COMP_POINT} cur names IFS=$' \t\n'
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    [[ ${#words[@]} -gt 2 ]] || return 0
    cur=${words[${#words[@]}-1]}
    names=$("${words[0]}" __complete "${words[@]:1}" 2>/dev/null) || return 0
    [[ -n $names ]] || return 0
    local colon=
    [[ $COMP_WORDBREAKS == *:* && $cur == *:* ]] && colon=${cur%"${cur##*:}"}
    IFS=$'\n'
    local name
    for name in $(compgen -W "$names" -- "$cur"); do
        COMPREPLY+=("$(printf '%q' "${name#"$colon"}")")
    done
}
complete -F _interlock_with_names -o bashdefault -o default interlock
"#;

/// The same for zsh, before the last lines of the script, which name the function that completes.
pub(crate) const ZSH: &str = r#"
_interlock_with_names() {
    local -a names
    names=(${(f)"$(command ${words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    (( $#names )) && compadd -a names
    _interlock "$@"
}
"#;

/// The same for fish, which asks for the value of an option by itself.
pub(crate) fn fish(root: &Command) -> String {
    let mut text = FISH.to_owned();
    for (verb, argument, _) in PLACES {
        let arg = root.find_subcommand(verb).and_then(|one| one.get_arguments().find(|arg| arg.get_id() == argument));
        let Some(long) = arg.and_then(clap::Arg::get_long) else { continue };
        let short = arg.and_then(clap::Arg::get_short).map_or_else(String::new, |letter| format!(" -s {letter}"));
        text.push_str(&format!(
            "complete -c interlock -n \"__fish_interlock_using_subcommand {verb}\"{short} -l {long} -r -f -a \
             '(__fish_interlock_names)'\n"
        ));
    }
    text
}

const FISH: &str = "
function __fish_interlock_names
    set -l words (commandline -opc) (commandline -ct)
    command $words[1] __complete $words[2..-1] 2>/dev/null
end
complete -c interlock -a '(__fish_interlock_names)'
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;

    fn at(line: &str) -> &'static [Name] {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        what(&Cli::command(), &words)
    }

    #[test]
    fn every_place_is_an_argument_of_its_command() {
        let root = Cli::command();
        for (verb, argument, _) in PLACES {
            let command = root.find_subcommand(verb).unwrap_or_else(|| panic!("{verb}"));
            assert!(command.get_arguments().any(|arg| arg.get_id() == argument), "{verb}: {argument}");
        }
    }

    #[test]
    fn a_place_takes_what_its_argument_names() {
        assert_eq!(at("reset "), [Controller, Subsystem]);
        assert_eq!(at("reset nvme0 nv"), [Controller, Subsystem]);
        assert_eq!(at("disconnect -d "), [Controller, Subsystem]);
        assert_eq!(at("disconnect --device nv"), [Controller, Subsystem]);
        assert_eq!(at("disconnect -n nqn."), [Nqn]);
        assert_eq!(at("set nvme0 -l "), [], "a number");
        assert_eq!(at("set -l 5 "), [Controller, Subsystem]);
        assert_eq!(at("fence --wait "), [Namespace]);
        assert_eq!(at("unexport "), [Export]);
        assert_eq!(at("status --socket "), []);
        assert_eq!(at("frobnicate "), []);
        assert_eq!(at("reset"), [], "the command itself is typed");
    }
}
