//! Plain English in the texts that people read.
//!
//! A rule of style that nobody checks lasts until the next commit. The phrases that the documents do not use stand in a
//! table of `docs/style.md`, each with a better one; this module reads that table and searches the texts for them.
//! Blocks of code and inline code are exempt: they quote what programs print. Of a crate, the string literals are searched.

use crate::house::root;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A phrase that the documents do not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The phrase as the table has it. A final dot means: only at the end of a clause.
    pub phrase: String,
    /// What to write instead.
    pub instead: String,
    words: Vec<String>,
    only_at_the_end: bool,
}

/// A word of a text, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    text: String,
    line: usize,
    /// Whether a clause ends behind it.
    ends: bool,
}

/// Texts that are checked: where they are, and what of them is prose.
pub struct Root {
    /// A file, or a folder whose files with that extension are checked.
    pub place: &'static str,
    /// The extension of the files of a folder.
    pub extension: &'static str,
    /// Takes the prose out of a file.
    pub prose: fn(&str) -> Vec<Word>,
}

const fn pages(place: &'static str) -> Root {
    Root { place, extension: "md", prose: markdown }
}

const fn strings_of(place: &'static str) -> Root {
    Root { place, extension: "rs", prose: strings }
}

/// Every text that is checked. A crate joins once its strings use none of the phrases.
pub const ROOTS: [Root; 17] = [
    pages("README.md"),
    pages("ARCHITECTURE.md"),
    pages("CHANGELOG.md"),
    pages("CONTRIBUTING.md"),
    pages("PLAN.md"),
    pages("SECURITY.md"),
    pages("docs"),
    strings_of("crates/api/src"),
    strings_of("crates/base/src"),
    strings_of("crates/carry/src"),
    strings_of("crates/check/src"),
    strings_of("crates/cli/src"),
    strings_of("crates/daemon/src"),
    strings_of("crates/drill/src"),
    strings_of("crates/host/src"),
    strings_of("crates/observe/src"),
    Root { place: "crates/cli/tests/golden/help", extension: "txt", prose: markdown },
];

/// The rules: the table of `docs/style.md` whose head is "not | but".
///
/// # Errors
/// If the page cannot be read, or has no such table.
pub fn rules() -> Result<Vec<Rule>> {
    let text = std::fs::read_to_string(root().join("docs/style.md")).context("docs/style.md cannot be read")?;
    let rules = parse(&text)?;
    ensure!(!rules.is_empty(), "docs/style.md has no table of phrases (head: `| not | but |`)");
    Ok(rules)
}

/// The rules in `text`.
///
/// # Errors
/// If a row has not two columns, or names no phrase in backticks.
pub fn parse(text: &str) -> Result<Vec<Rule>> {
    let rows =
        text.lines().skip_while(|line| *line != "| not | but |").skip(2).take_while(|line| line.starts_with('|'));
    let mut rules = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        ensure!(cells.len() == 2, "a row of the table of phrases has not two columns: {row}");
        let before = rules.len();
        for phrase in cells[0].split('`').skip(1).step_by(2) {
            let words = words_of(phrase, 1).into_iter().map(|word| word.text).collect();
            let (phrase, instead) = (phrase.to_owned(), cells[1].to_owned());
            rules.push(Rule { only_at_the_end: phrase.ends_with('.'), phrase, instead, words });
        }
        ensure!(rules.len() > before, "a row of the table of phrases names none in backticks: {row}");
    }
    Ok(rules)
}

/// What is wrong in all texts: file, line, phrase and the better one.
///
/// # Errors
/// If a text cannot be read.
pub fn faults() -> Result<Vec<String>> {
    let rules = rules()?;
    let mut found = Vec::new();
    for place in &ROOTS {
        for file in files(place)? {
            let text = std::fs::read_to_string(root().join(&file)).with_context(|| format!("{}", file.display()))?;
            let words = (place.prose)(&text);
            found.extend(search(&rules, &words).into_iter().map(|fault| format!("{}:{fault}", file.display())));
        }
    }
    Ok(found)
}

/// The files of `place`, as paths from the root, sorted.
fn files(place: &Root) -> Result<Vec<PathBuf>> {
    if root().join(place.place).is_file() {
        return Ok(vec![PathBuf::from(place.place)]);
    }
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(place.place)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root().join(&folder)).with_context(|| format!("{}", folder.display()))?;
        for entry in entries {
            let path = folder.join(entry?.file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| Path::new(extension) == Path::new(place.extension))
                && !path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
            {
                found.push(path);
            }
        }
    }
    ensure!(!found.is_empty(), "{} has no .{} files", place.place, place.extension);
    found.sort();
    Ok(found)
}

