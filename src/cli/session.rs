//! `session open|revoke`: an agent's session key and credential.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json as value};

use super::memory::parse_ttl;
use super::output::{Output, time};
use super::{Global, TenantArg};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, SessionId};
use crate::keys::certificate::{Certificate, to_pem};
use crate::keys::kms::Session;
use crate::limits;

#[derive(Subcommand)]
pub(super) enum SessionCommand {
    /// Open a session: its key stays with the keystore, its credential says whose it is
    Open {
        #[command(flatten)]
        tenant: TenantArg,
        /// The agent
        agent: AgentId,
        /// How long it lasts, at most a day: 90s, 15m, 12h
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
        lifetime: u64,
        /// Write the tenant's certificate and the credential here (PEM)
        #[arg(long, value_name = "FILE")]
        credential: Option<PathBuf>,
    },
    /// End a session now
    Revoke {
        #[command(flatten)]
        tenant: TenantArg,
        /// The session
        session: SessionId,
    },
}

pub(super) async fn run(global: &Global, command: SessionCommand, output: &Output) -> Result<()> {
    let store = global.open().await?;
    let result = match command {
        SessionCommand::Open { tenant, agent, lifetime, credential } => {
            match open(&store, &tenant, &agent, lifetime).await {
                Ok(session) => opened(&agent, &session, credential, output),
                Err(e) => Err(e),
            }
        }
        SessionCommand::Revoke { tenant, session } => match store.revoke_session(&tenant.tenant, session).await {
            Ok(()) => output.answer(&value!({ "revoked": session.to_string() }), |_| format!("revoked {session}")),
            Err(e) => Err(e),
        },
    };
    store.close().await.and(result)
}

/// A store that was just opened may have to make its first session keys: that is worth waiting for here.
async fn open(store: &crate::Store, tenant: &TenantArg, agent: &AgentId, lifetime_ms: u64) -> Result<Session> {
    let until = tokio::time::Instant::now() + std::time::Duration::from_millis(limits::POOL_WAIT_MS);
    loop {
        match store.open_session(&tenant.tenant, agent, lifetime_ms).await {
            Err(e) if e.kind() == ErrorKind::Unavailable && tokio::time::Instant::now() < until => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
}

fn opened(agent: &AgentId, session: &Session, credential: Option<PathBuf>, output: &Output) -> Result<()> {
    if let Some(file) = credential {
        let chain: Vec<_> = session.chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<_>>()?;
        std::fs::write(&file, to_pem(&chain)?).map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("`{}` cannot be written", file.display())).with_source(e)
        })?;
    }
    output.answer(&json(session), |_| describe(agent, session))
}

/// A session, for machines.
pub(super) fn json(session: &Session) -> Value {
    value!({
        "id": session.id.to_string(),
        "profile": session.profile,
        "expires_at_ms": session.expires_at_ms,
    })
}

/// A session, on one line.
pub(super) fn describe(agent: &AgentId, session: &Session) -> String {
    format!("session of {}: {}, until {}", agent.as_str(), session.id, time(session.expires_at_ms))
}
