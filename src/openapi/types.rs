//! The schemas of what several operations share.

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, Object, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type,
        extensions::{Extensions, ExtensionsBuilder},
    },
};

use crate::types::{
    clock::Timestamp,
    ids::{AccountId, ApiTokenId, AuditId, MachineId, SessionId, SiteId, TokenId, WpUserId},
    secret::{MAX_SECRET_BYTES, ProxySecret},
};

/// A WordPress user as a site's proxy may write it.
pub(crate) struct WpUserIdInput;

macro_rules! schemas {
    ($($type:ty => $schema:ident)*) => {
        $(
            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    Schema::from($schema()).into()
                }
            }

            impl ToSchema for $type {}
        )*
    };
}

schemas! {
    WpUserId => user_id
    WpUserIdInput => user_id_input
    SiteId => site_id
    TokenId => token_id
    AuditId => audit_id
    AccountId => account_id
    SessionId => session_id
    ApiTokenId => api_token_id
    MachineId => machine_id
    ProxySecret => proxy_secret
    Timestamp => timestamp
}

/// A field that is always the same. utoipa's schemas lack `const`; an extension is written out
/// beside their fields, so it can stand in.
pub(crate) fn always<const VALUE: bool>() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .description(Some(format!("Always {VALUE}.")))
        .examples([json!(VALUE)])
        .extensions(Some(Extensions::from_iter([("const", VALUE)])))
        .build()
}

/// How many bytes a string may have at most; JSON Schema's `maxLength` counts characters.
fn max_bytes(bytes: usize) -> Extensions {
    ExtensionsBuilder::new().add("x-max-bytes", bytes).build()
}

fn user_id() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .description(Some("A WordPress user of one site."))
        .minimum(Some(1))
        .maximum(Some(i64::MAX))
        .examples([json!(12345)])
        .build()
}

fn user_id_input() -> utoipa::openapi::OneOf {
    let digits = string(
        "The same number as a string of its digits, as PHP often sends it: at most \
         9223372036854775807.",
        "12345",
    )
    .pattern(Some("^[1-9][0-9]{0,18}$"));
    OneOfBuilder::new()
        .description(Some(
            "A WordPress user of the site, 1 to 9223372036854775807: a JSON integer without sign, \
             fraction, exponent or leading zero, or a string of its digits.",
        ))
        .item(user_id())
        .item(digits)
        .examples([json!(12345), json!("12345")])
        .build()
}

fn token_id() -> Object {
    uuid("The id of a token, its claim `jti`")
}

fn site_id() -> Object {
    string(
        "The id of a site: `site_` and a UUIDv7 in lower-case Crockford base32.",
        "site_01h455vb4pex5vsknk084sn02q",
    )
    .pattern(Some("^site_[0-7][0-9a-hjkmnp-tv-z]{25}$"))
    .build()
}

fn audit_id() -> Object {
    uuid("The id of a row of the audit log")
}

fn account_id() -> Object {
    uuid("The id of an account")
}

fn session_id() -> Object {
    uuid("The id of a session")
}

fn api_token_id() -> Object {
    uuid("The id of an API token")
}

fn uuid(what: &str) -> Object {
    string(
        &format!("{what}: a hyphenated UUIDv7 (RFC 9562, section 5.7) in lower case."),
        "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d",
    )
    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
    .pattern(Some("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))
    .build()
}

fn machine_id() -> Object {
    string(
        "The computer that an app runs on, by an id that the app chose at random and keeps: 1 to \
         256 bytes of UTF-8 without control characters (Unicode Cc), compared byte for byte.",
        "desktop-machine-uuid-1234567890",
    )
    .min_length(Some(1))
    .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
    .extensions(Some(max_bytes(256)))
    .build()
}

fn proxy_secret() -> Object {
    string(
        "A live secret of the site: 1 to 512 bytes of UTF-8. One that the service made is `mps_` \
         and 84 characters of lower-case Crockford base32.",
        "mps_an-example-and-no-secret",
    )
    .min_length(Some(1))
    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
    .write_only(true)
    .extensions(Some(max_bytes(MAX_SECRET_BYTES)))
    .build()
}

fn timestamp() -> Object {
    string(
        "A moment (RFC 3339): UTC, whole seconds, `Z`.",
        "2026-12-31T23:59:59Z",
    )
    .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
    .pattern(Some(r"^\d{4,}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"))
    .build()
}

fn string(description: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .examples([json!(example)])
}
