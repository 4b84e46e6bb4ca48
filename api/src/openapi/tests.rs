//! The document equals the one that is kept, and names the routes that there are.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::document;
use crate::server::ROUTES;

#[test]
fn the_document_kept_is_the_one_generated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/openapi.json");
    let generated = document().unwrap();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == generated,
        "resources/openapi.json is not what the code says; `UPDATE_OPENAPI=1 cargo test -p api openapi` writes it anew"
    );
}

#[test]
fn every_route_is_in_the_document_and_every_path_is_a_route() {
    let document: Value = serde_json::from_str(&document().unwrap()).unwrap();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(move |method| (method.clone(), path.clone()))
        })
        .collect();
    let routed = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(described, routed);
}

#[test]
fn every_schema_that_is_referred_to_is_there() {
    let text = document().unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "no schema `{name}`");
    }
}
