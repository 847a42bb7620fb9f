//! One collection: a shard of `qdrant-edge`, and a log of what it may not have on disk yet.
//!
//! A Qdrant server has what it acknowledged in its write-ahead log; the shard alone would lose it when the process is
//! killed. So a write goes to the log first, and the log is read back on load and cut after a flush. It is not synced:
//! nobody pulls the plug here.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{CreateCollection, CreateFieldIndexCollection, DeletePoints, UpdateMode, UpsertPoints};
use qdrant_edge::{
    ConditionalInsertOperation, CreateIndex, EdgeShard, FieldIndexOperations, Filter, PointId, PointInsertOperations,
    PointOperations, Record, UpdateOperation, WithPayloadInterface, WithVector,
};
use tonic::Status;

use crate::convert;

const DESCRIPTION: &str = "description";
const INDEXES: &str = "indexes";
const LOG: &str = "log";
const SHARD: &str = "shard";
/// How long nothing must be written before search graphs are built.
const QUIET: Duration = Duration::from_millis(700);

pub struct Collection {
    dir: PathBuf,
    description: CreateCollection,
    /// `None` only while it is dropped.
    shard: Option<EdgeShard>,
    /// Held by who writes and who flushes: the engine panics when they meet.
    log: Mutex<Log>,
    indexes: RwLock<Vec<CreateFieldIndexCollection>>,
    /// What points were, for an order to answer with that.
    kept: RwLock<HashMap<PointId, Record>>,
    condemned: AtomicBool,
}

struct Log {
    file: File,
    /// Since the last flush.
    written: bool,
    /// Since search graphs were built.
    changed: Option<Instant>,
}

/// A write.
pub enum Write {
    Upsert(UpsertPoints),
    Delete(DeletePoints),
}

impl Collection {
    pub fn create(dir: PathBuf, description: CreateCollection) -> Result<Self, Status> {
        let config = convert::config(&description)?;
        let failed = |e: std::io::Error| Status::internal(e.to_string());
        fs::create_dir_all(dir.join(SHARD)).map_err(failed)?;
        let shard = EdgeShard::new(&dir.join(SHARD), config).map_err(convert::failed)?;
        shard.flush();
        let log = Log { file: open_log(&dir).map_err(failed)?, written: false, changed: None };
        // Last: what has no description was never made.
        fs::write(dir.join(DESCRIPTION), description.encode_to_vec()).map_err(failed)?;
        Ok(Self::new(dir, description, shard, log, Vec::new()))
    }

    /// Whether there is one in `dir`.
    pub fn is_described(dir: &Path) -> bool {
        dir.join(DESCRIPTION).exists()
    }

    pub fn load(dir: PathBuf) -> Result<Self, Box<dyn std::error::Error>> {
        let description = CreateCollection::decode(&fs::read(dir.join(DESCRIPTION))?[..])?;
        let config = convert::config(&description)?;
        let shard = EdgeShard::load(&dir.join(SHARD), Some(config)).map_err(|e| e.to_string())?;
        let indexes = read_all::<CreateFieldIndexCollection>(&fs::read(dir.join(INDEXES)).unwrap_or_default());
        let logged = fs::read(dir.join(LOG))?;
        let log = Log { file: open_log(&dir)?, written: true, changed: Some(Instant::now()) };
        let collection = Self::new(dir, description, shard, log, indexes.clone());
        for index in &indexes {
            collection.index(index)?;
        }
        let mut rest = &logged[..];
        while let Some(write) = Write::read(&mut rest) {
            // One that failed then fails again.
            let _ = collection.apply(&write);
        }
        Ok(collection)
    }

    fn new(
        dir: PathBuf,
        description: CreateCollection,
        shard: EdgeShard,
        log: Log,
        indexes: Vec<CreateFieldIndexCollection>,
    ) -> Self {
        Self {
            dir,
            description,
            shard: Some(shard),
            log: Mutex::new(log),
            indexes: RwLock::new(indexes),
            kept: RwLock::default(),
            condemned: AtomicBool::new(false),
        }
    }

    pub fn name(&self) -> &str {
        &self.description.collection_name
    }

    pub fn description(&self) -> &CreateCollection {
        &self.description
    }

    pub fn indexes(&self) -> Vec<CreateFieldIndexCollection> {
        self.indexes.read().clone()
    }

    pub fn shard(&self) -> Result<&EdgeShard, Status> {
        self.shard.as_ref().ok_or_else(|| Status::internal("closed"))
    }

    /// Writes, and keeps what is overwritten if `keep`.
    pub fn write(&self, write: &Write, keep: bool) -> Result<(), Status> {
        // What does not convert is not logged.
        let operation = write.operation()?;
        let mut log = self.log.lock();
        if keep {
            self.keep(&operation)?;
        }
        log.file.write_all(&write.to_bytes()).map_err(|e| Status::internal(e.to_string()))?;
        log.written = true;
        log.changed = Some(Instant::now());
        self.shard()?.update(UpdateOperation::PointOperation(operation)).map_err(convert::failed)
    }

    fn apply(&self, write: &Write) -> Result<(), Status> {
        self.shard()?.update(UpdateOperation::PointOperation(write.operation()?)).map_err(convert::failed)
    }

