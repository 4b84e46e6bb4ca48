//! The routes of teardowns: what they would take, their policy and their reports.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http;

use super::super::body;
use super::Api;
use crate::error::{ApiError, ErrorCode};
use crate::plan::Plans;
use crate::report::{TeardownReport, TeardownSummary};
use crate::request::{Request, Response};
use crate::state::{PolicyUpdate, TeardownPolicyInfo};

/// What a teardown of the machine would take under each policy, and which single change would save most.
#[utoipa::path(
    get,
    path = "/vm.plan",
    tag = "teardown",
    responses(
        (status = 200, description = "The plans. Other calls are answered while they are computed.", body = Plans),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn plan(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Plan).await
}

/// The order in which devices are shut down, and on how many threads.
#[utoipa::path(
    get,
    path = "/vm.teardown-policy",
    tag = "teardown",
    responses(
        (status = 200, description = "The policy of the next teardown.", body = TeardownPolicyInfo),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn policy(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::GetTeardownPolicy).await
}

/// Change the policy of the next teardowns.
#[utoipa::path(
    put,
    path = "/vm.teardown-policy",
    tag = "teardown",
    request_body = PolicyUpdate,
    responses(
        (status = 204, description = "The next teardown runs under it; one under way is not changed."),
        (status = 400, description = "The policy is unknown, a value is out of range, or nothing is given.", body = ApiError),
        (status = 409, description = "There is no machine.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn set_policy(
    State(api): State<Api>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let update: PolicyUpdate = body::parse(&body::read(request).await?)?;
    update.validate()?;
    api.call(Request::SetTeardownPolicy(update)).await
}

/// The teardowns that reports are kept of, oldest first.
#[utoipa::path(
    get,
    path = "/vm.teardowns",
    tag = "teardown",
    responses(
        (status = 200, description = "The teardowns.", body = Vec<TeardownSummary>),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn list(State(api): State<Api>) -> Result<Response, ApiError> {
    api.call(Request::Teardowns).await
}

/// The report of one teardown.
#[utoipa::path(
    get,
    path = "/vm.teardowns/{n}",
    tag = "teardown",
    params(("n" = u64, Path, description = "Number of the teardown, from 1.")),
    responses(
        (status = 200, description = "The report.", body = TeardownReport),
        (status = 404, description = "There was no such teardown, or its report is kept no more.", body = ApiError),
        (status = "default", description = "It failed.", body = ApiError),
    ),
)]
pub async fn report(State(api): State<Api>, Path(n): Path<String>) -> Result<Response, ApiError> {
    let number = n.parse().map_err(|_| {
        ApiError::new(
            ErrorCode::Malformed,
            format!("finding teardown `{n}`: its number is a whole number from 1"),
        )
        .with_field("n")
    })?;
    api.call(Request::Teardown(number)).await
}
