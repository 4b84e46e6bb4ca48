//! The routes of the process: is it alive, what happens in it, what can it be asked.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response as HttpResponse};
use serde::Deserialize;

use super::super::follow::{self, Format};
use super::Api;
use crate::error::{ApiError, ErrorCode};
use crate::events::Event;
use crate::request::{Request, Response};
use crate::state::VmmPing;

/// Is the process alive? Answered by the thread that owns the machine.
#[utoipa::path(
    get,
    path = "/vmm.ping",
    tag = "vmm",
    responses(
        (status = 200, description = "It is.", body = VmmPing),
        (status = "default", description = "It is not.", body = ApiError),
    ),
)]
pub async fn ping(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Ping).await
}

/// Shut the machine down, if there is one, and end the process.
#[utoipa::path(
    put,
    path = "/vmm.shutdown",
    tag = "vmm",
    responses(
        (status = 204, description = "The process ends."),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn shutdown(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Shutdown).await
}

/// What a client of `events` wants to see.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    since: Option<u64>,
    follow: Option<bool>,
}

/// What happens, as it happens: an object a line. If events behind `since` are kept no more, the first
/// object is a `gap`. With `Accept: text/event-stream`, server-sent events.
#[utoipa::path(
    get,
    path = "/events",
    tag = "vmm",
    params(
        (
            "since" = Option<u64>,
            Query,
            description = "The number of the last event seen; those behind it come first. 0 for all that are kept. \
                           Unless given, the stream begins with what happens next.",
        ),
        (
            "follow" = Option<bool>,
            Query,
            description = "Whether the stream goes on when all events kept are sent. It does unless given.",
        ),
    ),
    responses(
        (
            status = 200,
            description = "The events.",
            content(
                (Event = "application/x-ndjson"),
                (Event = "text/event-stream"),
            ),
        ),
        (status = 400, description = "The query is not understood.", body = ApiError),
        (status = 503, description = "There are too many event streams already.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<HttpResponse, ApiError> {
    let Query(query) = query.map_err(|error| {
        let message = format!(
            "reading the query: {}; `since` (a number) and `follow` (true or false) are known",
            error.body_text()
        );
        ApiError::new(ErrorCode::Malformed, message)
    })?;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let format = match text(ACCEPT) {
        Some(accept) if accept.contains("text/event-stream") => Format::ServerSent,
        _ => Format::Lines,
    };
    // A browser that reconnects tells so.
    let last = text(HeaderName::from_static("last-event-id")).and_then(|id| id.parse().ok());
    let since = last.or(query.since).unwrap_or_else(|| api.events.newest());
    let permit = api.streams.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(
            ErrorCode::Unavailable,
            "opening an event stream: there are too many already; close one",
        )
    })?;
    let body = follow::body(&api, format, since, query.follow.unwrap_or(true), permit);
    Ok(([(CONTENT_TYPE, format.content_type())], body).into_response())
}

/// The OpenAPI document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "vmm",
    responses(
        (status = 200, description = "The document.", content_type = "application/json", body = Object),
    ),
)]
pub async fn openapi() -> Result<HttpResponse, ApiError> {
    let document = crate::openapi::document().map_err(|error| {
        ApiError::new(ErrorCode::Internal, "writing the OpenAPI document")
            .with_cause(error.to_string())
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], document).into_response())
}
