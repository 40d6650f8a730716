use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{sync::Semaphore, task::JoinHandle};

use super::{super::error::tests::refusal, *};

const LONG: Duration = Duration::from_mins(1);

/// The store says no to a batch with this in it.
const BAD: u32 = 400;
/// The store is gone when it is asked for this.
const OUTAGE: u32 = 503;
/// The store says no to it in company, and is gone when it is asked for it alone. It is about
/// nothing that would sort it behind the rest.
const BAD_THEN_OUTAGE: u32 = 9;
/// It ends in a panic.
const PANIC: u32 = 500;

/// Doubles numbers, batch by batch as the test lets it. Those below ten are about nothing, the
/// others about their tens.
#[derive(Clone)]
struct Doubling {
    begun: Arc<Mutex<Vec<Vec<u32>>>>,
    gate: Arc<Semaphore>,
    left: Arc<AtomicUsize>,
    deadlines: Arc<Mutex<Vec<Instant>>>,
}

impl Work for Doubling {
    type Item = u32;
    type Answer = u32;
    type Subject = u32;

    const NAME: &str = "double";

    fn subject(number: &u32) -> Option<u32> {
        (*number >= 10).then_some(number / 10)
    }

    async fn run(
        &self,
        _: &mut Kept,
        numbers: &[u32],
        deadline: Instant,
    ) -> Result<Vec<u32>, StoreError> {
        self.deadlines.lock().unwrap().push(deadline);
        self.begun.lock().unwrap().push(numbers.to_vec());
        self.gate.acquire().await.unwrap().forget();
        self.left.fetch_add(1, Ordering::SeqCst);
        assert!(!numbers.contains(&PANIC), "on purpose");
        if numbers.contains(&OUTAGE) || numbers == [BAD_THEN_OUTAGE] {
            return Err(StoreError::Timeout);
        }
        if numbers.contains(&BAD) || numbers.contains(&BAD_THEN_OUTAGE) {
            return Err(refusal());
        }
        Ok(numbers.iter().map(|number| number * 2).collect())
    }
}

struct Bench {
    work: Doubling,
    batches: Batches<Doubling>,
}

impl Bench {
    fn new(lanes: usize, deadline: Duration) -> Self {
        let work = Doubling {
            begun: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            left: Arc::default(),
            deadlines: Arc::default(),
        };
        let batches = Batches::new(work.clone(), lanes, deadline);
        Self { work, batches }
    }

    /// Makes a call that waits in the queue when this returns.
    async fn call(&self, number: u32) -> JoinHandle<Result<u32, StoreError>> {
        let before = self.made();
        let batches = self.batches.clone();
        let call = tokio::spawn(async move { batches.call(number).await });
        while self.made() == before {
            tokio::task::yield_now().await;
        }
        call
    }

    async fn calls(&self, numbers: &[u32]) -> Vec<JoinHandle<Result<u32, StoreError>>> {
        let mut calls = Vec::new();
        for number in numbers {
            calls.push(self.call(*number).await);
        }
        calls
    }

    /// How many calls were made: those that wait, and those of the batches.
    fn made(&self) -> usize {
        let waiting = self.batches.0.queue().waiting.len();
        waiting + self.begun().iter().map(Vec::len).sum::<usize>()
    }

    fn begun(&self) -> Vec<Vec<u32>> {
        self.work.begun.lock().unwrap().clone()
    }

    /// Makes a call whose batch is on its way, and held, when this returns.
    async fn hold(&self, number: u32) -> JoinHandle<Result<u32, StoreError>> {
        let before = self.begun().len();
        let held = self.call(number).await;
        while self.begun().len() == before {
            tokio::task::yield_now().await;
        }
        held
    }

    fn let_pass(&self) {
        self.work.gate.add_permits(1000);
    }
}

async fn outcomes(calls: Vec<JoinHandle<Result<u32, StoreError>>>) -> Vec<Result<u32, String>> {
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap().map_err(|error| error.to_string()));
    }
    outcomes
}

#[tokio::test]
async fn what_comes_while_a_batch_is_on_its_way_is_the_next_one() {
    let bench = Bench::new(1, LONG);
    let alone = bench.hold(1).await;
    let others = bench.calls(&[2, 3, 4]).await;
    bench.let_pass();
    assert_eq!(alone.await.unwrap().unwrap(), 2);
    assert_eq!(outcomes(others).await, [Ok(4), Ok(6), Ok(8)]);
    assert_eq!(bench.begun(), [vec![1], vec![2, 3, 4]]);
}

#[tokio::test]
async fn as_many_batches_as_there_are_lanes_are_on_their_way_at_once() {
    let bench = Bench::new(2, LONG);
    let held = [bench.hold(1).await, bench.hold(2).await];
    let waiting = bench.call(3).await;
    assert_eq!(bench.begun(), [[1], [2]]);
    bench.let_pass();
    assert_eq!(outcomes(held.into()).await, [Ok(2), Ok(4)]);
    assert_eq!(waiting.await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn a_batch_is_sorted_and_has_no_two_calls_about_the_same() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let calls = bench.calls(&[31, 21, 22, 11, 23, 32]).await;
    bench.let_pass();
    assert_eq!(
        outcomes(calls).await,
        [62, 42, 44, 22, 46, 64].map(Ok::<u32, String>)
    );
    held.await.unwrap().unwrap();
    assert_eq!(
        bench.begun(),
        [vec![1], vec![11, 21, 31], vec![22, 32], vec![23]]
    );
}

#[tokio::test]
async fn a_batch_has_a_largest_size() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let calls = bench.calls(&vec![2; LARGEST + 1]).await;
    bench.let_pass();
    held.await.unwrap().unwrap();
    outcomes(calls).await;
    let sizes: Vec<_> = bench.begun().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, LARGEST, 1]);
}

