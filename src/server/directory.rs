//! The key directory: tenants' public keys and certificates over REST, for who is let through.
//!
//! Answers carry a strong entity tag of their content (RFC 9110, section 8.8.3) and may be kept for a while.

use axum::extract::{Extension, Path, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::error::{answer, to_response, to_status};
use super::{Admitted, blocking};
use crate::crypto::{self, Kem};
use crate::error::{Error, ErrorKind, Result};
use crate::keys::certificate::{Certificate, to_pem};
use crate::keys::kms::PublicTenant;
use crate::limits;

const JSON: &str = "application/json";
const PEM: &str = "application/pem-certificate-chain";

pub(super) fn routes() -> axum::Router {
    axum::Router::new()
        .route("/v1/tenants/{tenant}/keys", get(keys))
        .route("/v1/tenants/{tenant}/certificates", get(certificates))
        .route("/v1/authorities", get(authorities))
        .route("/healthz", get(healthy))
}

async fn keys(Extension(admitted): Extension<Admitted>, Path(tenant): Path<String>, headers: HeaderMap) -> Response {
    let body = of_tenant(admitted, tenant, |tenant, public| {
        let profile = public.record.profile;
        let body = json!({
            "tenant": tenant,
            "profile": profile,
            "root": {
                "algorithm": Kem::MlKem1024.as_str(),
                "public_key": STANDARD.encode(&public.root_public_key),
                "fingerprint": public.record.root_fingerprint,
            },
            "signing": {
                "algorithm": profile.signature().as_str(),
                "public_key": STANDARD.encode(&public.signing_public_key),
                "fingerprint": public.record.signing_fingerprint,
            },
            "certificate_fingerprint": public.record.certificate_fingerprint,
            "certificates": pem(&public.certificates)?,
        });
        Ok(body.to_string())
    });
    cached(body.await, JSON, &headers)
}

async fn certificates(
    Extension(admitted): Extension<Admitted>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    cached(of_tenant(admitted, tenant, |_, public| pem(&public.certificates)).await, PEM, &headers)
}

async fn authorities(Extension(admitted): Extension<Admitted>, headers: HeaderMap) -> Response {
    cached(blocking(admitted, |admitted| pem(&admitted.backend.authorities()?)).await, PEM, &headers)
}

/// That the service is there and lets the caller in.
async fn healthy() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(json!({"status": "ok"}))).into_response()
}

/// Any other path.
pub(super) async fn nothing_here(request: Request) -> Response {
    let error = Error::not_found("there is nothing at this address").with_remedy("see `schema/strongroom.proto`");
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        let unimplemented = to_status(&error);
        return tonic::Status::new(tonic::Code::Unimplemented, unimplemented.message()).into_http();
    }
    to_response(&error)
}

/// A body made of what anybody may know of a tenant. A tenant that there is not and one that the caller does not work
/// for look alike.
async fn of_tenant(
    admitted: Admitted,
    tenant: String,
    make: impl FnOnce(&str, &PublicTenant) -> Result<String> + Send + 'static,
) -> Result<String> {
    let body = blocking(admitted, move |admitted| {
        let public = admitted.keys.public(&tenant.parse()?)?;
        make(&tenant, &public)
    });
    body.await.map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::InvalidInput => {
            Error::not_found("there is no such tenant for this service")
                .with_remedy("see whether the id is right and within the service's scope")
        }
        _ => e,
    })
}

fn pem(certificates: &[Vec<u8>]) -> Result<String> {
    to_pem(&certificates.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>>>()?)
}

/// The answer, or that what the caller has is still right.
fn cached(body: Result<String>, kind: &'static str, asked: &HeaderMap) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(e) => return to_response(&e),
    };
    let digest = crypto::default_provider().sha256(&[body.as_bytes()]);
    let tag = format!("\"{}\"", STANDARD.encode(digest));
    let headers = [
        (header::ETAG, HeaderValue::try_from(&tag)),
        (header::CACHE_CONTROL, HeaderValue::try_from(format!("private, max-age={}", limits::DIRECTORY_MAX_AGE_S))),
        (header::CONTENT_TYPE, Ok(HeaderValue::from_static(kind))),
    ];
    let mut response = if has(asked, &tag) { StatusCode::NOT_MODIFIED.into_response() } else { body.into_response() };
    for (name, value) in headers {
        let Ok(value) = value else {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, &Error::internal("a header could not be made"));
        };
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether the caller has what `tag` stands for: `If-None-Match` (RFC 9110, section 13.1.2) compares weakly.
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let lists = asked.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}
