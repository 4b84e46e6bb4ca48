//! What a server says of its device, asked once a connection and checked: a device that comes back must be the same.

use std::os::fd::OwnedFd;

use vfio_user::protocol::{
    Area as WireArea, DeviceInfo, IrqInfo, RegionAccess, RegionInfo, SparseMmap, command,
    device_flag, irq, irq_flag, region, region_flag,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::OpenError;
use super::candidate::Candidate;
use super::enables::Enables;
use super::shared_file::{SharedFile, are_sound};
use crate::client::{Area, IrqType, Region};

/// BARs, ROM and configuration space.
const REGIONS: u32 = 8;
/// Most bytes of a reply on a region: there are far fewer areas than this has room for.
const MOST_REPLY: u32 = 1 << 16;
/// The most interrupts of each type that a function can have: PCI 3.0, sections 6.2.4, 6.8.1 and 6.8.2.
const MOST_IRQS: [u32; 3] = [1, 32, 2048];

/// See the module's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// By their numbers: BARs, ROM, configuration space.
    pub regions: Vec<Region>,
    /// How many interrupts there are: INTx, MSI, MSI-X.
    pub irqs: [u32; 3],
    /// The pin masks itself, and takes an eventfd that unmasks it.
    pub automasked: bool,
    /// It can be reset.
    pub reset: bool,
    /// Where MSI and MSI-X are turned on.
    pub enables: Enables,
    /// Vendor and device, class and revision, subsystem.
    identity: [u32; 3],
}

/// What comes with a description, and is of this connection alone.
pub struct Shared {
    /// Files of the regions that can be mapped.
    pub files: Vec<Option<SharedFile>>,
    /// What a user should know of them.
    pub warnings: Vec<String>,
}

/// The number that the protocol has for a type.
pub fn index(irq: IrqType) -> u32 {
    match irq {
        IrqType::Intx => irq::INTX,
        IrqType::Msi => irq::MSI,
        IrqType::Msix => irq::MSIX,
    }
}

/// A region's name to a user.
pub fn name(index: u32) -> String {
    match index {
        region::ROM => "the expansion ROM".into(),
        region::CONFIG => "configuration space".into(),
        bar => format!("BAR {bar}"),
    }
}

impl Description {
    /// Asks the server.
    ///
    /// # Errors
    /// When it does not answer, or not sensibly.
    pub fn ask(server: &mut Candidate) -> Result<(Self, Shared), OpenError> {
        let mut asked = DeviceInfo::new_zeroed();
        asked.argsz = size_of::<DeviceInfo>() as u32;
        let device: DeviceInfo = server.ask(
            command::DEVICE_GET_INFO,
            "what device it has",
            asked.as_bytes(),
        )?;
        if device.flags & device_flag::PCI == 0 {
            return Err(server.unusable("it is no PCI device"));
        }
        if device.regions < REGIONS {
            return Err(server.unusable("it has no configuration space"));
        }
        let mut shared = Shared {
            files: Vec::new(),
            warnings: Vec::new(),
        };
        let mut regions = Vec::new();
        for index in 0..REGIONS {
            let (region, file) = ask_region(server, index, &mut shared.warnings)?;
            regions.push(region);
            shared.files.push(file);
        }
        let config = &regions[region::CONFIG as usize];
        if !(config.readable && config.writable && (256..=4096).contains(&config.size)) {
            let what = "its configuration space has not 256 to 4096 bytes to be read and written";
            return Err(server.unusable(what));
        }
        let mut irqs = [0; 3];
        let mut automasked = false;
        for index in (0..3).take(device.irqs as usize) {
            let info = ask_irq(server, index)?;
            let most = MOST_IRQS[index as usize];
            if info.count > most {
                let what = format!(
                    "it has {} interrupts of type {index}: a function has {most} at most",
                    info.count
                );
                return Err(server.unusable(&what));
            }
            irqs[index as usize] = info.count;
            if index == irq::INTX {
                automasked = info.flags & irq_flag::AUTOMASKED != 0;
            }
        }
        let description = Self {
            regions,
            irqs,
            automasked,
            reset: device.flags & device_flag::RESET != 0,
            enables: Enables::ask(server)?,
            identity: ask_identity(server)?,
        };
        Ok((description, shared))
    }

    /// How `other`, which is in this one's place, differs; `None` if it does not.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let [[id, class, subsystem], theirs] = [self.identity, other.identity];
        if (id, class, subsystem) != (theirs[0], theirs[1], theirs[2]) {
            let ids = |id: u32| format!("{:04x}:{:04x}", id & 0xFFFF, id >> 16);
            return Some(match id == theirs[0] {
                true => format!("the {} has another class or subsystem", ids(id)),
                false => format!("it is {}, and was {}", ids(theirs[0]), ids(id)),
            });
        }
        for (number, (region, theirs)) in (0..).zip(self.regions.iter().zip(&other.regions)) {
            if region != theirs {
                let name = name(number);
                return Some(format!("{name} is not what it was: {theirs:?}"));
            }
        }
        if (self.irqs, self.automasked, self.enables)
            != (other.irqs, other.automasked, other.enables)
        {
            return Some("its interrupts are not what they were".into());
        }
        (self.reset != other.reset)
            .then(|| "it can be reset no more, or now for the first time".into())
    }
}

