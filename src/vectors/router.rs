//! The engines of a store, and which of them a collection is in.
//!
//! What has to be cleaned up without a key stands in the table `meta`: `place/` ‖ collection ‖ place for every place that
//! a collection has, or may have, at a server, and `shard/` ‖ collection ‖ place for those in this process that are not
//! called as the collection is; `moving/` ‖ collection for where it moves to; `leaving/` ‖ collection for where it moved
//! away from and something may be left. A home is written as JSON. `instance` is the store's id at servers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Batch, KvBackend, Table};

use super::engine::{EngineCollection, Shape, VectorBackend};
use super::server::Server;
use super::{CollectionId, Engine, Mode, Placement};

const PLACES: &[u8] = b"place/";
const SHARDS: &[u8] = b"shard/";
const MOVING: &[u8] = b"moving/";
const LEAVING: &[u8] = b"leaving/";
const INSTANCE: &[u8] = b"instance";

/// The engines of a store. Clones share them.
#[derive(Clone)]
pub struct Router {
    edge: Arc<dyn VectorBackend>,
    server: Option<Arc<Server>>,
}

/// Where the points of a collection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Home {
    /// In this process, under the collection's own id.
    Edge,
    /// In this process, at this place: it came there with another mode.
    Shard { place: Uuid },
    /// At this place of the server.
    Server { placement: Placement, place: Uuid },
}

/// Where a collection moves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(super) home: Home,
    /// How it is protected there; `None` is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<Mode>,
}

impl Target {
    /// One in `engine`; with another mode always one that nobody had before.
    pub(super) fn new(engine: Engine, mode: Option<Mode>) -> Result<Self> {
        let home = match (engine, mode) {
            (Engine::Edge, Some(_)) => Home::Shard { place: new_place()? },
            _ => Home::new(engine)?,
        };
        Ok(Self { home, mode })
    }
}

fn new_place() -> Result<Uuid> {
    Ok(Uuid::from_bytes(*CollectionId::random()?.as_bytes()))
}

impl Home {
    /// One in `engine`: at a server, a place of its own that nobody had before.
    pub(super) fn new(engine: Engine) -> Result<Self> {
        Ok(match engine {
            Engine::Edge => Self::Edge,
            Engine::Server(placement) => Self::Server { placement, place: new_place()? },
        })
    }

    pub(super) fn engine(&self) -> Engine {
        match self {
            Self::Edge | Self::Shard { .. } => Engine::Edge,
            Self::Server { placement, .. } => Engine::Server(*placement),
        }
    }

    pub(super) fn place(&self) -> Option<Uuid> {
        match self {
            Self::Edge => None,
            Self::Shard { place } | Self::Server { place, .. } => Some(*place),
        }
    }

    /// Notes in `batch` that the collection `id` has something there: before it has.
    pub(super) fn note(&self, batch: &mut Batch, id: CollectionId) {
        match self {
            Self::Edge => {}
            Self::Shard { place } => batch.put(Table::Meta, key(SHARDS, id, place.as_bytes()), []),
            Self::Server { place, .. } => batch.put(Table::Meta, key(PLACES, id, place.as_bytes()), []),
        }
    }
}

impl Router {
    /// `edge` alone.
    pub fn new(edge: Arc<dyn VectorBackend>) -> Self {
        Self { edge, server: None }
    }

    /// With a server beside it.
    #[must_use]
    pub fn with_server(mut self, server: Arc<Server>) -> Self {
        self.server = Some(server);
        self
    }

    /// Opens the collection `id` in its home.
    pub(super) fn open(&self, id: CollectionId, home: &Home, shape: &Shape) -> Result<Box<dyn EngineCollection>> {
        match home {
            Home::Edge => self.edge.open(id, shape),
            Home::Shard { place } => self.edge.open((*place).into(), shape),
            Home::Server { placement, place } => self.server()?.placed(*placement).open((*place).into(), shape),
        }
    }

    /// Removes what the collection `id` has in `home`.
    pub(super) fn remove(&self, kv: &dyn KvBackend, id: CollectionId, home: &Home) -> Result<()> {
        match home {
            Home::Edge => self.edge.drop_collection(id),
            Home::Shard { place } => self.remove_shard(kv, id, *place),
            Home::Server { place, .. } => self.remove_place(kv, id, *place),
        }
    }

