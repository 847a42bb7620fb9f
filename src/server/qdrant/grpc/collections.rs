//! The calls about collections and aliases.

use std::collections::BTreeMap;

use qdrant_client::qdrant as wire;
use tonic::{Request, Response, Status};

use super::{Call, Grpc, fields, finish, input, refuse, value};
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::collections::{
    Alias, AliasAction, Change, CreateAlias, DeleteAlias, Demands, DenseParams, Distance, Info, NewCollection,
    RenameAlias, SparseParams, fixed_vectors, index_kind,
};
use crate::server::qdrant::unoffered;

type Done = Result<Response<wire::CollectionOperationResponse>, Status>;

fn done(result: Answer<bool>, began: std::time::Instant) -> Done {
    let answer = result.map(|result| wire::CollectionOperationResponse { result, time: 0.0 });
    finish(answer, began, |answer, time| wire::CollectionOperationResponse { time, ..answer })
}

#[tonic::async_trait]
impl wire::collections_server::Collections for Grpc {
    async fn get(
        &self,
        request: Request<wire::GetCollectionInfoRequest>,
    ) -> Result<Response<wire::GetCollectionInfoResponse>, Status> {
        let Call { session, asked, began } = Call::new(request)?;
        let answer = session.info(&asked.collection_name).await;
        let answer = answer.map(|info| wire::GetCollectionInfoResponse { result: Some(described(info)), time: 0.0 });
        finish(answer, began, |answer, time| wire::GetCollectionInfoResponse { time, ..answer })
    }

    async fn list(
        &self,
        request: Request<wire::ListCollectionsRequest>,
    ) -> Result<Response<wire::ListCollectionsResponse>, Status> {
        let Call { session, began, .. } = Call::new(request)?;
        let answer = session.collections().await.map(|names| {
            let collections = names.into_iter().map(|name| wire::CollectionDescription { name }).collect();
            wire::ListCollectionsResponse { collections, time: 0.0 }
        });
        finish(answer, began, |answer, time| wire::ListCollectionsResponse { time, ..answer })
    }

    async fn create(&self, request: Request<wire::CreateCollection>) -> Done {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async {
            session.may_manage()?;
            session.create(&name, new_collection(asked)?).await
        };
        done(call.await, began)
    }

    async fn update(&self, request: Request<wire::UpdateCollection>) -> Done {
        let Call { session, mut asked, began } = Call::new(request)?;
        let name = std::mem::take(&mut asked.collection_name);
        let call = async { session.update(&name, change(asked)?).await };
        done(call.await, began)
    }

    async fn delete(&self, request: Request<wire::DeleteCollection>) -> Done {
        let Call { session, asked, began } = Call::new(request)?;
        done(session.drop_collection(&asked.collection_name).await, began)
    }

    async fn update_aliases(&self, request: Request<wire::ChangeAliases>) -> Done {
        let Call { session, asked, began } = Call::new(request)?;
        let call = async {
            let actions = asked.actions.into_iter().map(alias_action).collect::<Answer<_>>()?;
            session.change_aliases(actions).await
        };
        done(call.await, began)
    }

    async fn list_collection_aliases(
        &self,
        request: Request<wire::ListCollectionAliasesRequest>,
    ) -> Result<Response<wire::ListAliasesResponse>, Status> {
        let Call { session, asked, began } = Call::new(request)?;
        let answer = session.aliases(Some(&asked.collection_name)).await.map(listed);
        finish(answer, began, |answer, time| wire::ListAliasesResponse { time, ..answer })
    }

    async fn list_aliases(
        &self,
        request: Request<wire::ListAliasesRequest>,
    ) -> Result<Response<wire::ListAliasesResponse>, Status> {
        let Call { session, began, .. } = Call::new(request)?;
        let answer = session.aliases(None).await.map(listed);
        finish(answer, began, |answer, time| wire::ListAliasesResponse { time, ..answer })
    }

    async fn collection_exists(
        &self,
        request: Request<wire::CollectionExistsRequest>,
    ) -> Result<Response<wire::CollectionExistsResponse>, Status> {
        let Call { session, asked, began } = Call::new(request)?;
        let answer = session.exists(&asked.collection_name).await.map(|exists| wire::CollectionExistsResponse {
            result: Some(wire::CollectionExists { exists }),
            time: 0.0,
        });
        finish(answer, began, |answer, time| wire::CollectionExistsResponse { time, ..answer })
    }

    async fn collection_cluster_info(
        &self,
        _: Request<wire::CollectionClusterInfoRequest>,
    ) -> Result<Response<wire::CollectionClusterInfoResponse>, Status> {
        refuse(unoffered::CLUSTER)
    }

