//! `interlock drill`: breaks real paths under verified load, and says whether the data is safe.

use crate::failure::Failure;
use crate::identity::diagnosed;
use crate::output::{Format, OutputArgs, print, say};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use interlock_api::{CcrUse, DetectedHow, DrillReport, Method, Reach, ScenarioResult, Verdict};
use interlock_drill::{
    Consent, FOREIGN, Fencing, Foreign, ForeignError, Options, Plan, Progress, Requirement, SCENARIOS, Scenario, Side,
    ccr_in_words, drill, drill_foreign, fast_io_fail_in_words,
};
use interlock_host::{HostError, HostId, HostSettings, IdentityInUse, IdentityLock, Nqn, ProbeSpec};
use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Stale blocks, and other things, that are printed per scenario; JSON has all.
const SHOWN: usize = 3;

/// How long a reactor looks for news before it sleeps: as any other program has it.
const SPIN: Duration = Duration::ZERO;

/// Break real paths under verified load, and report whether the data is safe
///
/// The drill starts a target and a host in this process, which share nothing but TCP sockets. In every scenario the target
/// stalls writes, the path they came on breaks, the host fails over, the load rewrites what was retried, and then the
/// target tries to execute the old writes after all. Exit code 0: safe; 1: stale data or another broken promise was found;
/// 2: inconclusive; 3: the drill did not take place (a wrong option, no connection, data where it would write).
///
/// With --target the peer is any NVMe/TCP target, and the network misbehaves instead: a proxy in this process delays
/// writes and delivers them late. The drill writes to the first 64 MiB of the namespace. It refuses to overwrite data,
/// and leaves blank what was blank.
#[derive(clap::Args)]
#[command(after_help = crate::log::ENVIRONMENT)]
pub(crate) struct DrillArgs {
    /// Run only these scenarios
    #[arg(value_name = "SCENARIO")]
    names: Vec<String>,
    /// Run only this scenario; repeatable
    #[arg(long = "scenario", value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// List the scenarios and exit
    #[arg(long)]
    list: bool,
    /// Do not fence in this scenario; without a value: in all. The verdict must be UNSAFE. Repeatable
    #[arg(long = "no-fence", value_name = "SCENARIO", num_args = 0..=1, default_missing_value = "all")]
    no_fence: Vec<String>,
    /// Repeat the load of an earlier drill: the seed that it printed; default: random
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Use header and data digests
    #[arg(long)]
    digests: bool,
    /// Path to another target, repeatable; the first one is the path that breaks
    #[arg(long = "target", value_name = "tcp:HOST:PORT", requires = "nqn", value_parser = target)]
    targets: Vec<SocketAddr>,
    /// Subsystem NQN of that target
    #[arg(long, value_name = "NQN", requires = "targets", value_parser = nqn)]
    nqn: Option<Nqn>,
    /// Namespace identifier; default: the only namespace
    #[arg(long, value_name = "N", requires = "targets")]
    nsid: Option<u32>,
    /// Overwrite the first 64 MiB of the namespace although it holds data
    #[arg(long, requires = "targets")]
    destroy_data: bool,
    /// Host NQN to connect as; default: a random one
    #[arg(short = 'q', long, value_name = "NQN", requires = "targets")]
    hostnqn: Option<Nqn>,
    /// Host Identifier to connect as, a UUID that no other process uses meanwhile; default: a random one
    #[arg(short = 'I', long, value_name = "UUID", requires = "targets")]
    hostid: Option<HostId>,
    /// Keep Alive Timeout to ask the other target for, 1 to 60 seconds; default: 5
    #[arg(short = 'k', long, value_name = "S", requires = "targets", value_parser = clap::value_parser!(u16).range(1..=60))]
    keep_alive_tmo: Option<u16>,
    /// I/O queue pairs of each controller; default: one
    #[arg(short = 'i', long, value_name = "N", requires = "targets", value_parser = clap::value_parser!(u16).range(1..))]
    nr_io_queues: Option<u16>,
    /// Quiesce time to assume where the target states none, in milliseconds; default: 5000, as for every connection
    #[arg(long, value_name = "MS", requires = "targets")]
    assumed_cqt: Option<u32>,
    /// Report INCONCLUSIVE where this did not prove a fence
    #[arg(long, value_name = "WHAT", value_enum)]
    require: Option<Required>,
    /// Write a report with a drawing of every failover to this file, as one HTML page without other files
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Choices of `--require`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Required {
    /// Cross-Controller Reset
    Ccr,
}

fn target(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("tcp:").ok_or("expected tcp:HOST:PORT")?;
    let mut found = address.to_socket_addrs().map_err(|error| format!("expected tcp:HOST:PORT: {error}"))?;
    found.next().ok_or_else(|| "no address found for it".into())
}

fn nqn(text: &str) -> Result<Nqn, String> {
    Nqn::new(text).map_err(|error| error.to_string())
}

fn cannot_write(file: &Path, error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot write {}", file.display()))
}

pub(crate) fn run(args: &DrillArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        print(&list(args.output.format)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = plan(args)?;
    // A place where nothing can be written is told before minutes of work, not after.
    let page = args.report.as_ref().map(|file| {
        let open = std::fs::OpenOptions::new().create(true).append(true).open(file);
        open.map(|_| file).map_err(|error| cannot_write(file, error))
    });
    let page = page.transpose()?;
    let options = Options {
        seed: args.seed.unwrap_or_else(any_seed),
        digests: args.digests,
        spin: SPIN,
        record: args.report.is_some(),
        kato: args.keep_alive_tmo.map(|seconds| Duration::from_secs(seconds.into())),
        assumed_cqt: args.assumed_cqt.map(|ms| Duration::from_millis(ms.into())),
        nr_io_queues: args.nr_io_queues,
        require: args.require.map(|Required::Ccr| Requirement::Ccr),
    };
    let foreign = foreign(args)?;
    let mut screen = Screen::new(args.output.verbose > 0);
    let report = match &foreign {
        None => Ok(drill(&plan, &options, &mut |step| screen.show(step))),
        Some((foreign, _)) => drill_foreign(&plan, foreign, &options, &mut |step| screen.show(step)),
    };
    screen.end()?;
    let report = report.map_err(|error| match (&error, &foreign) {
        (ForeignError::Host(HostError::Connect { .. }), Some((foreign, _))) => not_reached(foreign, not_begun(error)),
        _ => not_begun(error),
    })?;
    if let Some(file) = page {
        std::fs::write(file, interlock_drill::page(&report)).map_err(|error| cannot_write(file, error))?;
    }
    print(&match args.output.format {
        Format::Normal => normal(&plan, &report),
        Format::Json => interlock_api::to_pretty(&report)?,
    })?;
    Ok(ExitCode::from(report.exit_code))
}

/// The target that is not ours, if one is named, and the identity under which it is written to, held as long as that.
fn foreign(args: &DrillArgs) -> anyhow::Result<Option<(Foreign, IdentityLock)>> {
    let Some(subnqn) = args.nqn.clone() else { return Ok(None) };
    let consent = if args.destroy_data { Consent::Destroy } else { Consent::Blank };
    let random = HostSettings::random()?;
    let hostid = args.hostid.unwrap_or(random.hostid);
    let hostnqn = args.hostnqn.clone().unwrap_or_else(|| Nqn::of_host(hostid));
    let lock = IdentityLock::take(hostid).map_err(|error| {
        let failure = Failure::new(&error);
        match error {
            IdentityInUse::By { .. } => {
                failure.hint("end that one first, or leave out --hostid: then it is a random one")
            }
            _ => failure,
        }
    })?;
    let named = args.hostnqn.is_some() || args.hostid.is_some();
    let identity = named.then_some(HostSettings { hostnqn, hostid });
    Ok(Some((Foreign { targets: args.targets.clone(), subnqn, nsid: args.nsid, consent, identity }, lock)))
}

/// No connection: what a look sees at the first port that it cannot use either.
fn not_reached(foreign: &Foreign, error: anyhow::Error) -> anyhow::Error {
    let Some(settings) = foreign.identity.clone().or_else(|| HostSettings::random().ok()) else { return error };
    let text = error.to_string();
    let at = foreign.targets.iter().find(|at| text.starts_with(&at.to_string())).or_else(|| foreign.targets.first());
    let Some(at) = at else { return error };
    let look = ProbeSpec::subsystem(at.ip().to_string(), at.port(), foreign.subnqn.clone(), settings);
    diagnosed(error, &look)
}

fn not_begun(error: ForeignError) -> anyhow::Error {
    let text = error.to_string();
    let hint = match error {
        ForeignError::HoldsData { .. } => "nothing was written; add `--destroy-data` to overwrite it",
        ForeignError::WhichNamespace { .. } => "choose one with `--nsid N`",
        ForeignError::TooFewPaths(_) => "give `--target tcp:HOST:PORT` once for each path",
        _ => return Failure::new(text).into(),
    };
    Failure::new(text).hint(hint).into()
}

fn list(format: Format) -> serde_json::Result<String> {
    let all = || SCENARIOS.iter().chain(&FOREIGN);
    let widest = all().map(|scenario| scenario.name.len()).max().unwrap_or_default();
    if format == Format::Json {
        let scenarios: Vec<_> = all()
            .map(|one| {
                let foreign = Scenario::foreign(one.name).is_some();
                serde_json::json!({ "name": one.name, "summary": one.summary, "needs_target": foreign })
            })
            .collect();
        return serde_json::to_string_pretty(&serde_json::json!({ "format_version": 1, "scenarios": scenarios }));
    }
    Ok(all().fold(String::new(), |mut text, scenario| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<widest$}  {}", scenario.name, scenario.summary);
        text
    }))
}

