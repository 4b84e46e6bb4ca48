//! The table of all routes. The router and the OpenAPI document are both made from it.

use axum::Router;
use axum::http::{Method, Uri};
use utoipa::OpenApi;

use super::{Api, handlers};
use crate::config::DeviceAdded;
use crate::error::{ApiError, ErrorCode};

/// What every route begins with.
pub const BASE: &str = "/api/v1";

/// A method and a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method, in lower case.
    pub method: &'static str,
    /// The path behind [`BASE`].
    pub path: &'static str,
}

macro_rules! routes {
    ($($method:ident $path:literal => $($handler:ident)::+,)+) => {
        /// All routes.
        pub const ROUTES: &[Route] = &[$(Route { method: stringify!($method), path: $path }),+];

        /// The OpenAPI document.
        #[derive(OpenApi)]
        #[openapi(
            info(
                title = "Sundown",
                description = "A virtual machine monitor that shuts a guest's devices down in parallel at a reset, in place, \
                               and measures it. The API is served over HTTP on a Unix socket.",
            ),
            servers((url = "http://localhost/api/v1")),
            paths($($($handler)::+),+),
            // What is only named by a type of responses.
            components(schemas(DeviceAdded)),
        )]
        pub(crate) struct Document;

        fn table() -> Router<Api> {
            Router::new()$(.route($path, axum::routing::$method($($handler)::+)))+
        }
    };
}

routes! {
    get "/vmm.ping" => handlers::vmm::ping,
    put "/vmm.shutdown" => handlers::vmm::shutdown,
    put "/vm.create" => handlers::vm::create,
    put "/vm.boot" => handlers::vm::boot,
    get "/vm.info" => handlers::vm::info,
    put "/vm.pause" => handlers::vm::pause,
    put "/vm.resume" => handlers::vm::resume,
    put "/vm.shutdown" => handlers::vm::shutdown,
    put "/vm.reboot" => handlers::vm::reboot,
    put "/vm.power-button" => handlers::vm::power_button,
    put "/vm.delete" => handlers::vm::delete,
    get "/vm.topology" => handlers::vm::topology,
    get "/vm.devices/{id}/behaviour" => handlers::device::behaviour,
    put "/vm.devices/{id}/behaviour" => handlers::device::set_behaviour,
    put "/vm.add-device" => handlers::device::add,
    put "/vm.add-user-device" => handlers::device::add_user,
    put "/vm.remove-device" => handlers::device::remove,
    get "/vm.plan" => handlers::teardown::plan,
    get "/vm.teardown-policy" => handlers::teardown::policy,
    put "/vm.teardown-policy" => handlers::teardown::set_policy,
    get "/vm.teardowns" => handlers::teardown::list,
    get "/vm.teardowns/{n}" => handlers::teardown::report,
    get "/events" => handlers::vmm::events,
    get "/openapi.json" => handlers::vmm::openapi,
}

/// Everything that the server answers.
pub(super) fn router(api: Api) -> Router {
    Router::new()
        .nest(BASE, table())
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(api)
}

async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    let message = format!(
        "no route `{method} {}`; GET {BASE}/openapi.json lists them all",
        uri.path()
    );
    ApiError::new(ErrorCode::UnknownRoute, message)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path = uri.path().strip_prefix(BASE).unwrap_or(uri.path());
    let allowed: Vec<_> = ROUTES
        .iter()
        .filter(|route| matches(route.path, path))
        .map(|route| route.method.to_uppercase())
        .collect();
    let message = format!(
        "`{method}` is no method of `{}`; use {}",
        uri.path(),
        allowed.join(" or ")
    );
    ApiError::new(ErrorCode::MethodNotAllowed, message)
}

/// Whether a path is one of a route, whose last part may be a parameter.
fn matches(route: &str, path: &str) -> bool {
    match route.split_once('{') {
        Some((fixed, _)) => path.starts_with(fixed),
        None => route == path,
    }
}
