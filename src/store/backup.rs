//! Backups of an open store: a copy of the engine's points while writes go on, then the database as of one instant,
//! whose journal has every write since the copy began. Together they are the store at that instant.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{FORMAT_VERSION, Inner, Store, StoreOptions, blocking, names};
use crate::backup::{Archive, Bucket, CopiedCollection, CopiedFile, Manifest, Progress, Writer, cut, encode_bucket};
use crate::crypto::MacKey;
use crate::entropy;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::Keyring;
use crate::kv::{Batch, Table};
use crate::limits;
use crate::vectors::{self, Collection, CollectionId};

/// The version of the manifest.
const MANIFEST_VERSION: u8 = 1;
/// What the key is for that signs manifests.
const SCOPE: &[u8] = b"backup";
/// The row with the mark of the latest backup.
const MARK_KEY: &[u8] = b"backup";
/// What the names of directories begin with that hold the database while it is copied.
const CHECKPOINT: &str = ".checkpoint-";
/// How often is looked whether a collection can be opened again.
const RETRY: Duration = Duration::from_millis(50);

/// What a backup has, and what of it had to be written.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// Its number.
    pub number: u32,
    /// Its point in time: Unix time in milliseconds.
    pub at_ms: u64,
    /// Collections, those of memories' embeddings too.
    pub collections: usize,
    /// Those of them that nothing was written to since the backup before.
    pub unchanged: usize,
    /// Points that were copied.
    pub points: u64,
    /// Bytes of everything that it needs.
    pub bytes: u64,
    /// Bytes that were not there yet.
    pub written_bytes: u64,
    /// Parts that were not there yet.
    pub written_parts: usize,
}

impl Store {
    /// Backs the data directory up to `dir`, while everybody goes on reading and writing. Everything that was
    /// acknowledged before the call is in the backup, of every writer a prefix of what it wrote meanwhile, and nothing
    /// that began after it returned. What earlier backups in `dir` have is not written again.
    ///
    /// The keystore is not in it. Dropping a collection while its points are copied may answer that it is in use.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when `dir` has something else in it, [`Busy`](ErrorKind::Busy) while another
    /// backup is made there, [`StorageFull`](ErrorKind::StorageFull) when there is no room. The backups that are there
    /// stay as they are.
    pub async fn backup(
        &self,
        dir: impl Into<PathBuf>,
        mut progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<BackupReport> {
        let (inner, dir) = (self.inner.clone(), dir.into());
        blocking(move || {
            refuse_own(&inner, &dir)?;
            let archive = Archive::create(&dir)?;
            let writer = Writer::new(&archive)?;
            Copy { inner: &inner, archive: &archive, writer, progress: &mut progress, at: Progress::default() }.run()
        })
        .await
    }
}

impl Store {
    /// Refuses a directory that backups must not go to: one inside of what they are of.
    pub(super) fn check_backup_dir(&self, dir: &Path) -> Result<()> {
        refuse_own(&self.inner, dir)
    }

    /// Where the store is and how it runs.
    pub(super) fn options(&self) -> &StoreOptions {
        &self.inner.options
    }
}

/// The key that signs the manifests of a store.
pub(super) fn signing_key(system: &Keyring) -> Result<Arc<dyn MacKey>> {
    system.blinding(Epoch::FIRST, SCOPE)
}

/// Removes what a backup left in the data directory when its process ended.
pub(super) fn remove_interrupted(data_dir: &Path) -> Result<()> {
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(CHECKPOINT.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A backup that is being made.
struct Copy<'a> {
    inner: &'a Inner,
    archive: &'a Archive,
    writer: Writer<'a>,
    progress: &'a mut dyn FnMut(Progress),
    at: Progress,
}

impl Copy<'_> {
    fn run(mut self) -> Result<BackupReport> {
        let pinned = self.inner.pins.pin();
        let (mut collections, unchanged) = self.collections()?;
        collections.sort_by(|a, b| a.id.cmp(&b.id));
        let mark = self.mark()?;
        let checkpoint = tempfile::Builder::new().prefix(CHECKPOINT).tempdir_in(self.inner.options.data_dir())?;
        let database = checkpoint.path().join("db");
        self.inner.kv.checkpoint(&database)?;
        let at_ms = self.inner.options.clock.now_ms();
        drop(pinned);
        let files = self.files(&database)?;
        self.step();
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            number: self.writer.number(),
            at_ms,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            store_format: FORMAT_VERSION,
            mark,
            collections,
            files,
        };
        let (written_bytes, written_parts) = self.writer.written();
        let report = BackupReport {
            number: manifest.number,
            at_ms,
            collections: manifest.collections.len(),
            unchanged,
            points: manifest.points(),
            bytes: manifest.bytes(),
            written_bytes,
            written_parts,
        };
        self.writer.commit(manifest, &*signing_key(&self.inner.system)?)?;
        Ok(report)
    }

