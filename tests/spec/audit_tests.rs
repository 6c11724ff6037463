//! The audit can fail: a small tree that is sound, and what is said when something of it is missing.

use crate::audit::{Audit, Row};
use crate::citation::Source;
use crate::document::Document;

/// A document with four requirements. No line of code quotes the first, and that has its reason; the last two have a reason
/// not to be tested.
const LIST: &str = r#"
    name = "RFC 1"
    sections = ["1", "1.1", "2"]

    [[requirement]]
    id = "1.1-1"
    section = "1.1"
    binds = "both"
    words = "A peer MUST be polite."
    nowhere = "nothing here is rude"

    [[requirement]]
    id = "1.1-2"
    section = "1.1"
    binds = "server"
    words = "A server SHALL answer."

    [[requirement]]
    id = "1.1-3"
    section = "1.1"
    binds = "client"
    words = "A client MUST NOT shout."
    exception = "it has no voice"

    [[requirement]]
    id = "2-1"
    section = "2"
    binds = "others"
    words = "Passers-by MUST NOT stare."
    exception = "nobody passes by"
"#;

/// Two files that prove all of it.
const TREE: [(&str, &[&str]); 2] = [
    (
        "src/lib.rs",
        &[
            "//= RFC 1#section-1.1",
            "//# A server SHALL",
            "//# answer.",
            "pub fn answer() {}",
            "//= RFC 9#section-9",
            "//# Nobody MUST list this.",
        ],
    ),
    (
        "tests/all.rs",
        &[
            "    //= RFC 1#section-1.1",
            "    //= type=test",
            "    //# A peer MUST be",
            "    //# polite. A server SHALL answer.",
            "    #[test]",
            "    fn all_is_well() {}",
        ],
    ),
];

/// The audit of `list` and of the tree with `from` replaced by `to` wherever it stands.
fn audited(list: &str, from: &str, to: &str) -> Audit {
    let sources = TREE.map(|(path, lines)| Source {
        path: path.to_owned(),
        text: lines.join("\n").replace(from, to),
    });
    Audit::of(&[Document::parse(list).unwrap()], &["RFC 9"], &sources)
}

#[test]
fn a_tree_that_quotes_everything_is_counted_and_not_complained_about() {
    let audit = audited(LIST, "", "");
    assert_eq!(audit.complaints, [""; 0]);
    let row = Row {
        document: "RFC 1".into(),
        requirements: 4,
        tested: 2,
        exceptions: 2,
        gaps: 0,
        at_code: 1,
        nowhere: 1,
    };
    assert_eq!(audit.rows, [row]);
    let table = audit.to_string();
    let cells: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(cells, ["RFC", "1", "4", "2", "2", "0", "1", "1"]);
}

#[test]
fn whatever_is_missing_in_a_tree_is_complained_about() {
    let unproved = |id| format!("RFC 1, {id}: no test quotes it, and there is no reason why not");
    let unlisted = |line| format!("{line}: no requirement of that section has these words");
    let unobeyed = |id| format!("RFC 1, {id}: no code quotes it, and there is no reason why not");
    let unsaid = |line| format!("{line}: it stands among tests, but does not say that one proves it");
    let cases = [
        // A test that is none any more, or quotes other words.
        (
            "    //= type=test\n",
            "",
            vec![unproved("1.1-1"), unproved("1.1-2"), unsaid("tests/all.rs:1")],
        ),
        // A line of code that is none any more, quotes other words, or is one of a test.
        (
            "//= RFC 1#section-1.1\n//# A server SHALL\n//# answer.\n",
            "",
            vec![unobeyed("1.1-2")],
        ),
        (
            "answer.\npub",
            "ask.\npub",
            vec![unobeyed("1.1-2"), unlisted("src/lib.rs:1")],
        ),
        (
            "//# A server SHALL\n//# answer.\npub",
            "//= type=test\n//# A server SHALL\n//# answer.\npub",
            vec![
                unobeyed("1.1-2"),
                "src/lib.rs:1: it stands in a file without tests".into(),
            ],
        ),
        (
            "pub fn answer() {}",
            "//= RFC 1#section-1.1\n//# A peer MUST be polite.\npub fn answer() {}",
            vec!["RFC 1, 1.1-1: src/lib.rs:4 quotes it, so it is not nowhere".into()],
        ),
        ("polite", "rude", vec![unproved("1.1-1")]),
        (
            "A server SHALL\n",
            "A server SHALL NOT\n",
            vec![unobeyed("1.1-2"), unlisted("src/lib.rs:1")],
        ),
        // Headings.
        (
            "RFC 1#",
            "RFC 2#",
            vec![
                unproved("1.1-1"),
                unobeyed("1.1-2"),
                unproved("1.1-2"),
                "src/lib.rs:1: there is no list of that document".into(),
                "tests/all.rs:1: there is no list of that document".into(),
            ],
        ),
        (
            "//= RFC 1#section-1.1\n//#",
            "//= RFC 1#section-3\n//#",
            vec![
                unobeyed("1.1-2"),
                "src/lib.rs:1: there is no such section".into(),
                unlisted("src/lib.rs:1"),
            ],
        ),
        (
            "//= RFC 1#section-1.1\n//#",
            "//= RFC 1, 1.1\n//#",
            vec![
                "src/lib.rs:1: \"RFC 1, 1.1\" is no document#section-number".into(),
                unobeyed("1.1-2"),
            ],
        ),
        // Around them.
        (
            "//# A server SHALL\n//# answer.\n",
            "",
            vec![unobeyed("1.1-2"), "src/lib.rs:1: it quotes nothing".into()],
        ),
        (
            "#[test]",
            "#[inline]",
            vec!["tests/all.rs:1: it stands in a file without tests".into()],
        ),
    ];
    for (from, to, complaints) in cases {
        assert_eq!(audited(LIST, from, to).complaints, complaints, "{from} -> {to}");
    }
}

#[test]
fn a_list_that_is_not_sound_is_complained_about() {
    let cases = [
        (
            "section = \"2\"",
            "section = \"3\"",
            "RFC 1, 2-1: there is no such section",
        ),
        ("id = \"2-1\"", "id = \"1.1-1\"", "RFC 1, 1.1-1: the id is not unique"),
        (
            "MUST NOT stare",
            "should not stare",
            "RFC 1, 2-1: its words require nothing",
        ),
        (
            "exception = \"nobody passes by\"",
            "",
            "RFC 1, 2-1: no test quotes it, and there is no reason why not",
        ),
        (
            "exception = \"nobody passes by\"",
            "exception = \"nobody passes by\"\ngap = \"they do\"",
            "RFC 1, 2-1: an exception is no gap",
        ),
        (
            "words = \"A server SHALL answer.\"",
            "words = \"A server SHALL answer.\"\ngap = \"it does not\"",
            "RFC 1, 1.1-2: tests/all.rs:1 proves it, so it needs no reason why not",
        ),
        (
            "nowhere = \"nothing here is rude\"",
            "",
            "RFC 1, 1.1-1: no code quotes it, and there is no reason why not",
        ),
        (
            "exception = \"it has no voice\"",
            "exception = \"it has no voice\"\nnowhere = \"it has no voice\"",
            "RFC 1, 1.1-3: nobody asks why no code quotes it",
        ),
    ];
    for (from, to, complaint) in cases {
        assert_eq!(audited(&LIST.replace(from, to), "", "").complaints, [complaint]);
    }
    assert!(Document::parse(&LIST.replace("\"others\"", "\"everybody\"")).is_err());
    assert!(Document::parse(&LIST.replace("exception", "excpetion")).is_err());
}
