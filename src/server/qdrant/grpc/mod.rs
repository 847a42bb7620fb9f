//! Qdrant's gRPC interface, by the traits that its own client generates. It only translates.

mod collections;
mod fields;
mod filter;
mod input;
mod output;
mod points;
mod questions;
mod value;

use std::time::Instant;

use axum::{Router, middleware};
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::{self, QdrantServer};
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::failure::{Answer, Failure};
use super::gate::{self, Api, Door};
use super::service::Session;
use super::{TITLE, VERSION};
use crate::limits;

/// Everything that is served over gRPC.
pub(super) fn routes(door: Door) -> Router {
    debug_assert!(door.api == Api::Grpc, "the door of another interface");
    let points = PointsServer::new(Grpc)
        .max_decoding_message_size(limits::QDRANT_BODY_BYTES)
        .max_encoding_message_size(limits::QDRANT_GRPC_ANSWER_BYTES);
    let collections = CollectionsServer::new(Grpc)
        .max_decoding_message_size(limits::QDRANT_BODY_BYTES)
        .max_encoding_message_size(limits::QDRANT_GRPC_ANSWER_BYTES);
    let calls = Routes::new(points).add_service(collections).into_axum_router();
    let calls = calls.layer(middleware::from_fn_with_state(door.clone(), gate::admit));
    // Whether it is there may be asked without a key, as over REST.
    let (health, health_service) = tonic_health::server::health_reporter();
    drop(health);
    let open = Routes::new(QdrantServer::new(Grpc)).add_service(health_service).into_axum_router();
    // Both say that they do not know what they do not know: one of them is enough.
    let open = open.reset_fallback();
    open.merge(calls).layer(middleware::from_fn_with_state(door, gate::measure))
}

/// The call that a path stands for, if there is one: the metrics have a series for each.
pub(super) fn known_call(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix("/qdrant.")?.split_once('/')?;
    let known = match service {
        "Points" => POINTS.contains(&method),
        "Collections" => COLLECTIONS.contains(&method),
        "Qdrant" => method == "HealthCheck",
        _ => false,
    };
    known.then_some(path)
}

const POINTS: [&str; 28] = [
    "Upsert",
    "Delete",
    "Get",
    "UpdateVectors",
    "DeleteVectors",
    "SetPayload",
    "OverwritePayload",
    "DeletePayload",
    "ClearPayload",
    "CreateFieldIndex",
    "DeleteFieldIndex",
    "CreateVectorName",
    "DeleteVectorName",
    "Search",
    "SearchBatch",
    "SearchGroups",
    "Scroll",
    "Recommend",
    "RecommendBatch",
    "RecommendGroups",
    "Discover",
    "DiscoverBatch",
    "Count",
    "UpdateBatch",
    "Query",
    "QueryBatch",
    "QueryGroups",
    "Facet",
];

const COLLECTIONS: [&str; 9] = [
    "Get",
    "List",
    "Create",
    "Update",
    "Delete",
    "UpdateAliases",
    "ListCollectionAliases",
    "ListAliases",
    "CollectionExists",
];

/// The services. What they need comes with each request.
struct Grpc;

/// What came in: who asks, what, and since when.
struct Call<Q> {
    session: Session,
    asked: Q,
    began: Instant,
}

impl<Q> Call<Q> {
    fn new(request: Request<Q>) -> Result<Self, Status> {
        let began = Instant::now();
        // Every call has come through the gate.
        let session = request.extensions().get::<Session>().cloned();
        let session = session.ok_or_else(|| Status::internal("a request came in without its caller"))?;
        Ok(Self { session, asked: request.into_inner(), began })
    }
}

/// What comes of a call, with the time that it took.
fn finish<T>(answer: Answer<T>, began: Instant, with: impl FnOnce(T, f64) -> T) -> Result<Response<T>, Status> {
    match answer {
        Ok(answer) => Ok(Response::new(with(answer, began.elapsed().as_secs_f64()))),
        Err(failure) => Err(failure.into()),
    }
}

fn refuse<T>(why: &str) -> Result<Response<T>, Status> {
    Err(Failure::unsupported(why).into())
}

#[tonic::async_trait]
impl qdrant_server::Qdrant for Grpc {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        Ok(Response::new(HealthCheckReply { title: TITLE.to_owned(), version: VERSION.to_owned(), commit: None }))
    }
}
