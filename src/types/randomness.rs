//! Randomness, handed in like time: the operating system's generator, or a seeded one in tests.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::clock::Timestamp;

/// A source of unpredictable bytes.
#[derive(Clone)]
pub struct Randomness(Source);

#[derive(Clone)]
enum Source {
    Thread,
    Seeded(Arc<Mutex<StdRng>>),
}

impl Randomness {
    /// A generator a thread (`ChaCha`), seeded and reseeded by the operating system.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::Thread)
    }

    /// The same bytes for the same seed. For tests: nothing that it makes is secret.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(
            seed,
        )))))
    }

    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0 {
            Source::Thread => rand::rng().fill_bytes(&mut bytes),
            Source::Seeded(generator) => generator
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .fill_bytes(&mut bytes),
        }
        bytes
    }

    /// A `UUIDv7` (RFC 9562, section 5.7): ids made later sort later, by the millisecond.
    #[must_use]
    pub fn uuid_v7(&self, now: Timestamp) -> Uuid {
        let millis = u64::try_from(now.as_micros() / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.bytes()).into_uuid()
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Source::Thread => "Randomness(system)",
            Source::Seeded(_) => "Randomness(seeded)",
        })
    }
}
