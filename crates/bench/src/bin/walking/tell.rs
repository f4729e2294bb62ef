//! What came out: a table of ratios, and a verdict.

use crate::cpu::Cores;
use crate::round::Round;
use crate::spread::Spread;
use crate::walk::Walk;
use crate::{Args, READS, Stretch};
use anyhow::Result;
use std::io::Write;

/// The least that the median of the throughput beside a walk may be of that beside the control.
const IOPS_AT_LEAST: f64 = 0.95;
/// The most that the median of a latency beside a walk may be of that beside the control.
const LATENCY_AT_MOST: f64 = 1.10;
/// What reading an attribute may take of a processor, with finding it: microseconds.
const ATTRIBUTE_US: f64 = 20.0;

/// How a figure is judged.
#[derive(Clone, Copy)]
enum Bound {
    /// The ratio to the control must not be below.
    Least(f64),
    /// Nor above.
    Most(f64),
    /// A few requests of a stretch decide it: it is told.
    None,
}

/// A figure: what it is called, where it is, and how it is judged.
type Figure = (&'static str, fn(&Round) -> f64, Bound);

/// What is told of every kind of stretch.
const FIGURES: [Figure; 4] = [
    ("IOPS", |round| round.iops, Bound::Least(IOPS_AT_LEAST)),
    ("p50 us", |round| round.p50_us, Bound::Most(LATENCY_AT_MOST)),
    ("p99 us", |round| round.p99_us, Bound::Most(LATENCY_AT_MOST)),
    ("p99.9 us", |round| round.p999_us, Bound::None),
];

/// Everything that there is to tell.
pub(crate) struct Told<'a> {
    pub(crate) args: &'a Args,
    pub(crate) machine: String,
    pub(crate) cores: Option<Cores>,
    pub(crate) tree: &'a Walk,
    /// One more than there are walks of both kinds: they lie between.
    pub(crate) quiet: &'a [Stretch],
    pub(crate) walking: &'a [Stretch],
    pub(crate) control: &'a [Stretch],
}

impl Told<'_> {
    /// Prints it; gives the exit code.
    pub(crate) fn print(&self, out: &mut impl Write) -> Result<u8> {
        let Self { args, machine, cores, tree, quiet, walking, control } = self;
        let place = cores.map_or("threads wherever the kernel puts them".to_owned(), |cores| {
            format!(
                "client, reactor and target on core {}, walker and the daemon's other threads on core {}",
                cores.io, cores.rest
            )
        });
        writeln!(
            out,
            "{} controllers, {} rounds, stretches of {} ms, 4 KiB, {READS} % read, QD {}, through NBD; {place}; {}",
            args.controllers, args.rounds, args.millis, args.depth, machine
        )?;
        let mut disturbed = Vec::new();
        writeln!(
            out,
            "{:<10} {:>9}  {:^23}  {:^23}  {:^23}",
            "", "quiet", "walking / quiet", "control / quiet", "walking / control"
        )?;
        for (name, figure, bound) in FIGURES {
            let of = |stretch: &Stretch| figure(&stretch.round);
            // Each stretch beside its neighbours: walks lie after quiet ones of even number, controls after odd ones.
            let beside = |stretches: &[Stretch], first: usize| -> Vec<f64> {
                let pairs = stretches.iter().zip(quiet.windows(2).skip(first).step_by(2));
                pairs.map(|(it, by)| of(it) / f64::midpoint(of(&by[0]), of(&by[1]))).collect()
            };
            let (walk, other) = (beside(walking, 0), beside(control, 1));
            let apart: Vec<f64> = walk.iter().zip(&other).map(|(it, by)| it / by).collect();
            let typical = Spread::of(&quiet.iter().map(of).collect::<Vec<_>>()).median;
            let [walked, other, both] = [&walk, &other, &apart]
                .map(|ratios| Spread::of(ratios))
                .map(|spread| format!("{:.3} ({:.3} - {:.3})", spread.median, spread.lower, spread.upper));
            writeln!(out, "{name:<10} {typical:>9.1}  {walked:^23}  {other:^23}  {both:^23}")?;
            let apart = Spread::of(&apart).median;
            let bad = match bound {
                Bound::Least(ratio) => apart < ratio,
                Bound::Most(ratio) => apart > ratio,
                Bound::None => false,
            };
            if bad && cores.is_some() {
                disturbed.push(format!("{name}: {apart:.3} of that beside the control"));
            }
        }
        let sum = |stretches: &[Stretch], of: fn(&Stretch) -> f64| stretches.iter().map(of).sum::<f64>();
        let per_io = |stretches: &[Stretch]| {
            sum(stretches, |it| it.spent.reactor.as_secs_f64()) * 1e6 / sum(stretches, |it| it.round.done as f64)
        };
        writeln!(
            out,
            "the daemon's reactor, CPU us per I/O: {:.2} quiet, {:.2} walking",
            per_io(quiet),
            per_io(walking)
        )?;
        let files = sum(walking, |it| it.walked.files as f64);
        let rest = sum(walking, |it| it.spent.rest.as_secs_f64()) * 1e6 / files.max(1.0);
        writeln!(
            out,
            "{} files in the tree; {:.0} files and {:.0} bytes read per second, {} whole walks, {} files went away meanwhile",
            tree.files_of_a_walk(),
            files / sum(walking, |it| it.walked.time.as_secs_f64()),
            sum(walking, |it| it.walked.bytes as f64) / sum(walking, |it| it.walked.time.as_secs_f64()),
            tree.whole(),
            sum(walking, |it| it.walked.gone as f64)
        )?;
        writeln!(out, "the daemon's other threads, CPU us per file found and read: {rest:.1}   limit {ATTRIBUTE_US}")?;
        if walking.iter().chain(*control).any(|it| it.walked.files == 0) || tree.whole() == 0 {
            writeln!(out, "INCONCLUSIVE: a stretch read nothing, or the tree was not walked to its end")?;
            return Ok(2);
        }
        if rest > ATTRIBUTE_US {
            disturbed.push(format!("an attribute takes {rest:.1} us of a processor"));
        }
        let verdict = if !disturbed.is_empty() {
            disturbed.join("; ")
        } else if cores.is_some() {
            "a walk disturbs no I/O".to_owned()
        } else {
            "whether it disturbs I/O is not judged: walk and I/O share their cores".to_owned()
        };
        writeln!(out, "{verdict}")?;
        Ok(u8::from(!disturbed.is_empty()))
    }
}
