//! Names with numbers in them: `p{0..15}` is sixteen names, `{}` the number of a repeat around it.

/// The longest name of a device, in bytes.
const LONGEST: usize = 64;

/// A name, or as many as its range has numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The number of a repeat around.
    Number,
    /// The name's own repeat, both ends included.
    Range(u32, u32),
}

impl Name {
    /// Reads a name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "`{}` is no name; letters, digits, `-`, `_`, `.`, one range `{{0..15}}` and `{{}}` for the number of a \
                 repeat around are allowed",
                text.escape_debug()
            )
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, braced) = match rest.split_once('{') {
                Some((plain, behind)) => {
                    let (braced, behind) = behind.split_once('}').ok_or_else(refused)?;
                    rest = behind;
                    (plain, Some(braced))
                }
                None => (std::mem::take(&mut rest), None),
            };
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !plain.chars().all(allowed) {
                return Err(refused());
            }
            if !plain.is_empty() {
                parts.push(Part::Text(plain.to_owned()));
            }
            match braced {
                None => {}
                Some("") => parts.push(Part::Number),
                Some(range) => parts.push(parse_range(range).ok_or_else(refused)?),
            }
        }
        let ranges = parts.iter().filter(|part| matches!(part, Part::Range(..)));
        if parts.is_empty() || ranges.count() > 1 {
            return Err(refused());
        }
        Ok(Self { parts })
    }

    /// The numbers of its own repeat, both ends included; none if it is not repeated.
    pub(super) fn range(&self) -> Option<(u32, u32)> {
        self.parts.iter().find_map(|part| match part {
            Part::Range(first, last) => Some((*first, *last)),
            _ => None,
        })
    }

    /// How many repeats around it names.
    fn asks_for(&self) -> usize {
        let numbers = self.parts.iter().filter(|part| **part == Part::Number);
        numbers.count()
    }

    /// The name with its numbers: `own` of its own repeat, and of those around it, outermost first, as many
    /// as it asks for from the innermost on.
    pub(super) fn fill(&self, around: &[u32], own: Option<u32>) -> Result<String, String> {
        let first = around.len().checked_sub(self.asks_for()).ok_or_else(|| {
            format!(
                "{} times `{{}}` in a name that has {} repeats around it; a repeat is a range such as `p{{0..15}}`",
                self.asks_for(),
                around.len()
            )
        })?;
        let mut around = around[first..].iter();
        let mut text = String::new();
        for part in &self.parts {
            let number = match part {
                Part::Text(plain) => {
                    text += plain;
                    None
                }
                Part::Number => around.next().copied(),
                Part::Range(..) => own,
            };
            if let Some(number) = number {
                text += &number.to_string();
            }
            if text.len() > LONGEST {
                return Err(format!(
                    "a name of more than {LONGEST} bytes; so many are allowed"
                ));
            }
        }
        Ok(text)
    }

    /// The numbers of its repeat, each of them; once none if it is not repeated.
    pub(super) fn numbers(&self) -> impl Iterator<Item = Option<u32>> + use<> {
        let range = self.range();
        let (first, last) = range.unwrap_or((0, 0));
        (first..=last).map(move |number| range.map(|_| number))
    }

    /// The names that it stands for outside of any repeat, or why it cannot stand there.
    pub(super) fn all(&self) -> impl Iterator<Item = Result<String, String>> + '_ {
        self.numbers().map(|number| self.fill(&[], number))
    }
}

fn parse_range(text: &str) -> Option<Part> {
    let (first, last) = text.split_once("..")?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(Part::Range(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<String>, String> {
        Name::parse(text)?.all().collect()
    }

    #[test]
    fn a_range_is_as_many_names_as_it_has_numbers() {
        assert_eq!(
            all("p{8..11}-x").unwrap(),
            ["p8-x", "p9-x", "p10-x", "p11-x"]
        );
        assert_eq!(all("plain.1_a").unwrap(), ["plain.1_a"]);
    }

    #[test]
    fn numbers_around_are_filled_in_from_the_innermost_on() {
        let name = Name::parse("s{}d{}n{0..1}").unwrap();
        assert_eq!(name.fill(&[7, 3, 5], Some(1)).unwrap(), "s3d5n1");
        assert!(
            name.fill(&[5], Some(1))
                .unwrap_err()
                .contains("1 repeats around")
        );
    }

    #[test]
    fn what_is_no_name_is_told_with_what_is_one() {
        for text in [
            "",
            "a b",
            "p{",
            "p{}}",
            "p{1}",
            "p{2..1}",
            "p{0..}",
            "p{-1..2}",
            "p{0..1}{0..1}",
            "é",
            "p{0..99999999999}",
        ] {
            let message = Name::parse(text).unwrap_err();
            assert!(message.contains("are allowed"), "{text}: {message}");
        }
        assert!(all(&"x".repeat(65)).unwrap_err().contains("64 bytes"));
    }
}
