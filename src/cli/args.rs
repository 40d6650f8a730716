//! What can be typed.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    accounts::Role,
    keys::{Algorithm, Kid},
    query,
    sites::MAX_GRACE,
    types::{
        clock::Timestamp,
        ids::{AccountId, ApiTokenId, SiteId, TokenId, WpUserId},
    },
};

/// A self-hosted token service for desktop apps that are sold through a WordPress site.
#[derive(Debug, Parser)]
#[command(name = "mirrory", version, propagate_version = true)]
pub(super) struct Args {
    /// A configuration file (TOML), in the place of the one that `MIRRORY_CONFIG` names; the
    /// environment's `MIRRORY__SECTION__KEY` goes before it.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print one JSON document and nothing else on stdout.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Apply the migrations and serve until SIGTERM, SIGINT, SIGQUIT or SIGHUP. Also without a command.
    Serve,
    /// Apply the migrations and end.
    Migrate,
    /// Sites and their proxy secrets.
    #[command(subcommand)]
    Site(SiteCommand),
    /// Tokens and their machines.
    #[command(subcommand)]
    Token(TokenCommand),
    /// What a site has used of its plan, and what instances hold in reserve for its next calls.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Usage {
        /// The site.
        #[arg(required = true)]
        site_id: Option<SiteId>,
        #[command(subcommand)]
        command: Option<UsageCommand>,
    },
    /// Signing keys and the master key.
    #[command(subcommand)]
    Key(KeyCommand),
    /// What the embedded store knows of the time.
    #[command(subcommand)]
    Clock(ClockCommand),
    /// The people who run sites.
    #[command(subcommand)]
    Account(AccountCommand),
    /// What scripts call the management API with.
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// Who did what, when and from where.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write everything that the store holds into a file, to go on elsewhere with `mirrory import`.
    ///
    /// The file is as secret as a back-up: its keys are encrypted and its secrets hashed. It is of one
    /// moment; what servers do later is not in it, so stop them first to move for good. What does not
    /// move is the configuration and the master key: carry both over.
    Export {
        /// Where to write it, for its owner alone, and where nothing may be; `-` is stdout.
        #[arg(long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
    /// Write what `mirrory export` wrote into a store, which should be empty.
    ///
    /// Configure the master key of the store that was exported first, or put its `master.key` beside
    /// the embedded store, and start no server before it is done. Cut off, it can be run again with
    /// the same file, and goes on. It overwrites nothing.
    Import {
        /// The file; `-` is stdin.
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// The PostgreSQL server that holds the store.
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Print the configuration in force, without its secrets.
    Config,
    /// Print the OpenAPI 3.1 document.
    Openapi,
    /// Ask the local server how it is; for container health checks.
    Healthcheck,
    /// Look at the set-up, and say of everything that is wrong what to do. Changes nothing.
    ///
    /// Ends with 0 when nothing has failed, warnings or not.
    Doctor,
}

#[derive(Debug, Subcommand)]
pub(super) enum SiteCommand {
    /// Make a site and print its proxy secret, once.
    Create {
        /// What people call it.
        #[arg(long)]
        name: String,
        /// Where it is.
        #[arg(long)]
        url: Option<String>,
        /// One of the configured plans.
        #[arg(long, default_value = "free")]
        plan: String,
    },
    /// Print every site.
    List,
    /// Print a site.
    Show {
        /// The site.
        site_id: SiteId,
    },
    #[command(flatten)]
    Change(SiteChange),
}

#[derive(Debug, Subcommand)]
pub(super) enum SiteChange {
    /// Put a site on another plan; its counters stay.
    SetPlan {
        /// The site.
        site_id: SiteId,
        /// One of the configured plans.
        plan: String,
    },
    /// Stop a site from issuing tokens, and its tokens from being valid.
    Suspend {
        /// The site.
        site_id: SiteId,
    },
    /// Undo a suspension.
    Resume {
        /// The site.
        site_id: SiteId,
    },
    /// Delete a site: its secrets end and its tokens are revoked, at once and for good.
    ///
    /// On a terminal, asks for the site's name first.
    Delete {
        /// The site.
        site_id: SiteId,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Give a site to an account, which then sees and changes it.
    Assign {
        /// The site.
        site_id: SiteId,
        /// The account.
        account_id: AccountId,
    },
    /// Give a site a new proxy secret and print it, once.
    RotateSecret {
        /// The site.
        site_id: SiteId,
        /// How long the old secret stays good: as in 90s, 30m, 24h, 7d; 0s ends it at once.
        #[arg(long, default_value = "24h", value_parser = parse_grace)]
        grace: Duration,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print a site's tokens, the newest first.
    List {
        /// The site.
        #[arg(long)]
        site: SiteId,
        /// Only those of this WordPress user.
        #[arg(long, value_parser = WpUserId::parse)]
        user: Option<WpUserId>,
        /// At most so many.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Print a token's record.
    Show {
        /// The token.
        token_id: TokenId,
    },
    #[command(flatten)]
    Change(TokenChange),
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum TokenChange {
    /// Take a token back, for good.
    Revoke {
        /// The token.
        token_id: TokenId,
    },
    /// Unbind a token from its machine; the next machine binds it anew.
    Release {
        /// The token.
        token_id: TokenId,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum UsageCommand {
    /// Set what a site has used of the present day and month to nothing.
    Reset {
        /// The site.
        site_id: SiteId,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum ClockCommand {
    /// Say that this machine's clock is right now, whatever time the store has seen.
    ///
    /// The embedded store remembers the greatest time that it has seen. Nothing is served by a clock
    /// more than 5 minutes before that, and nothing cleaned up by one more than 30 days after it.
    Accept,
}

impl Command {
    /// Whether it writes times, or changes what is judged by them: not with a wrong clock.
    pub(super) const fn needs_right_clock(&self) -> bool {
        !matches!(
            self,
            Self::Serve
                | Self::Migrate
                | Self::Site(SiteCommand::List | SiteCommand::Show { .. })
                | Self::Token(TokenCommand::List { .. } | TokenCommand::Show { .. })
                | Self::Usage { command: None, .. }
                | Self::Key(KeyCommand::OfTokens(SigningKeyCommand::List))
                | Self::Clock(_)
                | Self::Account(AccountCommand::List)
                | Self::ApiToken(ApiTokenCommand::List { .. })
                | Self::Audit(_)
                | Self::Export { .. }
                | Self::Config
                | Self::Openapi
                | Self::Healthcheck
                | Self::Doctor
        )
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum SigningKeyCommand {
    /// Print the signing keys.
    List,
    /// Make a key that signs in 2 seconds; the old one goes on verifying.
    Rotate {
        /// What to sign with; unless told, tokens.algorithm.
        #[arg(long, ignore_case = true)]
        algorithm: Option<Algorithm>,
    },
    /// End a key, and with it every token that it signed.
    Revoke {
        /// The key.
        kid: Kid,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    #[command(flatten)]
    OfTokens(SigningKeyCommand),
    /// Put another master key in the place of the one that is configured.
    ///
    /// Wraps the data key anew, under which all else lies; servers that run go on. Can be run again
    /// with the same new key when it was cut off.
    ///
    /// With a configured key (`secrets.master_key`, as PostgreSQL needs it): make the new one with
    /// `(umask 077; openssl rand -base64 32 > new.key)`, run this with the old one still configured and
    /// `--new-key-file new.key`, then configure the new one for every instance before it starts
    /// again. Without: the key in `master.key` beside the embedded store is replaced. Keep the old
    /// key as long as back-ups of the store that were made under it.
    RotateMaster {
        /// The file with the new key, 32 bytes in base64; `-` is stdin.
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Make an account; asks for its password.
    Create {
        /// Its e-mail address.
        #[arg(long)]
        email: String,
        /// What it may sign in by in place of the e-mail address.
        #[arg(long)]
        username: Option<String>,
        /// What people call it.
        #[arg(long)]
        name: Option<String>,
        /// owner: the sites that it owns; admin: everything.
        #[arg(long, default_value = "owner")]
        role: Role,
        /// Read the password from the first line of stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Print every account.
    List,
    /// Set another password, and end every session and API token; asks for it.
    ResetPassword {
        /// The account.
        account_id: AccountId,
        /// Read the password from the first line of stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    #[command(flatten)]
    Change(AccountChange),
}

#[derive(Debug, Subcommand)]
pub(super) enum AccountChange {
    /// End the sessions and API tokens of an account, and let nobody sign in as it.
    Disable {
        /// The account.
        account_id: AccountId,
    },
    /// Let an account be used again.
    Enable {
        /// The account.
        account_id: AccountId,
    },
    /// Let an account sign in without a code.
    ResetTwoFactor {
        /// The account.
        account_id: AccountId,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ApiTokenCommand {
    /// Print the API tokens that have not ended, the newest first.
    List {
        /// Only those of this account.
        #[arg(long, value_name = "ACCOUNT_ID")]
        account: Option<AccountId>,
    },
    /// End an API token, for good.
    Revoke {
        /// The API token.
        token_id: ApiTokenId,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DatabaseCommand {
    /// Go on with the store on the database system that it is on now.
    ///
    /// For after a dump and restore, or `pg_upgrade`: what was copied other than by replication is
    /// refused until then, and so is a server that was promoted fewer times than one before it. End
    /// the instances first, and see that database.url (or database.urls) names the right server.
    Accept,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print the audit log, the newest first.
    List {
        /// Only rows of this event, as in secret.rotated; the list without it shows their names.
        #[arg(long)]
        event: Option<String>,
        /// Only rows about this site.
        #[arg(long)]
        site: Option<SiteId>,
        /// Only rows from this moment on, as in 2026-12-31T23:59:59Z, or 2026-12-31 for its midnight (UTC).
        #[arg(long, value_parser = parse_since)]
        since: Option<Timestamp>,
        /// At most so many.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

/// A moment, or the midnight that a date begins with.
fn parse_since(text: &str) -> Result<Timestamp, String> {
    let midnight = format!("{text}T00:00:00Z");
    Timestamp::parse(&midnight).map_or_else(|| query::moment(text), Ok)
}

/// A whole number and its unit: s, m, h or d; seconds without one.
fn parse_grace(text: &str) -> Result<Duration, String> {
    let (digits, seconds_per_unit) = match text.char_indices().last() {
        Some((end, 's')) => (&text[..end], 1),
        Some((end, 'm')) => (&text[..end], 60),
        Some((end, 'h')) => (&text[..end], 60 * 60),
        Some((end, 'd')) => (&text[..end], 24 * 60 * 60),
        _ => (text, 1),
    };
    let seconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(seconds_per_unit));
    match seconds.map(Duration::from_secs) {
        Some(grace) if grace <= MAX_GRACE => Ok(grace),
        _ => Err("must be 0s to 7d, as in 90s, 30m, 24h or 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn grace_is_a_number_with_a_unit_up_to_seven_days() {
        assert_eq!(parse_grace("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_grace("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_grace("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(parse_grace("7d"), Ok(MAX_GRACE));
        for text in [
            "",
            "h",
            "-1s",
            "8d",
            "169h",
            "1.5h",
            "1w",
            "99999999999999999999d",
        ] {
            assert!(parse_grace(text).is_err(), "{text}");
        }
    }
}
