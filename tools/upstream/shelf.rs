//! Its collections, a directory each.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use qdrant_client::qdrant::CreateCollection;
use tonic::Status;

use crate::collection::Collection;
use crate::faults::Faults;

/// Longest name of a collection, as Qdrant has it.
const NAME_BYTES: usize = 255;

pub struct Shelf {
    dir: PathBuf,
    collections: RwLock<BTreeMap<String, Arc<Collection>>>,
    pub faults: Faults,
}

impl Shelf {
    /// What is in `dir`, which is made if there is none.
    pub fn open(dir: PathBuf, faults: Faults) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut collections = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if !Collection::is_described(&path) {
                // One whose making or removal was cut off.
                fs::remove_dir_all(path)?;
                continue;
            }
            let collection = Collection::load(path).map_err(|e| io::Error::other(e.to_string()))?;
            collections.insert(collection.name().to_owned(), Arc::new(collection));
        }
        Ok(Self { dir, collections: RwLock::new(collections), faults })
    }

    pub fn get(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let found = self.collections.read().get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("Not found: Collection `{name}` doesn't exist!")))
    }

    pub fn names(&self) -> Vec<String> {
        self.collections.read().keys().cloned().collect()
    }

    pub fn create(&self, description: CreateCollection) -> Result<(), Status> {
        let name = description.collection_name.clone();
        let forbidden = |c: char| c.is_control() || "<>:\"/\\|?*".contains(c);
        if name.is_empty() || name.len() > NAME_BYTES || name.contains(forbidden) {
            return Err(Status::invalid_argument(format!("Validation error in body: collection name `{name}`")));
        }
        let mut collections = self.collections.write();
        if collections.contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        // Names of files are as long as those of collections at most.
        let short: String = hex.chars().take(120).collect();
        let at = format!("{short}-{}", collections.len());
        let mut dir = self.dir.join(at);
        while dir.exists() {
            dir.as_mut_os_string().push("x");
        }
        let collection = Collection::create(dir, description)?;
        collections.insert(name, Arc::new(collection));
        Ok(())
    }

    /// Whether it was there.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.collections.write().remove(name);
        removed.is_some_and(|collection| {
            collection.condemn();
            true
        })
    }

    pub fn flush(&self) {
        self.all().iter().for_each(|collection| collection.flush());
    }

    pub fn optimize(&self) {
        self.all().iter().for_each(|collection| collection.optimize());
    }

    fn all(&self) -> Vec<Arc<Collection>> {
        self.collections.read().values().cloned().collect()
    }
}
