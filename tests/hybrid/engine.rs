//! The same chunks in a bare `qdrant-edge`, asked the same.

use std::collections::HashMap;

use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Distance, EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, Modifier, NamedQuery, PointId,
    PointInsertOperations, PointOperations, PointStruct, Prefetch, QueryEnum, QueryRequest, RecommendQuery,
    ScoringQuery, SparseVector, UpdateOperation, Vector, VectorInternal, Vectors, WithPayloadInterface, WithVector,
};
use strongroom::{Chunk, RecordId};

pub struct Engine {
    shard: EdgeShard,
    _dir: tempfile::TempDir,
}

impl Engine {
    /// With the vectors of [`spec`](crate::spec).
    pub fn new(chunks: &[Chunk]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dense = |size, distance| EdgeVectorParams {
            size,
            distance,
            on_disk: None,
            multivector_config: None,
            datatype: None,
            quantization_config: None,
            hnsw_config: None,
        };
        let sparse =
            |modifier| EdgeSparseVectorParams { full_scan_threshold: None, on_disk: None, modifier, datatype: None };
        let config = EdgeConfig {
            vectors: HashMap::from([
                ("body".into(), dense(4, Distance::Cosine)),
                ("title".into(), dense(3, Distance::Euclid)),
            ]),
            sparse_vectors: HashMap::from([
                ("terms".into(), sparse(Some(Modifier::Idf))),
                ("tags".into(), sparse(None)),
            ]),
            ..EdgeConfig::default()
        };
        let shard = EdgeShard::new(dir.path(), config).unwrap();
        let points = chunks.iter().map(|chunk| point(chunk).into()).collect();
        let upsert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
        shard.update(UpdateOperation::PointOperation(upsert)).unwrap();
        Self { shard, _dir: dir }
    }

    pub fn ask(
        &self,
        query: ScoringQuery,
        prefetches: Vec<Prefetch>,
        limit: usize,
        threshold: Option<f32>,
    ) -> Vec<(RecordId, f32)> {
        let request = QueryRequest {
            prefetches,
            query: Some(query),
            filter: None,
            score_threshold: threshold.map(OrderedFloat),
            limit,
            offset: 0,
            params: None,
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        };
        let found = self.shard.query(request).unwrap();
        let hits = found.into_iter().map(|point| match point.id {
            PointId::NumId(id) => (RecordId::from(id), point.score),
            PointId::Uuid(_) => unreachable!("ids are numbers"),
        });
        hits.collect()
    }
}

fn point(chunk: &Chunk) -> PointStruct {
    let RecordId::Number(id) = chunk.id else { unreachable!("ids are numbers") };
    let dense = chunk.vectors.iter().map(|(name, v)| (name.to_owned(), Vector::new_dense(v.to_vec())));
    let sparse = chunk
        .vectors
        .iter_sparse()
        .map(|(name, v)| (name.to_owned(), Vector::new_sparse(v.indices().to_vec(), v.values().to_vec()).unwrap()));
    PointStruct::new(PointId::NumId(id), Vectors::new_named(dense.chain(sparse)), serde_json::json!({}))
}

pub fn sparse(vector: &strongroom::SparseVector) -> VectorInternal {
    VectorInternal::Sparse(SparseVector { indices: vector.indices().to_vec(), values: vector.values().to_vec() })
}

pub fn nearest(vector: VectorInternal, using: &str) -> ScoringQuery {
    ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(vector, using)))
}

pub fn recommend(
    positive: Vec<VectorInternal>,
    negative: Vec<VectorInternal>,
    using: &str,
    best: bool,
) -> ScoringQuery {
    let query = NamedQuery::new(RecommendQuery::new(positive, negative), using);
    ScoringQuery::Vector(if best { QueryEnum::RecommendBestScore(query) } else { QueryEnum::RecommendSumScores(query) })
}

pub fn prefetch(query: ScoringQuery, prefetches: Vec<Prefetch>, limit: usize, threshold: Option<f32>) -> Prefetch {
    Prefetch {
        prefetches,
        query: Some(query),
        limit,
        params: None,
        filter: None,
        score_threshold: threshold.map(OrderedFloat),
    }
}
