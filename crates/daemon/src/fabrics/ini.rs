//! Lines of the INI files that NVMe tools share: sections, `key = value`, and what is neither.

/// One line that says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// `[name]`.
    Section(&'a str),
    /// `key = value`; the value may be empty.
    Pair(&'a str, &'a str),
    /// Neither, as it stands in the file.
    Junk(&'a str),
}

/// Every line that says something, with its number from 1. Lines that begin with `#` or `;` are comments; a byte order
/// mark at the beginning is not part of the first line.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, Line<'_>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (1..).zip(text.lines()).filter_map(|(number, line)| Some((number, classify(line.trim())?)))
}

fn classify(line: &str) -> Option<Line<'_>> {
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    if let Some(rest) = line.strip_prefix('[') {
        let name = rest.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty() && !name.contains(']'));
        return Some(name.map_or(Line::Junk(line), Line::Section));
    }
    let pair = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())).filter(|(key, _)| !key.is_empty());
    Some(pair.map_or(Line::Junk(line), |(key, value)| Line::Pair(key, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sections_pairs_or_junk() {
        let text = "\u{feff}[ Host ]\n# x\n; y\n\n a = b = c \nempty =\n=x\n[]\n[x] y\nword\n";
        assert_eq!(
            lines(text).collect::<Vec<_>>(),
            [
                (1, Line::Section("Host")),
                (5, Line::Pair("a", "b = c")),
                (6, Line::Pair("empty", "")),
                (7, Line::Junk("=x")),
                (8, Line::Junk("[]")),
                (9, Line::Junk("[x] y")),
                (10, Line::Junk("word")),
            ]
        );
    }
}
