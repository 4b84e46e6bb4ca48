//! The system tests: each scenario is a test. All that are selected run in a few lab hosts, or on this
//! machine where its own KVM runs Linux; what each came to is then reported under its name.

use std::process::ExitCode;

use lab::scenarios::all;
use lab::scenarios::result::Outcome;
use lab::{suite, workspace};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let names: Vec<_> = all()
        .iter()
        .map(|scenario| scenario.name.to_owned())
        .filter(|name| is_selected(&arguments, name))
        .collect();
    if arguments.list || arguments.ignored || names.is_empty() {
        let trials = all()
            .iter()
            .map(|scenario| Trial::test(scenario.name, || Ok(())))
            .collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let output = workspace::target().join("system-tests");
    println!(
        "running {} scenarios; logs and reports: {}",
        names.len(),
        output.display()
    );
    let outcomes = suite::run(&names, &output).map_err(|error| format!("{error:#}"));
    let trials = names
        .into_iter()
        .map(|name| {
            let result = result_of(&name, &outcomes);
            Trial::test(name, move || result.map_err(Failed::from))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The rule of libtest, which libtest-mimic does not show: it is needed before anything runs.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |filter: &String| {
        if arguments.exact {
            name == filter
        } else {
            name.contains(filter.as_str())
        }
    };
    arguments.filter.iter().all(matches) && !arguments.skip.iter().any(matches)
}

fn result_of(name: &str, outcomes: &Result<Vec<Outcome>, String>) -> Result<(), String> {
    let outcomes = outcomes
        .as_ref()
        .map_err(|error| format!("no scenario could be run: {error}"))?;
    match outcomes.iter().find(|outcome| outcome.name == name) {
        Some(Outcome { error: None, .. }) => Ok(()),
        Some(Outcome {
            error: Some(error), ..
        }) => Err(error.clone()),
        None => Err("the scenario has left no result".to_owned()),
    }
}
