//! The side that answers: requests come in envelopes, and so do the answers to them.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::http::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request};
use tower::{BoxError, Layer, Service};

use super::body::{EnvelopeBody, collect, envelope_headers, is_envelope, whole};
use super::parcel::{AnswerParcel, RequestParcel};
use super::{Exchange, blocking, target};
use crate::envelope::{Interceptor, Invitation, Message, Peer, Refusal};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Opens the envelopes that a service's requests come in, and puts the answers into others. Requests carry an
/// [`Origin`](crate::envelope::Origin) among their extensions. What is in clear or refused does not reach the service;
/// the answer to it is 403 in the same words whatever was wrong, or 503. When the service has answered and that cannot be
/// sealed, the answer is 500 in clear.
///
/// It belongs outside of what changes a request's path.
#[derive(Clone)]
pub struct EnvelopeServerLayer {
    interceptor: Arc<Interceptor>,
    exchange: Exchange,
}

impl EnvelopeServerLayer {
    /// For requests to `interceptor`'s agent.
    pub fn new(interceptor: Arc<Interceptor>, exchange: Exchange) -> Self {
        Self { interceptor, exchange }
    }
}

impl<S> Layer<S> for EnvelopeServerLayer {
    type Service = EnvelopeServer<S>;

    fn layer(&self, inner: S) -> EnvelopeServer<S> {
        EnvelopeServer { server: self.clone(), inner }
    }
}

/// A service behind an [`EnvelopeServerLayer`].
#[derive(Clone)]
pub struct EnvelopeServer<S> {
    server: EnvelopeServerLayer,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for EnvelopeServer<S>
where
    S: Service<Request<EnvelopeBody>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody + Send + 'static,
    B::Error: Into<BoxError>,
    B::Data: Send,
    R: HttpBody + Send + 'static,
    R::Error: Into<BoxError>,
    R::Data: Send,
{
    type Response = Response<EnvelopeBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<EnvelopeBody>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone that was not asked whether it is ready stays behind.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let server = self.server.clone();
        Box::pin(async move {
            let (request, reply) = match server.clone().open(request).await {
                Ok(opened) => opened,
                Err(e) => return Ok(in_clear(refusal_status(&e), &e)),
            };
            let answer = inner.call(request).await?;
            let sealed = server.seal(answer, reply).await;
            // Not as a refusal: whoever takes it for one asks for the same again.
            Ok(sealed.unwrap_or_else(|e| in_clear(StatusCode::INTERNAL_SERVER_ERROR, &e)))
        })
    }
}

/// Where the answer goes.
struct Reply {
    peer: Arc<Peer>,
    /// SHA-256 of the request's envelope.
    digest: [u8; 32],
}

impl EnvelopeServerLayer {
    async fn open<B>(self, request: Request<B>) -> Result<(Request<EnvelopeBody>, Reply)>
    where
        B: HttpBody + Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        if !is_envelope(&parts.headers) {
            return Err(self.refuse(Refusal::Malformed));
        }
        let collected = collect(body, limits::ENVELOPE_BYTES).await;
        let (envelope, _) = collected.map_err(|_| self.refuse(Refusal::Malformed))?;
        blocking(move || self.unwrap(parts, &envelope)).await
    }

    fn unwrap(&self, mut parts: request::Parts, envelope: &[u8]) -> Result<(Request<EnvelopeBody>, Reply)> {
        let received = self.interceptor.receive(envelope)?;
        let origin = received.origin().clone();
        let parcel = RequestParcel::decode(received.payload().expose_secret());
        let parcel = parcel.map_err(|_| self.refuse(Refusal::Content))?;
        let meant = parcel.method == parts.method.as_str() && parcel.target == target(&parts.uri);
        if origin.kind() != self.exchange.request() || !meant {
            return Err(self.refuse(Refusal::Content));
        }
        let reply_to = parcel.reply_to.map(|bytes| Invitation::decode(&bytes)).transpose();
        let reply_to = reply_to.map_err(|_| self.refuse(Refusal::Content))?;
        let peer = self.interceptor.reply_peer(&origin, reply_to.as_ref())?;
        if let Some(thumbprint) = parcel.knows {
            peer.introduced(thumbprint);
        }
        let digest = self.interceptor.provider().sha256(&[envelope]);
        parts.headers = parcel.headers;
        parts.extensions.insert(origin);
        Ok((Request::from_parts(parts, whole(parcel.body, parcel.trailers)), Reply { peer, digest }))
    }

    async fn seal<R>(self, answer: Response<R>, reply: Reply) -> Result<Response<EnvelopeBody>>
    where
        R: HttpBody + Send,
        R::Error: Into<BoxError>,
    {
        let (mut parts, body) = answer.into_parts();
        let headers = mem::replace(&mut parts.headers, envelope_headers());
        let parcel = match collect(body, limits::ENVELOPE_PAYLOAD_BYTES).await {
            Ok((body, trailers)) => AnswerParcel { status: parts.status, headers, body: body.to_vec(), trailers },
            // What it has done it has done: the peer is told that the answer is lost.
            Err(_) => AnswerParcel::lost(),
        };
        // Outside there is nothing to be seen of how it went.
        parts.status = StatusCode::OK;
        let envelope = blocking(move || self.wrap(parcel, &reply)).await?;
        Ok(Response::from_parts(parts, whole(envelope, HeaderMap::new())))
    }

    fn wrap(&self, parcel: AnswerParcel, reply: &Reply) -> Result<Vec<u8>> {
        let payload = parcel.encode().or_else(|_| AnswerParcel::lost().encode())?;
        let (kind, payload) = (self.exchange.answer(), payload.expose_secret());
        let message = Message { kind, correlation: &reply.digest, payload };
        let (envelope, _) = self.interceptor.send_until_known(&reply.peer, message)?;
        Ok(envelope)
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        self.interceptor.refused(refusal);
        refusal.into()
    }
}

/// One for everything that is refused, one for what may go better later.
fn refusal_status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An answer in clear.
fn in_clear(status: StatusCode, error: &Error) -> Response<EnvelopeBody> {
    let body = serde_json::json!({
        "kind": error.kind().as_str(), "message": error.to_string(), "remedy": error.remedy(),
    });
    let mut response = Response::new(whole(body.to_string().into_bytes(), HeaderMap::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE_HEADER, HeaderValue::from_static("application/json"));
    response
}
