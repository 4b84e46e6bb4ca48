//! Who the drive and its namespaces say they are. What the configuration does not name is derived from what
//! it names, so that it is the same at every start.

/// Who the drive says it is.
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) subsystem_vendor: u16,
    pub(crate) serial: String,
    pub(crate) model: String,
    pub(crate) firmware: String,
    /// Distinguishes this drive from every other of the machine, the same at every start.
    pub(crate) unique: u128,
}

/// The identifiers of a namespace (base 2.0, section 4.5.1). All-zeroes would say "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceNames {
    pub(crate) eui64: [u8; 8],
    pub(crate) nguid: [u8; 16],
    pub(crate) uuid: [u8; 16],
}

/// What a derived identifier is for; one of each for every namespace.
#[derive(Clone, Copy)]
enum Purpose {
    Uuid = 0,
    Nguid = 1,
    Eui64 = 2,
}

impl Identity {
    /// The identifiers of the namespace of this number: that of a configured one is its id, one that the
    /// guest created has another for every creation.
    pub(crate) fn names(&self, of: u64) -> NamespaceNames {
        let mut nguid = self.spread(of, Purpose::Nguid);
        // The company's part begins at byte 8 (base 2.0, 4.5.1.2): ours is local, and of no group.
        nguid[8] = nguid[8] & !0b01 | 0b10;
        let mut eui64 = [0; 8];
        eui64.copy_from_slice(&self.spread(of, Purpose::Eui64)[..8]);
        eui64[0] = eui64[0] & !0b01 | 0b10;
        NamespaceNames {
            eui64,
            nguid,
            uuid: self.uuid(of),
        }
    }

    /// A UUID (RFC 9562, version 8: of our own making) of the drive (`of` 0) or of a namespace.
    fn uuid(&self, of: u64) -> [u8; 16] {
        let mut uuid = self.spread(of, Purpose::Uuid);
        uuid[6] = uuid[6] & 0x0F | 0x80;
        uuid[8] = uuid[8] & 0x3F | 0x80;
        uuid
    }

    fn spread(&self, of: u64, purpose: Purpose) -> [u8; 16] {
        let parts: [&[u8]; 3] = [
            &self.unique.to_be_bytes(),
            &of.to_be_bytes(),
            &[purpose as u8],
        ];
        digest(&parts).to_be_bytes()
    }

    /// The subsystem's qualified name (base 2.0, section 4.5).
    pub(crate) fn qualified_name(&self) -> String {
        let hex: String = self
            .uuid(0)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!(
            "nqn.2014-08.org.nvmexpress:uuid:{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}

/// 128 bits FNV-1a over parts that cannot run into each other.
pub(crate) fn digest(parts: &[&[u8]]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    let mut state = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D_u128;
    for part in parts {
        for byte in (part.len() as u64).to_be_bytes().iter().chain(*part) {
            state = (state ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(unique: u128) -> Identity {
        Identity {
            vendor: 0,
            subsystem_vendor: 0,
            serial: String::new(),
            model: String::new(),
            firmware: String::new(),
            unique,
        }
    }

    #[test]
    fn names_are_the_same_at_every_start_and_no_two_alike() {
        let (one, other) = (identity(1), identity(2));
        assert_eq!(one.names(1), identity(1).names(1));
        let all = [one.names(1), one.names(2), other.names(1)];
        for (at, names) in all.iter().enumerate() {
            for earlier in &all[..at] {
                assert_ne!(names.eui64, earlier.eui64);
                assert_ne!(names.nguid, earlier.nguid);
                assert_ne!(names.uuid, earlier.uuid);
            }
            assert_eq!(names.uuid[6] >> 4, 8, "the version of a UUID");
            assert_eq!(names.eui64[0] & 0b11, 0b10, "local, and of no group");
        }
    }
}
