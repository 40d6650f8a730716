//! How long a start takes, until the service is ready.

use crate::{
    Outcome,
    machine::Cores,
    measure::median,
    service::{Lines, Service},
};

const STARTS: u32 = 9;

/// The median of starts on a store that exists, in milliseconds.
pub fn measure(cores: &Cores, service: &Service) -> Outcome<f64> {
    let starts = (0..STARTS).map(|_| {
        let ready = service.spawn(cores, &Lines::None)?.await_ready()?;
        Ok(ready.as_secs_f64() * 1000.0)
    });
    Ok(median(starts.collect::<Outcome<Vec<f64>>>()?))
}
