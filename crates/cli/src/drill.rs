//! `interlock drill`: breaks real paths under verified load, and says whether the data is safe.

use crate::failure::Failure;
use crate::output::{Format, OutputArgs, print, say};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use interlock_api::{DetectedHow, DrillReport, Method, ScenarioResult, Verdict};
use interlock_drill::{Fencing, Options, Plan, Progress, SCENARIOS, Scenario, Side, drill};
use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Stale blocks, and other things, that are printed per scenario; JSON has all.
const SHOWN: usize = 3;

/// How long a reactor looks for news before it sleeps: as any other program has it.
const SPIN: Duration = Duration::ZERO;

/// Break real paths under verified load and say whether the data is safe
///
/// Starts a target and a host in this process, which share nothing but TCP sockets. In every scenario the target holds
/// writes back, the path they came on breaks, the host fails over, the load rewrites what was retried, and then the
/// target tries to execute the old writes after all. Exit code 0: safe; 1: stale data was found; 2: inconclusive.
#[derive(clap::Args)]
pub(crate) struct DrillArgs {
    /// Run only these scenarios
    #[arg(value_name = "SCENARIO")]
    names: Vec<String>,
    /// Run only this scenario; may be given several times
    #[arg(long = "scenario", value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// List the scenarios and end
    #[arg(long)]
    list: bool,
    /// Do not fence in this scenario, or in `all`: must come out unsafe. May be given several times
    #[arg(long = "no-fence", value_name = "SCENARIO")]
    no_fence: Vec<String>,
    /// Repeat the load of an earlier drill
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Use header and data digests
    #[arg(long)]
    digests: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &DrillArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        print(&list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = plan(args)?;
    let options = Options { seed: args.seed.unwrap_or_else(any_seed), digests: args.digests, spin: SPIN };
    let mut screen = Screen::new(args.output.verbose > 0);
    let report = drill(&plan, &options, &mut |step| screen.show(step));
    screen.end()?;
    print(&match args.output.format {
        Format::Normal => normal(&plan, &report),
        Format::Json => interlock_api::to_pretty(&report)?,
    })?;
    Ok(ExitCode::from(report.exit_code))
}

fn list() -> String {
    let widest = SCENARIOS.iter().map(|scenario| scenario.name.len()).max().unwrap_or_default();
    SCENARIOS.iter().fold(String::new(), |mut text, scenario| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<widest$}  {}", scenario.name, scenario.summary);
        text
    })
}

/// What to play: the scenarios named, all if none is; unfenced those named by `--no-fence`, which alone suffices.
fn plan(args: &DrillArgs) -> anyhow::Result<Vec<Plan>> {
    let mut chosen = Vec::new();
    for name in args.names.iter().chain(&args.scenarios) {
        chosen.push(named(name)?);
    }
    let all = args.no_fence.iter().any(|name| name == "all");
    let mut unfenced = Vec::new();
    for name in args.no_fence.iter().filter(|name| *name != "all") {
        unfenced.push(named(name)?);
    }
    if chosen.is_empty() {
        chosen = if all || unfenced.is_empty() { SCENARIOS.iter().collect() } else { unfenced.clone() };
    }
    if let Some(idle) = unfenced.iter().find(|scenario| !chosen.contains(scenario)) {
        let text = format!("`--no-fence {0}` names a scenario that does not run", idle.name);
        return Err(Failure::new(text).hint(format!("add `--scenario {}`", idle.name)).into());
    }
    let fencing = |scenario| if all || unfenced.contains(&scenario) { Fencing::Legacy } else { Fencing::Strict };
    Ok(chosen.into_iter().map(|scenario| Plan { scenario, fencing: fencing(scenario) }).collect())
}

fn named(name: &str) -> anyhow::Result<&'static Scenario> {
    Scenario::named(name).ok_or_else(|| {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        Failure::new(format!("there is no scenario `{name}`")).hint(format!("use one of {}", names.join(", "))).into()
    })
}

/// Small enough for every reader of JSON, and easy to type again.
fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// What is seen while the drill runs: a line that changes on a terminal, a line per scenario elsewhere.
struct Screen {
    bar: ProgressBar,
    live: bool,
    verbose: bool,
    title: String,
    failed: io::Result<()>,
}

impl Screen {
    fn new(verbose: bool) -> Self {
        let live = io::stderr().is_terminal();
        let bar = if live { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar, live, verbose, title: String::new(), failed: Ok(()) }
    }

    fn show(&mut self, step: Progress<'_>) {
        match step {
            Progress::Begun { plan, place, of } => {
                let unfenced = if plan.fencing == Fencing::Legacy { ", no fence" } else { "" };
                self.title = format!("[{place}/{of}] {}{unfenced}", plan.scenario.name);
                self.bar.set_prefix(self.title.clone());
                if self.verbose {
                    self.line(&format!("{}: {}", self.title, plan.scenario.summary));
                }
            }
            Progress::Phase(what) => {
                self.bar.set_message(what.to_owned());
                if self.verbose {
                    self.line(&format!("            -- {what}"));
                }
            }
            Progress::Note(note) => self.line(&format!("{}: {note}", self.title)),
            Progress::Happened { after, side, text } => {
                if self.verbose {
                    let side = match side {
                        Side::Host => "host",
                        Side::Target => "target",
                        Side::Drill => "drill",
                    };
                    self.line(&format!("{:>10.3} {side:<6} {text}", after.as_secs_f64() * 1e3));
                }
            }
            Progress::Ended(result) => self.line(&format!("{}: {}", self.title, verdict(result))),
        }
    }

