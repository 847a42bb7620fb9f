//! A collection of a tenant, for callers that must not block.

use std::sync::Arc;

use serde::Serialize;

use crate::audit::{Access, RecordDigest, RecordType, WriteKind, hex};
use crate::error::Result;
use crate::filter::Filter;
use crate::id::RecordId;
use crate::vectors::{self, Chunk, CollectionSpec, Engine, Hit, Mode, QueryRequest, SearchRequest, StoredChunk};

use super::audit::Desk;
use super::foreground::Class;
use super::{blocking, tenant};

/// What one durable write holds at most, in chunks and about in bytes: enough to share a disk sync, little enough to
/// keep other writers waiting briefly.
const INGEST_CHUNKS: usize = 512;
pub(super) const INGEST_BYTES: usize = 8 << 20;

/// A collection of an open tenant. Clones share it.
#[derive(Clone)]
pub struct Collection {
    pub(super) inner: Arc<vectors::Collection>,
    /// Keeps the tenant open: two of them must never work on one collection.
    pub(super) tenant: Arc<tenant::Open>,
    pub(super) desk: Desk,
}

/// What a collection holds and keeps in memory.
#[derive(Debug, Clone, Serialize)]
pub struct CollectionStatus {
    /// Chunks.
    pub chunks: usize,
    /// Vectors in a search graph: of the engine, or in `sealed` mode of the index in memory, where large ones have one.
    pub indexed_vectors: usize,
    /// Bytes of the resident indexes; 0 until the first search.
    pub resident_bytes: usize,
    /// Bytes of writes that the engine has not put on disk yet.
    pub journal_bytes: usize,
}

impl Collection {
    pub(super) fn new(inner: Arc<vectors::Collection>, tenant: Arc<tenant::Open>, desk: Desk) -> Self {
        Self { inner, tenant, desk }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Its description as it was opened; [`mode`](Self::mode), [`engine`](Self::engine) and [`indexes`](Self::indexes) tell
    /// what may have been changed since.
    pub fn spec(&self) -> &CollectionSpec {
        self.inner.spec()
    }

    /// How its embeddings are protected now.
    pub fn mode(&self) -> Mode {
        self.inner.mode()
    }

    /// Which engine holds its points now.
    pub fn engine(&self) -> Engine {
        self.inner.engine()
    }

    /// Writes chunks, each replacing what has its id, and returns how many, once they would survive a power loss.
    ///
    /// Up to 512 chunks and about 8 MiB are written all or nothing; more are written in such parts, in order.
    pub async fn ingest(&self, mut chunks: Vec<Chunk>) -> Result<usize> {
        let own = self.clone();
        blocking(move || {
            let count = chunks.len();
            // Nothing of a call that cannot be done whole is done at all.
            chunks.iter().try_for_each(|chunk| chunk.validate(own.inner.spec()))?;
            let digest = own.digest(chunks.iter().map(|chunk| &chunk.id))?;
            own.desk.write(WriteKind::Ingest, own.place(), &digest, || {
                while !chunks.is_empty() {
                    let rest = chunks.split_off(part(&chunks));
                    {
                        let _timed = own.tenant.foreground.time(Class::Write);
                        own.inner.upsert(std::mem::replace(&mut chunks, rest))?;
                    }
                    if own.inner.flush_is_overdue() {
                        own.inner.flush()?;
                    }
                }
                Ok(count)
            })
        })
        .await
    }

    /// The nearest chunks, best first.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::ErrorKind::Denied) while the tenant's reads are paused: so for everything that opens records.
    pub async fn search(&self, request: SearchRequest) -> Result<Vec<Hit>> {
        let _timed = self.tenant.foreground.time(Class::Search);
        self.desk.check()?;
        // What lies in memory is found in about the time that another thread takes to wake up.
        if self.inner.searches_at_once(&request) {
            return self.find(&request);
        }
        let own = self.clone();
        blocking(move || own.find(&request)).await
    }

    /// What `request` finds, best first: by dense and sparse vectors, examples, words, and several of these together.
    pub async fn query(&self, request: QueryRequest) -> Result<Vec<Hit>> {
        let _timed = self.tenant.foreground.time(Class::Search);
        self.desk.check()?;
        let own = self.clone();
        blocking(move || own.found(own.inner.query_tagged(&request))).await
    }

    /// The chunks with `ids` that are there, in the order of `ids`.
    pub async fn get(&self, ids: Vec<RecordId>) -> Result<Vec<StoredChunk>> {
        let _timed = self.tenant.foreground.time(Class::Search);
        self.desk.check()?;
        let own = self.clone();
        blocking(move || own.reveal(Access::Get, own.inner.get(&ids))).await
    }

    /// Deletes the chunks with `ids`, all or nothing, and returns how many were there.
    pub async fn delete(&self, ids: Vec<RecordId>) -> Result<usize> {
        let _timed = self.tenant.foreground.time(Class::Write);
        let own = self.clone();
        blocking(move || {
            let digest = own.digest(&ids)?;
            own.desk.write(WriteKind::Delete, own.place(), &digest, || own.inner.delete(ids))
        })
        .await
    }

    /// Up to `limit` chunks after the one called `after`, in an order that stays the same, and whether there are more.
    pub async fn scroll(&self, after: Option<RecordId>, limit: usize) -> Result<(Vec<StoredChunk>, bool)> {
        self.desk.check()?;
        let own = self.clone();
        blocking(move || {
            let page = own.desk.opened(RecordType::Chunk, || own.place(), own.inner.scroll(after.as_ref(), limit));
            let (chunks, more) = page?;
            Ok((own.reveal(Access::Scroll, Ok(chunks))?, more))
        })
        .await
    }

    /// How many chunks there are.
    pub async fn count(&self) -> Result<usize> {
        let inner = self.inner.clone();
        blocking(move || inner.count()).await
    }

    /// Up to `limit` chunks that pass `filter` after the one called `after`, in the order of their ids, and whether there
    /// are more.
    pub async fn scroll_filtered(
        &self,
        after: Option<RecordId>,
        limit: usize,
        filter: Filter,
    ) -> Result<(Vec<StoredChunk>, bool)> {
        self.desk.check()?;
        let own = self.clone();
        blocking(move || {
            let page = own.inner.scroll_filtered(after.as_ref(), limit, &filter);
            let (chunks, more) = own.desk.opened(RecordType::Chunk, || own.place(), page)?;
            Ok((own.reveal(Access::Scroll, Ok(chunks))?, more))
        })
        .await
    }

    /// How many chunks pass `filter`.
    pub async fn count_filtered(&self, filter: Filter) -> Result<usize> {
        self.desk.check()?;
        let own = self.clone();
        blocking(move || {
            let count = own.desk.opened(RecordType::Chunk, || own.place(), own.inner.count_filtered(&filter))?;
            // It tells no record, but whoever asks often enough learns what is in them.
            own.desk.read(Access::Search, own.place(), &own.digest(&[])?, 0)?;
            Ok(count)
        })
        .await
    }

    /// Deletes the chunks that pass `filter` and returns how many there were. Each is deleted as it was when it passed;
    /// they are not all deleted at once.
    pub async fn delete_filtered(&self, filter: Filter) -> Result<usize> {
        self.desk.check()?;
        let _timed = self.tenant.foreground.time(Class::Write);
        let own = self.clone();
        blocking(move || {
            let ids = own.desk.opened(RecordType::Chunk, || own.place(), own.inner.passing(&filter))?;
            let digest = own.digest(&ids)?;
            own.desk.write(WriteKind::Delete, own.place(), &digest, || own.inner.delete_passing(&ids, &filter))
        })
        .await
    }

    /// What it holds and keeps in memory.
    pub async fn status(&self) -> Result<CollectionStatus> {
        let inner = self.inner.clone();
        blocking(move || {
            let engine = inner.engine_status()?;
            Ok(CollectionStatus {
                chunks: engine.points,
                indexed_vectors: engine.indexed_vectors + inner.linked_vectors(),
                resident_bytes: inner.resident_bytes(),
                journal_bytes: inner.pending_bytes(),
            })
        })
        .await
    }

    /// Puts everything on disk in the engine's own form; durable it is without that.
    pub async fn flush(&self) -> Result<()> {
        let inner = self.inner.clone();
        blocking(move || inner.flush().map(|_| ())).await
    }

    /// Builds search graphs and reclaims space now; by itself that happens when nothing is written for a while.
    pub async fn optimize(&self) -> Result<bool> {
        let inner = self.inner.clone();
        blocking(move || inner.optimize()).await
    }
}

impl Collection {
    /// What the log calls it: an id that is random.
    pub(super) fn place(&self) -> Option<String> {
        Some(hex(self.inner.id().as_bytes()))
    }

