//! Bodies: read with a limit and a time limit, and parsed strictly; errors and answers made into HTTP.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::BODY_LIMIT;
use crate::error::{ApiError, ErrorCode};
use crate::json;
use crate::request;

/// How long a client may take for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body over the limit is read and dropped, so that a client still sending sees the answer.
const DRAIN_LIMIT: usize = 64 * BODY_LIMIT;

/// Reads a body.
pub(super) async fn read(request: Request<Body>) -> Result<Vec<u8>, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // A client that asks first has not begun to send.
    if announced.is_some_and(|length| length > BODY_LIMIT) && request.headers().contains_key(EXPECT)
    {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(request.into_body())).await {
        Ok(body) => body,
        Err(_) => Err(ApiError::new(
            ErrorCode::RequestTimeout,
            format!(
                "reading the body: it did not arrive within {} s",
                BODY_TIMEOUT.as_secs()
            ),
        )),
    }
}

async fn collect(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let mut collected = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::from_error(ErrorCode::Malformed, &error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length > DRAIN_LIMIT {
            return Err(too_large());
        }
        if length <= BODY_LIMIT {
            collected.extend_from_slice(&data);
        }
    }
    if length > BODY_LIMIT {
        Err(too_large())
    } else {
        Ok(collected)
    }
}

fn too_large() -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!("reading the body: it has more than {BODY_LIMIT} bytes"),
    )
}

/// Parses a body.
pub(super) fn parse<T: DeserializeOwned + Send>(body: &[u8]) -> Result<T, ApiError> {
    json::from_slice(body).map_err(|error| ApiError {
        code: ErrorCode::Malformed,
        message: format!("reading the body: {error}"),
        causes: Vec::new(),
        device: error.device,
        field: error.field,
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}

impl IntoResponse for request::Response {
    fn into_response(self) -> Response {
        match self {
            Self::Done => StatusCode::NO_CONTENT.into_response(),
            Self::Ping(ping) => Json(ping).into_response(),
            Self::Info(info) => Json(info).into_response(),
            Self::Topology(topology) => Json(topology).into_response(),
            Self::Plan(plans) => Json(plans).into_response(),
            Self::TeardownPolicy(policy) => Json(policy).into_response(),
            Self::Teardowns(teardowns) => Json(teardowns).into_response(),
            Self::Added(added) => Json(added).into_response(),
            Self::Behaviour(behaviour) => Json(behaviour).into_response(),
            Self::Teardown(report) => Json(report).into_response(),
        }
    }
}
