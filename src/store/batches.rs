//! Calls that come at the same time are done together: one statement and one commit for many.
//!
//! Nothing waits for company. A call that comes alone is done at once; those that come while a
//! batch is on its way are the next one.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt, mem,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use prometheus::Histogram;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    StoreError,
    connection::{KEPT_FOR, Kept},
};
use crate::telemetry::{metrics::Metrics, traces};

/// How many calls one batch takes: with more, each waits longer for the others' rows, and the round
/// trip and the flush to disk that they share are a small part of the cost already.
const LARGEST: usize = 256;

/// How many calls may wait: as many as a busy store does before they have waited too long. Who came
/// later would wait in vain.
pub(super) const PLACES: usize = 8192;

/// What is done in batches.
pub(crate) trait Work: Send + Sync + 'static {
    /// What one caller asks for.
    type Item: Send + Sync;
    /// What one caller is answered.
    type Answer: Send;
    /// What no two items of one batch may share: the later one waits for the next batch.
    type Subject: Ord;

    /// What the batches are called in metrics and traces.
    const NAME: &str;

    /// What an item is about, if that matters.
    fn subject(item: &Self::Item) -> Option<Self::Subject>;

    /// Does all of it or nothing before `deadline`, and gives an answer for each item, in their
    /// order. They come sorted by subject, so that two instances that lock the same rows do not
    /// wait for each other: nothing else saves them, for both would have failed before PostgreSQL
    /// looks for deadlocks.
    ///
    /// The connection that it may keep is there for the next batch, if that comes soon.
    fn run(
        &self,
        kept: &mut Kept,
        items: &[Self::Item],
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// Gathers calls while others are on their way. Clones share the queue.
pub(crate) struct Batches<W: Work>(Arc<Shared<W>>);

struct Shared<W: Work> {
    work: W,
    /// How long one statement may take.
    deadline: Duration,
    /// How many batches may be on their way at once.
    lanes: usize,
    queue: Mutex<Queue<W>>,
    sizes: OnceLock<Histogram>,
}

struct Queue<W: Work> {
    waiting: VecDeque<Call<W>>,
    /// How many batches are on their way.
    busy: usize,
    /// What the last lane kept, for the next one: else a caller that comes again and again alone
    /// would use each connection of the pool in turn.
    resting: Option<Kept>,
    /// Whether somebody will see to what rests.
    is_rest_timed: bool,
}

struct Call<W: Work> {
    item: W::Item,
    made_at: Instant,
    caller: Caller<W>,
}

type Outcome<W> = Result<<W as Work>::Answer, StoreError>;
type Caller<W> = oneshot::Sender<Outcome<W>>;

impl<W: Work> Batches<W> {
    /// Begins a call's batch within half of `deadline`, and gives it all of `deadline` from then on:
    /// the server ends a statement a little before that, and with less its callers might be told
    /// that it failed and it take effect later.
    pub(crate) fn new(work: W, lanes: usize, deadline: Duration) -> Self {
        Self(Arc::new(Shared {
            work,
            deadline,
            lanes,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                busy: 0,
                resting: None,
                is_rest_timed: false,
            }),
            sizes: OnceLock::new(),
        }))
    }

    /// Has the sizes of its batches told; the first call holds.
    pub(crate) fn measured_by(&self, metrics: &Metrics) {
        if let Some(sizes) = metrics.batch_calls(W::NAME) {
            let _first = self.0.sizes.set(sizes);
        }
    }

    /// Does one thing, together with what others ask for meanwhile. A caller that hangs up stops
    /// nothing: the batch belongs to a task of its own.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when too many wait already, [`StoreError::Unreachable`] when the
    /// turn did not come in time: nothing was done then.
    pub(crate) async fn call(&self, item: W::Item) -> Outcome<W> {
        traces::step(W::NAME, self.wait_for(item)).await
    }

    async fn wait_for(&self, item: W::Item) -> Outcome<W> {
        let (caller, answer) = oneshot::channel();
        let call = Call {
            item,
            made_at: Instant::now(),
            caller,
        };
        if self.0.admit(call)? {
            tokio::spawn(Arc::clone(&self.0).clear());
        }
        // A batch that panicked, or was cut off with its runtime, may have been done.
        let lost = |_| StoreError::from(sqlx::Error::WorkerCrashed);
        answer.await.map_err(lost)?
    }
}

impl<W: Work> Shared<W> {
    /// Takes a call into the queue; whether somebody is needed to see to it.
    fn admit(&self, call: Call<W>) -> Result<bool, StoreError> {
        let mut queue = self.queue();
        if queue.waiting.len() >= PLACES {
            return Err(StoreError::Overloaded);
        }
        queue.waiting.push_back(call);
        let is_needed = queue.busy < self.lanes;
        if is_needed {
            queue.busy += 1;
        }
        Ok(is_needed)
    }