/// Where `words` use a phrase of `rules`: "line: ...", in the order of the text.
#[must_use]
pub fn search(rules: &[Rule], words: &[Word]) -> Vec<String> {
    let mut found = Vec::new();
    for start in 0..words.len() {
        for rule in rules {
            let Some(part) = words.get(start..start + rule.words.len()) else { continue };
            let (Some(last), Some(inner)) = (part.last(), part.split_last().map(|(_, inner)| inner)) else { continue };
            let same = part.iter().zip(&rule.words).all(|(word, wanted)| word.text == *wanted);
            if same && inner.iter().all(|word| !word.ends) && (last.ends || !rule.only_at_the_end) {
                found.push(format!("{}: `{}`: write {}", part[0].line, rule.phrase, rule.instead));
            }
        }
    }
    found
}

/// The words of a page of Markdown, without its code. Inline code stands as one word that no phrase contains.
#[must_use]
pub fn markdown(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut in_block = false;
    // How many backticks opened the inline code that a line is in; 0: none.
    let mut opened = 0;
    for (line, number) in text.lines().zip(1..) {
        let trimmed = line.trim_start();
        let is_fence = trimmed.starts_with("```");
        let begins = is_fence || trimmed.is_empty() || trimmed.starts_with(['#', '|', '-', '*']);
        if begins && opened == 0 {
            end_clause(&mut words);
        }
        in_block ^= is_fence;
        if is_fence || in_block {
            continue;
        }
        if trimmed.is_empty() {
            opened = 0;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let ticks = rest.len() - rest.trim_start_matches('`').len();
            let next = rest[ticks..].find('`').map_or(rest.len(), |at| at + ticks);
            if ticks > 0 && opened == 0 {
                opened = ticks;
                words.push(Word { text: "`".to_owned(), line: number, ends: false });
            } else if ticks == opened {
                opened = 0;
            }
            let part = &rest[ticks..next];
            if opened == 0 {
                if part.trim_start_matches(['*', '_', '"', ' ']).starts_with(CLAUSE_ENDS) {
                    end_clause(&mut words);
                }
                words.extend(words_of(part, number));
            }
            rest = &rest[next..];
        }
    }
    end_clause(&mut words);
    words
}

/// The words of the string literals of a Rust source, without inline code in them. Comments are skipped, and so is the
/// module of tests at the end.
#[must_use]
pub fn strings(text: &str) -> Vec<Word> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut words: Vec<Word> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, here) = rest.split_at(at);
        let length = if here.starts_with("//") {
            here.find('\n').unwrap_or(here.len())
        } else if here.starts_with("/*") {
            here.find("*/").map_or(here.len(), |end| end + 2)
        } else if here.starts_with('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let is_raw = before.trim_end_matches('#').ends_with('r');
            let length = if is_raw { raw_length(here, hashes) } else { literal_length(here) };
            let literal = here[1..length].trim_end_matches('#').trim_end_matches('"');
            let line = 1 + text[..text.len() - here.len()].matches('\n').count();
            for (index, outside) in unescaped(literal, is_raw).split('`').step_by(2).enumerate() {
                if index > 0 {
                    words.push(Word { text: "`".to_owned(), line, ends: false });
                }
                words.extend(words_of(outside, line));
            }
            end_clause(&mut words);
            length
        } else {
            character_length(here)
        };
        rest = &here[length..];
    }
    words
}

/// How long the literal is that `text` begins with, both quotes included.
fn literal_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// The same of a raw literal, with the hashes behind it.
fn raw_length(text: &str, hashes: usize) -> usize {
    let end = format!("\"{}", "#".repeat(hashes));
    text[1..].find(&end).map_or(text.len(), |at| 1 + at + end.len())
}

/// How long the character or the quote of a lifetime is that `text` begins with.
fn character_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let behind = at + escaped.len_utf8();
            text[behind..].find('\'').map_or(text.len(), |end| behind + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// A literal as it is printed, but that a line break ends a clause.
fn unescaped(literal: &str, is_raw: bool) -> String {
    if is_raw {
        return literal.to_owned();
    }
    // A backslash at the end of a line joins it with the next one.
    literal.replace("\\\n", " ").replace("\\n", ". ").replace("\\\"", "\"").replace('\\', " ")
}

fn end_clause(words: &mut [Word]) {
    if let Some(last) = words.last_mut() {
        last.ends = true;
    }
}

/// What ends a clause; a bar separates the cells of a table.
const CLAUSE_ENDS: [char; 8] = ['.', ',', ';', ':', '!', '?', ')', '|'];

/// The words of a text without code.
fn words_of(text: &str, line: usize) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut is_open = false;
    for character in text.chars() {
        if character.is_alphanumeric() || matches!(character, '\'' | '-') {
            if !is_open {
                words.push(Word { text: String::new(), line, ends: false });
            }
            is_open = true;
            if let Some(word) = words.last_mut() {
                word.text.extend(character.to_lowercase());
            }
        } else {
            is_open = false;
            if CLAUSE_ENDS.contains(&character) {
                end_clause(&mut words);
            }
        }
    }
    words
}
