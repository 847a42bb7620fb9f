//! One shard of `qdrant-edge`: points in, points out.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use qdrant_edge::{
    CountRequest, CreateIndex, Distance, EdgeConfig, EdgeShard, EdgeVectorParams, FieldIndexOperations,
    HnswIndexConfig, NamedQuery, PointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum,
    ScalarQuantizationConfig, ScalarType, ScrollRequest, SearchParams, SearchRequest, UpdateOperation, Vector,
    VectorInternal, VectorStructInternal, Vectors, WalOptions, WithPayloadInterface, WithVector,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{failed, filter, undo};
use crate::disk::DataDir;
use crate::error::{Error, Result};
use crate::vectors::Metric;
use crate::vectors::engine::{EngineCollection, EngineStatus, Fields, Nearest, Page, Point, Shape, TokenFilter};

/// The vector that sealed points declare and never have: the engine wants at least one.
const NO_VECTOR: &str = "none";
/// Bytes of one file of the engine's log: small, since it is never read and there may be thousands of shards.
const LOG_FILE_BYTES: usize = 4 << 20;
/// Edges of a point in the search graph of its tag.
const TAG_GRAPH_EDGES: usize = 16;

thread_local!(static IN_ENGINE: Cell<bool> = const { Cell::new(false) });

/// Whether this thread is inside the engine: a panic there becomes an error and need not be shown as one.
pub(crate) fn in_engine() -> bool {
    IN_ENGINE.get()
}

pub(super) struct Shard {
    dir: PathBuf,
    disk: Arc<DataDir>,
    /// `None` only while it is dropped.
    shard: Option<EdgeShard>,
    searchable: bool,
    /// Held by a write and by a flush: the engine panics when they meet.
    turn: Mutex<()>,
    /// Whether an optimisation runs, or failed and is undone when the shard is opened again.
    optimizing: AtomicBool,
}

impl Shard {
    pub(super) fn open(dir: PathBuf, disk: Arc<DataDir>, shape: &Shape) -> Result<Self> {
        let config = config(shape);
        let shard = guarded("open", || {
            if has_segments(&dir)? {
                return EdgeShard::load(&dir, Some(config));
            }
            // Without a segment, it was never made or its making was interrupted: nothing is in it yet.
            if dir.try_exists()? {
                std::fs::remove_dir_all(&dir)?;
            }
            std::fs::create_dir_all(&dir)?;
            EdgeShard::new(&dir, config)
        })?;
        let shard = Self {
            dir,
            disk,
            shard: Some(shard),
            searchable: !shape.vectors.is_empty(),
            turn: Mutex::new(()),
            optimizing: AtomicBool::new(false),
        };
        shard.index_fields(shape)?;
        Ok(shard)
    }

    /// Has the engine index what it filters by, unless it does already.
    fn index_fields(&self, shape: &Shape) -> Result<()> {
        let wanted = [(shape.tags, filter::TAG), (shape.tokens, filter::TOKENS)];
        if wanted.iter().all(|(wanted, _)| !wanted) {
            return Ok(());
        }
        let shard = self.shard()?;
        let known = guarded::<_, std::convert::Infallible>("open", || Ok(shard.info().payload_schema))?;
        for (_, field) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
            let field_name = filter::path(field);
            if !known.contains_key(&field_name) {
                let index = CreateIndex { field_name, field_schema: Some(filter::index(field)) };
                let operation = UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index));
                guarded("index a field", || shard.update(operation))?;
            }
        }
        Ok(())
    }

    fn shard(&self) -> Result<&EdgeShard> {
        self.shard.as_ref().ok_or_else(|| Error::internal("a closed shard was used"))
    }

    /// The caller has the turn.
    fn flush_now(&self) -> Result<()> {
        let shard = self.shard()?;
        guarded::<_, std::convert::Infallible>("flush", || {
            shard.flush();
            Ok(())
        })
    }

    fn write(&self, what: &'static str, operation: PointOperations) -> Result<()> {
        let shard = self.shard()?;
        let _turn = self.turn.lock();
        guarded(what, || shard.update(UpdateOperation::PointOperation(operation)))
    }
}

impl EngineCollection for Shard {
    fn upsert(&self, points: Vec<Point>) -> Result<()> {
        let points = points.into_iter().map(|p| to_engine(p).into()).collect();
        self.write("store points", PointOperations::UpsertPoints(PointInsertOperations::PointsList(points)))
    }

    /// Nothing arrives late here.
    fn delete(&self, ids: &[Uuid], _through: u64) -> Result<()> {
        let ids = ids.iter().copied().map(PointId::Uuid).collect();
        self.write("delete points", PointOperations::DeletePoints { ids })
    }

