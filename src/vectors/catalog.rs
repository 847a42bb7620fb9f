//! The collections of one tenant: made, found by name, listed, dropped. Their names exist only sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, Name};
use crate::keys::{Label, Writing};
use crate::kv::{Batch, KvBackend, Table};
use crate::record::{self, Field, Place, StoreKind};
use crate::secret::SecretBytes;

use super::engine::VectorBackend;
use super::{Collection, CollectionContext, CollectionId, CollectionKind, CollectionSpec, Metric};

/// Descriptions are written once and never changed.
const DESCRIPTION_VERSION: u64 = 1;

/// What a description begins with: two bytes that none of the first format has, which was postcard and began with the
/// length of a name, and the number of the format.
const FORMAT: [u8; 3] = [0xff, 0xff, 2];

/// What the keys begin with under which a drop in progress is noted.
const DROPPED: &[u8] = b"dropped/";

/// The collections of an open tenant.
pub struct Catalog {
    tenant_tag: [u8; 16],
    context: CollectionContext,
    collections: RwLock<BTreeMap<(Kind, String), Arc<Collection>>>,
}

/// Memories' embeddings live apart from what the tenant names.
type Kind = u8;

/// Stored as JSON after [`FORMAT`]: fields can be added, and one that a version does not know is an error, not ignored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    kind: CollectionKind,
    spec: CollectionSpec,
}

impl Catalog {
    /// Opens the descriptions of the tenant with `tenant_tag`.
    pub fn open(tenant_tag: [u8; 16], context: CollectionContext) -> Result<Self> {
        let mut collections = BTreeMap::new();
        for row in context.kv.scan(Table::Catalog, &tenant_tag) {
            let (key, value) = row?;
            let id = CollectionId::try_from(key.get(16..).unwrap_or_default())?;
            let Description { name, kind, spec } = unseal(&context, id, &value)?;
            let collection = Collection::new(id, name.clone(), kind, spec, context.clone())?;
            collections.insert((kind as Kind, name), Arc::new(collection));
        }
        Ok(Self { tenant_tag, context, collections: RwLock::new(collections) })
    }

    /// Makes a collection.
    pub fn create(&self, name: &Name, spec: CollectionSpec) -> Result<Arc<Collection>> {
        self.add(&self.context.keyring.writing(), name.as_str(), CollectionKind::Chunks, spec)
    }

    /// The collection called `name`.
    pub fn get(&self, name: &Name) -> Result<Arc<Collection>> {
        self.find(CollectionKind::Chunks, name.as_str()).ok_or_else(|| unknown(name))
    }

    /// The tenant's own collections, in the order of their names.
    pub fn list(&self) -> Vec<Arc<Collection>> {
        self.all().into_iter().filter(|c| c.kind() == CollectionKind::Chunks).collect()
    }

    /// All collections, those of memories too.
    pub fn all(&self) -> Vec<Arc<Collection>> {
        self.collections.read().values().cloned().collect()
    }

    /// Drops the collection called `name` and everything in it.
    pub fn drop_collection(&self, name: &Name) -> Result<()> {
        let mut collections = self.collections.write();
        let key = (CollectionKind::Chunks as Kind, name.as_str().to_owned());
        let collection = collections.get(&key).ok_or_else(|| unknown(name))?;
        collection.retire()?;
        let id = collection.id();
        forget(&*self.context.kv, &self.tenant_tag, id)?;
        collections.remove(&key);
        drop(collections);
        remove_dropped(&*self.context.kv, &*self.context.engine, id)
    }

    /// The collection of the memories' embeddings, if there is one.
    pub fn memories(&self) -> Option<Arc<Collection>> {
        self.find(CollectionKind::Memories, "")
    }

    /// The collection of the memories' embeddings, made for vectors of `size` if there is none.
    pub fn memories_or_create(&self, writing: &Writing<'_>, size: usize) -> Result<Arc<Collection>> {
        match self.memories() {
            Some(collection) => {
                let (_, params) = collection.spec().vector(None)?;
                if params.size != size {
                    return Err(Error::invalid(format!(
                        "the embedding has {size} dimensions, those of the memories have {}",
                        params.size
                    ))
                    .with_remedy("use one embedding model for all memories of a tenant"));
                }
                Ok(collection)
            }
            None => match self.add(writing, "", CollectionKind::Memories, CollectionSpec::new(size, Metric::Cosine)) {
                Err(e) if e.kind() == ErrorKind::Conflict => self.memories().ok_or(e),
                other => other,
            },
        }
    }

