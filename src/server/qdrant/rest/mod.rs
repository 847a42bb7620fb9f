//! Qdrant's REST interface: paths, bodies and answers as its clients know them. It only translates.

mod collections;
pub(super) mod envelope;
mod points;
mod query;
mod unoffered;

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::failure::{Answer, Code, Failure};
use super::gate::{self, Api, Door};
use super::model::points::UpdateStatus;
use super::{TITLE, VERSION};
use crate::limits;

/// Everything that is served over REST.
pub(super) fn routes(door: Door) -> Router {
    debug_assert!(door.api == Api::Rest, "the door of another interface");
    let calls = collections::routes().merge(points::routes()).merge(query::routes()).merge(unoffered::routes());
    let calls = calls
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(door.clone(), gate::admit));
    let open = Router::new()
        .route("/", get(title))
        .route("/healthz", get(async || "healthz check passed"))
        .route("/livez", get(async || "livez check passed"))
        .route("/readyz", get(async || "all shards are ready"))
        .route("/metrics", get(gate::metrics).with_state(door.clone()));
    open.merge(calls).layer(middleware::from_fn_with_state(door, gate::measure))
}

/// What every client asks first.
async fn title() -> Response {
    Json(json!({"title": TITLE, "version": VERSION, "commit": ""})).into_response()
}

async fn nothing_here(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    envelope::failed(&Failure::not_found(format!("there is nothing at `{path}`")), Instant::now())
}

async fn not_so(method: Method) -> Response {
    let failure = Failure::bad(format!("`{method}` is not how this is asked for"));
    let mut response = envelope::failed(&failure, Instant::now());
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, PUT, POST, PATCH, DELETE"));
    response
}

/// What stands behind the question mark. All of it is known, and what would change the answer is looked at.
#[derive(Default, Deserialize)]
struct Asked {
    /// Whether to wait until it is done: it always is.
    #[serde(default)]
    wait: Option<bool>,
}

impl Asked {
    fn status(&self) -> UpdateStatus {
        if self.wait == Some(true) { UpdateStatus::Completed } else { UpdateStatus::Acknowledged }
    }
}

/// The parameters in a path.
fn path<T>(path: Result<axum::extract::Path<T>, PathRejection>) -> Answer<T> {
    path.map(|axum::extract::Path(parts)| parts).map_err(|_| Failure::bad("the path is no text"))
}

fn asked(query: Result<axum::extract::Query<Asked>, QueryRejection>) -> Answer<Asked> {
    let asked = query.map(|axum::extract::Query(asked)| asked);
    asked.map_err(|_| Failure::bad("Validation error: `wait` is `true` or `false`"))
}

/// The whole body, within its bound.
async fn read(body: Body) -> Answer<Bytes> {
    match axum::body::to_bytes(body, limits::QDRANT_BODY_BYTES).await {
        Ok(bytes) => Ok(bytes),
        Err(e) => Err(unreadable(&e)),
    }
}

/// Why a body could not be read.
fn unreadable(e: &axum::Error) -> Failure {
    let mut at: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(e);
    while let Some(error) = at {
        if error.is::<http_body_util::LengthLimitError>() {
            let mib = limits::QDRANT_BODY_BYTES >> 20;
            return Failure::new(Code::TooLarge, format!("JSON payload is larger than allowed (limit: {mib} MiB)"));
        }
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::QuotaExceeded) {
            return Failure::new(Code::Busy, "too much is being sent at once: try again");
        }
        at = error.source();
    }
    Failure::bad("the body was not sent whole")
}

/// The body of a call.
async fn body<T: DeserializeOwned>(body: Body) -> Answer<T> {
    let bytes = read(body).await?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::bad(format!("Format error in JSON body: {}", what(&e))))
}

/// What is wrong with a body, without the values that it holds.
fn what(e: &serde_json::Error) -> String {
    let (words, at) = (e.to_string(), format!(" at line {} column {}", e.line(), e.column()));
    let words = words.strip_suffix(&at).unwrap_or(&words);
    let plain = ["invalid type: ", "invalid value: "].iter().find_map(|head| {
        let (_, expected) = words.strip_prefix(head)?.rsplit_once(", expected ")?;
        Some(format!("expected {expected}"))
    });
    let words: String = plain.unwrap_or_else(|| words.to_owned()).chars().take(300).collect();
    if e.line() == 0 { words } else { words + &at }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a value of a tenant's in an answer that a proxy writes into its log.
    #[test]
    fn errors_say_what_is_wrong_and_where_but_no_value() {
        let wrong =
            |json: &str| what(&serde_json::from_str::<std::collections::BTreeMap<String, u8>>(json).unwrap_err());
        for json in [r#"{"a": "secret-7734"}"#, r#"{"a": 7734}"#, r#"{"a": -7734}"#, "\"secret-7734\""] {
            let said = wrong(json);
            assert!(!said.contains("7734") && said.contains("expected") && said.contains("line 1"), "{said}");
        }
        assert!(wrong("{").contains("EOF"));
    }
}
