//! Envelopes around the requests and answers of HTTP services, gRPC included: a [`Layer`](tower::Layer) for each side.
//!
//! ```text
//! client service ── EnvelopeClientLayer ──envelope──→ EnvelopeServerLayer ── service
//!                                       ←──envelope──
//! ```
//!
//! Method, path, headers, body and trailers of a request go into its envelope, status, headers, body and trailers of an
//! answer into another. In clear there are method and path, which the server compares, and the sizes. An answer is bound
//! to the one request that it answers. Bodies are collected whole, so streams that wait for each other are not for this.

mod body;
mod client;
mod parcel;
mod server;

pub use body::EnvelopeBody;
pub use client::{EnvelopeClient, EnvelopeClientLayer};
pub use server::{EnvelopeServer, EnvelopeServerLayer};

use axum::http::Uri;

use super::header::Kind;
use crate::error::{Error, Result};

/// The content type of an envelope.
pub const CONTENT_TYPE: &str = "application/strongroom-envelope+cbor";

/// What a service exchanges. An envelope of another kind is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Messages both ways.
    Messages,
    /// The arguments of tool calls, and their results.
    ToolCalls,
}

impl Exchange {
    /// What requests hold.
    pub fn request(self) -> Kind {
        match self {
            Exchange::Messages => Kind::Message,
            Exchange::ToolCalls => Kind::ToolArguments,
        }
    }

    /// What answers hold.
    pub fn answer(self) -> Kind {
        match self {
            Exchange::Messages => Kind::Message,
            Exchange::ToolCalls => Kind::ToolResult,
        }
    }
}

/// Path and query: what of a target reaches the other side whatever it is called.
fn target(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned())
}

/// Does what waits for the key service, or signs, off the threads that serve connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::internal("the interceptor stopped").with_source(e)))
}
