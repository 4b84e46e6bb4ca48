//! A list of devices for each device, all in one piece of memory: a graph's edges without an allocation a
//! device.

use std::ops::Index;

/// Lists, numbered from 0 as they were added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// Where each list ends, behind a zero: where the first begins.
    ends: Vec<usize>,
    items: Vec<usize>,
}

impl Default for Lists {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl Lists {
    /// No lists, with room for so many.
    pub fn with_capacity(lists: usize, items: usize) -> Self {
        let mut ends = Vec::with_capacity(lists + 1);
        ends.push(0);
        Self {
            ends,
            items: Vec::with_capacity(items),
        }
    }

    /// So many empty lists.
    pub fn empty(lists: usize) -> Self {
        Self {
            ends: vec![0; lists + 1],
            items: Vec::new(),
        }
    }

    /// `lists` lists: each pair of a list and an item puts the item at the list's end. The pairs are gone
    /// through twice, and must be the same both times.
    pub fn from_pairs<P>(lists: usize, pairs: impl Fn() -> P) -> Self
    where
        P: Iterator<Item = (usize, usize)>,
    {
        // Two places further than a list's own: filling moves each begin to the list's end.
        let mut ends = vec![0; lists + 2];
        for (list, _) in pairs() {
            ends[list + 2] += 1;
        }
        for list in 2..ends.len() {
            ends[list] += ends[list - 1];
        }
        let mut items = vec![0; ends[lists + 1]];
        for (list, item) in pairs() {
            items[ends[list + 1]] = item;
            ends[list + 1] += 1;
        }
        ends.pop();
        Self { ends, items }
    }

    /// Adds a list.
    pub fn push(&mut self, list: impl IntoIterator<Item = usize>) {
        self.items.extend(list);
        self.ends.push(self.items.len());
    }

    /// Puts an item at the end of a list. Takes as long as all later lists are.
    pub fn push_to(&mut self, list: usize, item: usize) {
        self.items.insert(self.ends[list + 1], item);
        for end in &mut self.ends[list + 1..] {
            *end += 1;
        }
    }

    /// How many lists there are.
    pub fn count(&self) -> usize {
        self.ends.len() - 1
    }

    /// The item of a list at `position`, if the list is so long.
    pub fn get(&self, list: usize, position: usize) -> Option<usize> {
        self[list].get(position).copied()
    }

    /// All lists.
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        (0..self.count()).map(|list| &self[list])
    }
}

impl Index<usize> for Lists {
    type Output = [usize];

    fn index(&self, list: usize) -> &[usize] {
        &self.items[self.ends[list]..self.ends[list + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::Lists;

    #[test]
    fn pairs_are_gathered_in_their_order() {
        let pairs = [(2, 7), (0, 1), (2, 5), (0, 3)];
        let lists = Lists::from_pairs(3, || pairs.into_iter());
        assert_eq!(
            lists.iter().collect::<Vec<_>>(),
            [&[1, 3][..], &[], &[7, 5]]
        );
        assert_eq!(Lists::from_pairs(0, || [].into_iter()), Lists::default());
    }

    #[test]
    fn a_list_in_the_middle_can_grow() {
        let mut lists = Lists::default();
        lists.push([1]);
        lists.push([]);
        lists.push([2, 3]);
        lists.push_to(1, 9);
        lists.push_to(2, 4);
        assert_eq!(
            lists.iter().collect::<Vec<_>>(),
            [&[1][..], &[9], &[2, 3, 4]]
        );
        assert_eq!((lists.get(2, 2), lists.get(2, 3)), (Some(4), None));
    }
}
