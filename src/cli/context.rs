//! `context seal`, and what it shares with sealed searches: for whom a token is, and how the result is printed.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::memory::parse_ttl;
use super::output::Output;
use super::serving::address;
use super::{Global, TenantArg};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::limits;
use crate::store::service::{RemoteHandoff, RemoteStore};
use crate::store::{Handoff, Terms};
use crate::token::{Audience, Bundle, HolderId};

#[derive(Subcommand)]
pub(super) enum ContextCommand {
    /// Seal a context window, and make a token for it
    Seal {
        #[command(flatten)]
        tenant: TenantArg,
        /// The context window; `-` for standard input
        file: PathBuf,
        /// Who may have it redeemed: the thumbprint of its key
        #[arg(long, value_name = "HOLDER")]
        seal_for: HolderId,
        #[command(flatten)]
        terms: TermsArgs,
    },
}

/// What a token is for, besides its holder.
#[derive(Args)]
pub(super) struct TermsArgs {
    /// The sidecar that may redeem it
    #[arg(long, value_name = "NAME", default_value = "sidecar")]
    audience: Audience,
    /// How often it may be redeemed
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// How long it lives, at most 5 minutes: 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_ttl)]
    life: u64,
    /// Ask the store that listens here: `unix:/path` or `tcp:host:port` [default: the setting `store`, or open it here]
    #[arg(long, value_name = "ADDRESS")]
    store: Option<String>,
}

impl TermsArgs {
    pub(super) fn terms(&self, holder: HolderId) -> Terms {
        Terms { audience: self.audience.clone(), holder, max_uses: self.uses, life_ms: self.life }
    }

    /// The store to ask, if it is in another process.
    pub(super) fn remote(&self, global: &Global) -> Result<Option<RemoteStore>> {
        let mut settings = toml::Table::new();
        if let Some(typed) = &self.store {
            settings.insert("store".to_owned(), address(typed)?.into());
        }
        global.options_with(&settings)?.remote_store()?.map(RemoteStore::new).transpose()
    }
}

pub(super) async fn run(global: &Global, command: ContextCommand, output: &Output) -> Result<()> {
    let ContextCommand::Seal { tenant, file, seal_for, terms: args } = command;
    let context = read(&file)?;
    let terms = args.terms(seal_for);
    let bundle = match args.remote(global)? {
        Some(store) => remote_bundle(&tenant.tenant, store.seal_context(&tenant.tenant, context, &terms).await?),
        None => {
            let sealed = global.with_tenant(&tenant, async |tenant| tenant.seal_context(context, terms).await).await?;
            local_bundle(&tenant.tenant, sealed)
        }
    };
    print(&bundle, output)
}

/// What is passed on, as JSON whether that was asked for or not: it is for machines.
pub(super) fn print(bundle: &Bundle, output: &Output) -> Result<()> {
    let json = serde_json::to_string(bundle).map_err(|e| Error::internal("encoding").with_source(e))?;
    output.raw(format!("{json}\n").as_bytes())
}

pub(super) fn local_bundle(tenant: &TenantId, handoff: Handoff) -> Bundle {
    let token = handoff.token.map(|token| token.as_bytes().to_vec()).unwrap_or_default();
    Bundle::new(tenant, token, handoff.issuer, handoff.records, handoff.scores)
}

pub(super) fn remote_bundle(tenant: &TenantId, handoff: RemoteHandoff) -> Bundle {
    Bundle::new(tenant, handoff.token, handoff.issuer, handoff.records, handoff.scores)
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limits::CONTEXT_BYTES as u64 + 1;
    if file.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        let about = |e: std::io::Error| {
            let e = Error::from(e);
            Error::new(e.kind(), format!("`{}` cannot be read: {e}", file.display())).with_remedy("name another file")
        };
        std::fs::File::open(file).map_err(about)?.take(most).read_to_end(&mut bytes).map_err(about)?;
    }
    Ok(bytes)
}
