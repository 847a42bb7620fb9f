//! What every answer is wrapped into.

use std::time::Instant;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;

use crate::server::qdrant::failure::{Answer, Code, Failure};

#[derive(Serialize)]
struct Envelope<T> {
    result: T,
    status: &'static str,
    time: f64,
}

/// The answer to a call that began then.
pub(in super::super) fn answer<T: Serialize>(answer: Answer<T>, began: Instant) -> Response {
    match answer {
        Ok(result) => Json(Envelope { result, status: "ok", time: began.elapsed().as_secs_f64() }).into_response(),
        Err(failure) => failed(&failure, began),
    }
}

/// That of one that failed.
pub(in super::super) fn failed(failure: &Failure, began: Instant) -> Response {
    let body = json!({"status": {"error": failure.message()}, "time": began.elapsed().as_secs_f64()});
    let mut response = (failure.http(), Json(body)).into_response();
    let extra = match failure.code() {
        // Whole seconds are the least that can be said.
        Code::Busy => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
        Code::Unauthorized => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        _ => None,
    };
    if let Some((name, value)) = extra {
        response.headers_mut().insert(name, value);
    }
    response
}
