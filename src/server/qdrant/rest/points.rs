//! Points: written, read, listed, counted; and the fields of their payloads that are declared.

use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Asked, asked, body, envelope, path};
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::collections::{IndexBody, index_declaration};
use crate::server::qdrant::model::points::{
    BatchBody, DeletePayloadBody, DeleteVectorsBody, Operation, OperationBody, SelectorBody, SetPayloadBody,
    UpdateVectorsBody, UpsertBody,
};
use crate::server::qdrant::model::query::{CountBody, FacetBody, PointsBody, ScrollBody};
use crate::server::qdrant::model::select::Wanted;
use crate::server::qdrant::model::{PointId, no_shard_key};
use crate::server::qdrant::service::Session;

type Named = Result<Path<String>, PathRejection>;
type How = Result<Query<Asked>, QueryRejection>;

pub(super) fn routes() -> Router {
    let one = "/collections/{name}/points/{id}";
    Router::new()
        .route("/collections/{name}/points", put(upsert).post(retrieve))
        .route(one, get(retrieve_one))
        .route("/collections/{name}/points/delete", post(delete_points))
        .route("/collections/{name}/points/vectors", put(update_vectors))
        .route("/collections/{name}/points/vectors/delete", post(delete_vectors))
        .route("/collections/{name}/points/payload", post(set_payload).put(overwrite_payload))
        .route("/collections/{name}/points/payload/delete", post(delete_payload))
        .route("/collections/{name}/points/payload/clear", post(clear_payload))
        .route("/collections/{name}/points/batch", post(batch))
        .route("/collections/{name}/points/scroll", post(scroll))
        .route("/collections/{name}/points/count", post(count))
        .route("/collections/{name}/facet", post(facet))
        .route("/collections/{name}/index", put(create_index))
        .route("/collections/{name}/index/{field}", delete(delete_index))
}

/// Does one thing to points.
async fn change<T: DeserializeOwned>(
    session: Session,
    name: Named,
    how: How,
    sent: Body,
    operation: impl FnOnce(T) -> Answer<Operation>,
) -> Response {
    let began = Instant::now();
    let call = async || {
        let (name, how) = (path(name)?, asked(how)?);
        // Nobody has to read on who may not write.
        session.may_write(&name)?;
        session.change(&name, operation(body::<T>(sent).await?)?, how.status()).await
    };
    envelope::answer(call().await, began)
}

async fn upsert(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: UpsertBody| body.try_into()).await
}

async fn delete_points(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: SelectorBody| OperationBody::Delete(body).try_into()).await
}

async fn update_vectors(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: UpdateVectorsBody| OperationBody::UpdateVectors(body).try_into()).await
}

async fn delete_vectors(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: DeleteVectorsBody| OperationBody::DeleteVectors(body).try_into()).await
}

async fn set_payload(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: SetPayloadBody| OperationBody::SetPayload(body).try_into()).await
}

async fn overwrite_payload(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: SetPayloadBody| OperationBody::OverwritePayload(body).try_into()).await
}

async fn delete_payload(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: DeletePayloadBody| OperationBody::DeletePayload(body).try_into()).await
}

async fn clear_payload(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    change(session, name, how, sent, |body: SelectorBody| OperationBody::ClearPayload(body).try_into()).await
}

async fn batch(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || {
        let (name, how) = (path(name)?, asked(how)?);
        session.may_write(&name)?;
        let operations = body::<BatchBody>(sent).await?.operations;
        let operations = operations.into_iter().map(TryInto::try_into).collect::<Answer<Vec<Operation>>>()?;
        session.change_all(&name, operations, how.status()).await
    };
    envelope::answer(call().await, began)
}

async fn retrieve(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || {
        let name = path(name)?;
        let PointsBody { shard_key, ids, with_payload, with_vector } = body(sent).await?;
        no_shard_key(&shard_key)?;
        session.retrieve(&name, ids, &Wanted::new(with_payload, with_vector, true)).await
    };
    envelope::answer(call().await, began)
}

async fn retrieve_one(
    Extension(session): Extension<Session>,
    place: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    let began = Instant::now();
    let call = async || {
        let (name, id) = path(place)?;
        let id = PointId::from_path(&id)?;
        let shown = id.0.to_string();
        let found = session.retrieve(&name, vec![id], &Wanted::everything()).await?;
        let none = || Failure::not_found(format!("Not found: Point with id {shown} does not exists!"));
        found.into_iter().next().ok_or_else(none)
    };
    envelope::answer(call().await, began)
}

async fn scroll(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || session.scroll(&path(name)?, body::<ScrollBody>(sent).await?.try_into()?).await;
    envelope::answer(call().await, began)
}

async fn count(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || {
        let name = path(name)?;
        let asked: CountBody = body(sent).await?;
        no_shard_key(&asked.shard_key)?;
        session.count(&name, asked.filter).await.map(|count| json!({ "count": count }))
    };
    envelope::answer(call().await, began)
}

async fn facet(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || {
        let name = path(name)?;
        let asked: FacetBody = body(sent).await?;
        no_shard_key(&asked.shard_key)?;
        session.facet(&name, &asked.key, asked.filter, asked.limit).await
    };
    envelope::answer(call().await, began)
}

async fn create_index(Extension(session): Extension<Session>, name: Named, how: How, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || {
        let (name, how) = (path(name)?, asked(how)?);
        let IndexBody { field_name, field_schema } = body(sent).await?;
        session.declare(&name, &field_name, index_declaration(field_schema)?, how.status()).await
    };
    envelope::answer(call().await, began)
}

async fn delete_index(
    Extension(session): Extension<Session>,
    place: Result<Path<(String, String)>, PathRejection>,
    how: How,
) -> Response {
    let began = Instant::now();
    let call = async || {
        let ((name, field), how) = (path(place)?, asked(how)?);
        session.undeclare(&name, &field, how.status()).await
    };
    envelope::answer(call().await, began)
}
