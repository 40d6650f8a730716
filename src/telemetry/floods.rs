//! Warnings and errors that come by the hundred, as one a request while the store is away, or as many
//! as a stranger likes: of each kind the first is written at once, and from then on one a second that
//! says how many more there were.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::{self, Write},
    hash::{BuildHasher, RandomState},
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::types::clock::{Clock, Monotonic};

/// How many kinds are told apart at once. What comes beyond is of one kind, so that kinds fill neither
/// the memory nor the log.
pub(super) const KINDS: usize = 64;

/// How long after a line of a kind the next one is written.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of a line is told again, in bytes.
const TOLD_BYTES: usize = 512;

/// Where a line is written in the program, and what it says. What tells one request from another is
/// left aside: fields that end in `.id`, and numbers. Of other crates' lines, which may quote what a
/// stranger sent, the place alone counts. None are those beyond [`KINDS`].
type Kind = Option<(Identifier, u64)>;

/// Lines of one kind that follow each other.
struct Flood {
    level: Level,
    line: String,
    written: Monotonic,
    left_out: u64,
}

/// What was left out of a flood.
struct Rest {
    level: Level,
    line: String,
    left_out: u64,
}

impl Rest {
    fn tell(self) {
        let Self {
            level,
            line,
            left_out,
        } = self;
        if level == Level::ERROR {
            tracing::error!(left_out, line, "more lines like this one were left out");
        } else {
            tracing::warn!(left_out, line, "more lines like this one were left out");
        }
    }
}

/// Lets lines through or counts them. Clones share what is counted.
#[derive(Clone)]
pub(super) struct Floods(Arc<Shared>);

struct Shared {
    clock: Clock,
    hashes: RandomState,
    kinds: Mutex<HashMap<Kind, Flood>>,
    begun: Condvar,
}

impl Floods {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared {
            clock,
            hashes: RandomState::new(),
            kinds: Mutex::default(),
            begun: Condvar::new(),
        }))
    }

    /// Starts the thread that tells once a second what was left out.
    pub(super) fn watch(&self) -> io::Result<()> {
        let floods = self.clone();
        let watch = move || {
            loop {
                floods.wait();
                thread::sleep(PAUSE);
                floods.tell();
            }
        };
        let thread = thread::Builder::new().name("log floods".to_owned());
        thread.spawn(watch).map(drop)
    }

    /// Tells what was left out of floods whose last line was a second ago, and ends those that are over.
    pub(super) fn tell(&self) {
        self.take(PAUSE).into_iter().for_each(Rest::tell);
    }

    /// Tells what was left out, at the end.
    pub(super) fn tell_all(&self) {
        self.take(Duration::ZERO).into_iter().for_each(Rest::tell);
    }

    fn take(&self, pause: Duration) -> Vec<Rest> {
        let now = self.0.clock.monotonic();
        let mut told = Vec::new();
        self.kinds().retain(|_, flood| {
            let is_due = now.since(flood.written) >= pause;
            if is_due && flood.left_out > 0 {
                flood.written = now;
                told.push(Rest {
                    level: flood.level,
                    line: flood.line.clone(),
                    left_out: mem::take(&mut flood.left_out),
                });
                return true;
            }
            !is_due
        });
        told
    }

    fn wait(&self) {
        let nothing = |kinds: &mut HashMap<_, _>| kinds.is_empty();
        let _begun = self.0.begun.wait_while(self.kinds(), nothing);
    }

    /// Whether a line is the first of its kind; if not, it is counted.
    fn is_first(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        let is_ours = metadata.target().starts_with("mirrory");
        let mut line = Line::default();
        event.record(&mut line);
        let said = if is_ours { line.0.as_str() } else { "" };
        let kind = (metadata.callsite(), self.0.hashes.hash_one(said));
        let mut kinds = self.kinds();
        let has_place = kinds.len() < KINDS || kinds.contains_key(&Some(kind.clone()));
        let was_empty = kinds.is_empty();
        match kinds.entry(has_place.then_some(kind)) {
            Entry::Occupied(mut flood) => {
                flood.get_mut().left_out += 1;
                false
            }
            Entry::Vacant(place) => {
                line.0.truncate(line.0.floor_char_boundary(TOLD_BYTES));
                place.insert(Flood {
                    level: *metadata.level(),
                    line: if has_place {
                        line.0
                    } else {
                        "of many kinds".to_owned()
                    },
                    written: self.0.clock.monotonic(),
                    left_out: 0,
                });
                if was_empty {
                    self.0.begun.notify_one();
                }
                true
            }
        }
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Kind, Flood>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Floods {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let may_flood = *metadata.level() <= Level::WARN && metadata.target() != module_path!();
        !may_flood || self.is_first(event)
    }
}

/// What a line says, without what tells one request from another.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        if matches!(name.rsplit_once('.'), Some((_, "id"))) {
            return;
        }
        // Writing into a text never fails.
        let _written = if name == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {name}={value:?}")
        };
    }

    fn record_u64(&mut self, _: &Field, _: u64) {}

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_f64(&mut self, _: &Field, _: f64) {}
}
