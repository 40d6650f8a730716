//! `mirrory audit …`

use super::{
    Context,
    args::AuditCommand,
    output::{Answer, Failure},
};
use crate::audit::{AuditFilter, AuditLog};

const COLUMNS: &[&str] = &[
    "time",
    "event",
    "actor.kind",
    "actor.id",
    "subject",
    "address",
    "outcome",
    "count",
    "detail",
];

pub(super) async fn run(context: &Context, command: AuditCommand) -> Result<Answer, Failure> {
    let AuditCommand::List {
        event,
        site,
        since,
        limit,
    } = command;
    let filter = AuditFilter {
        visible_to: None,
        since,
        event,
        site_id: site,
    };
    let log = AuditLog::new(context.open_store().await?);
    Answer::many(&log.newest(&filter, limit.into()).await?, COLUMNS)
}
