//! Identify Controller (base 2.0, figure 275).

use std::sync::atomic::Ordering;

use zerocopy::FromZeros;

use super::super::{abort, events, keep_alive, selftest};
use crate::drive::Drive;
use crate::io::MDTS;
use crate::logs::{ERROR_ENTRIES, TEMPERATURE};
use crate::spec::VERSION;
use crate::spec::identify::Controller;

/// CNTLID: the subsystem's one controller.
pub(crate) const CONTROLLER_ID: u16 = 0;
/// SGLs for I/O commands: data blocks of any address and length, lists longer than the data.
const SGL_SUPPORT: u32 = 1 | 1 << 18;
/// ONCS: Compare, Write Uncorrectable, Dataset Management, Write Zeroes, select and save in features,
/// timestamp, Verify, Copy.
const OPTIONAL_COMMANDS: u16 = 0b11111 | 1 << 6 | 1 << 7 | 1 << 8;
/// CDFS, the formats of Copy: 0.
const COPY_FORMATS: u16 = 1;
/// LPA: commands supported and effects; extended data (NUMD, LPO); supported log pages.
const LOG_ATTRIBUTES: u8 = 1 << 1 | 1 << 2 | 1 << 5;
/// VWC without a write cache: Flush of all namespaces is supported.
const FLUSHES_ALL: u8 = 0b11 << 1;
/// VWC: there is a volatile write cache.
const WRITE_CACHE: u8 = 1;
/// FRMW: one slot, read only.
const FIRMWARE: u8 = 1 | 1 << 1;
/// Warning and critical composite temperatures in kelvins.
pub(crate) const WARNING: u16 = TEMPERATURE + 45;
const CRITICAL: u16 = TEMPERATURE + 60;

/// OACS: Format NVM.
const FORMAT: u16 = 1 << 1;
/// OACS: Device Self-test.
const SELF_TEST: u16 = 1 << 4;
/// DSTO: one test at a time.
const ONE_SELF_TEST: u8 = 1;
/// FNA: formats and erases one namespace or all, as the command says; no cryptographic erase.
const FORMAT_ATTRIBUTES: u8 = 0;
/// SANICAP: block erase and overwrite, after which the media is not modified any further.
const SANITIZE: u32 = 1 << 1 | 1 << 2 | 0b01 << 30;
/// OACS: Doorbell Buffer Config.
const SHADOW_DOORBELLS: u16 = 1 << 8;
/// OACS: namespace management.
const NAMESPACE_MANAGEMENT: u16 = 1 << 3;
/// OAES, and the bit of the feature that turns it on: notices of namespaces.
pub(crate) const NAMESPACE_NOTICES: u32 = 1 << 8;

/// Temperatures in kelvins that the host may have the drive slowed down at. It never is so warm.
pub(crate) const THERMAL: std::ops::RangeInclusive<u16> = TEMPERATURE + 1..=CRITICAL;

pub(super) fn data(drive: &Drive) -> Controller {
    let identity = &drive.identity;
    let mut data = Controller::new_zeroed();
    data.vid = identity.vendor;
    data.ssvid = identity.subsystem_vendor;
    data.sn = padded(&identity.serial);
    data.mn = padded(&identity.model);
    data.fr = padded(&identity.firmware);
    data.mdts = MDTS;
    data.cntlid = CONTROLLER_ID;
    data.ver = VERSION;
    data.rtd3e = drive.shutdown_estimate.load(Ordering::Relaxed);
    data.oaes = NAMESPACE_NOTICES;
    // An I/O controller.
    data.cntrltype = 1;
    data.acl_z = abort::LIMIT_Z;
    data.aerl_z = events::LIMIT_Z;
    data.frmw = FIRMWARE;
    data.lpa = LOG_ATTRIBUTES;
    data.elpe_z = (ERROR_ENTRIES - 1) as u8;
    data.wctemp = WARNING;
    data.cctemp = CRITICAL;
    // Entries of 64 and 16 bytes, required and maximum.
    data.sqes = 0x66;
    data.cqes = 0x44;
    data.nn = drive.namespaces.limit();
    data.oacs = SHADOW_DOORBELLS;
    if let Some(store) = &drive.store {
        data.oacs |= NAMESPACE_MANAGEMENT;
        let namespaces = drive.namespaces.all();
        let configured = namespaces
            .iter()
            .filter(|namespace| drive.namespaces.is_configured(namespace.id))
            .map(|namespace| u128::from(namespace.backend().size()));
        data.tnvmcap = u128::from(store.capacity()) + configured.sum::<u128>();
        data.unvmcap = store.unallocated().into();
        data.mnan = data.nn;
    }
    data.oacs |= FORMAT | SELF_TEST;
    data.edstt = selftest::estimate(drive);
    data.dsto = ONE_SELF_TEST;
    data.fna = FORMAT_ATTRIBUTES;
    data.sanicap = SANITIZE;
    data.kas = keep_alive::GRANULARITY;
    data.hctma = 1;
    (data.mntmt, data.mxtmt) = (*THERMAL.start(), *THERMAL.end());
    data.oncs = OPTIONAL_COMMANDS;
    data.sgls = SGL_SUPPORT;
    data.cdfs = COPY_FORMATS;
    data.vwc = FLUSHES_ALL | if drive.write_cache { WRITE_CACHE } else { 0 };
    // AWUN and AWUPF: one block, as the host's page cache may be cut off between two pages of a write.
    (data.awun_z, data.awupf_z) = (0, 0);
    let name = identity.qualified_name();
    data.subnqn[..name.len()].copy_from_slice(name.as_bytes());
    // One power state: 25 W.
    data.power_states[0].max_power = 2500;
    data
}

/// ASCII, cut or padded with spaces, as the specification wants strings.
pub(crate) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    let printable = |character: char| {
        if matches!(character, ' '..='~') {
            character as u8
        } else {
            b'?'
        }
    };
    for (place, byte) in field.iter_mut().zip(text.chars().map(printable)) {
        *place = byte;
    }
    field
}
