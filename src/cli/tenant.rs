//! `tenant create|list|show`.

use clap::Subcommand;
use serde_json::json;

use super::Global;
use super::output::{Output, time};
use crate::error::Result;
use crate::id::TenantId;

#[derive(Subcommand)]
pub(super) enum TenantCommand {
    /// Make a tenant with root key and first epoch
    Create {
        /// Its id: a-z, 0-9, `-`, `_`, `.`
        tenant: TenantId,
    },
    /// List tenants
    List,
    /// Show a tenant's keys by fingerprint, and its collections
    Show {
        /// Its id
        tenant: TenantId,
    },
}

pub(super) async fn run(global: &Global, command: TenantCommand, output: &Output) -> Result<()> {
    let store = global.open().await?;
    let result = match command {
        TenantCommand::Create { tenant } => match store.create_tenant(&tenant).await {
            Ok(_) => show(&store, &tenant, output, "created ").await,
            Err(e) => Err(e),
        },
        TenantCommand::List => match store.tenants().await {
            Ok(tenants) => {
                let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
                output.answer(&names, |names| names.join("\n"))
            }
            Err(e) => Err(e),
        },
        TenantCommand::Show { tenant } => show(&store, &tenant, output, "").await,
    };
    store.close().await.and(result)
}

async fn show(store: &crate::Store, tenant: &TenantId, output: &Output, verb: &str) -> Result<()> {
    let keys = store.tenant_keys(tenant).await?;
    let open = store.tenant(tenant).await?;
    let collections: Vec<String> = open.collections().iter().map(|c| c.name().to_owned()).collect();
    let answer = json!({ "tenant": tenant.as_str(), "keys": keys, "collections": collections });
    output.answer(&answer, |_| {
        let mut text = format!(
            "{verb}tenant {}, made {}\n  root key (ML-KEM-1024): {}\n",
            tenant.as_str(),
            time(keys.created_at_ms),
            keys.root_fingerprint
        );
        for e in &keys.epochs {
            text += &format!("  epoch {} ({}): {}, {}\n", e.epoch, e.state, e.suite, e.fingerprint);
        }
        for name in &collections {
            text += &format!("  collection {name}\n");
        }
        text
    })
}