fn ask_region(
    server: &mut Candidate,
    index: u32,
    warnings: &mut Vec<String>,
) -> Result<(Region, Option<SharedFile>), OpenError> {
    let mut asked = RegionInfo::new_zeroed();
    (asked.argsz, asked.index) = (size_of::<RegionInfo>() as u32, index);
    let question = command::DEVICE_GET_REGION_INFO;
    let doing = "what its regions are";
    let mut reply = server.request(question, doing, &[asked.as_bytes()])?;
    let mut info: RegionInfo = server.first(&reply.payload, doing)?;
    if info.argsz > asked.argsz {
        if info.argsz > MOST_REPLY {
            let name = name(index);
            return Err(server.unusable(&format!("{name} has too many parts that can be mapped")));
        }
        asked.argsz = info.argsz;
        reply = server.request(question, doing, &[asked.as_bytes()])?;
        info = server.first(&reply.payload, doing)?;
    }
    let mut region = Region {
        size: info.size,
        readable: info.flags & region_flag::READ != 0,
        writable: info.flags & region_flag::WRITE != 0,
        areas: Vec::new(),
    };
    let may_map = info.flags & region_flag::MMAP != 0 && region.readable && info.size > 0;
    let file = reply.descriptors.into_iter().next().filter(|_| may_map);
    let Some(file) = file else {
        return Ok((region, None));
    };
    match share(&info, &reply.payload, file) {
        Ok((areas, file)) => {
            region.areas = areas;
            Ok((region, Some(file)))
        }
        Err(why) => {
            let name = name(index);
            warnings.push(format!(
                "{name} is reached by messages, which are slower: {why}"
            ));
            Ok((region, None))
        }
    }
}

/// What can be mapped of a region.
fn share(
    info: &RegionInfo,
    payload: &[u8],
    file: OwnedFd,
) -> Result<(Vec<Area>, SharedFile), &'static str> {
    let areas = areas(info, payload).ok_or("the parts that can be mapped make no sense")?;
    if !are_sound(&areas, info.size) {
        return Err("the parts that can be mapped make no sense");
    }
    let writable = info.flags & region_flag::WRITE != 0;
    let file = SharedFile::new(file, info.offset, writable, &areas)?;
    Ok((areas, file))
}

/// The parts of a region that can be mapped: what the capability says, or all of it.
fn areas(info: &RegionInfo, payload: &[u8]) -> Option<Vec<Area>> {
    let mut at = match info.flags & region_flag::CAPS {
        0 => 0,
        _ => info.cap_offset as usize,
    };
    while at != 0 {
        let (sparse, rest) = SparseMmap::read_from_prefix(payload.get(at..)?).ok()?;
        if sparse.id == SparseMmap::ID {
            let bytes = (sparse.areas as usize).checked_mul(size_of::<WireArea>())?;
            let raw = rest.get(..bytes)?.chunks_exact(size_of::<WireArea>());
            let areas = raw.map(|raw| {
                let WireArea { offset, size } = WireArea::read_from_bytes(raw).ok()?;
                Some(Area { offset, size })
            });
            return areas.collect();
        }
        // Forward only: a list that comes back to itself would have no end.
        let next = sparse.next as usize;
        if next != 0 && next <= at {
            return None;
        }
        at = next;
    }
    Some(vec![Area {
        offset: 0,
        size: info.size,
    }])
}

fn ask_irq(server: &mut Candidate, index: u32) -> Result<IrqInfo, OpenError> {
    let mut asked = IrqInfo::new_zeroed();
    (asked.argsz, asked.index) = (size_of::<IrqInfo>() as u32, index);
    let question = command::DEVICE_GET_IRQ_INFO;
    server.ask(question, "what its interrupts are", asked.as_bytes())
}

/// Vendor and device, class and revision, subsystem.
fn ask_identity(server: &mut Candidate) -> Result<[u32; 3], OpenError> {
    let mut identity = [0; 3];
    for (word, offset) in identity.iter_mut().zip([0x00, 0x08, 0x2C]) {
        *word = read_config(server, offset)?;
    }
    if matches!(identity[0] & 0xFFFF, 0 | 0xFFFF) {
        return Err(server.unusable("there is no function behind its configuration space"));
    }
    Ok(identity)
}

/// A register of its configuration space, at a multiple of 4.
pub fn read_config(server: &mut Candidate, offset: u64) -> Result<u32, OpenError> {
    let doing = "a read of its configuration space";
    let access = RegionAccess {
        offset,
        region: region::CONFIG,
        count: 4,
    };
    let reply = server.request(command::REGION_READ, doing, &[access.as_bytes()])?;
    let data = reply.payload.get(size_of::<RegionAccess>()..);
    let raw = data.and_then(|data| <[u8; 4]>::try_from(data).ok());
    Ok(u32::from_le_bytes(
        raw.ok_or_else(|| server.nonsense(doing))?,
    ))
}
