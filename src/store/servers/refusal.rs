//! Why a server that answers is not used.

use std::{fmt, io};

/// A server that answers, and is not used: what is wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: Kind,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do.
    pub(crate) advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ReadOnly,
    SplitBrain,
    Other,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.problem, self.advice)
    }
}

impl std::error::Error for Refusal {}

/// It may pass, with another server or with this one later.
impl From<Refusal> for sqlx::Error {
    fn from(refusal: Refusal) -> Self {
        Self::Io(io::Error::other(refusal))
    }
}

impl Refusal {
    /// The refusal that an error is, if it is one.
    pub(crate) fn of(error: &sqlx::Error) -> Option<&Self> {
        let sqlx::Error::Io(error) = error else {
            return None;
        };
        error.get_ref()?.downcast_ref()
    }

    /// Whether the server answers well, and only takes no writes.
    pub(crate) fn is_read_only(&self) -> bool {
        self.kind == Kind::ReadOnly
    }

    pub(super) fn is_split_brain(error: &sqlx::Error) -> bool {
        Self::of(error).is_some_and(|refusal| refusal.kind == Kind::SplitBrain)
    }

    /// The server takes no writes.
    pub(super) fn read_only(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            kind: Kind::ReadOnly,
            problem: problem.into(),
            advice: advice.into(),
        }
    }

    /// Both of two servers would take writes that the other never sees.
    pub(super) fn split_brain(one: &str, other: &str, timeline: i64) -> Self {
        Self {
            kind: Kind::SplitBrain,
            problem: format!(
                "{one} and {other} both take writes on timeline {timeline}, and neither is newer"
            ),
            advice:
                "end the one that is wrong, and let it follow the other; none is used until then"
                    .to_owned(),
        }
    }

    /// It is not known yet which of two servers is right.
    pub(super) fn undecided() -> Self {
        Self::other(
            "two servers take writes, and neither is newer",
            "end the one that is wrong, and let it follow the other",
        )
    }

    /// What takes writes belongs to different stores.
    pub(super) fn two_systems(one: &str, other: &str) -> Self {
        Self::other(
            format!("{one} and {other} both take writes and are no copies of each other"),
            "name one primary and its replicas alone in database.urls",
        )
    }

    /// One URL leads to several servers.
    pub(in crate::store) fn spread() -> Self {
        Self::other(
            "one URL leads to several servers, as by a pooler, a balancer or a name with several \
             addresses",
            "let it lead to the primary alone, or name each server in database.urls",
        )
    }

    /// The data was copied, but not by replication; or it is another store's.
    pub(super) fn another_system(place: &str, system: i64, known: i64) -> Self {
        Self::other(
            format!("{place} is the database system {system}, and the store was on {known}"),
            "if the store was moved there, as by a dump or by pg_upgrade, end the instances, run \
             `mirrory database accept`, and start them again",
        )
    }

    /// The server was promoted fewer times than one that the store was on.
    pub(super) fn old_timeline(place: &str, timeline: i64, seen: i64) -> Self {
        Self::other(
            format!(
                "{place} is an old primary, on timeline {timeline}, and the store was on timeline \
                 {seen}"
            ),
            "end it, and let it follow the primary; if it is the store all the same, as after a \
             restored back-up, end the instances, run `mirrory database accept`, and start them \
             again",
        )
    }

    /// The server is as new as the one in use, and another one.
    pub(super) fn another_server(place: &str) -> Self {
        Self::other(
            format!("{place} is another server than before, and was not promoted since"),
            "end it, and let it follow the one before; if that is lost for good, start the instances \
             again",
        )
    }

    /// The server does not say which copy of the data it has.
    pub(super) fn nameless(said: &str, advice: String) -> Self {
        let problem = format!("the server does not tell its system and its timeline ({said})");
        Self::other(problem, advice)
    }

    /// The database lacks what the tables need.
    pub(in crate::store) fn unfit(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::other(problem, advice)
    }

    /// Why none of several servers is used.
    pub(super) fn together(problems: Vec<(String, sqlx::Error)>) -> sqlx::Error {
        let refusals = problems.iter().filter_map(|(_, error)| Self::of(error));
        // The least that must change.
        let first = refusals.max_by_key(|refusal| refusal.kind == Kind::ReadOnly);
        let first = first.map(|refusal| (refusal.kind, refusal.advice.clone()));
        let each: Vec<_> = problems
            .into_iter()
            .map(|(place, error)| match Self::of(&error) {
                Some(refusal) => format!("{place}: {}", refusal.problem),
                None => format!("{place}: {}", crate::error::Chain(&error)),
            })
            .collect();
        let problem = each.join("; ");
        match first {
            Some((kind, advice)) => Self {
                kind,
                problem,
                advice,
            }
            .into(),
            None => sqlx::Error::Io(io::Error::other(problem)),
        }
    }

    fn other(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            kind: Kind::Other,
            problem: problem.into(),
            advice: advice.into(),
        }
    }
}
