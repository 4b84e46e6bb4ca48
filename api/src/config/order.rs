//! Whether the tree and the links leave an order in which every device can be shut down: a child before
//! its parent, a consumer before its supplier. And whether a list that is given has every device.

use std::collections::HashMap;

use super::tree::Place;
use super::{ConfigError, RESERVED_IDS, VmConfig};
use crate::error::ErrorCode;

/// Checks the list order, the links, and that they and the tree together have no cycle.
pub(super) fn validate(config: &VmConfig, places: &[Place<'_>]) -> Result<(), ConfigError> {
    let numbers: HashMap<&str, usize> = places
        .iter()
        .enumerate()
        .map(|(at, place)| (place.device.id(), at))
        .collect();
    validate_list(config, places, &numbers)?;
    // The devices that must be shut down later than each.
    let mut later: Vec<Vec<usize>> = vec![Vec::new(); places.len()];
    for (at, place) in places.iter().enumerate() {
        let parent = place.parent.and_then(|parent| numbers.get(parent.id()));
        later[at].extend(parent);
    }
    for (at, link) in config.links.iter().enumerate() {
        let device = |role: &str, id: &str| {
            numbers.get(id).copied().ok_or_else(|| ConfigError {
                code: ErrorCode::UnknownId,
                message: format!("links[{at}]: the {role} `{id}` is no device of `pci`"),
                field: Some(format!("links[{at}].{role}")),
                device: Some(id.to_owned()),
            })
        };
        let (consumer, supplier) = (
            device("consumer", &link.consumer)?,
            device("supplier", &link.supplier)?,
        );
        if consumer == supplier {
            return Err(ConfigError {
                code: ErrorCode::SelfLink,
                message: format!(
                    "links[{at}]: device `{}` is linked to itself; remove the link",
                    link.consumer
                ),
                field: Some(format!("links[{at}]")),
                device: Some(link.consumer.clone()),
            });
        }
        if !link.sync_state_only {
            later[consumer].push(supplier);
        }
    }
    match find_cycle(&later) {
        None => Ok(()),
        Some(cycle) => {
            let names: Vec<_> = cycle
                .iter()
                .map(|at| format!("`{}`", places[*at].device.id()))
                .collect();
            Err(ConfigError {
                code: ErrorCode::Cycle,
                message: format!(
                    "no order to shut the devices down in: {} before {} (a child before its parent, a consumer before \
                     its supplier); remove one of the links",
                    names.join(" before "),
                    names[0]
                ),
                field: Some("links".to_owned()),
                device: Some(places[cycle[0]].device.id().to_owned()),
            })
        }
    }
}

/// Checks that `teardown.order` names every device exactly once.
fn validate_list(
    config: &VmConfig,
    places: &[Place<'_>],
    numbers: &HashMap<&str, usize>,
) -> Result<(), ConfigError> {
    let Some(order) = &config.teardown.order else {
        return Ok(());
    };
    let refused = |code, at: Option<usize>, id: &str, message| ConfigError {
        code,
        message,
        field: Some(at.map_or("teardown.order".to_owned(), |at| {
            format!("teardown.order[{at}]")
        })),
        device: Some(id.to_owned()),
    };
    let mut named = vec![None; places.len()];
    for (at, id) in order.iter().enumerate() {
        let Some(&number) = numbers.get(id.as_str()) else {
            let hint = if RESERVED_IDS.contains(&id.as_str()) {
                "; the devices that every machine has follow the list by themselves"
            } else {
                ""
            };
            let message = format!("teardown.order[{at}]: `{id}` is no device of `pci`{hint}");
            return Err(refused(ErrorCode::UnknownId, Some(at), id, message));
        };
        if let Some(before) = named[number].replace(at) {
            let message = format!(
                "teardown.order[{at}]: `{id}` stands at [{before}] already; name every device once"
            );
            return Err(refused(ErrorCode::BadOrder, Some(at), id, message));
        }
    }
    match named.iter().position(Option::is_none) {
        None => Ok(()),
        Some(number) => {
            let id = places[number].device.id();
            let message = format!(
                "teardown.order: `{id}` is missing; name every device of `pci`, or leave the field out"
            );
            Err(refused(ErrorCode::BadOrder, None, id, message))
        }
    }
}

/// The nodes of a cycle, each before the next and the last before the first; none if there is no cycle.
fn find_cycle(later: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnPath,
        Done,
    }
    let mut marks = vec![Mark::New; later.len()];
    for start in 0..later.len() {
        // The path from `start`, each node with the number of its edges that were followed.
        let mut path = vec![(start, 0)];
        while let Some((node, followed)) = path.last_mut() {
            let node = *node;
            if *followed == 0 && marks[node] == Mark::Done {
                path.pop();
                continue;
            }
            marks[node] = Mark::OnPath;
            let Some(next) = later[node].get(*followed).copied() else {
                marks[node] = Mark::Done;
                path.pop();
                continue;
            };
            *followed += 1;
            if marks[next] == Mark::OnPath {
                let cycle = path
                    .iter()
                    .map(|(node, _)| *node)
                    .skip_while(|node| *node != next);
                return Some(cycle.collect());
            }
            path.push((next, 0));
        }
    }
    None
}
