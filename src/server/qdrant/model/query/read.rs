//! The bodies of what is asked without a vector: pages, numbers, values, single points.

use serde::Deserialize;
use serde_json::Value;

use super::ask::OrderByBody;
use super::{LIMIT, Scroll};
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::select::{Wanted, WithPayload, WithVector};
use crate::server::qdrant::model::{PointId, RawFilter, no_shard_key};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct ScrollBody {
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    offset: Option<PointId>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    order_by: Option<OrderByBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct CountBody {
    #[serde(default)]
    pub(in crate::server::qdrant) shard_key: Option<Value>,
    #[serde(default)]
    pub(in crate::server::qdrant) filter: Option<RawFilter>,
    // What is counted is always exact.
    #[serde(default, rename = "exact")]
    _exact: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct FacetBody {
    #[serde(default)]
    pub(in crate::server::qdrant) shard_key: Option<Value>,
    pub(in crate::server::qdrant) key: String,
    #[serde(default)]
    pub(in crate::server::qdrant) limit: Option<usize>,
    #[serde(default)]
    pub(in crate::server::qdrant) filter: Option<RawFilter>,
    #[serde(default, rename = "exact")]
    _exact: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct PointsBody {
    #[serde(default)]
    pub(in crate::server::qdrant) shard_key: Option<Value>,
    pub(in crate::server::qdrant) ids: Vec<PointId>,
    #[serde(default)]
    pub(in crate::server::qdrant) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    pub(in crate::server::qdrant) with_vector: Option<WithVector>,
}

impl TryFrom<ScrollBody> for Scroll {
    type Error = Failure;

    fn try_from(body: ScrollBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        Ok(Self {
            offset: body.offset,
            limit: body.limit.unwrap_or(LIMIT),
            filter: body.filter,
            wanted: Wanted::new(body.with_payload, body.with_vector, true),
            order_by: body.order_by.map(Into::into),
        })
    }
}
