//! Whether this machine's own KVM can run a stock Linux guest.

use std::fs::{self, OpenOptions};

/// Says whether this machine's KVM runs a stock Linux guest.
///
/// That takes more than a `/dev/kvm` that opens: a backend without VMX or SVM interprets
/// its guest's instructions, and no stock kernel boots on it.
///
/// # Errors
/// Why not, in one line.
pub fn host_kvm_runs_linux() -> Result<(), String> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map_err(|error| format!("/dev/kvm cannot be opened: {error}"))?;
    let cpus = fs::read_to_string("/proc/cpuinfo")
        .map_err(|error| format!("/proc/cpuinfo cannot be read: {error}"))?;
    if has_virtualization(&cpus) {
        Ok(())
    } else {
        Err("/dev/kvm is there, but the CPU shows neither VMX nor SVM".to_owned())
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("flags"))
        .any(|flags| {
            flags
                .split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

#[cfg(test)]
mod tests {
    use super::has_virtualization;

    #[test]
    fn only_the_flag_itself_counts() {
        assert!(has_virtualization(
            "processor\t: 0\nflags\t\t: fpu svm sse\n"
        ));
        assert!(has_virtualization("flags\t\t: fpu vmx"));
        assert!(!has_virtualization(
            "flags\t\t: fpu svm_lock sse\nvmx flags\t: ept\nmodel name\t: vmx"
        ));
    }
}
