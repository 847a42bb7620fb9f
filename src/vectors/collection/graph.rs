//! Search graphs of the indexes in memory: linked in the background, and kept sealed beside the points, so that who opens
//! the collection again need not link it anew.
//!
//! Rows are collection id ‖ position of the vector for the head, and that ‖ number (u32, big-endian) for the parts. Records
//! are named by what their embeddings' digest begins with: what was written since is not in the graph then, and is linked
//! again. A graph that does not open, or not as a whole, is as good as none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::keys::Label;
use crate::kv::{Batch, Table};
use crate::record::{self, Field, Place, SealingKey, StoreKind};
use crate::secret::SecretBytes;
use crate::vectors::Mode;
use crate::vectors::point::Embedding;
use crate::vectors::resident::{Resident, SlotLinks};
use crate::vectors::slots::Slot;

use super::{Collection, Indexes};

/// Slots that are linked while writes wait, for each thread: some milliseconds.
const LINKED: usize = 8;
/// Slots of a part.
const PART_SLOTS: usize = 4096;
/// How much less often than others the threads run that link.
const NICE: i32 = 10;
/// A graph is written anew when so many of its slots have changed: one in so many.
const CHANGED: usize = 16;

/// What the parts are of.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Parts of other writings do not open with these.
    writing: u64,
    parts: u32,
}

/// A record in the graph.
#[derive(Serialize, Deserialize)]
struct Node {
    /// The slot that it had.
    slot: Slot,
    digest: [u8; 16],
    /// Slots of others.
    links: Vec<Slot>,
}

impl Collection {
    /// Links what the indexes in memory have not linked yet, where they are so large that it is worth it; long. Returns
    /// whether there was anything.
    pub(super) fn link_indexes(&self) -> Result<bool> {
        // One at a time, and who comes second returns when all is linked.
        let _linking = self.linking.lock();
        let (mut linked, mut progress, mut threads) = (0, 0, None);
        // The engine stays free: who closes or drops the collection need not wait for the rest.
        while let Some(shared) = self.resident() {
            // What is being linked is in use.
            self.touch();
            let (lacks, begins) = {
                let resident = shared.read();
                let any =
                    |of: fn(&Resident) -> bool| resident.as_ref().is_some_and(|all| all.by_vector.values().any(of));
                (any(Resident::lacks_links), any(Resident::wants_graph))
            };
            if !lacks {
                break;
            }
            if begins
                && let Some(indexes) = shared.write().as_mut()
                && !begin(indexes)?
            {
                break;
            }
            let threads = match &mut threads {
                Some(threads) => threads,
                None => threads.insert(pool()?),
            };
            linked += threads.install(|| {
                let resident = shared.read();
                let Some(indexes) = resident.as_ref() else { return Ok(0) };
                let most = LINKED * rayon::current_num_threads();
                indexes.by_vector.values().map(|index| index.link(most)).sum::<Result<usize>>()
            })?;
            if linked / 10_000 > progress {
                progress = linked / 10_000;
                tracing::info!(collection = %self.id(), linked, "linking vectors");
            }
        }
        if linked > 0 {
            self.save_graphs()?;
        }
        Ok(linked > 0)
    }

    /// Writes those graphs that have changed much since they were written.
    fn save_graphs(&self) -> Result<()> {
        let _rewriting = self.rewriting.lock();
        for (position, _) in self.indexed() {
            let key = self.graph_key(position);
            let Some((changed, slots)) =
                self.with_graph(position, |index, _| (index.graph_changes(), index.slots_end()))
            else {
                continue;
            };
            if changed == 0 || (changed < slots / CHANGED && self.context.kv.get(Table::Graph, &key)?.is_some()) {
                continue;
            }
            let mut bytes = [0; 8];
            crate::entropy::fill(&mut bytes)?;
            let mut head = Head { writing: u64::from_be_bytes(bytes), parts: 0 };
            // Without a head there is no graph.
            let mut batch = Batch::default();
            batch.delete_prefix(Table::Graph, &key);
            self.context.kv.write(batch)?;
            for from in (0..slots).step_by(PART_SLOTS) {
                let nodes = self.with_graph(position, |index, embeddings| nodes(index, embeddings, from));
                let Some(nodes) = nodes else { return Ok(()) };
                self.put_graph_row(position, Some(head.parts), head.writing, &nodes)?;
                head.parts += 1;
            }
            self.put_graph_row(position, None, 0, &head)?;
            self.with_graph(position, |index, _| index.graph_saved(changed));
            tracing::info!(collection = %self.id(), slots, "wrote a search graph");
        }
        Ok(())
    }

    /// The indexes in memory of the collection if that is open, which may be erased meanwhile.
    fn resident(&self) -> Option<Arc<RwLock<Option<Indexes>>>> {
        Some(self.open.read().current.as_ref()?.resident.clone())
    }

