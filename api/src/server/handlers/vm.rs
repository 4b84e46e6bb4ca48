//! The routes of the machine's life.

use axum::body::Body;
use axum::extract::State;
use axum::http;

use super::super::body;
use super::Api;
use crate::config::VmConfig;
use crate::error::ApiError;
use crate::request::{Request, Response};
use crate::state::{Topology, VmInfo};

/// Create the machine. Its files are opened and locked; nothing runs yet.
#[utoipa::path(
    put,
    path = "/vm.create",
    tag = "vm",
    request_body = VmConfig,
    responses(
        (status = 204, description = "The machine is created."),
        (status = 400, description = "The configuration is refused; the error names the field or the device.", body = ApiError),
        (status = 409, description = "There is a machine already, or another process holds one of the files.", body = ApiError),
        (status = 413, description = "The body is larger than 1 MiB.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn create(
    State(api): State<Api>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let document = body::read(request).await?;
    let config = VmConfig::from_json(&document)?;
    api.call(Request::Create(Box::new(config))).await
}

/// Boot the machine.
#[utoipa::path(
    put,
    path = "/vm.boot",
    tag = "vm",
    responses(
        (status = 204, description = "Its vCPUs run."),
        (status = 409, description = "The machine runs already, or there is none.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn boot(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Boot).await
}

/// Stop the vCPUs where they are.
#[utoipa::path(
    put,
    path = "/vm.pause",
    tag = "vm",
    responses(
        (status = 204, description = "They stand still."),
        (status = 409, description = "The machine does not run.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn pause(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Pause).await
}

/// Let the vCPUs of a paused machine run again.
#[utoipa::path(
    put,
    path = "/vm.resume",
    tag = "vm",
    responses(
        (status = 204, description = "They run."),
        (status = 409, description = "The machine is not paused.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn resume(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Resume).await
}

/// Stop the vCPUs and shut the devices down. The machine can be booted again.
#[utoipa::path(
    put,
    path = "/vm.shutdown",
    tag = "vm",
    responses(
        (status = 204, description = "The machine is shut down."),
        (status = 409, description = "The machine does not run.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn shutdown(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::ShutdownVm).await
}

/// Reset the machine: its devices are shut down and reset in place, and it boots again.
#[utoipa::path(
    put,
    path = "/vm.reboot",
    tag = "vm",
    responses(
        (status = 204, description = "The reboot has begun; `events` and `vm.teardowns` tell of its end."),
        (status = 409, description = "The machine does not run.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn reboot(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Reboot).await
}

/// Press the ACPI power button. What comes of it is the guest's decision.
#[utoipa::path(
    put,
    path = "/vm.power-button",
    tag = "vm",
    responses(
        (status = 204, description = "The guest was told."),
        (status = 409, description = "The machine does not run.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn power_button(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::PowerButton).await
}

/// Shut the machine down and give everything of it back.
#[utoipa::path(
    put,
    path = "/vm.delete",
    tag = "vm",
    responses(
        (status = 204, description = "The machine is gone."),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn delete(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Delete).await
}

/// What the machine is configured with and what it is doing.
#[utoipa::path(
    get,
    path = "/vm.info",
    tag = "vm",
    responses(
        (status = 200, description = "The machine.", body = VmInfo),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn info(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Info).await
}

/// The device tree, with the addresses that the guest has given.
#[utoipa::path(
    get,
    path = "/vm.topology",
    tag = "vm",
    responses(
        (status = 200, description = "The device tree.", body = Topology),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn topology(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Topology).await
}
