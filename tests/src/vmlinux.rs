//! The ELF kernel inside a bzImage: what a machine boots by PVH.
//! Understands kernels packed with zstd, as Debian's are.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ruzstd::decoding::StreamingDecoder;

use crate::artifacts::newer;
use crate::workspace;

// The setup header (Linux, Documentation/arch/x86/boot.rst).
const SETUP_SECTORS: usize = 0x1F1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24C;
const SECTOR: usize = 512;

/// Unpacks the kernel into the lab's target folder, if it is not there yet.
///
/// # Errors
/// When the file is no bzImage, is packed otherwise, or cannot be read or written.
pub fn extracted(bzimage: &Path) -> Result<PathBuf> {
    let folder = workspace::lab_target();
    let path = folder.join("vmlinux");
    if newer(&path, bzimage) {
        return Ok(path);
    }
    let file =
        fs::read(bzimage).with_context(|| format!("could not read {}", bzimage.display()))?;
    let vmlinux = unpack(&file)
        .with_context(|| format!("could not unpack the kernel {}", bzimage.display()))?;
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    let unfinished = folder.join(format!("vmlinux.{}", std::process::id()));
    fs::write(&unfinished, vmlinux)
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| format!("could not write {}", path.display()))?;
    Ok(path)
}

fn unpack(bzimage: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        bzimage.get(MAGIC..MAGIC + 4) == Some(b"HdrS"),
        "it is no bzImage"
    );
    let setup = (usize::from(bzimage[SETUP_SECTORS]) + 1) * SECTOR;
    let start = setup + number(bzimage, PAYLOAD_OFFSET)?;
    let length = number(bzimage, PAYLOAD_LENGTH)?;
    // Behind the packed kernel, its size when unpacked.
    let packed = length
        .checked_sub(4)
        .and_then(|packed| bzimage.get(start..start + packed))
        .context("it ends before its payload does")?;
    let size = number(bzimage, start + packed.len())?;
    let mut vmlinux = Vec::with_capacity(size);
    StreamingDecoder::new(packed)
        .map_err(io::Error::other)
        .and_then(|mut decoder| decoder.read_to_end(&mut vmlinux))
        .context("its payload is not packed with zstd")?;
    if vmlinux.len() != size || !vmlinux.starts_with(b"\x7FELF") {
        bail!("its payload is no ELF file of {size} bytes");
    }
    Ok(vmlinux)
}

fn number(bytes: &[u8], at: usize) -> Result<usize> {
    let bytes = bytes.get(at..at + 4).context("it is too short")?;
    Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::unpack;

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(unpack(b"").is_err());
        assert!(unpack(&[0; 4096]).is_err());
        let mut cut = vec![0; 1024];
        cut[0x202..0x206].copy_from_slice(b"HdrS");
        cut[0x24C] = 200;
        assert!(unpack(&cut).is_err());
    }
}
