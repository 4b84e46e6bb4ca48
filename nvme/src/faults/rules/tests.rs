//! Which commands are struck.

use super::*;

fn command(opcode: u8) -> Submission {
    Submission {
        opcode,
        nsid: 1,
        ..Submission::zeroed()
    }
}

fn failing(opcode: Option<u8>, nth: u64, every: bool) -> CommandFault {
    CommandFault {
        queue: Some(QueueKind::Io),
        opcode,
        nth,
        every,
        effect: Effect::Status(Status::INTERNAL_ERROR),
    }
}

fn rules(set: &FaultSet) -> Rules {
    let mut rules = Rules::new(1);
    rules.replace(set);
    rules
}

/// The numbers, from 1, of the reads among `count` that are struck.
fn struck(rules: &Rules, count: u64) -> Vec<u64> {
    let reads = 1..=count;
    reads
        .filter(|_| rules.strike(1, &command(io::READ)).is_some())
        .collect()
}

#[test]
fn the_nth_command_is_struck_once_or_every_time() {
    let of = |nth, every| {
        let commands = vec![failing(Some(io::READ), nth, every)];
        let rules = rules(&FaultSet {
            commands,
            ..FaultSet::default()
        });
        struck(&rules, 10)
    };
    assert_eq!(of(3, false), [3]);
    assert_eq!(of(3, true), [3, 6, 9]);
    assert_eq!(of(1, true).len(), 10);
}

#[test]
fn only_commands_that_match_are_counted() {
    let commands = vec![failing(Some(io::READ), 2, false)];
    let rules = rules(&FaultSet {
        commands,
        ..FaultSet::default()
    });
    assert!(rules.strike(1, &command(io::WRITE)).is_none());
    assert!(rules.strike(0, &command(io::READ)).is_none());
    assert_eq!(struck(&rules, 3), [2]);
}

#[test]
fn the_first_rule_decides_and_every_rule_counts() {
    let mut second = failing(None, 2, false);
    second.effect = Effect::Status(Status::WRITE_FAULT);
    let rules = rules(&FaultSet {
        commands: vec![failing(None, 1, false), second],
        ..FaultSet::default()
    });
    let strike = || match rules.strike(1, &command(io::READ)) {
        Some(Struck::Status(status)) => Some(status),
        _ => None,
    };
    assert_eq!(strike(), Some(Status::INTERNAL_ERROR));
    assert_eq!(strike(), Some(Status::WRITE_FAULT));
    assert_eq!(strike(), None);
}

#[test]
fn a_rule_that_stays_counts_on_and_a_new_one_begins() {
    let set = FaultSet {
        commands: vec![failing(None, 3, false)],
        ..FaultSet::default()
    };
    let mut rules = rules(&set);
    assert!(struck(&rules, 2).is_empty());
    rules.replace(&set);
    assert_eq!(struck(&rules, 2), [1]);
    rules.replace(&FaultSet::default());
    assert!(rules.is_empty());
    rules.replace(&set);
    assert_eq!(struck(&rules, 4), [3]);
}

#[test]
fn a_bad_block_is_hit_by_what_reads_it() {
    let media = MediaFault {
        namespace: 1,
        first_block: 100,
        blocks: 8,
    };
    let hit = |opcode, first: u32, blocks: u32| {
        media.is_hit_by(&Submission {
            cdw10: first,
            cdw12: blocks - 1,
            ..command(opcode)
        })
    };
    assert!(hit(io::READ, 100, 1) && hit(io::READ, 107, 1) && hit(io::READ, 0, 101));
    assert!(hit(io::COMPARE, 100, 1) && hit(io::VERIFY, 99, 2));
    assert!(!hit(io::READ, 108, 10) && !hit(io::READ, 0, 100));
    assert!(!hit(io::WRITE, 100, 1));
    let other = Submission {
        nsid: 2,
        cdw10: 100,
        ..command(io::READ)
    };
    assert!(!media.is_hit_by(&other));
}
