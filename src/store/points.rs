//! Reading and changing a collection's chunks by what is in them: for those that speak another language to it.

use std::collections::HashSet;
use std::sync::Arc;

use crate::audit::{Access, CollectionChange, RecordType, What, WriteKind};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{Filter, Record};
use crate::id::RecordId;
use crate::limits;
use crate::vectors::{self, Chunk, Notes, QueryRequest, SearchRequest, Staged, StoredChunk};

use super::foreground::Class;
use super::{Collection, Tenant, blocking};

/// A collection for as long as something is looked up in it. What is seen is not revealed by that.
pub(crate) struct Looker {
    inner: Arc<vectors::Collection>,
}

/// What came of looking, and the chunks that it reveals something of.
pub(crate) struct Looked<T> {
    pub(crate) value: T,
    pub(crate) revealed: Vec<RecordId>,
    /// About how many bytes of text.
    pub(crate) bytes: usize,
}

impl Looker {
    /// The chunks with `ids` that are there, in the order of `ids`.
    pub(crate) fn get(&self, ids: &[RecordId]) -> Result<Vec<StoredChunk>> {
        self.inner.get(ids)
    }

    /// The ids and scores of the nearest to a dense vector, best first, but for those of `except`.
    pub(crate) fn nearest(&self, request: &SearchRequest, except: &HashSet<RecordId>) -> Result<Vec<(RecordId, f32)>> {
        if except.is_empty() {
            return self.inner.nearest(request, None);
        }
        self.inner.nearest(request, Some(&|id| !except.contains(id)))
    }

    /// The ids and scores of what `request` finds, best first.
    pub(crate) fn query(&self, request: &QueryRequest) -> Result<Vec<(RecordId, f32)>> {
        self.inner.query_ids(request)
    }

    /// The ids of the chunks that pass `filter`, in no particular order.
    pub(crate) fn passing(&self, filter: &Filter) -> Result<Vec<RecordId>> {
        self.inner.passing(filter)
    }

