//! What the tables need of PostgreSQL, besides that it answers.

use sqlx::PgConnection;

use super::servers::Refusal;

/// The oldest version that the tests are run with.
const OLDEST: i64 = 150_000;

/// Migrations and the clean-up change the tables: only who is their owner, or one of the owner's role,
/// may do that.
const TABLES: &[&str] = &[
    "_sqlx_migrations",
    "accounts",
    "api_tokens",
    "audit_log",
    "change_counter",
    "changes",
    "data_keys",
    "database_server",
    "idempotency_keys",
    "leases",
    "proxy_secrets",
    "recovery_codes",
    "sessions",
    "signing_keys",
    "sites",
    "store_clock",
    "tokens",
    "two_factor",
    "usage",
    "usage_history",
];

const LOOK: &str = "\
SELECT current_setting('server_version') AS version, \
  current_setting('server_version_num')::BIGINT AS number, \
  current_setting('server_encoding') AS encoding, \
  quote_ident(current_user) AS role, \
  current_database()::TEXT AS database, \
  quote_ident(current_database() || '_utf8') AS another_database, \
  replace(split_part(current_setting('search_path'), ',', 1), '\"$user\"', quote_ident(current_user)) \
    AS first_schema, \
  current_setting('search_path') AS search_path, \
  quote_ident(current_schema()) AS schema, \
  coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, \
  (SELECT string_agg(format('ALTER TABLE %s OWNER TO %I', oid::regclass, current_user), '; ' ORDER BY oid) \
   FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind IN ('r', 'p') \
     AND (relname = ANY($1) OR relispartition AND relname LIKE 'tokens\\_%') \
     AND NOT pg_has_role(relowner, 'USAGE')) AS changes_of_owner";

#[derive(sqlx::FromRow)]
struct Found {
    version: String,
    number: i64,
    encoding: String,
    role: String,
    database: String,
    another_database: String,
    first_schema: String,
    search_path: String,
    schema: Option<String>,
    may_create: bool,
    changes_of_owner: Option<String>,
}

/// Refuses a database that lacks what the tables need.
///
/// # Errors
/// When it does, with what to do; or when it does not answer.
pub(super) async fn refuse_unfit(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let found: Found = sqlx::query_as(LOOK)
        .bind(TABLES)
        .fetch_one(connection)
        .await?;
    let needs = [
        of_version(&found),
        of_encoding(&found),
        of_schema(&found),
        of_tables(&found),
    ];
    let (problems, advice): (Vec<_>, Vec<_>) = needs.into_iter().flatten().unzip();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Refusal::unfit(problems.join("; "), advice.join("; ")).into())
}

/// What is lacking, and what to do.
type Need = (String, String);

fn of_version(found: &Found) -> Option<Need> {
    let Found {
        version, number, ..
    } = found;
    if *number >= OLDEST {
        return None;
    }
    let problem = format!("PostgreSQL {version} is too old");
    Some((
        problem,
        "upgrade it to version 15 or a newer one".to_owned(),
    ))
}

fn of_encoding(found: &Found) -> Option<Need> {
    let Found {
        encoding,
        role,
        database,
        another_database,
        ..
    } = found;
    if encoding == "UTF8" {
        return None;
    }
    let problem = format!("the database {database} is in {encoding}, which lacks characters");
    let advice = format!(
        "make one with CREATE DATABASE {another_database} OWNER {role} ENCODING 'UTF8' LOCALE 'C' \
         TEMPLATE template0, copy what is there with pg_dump and psql, and name it in database.url"
    );
    Some((problem, advice))
}

fn of_schema(found: &Found) -> Option<Need> {
    let Found {
        role,
        first_schema,
        search_path,
        ..
    } = found;
    let (problem, schema) = match &found.schema {
        Some(_) if found.may_create => return None,
        Some(schema) => (
            format!("the role {role} may make no tables in the schema {schema}"),
            schema.as_str(),
        ),
        None => (
            format!("the role {role} may use no schema of its search_path ({search_path})"),
            "public",
        ),
    };
    let advice = if found.schema.is_some() || search_path.contains("public") {
        format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
    } else {
        format!("CREATE SCHEMA {first_schema} AUTHORIZATION {role}")
    };
    Some((problem, advice))
}

fn of_tables(found: &Found) -> Option<Need> {
    let advice = found.changes_of_owner.clone()?;
    let problem = format!("tables of the store belong to others than {}", found.role);
    Some((problem, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_is_named() {
        let mut found = Found {
            version: "15.0".to_owned(),
            number: 150_000,
            encoding: "UTF8".to_owned(),
            role: "mirrory".to_owned(),
            database: "mirrory".to_owned(),
            another_database: "mirrory_utf8".to_owned(),
            first_schema: "mirrory".to_owned(),
            search_path: "\"$user\", public".to_owned(),
            schema: Some("public".to_owned()),
            may_create: true,
            changes_of_owner: None,
        };
        assert_eq!(of_version(&found), None);
        (found.version, found.number) = ("14.9".to_owned(), 140_009);
        let (problem, _) = of_version(&found).unwrap();
        assert!(problem.contains("14.9"), "{problem}");
    }
}
