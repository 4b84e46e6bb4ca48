//! The OpenAPI document, generated from the routes and the types.

use utoipa::OpenApi;

use crate::server::Document;

/// The document as JSON, as `resources/openapi.json` keeps it.
///
/// # Errors
/// The document could not be written as JSON, which would be a defect.
pub fn document() -> Result<String, serde_json::Error> {
    let mut text = Document::openapi().to_pretty_json()?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests;
