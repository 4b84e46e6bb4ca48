//! Set Features and Get Features (base 2.0, sections 5.27 and 5.15). Nothing is saveable: a controller
//! reset brings the defaults back.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::events::{self, Event};
use super::identify::{NAMESPACE_NOTICES, THERMAL};
use super::{give, keep_alive};
use crate::data_pointer::DataPointer;
use crate::drive::Drive;
use crate::gate::lock;
use crate::session::Session;
use crate::spec::feature;
use crate::spec::{ALL_NAMESPACES, Status, Submission};

/// Capabilities of a feature as Get Features with SEL = 3 says them.
const CHANGEABLE: u32 = 1 << 2;
const SAVE: u32 = 1 << 31;
/// Attributes of the timestamp: it runs on, set by the host or not.
const TIMESTAMP_SET: u64 = 0b001 << 49;

/// Bytes of Host Behavior Support (base 2.0, figure 345).
const HOST_BEHAVIOR: usize = 512;

/// Values of the features.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    arbitration: u32,
    /// Thresholds of the composite temperature in kelvins.
    over: u16,
    under: u16,
    write_cache: bool,
    coalescing: u32,
    /// Vectors with coalescing disabled, bit by bit.
    vectors: Vec<bool>,
    write_atomicity: u32,
    async_events: u32,
    /// Milliseconds after which a silent host counts as gone; zero is never.
    keep_alive: u32,
    /// Temperatures at which the host wants the drive slowed down, in kelvins.
    thermal: u32,
    /// What the host says of itself.
    host_behavior: [u8; HOST_BEHAVIOR],
    /// Milliseconds since 1970 as the host set them, and when.
    timestamp: Option<(u64, Instant)>,
    since: Instant,
}

impl Features {
    pub(crate) fn new(vectors: u16, write_cache: bool) -> Self {
        Self {
            arbitration: 0b111,
            over: super::identify::WARNING,
            under: 0,
            write_cache,
            coalescing: 0,
            vectors: vec![false; usize::from(vectors)],
            write_atomicity: 0,
            async_events: 0,
            keep_alive: 0,
            thermal: 0,
            host_behavior: [0; HOST_BEHAVIOR],
            timestamp: None,
            since: Instant::now(),
        }
    }

    /// The critical warnings of the SMART log.
    pub(crate) fn critical_warning(&self) -> u8 {
        events::critical_warning(self.over, self.under)
    }

    /// The keep-alive time-out in milliseconds; zero where there is none.
    pub(super) fn keep_alive(&self) -> u32 {
        self.keep_alive
    }

    /// Which events the host wants to be told of.
    pub(super) fn async_events(&self) -> u32 {
        self.async_events
    }

    /// A feature whose value is dword 0.
    fn value(&self, id: u8, dword: u32, queue_limit: u16) -> Result<u32, Status> {
        Ok(match id {
            feature::ARBITRATION => self.arbitration,
            feature::POWER_MANAGEMENT | feature::ERROR_RECOVERY => 0,
            feature::TEMPERATURE_THRESHOLD => match threshold(dword)? {
                Threshold::Over => self.over.into(),
                Threshold::Under => self.under.into(),
                Threshold::OfNoSensor => 0,
            },
            feature::VOLATILE_WRITE_CACHE => self.write_cache.into(),
            feature::NUMBER_OF_QUEUES => number_of_queues(queue_limit),
            feature::INTERRUPT_COALESCING => self.coalescing,
            feature::INTERRUPT_VECTOR => {
                let vector = dword & 0xFFFF;
                let found = self.vectors.get(vector as usize);
                let disabled = *found.ok_or(Status::INVALID_FIELD)?;
                vector | u32::from(disabled) << 16
            }
            feature::WRITE_ATOMICITY => self.write_atomicity,
            feature::ASYNC_EVENTS => self.async_events,
            feature::KEEP_ALIVE => self.keep_alive,
            feature::THERMAL_MANAGEMENT => self.thermal,
            _ => return Err(Status::INVALID_FIELD),
        })
    }
}

enum Threshold {
    Over,
    Under,
    /// Sensors 1 to 8 are not there; asking for all of them is not asking for one.
    OfNoSensor,
}

fn threshold(dword: u32) -> Result<Threshold, Status> {
    match (dword >> 16 & 0xF, dword >> 20 & 0b11) {
        (0, 0) => Ok(Threshold::Over),
        (0, 1) => Ok(Threshold::Under),
        (0xF, 0 | 1) => Ok(Threshold::OfNoSensor),
        _ => Err(Status::INVALID_FIELD),
    }
}

fn number_of_queues(limit: u16) -> u32 {
    let count_z = u32::from(limit.max(1) - 1);
    count_z << 16 | count_z
}

/// Whether a feature can be asked for, and changed. Without a write cache there is none to turn on.
pub(crate) fn is_supported(drive: &Drive, id: u8) -> bool {
    if id == feature::VOLATILE_WRITE_CACHE {
        return drive.write_cache;
    }
    matches!(
        id,
        feature::ARBITRATION
            | feature::POWER_MANAGEMENT
            | feature::TEMPERATURE_THRESHOLD
            | feature::ERROR_RECOVERY
            | feature::NUMBER_OF_QUEUES
            | feature::INTERRUPT_COALESCING
            | feature::INTERRUPT_VECTOR
            | feature::WRITE_ATOMICITY
            | feature::ASYNC_EVENTS
            | feature::TIMESTAMP
            | feature::KEEP_ALIVE
            | feature::THERMAL_MANAGEMENT
            | feature::HOST_BEHAVIOR
    )
}

