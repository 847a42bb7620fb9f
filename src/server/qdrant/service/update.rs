//! Changing points. What depends on what is there is read, changed and written under the guard of its version.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::read::within;
use super::{Session, payload, vectors};
use crate::audit::{Access, WriteKind};
use crate::error::Error;
use crate::filter::{Filter, JsonPath};
use crate::id::RecordId;
use crate::limits;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::Object;
use crate::server::qdrant::model::points::{
    Operation, PointStruct, PointVectors, Selection, UpdateMode, UpdateResult, UpdateStatus,
};
use crate::store::{Collection, Looked, Looker, passes};
use crate::vectors::{Chunk, CollectionSpec, StoredChunk, Vectors};

/// An operation whose parts are all good: nothing of it is refused halfway.
enum Checked {
    Write(Vec<Chunk>),
    WriteIf { chunks: Vec<Chunk>, filter: Option<Filter>, mode: UpdateMode },
    Delete(Selection),
    Payload { points: Selection, edit: Edit },
    Vectors { vectors: BTreeMap<RecordId, Vectors>, filter: Option<Filter> },
    DeleteVectors { points: Selection, names: Vec<String> },
}

/// A change of payloads.
enum Edit {
    Merge(Object),
    SetAt(JsonPath, Object),
    Replace(Object),
    Delete(Vec<JsonPath>),
}

impl Edit {
    fn apply(&self, payload: &mut Object) {
        match self {
            Edit::Merge(source) => payload::merge(payload, source.clone()),
            Edit::SetAt(path, source) => payload::set_at(payload, path, source),
            Edit::Replace(new) => payload.clone_from(new),
            Edit::Delete(paths) => paths.iter().for_each(|path| payload::delete_at(payload, path)),
        }
    }
}

impl Session {
    /// Does one thing to points.
    pub(in super::super) async fn change(
        &self,
        name: &str,
        operation: Operation,
        status: UpdateStatus,
    ) -> Answer<UpdateResult> {
        let collection = self.writable(name).await?;
        let checked = check(operation, collection.spec())?;
        self.apply(&collection, checked).await?;
        Ok(self.service.done(status))
    }

    /// Does several, one after the other; none if one of them cannot be.
    pub(in super::super) async fn change_all(
        &self,
        name: &str,
        operations: Vec<Operation>,
        status: UpdateStatus,
    ) -> Answer<Vec<UpdateResult>> {
        within(operations.len(), limits::QDRANT_BATCH, "operations at once")?;
        let collection = self.writable(name).await?;
        let checked: Vec<Checked> =
            operations.into_iter().map(|operation| check(operation, collection.spec())).collect::<Answer<_>>()?;
        let mut results = Vec::with_capacity(checked.len());
        for operation in checked {
            self.apply(&collection, operation).await?;
            results.push(self.service.done(status));
        }
        Ok(results)
    }

    async fn apply(&self, collection: &Collection, operation: Checked) -> Answer<()> {
        match operation {
            Checked::Write(chunks) => {
                collection.ingest(chunks).await?;
                Ok(())
            }
            Checked::WriteIf { chunks, filter, mode } => self.write_if(collection, chunks, filter, mode).await,
            Checked::Delete(Selection::Ids(ids)) => {
                for ids in unique(ids).chunks(limits::WRITE_RECORDS) {
                    collection.delete(ids.to_vec()).await?;
                }
                Ok(())
            }
            Checked::Delete(Selection::Filter(filter)) => {
                collection.delete_filtered(filter).await?;
                Ok(())
            }
            Checked::Payload { points, edit } => {
                self.edit(collection, points, move |_, found| {
                    let StoredChunk { id, text, metadata, vectors, .. } = found;
                    let mut payload = payload::of_chunk(metadata, text);
                    edit.apply(&mut payload);
                    let (text, metadata) = payload::to_chunk(payload);
                    Ok(Chunk { id, text, metadata, vectors })
                })
                .await
            }
            Checked::Vectors { vectors, filter } => {
                let points = Selection::Ids(vectors.keys().cloned().collect());
                self.edit_if(collection, points, filter, move |id, found| {
                    let StoredChunk { id: _, text, metadata, vectors: mut all, .. } = found;
                    if let Some(new) = vectors.get(id) {
                        new.iter().for_each(|(name, values)| all.insert(name, values.to_vec()));
                        new.iter_sparse().for_each(|(name, vector)| all.insert_sparse(name, vector.clone()));
                    }
                    Ok(Chunk { id: id.clone(), text, metadata, vectors: all })
                })
                .await
            }
            Checked::DeleteVectors { points, names } => {
                self.edit(collection, points, move |_, found| {
                    let StoredChunk { id, text, metadata, mut vectors, .. } = found;
                    names.iter().for_each(|name| _ = vectors.remove(name));
                    Ok(Chunk { id, text, metadata, vectors })
                })
                .await
            }
        }
    }

    /// Writes each point if what is there lets it.
    async fn write_if(
        &self,
        collection: &Collection,
        chunks: Vec<Chunk>,
        filter: Option<Filter>,
        mode: UpdateMode,
    ) -> Answer<()> {
        let chunks: BTreeMap<RecordId, Chunk> = chunks.into_iter().map(|chunk| (chunk.id.clone(), chunk)).collect();
        let ids = chunks.keys().cloned().collect();
        let _turn = self.service.changing.take(collection.id()).await;
        let decide = move |id: &RecordId, found: Option<StoredChunk>| {
            let lets = match (&found, mode) {
                (Some(_), UpdateMode::InsertOnly) | (None, UpdateMode::UpdateOnly) => false,
                (Some(found), _) => filter.as_ref().is_none_or(|filter| passes(filter, found)),
                (None, _) => true,
            };
            Ok(match chunks.get(id) {
                Some(chunk) if lets => Some(chunk.clone()),
                _ => None,
            })
        };
        collection.change(ids, WriteKind::Ingest, decide).await?;
        Ok(())
    }