/// What to play: the scenarios named, all if none is; unfenced those named by `--no-fence`, which alone suffices.
fn plan(args: &DrillArgs) -> anyhow::Result<Vec<Plan>> {
    let scenarios: &'static [Scenario] = if args.targets.is_empty() { &SCENARIOS } else { &FOREIGN };
    let named = |name: &str| named(scenarios, name);
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
        chosen = if all || unfenced.is_empty() { scenarios.iter().collect() } else { unfenced.clone() };
    }
    if let Some(idle) = unfenced.iter().find(|scenario| !chosen.contains(scenario)) {
        let text = format!("`--no-fence {0}` names a scenario that does not run", idle.name);
        return Err(Failure::new(text).hint(format!("add `--scenario {}`", idle.name)).into());
    }
    let fencing = |scenario| if all || unfenced.contains(&scenario) { Fencing::Legacy } else { Fencing::Strict };
    Ok(chosen.into_iter().map(|scenario| Plan { scenario, fencing: fencing(scenario) }).collect())
}

fn named(scenarios: &'static [Scenario], name: &str) -> anyhow::Result<&'static Scenario> {
    scenarios.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        let hint = if Scenario::foreign(name).is_some() {
            "it needs a target that is not ours: add `--target tcp:HOST:PORT` twice, and `--nqn NQN`".to_owned()
        } else {
            let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
            format!("use one of {}", names.join(", "))
        };
        Failure::new(format!("there is no scenario `{name}`")).hint(hint).into()
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
                        Side::Network => "net",
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
    let fast = result.fast_io_fail.as_ref().map(fast_io_fail_in_words).into_iter().collect();
    let reach = result.reach.as_ref().map(|reach| reached(reach, result)).unwrap_or_default();
    // Of our own target it is known what it offers; what it did with it is not.
    let told =
        |ccr: &&CcrUse| result.reach.is_some() || matches!(ccr, CcrUse::Refused { .. } | CcrUse::Unanswered { .. });
    let ccr = result.ccr.as_ref().filter(told).map(ccr_in_words).into_iter().collect();
    for line in [stale, broken, reasons, fast, ccr, reach].into_iter().flat_map(shortened) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {line}", result.name);
    }
}

