//! From where settings come: a file, the environment and flags, in rising precedence.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::field::{Fields, Meta};
use super::kind::{Shape, Written};
use super::problem::{ConfigError, Place, Problem};
use super::settings::{Config, LISTS, SECTIONS, Section};
use crate::handover;

/// What variables of the environment begin with.
const PREFIX: &str = "TIDECAST_";
/// The variable that names the file.
pub const FILE_VARIABLE: &str = "TIDECAST_CONFIG";
/// Variables by which our clients know their broker.
const CLIENT_VARIABLES: [&str; 3] = ["TIDECAST_URL", "TIDECAST_TLS_CA", "TIDECAST_TOKEN"];
/// The largest file that is read, in bytes: nobody writes more settings than that.
const MOST_FILE: u64 = 4 << 20;

/// Where to look for settings.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment: names and values. Those that do not begin with `TIDECAST_` are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// What was given on the command line: names of settings, and every value.
    pub flags: Vec<(&'static str, Vec<String>)>,
}

/// A configuration, and where each of its settings was written.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is odd, but does no harm.
    pub warnings: Vec<Problem>,
    places: HashMap<String, Place>,
    /// Whether `listen` counts beside tables of listeners, if that is decided already.
    listens: Option<bool>,
}

/// The flag of a setting; that of a switch which is on by default switches it off.
pub(super) fn flag(section: usize, index: usize) -> String {
    let meta = &SECTIONS[section].metas[index];
    let name = meta.name.replace('_', "-");
    let is_on =
        meta.shape == Shape::Switch && Config::default().section(section).write(index).as_deref() == Some("true");
    if is_on { format!("no-{name}") } else { name }
}

/// The variable of a setting.
pub(super) fn variable(meta: &Meta) -> String {
    format!("{PREFIX}{}", meta.name.to_uppercase())
}

/// Section and index of a setting.
fn find(name: &str) -> Option<(usize, usize)> {
    SECTIONS
        .iter()
        .enumerate()
        .find_map(|(section, Section { metas, .. })| {
            let index = metas.iter().position(|meta| meta.name == name)?;
            Some((section, index))
        })
}

impl Sources {
    /// Reads all of it.
    ///
    /// # Errors
    /// Everything that is wrong with it, by place: keys that nobody knows, values that cannot be. What concerns several
    /// settings at a time is not looked at here.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut loaded = Loaded::default();
        let mut problems = Vec::new();
        if let Some(path) = &self.file {
            loaded.read_file(path, &read_file(path)?, &mut problems);
        }
        self.read_environment(&mut loaded, &mut problems);
        self.read_flags(&mut loaded, &mut problems);
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(ConfigError(problems))
        }
    }

    fn read_environment(&self, loaded: &mut Loaded, problems: &mut Vec<Problem>) {
        for (name, value) in &self.environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if name == FILE_VARIABLE || name == handover::VARIABLE || CLIENT_VARIABLES.contains(&name) {
                continue;
            }
            let place = Some(Place::Variable(name.to_owned()));
            let key = name[PREFIX.len()..].to_lowercase();
            let Some((section, index)) = find(&key) else {
                // Not an error: a cluster of containers names services by variables, and one may be called tidecast.
                let known = SECTIONS.iter().flat_map(|section| section.metas).map(|meta| meta.name);
                let nearest =
                    nearest(&key, known).map(|near| format!(" (the nearest is {PREFIX}{})", near.to_uppercase()));
                let message = format!("there is no such setting{}: ignored", nearest.unwrap_or_default());
                loaded.warnings.push(Problem { place, message });
                continue;
            };
            let result = match value.to_str() {
                Some(value) => loaded
                    .config
                    .section_mut(section)
                    .read(index, &Written::Texts(&[value])),
                None => Err("it is not UTF-8".to_owned()),
            };
            loaded.note(section, index, place, result, problems);
        }
    }

    fn read_flags(&self, loaded: &mut Loaded, problems: &mut Vec<Problem>) {
        for (name, values) in &self.flags {
            let (section, index) = find(name).expect("flags are made of settings");
            let flag = format!("--{}", flag(section, index));
            let is_switch = SECTIONS[section].metas[index].shape == Shape::Switch;
            let texts: Vec<&str> = if is_switch {
                vec![if flag.starts_with("--no-") { "false" } else { "true" }]
            } else {
                values.iter().map(String::as_str).collect()
            };
            let result = loaded.config.section_mut(section).read(index, &Written::Texts(&texts));
            let said = if is_switch {
                flag
            } else {
                format!("{flag} {}", values.join(","))
            };
            loaded.note(section, index, Some(Place::Flag(said)), result, problems);
        }
    }
}

