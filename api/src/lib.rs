//! The contract of Sundown: what a virtual machine is configured with, what it reports, and how both
//! travel over HTTP on a Unix socket. Knows no KVM and no device.

pub mod client;
pub mod clock;
pub mod config;
pub mod error;
pub mod events;
pub mod json;
pub mod openapi;
pub mod plan;
pub mod report;
pub mod request;
pub mod server;
pub mod state;

pub use error::{ApiError, ErrorCode};
pub use request::{Answer, Reply, Request, Response, Submit};
