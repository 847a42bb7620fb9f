//! Guards against an embeddings endpoint that fails, lies or echoes, against a loopback server.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::test_server::{KEY, Server, reply, success};
use super::*;

/// All that a user or a log may see of an error.
fn everything(e: &Error) -> String {
    let mut seen = format!("{e} {e:?} {:?}", e.remedy());
    let mut source = std::error::Error::source(e);
    while let Some(e) = source {
        seen += &format!(" {e} {e:?}");
        source = e.source();
    }
    assert!(!seen.contains("SECRETKEY") && !seen.contains("private text"), "{seen}");
    seen
}

fn vectors(answer: Result<Vec<Result<Vec<f32>>>>) -> Vec<Vec<f32>> {
    answer.unwrap().into_iter().map(Result::unwrap).collect()
}

#[test]
fn texts_are_sent_in_bounded_requests_and_come_back_in_order() {
    let server = Server::new(9, |_, asked| success(asked));
    let texts: Vec<String> = (0..70).map(|n| "x".repeat(n)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = vectors(server.embedder().embed(&texts));
    for (n, vector) in found.iter().enumerate() {
        assert_eq!(vector, &[n as f32, (n % 32) as f32]);
    }
    let asked = server.finish();
    assert_eq!(asked.iter().map(|a| a.texts().len()).collect::<Vec<_>>(), [32, 32, 6]);
    for a in asked {
        assert_eq!(a.path, "/v1/embeddings");
        assert_eq!(a.authorization.as_deref(), Some(&*format!("Bearer {KEY}")));
        assert_eq!(a.body["model"], "test-model");
        assert_eq!(a.body["encoding_format"], "float");
    }
}

#[test]
fn requests_are_bounded_in_bytes() {
    let long = "x".repeat(limits::EMBED_REQUEST_BYTES / 2);
    assert_eq!(request_texts(&[&long, &long, &long]), 2);
    let longer = "x".repeat(limits::EMBED_REQUEST_BYTES + 1);
    assert_eq!(request_texts(&[&longer, "a"]), 1);
    assert_eq!(request_texts(&["a", &longer]), 1);
    assert_eq!(request_texts(&[""; 100]), limits::EMBED_TEXTS);
}

#[test]
fn a_busy_endpoint_is_asked_again() {
    for first in ["429 Too Many Requests", "500 Oops", "503 Unavailable", "529 Overloaded"] {
        let server = Server::new(
            9,
            move |n, asked| {
                if n < 2 { reply(first, "Retry-After: 0\r\n", "{}") } else { success(asked) }
            },
        );
        assert_eq!(vectors(server.embedder().embed(&["abc"])), [[3.0, 0.0]]);
        assert_eq!(server.finish().len(), 3);
    }
}

#[test]
fn an_endpoint_that_always_fails_is_given_up() {
    let server = Server::new(99, |_, _| reply("500 Oops", "", "sorry: private text"));
    let error = server.embedder().embed(&["private text"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let seen = everything(&error);
    assert!(seen.contains("answered 500, 6 times") && seen.contains("again later"), "{seen}");
    assert_eq!(server.finish().len(), limits::EMBED_ATTEMPTS as usize);
}

#[test]
fn waiting_longer_than_allowed_ends_the_run_at_once() {
    let server = Server::new(9, |_, _| reply("429 Slow", "Retry-After: 3600\r\n", "{}"));
    let error = server.embedder().embed(&["a"]).unwrap_err();
    assert!(everything(&error).contains("asks to wait 3600 s"));
    assert_eq!(server.finish().len(), 1);
}

#[test]
fn an_empty_purse_is_not_asked_again() {
    let server = Server::new(9, |_, _| reply("429 Slow", "", r#"{"error":{"code":"insufficient_quota"}}"#));
    let error = server.embedder().embed(&["a"]).unwrap_err();
    assert!(everything(&error).contains("insufficient_quota"));
    assert_eq!(server.finish().len(), 1);
}

#[test]
fn a_broken_connection_is_tried_again() {
    let server = Server::new(9, |n, asked| {
        let whole = success(asked);
        if n == 0 {
            whole[..whole.len() - 5].to_owned()
        } else if n == 1 {
            String::new()
        } else {
            whole
        }
    });
    assert_eq!(vectors(server.embedder().embed(&["abc"])), [[3.0, 0.0]]);
    assert_eq!(server.finish().len(), 3);
}

#[test]
fn an_absent_endpoint_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let mut embedder = Embedder::new(&url, "m", None).unwrap();
    embedder.pace.first = Duration::from_millis(1);
    let error = embedder.embed(&["private text"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(everything(&error).contains("cannot be reached, or broke off, 6 times"));
}

#[test]
fn wrong_answers_are_refused_without_repeating_them() {
    for (body, why) in [
        (r#"{"data":[{"index":0,"embedding":[1]}]}"#, "1 embeddings for 2 texts"),
        (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[NaN]}]}"#, "not valid JSON"),
        (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1e39]}]}"#, "not valid JSON"),
        (r#"{"data":"private text"}"#, "not a list of embeddings"),
        ("<html>private text", "not valid JSON"),
    ] {
        let server = Server::new(9, move |_, _| reply("200 OK", "", body));
        let error = server.embedder().embed(&["a", "b"]).unwrap_err();
        let seen = everything(&error);
        assert!(seen.contains(why) && seen.contains("--embed-model"), "{seen}");
        assert_eq!(server.finish().len(), 1);
    }
}

#[test]
fn dimensions_may_not_change_between_requests() {
    let server = Server::new(9, |n, _| {
        reply("200 OK", "", &json!({"data": [{"index": 0, "embedding": vec![1; n + 2]}]}).to_string())
    });
    let mut embedder = server.embedder();
    embedder.embed(&["a"]).unwrap();
    assert!(everything(&embedder.embed(&["a"]).unwrap_err()).contains("3 dimensions, and others have 2"));
    server.finish();
}

#[test]
fn a_wrong_key_is_denied_and_never_shown() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let echo = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}","code":"{KEY}"}}}}"#);
        let server = Server::new(9, move |_, _| reply(status, "", &echo));
        let mut embedder = server.embedder();
        let error = embedder.embed(&["private text"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(everything(&error).contains("STRONGROOM_EMBED_API_KEY"));
        assert!(!format!("{embedder:?}").contains("SECRETKEY"));
        assert_eq!(server.finish().len(), 1);
    }
}

#[test]
fn redirects_are_not_followed() {
    let server = Server::new(9, |_, _| reply("307 Elsewhere", "Location: http://127.0.0.1:1/\r\n", ""));
    let error = server.embedder().embed(&["a"]).unwrap_err();
    assert!(everything(&error).contains("answered 307"));
    assert_eq!(server.finish().len(), 1);
}

#[test]
fn one_refused_text_is_found_among_good_ones() {
    let server = Server::new(99, |_, asked| {
        let bad = asked.texts().iter().any(|t| t.contains("private text"));
        if bad { reply("400 Bad", "", r#"{"error":{"code":"context_length_exceeded"}}"#) } else { success(asked) }
    });
    let mut texts = vec!["fine"; 20];
    texts[13] = "private text";
    let answer = server.embedder().embed(&texts).unwrap();
    let bad: Vec<usize> = answer.iter().enumerate().filter(|(_, a)| a.is_err()).map(|(n, _)| n).collect();
    assert_eq!(bad, [13]);
    assert!(everything(answer[13].as_ref().unwrap_err()).contains("context_length_exceeded"));
    assert!(server.finish().len() < 12);
}

#[test]
fn a_request_that_is_always_refused_ends_the_run() {
    let server = Server::new(99, |_, _| reply("422 No", "", "private text"));
    let error = server.embedder().embed(&["a", "b", "c"]).unwrap_err();
    assert!(everything(&error).contains("answered 422"));
    assert_eq!(server.finish().len(), 5);
}

#[test]
fn an_answer_that_is_too_large_is_cut_off() {
    let server = Server::new(9, |_, _| reply("200 OK", "", &" ".repeat(limits::EMBED_RESPONSE_BYTES + 1)));
    let error = server.embedder().embed(&["a"]).unwrap_err();
    assert!(everything(&error).contains("too large"));
    assert_eq!(server.finish().len(), 1);
}

/// `ureq` traces the key and the answer through `log`, in hex rows that no search for the key finds. This test first shows that it does, then that we do not.
#[test]
fn the_most_verbose_log_holds_neither_key_nor_text() {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    use tracing_subscriber::util::SubscriberInitExt as _;
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = subscriber.finish().set_default();
    let server = Server::new(9, |_, asked| success(asked));
    let mut embedder = server.embedder();
    vectors(embedder.embed(&["private text"]));
    assert_eq!(String::from_utf8_lossy(&sink.0.lock().unwrap()), "");
    let body = wire::request("m", &["private text"]).unwrap();
    assert!(embedder.attempt(&body, 1).is_ok());
    assert!(!sink.0.lock().unwrap().is_empty(), "the guard is not needed any more, or this test sees nothing");
    server.finish();
}

#[test]
fn addresses_are_checked_and_completed() {
    for (given, url) in [
        ("http://h/v1/embeddings", "http://h/v1/embeddings"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1/embeddings"),
        ("https://h/proxy/v1/", "https://h/proxy/v1/embeddings"),
        ("http://[::1]:80", "http://[::1]:80/v1/embeddings"),
        ("https://h/x/embeddings?api-version=1", "https://h/x/embeddings?api-version=1"),
    ] {
        assert_eq!(Endpoint::parse(given).unwrap().url(), url);
    }
    let queried = Endpoint::parse("https://h/v1?key=SECRETKEY").unwrap();
    assert_eq!((queried.url(), queried.shown()), ("https://h/v1/embeddings?key=SECRETKEY", "https://h/v1/embeddings"));
    for bad in ["", "h", "/v1", "ftp://h/v1", "http://", "https://user:SECRETKEY@h/v1", "http://h/ä b SECRETKEY"] {
        let error = Endpoint::parse(bad).err().unwrap_or_else(|| panic!("{bad} was taken"));
        assert!(everything(&error).contains("help") || error.remedy().is_some());
    }
    for (url, private) in [
        ("http://localhost:1", true),
        ("http://127.0.0.9/v1", true),
        ("http://[::1]/v1", true),
        ("https://h", true),
        ("http://h", false),
        ("http://127.0.0.1.example.com", false),
    ] {
        assert_eq!(Endpoint::parse(url).unwrap().is_private(), private, "{url}");
    }
}

#[test]
fn a_borrowed_key_never_crosses_a_network_in_clear() {
    let env = |ours: &'static str, theirs: &'static str| {
        ApiKey::from_lookup(|name| Some(if name == "OPENAI_API_KEY" { theirs.into() } else { ours.into() })).unwrap()
    };
    assert!(env("", "").is_none());
    for (url, sent) in [("http://h/v1", false), ("https://h/v1", true), ("http://localhost/v1", true)] {
        assert_eq!(Embedder::new(url, "m", env("", KEY)).unwrap().key.is_some(), sent, "{url}");
        assert!(Embedder::new(url, "m", env(KEY, "other")).unwrap().key.is_some());
    }
    assert!(Embedder::new("http://h/v1", "m", None).unwrap().sends_in_clear());
    let key = ApiKey::new(format!(" {KEY}\n").into_bytes()).unwrap();
    assert_eq!(key.header().unwrap().as_bytes(), format!("Bearer {KEY}").as_bytes());
    assert!(!format!("{:?}", key.header().unwrap()).contains("SECRETKEY"));
    for bad in ["", " \n", "SECRETKEY two", "SECRETKEY\u{e9}", "SECRETKEY\0"] {
        everything(&ApiKey::new(bad.as_bytes().to_vec()).err().unwrap());
    }
}
