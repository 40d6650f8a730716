//! What tells the service to end, and what does not.

use std::{fs, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that people and programs send by habit. Unheard, each of them would end the process at
/// once and without a line.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    /// None where it is ignored, as `nohup` has it.
    hang_up: Option<Signal>,
    user_1: Signal,
    user_2: Signal,
    alarm: Signal,
    io: Signal,
}

impl Signals {
    /// Hears them from now on.
    pub(super) fn new() -> io::Result<Self> {
        let hang_up = (!ignores_hang_ups()).then(|| signal(SignalKind::hangup()));
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: hang_up.transpose()?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            alarm: signal(SignalKind::alarm())?,
            io: signal(SignalKind::io())?,
        })
    }

    /// Waits for one that tells the service to end.
    pub(super) async fn told_to_end(&mut self) {
        loop {
            match self.next().await {
                Heard::End(name) | Heard::HangUp(name) => return tracing::info!("{name}"),
                Heard::Habit(name) => ignore(name),
            }
        }
    }

    /// Waits for one that is sent again by somebody who does not want to wait. A hang-up is not: a
    /// terminal that closes sends several, and systemd one after its SIGTERM.
    pub(super) async fn told_again(&mut self) {
        loop {
            match self.next().await {
                Heard::End(name) => return tracing::info!("{name}"),
                Heard::HangUp(name) | Heard::Habit(name) => ignore(name),
            }
        }
    }

    async fn next(&mut self) -> Heard {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Heard::End("SIGTERM"),
            _ = self.interrupt.recv() => Heard::End("SIGINT"),
            _ = self.quit.recv() => Heard::End("SIGQUIT"),
            _ = hang_up => Heard::HangUp("SIGHUP"),
            _ = self.user_1.recv() => Heard::Habit("SIGUSR1"),
            _ = self.user_2.recv() => Heard::Habit("SIGUSR2"),
            _ = self.alarm.recv() => Heard::Habit("SIGALRM"),
            _ = self.io.recv() => Heard::Habit("SIGIO"),
        }
    }
}

enum Heard {
    End(&'static str),
    HangUp(&'static str),
    /// As to have logs opened anew; ours go to stderr.
    Habit(&'static str),
}

fn ignore(name: &str) {
    tracing::info!("{name}: ignored");
}

/// Whether whoever started the process told the system to keep hang-ups from it. To hear them would
/// undo that.
fn ignores_hang_ups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_signals(&status) & 1 == 1
}

/// The signals that Linux says a process ignores, a bit each, from that of signal 1 on.
fn ignored_signals(status: &str) -> u64 {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        let status = "Name:\tmirrory\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored_signals(status), 0x1001);
        assert_eq!(ignored_signals("Name:\tmirrory\n"), 0);
    }
}
