//! Sentences for whole groups of calls that are not offered.

pub(super) const SNAPSHOTS: &str = "snapshots of one collection are not offered, since they would be sealed data without \
     the registry that proves it whole: have the operator make a backup with `strongroom backup create`";
pub(super) const CLUSTER: &str = "there is no cluster and there are no shards here: one process holds a tenant's \
     collections; use one collection for each part of your data";
pub(super) const DISCOVER: &str = "discovery is not offered, since pairs of examples are not scored in trusted memory: \
     ask with `recommend` and its strategy `best_score`, which takes positive and negative examples";
pub(super) const MATRIX: &str = "distances between many points at once are not offered: ask for the nearest of each point \
     with `query/batch`";
pub(super) const TELEMETRY: &str = "the state of the process is not told to tenants: the operator has `/metrics` and \
     `strongroom status`";
