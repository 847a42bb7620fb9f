//! `apikey create|list|revoke`: who may call the Qdrant-compatible endpoint. A service takes changes up by itself.

use clap::Subcommand;
use serde_json::json;

use super::Global;
use super::memory::parse_ttl;
use super::output::{Output, time};
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, Result};
use crate::id::{Name, TenantId};
use crate::server::qdrant::apikey::{KeyBook, KeyEntry, KeyRole, NewKey};

#[derive(Subcommand)]
pub(super) enum ApikeyCommand {
    /// Make a key. It is shown once and kept nowhere
    Create {
        /// Whose collections it is for
        #[arg(long, short, env = "STRONGROOM_TENANT", value_name = "TENANT", required_unless_present = "metrics")]
        tenant: Option<TenantId>,
        /// What it may do: read points, write them as well, or make and drop collections as well
        #[arg(long, value_enum, default_value = "read", value_name = "ROLE", conflicts_with = "metrics")]
        role: Role,
        /// Make a key that reads the metrics of the whole service, and nothing else
        #[arg(long)]
        metrics: bool,
        /// Only for this collection; repeat for more [default: all of the tenant]
        #[arg(long = "collection", value_name = "NAME", conflicts_with = "metrics")]
        collections: Vec<Name>,
        /// How long it is good, as in 12h, 30d [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        expires: Option<u64>,
        /// What people call it
        #[arg(long, default_value = "", hide_default_value = true)]
        label: String,
    },
    /// List keys: what they are for, not what they are
    List,
    /// Make a key worthless
    Revoke {
        /// The first part of the key, as `list` shows it
        id: String,
    },
}

/// What a tenant's key is for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Role {
    /// Read points and what collections are
    Read,
    /// Write points as well
    Write,
    /// Make, change and drop collections as well
    Manage,
}

pub(super) fn run(global: &Global, command: ApikeyCommand, output: &Output) -> Result<()> {
    let options = global.options()?;
    if !options.dir().exists() {
        return Err(Error::not_found(format!("there is no store in `{}`", options.dir().display()))
            .with_remedy("run `strongroom init` first, or name the right directory with `--dir`"));
    }
    let book = KeyBook::new(options.api_keys());
    match command {
        ApikeyCommand::Create { tenant, role, metrics, collections, expires, label } => {
            let now = SystemClock.now_ms();
            let role = match role {
                _ if metrics => KeyRole::Metrics,
                Role::Read => KeyRole::Read,
                Role::Write => KeyRole::Write,
                Role::Manage => KeyRole::Manage,
            };
            let tenant = if metrics { None } else { tenant };
            let expires_at_ms = expires.map_or(0, |ms| now.saturating_add(ms));
            let (entry, key) = book.create(NewKey { role, tenant, collections, label, expires_at_ms }, now)?;
            let key = String::from_utf8_lossy(key.expose_secret());
            output.answer(&json!({"key": key, "id": entry.id, "expires_at_ms": entry.expires_at_ms}), |_| {
                output.remark("keep it: it is shown this once");
                key.to_string()
            })
        }
        ApikeyCommand::List => {
            let keys = book.list()?;
            output.answer(&keys, |keys| keys.iter().map(describe).collect())
        }
        ApikeyCommand::Revoke { id } => {
            // Who pastes the whole key means that one.
            let id = id.strip_prefix("srk_").map_or(id.as_str(), |rest| rest.split('_').next().unwrap_or(rest));
            let entry = book.revoke(id)?;
            output.answer(&json!({"revoked": entry.id}), |_| format!("revoked {}", entry.id))
        }
    }
}

fn describe(key: &KeyEntry) -> String {
    let whose = if key.tenant.is_empty() { String::new() } else { format!(" for {}", key.tenant) };
    let collections =
        if key.collections.is_empty() { String::new() } else { format!(", only {}", key.collections.join(", ")) };
    let until = match key.expires_at_ms {
        0 => String::new(),
        at if at <= SystemClock.now_ms() => format!(", expired {}", time(at)),
        at => format!(", until {}", time(at)),
    };
    let label = if key.label.is_empty() { String::new() } else { format!("  {}", key.label) };
    format!("{}  {}{whose}{collections}{until}{label}\n", key.id, key.role.as_str())
}