impl Loaded {
    /// Reads the text of a file, which is called `path` in errors.
    ///
    /// # Errors
    /// As for [`Sources::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Loaded, ConfigError> {
        let (mut loaded, mut problems) = (Loaded::default(), Vec::new());
        loaded.read_file(path, text, &mut problems);
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(ConfigError(problems))
        }
    }

    fn read_file(&mut self, path: &Path, text: &str, problems: &mut Vec<Problem>) {
        let loaded = self;
        File {
            path,
            text,
            loaded,
            problems,
        }
        .read();
    }

    /// Remembers where a setting was read, or what was wrong with it.
    fn note(
        &mut self,
        section: usize,
        index: usize,
        place: Option<Place>,
        result: Result<(), String>,
        problems: &mut Vec<Problem>,
    ) {
        match (result, place) {
            (Ok(()), Some(place)) => {
                self.places
                    .insert(SECTIONS[section].metas[index].name.to_owned(), place);
            }
            (Ok(()), None) => {}
            (Err(message), place) => problems.push(Problem { place, message }),
        }
    }

    /// Whether `listen` counts: where it is written, and where there is nothing else.
    pub(crate) fn listens(&self) -> bool {
        let written = self.config.listeners.is_empty() || self.place("listen").is_some();
        self.listens.unwrap_or(written)
    }

    /// Keeps what a running broker cannot change; gives the names of what was to change there.
    pub(crate) fn keep_fixed(&mut self, running: &Loaded) -> Vec<&'static str> {
        let mut kept = self.config.keep_fixed(&running.config);
        if self.listens() != running.listens() && !kept.contains(&"listen") {
            kept.push("listen");
        }
        self.listens = Some(running.listens());
        kept
    }

    /// Where the setting called `name` was written, or that of a table, as in `topics[0].pattern`; none if it has its
    /// default.
    pub fn place(&self, name: &str) -> Option<&Place> {
        self.places.get(name)
    }

    /// A problem with the setting called `name`, as in [`Loaded::place`].
    pub(crate) fn problem(&self, name: &str, message: impl Into<String>) -> Problem {
        let place = self.place(name).cloned();
        let message = message.into();
        match place {
            Some(_) => Problem { place, message },
            None => Problem {
                place,
                message: format!("--{}: {message}", name.replace('_', "-")),
            },
        }
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let error = |message: String| ConfigError::one(None, format!("{}: {message}", path.display()));
    let size = fs::metadata(path).map_err(|cause| error(format!("cannot read the configuration: {cause}")))?;
    if size.len() > MOST_FILE {
        return Err(error(format!("a configuration has at most {MOST_FILE} bytes")));
    }
    fs::read_to_string(path).map_err(|cause| error(format!("cannot read the configuration: {cause}")))
}

/// The known name that `name` was probably meant to be.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let near = known.map(|other| (distance(other), other)).min()?;
    (near.0 <= 2.max(name.len() / 3)).then_some(near.1)
}

/// Reads a file.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    loaded: &'a mut Loaded,
    problems: &'a mut Vec<Problem>,
}

