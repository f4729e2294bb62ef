//! What happens to a command, by what is known about it and by the state of its instance.

use super::svg;
use interlock_base::Instant;
use interlock_host_core::{Case, Disposition, FencePolicy, MAX_SAME_PATH_RETRIES, Op, Provenance, Standing, classify};
use interlock_wire::status::Status;
use std::collections::BTreeSet;
use std::fmt::Write;

struct Row {
    known: &'static str,
    which: &'static str,
    ops: &'static [Op],
    provenance: Provenance,
    retries: u8,
}

const QUIET: &[Op] = &[Op::Read, Op::Compare, Op::Flush];
const CHANGES: &[Op] =
    &[Op::Write { fua: false }, Op::Write { fua: true }, Op::WriteZeroes { deallocate: true }, Op::Discard];
const ANY: &[Op] =
    &[Op::Read, Op::Compare, Op::Flush, Op::Write { fua: false }, Op::WriteZeroes { deallocate: false }, Op::Discard];

const BUT_FLUSH: &[Op] =
    &[Op::Read, Op::Compare, Op::Write { fua: false }, Op::WriteZeroes { deallocate: false }, Op::Discard];

const fn row(known: &'static str, which: &'static str, ops: &'static [Op], provenance: Provenance) -> Row {
    Row { known, which, ops, provenance, retries: 0 }
}

const fn answered(which: &'static str, status: Status) -> Row {
    row("answered", which, ANY, Provenance::Answered(status))
}

const fn rows() -> [Row; 12] {
    [
        row("not a byte was sent", "any command", ANY, Provenance::Unsent),
        row("sent, no answer", "Read, Compare, Flush", QUIET, Provenance::Unanswered),
        row("sent, no answer", "Write, Write Zeroes, Deallocate", CHANGES, Provenance::Unanswered),
        answered("success", Status::SUCCESS),
        answered("an error with Do Not Retry", Status::INTERNAL_ERROR.with_dnr()),
        answered("the blocks differ (Compare Failure)", Status::COMPARE_FAILURE),
        answered("an ANA status", Status::ANA_INACCESSIBLE),
        answered("another path-related status", Status::CONTROLLER_PATH_ERROR),
        Row { ops: BUT_FLUSH, ..answered("another error, not to a Flush", Status::INTERNAL_ERROR) },
        Row { retries: MAX_SAME_PATH_RETRIES, ..answered("the same, after too many retries", Status::INTERNAL_ERROR) },
        Row { ops: &[Op::Flush], ..answered("another error to a Flush", Status::INTERNAL_ERROR) },
        Row { ops: &[Op::Flush], ..answered("a Flush was not begun", Status::NAMESPACE_NOT_READY) },
    ]
}

const COLUMNS: [(&str, Standing, FencePolicy); 5] = [
    ("live", Standing::Live, FencePolicy::Strict),
    ("condemned", Standing::Condemned, FencePolicy::Strict),
    ("condemned, legacy policy", Standing::Condemned, FencePolicy::Legacy),
    ("fenced", Standing::Fenced, FencePolicy::Strict),
    ("given up unfenced", Standing::GivenUp { until: Some(Instant::ZERO) }, FencePolicy::Strict),
];

/// What happens, in words, and in which colour.
const fn words(disposition: Disposition) -> (&'static str, &'static str, &'static str) {
    match disposition {
        Disposition::Wait => ("waits for its answer", "#f6f8fa", "#8c959f"),
        Disposition::Complete => ("succeeds", "#ddf4ff", "#0969da"),
        Disposition::Fail(_) => ("ends with the status", "#ddf4ff", "#0969da"),
        Disposition::RetrySamePath { .. } => ("retried, this path first", "#dafbe1", "#1a7f37"),
        Disposition::RetryElsewhere => ("retried, another path", "#dafbe1", "#1a7f37"),
        Disposition::RetryUnsafe => ("retried at once: UNSAFE", "#ffebe9", "#cf222e"),
        Disposition::Hold => ("held, range protected", "#fff1c2", "#bf8700"),
        Disposition::Drop => ("ends as not sent", "#eaeef2", "#57606a"),
        Disposition::Indeterminate { .. } => ("ends: may still happen", "#ffebe9", "#cf222e"),
        Disposition::OutcomeUnknown => ("ends: may have happened", "#fff1c2", "#bf8700"),
    }
}

