//! How results are printed.

use std::ffi::OsString;
use std::io::{self, Write};

/// `format_version` of every JSON document.
const FORMAT_VERSION: u32 = 1;

/// Options that every command has.
#[derive(clap::Args)]
pub(crate) struct OutputArgs {
    /// Output format: text, or one JSON document
    #[arg(short = 'o', long = "output-format", value_name = "FORMAT", value_enum, default_value_t = Format::Normal)]
    pub(crate) format: Format,
    /// Version of the JSON documents that the caller expects; another version is an error
    #[arg(long = "output-format-version", value_name = "VERSION", default_value_t = FORMAT_VERSION,
        value_parser = clap::value_parser!(u32).range(i64::from(FORMAT_VERSION)..=i64::from(FORMAT_VERSION)), hide_default_value = true)]
    _version: u32,
    /// Print more on standard error
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Normal,
    Json,
}

/// How a command line asks to print, whether it can be understood or not: a program that asks for JSON gets its failures as
/// JSON as well.
pub(crate) fn asked_for(args: impl IntoIterator<Item = OsString>) -> Format {
    let args: Vec<String> = args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args = args.split(|arg| arg == "--").next().unwrap_or_default();
    let pair =
        |pair: &[String]| matches!(pair, [key, value] if value == "json" && (key == "-o" || key == "--output-format"));
    let one = |arg: &String| matches!(arg.as_str(), "-ojson" | "-o=json" | "--output-format=json");
    if args.windows(2).any(pair) || args.iter().any(one) { Format::Json } else { Format::Normal }
}

/// Prints to standard output, with a final newline, and makes sure that it is out: a reader may wait for this line.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    out.flush()
}

/// Says something beside the result, on standard error.
pub(crate) fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{text}")
}