    /// What `look` sees of the index at `position`, if that is in memory and has a graph.
    fn with_graph<T>(&self, position: u8, look: impl FnOnce(&Resident, &[Embedding]) -> T) -> Option<T> {
        let shared = self.resident()?;
        let resident = shared.read();
        let indexes = resident.as_ref()?;
        let index = indexes.by_vector.get(&position).filter(|index| index.has_graph())?;
        Some(look(index, &indexes.embeddings))
    }

    /// Gives the index at `position` the graph that is kept of it, as far as it still fits.
    pub(super) fn load_graph(&self, position: u8, index: &mut Resident, embeddings: &[Embedding]) {
        if !index.is_large() {
            return;
        }
        let taken = self.read_graph(position).and_then(|nodes| match nodes {
            None => Ok(()),
            Some(nodes) => index.set_graph(&renumbered(nodes, embeddings)),
        });
        if let Err(e) = taken {
            tracing::warn!(collection = %self.id(), error = %e, "a search graph does not open and is made anew");
        }
    }

    fn read_graph(&self, position: u8) -> Result<Option<Vec<Node>>> {
        let Some(head) = self.context.kv.get(Table::Graph, &self.graph_key(position))? else { return Ok(None) };
        let head: Head = self.open_graph_row(position, None, 0, &head)?;
        let part = |number: u32| -> Result<Vec<Node>> {
            let row = self.context.kv.get(Table::Graph, &self.part_key(position, number))?;
            self.open_graph_row(position, Some(number), head.writing, &row.ok_or_else(crypto::open_failed)?)
        };
        let parts: Vec<Vec<Node>> = (0..head.parts).into_par_iter().map(part).collect::<Result<_>>()?;
        Ok(Some(parts.into_iter().flatten().collect()))
    }

    /// Seals the graphs that are kept in the active epoch. One that does not open is removed: it is made anew. So is what
    /// was left of one that was not written to its end.
    pub(crate) fn reseal_graphs(&self) -> Result<()> {
        let _rewriting = self.rewriting.lock();
        for (position, _) in self.indexed() {
            let key = self.graph_key(position);
            let Some(sealed) = self.context.kv.get(Table::Graph, &key)? else { continue };
            let resealed = self.open_graph_row(position, None, 0, &sealed).and_then(|head: Head| {
                (0..head.parts).try_for_each(|number| self.reseal_row(position, Some(number), head.writing))?;
                self.reseal_row(position, None, 0)
            });
            if let Err(e) = resealed {
                tracing::warn!(collection = %self.id(), error = %e, "a search graph does not open and is removed");
                let mut batch = Batch::default();
                batch.delete_prefix(Table::Graph, &key);
                self.context.kv.write(batch)?;
            }
        }
        let (now, mut left) = (self.context.keyring.writing(), Batch::default());
        for row in self.context.kv.scan(Table::Graph, self.id().as_bytes()) {
            let (key, sealed) = row?;
            if record::claimed_epoch(&sealed).ok() != Some(now.epoch()) {
                left.delete(Table::Graph, key);
            }
        }
        self.context.kv.write(left)
    }

    fn reseal_row(&self, position: u8, number: Option<u32>, writing: u64) -> Result<()> {
        let now = self.context.keyring.writing();
        let key = number.map_or_else(|| self.graph_key(position), |number| self.part_key(position, number));
        let sealed = self.context.kv.get(Table::Graph, &key)?.ok_or_else(crypto::open_failed)?;
        let epoch = record::claimed_epoch(&sealed)?;
        if epoch == now.epoch() {
            return Ok(());
        }
        let name = row_name(position, number);
        let plain = self.sealing(epoch)?.open(&self.graph_place(&name, writing), &sealed)?;
        let sealed = self.sealing(now.epoch())?.seal(&self.graph_place(&name, writing), plain.expose_secret())?;
        self.put_sealed(key, sealed)
    }

    /// Writes a row, unless the collection is dropped or has another mode by now: nobody would want it.
    fn put_sealed(&self, key: Vec<u8>, sealed: Vec<u8>) -> Result<()> {
        let slot = self.open.read();
        if slot.dropped || self.mode() != Mode::Sealed {
            return Err(Error::not_found("the collection is searched in memory no more"));
        }
        let mut batch = Batch::default();
        batch.put(Table::Graph, key, sealed);
        self.context.kv.write(batch)
    }

    /// How many rows of graphs are sealed in `epoch`.
    pub(super) fn graph_rows_in(&self, epoch: Epoch) -> Result<u64> {
        let rows = self.context.kv.scan(Table::Graph, self.id().as_bytes());
        rows.map(|row| Ok(u64::from(record::claimed_epoch(&row?.1).is_ok_and(|claimed| claimed == epoch)))).sum()
    }

