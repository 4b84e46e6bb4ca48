//! The topology file: devices, their latencies and what is expected of them, in a small text that needs no
//! machine. docs/topology.md describes it.

mod amount;
mod expect;
mod grow;
mod name;
mod statement;

pub use expect::{Checked, Expectation, Figure};

use std::collections::HashMap;

use super::Model;
use crate::device_manager::list::{ListedLink, Listing};
use crate::device_manager::teardown::GraphError;
use grow::{Grown, Template};
use name::Name;
use statement::{DeviceLine, LinkLine, Statement};

/// The most devices that a file may make.
pub const MOST_DEVICES: usize = 100_000;
/// The most links and deferred probes that a file may make: each may move the whole list.
pub const MOST_MOVES: usize = 10_000;
/// The most places in the list that links and deferred probes may move: devices times moves.
pub const MOST_MOVED: usize = 100_000_000;
/// How deep the tree may be.
pub const DEEPEST: usize = 256;
/// The workers of a file that names none: those of a configuration that names none.
const WORKERS: u16 = 64;

/// Why a topology file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TopologyError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, and what is allowed.
    pub message: String,
}

impl TopologyError {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
        }
    }
}

/// What a topology file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Its devices, with what they take.
    pub model: Model,
    /// What is expected of them.
    pub expectations: Vec<Expectation>,
}

impl Topology {
    /// Reads a topology file.
    ///
    /// # Errors
    /// The first line that is wrong, why, and what is allowed there.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        let mut draft = Draft::default();
        for (at, line) in text.lines().enumerate() {
            draft.take(at + 1, line)?;
        }
        draft.finish()
    }
}

/// What has been read of a file.
#[derive(Default)]
struct Draft {
    templates: Vec<Template>,
    /// The templates that the next line may be behind, with their indentation.
    open: Vec<(usize, usize)>,
    workers: Option<u16>,
    links: Vec<(usize, LinkLine)>,
    list: Vec<(usize, Name)>,
    expectations: Vec<Expectation>,
}

impl Draft {
    fn take(&mut self, number: usize, line: &str) -> Result<(), TopologyError> {
        let failed = |message| TopologyError::new(number, message);
        let line = line.split('#').next().unwrap_or_default().trim_end();
        if line.is_empty() {
            return Ok(());
        }
        if line.contains('\t') {
            let message = "a tab, whose width is anybody's guess; indent and separate with spaces";
            return Err(failed(message.to_owned()));
        }
        let words = line.trim_start();
        let indent = line.len() - words.len();
        let statement = Statement::parse(words).map_err(failed)?;
        if let Statement::Device(device) = statement {
            return self.device(number, indent, device);
        }
        if indent > 0 {
            let word = words.split(' ').next().unwrap_or_default();
            return Err(failed(format!(
                "`{word}` stands at the begin of its line; only devices are indented"
            )));
        }
        match statement {
            Statement::Workers(workers) => {
                if self.workers.replace(workers).is_some() {
                    return Err(failed("`workers` is given already".to_owned()));
                }
            }
            Statement::Link(link) => self.links.push((number, link)),
            Statement::List(names) => self
                .list
                .extend(names.into_iter().map(|name| (number, name))),
            Statement::Expect(mut expectation) => {
                expectation.line = number;
                self.expectations.push(expectation);
            }
            Statement::Device(_) => {}
        }
        Ok(())
    }

    fn device(
        &mut self,
        line: usize,
        indent: usize,
        device: DeviceLine,
    ) -> Result<(), TopologyError> {
        let mut closed = None;
        while let Some(&(open, _)) = self.open.last()
            && open >= indent
        {
            closed = Some(open);
            self.open.pop();
        }
        let orphan = self.open.is_empty() && indent > 0 && closed.is_none();
        if orphan || closed.is_some_and(|closed| closed != indent) {
            return Err(TopologyError::new(
                line,
                format!(
                    "{indent} spaces lead to no device above; indent as the devices beside it, or further than \
                     the one that it is behind"
                ),
            ));
        }
        if self.open.len() == DEEPEST {
            return Err(TopologyError::new(
                line,
                format!("the tree is deeper than {DEEPEST} levels, which are allowed"),
            ));
        }
        let parent = self.open.last().map(|&(_, template)| template);
        if device.lock && parent.is_none() {
            return Err(TopologyError::new(
                line,
                "`lock` is the parent's, and this device is behind none; indent it under one",
            ));
        }
        let template = self.templates.len();
        if let Some(parent) = parent {
            self.templates[parent].children.push(template);
        }
        self.open.push((indent, template));
        self.templates.push(Template {
            line,
            device,
            root: parent.is_none(),
            children: Vec::new(),
        });
        Ok(())
    }

