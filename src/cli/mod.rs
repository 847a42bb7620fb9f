//! The command line: one file per group of commands. Data goes to stdout, talk to stderr.

mod apikey;
mod audit;
mod backup;
mod bench;
mod breaker;
mod cert;
mod chunks;
mod collection;
mod context;
mod envelope;
mod epoch;
mod file;
mod filter;
mod index;
pub mod input;
mod keystore;
mod kms;
mod memory;
mod output;
mod pki;
mod query;
mod rotate;
mod serve;
mod serving;
mod session;
mod sidecar;
mod store;
mod tenant;
mod token;
mod vector;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::Passphrase;
use crate::store::{Store, StoreOptions, Tenant};

use output::Output;

/// An encrypted vector and memory store for multi-tenant LLM platforms.
///
/// Exit codes: 0 success, 1 internal failure, 2 wrong input or usage, 3 not found, 4 conflict, 5 denied (passphrase, or a
/// certificate refused), 6 busy, 7 integrity (stored data is not what was written), 8 storage full, 9 unavailable, 10
/// partly done.
#[derive(Parser)]
#[command(name = "strongroom", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args)]
struct Global {
    /// The store's directory [default: $XDG_DATA_HOME/strongroom or ~/.local/share/strongroom]
    #[arg(long, global = true, env = "STRONGROOM_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A file with the passphrase; otherwise STRONGROOM_PASSPHRASE, STRONGROOM_PASSPHRASE_FILE, the systemd credential
    /// `strongroom-passphrase`, or a prompt
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// A setting for this run, before file and environment: `--set cache_mib=128`
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print JSON for machines
    #[arg(long, global = true)]
    json: bool,
    /// Say less: no progress, no remarks
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Log more to stderr; repeat for more. STRONGROOM_LOG takes a filter, STRONGROOM_LOG_FORMAT=json writes JSON
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Which tenant a command is about.
#[derive(Args)]
struct TenantArg {
    /// The tenant
    #[arg(long, short, env = "STRONGROOM_TENANT", value_name = "TENANT")]
    tenant: TenantId,
}

#[derive(Subcommand)]
enum Command {
    /// Make a store and its keystore
    Init(store::InitArgs),
    /// Show what is in the store
    Status,
    /// Make, list, show and shred tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Move a tenant's keys through their epochs
    #[command(subcommand)]
    Epoch(epoch::EpochCommand),
    /// Move tenants to new epochs with everything that they have stored
    Rotate(rotate::RotateArgs),
    /// Open and revoke agents' sessions
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Change what opens the keystore, back it up and restore it
    #[command(subcommand)]
    Keystore(keystore::KeystoreCommand),
    /// Run the key service
    #[command(subcommand)]
    Kms(kms::KmsCommand),
    /// Make, list and revoke API keys of the Qdrant-compatible endpoint
    #[command(subcommand)]
    Apikey(apikey::ApikeyCommand),
    /// Run the store for orchestrators, sidecars and Qdrant's clients
    Serve(serving::ServeArgs),
    /// Run a decrypt sidecar, and revoke tokens there
    #[command(subcommand)]
    Sidecar(sidecar::SidecarCommand),
    /// Pause a tenant's reads, and let them go on
    #[command(subcommand)]
    Breaker(breaker::BreakerCommand),
    /// Look into capability tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Seal context windows
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Make, list, show and drop collections
    #[command(subcommand)]
    Collection(collection::CollectionCommand),
    /// Read chunks with their embeddings into a collection
    Ingest(chunks::IngestArgs),
    /// Find the chunks nearest to a vector or a text
    Search(chunks::SearchArgs),
    /// Print chunks by id
    Get(chunks::IdsArgs),
    /// List or count chunks
    Chunks(filter::ChunksArgs),
    /// Delete chunks by id or by a filter
    Delete(filter::DeleteArgs),
    /// Write a memory
    Remember(memory::RememberArgs),
    /// Find memories by meaning, by words, or the latest
    Recall(memory::RecallArgs),
    /// Delete memories
    Forget(memory::ForgetArgs),
    /// List memories, namespaces, or the history of a memory
    Memories(memory::MemoriesArgs),
    /// Open every record and compare it with the registry
    Verify(store::VerifyArgs),
    /// Back the data up, and list, verify and prune backups
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Make the data directory of a backup, and open every record in it
    Restore(backup::WhichArgs),
    /// Issue TLS certificates for services, and renew them
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Verify, show and export certificates
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Show envelopes
    #[command(subcommand)]
    Envelope(envelope::EnvelopeCommand),
    /// Read, prove, export and verify the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Measure against the same work without Strongroom
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.global.verbose);
    quiet_engine_panics();
    let output = Output::new(cli.global.json, cli.global.quiet);
    let result = crate::harden::no_dumps().and_then(|()| run(cli, &output));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            output.error(&e);
            ExitCode::from(e.kind().exit_code())
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let global = &cli.global;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Init(args) => store::init(global, args, output).await,
            Command::Status => store::status(global, output).await,
            Command::Tenant(command) => tenant::run(global, command, output).await,
            Command::Epoch(command) => epoch::run(global, command, output).await,
            Command::Rotate(args) => rotate::run(global, args, output).await,
            Command::Session(command) => session::run(global, command, output).await,
            Command::Keystore(command) => keystore::run(global, command, output),
            Command::Kms(command) => kms::run(global, command, output).await,
            Command::Apikey(command) => apikey::run(global, command, output),
            Command::Serve(args) => serve::run(global, args, output).await,
            Command::Sidecar(command) => sidecar::run(global, command, output).await,
            Command::Breaker(command) => breaker::run(global, command, output).await,
            Command::Token(command) => token::run(command, output),
            Command::Context(command) => context::run(global, command, output).await,
            Command::Collection(command) => collection::run(global, command, output).await,
            Command::Ingest(args) => chunks::ingest(global, args, output).await,
            Command::Search(args) => chunks::search(global, args, output).await,
            Command::Get(args) => chunks::get(global, args, output).await,
            Command::Chunks(args) => filter::chunks(global, args, output).await,
            Command::Delete(args) => filter::delete(global, args, output).await,
            Command::Remember(args) => memory::remember(global, args, output).await,
            Command::Recall(args) => memory::recall(global, args, output).await,
            Command::Forget(args) => memory::forget(global, args, output).await,
            Command::Memories(args) => memory::memories(global, args, output).await,
            Command::Verify(args) => store::verify(global, args, output).await,
            Command::Backup(command) => backup::run(global, command, output).await,
            Command::Restore(which) => backup::restore(global, which, output).await,
            Command::Pki(command) => pki::run(command, output),
            Command::Cert(command) => cert::run(global, command, output).await,
            Command::Envelope(command) => envelope::run(command, output),
            Command::Audit(command) => audit::run(global, command, output).await,
            Command::Bench(args) => bench::run(args, output).await,
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "strongroom", &mut script);
                output.raw(&script)
            }
        }
    });
    // Somebody may still be reading standard input: do not wait for its end.
    runtime.shutdown_background();
    result
}

