//! One line of a topology file.

use std::time::Duration;

use super::amount::device_time;
use super::expect::Expectation;
use super::name::Name;
use crate::device_manager::teardown::Cost;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Workers(u16),
    Device(DeviceLine),
    Link(LinkLine),
    List(Vec<Name>),
    Expect(Expectation),
}

/// A device, or as many as its name has numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceLine {
    pub name: Name,
    pub asynchronous: bool,
    pub cost: Cost,
    /// Whether it is shut down with its parent locked.
    pub lock: bool,
    /// Whether its probe is deferred.
    pub deferred: bool,
    /// None as in the kernel.
    pub deadline: Option<Duration>,
}

/// A link, or as many as its names have numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkLine {
    pub consumer: Name,
    pub supplier: Name,
    pub sync_state_only: bool,
}

impl LinkLine {
    /// Each consumer with its supplier. `{}` in one name is the number of the other; two ranges are every
    /// pair.
    pub(super) fn pairs(&self) -> impl Iterator<Item = Result<(String, String), String>> + '_ {
        self.consumer.numbers().flat_map(move |consumer| {
            self.supplier.numbers().map(move |supplier| {
                let names = (
                    self.consumer.fill(supplier.as_slice(), consumer)?,
                    self.supplier.fill(consumer.as_slice(), supplier)?,
                );
                Ok(names)
            })
        })
    }
}

impl Statement {
    /// Reads a line without indentation and comment, which has at least one word.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        match first {
            "workers" => workers(&rest),
            "link" => link(&rest),
            "list" => list(&rest),
            "expect" => Expectation::parse(&rest).map(Self::Expect),
            name => device(name, &rest),
        }
    }
}

fn workers(rest: &[&str]) -> Result<Statement, String> {
    let number = match rest {
        [number] => number.parse().ok(),
        _ => None,
    };
    match number {
        Some(workers @ 1..=1024) => Ok(Statement::Workers(workers)),
        _ => Err(format!(
            "`workers {}`: `workers N` with N from 1 to 1024 is allowed",
            rest.join(" ")
        )),
    }
}

fn link(rest: &[&str]) -> Result<Statement, String> {
    let (consumer, supplier, sync_state_only) = match rest {
        [consumer, "->", supplier] => (consumer, supplier, false),
        [consumer, "->", supplier, "sync-state-only"] => (consumer, supplier, true),
        _ => {
            return Err(format!(
                "`link {}`: `link CONSUMER -> SUPPLIER` is allowed, and `sync-state-only` behind it",
                rest.join(" ")
            ));
        }
    };
    Ok(Statement::Link(LinkLine {
        consumer: Name::parse(consumer)?,
        supplier: Name::parse(supplier)?,
        sync_state_only,
    }))
}

fn list(rest: &[&str]) -> Result<Statement, String> {
    if rest.is_empty() {
        return Err("`list` names no device; name them, head of the list first".to_owned());
    }
    let names = rest.iter().map(|name| Name::parse(name));
    names.collect::<Result<_, _>>().map(Statement::List)
}

fn device(name: &str, rest: &[&str]) -> Result<Statement, String> {
    let allowed = "`NAME async` or `NAME sync` is allowed, then a time such as `4.5s`, `work`, `lock`, `deferred`, \
                   `deadline TIME`; or a line that begins with `workers`, `link`, `list`, `expect`";
    let name = Name::parse(name)?;
    let (asynchronous, rest) = match rest {
        ["async", rest @ ..] => (true, rest),
        ["sync", rest @ ..] => (false, rest),
        [other, ..] => {
            return Err(format!(
                "`{other}` in place of `async` or `sync`: {allowed}"
            ));
        }
        [] => return Err(format!("neither `async` nor `sync`: {allowed}")),
    };
    let (mut time, mut deadline) = (None, None);
    let (mut work, mut lock, mut deferred) = (false, false, false);
    let mut rest = rest.iter();
    while let Some(&word) = rest.next() {
        let twice = match word {
            "work" => std::mem::replace(&mut work, true),
            "lock" => std::mem::replace(&mut lock, true),
            "deferred" => std::mem::replace(&mut deferred, true),
            "deadline" => {
                let by = rest
                    .next()
                    .ok_or("`deadline` without a time; `deadline 30s` has one")?;
                deadline.replace(device_time(by)?).is_some()
            }
            amount if amount.starts_with(|c: char| c.is_ascii_digit()) => {
                time.replace(device_time(amount)?).is_some()
            }
            other => return Err(format!("`{other}` is not known here: {allowed}")),
        };
        if twice {
            return Err(format!("`{word}` is given twice: {allowed}"));
        }
    }
    let time = time.unwrap_or_default();
    Ok(Statement::Device(DeviceLine {
        name,
        asynchronous,
        cost: if work {
            Cost::work(time)
        } else {
            Cost::latency(time)
        },
        lock,
        deferred,
        deadline,
    }))
}