    fn line(&mut self, text: &str) {
        if self.live {
            self.bar.println(text);
        } else if self.failed.is_ok() {
            self.failed = say(text);
        }
    }

    fn end(self) -> io::Result<()> {
        self.bar.finish_and_clear();
        self.failed
    }
}

fn normal(plan: &[Plan], report: &DrillReport) -> String {
    let mut text = table(report);
    text.push('\n');
    for (item, result) in plan.iter().zip(&report.scenarios) {
        details(&mut text, item, result);
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", summary(plan, report));
    text
}

fn table(report: &DrillReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "scenario",
        "detected",
        "in doubt",
        "fence",
        "held",
        "stall max / p99",
        "reconn.",
        "ghosts",
        "stale",
        "verdict",
    ]);
    for result in &report.scenarios {
        table.add_row([
            result.name.clone(),
            result.detection.map_or_else(dash, |found| format!("{} {}", how(found.how), ms(found.ms))),
            result.writes_in_doubt.to_string(),
            result.fence.as_ref().map_or_else(dash, |fence| match &fence.source {
                Some(source) => format!("{} via {source}", method(fence.method)),
                None => method(fence.method).to_owned(),
            }),
            result.fence.as_ref().map_or_else(dash, |fence| format!("{} ms", fence.held_ms)),
            format!("{} / {}", ms(result.stall.longest_ms), ms(result.stall.p99_ms)),
            result.reconnect_attempts.to_string(),
            format!("{}/{} stopped", result.ghosts.stopped, result.ghosts.armed),
            result.stale.len().to_string(),
            verdict(result),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if [2, 4, 5, 6, 7, 8].contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn details(text: &mut String, plan: &Plan, result: &ScenarioResult) {
    let stale: Vec<String> = result.stale.iter().map(|block| format!("stale block: {}", block.text)).collect();
    let mut broken: Vec<String> = result.violations.iter().map(|found| format!("broken: {found}")).collect();
    if plan.fencing == Fencing::Legacy && !stale.is_empty() {
        // The same writes once more, as the target's log has them.
        broken.clear();
    }
    let reasons = result.reasons.iter().map(|reason| format!("why: {reason}")).collect();
    // What was foretold is printed beside what came true.
    let foretold = plan.scenario.fast_io_fail.is_some();
    let notes = result.notes.iter().filter(|note| foretold && note.contains("settled I/O")).cloned().collect();
    for line in [stale, broken, reasons, notes].into_iter().flat_map(shortened) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {line}", result.name);
    }
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(format!("... and {more} more (`-o json` has all)"));
    }
    lines
}

fn summary(plan: &[Plan], report: &DrillReport) -> String {
    let count = |wanted: &[Verdict]| report.scenarios.iter().filter(|result| wanted.contains(&result.verdict)).count();
    let (safe, bad) = (count(&[Verdict::Safe, Verdict::SafeIf]), count(&[Verdict::Unsafe]));
    let mut text = format!("{safe} of {} safe", report.scenarios.len());
    if bad > 0 {
        let _ = write!(text, ", {bad} UNSAFE");
    }
    let unclear = report.scenarios.len() - safe - bad;
    if unclear > 0 {
        let _ = write!(text, ", {unclear} inconclusive");
    }
    let unfenced: Vec<_> =
        plan.iter().zip(&report.scenarios).filter(|(item, _)| item.fencing == Fencing::Legacy).collect();
    if !unfenced.is_empty() {
        let must: Vec<_> = unfenced.iter().filter(|(item, _)| item.scenario.must_be_caught()).collect();
        let caught = must.iter().filter(|(_, result)| !result.stale.is_empty()).count();
        let _ = write!(text, "; without a fence {caught} of {} that must be caught were", must.len());
    }
    let _ = write!(text, " (seed {})", report.seed);
    text
}

fn verdict(result: &ScenarioResult) -> String {
    match (result.verdict, result.assumed_ms) {
        (Verdict::Safe, _) => "SAFE".into(),
        (Verdict::SafeIf, Some(ms)) => format!("SAFE IF the target quiesces within {ms} ms"),
        (Verdict::SafeIf, None) => "SAFE IF the target quiesces in time".into(),
        (Verdict::Unsafe, _) => "UNSAFE".into(),
        (Verdict::Inconclusive, _) => "INCONCLUSIVE".into(),
    }
}

const fn how(how: DetectedHow) -> &'static str {
    match how {
        DetectedHow::ConnectionReset => "reset",
        DetectedHow::ConnectionClosed => "closed",
        DetectedHow::TransportError => "transport error",
        DetectedHow::KeepAlive => "keep alive",
        DetectedHow::CommandTimeout => "timeout",
        DetectedHow::TermRequest => "termination",
        DetectedHow::ProtocolError => "protocol error",
        DetectedHow::ControllerFatal => "controller fatal",
        DetectedHow::Operator => "operator",
        DetectedHow::Predecessor => "predecessor",
    }
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Immediate => "CCR",
        Method::Log => "CCR, log",
        Method::DrainedDisable => "disable",
        Method::Time => "time",
        Method::Assumed => "assumed time",
        Method::Legacy | Method::AcceptedRisk => "NONE",
    }
}