    /// Removes everything that the collection `id` has anywhere.
    pub(super) fn remove_all(&self, kv: &dyn KvBackend, id: CollectionId) -> Result<()> {
        self.edge.drop_collection(id)?;
        noted(kv, SHARDS, id)?.into_iter().try_for_each(|place| self.remove_shard(kv, id, place))?;
        places(kv, id)?.into_iter().try_for_each(|place| self.remove_place(kv, id, place))?;
        let mut batch = Batch::default();
        batch.frees_space();
        batch.delete(Table::Meta, key(MOVING, id, b""));
        batch.delete(Table::Meta, key(LEAVING, id, b""));
        kv.write(batch)
    }

    fn remove_shard(&self, kv: &dyn KvBackend, id: CollectionId, place: Uuid) -> Result<()> {
        self.edge.drop_collection(place.into())?;
        let mut batch = Batch::default();
        batch.frees_space();
        batch.delete(Table::Meta, key(SHARDS, id, place.as_bytes()));
        kv.write(batch)
    }

    fn remove_place(&self, kv: &dyn KvBackend, id: CollectionId, place: Uuid) -> Result<()> {
        self.server()?.remove(place.into())?;
        let mut batch = Batch::default();
        batch.frees_space();
        batch.delete(Table::Meta, key(PLACES, id, place.as_bytes()));
        kv.write(batch)
    }

    /// Refuses an engine that there is not.
    pub(super) fn check(&self, engine: Engine) -> Result<()> {
        match engine {
            Engine::Edge => Ok(()),
            Engine::Server(_) => self.server().map(|_| ()),
        }
    }

    fn server(&self) -> Result<&Arc<Server>> {
        self.server.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the collection is in a Qdrant server, and none is named")
                .with_remedy("set `qdrant_url` to its address")
        })
    }
}

impl<T: VectorBackend + 'static> From<Arc<T>> for Router {
    fn from(edge: Arc<T>) -> Self {
        Self::new(edge)
    }
}

/// The places that the collection `id` has, or may have, at a server.
pub(super) fn places(kv: &dyn KvBackend, id: CollectionId) -> Result<Vec<Uuid>> {
    noted(kv, PLACES, id)
}

fn noted(kv: &dyn KvBackend, prefix: &[u8], id: CollectionId) -> Result<Vec<Uuid>> {
    let rows = kv.scan(Table::Meta, &key(prefix, id, b""));
    let place = |row: Result<crate::kv::Row>| {
        let (key, _) = row?;
        let place = key.get(prefix.len() + 16..).and_then(|place| Uuid::from_slice(place).ok());
        place.ok_or_else(|| Error::integrity("a note of a place"))
    };
    rows.map(place).collect()
}

/// Where the collection `id` moves to, if it does.
pub(super) fn moving(kv: &dyn KvBackend, id: CollectionId) -> Result<Option<Target>> {
    kv.get(Table::Meta, &key(MOVING, id, b""))?.map(|row| parse_target(&row)).transpose()
}

/// Notes in `batch` that the collection `id` moves to `target`.
pub(super) fn move_to(batch: &mut Batch, id: CollectionId, target: &Target) -> Result<()> {
    target.home.note(batch, id);
    batch.put(Table::Meta, key(MOVING, id, b""), to_row(target)?);
    Ok(())
}

/// Notes in `batch` that the collection `id` moves no more.
pub(super) fn stay(batch: &mut Batch, id: CollectionId) {
    batch.delete(Table::Meta, key(MOVING, id, b""));
}

/// Notes in `batch` that the collection `id` has moved away from `home`.
pub(super) fn leave(batch: &mut Batch, id: CollectionId, home: &Home) -> Result<()> {
    stay(batch, id);
    batch.put(Table::Meta, key(LEAVING, id, b""), to_row(home)?);
    Ok(())
}

