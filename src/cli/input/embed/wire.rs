//! The bytes of `POST /v1/embeddings`: writes requests, checks answers.

use serde::{Deserialize, Serialize};

use crate::limits;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    code: Option<serde_json::Value>,
    r#type: Option<serde_json::Value>,
}

/// The body of a request.
pub(super) fn request(model: &str, texts: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Request { model, input: texts, encoding_format: "float" })
}

/// The vectors of an answer in the order of the `texts` asked for, or what is wrong with it, in our own words: the
/// endpoint's may repeat texts or the key.
pub(super) fn vectors(body: &[u8], texts: usize, dimensions: Option<usize>) -> Result<Vec<Vec<f32>>, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => "its `data` is not a list of embeddings".to_owned(),
        _ => format!("it is not valid JSON at byte {} of {}", e.column(), body.len()),
    })?;
    if answer.data.len() != texts {
        return Err(format!("it holds {} embeddings for {texts} texts", answer.data.len()));
    }
    let mut ordered: Vec<Option<Vec<f32>>> = vec![None; texts];
    let mut dimensions = dimensions;
    for (position, item) in answer.data.into_iter().enumerate() {
        let index = item.index.unwrap_or(position);
        let found = item.embedding.len();
        if !(1..=limits::VECTOR_DIMENSIONS).contains(&found) {
            return Err(format!("an embedding has {found} dimensions, and not 1 to {}", limits::VECTOR_DIMENSIONS));
        }
        let expected = *dimensions.get_or_insert(found);
        if found != expected {
            return Err(format!("an embedding has {found} dimensions, and others have {expected}"));
        }
        if !item.embedding.iter().all(|x| x.is_finite()) {
            return Err(format!("embedding {index} holds a NaN or an infinity"));
        }
        match ordered.get_mut(index) {
            Some(place @ None) => *place = Some(item.embedding),
            _ => return Err(format!("index {index} is given twice or is too large")),
        }
    }
    ordered.into_iter().collect::<Option<_>>().ok_or_else(|| "an index is missing".to_owned())
}

/// The machine-readable reason of a refusal, if it is a known one. Everything else an endpoint says is left out of
/// messages, since it may repeat the key or a text.
pub(super) fn error_code(body: &[u8]) -> Option<&'static str> {
    const KNOWN: [&str; 10] = [
        "insufficient_quota",
        "rate_limit_exceeded",
        "context_length_exceeded",
        "model_not_found",
        "invalid_api_key",
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "server_error",
        "overloaded_error",
    ];
    let reason = serde_json::from_slice::<Refusal>(body).ok()?.error;
    let known = |value: Option<serde_json::Value>| {
        let value = value?;
        let text = value.as_str()?;
        KNOWN.into_iter().find(|k| *k == text)
    };
    known(reason.code).or_else(|| known(reason.r#type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_follows_the_index() {
        let body = br#"{"data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1]}],"usage":{}}"#;
        assert_eq!(vectors(body, 2, None).unwrap(), [[1.0], [2.0]]);
        let body = br#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#;
        assert_eq!(vectors(body, 2, Some(1)).unwrap(), [[1.0], [2.0]]);
    }

    #[test]
    fn each_way_to_answer_wrongly_is_named() {
        for (body, texts, why) in [
            ("", 1, "not valid JSON"),
            ("{}", 1, "not a list of embeddings"),
            (r#"{"data":[]}"#, 1, "0 embeddings for 1 texts"),
            (r#"{"data":[{"index":0,"embedding":[]}]}"#, 1, "0 dimensions"),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#, 2, "others have 1"),
            (r#"{"data":[{"index":0,"embedding":[1,2]}]}"#, 1, "others have 3"),
            (r#"{"data":[{"index":0,"embedding":[NaN,1,1]}]}"#, 1, "not valid JSON"),
            (r#"{"data":[{"index":0,"embedding":[null,1,1]}]}"#, 1, "not a list of embeddings"),
            (r#"{"data":[{"index":0,"embedding":[1e39,1,1]}]}"#, 1, "not valid JSON"),
            (r#"{"data":[{"index":7,"embedding":[1,1,1]}]}"#, 1, "index 7"),
            (r#"{"data":[{"index":0,"embedding":[1,1,1]},{"index":0,"embedding":[1,1,1]}]}"#, 2, "index 0"),
        ] {
            let dimensions = (!body.contains("[1]}")).then_some(3);
            let found = vectors(body.as_bytes(), texts, dimensions).unwrap_err();
            assert!(found.contains(why), "{body}: {found}");
        }
    }

    #[test]
    fn only_known_codes_are_repeated() {
        let code = |body: &str| error_code(body.as_bytes());
        assert_eq!(code(r#"{"error":{"code":"model_not_found","message":"x"}}"#), Some("model_not_found"));
        assert_eq!(code(r#"{"error":{"code":null,"type":"server_error"}}"#), Some("server_error"));
        assert_eq!(code(r#"{"error":{"code":"sk-secret"}}"#), None);
        assert_eq!(code(r#"{"error":"sk-secret"}"#), None);
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(body: Vec<u8>, json in "[\\[\\]{}\",:0-9a-z. ]{0,60}", texts in 0_usize..4) {
            for body in [&body[..], json.as_bytes(), format!("{{\"data\":{json}}}").as_bytes()] {
                let _ = vectors(body, texts, None);
                error_code(body);
            }
        }
    }
}
