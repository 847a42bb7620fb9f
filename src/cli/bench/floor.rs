//! The floors: `qdrant-edge` and RocksDB by themselves, with the settings that Strongroom gives them.

use std::collections::HashMap;
use std::path::Path;

use qdrant_edge::{
    CreateIndex, Distance, EdgeConfig, EdgeShard, EdgeVectorParams, FieldIndexOperations, Filter, JsonPath, NamedQuery,
    PayloadFieldSchema, PayloadSchemaType, PointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum,
    ScrollRequest, SearchRequest, UpdateOperation, Vector, VectorInternal, Vectors, WithPayloadInterface, WithVector,
};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, Options, WriteBatch, WriteOptions,
};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::vectors::Chunk;

const VECTOR: &str = "0";
/// Points that are read at a time when all are.
const PAGE: usize = 1024;

/// A shard with plain vectors and plain payloads.
pub(super) struct BareShard(EdgeShard);

impl BareShard {
    pub(super) fn new(dir: &Path, dim: usize) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let vector = EdgeVectorParams {
            size: dim,
            distance: Distance::Cosine,
            on_disk: None,
            multivector_config: None,
            datatype: None,
            quantization_config: None,
            hnsw_config: None,
        };
        let config = EdgeConfig { vectors: HashMap::from([(VECTOR.into(), vector)]), ..EdgeConfig::default() };
        EdgeShard::new(dir, config).map(Self).map_err(failed)
    }

    /// The chunks as the engine takes them.
    pub(super) fn points(chunks: Vec<Chunk>) -> Vec<PointStruct> {
        chunks.into_iter().map(to_point).collect()
    }

    pub(super) fn upsert(&self, points: Vec<PointStruct>) -> Result<()> {
        let points = PointInsertOperations::PointsList(points.into_iter().map(Into::into).collect());
        self.0.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(points))).map_err(failed)
    }

    pub(super) fn flush(&self) {
        self.0.flush();
    }

    /// Reads all points, writes each under another id, and deletes it under the one it had, `points` at a time.
    pub(super) fn rewrite(&self, from: u64, to: u64, count: usize, points: usize) -> Result<()> {
        for start in (0..count as u64).step_by(points) {
            let end = (start + points as u64).min(count as u64);
            let ids: Vec<_> = (start..end).map(|i| PointId::NumId(from + i)).collect();
            let found = self.0.retrieve(&ids, Some(WithPayloadInterface::Bool(true)), Some(WithVector::Bool(true)));
            let moved = found.map_err(failed)?.into_iter().map(|record| {
                let (PointId::NumId(id), Some(vector)) = (record.id, record.vector) else {
                    return Err(Error::internal("the engine returned something else than was stored"));
                };
                let payload = record.payload.map_or_else(Map::new, |payload| payload.0);
                Ok(PointStruct::new(PointId::NumId(id - from + to), vector, Value::Object(payload)))
            });
            self.upsert(moved.collect::<Result<_>>()?)?;
            let delete = PointOperations::DeletePoints { ids };
            self.0.update(UpdateOperation::PointOperation(delete)).map_err(failed)?;
        }
        self.flush();
        Ok(())
    }

    /// Builds search graphs until there is nothing left to do, and returns how many vectors are in one.
    pub(super) fn optimize(&self) -> Result<usize> {
        while self.0.optimize().map_err(failed)? {}
        Ok(self.0.info().indexed_vectors_count)
    }

    /// Makes an index of a field of integers.
    pub(super) fn index_integers(&self, field: &str) -> Result<()> {
        let field_schema = Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Integer));
        let index = CreateIndex { field_name: path(field)?, field_schema };
        let operation = FieldIndexOperations::CreateIndex(index);
        self.0.update(UpdateOperation::FieldIndexOperation(operation)).map_err(failed)
    }

    /// The filter that takes what has less than `bound` in `field`.
    pub(super) fn filter_below(field: &str, bound: u64) -> Result<Filter> {
        let filter = serde_json::json!({"must": [{"key": field, "range": {"lt": bound}}]});
        serde_json::from_value(filter)
            .map_err(|e| Error::internal("the engine does not know the filter").with_source(e))
    }

    /// Reads all points with their vectors, as a start would, and returns how many there are.
    pub(super) fn read_all(&self) -> Result<usize> {
        let (mut from, mut read) = (None, 0);
        loop {
            let request = ScrollRequest {
                offset: from,
                limit: Some(PAGE),
                filter: None,
                with_payload: Some(WithPayloadInterface::Bool(false)),
                with_vector: WithVector::Bool(true),
                order_by: None,
            };
            let (points, next) = self.0.scroll(request).map_err(failed)?;
            read += points.len();
            match next {
                Some(id) => from = Some(id),
                None => return Ok(read),
            }
        }
    }

    /// The positions and payloads of the `k` nearest.
    pub(super) fn search(&self, query: &[f32], k: usize) -> Result<Vec<(u64, Map<String, Value>)>> {
        self.nearest(query, k, None)
    }

    /// The same of what passes.
    pub(super) fn search_filtered(
        &self,
        query: &[f32],
        k: usize,
        filter: &Filter,
    ) -> Result<Vec<(u64, Map<String, Value>)>> {
        self.nearest(query, k, Some(filter.clone()))
    }

    fn nearest(&self, query: &[f32], k: usize, filter: Option<Filter>) -> Result<Vec<(u64, Map<String, Value>)>> {
        let request = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery::new(VectorInternal::Dense(query.to_vec()), VECTOR)),
            filter,
            params: None,
            limit: k,
            offset: 0,
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: None,
            score_threshold: None,
        };
        let found = self.0.search(request).map_err(failed)?;
        let hits = found.into_iter().map(|point| match (point.id, point.payload) {
            (PointId::NumId(id), Some(payload)) => Ok((id, payload.0)),
            _ => Err(Error::internal("the engine returned something else than was stored")),
        });
        hits.collect()
    }
}

