//! A key-value engine in memory, with the same rules as the real one.

use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;
use strongroom::kv::{Batch, Change, KvBackend, Row, Table};
use strongroom::{Error, Result};

type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

#[derive(Default)]
pub struct MemKv(Mutex<Rows>);

impl KvBackend for MemKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().get(&(table.as_str(), key.to_vec())).cloned())
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }

    fn scan<'a>(&'a self, table: Table, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        let rows = self.0.lock();
        let of_table = rows.iter().filter(|((name, key), _)| *name == table.as_str() && key.starts_with(prefix));
        let found: Vec<_> =
            of_table.map(|((_, key), value)| Ok((key.as_slice().into(), value.as_slice().into()))).collect();
        Box::new(found.into_iter())
    }

    fn write(&self, batch: Batch) -> Result<()> {
        let mut rows = self.0.lock();
        for change in batch.into_changes() {
            match change {
                Change::Put(table, key, value) => drop(rows.insert((table.as_str(), key), value)),
                Change::Delete(table, key) => drop(rows.remove(&(table.as_str(), key))),
                Change::DeleteRange(table, from, to) => {
                    rows.retain(|(name, key), _| *name != table.as_str() || *key < from || *key >= to);
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn checkpoint(&self, _dir: &Path) -> Result<()> {
        Err(Error::internal("there are no files"))
    }
}