#[tokio::test]
async fn of_a_refused_batch_only_the_bad_one_fails() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let calls = bench.calls(&[2, BAD, 3]).await;
    bench.let_pass();
    held.await.unwrap().unwrap();
    let outcomes = outcomes(calls).await;
    assert_eq!(
        (&outcomes[0], &outcomes[2]),
        (&Ok(4), &Ok(6)),
        "{outcomes:?}"
    );
    assert!(outcomes[1].is_err());
}

#[tokio::test]
async fn an_outage_is_everybodys_and_nothing_is_tried_again() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let calls = bench.calls(&[2, OUTAGE, 3]).await;
    bench.let_pass();
    held.await.unwrap().unwrap();
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(StoreError::Timeout)));
    }
    assert_eq!(bench.begun().len(), 2);
}

#[tokio::test]
async fn a_bad_one_among_many_is_found_by_halving() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let mut numbers = vec![2; LARGEST];
    numbers[LARGEST - 1] = BAD;
    let calls = bench.calls(&numbers).await;
    bench.let_pass();
    held.await.unwrap().unwrap();
    let mut outcomes = outcomes(calls).await;
    assert!(outcomes.pop().unwrap().is_err());
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(4)));
    let halvings = LARGEST.ilog2() as usize;
    assert_eq!(bench.begun().len(), 1 + 1 + 2 * halvings);
}

#[tokio::test]
async fn an_outage_while_halves_are_tried_ends_it_and_the_rest_was_not_begun() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let calls = bench.calls(&[2, BAD_THEN_OUTAGE, 3, 4]).await;
    bench.let_pass();
    held.await.unwrap().unwrap();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    assert!(matches!(
        outcomes[..],
        [
            Ok(4),
            Err(StoreError::Timeout),
            Err(StoreError::Unreachable(_)),
            Err(StoreError::Unreachable(_))
        ]
    ));
    let tried = [
        vec![1],
        vec![2, BAD_THEN_OUTAGE, 3, 4],
        vec![2, BAD_THEN_OUTAGE],
        vec![2],
        vec![BAD_THEN_OUTAGE],
    ];
    assert_eq!(bench.begun(), tried);
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_nothing() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let waiting = bench.call(2).await;
    for call in [held, waiting] {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    bench.let_pass();
    assert_eq!(bench.call(3).await.await.unwrap().unwrap(), 6);
    assert_eq!(bench.begun().concat(), [1, 2, 3]);
    assert_eq!(
        bench.work.left.load(Ordering::SeqCst),
        bench.begun().len(),
        "each was run to its end"
    );
}

#[tokio::test]
async fn a_panic_ends_its_batch_alone_and_leaves_doubt() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(PANIC).await;
    let other = bench.call(2).await;
    bench.let_pass();
    assert!(held.await.unwrap().unwrap_err().leaves_doubt());
    assert_eq!(other.await.unwrap().unwrap(), 4);
    assert_eq!(bench.call(3).await.await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn when_too_many_wait_the_next_is_told_so_at_once() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let waiting = bench.calls(&vec![2; PLACES]).await;
    let refused = bench.batches.call(3).await;
    assert!(matches!(refused, Err(StoreError::Overloaded)));
    bench.let_pass();
    held.await.unwrap().unwrap();
    assert!(outcomes(waiting).await.iter().all(Result::is_ok));
    assert_eq!(bench.batches.call(3).await.unwrap(), 6);
}

#[tokio::test]
async fn what_has_waited_too_long_is_not_begun() {
    let bench = Bench::new(1, Duration::ZERO);
    let refused = bench.batches.call(1).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreachable(_)), "{refused:?}");
    assert!(!refused.leaves_doubt());
    assert!(bench.begun().is_empty());
}

#[tokio::test]
async fn what_has_waited_has_all_of_the_deadline_from_its_beginning() {
    let bench = Bench::new(1, LONG);
    let held = bench.hold(1).await;
    let waiting = bench.call(2).await;
    let before_its_turn = Instant::now();
    bench.let_pass();
    held.await.unwrap().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 4);
    assert!(bench.work.deadlines.lock().unwrap()[1] >= before_its_turn + LONG);
}

#[tokio::test]
async fn parts_of_a_batch_that_takes_too_long_are_not_begun() {
    let bench = Bench::new(1, Duration::ZERO);
    let outcomes = bench.batches.0.run(&mut Kept::default(), &[2, BAD]).await;
    assert!(matches!(
        outcomes[..],
        [
            Err(StoreError::Unreachable(_)),
            Err(StoreError::Unreachable(_))
        ]
    ));
    assert!(bench.begun().is_empty());
}