impl Global {
    fn options(&self) -> Result<StoreOptions> {
        self.options_with(&toml::Table::new())
    }

    /// The options with `settings`, which come before `--set`.
    fn options_with(&self, settings: &toml::Table) -> Result<StoreOptions> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => default_dir()?,
        };
        let settings = settings.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        let settings: Vec<String> = settings.chain(self.set.iter().cloned()).collect();
        let config = Config::load(&dir, &settings)?;
        Ok(StoreOptions::new(dir).config(config))
    }

    fn passphrase(&self, confirm: bool) -> Result<Passphrase> {
        Passphrase::find(self.passphrase_file.as_deref(), confirm)
    }

    async fn open(&self) -> Result<Store> {
        self.open_with(self.options()?).await
    }

    async fn open_with(&self, options: StoreOptions) -> Result<Store> {
        if options.has_remote_keys() {
            return Store::connect(options).await;
        }
        if !options.keystore_dir().exists() {
            return Err(Error::not_found(format!("there is no store in `{}`", options.dir().display()))
                .with_remedy("run `strongroom init` first, or name the right directory with `--dir`"));
        }
        Store::open(options, self.passphrase(false)?).await
    }

    /// Opens the store and a tenant, runs `work`, and closes both whatever came of it.
    async fn with_tenant<T>(&self, tenant: &TenantArg, work: impl AsyncFnOnce(&Tenant) -> Result<T>) -> Result<T> {
        let store = self.open().await?;
        let result = match store.tenant(&tenant.tenant).await {
            Ok(tenant) => work(&tenant).await,
            Err(e) => Err(e),
        };
        let closed = store.close().await;
        let value = result?;
        closed.map(|()| value)
    }
}

fn default_dir() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_DATA_HOME") {
        Some(base) => Some(PathBuf::from(base)),
        None => std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")),
    };
    base.map(|base| base.join("strongroom"))
        .ok_or_else(|| Error::invalid("there is no home directory").with_remedy("name a directory with `--dir`"))
}

fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "strongroom=info,warn",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("STRONGROOM_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Whoever has started logging before us keeps it.
    let _ = match std::env::var_os("STRONGROOM_LOG_FORMAT").is_some_and(|format| format == "json") {
        true => subscriber.json().try_init(),
        false => subscriber.try_init(),
    };
}

/// The vector engine panics where others return an error, and its caller makes one of it: not to be shown twice.
fn quiet_engine_panics() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if crate::vectors::edge::in_engine() {
            tracing::debug!("the vector engine panicked: {panic}");
        } else {
            shown(panic);
        }
    }));
}

fn is_closed_pipe(e: &Error) -> bool {
    let source = std::error::Error::source(e).and_then(|s| s.downcast_ref::<std::io::Error>());
    e.kind() == ErrorKind::Unavailable && source.is_some_and(|s| s.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for kind in ErrorKind::ALL {
            assert!(help.contains(&format!(" {} ", kind.exit_code())), "{}", kind.as_str());
        }
    }
}
