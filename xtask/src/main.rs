//! Chores: what CI and people run around the product. `cargo xtask house` prints where the house differs from its plan.

use anyhow::{Result, bail};
use interlock_xtask::house;
use std::io::Write;

fn main() -> Result<()> {
    let chore = std::env::args().nth(1).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    match chore.as_str() {
        "house" => {
            let breaches = house::breaches(&house::plan()?, &house::truth()?);
            for breach in &breaches {
                writeln!(out, "{breach}")?;
            }
            if !breaches.is_empty() {
                bail!("{} differences between ARCHITECTURE.md and the crates", breaches.len());
            }
            writeln!(out, "the crates are as ARCHITECTURE.md draws them")?;
            Ok(())
        }
        "" => bail!("which chore? `house`"),
        other => bail!("there is no chore `{other}`; there is: `house`"),
    }
}
