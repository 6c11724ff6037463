//! Configurations as text: the example with everything there is, and what a broker would run with.

use std::fmt::Write;

use super::field::{Fields, Meta};
use super::kind::{Kind, Secret};
use super::settings::{Config, LISTS, SECTIONS};
use super::source::{Loaded, flag, variable};

/// Columns of a comment.
const WIDTH: usize = 110;

/// A file with every setting, explained, as a comment with its default.
pub fn example() -> String {
    let mut text = String::new();
    let defaults = Config::default();
    comment(
        "Every setting of tidecast with its default. A setting has the same name as a flag (--max-message is max_message) and as \
         a variable of the environment (TIDECAST_MAX_MESSAGE); flags go before variables, and those before this file. Sizes take K, M \
         and G, times ms, s, m, h and d. What is marked (live) is taken over when the broker gets SIGHUP; for all else it has to be \
         started anew. `tidecast config check FILE` says whether a file is good, `tidecast config show` what comes of it.",
        &mut text,
    );
    for (section, group) in SECTIONS.iter().enumerate() {
        let _ = writeln!(text, "\n# {}.\n[{}]", group.about, group.name);
        explain(group.metas, defaults.section(section), &mut text);
    }
    for (list, group) in LISTS.iter().enumerate() {
        let _ = writeln!(text, "\n# {}. There can be several.\n# [[{}]]", group.about, group.name);
        explain(group.metas, Config::default().add(list), &mut text);
    }
    text
}

fn explain(metas: &[Meta], values: &dyn Fields, text: &mut String) {
    for (index, meta) in metas.iter().enumerate() {
        let live = if meta.is_live { " (live)" } else { "" };
        text.push('\n');
        comment(&format!("{}{live}", words(meta.doc)), text);
        for (name, means) in meta.choices {
            comment(&format!("- {name}: {means}"), text);
        }
        let value = values.write(index).unwrap_or_else(|| format!("<{}>", meta.value_name));
        let _ = writeln!(text, "# {} = {value}", meta.name);
    }
}

/// Documentation in one line.
pub(crate) fn words(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn comment(words: &str, text: &mut String) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

impl Loaded {
    /// Every setting with its value, and where that was written. Secrets are masked.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for (section, group) in SECTIONS.iter().enumerate() {
            let _ = writeln!(text, "{}[{}]", if section == 0 { "" } else { "\n" }, group.name);
            for (index, meta) in group.metas.iter().enumerate() {
                let place = self
                    .place(meta.name)
                    .map_or_else(|| "default".to_owned(), ToString::to_string);
                let line = match self.config.section(section).write(index) {
                    Some(value) => format!("{} = {value}", meta.name),
                    None => format!("# {} is left open", meta.name),
                };
                let _ = writeln!(text, "{line:<48} # {place}");
            }
        }
        for (list, group) in LISTS.iter().enumerate() {
            for table in self.config.tables(list) {
                let _ = writeln!(text, "\n[[{}]]", group.name);
                for (index, meta) in group.metas.iter().enumerate() {
                    if let Some(value) = table.write(index) {
                        let _ = writeln!(text, "{} = {value}", meta.name);
                    }
                }
            }
        }
        text
    }
}

/// How a setting is given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The name of the setting.
    pub name: &'static str,
    /// The flag, without its dashes.
    pub flag: String,
    /// The variable of the environment.
    pub variable: String,
    /// What it does.
    pub help: String,
    /// Its default as it would be written; none if that is left open.
    pub default: Option<String>,
    /// The section, for the headings of the help.
    pub section: &'static str,
    /// What is known of it.
    pub meta: Meta,
}

/// Every setting but secrets as a flag, in the order of the file.
pub fn flags() -> Vec<Flag> {
    let defaults = Config::default();
    let mut flags = Vec::new();
    for (section, group) in SECTIONS.iter().enumerate() {
        // Other users see command lines: a secret is no part of one.
        let metas = group
            .metas
            .iter()
            .enumerate()
            .filter(|(_, meta)| meta.value_name != Secret::NAME);
        for (index, meta) in metas {
            let flag = flag(section, index);
            let help = words(meta.doc);
            let help = match flag.strip_prefix("no-") {
                Some(_) => format!("Do not {}{}", help[..1].to_lowercase(), &help[1..]),
                None => help,
            };
            flags.push(Flag {
                name: meta.name,
                flag,
                variable: variable(meta),
                help,
                default: defaults.section(section).write(index).map(bare),
                section: group.about,
                meta: *meta,
            });
        }
    }
    flags
}

/// A value of TOML as one would give it on the command line.
fn bare(value: String) -> String {
    value
        .replace("\", \"", ",")
        .replace(['"', '[', ']'], "")
        .replace(", ", ",")
}