    async fn update_collection_cluster_setup(
        &self,
        _: Request<wire::UpdateCollectionClusterSetupRequest>,
    ) -> Result<Response<wire::UpdateCollectionClusterSetupResponse>, Status> {
        refuse(unoffered::CLUSTER)
    }

    async fn create_shard_key(
        &self,
        _: Request<wire::CreateShardKeyRequest>,
    ) -> Result<Response<wire::CreateShardKeyResponse>, Status> {
        refuse(unoffered::CLUSTER)
    }

    async fn delete_shard_key(
        &self,
        _: Request<wire::DeleteShardKeyRequest>,
    ) -> Result<Response<wire::DeleteShardKeyResponse>, Status> {
        refuse(unoffered::CLUSTER)
    }

    async fn list_shard_keys(
        &self,
        _: Request<wire::ListShardKeysRequest>,
    ) -> Result<Response<wire::ListShardKeysResponse>, Status> {
        refuse(unoffered::CLUSTER)
    }
}

fn listed(aliases: Vec<Alias>) -> wire::ListAliasesResponse {
    let described =
        |alias: Alias| wire::AliasDescription { alias_name: alias.alias_name, collection_name: alias.collection_name };
    wire::ListAliasesResponse { aliases: aliases.into_iter().map(described).collect(), time: 0.0 }
}

fn alias_action(action: wire::AliasOperations) -> Answer<AliasAction> {
    use wire::alias_operations::Action;
    Ok(match action.action.ok_or_else(|| input::missing("what to do with an alias"))? {
        Action::CreateAlias(wire::CreateAlias { collection_name, alias_name }) => {
            AliasAction::Create(CreateAlias { collection_name, alias_name })
        }
        Action::RenameAlias(wire::RenameAlias { old_alias_name, new_alias_name }) => {
            AliasAction::Rename(RenameAlias { old_alias_name, new_alias_name })
        }
        Action::DeleteAlias(wire::DeleteAlias { alias_name }) => AliasAction::Delete(DeleteAlias { alias_name }),
    })
}

fn new_collection(asked: wire::CreateCollection) -> Answer<NewCollection> {
    use wire::vectors_config::Config;
    let vectors: BTreeMap<String, wire::VectorParams> = match asked.vectors_config.and_then(|config| config.config) {
        None => BTreeMap::new(),
        Some(Config::Params(params)) => BTreeMap::from([(String::new(), params)]),
        Some(Config::ParamsMap(map)) => map.map.into_iter().collect(),
    };
    let float32 = |datatype: i32| {
        matches!(wire::Datatype::try_from(datatype), Ok(wire::Datatype::Default | wire::Datatype::Float32))
    };
    Demands {
        multivector: vectors.values().any(|vector| vector.multivector_config.is_some()),
        narrow: vectors.values().any(|vector| vector.datatype.is_some_and(|datatype| !float32(datatype))),
        shards: asked.shard_number.unwrap_or(1),
        replicas: asked.replication_factor.unwrap_or(1),
        custom_sharding: asked.sharding_method.is_some_and(|method| method != i32::from(wire::ShardingMethod::Auto)),
        strict: asked.strict_mode_config.is_some_and(|config| config.enabled == Some(true)),
        copied: false,
    }
    .check()?;
    let dense = vectors.into_iter().map(|(name, vector)| {
        let metric = distance(vector.distance)?.metric()?;
        Ok((name, DenseParams { size: input::size(vector.size)?, metric }))
    });
    let sparse = asked.sparse_vectors_config.map(|config| config.map).unwrap_or_default().into_iter();
    let idf = |params: &wire::SparseVectorParams| params.modifier == Some(wire::Modifier::Idf.into());
    Ok(NewCollection {
        dense: dense.collect::<Answer<_>>()?,
        sparse: sparse.map(|(name, params)| (name, SparseParams { idf: idf(&params) })).collect(),
        metadata: value::object(asked.metadata)?,
    })
}

fn change(asked: wire::UpdateCollection) -> Answer<Change> {
    let replicas = asked.params.and_then(|params| params.replication_factor).unwrap_or(1);
    let strict = asked.strict_mode_config.is_some_and(|config| config.enabled == Some(true));
    Demands { replicas, strict, ..Demands::default() }.check()?;
    let sparse = asked.sparse_vectors_config.map(|config| config.map).unwrap_or_default();
    if sparse.values().any(|params| params.modifier.is_some()) {
        return Err(fixed_vectors());
    }
    Ok(Change { metadata: value::object(asked.metadata)? })
}

