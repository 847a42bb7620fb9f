//! Configuration: one struct, read from `strongroom.toml`, the environment and the command line, later ones first.
//!
//! Every default is justified in [`crate::manual::defaults`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::log::{OnFailure, SignatureChoice};
use crate::error::{Error, Result};
use crate::keys::keystore::custody::CustodyKind;
use crate::locked::LockPolicy;
use crate::server::qdrant::WireProtection;

/// The name of the configuration file in the store's directory.
pub const CONFIG_FILE: &str = "strongroom.toml";
/// What the names of configuring environment variables begin with: `STRONGROOM_CONFIG_CACHE_MIB`.
pub const ENV_PREFIX: &str = "STRONGROOM_CONFIG";

/// How a store runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where sealed data is kept; relative to the store's directory. Default: `data`.
    pub data_dir: PathBuf,
    /// Where keys are kept; relative to the store's directory. Back it up apart from the data. Default: `keys`.
    pub keystore_dir: PathBuf,
    /// Where private keys are: `file`, `pkcs11` or `pkcs11-wrapped`. Default: `file`.
    pub keystore: CustodyKind,
    /// The PKCS#11 module (a shared library) of the token, for the two keystores with one. Default: none.
    pub pkcs11_module: PathBuf,
    /// The label of the token. Default: `strongroom`.
    pub pkcs11_token: String,
    /// The key service that holds this store's keys: `unix:/path` or `tcp:host:port`, the path relative to the store's
    /// directory. Default: none, the store holds a keystore of its own.
    pub kms: String,
    /// SHA-256 of the certificates that this key service may show over `tcp`, separated by commas. Default: none.
    pub kms_server_sha256: String,
    /// The name in its certificate, for which an authority of `tls_ca` vouches. Default: none.
    pub kms_server_name: String,
    /// Where `kms serve` listens: `unix:/path` or `tcp:host:port`; a path relative to the store's directory. Default:
    /// `unix:kms.sock`.
    pub kms_listen: String,
    /// The file of the services that may call it; relative to the store's directory. Default: `services.toml`.
    pub kms_services: PathBuf,
    /// The TLS certificate, PEM, that this process shows over `tcp`, as a server and as a client. Default: none.
    pub kms_tls_certificate: PathBuf,
    /// The key of that certificate, PEM. Default: none.
    pub kms_tls_key: PathBuf,
    /// The certificates of the authorities, PEM, that vouch for the names of servers; relative to the store's directory.
    /// Default: none.
    pub tls_ca: PathBuf,
    /// The servers that may be talked to with a classical key exchange if they have no other: addresses as `tcp:host:port`,
    /// separated by commas. Default: none.
    pub tls_classical_servers: String,
    /// What tokens call this sidecar. Default: `sidecar`.
    pub sidecar_audience: String,
    /// Where `sidecar serve` listens: `unix:/path` or `tcp:host:port`; a path relative to the store's directory. Default:
    /// `unix:sidecar.sock`.
    pub sidecar_listen: String,
    /// The file of the services that may call it; relative to the store's directory. Default: `sidecar-services.toml`.
    pub sidecar_services: PathBuf,
    /// Where it keeps its ledger and audit log; relative to the store's directory. Default: `sidecar`.
    pub sidecar_dir: PathBuf,
    /// Redeems of one tenant in a second, on average. Default: 100000.
    pub sidecar_tenant_rate: u32,
    /// Redeems of one tenant at a time. Default: 256.
    pub sidecar_tenant_concurrency: u32,
    /// The store that serves sealed records: `unix:/path` or `tcp:host:port`, for sidecars and sealed searches. Default:
    /// none.
    pub store: String,
    /// SHA-256 of the certificates that this store may show over `tcp`, separated by commas. Default: none.
    pub store_server_sha256: String,
    /// The name in its certificate, for which an authority of `tls_ca` vouches. Default: none.
    pub store_server_name: String,
    /// Where `serve` listens: `unix:/path` or `tcp:host:port`; a path relative to the store's directory. Default:
    /// `unix:store.sock`.
    pub store_listen: String,
    /// The file of the services that may call it; relative to the store's directory. Default: `store-services.toml`.
    pub store_services: PathBuf,
    /// Where `serve` speaks Qdrant's REST interface: `host:port`; Qdrant's own port is 6333. Default: none.
    pub qdrant_rest_listen: String,
    /// Where it speaks Qdrant's gRPC interface: `host:port`; Qdrant's own port is 6334. Default: none.
    pub qdrant_grpc_listen: String,
    /// How both are protected on the wire: `post-quantum`, `classical`, or `none` on a loopback address. Default:
    /// `post-quantum`.
    pub qdrant_tls: WireProtection,
    /// The file of the API keys; relative to the store's directory. Default: `api-keys.toml`.
    pub qdrant_api_keys: PathBuf,
    /// Below which directory those may have backups made who ask `serve` for them; relative to the store's directory.
    /// Default: none, only the user that `serve` runs as may, on the Unix socket.
    pub backup_dir: PathBuf,
    /// The Qdrant server for collections that are in one: `https://host:6334`, its gRPC port; `http` on this machine only.
    /// Default: none.
    pub qdrant_url: String,
    /// The file with its API key; relative to the store's directory. Default: none, the environment variable
    /// `STRONGROOM_QDRANT_API_KEY`.
    pub qdrant_api_key_file: PathBuf,
    /// SHA-256 of the certificates that it may show over `https`, separated by commas. Default: none.
    pub qdrant_server_sha256: String,
    /// The name in its certificate, for which an authority of `tls_ca` vouches. Default: none, the host of its address.
    pub qdrant_server_name: String,
    /// What the names of its collections begin with. Default: `strongroom`.
    pub qdrant_prefix: String,
    /// How long a call to it may take, attempts and pauses included, in milliseconds. Default: 10000.
    pub qdrant_timeout_ms: u32,
    /// Connections that calls to it are spread over. Default: 4.
    pub qdrant_connections: u32,
    /// How long an epoch of keys seals before it is due for rotation, in minutes. Default: 43200, 30 days.
    pub epoch_min: u32,
    /// How long an epoch that seals no more still opens before it is due for destruction, in minutes. Default: 10080.
    pub epoch_retention_min: u32,
    /// How often `serve` looks for tenants to rotate and epochs to destroy, in seconds; 0 is never. Default: 60.
    pub rotation_interval_s: u32,
    /// When `serve` may rotate: `22:00-06:00`, `mon-fri 22:00-06:00; sat,sun 00:00-24:00`. Default: always.
    pub rotation_windows: String,
    /// The time zone of these windows: a name of the IANA database. Default: `UTC`.
    pub rotation_time_zone: String,
    /// Tenants that `serve` rotates at a time. Default: 2.
    pub rotation_tenants_at_once: u32,
    /// Threads that open and seal for all rotations that can wait together; 0 is one for each core. Default: 0.
    pub rotation_threads: u32,
    /// How much rotations may write in a second, in MiB; 0 is no limit. Default: 0.
    pub rotation_mib_per_s: u32,
    /// How long the slowest in a hundred calls may take while something is rotated before rotations slow down, in percent of
    /// what they take otherwise; 0 is however long. Default: 150.
    pub rotation_p99_percent: u32,
    /// How often the audit log says that it is written, in seconds; 0 is never. Default: 300.
    pub audit_heartbeat_s: u32,
    /// The time that alerts count in, in seconds. Default: 300.
    pub alert_window_s: u32,
    /// Records that did not open in that time, of one tenant, for an alert. Default: 1.
    pub alert_open_failures: u32,
    /// Signatures that did not verify. Default: 5.
    pub alert_signature_failures: u32,
    /// Requests for a tenant by who does not work for it. Default: 3.
    pub alert_cross_tenant: u32,
    /// Tokens and proofs that were used before. Default: 3.
    pub alert_token_replays: u32,
    /// How many times its usual volume may be read of a tenant in an hour; 0 is any. Default: 10.
    pub alert_volume_factor: u32,
    /// Records that may be read of a tenant in an hour whatever is usual. Default: 1000.
    pub alert_volume_floor: u32,
    /// How long a tenant is watched before any volume is too much, in minutes. Default: 1440, a day.
    pub alert_warm_up_min: u32,
    /// By how much the clock may part from the time that has passed, in seconds. Default: 10.
    pub alert_clock_jump_s: u32,
    /// How long further alerts of one rule about one tenant are held back, in seconds. Default: 3600.
    pub alert_repeat_s: u32,
    /// Rules that pause the reads of the tenant they are about, separated by commas: `cross-tenant,token-replays`. Default:
    /// none.
    pub alert_trips: String,
    /// Where alerts are posted to: `https://host/path`. Default: none.
    pub alert_webhook: String,
    /// The file with the secret that they are signed with; relative to the store's directory. Default: none, the
    /// environment variable `STRONGROOM_WEBHOOK_SECRET`.
    pub alert_webhook_secret_file: PathBuf,
    /// What a new audit log signs its checkpoints with: `slh-dsa-sha2-128s` or `ml-dsa-87`. Default: `slh-dsa-sha2-128s`.
    pub audit_signature: SignatureChoice,
    /// What happens when an event cannot be written to the audit log: `refuse` what it is about, or `continue`. Default:
    /// `refuse`.
    pub audit_on_failure: OnFailure,
    /// Nothing is written to the audit log when less than this is free on its disk, in MiB. Default: 64.
    pub audit_min_free_mib: u32,
    /// How long the entries of an audit log are kept, in days; 0 is for ever. Their hashes stay. Default: 0.
    pub audit_retention_days: u32,
    /// Whether resident indexes, and all memory of a sidecar, must be locked: `prefer`, `require` or `never`. Default:
    /// `prefer`.
    pub memory_lock: LockPolicy,
    /// What the search indexes of all collections may take of memory together, in MiB; 0 is half of what there is. Default:
    /// 0.
    pub resident_mib: u32,
    /// From how many vectors on a search index in memory gets a search graph; 0 is never. Default: 100000.
    pub graph_from: u32,
    /// Cache of the key-value engine, in MiB. Default: 64.
    pub cache_mib: u32,
    /// Writing stops when less than this is free on the data directory's disk, in MiB. Default: 256.
    pub min_free_mib: u32,
    /// The vector engine is flushed at least this often while it has unflushed writes, in seconds. Default: 10.
    pub flush_interval_s: u32,
    /// A collection that nobody used for this long is closed and its index erased, in seconds. Default: 300.
    pub idle_close_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            keystore_dir: "keys".into(),
            keystore: CustodyKind::File,
            pkcs11_module: PathBuf::new(),
            pkcs11_token: "strongroom".into(),
            kms: String::new(),
            kms_server_sha256: String::new(),
            kms_server_name: String::new(),
            kms_listen: "unix:kms.sock".into(),
            kms_services: "services.toml".into(),
            kms_tls_certificate: PathBuf::new(),
            kms_tls_key: PathBuf::new(),
            tls_ca: PathBuf::new(),
            tls_classical_servers: String::new(),
            sidecar_audience: "sidecar".into(),
            sidecar_listen: "unix:sidecar.sock".into(),
            sidecar_services: "sidecar-services.toml".into(),
            sidecar_dir: "sidecar".into(),
            sidecar_tenant_rate: 100_000,
            sidecar_tenant_concurrency: 256,
            store: String::new(),
            store_server_sha256: String::new(),
            store_server_name: String::new(),
            store_listen: "unix:store.sock".into(),
            store_services: "store-services.toml".into(),
            qdrant_rest_listen: String::new(),
            qdrant_grpc_listen: String::new(),
            qdrant_tls: WireProtection::PostQuantum,
            qdrant_api_keys: "api-keys.toml".into(),
            backup_dir: PathBuf::new(),
            qdrant_url: String::new(),
            qdrant_api_key_file: PathBuf::new(),
            qdrant_server_sha256: String::new(),
            qdrant_server_name: String::new(),
            qdrant_prefix: "strongroom".into(),
            qdrant_timeout_ms: 10_000,
            qdrant_connections: 4,
            epoch_min: 43_200,
            epoch_retention_min: 10_080,
            rotation_interval_s: 60,
            rotation_windows: String::new(),
            rotation_time_zone: "UTC".into(),
            rotation_tenants_at_once: 2,
            rotation_threads: 0,
            rotation_mib_per_s: 0,
            rotation_p99_percent: 150,
            audit_heartbeat_s: 300,
            alert_window_s: 300,
            alert_open_failures: 1,
            alert_signature_failures: 5,
            alert_cross_tenant: 3,
            alert_token_replays: 3,
            alert_volume_factor: 10,
            alert_volume_floor: 1000,
            alert_warm_up_min: 1440,
            alert_clock_jump_s: 10,
            alert_repeat_s: 3600,
            alert_trips: String::new(),
            alert_webhook: String::new(),
            alert_webhook_secret_file: PathBuf::new(),
            audit_signature: SignatureChoice::SlhDsa,
            audit_on_failure: OnFailure::Refuse,
            audit_min_free_mib: 64,
            audit_retention_days: 0,
            memory_lock: LockPolicy::Prefer,
            resident_mib: 0,
            graph_from: 100_000,
            cache_mib: 64,
            min_free_mib: 256,
            flush_interval_s: 10,
            idle_close_s: 300,
        }
    }
}

