//! Questions, in their present form and in those of earlier versions.

use std::time::Instant;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use serde::de::DeserializeOwned;

use super::{body, envelope, path};
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::query::{
    GroupQuestion, QueryBody, QueryGroupsBody, Question, RecommendBody, RecommendGroupsBody, SearchBody,
    SearchGroupsBody, SearchesBody,
};
use crate::server::qdrant::service::Session;

type Named = Result<Path<String>, PathRejection>;

pub(super) fn routes() -> Router {
    Router::new()
        .route("/collections/{name}/points/query", post(query))
        .route("/collections/{name}/points/query/batch", post(query_batch))
        .route("/collections/{name}/points/query/groups", post(groups::<QueryGroupsBody>))
        .route("/collections/{name}/points/search", post(one::<SearchBody>))
        .route("/collections/{name}/points/search/batch", post(batch::<SearchBody>))
        .route("/collections/{name}/points/search/groups", post(groups::<SearchGroupsBody>))
        .route("/collections/{name}/points/recommend", post(one::<RecommendBody>))
        .route("/collections/{name}/points/recommend/batch", post(batch::<RecommendBody>))
        .route("/collections/{name}/points/recommend/groups", post(groups::<RecommendGroupsBody>))
}

async fn query(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || session.query(&path(name)?, body::<QueryBody>(sent).await?.try_into()?).await;
    envelope::answer(call().await, began)
}

async fn query_batch(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || session.query_all(&path(name)?, questions::<QueryBody>(sent).await?).await;
    envelope::answer(call().await, began)
}

/// One question of an earlier version: its answer is a list.
async fn one<T>(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response
where
    T: DeserializeOwned + TryInto<Question, Error = Failure>,
{
    let began = Instant::now();
    let call = async || {
        let found = session.query(&path(name)?, body::<T>(sent).await?.try_into()?).await?;
        Ok(found.points)
    };
    envelope::answer(call().await, began)
}

async fn batch<T>(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response
where
    T: DeserializeOwned + TryInto<Question, Error = Failure>,
{
    let began = Instant::now();
    let call = async || -> Answer<Vec<_>> {
        let found = session.query_all(&path(name)?, questions::<T>(sent).await?).await?;
        Ok(found.into_iter().map(|found| found.points).collect())
    };
    envelope::answer(call().await, began)
}

async fn groups<T>(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response
where
    T: DeserializeOwned + TryInto<GroupQuestion, Error = Failure>,
{
    let began = Instant::now();
    let call = async || session.groups(&path(name)?, body::<T>(sent).await?.try_into()?).await;
    envelope::answer(call().await, began)
}

async fn questions<T>(sent: Body) -> Answer<Vec<Question>>
where
    T: DeserializeOwned + TryInto<Question, Error = Failure>,
{
    body::<SearchesBody<T>>(sent).await?.searches.into_iter().map(TryInto::try_into).collect()
}