/// Removes what the collection `id` left behind where it moved away from.
pub(super) fn clear_leaving(kv: &dyn KvBackend, router: &Router, id: CollectionId) -> Result<()> {
    let Some(row) = kv.get(Table::Meta, &key(LEAVING, id, b""))? else { return Ok(()) };
    // That it has moved away must outlive what is there.
    kv.sync()?;
    // With another mode, the journal's rows were removed that have vectors as they are not to be seen any more.
    kv.purge(Table::Journal, id.as_bytes())?;
    router.remove(kv, id, &parse(&row)?)?;
    let mut batch = Batch::default();
    batch.delete(Table::Meta, key(LEAVING, id, b""));
    kv.write(batch)
}

/// The same for all collections. What cannot be removed stays for the next time.
pub(crate) fn clear_leavings(kv: &dyn KvBackend, router: &Router) -> Result<()> {
    let rows: Vec<_> = kv.scan(Table::Meta, LEAVING).collect::<Result<_>>()?;
    for (key, _) in rows {
        let id = CollectionId::try_from(key.get(LEAVING.len()..).unwrap_or_default())?;
        later(clear_leaving(kv, router, id));
    }
    Ok(())
}

/// Turns a failure into a remark: nobody asked for this, and a store without it is one to use.
pub(super) fn later(result: Result<()>) {
    if let Err(e) = result {
        tracing::warn!(error = %e, "what a collection left behind could not be removed and will be tried again");
    }
}

/// Turns a failure of a server that is away into a remark.
pub(super) fn later_if_away(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Denied) => {
            tracing::warn!(error = %e, "what a collection left at Qdrant could not be removed and will be tried again");
            Ok(())
        }
        other => other,
    }
}

/// The random id of the store in the names of physical collections that it shares among its own: made when it is first
/// wanted. Empty in a store that had places before there was one.
pub(crate) fn instance(kv: &dyn KvBackend) -> Result<String> {
    if let Some(row) = kv.get(Table::Meta, INSTANCE)? {
        return String::from_utf8(row).map_err(|_| Error::integrity("the id of the store"));
    }
    let had_places = kv.scan(Table::Meta, PLACES).next().transpose()?.is_some();
    let instance = if had_places { String::new() } else { CollectionId::random()?.to_string() };
    let mut batch = Batch::default();
    batch.put(Table::Meta, INSTANCE, instance.as_bytes());
    kv.write(batch)?;
    kv.sync()?;
    Ok(instance)
}

/// Forgets everything that is noted of places: in a copy of a database, whose original may still use them at a server.
pub(crate) fn forget_places(kv: &dyn KvBackend) -> Result<()> {
    let mut batch = Batch::default();
    batch.frees_space();
    [PLACES, SHARDS, MOVING, LEAVING].iter().for_each(|prefix| batch.delete_prefix(Table::Meta, prefix));
    // The copy has points with the same ids: in a physical collection of the original they would be in the way.
    batch.delete(Table::Meta, INSTANCE);
    kv.write(batch)
}

fn key(prefix: &[u8], id: CollectionId, rest: &[u8]) -> Vec<u8> {
    [prefix, id.as_bytes(), rest].concat()
}

fn to_row(row: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(row).map_err(|e| Error::internal("encoding").with_source(e))
}

/// Before there were changes of mode, a target was a home alone.
fn parse_target(row: &[u8]) -> Result<Target> {
    serde_json::from_slice(row).or_else(|_| Ok(Target { home: parse(row)?, mode: None }))
}

fn parse(row: &[u8]) -> Result<Home> {
    serde_json::from_slice(row).map_err(|_| Error::integrity("a note of a move"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_as_it_was_written_and_as_it_was_before_there_were_modes() {
        let place = Uuid::from_u128(7);
        for home in [Home::Edge, Home::Shard { place }, Home::Server { placement: Placement::Shared, place }] {
            assert_eq!(parse(&to_row(&home).unwrap()).unwrap(), home);
            assert_eq!(parse_target(&to_row(&home).unwrap()).unwrap(), Target { home, mode: None });
            for mode in [None, Some(Mode::Sealed), Some(Mode::Veiled)] {
                let target = Target { home, mode };
                assert_eq!(parse_target(&to_row(&target).unwrap()).unwrap(), target);
            }
        }
        for bad in [&b""[..], b"{}", b"\"cloud\"", b"{\"home\":\"edge\",\"mode\":\"open\"}"] {
            assert!(parse_target(bad).is_err());
        }
    }
}