    fn find(&self, kind: CollectionKind, name: &str) -> Option<Arc<Collection>> {
        self.collections.read().get(&(kind as Kind, name.to_owned())).cloned()
    }

    fn add(
        &self,
        writing: &Writing<'_>,
        name: &str,
        kind: CollectionKind,
        spec: CollectionSpec,
    ) -> Result<Arc<Collection>> {
        spec.validate()?;
        let mut collections = self.collections.write();
        let key = (kind as Kind, name.to_owned());
        if collections.contains_key(&key) {
            return Err(Error::new(ErrorKind::Conflict, format!("collection `{name}` exists already"))
                .with_remedy("use it, drop it first, or choose another name"));
        }
        let id = CollectionId::random()?;
        let description = Description { name: name.to_owned(), kind, spec };
        let mut batch = Batch::default();
        batch.put(Table::Catalog, self.key(id), seal(&self.context, writing.epoch(), id, &description)?);
        self.context.kv.write(batch)?;
        self.context.kv.sync()?;
        let collection = Collection::new(id, description.name, kind, description.spec, self.context.clone())?;
        let collection = Arc::new(collection);
        collections.insert(key, collection.clone());
        Ok(collection)
    }

    /// Seals every description anew that is not sealed in the active epoch. Returns how many there were.
    pub(crate) fn rotate(&self) -> Result<u64> {
        let writing = self.context.keyring.writing();
        // Nobody makes or drops a collection meanwhile.
        let _collections = self.collections.write();
        let (mut batch, mut moved) = (Batch::default(), 0);
        for row in self.context.kv.scan(Table::Catalog, &self.tenant_tag) {
            let (key, value) = row?;
            if record::claimed_epoch(&value)? != writing.epoch() {
                let id = CollectionId::try_from(key.get(16..).unwrap_or_default())?;
                let description = unseal(&self.context, id, &value)?;
                batch.put(Table::Catalog, key, seal(&self.context, writing.epoch(), id, &description)?);
                moved += 1;
            }
        }
        self.context.kv.write(batch)?;
        Ok(moved)
    }

    /// How many descriptions are sealed in `epoch`.
    pub(crate) fn sealed_in(&self, epoch: Epoch) -> Result<u64> {
        let rows = self.context.kv.scan(Table::Catalog, &self.tenant_tag);
        rows.map(|row| Ok(u64::from(record::claimed_epoch(&row?.1)? == epoch))).sum()
    }

    fn key(&self, id: CollectionId) -> Vec<u8> {
        [&self.tenant_tag[..], id.as_bytes()].concat()
    }
}

/// Removes every collection of a tenant whose keys are gone. None of them may be open.
pub(crate) fn remove_tenant(kv: &dyn KvBackend, engine: &dyn VectorBackend, tenant_tag: &[u8; 16]) -> Result<()> {
    let rows: Vec<_> = kv.scan(Table::Catalog, tenant_tag).collect::<Result<_>>()?;
    rows.into_iter().try_for_each(|(key, _)| {
        let id = CollectionId::try_from(key.get(tenant_tag.len()..).unwrap_or_default())?;
        remove_collection(kv, engine, tenant_tag, id)
    })
}

/// Removes a collection of a tenant, with or without its keys. It must not be open.
pub(crate) fn remove_collection(
    kv: &dyn KvBackend,
    engine: &dyn VectorBackend,
    tenant_tag: &[u8; 16],
    id: CollectionId,
) -> Result<()> {
    forget(kv, tenant_tag, id)?;
    remove_dropped(kv, engine, id)
}

/// Removes everything that the database has of a collection; the engine's files come after.
fn forget(kv: &dyn KvBackend, tenant_tag: &[u8; 16], id: CollectionId) -> Result<()> {
    let mut batch = Batch::default();
    batch.frees_space();
    // Tells the next start to remove the engine's files, should this process not get to it.
    batch.put(Table::Meta, dropped_key(id), []);
    batch.delete(Table::Catalog, [&tenant_tag[..], id.as_bytes()].concat());
    batch.delete_prefix(Table::Registry, id.as_bytes());
    batch.delete_prefix(Table::Journal, id.as_bytes());
    super::veiling::forget_parts(&mut batch, id);
    kv.write(batch)?;
    kv.sync()
}

