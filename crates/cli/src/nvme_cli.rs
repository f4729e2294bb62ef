//! What users of nvme-cli type first and this program does not have: each is answered with what to use instead.
//!
//! A bare "unrecognized subcommand" would let them guess whether it is a typing error. The names are those of nvme-cli 3.1
//! and 2.x.

use crate::failure::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use interlock_api::ProblemKind;
use std::error::Error;
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};

/// Words, and what there is instead.
type Known = (&'static [&'static str], &'static str);

/// Commands, also those below `config`.
const COMMANDS: [Known; 13] = [
    (
        &[
            "nvm-id-ctrl",
            "list-ctrl",
            "id-uuid",
            "id-iocs",
            "id-domain",
            "id-nvmset",
            "list-endgrp",
            "primary-ctrl-caps",
            "list-secondary",
            "show-regs",
            "get-reg",
            "get-property",
            "get-feature",
        ],
        "`interlock id-ctrl` shows what a controller states of itself, `interlock status -v` its instance and limits",
    ),
    (
        &[
            "id-ns",
            "nvm-id-ns",
            "id-ns-granularity",
            "id-ns-lba-format",
            "nvm-id-ns-lba-format",
            "cmdset-ind-id-ns",
            "ns-descs",
            "list-ns",
            "get-ns-id",
        ],
        "`interlock list` shows the namespaces with their sizes and NSIDs, and `interlock doctor` what a controller states of them",
    ),
    (&["ana-log"], "`interlock show-topology` shows the ANA state of every path, `interlock doctor` the ANA groups"),
    (
        &[
            "smart-log",
            "error-log",
            "get-log",
            "fw-log",
            "effects-log",
            "telemetry-log",
            "persistent-event-log",
            "changed-ns-list-log",
            "changed-alloc-ns-list-log",
            "endurance-log",
            "endurance-event-agg-log",
            "predictable-lat-log",
            "pred-lat-event-agg-log",
            "lba-status-log",
            "resv-notif-log",
            "boot-part-log",
            "phy-rx-eom-log",
            "self-test-log",
            "supported-log-pages",
            "fid-support-effects-log",
            "mi-cmd-support-effects-log",
            "media-unit-stat-log",
            "supported-cap-config-log",
            "mgmt-addr-list-log",
            "rotational-media-info-log",
            "dispersed-ns-participating-nss-log",
            "reachability-groups-log",
            "reachability-associations-log",
            "host-discovery-log",
            "ave-discovery-log",
            "pull-model-ddc-req-log",
            "power-measurement-log",
            "sanitize-log",
        ],
        "log pages are read with nvme-cli over a connection of the kernel, or with tools of the array",
    ),
    (
        &["resv-report", "resv-register", "resv-acquire", "resv-release"],
        "this host takes no reservations; `interlock doctor` shows which namespaces offer them (RESCAP), and nvme-cli over a \
         connection of the kernel reads and changes them",
    ),
    (
        &[
            "read",
            "write",
            "compare",
            "flush",
            "verify",
            "write-zeroes",
            "write-uncor",
            "dsm",
            "copy",
            "get-lba-status",
        ],
        "`interlock io` reads and writes a namespace; `interlock export` makes a block device of one",
    ),
    (
        &[
            "admin-passthru",
            "io-passthru",
            "format",
            "create-ns",
            "delete-ns",
            "attach-ns",
            "detach-ns",
            "sanitize",
            "sanitize-ns",
            "fw-download",
            "fw-commit",
            "fw-activate",
            "set-feature",
            "set-property",
            "set-reg",
            "device-self-test",
            "security-send",
            "security-recv",
            "capacity-mgmt",
            "dir-receive",
            "dir-send",
            "virt-mgmt",
            "rpmb",
            "lockdown",
            "io-mgmt-recv",
            "io-mgmt-send",
            "nvme-mi-recv",
            "nvme-mi-send",
        ],
        "this host sends no such command: use nvme-cli over a connection of the kernel, or tools of the array",
    ),
    (&["subsystem-reset"], "`interlock reset` resets the controllers of a subsystem, one after the other"),
    (
        &["gen-hostnqn", "show-hostnqn"],
        "the daemon makes an identity when it begins without one, and `interlock status` shows it",
    ),
    (
        &["gen-dhchap-key", "check-dhchap-key", "gen-tls-key", "check-tls-key", "tls-key", "keys"],
        "TLS and in-band authentication are not built yet; nvme-cli makes keys",
    ),
    (&["dim"], "this host does not register with discovery controllers"),
    (
        &["convert", "create", "exclusion", "registry"],
        "`interlock config show` prints what the files of nvme-cli and interlock.toml come to; the files are edited by hand",
    ),
    (
        &[
            "zns", "fdp", "ocp", "intel", "wdc", "samsung", "micron", "seagate", "solidigm", "dell", "netapp", "lm",
            "feat",
        ],
        "commands for single devices are sent with nvme-cli over a connection of the kernel",
    ),
];

