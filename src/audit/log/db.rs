//! The log on disk: a RocksDB database of its own, with entries, tiles, checkpoints and a few numbers.
//!
//! `schema/audit.md` has the layout. A second process can read along while the first one writes.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction,
    IteratorMode, Options, ReadOptions, WriteBatch,
};
use tempfile::TempDir;

use crate::audit::path::TILE_WIDTH;
use crate::audit::tree::{Hash, Nodes, Tile};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::rocks::{GroupCommit, failed};
use crate::limits;

const ENTRIES: &str = "entries";
const TILES: &str = "tiles";
const CHECKPOINTS: &str = "checkpoints";
const STATE: &str = "state";

/// The layout, as the row `format` says it.
const FORMAT_1: &[u8] = &[1];
const FORMAT: &[u8] = b"format";
const INTEGRATED: &[u8] = b"integrated";
const PRUNED: &[u8] = b"pruned";

/// The database of a log.
pub(super) struct Db {
    db: DB,
    commit: GroupCommit,
    /// Where one that reads along keeps its own notes.
    _aside: Option<TempDir>,
}

/// An entry with its index.
pub(super) type Entry = (u64, Box<[u8]>);

impl Db {
    /// Opens the database in `path` to write, or makes one.
    ///
    /// # Errors
    ///
    /// [`Busy`](ErrorKind::Busy) while another process has it open to write.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut options = options();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = DB::open_cf_descriptors(&options, path, tables()).map_err(in_use)?;
        let this = Self { db, commit: GroupCommit::default(), _aside: None };
        match this.state(FORMAT)?.as_deref() {
            Some(FORMAT_1) => Ok(this),
            // A log whose making was cut short has nothing in it.
            None => {
                this.db.put_cf(this.table(STATE)?, FORMAT, FORMAT_1).map_err(failed)?;
                Ok(this)
            }
            Some(_) => Err(Error::integrity("the format of the audit log")),
        }
    }

    /// Opens the database in `path` to read along, whoever writes it.
    pub(super) fn read_along(path: &Path) -> Result<Self> {
        let mut attempts = 1;
        loop {
            // What the writer has just replaced is looked for in vain, once.
            match Self::try_read_along(path) {
                Err(e) if e.kind() != ErrorKind::Integrity && attempts < limits::AUDIT_READ_ATTEMPTS => {
                    tracing::debug!(error = %e, "the audit log is opened again");
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    attempts += 1;
                }
                other => return other,
            }
        }
    }

    fn try_read_along(path: &Path) -> Result<Self> {
        let aside = tempfile::Builder::new().prefix("strongroom-audit-").tempdir()?;
        let mut options = options();
        // What the writer removes meanwhile has to stay open here.
        options.set_max_open_files(-1);
        let db = DB::open_cf_descriptors_as_secondary(&options, path, aside.path(), tables()).map_err(failed)?;
        let this = Self { db, commit: GroupCommit::default(), _aside: Some(aside) };
        this.catch_up()?;
        if this.state(FORMAT)?.as_deref() == Some(FORMAT_1) {
            Ok(this)
        } else {
            Err(Error::integrity("the format of the audit log"))
        }
    }

    /// Has one that reads along see what was written until now.
    pub(super) fn catch_up(&self) -> Result<()> {
        self.db.try_catch_up_with_primary().map_err(failed)
    }

    /// Appends an entry. It survives the death of the process; for power loss see [`sync`](Self::sync).
    pub(super) fn append(&self, index: u64, entry: &[u8]) -> Result<()> {
        self.db.put_cf(self.table(ENTRIES)?, index.to_be_bytes(), entry).map_err(failed)
    }

    /// Returns once everything written before the call is on stable storage. Concurrent calls share one disk sync.
    pub(super) fn sync(&self) -> Result<()> {
        self.commit.sync(|| self.db.flush_wal(true).map_err(failed))
    }

    /// The index that the next entry gets.
    pub(super) fn next_index(&self) -> Result<u64> {
        let last = self.db.iterator_cf(self.table(ENTRIES)?, IteratorMode::End).next();
        match last.transpose().map_err(failed)? {
            Some((key, _)) => Ok(number(&key)?.saturating_add(1)),
            None => Ok(0),
        }
    }

    /// An entry, unless it was pruned or is not there yet.
    pub(super) fn entry(&self, index: u64) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.table(ENTRIES)?, index.to_be_bytes()).map_err(failed)
    }

    /// The entries from `from` (inclusive) to `to` (exclusive), in order.
    pub(super) fn entries(&self, from: u64, to: u64) -> Result<impl Iterator<Item = Result<Entry>> + '_> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to.to_be_bytes());
        let start = from.to_be_bytes();
        let mode = IteratorMode::From(&start, Direction::Forward);
        let rows = self.db.iterator_cf_opt(self.table(ENTRIES)?, options, mode);
        Ok(rows.map(|row| {
            let (key, value) = row.map_err(failed)?;
            Ok((number(&key)?, value))
        }))
    }

    /// How many entries are in the tree.
    pub(super) fn integrated(&self) -> Result<u64> {
        self.number_at(INTEGRATED)
    }

    /// How many entries from the first on were removed.
    pub(super) fn pruned(&self) -> Result<u64> {
        self.number_at(PRUNED)
    }

    /// Writes tiles, after which `size` entries are in the tree.
    pub(super) fn integrate(&self, tiles: impl IntoIterator<Item = Tile>, size: u64) -> Result<()> {
        let mut batch = WriteBatch::default();
        let table = self.table(TILES)?;
        for (level, number, hashes) in tiles {
            batch.put_cf(table, tile_key(level, number), hashes.as_flattened());
        }
        batch.put_cf(self.table(STATE)?, INTEGRATED, size.to_be_bytes());
        self.db.write(batch).map_err(failed)
    }

    /// Removes the entries before `to`, durably.
    pub(super) fn prune(&self, to: u64) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.table(ENTRIES)?, 0_u64.to_be_bytes(), to.to_be_bytes());
        batch.put_cf(self.table(STATE)?, PRUNED, to.to_be_bytes());
        self.db.write(batch).map_err(failed)?;
        self.sync()?;
        // Whole files go at once; what shares one with later entries goes when RocksDB rewrites it.
        let (first, last) = (0_u64.to_be_bytes(), to.saturating_sub(1).to_be_bytes());
        self.db.delete_file_in_range_cf(self.table(ENTRIES)?, first, last).map_err(failed)
    }

    /// Writes the checkpoint of `size` entries durably, and lets go of the oldest beyond those that are kept.
    pub(super) fn publish(&self, size: u64, note: &str) -> Result<()> {
        let table = self.table(CHECKPOINTS)?;
        let mut batch = WriteBatch::default();
        batch.put_cf(table, size.to_be_bytes(), note);
        let kept = self.db.iterator_cf(table, IteratorMode::End).skip(limits::AUDIT_CHECKPOINTS - 1);
        for row in kept {
            batch.delete_cf(table, row.map_err(failed)?.0);
        }
        self.db.write(batch).map_err(failed)?;
        self.sync()
    }

    /// The newest checkpoint, as a note.
    pub(super) fn newest_checkpoint(&self) -> Result<Option<String>> {
        let last = self.db.iterator_cf(self.table(CHECKPOINTS)?, IteratorMode::End).next();
        last.transpose().map_err(failed)?.map(|(_, note)| text(note.into_vec())).transpose()
    }

    fn number_at(&self, key: &[u8]) -> Result<u64> {
        self.state(key)?.map_or(Ok(0), |value| number(&value))
    }

    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.table(STATE)?, key).map_err(failed)
    }

    fn table(&self, name: &str) -> Result<&ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| Error::integrity("the list of the audit log's tables"))
    }
}

