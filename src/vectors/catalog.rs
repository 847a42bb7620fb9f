//! The collections of one tenant: made, found by name, listed, dropped. Their names exist only sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crypto;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, Name};
use crate::keys::{Label, Writing};
use crate::kv::{Batch, KvBackend, Table};
use crate::record::{self, Field, Packing, Place, StoreKind};
use crate::secret::SecretBytes;

use super::blind::FieldIndexSpec;
use super::collection::Describing;
use super::notes::{self, Notes};
use super::router::{self, Home, Router, Target};
use super::shaping::NoiseKey;
use super::{
    Collection, CollectionContext, CollectionId, CollectionKind, CollectionSpec, Engine, Metric, Migration, Mode,
    VectorParams,
};

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
    notes: RwLock<Arc<Notes>>,
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
    /// Where it is at a server, if it is at one; or in this process, if it changed its mode there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Uuid>,
    /// Once it was to become veiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noise: Option<NoiseKey>,
}

impl Description {
    fn home(&self) -> Result<Home> {
        match (self.spec.engine, self.place) {
            (Engine::Edge, None) => Ok(Home::Edge),
            (Engine::Edge, Some(place)) => Ok(Home::Shard { place }),
            (Engine::Server(placement), Some(place)) => Ok(Home::Server { placement, place }),
            _ => Err(crypto::open_failed()),
        }
    }

    fn move_to(&mut self, home: &Home) {
        (self.spec.engine, self.place) = (home.engine(), home.place());
    }
}

/// What the first format had, field by field: postcard cannot leave out what has come since.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct First {
    name: String,
    kind: CollectionKind,
    spec: FirstSpec,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct FirstSpec {
    mode: FirstMode,
    vectors: BTreeMap<String, VectorParams>,
    packing: Packing,
}

/// Postcard counts variants: a mode that came later would take the place of another.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
enum FirstMode {
    Sealed,
    Plain,
}

impl From<First> for Description {
    fn from(First { name, kind, spec }: First) -> Self {
        let FirstSpec { mode, vectors, packing } = spec;
        let mode = match mode {
            FirstMode::Sealed => Mode::Sealed,
            FirstMode::Plain => Mode::Plain,
        };
        let spec = CollectionSpec { vectors, ..CollectionSpec::without_vectors() }.mode(mode).packing(packing);
        Self { name, kind, spec, place: None, noise: None }
    }
}

impl Catalog {
    /// Opens the descriptions of the tenant with `tenant_tag`.
    pub fn open(tenant_tag: [u8; 16], context: CollectionContext) -> Result<Self> {
        let (mut collections, mut said) = (BTreeMap::new(), Notes::default());
        for row in context.kv.scan(Table::Catalog, &tenant_tag) {
            let (key, value) = row?;
            if notes::is_key(&key) {
                said = notes::unseal(&context, &tenant_tag, &value)?;
                continue;
            }
            let id = CollectionId::try_from(key.get(16..).unwrap_or_default())?;
            let description = unseal(&context, id, &value)?;
            let home = description.home()?;
            let Description { name, kind, spec, noise, .. } = description;
            let collection = Collection::new(id, name.clone(), kind, spec, home, noise.as_ref(), context.clone())?;
            collections.insert((kind as Kind, name), Arc::new(collection));
        }
        Ok(Self { tenant_tag, context, collections: RwLock::new(collections), notes: RwLock::new(Arc::new(said)) })
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
        // The collection is gone; what a server holds of it that is away goes later.
        router::later_if_away(remove_dropped(&*self.context.kv, &self.context.engine, id))
    }

    /// Moves the points of the collection called `name` to another engine or placement, while everybody goes on reading
    /// and writing. A move that was interrupted is taken up again; one to where the collection is ends another.
    pub fn migrate(&self, name: &Name, engine: Engine, progress: &mut dyn FnMut(Migration)) -> Result<Migration> {
        self.context.engine.check(engine)?;
        self.move_on(name, Some(engine), None, progress)
    }

