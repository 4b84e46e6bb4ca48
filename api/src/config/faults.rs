//! What is wrong with a drive, so that its guest and its host can be rehearsed on a dying one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Latency;

const MOST_COMMANDS: usize = 64;
const MOST_MEDIA: usize = 64;

/// What is wrong with a drive. Nothing, unless given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultsConfig {
    /// It is gone without a warning: its registers and its configuration space read as ones, and it does no
    /// DMA and raises no interrupt. When this is cleared, it is as after power-on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// What becomes of a shutdown that the guest asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ShutdownFault>,
    /// What becomes of a flush, whether the guest's, a shutdown's or a teardown's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush: Option<FlushFault>,
    /// Blocks that cannot be read: Unrecovered Read Error, counted as media errors. At most 64 ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<MediaFault>,
    /// Commands that fare otherwise. Every fault counts the commands that it is for; the first that
    /// strikes decides. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandFault>,
}

/// A shutdown that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownFault {
    /// CSTS.SHST stays 01b until the fault is cleared or the controller reset.
    Hang,
    /// CSTS.CFS is set with CC.SHN, and the shutdown never completes.
    Fatal,
}

/// A flush that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlushFault {
    /// It says that it failed. The data is saved all the same, as far as the host can.
    Fail,
    /// It does not end before the fault is cleared.
    Stuck,
}

/// Blocks that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MediaFault {
    /// The namespace, from 1. Unless given, 1.
    #[serde(default = "one")]
    pub namespace: u32,
    /// The first block.
    pub first_block: u64,
    /// How many, at least 1.
    pub blocks: u64,
}

/// What becomes of certain commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandFault {
    /// The queues whose commands it is for. Unless given, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueKind>,
    /// The opcode that it is for: in an I/O queue 0 is Flush, 1 Write, 2 Read. Unless given, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opcode: Option<u8>,
    /// It strikes at the command of this number among those that it is for, from 1. Unless given, the first.
    #[serde(default = "first")]
    pub nth: u64,
    /// Whether it strikes again after as many each. It does unless told otherwise, and so at every command
    /// where `nth` is 1.
    #[serde(default = "yes")]
    pub repeat: bool,
    /// What it does to them.
    pub effect: Effect,
}

/// The two kinds of submission queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueueKind {
    /// The admin queue.
    Admin,
    /// The I/O queues.
    Io,
}

/// What is done to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Effect {
    /// It is not executed and ends with a status.
    Status {
        /// The status code type, 0 to 7: 0 generic, 1 of the command, 2 of the media.
        #[serde(rename = "type")]
        status_type: u8,
        /// The status code.
        code: u8,
        /// Whether the guest is told that trying again is of no use.
        #[serde(default)]
        do_not_retry: bool,
    },
    /// It is executed so much later.
    Slow {
        /// How much. Not in proportion to what is written.
        latency: Latency,
    },
    /// It is not executed before the fault is cleared; an abort and every reset cancel it.
    Stuck {},
}

fn one() -> u32 {
    1
}

fn first() -> u64 {
    1
}

fn yes() -> bool {
    true
}

impl FaultsConfig {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the faults of a drive that has `namespaces` at most: the field and what is wrong with it.
    pub(super) fn check(&self, namespaces: usize) -> Result<(), (String, String)> {
        let too_many = |field: &str, count: usize, most: usize| {
            Err((
                field.to_owned(),
                format!("{count} faults; at most {most} are allowed"),
            ))
        };
        if self.media.len() > MOST_MEDIA {
            return too_many("media", self.media.len(), MOST_MEDIA);
        }
        if self.commands.len() > MOST_COMMANDS {
            return too_many("commands", self.commands.len(), MOST_COMMANDS);
        }
        for (at, media) in self.media.iter().enumerate() {
            if !(1..=namespaces).contains(&(media.namespace as usize)) {
                let message = format!(
                    "bad blocks of namespace {}; the drive has 1 to {namespaces}",
                    media.namespace
                );
                return Err((format!("media[{at}].namespace"), message));
            }
            if media.blocks == 0 {
                let message = "0 bad blocks; give 1 or more, or leave the fault out".to_owned();
                return Err((format!("media[{at}].blocks"), message));
            }
        }
        for (at, fault) in self.commands.iter().enumerate() {
            let checked = fault.check();
            checked.map_err(|(field, message)| (format!("commands[{at}].{field}"), message))?;
        }
        Ok(())
    }
}

impl CommandFault {
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.nth == 0 {
            let message = "a fault at command 0; commands are counted from 1".to_owned();
            return Err(("nth", message));
        }
        match &self.effect {
            Effect::Status { status_type, .. } if *status_type > 7 => Err((
                "effect.type",
                format!("the status code type {status_type}; 0 to 7 is allowed"),
            )),
            Effect::Status {
                status_type: 0,
                code: 0,
                ..
            } => Err((
                "effect.code",
                "the status of type 0 and code 0 is success; give that of an error".to_owned(),
            )),
            Effect::Slow { latency } => latency
                .check(false)
                .map_err(|message| ("effect.latency", message)),
            Effect::Status { .. } | Effect::Stuck {} => Ok(()),
        }
    }
}
