//! The agent's side: actions are noted at once, signed on a thread of their own, and handed over in the order in which
//! they were noted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Action, ActionId, SignedAction};
use crate::clock::Clock;
use crate::crypto::Provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::{Signer, Signers};
use crate::limits;

/// Who takes signed actions in: a store, here or elsewhere. Calls may wait.
pub trait Taker: Send + Sync {
    /// As [`ActionLog::append`](super::ActionLog::append).
    fn append(&self, tenant: &TenantId, chain: &[Vec<u8>], actions: &[SignedAction]) -> Result<Vec<Result<()>>>;
}

/// How actions are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionsOptions {
    /// How many wait at most to be signed: 1 to [`limits::ACTIONS_QUEUED`].
    pub queued: usize,
    /// How long what cannot be handed over is tried again, in milliseconds.
    pub patience_ms: u64,
}

impl Default for ActionsOptions {
    /// 4096; 30 seconds.
    fn default() -> Self {
        Self { queued: 4096, patience_ms: 30_000 }
    }
}

/// What became of the actions that were noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionReport {
    /// They stand in the log.
    pub taken: u64,
    /// They do not.
    pub failed: u64,
    /// Why the last of those did not.
    pub failure: Option<String>,
}

/// The actions of one agent. Dropping it hands over what was noted, as [`close`](Self::close) does, and says nothing of
/// how that went.
pub struct Actions {
    sender: Option<SyncSender<Noted>>,
    thread: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
    noted: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// An action that waits to be signed. Its time is that of when it was noted.
struct Noted {
    id: ActionId,
    action: Action,
    acted_at_ms: u64,
}

#[derive(Default)]
struct Progress {
    report: Mutex<ActionReport>,
    changed: Condvar,
}

impl Progress {
    fn ended(&self, outcome: &Result<()>) {
        let mut report = self.report.lock();
        match outcome {
            Ok(()) => report.taken += 1,
            Err(e) => {
                report.failed += 1;
                report.failure = Some(e.to_string());
            }
        }
        self.changed.notify_all();
    }
}

impl Actions {
    /// Begins to take notes for the agent of `signers`, which are there for
    /// [`SignerUse::Actions`](crate::keys::certificate::SignerUse::Actions).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a queue that is too long or has no place.
    pub fn start(
        tenant: TenantId,
        signers: Signers,
        provider: &'static dyn Provider,
        clock: Arc<dyn Clock>,
        taker: Arc<dyn Taker>,
        options: ActionsOptions,
    ) -> Result<Self> {
        if !(1..=limits::ACTIONS_QUEUED).contains(&options.queued) {
            return Err(Error::invalid("the queue of actions has no such length")
                .with_remedy(format!("let 1 to {} wait", limits::ACTIONS_QUEUED)));
        }
        let (sender, receiver) = sync_channel(options.queued);
        let progress = Arc::<Progress>::default();
        let hand = Hand { tenant, signers, provider, taker, options, progress: progress.clone() };
        let thread =
            std::thread::Builder::new().name("strongroom-actions".into()).spawn(move || hand.run(&receiver))?;
        Ok(Self { sender: Some(sender), thread: Some(thread), progress, noted: AtomicU64::new(0), clock })
    }

    /// Notes an action, without waiting for anything.
    ///
    /// # Errors
    ///
    /// [`Busy`](ErrorKind::Busy) when too many wait to be signed: nothing is noted then.
    pub fn note(&self, action: Action) -> Result<ActionId> {
        let id = ActionId::random()?;
        let noted = Noted { id, action, acted_at_ms: self.clock.now_ms() };
        let sender = self.sender.as_ref().ok_or_else(ended)?;
        // Counted before: who flushes must not miss it.
        self.noted.fetch_add(1, Ordering::SeqCst);
        sender.try_send(noted).map(|()| id).map_err(|e| {
            self.noted.fetch_sub(1, Ordering::SeqCst);
            match e {
                TrySendError::Full(_) => Error::new(ErrorKind::Busy, "too many actions wait to be signed")
                    .with_remedy("note it again in a moment, or act more slowly than the log takes actions in"),
                TrySendError::Disconnected(_) => ended(),
            }
        })
    }

    /// What became of everything noted so far that has been dealt with.
    pub fn report(&self) -> ActionReport {
        self.progress.report.lock().clone()
    }