    fn finish(self) -> Result<Topology, TopologyError> {
        let Grown {
            nodes,
            costs,
            deferred,
            numbers,
        } = grow::grow(&self.templates)?;
        let mut listing = Listing {
            nodes,
            deferred,
            ..Listing::default()
        };
        let mut lines = Vec::new();
        for (line, link) in &self.links {
            for pair in link.pairs() {
                let (consumer, supplier) = pair.map_err(|why| TopologyError::new(*line, why))?;
                if lines.len() + listing.deferred.len() >= MOST_MOVES {
                    let message = format!(
                        "more than {MOST_MOVES} links and deferred probes; so many are allowed"
                    );
                    return Err(TopologyError::new(*line, message));
                }
                listing.links.push(ListedLink {
                    consumer: find(&numbers, *line, &consumer)?,
                    supplier: find(&numbers, *line, &supplier)?,
                    sync_state_only: link.sync_state_only,
                });
                lines.push(*line);
            }
        }
        let moves = listing.links.len() + listing.deferred.len();
        if moves * listing.nodes.len() > MOST_MOVED {
            let message = format!(
                "{moves} links and deferred probes among {} devices; the product of the two may be {MOST_MOVED}",
                listing.nodes.len()
            );
            let last = self.links.last().map_or(1, |(line, _)| *line);
            return Err(TopologyError::new(last, message));
        }
        listing.order = order(&self.list, &numbers, &listing)?;
        listing
            .graph()
            .map_err(|error| refused(&error, &listing, &lines))?;
        Ok(Topology {
            model: Model {
                listing,
                costs,
                workers: self.workers.unwrap_or(WORKERS),
                assumptions: Vec::new(),
            },
            expectations: self.expectations,
        })
    }
}

fn find(numbers: &HashMap<String, usize>, line: usize, id: &str) -> Result<usize, TopologyError> {
    numbers.get(id).copied().ok_or_else(|| {
        TopologyError::new(
            line,
            format!(
                "`{id}` is no device of this file; name one, with its number if it is repeated"
            ),
        )
    })
}

/// The list as it is given, if it is.
fn order(
    list: &[(usize, Name)],
    numbers: &HashMap<String, usize>,
    listing: &Listing,
) -> Result<Option<Vec<usize>>, TopologyError> {
    let Some(&(last, _)) = list.last() else {
        return Ok(None);
    };
    let mut named = vec![false; listing.nodes.len()];
    let mut order = Vec::new();
    for (line, name) in list {
        for id in name.all() {
            let id = id.map_err(|why| TopologyError::new(*line, why))?;
            let device = find(numbers, *line, &id)?;
            if std::mem::replace(&mut named[device], true) {
                let message = format!("`{id}` is in the list twice; name each device once");
                return Err(TopologyError::new(*line, message));
            }
            order.push(device);
        }
    }
    match named.iter().position(|&named| !named) {
        None => Ok(Some(order)),
        Some(missing) => Err(TopologyError::new(
            last,
            format!(
                "the list has {} of the {} devices, and lacks `{}`; name each device once",
                order.len(),
                named.len(),
                listing.nodes[missing].id
            ),
        )),
    }
}

/// Which link it was that the graph refused.
fn refused(error: &GraphError, listing: &Listing, lines: &[usize]) -> TopologyError {
    let line = match error {
        GraphError::Cycle {
            consumer, supplier, ..
        } => {
            let id = |device: usize| &listing.nodes[device].id;
            let links = listing.links.iter().zip(lines);
            links
                .filter(|(link, _)| !link.sync_state_only)
                .find(|(link, _)| id(link.consumer) == consumer && id(link.supplier) == supplier)
                .map(|(_, line)| *line)
        }
        _ => None,
    };
    TopologyError::new(
        line.unwrap_or(1),
        format!("{error}; remove a link, or make it `sync-state-only`"),
    )
}

#[cfg(test)]
mod tests;
