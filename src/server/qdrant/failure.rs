//! What a call that fails answers: one sentence, and a code that means the same in HTTP and in gRPC.

use axum::http::StatusCode;
use tonic::Status;

use crate::error::{Error, ErrorKind};

/// What a call comes to.
pub(super) type Answer<T> = Result<T, Failure>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    message: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The request is wrong.
    BadRequest,
    /// The API key is missing, unknown, revoked or expired.
    Unauthorized,
    /// The API key may not.
    Forbidden,
    /// What was named is not there.
    NotFound,
    /// It is there already, or was changed meanwhile.
    Conflict,
    /// The request, or the answer to it, is larger than may be.
    TooLarge,
    /// Too much at once.
    Busy,
    /// Qdrant has it, Strongroom does not.
    Unsupported,
    /// The disk is full.
    StorageFull,
    /// Something needed is away.
    Unavailable,
    /// Something is wrong here.
    Internal,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// What Strongroom does not offer: one sentence why, and what to do instead.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The status of an HTTP answer.
    pub(super) fn http(&self) -> StatusCode {
        match self.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Busy => StatusCode::TOO_MANY_REQUESTS,
            Code::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let code = match e.kind() {
            ErrorKind::InvalidInput => Code::BadRequest,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Conflict => Code::Conflict,
            ErrorKind::Denied => Code::Forbidden,
            ErrorKind::Busy => Code::Busy,
            ErrorKind::StorageFull => Code::StorageFull,
            ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::Internal | ErrorKind::Integrity | ErrorKind::Partial => Code::Internal,
        };
        // The remedies of what goes wrong inside are for operators.
        let message = match (code, e.remedy()) {
            (Code::BadRequest, Some(remedy)) => format!("{e}; {remedy}"),
            _ => e.to_string(),
        };
        if code == Code::Internal {
            tracing::error!(error = %e, kind = e.kind().as_str(), "a call failed");
        }
        Self { code, message }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let message = failure.message;
        match failure.code {
            Code::BadRequest => Status::invalid_argument(message),
            Code::Unauthorized => Status::unauthenticated(message),
            Code::Forbidden => Status::permission_denied(message),
            Code::NotFound => Status::not_found(message),
            Code::Conflict => Status::already_exists(message),
            Code::TooLarge | Code::Busy | Code::StorageFull => Status::resource_exhausted(message),
            Code::Unsupported => Status::unimplemented(message),
            Code::Unavailable => Status::unavailable(message),
            Code::Internal => Status::internal(message),
        }
    }
}