    pub fn create_index(&self, index: CreateFieldIndexCollection) -> Result<(), Status> {
        let mut log = self.log.lock();
        self.index(&index)?;
        let mut indexes = self.indexes.write();
        indexes.retain(|other| other.field_name != index.field_name);
        indexes.push(index);
        let bytes: Vec<u8> = indexes.iter().flat_map(|index| index.encode_length_delimited_to_vec()).collect();
        log.written = true;
        fs::write(self.dir.join(INDEXES), bytes).map_err(|e| Status::internal(e.to_string()))
    }

    fn index(&self, index: &CreateFieldIndexCollection) -> Result<(), Status> {
        let field_name = convert::path(&index.field_name)?;
        let create = CreateIndex { field_name, field_schema: Some(convert::schema(index)?) };
        let operation = UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create));
        self.shard()?.update(operation).map_err(convert::failed)
    }

    /// What a point was, if that was kept.
    pub fn kept(&self, id: PointId) -> Option<Record> {
        self.kept.read().get(&id).cloned()
    }

    fn keep(&self, operation: &PointOperations) -> Result<(), Status> {
        let ids = match operation {
            PointOperations::UpsertPoints(points) => points.point_ids(),
            PointOperations::UpsertPointsConditional(conditional) => conditional.points_op.point_ids(),
            _ => return Ok(()),
        };
        let (payload, vector) = (WithPayloadInterface::Bool(true), WithVector::Bool(true));
        let found = self.shard()?.retrieve(&ids, Some(payload), Some(vector)).map_err(convert::failed)?;
        let mut kept = self.kept.write();
        for record in found {
            kept.entry(record.id).or_insert(record);
        }
        Ok(())
    }

    pub fn flush(&self) {
        let mut log = self.log.lock();
        if let (true, Some(shard)) = (log.written, &self.shard) {
            shard.flush();
            // Positions of a file that is appended to follow its length.
            let cut = log.file.set_len(0);
            log.written = cut.is_err();
        }
    }

    pub fn optimize(&self) {
        let mut log = self.log.lock();
        if let (Some(since), Some(shard)) = (log.changed, &self.shard)
            && since.elapsed() > QUIET
        {
            while shard.optimize().unwrap_or_default() {}
            log.changed = None;
            shard.flush();
        }
    }

    /// Its files go when nobody uses it any more.
    pub fn condemn(&self) {
        // Without a description it is none any more.
        let _ = fs::remove_file(self.dir.join(DESCRIPTION));
        self.condemned.store(true, Ordering::SeqCst);
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        drop(self.shard.take());
        if self.condemned.load(Ordering::SeqCst) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Write {
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, message) = match self {
            Write::Upsert(upsert) => (1, upsert.encode_length_delimited_to_vec()),
            Write::Delete(delete) => (2, delete.encode_length_delimited_to_vec()),
        };
        [&[kind], &message[..]].concat()
    }

    fn read(rest: &mut &[u8]) -> Option<Self> {
        let (kind, mut message) = rest.split_first()?;
        let write = match kind {
            1 => Self::Upsert(UpsertPoints::decode_length_delimited(&mut message).ok()?),
            _ => Self::Delete(DeletePoints::decode_length_delimited(&mut message).ok()?),
        };
        *rest = message;
        Some(write)
    }

    fn operation(&self) -> Result<PointOperations, Status> {
        match self {
            Write::Upsert(upsert) => {
                let points = upsert.points.iter().map(convert::point).collect::<Result<Vec<_>, _>>()?;
                let points_op = PointInsertOperations::PointsList(points.into_iter().map(Into::into).collect());
                let mode = upsert.update_mode.map_or(UpdateMode::Upsert, |_| upsert.update_mode());
                if upsert.update_filter.is_none() && mode == UpdateMode::Upsert {
                    return Ok(PointOperations::UpsertPoints(points_op));
                }
                let condition = upsert.update_filter.as_ref().map_or_else(|| Ok(Filter::default()), convert::filter)?;
                let update_mode = Some(match mode {
                    UpdateMode::Upsert => qdrant_edge::UpdateMode::Upsert,
                    UpdateMode::InsertOnly => qdrant_edge::UpdateMode::InsertOnly,
                    UpdateMode::UpdateOnly => qdrant_edge::UpdateMode::UpdateOnly,
                });
                let conditional = ConditionalInsertOperation { points_op, condition, update_mode };
                Ok(PointOperations::UpsertPointsConditional(conditional))
            }
            Write::Delete(delete) => {
                let selector = delete.points.as_ref().and_then(|points| points.points_selector_one_of.as_ref());
                match selector {
                    Some(PointsSelectorOneOf::Points(list)) => {
                        let ids = list.ids.iter().map(convert::id).collect::<Result<_, _>>()?;
                        Ok(PointOperations::DeletePoints { ids })
                    }
                    Some(PointsSelectorOneOf::Filter(filter)) => {
                        Ok(PointOperations::DeletePointsByFilter(convert::filter(filter)?))
                    }
                    None => Err(Status::invalid_argument("PointsSelector is missing")),
                }
            }
        }
    }
}

fn open_log(dir: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(dir.join(LOG))
}

/// The messages of a file, one after the other.
fn read_all<M: prost::Message + Default>(mut bytes: &[u8]) -> Vec<M> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Ok(message) = M::decode_length_delimited(&mut bytes) else { break };
        all.push(message);
    }
    all
}
