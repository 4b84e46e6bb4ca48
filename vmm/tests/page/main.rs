//! The page about teardowns: what it holds whatever is in a report, and how a browser shows it. With
//! `SUNDOWN_PAGES` naming a folder the pages are left there to be looked at.

// A test may stop at the first surprise, and so may what it is made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod content;
mod layout;
mod samples;
mod sayings;
mod usage;
