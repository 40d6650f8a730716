//! Log lines on their way out: gathered in memory, written many at a time by a thread of their own.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use super::floods::Floods;

/// How long the first of many lines waits for others. Waking a thread for each line, and a system
/// call, cost more than making the line.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// How many bytes wait at most: when the output blocks, the service goes on and lines are lost.
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// How long the end waits for an output that blocks.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines are written to. Clones write to the same output.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    bytes: Vec<u8>,
    most_bytes: usize,
    dropped_lines: u64,
    is_closed: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            most_bytes: MOST_BYTES,
            dropped_lines: 0,
            is_closed: false,
        }
    }
}

/// Writes what is queued when it is dropped; keep it until the end of `main`.
///
/// The drop waits a second at most, should stderr block.
#[must_use = "log lines are lost when this is dropped early"]
pub struct Guard {
    lines: Lines,
    floods: Floods,
    written: mpsc::Receiver<()>,
}

/// Starts the thread that writes to `output`.
pub(super) fn background(
    output: impl Write + Send + 'static,
    floods: Floods,
) -> io::Result<(Lines, Guard)> {
    let lines = Lines(Arc::default());
    let (is_written, written) = mpsc::channel();
    let writer = lines.clone();
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            writer.0.write_out(output);
            drop(is_written);
        })?;
    let guard = Guard {
        lines: lines.clone(),
        floods,
        written,
    };
    Ok((lines, guard))
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes.len() + line.len() > queue.most_bytes {
            queue.dropped_lines += 1;
            return;
        }
        let is_first = queue.bytes.is_empty();
        queue.bytes.extend_from_slice(line);
        drop(queue);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Writes until the queue is closed and empty.
    fn write_out(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        while self.gather(&mut batch) {
            // A log that cannot be written has nowhere to say so.
            let _is_written = output.write_all(&batch).and_then(|()| output.flush());
            batch.clear();
        }
    }

    /// Takes what is there into `batch`, once there is something; false at the end.
    fn gather(&self, batch: &mut Vec<u8>) -> bool {
        let nothing = |queue: &mut Queue| queue.bytes.is_empty() && !queue.is_closed;
        let open = |queue: &mut Queue| !queue.is_closed;
        let queue = self.changed.wait_while(self.queue(), nothing);
        let queue = queue.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(queue, GATHERED_FOR, open);
        let (mut queue, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut queue.bytes, batch);
        !batch.is_empty()
    }
}

impl Write for &Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'writer> MakeWriter<'writer> for Lines {
    type Writer = &'writer Self;

    fn make_writer(&'writer self) -> &'writer Self {
        self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut queue = self.lines.0.queue();
        let lines = queue.dropped_lines;
        // The last line must not be dropped as well.
        queue.most_bytes = usize::MAX;
        drop(queue);
        if lines > 0 {
            tracing::warn!(lines, "log lines were dropped, for stderr was too slow");
        }
        self.floods.tell_all();
        self.lines.0.queue().is_closed = true;
        self.lines.0.changed.notify_one();
        let _is_written = self.written.recv_timeout(PATIENCE);
    }
}