/// Removes what a drop left behind when its process ended.
pub(crate) fn finish_drops(kv: &dyn KvBackend, engine: &dyn VectorBackend) -> Result<()> {
    let dropped: Vec<_> = kv.scan(Table::Meta, DROPPED).collect::<Result<_>>()?;
    dropped.into_iter().try_for_each(|(key, _)| {
        let id = CollectionId::try_from(key.get(DROPPED.len()..).unwrap_or_default())?;
        remove_dropped(kv, engine, id)
    })
}

fn remove_dropped(kv: &dyn KvBackend, engine: &dyn VectorBackend, id: CollectionId) -> Result<()> {
    engine.drop_collection(id)?;
    let mut batch = Batch::default();
    batch.delete(Table::Meta, dropped_key(id));
    kv.write(batch)
}

fn dropped_key(id: CollectionId) -> Vec<u8> {
    [DROPPED, id.as_bytes()].concat()
}

fn unknown(name: &Name) -> Error {
    Error::not_found(format!("there is no collection `{}`", name.as_str()))
        .with_remedy("`strongroom collection list` shows the collections, `strongroom collection create` makes one")
}

fn seal(context: &CollectionContext, epoch: Epoch, id: CollectionId, description: &Description) -> Result<Vec<u8>> {
    let key = context.keyring.sealing(Label::Catalog, epoch, b"")?;
    key.seal(&place(context, &id), encode(description)?.expose_secret())
}

fn unseal(context: &CollectionContext, id: CollectionId, sealed: &[u8]) -> Result<Description> {
    let key = context.keyring.sealing(Label::Catalog, record::claimed_epoch(sealed)?, b"")?;
    let plain = key.open(&place(context, &id), sealed)?;
    decode(plain.expose_secret())
}

fn encode(description: &Description) -> Result<SecretBytes> {
    let mut plain = FORMAT.to_vec();
    serde_json::to_writer(&mut plain, description).map_err(|e| Error::internal("encoding").with_source(e))?;
    Ok(SecretBytes::new(plain))
}

fn decode(plain: &[u8]) -> Result<Description> {
    match plain.strip_prefix(&FORMAT) {
        Some(json) => serde_json::from_slice(json).map_err(|_| crypto::open_failed()),
        None => postcard::from_bytes(plain).map_err(|_| crypto::open_failed()),
    }
}

fn place<'a>(context: &'a CollectionContext, id: &'a CollectionId) -> Place<'a> {
    Place {
        tenant: context.keyring.tenant(),
        store: StoreKind::Catalog,
        scope: b"collections",
        record: id.as_bytes(),
        version: DESCRIPTION_VERSION,
        field: Field::Collection,
        embedding: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::Mode;

    fn description() -> Description {
        let spec = CollectionSpec::new(384, Metric::Cosine);
        Description { name: "\"docs\"".into(), kind: CollectionKind::Chunks, spec }
    }

    #[test]
    fn both_formats_are_read() {
        let json = encode(&description()).unwrap();
        for name in ["", "docs", &"n".repeat(255)] {
            let first = postcard::to_stdvec(&Description { name: name.into(), ..description() }).unwrap();
            assert!(decode(&first).unwrap().name == name);
        }
        let read = decode(json.expose_secret()).unwrap();
        assert!(read.name == description().name && read.spec == description().spec);
    }

    /// Bytes that the first format wrote, for `docs` with a vector of 384 by cosine: its modes were these two.
    #[test]
    fn modes_of_the_first_format_are_what_they_were() {
        for (byte, mode) in [(0, Mode::Sealed), (1, Mode::Plain)] {
            let stored = [&[4][..], b"docs", &[0, byte, 1, 0, 0x80, 0x03, 0, 0, 0]].concat();
            let read = decode(&stored).unwrap();
            assert!(read.name == "docs" && read.spec == description().spec.mode(mode));
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let json = encode(&description()).unwrap();
        let text =
            String::from_utf8_lossy(&json.expose_secret()[FORMAT.len()..]).replace("\"kind\"", "\"new\":1,\"kind\"");
        assert!(decode(&[&FORMAT[..], text.as_bytes()].concat()).is_err());
        assert!(decode(&[&FORMAT[..2], &[3], text.as_bytes()].concat()).is_err());
        assert!(decode(b"").is_err());
    }
}
