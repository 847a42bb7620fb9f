//! The REST form, for whoever has no gRPC: contact and redeem as JSON with base64, health and metrics.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::redeem::Output;
use super::wire::{self, redeem_request::Token};
use super::{Sidecar, convert, grpc};
use crate::error::{Error, Result};
use crate::keys::Profile;
use crate::limits;
use crate::scrub::blocking;
use crate::server::Known;
use crate::server::error::{answer, to_response};
use crate::token::{Base64, RecordKind};

/// Everything that a sidecar serves: for [`crate::server::serve`].
pub async fn routes(sidecar: Arc<Sidecar>) -> Router {
    let rest = Router::new()
        .route("/v1/contact", post(contact))
        .route("/v1/redeem", post(redeem))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(limits::RPC_BYTES))
        .with_state(sidecar.clone());
    grpc::routes(sidecar).await.into_axum_router().merge(rest).fallback(nothing_here)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContactJson {
    profile: Profile,
    public_key: Base64,
    nonce: Base64,
}

#[derive(Serialize)]
struct WelcomeJson {
    id: Base64,
    ciphertext: Base64,
    expires_at_ms: u64,
    confirmation: Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedeemJson {
    contact: Base64,
    counter: u64,
    proof: Base64,
    #[serde(default)]
    clear: bool,
    token: Option<Base64>,
    token_sha256: Option<Base64>,
    #[serde(default)]
    issuer: Vec<Base64>,
    records: Vec<WantedJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedJson {
    digest: Base64,
    place: Base64,
    sealed: Option<Base64>,
    index: Option<u32>,
    #[serde(default)]
    path: Vec<Base64>,
}

/// In clear, text and metadata are what they are; everything else is base64.
#[derive(Serialize)]
struct OpenedJson {
    kind: RecordKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Base64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct RecordsJson {
    records: Vec<OpenedJson>,
}

async fn contact(
    State(sidecar): State<Arc<Sidecar>>,
    Extension(known): Extension<Known>,
    Json(asked): Json<ContactJson>,
) -> Response {
    respond(move || {
        let profile = u32::from(asked.profile.as_u8());
        let hello = wire::ContactRequest { profile, public_key: asked.public_key.0, nonce: asked.nonce.0 };
        let welcome = sidecar.contact(known.caller(), &convert::hello(hello)?)?;
        Ok(WelcomeJson {
            id: Base64(welcome.id.to_vec()),
            ciphertext: Base64(welcome.ciphertext),
            expires_at_ms: welcome.expires_at_ms,
            confirmation: Base64(welcome.confirmation.to_vec()),
        })
    })
    .await
}

async fn redeem(
    State(sidecar): State<Arc<Sidecar>>,
    Extension(known): Extension<Known>,
    Json(asked): Json<RedeemJson>,
) -> Response {
    respond(move || {
        let clear = asked.clear;
        let request = convert::request(asked.into_wire()?)?;
        let outputs = sidecar.redeem(known.caller(), known.is_local(), &request)?;
        Ok(RecordsJson { records: outputs.iter().map(|output| opened(output, clear)).collect() })
    })
    .await
}

async fn ready(State(sidecar): State<Arc<Sidecar>>) -> Response {
    if sidecar.is_ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not yet\n").into_response()
}

async fn metrics(State(sidecar): State<Arc<Sidecar>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], sidecar.metrics()).into_response()
}

async fn nothing_here() -> Response {
    let remedy = "`/v1/contact`, `/v1/redeem`, `/healthz`, `/readyz` and `/metrics` are here";
    answer(StatusCode::NOT_FOUND, &Error::not_found("there is nothing here").with_remedy(remedy))
}

/// Does `work` on a thread that may wait, and answers as JSON.
async fn respond<A: Serialize + Send + 'static>(work: impl FnOnce() -> Result<A> + Send + 'static) -> Response {
    match blocking(work).await {
        Ok(answer) => Json(answer).into_response(),
        Err(e) => to_response(&e),
    }
}

impl RedeemJson {
    fn into_wire(self) -> Result<wire::RedeemRequest> {
        let token = match (self.token, self.token_sha256) {
            (Some(whole), None) => Token::Whole(whole.0),
            (None, Some(digest)) => Token::Sha256(digest.0),
            _ => return Err(Error::invalid("the request needs either `token` or `token_sha256`")),
        };
        let records = self.records.into_iter().map(|wanted| wire::WantedRecord {
            digest: wanted.digest.0,
            place: wanted.place.0,
            sealed: wanted.sealed.map(|sealed| sealed.0),
            membership: wanted
                .index
                .map(|index| wire::Membership { index, path: wanted.path.into_iter().map(|hash| hash.0).collect() }),
        });
        let form = if self.clear { wire::Form::Clear } else { wire::Form::Sealed };
        Ok(wire::RedeemRequest {
            contact: self.contact.0,
            counter: self.counter,
            proof: self.proof.0,
            form: form.into(),
            token: Some(token),
            issuer: self.issuer.into_iter().map(|der| der.0).collect(),
            records: records.collect(),
        })
    }
}

fn opened(output: &Output, clear: bool) -> OpenedJson {
    let content = output.content.expose_secret();
    let text = if clear { std::str::from_utf8(content).ok().map(str::to_owned) } else { None };
    let metadata = output.metadata.as_ref().map(|metadata| {
        let bytes = metadata.expose_secret();
        // What is sealed is no JSON; what is in clear was some when it was written.
        let parsed = if clear { serde_json::from_slice(bytes).ok() } else { None };
        parsed.unwrap_or_else(|| STANDARD.encode(bytes).into())
    });
    let content = if text.is_none() { Some(Base64(content.to_vec())) } else { None };
    OpenedJson { kind: output.kind, text, content, metadata }
}
