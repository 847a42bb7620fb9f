//! The rotation of one tenant, from plan to destruction. Every step may be interrupted and done again.

use parking_lot::Mutex;

use super::job::{Finished, Job, Kept, Phase, Retained, Stage, Stored};
use super::pipeline::{self, Drive, Mover};
use super::{RotateOptions, RotationStatus, Tally, roots};
use crate::clock::Clock;
use crate::crypto::SuiteId;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::keystore::Destroyed;
use crate::keys::kms::Keys;
use crate::keys::{DataKeys, EpochRecord, EpochState, Keyring, TenantRecord};
use crate::kv::{Batch, KvBackend};
use crate::memory::Memories;
use crate::vectors::{Catalog, CollectionKind};

/// How often it is looked again for records that are left, before somebody has to look.
const PASSES: usize = 3;

/// Whose records are moved, and by what.
pub(crate) struct Tenant<'a> {
    /// What the database knows the tenant by.
    pub(crate) tag: &'a [u8; 16],
    /// Its keys.
    pub(crate) keyring: &'a Keyring,
    /// Its collections.
    pub(crate) catalog: &'a Catalog,
    /// Its memories.
    pub(crate) memories: &'a Memories,
    /// Where all that is.
    pub(crate) kv: &'a dyn KvBackend,
    /// Where data keys come from.
    pub(crate) data: &'a dyn DataKeys,
    /// The time.
    pub(crate) clock: &'a dyn Clock,
}

/// What a rotation runs with.
pub(crate) struct Rotating<'a> {
    /// Who makes and destroys epochs.
    pub(crate) admin: &'a dyn Keys,
    /// The threads that open and seal.
    pub(crate) pool: &'a rayon::ThreadPool,
    /// Has the calling thread give way to those who use the store.
    pub(crate) give_way: &'a (dyn Fn() + Sync),
    /// How long an epoch is kept after nothing is sealed in it, in milliseconds.
    pub(crate) retention_ms: u64,
    /// How many records the next write has at most.
    pub(crate) rows: &'a (dyn Fn() -> usize + Sync),
    /// Waits until the next records may be written: how many, and about how many bytes.
    pub(crate) before: &'a (dyn Fn(usize, usize) -> Result<()> + Sync),
    /// Told after every write.
    pub(crate) watch: &'a (dyn Fn(&RotationStatus) + Sync),
    /// Told before a step is made, and after the last. What cannot be noted is not done.
    pub(crate) note: &'a (dyn Fn(Step<'_>) -> Result<()> + Sync),
}

impl Rotating<'_> {
    /// Does what takes long and what nobody waits for, on a thread that gives way.
    fn aside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let give_way = self.give_way;
        std::thread::scope(|scope| {
            let working = scope.spawn(move || {
                give_way();
                work()
            });
            working.join().map_err(|_| Error::internal("a rotation ended unexpectedly"))?
        })
    }
}

