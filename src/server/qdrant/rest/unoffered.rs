//! What Qdrant has and Strongroom does not: each says why, and what to do instead.

use std::time::Instant;

use axum::Router;
use axum::response::Response;
use axum::routing::{any, delete, get, put};

use super::envelope;
use crate::server::qdrant::failure::Failure;
use crate::server::qdrant::unoffered;

pub(super) fn routes() -> Router {
    let refuse = |why: &'static str| any(async move || refused(why));
    let mut routes = Router::new()
        .route("/collections/{name}/vectors/{vector}", put(vectors).delete(vectors))
        .route("/telemetry", get(async || refused(unoffered::TELEMETRY)))
        .route("/issues", get(async || refused(unoffered::TELEMETRY)).delete(async || refused(unoffered::TELEMETRY)))
        .route("/locks", any(async || refused(unoffered::CLUSTER)))
        .route("/cluster/peer/{peer}", delete(async || refused(unoffered::CLUSTER)));
    for path in [
        "/collections/{name}/snapshots",
        "/collections/{name}/snapshots/{*rest}",
        "/snapshots",
        "/snapshots/{*rest}",
        "/collections/{name}/shards/{shard}/snapshots",
        "/collections/{name}/shards/{shard}/snapshots/{*rest}",
        "/collections/{name}/shards/{shard}/snapshot",
    ] {
        routes = routes.route(path, refuse(unoffered::SNAPSHOTS));
    }
    for path in [
        "/cluster",
        "/cluster/recover",
        "/cluster/telemetry",
        "/collections/{name}/cluster",
        "/collections/{name}/shards",
        "/collections/{name}/shards/delete",
        "/quotas",
    ] {
        routes = routes.route(path, refuse(unoffered::CLUSTER));
    }
    for path in ["/collections/{name}/points/discover", "/collections/{name}/points/discover/batch"] {
        routes = routes.route(path, refuse(unoffered::DISCOVER));
    }
    for path in ["/collections/{name}/points/search/matrix/pairs", "/collections/{name}/points/search/matrix/offsets"] {
        routes = routes.route(path, refuse(unoffered::MATRIX));
    }
    routes.route("/collections/{name}/optimizations", refuse(unoffered::TELEMETRY))
}

async fn vectors() -> Response {
    envelope::failed(&crate::server::qdrant::model::collections::fixed_vectors(), Instant::now())
}

fn refused(why: &'static str) -> Response {
    envelope::failed(&Failure::unsupported(why), Instant::now())
}
