//! nvme-cli creates, attaches, detaches and deletes namespaces, and the kernel follows.

use anyhow::{Context, Result, ensure};
use api::config::{DeviceConfig, NamespaceStore};

use super::{Kernel, end_without_complaint, field, guest, refused};
use crate::scenarios::design::{Device, drive, root_port};
use crate::scenarios::machine::Machine;
use crate::scenarios::{Scenario, Stage};

pub(in crate::scenarios) const SCENARIOS: &[Scenario] = &[
    Scenario::new("nvme_cli_manages_namespaces", 180, |stage| {
        namespaces(stage, Kernel::Stock)
    }),
    Scenario::new(
        "nvme_cli_of_the_newest_kernel_manages_namespaces",
        180,
        |stage| namespaces(stage, Kernel::Newest),
    ),
];

const MIB: u64 = 1 << 20;
/// Of the configured namespace, and of the store for others.
const CONFIGURED: u64 = 8 * MIB;
const STORE: u64 = 16 * MIB;

fn namespaces(stage: &mut Stage, kernel: Kernel) -> Result<()> {
    let mut drive = drive("a", stage.raw_file("a", CONFIGURED / MIB)?);
    keep_in(&mut drive, stage);
    let mut machine = guest(stage, kernel, 1, [root_port("rp0", [drive])])?;
    capacity(&mut machine, STORE)?;

    // Two of 4 MiB, in blocks of either size.
    let create = "nvme create-ns /dev/nvme0";
    create_one(&mut machine, "--nsze=8192 --ncap=8192 --flbas=0", 2)?;
    create_one(&mut machine, "--nsze=1024 --ncap=1024 --flbas=1", 3)?;
    capacity(&mut machine, STORE - 8 * MIB)?;
    refused(
        &mut machine,
        &format!("{create} --nsze=32768 --ncap=32768 --flbas=0"),
        "Insufficient Capacity",
    )?;
    listed(&mut machine, "list-ns /dev/nvme0", 1)?;
    listed(&mut machine, "list-ns /dev/nvme0 --all", 3)?;

    // The drive's notice is enough for the kernel to see the first; the second is asked for.
    machine.run("nvme attach-ns /dev/nvme0 --namespace-id=2 --controllers=0")?;
    wait(&mut machine, "[ -b /dev/nvme0n2 ]")?;
    machine.run("nvme attach-ns /dev/nvme0 --namespace-id=3 --controllers=0")?;
    machine.run("nvme ns-rescan /dev/nvme0")?;
    wait(&mut machine, "[ -b /dev/nvme0n3 ]")?;
    refused(
        &mut machine,
        "nvme attach-ns /dev/nvme0 --namespace-id=2 --controllers=0",
        "Already Attached",
    )?;
    listed(&mut machine, "list-ns /dev/nvme0", 3)?;
    let sizes = machine.run("cat /sys/block/nvme0n[23]/queue/logical_block_size")?;
    ensure!(
        sizes == ["512", "4096"],
        "their blocks have {sizes:?} bytes"
    );
    let sectors = machine.run("cat /sys/block/nvme0n[23]/size")?;
    ensure!(sectors == ["8192", "8192"], "they have {sectors:?} sectors");

    // Both take I/O at once, and what is detached keeps its data.
    machine.run(
        "fio --direct=1 --rw=randwrite --bs=4k --size=4m --verify=crc32c --verify_fatal=1 \
         --do_verify=1 --iodepth=16 --ioengine=libaio --thread --eta=never --output=/run/fio.log \
         --name=two --filename=/dev/nvme0n2 --name=three --filename=/dev/nvme0n3",
    )?;
    let sum = "dd if=/dev/nvme0n2 bs=64k iflag=direct 2>/dev/null | sha256sum";
    let before = machine.run(sum)?;
    machine.run("nvme detach-ns /dev/nvme0 --namespace-id=2 --controllers=0")?;
    wait(&mut machine, "[ ! -e /dev/nvme0n2 ]")?;
    capacity(&mut machine, STORE - 8 * MIB)?;
    machine.run("nvme attach-ns /dev/nvme0 --namespace-id=2 --controllers=0")?;
    wait(&mut machine, "[ -b /dev/nvme0n2 ]")?;
    let after = machine.run(sum)?;
    ensure!(
        before == after,
        "detached and attached, its data is another"
    );

    // The configured one is not the guest's to delete; a created one is, attached or not.
    refused(
        &mut machine,
        "nvme delete-ns /dev/nvme0 --namespace-id=1",
        "Operation Denied",
    )?;
    machine.run("nvme detach-ns /dev/nvme0 --namespace-id=2 --controllers=0")?;
    for id in [2, 3] {
        machine.run(&format!("nvme delete-ns /dev/nvme0 --namespace-id={id}"))?;
    }
    wait(
        &mut machine,
        "[ ! -e /dev/nvme0n2 ] && [ ! -e /dev/nvme0n3 ]",
    )?;
    capacity(&mut machine, STORE)?;
    listed(&mut machine, "list-ns /dev/nvme0 --all", 1)?;
    end_without_complaint(machine, &["rescanning namespaces"])
}

/// Namespaces that the guest creates go into a folder of the scenario's.
fn keep_in(drive: &mut Device, stage: &Stage) {
    if let DeviceConfig::Nvme(nvme) = &mut drive.0 {
        nvme.namespace_store = Some(NamespaceStore {
            path: stage.folder().join("store"),
            capacity: STORE,
        });
    }
}

fn create_one(machine: &mut Machine, arguments: &str, id: u32) -> Result<()> {
    let said = machine.run(&format!("nvme create-ns /dev/nvme0 {arguments}"))?;
    let created = format!("created nsid:{id}");
    ensure!(
        said.iter().any(|line| line.ends_with(&created)),
        "namespace {id} was to be created: {said:?}"
    );
    Ok(())
}

/// What Identify says of the capacity: all of it, and what of it no namespace has.
fn capacity(machine: &mut Machine, unallocated: u64) -> Result<()> {
    for (name, expected) in [("tnvmcap", CONFIGURED + STORE), ("unvmcap", unallocated)] {
        let bytes = field(machine, "nvme id-ctrl /dev/nvme0", name)?;
        let bytes: u64 = bytes
            .parse()
            .with_context(|| format!("{name} is `{bytes}`"))?;
        ensure!(bytes == expected, "{name} is {bytes}, not {expected}");
    }
    Ok(())
}

fn listed(machine: &mut Machine, command: &str, count: usize) -> Result<()> {
    let lines = machine.run(&format!("nvme {command}"))?;
    let entries = lines.iter().filter(|line| line.starts_with('['));
    ensure!(
        entries.count() == count,
        "`nvme {command}` was to list {count}: {lines:?}"
    );
    Ok(())
}

/// Waits for what the kernel does on its own.
fn wait(machine: &mut Machine, condition: &str) -> Result<()> {
    machine
        .run(&format!(
            "i=0; until {condition}; do i=$((i + 1)); [ $i -lt 200 ] || break; sleep 0.05; done; {condition}"
        ))
        .map(drop)
}
