//! The keyword index of a collection: made of the opened texts when it is first wanted, and kept up to date from then on.

use std::collections::HashMap;

use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::vectors::engine::{EngineCollection as _, Fields};
use crate::vectors::inverted::{Counted, KeywordIndex};
use crate::vectors::registry::Entry;

use super::load::{give_back, make_room};
use super::read::{Registered, SCROLL_POINTS};
use super::{Collection, Open};

impl Collection {
    /// Calls `work` with the keyword index, which is made if need be.
    pub(super) fn with_keywords<T>(&self, open: &Open, work: impl Fn(&KeywordIndex) -> Result<T>) -> Result<T> {
        loop {
            if let Some(indexes) = open.resident.read().as_ref()
                && let Some(keywords) = &indexes.keywords
            {
                indexes.lease.touch();
                return work(keywords);
            }
            self.with_indexes(open, |_| Ok(()))?;
            self.load_keywords(open)?;
        }
    }

    /// Opens every text into the keyword index. Writes wait meanwhile.
    fn load_keywords(&self, open: &Open) -> Result<()> {
        let _settled = self.settled();
        if open.resident.read().as_ref().is_none_or(|indexes| indexes.keywords.is_some()) {
            return Ok(());
        }
        let Registered { entries, damaged } = self.registered()?;
        if !damaged.is_empty() {
            return Err(Error::integrity("a registry row"));
        }
        let keywords = KeywordIndex::new(self.spec().language);
        let keywords = self.fill_keywords(open, keywords, entries).inspect_err(|_| give_back(open))?;
        if let Some(indexes) = open.resident.write().as_mut() {
            indexes.make_room(keywords.bytes())?;
            indexes.keywords = Some(keywords);
        }
        Ok(())
    }

    /// Opens every text into `keywords`. Room is made page by page: what does not fit is not opened first.
    fn fill_keywords(
        &self,
        open: &Open,
        mut keywords: KeywordIndex,
        mut entries: HashMap<Uuid, Entry>,
    ) -> Result<KeywordIndex> {
        let mut from = None;
        loop {
            let (points, next) = open.engine.scroll(from, SCROLL_POINTS, Fields::Both)?;
            let expected: Vec<_> = points
                .iter()
                .map(|p| {
                    entries.remove(&p.id).ok_or_else(|| Error::integrity("a record that the vector engine made up"))
                })
                .collect::<Result<_>>()?;
            let counted: Vec<(RecordId, Counted)> = points
                .par_iter()
                .zip(expected.par_iter())
                .with_min_len(16)
                .map(|(point, entry)| {
                    let (_, chunk) = self.sealer.open(point, entry)?;
                    Ok((chunk.id, keywords.count(&chunk.text)))
                })
                .collect::<Result<_>>()?;
            counted.into_iter().try_for_each(|(id, counted)| keywords.insert(id, counted))?;
            make_room(open, keywords.bytes())?;
            match next {
                Some(id) => from = Some(id),
                None => break,
            }
        }
        if !entries.is_empty() {
            return Err(Error::integrity(format!("the vector engine dropped {} records: it", entries.len())));
        }
        Ok(keywords)
    }
}
