//! The service of collections.

use std::collections::HashMap;
use std::sync::Arc;

use ::qdrant_client::qdrant::collections_server::Collections;
use ::qdrant_client::qdrant::payload_index_params::IndexParams;
use ::qdrant_client::qdrant::*;
use tonic::{Request, Response, Status};

use crate::shelf::Shelf;

pub struct Service(pub Arc<Shelf>);

type Answer<T> = Result<Response<T>, Status>;

fn done(result: bool) -> Answer<CollectionOperationResponse> {
    Ok(Response::new(CollectionOperationResponse { result, time: 0.0 }))
}

fn missing<T>(call: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("the upstream for tests has no `{call}`")))
}

#[tonic::async_trait]
impl Collections for Service {
    async fn get(&self, request: Request<GetCollectionInfoRequest>) -> Answer<GetCollectionInfoResponse> {
        self.0.faults.pass().await?;
        let collection = self.0.get(&request.into_inner().collection_name)?;
        let (info, description) = (collection.shard()?.info(), collection.description());
        let params = CollectionParams {
            shard_number: 1,
            vectors_config: description.vectors_config.clone(),
            ..CollectionParams::default()
        };
        let config = CollectionConfig {
            params: Some(params),
            hnsw_config: description.hnsw_config,
            optimizer_config: description.optimizers_config,
            ..CollectionConfig::default()
        };
        let schema = collection.indexes().into_iter().map(|index| (index.field_name.clone(), schema(&index)));
        let result = CollectionInfo {
            status: CollectionStatus::Green.into(),
            optimizer_status: Some(OptimizerStatus { ok: true, error: String::new() }),
            segments_count: info.segments_count as u64,
            config: Some(config),
            payload_schema: schema.collect::<HashMap<_, _>>(),
            points_count: Some(info.points_count as u64),
            indexed_vectors_count: Some(info.indexed_vectors_count as u64),
            ..CollectionInfo::default()
        };
        Ok(Response::new(GetCollectionInfoResponse { result: Some(result), time: 0.0 }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Answer<ListCollectionsResponse> {
        self.0.faults.pass().await?;
        let collections = self.0.names().into_iter().map(|name| CollectionDescription { name }).collect();
        Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
    }

    async fn create(&self, request: Request<CreateCollection>) -> Answer<CollectionOperationResponse> {
        self.0.faults.pass().await?;
        let shelf = self.0.clone();
        crate::points::waiting(move || shelf.create(request.into_inner())).await?;
        done(true)
    }

    async fn update(&self, _: Request<UpdateCollection>) -> Answer<CollectionOperationResponse> {
        missing("update")
    }

    async fn delete(&self, request: Request<DeleteCollection>) -> Answer<CollectionOperationResponse> {
        self.0.faults.pass().await?;
        done(self.0.remove(&request.into_inner().collection_name))
    }

    async fn update_aliases(&self, _: Request<ChangeAliases>) -> Answer<CollectionOperationResponse> {
        missing("update_aliases")
    }

    async fn list_collection_aliases(&self, _: Request<ListCollectionAliasesRequest>) -> Answer<ListAliasesResponse> {
        missing("list_collection_aliases")
    }

    async fn list_aliases(&self, _: Request<ListAliasesRequest>) -> Answer<ListAliasesResponse> {
        missing("list_aliases")
    }

    async fn collection_cluster_info(
        &self,
        _: Request<CollectionClusterInfoRequest>,
    ) -> Answer<CollectionClusterInfoResponse> {
        missing("collection_cluster_info")
    }

    async fn collection_exists(&self, request: Request<CollectionExistsRequest>) -> Answer<CollectionExistsResponse> {
        self.0.faults.pass().await?;
        let exists = self.0.get(&request.into_inner().collection_name).is_ok();
        Ok(Response::new(CollectionExistsResponse { result: Some(CollectionExists { exists }), time: 0.0 }))
    }

    async fn update_collection_cluster_setup(
        &self,
        _: Request<UpdateCollectionClusterSetupRequest>,
    ) -> Answer<UpdateCollectionClusterSetupResponse> {
        missing("update_collection_cluster_setup")
    }

    async fn create_shard_key(&self, _: Request<CreateShardKeyRequest>) -> Answer<CreateShardKeyResponse> {
        missing("create_shard_key")
    }

    async fn delete_shard_key(&self, _: Request<DeleteShardKeyRequest>) -> Answer<DeleteShardKeyResponse> {
        missing("delete_shard_key")
    }

    async fn list_shard_keys(&self, _: Request<ListShardKeysRequest>) -> Answer<ListShardKeysResponse> {
        missing("list_shard_keys")
    }
}

fn schema(index: &CreateFieldIndexCollection) -> PayloadSchemaInfo {
    let data_type = match index.field_index_params.as_ref().and_then(|params| params.index_params.as_ref()) {
        Some(IndexParams::KeywordIndexParams(_)) => PayloadSchemaType::Keyword,
        _ => match index.field_type() {
            FieldType::Keyword => PayloadSchemaType::Keyword,
            FieldType::Integer => PayloadSchemaType::Integer,
            FieldType::Float => PayloadSchemaType::Float,
            FieldType::Bool => PayloadSchemaType::Bool,
            FieldType::Uuid => PayloadSchemaType::Uuid,
            _ => PayloadSchemaType::UnknownType,
        },
    };
    PayloadSchemaInfo { data_type: data_type.into(), params: index.field_index_params.clone(), points: None }
}
