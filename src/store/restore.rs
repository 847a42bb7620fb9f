//! Making a data directory of a backup: apart from where it will be, checked part by part, then moved there whole.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::audit::{Asker, SERVICE};
use super::backup::signing_key;
use super::keys::{self, StoreKeys};
use super::unreadable::{self, Unreadable};
use super::{Engines, FORMAT_VERSION, Store, StoreOptions, TenantReport, blocking, names};
use crate::audit::{Event, Outcome, What};
use crate::backup::{Archive, CopiedCollection, Manifest, Progress, decode_bucket};
use crate::crypto::default_provider;
use crate::disk::{self, DataDir};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::{Keyring, Passphrase};
use crate::vectors::{Catalog, CollectionContext, HandedOut, JournalPins, ResidentBudget};

/// What was restored, and how it is.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The number of the backup.
    pub number: u32,
    /// Its point in time: Unix time in milliseconds.
    pub at_ms: u64,
    /// Points that were given to the engine.
    pub points: u64,
    /// What cannot be opened, and why.
    pub unreadable: Vec<Unreadable>,
    /// What verifying found, by tenant, of those that can be opened.
    pub tenants: BTreeMap<String, TenantReport>,
}

impl RestoreReport {
    /// Whether everything that can be opened is as it was written.
    pub fn is_clean(&self) -> bool {
        self.tenants.values().all(TenantReport::is_clean)
    }
}

impl Store {
    /// Makes the data directory of `options` of a backup in `from`, the one with `number` or the latest, and opens every
    /// record in it. The keys are those of `options`: a keystore that `passphrase` opens, or the key service (the setting
    /// `kms`), for which there is none.
    ///
    /// Records whose keys were destroyed since the backup are removed and reported; the others are restored.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is data already, [`Integrity`](ErrorKind::Integrity) when the backup
    /// is not what was written, or was written with other keys. Nothing is made then.
    pub async fn restore(
        options: StoreOptions,
        passphrase: Option<Passphrase>,
        from: impl Into<PathBuf>,
        number: Option<u32>,
        mut progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<RestoreReport> {
        let from = from.into();
        let (store, mut report, readable) = blocking(move || {
            refuse_data(&options.data_dir())?;
            let archive = Archive::open(&from)?;
            let number = archive.number(number)?;
            let signed = archive.manifest(number)?;
            let keys = match passphrase {
                Some(passphrase) => keys::open(&options, default_provider(), passphrase)?,
                None => keys::connect(&options)?,
            };
            if let Some((watching, _)) = &keys.shared {
                let begun = What::BackupRestored { number: Some(number), records: 0 };
                watching.sink.record(&Event::new(options.clock.now_ms(), SERVICE, begun, Outcome::Begun))?;
            }
            let system = Keyring::open(&*keys.data, default_provider(), &TenantId::system())?;
            let manifest = signed.check(&*signing_key(&system)?)?;
            if manifest.store_format != FORMAT_VERSION {
                let what =
                    format!("the backup is of format {}, this program knows {FORMAT_VERSION}", manifest.store_format);
                return Err(
                    Error::invalid(what).with_remedy("restore it with the release that made it, or a newer one")
                );
            }
            let rebuild =
                Rebuild { options: &options, keys: &keys, system: &system, archive: &archive, manifest: &manifest };
            let rebuilt = rebuild.run(&mut progress);
            if let (Err(e), Some((watching, _))) = (&rebuilt, &keys.shared) {
                let failed = What::BackupRestored { number: Some(number), records: 0 };
                let event = Event::new(options.clock.now_ms(), SERVICE, failed, Outcome::of_error(e));
                watching.sink.record(&event)?;
            }
            let (report, readable) = rebuilt?;
            let store = Store::open_with(options, keys)?;
            // With a key service elsewhere, the log is in the directory that was just made.
            let restored = What::BackupRestored { number: Some(number), records: report.points };
            store.inner.recorder.record(&Asker::own(), None, restored, Outcome::Done)?;
            Ok((store, report, readable))
        })
        .await?;
        for id in readable {
            let verified = match store.tenant(&id).await {
                Ok(tenant) => tenant.verify(|_| ()).await,
                Err(e) => Err(e),
            };
            // Thousands of tenants: none is left open. One that is in use is closed with the store.
            let _ = store.close_tenant(&id).await;
            match verified {
                Ok(verified) => _ = report.tenants.insert(id.as_str().to_owned(), verified),
                Err(e) => {
                    store.close().await?;
                    return Err(e);
                }
            }
        }
        store.close().await?;
        Ok(report)
    }
}

/// A data directory that is being made.
struct Rebuild<'a> {
    options: &'a StoreOptions,
    keys: &'a StoreKeys,
    system: &'a Keyring,
    archive: &'a Archive,
    manifest: &'a Manifest,
}

