//! What a machine's guest, QEMU and the drives' processes said.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::drive::Drive;
use crate::machine::end_of;

/// A machine's console, and what shows why a test failed.
pub struct Console {
    text: String,
    qemu: String,
    console: PathBuf,
    drives: String,
}

impl Console {
    /// Reads what was said so far.
    pub fn read(console: &Path, qemu: &Path, drives: &[&Drive]) -> Self {
        Self {
            text: Self::text_of(console),
            qemu: fs::read_to_string(qemu).unwrap_or_default(),
            console: console.to_owned(),
            drives: drives.iter().map(|drive| drive.last_words()).collect(),
        }
    }

    /// The text in a console's file.
    pub fn text_of(console: &Path) -> String {
        String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).into_owned()
    }

    /// What the guest's job said under `key`, in order.
    pub fn said(&self, key: &str) -> Vec<&str> {
        let begin = format!("SUNDOWN: {key} ");
        let lines = self.text.lines();
        lines
            .filter_map(|line| Some(line.split_once(&begin)?.1.trim_end()))
            .collect()
    }

    /// Lines of the kernel about trouble with a drive, and all that QEMU says of one.
    pub fn complaints(&self) -> Vec<&str> {
        const TROUBLE: [&str; 5] = ["timeout", "error", "fail", "abort", "reset"];
        let lines = self.text.lines().filter(|line| {
            let line = line.to_lowercase();
            // OVMF says that a drive has no boot loader before it starts its shell.
            let expected = line.contains("bdsdxe: failed to load");
            line.contains("nvme") && !expected && TROUBLE.iter().any(|word| line.contains(word))
        });
        lines.chain(self.qemu.lines()).collect()
    }

    /// Fails the test if the guest's job, its kernel or QEMU complain.
    pub fn assert_well(&self) {
        assert!(self.said("error").is_empty(), "{self}");
        assert!(self.complaints().is_empty(), "{self}");
    }
}

impl fmt::Display for Console {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let console = end_of(&self.console);
        write!(
            formatter,
            "QEMU: {}\nthe console {console}{}",
            self.qemu, self.drives
        )
    }
}
