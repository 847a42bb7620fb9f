//! A loopback HTTP server for tests: bounded in requests and time, so that it stops by itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ApiKey, Embedder};

/// The key its embedders send.
pub(crate) const KEY: &str = "sk-proj-SECRETKEY0123456789";

/// A request as it came in.
pub(crate) struct Asked {
    pub(crate) authorization: Option<String>,
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn texts(&self) -> Vec<String> {
        serde_json::from_value(self.body["input"].clone()).unwrap()
    }
}

/// Answers at most `most` requests with what `answer` says, and stops after them or after ten seconds.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn new(most: usize, answer: impl Fn(usize, &Asked) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (log, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(10);
            let mut served = 0;
            while served < most && Instant::now() < end && !stopped.load(Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let request = read_request(&stream);
                let _ = (&stream).write_all(answer(served, &request).as_bytes());
                log.lock().unwrap().push(request);
                served += 1;
            }
        });
        Self { url, asked, thread: Some(thread), stop }
    }

    pub(crate) fn embedder(&self) -> Embedder {
        let key = ApiKey::new(KEY.as_bytes().to_vec()).unwrap();
        let mut embedder = Embedder::new(&self.url, "test-model", Some(key)).unwrap();
        embedder.pace.first = Duration::from_millis(1);
        embedder
    }

    pub(crate) fn finish(mut self) -> Vec<Asked> {
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn read_request(stream: &TcpStream) -> Asked {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        line.clear();
        input.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).unwrap();
    Asked { authorization, path, body: serde_json::from_slice(&body).unwrap() }
}

pub(crate) fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// An embedding of each text: its length and its position, in reverse order.
pub(crate) fn success(asked: &Asked) -> String {
    let item = |(i, t): (usize, &String)| json!({"object": "embedding", "index": i, "embedding": [t.len(), i]});
    let data: Vec<Value> = asked.texts().iter().enumerate().map(item).rev().collect();
    reply("200 OK", "", &json!({"object": "list", "data": data, "model": "m", "usage": {}}).to_string())
}