    fn retrieve(&self, ids: &[Uuid], fields: Fields) -> Result<Vec<Point>> {
        let shard = self.shard()?;
        let ids: Vec<_> = ids.iter().copied().map(PointId::Uuid).collect();
        let found =
            guarded("read points", || shard.retrieve(&ids, Some(with_payload(fields)), Some(WithVector::Bool(false))))?;
        found.into_iter().map(|r| from_engine(r.id, r.payload.map(|p| p.0), None, fields)).collect()
    }

    fn scroll_filtered(
        &self,
        from: Option<Uuid>,
        limit: usize,
        fields: Fields,
        filter: Option<&TokenFilter>,
    ) -> Result<Page> {
        let shard = self.shard()?;
        let request = ScrollRequest {
            offset: from.map(PointId::Uuid),
            limit: Some(limit),
            filter: filter.map(filter::to_engine),
            with_payload: Some(with_payload(fields)),
            with_vector: WithVector::Bool(self.searchable && fields == Fields::Both),
            order_by: None,
        };
        let (records, next) = guarded("list points", || shard.scroll(request))?;
        let points = records.into_iter().map(|r| {
            let vectors = r.vector;
            from_engine(r.id, r.payload.map(|p| p.0), vectors, fields)
        });
        let next = match next {
            Some(PointId::Uuid(id)) => Some(id),
            Some(PointId::NumId(_)) => return Err(Error::integrity("a point of the engine")),
            None => None,
        };
        Ok((points.collect::<Result<_>>()?, next))
    }

    fn search(&self, nearest: &Nearest<'_>) -> Result<Vec<(Point, f32)>> {
        let shard = self.shard()?;
        let request = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery::new(
                VectorInternal::Dense(nearest.vector.to_vec()),
                name(nearest.position),
            )),
            filter: nearest.filter.map(filter::to_engine),
            params: Some(SearchParams { exact: nearest.exact, hnsw_ef: nearest.ef, ..Default::default() }),
            limit: nearest.limit,
            offset: 0,
            with_payload: Some(with_payload(nearest.fields)),
            with_vector: None,
            score_threshold: None,
        };
        let found = guarded("search", || shard.search(request))?;
        let points =
            found.into_iter().map(|p| Ok((from_engine(p.id, p.payload.map(|p| p.0), None, nearest.fields)?, p.score)));
        points.collect()
    }

    fn status(&self) -> Result<EngineStatus> {
        let shard = self.shard()?;
        let points = guarded("count points", || shard.count(CountRequest { filter: None, exact: true }))?;
        Ok(EngineStatus { points, indexed_vectors: shard.info().indexed_vectors_count })
    }

    fn write_back(&self) {
        super::sync_below(&self.dir);
    }

    fn flush(&self) -> Result<bool> {
        let _turn = self.turn.lock();
        // While segments are being replaced the engine's flush may find them locked, and panic.
        if self.optimizing.load(Ordering::SeqCst) {
            return Ok(false);
        }
        self.flush_now()?;
        super::trim_engine_log(&self.dir)?;
        Ok(true)
    }

    fn optimize(&self) -> Result<bool> {
        let shard = self.shard()?;
        // It writes new segments before it removes the old ones.
        self.disk.ensure_room(super::bytes_below(&self.dir))?;
        {
            let _turn = self.turn.lock();
            if self.optimizing.load(Ordering::SeqCst) {
                return Ok(false);
            }
            // Segments that it makes are on disk at once: the log that numbers their points must be there before.
            self.flush_now()?;
            undo::keep(&self.dir)?;
            self.optimizing.store(true, Ordering::SeqCst);
        }
        let done = guarded("optimize", || shard.optimize())?;
        let _turn = self.turn.lock();
        self.flush_now()?;
        undo::forget(&self.dir)?;
        self.optimizing.store(false, Ordering::SeqCst);
        Ok(done)
    }
}

impl Drop for Shard {
    /// The engine flushes when dropped, and panics when that fails; the journal has what it could not write.
    fn drop(&mut self) {
        let shard = self.shard.take();
        let _ = guarded::<_, std::convert::Infallible>("close", || {
            drop(shard);
            Ok(())
        });
    }
}

/// Runs one call of the engine, which panics where others return an error.
fn guarded<T, E: std::fmt::Display>(what: &'static str, call: impl FnOnce() -> Result<T, E>) -> Result<T> {
    IN_ENGINE.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    IN_ENGINE.set(false);
    match outcome {
        Ok(result) => result.map_err(|e| failed(what, e)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it panicked");
            Err(failed(what, text))
        }
    }
}

