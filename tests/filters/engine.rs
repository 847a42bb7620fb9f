//! The engine with plain payloads, asked which points pass.

use std::collections::{HashMap, HashSet};

use qdrant_edge::{
    Distance, EdgeConfig, EdgeShard, EdgeVectorParams, Filter, PointId, PointInsertOperations, PointOperations,
    PointStruct, ScrollRequest, UpdateOperation, Vector, Vectors, WithPayloadInterface, WithVector,
};
use serde_json::Value;
use strongroom::RecordId;

use super::generate::Document;

/// A shard with documents as they are.
pub struct Plain {
    shard: EdgeShard,
    points: usize,
    /// Removed after the shard is closed.
    _dir: tempfile::TempDir,
}

impl Plain {
    pub fn new(documents: &[Document]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vector = || EdgeVectorParams {
            size: 1,
            distance: Distance::Dot,
            on_disk: None,
            multivector_config: None,
            datatype: None,
            quantization_config: None,
            hnsw_config: None,
        };
        let vectors = HashMap::from([("a".to_owned(), vector()), ("b".to_owned(), vector())]);
        let shard = EdgeShard::new(dir.path(), EdgeConfig { vectors, ..EdgeConfig::default() }).unwrap();
        let points = documents.iter().map(|document| {
            let vectors = document.vectors.iter().map(|name| (name.clone(), Vector::new_dense(vec![1.0])));
            let id = match &document.id {
                RecordId::Number(n) => PointId::NumId(*n),
                RecordId::Uuid(u) => PointId::Uuid(*u),
                RecordId::Text(_) => panic!("the engine has no textual ids"),
            };
            PointStruct::new(id, Vectors::new_named(vectors), Value::Object(document.payload())).into()
        });
        let points = PointInsertOperations::PointsList(points.collect());
        shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(points))).unwrap();
        Self { shard, points: documents.len(), _dir: dir }
    }

    /// The ids of the points that pass a filter of Qdrant's REST interface.
    pub fn passing(&self, filter: &str) -> HashSet<RecordId> {
        let parsed: Filter = serde_json::from_str(filter).unwrap_or_else(|e| panic!("{e}: {filter}"));
        let request = ScrollRequest {
            offset: None,
            limit: Some(self.points),
            filter: Some(parsed),
            with_payload: Some(WithPayloadInterface::Bool(false)),
            with_vector: WithVector::Bool(false),
            order_by: None,
        };
        let (found, _) = self.shard.scroll(request).unwrap();
        let id = |id| match id {
            PointId::NumId(n) => RecordId::Number(n),
            PointId::Uuid(u) => RecordId::Uuid(u),
        };
        found.into_iter().map(|point| id(point.id)).collect()
    }
}
