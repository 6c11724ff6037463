//! What the specifications require, where it is obeyed, and where it is proved: every requirement that binds a client or a
//! server is quoted by the code and by a test, or has its reason in writing why not.
//!
//! ```text
//!   tests/spec/*.toml   what is required       --\
//!                                                  audit --> complaints, a table
//!   crates, tests       who quotes what, where --/
//! ```
//!
//! A test that proves a requirement quotes it in a comment (`=` the section and `type=test`, `#` the words), as does the
//! line that obeys it. [`client`] and [`server`] hold the tests that take a socket.

mod support;

#[path = "spec/audit.rs"]
mod audit;
#[path = "spec/audit_tests.rs"]
mod audit_tests;
#[path = "spec/citation.rs"]
mod citation;
#[path = "spec/client.rs"]
mod client;
#[path = "spec/document.rs"]
mod document;
#[path = "spec/server.rs"]
mod server;

use std::fs;
use std::path::Path;

use audit::Audit;
use citation::Source;
use document::Document;

/// Where requirements are quoted.
const SOURCES: [&str; 3] = ["crates", "tests", "benches"];

/// What is quoted here and there, but is none of the specifications of WebSocket.
const UNLISTED: [&str; 1] = ["RFC 6066"];

/// The files of `root` below `directory` whose names end with `.extension`, in order of their names.
fn files(root: &Path, directory: &str, extension: &str, found: &mut Vec<Source>) {
    let mut names: Vec<_> = fs::read_dir(root.join(directory))
        .unwrap_or_else(|error| panic!("{directory}: {error}"))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{directory}/{name}");
        if root.join(&path).is_dir() {
            if name != "target" && name != "node_modules" {
                files(root, &path, extension, found);
            }
        } else if Path::new(&name).extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(root.join(&path)).unwrap();
            found.push(Source { path, text });
        }
    }
}

#[test]
fn every_requirement_is_quoted_by_code_and_by_a_test_or_has_its_reason_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lists = Vec::new();
    files(root, "tests/spec", "toml", &mut lists);
    let documents: Vec<_> = lists
        .iter()
        .map(|list| Document::parse(&list.text).unwrap_or_else(|error| panic!("{}: {error}", list.path)))
        .collect();
    let mut sources = Vec::new();
    for directory in SOURCES {
        files(root, directory, "rs", &mut sources);
    }
    let audit = Audit::of(&documents, &UNLISTED, &sources);
    println!("{audit}");
    assert!(
        audit.complaints.is_empty(),
        "{} complaints:\n{}",
        audit.complaints.len(),
        audit.complaints.join("\n")
    );
}
