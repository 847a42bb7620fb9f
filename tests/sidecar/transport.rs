//! Over a socket: the client, single use raced by two hundred, the REST form, health, and an orderly end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use strongroom::ErrorKind;
use strongroom::keys::Profile;
use strongroom::token::{Form, Revocation};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::scene::{Scene, TEXT};
use crate::serving::{Ended, Running, client};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_redeems_over_the_socket() {
    for profile in Profile::ALL {
        let scene = Scene::new(profile);
        let running = Running::start(&scene, "node").await;
        let records = scene.seal(3);
        for form in [Form::Clear, Form::Sealed] {
            let client = client(&running.socket(), profile, form);
            let token = scene.mint_for(&client.holder().id().unwrap(), &records, 4);
            for _ in 0..4 {
                let redeemed = client.redeem(&token, scene.signer.chain(), &scene.wanted(&records)).await.unwrap();
                assert_eq!(redeemed.len(), 3);
                assert!(redeemed.iter().all(|record| record.content.expose_secret() == TEXT), "{profile}");
            }
            let used_up = client.redeem(&token, scene.signer.chain(), &scene.wanted(&records)).await;
            assert_eq!(used_up.err().unwrap().kind(), ErrorKind::Denied);
        }
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_race_for_one_use_over_the_socket() {
    let scene = Scene::new(Profile::Pure);
    let running = Running::start(&scene, "node").await;
    let records = scene.seal(1);
    let client = client(&running.socket(), Profile::Pure, Form::Clear);
    let token = Arc::new(scene.mint_for(&client.holder().id().unwrap(), &records, 1));
    let (won, wanted, chain) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(scene.wanted(&records)), Arc::new(scene.signer.chain().to_vec()));
    let racing: Vec<_> = (0..200)
        .map(|_| {
            let (client, token, won, wanted, chain) =
                (client.clone(), token.clone(), won.clone(), wanted.clone(), chain.clone());
            tokio::spawn(async move {
                match client.redeem(&token, &chain, &wanted).await {
                    Ok(redeemed) => {
                        assert_eq!(redeemed[0].content.expose_secret(), TEXT);
                        won.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Denied, "{e}"),
                }
            })
        })
        .collect();
    for racer in racing {
        racer.await.unwrap();
    }
    assert_eq!(won.load(Ordering::SeqCst), 1);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_over_a_sidecar_that_was_started_anew() {
    let scene = Scene::new(Profile::Pure);
    let running = Running::start(&scene, "node").await;
    let records = scene.seal(1);
    let client = client(&running.socket(), Profile::Pure, Form::Sealed);
    let token = scene.mint_for(&client.holder().id().unwrap(), &records, 3);
    client.redeem(&token, scene.signer.chain(), &scene.wanted(&records)).await.unwrap();
    let socket = running.socket();
    let Ended { dir } = running.end().await;
    // The same ledger, but no contact and no remembered token.
    let scene = scene.restart();
    let running = Running::start_in(dir, &scene, "node").await;
    assert_eq!(running.socket(), socket);
    client.redeem(&token, scene.signer.chain(), &scene.wanted(&records)).await.unwrap();
    client.redeem(&token, scene.signer.chain(), &scene.wanted(&records)).await.unwrap();
    let used_up = client.redeem(&token, scene.signer.chain(), &scene.wanted(&records)).await;
    assert_eq!(used_up.err().unwrap().kind(), ErrorKind::Denied);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_revoke_over_the_socket_and_nobody_else() {
    let scene = Scene::new(Profile::Pure);
    let running = Running::start(&scene, "admin").await;
    let client = client(&running.socket(), Profile::Pure, Form::Sealed);
    let all = [
        Revocation::Token([1; 16].into()),
        Revocation::Holder([2; 32].into()),
        Revocation::Tenant(scene.tenant.clone()),
    ];
    for revocation in &all {
        client.revoke(revocation).await.unwrap();
    }
    let listed: Vec<_> = client.revocations().await.unwrap().into_iter().map(|(revocation, _)| revocation).collect();
    assert_eq!(listed, all);
    assert!(client.lift(&all[1]).await.unwrap() && !client.lift(&all[1]).await.unwrap());
    running.end().await;
    let running = Running::start(&scene, "node").await;
    let node = self::client(&running.socket(), Profile::Pure, Form::Sealed);
    assert_eq!(node.revoke(&all[0]).await.err().unwrap().kind(), ErrorKind::Denied);
    running.end().await;
}

/// An HTTP/1.1 request over the socket: status and body.
async fn http(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_form_does_the_same() {
    let scene = Scene::new(Profile::Pure);
    let running = Running::start(&scene, "node").await;
    let socket = running.socket();
    let holder = &scene.holder;
    let hello = holder.hello().unwrap();
    let asked = json!({"profile": "pure", "public_key": BASE64.encode(&hello.public_key),
        "nonce": BASE64.encode(hello.nonce)});
    let (status, body) = http(&socket, "POST", "/v1/contact", &asked.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let bytes = |key: &str| BASE64.decode(answer[key].as_str().unwrap()).unwrap();
    let welcome = strongroom::token::Welcome {
        id: bytes("id").try_into().unwrap(),
        ciphertext: bytes("ciphertext"),
        expires_at_ms: answer["expires_at_ms"].as_u64().unwrap(),
        confirmation: bytes("confirmation").try_into().unwrap(),
    };
    let met = holder.meet(&scene.audience, &hello, &welcome).unwrap();
    let records = scene.seal(1);
    let token = scene.mint(&records, 1);
    let scene = Scene { met, ..scene };
    let request = scene.request(&token, &records, Form::Clear);
    let wanted = &request.records[0];
    let asked = json!({
        "contact": BASE64.encode(request.contact), "counter": request.proof.counter,
        "proof": BASE64.encode(request.proof.mac), "clear": true, "token": BASE64.encode(&token),
        "issuer": scene.signer.chain().iter().map(|der| BASE64.encode(der)).collect::<Vec<_>>(),
        "records": [{"digest": BASE64.encode(wanted.asked.digest.as_bytes()), "place": BASE64.encode(&wanted.place),
            "sealed": BASE64.encode(wanted.sealed.as_ref().unwrap())}],
    });
    let (status, body) = http(&socket, "POST", "/v1/redeem", &asked.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["records"][0], json!({"kind": "context", "text": String::from_utf8_lossy(TEXT)}));
    let (status, body) = http(&socket, "POST", "/v1/redeem", &asked.to_string()).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("the token is refused"));
    let (status, _) = http(&socket, "POST", "/v1/redeem", "{}").await;
    assert_eq!(status, 422);
    for (path, expected, words) in [
        ("/healthz", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/metrics", 200, "redeems_total 1"),
        ("/", 404, "nothing"),
    ] {
        let (status, body) = http(&socket, "GET", path, "").await;
        assert_eq!(status, expected, "{path}");
        assert!(body.contains(words), "{path}: {body}");
    }
    running.end().await;
}