fn distance(distance: i32) -> Answer<Distance> {
    match wire::Distance::try_from(distance) {
        Ok(wire::Distance::Cosine) => Ok(Distance::Cosine),
        Ok(wire::Distance::Euclid) => Ok(Distance::Euclid),
        Ok(wire::Distance::Dot) => Ok(Distance::Dot),
        Ok(wire::Distance::Manhattan) => Ok(Distance::Manhattan),
        Ok(wire::Distance::UnknownDistance) | Err(_) => Err(Failure::bad("Wrong input: the distance is not known")),
    }
}

fn distance_to_wire(distance: Distance) -> wire::Distance {
    match distance {
        Distance::Cosine => wire::Distance::Cosine,
        Distance::Euclid => wire::Distance::Euclid,
        Distance::Dot => wire::Distance::Dot,
        Distance::Manhattan => wire::Distance::Manhattan,
    }
}

/// As Qdrant describes a collection, with the settings that a new one has there.
fn described(info: Info) -> wire::CollectionInfo {
    let wide = |n: usize| n as u64;
    let schema = |declared: &serde_json::Value| wire::PayloadSchemaInfo {
        data_type: schema_type(index_kind(declared)).into(),
        params: fields::params(declared),
        points: Some(wide(info.points)),
    };
    let payload_schema = info.indexes.iter().map(|(field, declared)| (field.clone(), schema(declared))).collect();
    wire::CollectionInfo {
        status: wire::CollectionStatus::Green.into(),
        optimizer_status: Some(wire::OptimizerStatus { ok: true, error: String::new() }),
        segments_count: 1,
        config: Some(config(&info)),
        payload_schema,
        points_count: Some(wide(info.points)),
        indexed_vectors_count: Some(wide(info.indexed_vectors)),
        ..wire::CollectionInfo::default()
    }
}

fn config(info: &Info) -> wire::CollectionConfig {
    use wire::vectors_config::Config;
    let dense = |params: &DenseParams| wire::VectorParams {
        size: params.size as u64,
        distance: distance_to_wire(Distance::of(params.metric)).into(),
        ..wire::VectorParams::default()
    };
    let vectors = match info.dense.get("") {
        Some(params) if info.dense.len() == 1 => Config::Params(dense(params)),
        _ => Config::ParamsMap(wire::VectorParamsMap {
            map: info.dense.iter().map(|(name, params)| (name.clone(), dense(params))).collect(),
        }),
    };
    let sparse = |params: &SparseParams| wire::SparseVectorParams {
        index: None,
        modifier: params.idf.then_some(wire::Modifier::Idf.into()),
    };
    let sparse = (!info.sparse.is_empty()).then(|| wire::SparseVectorConfig {
        map: info.sparse.iter().map(|(name, params)| (name.clone(), sparse(params))).collect(),
    });
    wire::CollectionConfig {
        params: Some(wire::CollectionParams {
            shard_number: 1,
            vectors_config: Some(wire::VectorsConfig { config: Some(vectors) }),
            replication_factor: Some(1),
            write_consistency_factor: Some(1),
            sparse_vectors_config: sparse,
            ..wire::CollectionParams::default()
        }),
        hnsw_config: Some(wire::HnswConfigDiff {
            m: Some(16),
            ef_construct: Some(100),
            full_scan_threshold: Some(10_000),
            max_indexing_threads: Some(0),
            ..wire::HnswConfigDiff::default()
        }),
        optimizer_config: Some(wire::OptimizersConfigDiff {
            deleted_threshold: Some(0.2),
            vacuum_min_vector_number: Some(1000),
            default_segment_number: Some(0),
            flush_interval_sec: Some(5),
            ..wire::OptimizersConfigDiff::default()
        }),
        wal_config: Some(wire::WalConfigDiff {
            wal_capacity_mb: Some(32),
            wal_segments_ahead: Some(0),
            wal_retain_closed: None,
        }),
        metadata: value::fields(info.metadata.clone()),
        ..wire::CollectionConfig::default()
    }
}

fn schema_type(kind: &str) -> wire::PayloadSchemaType {
    match kind {
        "integer" => wire::PayloadSchemaType::Integer,
        "float" => wire::PayloadSchemaType::Float,
        "geo" => wire::PayloadSchemaType::Geo,
        "text" => wire::PayloadSchemaType::Text,
        "bool" => wire::PayloadSchemaType::Bool,
        "datetime" => wire::PayloadSchemaType::Datetime,
        "uuid" => wire::PayloadSchemaType::Uuid,
        _ => wire::PayloadSchemaType::Keyword,
    }
}
