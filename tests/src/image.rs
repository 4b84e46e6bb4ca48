//! The lab host's initramfs: busybox, modules, init, and what the job brings.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::parts::Parts;
use crate::workspace;

/// Writes L1's initramfs to `path`.
pub(crate) fn write(
    path: &Path,
    parts: &Parts,
    command: &[String],
    files: &[(PathBuf, PathBuf)],
) -> Result<()> {
    let file =
        fs::File::create(path).with_context(|| format!("could not make {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    archive.device("dev/console", 5, 1)?;
    add_busybox(&mut archive, parts)?;
    archive.from_host(&workspace::resource("lab/init"), Path::new("init"))?;
    // Numbered, so that init inserts them in this order.
    for (number, module) in parts.modules()?.iter().enumerate() {
        archive.from_host(module, Path::new(&format!("lab/modules/{number:02}.ko")))?;
    }
    archive.contents("lab/run", 0o755, script(command).as_bytes())?;
    for (host, lab) in files {
        archive.from_host(host, lab)?;
    }
    archive.finish()
}

/// Adds busybox and a link for each of its applets.
pub(crate) fn add_busybox<W: Write>(archive: &mut Archive<W>, parts: &Parts) -> Result<()> {
    let busybox = parts.busybox();
    archive.from_host(&busybox, Path::new("bin/busybox"))?;
    let list = Command::new(&busybox)
        .arg("--list")
        .output()
        .with_context(|| format!("could not run {}", busybox.display()))?;
    if !list.status.success() {
        bail!("{} could not list its applets", busybox.display());
    }
    let applets = String::from_utf8_lossy(&list.stdout);
    applets
        .lines()
        .filter(|applet| *applet != "busybox")
        .try_for_each(|applet| archive.link(Path::new("bin").join(applet), "busybox"))
}

/// The command as a shell script; every word is quoted and reaches the program as it is.
fn script(command: &[String]) -> String {
    let words: Vec<_> = command
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    format!("#!/bin/sh\nexec {}\n", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::script;

    #[test]
    fn words_reach_the_program_as_they_are() {
        let command = ["sh".to_owned(), "-c".to_owned(), "echo 'a b' $X".to_owned()];
        assert_eq!(
            script(&command),
            "#!/bin/sh\nexec 'sh' '-c' 'echo '\\''a b'\\'' $X'\n"
        );
    }
}