/// Get Features.
pub(super) fn get(session: &Session, command: &Submission) -> Result<u32, Status> {
    let (id, select) = (command.cdw10 as u8, command.cdw10 >> 8 & 0b111);
    if !is_supported(&session.drive, id) {
        return Err(Status::INVALID_FIELD);
    }
    let drive = &session.drive;
    let features = match select {
        0 => lock(&session.features).clone(),
        // Saved values are the defaults where nothing is saveable.
        1 | 2 => Features::new(drive.vectors(), drive.write_cache),
        3 => return Ok(CHANGEABLE),
        _ => return Err(Status::INVALID_FIELD),
    };
    if id == feature::TIMESTAMP {
        let (value, since, origin) = match features.timestamp {
            Some((value, since)) => (value, since, TIMESTAMP_SET),
            None => (0, features.since, 0),
        };
        let now = value.wrapping_add(since.elapsed().as_millis() as u64) & 0xFFFF_FFFF_FFFF;
        give(session, command, &(now | origin).to_le_bytes())?;
        return Ok(0);
    }
    if id == feature::HOST_BEHAVIOR {
        give(session, command, &features.host_behavior)?;
        return Ok(0);
    }
    features.value(id, command.cdw11, drive.queue_limit)
}

/// Set Features.
pub(super) fn set(session: &Session, command: &Submission) -> Result<u32, Status> {
    let (id, dword) = (command.cdw10 as u8, command.cdw11);
    if !is_supported(&session.drive, id) {
        return Err(Status::INVALID_FIELD);
    }
    if command.cdw10 & SAVE != 0 {
        return Err(Status::FEATURE_NOT_SAVEABLE);
    }
    if id == feature::TIMESTAMP {
        let mut raw = [0; 8];
        let memory = &session.drive.memory;
        DataPointer::of(memory, command, raw.len())?.read(memory, &mut raw)?;
        let value = u64::from_le_bytes(raw) & 0xFFFF_FFFF_FFFF;
        lock(&session.features).timestamp = Some((value, Instant::now()));
        return Ok(0);
    }
    if id == feature::HOST_BEHAVIOR {
        let mut raw = [0; HOST_BEHAVIOR];
        let memory = &session.drive.memory;
        DataPointer::of(memory, command, raw.len())?.read(memory, &mut raw)?;
        // Advanced retries, for which nothing is asked of the host; nothing else that it could turn on.
        if raw[0] > 1 || raw[1..].iter().any(|byte| *byte != 0) {
            return Err(Status::INVALID_FIELD);
        }
        lock(&session.features).host_behavior = raw;
        return Ok(0);
    }
    let mut features = lock(&session.features);
    match id {
        feature::KEEP_ALIVE => {
            let time = keep_alive::rounded(dword);
            features.keep_alive = time;
            drop(features);
            keep_alive::restart(session, time);
        }
        feature::THERMAL_MANAGEMENT => {
            let (light, heavy) = (dword >> 16, dword & 0xFFFF);
            let possible = |kelvins: u32| kelvins == 0 || THERMAL.contains(&(kelvins as u16));
            if !possible(light) || !possible(heavy) || (light != 0 && heavy != 0 && light >= heavy)
            {
                return Err(Status::INVALID_FIELD);
            }
            features.thermal = dword;
        }
        feature::ARBITRATION => features.arbitration = dword,
        // There is one power state, and no workload hint changes anything.
        feature::POWER_MANAGEMENT if dword & 0x1F != 0 => return Err(Status::INVALID_FIELD),
        feature::ERROR_RECOVERY => {
            if command.nsid != ALL_NAMESPACES {
                session.drive.namespace(command.nsid)?;
            }
            // No recovery time limit, no deallocated-block errors: zero is all there is.
            if dword != 0 {
                return Err(Status::INVALID_FIELD);
            }
        }
        feature::TEMPERATURE_THRESHOLD => {
            match threshold(dword)? {
                Threshold::Over => features.over = dword as u16,
                Threshold::Under => features.under = dword as u16,
                Threshold::OfNoSensor => {}
            }
            let warnings = features.critical_warning();
            let wanted = features.async_events as u8;
            drop(features);
            if warnings & wanted != 0 {
                events::raise(session, Event::TemperatureThreshold);
            }
        }
        feature::VOLATILE_WRITE_CACHE => {
            features.write_cache = dword & 1 != 0;
            session
                .write_through
                .store(dword & 1 == 0, Ordering::Release);
        }
        feature::NUMBER_OF_QUEUES => {
            drop(features);
            return set_number_of_queues(session, dword);
        }
        feature::INTERRUPT_COALESCING => {
            features.coalescing = dword & 0xFFFF;
            session.coalescing.set(dword);
        }
        feature::INTERRUPT_VECTOR => {
            let vector = (dword & 0xFFFF) as usize;
            let place = features.vectors.get_mut(vector);
            let disabled = dword & 1 << 16 != 0;
            *place.ok_or(Status::INVALID_FIELD)? = disabled;
            session.coalescing.disable(vector as u16, disabled);
        }
        feature::WRITE_ATOMICITY => features.write_atomicity = dword & 1,
        feature::ASYNC_EVENTS => features.async_events = dword & (0xFF | NAMESPACE_NOTICES),
        _ => {}
    }
    Ok(0)
}

/// May be set while no I/O queue exists; the answer is what there is, whatever was asked for.
fn set_number_of_queues(session: &Session, dword: u32) -> Result<u32, Status> {
    if dword & 0xFFFF == 0xFFFF || dword >> 16 == 0xFFFF {
        return Err(Status::INVALID_FIELD);
    }
    let created = |id: usize| {
        session
            .completions
            .get(id)
            .is_some_and(|queue| queue.load().is_some())
    };
    if (1..session.completions.len()).any(created) {
        return Err(Status::COMMAND_SEQUENCE_ERROR);
    }
    Ok(number_of_queues(session.drive.queue_limit))
}
