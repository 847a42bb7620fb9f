//! RocksDB as the key-value engine.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options, ReadOptions, WriteBatch,
};

use super::{Batch, Change, KvBackend, Row, Table, prefix_end};
use crate::clock::Clock;
use crate::disk::DataDir;
use crate::error::{Error, ErrorKind, Result};

/// Sealed data does not compress; these are the sizes, in bytes.
const WRITE_BUFFER_BYTES: usize = 32 << 20;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// How much of a table, and of the log, the kernel may keep back before it begins to write: a little at a time, so that
/// whoever waits for the disk does not wait for what somebody else has piled up.
const TABLE_BYTES_PER_SYNC: u64 = 1 << 20;
const LOG_BYTES_PER_SYNC: u64 = 512 << 10;

/// A RocksDB database in one directory.
pub struct Rocks {
    db: DB,
    disk: Arc<DataDir>,
    commit: GroupCommit,
}

impl Rocks {
    /// Opens or creates the database in `path`.
    ///
    /// `expired` tells from the clear head of a memory whether compaction may drop it at a given time.
    pub fn open(
        path: &Path,
        disk: Arc<DataDir>,
        cache_bytes: usize,
        clock: Arc<dyn Clock>,
        expired: fn(value: &[u8], now_ms: u64) -> bool,
    ) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(2);
        options.set_max_open_files(512);
        options.set_keep_log_file_num(2);
        options.set_max_total_wal_size(256 << 20);
        options.set_bytes_per_sync(TABLE_BYTES_PER_SYNC);
        options.set_wal_bytes_per_sync(LOG_BYTES_PER_SYNC);
        // A torn last record is what a crash leaves; damage before the end must not pass for one.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        let cache = Cache::new_lru_cache(cache_bytes);
        let tables = Table::ALL.map(|table| {
            let clock = clock.clone();
            let mut options = table_options(&cache);
            if table == Table::Memory {
                options.set_compaction_filter("ttl", move |_, _, value| {
                    if expired(value, clock.now_ms()) { Decision::Remove } else { Decision::Keep }
                });
            }
            ColumnFamilyDescriptor::new(table.as_str(), options)
        });
        let db = DB::open_cf_descriptors(&options, path, tables).map_err(failed)?;
        Ok(Self { db, disk, commit: GroupCommit::default() })
    }

    /// One value of the database in `path`, as of now, while another process may have it open.
    pub fn peek(path: &Path, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let db = DB::open_cf_for_read_only(&Options::default(), path, [table.as_str()], false).map_err(failed)?;
        let cf = db.cf_handle(table.as_str()).ok_or_else(|| Error::integrity("the list of tables"))?;
        db.get_cf(cf, key).map_err(failed)
    }

    fn table(&self, table: Table) -> Result<&ColumnFamily> {
        self.db.cf_handle(table.as_str()).ok_or_else(|| Error::integrity("the list of tables"))
    }
}

