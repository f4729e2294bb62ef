//! A long hunt in pieces: which seeds were run on this source, so that it can be stopped, resumed and counted.
//!
//! What a seed means is decided by the source of the cores and of the simulator, and by the kinds of faults that worlds may
//! draw. So each finished piece stands in a file with both; of another source, or other kinds, it counts nothing.

use crate::mix::Mix;
use std::fmt;
use std::str::FromStr;

/// Seeds of one piece.
pub const SHARD: u64 = 1000;

/// A piece that was run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The source and the kinds.
    pub of: String,
    /// Its first seed.
    pub first: u64,
    /// Its seeds.
    pub runs: u64,
    /// Seeds that went wrong.
    pub violations: u64,
    /// What they met.
    pub mix: Mix,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} {}", self.of, self.first, self.runs, self.violations, self.mix.noted())
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let none = || format!("`{line}` is no finished shard");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [of, first, runs, violations, mix] = words[..] else { return Err(none()) };
        let number = |word: &str| word.parse::<u64>().map_err(|_| none());
        let runs = number(runs)?;
        let mix = Mix::read(runs, mix).ok_or_else(none)?;
        Ok(Self { of: of.to_owned(), first: number(first)?, runs, violations: number(violations)?, mix })
    }
}

/// All that is finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shards(Vec<Shard>);

impl Shards {
    /// Reads a file of them. A last line without an end was being written when its process died: it does not count.
    ///
    /// # Errors
    /// A line is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// One more.
    pub fn add(&mut self, shard: Shard) {
        self.0.push(shard);
    }

    /// What is missing of these seeds on this source: first seeds and numbers, [`SHARD`] at most each.
    #[must_use]
    pub fn missing(&self, of: &str, first: u64, runs: u64) -> Vec<(u64, u64)> {
        let end = first.saturating_add(runs);
        let pieces = (first..end).step_by(SHARD as usize).map(|at| (at, SHARD.min(end - at)));
        let done = |at: u64, runs: u64| {
            self.0.iter().any(|shard| shard.of == of && shard.first <= at && at + runs <= shard.first + shard.runs)
        };
        pieces.filter(|(at, runs)| !done(*at, *runs)).collect()
    }

    /// What the seeds that were run on this source met.
    #[must_use]
    pub fn mix(&self, of: &str) -> Mix {
        let mut mix = Mix::default();
        self.0.iter().filter(|shard| shard.of == of).for_each(|shard| mix.merge(&shard.mix));
        mix
    }

    /// Seeds that were run on this source, each counted once, and violations among them.
    #[must_use]
    pub fn counted(&self, of: &str) -> (u64, u64) {
        let mut mine: Vec<&Shard> = self.0.iter().filter(|shard| shard.of == of).collect();
        mine.sort_by_key(|shard| shard.first);
        let violations = mine.iter().map(|shard| shard.violations).sum();
        let (mut runs, mut until) = (0, 0);
        for shard in mine {
            let end = shard.first + shard.runs;
            runs += end.saturating_sub(shard.first.max(until));
            until = until.max(end);
        }
        (runs, violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{Kind, Kinds, Met};

    fn shard(of: &str, first: u64, runs: u64) -> Shard {
        Shard { of: of.to_owned(), first, runs, violations: 0, mix: Mix::default() }
    }

    #[test]
    fn what_was_run_on_this_source_is_not_run_again() {
        let shards = Shards(vec![shard("a", 1000, 1000), shard("b", 2000, 1000)]);
        assert_eq!(shards.missing("a", 0, 3500), [(0, 1000), (2000, 1000), (3000, 500)]);
        assert_eq!(shards.missing("c", 0, 1000), [(0, 1000)]);
        assert_eq!(shards.missing("a", 1000, 1000), []);
    }

    #[test]
    fn a_seed_counts_once() {
        let shards = Shards(vec![shard("a", 1000, 1000), shard("a", 1500, 1000), shard("a", 0, 10), shard("b", 0, 99)]);
        assert_eq!(shards.counted("a"), (1510, 0));
    }

    #[test]
    fn a_line_that_was_being_written_does_not_count() {
        let mut whole = Shard { violations: 2, ..shard("a", 1000, 1000) };
        (0..1000).for_each(|run| whole.mix.add(met(run < 30)));
        let text = format!("{whole}\na 2000 10");
        assert_eq!(Shards::parse(&text), Ok(Shards(vec![whole])));
        assert_eq!(Shards::parse(""), Ok(Shards::default()));
        assert!(Shards::parse("a 1 x 0\n").is_err());
        assert!(Shards::parse("a 0 1000 0\n").is_err(), "of a file that says nothing of what was met");
    }

    fn met(all: bool) -> Met {
        let kinds = if all { Kinds::all() } else { Kinds::default() };
        Met { ever: kinds, in_doubt: kinds }
    }

    #[test]
    fn what_all_pieces_met_is_judged_together() {
        let mut shards = Shards::default();
        for (of, first) in (0..10_000).step_by(1000).map(|first| ("a", first)).chain([("b", 0)]) {
            let mut piece = shard(of, first, 1000);
            (0..1000).for_each(|run| piece.mix.add(met(run < 3 || first == 0 && run < 73)));
            shards.add(piece);
        }
        assert_eq!(shards.mix("b").rare(), None, "too few");
        assert_eq!(shards.mix("a").rare().map(|rare| rare.is_empty()), Some(true), "100 of 10,000");
        shards.add(shard("a", 10_000, 1000));
        let mut nothing = shard("a", 11_000, 1000);
        (0..1000).for_each(|_| nothing.mix.add(met(false)));
        shards.add(nothing);
        assert_eq!(shards.mix("a").rare().map(|rare| rare.len()), Some(Kind::ALL.len()), "100 of 11,000");
    }
}
