//! What every call goes through: it is measured, its API key is looked at, and it gets a place; then it is answered.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;
use tonic::codegen::tokio_stream::{Stream, StreamExt as _};

use super::apikey::{ApiKey, ApiKeys, KeyRole, Noted};
use super::failure::{Answer, Code, Failure};
use super::metrics::Metrics;
use super::rest::envelope;
use super::service::{Service, Session};
use crate::audit::{Arrival, Reason, What};
use crate::clock::{Clock as _, SystemClock};
use crate::limits;
use crate::server::files::Followed;

/// What calls go through.
pub(super) struct Gate {
    pub(super) service: Arc<Service>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) keys: watch::Receiver<Arc<ApiKeys>>,
    /// Bytes of requests that may be read at a time, in KiB.
    pub(super) room: Arc<Semaphore>,
    /// When a refused key was last written down, in milliseconds of Unix time: guessing must not fill the log.
    refusal_noted_ms: AtomicU64,
}

/// Which of the two interfaces a call comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Rest,
    Grpc,
}

impl Api {
    fn as_str(self) -> &'static str {
        match self {
            Api::Rest => "rest",
            Api::Grpc => "grpc",
        }
    }

    fn refuse(self, failure: Failure, began: Instant) -> Response {
        match self {
            Api::Rest => envelope::failed(&failure, began),
            Api::Grpc => tonic::Status::from(failure).into_http(),
        }
    }
}

/// The interface and the gate: what the middleware knows.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) gate: Arc<Gate>,
    pub(super) api: Api,
}

/// What a call takes of what there is for all, until it is answered.
#[derive(Clone)]
pub(super) struct Places {
    /// One of the places of its key.
    _of_key: Arc<OwnedSemaphorePermit>,
    /// Room for what was read of it.
    read: Arc<Mutex<Vec<OwnedSemaphorePermit>>>,
}

impl Gate {
    pub(super) fn new(service: Arc<Service>, metrics: Arc<Metrics>, keys: watch::Receiver<Arc<ApiKeys>>) -> Self {
        let room = Arc::new(Semaphore::new(limits::QDRANT_BODIES_BYTES >> 10));
        Self { service, metrics, keys, room, refusal_noted_ms: AtomicU64::new(0) }
    }

    /// The key that a call shows, if it is good.
    fn key(&self, headers: &HeaderMap) -> Answer<Arc<ApiKey>> {
        let refused = || Failure::new(Code::Unauthorized, "Must provide an API key or an Authorization bearer token");
        let presented = presented(headers).ok_or_else(refused)?;
        let known = self.keys.borrow().authenticate(presented, SystemClock.now_ms());
        known.ok_or_else(|| Failure::new(Code::Unauthorized, "Invalid API key or JWT"))
    }

    /// Writes down that keys were refused, at most once in a while.
    async fn note_refusal(&self) {
        self.metrics.key_refused();
        let now = SystemClock.now_ms();
        let before = self.refusal_noted_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(before) >= limits::QDRANT_REFUSAL_NOTED_MS;
        let mine =
            due && self.refusal_noted_ms.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !mine {
            return;
        }
        tracing::warn!("calls without an API key that is good were refused");
        let audit = self.service.audit();
        let what = What::Refused { reason: Reason::Credential };
        let event = Arrival { service: "qdrant-endpoint".to_owned(), role: None, what }.event(now);
        let noted = tokio::task::spawn_blocking(move || audit.record(&event)).await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::error!("a refused API key could not be written into the audit log");
        }
    }

    async fn admit(&self, request: Request) -> Answer<Request> {
        let key = match self.key(request.headers()) {
            Ok(key) => key,
            Err(failure) => {
                self.note_refusal().await;
                return Err(failure);
            }
        };
        let busy = || Failure::new(Code::Busy, "too many calls at once with this API key: wait for some of them");
        let place = key.requests.clone().try_acquire_owned().map_err(|_| busy())?;
        let places = Places { _of_key: Arc::new(place), read: Arc::default() };
        let (mut parts, body) = request.into_parts();
        let body = measured(body, [key.room.clone(), self.room.clone()], places.clone());
        parts.extensions.insert(Session::new(self.service.clone(), key, places));
        Ok(Request::from_parts(parts, body))
    }
}

/// The key that is shown: Qdrant's header, or a bearer token.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("api-key") {
        return key.to_str().ok();
    }
    let words = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = words.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The frames of a body, and an error once they have taken too long to come: until the end they keep their room.
struct Timely {
    frames: BodyDataStream,
    ends: Pin<Box<Sleep>>,
}

impl Stream for Timely {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ends.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into())));
        }
        Pin::new(&mut self.frames).poll_next(context).map_err(std::io::Error::other)
    }
}