/// A step of a rotation.
pub(crate) enum Step<'a> {
    /// It is to be begun, with another suite if that is named.
    Planned(&'a RotationStatus, Option<SuiteId>),
    /// Records are moved.
    Reencrypting(&'a RotationStatus),
    /// Nothing is left in the old epochs.
    Verified(&'a RotationStatus),
    /// The old epochs only open.
    Retained(&'a RotationStatus),
    /// An epoch is gone.
    Destroyed(&'a Destroyed),
}

impl Tenant<'_> {
    /// Tells the keyring in which epochs nothing stored is sealed any more.
    pub(crate) fn settle(&self) -> Result<()> {
        self.stored()?.retained.iter().for_each(|kept| self.keyring.drained(kept.retained.epoch));
        Ok(())
    }

    /// Where the rotation stands.
    pub(crate) fn status(&self) -> Result<RotationStatus> {
        self.describe(&self.stored()?, &self.record()?, 0)
    }

    /// Rotates, or goes on with a rotation that was interrupted.
    pub(crate) fn rotate(&self, options: &RotateOptions, with: &Rotating<'_>) -> Result<RotationStatus> {
        // One that was interrupted may have been asked for without another root key: then that is the next one's.
        if !self.run_job(options, with)? && options.root_key {
            self.run_job(options, with)?;
        }
        self.destroy_due(with.admin, &|destroyed| (with.note)(Step::Destroyed(destroyed)))?;
        self.status()
    }

    /// Does one rotation from where it stands. Returns whether the tenant has got another root key with it.
    fn run_job(&self, options: &RotateOptions, with: &Rotating<'_>) -> Result<bool> {
        let mut stored = self.stored()?;
        let job = match stored.job.take() {
            Some(job) => Job {
                compromised: job.compromised || options.compromised,
                discard_damaged: job.discard_damaged || options.discard_damaged,
                ..job
            },
            None => self.plan(options)?,
        };
        if job.phase == Phase::Planned {
            let suite = job.suite.map(SuiteId::try_from).transpose()?;
            (with.note)(Step::Planned(&self.status()?, suite))?;
        }
        stored.job = Some(job.clone());
        self.save(&stored)?;
        if job.phase == Phase::Planned
            && let Err(e) = self.announce(&job, with.admin)
        {
            return Err(self.refused(&mut stored, e)?);
        }
        // Also after an interruption: the epoch may have become active without this process being told.
        self.keyring.refresh(self.data)?;
        (with.note)(Step::Reencrypting(&self.status()?))?;
        self.reencrypt(&mut stored, with)?;
        (with.note)(Step::Verified(&self.describe(&stored, &self.record()?, 0)?))?;
        self.retain(&mut stored, with)?;
        (with.note)(Step::Retained(&self.status()?))?;
        Ok(job.root.is_some())
    }

    /// Destroys the epochs whose time has come, and has each noted. Returns which.
    pub(crate) fn destroy_due(
        &self,
        admin: &dyn Keys,
        note: &dyn Fn(&Destroyed) -> Result<()>,
    ) -> Result<Vec<Destroyed>> {
        let mut stored = self.stored()?;
        if stored.retained.is_empty() {
            self.destroy_idle_roots(admin)?;
            return Ok(Vec::new());
        }
        let due = look(&mut stored.retained, self.clock)?;
        // What was seen to pass counts also after the machine was started anew.
        self.save(&stored)?;
        let mut destroyed = Vec::new();
        for epoch in due {
            // One that a kill came after is destroyed already.
            destroyed.extend(self.destroy(epoch, admin, note)?);
            stored.retained.retain(|kept| kept.retained.epoch != epoch);
            self.save(&stored)?;
        }
        self.destroy_idle_roots(admin)?;
        Ok(destroyed)
    }

    /// Destroys an epoch that nothing stored is sealed in. `None` when it is destroyed already.
    pub(crate) fn destroy(
        &self,
        epoch: Epoch,
        admin: &dyn Keys,
        note: &dyn Fn(&Destroyed) -> Result<()>,
    ) -> Result<Option<Destroyed>> {
        let record = self.record()?;
        if record.epochs.iter().any(|e| e.epoch == epoch && e.state == EpochState::Destroyed) {
            return Ok(None);
        }
        let left = self.left_in(epoch)?;
        if left > 0 {
            return Err(Error::new(ErrorKind::Conflict, format!("{left} records are sealed in epoch {epoch}"))
                .with_remedy("move them with `strongroom rotate`; `strongroom tenant shred` destroys a whole tenant"));
        }
        self.memories.remove_labels(epoch)?;
        let destroyed = admin.destroy_epoch(self.keyring.tenant(), epoch)?;
        self.keyring.refresh(self.data)?;
        note(&destroyed)?;
        Ok(Some(destroyed))
    }

    /// How many rows and points are sealed in `epoch`: everything is looked at.
    pub(crate) fn left_in(&self, epoch: Epoch) -> Result<u64> {
        let mut left = self.memories.sealed_in(epoch)? + self.catalog.sealed_in(epoch)?;
        for collection in self.catalog.all() {
            left += collection.sealed_in(epoch)?;
        }
        Ok(left + u64::from(Stored::is_sealed_in(self.kv, self.tag, epoch)?))
    }

    fn plan(&self, options: &RotateOptions) -> Result<Job> {
        let record = self.record()?;
        Ok(Job {
            phase: Phase::Planned,
            before: active(&record)?.epoch,
            suite: options.suite.map(SuiteId::as_u16),
            compromised: options.compromised,
            discard_damaged: options.discard_damaged,
            started_at_ms: self.clock.now_ms(),
            at: None,
            records: 0,
            bytes: 0,
            damaged: 0,
            root: options.root_key.then_some(record.root_fingerprint),
        })
    }

    /// A root key that cannot be had must not keep the tenant from being rotated without: nothing has happened yet then,
    /// and the job is forgotten.
    fn refused(&self, stored: &mut Stored, e: Error) -> Result<Error> {
        let asked = stored.job.as_ref().and_then(|job| job.root.clone());
        let refused = matches!(e.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput | ErrorKind::Denied);
        if refused && asked.is_some_and(|before| self.record().is_ok_and(|now| now.root_fingerprint == before)) {
            stored.job = None;
            self.save(stored)?;
        }
        Ok(e)
    }

    /// Makes another epoch the one that seals, unless that was done before an interruption.
    fn announce(&self, job: &Job, admin: &dyn Keys) -> Result<()> {
        let tenant: &TenantId = self.keyring.tenant();
        self.replace_root(job, admin)?;
        let record = self.record()?;
        if active(&record)?.epoch != job.before {
            return Ok(());
        }
        let suite = job.suite.map(SuiteId::try_from).transpose()?;
        // One that an interruption left, or that somebody has made ahead.
        let made = record.epochs.iter().rfind(|epoch| epoch.state == EpochState::PreActive);
        let made = made.filter(|epoch| suite.is_none_or(|suite| suite.as_str() == epoch.suite));
        let next = match made {
            Some(made) => made.epoch,
            None => admin.create_epoch(tenant, suite)?.epoch,
        };
        if job.compromised {
            // The latest pre-active epoch takes over.
            admin.mark_epoch_compromised(tenant, job.before)?;
        } else {
            admin.activate_epoch(tenant, next)?;
        }
        Ok(())
    }

    fn reencrypt(&self, stored: &mut Stored, with: &Rotating<'_>) -> Result<()> {
        let live = self.keyring.live();
        set_phase(stored, Phase::Reencrypting);
        self.save(stored)?;
        self.catalog.rotate()?;
        let total = with.aside(|| self.count(live.older()))?;
        for pass in 1.. {
            let damaged = self.move_all(stored, live.older(), total, with)?;
            // What was passed over is looked at again: nothing may be left.
            if let Some(job) = &mut stored.job {
                job.at = None;
            }
            set_phase(stored, Phase::Verifying);
            self.save(stored)?;
            // Writers wait for this: it does not give way.
            let left = live.older().iter().map(|epoch| self.left_in(*epoch)).sum::<Result<u64>>()?;
            let discarded = stored.job.as_ref().is_some_and(|job| job.discard_damaged);
            if left == 0 {
                return Ok(());
            }
            if (damaged > 0 && !discarded) || pass == PASSES {
                return Err(Error::integrity(format!("{left} records that do not open, or not here: they"))
                    .with_remedy(
                        "the old epoch is kept; `strongroom verify` shows them: restore or delete them, or run \
                         `strongroom rotate --discard-damaged`",
                    ));
            }
            set_phase(stored, Phase::Reencrypting);
        }
        Ok(())
    }

    /// Moves everything that is not in the active epoch. Returns how many records did not open.
    fn move_all(&self, stored: &mut Stored, from: &[Epoch], total: u64, with: &Rotating<'_>) -> Result<u64> {
        let to = self.keyring.active();
        let discard = stored.job.as_ref().is_some_and(|job| job.discard_damaged);
        let before = stored.job.as_ref().map_or(0, |job| job.damaged);
        for epoch in from {
            let memories = self.memories.current_mover(*epoch, to, discard);
            self.run(stored, Stage::Memories(*epoch), &memories, total, with)?;
            let history = self.memories.history_mover(*epoch, to, discard);
            self.run(stored, Stage::History(*epoch), &history, total, with)?;
        }
        for collection in self.catalog.all() {
            // Here, since others may wait for it: what reads gives way.
            collection.make_ready()?;
            let mover = match collection.kind() {
                CollectionKind::Chunks => collection.point_mover(to, discard),
                // Embeddings have moved with their memories.
                CollectionKind::Memories => collection.orphan_remover(to),
            };
            self.run(stored, Stage::Points(*collection.id().as_bytes()), &mover, total, with)?;
            collection.reseal_graphs()?;
        }
        Ok(stored.job.as_ref().map_or(0, |job| job.damaged) - before)
    }

    fn run<M: Mover>(
        &self,
        stored: &mut Stored,
        stage: Stage,
        mover: &M,
        total: u64,
        with: &Rotating<'_>,
    ) -> Result<()> {
        let after = stored.job.as_ref().and_then(|job| job.at.clone());
        let after = after.filter(|(at, _)| *at == stage).map(|(_, key)| key);
        let record = self.record()?;
        let shared = Mutex::new(stored.clone());
        let note = |through: &[u8]| {
            let mut noted = shared.lock().clone();
            if let Some(job) = &mut noted.job {
                job.at = Some((stage, through.to_vec()));
            }
            let mut batch = Batch::default();
            noted.stage(&mut batch, self.keyring, &self.keyring.writing(), self.tag)?;
            Ok(batch)
        };
        let done = |tally: Tally, through: &[u8]| {
            let mut stored = shared.lock();
            if let Some(job) = &mut stored.job {
                job.records += tally.records;
                job.bytes += tally.bytes;
                job.damaged += tally.damaged;
                job.at = Some((stage, through.to_vec()));
            }
            if let Ok(status) = self.describe(&stored, &record, total) {
                (with.watch)(&status);
            }
        };
        let drive = Drive {
            pool: with.pool,
            give_way: with.give_way,
            after,
            rows: with.rows,
            before: with.before,
            note: &note,
            done: &done,
        };
        let ran = pipeline::run(mover, drive);
        *stored = shared.into_inner();
        ran
    }

    /// Everything is moved: the old epochs are kept for what was handed out in them.
    fn retain(&self, stored: &mut Stored, with: &Rotating<'_>) -> Result<()> {
        let Some(job) = stored.job.take() else { return Ok(()) };
        let record = self.record()?;
        let (now_ms, to) = (self.clock.now_ms(), active(&record)?);
        let retention_ms = if job.compromised { 0 } else { with.retention_ms };
        let live = self.keyring.live();
        for epoch in live.older() {
            let found = record.epochs.iter().find(|e| e.epoch == *epoch);
            let fingerprint = found.ok_or_else(|| Error::integrity("the epoch list of a tenant"))?.fingerprint.clone();
            let (destroy_at_ms, seen) = (now_ms.saturating_add(retention_ms), self.clock.uptime()?);
            let (epoch, left_ms) = (*epoch, retention_ms);
            let retained = Retained { epoch, fingerprint, since_ms: now_ms, destroy_at_ms, left_ms };
            stored.retained.push(Kept { retained, seen });
        }
        if let (true, Some(root)) = (job.compromised, &job.root) {
            // Whoever has the root key has them all.
            let of_root = |kept: &Kept| roots::opens_with(&record, kept.retained.epoch, root);
            stored.retained.iter_mut().filter(|kept| of_root(kept)).for_each(|kept| kept.retained.left_ms = 0);
        }
        stored.last = Some(Finished {
            epoch: to.epoch,
            fingerprint: to.fingerprint.clone(),
            started_at_ms: job.started_at_ms,
            finished_at_ms: now_ms,
            records: job.records,
            bytes: job.bytes,
            damaged: job.damaged,
        });
        // Whoever lists namespaces there must not miss their labels.
        live.older().iter().for_each(|epoch| self.keyring.drained(*epoch));
        live.older().iter().try_for_each(|epoch| self.memories.remove_labels(*epoch))?;
        self.save(stored)
    }

    /// How many records are in `from`.
    fn count(&self, from: &[Epoch]) -> Result<u64> {
        from.iter()
            .map(|epoch| {
                let points = self.catalog.all().into_iter().filter(|c| c.kind() == CollectionKind::Chunks);
                let points = points.map(|collection| collection.registered_in(*epoch)).sum::<Result<u64>>()?;
                Ok(self.memories.listed_in(*epoch)? + points)
            })
            .sum()
    }

    fn describe(&self, stored: &Stored, record: &TenantRecord, total: u64) -> Result<RotationStatus> {
        let older = self.keyring.live();
        let job = stored.job.as_ref();
        let last = stored.last.as_ref();
        let mut retained = stored.retained.clone();
        look(&mut retained, self.clock)?;
        let or_last = |now: Option<u64>, last: Option<u64>| now.or(last).unwrap_or(0);
        Ok(RotationStatus {
            phase: job.map_or(Phase::Idle, |job| job.phase),
            active: active(record)?.clone(),
            from: record.epochs.iter().filter(|e| older.older().contains(&e.epoch)).cloned().collect(),
            records: or_last(job.map(|job| job.records), last.map(|last| last.records)),
            bytes: or_last(job.map(|job| job.bytes), last.map(|last| last.bytes)),
            total,
            damaged: or_last(job.map(|job| job.damaged), last.map(|last| last.damaged)),
            started_at_ms: job.map(|job| job.started_at_ms),
            speed_percent: 100,
            retained: retained.into_iter().map(|kept| kept.retained).collect(),
            root_keys: record.root_keys.clone(),
            last: stored.last.clone(),
        })
    }

    pub(super) fn record(&self) -> Result<TenantRecord> {
        self.data.tenant(self.keyring.tenant())
    }

    fn stored(&self) -> Result<Stored> {
        Stored::read(self.kv, self.keyring, self.tag)
    }

    /// Writes the row down: from then on it survives a loss of power, and everything before it.
    fn save(&self, stored: &Stored) -> Result<()> {
        let mut batch = Batch::default();
        {
            let writing = self.keyring.writing();
            stored.stage(&mut batch, self.keyring, &writing, self.tag)?;
            self.kv.write(batch)?;
        }
        self.kv.sync()
    }
}

/// Counts the time that has passed for each. Returns those whose retention is over.
fn look(retained: &mut [Kept], clock: &dyn Clock) -> Result<Vec<Epoch>> {
    if retained.is_empty() {
        return Ok(Vec::new());
    }
    let (now_ms, uptime) = (clock.now_ms(), clock.uptime()?);
    Ok(retained.iter_mut().filter_map(|one| one.look(now_ms, &uptime).then_some(one.retained.epoch)).collect())
}

fn active(record: &TenantRecord) -> Result<&EpochRecord> {
    record.active().ok_or_else(|| Error::integrity("the epoch list of a tenant"))
}

fn set_phase(stored: &mut Stored, phase: Phase) {
    if let Some(job) = &mut stored.job {
        job.phase = phase;
    }
}