impl File<'_> {
    fn read(&mut self) {
        match DeTable::parse(self.text) {
            Ok(table) => {
                for (key, value) in table.get_ref().iter() {
                    self.read_top(key, value);
                }
            }
            Err(error) => {
                let start = error.span().map_or(0, |span| span.start);
                self.problem(start, "", format!("this is no TOML: {}", error.message()));
            }
        }
    }

    fn read_top(&mut self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let (name, start) = (key.get_ref().as_ref(), key.span().start);
        if let Some(section) = SECTIONS.iter().position(|section| section.name == name) {
            match value.get_ref() {
                DeValue::Table(table) => self.read_section(section, table),
                _ => self.problem(
                    start,
                    name,
                    format!("this is a section: write [{name}] in a line of its own"),
                ),
            }
        } else if let Some(list) = LISTS.iter().position(|list| list.name == name) {
            self.read_list(list, start, value);
        } else if let Some((section, _)) = find(name) {
            let section = SECTIONS[section].name;
            self.problem(start, name, format!("this belongs below [{section}]"));
        } else {
            let known = SECTIONS.iter().chain(LISTS).map(|section| section.name);
            let message = match nearest(name, known) {
                Some(near) => format!("there is no such section; the nearest is {near}"),
                None => "there is no such section (`tidecast config example` lists all)".to_owned(),
            };
            self.problem(start, name, message);
        }
    }

    fn read_section(&mut self, section: usize, table: &DeTable<'_>) {
        let Section { name, metas, .. } = SECTIONS[section];
        for (key, value) in table.iter() {
            let key_name = key.get_ref().as_ref();
            let full = format!("{name}.{key_name}");
            let Some(index) = metas.iter().position(|meta| meta.name == key_name) else {
                self.problem(key.span().start, &full, unknown(key_name, metas));
                continue;
            };
            let place = self.place(value.span().start, &full);
            let written = Written::Toml(value.get_ref());
            let result = self.loaded.config.section_mut(section).read(index, &written);
            self.loaded.note(section, index, Some(place), result, self.problems);
        }
    }

    fn read_list(&mut self, list: usize, start: usize, value: &Spanned<DeValue<'_>>) {
        let Section { name, metas, .. } = LISTS[list];
        let DeValue::Array(tables) = value.get_ref() else {
            return self.problem(
                start,
                name,
                format!("there can be several of these: write [[{name}]] in double brackets"),
            );
        };
        for table in tables.iter() {
            let DeValue::Table(keys) = table.get_ref() else {
                self.problem(table.span().start, name, "give tables".to_owned());
                continue;
            };
            let (mut problems, mut read) = (Vec::new(), Vec::new());
            let number = self.loaded.config.tables(list).len();
            let record: &mut dyn Fields = self.loaded.config.add(list);
            let mut given = vec![false; metas.len()];
            for (key, value) in keys.iter() {
                let key_name = key.get_ref().as_ref();
                match metas.iter().position(|meta| meta.name == key_name) {
                    None => problems.push((key.span().start, key_name, unknown(key_name, metas))),
                    Some(index) => {
                        given[index] = true;
                        match record.read(index, &Written::Toml(value.get_ref())) {
                            Ok(()) => read.push((value.span().start, key_name)),
                            Err(message) => problems.push((value.span().start, key_name, message)),
                        }
                    }
                }
            }
            for (start, key) in read {
                let place = self.place(start, &format!("{name}.{key}"));
                self.loaded.places.insert(format!("{name}[{number}].{key}"), place);
            }
            for (start, key, message) in problems {
                self.problem(start, &format!("{name}.{key}"), message);
            }
            for (meta, _) in metas
                .iter()
                .zip(&given)
                .filter(|(meta, given)| meta.is_required && !**given)
            {
                let message = format!("this table needs the key {}", meta.name);
                self.problem(table.span().start, name, message);
            }
        }
    }

    fn place(&self, offset: usize, key: &str) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
        }
    }

    fn problem(&mut self, offset: usize, key: &str, message: String) {
        let place = Some(self.place(offset, key));
        self.problems.push(Problem { place, message });
    }
}

/// What to say about a key that is not there.
fn unknown(name: &str, metas: &[Meta]) -> String {
    if let Some((section, _)) = find(name) {
        return format!("this belongs below [{}]", SECTIONS[section].name);
    }
    match nearest(name, metas.iter().map(|meta| meta.name)) {
        Some(near) => format!("there is no such setting; the nearest is {near}"),
        None => {
            let names: Vec<_> = metas.iter().map(|meta| meta.name).collect();
            format!("there is no such setting; here are {}", names.join(", "))
        }
    }
}
