//! `kms serve`: the key service in a process of its own, which holds the keystore.

use std::sync::Arc;

use clap::Subcommand;

use super::Global;
use super::output::Output;
use super::serving::{ServeArgs, stopped, told_to_stop};
use crate::audit::log::KeyKeeper;
use crate::clock::SystemClock;
use crate::crypto::default_provider;
use crate::error::{Error, Result};
use crate::keys::kms::{KmsOptions, LocalKms};
use crate::keys::{Keystore, Passphrase};
use crate::server::{self, Counts, Listener, Services};
use crate::store::{LogOf, StoreOptions, Watching};

/// What the audit log calls it.
const SERVICE: &str = "kms";

#[derive(Subcommand)]
pub(super) enum KmsCommand {
    /// Hold the keystore and answer stores, sidecars and agents until told to stop (SIGINT, SIGTERM)
    Serve(ServeArgs),
}

pub(super) async fn run(global: &Global, command: KmsCommand, output: &Output) -> Result<()> {
    match command {
        KmsCommand::Serve(args) => serve(global, args, output).await,
    }
}

async fn serve(global: &Global, args: ServeArgs, output: &Output) -> Result<()> {
    let options = global.options_with(&args.settings("kms")?)?;
    let services = Arc::new(Services::load(&options.kms_services())?);
    let (address, own) = (options.kms_address()?, options.kms_certificate()?);
    let passphrase = global.passphrase(false)?;
    let opening = tokio::task::spawn_blocking(move || open(options, passphrase));
    let (kms, watching, options) =
        opening.await.map_err(|e| Error::internal("opening the keystore").with_source(e))??;
    let stop = told_to_stop()?;
    let listener = Listener::bind(&address, own, services).await?;
    output.remark(&format!("listening on {}", listener.address()));
    let served = server::run(listener, Arc::new(kms), Arc::new(Counts::default()), stop).await;
    let stopped = stopped(watching, options, SERVICE).await;
    served.and(stopped)?;
    output.remark("stopped");
    Ok(())
}

fn open(options: StoreOptions, passphrase: Passphrase) -> Result<(Arc<LocalKms>, Watching, StoreOptions)> {
    let keystore = Keystore::open(&options.keystore_dir(), default_provider(), options.unlock(passphrase))?;
    let keystore = Arc::new(keystore);
    let watching = options.watch_own(LogOf::Keystore, KeyKeeper::Keystore(keystore.clone()), Some(SERVICE))?;
    watching.started(&options, &options.keystore_dir(), SERVICE)?;
    let kms = KmsOptions { policy: options.policy(), ..KmsOptions::default() };
    let kms = LocalKms::new(keystore, kms, Arc::new(SystemClock), watching.sink.clone())?;
    Ok((kms, watching, options))
}
