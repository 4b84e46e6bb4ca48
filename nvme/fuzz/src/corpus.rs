//! Games that are worth playing again, and new ones made of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::random::Random;

/// Bytes of the longest game.
const LONGEST: usize = 2048;

/// The kept games of a folder, in the order of their names.
///
/// # Errors
/// What the host says.
pub fn load(folder: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut games = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "game")
        {
            games.push((path.clone(), fs::read(path)?));
        }
    }
    games.sort();
    Ok(games)
}

/// Keeps a game in a folder, under a name that follows from it.
///
/// # Errors
/// What the host says.
pub fn save(folder: &Path, game: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let digest = game.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    });
    let path = folder.join(format!("{digest:016x}.game"));
    fs::write(&path, game)?;
    Ok(path)
}

/// A game of nothing but chance.
pub fn fresh(random: &mut Random) -> Vec<u8> {
    let length = match random.below(4) {
        0 => 32 + random.below(128),
        1 | 2 => 128 + random.below(512),
        _ => 256 + random.below(LONGEST - 256),
    };
    (0..length).map(|_| random.next() as u8).collect()
}

/// A game like one of `games`.
pub fn next(random: &mut Random, games: &[Vec<u8>]) -> Vec<u8> {
    if games.is_empty() || random.below(4) == 0 {
        return fresh(random);
    }
    let mut game = games[random.below(games.len())].clone();
    for _ in 0..=random.below(8) {
        let other = random.below(games.len());
        change(random, &mut game, &games[other]);
    }
    game.truncate(LONGEST);
    game
}

fn change(random: &mut Random, game: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(game.len() + 1);
    let span = |random: &mut Random, length: usize| {
        let start = random.below(length + 1);
        start..start + random.below((length - start).min(64) + 1)
    };
    match random.below(8) {
        0 | 1 => {
            if let Some(byte) = game.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        2 => {
            if let Some(byte) = game.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        3 => {
            game.drain(span(random, game.len()));
        }
        4 => {
            let fresh: Vec<u8> = (0..random.below(32)).map(|_| random.next() as u8).collect();
            game.splice(at..at, fresh);
        }
        5 => {
            let piece = other[span(random, other.len())].to_vec();
            game.splice(at..at, piece);
        }
        6 => {
            let piece = game[span(random, game.len())].to_vec();
            game.splice(at..at, piece);
        }
        _ => {
            // The end of another one.
            game.truncate(at);
            game.extend_from_slice(&other[at.min(other.len())..]);
        }
    }
}