    /// Protects the embeddings of the collection called `name` by another mode, in the engine where it is, while everybody
    /// goes on reading and writing. A change that was interrupted is taken up again; one to the mode that the collection
    /// has ends another.
    pub fn change_mode(&self, name: &Name, mode: Mode, progress: &mut dyn FnMut(Migration)) -> Result<Migration> {
        self.move_on(name, None, Some(mode), progress)
    }

    /// Moves to this engine and mode; `None` is the one that the collection has.
    fn move_on(
        &self,
        name: &Name,
        engine: Option<Engine>,
        mode: Option<Mode>,
        progress: &mut dyn FnMut(Migration),
    ) -> Result<Migration> {
        let collection = self.get(name)?;
        let (kv, id) = (&*self.context.kv, collection.id());
        let _moving = collection.start_moving()?;
        mode.map_or(Ok(()), |mode| collection.check_mode(mode))?;
        router::clear_leaving(kv, &self.context.engine, id)?;
        let mode = mode.filter(|mode| *mode != collection.mode());
        let target = self.target(&collection, engine.unwrap_or(collection.engine()), mode)?;
        let Some(target) = target else { return Ok(Migration::default()) };
        if mode == Some(Mode::Veiled) {
            self.give_noise(name, &collection)?;
        }
        let from = collection.home();
        // The description may be sealed anew meanwhile: nobody does that while this is held.
        let hold = || self.collections.write();
        let commit = |writing: &Writing<'_>, mut batch: Batch| {
            let sealed = kv.get(Table::Catalog, &self.key(id))?.ok_or_else(|| unknown(name))?;
            let mut description = unseal(&self.context, id, &sealed)?;
            description.move_to(&target.home);
            description.spec.mode = target.mode.unwrap_or(description.spec.mode);
            batch.put(Table::Catalog, self.key(id), seal(&self.context, writing.epoch(), id, &description)?);
            if description.spec.mode != Mode::Sealed {
                batch.delete_prefix(Table::Graph, id.as_bytes());
            }
            router::leave(&mut batch, id, &from)?;
            // Who reads the database reads this from here on. Whether a power loss would undo it matters only before
            // what was left is removed: nothing that is acknowledged later is on disk before it.
            kv.write(batch)
        };
        let moved = collection.migrate(target, &Describing { hold, commit }, progress)?;
        router::later_if_away(router::clear_leaving(kv, &self.context.engine, id))?;
        Ok(moved)
    }

    /// Where a move to `engine`, or to another mode, leads, noted; `None` when the collection is there. What moves
    /// elsewhere have made is removed.
    fn target(&self, collection: &Collection, engine: Engine, mode: Option<Mode>) -> Result<Option<Target>> {
        let (kv, id, home) = (&*self.context.kv, collection.id(), collection.home());
        if let Some(before) = router::moving(kv, id)?.filter(|before| before.home != home) {
            if before.home.engine() == engine && before.mode == mode {
                return Ok(Some(before));
            }
            self.context.engine.remove(kv, id, &before.home)?;
        }
        let mut batch = Batch::default();
        router::stay(&mut batch, id);
        let is_there = home.engine() == engine && mode.is_none();
        let target = if is_there { None } else { Some(Target::new(engine, mode)?) };
        if let Some(target) = &target {
            router::move_to(&mut batch, id, target)?;
        }
        kv.write(batch)?;
        kv.sync()?;
        Ok(target)
    }

    /// Gives a collection that is to become veiled a key for the noise of what it has, unless it has one.
    fn give_noise(&self, name: &Name, collection: &Collection) -> Result<()> {
        let writing = self.context.keyring.writing();
        let _collections = self.collections.write();
        let key = self.key(collection.id());
        let sealed = self.context.kv.get(Table::Catalog, &key)?.ok_or_else(|| unknown(name))?;
        let mut description = unseal(&self.context, collection.id(), &sealed)?;
        if description.noise.is_some() {
            return Ok(());
        }
        let noise = description.noise.insert(NoiseKey::random()?).key(self.context.keyring.provider());
        let mut batch = Batch::default();
        batch.put(Table::Catalog, key, seal(&self.context, writing.epoch(), collection.id(), &description)?);
        self.context.kv.write(batch)?;
        self.context.kv.sync()?;
        collection.set_noise(noise);
        Ok(())
    }

    /// Says of every collection that it is in the embedded engine: in a copy whose points are loaded there. None of them
    /// may be open.
    pub(crate) fn bring_home(&self) -> Result<()> {
        let writing = self.context.keyring.writing();
        let mut collections = self.collections.write();
        for ((kind, name), collection) in collections.iter_mut().filter(|(_, c)| c.home() != Home::Edge) {
            let key = self.key(collection.id());
            let sealed = self.context.kv.get(Table::Catalog, &key)?.ok_or_else(crypto::open_failed)?;
            let mut description = unseal(&self.context, collection.id(), &sealed)?;
            description.move_to(&Home::Edge);
            let mut batch = Batch::default();
            let sealed = seal(&self.context, writing.epoch(), collection.id(), &description)?;
            batch.put(Table::Catalog, key, sealed);
            self.context.kv.write(batch)?;
            debug_assert_eq!(*kind, description.kind as Kind);
            let (id, name) = (collection.id(), name.clone());
            let Description { kind, spec, noise, .. } = description;
            let context = self.context.clone();
            *collection = Arc::new(Collection::new(id, name, kind, spec, Home::Edge, noise.as_ref(), context)?);
        }
        Ok(())
    }

    /// What was said of collections.
    pub fn notes(&self) -> Arc<Notes> {
        self.notes.read().clone()
    }

    /// Says something else of them, once it is on disk. What was said of collections that are gone is forgotten.
    pub fn change_notes<T>(&self, change: impl FnOnce(&mut Notes) -> Result<T>) -> Result<T> {
        let writing = self.context.keyring.writing();
        // Nobody makes or drops a collection meanwhile.
        let collections = self.collections.read();
        let mut said = self.notes.write();
        let mut new = Notes::clone(&said);
        let done = change(&mut new)?;
        new.keep(|id| collections.values().any(|collection| collection.id().to_string() == id));
        let mut batch = Batch::default();
        let sealed = notes::seal(&self.context, writing.epoch(), &self.tenant_tag, &new)?;
        batch.put(Table::Catalog, notes::key(&self.tenant_tag), sealed);
        self.context.kv.write(batch)?;
        self.context.kv.sync()?;
        *said = Arc::new(new);
        Ok(done)
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
        self.context.engine.check(spec.engine)?;
        let mut collections = self.collections.write();
        let key = (kind as Kind, name.to_owned());
        if collections.contains_key(&key) {
            return Err(Error::new(ErrorKind::Conflict, format!("collection `{name}` exists already"))
                .with_remedy("use it, drop it first, or choose another name"));
        }
        let (id, home) = (CollectionId::random()?, Home::new(spec.engine)?);
        let description = Description { name: name.to_owned(), kind, spec, place: home.place(), noise: None };
        let mut batch = Batch::default();
        home.note(&mut batch, id);
        batch.put(Table::Catalog, self.key(id), seal(&self.context, writing.epoch(), id, &description)?);
        self.context.kv.write(batch)?;
        self.context.kv.sync()?;
        let context = self.context.clone();
        let collection = Arc::new(Collection::new(id, description.name, kind, description.spec, home, None, context)?);
        collections.insert(key, collection.clone());
        Ok(collection)
    }

    /// Declares `field` of the collection called `name` as `index`, or declares it no more. What is written from then on
    /// has tokens by that; [`Collection::make_tokens`] makes those of what was there before.
    pub(crate) fn declare(&self, name: &Name, field: &str, index: Option<FieldIndexSpec>) -> Result<()> {
        let writing = self.context.keyring.writing();
        // Nobody makes, drops or describes a collection meanwhile.
        let collections = self.collections.write();
        let collection = collections.get(&(CollectionKind::Chunks as Kind, name.as_str().to_owned()));
        let collection = collection.cloned().ok_or_else(|| unknown(name))?;
        let key = self.key(collection.id());
        let sealed = self.context.kv.get(Table::Catalog, &key)?.ok_or_else(|| unknown(name))?;
        let mut description = unseal(&self.context, collection.id(), &sealed)?;
        match index {
            Some(index) => description.spec.indexes.insert(field.to_owned(), index),
            None => description.spec.indexes.remove(field),
        };
        description.spec.validate()?;
        let mut batch = Batch::default();
        batch.put(Table::Catalog, key, seal(&self.context, writing.epoch(), collection.id(), &description)?);
        self.context.kv.write(batch)?;
        self.context.kv.sync()?;
        collection.set_declared(&description.spec.indexes)?;
        // A move that ends holds off writes and then waits for this.
        drop(collections);
        collection.await_sealing();
        Ok(())
    }

    /// Seals every description anew that is not sealed in the active epoch. Returns how many there were.
    pub(crate) fn rotate(&self) -> Result<u64> {
        let writing = self.context.keyring.writing();
        // Nobody makes or drops a collection meanwhile.
        let _collections = self.collections.write();
        let (mut batch, mut moved) = (Batch::default(), 0);
        for row in self.context.kv.scan(Table::Catalog, &self.tenant_tag) {
            let (key, value) = row?;
            if record::claimed_epoch(&value)? == writing.epoch() {
                continue;
            }
            if notes::is_key(&key) {
                let said = notes::unseal(&self.context, &self.tenant_tag, &value)?;
                batch.put(Table::Catalog, key, notes::seal(&self.context, writing.epoch(), &self.tenant_tag, &said)?);
                moved += 1;
            } else {
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
pub(crate) fn remove_tenant(kv: &dyn KvBackend, engine: &Router, tenant_tag: &[u8; 16]) -> Result<()> {
    let rows: Vec<_> = kv.scan(Table::Catalog, tenant_tag).collect::<Result<_>>()?;
    rows.into_iter().try_for_each(|(key, _)| {
        if notes::is_key(&key) {
            let mut batch = Batch::default();
            batch.frees_space();
            batch.delete(Table::Catalog, key);
            return kv.write(batch);
        }
        let id = CollectionId::try_from(key.get(tenant_tag.len()..).unwrap_or_default())?;
        remove_collection(kv, engine, tenant_tag, id)
    })
}

/// Removes a collection of a tenant, with or without its keys. It must not be open.
pub(crate) fn remove_collection(
    kv: &dyn KvBackend,
    engine: &Router,
    tenant_tag: &[u8; 16],
    id: CollectionId,
) -> Result<()> {
    forget(kv, tenant_tag, id)?;
    router::later_if_away(remove_dropped(kv, engine, id))
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
    batch.delete_prefix(Table::Graph, id.as_bytes());
    super::veiling::forget_parts(&mut batch, id);
    kv.write(batch)?;
    kv.sync()
}

/// Removes what a drop left behind when its process ended, or a server was away. What cannot be removed stays for the next
/// time.
pub(crate) fn finish_drops(kv: &dyn KvBackend, engine: &Router) -> Result<()> {
    let dropped: Vec<_> = kv.scan(Table::Meta, DROPPED).collect::<Result<_>>()?;
    for (key, _) in dropped {
        let id = CollectionId::try_from(key.get(DROPPED.len()..).unwrap_or_default())?;
        router::later(remove_dropped(kv, engine, id));
    }
    Ok(())
}

fn remove_dropped(kv: &dyn KvBackend, engine: &Router, id: CollectionId) -> Result<()> {
    engine.remove_all(kv, id)?;
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
        None => postcard::from_bytes::<First>(plain).map(Into::into).map_err(|_| crypto::open_failed()),
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
    use crate::vectors::{Modifier, SparseParams};

    fn description() -> Description {
        let spec = CollectionSpec::new(384, Metric::Cosine);
        Description { name: "\"docs\"".into(), kind: CollectionKind::Chunks, spec, place: None, noise: None }
    }

    fn first(name: &str) -> Vec<u8> {
        let CollectionSpec { vectors, packing, .. } = description().spec;
        let spec = FirstSpec { mode: FirstMode::Sealed, vectors, packing };
        let first = First { name: name.into(), kind: CollectionKind::Chunks, spec };
        postcard::to_stdvec(&first).unwrap()
    }

    #[test]
    fn both_formats_are_read() {
        let json = encode(&description()).unwrap();
        for name in ["", "docs", &"n".repeat(255)] {
            let read = decode(&first(name)).unwrap();
            assert!(read.name == name && read.spec == description().spec);
        }
        let read = decode(json.expose_secret()).unwrap();
        assert!(read.name == description().name && read.spec == description().spec);
    }

    /// Bytes that the first format wrote, for `docs` with a vector of 384 by cosine.
    #[test]
    fn a_stored_description_of_the_first_format_is_read() {
        for (number, mode) in [(0, Mode::Sealed), (1, Mode::Plain)] {
            let stored = [&[4][..], b"docs", &[0, number, 1, 0, 0x80, 0x03, 0, 0, 0]].concat();
            let read = decode(&stored).unwrap();
            assert!(read.name == "docs" && read.kind == CollectionKind::Chunks);
            assert!(read.spec == description().spec.mode(mode), "{mode}");
        }
    }

    #[test]
    fn sparse_vectors_are_kept() {
        let spec = CollectionSpec::without_vectors().sparse([("words", SparseParams { modifier: Modifier::Idf })]);
        let json = encode(&Description { spec: spec.clone(), ..description() }).unwrap();
        assert!(decode(json.expose_secret()).unwrap().spec == spec);
        let without = encode(&description()).unwrap();
        assert!(!String::from_utf8_lossy(without.expose_secret()).contains("sparse"), "as before sparse vectors came");
    }

    #[test]
    fn declared_fields_are_kept() {
        use crate::vectors::blind::IndexKind;
        let spec = description().spec.index("city", FieldIndexSpec::new(IndexKind::Keyword).with_prefix());
        let json = encode(&Description { spec: spec.clone(), ..description() }).unwrap();
        assert!(decode(json.expose_secret()).unwrap().spec == spec);
        let without = encode(&description()).unwrap();
        assert!(!String::from_utf8_lossy(without.expose_secret()).contains("indexes"), "as before there were any");
    }

    /// As the first releases wrote it, byte by byte.
    #[test]
    fn a_description_of_the_first_format_stays_readable() {
        let written = [&b"\x04docs\x00"[..], b"\x00", b"\x01\x00\x80\x03\x00", b"\x00\x00"].concat();
        let read = decode(&written).unwrap();
        assert!(read.name == "docs" && read.spec == description().spec && read.home().unwrap() == Home::Edge);
        assert_eq!(first("docs"), written);
    }

    /// As releases before there were servers wrote it.
    #[test]
    fn a_description_without_an_engine_is_of_the_embedded_one() {
        let json = String::from_utf8(encode(&description()).unwrap().expose_secret()[FORMAT.len()..].to_vec()).unwrap();
        let before = json.replace(",\"engine\":\"edge\"", "");
        assert!(before.len() < json.len());
        let read = decode(&[&FORMAT[..], before.as_bytes()].concat()).unwrap();
        assert!(read.spec == description().spec && read.home().unwrap() == Home::Edge);
    }

    #[test]
    fn a_description_says_where_at_the_server_or_is_refused() {
        let home = Home::new(Engine::Server(crate::vectors::Placement::Shared)).unwrap();
        let mut moved = description();
        moved.move_to(&home);
        let read = decode(encode(&moved).unwrap().expose_secret()).unwrap();
        assert!(read.home().unwrap() == home);
        assert!(Description { place: None, ..read }.home().is_err());
    }

    #[test]
    fn a_description_keeps_what_a_change_of_mode_brought() {
        let home = Target::new(Engine::Edge, Some(Mode::Veiled)).unwrap().home;
        let mut changed = Description { noise: Some(NoiseKey::random().unwrap()), ..description() };
        changed.move_to(&home);
        let json = encode(&changed).unwrap();
        let read = decode(json.expose_secret()).unwrap();
        assert!(read.home().unwrap() == home && read.spec == description().spec);
        assert!(encode(&read).unwrap().expose_secret() == json.expose_secret());
        let without = encode(&description()).unwrap();
        assert!(!String::from_utf8_lossy(without.expose_secret()).contains("noise"), "as before modes changed");
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
