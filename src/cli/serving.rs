//! What every command has in common that serves: where to listen, for whom, and until when.

use std::future::Future;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};
use crate::store::{StoreOptions, Watching};

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Where to listen: `unix:/path` or `tcp:host:port` [default: a setting]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The services that may call (TOML) [default: a setting]
    #[arg(long, value_name = "FILE")]
    services: Option<PathBuf>,
    /// The TLS certificate (PEM), for `tcp` [default: the setting `kms_tls_certificate`]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM) [default: the setting `kms_tls_key`]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ServeArgs {
    /// What was typed, as settings: those of `name` begin with that. Files are looked for from where the command is run.
    pub(super) fn settings(&self, name: &str) -> Result<toml::Table> {
        let mut settings = toml::Table::new();
        if let Some(listen) = &self.listen {
            settings.insert(format!("{name}_listen"), address(listen)?.into());
        }
        let files = [
            (format!("{name}_services"), &self.services),
            ("kms_tls_certificate".to_owned(), &self.tls_cert),
            ("kms_tls_key".to_owned(), &self.tls_key),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                settings.insert(key, std::path::absolute(file)?.display().to_string().into());
            }
        }
        Ok(settings)
    }
}

/// An address with its path, if it is one, as seen from where the command is run.
pub(super) fn address(typed: &str) -> Result<String> {
    Ok(match typed.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => format!("unix:{}", std::path::absolute(path)?.display()),
        _ => typed.to_owned(),
    })
}

/// Ends with the first of the signals that ask a service to stop.
pub(super) fn told_to_stop() -> Result<impl Future<Output = ()> + Send> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Writes down that a service ended, and ends its audit log, whoever still has it: its last entries are signed.
pub(super) async fn stopped(watching: Watching, options: StoreOptions, service: &'static str) -> Result<()> {
    let closing = tokio::task::spawn_blocking(move || watching.stopped(&options, service));
    closing.await.map_err(|e| Error::internal("closing the audit log").with_source(e))?
}
