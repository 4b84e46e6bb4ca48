//! Ends the process when something is wrong: a panic on any thread, or a game that does not end. What it says
//! goes to standard error itself, which a test's runner does not hold back.

use std::io::{Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long a game may take before it counts as hung: half as long again at most.
const HUNG: Duration = Duration::from_secs(120);

/// Knows the game that is being played.
pub struct Guard {
    games: Arc<AtomicU64>,
}

impl Guard {
    /// From now on a panic ends the process, and so does a game that is played for too long.
    pub fn set() -> Self {
        let games = Arc::new(AtomicU64::new(0));
        let (played, before) = (Arc::clone(&games), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            let game = played.load(Ordering::Relaxed);
            let _ = writeln!(stderr(), "in game {game}: {panic}");
            std::process::abort();
        }));
        let played = Arc::clone(&games);
        thread::spawn(move || {
            let mut last = u64::MAX;
            loop {
                let now = played.load(Ordering::Relaxed);
                if now == last {
                    let _ = writeln!(stderr(), "game {now} does not end");
                    std::process::abort();
                }
                last = now;
                thread::sleep(HUNG);
            }
        });
        Self { games }
    }

    /// The next game begins. Returns its number, from 1.
    pub fn begin(&self) -> u64 {
        self.games.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many have begun.
    pub fn games(&self) -> u64 {
        self.games.load(Ordering::Relaxed)
    }
}