    fn put_graph_row(&self, position: u8, number: Option<u32>, writing: u64, row: &impl Serialize) -> Result<()> {
        let plain = postcard::to_stdvec(row).map_err(|e| Error::internal("encoding a graph").with_source(e))?;
        let plain = SecretBytes::new(plain);
        let now = self.context.keyring.writing();
        let name = row_name(position, number);
        let sealed = self.sealing(now.epoch())?.seal(&self.graph_place(&name, writing), plain.expose_secret())?;
        self.put_sealed(
            number.map_or_else(|| self.graph_key(position), |number| self.part_key(position, number)),
            sealed,
        )
    }

    fn open_graph_row<T: for<'a> Deserialize<'a>>(
        &self,
        position: u8,
        number: Option<u32>,
        writing: u64,
        sealed: &[u8],
    ) -> Result<T> {
        let key = self.sealing(record::claimed_epoch(sealed)?)?;
        let plain = key.open(&self.graph_place(&row_name(position, number), writing), sealed)?;
        postcard::from_bytes(plain.expose_secret()).map_err(|_| crypto::open_failed())
    }

    fn sealing(&self, epoch: Epoch) -> Result<Arc<SealingKey>> {
        self.context.keyring.sealing(Label::VectorStore, epoch, self.sealer.id.as_bytes())
    }

    fn graph_place<'a>(&'a self, name: &'a [u8], writing: u64) -> Place<'a> {
        Place {
            tenant: self.context.keyring.tenant(),
            store: StoreKind::Vectors,
            scope: self.sealer.id.as_bytes(),
            record: name,
            version: writing,
            field: Field::Graph,
            embedding: None,
        }
    }

    fn graph_key(&self, position: u8) -> Vec<u8> {
        [&self.id().as_bytes()[..], &[position]].concat()
    }

    fn part_key(&self, position: u8, number: u32) -> Vec<u8> {
        [&self.graph_key(position)[..], &number.to_be_bytes()].concat()
    }
}

/// Begins the graphs that are wanted; false where there is no room for them.
fn begin(indexes: &mut Indexes) -> Result<bool> {
    let bytes = indexes.by_vector.values().map(Resident::graph_bytes).sum();
    if let Err(e) = indexes.make_room(bytes) {
        tracing::warn!(error = %e, "there is no room for a search graph: searches look through all vectors");
        return Ok(false);
    }
    indexes.by_vector.values_mut().try_for_each(Resident::begin_graph)?;
    indexes.fit()?;
    Ok(true)
}

impl Indexes {
    /// Has the budget know how large they have become; without search graphs if that is too large.
    pub(super) fn fit(&mut self) -> Result<()> {
        match self.account() {
            Err(e) if self.by_vector.values().any(Resident::has_graph) => {
                tracing::warn!(error = %e, "there is no room for a search graph any more");
                self.by_vector.values_mut().for_each(Resident::drop_graph);
                self.account()
            }
            other => other,
        }
    }
}

fn nodes(index: &Resident, embeddings: &[Embedding], from: usize) -> Vec<Node> {
    let of = |(slot, links)| {
        let digest = crypto::first_16(*embeddings.get(slot as usize)?.digest());
        Some(Node { slot, digest, links })
    };
    index.links(from, from + PART_SLOTS).filter_map(of).collect()
}

/// The links by the slots that records have now, of those that are what they were.
fn renumbered(nodes: Vec<Node>, embeddings: &[Embedding]) -> SlotLinks {
    let slots = (0..).zip(embeddings).map(|(slot, embedding)| (crypto::first_16(*embedding.digest()), slot));
    let by_digest: HashMap<[u8; 16], Slot> = slots.collect();
    let now: HashMap<Slot, Slot> =
        nodes.iter().filter_map(|node| Some((node.slot, *by_digest.get(&node.digest)?))).collect();
    let node = |node: Node| {
        let links = node.links.iter().filter_map(|link| now.get(link)).copied().collect();
        Some((*now.get(&node.slot)?, links))
    };
    nodes.into_iter().filter_map(node).collect::<BTreeMap<_, _>>()
}

fn row_name(position: u8, number: Option<u32>) -> Vec<u8> {
    let number = number.map(u32::to_be_bytes);
    [&b"graph"[..], &[position], number.as_ref().map_or(&[][..], |number| number)].concat()
}

/// Threads that run less often than those that answer.
fn pool() -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().thread_name(|n| format!("strongroom-link-{n}")).start_handler(|_| {
        if let Err(e) = rustix::process::nice(NICE) {
            tracing::debug!(error = %e, "a thread that links runs as often as others");
        }
    });
    pool.build().map_err(|e| Error::internal("the threads that link vectors").with_source(e))
}
