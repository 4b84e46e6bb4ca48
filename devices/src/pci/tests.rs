//! What the tests of the hierarchy's parts stand on.

pub(super) mod fake;
