//! A Qdrant server as the vector engine, over gRPC.
//!
//! A collection has a place there: a random id, made when it comes to the server. `dedicated` is a physical collection for
//! the place alone, `shared` one for all places with vectors of the same shape, where every point carries the place as its
//! tag. Every message about points is made by `scope`, which puts the place into it; `link` sends no others.
//!
//! Writes are conditional on the version that is there, so that one which arrives late, after a newer one, changes nothing
//! (`manual/qdrant_server.md`).

mod collection;
mod link;
mod options;
mod point;
mod scope;

use std::sync::Arc;

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::{
    CollectionExistsRequest, CreateCollection, CreateFieldIndexCollection, DeleteCollection, FieldType,
    GetCollectionInfoRequest, HealthCheckRequest, HnswConfigDiff, KeywordIndexParams, ListCollectionsRequest,
    PayloadIndexParams, VectorParams, VectorParamsMap, VectorsConfig, vectors_config,
};

use crate::error::{Error, Result};

use super::engine::{EngineCollection, Shape, VectorBackend};
use super::{CollectionId, Metric, Placement};
use collection::ServerCollection;
use link::Link;
use scope::{Names, Scope};

pub use options::{ApiKey, QdrantUrl, ServerOptions};

/// The oldest version that has what is needed: conditional updates.
const OLDEST: [u32; 2] = [1, 16];
/// The vector that sealed points declare and never have.
const NO_VECTOR: &str = "none";
/// Edges of a point in the graph of its own place, or of its tag, where there is no graph of all.
const PART_M: u64 = 16;

/// A Qdrant server, which need not be there yet.
pub struct Server {
    link: Link,
    names: Names,
}

/// Collections of a server that are placed alike.
pub struct Placed {
    server: Arc<Server>,
    placement: Placement,
}

impl Server {
    /// A client of the server that `options` name.
    pub fn new(options: ServerOptions) -> Result<Arc<Self>> {
        let names = Names::new(options.prefix.clone(), &options.instance);
        Ok(Arc::new(Self { link: Link::new(options)?, names }))
    }

    /// Its collections that are placed by `placement`.
    pub fn placed(self: &Arc<Self>, placement: Placement) -> Placed {
        Placed { server: self.clone(), placement }
    }

    /// Checks that it is new enough, once it has answered that.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) while it is away, [`InvalidInput`](crate::ErrorKind::InvalidInput)
    /// when it is too old.
    pub fn check(&self) -> Result<()> {
        self.link.check_once(|| {
            let answer = self.link.about(HealthCheckRequest {}, |mut clients, request| async move {
                clients.qdrant.health_check(request).await
            })?;
            check_version(&answer.version)
        })
    }

    /// Removes everything of `place`, however it was placed.
    pub fn remove(&self, place: CollectionId) -> Result<()> {
        self.check()?;
        let dedicated = DeleteCollection { collection_name: self.names.dedicated(place), timeout: None };
        self.link.about_if_there(dedicated, |mut c, request| async move { c.collections.delete(request).await })?;
        let listed = self
            .link
            .about(ListCollectionsRequest {}, |mut c, request| async move { c.collections.list(request).await })?;
        let shared = listed.collections.into_iter().filter_map(|c| Scope::of_shared(&self.names, c.name, place));
        for scope in shared {
            // Somebody may have removed it since it was listed.
            let everything = scope.everything();
            self.link.points_if_there(everything, |mut c, request| async move { c.points.delete(request).await })?;
        }
        Ok(())
    }

    /// Makes the physical collection of `scope` if it is not there.
    fn ensure(&self, scope: &Scope, shape: &Shape) -> Result<()> {
        let collection_name = scope.physical().to_owned();
        let ask = CollectionExistsRequest { collection_name: collection_name.clone() };
        let exists = || {
            let answer = self
                .link
                .about(ask.clone(), |mut c, request| async move { c.collections.collection_exists(request).await })?;
            Ok::<_, Error>(answer.result.is_some_and(|result| result.exists))
        };
        if !exists()? {
            let create = create(collection_name.clone(), shape, scope.is_shared());
            let created = self.link.about(create, |mut c, request| async move { c.collections.create(request).await });
            // Somebody else may have been faster.
            if let Err(e) = created
                && !exists()?
            {
                return Err(e);
            }
        }
        self.ensure_indexes(collection_name, scope, shape)
    }

