//! Tables of text.

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a head.
#[derive(Debug)]
pub struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(head: &[(&'static str, Align)]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with as many cells as the head has.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text; of an empty table, the head.
    pub fn draw(&self) -> String {
        let head: Vec<String> = self
            .head
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let lines = || std::iter::once(&head).chain(&self.rows);
        let width = |column: usize| {
            lines()
                .filter_map(|cells| cells.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..head.len()).map(width).collect();
        let mut text = String::new();
        for cells in lines() {
            let mut line = String::new();
            for ((cell, (_, align)), width) in cells.iter().zip(&self.head).zip(&widths) {
                let padding = " ".repeat(width - cell.chars().count());
                let gap = if line.is_empty() { "" } else { "  " };
                line += gap;
                line += &match align {
                    Align::Left => format!("{cell}{padding}"),
                    Align::Right => format!("{padding}{cell}"),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[
            ("ID", Align::Left),
            ("MS", Align::Right),
            ("END", Align::Left),
        ]);
        table.row(vec!["é-drive".into(), "1.5".into(), "x".into()]);
        table.row(vec!["d".into(), "500.0".into(), String::new()]);
        assert_eq!(
            table.draw(),
            "ID          MS  END\né-drive    1.5  x\nd        500.0\n"
        );
    }
}
