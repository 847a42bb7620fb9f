//! Which server is talked to: its version, its certificate, its key exchange, and the API key that it wants.

use std::path::Path;
use std::sync::Arc;

use strongroom::clock::SystemClock;
use strongroom::pki::{Pki, Request};
use strongroom::{Config, ErrorKind, Mode, Store};

use crate::common::upstream::Upstream;
use crate::common::{self, passphrase};
use crate::{SERVERS, chunk, docs, text};

const KEY: &str = "a-key-for-tests";

async fn open(dir: &Path, config: Config) -> strongroom::Result<Store> {
    let options = common::options(dir).config(Config { qdrant_timeout_ms: 2_000, ..config });
    if !options.keystore_dir().exists() {
        Store::init(&options, passphrase()).await?;
    }
    Store::open(options, passphrase()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start(&["--says-version", "1.15.5"]);
    let config = Config { qdrant_url: upstream.url(), ..common::config() };
    let e = open(dir.path(), config.clone()).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert!(e.to_string().contains("1.15.5") && e.remedy().unwrap().contains("1.16"), "{e}");
    // It is refused too when it comes later.
    upstream.order("fail unavailable");
    let store = open(dir.path(), config).await.unwrap();
    upstream.order("ok");
    let tenant = store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    let docs = docs(&tenant, "docs", SERVERS[0], Mode::Sealed).await;
    assert_eq!(docs.ingest(vec![chunk(1, 0)]).await.err().unwrap().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_comes_from_a_file_and_is_never_shown() {
    let upstream = Upstream::start(&["--api-key", KEY]);
    let dir = tempfile::tempdir().unwrap();
    let config = Config { qdrant_url: upstream.url(), ..common::config() };
    for (content, works) in [(None, false), (Some("another-key"), false), (Some(KEY), true)] {
        let mut config = config.clone();
        if let Some(content) = content {
            std::fs::write(dir.path().join("qdrant.key"), format!("{content}\n")).unwrap();
            config.qdrant_api_key_file = "qdrant.key".into();
        }
        let store = open(dir.path(), config).await.unwrap();
        let id = "acme".parse().unwrap();
        let tenant = match store.tenant(&id).await {
            Ok(tenant) => tenant,
            Err(_) => store.create_tenant(&id).await.unwrap(),
        };
        let docs =
            docs(&tenant, &format!("docs {works} {}", content.unwrap_or_default()), SERVERS[0], Mode::Sealed).await;
        match docs.ingest(vec![chunk(1, 0)]).await {
            Ok(_) => assert!(works),
            Err(e) => {
                assert!(!works && e.kind() == ErrorKind::Denied, "{e}");
                let source = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
                let said = format!("{e} {source} {}", e.remedy().unwrap());
                assert!(said.contains("qdrant_api_key_file") && !said.contains("another-key"), "{said}");
            }
        }
        drop((docs, tenant));
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_servers_that_are_believed_with_a_hybrid_key_exchange_or_an_exception() {
    let files = tempfile::tempdir().unwrap();
    let pki = files.path().join("pki");
    Pki::init(&pki, Arc::new(SystemClock)).unwrap();
    let issued = Pki::open(&pki, Arc::new(SystemClock)).unwrap().issue(&Request::new("qdrant")).unwrap();
    let path = |name: &str| pki.join("issued").join(name).to_str().unwrap().to_owned();
    let tls = ["--tls-cert", &path("qdrant.pem"), "--tls-key", &path("qdrant.key")];
    let hybrid = Upstream::start(&tls);
    let classical = Upstream::start(&[&tls[..], &["--classical"]].concat());
    let ca = pki.join("ca.pem");
    let pinned = issued.sha256.clone();
    let base = |upstream: &Upstream| Config { qdrant_url: upstream.url(), ..common::config() };
    let place = |upstream: &Upstream| upstream.url().replace("https://", "tcp:");
    let cases = [
        ("pinned", Config { qdrant_server_sha256: pinned.clone(), ..base(&hybrid) }, true),
        ("named", Config { tls_ca: ca.clone(), qdrant_server_name: "qdrant".into(), ..base(&hybrid) }, true),
        ("another name", Config { tls_ca: ca.clone(), qdrant_server_name: "other".into(), ..base(&hybrid) }, false),
        ("another pin", Config { qdrant_server_sha256: "00".repeat(32), ..base(&hybrid) }, false),
        ("classical", Config { qdrant_server_sha256: pinned.clone(), ..base(&classical) }, false),
        (
            "classical, allowed",
            Config {
                qdrant_server_sha256: pinned.clone(),
                tls_classical_servers: place(&classical),
                ..base(&classical)
            },
            true,
        ),
        (
            "classical, another allowed",
            Config { qdrant_server_sha256: pinned, tls_classical_servers: place(&hybrid), ..base(&classical) },
            false,
        ),
    ];
    for (what, config, works) in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), config).await.unwrap();
        let tenant = store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
        let docs = docs(&tenant, "docs", SERVERS[0], Mode::Sealed).await;
        match docs.ingest(vec![chunk(1, 0)]).await {
            Ok(_) => {
                assert!(works, "{what}");
                assert_eq!(text(&docs, 1).await, chunk(1, 0).text);
            }
            Err(e) => assert!(!works && e.kind() == ErrorKind::Unavailable, "{what}: {e}"),
        }
    }
    // Without anything that vouches for it, no server is believed.
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(open(dir.path(), base(&hybrid)).await.err().unwrap().kind(), ErrorKind::InvalidInput);
}
