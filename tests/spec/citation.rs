//! Where the sources quote a specification.

use crate::document::normalised;

/// A file of the workspace.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the workspace.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Words of a specification, quoted in a comment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Citation {
    /// File and line.
    pub(crate) place: String,
    pub(crate) document: String,
    pub(crate) section: String,
    /// Whether a test says that it proves this.
    pub(crate) is_test: bool,
    /// With single spaces.
    pub(crate) words: String,
    /// Whether its file has tests.
    pub(crate) is_among_tests: bool,
    /// Whether its file is one of what is shipped.
    pub(crate) is_among_code: bool,
}

impl Source {
    /// All that is quoted in this file. A heading that cannot be read is an error that names its place.
    pub(crate) fn citations(&self) -> Vec<Result<Citation, String>> {
        let lines: Vec<_> = self.text.lines().map(str::trim).collect();
        let is_among_tests = lines
            .iter()
            .any(|line| line.starts_with("#[") && line.ends_with("test]"));
        let is_among_code = !self.path.split('/').any(|name| name == "tests" || name == "benches");
        let mut citations = Vec::new();
        let mut next = 0;
        while next < lines.len() {
            let line = next;
            next += 1;
            let Some(heading) = lines[line].strip_prefix("//=").map(str::trim) else {
                continue;
            };
            let place = format!("{}:{}", self.path, line + 1);
            let Some((document, section)) = heading.split_once("#section-") else {
                citations.push(Err(format!("{place}: {heading:?} is no document#section-number")));
                continue;
            };
            let is_test = lines.get(next).is_some_and(|line| *line == "//= type=test");
            next += usize::from(is_test);
            let quoted = lines[next..].iter().map_while(|line| line.strip_prefix("//#"));
            let quoted: Vec<_> = quoted.collect();
            next += quoted.len();
            citations.push(Ok(Citation {
                place,
                document: document.to_owned(),
                section: section.to_owned(),
                is_test,
                words: normalised(&quoted.join(" ")),
                is_among_tests,
                is_among_code,
            }));
        }
        citations
    }
}
