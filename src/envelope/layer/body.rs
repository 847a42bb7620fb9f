//! Bodies on either side of the layers: collected whole, within bounds, and given back whole.

use std::convert::Infallible;

use axum::body::{Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use axum::http::{HeaderMap, HeaderValue};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use tower::BoxError;

use super::CONTENT_TYPE;
use crate::error::{Error, Result};

/// A whole body with its trailers.
pub type EnvelopeBody = BoxBody<Bytes, Infallible>;

/// `data`, and after it `trailers`, if there are any.
pub(super) fn whole(data: Vec<u8>, trailers: HeaderMap) -> EnvelopeBody {
    let trailers = (!trailers.is_empty()).then_some(Ok(trailers));
    Full::new(Bytes::from(data)).with_trailers(std::future::ready(trailers)).boxed()
}

/// All of `body`, if it is not longer than `most_bytes`, and its trailers.
pub(super) async fn collect<B>(body: B, most_bytes: usize) -> Result<(Bytes, HeaderMap)>
where
    B: HttpBody + Send,
    B::Error: Into<BoxError>,
{
    let collected = Limited::new(body, most_bytes).collect().await.map_err(|e| {
        let what = if e.is::<http_body_util::LengthLimitError>() { "is too long" } else { "cannot be read" };
        Error::invalid(format!("the body {what}")).with_source(e)
    })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}

/// Whether a body with `headers` should be an envelope.
pub(super) fn is_envelope(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE_HEADER).is_some_and(|content_type| content_type == CONTENT_TYPE)
}

/// The headers of an envelope.
pub(super) fn envelope_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE))])
}