fn has_segments(shard: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(shard.join("segments")) {
        Ok(mut segments) => Ok(segments.next().is_some()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn config(shape: &Shape) -> EdgeConfig {
    let by_tag = || HnswIndexConfig { m: 0, payload_m: Some(TAG_GRAPH_EDGES), ..HnswIndexConfig::default() };
    // What few points share is scanned: a quarter of the bytes takes half the time, and is exact enough to choose from.
    let codes = || ScalarQuantizationConfig { r#type: ScalarType::Int8, quantile: None, always_ram: None };
    let vector = |size, metric| {
        let distance = match metric {
            Metric::Cosine => Distance::Cosine,
            Metric::Dot => Distance::Dot,
            Metric::Euclid => Distance::Euclid,
        };
        EdgeVectorParams {
            size,
            distance,
            on_disk: None,
            multivector_config: None,
            datatype: None,
            quantization_config: shape.tags.then(|| codes().into()),
            hnsw_config: shape.tags.then(by_tag),
        }
    };
    let mut vectors: HashMap<_, _> =
        shape.vectors.iter().map(|v| (name(v.position), vector(v.size, v.metric))).collect();
    if vectors.is_empty() {
        vectors.insert(NO_VECTOR.into(), vector(1, Metric::Dot));
    }
    EdgeConfig {
        vectors,
        wal_options: Some(WalOptions { segment_capacity: LOG_FILE_BYTES, ..WalOptions::default() }),
        ..EdgeConfig::default()
    }
}

/// What the engine calls the vector at `position`.
fn name(position: u8) -> String {
    position.to_string()
}

fn to_engine(point: Point) -> PointStruct {
    let mut payload = Map::from_iter([
        ("e".into(), point.epoch.into()),
        ("v".into(), point.version.into()),
        ("p".into(), BASE64.encode(&point.payload).into()),
        ("x".into(), BASE64.encode(&point.vector).into()),
    ]);
    if let Some(tag) = &point.tag {
        payload.insert(filter::TAG.into(), filter::word(tag).into());
    }
    if !point.tokens.is_empty() {
        let tokens = point.tokens.iter().map(|token| filter::word(token).into());
        payload.insert(filter::TOKENS.into(), Value::Array(tokens.collect()));
    }
    let vectors = Vectors::new_named(point.searchable.into_iter().map(|(p, v)| (name(p), Vector::new_dense(v))));
    PointStruct::new(PointId::Uuid(point.id), vectors, Value::Object(payload))
}

/// What of a point's payload the engine is to return.
fn with_payload(fields: Fields) -> WithPayloadInterface {
    match fields {
        // Leaving out one of two large fields costs more than it saves.
        Fields::Both | Fields::Payload | Fields::Vector => WithPayloadInterface::Bool(true),
        Fields::Head => WithPayloadInterface::Fields(["e", "v"].map(filter::path).to_vec()),
        Fields::Id => WithPayloadInterface::Bool(false),
    }
}

/// What an engine says is hostile: a field that is missing or malformed becomes an empty one, which does not open.
fn from_engine(
    id: PointId,
    payload: Option<Map<String, Value>>,
    vectors: Option<VectorStructInternal>,
    fields: Fields,
) -> Result<Point> {
    let PointId::Uuid(id) = id else { return Err(Error::integrity("a point of the engine")) };
    let payload = payload.unwrap_or_default();
    let number = |key: &str| payload.get(key).and_then(Value::as_u64).unwrap_or_default();
    let bytes = |key: &str| {
        let text = payload.get(key).and_then(Value::as_str).unwrap_or_default();
        BASE64.decode(text).unwrap_or_default()
    };
    let (sealed, vector) = match fields {
        Fields::Both => (bytes("p"), bytes("x")),
        Fields::Payload => (bytes("p"), Vec::new()),
        Fields::Vector => (Vec::new(), bytes("x")),
        Fields::Head | Fields::Id => (Vec::new(), Vec::new()),
    };
    let (tag, tokens) = match fields {
        Fields::Both => {
            let tokens = payload.get(filter::TOKENS).and_then(Value::as_array);
            let tokens = tokens.into_iter().flatten().filter_map(Value::as_str).filter_map(filter::from_word);
            (payload.get(filter::TAG).and_then(Value::as_str).and_then(filter::from_word), tokens.collect())
        }
        _ => (None, Vec::new()),
    };
    let searchable = match vectors {
        Some(VectorStructInternal::Named(named)) => named
            .into_iter()
            .filter_map(|(name, vector)| match vector {
                VectorInternal::Dense(v) => Some((name.parse().ok()?, v)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let epoch = u32::try_from(number("e")).unwrap_or_default();
    Ok(Point { id, epoch, version: number("v"), payload: sealed, vector, searchable, tag, tokens })
}