    /// Changes points that are there. Those that are not are named once the others are changed.
    async fn edit(
        &self,
        collection: &Collection,
        points: Selection,
        edit: impl Fn(&RecordId, StoredChunk) -> crate::error::Result<Chunk> + Send + 'static,
    ) -> Answer<()> {
        self.edit_if(collection, points, None, edit).await
    }

    async fn edit_if(
        &self,
        collection: &Collection,
        points: Selection,
        only: Option<Filter>,
        edit: impl Fn(&RecordId, StoredChunk) -> crate::error::Result<Chunk> + Send + 'static,
    ) -> Answer<()> {
        let _turn = self.service.changing.take(collection.id()).await;
        let (ids, only, by_id) = match points {
            Selection::Ids(ids) => (unique(ids), only, true),
            Selection::Filter(filter) => {
                let asked = filter.clone();
                // Nothing of them is revealed.
                let look = move |looker: &Looker| {
                    Ok(Looked { value: looker.passing(&asked)?, revealed: Vec::new(), bytes: 0 })
                };
                (collection.look(Access::Scroll, look).await?, Some(filter), false)
            }
        };
        let missing: Arc<Mutex<HashSet<RecordId>>> = Arc::default();
        let noted = missing.clone();
        let spec = collection.spec().clone();
        let change = move |id: &RecordId, found: Option<StoredChunk>| {
            let Some(found) = found else {
                noted.lock().insert(id.clone());
                return Ok(None);
            };
            noted.lock().remove(id);
            // One that was found by a filter may not pass it any more.
            if only.as_ref().is_some_and(|only| !passes(only, &found)) {
                return Ok(None);
            }
            let chunk = edit(id, found)?;
            chunk.validate(&spec)?;
            Ok(Some(chunk))
        };
        let asked = ids.clone();
        collection.change(ids, WriteKind::Ingest, change).await?;
        let missing = missing.lock();
        match asked.iter().find(|id| missing.contains(id)).filter(|_| by_id) {
            Some(id) => Err(Failure::not_found(format!("Not found: No point with id {id} found"))),
            None => Ok(()),
        }
    }
}

/// Each id once, in their order.
fn unique(ids: Vec<RecordId>) -> Vec<RecordId> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

fn check(operation: Operation, spec: &CollectionSpec) -> Answer<Checked> {
    Ok(match operation {
        Operation::Upsert { points, filter, mode } => {
            let chunks = chunks(points, spec)?;
            if filter.is_none() && mode == UpdateMode::Upsert {
                Checked::Write(chunks)
            } else {
                Checked::WriteIf { chunks, filter, mode }
            }
        }
        Operation::Delete(points) => Checked::Delete(points),
        Operation::SetPayload { payload, points, key: None } => Checked::Payload { points, edit: Edit::Merge(payload) },
        Operation::SetPayload { payload, points, key: Some(key) } => {
            Checked::Payload { points, edit: Edit::SetAt(key.parse()?, payload) }
        }
        Operation::OverwritePayload { payload, points } => Checked::Payload { points, edit: Edit::Replace(payload) },
        Operation::DeletePayload { keys, points } => {
            let paths = keys.iter().map(|key| key.parse()).collect::<Result<_, Error>>()?;
            Checked::Payload { points, edit: Edit::Delete(paths) }
        }
        Operation::ClearPayload(points) => Checked::Payload { points, edit: Edit::Replace(Object::new()) },
        Operation::UpdateVectors { points, filter } => Checked::Vectors { vectors: new_vectors(points, spec)?, filter },
        Operation::DeleteVectors { names, points } => {
            names.iter().try_for_each(|name| vectors::known(spec, name))?;
            Checked::DeleteVectors { points, names }
        }
    })
}

/// The chunks that points are; of several with one id, the last.
fn chunks(points: Vec<PointStruct>, spec: &CollectionSpec) -> Answer<Vec<Chunk>> {
    let mut seen = HashSet::new();
    let mut chunks = Vec::with_capacity(points.len());
    for PointStruct { id, vector, payload } in points.into_iter().rev() {
        let id = id.writable()?;
        let (text, metadata) = payload::to_chunk(payload.unwrap_or_default());
        let mut chunk = Chunk { id, text, metadata, vectors: Vectors::default() };
        vectors::insert(&mut chunk.vectors, vector, spec)?;
        chunk.validate(spec)?;
        if seen.insert(chunk.id.clone()) {
            chunks.push(chunk);
        }
    }
    chunks.reverse();
    Ok(chunks)
}

fn new_vectors(points: Vec<PointVectors>, spec: &CollectionSpec) -> Answer<BTreeMap<RecordId, Vectors>> {
    let mut all: BTreeMap<RecordId, Vectors> = BTreeMap::new();
    for PointVectors { id, vector } in points {
        let vectors = all.entry(id.0).or_default();
        vectors::insert(vectors, vector, spec)?;
    }
    // Checked here, so that nothing of a call that is no good is done at all.
    for (id, vectors) in &all {
        let chunk = Chunk { id: id.clone(), text: String::new(), metadata: Object::new(), vectors: vectors.clone() };
        chunk.validate(spec)?;
    }
    Ok(all)
}
