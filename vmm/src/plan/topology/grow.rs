//! From the lines of a topology file to its devices: every repeat becomes as many as it has numbers, each
//! with what is behind it before the next, in the order in which they stand.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::statement::DeviceLine;
use super::{MOST_DEVICES, MOST_MOVES, TopologyError};
use crate::device_manager::teardown::{Cost, Node};

/// A line that makes devices.
pub(super) struct Template {
    pub line: usize,
    pub device: DeviceLine,
    /// Whether it is behind no other.
    pub root: bool,
    /// The lines behind it.
    pub children: Vec<usize>,
}

/// The devices.
#[derive(Default)]
pub(super) struct Grown {
    pub nodes: Vec<Node>,
    pub costs: Vec<Cost>,
    pub deferred: Vec<usize>,
    pub numbers: HashMap<String, usize>,
}

/// A line that is being repeated.
struct Repeat {
    template: usize,
    parent: Option<usize>,
    /// The number of the next, and of the last; none of either if the line is not repeated.
    left: Option<(u32, u32)>,
    /// The numbers of the repeats around it, outermost first.
    around: Rc<[u32]>,
}

/// Makes the devices.
pub(super) fn grow(templates: &[Template]) -> Result<Grown, TopologyError> {
    let mut grown = Grown::default();
    let begin = |template: usize, parent: Option<usize>, around: &Rc<[u32]>| Repeat {
        template,
        parent,
        left: templates[template].device.name.range(),
        around: Rc::clone(around),
    };
    let outermost: Rc<[u32]> = Rc::new([]);
    // Next last.
    let mut pile: Vec<Repeat> = (0..templates.len())
        .rev()
        .filter(|&template| templates[template].root)
        .map(|template| begin(template, None, &outermost))
        .collect();
    while let Some(mut repeat) = pile.pop() {
        let template = &templates[repeat.template];
        let own = repeat.left.map(|(next, _)| next);
        let device = grown.add(template, repeat.parent, &repeat.around, own)?;
        let around = match own {
            Some(own) => repeat.around.iter().copied().chain([own]).collect(),
            None => Rc::clone(&repeat.around),
        };
        if let Some((next, last)) = repeat.left
            && next < last
        {
            repeat.left = Some((next + 1, last));
            pile.push(repeat);
        }
        let children = template.children.iter().rev();
        pile.extend(children.map(|&child| begin(child, Some(device), &around)));
    }
    Ok(grown)
}

impl Grown {
    fn add(
        &mut self,
        template: &Template,
        parent: Option<usize>,
        around: &[u32],
        own: Option<u32>,
    ) -> Result<usize, TopologyError> {
        let failed = |message: String| TopologyError::new(template.line, message);
        let number = self.nodes.len();
        if number == MOST_DEVICES {
            return Err(failed(format!(
                "more than {MOST_DEVICES} devices; so many are allowed"
            )));
        }
        let line = &template.device;
        let id = line.name.fill(around, own).map_err(failed)?;
        if self.numbers.insert(id.clone(), number).is_some() {
            return Err(failed(format!(
                "there is a device `{id}` already; `{{}}` in a name is the number of the repeat around it"
            )));
        }
        if line.deferred {
            if self.deferred.len() == MOST_MOVES {
                return Err(failed(format!(
                    "more than {MOST_MOVES} deferred probes; so many are allowed"
                )));
            }
            self.deferred.push(number);
        }
        self.costs.push(line.cost);
        self.nodes.push(Node {
            parent,
            asynchronous: line.asynchronous,
            parent_lock: line.lock,
            // A latency holds no worker.
            blocking: !line.cost.work.is_zero(),
            deadline: line.deadline.unwrap_or(Duration::MAX),
            ..Node::new(id, "device")
        });
        Ok(number)
    }
}