fn path(field: &str) -> Result<JsonPath> {
    field.parse().map_err(|()| Error::internal("the engine does not know the field"))
}

fn to_point(chunk: Chunk) -> PointStruct {
    let id = if let RecordId::Number(n) = chunk.id { n } else { 0 };
    let vector = chunk.vectors.get("").unwrap_or_default().to_vec();
    let payload = Map::from_iter([("text".into(), chunk.text.into()), ("metadata".into(), chunk.metadata.into())]);
    let vectors = Vectors::new_named([(VECTOR, Vector::new_dense(vector))]);
    PointStruct::new(PointId::NumId(id), vectors, Value::Object(payload))
}

/// A database with one table.
pub(super) struct BareRocks {
    db: DB,
    synced: WriteOptions,
}

impl BareRocks {
    pub(super) fn open(dir: &Path, cache_mib: u32) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache((cache_mib as usize) << 20));
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_max_background_jobs(2);
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(32 << 20);
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self { db: DB::open(&options, dir).map_err(failed)?, synced })
    }

    /// Writes and returns once it would survive a power loss.
    pub(super) fn put_synced(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put_opt(key, value, &self.synced).map_err(failed)
    }

    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put(key, value).map_err(failed)
    }

    /// Reads every row whose key begins with `from` and writes it with `to` in that place, `rows` rows at a time. On return
    /// all of them would survive a power loss.
    pub(super) fn copy(&self, from: u8, to: u8, rows: usize) -> Result<()> {
        let mut batch = WriteBatch::default();
        for row in self.db.iterator(IteratorMode::From(&[from], Direction::Forward)) {
            let (key, value) = row.map_err(failed)?;
            match key.split_first() {
                Some((first, rest)) if *first == from => batch.put([&[to], rest].concat(), value),
                _ => break,
            }
            if batch.len() >= rows {
                self.db.write(std::mem::take(&mut batch)).map_err(failed)?;
            }
        }
        self.db.write_opt(batch, &self.synced).map_err(failed)
    }

    /// Removes every row whose key begins with `first`.
    pub(super) fn remove(&self, first: u8) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.delete_range([first], [first + 1]);
        self.db.write(batch).map_err(failed)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get(key).map_err(failed)
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::internal("the floor failed").with_source(e.to_string())
}