/// What the verdict about a foreign target says, and what it does not.
fn reached(reach: &Reach, result: &ScenarioResult) -> Vec<String> {
    let shown = match result.verdict {
        Verdict::Safe | Verdict::SafeIf => Some("no stale write from bytes delayed in the network"),
        Verdict::Unsafe if !result.stale.is_empty() => Some("stale writes from bytes delayed in the network"),
        Verdict::Unsafe | Verdict::Inconclusive => None,
    };
    let shown = shown.map(|shown| format!("shown: {shown} ({})", reach.exercised.join("; ")));
    let not = reach.not_exercised.iter().map(|what| format!("{what}: not exercised"));
    shown.into_iter().chain(not).collect()
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
    let (safe, bad) = (count(&[Verdict::Safe]), count(&[Verdict::Unsafe]));
    let conditional: Vec<&ScenarioResult> =
        report.scenarios.iter().filter(|result| result.verdict == Verdict::SafeIf).collect();
    let safe_if = conditional.len();
    let of = report.scenarios.len();
    let mut text = if safe_if == 0 {
        format!("{safe} of {of} safe")
    } else {
        // A condition belongs to the sum as it belongs to its parts.
        let most = conditional.iter().filter_map(|result| result.assumed_ms).max();
        let condition =
            most.map_or_else(|| "quiesces in time".to_owned(), |most| format!("quiesces within {most} ms (assumed)"));
        let all = if safe > 0 { format!("{safe} of {of} safe, {safe_if}") } else { format!("{safe_if} of {of}") };
        let more = if safe > 0 { "more" } else { "safe" };
        format!("{all} {more} if the target {condition}")
    };
    if bad > 0 {
        let _ = write!(text, ", {bad} UNSAFE");
    }
    let unclear = of - safe - safe_if - bad;
    if unclear > 0 {
        let _ = write!(text, ", {unclear} inconclusive");
    }
    let unfenced: Vec<_> =
        plan.iter().zip(&report.scenarios).filter(|(item, _)| item.fencing == Fencing::Legacy).collect();
    if !unfenced.is_empty() {
        let must: Vec<_> = unfenced.iter().filter(|(item, _)| item.scenario.must_be_caught()).collect();
        let caught = must.iter().filter(|(_, result)| !result.stale.is_empty()).count();
        let _ = write!(text, "; without a fence {caught} of {} that must be caught were", must.len());
        let others = unfenced.iter().map(|(item, _)| item.scenario).filter(|scenario| !scenario.must_be_caught());
        let others: Vec<&str> = others.map(|scenario| scenario.name).collect();
        if !others.is_empty() {
            let _ = write!(text, ", and {} may show nothing", others.join(", "));
        }
    }
    let _ = write!(text, " (seed {})", report.seed);
    text
}