/// Options of `connect` and `connect-all`.
const OF_CONNECT: [Known; 10] = [
    (
        &["-D", "--duplicate-connect"],
        "one port is one path of a subsystem; -i asks for more I/O queues, -w and -f for another way to the same port",
    ),
    (
        &["-W", "--nr-write-queues", "-P", "--nr-poll-queues"],
        "every I/O queue of this host carries reads and writes; -i says how many there are",
    ),
    (&["-d", "--disable-sqflow"], "leave it out: this host asks every controller to do without SQ flow control"),
    (&["-T", "--tos"], "this host sets no type of service; rules of the network can mark TCP traffic to the port"),
    (
        &["-J"],
        "`interlock connect-all` reads the files of nvme-cli from --nvme-dir, and those of this program with --config",
    ),
    (&["--config"], "`interlock connect-all --config FILE` connects what a file says"),
    (&["-O", "--dump-config"], "`interlock config show` prints the effective configuration"),
    (&["-r", "--raw"], "`interlock discover -o json` prints every record of a discovery log"),
    (&["--device"], "give the address with -a and -s: a discovery controller has no device here"),
    (&["--nbft", "--no-nbft", "--nbft-path"], "the boot table NBFT is not read: give addresses with -a, or in a file"),
];

/// Options of `discover`.
const OF_DISCOVER: [Known; 7] = [
    (&["-p", "--persistent"], "`interlock connect-all -a ADDR -p` watches a discovery controller"),
    (&["-r", "--raw", "-O", "--dump-config"], "-o json prints every record"),
    (&["-d", "--device"], "give the address with -a and -s: a discovery controller has no device here"),
    (&["-J"], "--config FILE and --nvme-dir DIR say which files are read"),
    (
        &["-k", "--keep-alive-tmo", "-i", "--nr-io-queues", "-Q", "--queue-size", "-c", "--reconnect-delay"],
        "leave it out: one look has no I/O queues, sends no Keep Alive and does not reconnect",
    ),
    (
        &["-l", "--ctrl-loss-tmo", "-D", "--duplicate-connect", "-g", "--hdr-digest", "-G", "--data-digest", "--force"],
        "leave it out: it says nothing of one look at a discovery log",
    ),
    (&["--nbft", "--no-nbft", "--nbft-path"], "the boot table NBFT is not read: give addresses with -a, or in a file"),
];

/// Options of the commands that list.
const OF_LISTS: [Known; 3] = [
    (
        &["-n", "--nqn", "--subsystem-name"],
        "give a device of the subsystem instead, as in `interlock list-subsys nvme0`",
    ),
    (&["-r", "--ranking"], "`interlock list-subsys` sorts by controller, `interlock show-topology` by namespace"),
    (&["-d", "--device"], "give the device without a letter, as in `interlock list-subsys nvme0`"),
];

/// Options that every command of nvme-cli takes.
const OF_ALL: [Known; 2] = [
    (&["--set-options", "--no-retries", "--no-ioctl-probing"], "it is an option of nvme-cli alone: leave it out"),
    (&["-b", "--raw-binary", "-H", "--human-readable"], "-o json prints everything for programs"),
];

/// Options as this program spells them: nvme-cli takes underscores as well, as in `hdr_digest`.
pub(crate) fn spelt(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut options = true;
    args.map(|arg| {
        options &= arg != "--";
        match arg.to_str() {
            Some(text) if options && text.starts_with("--") => {
                let name = text.split('=').next().unwrap_or(text);
                format!("{}{}", name.replace('_', "-"), &text[name.len()..]).into()
            }
            _ => arg,
        }
    })
    .collect()
}

fn instead(table: &[Known], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, instead)| *instead)
}