/// What happens to every command of a row; and, if that differs, to one whose caller gave it up.
fn cell(row: &Row, standing: Standing, policy: FencePolicy) -> (Disposition, Option<Disposition>) {
    let all = |abandoned| {
        let found: Vec<Disposition> = row
            .ops
            .iter()
            .map(|op| {
                let (provenance, retries) = (row.provenance, row.retries);
                classify(Case { op: *op, provenance, standing, policy, abandoned, retries })
            })
            .collect();
        let texts: BTreeSet<&str> = found.iter().map(|disposition| words(*disposition).0).collect();
        assert_eq!(texts.len(), 1, "{} {}: the commands of a row share its fate", row.known, row.which);
        found[0]
    };
    let (usual, abandoned) = (all(false), all(true));
    (usual, (words(usual).0 != words(abandoned).0).then_some(abandoned))
}

pub(super) fn picture() -> String {
    let (left, top, width, height) = (250, 92, 156, 46);
    let rows = rows();
    let full = top + height * rows.len() as u32 + 46;
    let mut text = svg::begin(left + width * 5 + 24, full, "What happens to a command");
    text.push_str("  <text class=\"t h\" x=\"24\" y=\"34\" font-size=\"16\">What happens to a command</text>\n");
    let _ = writeln!(text, "  <text class=\"m\" x=\"{left}\" y=\"56\">its instance is ...</text>");
    for (column, (name, ..)) in COLUMNS.iter().enumerate() {
        let x = left + width * column as u32 + 6;
        let _ = match name.split_once(", ") {
            Some((one, two)) => writeln!(
                text,
                "  <text class=\"t h\" x=\"{x}\" y=\"74\" font-size=\"13\">{one}</text>\n  <text class=\"m\" x=\"{x}\" y=\"88\">{two}</text>"
            ),
            None => writeln!(text, "  <text class=\"t h\" x=\"{x}\" y=\"80\" font-size=\"13\">{name}</text>"),
        };
    }
    for (index, row) in rows.iter().enumerate() {
        let y = top + height * index as u32;
        let _ = writeln!(
            text,
            "  <text class=\"t h\" x=\"24\" y=\"{}\" font-size=\"13\">{}</text>\n  <text class=\"m\" x=\"24\" y=\"{}\">{}</text>",
            y + 20,
            svg::escape(row.known),
            y + 36,
            svg::escape(row.which)
        );
        for (column, (_, standing, policy)) in COLUMNS.iter().enumerate() {
            let (usual, abandoned) = cell(row, *standing, *policy);
            let (what, fill, stroke) = words(usual);
            let x = left + width * column as u32;
            let _ = writeln!(
                text,
                "  <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"{fill}\" stroke=\"{stroke}\"/>",
                x + 2,
                y + 2,
                width - 4,
                height - 4
            );
            let line = |text: &mut String, y: u32, size: u32, what: &str| {
                let _ = writeln!(
                    text,
                    "  <text class=\"t\" x=\"{}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"middle\">{}</text>",
                    x + width / 2,
                    svg::escape(what)
                );
            };
            match abandoned {
                None => line(&mut text, y + 27, 11, what),
                Some(abandoned) => {
                    line(&mut text, y + 19, 11, what);
                    line(&mut text, y + 34, 10, &format!("* {}", words(abandoned).0));
                }
            }
        }
    }
    let _ = writeln!(
        text,
        "  <text class=\"m\" x=\"24\" y=\"{}\">* if its caller has given it up. A held command waits for the fence of its instance; then the column \"fenced\" applies.</text>",
        full - 16
    );
    text.push_str("</svg>\n");
    text
}

pub(super) fn markdown() -> String {
    let mut text = String::from("| what is known | command or status |");
    for (name, ..) in COLUMNS {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|---|---|---|---|---|---|\n");
    for row in rows() {
        let _ = write!(text, "| {} | {} |", row.known, row.which);
        for (_, standing, policy) in COLUMNS {
            let (usual, abandoned) = cell(&row, standing, policy);
            let _ = write!(text, " {}", words(usual).0);
            if let Some(abandoned) = abandoned {
                let _ = write!(text, "; if its caller gave it up: {}", words(abandoned).0);
            }
            text.push_str(" |");
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "\nA column is the state of the instance on which the command was sent. Too many retries: \
         {MAX_SAME_PATH_RETRIES}. A held command waits for the\nfence of its instance; then the column *fenced* applies.\n"
    );
    text
}