/// Short, with what matters: 3 digits or whole milliseconds.
fn ms(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn dash() -> String {
    "-".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use interlock_api::{FenceSummary, GhostCounts, LossDetection, StaleBlock, StallTimes, Version, WriteRef};

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        args: DrillArgs,
    }

    fn planned(flags: &[&str]) -> Result<Vec<(&'static str, Fencing)>, String> {
        let alone = Alone::parse_from([&["drill"], flags].concat());
        let plan = plan(&alone.args).map_err(|error| error.to_string())?;
        Ok(plan.into_iter().map(|item| (item.scenario.name, item.fencing)).collect())
    }

    #[test]
    fn flags_say_what_runs_and_what_is_fenced() {
        use Fencing::{Legacy, Strict};
        assert!(planned(&[]).unwrap().iter().all(|(_, fencing)| *fencing == Strict));
        assert_eq!(planned(&[]).unwrap().len(), SCENARIOS.len());
        assert!(planned(&["--no-fence", "all"]).unwrap().iter().all(|(_, fencing)| *fencing == Legacy));
        assert_eq!(planned(&["--no-fence", "silent"]).unwrap(), [("silent", Legacy)]);
        assert_eq!(
            planned(&["reset", "--scenario", "silent", "--no-fence", "silent"]).unwrap(),
            [("reset", Strict), ("silent", Legacy)]
        );
        assert_eq!(planned(&["resett"]).unwrap_err(), "there is no scenario `resett`");
        assert!(planned(&["reset", "--no-fence", "silent"]).unwrap_err().contains("does not run"));
    }

    fn result() -> ScenarioResult {
        ScenarioResult {
            name: "reset".into(),
            verdict: Verdict::Safe,
            assumed_ms: None,
            reasons: Vec::new(),
            detection: Some(LossDetection { how: DetectedHow::ConnectionReset, ms: 1.25 }),
            writes_in_doubt: 16,
            fence: Some(FenceSummary { method: Method::Immediate, source: Some("nvme1".into()), held_ms: 3 }),
            stall: StallTimes { longest_ms: 14.5, p99_ms: 1.75 },
            reconnect_attempts: 1,
            ghosts: GhostCounts { armed: 16, stopped: 16, executed: 0 },
            stale: Vec::new(),
            violations: Vec::new(),
            notes: Vec::new(),
            receipts: Vec::new(),
        }
    }

    #[test]
    fn the_table_has_a_line_per_scenario_and_an_end() {
        let plan = [Plan { scenario: &SCENARIOS[0], fencing: Fencing::Strict }];
        let report = DrillReport {
            format_version: Version,
            seed: 7,
            scenarios: vec![result()],
            verdict: Verdict::Safe,
            exit_code: 0,
        };
        let text = normal(&plan, &report);
        let lines: Vec<&str> = text.lines().collect();
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words.join(" "), "reset reset 1.2 ms 16 CCR via nvme1 3 ms 14 ms / 1.8 ms 1 16/16 stopped 0 SAFE");
        assert_eq!(*lines.last().unwrap(), "1 of 1 safe (seed 7)");
    }

    #[test]
    fn stale_blocks_are_named_below_it_and_not_without_end() {
        let block = |lba| StaleBlock {
            lba,
            found: None,
            overwritten: WriteRef { op: 1, generation: 1 },
            text: format!("LBA {lba}: write #1 (generation 1), answered, is lost"),
        };
        let stale: Vec<StaleBlock> = (0..9).map(block).collect();
        let caught = ScenarioResult { verdict: Verdict::Unsafe, stale, ..result() };
        let plan = [Plan { scenario: &SCENARIOS[0], fencing: Fencing::Legacy }];
        let report = DrillReport {
            format_version: Version,
            seed: 7,
            scenarios: vec![caught],
            verdict: Verdict::Unsafe,
            exit_code: 1,
        };
        let text = normal(&plan, &report);
        assert!(text.contains("reset: stale block: LBA 0: write #1 (generation 1), answered, is lost\n"), "{text}");
        assert!(text.contains("reset: ... and 6 more (`-o json` has all)\n"), "{text}");
        assert!(text.ends_with("0 of 1 safe, 1 UNSAFE; without a fence 1 of 1 that must be caught were (seed 7)\n"));
    }
}
