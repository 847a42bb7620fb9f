//! Calls to the server from threads that wait: connections, deadlines, repeated attempts, and what a failure means.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use qdrant_client::qdrant::{
    CollectionExistsRequest, CreateCollection, CreateFieldIndexCollection, DeleteCollection, GetCollectionInfoRequest,
    HealthCheckRequest, ListCollectionsRequest,
};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::options::{ApiKey, QdrantUrl, ServerOptions};
use super::scope::InScope;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::server::connect::Connector;

/// Threads that connections are served by.
const THREADS: usize = 2;
/// What may be under way on one stream, and on all of a connection, before the server must wait.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Messages that are not about points. Those about points come from `scope` alone.
pub(super) trait NotAboutPoints: Clone + Send + Sync + 'static {}
impl NotAboutPoints for HealthCheckRequest {}
impl NotAboutPoints for ListCollectionsRequest {}
impl NotAboutPoints for CollectionExistsRequest {}
impl NotAboutPoints for GetCollectionInfoRequest {}
impl NotAboutPoints for CreateCollection {}
impl NotAboutPoints for DeleteCollection {}
impl NotAboutPoints for CreateFieldIndexCollection {}

/// Clients of one connection.
pub(super) struct Clients {
    pub(super) points: PointsClient<Channel>,
    pub(super) collections: CollectionsClient<Channel>,
    pub(super) qdrant: QdrantClient<Channel>,
}

pub(super) struct Link {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    /// Each connects when it is used, and again when the connection is lost.
    channels: Vec<Channel>,
    next: AtomicUsize,
    url: QdrantUrl,
    api_key: Option<ApiKey>,
    deadline: Duration,
    /// Whether the server was found to be new enough.
    checked: AtomicBool,
}

impl Link {
    pub(super) fn new(options: ServerOptions) -> Result<Self> {
        options.validate()?;
        let ServerOptions { url, api_key, trust, timeout_ms, connections, .. } = options;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("strongroom-qdrant")
            .enable_all()
            .build()?;
        let connector = Connector::outward(url.place(), url.is_tls().then_some(trust))?;
        let channels = {
            let _entered = runtime.enter();
            (0..connections).map(|_| channel(&url, connector.clone())).collect::<Result<_>>()?
        };
        Ok(Self {
            runtime: Some(runtime),
            channels,
            next: AtomicUsize::new(0),
            url,
            api_key,
            deadline: Duration::from_millis(timeout_ms),
            checked: AtomicBool::new(false),
        })
    }

    /// Runs `check` unless it once went well.
    pub(super) fn check_once(&self, check: impl FnOnce() -> Result<()>) -> Result<()> {
        if !self.checked.load(Ordering::Relaxed) {
            check()?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends a message that is not about points.
    pub(super) fn about<Q: NotAboutPoints, A: Send + 'static, F>(
        &self,
        message: Q,
        send: impl Fn(Clients, Request<Q>) -> F + Send + 'static,
    ) -> Result<A>
    where
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        self.call(message, send)?.map_err(|status| self.failed(&status))
    }

