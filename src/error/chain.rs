//! Errors as a line of the log.

use std::{error::Error, fmt};

use sqlx::{error::DatabaseError, postgres::PgDatabaseError};

/// An error with everything that caused it, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        let mut line = said.clone();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some libraries say their cause themselves, and name it as their source besides.
            if !said.ends_with(&text) {
                line = format!("{line}: {text}");
            }
            // It ends with a line of PostgreSQL's own source, which tells nobody anything.
            if let Some(refusal) = of_postgres(error) {
                line = line.replace(&text, refusal.message());
            }
            said = text;
            source = error.source();
        }
        formatter.write_str(&line)
    }
}

fn of_postgres<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a PgDatabaseError> {
    let error = error.downcast_ref::<Box<dyn DatabaseError>>()?;
    error.try_downcast_ref()
}
