//! The routes of single devices.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http;
use utoipa::IntoResponses;

use super::super::body;
use super::Api;
use crate::config::{
    AddDevice, AddUserDevice, BehaviourUpdate, DeviceAdded, DeviceBehaviour, RemoveDevice,
};
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

/// How a device is added.
#[derive(IntoResponses)]
#[expect(
    dead_code,
    reason = "stands for what `Response` becomes, in the document alone"
)]
enum AddResponses {
    /// It is part of the machine, which is as it was otherwise.
    #[response(status = 200)]
    Added(DeviceAdded),
    /// The device is refused; the error names the field. The machine is as it was.
    #[response(status = 400)]
    Refused(ApiError),
    /// The machine runs, or there is none, or somebody else uses the device, or another passed-through device is away.
    #[response(status = 409)]
    Conflict(ApiError),
    /// It failed.
    #[response(status = "default")]
    Failed(ApiError),
}

/// Add a device to a machine that does not run. Its devices are made anew: files and sockets of the others are
/// closed and opened again, and the numbers of boots and teardowns go on.
#[utoipa::path(
    put,
    path = "/vm.add-device",
    tag = "devices",
    request_body = AddDevice,
    responses(AddResponses),
)]
pub async fn add(
    State(api): State<Api>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let added = AddDevice::from_json(&body::read(request).await?)?;
    api.call(Request::AddDevice(Box::new(added))).await
}

/// Add a device of a vfio-user server to a machine that does not run: `vm.add-device` in few words.
#[utoipa::path(
    put,
    path = "/vm.add-user-device",
    tag = "devices",
    request_body = AddUserDevice,
    responses(AddResponses),
)]
pub async fn add_user(
    State(api): State<Api>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let added: AddUserDevice = body::parse(&body::read(request).await?)?;
    api.call(Request::AddUserDevice(Box::new(added))).await
}

/// Remove a device, and the links that name it, from a machine that does not run.
#[utoipa::path(
    put,
    path = "/vm.remove-device",
    tag = "devices",
    request_body = RemoveDevice,
    responses(
        (status = 204, description = "The machine is made anew without it."),
        (status = 400, description = "Devices are behind it, or every machine has it.", body = ApiError),
        (status = 404, description = "There is no such device.", body = ApiError),
        (status = 409, description = "The machine runs, or there is none, or another passed-through device is away.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn remove(
    State(api): State<Api>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let RemoveDevice { id } = body::parse(&body::read(request).await?)?;
    api.call(Request::RemoveDevice(id)).await
}
