//! `nvme-fuzz --seconds 3600 --seed 1`: plays hostile guests against the drive until the time is over or
//! something is wrong. Then the process aborts, and `--replay` plays the game again that it was at.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use nvme_fuzz::{Endings, Guard, Place, corpus, random::Random};

/// How often there is a line of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// Plays hostile guests at the NVMe controller.
#[derive(Parser)]
struct Arguments {
    /// For how many seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the games are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Games to begin with: a folder.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))]
    corpus: PathBuf,
    /// Where games are kept that did something new, and the one that is being played.
    #[arg(long, default_value = "nvme-fuzz")]
    out: PathBuf,
    /// Plays these games and no others.
    #[arg(long, num_args = 1..)]
    replay: Vec<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let guard = Guard::set();
    let place = Place::new().context("no memory or threads to play with")?;
    if arguments.replay.is_empty() {
        run(&arguments, &place, &guard)?;
    }
    for path in &arguments.replay {
        let game =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        guard.begin();
        let endings = place.play(&game).context("the game cannot be played")?;
        println!("{}: {} kinds of endings", path.display(), endings.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn run(arguments: &Arguments, place: &Place, guard: &Guard) -> Result<()> {
    let kept = arguments.out.join("corpus");
    std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    let current = arguments.out.join("current.game");
    let mut games: Vec<Vec<u8>> = Vec::new();
    if arguments.corpus.is_dir() {
        games.extend(
            corpus::load(&arguments.corpus)?
                .into_iter()
                .map(|(_, game)| game),
        );
    }
    let mut waiting = games.clone();
    let mut random = Random::new(arguments.seed);
    let mut endings = Endings::new();
    let started = Instant::now();
    let mut said = started;
    while started.elapsed() < Duration::from_secs(arguments.seconds) {
        let from_outside = waiting.pop();
        let is_new = from_outside.is_none();
        let game = from_outside.unwrap_or_else(|| corpus::next(&mut random, &games));
        std::fs::write(&current, &game)
            .with_context(|| format!("cannot write {}", current.display()))?;
        let number = guard.begin();
        let found = place.play(&game).context("the game cannot be played")?;
        let before = endings.len();
        endings.extend(found);
        if endings.len() > before && is_new {
            corpus::save(&kept, &game)?;
            games.push(game);
        }
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            let seconds = started.elapsed().as_secs_f64();
            let (kinds, kept) = (endings.len(), games.len());
            let rate = number as f64 / seconds;
            println!(
                "{seconds:.0} s: {number} games, {rate:.0} a second, {kinds} kinds of endings, {kept} kept"
            );
        }
    }
    let number = guard.games();
    println!(
        "{number} games from seed {} in {:.0} s, {} kinds of endings: nothing wrong",
        arguments.seed,
        started.elapsed().as_secs_f64(),
        endings.len()
    );
    let _ = std::fs::remove_file(&current);
    Ok(())
}
