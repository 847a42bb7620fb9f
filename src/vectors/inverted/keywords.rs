//! The resident keyword index: BM25 over the texts of a collection.
//!
//! It keeps no word: what stands for one is a keyed hash of it, with a key that is made for the index and never leaves
//! memory. Who reads this memory has the key and can ask for a word, but does not read the words.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use rayon::prelude::*;

use crate::error::Result;
use crate::id::RecordId;

use super::sparse::{idf, owned};
use super::words::Words;
use super::{Filter, Inverted, Language};

/// How soon more of the same word says no more: what Qdrant and Lucene take.
const K1: f64 = 1.2;
/// How much the length of a text counts.
const B: f64 = 0.75;

/// The words of one collection's texts, searchable. It is zeroized on drop and cannot be printed, copied or serialized.
pub struct KeywordIndex {
    words: Words,
    key: RandomState,
    records: Inverted<u64>,
    /// Words of all texts.
    total: u64,
}

/// How often each word is in a text.
pub(in crate::vectors) struct Counted {
    keys: Box<[u64]>,
    counts: Box<[f32]>,
}

impl KeywordIndex {
    /// An empty index of texts in `language`.
    pub fn new(language: Language) -> Self {
        Self { words: Words::new(language), key: RandomState::new(), records: Inverted::new(), total: 0 }
    }

    /// Adds texts; each replaces the one that its id has. Their words are found on rayon's threads.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when there are more than 2³² of them.
    pub fn upsert<'a>(&mut self, texts: impl IntoParallelIterator<Item = (&'a RecordId, &'a str)>) -> Result<()> {
        let counted: Vec<_> = texts.into_par_iter().map(|(id, text)| (id, self.count(text))).collect();
        counted.into_iter().try_for_each(|(id, counted)| self.insert(id.clone(), counted))
    }

    /// The words of a text, counted.
    pub(in crate::vectors) fn count(&self, text: &str) -> Counted {
        let mut counts: HashMap<u64, u32> = HashMap::new();
        self.words.each(text, |word| *counts.entry(self.key.hash_one(word)).or_default() += 1);
        // A text has less than 2^24 words, so that these are exact.
        let (keys, counts): (Vec<u64>, Vec<f32>) = counts.into_iter().map(|(key, count)| (key, count as f32)).unzip();
        Counted { keys: keys.into(), counts: counts.into() }
    }

    /// Adds a text that was counted here, or replaces the one that `id` has.
    pub(in crate::vectors) fn insert(&mut self, id: RecordId, counted: Counted) -> Result<()> {
        self.remove(&id);
        self.total += length(&counted.counts);
        self.records.upsert(id, counted.keys, counted.counts)
    }

    /// Takes a text out; false where `id` has none.
    pub fn remove(&mut self, id: &RecordId) -> bool {
        self.total -= self.records.row(id).map_or(0, |row| length(&row.values));
        self.records.remove(id)
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resident bytes; those of tables are an estimate.
    pub fn bytes(&self) -> usize {
        self.records.bytes()
    }

    /// The `k` records whose texts have words of `query` and BM25 ranks first among those that pass `filter`, best first,
    /// ties by ascending id. A word counts once, however often the query has it.
    ///
    /// `filter` is called only for records that may be among the results.
    pub fn search(&self, query: &str, k: usize, filter: Filter<'_>) -> Vec<(RecordId, f32)> {
        let (mut keys, mut known) = (Vec::new(), HashSet::new());
        self.words.each(query, |word| {
            let key = self.key.hash_one(word);
            if known.insert(key) {
                keys.push(key);
            }
        });
        let records = self.records.len();
        let weight = |key: &u64| idf(records, self.records.having(key)) * (K1 + 1.0);
        let terms: Vec<(u64, f64)> = keys.iter().map(|key| (*key, weight(key))).collect();
        let average = self.total as f64 / records.max(1) as f64;
        let merit = |count: f32, length: f32| {
            let count = f64::from(count);
            count / (count + K1 * (1.0 - B + B * f64::from(length) / average))
        };
        owned(self.records.search(&terms, k, merit, filter))
    }
}

fn length(counts: &[f32]) -> u64 {
    counts.iter().map(|count| *count as u64).sum()
}
