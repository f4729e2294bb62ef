//! `interlock metrics`: what Prometheus scrapes, without a daemon.

use crate::failure::Failure;
use crate::output;
use crate::source::SourceArgs;
use anyhow::Result;
use interlock_daemon::metrics;
use std::process::ExitCode;

/// Print or serve metrics for Prometheus
///
/// The metrics are those of the daemon if one runs, and otherwise those of the kernel's controllers. The daemon also serves
/// its metrics at /metrics of its control socket, and on a port with `interlock daemon --metrics`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  interlock metrics                              print them once
  interlock metrics -o text > interlock.prom     for the textfile collector of node_exporter
  interlock metrics --source sys --listen 9899   an exporter for the kernel's controllers, on loopback
  interlock metrics --listen 0.0.0.0:9899        for everybody who can reach this machine")]
pub(crate) struct MetricsArgs {
    /// Serve http://ADDRESS/metrics until SIGTERM; a port alone is on loopback
    #[arg(long, value_name = "[ADDRESS:]PORT")]
    listen: Option<String>,
    /// Format to print; with --listen each scraper gets the one it asks for
    #[arg(short = 'o', long = "output-format", value_name = "FORMAT", value_enum, default_value_t = PageFormat::Openmetrics)]
    format: PageFormat,
    #[command(flatten)]
    source: SourceArgs,
}

/// Formats of a page of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PageFormat {
    /// OpenMetrics 1.0
    Openmetrics,
    /// Text format 0.0.4 of Prometheus, as for the textfile collector of node_exporter
    Text,
}

pub(crate) fn run(args: &MetricsArgs) -> Result<ExitCode> {
    let source = args.source.source()?;
    let Some(listen) = &args.listen else {
        let page = metrics::once(source).map_err(Failure::caused)?;
        output::print(&match args.format {
            PageFormat::Openmetrics => page,
            PageFormat::Text => interlock_observe::metrics::plain(&page),
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    let address = metrics::listen_address(listen).map_err(Failure::new)?;
    let mut printed = Ok(());
    let served = metrics::export(source, address, |address| {
        printed = output::print(&format!("http://{address}/metrics"));
    });
    printed?;
    served.map_err(|error| Failure::new(format!("cannot serve on {address}: {error}")))?;
    Ok(ExitCode::SUCCESS)
}
