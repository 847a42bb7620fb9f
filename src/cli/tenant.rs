//! `tenant create|list|show|shred`.

use clap::Subcommand;
use serde_json::json;

use super::Global;
use super::output::{Output, time};
use super::session::{describe as describe_session, json as session_json};
use crate::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, TenantId};
use crate::keys::{Profile, RootKeyRecord, RootKeyState, TenantRecord};

#[derive(Subcommand)]
pub(super) enum TenantCommand {
    /// Make a tenant: root key, signing key, first epoch, and the certificate that binds them
    Create {
        /// Its id: a-z, 0-9, `-`, `_`, `.`
        tenant: TenantId,
        /// Its algorithms: hybrid, pure, cnsa2 or fips
        #[arg(long, default_value_t)]
        profile: Profile,
        /// Open a first session for this agent
        #[arg(long, value_name = "AGENT")]
        agent: Option<AgentId>,
    },
    /// List tenants
    List,
    /// Show a tenant's keys by fingerprint, and its collections
    Show {
        /// Its id
        tenant: TenantId,
    },
    /// Destroy a tenant's keys, so that its data is unreadable everywhere, in backups too, and then its data
    Shred {
        /// Its id
        tenant: TenantId,
        /// Really
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(global: &Global, command: TenantCommand, output: &Output) -> Result<()> {
    if let TenantCommand::Shred { tenant, yes: false } = &command {
        return Err(Error::invalid(format!("shredding `{}` destroys its data for ever", tenant.as_str()))
            .with_remedy("add `--yes` if that is what you want"));
    }
    let store = global.open().await?;
    let result = match command {
        TenantCommand::Create { tenant, profile, agent } => create(&store, &tenant, profile, agent, output).await,
        TenantCommand::List => match store.tenants().await {
            Ok(tenants) => {
                let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
                output.answer(&names, |names| names.join("\n"))
            }
            Err(e) => Err(e),
        },
        TenantCommand::Show { tenant } => show(&store, &tenant, output).await,
        TenantCommand::Shred { tenant, .. } => shred(&store, &tenant, output).await,
    };
    store.close().await.and(result)
}

async fn create(
    store: &Store,
    tenant: &TenantId,
    profile: Profile,
    agent: Option<AgentId>,
    output: &Output,
) -> Result<()> {
    let made = store.onboard_tenant(tenant, profile, agent.as_ref()).await?;
    let answer = json!({
        "tenant": tenant.as_str(),
        "keys": made.record,
        "session": made.session.as_ref().map(session_json),
    });
    output.answer(&answer, |_| {
        let mut text = format!("created {}", describe(tenant, &made.record));
        if let (Some(session), Some(agent)) = (&made.session, &agent) {
            text += &format!("  {}\n", describe_session(agent, session));
        }
        text
    })
}

async fn show(store: &Store, tenant: &TenantId, output: &Output) -> Result<()> {
    let keys = store.tenant_keys(tenant).await?;
    let open = store.tenant(tenant).await?;
    let collections: Vec<String> = open.collections().iter().map(|c| c.name().to_owned()).collect();
    let answer = json!({ "tenant": tenant.as_str(), "keys": keys, "collections": collections });
    output.answer(&answer, |_| {
        let mut text = describe(tenant, &keys);
        for name in &collections {
            text += &format!("  collection {name}\n");
        }
        text
    })
}

fn describe(tenant: &TenantId, keys: &TenantRecord) -> String {
    let mut text = format!("tenant {}, profile {}, made {}\n", tenant.as_str(), keys.profile, time(keys.created_at_ms));
    text += &format!("  root key (ML-KEM-1024): {}\n", keys.root_fingerprint);
    for root in keys.root_keys.iter().filter(|root| root.state != RootKeyState::Active) {
        text += &format!("  earlier {}\n", describe_root(root));
    }
    text += &format!("  signing key ({}): {}\n", keys.profile.signature().as_str(), keys.signing_fingerprint);
    text += &format!("  certificate: {}\n", keys.certificate_fingerprint);
    keys.epochs.iter().map(super::epoch::describe).for_each(|line| text += &format!("  {line}\n"));
    text
}

/// One root key, on one line.
pub(super) fn describe_root(root: &RootKeyRecord) -> String {
    let epochs = root.epochs.iter().map(|epoch| epoch.to_string()).collect::<Vec<_>>().join(", ");
    let kept = if epochs.is_empty() { String::new() } else { format!(", kept for epochs {epochs}") };
    format!("root key {} ({} since {}){kept}", root.fingerprint, root.state, time(root.since_ms))
}

async fn shred(store: &Store, tenant: &TenantId, output: &Output) -> Result<()> {
    match store.shred_tenant(tenant).await {
        Ok(record) => {
            let answer = json!({ "shredded": tenant.as_str(), "keys": record });
            output.answer(&answer, |_| {
                let epochs = record.epochs.iter().map(|e| format!("{} ({})", e.epoch, e.fingerprint));
                format!(
                    "shredded {}: root key {}, epochs {}; what backups hold of it is unreadable",
                    tenant.as_str(),
                    record.root_fingerprint,
                    epochs.collect::<Vec<_>>().join(", ")
                )
            })
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Err(e.with_remedy("`strongroom tenant list` shows the tenants")),
        Err(e) => Err(e),
    }
}
