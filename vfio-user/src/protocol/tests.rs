//! Sizes and places that both sides must share, and what VERSION messages say.

use super::*;

#[test]
fn layouts_have_the_sizes_of_the_protocol() {
    assert_eq!(Header::SIZE, 16);
    assert_eq!(size_of::<Version>(), 4);
    assert_eq!(size_of::<DmaMap>(), 32);
    assert_eq!(size_of::<DmaUnmap>(), 24);
    assert_eq!(size_of::<DeviceInfo>(), 16);
    assert_eq!(size_of::<RegionInfo>(), 32);
    assert_eq!(size_of::<SparseMmap>(), 16);
    assert_eq!(size_of::<Area>(), 16);
    assert_eq!(size_of::<RegionIoFds>(), 16);
    assert_eq!(size_of::<IoEventFd>(), 40);
    assert_eq!(size_of::<IrqInfo>(), 16);
    assert_eq!(size_of::<IrqSet>(), 20);
    assert_eq!(size_of::<RegionAccess>(), 16);
    assert_eq!(size_of::<DmaAccess>(), 16);
    assert_eq!(size_of::<WriteMulti>(), 8);
    assert_eq!(size_of::<SmallWrite>(), 24);
}

#[test]
fn a_reply_repeats_id_and_command() {
    let asked = Header {
        flags: flag::COMMAND | flag::NO_REPLY,
        ..Header::command(7, command::DMA_MAP, 32)
    };
    assert!(asked.wants_no_reply());
    assert_eq!(asked.size, 48);
    let reply = asked.reply(4);
    assert_eq!((reply.id, reply.command, reply.size), (7, 2, 20));
    assert_eq!(reply.is_reply(), Some(true));
    let failure = asked.failure(22);
    assert_eq!((failure.size, failure.error), (16, 22));
    assert_eq!(failure.flags, flag::REPLY | flag::ERROR);
    assert_eq!(Header { flags: 2, ..asked }.is_reply(), None);
}

fn parse(json: &str) -> Result<Proposal, ProposalError> {
    let mut payload = vec![0, 0, 1, 0];
    payload.extend_from_slice(json.as_bytes());
    Proposal::parse(&payload)
}

#[test]
fn version_is_understood_with_and_without_json() {
    let bare = parse("").unwrap();
    assert_eq!(bare.version, Version { major: 0, minor: 1 });
    assert_eq!(bare.capabilities, None);
    assert_eq!(parse("\0").unwrap(), bare);
    let stated = parse(
        r#"{"capabilities":{"max_msg_fds":8,"migration":{"pgsize":4096},"max_data_xfer_size":4096}}"#,
    );
    let stated = stated.unwrap().capabilities.unwrap();
    assert_eq!((stated.descriptors(), stated.transfer()), (8, 4096));
    let nothing = parse("{}\0").unwrap().capabilities.unwrap();
    assert_eq!((nothing.descriptors(), nothing.transfer()), (1, 1 << 20));
}

#[test]
fn nonsense_in_version_is_refused() {
    for json in [
        "{",
        "\u{fffd}",
        r#"{"capabilities":{"max_msg_fds":-1}}"#,
        r#"{"capabilities":{"max_msg_fds":"8"}}"#,
        r#"{"capabilities":{"max_data_xfer_size":0}}"#,
        r#"{"capabilities":7}"#,
    ] {
        assert!(parse(json).is_err(), "{json}");
    }
    assert!(Proposal::parse(&[0, 0, 1]).is_err());
    assert!(Proposal::parse(&[0, 0, 1, 0, 0xFF, 0xFE]).is_err());
}

#[test]
fn an_answer_has_only_what_was_proposed() {
    let ours = Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(1 << 20),
        max_dma_maps: Some(4096),
        pgsizes: Some(4096),
        write_multiple: Some(true),
    };
    let theirs = Capabilities {
        max_msg_fds: Some(8),
        write_multiple: Some(false),
        ..Capabilities::default()
    };
    let answer = Proposal {
        version: Version { major: 0, minor: 1 },
        capabilities: Some(ours.answer_to(&theirs)),
    };
    let payload = answer.to_payload();
    assert_eq!(&payload[4..], b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
    assert_eq!(Proposal::parse(&payload).unwrap(), answer);
}