    /// Waits until everything noted so far has been dealt with, `patience` at most.
    ///
    /// # Errors
    ///
    /// [`Partial`](ErrorKind::Partial) when any action so far could not be handed over, and
    /// [`Unavailable`](ErrorKind::Unavailable) when time is up.
    pub fn flush(&self, patience: Duration) -> Result<ActionReport> {
        let (wanted, end) = (self.noted.load(Ordering::SeqCst), Instant::now() + patience);
        let mut report = self.progress.report.lock();
        while report.taken + report.failed < wanted {
            if self.progress.changed.wait_until(&mut report, end).timed_out() {
                return Err(Error::new(ErrorKind::Unavailable, "actions still wait to be handed over")
                    .with_remedy("see whether the store and the key service can be reached, then flush again"));
            }
        }
        complete(report.clone())
    }

    /// Hands over everything that was noted, and ends. Errors as for [`flush`](Self::flush).
    pub fn close(mut self) -> Result<ActionReport> {
        self.end();
        complete(self.report())
    }

    fn end(&mut self) {
        // The thread ends when it has dealt with what is in the queue.
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread's part.
struct Hand {
    tenant: TenantId,
    signers: Signers,
    provider: &'static dyn Provider,
    taker: Arc<dyn Taker>,
    options: ActionsOptions,
    progress: Arc<Progress>,
}

impl Hand {
    fn run(&self, receiver: &Receiver<Noted>) {
        while let Ok(first) = receiver.recv() {
            let mut batch = vec![first];
            while batch.len() < limits::ACTIONS {
                match receiver.recv_timeout(Duration::ZERO) {
                    Ok(next) => batch.push(next),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.hand_over(&batch);
        }
    }

    /// Signs and hands over, again and again while the key service or the store is away.
    fn hand_over(&self, batch: &[Noted]) {
        let end = Instant::now() + Duration::from_millis(self.options.patience_ms);
        let mut wait = Duration::from_millis(limits::ACTION_WAIT_MS[0]);
        // Kept over the attempts: an answer may be lost, and the same record again is no second one.
        let mut signed = None;
        loop {
            match self.try_hand_over(batch, &mut signed) {
                Ok(answers) => {
                    answers.iter().for_each(|answer| self.progress.ended(answer));
                    // A taker that forgot some has not taken them in.
                    let missing = batch.len().saturating_sub(answers.len());
                    (0..missing).for_each(|_| self.progress.ended(&Err(Error::internal("the store gave no answer"))));
                    return;
                }
                Err(e) if is_passing(&e) && Instant::now() + wait < end => {
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(Duration::from_millis(limits::ACTION_WAIT_MS[1]));
                }
                Err(e) => {
                    tracing::warn!(error = %e, actions = batch.len(), "actions could not be handed over");
                    let again = |e: &Error| Error::new(e.kind(), e.to_string());
                    batch.iter().for_each(|_| self.progress.ended(&Err(again(&e))));
                    return;
                }
            }
        }
    }

    fn try_hand_over(&self, batch: &[Noted], kept: &mut Option<Signed>) -> Result<Vec<Result<()>>> {
        let Signed { signer, actions } = match kept {
            Some(signed) => signed,
            None => {
                let signer = self.signers.of(&self.tenant)?;
                let sign = |noted: &Noted| {
                    SignedAction::sign(self.provider, &signer, noted.id, &noted.action, noted.acted_at_ms)
                };
                let actions = batch.iter().map(sign).collect::<Result<_>>()?;
                kept.insert(Signed { signer, actions })
            }
        };
        let mut answers = self.taker.append(&self.tenant, signer.chain(), actions)?;
        answers.truncate(batch.len());
        Ok(answers)
    }
}

/// A batch that is signed.
struct Signed {
    signer: Arc<Signer>,
    actions: Vec<SignedAction>,
}

fn is_passing(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::StorageFull)
}

fn complete(report: ActionReport) -> Result<ActionReport> {
    match &report.failure {
        None => Ok(report),
        Some(failure) => {
            let words = format!("{} of {} actions are not in the log", report.failed, report.failed + report.taken);
            Err(Error::new(ErrorKind::Partial, words).with_remedy(format!("the last of them failed with: {failure}")))
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "no more actions are taken down").with_remedy("start another `Actions`")
}
