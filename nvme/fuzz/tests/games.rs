//! A short run of hostile guests: the games that are kept, and as many new ones, the same each time.

// A test may stop at the first surprise.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use nvme_fuzz::random::Random;
use nvme_fuzz::{Guard, Place, corpus};

/// New games, made of nothing and of the kept ones.
const NEW: usize = 150;

fn kept() -> Vec<(std::path::PathBuf, Vec<u8>)> {
    corpus::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap()
}

#[test]
fn no_guest_has_the_drive_panic_hang_or_reach_beyond_its_memory() {
    // On the drive's threads a panic would be one of a test that passes.
    let guard = Guard::set();
    let place = Place::new().unwrap();
    let kept = kept();
    let mut games: Vec<_> = kept.iter().map(|(_, game)| game.clone()).collect();
    let (mut endings, mut random) = (nvme_fuzz::Endings::new(), Random::new(4));
    for number in 0..NEW {
        games.push(match number % 2 {
            0 => corpus::fresh(&mut random),
            _ => corpus::next(&mut random, &games[..kept.len()]),
        });
    }
    for (number, game) in games.iter().enumerate() {
        let _ = guard.begin();
        let name = kept.get(number).map(|(path, _)| path.display());
        println!(
            "game {} {}",
            number + 1,
            name.map_or_else(String::new, |name| name.to_string())
        );
        endings.extend(place.play(game).unwrap());
    }
    // The games get somewhere: commands succeed and fail in many ways, at both kinds of queues.
    let succeeded = |at_admin| {
        let ended = endings.iter();
        ended
            .filter(|(admin, _, status)| *admin == at_admin && *status == 0)
            .count()
    };
    assert!(succeeded(true) > 4, "{endings:?}");
    assert!(succeeded(false) > 3, "{endings:?}");
    assert!(endings.len() > 30, "{endings:?}");
}

#[test]
fn every_kept_game_is_no_longer_than_games_are() {
    for (path, game) in kept() {
        assert!(game.len() <= 2048, "{}", path.display());
    }
}