impl Rebuild<'_> {
    /// Returns the tenants that can be opened too.
    fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<(RestoreReport, Vec<TenantId>)> {
        let target = self.options.data_dir();
        let apart = apart(&target)?;
        let disk = Arc::new(DataDir::hold(&apart, self.options.min_free_bytes())?);
        empty(&apart)?;
        let made = self.fill(&apart, &disk, progress);
        let (points, unreadable, readable) = match made {
            Ok(made) => made,
            Err(e) => {
                // What cannot be removed now is by the next restore.
                let _ = fs::remove_dir_all(&apart);
                return Err(e);
            }
        };
        drop(disk);
        // Moving a directory never replaces one that has something in it.
        fs::rename(&apart, &target)?;
        if let Some(parent) = target.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
        let report = RestoreReport {
            number: self.manifest.number,
            at_ms: self.manifest.at_ms,
            points,
            unreadable,
            tenants: BTreeMap::new(),
        };
        Ok((report, readable))
    }

    fn fill(
        &self,
        apart: &Path,
        disk: &Arc<DataDir>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(u64, Vec<Unreadable>, Vec<TenantId>)> {
        disk.ensure_room(self.manifest.bytes())?;
        let mut at = Progress { of: self.manifest.collections.len() as u64 + 1, ..Progress::default() };
        self.database(&disk.subdir("db")?, &mut at, progress)?;
        let engines = Engines::open_copy(self.options, disk)?;
        let names = names::all(&*engines.kv, self.system)?;
        let sorted = unreadable::sort(&engines, self.keys, names)?;
        let by_id: HashMap<&str, &CopiedCollection> =
            self.manifest.collections.iter().map(|copied| (copied.id.as_str(), copied)).collect();
        let mut points = 0;
        let mut readable = Vec::with_capacity(sorted.readable.len());
        for (tag, id, lost) in sorted.readable {
            let context = CollectionContext {
                keyring: Arc::new(Keyring::open(&*self.keys.data, default_provider(), &id)?),
                kv: engines.kv.clone(),
                engine: engines.engine.clone(),
                lock_policy: self.options.config.memory_lock,
                graph_from: self.options.graph_from(),
                pins: JournalPins::default(),
                handed: HandedOut::default(),
                budget: ResidentBudget::default(),
            };
            let catalog = Catalog::open(tag, context)?;
            catalog.bring_home()?;
            for collection in catalog.all() {
                // One that was made while the backup was is in the journal, all of it.
                if let Some(copied) = by_id.get(collection.id().to_string().as_str()) {
                    points += collection.load(self.buckets(copied, &mut at, progress))?;
                }
                unreadable::discard(&collection, &lost)?;
                at.done += 1;
                progress(at);
            }
            self.keys.data.forget(&id);
            readable.push(id);
        }
        drop(engines);
        // The engine makes files and directories of its own: all of them before the directory is moved.
        rustix::fs::syncfs(fs::File::open(apart)?).map_err(std::io::Error::from)?;
        Ok((points, sorted.unreadable, readable))
    }

    /// Writes the files of the database.
    fn database(&self, dir: &Path, at: &mut Progress, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        for copied in &self.manifest.files {
            let mut file = fs::File::create_new(dir.join(&copied.name))?;
            for part in &copied.parts {
                file.write_all(&self.archive.part(self.manifest.number, part)?)?;
                at.bytes += part.bytes;
                progress(*at);
            }
            file.sync_all()?;
        }
        at.done += 1;
        Ok(fs::File::open(dir)?.sync_all()?)
    }

    /// The points of a collection, bucket by bucket.
    fn buckets(
        &self,
        copied: &CopiedCollection,
        at: &mut Progress,
        progress: &mut dyn FnMut(Progress),
    ) -> impl Iterator<Item = Result<Vec<crate::vectors::engine::Point>>> {
        copied.buckets.iter().map(move |bucket| {
            let bytes = self.archive.part(self.manifest.number, &bucket.part)?;
            at.bytes += bucket.part.bytes;
            progress(*at);
            decode_bucket(&bytes)
        })
    }
}

/// Where the directory is made: beside where it will be, so that it can be moved there.
fn apart(target: &Path) -> Result<PathBuf> {
    let mut name = target.file_name().ok_or_else(|| Error::invalid("the data directory has no name"))?.to_owned();
    name.push(".restoring");
    let parent = target.parent().ok_or_else(|| Error::internal("a directory without a parent"))?;
    fs::create_dir_all(parent)?;
    Ok(parent.join(name))
}

/// Removes everything but the lock from a directory that an interrupted restore may have left.
fn empty(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if !path.ends_with(disk::LOCK_FILE) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn refuse_data(dir: &Path) -> Result<()> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(ErrorKind::Conflict, format!("there is data in `{}` already", dir.display()))
            .with_remedy("move it away first: a restore never replaces anything")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e.into()),
    }
}
