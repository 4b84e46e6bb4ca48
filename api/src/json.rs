//! Reading JSON strictly: errors name the field, and trees as deep as bus numbers allow are read without
//! endangering the stack.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// How deep a document may be nested: 255 bridges behind one another, two levels each, and some.
const DEEPEST: usize = 640;
/// From which depth on a document is read on a thread with a stack to match.
const DEEP: usize = 100;
/// The stack of that thread.
const STACK: usize = 32 << 20;

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    /// What is wrong, and where.
    pub message: String,
    /// The field, such as `pci[1].children[0].namespaces[0].path`; none if the document is no JSON.
    pub field: Option<String>,
    /// The innermost device around the field.
    pub device: Option<String>,
}

/// Reads a document.
///
/// # Errors
/// The document is no JSON, is nested too deep, or has not the shape of a `T`.
pub fn from_slice<T: DeserializeOwned + Send>(document: &[u8]) -> Result<T, JsonError> {
    let depth = depth(document);
    if depth > DEEPEST {
        return Err(JsonError {
            message: format!("the document is nested {depth} levels deep; {DEEPEST} are allowed"),
            field: None,
            device: None,
        });
    }
    if depth <= DEEP {
        return read(document);
    }
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("json".into())
            .stack_size(STACK);
        let refused = |what: &str| JsonError {
            message: format!(
                "the document is nested {depth} levels deep, and no thread to read it could be {what}"
            ),
            field: None,
            device: None,
        };
        reader
            .spawn_scoped(scope, || read(document))
            .map_err(|error| refused(&format!("started: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(refused("ended")))
    })
}

fn read<T: DeserializeOwned>(document: &[u8]) -> Result<T, JsonError> {
    let mut source = serde_json::Deserializer::from_slice(document);
    source.disable_recursion_limit();
    let value = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => refused_field(document, field, &error),
            _ => JsonError {
                message: format!("not valid JSON: {error}"),
                field: None,
                device: None,
            },
        }
    })?;
    match source.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(JsonError {
            message: format!("not valid JSON: {error}"),
            field: None,
            device: None,
        }),
    }
}

fn refused_field(document: &[u8], field: String, error: &serde_json::Error) -> JsonError {
    let device = device_around(document, &field);
    let of = device
        .as_ref()
        .map(|id| format!(" of device `{id}`"))
        .unwrap_or_default();
    // `.` is the document itself.
    let field = Some(field).filter(|field| field != ".");
    let message = match &field {
        Some(field) => format!("`{field}`{of}: {error}"),
        None => error.to_string(),
    };
    JsonError {
        message,
        field,
        device,
    }
}

/// The id of the innermost device that a field belongs to.
fn device_around(document: &[u8], field: &str) -> Option<String> {
    let mut source = serde_json::Deserializer::from_slice(document);
    source.disable_recursion_limit();
    let document: Value = serde::Deserialize::deserialize(&mut source).ok()?;
    let mut at = &document;
    let mut device = None;
    for step in field.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        at = match at {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            Value::Object(fields) => match fields.get(step) {
                Some(next) => next,
                None => break,
            },
            _ => break,
        };
        if at.get("type").is_some()
            && let Some(id) = at.get("id").and_then(Value::as_str)
        {
            device = Some(id.to_owned());
        }
    }
    device
}

/// How deep the arrays and objects of a document are nested, whether or not it is valid.
fn depth(document: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for &byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_what_is_not_in_strings() {
        assert_eq!(depth(br#"{"a":[{"b":"[[[[\"{{"}],"c":[]}"#), 3);
    }

    #[test]
    fn a_document_too_deep_is_refused_and_a_deep_one_is_read() {
        let nested = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        assert!(from_slice::<Value>(&nested(DEEPEST)).is_ok());
        assert!(
            from_slice::<Value>(&nested(DEEPEST + 1))
                .unwrap_err()
                .message
                .contains("641 levels")
        );
    }

    #[test]
    fn what_follows_the_document_is_refused() {
        assert!(
            from_slice::<u8>(b"1 2")
                .unwrap_err()
                .message
                .contains("trailing")
        );
        assert!(
            from_slice::<Value>(b"{")
                .unwrap_err()
                .message
                .contains("not valid JSON")
        );
    }
}