    /// The same; `None` when what it is about is not there.
    pub(super) fn about_if_there<Q: NotAboutPoints, A: Send + 'static, F>(
        &self,
        message: Q,
        send: impl Fn(Clients, Request<Q>) -> F + Send + 'static,
    ) -> Result<Option<A>>
    where
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        self.if_there(self.call(message, send)?)
    }

    /// Sends a message about the points of a place.
    pub(super) fn points<Q: Clone + Send + Sync + 'static, A: Send + 'static, F>(
        &self,
        message: InScope<Q>,
        send: impl Fn(Clients, Request<Q>) -> F + Send + 'static,
    ) -> Result<A>
    where
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        self.call(message.into_message(), send)?.map_err(|status| self.failed(&status))
    }

    /// The same; `None` when the physical collection is not there.
    pub(super) fn points_if_there<Q: Clone + Send + Sync + 'static, A: Send + 'static, F>(
        &self,
        message: InScope<Q>,
        send: impl Fn(Clients, Request<Q>) -> F + Send + 'static,
    ) -> Result<Option<A>>
    where
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        self.if_there(self.call(message.into_message(), send)?)
    }

    /// The same as [`points`](Self::points); `None` when the answer is larger than is taken.
    pub(super) fn bounded<Q: Clone + Send + Sync + 'static, A: Send + 'static, F>(
        &self,
        message: InScope<Q>,
        send: impl Fn(Clients, Request<Q>) -> F + Send + 'static,
    ) -> Result<Option<A>>
    where
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        match self.call(message.into_message(), send)? {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if status.code() == Code::OutOfRange => Ok(None),
            Err(status) => Err(self.failed(&status)),
        }
    }

    /// Sends `message`, again if need be, and waits for the answer. Every call can be repeated: writes are conditional.
    fn call<Q: Clone + Send + Sync + 'static, A: Send + 'static, F>(
        &self,
        message: Q,
        send: impl Fn(Clients, Request<Q>) -> F + Send + 'static,
    ) -> Result<Result<A, Status>>
    where
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        let (runtime, deadline) = (self.runtime()?, self.deadline);
        let key = self.api_key.as_ref().map(ApiKey::header).transpose()?;
        // Another connection for each attempt.
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let channels: Vec<Channel> = self
            .channels
            .iter()
            .cycle()
            .skip(first % self.channels.len().max(1))
            .take(self.channels.len())
            .cloned()
            .collect();
        let mut attempts = 0;
        let attempt = move || {
            let channel = channels.get(attempts % channels.len().max(1)).cloned();
            attempts += 1;
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline);
            if let Some(key) = &key {
                request.metadata_mut().insert("api-key", key.clone());
            }
            let sent = channel.map(|channel| send(clients(channel), request));
            async move {
                match sent {
                    Some(sent) => sent.await.map(Response::into_inner),
                    None => Err(Status::internal("no connection")),
                }
            }
        };
        let [shortest, longest] = limits::QDRANT_WAIT_MS.map(Duration::from_millis);
        let pauses = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_max_times(limits::QDRANT_ATTEMPTS - 1)
            .with_jitter();
        let work = async move {
            let answer = attempt.retry(pauses).sleep(tokio::time::sleep).when(passes);
            let late = || Status::deadline_exceeded("no answer in time");
            tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| Err(late()))
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Nobody waits for it when the caller's thread is gone.
            let _ = sender.send(work.await);
        });
        receiver.recv().map_err(|e| Error::internal("the client of Qdrant was closed").with_source(e))
    }

    fn if_there<A>(&self, answer: Result<A, Status>) -> Result<Option<A>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(&status)),
        }
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Error::internal("the client of Qdrant was closed"))
    }

    /// What a status means to who called. What the server says is shown as far as it is safe to.
    fn failed(&self, status: &Status) -> Error {
        let at = &self.url;
        let (kind, message, remedy) = match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => (
                ErrorKind::Denied,
                format!("Qdrant at `{at}` refuses the API key"),
                "set `qdrant_api_key_file`, or STRONGROOM_QDRANT_API_KEY, to a key with the right to read and write",
            ),
            Code::NotFound => (
                ErrorKind::Integrity,
                format!("Qdrant at `{at}` has lost a collection: what is there does not match what was stored"),
                "run `strongroom verify`; if it reports damage, restore from a backup",
            ),
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::OutOfRange
            | Code::AlreadyExists => (
                ErrorKind::Internal,
                format!("Qdrant at `{at}` does not take a request"),
                "see its log and its strict mode; report this if it is a Qdrant of version 1.16 or newer by the defaults",
            ),
            Code::DeadlineExceeded => (
                ErrorKind::Unavailable,
                format!("Qdrant at `{at}` did not answer within {} ms", self.deadline.as_millis()),
                AWAY,
            ),
            _ => (ErrorKind::Unavailable, format!("Qdrant at `{at}` is away"), AWAY),
        };
        let said = format!("{:?}: {}", status.code(), crate::id::shown(status.message()));
        Error::new(kind, message).with_remedy(remedy).with_source(said)
    }
}

const AWAY: &str = "see whether it runs and can be reached, then try again: nothing that was acknowledged is lost";

impl Drop for Link {
    fn drop(&mut self) {
        // Waiting for a runtime's end is not allowed within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether another attempt may go better.
fn passes(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Aborted
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss
    )
}

fn channel(url: &QdrantUrl, connector: Connector) -> Result<Channel> {
    let bad = |e: tonic::transport::Error| Error::internal("a connection to Qdrant").with_source(e);
    // The connector speaks TLS, not the endpoint; the server is told the truth.
    let endpoint = Endpoint::from_shared(format!("http://{}", url.place())).map_err(bad)?;
    let origin = url.to_string().parse().map_err(|e| Error::internal("the address of Qdrant").with_source(e))?;
    let ms = Duration::from_millis;
    Ok(endpoint
        .origin(origin)
        .connect_timeout(ms(limits::TLS_HANDSHAKE_MS))
        .http2_keep_alive_interval(ms(limits::QDRANT_PING_MS))
        .keep_alive_timeout(ms(limits::QDRANT_PING_ANSWER_MS))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(limits::RPC_HEADER_BYTES)
        .connect_with_connector_lazy(connector))
}

fn clients(channel: Channel) -> Clients {
    Clients {
        points: PointsClient::new(channel.clone())
            .max_decoding_message_size(limits::QDRANT_ANSWER_BYTES)
            .max_encoding_message_size(limits::QDRANT_ANSWER_BYTES),
        collections: CollectionsClient::new(channel.clone()),
        qdrant: QdrantClient::new(channel),
    }
}
