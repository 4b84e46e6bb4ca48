//! One function a route, with its part of the OpenAPI document.

pub(super) mod device;
pub(super) mod teardown;
pub(super) mod vm;
pub(super) mod vmm;

use super::Api;
use crate::error::ApiError;
use crate::request::{Reply, Request, Response};

impl Api {
    /// Asks the thread that owns the machine.
    async fn call(&self, request: Request) -> Result<Response, ApiError> {
        let (reply, pending) = Reply::channel();
        self.submit.submit(request, reply);
        pending.answer().await
    }
}