impl KvBackend for Rocks {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.table(table)?, key).map_err(failed)
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let found = self.db.batched_multi_get_cf(self.table(table)?, keys, false);
        found.into_iter().map(|value| Ok(value.map_err(failed)?.map(|v| v.to_vec()))).collect()
    }

    fn scan<'a>(&'a self, table: Table, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        self.scan_from(table, prefix, prefix.to_vec())
    }

    fn scan_from<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
        from: Vec<u8>,
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        let mut options = ReadOptions::default();
        if let Some(end) = prefix_end(prefix) {
            options.set_iterate_upper_bound(end);
        }
        match self.table(table) {
            Ok(cf) => {
                let rows = self.db.iterator_cf_opt(cf, options, IteratorMode::From(&from, Direction::Forward));
                Box::new(rows.map(|row| row.map_err(failed)))
            }
            Err(e) => Box::new(std::iter::once(Err(e))),
        }
    }

    fn write(&self, batch: Batch) -> Result<()> {
        if !batch.is_freeing() {
            self.disk.ensure_room(0)?;
        }
        let mut writes = WriteBatch::default();
        for change in batch.into_changes() {
            match change {
                Change::Put(table, key, value) => writes.put_cf(self.table(table)?, key, value),
                Change::Delete(table, key) => writes.delete_cf(self.table(table)?, key),
                Change::DeleteRange(table, from, to) => writes.delete_range_cf(self.table(table)?, from, to),
            }
        }
        self.db.write(writes).map_err(failed)
    }

    fn sync(&self) -> Result<()> {
        self.commit.sync(|| self.db.flush_wal(true).map_err(failed))
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        // Flushed first, so that the copy consists of table files, which the next copy has too, and a short log.
        Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(dir)).map_err(failed)
    }

    fn purge(&self, table: Table, prefix: &[u8]) -> Result<()> {
        // A file of the log goes when no table needs anything in it.
        for table in Table::ALL {
            self.db.flush_cf(self.table(table)?).map_err(failed)?;
        }
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.table(table)?, Some(prefix), prefix_end(prefix), &options);
        Ok(())
    }
}

fn table_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options
}

pub(crate) fn failed(e: rocksdb::Error) -> Error {
    let text = e.to_string();
    if text.contains("No space left") || text.contains("Disk quota") {
        return Error::new(ErrorKind::StorageFull, "the disk is full")
            .with_remedy("free some space and start again; every acknowledged write is kept")
            .with_source(e);
    }
    let (kind, message) = match e.kind() {
        rocksdb::ErrorKind::Corruption => (ErrorKind::Integrity, "the database is damaged"),
        rocksdb::ErrorKind::IOError => (ErrorKind::Unavailable, "the database cannot be read or written"),
        rocksdb::ErrorKind::Busy | rocksdb::ErrorKind::TryAgain | rocksdb::ErrorKind::TimedOut => {
            (ErrorKind::Busy, "the database is busy")
        }
        _ => (ErrorKind::Internal, "the database failed"),
    };
    Error::new(kind, message).with_source(e)
}

/// One disk sync for all who wait for one: who arrives first does it, who arrives while it runs shares the next.
#[derive(Default)]
pub(crate) struct GroupCommit {
    state: Mutex<CommitState>,
    done: Condvar,
}

#[derive(Default)]
struct CommitState {
    /// How many syncs have started and ended well.
    started: u64,
    ended: u64,
    running: bool,
}

impl GroupCommit {
    pub(crate) fn sync(&self, sync: impl Fn() -> Result<()>) -> Result<()> {
        let mut state = self.state.lock();
        // A sync that is running already may have missed our write: wait for one that starts from now on.
        let wanted = state.started + 1;
        loop {
            if state.ended >= wanted {
                return Ok(());
            }
            if !state.running {
                break;
            }
            self.done.wait(&mut state);
        }
        state.started += 1;
        let mine = state.started;
        state.running = true;
        drop(state);
        let result = sync();
        let mut state = self.state.lock();
        state.running = false;
        if result.is_ok() {
            state.ended = mine;
        }
        self.done.notify_all();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn waiting_writers_share_a_sync_and_none_returns_before_its_own_began() {
        let commit = GroupCommit::default();
        let (written, syncs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let stable = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let mine = written.fetch_add(1, Ordering::SeqCst) + 1;
                        let result = commit.sync(|| {
                            let seen = written.load(Ordering::SeqCst);
                            std::thread::sleep(Duration::from_micros(200));
                            stable.fetch_max(seen, Ordering::SeqCst);
                            syncs.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        });
                        assert!(result.is_ok());
                        assert!(stable.load(Ordering::SeqCst) >= mine, "acknowledged before it was stable");
                    }
                });
            }
        });
        assert!(syncs.load(Ordering::SeqCst) < 400, "every write paid for its own sync");
    }
}