    /// The points of every collection, and how many collections did not have to be read.
    fn collections(&mut self) -> Result<(Vec<CopiedCollection>, usize)> {
        let kv = &*self.inner.kv;
        let before = self.before()?;
        let tenants: HashMap<[u8; 16], TenantId> = names::all(kv, &self.inner.system)?.into_iter().collect();
        let described = vectors::all_described(kv)?;
        self.at.of = described.len() as u64 + 1;
        let (mut collections, mut unchanged) = (Vec::with_capacity(described.len()), 0);
        for (tag, id) in described {
            match before.get(&id.to_string()) {
                Some(same) if same.head == vectors::head(kv, id)? && self.has(same) => {
                    collections.push(same.clone());
                    unchanged += 1;
                }
                _ => {
                    let tenant = tenants.get(&tag).ok_or_else(|| Error::integrity("the name of a tenant"))?;
                    collections.extend(self.collection(tenant, id)?);
                }
            }
            self.step();
        }
        Ok((collections, unchanged))
    }

    /// What the store's latest backup has, if it is in this directory: a collection whose last write is still the same
    /// is still the same. A store that was put back to an earlier backup goes on from that one.
    fn before(&self) -> Result<HashMap<String, CopiedCollection>> {
        let Some(mark) = self.inner.kv.get(Table::Meta, MARK_KEY)?.and_then(|mark| String::from_utf8(mark).ok()) else {
            return Ok(HashMap::new());
        };
        let key = signing_key(&self.inner.system)?;
        for number in self.archive.numbers()?.into_iter().rev() {
            let Ok(signed) = self.archive.manifest(number) else { continue };
            if signed.claimed().mark == mark {
                let manifest = signed.check(&*key);
                return Ok(manifest
                    .map(|m| m.collections.into_iter().map(|c| (c.id.clone(), c)).collect())
                    .unwrap_or_default());
            }
        }
        Ok(HashMap::new())
    }

    fn has(&self, collection: &CopiedCollection) -> bool {
        collection.buckets.iter().all(|bucket| self.writer.has(&bucket.part))
    }

    /// Copies a collection that was written to. `None` when it, or its tenant, is gone by now.
    fn collection(&mut self, tenant: &TenantId, id: CollectionId) -> Result<Option<CopiedCollection>> {
        let gone = |e: Error| if e.kind() == ErrorKind::NotFound { Ok(None) } else { Err(e) };
        let tenant = match self.inner.tenant(tenant) {
            Ok(tenant) => tenant,
            Err(e) => return gone(e),
        };
        let Some(collection) = tenant.open.catalog.all().into_iter().find(|c| c.id() == id) else { return Ok(None) };
        let was_open = collection.is_open();
        let copied = self.points(&collection);
        if !was_open {
            // Thousands of tenants: what nobody uses is not left open. Somebody may use it by now.
            collection.close()?;
        }
        copied.map(Some).or_else(gone)
    }

    fn points(&mut self, collection: &Collection) -> Result<CopiedCollection> {
        let head = patiently(|| collection.settled_head())?;
        let mut buckets = Vec::new();
        let page = |from| patiently(|| collection.sealed_page(from, limits::BACKUP_PAGE_POINTS));
        cut(page, |points| {
            let part = self.writer.put(&encode_bucket(&points)?)?;
            buckets.push(Bucket { part, points: points.len() as u64 });
            self.at.bytes += part.bytes;
            (self.progress)(self.at);
            Ok(())
        })?;
        Ok(CopiedCollection { id: collection.id().to_string(), head, buckets })
    }

    /// What the store will know this backup by.
    fn mark(&self) -> Result<String> {
        let mut mark = [0; 16];
        entropy::fill(&mut mark)?;
        let mark = format!("{:032x}", u128::from_be_bytes(mark));
        let mut batch = Batch::default();
        batch.put(Table::Meta, MARK_KEY, mark.as_bytes());
        self.inner.kv.write(batch)?;
        Ok(mark)
    }

    fn files(&mut self, database: &Path) -> Result<Vec<CopiedFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(database)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| Error::internal("a file of the database"))?;
            let file = self.writer.put_file(name, fs::File::open(entry.path())?)?;
            self.at.bytes += file.parts.iter().map(|part| part.bytes).sum::<u64>();
            (self.progress)(self.at);
            files.push(file);
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn step(&mut self) {
        self.at.done += 1;
        (self.progress)(self.at);
    }
}

/// Does `work`, again while the collection is only being closed.
fn patiently<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_millis(limits::BACKUP_WAIT_MS);
    loop {
        match work() {
            Err(e) if e.kind() == ErrorKind::Busy && Instant::now() < end => std::thread::sleep(RETRY),
            other => return other,
        }
    }
}

/// Refuses a directory inside of what is backed up, or of the keys, which backups must be apart from.
fn refuse_own(inner: &Inner, dir: &Path) -> Result<()> {
    // One that is not there yet is where the first of its ancestors is that is.
    let there = dir.ancestors().find_map(|dir| {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        dir.canonicalize().ok()
    });
    for own in [inner.options.data_dir(), inner.options.keystore_dir()] {
        if let (Some(there), Ok(own)) = (&there, own.canonicalize())
            && there.starts_with(&own)
        {
            return Err(Error::invalid(format!("`{}` is inside of `{}`", dir.display(), own.display()))
                .with_remedy("back up to a directory apart from data and keys, on another disk"));
        }
    }
    Ok(())
}
