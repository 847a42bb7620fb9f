//! What it is told to do wrong, by a line each:
//!
//! | order | from then on |
//! |---|---|
//! | `ok` | it behaves |
//! | `stall` | calls are held until `ok` |
//! | `fail CODE` | calls are answered with that status, as `fail unavailable` |
//! | `fail CODE AFTER` | the same, after so many calls more |
//! | `remember` | it keeps what a point was before it is overwritten next |
//! | `old` | it answers with what it kept in place of what is there |
//! | `drop` | writes are acknowledged and not done |
//! | `close` | connections that there are, are closed; new ones are taken |

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Code, Status};

#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

struct Inner {
    state: watch::Sender<State>,
    /// Changes when connections are to be closed.
    generation: watch::Sender<u64>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::default()), generation: watch::Sender::new(0) }
    }
}

#[derive(Clone, Copy, Default)]
struct State {
    stalled: bool,
    fail: Option<(Code, u64)>,
    remembers: bool,
    old: bool,
    drops: bool,
}

impl Faults {
    /// Takes an order.
    pub fn order(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let set = |change: fn(&mut State)| {
            self.0.state.send_modify(change);
            Ok(())
        };
        match words[..] {
            ["ok"] => {
                self.behave();
                Ok(())
            }
            ["stall"] => set(|state| state.stalled = true),
            ["remember"] => set(|state| state.remembers = true),
            ["old"] => set(|state| state.old = true),
            ["drop"] => set(|state| state.drops = true),
            ["close"] => {
                self.close();
                Ok(())
            }
            ["fail", code] => self.fail(code, "0"),
            ["fail", code, after] => self.fail(code, after),
            _ => Err(format!("`{line}` is no order")),
        }
    }

    fn fail(&self, code: &str, after: &str) -> Result<(), String> {
        let code = match code {
            "unavailable" => Code::Unavailable,
            "internal" => Code::Internal,
            "exhausted" => Code::ResourceExhausted,
            "deadline" => Code::DeadlineExceeded,
            "aborted" => Code::Aborted,
            "invalid" => Code::InvalidArgument,
            "denied" => Code::PermissionDenied,
            _ => return Err(format!("`{code}` is no code")),
        };
        let after = after.parse().map_err(|_| format!("`{after}` is no number"))?;
        self.0.state.send_modify(|state| state.fail = Some((code, after)));
        Ok(())
    }

    /// From now on nothing is wrong; what was kept of points still is.
    pub fn behave(&self) {
        self.0.state.send_modify(|state| *state = State { remembers: state.remembers, ..State::default() });
    }

    /// Closes the connections that there are.
    pub fn close(&self) {
        self.0.generation.send_modify(|generation| *generation += 1);
    }

    /// What tells a connection to close.
    pub fn closing(&self) -> watch::Receiver<u64> {
        let mut receiver = self.0.generation.subscribe();
        receiver.mark_unchanged();
        receiver
    }

    /// Every call comes through here first.
    pub async fn pass(&self) -> Result<(), Status> {
        let mut state = self.0.state.subscribe();
        // The sender lives as long as this does.
        let _ = state.wait_for(|state| !state.stalled).await;
        let mut failure = None;
        self.0.state.send_if_modified(|state| {
            if let Some((code, after)) = &mut state.fail {
                match after.checked_sub(1) {
                    Some(left) => *after = left,
                    None => failure = Some(*code),
                }
            }
            false
        });
        failure.map_or(Ok(()), |code| Err(Status::new(code, "told to fail")))
    }

    pub fn remembers(&self) -> bool {
        self.0.state.borrow().remembers
    }

    pub fn is_old(&self) -> bool {
        self.0.state.borrow().old
    }

    pub fn drops(&self) -> bool {
        self.0.state.borrow().drops
    }
}
