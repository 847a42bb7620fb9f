//! What must be there: a model of the store that applies the operations that were acknowledged.

use std::collections::BTreeMap;

use super::op::{Op, Stamp};

/// Earlier versions that the store keeps of a memory.
const VERSIONS: u64 = 64;

/// What a store holds, each record by the number of the operation that wrote it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub chunks: BTreeMap<String, BTreeMap<u64, Stamp>>,
    pub memories: BTreeMap<String, Remembered>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remembered {
    pub current: Option<Version>,
    pub history: Vec<Version>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Version {
    pub version: u64,
    /// 0 for a deletion.
    pub stamp: Stamp,
    pub embedded: bool,
}

impl Remembered {
    fn put(&mut self, stamp: Stamp, embedded: bool) -> u64 {
        let last = self.current.or(self.history.last().copied()).map_or(0, |v| v.version);
        if let Some(before) = self.current.take() {
            self.keep(before);
        }
        self.current = Some(Version { version: last + 1, stamp, embedded });
        last + 1
    }

    fn delete(&mut self, purge: bool) -> bool {
        let before = self.current.take();
        match before {
            _ if purge => self.history.clear(),
            Some(before) => {
                self.keep(before);
                self.keep(Version { version: before.version + 1, stamp: 0, embedded: false });
            }
            None => {}
        }
        before.is_some()
    }

    fn keep(&mut self, version: Version) {
        self.history.push(version);
        self.history.retain(|v| v.version + VERSIONS != version.version);
    }

    fn is_nothing(&self) -> bool {
        self.current.is_none() && self.history.is_empty()
    }
}

impl Model {
    /// Makes `op` and returns what the store must have answered, where that follows from the model.
    pub fn apply(&mut self, stamp: Stamp, op: &Op) -> Option<String> {
        let answer = match op {
            Op::Upsert(collection, ids) => match self.chunks.get_mut(collection) {
                Some(chunks) => {
                    chunks.extend(ids.iter().map(|id| (*id, stamp)));
                    ids.len().to_string()
                }
                None => "none".into(),
            },
            Op::Delete(collection, ids) => match self.chunks.get_mut(collection) {
                Some(chunks) => ids.iter().filter(|id| chunks.remove(id).is_some()).count().to_string(),
                None => "none".into(),
            },
            Op::Put(key, embedded) => self.memory(key).put(stamp, *embedded).to_string(),
            Op::Update(key, embedded) => {
                let memory = self.memory(key);
                if memory.current.is_some() { memory.put(stamp, *embedded).to_string() } else { "none".into() }
            }
            Op::Forget(key, purge) => self.memory(key).delete(*purge).to_string(),
            Op::Batch(ops) => {
                for (key, op) in ops {
                    match op {
                        'd' => _ = self.memory(key).delete(false),
                        op => _ = self.memory(key).put(stamp, *op == 'e'),
                    }
                }
                "done".into()
            }
            Op::Create(collection) => {
                let answer = if self.chunks.contains_key(collection) { "conflict" } else { "done" };
                self.chunks.entry(collection.clone()).or_default();
                answer.into()
            }
            Op::Drop(collection) => if self.chunks.remove(collection).is_some() { "done" } else { "none" }.into(),
            Op::Open | Op::Flush(_) | Op::Optimize(_) | Op::Search(_) | Op::Close | Op::Rotate(..) => return None,
        };
        self.memories.retain(|_, memory| !memory.is_nothing());
        Some(answer)
    }

    /// What is there of all that `op` touches.
    pub fn view(&self, op: &Op) -> Model {
        let mut view = Model::default();
        match op {
            Op::Upsert(collection, ids) | Op::Delete(collection, ids) => {
                if let Some(chunks) = self.chunks.get(collection) {
                    let touched = ids.iter().filter_map(|id| Some((*id, *chunks.get(id)?))).collect();
                    view.chunks.insert(collection.clone(), touched);
                }
            }
            Op::Create(collection) | Op::Drop(collection) => {
                let chunks = self.chunks.get(collection).map(|chunks| (collection.clone(), chunks.clone()));
                view.chunks.extend(chunks);
            }
            op => {
                let touched = op.memories().into_iter();
                view.memories.extend(touched.filter_map(|key| Some((key.to_owned(), self.memories.get(key)?.clone()))));
            }
        }
        view
    }

    /// The memories that have an embedding.
    pub fn embedded(&self) -> impl Iterator<Item = (&str, Stamp)> {
        let current = self.memories.iter().filter_map(|(key, memory)| Some((key.as_str(), memory.current?)));
        current.filter(|(_, version)| version.embedded).map(|(key, version)| (key, version.stamp))
    }

    fn memory(&mut self, key: &str) -> &mut Remembered {
        self.memories.entry(key.to_owned()).or_default()
    }
}