    /// What the log keeps of these ids.
    pub(super) fn digest<'a>(&self, ids: impl IntoIterator<Item = &'a RecordId>) -> Result<RecordDigest> {
        ids.into_iter().map(|id| self.inner.tag(id).map(uuid::Uuid::into_bytes)).collect()
    }

    fn find(&self, request: &SearchRequest) -> Result<Vec<Hit>> {
        self.found(self.inner.search_tagged(request))
    }

    /// Gives hits away once the log says so.
    fn found(&self, hits: Result<Vec<(uuid::Uuid, Hit)>>) -> Result<Vec<Hit>> {
        let found = self.desk.opened(RecordType::Chunk, || self.place(), hits)?;
        let digest: RecordDigest = found.iter().map(|(tag, _)| tag.into_bytes()).collect();
        let bytes = found.iter().map(|(_, hit)| hit.text.len()).sum();
        self.desk.read(Access::Search, self.place(), &digest, bytes)?;
        Ok(found.into_iter().map(|(_, hit)| hit).collect())
    }

    /// Gives chunks away once the log says so.
    fn reveal(&self, access: Access, opened: Result<Vec<StoredChunk>>) -> Result<Vec<StoredChunk>> {
        let chunks = self.desk.opened(RecordType::Chunk, || self.place(), opened)?;
        let bytes = chunks.iter().map(|chunk| chunk.text.len()).sum();
        self.desk.read(access, self.place(), &self.digest(chunks.iter().map(|chunk| &chunk.id))?, bytes)?;
        Ok(chunks)
    }
}

/// How many of `chunks` the next write takes: at least one.
fn part(chunks: &[Chunk]) -> usize {
    let mut bytes = 0;
    let fitting = chunks.iter().take(INGEST_CHUNKS).take_while(|chunk| {
        bytes += chunk.weight();
        bytes <= INGEST_BYTES
    });
    fitting.count().max(1)
}
