//! `sidecar serve|revoke|lift|revocations`: a decrypt sidecar in a process of its own, and its operator.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Global;
use super::output::{Output, time};
use super::serving::{ServeArgs, stopped, told_to_stop};
use crate::audit::Arrival;
use crate::audit::log::KeyKeeper;
use crate::clock::{Clock as _, SystemClock, boot_id};
use crate::crypto::default_provider;
use crate::disk::DataDir;
use crate::error::{Error, Result};
use crate::harden::lock_memory;
use crate::id::TenantId;
use crate::keys::Profile;
use crate::kv::rocks::Rocks;
use crate::limits;
use crate::locked::LockPolicy;
use crate::server::{self, Listener, RemoteKms, Services};
use crate::sidecar::{self, Client, ClientOptions, RecordSource, Sidecar, SidecarOptions, SidecarParts};
use crate::store::service::RemoteStore;
use crate::store::{LogOf, StoreOptions, Watching};
use crate::token::{Form, Holder, HolderId, Ledger, Revocation, TokenId};

/// What the audit log calls the process itself.
const SERVICE: &str = "sidecar";

#[derive(Subcommand)]
pub(super) enum SidecarCommand {
    /// Open records for the holders of capability tokens until told to stop (SIGINT, SIGTERM)
    Serve {
        #[command(flatten)]
        args: ServeArgs,
        /// What tokens call this sidecar [default: the setting `sidecar_audience`]
        #[arg(long, value_name = "NAME")]
        audience: Option<String>,
        /// Answer in clear to other machines too: over TLS alone
        #[arg(long)]
        clear_over_tls: bool,
    },
    /// Revoke a token, all of a holder's, or all of a tenant's that were issued so far
    Revoke(What),
    /// Take a revocation back
    Lift(What),
    /// Show what is revoked
    Revocations,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct What {
    /// One token, by its id: `token inspect` shows it
    #[arg(long, value_name = "ID")]
    token: Option<TokenId>,
    /// Every token of a holder
    #[arg(long, value_name = "THUMBPRINT")]
    holder: Option<HolderId>,
    /// Every token of a tenant that was issued so far
    #[arg(long, short, value_name = "TENANT")]
    tenant: Option<TenantId>,
}

impl What {
    fn revocation(self) -> Result<Revocation> {
        let token = self.token.map(Revocation::Token);
        let other = self.holder.map(Revocation::Holder).or(self.tenant.map(Revocation::Tenant));
        token.or(other).ok_or_else(|| Error::invalid("there is nothing to revoke").with_remedy("name one"))
    }
}

pub(super) async fn run(global: &Global, command: SidecarCommand, output: &Output) -> Result<()> {
    match command {
        SidecarCommand::Serve { args, audience, clear_over_tls } => {
            let mut settings = args.settings("sidecar")?;
            if let Some(audience) = audience {
                settings.insert("sidecar_audience".to_owned(), audience.into());
            }
            serve(global.options_with(&settings)?, clear_over_tls, output).await
        }
        SidecarCommand::Revoke(what) => {
            let revocation = what.revocation()?;
            client(&global.options()?)?.revoke(&revocation).await?;
            output.answer(&json!({"revoked": revocation.to_string()}), |_| format!("revoked: {revocation}"))
        }
        SidecarCommand::Lift(what) => {
            let revocation = what.revocation()?;
            if !client(&global.options()?)?.lift(&revocation).await? {
                return Err(Error::not_found(format!("{revocation} is not revoked"))
                    .with_remedy("`strongroom sidecar revocations` shows what is"));
            }
            output.answer(&json!({"lifted": revocation.to_string()}), |_| format!("lifted: {revocation}"))
        }
        SidecarCommand::Revocations => {
            let all = client(&global.options()?)?.revocations().await?;
            let rows: Vec<_> = all.iter().map(|(r, at_ms)| json!({"revoked": r.to_string(), "at_ms": at_ms})).collect();
            output.answer(&rows, |_| all.iter().map(|(r, at_ms)| format!("{}  {r}\n", time(*at_ms))).collect())
        }
    }
}

async fn serve(options: StoreOptions, clear_over_tls: bool, output: &Output) -> Result<()> {
    let policy = options.settings().memory_lock;
    let locked = lock_memory(policy)?;
    let services = Arc::new(Services::load(&options.sidecar_services())?);
    let address = options.sidecar_address()?;
    let own = options.certificate_at(&address)?;
    let source = options.remote_store()?.map(RemoteStore::new).transpose()?;
    let opening = tokio::task::spawn_blocking(move || open(options, source, clear_over_tls));
    let (sidecar, watching, options) =
        opening.await.map_err(|e| Error::internal("opening the sidecar").with_source(e))??;
    let sidecar = Arc::new(sidecar);
    let stop = told_to_stop()?;
    let listener = Listener::bind(&address, own, services).await?;
    let ready = async {
        while !sidecar.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // A ledger is ready within six seconds of its first use since the machine was started, unless the clock was set back.
    let ready = tokio::time::timeout(Duration::from_secs(7), ready).await;
    output.remark(&format!("listening on {} as {}", listener.address(), sidecar.audience()));
    if ready.is_err() {
        output.remark("warning: tokens are refused until the clock is where it was when the ledger was made");
    }
    if !locked && policy != LockPolicy::Never {
        output.remark("warning: keys may be swapped out; `ulimit -l unlimited` or `LimitMEMLOCK=infinity` prevents it");
    }
    let sweeping = tokio::spawn(sweep(sidecar.clone()));
    let notice = {
        let sidecar = sidecar.clone();
        Arc::new(move |arrival: &Arrival| sidecar.peer_arrived(arrival))
    };
    let counts = sidecar.connections().clone();
    let routes = sidecar::routes(sidecar).await;
    let served = server::serve(listener, routes, notice, counts, stop).await;
    sweeping.abort();
    let stopped = stopped(watching, options, SERVICE).await;
    served.and(stopped)?;
    output.remark("stopped");
    Ok(())
}

fn open(
    options: StoreOptions,
    source: Option<RemoteStore>,
    clear_over_tls: bool,
) -> Result<(Sidecar, Watching, StoreOptions)> {
    if !options.has_remote_keys() {
        return Err(Error::invalid("a sidecar needs a key service")
            .with_remedy("run `strongroom kms serve`, and name it by the setting `kms`"));
    }
    let settings = options.settings();
    let disk = Arc::new(DataDir::hold(&options.sidecar_dir(), options.min_free_bytes())?);
    let clock = Arc::new(SystemClock);
    let rocks = Rocks::open(&disk.subdir("db")?, disk.clone(), options.cache_bytes(), clock.clone(), |_, _| false)?;
    let kms = Arc::new(RemoteKms::new(options.remote()?)?);
    let watching = options.watch_own(LogOf::Sidecar, KeyKeeper::File, Some(&settings.sidecar_audience))?;
    watching.started(&options, &options.sidecar_dir(), SERVICE)?;
    let sidecar = Sidecar::new(SidecarParts {
        kms: kms.clone(),
        keys: kms,
        provider: default_provider(),
        audit: watching.sink.clone(),
        ledger: Ledger::open(Arc::new(rocks), &boot_id()?, clock.now_ms())?,
        audience: settings.sidecar_audience.parse()?,
        clock,
        source: source.map(|store| Arc::new(store) as Arc<dyn RecordSource>),
        options: SidecarOptions {
            tenant_rate: settings.sidecar_tenant_rate,
            tenant_concurrency: settings.sidecar_tenant_concurrency as usize,
            clear_over_tls,
            ..SidecarOptions::default()
        },
    })?;
    Ok((sidecar.watched_by(&watching.alerts), watching, options))
}

/// Lets go of what has expired, now and then.
async fn sweep(sidecar: Arc<Sidecar>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::SIDECAR_SWEEP_MS));
    loop {
        ticks.tick().await;
        let sidecar = sidecar.clone();
        let swept = tokio::task::spawn_blocking(move || sidecar.sweep()).await;
        if !matches!(swept, Ok(Ok(()))) {
            tracing::warn!("what has expired could not be removed; it is refused all the same");
        }
    }
}

/// The operator's connection to the sidecar of these settings. The holder is nobody's: nothing is redeemed with it.
pub(super) fn client(options: &StoreOptions) -> Result<Client> {
    let settings = options.settings();
    let address = options.sidecar_address()?;
    let own = options.certificate_at(&address)?;
    let servers = own.iter().map(server::Own::sha256).collect();
    let options = ClientOptions {
        address,
        own,
        servers,
        audience: settings.sidecar_audience.parse()?,
        form: Form::Sealed,
        deadline_ms: limits::RPC_DEADLINE_MS,
    };
    Client::new(options, Holder::generate(default_provider(), Profile::Pure)?)
}
