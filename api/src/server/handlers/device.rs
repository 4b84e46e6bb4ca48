//! The routes of single devices.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http;

use super::super::body;
use super::Api;
use crate::config::{BehaviourUpdate, DeviceBehaviour};
use crate::error::ApiError;
use crate::request::{Request, Response};

/// How a device behaves: its latencies, and what is wrong with it.
#[utoipa::path(
    get,
    path = "/vm.devices/{id}/behaviour",
    tag = "devices",
    params(("id" = String, Path, description = "The device's name.")),
    responses(
        (status = 200, description = "How it behaves.", body = DeviceBehaviour),
        (status = 404, description = "There is no such device.", body = ApiError),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn behaviour(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    api.call(Request::GetBehaviour(id)).await
}

/// Change how a device behaves, at once and whatever the machine is doing. What is given takes the place of
/// what there was; the rest stays. What a fault that is cleared has held up goes on.
#[utoipa::path(
    put,
    path = "/vm.devices/{id}/behaviour",
    tag = "devices",
    params(("id" = String, Path, description = "The device's name.")),
    request_body = BehaviourUpdate,
    responses(
        (status = 204, description = "It behaves so from now on."),
        (status = 400, description = "A value is out of range, the device has no such field, or nothing is given.", body = ApiError),
        (status = 404, description = "There is no such device.", body = ApiError),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn set_behaviour(
    State(api): State<Api>,
    Path(id): Path<String>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let update: BehaviourUpdate = body::parse(&body::read(request).await?)?;
    update.validate()?;
    api.call(Request::SetBehaviour(id, Box::new(update))).await
}
