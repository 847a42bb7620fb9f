//! `kms serve`: the key service in a process of its own, which holds the keystore.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::Global;
use super::output::Output;
use crate::audit::Journal;
use crate::clock::SystemClock;
use crate::crypto::default_provider;
use crate::error::{Error, Result};
use crate::keys::kms::{KmsOptions, LocalKms};
use crate::keys::{Keystore, Passphrase};
use crate::server::{self, Counts, Listener, Services};
use crate::store::StoreOptions;

#[derive(Subcommand)]
pub(super) enum KmsCommand {
    /// Hold the keystore and answer stores, sidecars and agents until told to stop (SIGINT, SIGTERM)
    Serve(ServeArgs),
}

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Where to listen: `unix:/path` or `tcp:host:port` [default: the setting `kms_listen`]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The services that may call (TOML) [default: the setting `kms_services`]
    #[arg(long, value_name = "FILE")]
    services: Option<PathBuf>,
    /// The TLS certificate (PEM), for `tcp` [default: the setting `kms_tls_certificate`]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM) [default: the setting `kms_tls_key`]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

pub(super) async fn run(global: &Global, command: KmsCommand, output: &Output) -> Result<()> {
    match command {
        KmsCommand::Serve(args) => serve(global, args, output).await,
    }
}

async fn serve(global: &Global, args: ServeArgs, output: &Output) -> Result<()> {
    let options = global.options_with(&args.settings()?)?;
    let services = Arc::new(Services::load(&options.kms_services())?);
    let (address, own) = (options.kms_address()?, options.kms_certificate()?);
    let passphrase = global.passphrase(false)?;
    let opening = tokio::task::spawn_blocking(move || open(&options, passphrase));
    let kms = opening.await.map_err(|e| Error::internal("opening the keystore").with_source(e))??;
    let stop = told_to_stop()?;
    let listener = Listener::bind(&address, own, services).await?;
    output.remark(&format!("listening on {}", listener.address()));
    server::run(listener, Arc::new(kms), Arc::new(Counts::default()), stop).await?;
    output.remark("stopped");
    Ok(())
}

fn open(options: &StoreOptions, passphrase: Passphrase) -> Result<Arc<LocalKms>> {
    let keystore = Keystore::open(&options.keystore_dir(), default_provider(), options.unlock(passphrase))?;
    let audit = Arc::new(Journal::open(&options.keystore_dir())?);
    let kms = KmsOptions { policy: options.policy(), ..KmsOptions::default() };
    LocalKms::new(Arc::new(keystore), kms, Arc::new(SystemClock), audit)
}

/// Ends with the first of the signals that ask a service to stop.
fn told_to_stop() -> Result<impl Future<Output = ()> + Send> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

impl ServeArgs {
    /// What was typed, as settings. Files are looked for from where the command is run.
    fn settings(&self) -> Result<toml::Table> {
        let mut settings = toml::Table::new();
        if let Some(listen) = &self.listen {
            let listen = match listen.strip_prefix("unix:") {
                Some(path) if !path.is_empty() => format!("unix:{}", std::path::absolute(path)?.display()),
                _ => listen.clone(),
            };
            settings.insert("kms_listen".to_owned(), listen.into());
        }
        let files =
            [("kms_services", &self.services), ("kms_tls_certificate", &self.tls_cert), ("kms_tls_key", &self.tls_key)];
        for (key, file) in files {
            if let Some(file) = file {
                settings.insert(key.to_owned(), std::path::absolute(file)?.display().to_string().into());
            }
        }
        Ok(settings)
    }
}
