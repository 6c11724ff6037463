//! The protocol's reference says what the code does.

use tidecast_wire::{Code, Kind, SlowPolicy, Verb, close, json};

const REFERENCE: &str = include_str!("../PROTOCOL.md");

/// The lines of the JSON examples.
fn examples() -> impl Iterator<Item = &'static str> {
    let mut inside = false;
    REFERENCE.lines().filter(move |line| {
        if line.starts_with("```") {
            inside = *line == "```json";
            return false;
        }
        inside
    })
}

#[test]
fn every_example_is_a_command_or_a_reply() {
    let (mut commands, mut replies) = (0, 0);
    for line in examples() {
        match (json::parse(line), json::parse_reply(line)) {
            (Ok(_), _) => commands += 1,
            (_, Ok(_)) => replies += 1,
            (Err(error), _) => panic!("{line}: {error}"),
        }
    }
    assert!(commands >= 4 && replies >= 5, "{commands} commands, {replies} replies");
}

#[test]
fn every_word_of_the_tables_is_in_the_reference() {
    for verb in Verb::ALL {
        assert!(REFERENCE.contains(&format!("| `[\"{}\"", verb.as_str())), "{verb:?}");
    }
    for code in Code::ALL {
        assert!(REFERENCE.contains(&format!("| `{code}` |")), "{code}");
    }
    for kind in [Kind::Json, Kind::Text, Kind::Binary] {
        assert!(REFERENCE.contains(&format!("| `\"{}\"` |", kind.as_str())), "{kind:?}");
    }
    for slow in [
        SlowPolicy::Close,
        SlowPolicy::DropNew,
        SlowPolicy::DropOld,
        SlowPolicy::Latest,
    ] {
        assert!(REFERENCE.contains(&format!("`\"{}\"`", slow.as_str())), "{slow:?}");
    }
    for code in 4000..=4199 {
        let row = REFERENCE.lines().find(|line| line.starts_with(&format!("| {code} |")));
        assert_eq!(row.is_some(), close::reason(code).is_some(), "{code}");
        if let (Some(row), Some(reason)) = (row, close::reason(code)) {
            assert!(row.contains(reason), "{row}: {reason}");
        }
    }
}

#[test]
fn the_numbers_of_the_reference_are_those_of_the_code() {
    assert!(REFERENCE.contains(&format!("nested {} deep", json::MAX_DEPTH)));
    assert!(REFERENCE.contains(&format!("at most {}\n", tidecast_wire::Reference::MAX_BYTES)));
    assert!(REFERENCE.contains(json::SUBPROTOCOL));
}
