//! Guards against a service that takes everybody's place, and against an end that never comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use strongroom::limits;
use tokio::sync::Notify;

use crate::client::{Client, Shown, X25519MLKEM768};
use crate::scene::{Files, Server, eventually, named};

/// Answers to `/wait` when told to, and counts who waits.
struct Waiting {
    go: Arc<Notify>,
    now: Arc<AtomicUsize>,
}

impl Waiting {
    fn new() -> (Self, Router) {
        let (go, now) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (their_go, their_now) = (go.clone(), now.clone());
        let wait = move || {
            let (go, now) = (their_go.clone(), their_now.clone());
            async move {
                let told = go.notified();
                now.fetch_add(1, Ordering::SeqCst);
                told.await;
                "done"
            }
        };
        (Self { go, now }, Router::new().route("/wait", get(wait)).route("/", get(|| async { "here" })))
    }
}

#[test]
fn a_service_has_so_many_requests_at_once_and_takes_no_other_services_place() {
    let files = Files::new();
    files.issue("one");
    files.issue("two");
    let (waiting, routes) = Waiting::new();
    let server = Server::start_with(&files, &(named("one") + &named("two")), routes);
    let connect = |name| Client::new(&server.place(), &Shown::load(&files.path("pki/issued"), name), &[X25519MLKEM768]);
    let most = limits::RPC_REQUESTS_PER_SERVICE;
    let mut busy: Vec<Client> = (0..most).map(|_| connect("one")).collect();
    busy.iter_mut().for_each(|client| client.send("/wait").unwrap());
    eventually("all requests", || waiting.now.load(Ordering::SeqCst) == most);
    let (status, body) = connect("one").get("/").unwrap();
    assert_eq!(status, 429, "{body}");
    assert_eq!(server.counts.over_limit.load(Ordering::SeqCst), 1);
    assert_eq!(connect("two").get("/").unwrap().0, 200);
    // The bound outlasts a change of the file of services.
    files.services(&[named("one"), named("two"), named("three")].concat());
    let until = std::time::Instant::now() + std::time::Duration::from_millis(2 * limits::RELOAD_MS);
    while std::time::Instant::now() < until {
        assert_eq!(connect("one").get("/").unwrap().0, 429);
    }
    waiting.go.notify_waiters();
    assert!(busy.iter_mut().all(|client| client.receive().unwrap() == (200, "done".to_owned())));
    eventually("a place", || connect("one").get("/").unwrap().0 == 200);
}

/// Guards against a stop that waits for ever, and against one that throws away what was about to be answered.
#[test]
fn the_end_waits_for_what_was_begun_but_not_for_ever() {
    for answered in [true, false] {
        let files = Files::new();
        files.issue("one");
        let (waiting, routes) = Waiting::new();
        let mut server = Server::start_with(&files, &named("one"), routes);
        let shown = Shown::load(&files.path("pki/issued"), "one");
        let mut client = Client::new(&server.place(), &shown, &[X25519MLKEM768]);
        client.send("/wait").unwrap();
        eventually("the request", || waiting.now.load(Ordering::SeqCst) == 1);
        server.tell();
        if answered {
            waiting.go.notify_waiters();
            assert_eq!(client.receive().unwrap(), (200, "done".to_owned()));
        }
        // Twenty seconds for the one that is never answered; a test that hangs has failed.
        server.join().unwrap();
        drop(server);
        assert!(client.is_cut_off());
    }
}
