//! What a scenario came to, as it travels from the lab host to the test runner.

use serde::{Deserialize, Serialize};

/// Where the results lie in the output folder: an array of [`Outcome`].
pub const RESULTS: &str = "results.json";

/// How one scenario ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario.
    pub name: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Why it failed, with the end of its consoles and logs; none if it passed.
    pub error: Option<String>,
    /// Counts and times that it noted.
    pub notes: Vec<String>,
}
