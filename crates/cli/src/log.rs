//! The log goes to standard error: a service's with its priority for the journal or with the time for a terminal, that of
//! other verbs as the few warnings that a person needs.

use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What every verb with a reactor reads from its environment, for its `--help`.
pub(crate) const ENVIRONMENT: &str = "\
Environment:
  INTERLOCK_RING=io_uring|epoll|auto
          What waits for sockets and files. Default: io_uring, and epoll with a warning where the kernel refuses io_uring";

/// The same, with what a service reads in addition.
pub(crate) const ENVIRONMENT_OF_A_SERVICE: &str = "\
Environment:
  INTERLOCK_LOG=error|warn|info|debug
          What is logged. Default: info
  INTERLOCK_RING=io_uring|epoll|auto
          What waits for sockets and files. Default: io_uring, and epoll with a warning where the kernel refuses io_uring";

/// Starts the log of a service.
pub(crate) fn of_a_service() {
    let asked = std::env::var("INTERLOCK_LOG").ok().filter(|asked| !asked.is_empty());
    let filter = asked.as_deref().filter(|asked| is_filter(asked)).and_then(|asked| EnvFilter::try_new(asked).ok());
    let wrong = asked.filter(|_| filter.is_none());
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    start(filter.unwrap_or_else(|| EnvFilter::new("info")), if journal { Line::Journal } else { Line::Dated });
    if let Some(wrong) = wrong {
        tracing::warn!("INTERLOCK_LOG={wrong} is none of error, warn, info, debug: info is used");
    }
}

/// True of levels, and of levels for parts of the program. A single other word would be taken for the name of a part, and
/// nothing would be logged.
fn is_filter(text: &str) -> bool {
    let level = |word: &str| word == "off" || word.parse::<Level>().is_ok();
    text.split(',').all(|part| part.split_once('=').map_or_else(|| level(part), |(_, of)| level(of)))
}

/// Starts the log of any other verb: warnings.
pub(crate) fn of_a_verb() {
    start(EnvFilter::new("warn"), Line::Plain);
}

fn start(filter: EnvFilter, line: Line) {
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).event_format(line).finish();
    // One verb per process, and only its beginning sets one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// One line per event, no more than was said.
enum Line {
    /// Behind its priority: sd-daemon(3).
    Journal,
    /// Behind the time.
    Dated,
    /// As `interlock` tells its own failures.
    Plain,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (priority, word) = match *event.metadata().level() {
            Level::ERROR => (3, "error"),
            Level::WARN => (4, "warn"),
            Level::INFO => (6, "info"),
            _ => (7, "debug"),
        };
        match self {
            Self::Journal => write!(writer, "<{priority}>")?,
            Self::Dated => {
                SystemTime.format_time(&mut writer)?;
                write!(writer, " {word:<5} ")?;
            }
            Self::Plain if word == "warn" => writer.write_str("warning: ")?,
            Self::Plain => write!(writer, "{word}: ")?,
        }
        let mut said = String::new();
        ctx.field_format().format_fields(Writer::new(&mut said), event)?;
        // Names and addresses come from others: none of them begins a line of its own.
        said.chars().try_for_each(|c| {
            if c.is_control() { write!(writer, "{}", c.escape_default()) } else { writer.write_char(c) }
        })?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for (text, good) in [
            ("info", true),
            ("debug,hyper=warn", true),
            ("off", true),
            ("foo", false),
            ("foo=loud", false),
            ("", false),
        ] {
            assert_eq!(is_filter(text), good, "{text}");
        }
    }

    /// What was logged.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_peer_says_begins_no_line_and_tells_a_terminal_nothing() {
        let peer = "disk\n<3>forged\r\u{1b}[2J\u{9b}1m";
        for line in [Line::Journal, Line::Dated, Line::Plain] {
            let said = Said::default();
            let writer = said.clone();
            let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(line).finish();
            tracing::subscriber::with_default(log, || {
                tracing::warn!("export {peer}: waits");
                tracing::warn!(name = peer, "a field");
            });
            let said = String::from_utf8(said.0.lock().expect("no panic").clone()).expect("text");
            assert_eq!(said.lines().count(), 2, "{said:?}");
            assert!(said.lines().all(|line| line.contains("disk\\n<3>forged\\r")), "{said:?}");
            assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
        }
    }
}
