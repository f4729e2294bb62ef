//! `interlock explain` and `interlock history`: what happened in a failover, and which there were.

use crate::ask::{AskArgs, failed};
use crate::drill::how;
use crate::events::time;
use crate::failure::Failure;
use crate::output::{Format, OutputArgs, print};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use interlock_api::{Event, Failover, Failovers, Method, Safety, Story, StoryState};
use interlock_observe::story;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tell the story of one failover: what was lost, what was in doubt, why it was safe, what it took, what to change
///
/// Also of events in a file, as `interlock events --since 0 -o json` prints them: then no daemon is asked.
#[derive(clap::Args)]
pub(crate) struct ExplainArgs {
    /// Which, by its number in `interlock history`; default: the last one
    #[arg(value_name = "ID")]
    id: Option<u64>,
    /// The last one
    #[arg(long, conflicts_with = "id")]
    last: bool,
    /// Read events from this file; -: from standard input
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let story = match &args.events {
        Some(file) => recorded(file, args.id)?,
        None => {
            let id = args.id.map_or_else(|| "last".into(), |id| id.to_string());
            args.ask.client().get(&format!("/v1/failovers/{id}")).map_err(failed)?
        }
    };
    print(&match args.output.format {
        Format::Normal => format!("{}\n{}", time(story.unix_ms), story::page(&story)),
        Format::Json => interlock_api::to_pretty(&story)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The story of a failover in a file.
fn recorded(file: &Path, id: Option<u64>) -> anyhow::Result<Story> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::read_to_string(file).map(|read| text = read).map(|()| text.len())
    };
    read.map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
    let mut events: Vec<Event> = Vec::new();
    for (place, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let event = serde_json::from_str(line).map_err(|why| {
            Failure::new(format!("{} line {} is no event: {why}", file.display(), place + 1))
                .hint("`interlock events --since 0 -o json` prints events as they are wanted here")
        })?;
        events.push(event);
    }
    let Some(id) = id.or_else(|| story::failovers(&events).last().copied()) else {
        return Err(Failure::new(format!("no failover begins in {}", file.display())).into());
    };
    let known = story::failovers(&events);
    story::story(&events, id).ok_or_else(|| {
        let known: Vec<String> = known.iter().map(u64::to_string).collect();
        let list = if known.is_empty() { "none".into() } else { known.join(", ") };
        Failure::new(format!("no failover begins with event {id}")).hint(format!("there are: {list}")).into()
    })
}

/// List failovers: when, what was lost, how, what was in doubt, how it was fenced, what was felt
#[derive(clap::Args)]
pub(crate) struct HistoryArgs {
    /// So many of the last; at most 500
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 20)]
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
