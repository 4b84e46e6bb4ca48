//! `sundownctl`, the command-line client of `sundown`: a command a call, tables for people, the server's
//! JSON unchanged for machines.

mod behaviour;
mod check;
mod command;
mod devices;
mod measure;
mod picture;
mod plan;
mod show;
mod table;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use api::client::{Client, ClientError};
use clap::Parser;

use command::{Arguments, Call, Command};

/// The server refused the call, or could not be asked.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    // A usage error ends the process here, with exit code 2.
    let arguments = Arguments::parse();
    let json = arguments.json;
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, json);
            ExitCode::from(FAILED)
        }
    }
}

/// Does what is asked for. Returns the exit code.
fn run(arguments: Arguments) -> anyhow::Result<u8> {
    // Not every command needs one.
    let client = arguments.client();
    let Arguments { json, command, .. } = arguments;
    match command {
        Command::Check { reports } => check::run(&reports, json, &mut io::stdout().lock()),
        Command::Page { reports, output } => picture::page_of(&reports, &output).map(|()| 0),
        Command::Trace { reports, output } => picture::trace_of(&reports, &output).map(|()| 0),
        Command::Measure(measure) => measure.run(client.ok(), json, &mut io::stdout().lock()),
        command => ask(client, command, json).map(|()| 0),
    }
}

/// Asks a running machine, or for a plan.
fn ask(client: anyhow::Result<Client>, command: Command, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let command = match command {
        Command::Plan(plan) => return plan.run(client, json, &mut out),
        command => command,
    };
    let client = client?;
    match command {
        Command::Events { since, follow } => {
            return events(&client, since, follow, json, &mut out);
        }
        Command::Teardown { number, drawings } if !drawings.is_empty() => {
            return picture::one(&client, number, &drawings);
        }
        Command::Teardowns { drawings } if !drawings.is_empty() => {
            return picture::all(&client, &drawings);
        }
        _ => {}
    }
    let Call { method, path, body } = command.into_call()?;
    let answer = client.call(method, &path, body)?;
    if json {
        out.write_all(&answer)?;
        if !answer.is_empty() && !answer.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
    } else if !answer.is_empty() {
        out.write_all(show::answer(&path, &answer)?.as_bytes())?;
    }
    out.flush().context("writing to standard output")
}

fn events(
    client: &Client,
    since: Option<u64>,
    follow: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    // Without following, only what is kept can be seen.
    let since = since.or((!follow).then_some(0));
    for line in client.event_lines(since, follow)? {
        let line = line?;
        let line = if json { line } else { show::event(&line)? };
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}

/// Whether whoever reads the output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn report(error: &anyhow::Error, json: bool) {
    let refused = error
        .downcast_ref::<ClientError>()
        .and_then(ClientError::api);
    if json && let Some(refused) = refused {
        match serde_json::to_string(refused) {
            Ok(text) => eprintln!("{text}"),
            Err(_) => eprintln!("sundownctl: {error}"),
        }
        return;
    }
    eprintln!("sundownctl: {error}");
    let sources = error.chain().skip(1).map(ToString::to_string);
    let causes = refused
        .map(|refused| refused.causes.clone())
        .unwrap_or_default();
    for cause in sources.chain(causes) {
        eprintln!("  because: {cause}");
    }
    if let Some(refused) = refused {
        for (what, name) in [("device", &refused.device), ("field", &refused.field)] {
            if let Some(name) = name {
                eprintln!("  {what}: {name}");
            }
        }
    }
}
