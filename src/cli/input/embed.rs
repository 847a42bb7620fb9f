//! Asks an OpenAI-compatible endpoint for embeddings: bounded requests, bounded retries, checked answers.

mod endpoint;
mod retry;
#[cfg(test)]
pub(super) mod test_server;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::time::Duration;

use tracing::subscriber::{NoSubscriber, with_default};
use ureq::http::header::{AUTHORIZATION, RETRY_AFTER};

pub use endpoint::ApiKey;

use crate::error::{Error, ErrorKind, Result};
use crate::id::shown;
use crate::limits;
use endpoint::Endpoint;
use retry::{Again, Failure, Pace};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ERROR_BODY_BYTES: u64 = 64 << 10;

/// A client of one endpoint and one model. All its vectors have the same dimensions.
///
/// Neither its errors nor its `Debug` show the key, the texts or what the endpoint said about them.
pub struct Embedder {
    agent: ureq::Agent,
    endpoint: Endpoint,
    model: String,
    key: Option<ApiKey>,
    pace: Pace,
    dimensions: Option<usize>,
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedder")
            .field("endpoint", &self.endpoint.shown())
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl Embedder {
    /// A client for `POST url`. A `url` that ends in `/v1` gets `/embeddings` behind it, one without a path gets
    /// `/v1/embeddings`. Nothing is sent yet.
    pub fn new(url: &str, model: &str, key: Option<ApiKey>) -> Result<Self> {
        let endpoint = Endpoint::parse(url)?;
        if model.is_empty() {
            return Err(Error::invalid("no embedding model is named").with_remedy("name it with `--embed-model`"));
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("strongroom/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(Duration::from_millis(limits::EMBED_TIMEOUT_MS)));
        if endpoint.is_loopback() {
            // Texts meant for this machine do not take the way over a proxy.
            config = config.proxy(None);
        }
        let key = key.filter(|key| !key.needs_private_way() || endpoint.is_private());
        let agent = config.build().new_agent();
        Ok(Self { agent, endpoint, model: model.to_owned(), key, pace: Pace::default(), dimensions: None })
    }

    /// [`Embedder::new`] with the key from the environment, see [`ApiKey::from_env`].
    pub fn from_env(url: &str, model: &str) -> Result<Self> {
        Self::new(url, model, ApiKey::from_env()?)
    }

    /// The endpoint, without query.
    pub fn endpoint(&self) -> &str {
        self.endpoint.shown()
    }

    /// Whether texts and key cross a network unencrypted: worth a warning.
    pub fn sends_in_clear(&self) -> bool {
        !self.endpoint.is_private()
    }

    /// A vector per text, in order. An inner error is about that one text, which the endpoint refuses; the outer one
    /// says that the endpoint cannot be used.
    pub fn embed(&mut self, texts: &[&str]) -> Result<Vec<Result<Vec<f32>>>> {
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let (now, later) = rest.split_at_checked(request_texts(rest)).unwrap_or((rest, &[]));
            let mut answer = self.embed_or_halve(now)?;
            if now.len() > 1 && answer.iter().all(Result::is_err) {
                // Not the texts are at fault, but the request.
                return Err(answer.swap_remove(0).err().unwrap_or_else(|| Error::internal("a refusal was lost")));
            }
            vectors.append(&mut answer);
            rest = later;
        }
        Ok(vectors)
    }

    /// One request; if it is refused as it stands, one for each half, until the texts at fault are found.
    fn embed_or_halve(&mut self, texts: &[&str]) -> Result<Vec<Result<Vec<f32>>>> {
        match self.request(texts) {
            Ok(vectors) => Ok(vectors.into_iter().map(Ok).collect()),
            Err(failure) if failure.again == Again::Smaller && texts.len() > 1 => {
                let (left, right) = texts.split_at_checked(texts.len() / 2).unwrap_or((texts, &[]));
                let mut vectors = self.embed_or_halve(left)?;
                vectors.append(&mut self.embed_or_halve(right)?);
                Ok(vectors)
            }
            Err(failure) if failure.again == Again::Smaller => Ok(vec![Err(failure.into_error())]),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// One request with its retries.
    fn request(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let body = wire::request(&self.model, texts).map_err(|e| {
            let failure = Failure::new(ErrorKind::Internal, "a request to the embeddings endpoint cannot be written");
            failure.source(e)
        })?;
        let mut attempt = 1;
        loop {
            // The HTTP client traces headers and answers in hex, key and embeddings included: nothing may listen.
            let failure = match with_default(NoSubscriber::default(), || self.attempt(&body, texts.len())) {
                Ok(vectors) => {
                    self.dimensions = vectors.first().map(Vec::len).or(self.dimensions);
                    return Ok(vectors);
                }
                Err(failure) => failure,
            };
            let Some(wait) = self.pace.wait(attempt, failure.again) else {
                return Err(failure.after(attempt));
            };
            std::thread::sleep(wait);
            attempt += 1;
        }
    }

    fn attempt(&self, body: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, Failure> {
        let mut request = self.agent.post(self.endpoint.url()).content_type("application/json");
        if let Some(key) = &self.key {
            let header = key.header().map_err(|e| Failure::from_error(&e))?;
            request = request.header(AUTHORIZATION, header);
        }
        let mut response = request.send(body).map_err(|e| self.unreachable(e))?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry::parse_after);
            let body = response.body_mut().with_config().limit(ERROR_BODY_BYTES).read_to_vec().unwrap_or_default();
            return Err(self.refused(status, after, wire::error_code(&body)));
        }
        let body = response.body_mut().with_config().limit(limits::EMBED_RESPONSE_BYTES as u64).read_to_vec();
        let body = body.map_err(|e| self.unreachable(e))?;
        wire::vectors(&body, texts, self.dimensions).map_err(|why| {
            let shown = self.endpoint.shown();
            Failure::new(ErrorKind::Unavailable, format!("`{shown}` gave an unusable answer: {why}"))
                .remedy("check `--embed-url` and `--embed-model`: an OpenAI-compatible embeddings endpoint is needed")
        })
    }

    /// What a failure below HTTP means.
    fn unreachable(&self, e: ureq::Error) -> Failure {
        let shown = self.endpoint.shown();
        let unavailable = |what: &str, again| {
            Failure::new(ErrorKind::Unavailable, format!("`{shown}` {what}"))
                .remedy("check `--embed-url` and that the endpoint runs, then run the same command again")
                .again(again)
        };
        match e {
            ureq::Error::Timeout(_) => unavailable("did not answer in time", Again::Later),
            ureq::Error::Io(e) => unavailable("cannot be reached, or broke off", Again::Later).source(e),
            ureq::Error::ConnectionFailed => unavailable("cannot be reached", Again::Later),
            ureq::Error::HostNotFound => unavailable("has no address", Again::Later),
            ureq::Error::BodyExceedsLimit(_) => unavailable("gave an answer that is too large", Again::Never),
            ureq::Error::Protocol(e) => unavailable("does not speak HTTP", Again::Never).source(e),
            ureq::Error::Tls(e) => unavailable(&format!("gave no secure connection: {e}"), Again::Never),
            ureq::Error::Rustls(e) => unavailable("gave no secure connection", Again::Never).source(e),
            // Others may repeat the whole address, which may hold a secret in its query.
            _ => unavailable("cannot be used", Again::Never),
        }
    }

    /// What a status other than success means.
    fn refused(&self, status: u16, after: Option<Duration>, code: Option<&'static str>) -> Failure {
        let shown = self.endpoint.shown();
        let said = code.map(|c| format!(" ({c})")).unwrap_or_default();
        let failure = |kind, remedy: &str, again| {
            Failure::new(kind, format!("`{shown}` answered {status}{said}")).remedy(remedy).again(again)
        };
        let later = after.map_or(Again::Later, Again::After);
        match (status, code) {
            (_, Some("insufficient_quota")) => failure(
                ErrorKind::Unavailable,
                "raise the quota of the key, then run the same command again",
                Again::Never,
            ),
            (401 | 403, _) if self.key.is_some() => {
                failure(ErrorKind::Denied, "put a valid key into `STRONGROOM_EMBED_API_KEY`", Again::Never)
            }
            (401 | 403, _) => failure(ErrorKind::Denied, endpoint::KEY_REMEDY, Again::Never),
            (404 | 405, _) => failure(
                ErrorKind::NotFound,
                &format!("check `--embed-url` and that model `{}` exists there", self::shown(&self.model)),
                Again::Never,
            ),
            (400 | 413 | 422, _) => failure(
                ErrorKind::InvalidInput,
                "the text may be longer than the model takes: split it, or choose another `--embed-model`",
                Again::Smaller,
            ),
            (300..400, _) => {
                failure(ErrorKind::InvalidInput, "give the final address with `--embed-url`", Again::Never)
            }
            (408 | 425 | 429 | 500.., _) => {
                failure(ErrorKind::Unavailable, "run the same command again later; what is stored stays stored", later)
            }
            _ => failure(ErrorKind::InvalidInput, "check `--embed-url` and `--embed-model`", Again::Never),
        }
    }
}

/// How many of `texts` go into the next request: at least one.
fn request_texts(texts: &[&str]) -> usize {
    let mut bytes = 0_usize;
    let fits = texts.iter().take(limits::EMBED_TEXTS).take_while(|t| {
        bytes = bytes.saturating_add(t.len());
        bytes <= limits::EMBED_REQUEST_BYTES
    });
    fits.count().max(1)
}
