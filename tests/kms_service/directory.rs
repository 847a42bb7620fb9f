//! Guards against a key directory that serves wrong or stale keys, or tells which tenants there are.

use std::path::Path;

use base64::Engine as _;
use strongroom::keys::Profile;
use strongroom::keys::certificate::from_pem;
use strongroom::keys::kms::{KeyAdmin as _, Role};
use strongroom::server::Address;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{Server, service, socket, uid};
use crate::world::{World, tenant_of};

/// One request over HTTP/1.1; the whole answer.
pub async fn http(socket: &Path, line: &str, headers: &[&str], body: &[u8]) -> String {
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let mut request = format!("{line}\r\nHost: kms\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // The service may answer before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

struct Directory {
    server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Directory {
    fn new(tenants: &str, uid: u32) -> Self {
        let world = World::new();
        let address = socket(world.dir.path());
        let services = service("reader", "reader", tenants, &format!("uid = {uid}"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { server: Server::start(world, address, None, &services), runtime }
    }

    fn get(&self, path: &str, headers: &[&str]) -> (String, String) {
        let Address::Unix(socket) = &self.server.address else { unreachable!() };
        let answer = self.runtime.block_on(http(socket, &format!("GET {path} HTTP/1.1"), headers, b""));
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        (head.to_lowercase(), body.to_owned())
    }
}

#[test]
fn keys_and_certificates_are_the_keystores() {
    let directory = Directory::new("\"*\"", uid());
    for profile in Profile::ALL {
        let tenant = tenant_of(profile);
        let public = directory.server.world().anywhere(Role::Reader).public(&tenant).unwrap();
        let (head, body) = directory.get(&format!("/v1/tenants/{}/keys", tenant.as_str()), &[]);
        assert!(head.starts_with("http/1.1 200") && head.contains("application/json"), "{head}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let bytes = |of: &str| {
            base64::engine::general_purpose::STANDARD.decode(json[of]["public_key"].as_str().unwrap()).unwrap()
        };
        assert_eq!(bytes("root"), public.root_public_key);
        assert_eq!(bytes("signing"), public.signing_public_key);
        assert_eq!(json["profile"], profile.as_str());
        assert_eq!(json["signing"]["fingerprint"], public.record.signing_fingerprint.to_string());
        let (_, pem) = directory.get(&format!("/v1/tenants/{}/certificates", tenant.as_str()), &[]);
        assert_eq!(json["certificates"], pem);
        let ders: Vec<_> = from_pem(&pem).unwrap().iter().map(|c| c.as_der().to_vec()).collect();
        assert_eq!(ders, public.certificates);
        let (_, authorities) = directory.get("/v1/authorities", &[]);
        assert!(from_pem(&authorities).unwrap().iter().any(|c| c.as_der() == public.certificates[0]));
    }
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let directory = Directory::new("\"*\"", uid());
    for path in ["/v1/tenants/pure-1/keys", "/v1/tenants/pure-1/certificates", "/v1/authorities"] {
        let (head, _) = directory.get(path, &[]);
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        assert!(!tag.starts_with("w/") && head.contains("cache-control: private, max-age="), "{head}");
        // Header values were put into lower case above.
        let tag = directory.get_tag(path);
        for list in [tag.clone(), format!("\"x\", {tag}"), format!("W/{tag}"), "*".to_owned()] {
            let (head, body) = directory.get(path, &[&format!("If-None-Match: {list}")]);
            assert!(head.starts_with("http/1.1 304") && head.contains("etag: ") && body.is_empty(), "{head}");
        }
        let (head, body) = directory.get(path, &["If-None-Match: \"x\""]);
        assert!(head.starts_with("http/1.1 200") && !body.is_empty());
    }
    let before = directory.get_tag("/v1/tenants/pure-1/keys");
    assert_ne!(before, directory.get_tag("/v1/tenants/pure-2/keys"));
}

impl Directory {
    fn get_tag(&self, path: &str) -> String {
        let Address::Unix(socket) = &self.server.address else { unreachable!() };
        let answer = self.runtime.block_on(http(socket, &format!("GET {path} HTTP/1.1"), &[], b""));
        let line = answer.lines().find(|line| line.to_lowercase().starts_with("etag:")).unwrap();
        line[5..].trim().to_owned()
    }
}

#[test]
fn a_tenant_of_others_and_one_that_there_is_not_look_alike() {
    let directory = Directory::new("\"pure-1\"", uid());
    let answer = |path: &str| {
        let (head, body) = directory.get(path, &[]);
        let head: Vec<_> = head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect();
        (head, body)
    };
    assert!(answer("/v1/tenants/pure-1/keys").0[0].contains("200"));
    for kind in ["keys", "certificates"] {
        let others = answer(&format!("/v1/tenants/pure-2/{kind}"));
        assert!(others.0[0].contains("404"));
        let error: serde_json::Value = serde_json::from_str(&others.1).unwrap();
        assert_eq!(error["kind"], "not_found");
        assert!(error["message"].is_string() && error["remedy"].is_string());
        for none in ["nobody", "NOBODY", "_system", "_authority-ml-dsa-87", "%2e%2e"] {
            assert_eq!(answer(&format!("/v1/tenants/{none}/{kind}")), others, "{none}");
        }
    }
}

#[test]
fn nobody_unknown_reads_anything() {
    let directory = Directory::new("\"*\"", uid() + 1);
    for path in ["/healthz", "/v1/authorities", "/v1/tenants/pure-1/keys", "/nothing"] {
        let (head, body) = directory.get(path, &[]);
        assert!(head.starts_with("http/1.1 401"), "{head}");
        assert!(body.contains("\"kind\":\"denied\""), "{body}");
    }
    assert_eq!(directory.server.unknown_peers(), 4);
    let directory = Directory::new("\"*\"", uid());
    assert!(directory.get("/healthz", &[]).0.starts_with("http/1.1 200"));
    assert!(directory.get("/nothing", &[]).0.starts_with("http/1.1 404"));
}