/// The verdict in the table, with what weakens it.
fn verdict(result: &ScenarioResult) -> String {
    let text = judged(result);
    match &result.ccr {
        Some(CcrUse::Refused { status, .. }) if matches!(result.verdict, Verdict::Safe | Verdict::SafeIf) => {
            format!("{text} (CCR refused: {})", status.text)
        }
        _ => text,
    }
}

fn judged(result: &ScenarioResult) -> String {
    match (result.verdict, result.assumed_ms) {
        (Verdict::Safe, _) => "SAFE".into(),
        (Verdict::SafeIf, Some(ms)) => format!("SAFE IF the target quiesces within {ms} ms"),
        (Verdict::SafeIf, None) => "SAFE IF the target quiesces in time".into(),
        (Verdict::Unsafe, _) => "UNSAFE".into(),
        (Verdict::Inconclusive, _) => "INCONCLUSIVE".into(),
    }
}

/// How a loss was noticed, in short.
pub(crate) const fn how(how: DetectedHow) -> &'static str {
    match how {
        DetectedHow::ConnectionReset => "reset",
        DetectedHow::ConnectionClosed => "closed",
        DetectedHow::TransportError => "transport error",
        DetectedHow::KeepAlive => "keep alive",
        DetectedHow::CommandTimeout => "timeout",
        DetectedHow::TermRequest => "termination",
        DetectedHow::ProtocolError => "protocol error",
        DetectedHow::AnaTransition => "ANA transition",
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
        Method::Legacy => "NONE",
        Method::AcceptedRisk => "RISK",
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
        assert_eq!(planned(&["reset", "--no-fence"]).unwrap(), [("reset", Legacy)]);
        assert_eq!(planned(&["resett"]).unwrap_err(), "there is no scenario `resett`");
        assert!(planned(&["reset", "--no-fence", "silent"]).unwrap_err().contains("does not run"));
    }

    #[test]
    fn a_target_that_is_not_ours_has_scenarios_of_its_own() {
        use Fencing::{Legacy, Strict};
        let foreign =
            ["--target", "tcp:127.0.0.1:4420", "--target", "tcp:[::1]:4421", "--nqn", "nqn.2014-08.org.example:x"];
        let with = |flags: &[&'static str]| planned(&[&foreign, flags].concat());
        assert_eq!(with(&[]).unwrap(), [("foreign-reset", Strict), ("foreign-silent", Strict)]);
        assert_eq!(with(&["--no-fence", "foreign-reset"]).unwrap(), [("foreign-reset", Legacy)]);
        assert_eq!(with(&["--no-fence"]).unwrap(), [("foreign-reset", Legacy), ("foreign-silent", Legacy)]);
        assert!(with(&["reset"]).is_err());
        assert!(planned(&["foreign-reset"]).is_err());
        for wrong in [&foreign[..2], &["--nqn", "nqn.2014-08.org.example:x"], &["--destroy-data"]] {
            assert!(Alone::try_parse_from([&["drill"], wrong].concat()).is_err(), "{wrong:?}");
        }
        for wrong in ["127.0.0.1:4420", "tcp:127.0.0.1", "rdma:127.0.0.1:4420"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_verdict_about_a_foreign_target_says_how_far_it_reaches() {
        let plan = [Plan { scenario: &FOREIGN[0], fencing: Fencing::Strict }];
        let reach = Reach {
            exercised: vec!["writes delayed in the network as a whole".into()],
            not_exercised: vec!["commands delayed inside the target".into()],
        };
        let scenario = ScenarioResult { name: "foreign-reset".into(), reach: Some(reach), ..result() };
        let report = DrillReport {
            format_version: Version,
            version: None,
            unix_ms: None,
            seed: 7,
            target: None,
            scenarios: vec![scenario],
            verdict: Verdict::Safe,
            exit_code: 0,
        };
        let text = normal(&plan, &report);
        assert!(text.contains("foreign-reset: shown: no stale write from bytes delayed in the network"), "{text}");
        assert!(text.contains("foreign-reset: commands delayed inside the target: not exercised\n"), "{text}");
    }

    fn result() -> ScenarioResult {
        ScenarioResult {
            name: "reset".into(),
            verdict: Verdict::Safe,
            assumed_ms: None,
            reasons: Vec::new(),
            reason_kinds: Vec::new(),
            detection: Some(LossDetection { how: DetectedHow::ConnectionReset, ms: 1.25 }),
            writes_in_doubt: 16,
            ccr: Some(CcrUse::Used { sent: 1 }),
            fast_io_fail: None,
            fence: Some(FenceSummary { method: Method::Immediate, source: Some("nvme1".into()), held_ms: 3 }),
            stall: StallTimes { longest_ms: 14.5, p99_ms: 1.75 },
            reconnect_attempts: 1,
            ghosts: GhostCounts { armed: 16, stopped: 16, executed: 0 },
            stale: Vec::new(),
            violations: Vec::new(),
            notes: Vec::new(),
            receipts: Vec::new(),
            reach: None,
            recording: None,
        }
    }

    #[test]
    fn the_table_has_a_line_per_scenario_and_an_end() {
        let plan = [Plan { scenario: &SCENARIOS[0], fencing: Fencing::Strict }];
        let report = DrillReport {
            format_version: Version,
            version: None,
            unix_ms: None,
            seed: 7,
            target: None,
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

    fn report_of(scenarios: Vec<ScenarioResult>) -> DrillReport {
        let verdict = scenarios.iter().map(|result| result.verdict).max().expect("one");
        DrillReport {
            format_version: Version,
            version: None,
            unix_ms: None,
            seed: 7,
            target: None,
            scenarios,
            verdict,
            exit_code: 0,
        }
    }

    #[test]
    fn a_refused_ccr_is_told_with_the_verdict() {
        let plan = [Plan { scenario: &SCENARIOS[0], fencing: Fencing::Strict }];
        let status = interlock_api::StatusCode { code: 0x141, dnr: false, text: "odd (141h)".into() };
        let refused = ScenarioResult { ccr: Some(CcrUse::Refused { sent: 30, status }), ..result() };
        let report = report_of(vec![refused]);
        let text = normal(&plan, &report);
        assert!(text.contains("SAFE (CCR refused: odd (141h))"), "{text}");
        assert!(text.contains("reset: CCR was refused 30 times: odd (141h)\n"), "{text}");
    }

    #[test]
    fn the_sum_keeps_its_condition() {
        let plan = [Plan { scenario: &SCENARIOS[0], fencing: Fencing::Strict }; 2];
        let condition = ScenarioResult { verdict: Verdict::SafeIf, assumed_ms: Some(5000), ..result() };
        let both = normal(&plan, &report_of(vec![condition.clone(), condition.clone()]));
        assert!(both.ends_with("2 of 2 safe if the target quiesces within 5000 ms (assumed) (seed 7)\n"), "{both}");
        let one = normal(&plan, &report_of(vec![result(), condition]));
        assert!(
            one.ends_with("1 of 2 safe, 1 more if the target quiesces within 5000 ms (assumed) (seed 7)\n"),
            "{one}"
        );
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
            version: None,
            unix_ms: None,
            seed: 7,
            target: None,
            scenarios: vec![caught],
            verdict: Verdict::Unsafe,
            exit_code: 1,
        };
        let text = normal(&plan, &report);
        assert!(text.contains("reset: stale block: LBA 0: write #1 (generation 1), answered, is lost\n"), "{text}");
        assert!(text.contains("reset: ... and 6 more (`-o json` has all)\n"), "{text}");
        assert!(text.ends_with("0 of 1 safe, 1 UNSAFE; without a fence 1 of 1 that must be caught were (seed 7)\n"));
        let other = SCENARIOS.iter().find(|scenario| !scenario.must_be_caught()).expect("there is one");
        let plan = [Plan { scenario: other, fencing: Fencing::Legacy }];
        let named =
            format!("without a fence 0 of 0 that must be caught were, and {} may show nothing (seed 7)\n", other.name);
        assert!(normal(&plan, &report).ends_with(&named), "{}", normal(&plan, &report));
    }
}
