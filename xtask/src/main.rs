//! Chores: what CI and people run around the product.
//!
//! `cargo xtask house` prints where the house differs from its plan; `cargo xtask interop` tries the product against a
//! real Linux kernel; `cargo xtask pcap` lets a stranger's dissector read golden conversations; `cargo xtask sim` hunts for
//! mistakes of recovery in a simulated world; `cargo xtask tables` draws the tables in `docs/` anew; `cargo xtask bench`
//! measures the data plane, and `cargo xtask instructions` counts what the cores execute for a request.

use anyhow::{Result, bail};
use interlock_xtask::{bench, house, instructions, interop, pcap, sim, tables};
use std::io::Write;
use std::process::ExitCode;

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let chore = args.next().unwrap_or_default();
    match chore.as_str() {
        "house" => {
            let breaches = house::breaches(&house::plan()?, &house::truth()?);
            let mut out = std::io::stdout().lock();
            for breach in &breaches {
                writeln!(out, "{breach}")?;
            }
            if !breaches.is_empty() {
                bail!("{} differences between ARCHITECTURE.md and the crates", breaches.len());
            }
            writeln!(out, "the crates are as ARCHITECTURE.md draws them")?;
            Ok(ExitCode::SUCCESS)
        }
        "bench" => bench::main(args),
        "instructions" => instructions::main(args),
        "interop" => interop::main(args),
        "pcap" => pcap::main(args),
        "sim" => sim::main(args),
        "tables" => tables::main(),
        // Parts of `interop`, in processes of their own: not for people.
        "sigkill-child" => interop::sigkill_child(args),
        "wire-host" => interop::wire_host(args).map(|()| ExitCode::SUCCESS),
        "" => bail!("which chore? `bench`, `house`, `instructions`, `interop`, `pcap`, `sim` or `tables`"),
        other => bail!(
            "there is no chore `{other}`; there are: `bench`, `house`, `instructions`, `interop`, `pcap`, `sim`, `tables`"
        ),
    }
}
