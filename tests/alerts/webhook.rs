//! The webhook: signed so that a receiver can tell, and tried again until somebody takes it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use strongroom::audit::alert::{AlertOptions, WebhookSecret, WebhookTarget};
use strongroom::audit::{RecordType, What};
use strongroom::crypto::default_provider;
use strongroom::secret::Secret;

use crate::watch::{NOW_MS, Watch};

const KEY: [u8; 32] = [9; 32];

struct Posted {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Posted {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("no {name}")).1
    }
}

/// Answers with these statuses, one a request, and passes on what was posted.
fn server(statuses: Vec<u16>) -> (String, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let split = |line: &String| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned()));
            let headers: Vec<_> = lines.iter().filter_map(split).collect();
            let length = headers.iter().find(|(k, _)| k.eq_ignore_ascii_case("content-length")).unwrap().1.clone();
            let mut body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            sender.send(Posted { headers, body }).unwrap();
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    (url, receiver)
}

fn options(url: &str) -> AlertOptions {
    let secret = WebhookSecret::parse(&format!("whsec_{}", STANDARD.encode(KEY))).unwrap();
    let mut target = WebhookTarget::new(url, secret).unwrap();
    target.first_wait_ms = 5;
    AlertOptions { webhook: Some(target), ..AlertOptions::default() }
}

fn take(posted: &Receiver<Posted>) -> Posted {
    posted.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn an_alert_is_signed_and_posted_until_it_is_taken() {
    let (url, posted) = server(vec![500, 503, 204]);
    let watch = Watch::new(options(&url));
    watch.event("ab", What::OpenFailed { record: RecordType::Chunk, place: None, id: None });
    watch.alerts.settle();
    let attempts = [take(&posted), take(&posted), take(&posted)];
    let alert: Value = serde_json::from_slice(&attempts[2].body).unwrap();
    assert_eq!((&alert["rule"], &alert["tenant"]), (&"open-failures".into(), &"ab".into()), "{alert}");
    assert_eq!(alert["id"], attempts[2].header("webhook-id"));
    let mac = default_provider().mac(&Secret::from_bytes(KEY));
    for attempt in &attempts {
        // The same alert each time, so that a receiver can tell.
        assert_eq!(
            (&attempt.body, attempt.header("webhook-id")),
            (&attempts[0].body, attempts[0].header("webhook-id"))
        );
        let (id, at) = (attempt.header("webhook-id"), attempt.header("webhook-timestamp"));
        assert_eq!(at, (NOW_MS / 1000).to_string());
        let tag = mac.tag(&[format!("{id}.{at}.").as_bytes(), &attempt.body]);
        assert_eq!(attempt.header("webhook-signature"), format!("v1,{}", STANDARD.encode(tag)));
        assert_eq!(attempt.header("content-type"), "application/json");
    }
    let mut registry = prometheus_client::registry::Registry::default();
    watch.alerts.register(&mut registry);
    drop(watch.dir);
    drop((watch.sink, watch.alerts));
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    assert!(
        shown.contains("webhooks_delivered_total 1") && shown.contains("alerts_total{rule=\"open-failures\"} 1"),
        "{shown}"
    );
}

/// Guards against a server that is away and keeps the process from ending, or the rules from seeing.
#[test]
fn nobody_waits_for_a_server_that_is_away() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let watch = Watch::new(options(&url));
    for n in 0..50 {
        watch.event(&n.to_string(), What::OpenFailed { record: RecordType::Chunk, place: None, id: None });
    }
    assert_eq!(watch.found().len(), 50);
    let ended = std::time::Instant::now();
    drop((watch.sink, watch.alerts));
    assert!(ended.elapsed() < Duration::from_secs(60), "it has an end");
}
