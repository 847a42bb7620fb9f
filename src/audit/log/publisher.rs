//! What goes on beside the requests: entries are put into the tree, and checkpoints are signed.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::db::Db;
use super::reader::cosignatures;
use super::{CHECKPOINT_FILE, Shared, prune};
use crate::audit::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::audit::tree::{Edge, Nodes as _, leaf_hash};
use crate::audit::{Outcome, What};
use crate::crypto::SigningKey;
use crate::disk;
use crate::error::{Error, Result};
use crate::limits;

/// How often entries are looked for that are old enough to be removed.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// The tree's right edge, and what was published last.
pub(super) struct Publisher {
    edge: Edge,
    published: u64,
    published_at: Instant,
    pruned_at: Option<Instant>,
    /// Made ready for the first checkpoint: that takes some tens of milliseconds.
    signer: Option<Box<dyn SigningKey>>,
    /// Whether the last attempt at a checkpoint failed, and is recorded.
    failed: bool,
}

impl Publisher {
    pub(super) fn new(db: &Db, published: u64, signer: Option<Box<dyn SigningKey>>) -> Result<Self> {
        let edge = Edge::read(db, db.integrated()?)?;
        Ok(Self { edge, published, published_at: Instant::now(), pruned_at: None, signer, failed: false })
    }

    pub(super) fn integrated(&self) -> u64 {
        self.edge.size()
    }

    /// What is due.
    pub(super) fn turn(&mut self, shared: &Shared) {
        if let Err(e) = self.integrate(shared) {
            tracing::error!(error = %e, "entries of the audit log could not be put into its tree");
            return;
        }
        let due = Duration::from_millis(shared.options.checkpoint_ms);
        if self.edge.size() > self.published && self.published_at.elapsed() >= due {
            self.published_at = Instant::now();
            self.try_publish(shared);
        }
        if let Some(retention_ms) = shared.options.retention_ms
            && self.pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY)
        {
            self.pruned_at = Some(Instant::now());
            if let Err(e) = prune::prune(shared, retention_ms) {
                tracing::warn!(error = %e, "old entries of the audit log could not be removed");
            }
        }
    }

    /// Integrates and publishes everything.
    pub(super) fn publish_all(&mut self, shared: &Shared) -> Result<()> {
        self.integrate(shared)?;
        self.publish(shared)
    }

    /// Puts entries into the tree until none is left.
    fn integrate(&mut self, shared: &Shared) -> Result<()> {
        loop {
            let from = self.edge.size();
            let to = shared.assigned.load(Ordering::Acquire).min(from + limits::AUDIT_INTEGRATE_ENTRIES);
            if from == to {
                return Ok(());
            }
            // Changed only together with what is stored.
            let (mut edge, mut tiles) = (self.edge.clone(), Vec::new());
            for row in shared.db.entries(from, to)? {
                let (index, entry) = row?;
                if index != edge.size() {
                    return Err(Error::integrity("the order of the audit log"));
                }
                edge.push(leaf_hash(&entry), &mut tiles);
            }
            if edge.size() != to {
                return Err(Error::integrity("the order of the audit log"));
            }
            tiles.extend(edge.unfinished());
            shared.db.integrate(tiles, to)?;
            self.edge = edge;
            shared.integrated.store(to, Ordering::Release);
        }
    }

    fn try_publish(&mut self, shared: &Shared) {
        match self.publish(shared) {
            Ok(()) => self.failed = false,
            Err(e) => {
                tracing::error!(error = %e, "a checkpoint of the audit log could not be published; it is tried again");
                if !self.failed {
                    self.failed = true;
                    shared.note(What::CheckpointFailed, Outcome::Failed);
                }
            }
        }
    }

    /// Signs the tree as it is, unless that is published.
    fn publish(&mut self, shared: &Shared) -> Result<()> {
        let size = self.edge.size();
        if size <= self.published || !shared.key.signs() {
            return Ok(());
        }
        // What is signed must not be lost to a power cut: the next log would contradict it.
        shared.db.sync()?;
        let root = shared.db.root(size)?;
        let key = match &self.signer {
            Some(key) => key,
            None => self.signer.insert(shared.key.signer(shared.provider)?),
        };
        let origin = shared.key.public().name().to_owned();
        let mut signed = SignedCheckpoint::sign(Checkpoint { origin, size, root }, &**key, shared.provider)?;
        for witness in &shared.options.witnesses {
            match witness.cosign(&signed, &|old| shared.db.consistency(old, size)) {
                Ok(lines) => signed.add(lines),
                Err(e) => tracing::warn!(error = %e, "a witness did not sign a checkpoint of the audit log"),
            }
        }
        let note = signed.to_string();
        shared.db.publish(size, &note)?;
        disk::replace(&shared.dir.join(CHECKPOINT_FILE), note.as_bytes())?;
        cosignatures::forget_before(&shared.dir, size)?;
        self.published = size;
        shared.published.store(size, Ordering::Release);
        Ok(())
    }
}
