//! What the guest says on its console: lines for machines, which `resources/guest/guest.sh` describes.

/// What the guest said in one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// NVMe namespaces that it has.
    pub namespaces: u64,
    /// Boots that it counts on its drives, this one too.
    pub counted: u64,
    /// What it thinks of the data on them: `written` in the first boot, `intact`, `corrupt`.
    pub data: String,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// Splits a console's output into boots.
pub fn boots(console: &str) -> Vec<Boot> {
    let mut boots: Vec<Boot> = Vec::new();
    // The kernel's own lines lie between, and now and then one begins in the middle of a line.
    for line in console.lines() {
        let Some((_, said)) = line.split_once("SUNDOWN: ") else {
            continue;
        };
        let (key, value) = said.trim_end().split_once(' ').unwrap_or((said, ""));
        if key == "init" {
            boots.push(Boot::default());
        }
        let Some(boot) = boots.last_mut() else {
            continue;
        };
        match key {
            "namespaces" => boot.namespaces = value.parse().unwrap_or(0),
            "boots" => boot.counted = value.parse().unwrap_or(0),
            "data" => boot.data = value.to_owned(),
            "error" => boot.errors.push(value.to_owned()),
            "drive" if value.contains(" corrupt ") => boot.errors.push(format!("drive {value}")),
            _ => {}
        }
    }
    boots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_begins_with_init() {
        let console = "[ 1.0] kernel\r\nSUNDOWN: init 1.9\r\nSUNDOWN: namespaces 8\r\nSUNDOWN: boots 1\r\n\
            SUNDOWN: data written\r\n[ 5.1] xSUNDOWN: init 2.0\r\nSUNDOWN: namespaces 7\r\n\
            SUNDOWN: error 8 namespaces were expected\r\nSUNDOWN: drive nvme0n1 corrupt boots=2 identity=a\r\n";
        let boots = boots(console);
        assert_eq!(
            boots[0],
            Boot {
                namespaces: 8,
                counted: 1,
                data: "written".into(),
                errors: vec![]
            }
        );
        assert_eq!(
            (boots.len(), boots[1].namespaces, boots[1].data.as_str()),
            (2, 7, "")
        );
        assert_eq!(
            boots[1].errors,
            [
                "8 namespaces were expected",
                "drive nvme0n1 corrupt boots=2 identity=a"
            ]
        );
    }
}
