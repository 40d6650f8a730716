//! Errors as a line of the log.

use std::fmt;

/// An error with everything that caused it, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        formatter.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some libraries say their cause themselves, and name it as their source besides.
            if !said.ends_with(&text) {
                write!(formatter, ": {text}")?;
            }
            said = text;
            source = error.source();
        }
        Ok(())
    }
}
