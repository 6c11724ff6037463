//! What is required against what is quoted.

use std::collections::HashSet;
use std::fmt;

use crate::citation::{Citation, Source};
use crate::document::{Document, Side, normalised, requires};

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// In the order of the documents.
    pub(crate) rows: Vec<Row>,
    /// What is wrong, one line each.
    pub(crate) complaints: Vec<String>,
}

/// A document's counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) document: String,
    pub(crate) requirements: usize,
    /// Quoted by a test.
    pub(crate) tested: usize,
    /// With a reason why no test is needed.
    pub(crate) exceptions: usize,
    /// Not met.
    pub(crate) gaps: usize,
    /// Quoted by a line that obeys it.
    pub(crate) at_code: usize,
    /// With a reason why no line quotes it.
    pub(crate) nowhere: usize,
}

impl Audit {
    /// Compares the requirements of `documents` with the quotations in `sources`. What `unlisted` documents require is
    /// not asked for.
    pub(crate) fn of(documents: &[Document], unlisted: &[&str], sources: &[Source]) -> Audit {
        let mut audit = Audit::default();
        let mut citations = Vec::new();
        for citation in sources.iter().flat_map(Source::citations) {
            match citation {
                Ok(citation) if unlisted.contains(&&*citation.document) => {}
                Ok(citation) => citations.push(citation),
                Err(complaint) => audit.complaints.push(complaint),
            }
        }
        for document in documents {
            audit.requirements(document, &citations);
        }
        for citation in &citations {
            audit.citation(documents, citation);
        }
        audit
    }

    /// Every requirement is proved by a test, or says why not, and not both. If it is, a line obeys it, or it says why
    /// there is none, and not both.
    fn requirements(&mut self, document: &Document, citations: &[Citation]) {
        let name = &document.name;
        let mut row = Row {
            document: name.clone(),
            requirements: document.requirements.len(),
            ..Row::default()
        };
        let mut ids = HashSet::new();
        for requirement in &document.requirements {
            let id = &requirement.id;
            let mut complain = |what: &str| self.complaints.push(format!("{name}, {id}: {what}"));
            if !ids.insert(id) {
                complain("the id is not unique");
            }
            if !document.sections.contains(&requirement.section) {
                complain("there is no such section");
            }
            if !requires(&requirement.words) {
                complain("its words require nothing");
            }
            let words = normalised(&requirement.words);
            let quotes = |citation: &&Citation| {
                citation.document == *name && citation.section == requirement.section && citation.words.contains(&words)
            };
            let (proofs, others): (Vec<_>, Vec<_>) = citations.iter().filter(quotes).partition(|quote| quote.is_test);
            let obeyed = others.iter().find(|quote| quote.is_among_code);
            let is_asked_for =
                requirement.binds != Side::Others && requirement.exception.is_none() && requirement.gap.is_none();
            row.at_code += usize::from(obeyed.is_some());
            match (obeyed, &requirement.nowhere) {
                (None, Some(_)) if is_asked_for => row.nowhere += 1,
                (None, None) if is_asked_for => complain("no code quotes it, and there is no reason why not"),
                (_, None) => {}
                (None, Some(_)) => complain("nobody asks why no code quotes it"),
                (Some(line), Some(_)) => complain(&format!("{} quotes it, so it is not nowhere", line.place)),
            }
            match (proofs.first(), &requirement.exception, &requirement.gap) {
                (Some(_), None, None) => row.tested += 1,
                (None, Some(_), None) => row.exceptions += 1,
                (None, None, Some(_)) => row.gaps += 1,
                (None, None, None) => complain("no test quotes it, and there is no reason why not"),
                (None, Some(_), Some(_)) => complain("an exception is no gap"),
                (Some(proof), ..) => complain(&format!("{} proves it, so it needs no reason why not", proof.place)),
            }
        }
        self.rows.push(row);
    }

    /// Every quotation is of a section that exists, and what it requires is on the list.
    fn citation(&mut self, documents: &[Document], citation: &Citation) {
        let mut complain = |what: &str| self.complaints.push(format!("{}: {what}", citation.place));
        let Some(document) = documents.iter().find(|document| document.name == citation.document) else {
            return complain("there is no list of that document");
        };
        if !document.sections.contains(&citation.section) {
            complain("there is no such section");
        }
        if citation.words.is_empty() {
            complain("it quotes nothing");
        }
        if citation.is_test && !citation.is_among_tests {
            complain("it stands in a file without tests");
        }
        if !citation.is_test && !citation.is_among_code {
            complain("it stands among tests, but does not say that one proves it");
        }
        let mut listed = document.requirements.iter().filter(|requirement| {
            let words = normalised(&requirement.words);
            requirement.section == citation.section
                && (words.contains(&citation.words) || citation.words.contains(&words))
        });
        if requires(&citation.words) && listed.next().is_none() {
            complain("no requirement of that section has these words");
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.document.len()).max().unwrap_or(0);
        writeln!(
            f,
            "{:width$}  required  tested  exceptions  gaps  quoted at code  nowhere",
            "document"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:width$}  {:8}  {:6}  {:10}  {:4}  {:14}  {:7}",
                row.document, row.requirements, row.tested, row.exceptions, row.gaps, row.at_code, row.nowhere
            )?;
        }
        Ok(())
    }
}
