//! The side that asks: requests go out in envelopes, and what comes back has to be one.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::http::{HeaderMap, Method, Request, Response, request};
use parking_lot::Mutex;
use tower::{BoxError, Layer, Service};

use super::body::{EnvelopeBody, collect, envelope_headers, is_envelope, whole};
use super::parcel::{AnswerParcel, RequestParcel};
use super::{Exchange, blocking, target};
use crate::envelope::{Interceptor, Invitation, Message, Origin, Peer, Refusal};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SessionId;
use crate::limits;

/// Puts a service's requests into envelopes for one peer, and opens the answers. Answers carry an [`Origin`] among their
/// extensions. It ends with the sessions of either side: then another has to be made.
#[derive(Clone)]
pub struct EnvelopeClientLayer(Arc<Client>);

struct Client {
    interceptor: Arc<Interceptor>,
    peer: Peer,
    exchange: Exchange,
    /// Our session for the answers.
    session: SessionId,
    invitation: Vec<u8>,
    /// The signer of the last answer: who has answered has the invitation.
    answered: Mutex<Option<[u8; 32]>>,
}

impl EnvelopeClientLayer {
    /// Connects to the peer that gave `invitation`, and opens a session for its answers. Waits for the key service.
    ///
    /// # Errors
    ///
    /// As [`Interceptor::connect`] and [`Interceptor::invite`].
    pub fn new(interceptor: Arc<Interceptor>, invitation: &Invitation, exchange: Exchange) -> Result<Self> {
        let peer = interceptor.connect(invitation)?;
        let own = interceptor.invite()?;
        let (session, invitation) = (own.session(), own.encode()?);
        Ok(Self(Arc::new(Client { interceptor, peer, exchange, session, invitation, answered: Mutex::new(None) })))
    }
}

impl Drop for Client {
    /// The key of the session for answers goes; in the key service it expires.
    fn drop(&mut self) {
        self.interceptor.forget(self.session);
    }
}

impl<S> Layer<S> for EnvelopeClientLayer {
    type Service = EnvelopeClient<S>;

    fn layer(&self, inner: S) -> EnvelopeClient<S> {
        EnvelopeClient { client: self.0.clone(), inner }
    }
}

/// A service behind an [`EnvelopeClientLayer`].
#[derive(Clone)]
pub struct EnvelopeClient<S> {
    client: Arc<Client>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for EnvelopeClient<S>
where
    S: Service<Request<EnvelopeBody>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody + Send + 'static,
    B::Error: Into<BoxError>,
    B::Data: Send,
    R: HttpBody + Send + 'static,
    R::Error: Into<BoxError>,
    R::Data: Send,
{
    type Response = Response<EnvelopeBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<EnvelopeBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone that was not asked whether it is ready stays behind.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let client = self.client.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let (body, trailers) = collect(body, limits::ENVELOPE_PAYLOAD_BYTES).await?;
            let sending = client.clone();
            let (request, asked) = blocking(move || sending.wrap(parts, body.to_vec(), trailers)).await?;
            let (parts, body) = inner.call(request).await.map_err(Into::into)?.into_parts();
            if !is_envelope(&parts.headers) {
                return Err(not_sealed(parts.status.as_u16()).into());
            }
            let (body, _) = collect(body, limits::ENVELOPE_BYTES).await?;
            let mut answer = blocking(move || client.unwrap(&body, &asked)).await?;
            *answer.version_mut() = parts.version;
            Ok(answer)
        })
    }
}

/// What an answer has to fit.
struct Asked {
    /// SHA-256 of the request's envelope.
    digest: [u8; 32],
    /// The signer whose certificate the request's envelope showed or named.
    thumbprint: [u8; 32],
}

impl Client {
    fn wrap(
        &self,
        mut parts: request::Parts,
        body: Vec<u8>,
        trailers: HeaderMap,
    ) -> Result<(Request<EnvelopeBody>, Asked)> {
        if parts.method == Method::HEAD {
            return Err(Error::invalid("an answer to HEAD has no place for an envelope").with_remedy("use GET"));
        }
        let knows = *self.answered.lock();
        let parcel = RequestParcel {
            method: parts.method.as_str().to_owned(),
            target: target(&parts.uri),
            headers: mem::replace(&mut parts.headers, envelope_headers()),
            body,
            trailers,
            reply_to: knows.is_none().then(|| self.invitation.clone()),
            knows,
        };
        let payload = parcel.encode()?;
        let message = Message { kind: self.exchange.request(), correlation: b"", payload: payload.expose_secret() };
        let (envelope, thumbprint) = self.interceptor.send_until_known(&self.peer, message)?;
        let digest = self.interceptor.provider().sha256(&[&envelope]);
        Ok((Request::from_parts(parts, whole(envelope, HeaderMap::new())), Asked { digest, thumbprint }))
    }

    fn unwrap(&self, envelope: &[u8], asked: &Asked) -> Result<Response<EnvelopeBody>> {
        let received = self.interceptor.receive(envelope)?;
        let origin = received.origin().clone();
        if !self.is_answer(&origin, received.correlation(), asked) {
            return Err(self.refuse(Refusal::Content));
        }
        let parcel = AnswerParcel::decode(received.payload().expose_secret());
        let parcel = parcel.map_err(|_| self.refuse(Refusal::Content))?;
        // The peer has read what we sent with it.
        self.peer.introduced(asked.thumbprint);
        *self.answered.lock() = Some(*origin.signer());
        let mut answer = Response::new(whole(parcel.body, parcel.trailers));
        *answer.status_mut() = parcel.status;
        *answer.headers_mut() = parcel.headers;
        answer.extensions_mut().insert(origin);
        Ok(answer)
    }

    /// Whether an envelope comes from our peer, in our session, as the answer to what was asked.
    fn is_answer(&self, origin: &Origin, correlation: &[u8], asked: &Asked) -> bool {
        origin.session() == self.session
            && origin.kind() == self.exchange.answer()
            && (origin.tenant(), origin.agent()) == (self.peer.tenant(), self.peer.agent())
            && correlation == asked.digest
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        self.interceptor.refused(refusal);
        refusal.into()
    }
}

/// An answer in clear comes from nobody that can be relied on: its status is a hint and nothing more.
fn not_sealed(status: u16) -> Error {
    let kind = if status == 503 { ErrorKind::Unavailable } else { ErrorKind::Denied };
    let remedy = match status {
        500 => "connect anew, and see before you ask again: what was asked for may have been done",
        _ => "try again, and if that fails connect anew; the peer's audit log says why",
    };
    Error::new(kind, format!("the answer is no envelope; its status is {status}")).with_remedy(remedy)
}
