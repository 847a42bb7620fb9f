//! Where a store is and how it runs.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::log::{KeyKeeper, LOG_DIR, LogOptions};
use crate::audit::{AuditSink, Log};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::keys::Passphrase;
use crate::keys::keystore::Unlock;
use crate::keys::keystore::custody::CustodyKind;
use crate::keys::keystore::file::KdfCost;
use crate::keys::keystore::pkcs11::TokenConfig;
use crate::keys::kms::{KmsOptions, PoolOptions};
use crate::keys::policy::Policy;
use crate::rotation::Windows;
use crate::server::{Address, Own, RemoteOptions, ServerTrust, parse_sha256};
use crate::vectors::server::{ApiKey, QdrantUrl, ServerOptions};

/// Where a store is and how it runs.
#[derive(Clone)]
pub struct StoreOptions {
    dir: PathBuf,
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) kdf_cost: KdfCost,
    pub(super) audit: Option<Arc<dyn AuditSink>>,
}

/// Which process an audit log is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOf {
    /// The one that holds the keystore: a key service, or a store without one.
    Keystore,
    /// A store that serves others.
    Store,
    /// A sidecar.
    Sidecar,
}

impl StoreOptions {
    /// A store in `dir` that runs by the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            config: Config::default(),
            clock: Arc::new(SystemClock),
            kdf_cost: KdfCost::default(),
            audit: None,
        }
    }

    /// The same, run by `config`.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The same, with the Qdrant server at `url` beside the engine in this process: `https://host:6334`.
    #[must_use]
    pub fn qdrant_url(mut self, url: impl Into<String>) -> Self {
        self.config.qdrant_url = url.into();
        self
    }

    /// The same, with the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The same, with another cost of opening the keystore; only [`Store::init`](super::Store::init) looks at it.
    #[must_use]
    pub fn kdf_cost(mut self, cost: KdfCost) -> Self {
        self.kdf_cost = cost;
        self
    }

    /// The same, with `log` as its audit log. Without one, a store has a log of its own: with its keys, or with its data
    /// when the keys are with a key service.
    #[must_use]
    pub fn audit(mut self, log: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(log);
        self
    }

    /// Where sealed data is.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(&self.config.data_dir)
    }

    /// Where keys are.
    pub fn keystore_dir(&self) -> PathBuf {
        self.dir.join(&self.config.keystore_dir)
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What opens the keystore: its passphrase, or the user PIN of its token.
    pub fn unlock(&self, passphrase: Passphrase) -> Unlock {
        let token =
            || TokenConfig { module: self.config.pkcs11_module.clone(), label: self.config.pkcs11_token.clone() };
        match self.config.keystore {
            CustodyKind::File => Unlock::Passphrase(passphrase, self.kdf_cost),
            CustodyKind::Pkcs11 => Unlock::Token(token(), passphrase),
            CustodyKind::Pkcs11Wrapped => Unlock::WrappingToken(token(), passphrase),
        }
    }

    /// Where the key service of this store listens.
    pub fn kms_address(&self) -> Result<Address> {
        self.address(&self.config.kms_listen)
    }

    /// Whether the store's keys are with a key service in another process.
    pub fn has_remote_keys(&self) -> bool {
        !self.config.kms.is_empty()
    }

    /// How to reach that service.
    pub(crate) fn remote(&self) -> Result<RemoteOptions> {
        self.reach(&self.config.kms, &self.config.kms_server_sha256, &self.config.kms_server_name)
    }

    /// How to reach the store that serves sealed records, if one is named.
    pub(crate) fn remote_store(&self) -> Result<Option<RemoteOptions>> {
        if self.config.store.is_empty() {
            return Ok(None);
        }
        let (pins, name) = (&self.config.store_server_sha256, &self.config.store_server_name);
        self.reach(&self.config.store, pins, name).map(Some)
    }

    /// How to reach the process that serves this store, if one does: the setting `store`, or the Unix socket of the
    /// store's own directory when somebody listens there.
    pub(crate) fn running_store(&self) -> Result<Option<RemoteOptions>> {
        if let Some(remote) = self.remote_store()? {
            return Ok(Some(remote));
        }
        match self.store_address()? {
            Address::Unix(path) if UnixStream::connect(&path).is_ok() => {
                Ok(Some(RemoteOptions::new(Address::Unix(path))))
            }
            _ => Ok(None),
        }
    }

    fn reach(&self, address: &str, pins: &str, name: &str) -> Result<RemoteOptions> {
        let servers = self.trust(address, pins, name)?;
        let address = self.address(address)?;
        // A Unix socket has no certificate, even if this process has one for others.
        let own = if matches!(address, Address::Tcp(_)) { self.kms_certificate()? } else { None };
        let remote = RemoteOptions::new(address);
        Ok(match own {
            Some(own) => remote.trusting(own, servers),
            None => remote,
        })
    }

    /// Which servers are believed at `address`.
    fn trust(&self, address: &str, pins: &str, name: &str) -> Result<ServerTrust> {
        let mut servers: ServerTrust = listed(pins).map(parse_sha256).collect::<Result<_>>()?;
        if !name.is_empty() {
            if self.config.tls_ca.as_os_str().is_empty() {
                return Err(Error::invalid(format!("nobody vouches for the server `{name}`"))
                    .with_remedy("set `tls_ca` to the file of the authorities that do"));
            }
            servers = servers.named(self.dir.join(&self.config.tls_ca), name)?;
        }
        if listed(&self.config.tls_classical_servers).any(|one| one == address) {
            servers = servers.allow_classical();
        }
        Ok(servers)
    }

    /// The Qdrant server of the store, if one is named.
    pub(super) fn qdrant(&self) -> Result<Option<ServerOptions>> {
        let config = &self.config;
        if config.qdrant_url.is_empty() {
            return Ok(None);
        }
        let url: QdrantUrl = config.qdrant_url.parse()?;
        let place = format!("tcp:{}", url.place());
        let name = match (config.qdrant_server_name.as_str(), config.tls_ca.as_os_str().is_empty()) {
            // An authority vouches for the host that is called.
            ("", false) if url.is_tls() && config.qdrant_server_sha256.is_empty() => url.host().to_owned(),
            (name, _) => name.to_owned(),
        };
        let trust = self.trust(&place, &config.qdrant_server_sha256, &name)?;
        let file = &config.qdrant_api_key_file;
        let file = if file.as_os_str().is_empty() { PathBuf::new() } else { self.dir.join(file) };
        let options = ServerOptions {
            api_key: ApiKey::find(&file)?,
            trust,
            prefix: config.qdrant_prefix.clone(),
            timeout_ms: config.qdrant_timeout_ms.into(),
            connections: config.qdrant_connections as usize,
            ..ServerOptions::new(url)
        };
        options.validate()?;
        Ok(Some(options))
    }

    /// Where the store listens for orchestrators and sidecars.
    pub fn store_address(&self) -> Result<Address> {
        self.address(&self.config.store_listen)
    }

    /// The file of the services that may call it there.
    pub fn store_services(&self) -> PathBuf {
        self.dir.join(&self.config.store_services)
    }

    /// The file of the API keys of the Qdrant-compatible endpoint.
    pub fn api_keys(&self) -> PathBuf {
        self.dir.join(&self.config.qdrant_api_keys)
    }

    /// Where a sidecar listens.
    pub fn sidecar_address(&self) -> Result<Address> {
        self.address(&self.config.sidecar_listen)
    }

    /// The file of the services that may call it.
    pub fn sidecar_services(&self) -> PathBuf {
        self.dir.join(&self.config.sidecar_services)
    }

    /// Where it keeps its ledger and audit log.
    pub fn sidecar_dir(&self) -> PathBuf {
        self.dir.join(&self.config.sidecar_dir)
    }

    /// Where the audit log of a process is.
    pub fn log_dir(&self, of: LogOf) -> PathBuf {
        self.dir_of(of).join(LOG_DIR)
    }

    /// The directory of that process.
    pub(super) fn dir_of(&self, of: LogOf) -> PathBuf {
        match of {
            LogOf::Keystore => self.keystore_dir(),
            LogOf::Store => self.data_dir(),
            LogOf::Sidecar => self.sidecar_dir(),
        }
    }

    /// Opens that log to write, or begins it. A service records that it does.
    pub fn open_log(&self, of: LogOf, keeper: KeyKeeper, service: Option<&str>) -> Result<Log> {
        let days = u64::from(self.config.audit_retention_days);
        let options = LogOptions {
            algorithm: self.config.audit_signature.algorithm(),
            min_free_bytes: u64::from(self.config.audit_min_free_mib) << 20,
            on_failure: self.config.audit_on_failure,
            retention_ms: (days > 0).then_some(days * 86_400_000),
            service: service.map(str::to_owned),
            ..LogOptions::default()
        };
        Log::open(&self.log_dir(of), keeper, options, self.clock.clone())
    }

    /// The settings.
    pub fn settings(&self) -> &Config {
        &self.config
    }

    /// The certificate that a listener at `address` shows: a Unix socket has none.
    pub fn certificate_at(&self, address: &Address) -> Result<Option<Own>> {
        if matches!(address, Address::Tcp(_)) { self.kms_certificate() } else { Ok(None) }
    }

    fn address(&self, address: &str) -> Result<Address> {
        match address.parse()? {
            Address::Unix(path) => Ok(Address::Unix(self.dir.join(path))),
            tcp @ Address::Tcp(_) => Ok(tcp),
        }
    }

    /// The file of the services that may call it.
    pub fn kms_services(&self) -> PathBuf {
        self.dir.join(&self.config.kms_services)
    }

    /// The certificate that it shows, if it has one.
    pub fn kms_certificate(&self) -> Result<Option<Own>> {
        let (certificate, key) = (&self.config.kms_tls_certificate, &self.config.kms_tls_key);
        match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Own::load(&self.dir.join(certificate), &self.dir.join(key)).map(Some),
            _ => Err(Error::invalid("a TLS certificate and its key belong together")
                .with_remedy("set both `kms_tls_certificate` and `kms_tls_key`, or neither")),
        }
    }

    /// How long keys are used.
    pub fn policy(&self) -> Policy {
        let ms = |minutes: u32| u64::from(minutes) * 60_000;
        let (epoch_ms, retention_ms) = (ms(self.config.epoch_min), ms(self.config.epoch_retention_min));
        Policy { epoch_ms, retention_ms, ..Policy::default() }
    }

    /// When rotations run that can wait.
    pub(super) fn windows(&self) -> Result<Windows> {
        Windows::new(&self.config.rotation_windows, &self.config.rotation_time_zone)
    }

    /// A store opens few sessions itself, and many stores are opened for one command.
    pub(super) fn kms(&self) -> KmsOptions {
        let pool = PoolOptions { target: 8, low_water: 4, ..PoolOptions::default() };
        // A tenant that is closed because nobody uses it leaves nothing ready for longer than that again.
        let idle_ms = u64::from(self.config.idle_close_s) * 1000;
        KmsOptions { pool, idle_ms, policy: self.policy(), ..KmsOptions::default() }
    }

    pub(crate) fn min_free_bytes(&self) -> u64 {
        u64::from(self.config.min_free_mib) << 20
    }

    /// What all resident indexes may take together.
    pub(super) fn resident_bytes(&self) -> u64 {
        match self.config.resident_mib {
            0 => crate::harden::memory_bytes().map_or(u64::MAX, |bytes| bytes / 2),
            mib => u64::from(mib) << 20,
        }
    }

    /// From how many vectors on an index in memory gets a search graph.
    pub(super) fn graph_from(&self) -> usize {
        match self.config.graph_from {
            0 => usize::MAX,
            vectors => vectors as usize,
        }
    }

    pub(crate) fn cache_bytes(&self) -> usize {
        (self.config.cache_mib as usize) << 20
    }
}

/// What a setting lists, separated by commas.
fn listed(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|one| !one.is_empty())
}
