//! Identifiers of namespaces as they are written down: hexadecimal digits.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An identifier of `N` bytes: two hexadecimal digits each, `-`, `:` and `.` between them at will. Written
/// without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identifier<const N: usize>(pub [u8; N]);

impl<const N: usize> FromStr for Identifier<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no identifier of {N} bytes: {} hexadecimal digits are needed, and not all of them zero",
                text.escape_default(),
                2 * N
            )
        };
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|character| !matches!(character, '-' | ':' | '.'))
            .map(|character| character.to_digit(16).map(|digit| digit as u8))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 2 * N);
        let digits = digits.ok_or_else(wrong)?;
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair.iter().fold(0, |high, digit| high << 4 | digit);
        }
        // All-zeroes says "none" to a guest.
        if bytes == [0; N] {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> fmt::Display for Identifier<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl<const N: usize> Serialize for Identifier<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Identifier<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_in_every_usual_spelling() {
        let eui = Identifier([0x02, 0x11, 0, 0, 0, 0, 0xAB, 0xCD]);
        for text in [
            "021100000000abcd",
            "02-11-00-00-00-00-AB-CD",
            "0211.0000.0000.abcd",
        ] {
            assert_eq!(text.parse(), Ok(eui), "{text}");
        }
        assert_eq!(eui.to_string(), "021100000000abcd");
        for text in [
            "",
            "02110000",
            "021100000000abcg",
            "0000000000000000",
            "021100000000abcd00",
        ] {
            let refused = Identifier::<8>::from_str(text).unwrap_err();
            assert!(refused.contains("16 hexadecimal digits"), "{refused}");
        }
    }
}
