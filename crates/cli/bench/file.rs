//! `tidecast bench run FILE`: the settings of a file are read as the flags they are named after.

use clap::error::ContextKind;
use clap::{FromArgMatches, Subcommand};
use tidecast_bench::{ScenarioFile, nearest};

use super::flags::RunArgs;
use super::{Scenario, usage};
use crate::exit::Failure;

/// Flags of which a setting in the file gives way to any one on the command line.
const RIVALS: [&[&str]; 4] = [
    &["window", "rate"],
    &["count", "duration", "warmup"],
    &["fanout-window", "fanout-rate"],
    &["tls-ca", "tls-insecure"],
];

/// The scenario that a file describes.
///
/// # Errors
/// The file cannot be read; or what is wrong with it, with its line.
pub(super) fn read(args: &RunArgs) -> Result<Scenario, Failure> {
    let name = args.file.display();
    let text =
        std::fs::read_to_string(&args.file).map_err(|error| usage(format_args!("cannot read {name}: {error}")))?;
    parse(&text, &args.flags).map_err(|reason| usage(format_args!("{name}: {reason}")))
}

fn parse(text: &str, flags: &[String]) -> Result<Scenario, String> {
    let file = ScenarioFile::parse(text).map_err(|error| error.to_string())?;
    let command = Scenario::augment_subcommands(clap::Command::new("bench").no_binary_name(true));
    let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
    let Some(scenario) = command.find_subcommand(&file.scenario) else {
        let reason = format!("unknown scenario {:?}", file.scenario);
        return Err(at(
            file.line,
            reason,
            nearest(&file.scenario, names.iter().copied()),
            &names,
        ));
    };
    let known: Vec<_> = scenario.get_arguments().filter_map(clap::Arg::get_long).collect();
    let mut words = vec![file.scenario.clone()];
    for setting in &file.settings {
        if !known.contains(&&*setting.name) {
            let reason = format!("unknown key {:?} in scenario {}", setting.name, file.scenario);
            return Err(at(
                setting.line,
                reason,
                nearest(&setting.name, known.iter().copied()),
                &known,
            ));
        }
        if flags.iter().any(|flag| replaces(flag, &setting.name)) {
            continue;
        }
        let flag = format!("--{}", setting.name);
        if setting.values.is_empty() {
            words.push(flag);
        } else {
            words.extend(setting.values.iter().map(|value| format!("{flag}={value}")));
        }
    }
    words.extend(flags.iter().cloned());
    let refused = |error: clap::Error| {
        // The setting it is about, if that is one of the file's.
        let about = error.context().find_map(|(kind, value)| {
            let ContextKind::InvalidArg = kind else { return None };
            let value = value.to_string();
            let named = |name: &str| {
                value
                    .trim_start_matches("--")
                    .split([' ', '='])
                    .next()
                    .is_some_and(|word| word == name)
            };
            file.settings
                .iter()
                .find(|setting| named(&setting.name))
                .map(|setting| setting.line)
        });
        let reason = error.to_string();
        let reason = reason.lines().next().unwrap_or_default().trim_start_matches("error: ");
        match about {
            Some(line) => format!("line {line}: {reason}"),
            None => reason.to_owned(),
        }
    };
    let matches = command.try_get_matches_from(words).map_err(refused)?;
    Scenario::from_arg_matches(&matches).map_err(|error| error.to_string())
}

/// Whether a word of the command line is a flag for which the setting `name` gives way.
fn replaces(word: &str, name: &str) -> bool {
    let Some(flag) = word.strip_prefix("--").and_then(|word| word.split('=').next()) else {
        return false;
    };
    flag == name
        || RIVALS
            .iter()
            .any(|rivals| rivals.contains(&flag) && rivals.contains(&name))
}

fn at(line: usize, reason: String, near: Option<&str>, names: &[&str]) -> String {
    match near {
        Some(near) => format!("line {line}: {reason}; did you mean {near:?}?"),
        None => format!("line {line}: {reason}; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use tidecast_bench::{Load, Plan, Protocol};

    use super::*;

    fn plan(text: &str, flags: &[&str]) -> Result<Plan, String> {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        parse(text, &flags)?.plan().map(|(plan, _)| plan)
    }

    #[test]
    fn a_file_says_what_the_command_line_would() {
        let text = "scenario = \"churn\"\nprotocol = \"mqtt\"\nconnections = 7\nrate = \"2k\"\n\
                    fanout-subscribers = 3\ncore = [0, 1]\nsize = \"1K\"\nfail_if = [\"p99>5ms\", \"max>1s\"]\njson = true\n";
        let plan = plan(text, &[]).unwrap();
        assert_eq!((plan.protocol, plan.size), (Protocol::Mqtt, 1024));
        assert_eq!((plan.load, plan.cores), (Load::Rate(2_000.0), vec![0, 1]));
        let scenario = parse(text, &[]).unwrap();
        let (_, output) = scenario.plan().unwrap();
        assert_eq!((output.json, output.fail_if.len()), (true, 2));
    }

    #[test]
    fn every_scenario_can_be_that_of_a_file() {
        for (text, name) in [
            ("scenario = \"fanout\"\nsubscribers = 3\n", "fanout"),
            (
                "scenario = \"ingest\"\npublishers = 4\nwindow = 256\nsize = 16\n",
                "ingest",
            ),
            ("scenario = \"connect\"\nrate = 100\n", "connect"),
            ("scenario = \"idle\"\nconnections = 10\n", "idle"),
        ] {
            assert_eq!(plan(text, &[]).unwrap().scenario.as_str(), name);
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let text = "scenario = \"echo\"\nrate = 100\nsize = 64\n";
        assert_eq!(plan(text, &["--size", "32"]).unwrap().size, 32);
        assert_eq!(plan(text, &["--window=4"]).unwrap().load, Load::Window(4));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_the_nearest_name() {
        for (text, words) in [
            (
                "scenario = \"fanout\"\n\nsubscriber = 1\n",
                "line 3: unknown key \"subscriber\" in scenario fanout; did you mean \"subscribers\"?",
            ),
            (
                "# x\nscenario = \"fan-out\"\n",
                "line 2: unknown scenario \"fan-out\"; did you mean \"fanout\"?",
            ),
            ("scenario = \"x\"\n", "there are fanout, fanin, many-topics"),
            ("scenario = \"idle\"\nsize = 5\n", "line 2: unknown key \"size\""),
            ("scenario = \"echo\"\nsize = \"big\"\n", "line 2: invalid value 'big'"),
            (
                "scenario = \"echo\"\njson = \"yes\"\n",
                "line 2: unexpected value 'yes'",
            ),
            ("scenario = \"echo\"\nwindow = 1\nrate = 2\n", "cannot be used with"),
            ("scenario = 7\n", "line 1: the scenario is a name"),
        ] {
            let error = plan(text, &[]).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