impl Nodes for Db {
    fn tile(&self, level: u8, number: u64) -> Result<Vec<Hash>> {
        let bad = || Error::integrity("the tree of the audit log");
        let bytes = self.db.get_cf(self.table(TILES)?, tile_key(level, number)).map_err(failed)?.ok_or_else(bad)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() && hashes.len() as u64 <= TILE_WIDTH { Ok(hashes.to_vec()) } else { Err(bad()) }
    }
}

fn tile_key(level: u8, number: u64) -> Vec<u8> {
    [&[level][..], &number.to_be_bytes()].concat()
}

fn number(bytes: &[u8]) -> Result<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| Error::integrity("a number of the audit log"))
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::integrity("a checkpoint of the audit log"))
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    options.set_max_total_wal_size(64 << 20);
    // As for the store: a torn last record is what a crash leaves; damage before the end must not pass for one.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options
}

fn tables() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(limits::AUDIT_CACHE_BYTES);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    let table = |name, write_buffer| {
        let mut options = Options::default();
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(write_buffer);
        ColumnFamilyDescriptor::new(name, options)
    };
    // The default one has to be there.
    let small = ["default", CHECKPOINTS, STATE].map(|name| table(name, 1 << 20));
    [table(ENTRIES, 8 << 20), table(TILES, 4 << 20)].into_iter().chain(small).collect()
}

/// RocksDB says in words alone that another process has the lock.
fn in_use(e: rocksdb::Error) -> Error {
    if e.to_string().contains("lock") && e.kind() == rocksdb::ErrorKind::IOError {
        return Error::new(ErrorKind::Busy, "the audit log is in use by another process")
            .with_remedy("stop it or wait for it to end; to read along, nobody has to be stopped")
            .with_source(e);
    }
    failed(e)
}