    /// Makes the indexes of what points are filtered by. Without one, a search in one place would look at all.
    fn ensure_indexes(&self, collection_name: String, scope: &Scope, shape: &Shape) -> Result<()> {
        let wanted = [(scope.is_shared(), point::PLACE), (shape.tags, point::TAG), (shape.tokens, point::TOKENS)];
        let wanted: Vec<&str> = wanted.iter().filter_map(|(wanted, field)| wanted.then_some(*field)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let ask = GetCollectionInfoRequest { collection_name: collection_name.clone() };
        let answer = self.link.about(ask, |mut c, request| async move { c.collections.get(request).await })?;
        let known = answer.result.map(|info| info.payload_schema).unwrap_or_default();
        for field in wanted.into_iter().filter(|field| !known.contains_key(*field)) {
            let message = index(collection_name.clone(), field, scope.is_shared());
            self.link.about(message, |mut c, request| async move { c.points.create_field_index(request).await })?;
        }
        Ok(())
    }
}

impl VectorBackend for Placed {
    fn open(&self, place: CollectionId, shape: &Shape) -> Result<Box<dyn EngineCollection>> {
        self.server.check()?;
        let scope = Scope::new(&self.server.names, place, self.placement, &shape.vectors);
        self.server.ensure(&scope, shape)?;
        Ok(Box::new(ServerCollection::new(self.server.clone(), scope, !shape.vectors.is_empty())))
    }

    fn drop_collection(&self, place: CollectionId) -> Result<()> {
        self.server.remove(place)
    }
}

fn create(collection_name: String, shape: &Shape, shared: bool) -> CreateCollection {
    let params =
        |size: usize, metric| VectorParams { size: size as u64, distance: distance(metric), ..VectorParams::default() };
    let mut map: std::collections::HashMap<String, VectorParams> =
        shape.vectors.iter().map(|v| (point::vector_name(v.position), params(v.size, v.metric))).collect();
    if map.is_empty() {
        map.insert(NO_VECTOR.to_owned(), params(1, Metric::Dot));
    }
    let hnsw = HnswConfigDiff { m: Some(0), payload_m: Some(PART_M), ..HnswConfigDiff::default() };
    CreateCollection {
        collection_name,
        hnsw_config: ((shared || shape.tags) && !shape.vectors.is_empty()).then_some(hnsw),
        vectors_config: Some(VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(VectorParamsMap { map })),
        }),
        ..CreateCollection::default()
    }
}

/// An index of keywords. The points of a place, or else of a tag, lie together; a graph is built for each of either, and
/// for tokens there would be far too many.
fn index(collection_name: String, field: &str, shared: bool) -> CreateFieldIndexCollection {
    let apart = if shared { point::PLACE } else { point::TAG };
    let keyword = KeywordIndexParams {
        is_tenant: (field == apart).then_some(true),
        enable_hnsw: Some(field != point::TOKENS),
        ..KeywordIndexParams::default()
    };
    CreateFieldIndexCollection {
        collection_name,
        wait: Some(true),
        field_name: field.to_owned(),
        field_type: Some(FieldType::Keyword.into()),
        field_index_params: Some(PayloadIndexParams { index_params: Some(IndexParams::KeywordIndexParams(keyword)) }),
        ..CreateFieldIndexCollection::default()
    }
}

fn distance(metric: Metric) -> i32 {
    use qdrant_client::qdrant::Distance;
    match metric {
        Metric::Cosine => Distance::Cosine,
        Metric::Dot => Distance::Dot,
        Metric::Euclid => Distance::Euclid,
    }
    .into()
}

/// `1.16.3`, `1.17.0-dev`.
fn check_version(version: &str) -> Result<()> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map(|n| n.parse::<u32>().ok());
    let found = [numbers.next().flatten(), numbers.next().flatten()];
    match found {
        [Some(major), Some(minor)] if [major, minor] >= OLDEST => Ok(()),
        _ => Err(Error::invalid(format!("Qdrant `{}` cannot be used", crate::id::shown(version)))
            .with_remedy(format!("use Qdrant {}.{} or newer", OLDEST[0], OLDEST[1]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn versions_before_conditional_updates_are_refused() {
        for good in ["1.16.0", "1.16.3", "1.17.0-dev", "v1.20.1", "2.0.0"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["1.15.9", "0.99.0", "", "1", "new", "-1.16.0"] {
            assert_eq!(check_version(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
