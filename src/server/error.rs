//! Errors on the wire: [`Error`] to a gRPC status, to an HTTP answer, and back, with kind, message and remedy.
//!
//! What lies below an error (its source) stays where it happened.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message as _;
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::wire;
use crate::error::{Error, ErrorKind, Result};

/// The metadata of a status that holds an encoded `strongroom.v1.Error`.
pub const ERROR_METADATA: &str = "strongroom-error-bin";

/// The error as an item's result.
pub(super) fn to_wire(error: &Error) -> wire::Error {
    wire::Error {
        kind: i32::from(error.kind().exit_code()),
        message: error.to_string(),
        remedy: error.remedy().map(str::to_owned),
    }
}

/// The inverse of [`to_wire`]. A kind that this version does not know is internal.
pub(super) fn from_wire(error: wire::Error) -> Error {
    let kind = ErrorKind::ALL.into_iter().find(|kind| i32::from(kind.exit_code()) == error.kind);
    let made = Error::new(kind.unwrap_or(ErrorKind::Internal), error.message);
    match error.remedy {
        Some(remedy) => made.with_remedy(remedy),
        None => made,
    }
}

/// The error as the end of a call.
pub(crate) fn to_status(error: &Error) -> Status {
    with_details(code(error.kind()), error)
}

/// What a peer gets whom nobody knows.
pub(super) fn unauthenticated() -> Status {
    with_details(Code::Unauthenticated, &unknown_peer())
}

fn with_details(code: Code, error: &Error) -> Status {
    let mut status = Status::new(code, error.to_string());
    let details = MetadataValue::from_bytes(&to_wire(error).encode_to_vec());
    status.metadata_mut().insert_bin(ERROR_METADATA, details);
    status
}

pub(super) fn unknown_peer() -> Error {
    Error::new(ErrorKind::Denied, "the service does not know who calls")
        .with_remedy("add the caller's user id or certificate to the file of services; it is read again by itself")
}

/// The inverse of [`to_status`]; a status that was made on the way says so.
pub(crate) fn from_status(status: Status) -> Error {
    if let Some(error) = details(&status) {
        return error;
    }
    if let Some(refusal) = tls_refusal(&status) {
        return refusal.with_source(status);
    }
    let kind = match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => ErrorKind::InvalidInput,
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Denied,
        Code::ResourceExhausted => ErrorKind::Busy,
        Code::Internal | Code::DataLoss => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    };
    let message = match kind {
        ErrorKind::Unavailable => "the service cannot be reached",
        ErrorKind::Busy => "the service is busy",
        _ => "the service refused the request",
    };
    let remedy = match kind {
        ErrorKind::Unavailable => "see whether it runs and listens where it is looked for".to_owned(),
        _ => format!("it said: {}", crate::id::shown(status.message())),
    };
    Error::new(kind, message).with_remedy(remedy).with_source(status)
}

fn details(status: &Status) -> Option<Error> {
    let bytes = status.metadata().get_bin(ERROR_METADATA)?.to_bytes().ok()?;
    wire::Error::decode(bytes).ok().map(from_wire)
}

/// Whether `status` comes from a peer that refused our certificate or key exchange, or was refused by us.
fn tls_refusal(status: &Status) -> Option<Error> {
    use tokio_rustls::rustls::Error as Tls;
    let mut at = std::error::Error::source(status);
    while let Some(error) = at {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()?.downcast_ref::<Tls>());
        match inner.or_else(|| error.downcast_ref::<Tls>()) {
            Some(Tls::AlertReceived(_)) => return Some(not_accepted()),
            Some(Tls::InvalidCertificate(_)) => {
                let message = "the service showed a certificate that is not the expected one, or is out of date";
                return Some(Error::new(ErrorKind::Denied, message).with_remedy(TLS_REMEDY));
            }
            _ => at = error.source(),
        }
    }
    None
}

/// What a peer finds out whom the service turned down in its handshake.
pub(super) fn not_accepted() -> Error {
    Error::new(ErrorKind::Denied, "the service does not accept this caller's certificate or TLS")
        .with_remedy(TLS_REMEDY)
}

const TLS_REMEDY: &str = "see whether each side knows the other's certificate, by its SHA-256 or by name, it is in date, and both have \
     X25519MLKEM768";

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Internal => Code::Internal,
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::FailedPrecondition,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Busy | ErrorKind::StorageFull => Code::ResourceExhausted,
        ErrorKind::Integrity => Code::DataLoss,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Partial => Code::Unknown,
    }
}

/// The error as the answer of the key directory: `{kind, message, remedy}`.
pub(crate) fn to_response(error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::Internal | ErrorKind::Integrity | ErrorKind::Partial => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = answer(status, error);
    if error.kind() == ErrorKind::Busy {
        // Whole seconds are the least that can be said; the remedy may know better.
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The error as an answer with `status`.
pub(crate) fn answer(status: StatusCode, error: &Error) -> Response {
    let body = json!({"kind": error.kind().as_str(), "message": error.to_string(), "remedy": error.remedy()});
    (status, Json(body)).into_response()
}

/// The results of a bulk call, when there are as many as were asked for.
pub(super) fn as_many<T>(asked: usize, results: Vec<T>) -> Result<Vec<T>> {
    if results.len() == asked {
        return Ok(results);
    }
    Err(Error::internal(format!("the key service answered {} of {asked} items", results.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Guards against a client that cannot tell what to do about an error that happened in the service.
        #[test]
        fn errors_cross_the_wire_whole(
            kind in 0..10_usize,
            message in "\\PC{1,80}",
            remedy in proptest::option::of("\\PC{1,80}"),
        ) {
            let mut error = Error::new(ErrorKind::ALL[kind], message);
            if let Some(remedy) = &remedy {
                error = error.with_remedy(remedy.clone());
            }
            for back in [from_wire(to_wire(&error)), from_status(to_status(&error))] {
                prop_assert_eq!(back.kind(), error.kind());
                prop_assert_eq!(back.to_string(), error.to_string());
                prop_assert_eq!(back.remedy(), error.remedy());
            }
        }

        #[test]
        fn hostile_details_never_panic(bytes: Vec<u8>, code in 0..20_i32) {
            let mut status = Status::new(Code::from_i32(code), "x");
            status.metadata_mut().insert_bin(ERROR_METADATA, MetadataValue::from_bytes(&bytes));
            from_status(status);
        }
    }
}
