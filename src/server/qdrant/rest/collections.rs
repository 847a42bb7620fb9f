//! Collections and their aliases.

use std::time::Instant;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};

use super::{body, envelope, path};
use crate::server::qdrant::failure::Answer;
use crate::server::qdrant::model::collections::{AliasesBody, CreateBody, UpdateBody};
use crate::server::qdrant::service::Session;

type Named = Result<Path<String>, PathRejection>;

pub(super) fn routes() -> Router {
    Router::new()
        .route("/collections", get(list))
        .route("/collections/{name}", get(info).put(create).patch(update).delete(drop_one))
        .route("/collections/{name}/exists", get(exists))
        .route("/collections/{name}/aliases", get(aliases_of))
        .route("/collections/aliases", post(change_aliases))
        .route("/aliases", get(aliases))
}

async fn list(Extension(session): Extension<Session>) -> Response {
    let began = Instant::now();
    let names = session.collections().await.map(|names| {
        let described: Vec<Value> = names.into_iter().map(|name| json!({ "name": name })).collect();
        json!({ "collections": described })
    });
    envelope::answer(names, began)
}

async fn info(Extension(session): Extension<Session>, name: Named) -> Response {
    let began = Instant::now();
    let call = async || session.info(&path(name)?).await.map(|info| info.to_json());
    envelope::answer(call().await, began)
}

async fn exists(Extension(session): Extension<Session>, name: Named) -> Response {
    let began = Instant::now();
    let call = async || session.exists(&path(name)?).await.map(|exists| json!({ "exists": exists }));
    envelope::answer(call().await, began)
}

async fn create(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || -> Answer<bool> {
        let name = path(name)?;
        session.may_manage()?;
        session.create(&name, body::<CreateBody>(sent).await?.try_into()?).await
    };
    envelope::answer(call().await, began)
}

async fn update(Extension(session): Extension<Session>, name: Named, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || session.update(&path(name)?, body::<UpdateBody>(sent).await?.try_into()?).await;
    envelope::answer(call().await, began)
}

async fn drop_one(Extension(session): Extension<Session>, name: Named) -> Response {
    let began = Instant::now();
    let call = async || session.drop_collection(&path(name)?).await;
    envelope::answer(call().await, began)
}

async fn aliases(Extension(session): Extension<Session>) -> Response {
    let began = Instant::now();
    envelope::answer(session.aliases(None).await.map(|aliases| json!({ "aliases": aliases })), began)
}

async fn aliases_of(Extension(session): Extension<Session>, name: Named) -> Response {
    let began = Instant::now();
    let call = async || session.aliases(Some(&path(name)?)).await.map(|aliases| json!({ "aliases": aliases }));
    envelope::answer(call().await, began)
}

async fn change_aliases(Extension(session): Extension<Session>, sent: Body) -> Response {
    let began = Instant::now();
    let call = async || session.change_aliases(body::<AliasesBody>(sent).await?.actions).await;
    envelope::answer(call().await, began)
}
