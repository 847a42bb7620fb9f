//! Guards against a change of mode that hides or doubles a record from who reads meanwhile, loses a write, leaves something
//! of the old form behind, or leaves the collection in neither mode when it is interrupted.

mod common;
#[path = "mode_change/kill.rs"]
mod kill;
#[path = "mode_change/meanwhile.rs"]
mod meanwhile;
#[path = "mode_change/remains.rs"]
mod remains;
#[path = "mode_change/servers.rs"]
mod servers;
#[path = "mode_change/tool.rs"]
mod tool;

use strongroom::{Mode, Tenant};

/// From `sealed` through every ordered pair of modes, and back.
const WALK: [Mode; 6] = [Mode::Veiled, Mode::Plain, Mode::Sealed, Mode::Plain, Mode::Veiled, Mode::Sealed];

async fn is_clean(tenant: &Tenant) {
    let report = tenant.verify(|_| ()).await.unwrap();
    assert!(report.is_clean(), "{}", serde_json::to_string(&report).unwrap());
}

fn shards(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir.join("data/shards")).unwrap().count()
}
