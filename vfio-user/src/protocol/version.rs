//! What two sides agree on in VERSION: the versions, and the limits that they may state as JSON.

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, IntoBytes};

use super::{DEFAULT_DESCRIPTORS, DEFAULT_TRANSFER, Version};

/// A side's limits; what it does not state has a default. Fields that are not known are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Most descriptors that it takes in one message; 1 unless stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msg_fds: Option<u32>,
    /// Most bytes of one read or write; 1 MiB unless stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_xfer_size: Option<u32>,
    /// Most ranges of memory at a time; 65535 unless stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<u32>,
    /// Page sizes of memory, ored; 4096 unless stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgsizes: Option<u64>,
    /// Whether REGION_WRITE_MULTI is understood; not unless stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_multiple: Option<bool>,
}

impl Capabilities {
    /// Most descriptors in one message to this side.
    pub fn descriptors(&self) -> u32 {
        self.max_msg_fds.unwrap_or(DEFAULT_DESCRIPTORS)
    }

    /// Most bytes of one read or write of this side.
    pub fn transfer(&self) -> u32 {
        self.max_data_xfer_size.unwrap_or(DEFAULT_TRANSFER)
    }

    /// What of `self` may be said to a side that stated `theirs`: nothing that it did not mention.
    pub fn answer_to(&self, theirs: &Self) -> Self {
        Self {
            max_msg_fds: self.max_msg_fds.filter(|_| theirs.max_msg_fds.is_some()),
            max_data_xfer_size: (self.max_data_xfer_size)
                .filter(|_| theirs.max_data_xfer_size.is_some()),
            max_dma_maps: self.max_dma_maps.filter(|_| theirs.max_dma_maps.is_some()),
            pgsizes: self.pgsizes.filter(|_| theirs.pgsizes.is_some()),
            write_multiple: (self.write_multiple).filter(|_| theirs.write_multiple == Some(true)),
        }
    }
}

/// The payload of VERSION, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The version.
    pub version: Version,
    /// The limits, where there was JSON at all.
    pub capabilities: Option<Capabilities>,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    capabilities: Capabilities,
}

/// Why a VERSION message cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// Not even version numbers.
    #[error("a VERSION message of {0} bytes has no version")]
    Short(usize),
    /// What follows them is no such JSON.
    #[error("the capabilities of a VERSION message: {0}")]
    Capabilities(#[from] serde_json::Error),
    /// A limit that no message fits in.
    #[error("`{field}` of a VERSION message is {value}")]
    Limit {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

impl Proposal {
    /// Reads the payload of a VERSION message.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(payload: &[u8]) -> Result<Self, ProposalError> {
        let (version, json) =
            Version::read_from_prefix(payload).map_err(|_| ProposalError::Short(payload.len()))?;
        // Ended by a NUL, which not all senders count.
        let json = json.strip_suffix(&[0]).unwrap_or(json);
        if json.is_empty() {
            return Ok(Self {
                version,
                capabilities: None,
            });
        }
        let Document { capabilities } = serde_json::from_slice(json)?;
        // Without data in a message nothing can be transferred; without descriptors it can.
        if capabilities.transfer() == 0 {
            return Err(ProposalError::Limit {
                field: "max_data_xfer_size",
                value: 0,
            });
        }
        Ok(Self {
            version,
            capabilities: Some(capabilities),
        })
    }

    /// The payload that says this.
    pub fn to_payload(&self) -> Vec<u8> {
        let mut payload = self.version.as_bytes().to_vec();
        if let Some(capabilities) = self.capabilities {
            // Numbers and booleans always have a form as JSON.
            let json = serde_json::to_vec(&Document { capabilities }).unwrap_or_default();
            payload.extend_from_slice(&json);
            payload.push(0);
        }
        payload
    }
}