    /// Runs batches until nothing waits.
    async fn clear(self: Arc<Self>) {
        let mut kept = self.queue().resting.take().unwrap_or_default();
        while let Some(batch) = self.next() {
            // A panic ends its batch alone: its callers are told when their senders are dropped.
            let answering = AssertUnwindSafe(self.answer(&mut kept, batch));
            let _panicked = answering.catch_unwind().await;
        }
        if kept.may_rest() {
            self.rest(kept);
        }
    }

    /// Leaves a connection to the next lane.
    fn rest(self: Arc<Self>, kept: Kept) {
        let (_given_back, is_timed) = {
            let mut queue = self.queue();
            let earlier = queue.resting.replace(kept);
            (earlier, mem::replace(&mut queue.is_rest_timed, true))
        };
        if !is_timed {
            tokio::spawn(self.end_rest());
        }
    }

    /// Gives back what rests after a while.
    async fn end_rest(self: Arc<Self>) {
        sleep(KEPT_FOR).await;
        let _given_back = {
            let mut queue = self.queue();
            queue.is_rest_timed = false;
            queue.resting.take()
        };
    }

    /// The next batch; none when nothing waits, and then the lane is free again.
    fn next(&self) -> Option<Vec<Call<W>>> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.busy -= 1;
            return None;
        }
        Some(queue.take())
    }

    /// Runs one batch and tells each of its callers what became of their call.
    async fn answer(&self, kept: &mut Kept, calls: Vec<Call<W>>) {
        let (calls, late): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .partition(|call| call.made_at.elapsed() < self.patience());
        for Call { caller, .. } in late {
            answer(caller, Err(not_begun()));
        }
        if calls.is_empty() {
            return;
        }
        if let Some(sizes) = self.sizes.get() {
            let size = u32::try_from(calls.len()).unwrap_or(u32::MAX);
            sizes.observe(size.into());
        }
        let (items, callers): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .map(|call| (call.item, call.caller))
            .unzip();
        let outcomes = self.run(kept, &items).await;
        for (caller, outcome) in callers.into_iter().zip(outcomes) {
            answer(caller, outcome);
        }
    }

    /// What became of each item. A batch that the store refused is halved until only what is to
    /// blame fails.
    async fn run(&self, kept: &mut Kept, items: &[W::Item]) -> Vec<Outcome<W>> {
        let began = Instant::now();
        let mut outcomes = Vec::with_capacity(items.len());
        let mut parts = vec![items];
        while let Some(part) = parts.pop()
            && began.elapsed() < self.patience()
        {
            let deadline = Instant::now() + self.deadline;
            match self.work.run(kept, part, deadline).await {
                Ok(answers) => outcomes.extend(answers.into_iter().map(Ok)),
                Err(error) if error.is_refusal() && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => {
                    outcomes.extend(part.iter().map(|_| Err(error.clone())));
                    if !error.is_refusal() {
                        break;
                    }
                }
            }
        }
        outcomes.resize_with(items.len(), || Err(not_begun()));
        outcomes
    }

    /// How long a call waits for its turn, and a half of a refused batch for its own.
    fn patience(&self) -> Duration {
        self.deadline / 2
    }

    fn queue(&self) -> MutexGuard<'_, Queue<W>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_begun() -> StoreError {
    StoreError::of_connecting(sqlx::Error::PoolTimedOut)
}

fn answer<T>(caller: oneshot::Sender<Result<T, StoreError>>, outcome: Result<T, StoreError>) {
    // Who has hung up needs none.
    let _is_heard = caller.send(outcome);
}

impl<W: Work> Queue<W> {
    /// The calls that have waited longest, but no two about the same.
    fn take(&mut self) -> Vec<Call<W>> {
        let mut batch = Vec::new();
        let mut subjects = BTreeSet::new();
        let mut left = Vec::new();
        while batch.len() < LARGEST
            && let Some(call) = self.waiting.pop_front()
        {
            let subject = W::subject(&call.item);
            if subject.is_none_or(|subject| subjects.insert(subject)) {
                batch.push(call);
            } else {
                left.push(call);
            }
        }
        for call in left.into_iter().rev() {
            self.waiting.push_front(call);
        }
        batch.sort_by_key(|call| W::subject(&call.item));
        batch
    }
}

impl<W: Work> Clone for Batches<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Work> fmt::Debug for Batches<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Batches").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