    /// Shows every chunk that passes `filter` from `from` on, itself included, in the order of their ids, until `see` has
    /// seen enough and says false. They are opened `page` at a time.
    pub(crate) fn each(
        &self,
        from: Option<&RecordId>,
        filter: Option<&Filter>,
        page: usize,
        mut see: impl FnMut(StoredChunk) -> Result<bool>,
    ) -> Result<()> {
        let mut after = from.cloned();
        if let Some(from) = from
            && let Some(first) = self.inner.get(std::slice::from_ref(from))?.pop()
            && filter.is_none_or(|filter| self.passes(filter, &first))
            && !see(first)?
        {
            return Ok(());
        }
        let page = page.clamp(1, limits::LOOK_CHUNKS);
        loop {
            let (chunks, more) = match filter {
                None => self.inner.scroll(after.as_ref(), page)?,
                Some(filter) => self.inner.scroll_filtered(after.as_ref(), page, filter)?,
            };
            if let Some(last) = chunks.last() {
                after = Some(last.id.clone());
            }
            for chunk in chunks {
                if !see(chunk)? {
                    return Ok(());
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Whether a chunk passes `filter`.
    pub(crate) fn passes(&self, filter: &Filter, chunk: &StoredChunk) -> bool {
        passes(filter, chunk)
    }
}

/// Whether a chunk passes `filter`.
pub(crate) fn passes(filter: &Filter, chunk: &StoredChunk) -> bool {
    let dense = chunk.vectors.iter().map(|(name, _)| name);
    let vectors: Vec<&str> = dense.chain(chunk.vectors.iter_sparse().map(|(name, _)| name)).collect();
    filter.matches(&Record { id: &chunk.id, metadata: &chunk.metadata, text: &chunk.text, vectors: &vectors })
}

impl Collection {
    /// The id of the collection.
    pub(crate) fn id(&self) -> vectors::CollectionId {
        self.inner.id()
    }

    /// Does `look` on a thread that may wait. The audit log says what it reveals before anybody gets to know it.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        access: Access,
        look: impl FnOnce(&Looker) -> Result<Looked<T>> + Send + 'static,
    ) -> Result<T> {
        let _timed = self.tenant.foreground.time(Class::Search);
        self.desk.check()?;
        let own = self.clone();
        blocking(move || {
            let looked = look(&Looker { inner: own.inner.clone() });
            let Looked { value, revealed, bytes } = own.desk.opened(RecordType::Chunk, || own.place(), looked)?;
            own.desk.read(access, own.place(), &own.digest(&revealed)?, bytes)?;
            Ok(value)
        })
        .await
    }

    /// Makes of each of the chunks with `ids` what `change` says, which is told what is there now. Whoever writes one of
    /// them meanwhile is not overwritten: `change` is asked again. Up to [`limits::CHANGE_CHUNKS`] of them change all or
    /// nothing, more in such parts, in order.
    ///
    /// # Errors
    ///
    /// [`Busy`](ErrorKind::Busy) when others write the same chunks again and again.
    pub(crate) async fn change<F>(&self, ids: Vec<RecordId>, kind: WriteKind, mut change: F) -> Result<usize>
    where
        F: FnMut(&RecordId, Option<StoredChunk>) -> Result<Option<Chunk>> + Send + 'static,
    {
        self.desk.check()?;
        let own = self.clone();
        blocking(move || {
            let digest = own.digest(&ids)?;
            let part = |ids: &[RecordId], change: &mut F| -> Result<usize> {
                let _timed = own.tenant.foreground.time(Class::Write);
                let changed = own.change_part(ids, change)?;
                if own.inner.flush_is_overdue() {
                    own.inner.flush()?;
                }
                Ok(changed)
            };
            let work = || ids.chunks(limits::CHANGE_CHUNKS).map(|ids| part(ids, &mut change)).sum();
            own.desk.write(kind, own.place(), &digest, work)
        })
        .await
    }

    fn change_part(
        &self,
        ids: &[RecordId],
        change: &mut impl FnMut(&RecordId, Option<StoredChunk>) -> Result<Option<Chunk>>,
    ) -> Result<usize> {
        let (mut changed, mut left, mut tries) = (0, ids, 0);
        while !left.is_empty() {
            match self.change_some(left, change) {
                Ok((seen, some)) => {
                    changed += some;
                    left = left.get(seen..).unwrap_or_default();
                    tries = 0;
                }
                Err(e) if e.kind() == ErrorKind::Conflict && tries < limits::CHANGE_TRIES => tries += 1,
                Err(e) if e.kind() == ErrorKind::Conflict => {
                    let message = "others write the same records again and again";
                    return Err(Error::new(ErrorKind::Busy, message).with_remedy("try again"));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(changed)
    }

    /// Changes as many of the first as fit one write. Returns how many were looked at, and how many changed.
    fn change_some(
        &self,
        ids: &[RecordId],
        change: &mut impl FnMut(&RecordId, Option<StoredChunk>) -> Result<Option<Chunk>>,
    ) -> Result<(usize, usize)> {
        let mut there = self.inner.get(ids)?.into_iter().peekable();
        let (mut expected, mut staged, mut bytes) = (Vec::with_capacity(ids.len()), Staged::default(), 0);
        for id in ids {
            let found = there.next_if(|chunk| chunk.id == *id);
            expected.push((id.clone(), found.as_ref().map(|chunk| chunk.version)));
            if let Some(chunk) = change(id, found)? {
                bytes += chunk.weight();
                staged.upserts.push(chunk);
            }
            if bytes > super::collection::INGEST_BYTES {
                break;
            }
        }
        let changed = staged.upserts.len();
        if changed > 0 {
            self.inner.change(staged, &expected)?;
        }
        Ok((expected.len(), changed))
    }
}

impl Tenant {
    /// What was said of its collections.
    pub(crate) fn notes(&self) -> Arc<Notes> {
        self.open.catalog.notes()
    }

    /// Says something else of them.
    pub(crate) async fn change_notes<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Notes) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tenant = self.clone();
        blocking(move || {
            let noted = || What::CollectionChanged { change: CollectionChange::Noted, place: None, mode: None };
            tenant.desk.change(noted(), || tenant.open.catalog.change_notes(change), |_| noted())
        })
        .await
    }
}
