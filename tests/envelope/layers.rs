//! The layers: what an HTTP or gRPC service gets and answers goes in envelopes, and nothing else reaches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::extract::{Extension, Path};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use axum::routing::post;
use axum::{Router, body::Body};
use coset::cbor::value::Value;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use strongroom::envelope::layer::{CONTENT_TYPE, EnvelopeBody, EnvelopeClientLayer, EnvelopeServerLayer, Exchange};
use strongroom::envelope::{Invitation, Kind, Message, Origin, Refusal};
use strongroom::keys::Profile;
use strongroom::limits;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, Service, ServiceExt, service_fn};

use super::agents::{Agent, pair};
use super::world::{World, other_of, patiently, tenant_of};

const PROFILE: Profile = Profile::Hybrid;

/// A service for tools behind the layer, and how often it was called.
struct Tools {
    router: Router,
    calls: Arc<AtomicUsize>,
}

impl Tools {
    fn of(agent: &Agent, exchange: Exchange) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let call = move |path: Path<String>, origin: Extension<Origin>, headers: HeaderMap, body: Bytes| async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let Path(name) = path;
            let asked = headers.get("x-trace").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
            let text = format!("{name} for {}: {} ({asked})", origin.agent().as_str(), String::from_utf8_lossy(&body));
            assert!(!headers.contains_key("x-outside"), "what nobody vouches for is passed on");
            (StatusCode::CREATED, [("x-answer", "yes")], text)
        };
        let router = Router::new()
            .route("/tools/{name}", post(call))
            .layer(EnvelopeServerLayer::new(agent.interceptor.clone(), exchange));
        Self { router, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

type Wire = BoxCloneSyncService<Request<EnvelopeBody>, Response<Body>, BoxError>;

fn wire(tools: &Tools) -> Wire {
    let router = tools.router.clone();
    BoxCloneSyncService::new(service_fn(move |request: Request<EnvelopeBody>| {
        let router = router.clone();
        async move { Ok(router.oneshot(request).await?) }
    }))
}

/// Connects, with the patience that a pool of keys may ask for.
fn connect(client: &Agent, server: &Agent, exchange: Exchange) -> EnvelopeClientLayer {
    let invitation = server.invite();
    patiently(|| EnvelopeClientLayer::new(client.interceptor.clone(), &invitation, exchange)).unwrap()
}

fn request(path: &str, body: impl Into<String>) -> Request<Body> {
    Request::post(path).header("x-trace", "t-1").body(Body::from(body.into())).unwrap()
}

async fn text<B>(response: Response<B>) -> String
where
    B: axum::body::HttpBody,
    B::Error: std::fmt::Debug,
{
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A body that goes on as it was, after somebody has looked at it.
async fn seen(request: Request<EnvelopeBody>) -> (Request<EnvelopeBody>, Bytes) {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (Request::from_parts(parts, http_body_util::Full::new(bytes.clone()).boxed()), bytes)
}

#[tokio::test]
async fn an_axum_service_answers_in_envelopes() {
    let world = World::new();
    for profile in Profile::ALL {
        let (planner, tool) = pair(&world, profile);
        let tools = Tools::of(&tool, Exchange::ToolCalls);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (inner, logged) = (wire(&tools), log.clone());
        let watched = service_fn(move |request: Request<EnvelopeBody>| {
            let (inner, logged) = (inner.clone(), logged.clone());
            async move {
                let (mut request, sent) = seen(request).await;
                assert_eq!(request.headers().len(), 1, "{:?}", request.headers());
                assert_eq!(request.headers()["content-type"], CONTENT_TYPE);
                request.headers_mut().insert("x-outside", "1".parse().unwrap());
                let (parts, body) = inner.oneshot(request).await?.into_parts();
                let answered = body.collect().await?.to_bytes();
                assert_eq!((parts.status, &parts.headers["content-type"]), (StatusCode::OK, &CONTENT_TYPE.parse()?));
                assert!(!parts.headers.contains_key("x-answer"));
                logged.lock().extend([sent, answered.clone()]);
                Ok::<_, BoxError>(Response::from_parts(parts, Body::from(answered)))
            }
        });
        let service = connect(&planner, &tool, Exchange::ToolCalls).layer(watched);
        for n in 0..3 {
            let answer = service.clone().oneshot(request("/tools/search?q=1", format!("needle {n}"))).await.unwrap();
            assert_eq!(
                (answer.status(), &answer.headers()["x-answer"]),
                (StatusCode::CREATED, &"yes".parse().unwrap())
            );
            let origin: Origin = answer.extensions().get::<Origin>().unwrap().clone();
            assert_eq!((origin.agent().as_str(), origin.kind()), ("searcher", Kind::ToolResult));
            assert_eq!(text(answer).await, format!("search for planner: needle {n} (t-1)"));
        }
        let log = log.lock();
        assert!(log.iter().all(|bytes| !bytes.windows(6).any(|w| w == b"needle")), "a plaintext is on the wire");
        // Certificates and invitation travel until they have arrived, and no longer.
        assert!(log[0].len() > log[4].len() + 20_000 && log[1].len() > log[5].len() + 5_000, "{profile}");
        assert!(planner.reasons().is_empty() && tool.reasons().is_empty() && tools.calls() == 3);
    }
}

/// Guards against requests that race before anybody was introduced.
#[tokio::test(flavor = "multi_thread")]
async fn first_requests_may_race() {
    let world = World::new();
    let (planner, tool) = pair(&world, PROFILE);
    let tools = Tools::of(&tool, Exchange::Messages);
    let mut service = connect(&planner, &tool, Exchange::Messages).layer(wire(&tools));
    let mut asked = Vec::new();
    for n in 0..32 {
        let ready = ServiceExt::<Request<Body>>::ready(&mut service).await.unwrap();
        asked.push(tokio::spawn(ready.call(request("/tools/t", n.to_string()))));
    }
    for (n, answer) in asked.into_iter().enumerate() {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(text(answer).await, format!("t for planner: {n} (t-1)"));
    }
    assert_eq!((tools.calls(), planner.reasons(), tool.reasons()), (32, vec![], vec![]));
}

/// What is wrong with a request, and why the server says that it is.
#[tokio::test]
async fn what_is_not_meant_for_a_service_does_not_reach_it() {
    let world = World::new();
    let (planner, tool) = pair(&world, PROFILE);
    let tools = Tools::of(&tool, Exchange::ToolCalls);
    let refused = async |request: Request<EnvelopeBody>, reason: Refusal, what: &str| {
        let answer = wire(&tools).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{what}");
        let said = text(answer).await;
        assert!(said.contains("\"the envelope is refused\"") && said.contains("\"denied\""), "{said}");
        assert_eq!(tool.reasons().last(), Some(&reason), "{what}");
    };
    let plain = |body: &str| http_body_util::Full::new(Bytes::from(body.to_owned())).boxed();
    refused(Request::post("/tools/t").body(plain("x")).unwrap(), Refusal::Malformed, "a request in clear").await;
    let typed = |bytes: Vec<u8>, path: &str, method: Method| {
        let request = Request::builder().method(method).uri(path).header("content-type", CONTENT_TYPE);
        request.body(http_body_util::Full::new(Bytes::from(bytes)).boxed()).unwrap()
    };
    refused(typed(b"x".to_vec(), "/tools/t", Method::POST), Refusal::Malformed, "bytes").await;
    let long = vec![0; limits::ENVELOPE_BYTES + 1];
    refused(typed(long, "/tools/t", Method::POST), Refusal::Malformed, "too many bytes").await;

    // Envelopes that were caught on the way.
    let caught = async |exchange| {
        let last = Arc::new(Mutex::new(Vec::new()));
        let kept = last.clone();
        let keep = service_fn(move |request: Request<EnvelopeBody>| {
            let kept = kept.clone();
            async move {
                *kept.lock() = seen(request).await.1.to_vec();
                Err::<Response<Body>, BoxError>("lost".into())
            }
        });
        let service = connect(&planner, &tool, exchange).layer(keep);
        assert!(service.oneshot(request("/tools/t", "x")).await.is_err());
        last.lock().clone()
    };
    let sent = caught(Exchange::ToolCalls).await;
    refused(typed(sent, "/tools/other", Method::POST), Refusal::Content, "a request moved to another path").await;
    let sent = caught(Exchange::ToolCalls).await;
    refused(typed(sent, "/tools/t?all", Method::POST), Refusal::Content, "a request with another query").await;
    let sent = caught(Exchange::Messages).await;
    refused(typed(sent, "/tools/t", Method::POST), Refusal::Content, "a message instead of a tool call").await;
    let sent = caught(Exchange::ToolCalls).await;
    let received = wire(&tools).oneshot(typed(sent.clone(), "/tools/t", Method::POST)).await.unwrap();
    assert_eq!((received.status(), tools.calls()), (StatusCode::OK, 1));
    refused(typed(sent, "/tools/t", Method::POST), Refusal::Replay, "a request again").await;
    assert_eq!(tools.calls(), 1);
}

/// Guards against a client that has the answers to others' requests sent to somebody else, or none at all.
#[tokio::test]
async fn answers_go_to_the_sender_only() {
    let world = World::new();
    let (planner, tool) = pair(&world, PROFILE);
    let (mallory, tools) = (Agent::new(&world, &tenant_of(PROFILE), "mallory"), Tools::of(&tool, Exchange::Messages));
    let sent = |reply_to: Option<&Invitation>| {
        let peer = planner.connect(&tool);
        let reply_to = reply_to.map_or(Value::Null, |invitation| Value::Bytes(invitation.encode().unwrap()));
        let none = || Value::Array(Vec::new());
        let (method, target) = (Value::from("POST"), Value::from("/tools/t"));
        let body = Value::Bytes(b"x".to_vec());
        let parcel = [Value::from(1), method, target, none(), body, none(), reply_to, Value::Null];
        let mut payload = Vec::new();
        coset::cbor::ser::into_writer(&Value::Array(parcel.to_vec()), &mut payload).unwrap();
        let message = Message { kind: Kind::Message, correlation: b"", payload: &payload };
        let envelope = patiently(|| planner.interceptor.send(&peer, message)).unwrap();
        let request = Request::post("/tools/t").header("content-type", CONTENT_TYPE);
        request.body(http_body_util::Full::new(Bytes::from(envelope)).boxed()).unwrap()
    };
    let foreign = Agent::new(&world, &other_of(PROFILE), "planner").invite();
    let cases = [
        (Some(mallory.invite()), StatusCode::FORBIDDEN, Some(Refusal::Sender)),
        (Some(foreign), StatusCode::FORBIDDEN, Some(Refusal::Signer)),
        (None, StatusCode::FORBIDDEN, Some(Refusal::Content)),
        (Some(planner.invite()), StatusCode::OK, None),
    ];
    for (reply_to, status, reason) in cases {
        let before = tool.reasons().len();
        let answer = wire(&tools).oneshot(sent(reply_to.as_ref())).await.unwrap();
        assert_eq!(answer.status(), status, "{reason:?}");
        assert_eq!(tool.reasons().get(before), reason.as_ref());
    }
    assert_eq!(tools.calls(), 1);
}

/// Guards against an answer that is given for another's, and against one in clear.
#[tokio::test]
async fn an_answer_is_for_one_request() {
    let world = World::new();
    let (planner, tool) = pair(&world, PROFILE);
    let tools = Tools::of(&tool, Exchange::Messages);
    let (inner, held) = (wire(&tools), Arc::new(Mutex::new(None)));
    let swapped = service_fn(move |request: Request<EnvelopeBody>| {
        let (inner, held) = (inner.clone(), held.clone());
        async move {
            let answer = inner.oneshot(request).await?;
            // Each gets the answer before its own; the first gets its own, in clear.
            let before = held.lock().replace(answer);
            Ok::<_, BoxError>(before.unwrap_or_else(|| Response::new(Body::from("yes"))))
        }
    });
    let service = connect(&planner, &tool, Exchange::Messages).layer(swapped);
    let ask = async || service.clone().oneshot(request("/tools/t", "x")).await.err().unwrap().to_string();
    assert_eq!(ask().await, "the answer is no envelope; its status is 200");
    assert!(planner.reasons().is_empty());
    assert_eq!(ask().await, "the envelope is refused");
    assert_eq!((planner.reasons(), tools.calls()), (vec![Refusal::Content], 2));
    let head = Request::head("/tools/t").body(Body::empty()).unwrap();
    assert!(service.clone().oneshot(head).await.is_err());
    let long = "x".repeat(limits::ENVELOPE_PAYLOAD_BYTES + 1);
    assert!(service.clone().oneshot(request("/tools/t", long)).await.err().unwrap().to_string().contains("too long"));
    assert_eq!(tools.calls(), 2);
}

/// More fields than an envelope has room for.
fn many(headers: &mut HeaderMap) {
    for _ in 0..=limits::ENVELOPE_FIELDS {
        headers.append("x-many", "1".parse().unwrap());
    }
}

/// Guards against a client that asks for the same again because it was told that nothing was done.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_not_offered_to_be_done_again() {
    let world = World::new();
    let (planner, tool) = pair(&world, PROFILE);
    let (calls, clock) = (Arc::new(AtomicUsize::new(0)), world.clock.clone());
    let counted = calls.clone();
    let call = move |Path(name): Path<String>| async move {
        counted.fetch_add(1, Ordering::SeqCst);
        let (mut headers, mut body) = (HeaderMap::new(), Vec::new());
        match name.as_str() {
            // Alone it fits, with what else an answer holds it does not.
            "long" => body = vec![b'x'; limits::ENVELOPE_PAYLOAD_BYTES],
            "many" => many(&mut headers),
            // The client's session is over before there is an answer.
            _ => clock.set(super::world::NOW_MS + 3_700_000),
        }
        (headers, body)
    };
    let router = Router::new()
        .route("/tools/{name}", post(call))
        .layer(EnvelopeServerLayer::new(tool.interceptor.clone(), Exchange::ToolCalls));
    let service = connect(&planner, &tool, Exchange::ToolCalls).layer(wire(&Tools { router, calls: calls.clone() }));
    for path in ["/tools/long", "/tools/many"] {
        let answer = service.clone().oneshot(request(path, "x")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert!(answer.extensions().get::<Origin>().is_some() && text(answer).await.is_empty());
    }
    let error = service.clone().oneshot(request("/tools/slow", "x")).await.err().unwrap();
    assert_eq!(error.to_string(), "the answer is no envelope; its status is 500");
    let error = error.downcast_ref::<strongroom::Error>().unwrap();
    assert_eq!(error.kind(), strongroom::ErrorKind::Denied);
    assert!(error.remedy().unwrap().contains("may have been done"), "{:?}", error.remedy());
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    // What cannot be sent is refused where it is made.
    let mut long = request("/tools/t", "x");
    many(long.headers_mut());
    let error = service.clone().oneshot(long).await.err().unwrap();
    assert_eq!(error.downcast_ref::<strongroom::Error>().unwrap().kind(), strongroom::ErrorKind::InvalidInput);
}

/// A gRPC service behind the layer, over HTTP/2 on loopback: answers, trailers and errors.
#[tokio::test(flavor = "multi_thread")]
async fn a_tonic_service_answers_in_envelopes() {
    let world = World::new();
    let (planner, tool) = pair(&world, PROFILE);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("tools", tonic_health::ServingStatus::Serving).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tonic::transport::Server::builder()
        .layer(EnvelopeServerLayer::new(tool.interceptor.clone(), Exchange::ToolCalls))
        .add_service(health)
        .serve_with_incoming_shutdown(incoming, async { drop(stopped.await) });
    let serving = tokio::spawn(serving);
    let channel = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    // In clear nothing is to be had.
    let mut clear = HealthClient::new(channel.clone());
    assert!(clear.check(HealthCheckRequest { service: "tools".into() }).await.is_err());
    assert_eq!(tool.reasons(), [Refusal::Malformed]);

    let channel = channel.map_request(|request: Request<EnvelopeBody>| request.map(tonic::body::Body::new));
    let mut client = HealthClient::new(connect(&planner, &tool, Exchange::ToolCalls).layer(channel));
    for _ in 0..3 {
        let answer = client.check(HealthCheckRequest { service: "tools".into() }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
        let unknown = client.check(HealthCheckRequest { service: "nothing".into() }).await.err().unwrap();
        assert_eq!(unknown.code(), tonic::Code::NotFound, "{unknown}");
    }
    assert!(planner.reasons().is_empty() && tool.reasons().len() == 1);
    stop.send(()).unwrap();
    drop((client, clear));
    serving.await.unwrap().unwrap();
}

/// The two layers fit each other without anything in between.
#[tokio::test]
async fn layers_fit_each_other() {
    fn is_service<T: Service<Request<tonic::body::Body>>>(_: &T) {}
    let world = World::new();
    let (planner, tool) = pair(&world, PROFILE);
    let (_, health) = tonic_health::server::health_reporter();
    let server = EnvelopeServerLayer::new(tool.interceptor.clone(), Exchange::Messages);
    let service = server.layer(tonic::service::Routes::new(health));
    let service = connect(&planner, &tool, Exchange::Messages).layer(service);
    is_service(&service);
    let mut client = HealthClient::new(service);
    let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
}