/// `body`, where what is read of it takes room until the call is answered.
fn measured(body: Body, rooms: [Arc<Semaphore>; 2], places: Places) -> Body {
    let ends = Box::pin(tokio::time::sleep(Duration::from_millis(limits::QDRANT_REQUEST_MS)));
    Body::from_stream(Timely { frames: body.into_data_stream(), ends }.map(move |frame| {
        let frame = frame?;
        let kib = u32::try_from(frame.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let no_room = || std::io::Error::from(std::io::ErrorKind::QuotaExceeded);
        // That of the key comes first: one that sends too much takes nothing of what there is for all.
        for room in &rooms {
            let taken = room.clone().try_acquire_many_owned(kib).map_err(|_| no_room())?;
            places.read.lock().push(taken);
        }
        Ok::<_, std::io::Error>(frame)
    }))
}

/// Measures a call, and ends it when it takes too long: before the transport does, which would answer as gRPC does.
pub(super) async fn measure(State(door): State<Door>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let _running = door.gate.metrics.running();
    let call = match (door.api, request.extensions().get::<MatchedPath>()) {
        (Api::Rest, Some(path)) => format!("{} {}", verb(request.method()), path.as_str()),
        // The services that are there are few; anything else is one.
        (Api::Grpc, _) => super::grpc::known_call(request.uri().path()).unwrap_or("unknown").to_owned(),
        (Api::Rest, None) => "unknown".to_owned(),
    };
    // At once, since the transport keeps such a deadline by an answer of gRPC, which is a 200 without a body over REST.
    let deadline = door.api == Api::Rest && request.headers().contains_key("grpc-timeout");
    let response = if deadline {
        door.api.refuse(no_deadline(), began)
    } else {
        let most = Duration::from_millis(limits::QDRANT_REQUEST_MS);
        tokio::time::timeout(most, next.run(request)).await.unwrap_or_else(|_| door.api.refuse(too_slow(), began))
    };
    let status = match door.api {
        Api::Rest => response.status().as_u16(),
        Api::Grpc => grpc_status(&response),
    };
    let took = began.elapsed();
    door.gate.metrics.ended(door.api.as_str(), &call, status, took);
    tracing::info!(api = door.api.as_str(), call, status, ms = took.as_secs_f64() * 1000.0, "answered");
    response
}

fn no_deadline() -> Failure {
    Failure::bad("Wrong input: `grpc-timeout` is for calls over gRPC: leave it out, and stop waiting when you like")
}

fn too_slow() -> Failure {
    Failure::new(Code::Unavailable, "the call takes too long: ask for less at once")
}

/// A method as metrics have it: others than these are anything that a client likes.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

/// The code that a gRPC call ended with: in the headers when it failed, 0 otherwise.
fn grpc_status(response: &Response) -> u16 {
    let status = response.headers().get("grpc-status");
    status.and_then(|status| status.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Lets a call in whose key is good.
pub(super) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    match door.gate.admit(request).await {
        // Not given up when nobody waits for the answer any more: the call has its place until its work is done.
        Ok(request) => tokio::spawn(next.run(request)).await.unwrap_or_else(|e| {
            tracing::error!(error = %e, "a call failed");
            door.api.refuse(Failure::new(Code::Internal, "the call failed"), began)
        }),
        Err(failure) => door.api.refuse(failure, began),
    }
}

/// The metrics, for a key that is for them.
pub(super) async fn metrics(State(door): State<Door>, headers: HeaderMap) -> Response {
    let began = Instant::now();
    let allowed = door.gate.key(&headers).and_then(|key| match key.role() {
        KeyRole::Metrics => Ok(()),
        _ => Err(Failure::new(
            Code::Forbidden,
            "metrics are those of all tenants: use a key that was made with `strongroom apikey create --role metrics`",
        )),
    });
    if let Err(failure) = allowed {
        if failure.code() == Code::Unauthorized {
            door.gate.note_refusal().await;
        }
        return envelope::failed(&failure, began);
    }
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let shown = door.gate.metrics.shown();
    // Two texts of metrics are one without the end mark of the first.
    let ours = shown.strip_suffix("# EOF\n").unwrap_or(&shown).to_owned();
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], ours + &door.gate.service.store_metrics()).into_response()
}

/// Keeps the keys as their file is, until nobody asks for them any more. A file that is no good changes nothing; while
/// the audit log cannot be written, keys are taken away and none is added.
pub(super) async fn keep_up(
    keys: watch::Sender<Arc<ApiKeys>>,
    mut followed: Followed<ApiKeys>,
    mut noted: Noted,
    service: Arc<Service>,
) {
    // Whether the log has yet to know them as they are.
    let mut behind = false;
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::RELOAD_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = keys.closed() => return,
        }
        let own = service.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let files = [followed.made().path().to_owned()];
            let looked = followed.look(&files, ApiKeys::reload);
            let due = behind || matches!(looked, Ok(true));
            let told = due.then(|| own.note_keys(&mut noted, followed.made()));
            (looked, told, followed, noted)
        });
        // An error means that the runtime ends.
        let Ok((looked, told, followed_back, noted_back)) = looked.await else { return };
        (followed, noted) = (followed_back, noted_back);
        if let Err(e) = looked {
            tracing::warn!(error = %e, "the API keys have changed and are no good: those before go on");
        }
        match told {
            None => {}
            Some(Ok(())) => {
                behind = false;
                keys.send_replace(followed.made().clone());
            }
            Some(Err(e)) => {
                if !behind {
                    tracing::error!(error = %e, "new API keys are not good yet: the audit log has to know them");
                }
                behind = true;
                keys.send_replace(Arc::new(followed.made().only(|entry| noted.knows(entry))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against metrics that grow with what callers invent.
    #[test]
    fn methods_that_callers_invent_are_one() {
        let named = |method: &[u8]| verb(&Method::from_bytes(method).unwrap());
        assert_eq!((named(b"GET"), named(b"PATCH")), ("GET", "PATCH"));
        assert_eq!((named(b"INVENTED1"), named(b"get")), ("OTHER", "OTHER"));
    }
}
