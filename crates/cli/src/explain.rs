//! `interlock explain` and `interlock history`: what happened in a failover, and which there were.

use crate::ask::{AskArgs, failed};
use crate::drill::how;
use crate::events::time;
use crate::failure::Failure;
use crate::output::{Format, OutputArgs, print};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use interlock_api::{Event, Failover, Failovers, Method, ProblemKind, Safety, Story, StoryState};
use interlock_observe::story;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

/// Explain one failover: what was lost, what was in doubt, why it was safe, what it took, what to change
///
/// With --events, explain reads events from a file that `interlock events --since 0 -o json` wrote, and needs no daemon.
#[derive(clap::Args)]
pub(crate) struct ExplainArgs {
    /// Number of the failover in `interlock history`, or a controller for its last one, as in nvme0; default: the last one
    #[arg(value_name = "ID|DEVICE")]
    id: Option<Which>,
    /// Explain the last failover
    #[arg(long, conflicts_with = "id")]
    last: bool,
    /// Read events from this file; -: standard input
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which failover.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// The one that began with this event.
    Id(u64),
    /// The last one of this controller.
    Of(String),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let number = |digits: &str| digits.parse::<u32>().is_ok();
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) if name.strip_prefix("nvme").is_some_and(number) => Ok(Self::Of(name.to_owned())),
            Err(_) => Err("neither a number of `interlock history` nor a controller, as in nvme0".into()),
        }
    }
}

pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let story = match &args.events {
        Some(file) => recorded(file, args.id.as_ref())?,
        None => {
            let client = args.ask.client();
            let id = match &args.id {
                None => "last".into(),
                Some(Which::Id(id)) => id.to_string(),
                Some(Which::Of(name)) => {
                    let all: Failovers = client.get("/v1/failovers?last=500").map_err(failed)?;
                    let last = all.failovers.iter().rev().find(|one| one.lost.controller == *name);
                    last.ok_or_else(|| never_lost(name))?.id.to_string()
                }
            };
            client.get(&format!("/v1/failovers/{id}")).map_err(failed)?
        }
    };
    print(&match args.output.format {
        Format::Normal => format!("{}\n{}", time(story.unix_ms), story::page(&story)),
        Format::Json => interlock_api::to_pretty(&story)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn never_lost(name: &str) -> Failure {
    Failure::new(format!("{name} has not been lost in what is kept"))
        .kind(ProblemKind::NotFound)
        .hint("`interlock history` lists what is kept")
}

/// The story of a failover in a file.
fn recorded(file: &Path, which: Option<&Which>) -> anyhow::Result<Story> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::read_to_string(file).map(|read| text = read).map(|()| text.len())
    };
    read.map_err(|error| {
        let kind = crate::failure::kind_of(&error);
        Failure::new(format!("cannot read {}: {error}", file.display())).kind(kind)
    })?;
    let mut events: Vec<Event> = Vec::new();
    for (place, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let event = serde_json::from_str(line).map_err(|why| {
            Failure::new(format!("{} line {} is no event: {why}", file.display(), place + 1))
                .hint("`interlock events --since 0 -o json` prints events as they are wanted here")
        })?;
        events.push(event);
    }
    let known = story::failovers(&events);
    let of = |name: &String| {
        let is = |id: &&u64| story::story(&events, **id).is_some_and(|story| story.lost.controller == *name);
        known.iter().rev().find(is).copied().ok_or_else(|| never_lost(name))
    };
    let id = match which {
        Some(Which::Id(id)) => *id,
        Some(Which::Of(name)) => of(name)?,
        None => {
            let none = || Failure::new(format!("no failover begins in {}", file.display())).kind(ProblemKind::NotFound);
            known.last().copied().ok_or_else(none)?
        }
    };
    story::story(&events, id).ok_or_else(|| {
        let known: Vec<String> = known.iter().map(u64::to_string).collect();
        let list = if known.is_empty() { "none".into() } else { known.join(", ") };
        Failure::new(format!("no failover begins with event {id}"))
            .kind(ProblemKind::NotFound)
            .hint(format!("there are: {list}"))
            .into()
    })
}

/// List failovers: when, what was lost, how, what was in doubt, how it was fenced, what was felt
#[derive(clap::Args)]
pub(crate) struct HistoryArgs {
    /// Failovers to list, the last ones, 1 to 500
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(1..=500))]
    lines: u64,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn history(args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let all: Failovers = args.ask.client().get(&format!("/v1/failovers?last={}", args.lines)).map_err(failed)?;
    print(&match args.output.format {
        Format::Normal if all.failovers.is_empty() => "no controller has been lost in what is kept".into(),
        Format::Normal => table(&all.failovers),
        Format::Json => interlock_api::to_pretty(&all)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn table(failovers: &[Failover]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["id", "began", "lost", "detected", "in doubt", "fence", "longest", ""]);
    for failover in failovers {
        table.add_row([
            failover.id.to_string(),
            time(failover.unix_ms),
            failover.lost.controller.clone(),
            how(failover.detected).into(),
            failover.in_doubt.map_or_else(|| "?".into(), |count| count.to_string()),
            fence(failover),
            failover.longest_ms.map_or_else(|| "-".into(), |ms| format!("{ms:.0} ms")),
            mark(failover),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if [0, 4, 6].contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn fence(failover: &Failover) -> String {
    let through = failover.source.as_ref().map_or_else(String::new, |way| format!(" via {}", way.controller));
    match (failover.method, failover.safety) {
        (Some(Method::Immediate), _) => format!("CCR{through}"),
        (Some(Method::Log), _) => format!("CCR, log{through}"),
        (Some(Method::DrainedDisable), _) => "disable".into(),
        (Some(Method::Time), _) => "time".into(),
        (Some(Method::Assumed), _) => "assumed time".into(),
        (Some(Method::Legacy | Method::AcceptedRisk), _) => "NONE".into(),
        (None, Safety::NotNeeded) => "not needed".into(),
        (None, _) => "-".into(),
    }
}

fn mark(failover: &Failover) -> String {
    let word = match failover.safety {
        Safety::NotNeeded | Safety::Proven => "safe",
        Safety::Pending => "waiting",
        Safety::Guarded => "guarded",
        Safety::Assumed => "NOT PROVEN",
        Safety::Unsafe => "UNSAFE",
    };
    match failover.state {
        StoryState::Ongoing if failover.safety != Safety::Pending => format!("{word}, not back yet"),
        StoryState::Interrupted => format!("{word}, interrupted"),
        _ => word.into(),
    }
}
