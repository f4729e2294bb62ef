//! `interlock events`: what happened, and what happens.

use crate::ask::{AskArgs, failed};
use crate::output::{Format, OutputArgs, print};
use interlock_api::{ClientError, Event};
use std::process::ExitCode;

/// How many of the past are shown if nothing says where to begin, as `tail` does.
const LAST: u64 = 10;

/// Print recent events; -f follows
///
/// Every event has a number. Numbers continue over restarts of the daemon, and missing numbers are reported. With `-o json`
/// each line is one JSON document.
#[derive(clap::Args)]
pub(crate) struct EventsArgs {
    /// Follow: print new events until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Begin with the event after this number; 0: with the oldest that is kept
    #[arg(long, value_name = "ID", visible_alias = "after")]
    since: Option<u64>,
    /// Past events to print first; default: 10, or all with --since
    #[arg(short = 'n', long = "lines", value_name = "COUNT", conflicts_with = "since")]
    lines: Option<u64>,
    /// Print only events of this controller, as in nvme0
    #[arg(long, value_name = "DEVICE")]
    controller: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let begin = match args.since {
        Some(since) => format!("after={since}"),
        None => format!("last={}", args.lines.unwrap_or(LAST)),
    };
    let path = format!("/v1/events?{begin}&follow={}", args.follow);
    let mut last = args.since.filter(|since| *since > 0);
    let client = args.ask.client();
    for line in client.lines(&path).map_err(failed)? {
        let line = line?;
        let strange = |why: serde_json::Error| {
            let socket = client.socket().to_owned();
            failed(ClientError::Strange { socket, why: format!("it sent no event: {why}") })
        };
        let event: Event = serde_json::from_str(&line).map_err(strange)?;
        let missing = gap(last.replace(event.seq), event.seq);
        if args.controller.is_some() && args.controller != event.controller {
            continue;
        }
        match args.output.format {
            Format::Json => print(&line)?,
            Format::Normal => print(&(missing + &normal(&event)))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What to say of numbers that are missing.
fn gap(last: Option<u64>, seq: u64) -> String {
    match last {
        Some(last) if seq > last + 1 => format!("        -- {} numbers are missing: not kept --\n", seq - last - 1),
        _ => String::new(),
    }
}

/// Number, time of day, level and words.
fn normal(event: &Event) -> String {
    format!("{:>7} {} {:<5} {}", event.seq, time(event.unix_ms), event.level, event.text)
}

/// `2026-11-26T01:18:55.123Z`: as the daemon's log has it.
pub(crate) fn time(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "-".into(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_numbers_are_said_and_moments_are_those_of_the_log() {
        assert_eq!(gap(None, 9), "");
        assert_eq!(gap(Some(8), 9), "");
        assert_eq!(gap(Some(4), 9), "        -- 4 numbers are missing: not kept --\n");
        assert_eq!(time(1_795_742_335_007), "2026-11-27T01:18:55.007Z");
        assert_eq!(time(u64::MAX), "-");
    }
}
