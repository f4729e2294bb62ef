//! Texts are in plain English: they use no phrase that `docs/style.md` replaces.

use interlock_xtask::language::{faults, markdown, parse, rules, search, strings};

#[test]
fn texts_use_no_phrase_that_the_style_replaces() {
    assert!(rules().unwrap().len() > 30, "the table of phrases was not found");
    let found = faults().unwrap();
    assert!(found.is_empty(), "{} (the table is in docs/style.md)", found.join("\n"));
}

const TABLE: &str =
    "| not | but |\n|---|---|\n| `anew` | again |\n| `so many`, `so long` | the number |\n| `no more.` | no longer |\n";

fn found(text: &str) -> Vec<String> {
    search(&parse(TABLE).expect("a table"), &markdown(text))
}

#[test]
fn a_bad_text_is_found_with_its_line_and_the_better_word() {
    assert_eq!(found("It is read\nAnew."), ["2: `anew`: write again"]);
    assert_eq!(
        found("It waits so\nlong, and so many."),
        ["1: `so long`: write the number", "2: `so many`: write the number"]
    );
    assert_eq!(found("What it names no more, stays.\n\n| it is heard no more | no more than that |").len(), 2);
    assert_eq!(found("It is gone *no more*").len(), 1, "the end of the text ends a clause");
    assert_eq!(found("the `--flag` no more: `x`").len(), 1);
}

#[test]
fn code_and_other_words_are_no_faults() {
    for text in [
        "```text\nread anew\n```\n",
        "`read anew`, and `so\nlong` and that is all",
        "`` a `b` so long``",
        "no more than 16, no more of them",
        "so, many are",
        "so `x` many",
        "it is so\n\nmany more",
        "| so | many |",
        "renewed, so-long",
    ] {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn of_a_source_the_strings_are_searched_and_nothing_else() {
    let source = r##"
// It is read anew.
const A: &str = "it is read \
    anew"; /* so long */ let b = '"'; let c = 'a'; fn f<'a>(anew: &'a str) {}
let d = format!("{x}: `anew`, \"so long\"\nno more"); let e = r#"a "raw" one: anew"#; let f = '\''; let g = "so";
let long = b"\\"; let many = "many";
#[cfg(test)]
mod tests {
    const T: &str = "anew";
}
"##;
    let found = search(&parse(TABLE).unwrap(), &strings(source));
    let places: Vec<&str> = found.iter().filter_map(|fault| fault.split(": write").next()).collect();
    assert_eq!(places, ["3: `anew`", "5: `so long`", "5: `no more.`", "5: `anew`"]);
}

#[test]
fn a_broken_table_is_an_error() {
    assert!(parse("| not | but |\n|---|---|\n| `a` | b | c |\n").is_err());
    assert!(parse("| not | but |\n|---|---|\n| a | b |\n").is_err());
    assert!(parse("no table").unwrap().is_empty());
}