/// What to say of a command line that clap does not understand, if users of nvme-cli write it, or if clap's own words would be
/// those of a library.
pub(crate) fn explained(error: &clap::Error, args: &[String]) -> Option<Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let failure = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand)?;
            let text = format!("`{word}` is a command of nvme-cli that this program does not have");
            Failure::new(text).hint(instead(&COMMANDS, word)?)
        }
        ErrorKind::UnknownArgument => {
            let word = context(ContextKind::InvalidArg)?;
            let word = word.split(['=', ' ']).next().unwrap_or(word);
            let command = args.get(1).map(String::as_str).unwrap_or_default();
            let of_command: &[Known] = match command {
                "connect" | "connect-all" => &OF_CONNECT,
                "discover" => &OF_DISCOVER,
                "list" | "list-subsys" | "show-topology" => &OF_LISTS,
                _ => &[],
            };
            let instead = instead(of_command, word).or_else(|| instead(&OF_ALL, word))?;
            let text = format!("`{word}` is an option of nvme-cli that `interlock {command}` does not have");
            Failure::new(text).hint(instead)
        }
        ErrorKind::ValueValidation => {
            let wrong = error.source()?.downcast_ref::<ParseIntError>()?;
            let (option, value) = (context(ContextKind::InvalidArg)?, context(ContextKind::InvalidValue)?);
            let why = match wrong.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "the number is too large",
                _ => "expected a whole number",
            };
            Failure::new(format!("invalid value '{value}' for '{option}': {why}")).hint("see `--help`")
        }
        _ => return None,
    };
    Some(failure.kind(ProblemKind::BadRequest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;
    use clap::Parser;

    fn said(line: &str) -> Option<String> {
        let args: Vec<String> = ["interlock"].into_iter().chain(line.split(' ')).map(str::to_owned).collect();
        let error = Cli::try_parse_from(&args).err()?;
        Some(explained(&error, &args)?.in_one_line())
    }

    #[test]
    fn every_word_of_nvme_cli_is_answered_or_is_a_word_of_this_program() {
        for word in COMMANDS.iter().flat_map(|(words, _)| *words) {
            let below = ["convert", "create"].contains(word);
            let line = if below { format!("config {word}") } else { format!("{word} /dev/nvme0") };
            let text = said(&line).unwrap_or_else(|| panic!("{line}: no answer"));
            assert!(text.starts_with(&format!("`{word}` is a command of nvme-cli")), "{line}: {text}");
        }
        for (command, table) in [("connect", &OF_CONNECT[..]), ("discover", &OF_DISCOVER), ("list-subsys", &OF_LISTS)] {
            let base = if command == "connect" { "connect -a 192.0.2.1 -n nqn.x" } else { command };
            for word in table.iter().chain(&OF_ALL).flat_map(|(words, _)| *words) {
                let line = format!("{base} {word}");
                let text = said(&line).unwrap_or_else(|| panic!("{line}: no answer"));
                assert!(text.starts_with(&format!("`{word}` is an option of nvme-cli")), "{line}: {text}");
                assert_eq!(said(&format!("{base} {word}=1")), said(&line), "{word}");
            }
        }
    }

    #[test]
    fn options_are_taken_as_nvme_cli_2_spells_them() {
        let spelt = |words: &[&str]| -> Vec<String> {
            let all = spelt(words.iter().map(OsString::from));
            all.into_iter().map(|word| word.into_string().expect("text")).collect()
        };
        assert_eq!(spelt(&["connect", "--hdr_digest", "--nqn=nqn.a_b"]), ["connect", "--hdr-digest", "--nqn=nqn.a_b"]);
        assert_eq!(spelt(&["export", "a_b", "--", "--c_d"]), ["export", "a_b", "--", "--c_d"]);
    }

    #[test]
    fn what_is_no_number_is_told_in_words() {
        let text = said("connect -a 192.0.2.1 -n nqn.x -k soon").expect("told");
        assert_eq!(text, "invalid value 'soon' for '--keep-alive-tmo <S>': expected a whole number (see `--help`)");
        let text = said("connect -a 192.0.2.1 -n nqn.x -s 99999999999999999999").expect("told");
        assert!(!text.contains("digit") && !text.contains("target type"), "{text}");
        assert_eq!(said("frobnicate"), None, "clap knows what is near");
        assert_eq!(said("list --frobnicate"), None);
    }
}