impl Config {
    /// Reads `strongroom.toml` in `dir` if it is there, then the environment, then `overrides` (`key=value`).
    pub fn load(dir: &Path, overrides: &[String]) -> Result<Self> {
        let bad = |e: config::ConfigError| {
            Error::invalid("the configuration is wrong")
                .with_remedy(format!("see `schema/config.schema.json` for the keys: {e}"))
                .with_source(e)
        };
        let file = config::File::from(dir.join(CONFIG_FILE)).required(false);
        let env = config::Environment::with_prefix(ENV_PREFIX).try_parsing(true);
        let mut builder = config::Config::builder().add_source(file).add_source(env);
        for setting in overrides {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::invalid(format!("`{}` is not a setting", crate::id::shown(setting)))
                    .with_remedy("write key=value")
            })?;
            builder = builder.set_override(key, value).map_err(bad)?;
        }
        builder.build().map_err(bad)?.try_deserialize().map_err(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_has_these_keys_with_these_defaults_and_no_others() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("../schema/config.schema.json")).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        let properties = schema["properties"].as_object().unwrap();
        let defaults = serde_json::to_value(Config::default()).unwrap();
        let defaults = defaults.as_object().unwrap();
        assert!(properties.keys().eq(defaults.keys()), "{:?}", properties.keys());
        for (key, property) in properties {
            assert_eq!(property["default"], defaults[key], "{key}");
            let kind = if defaults[key].is_string() { "string" } else { "integer" };
            assert_eq!(property["type"], kind, "{key}");
        }
    }

    #[test]
    fn every_default_is_justified_in_the_manual() {
        let manual = include_str!("manual/defaults.md");
        let defaults = serde_json::to_value(Config::default()).unwrap();
        for (key, value) in defaults.as_object().unwrap() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert!(manual.contains(&format!("| `{key}` | `{value}` |")), "{key} = {value}");
        }
    }

    #[test]
    fn file_and_overrides_in_that_order_and_unknown_keys_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Config::load(dir.path(), &[]).unwrap(), Config::default());
        std::fs::write(dir.path().join(CONFIG_FILE), "cache_mib = 7\nmin_free_mib = 8\n").unwrap();
        let config = Config::load(dir.path(), &["min_free_mib=9".into()]).unwrap();
        assert_eq!((config.cache_mib, config.min_free_mib), (7, 9));
        assert!(Config::load(dir.path(), &["cash_mib=9".into()]).is_err());
        assert!(Config::load(dir.path(), &["nonsense".into()]).is_err());
    }
}
