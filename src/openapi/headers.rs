//! The headers of the responses, each described once.
//!
//! An annotation names a header, and with `description` which of its values is meant when there are
//! several: `("Cache-Control", description = "no-store")`. The rest is here.

use serde_json::{Value, json};
use utoipa::openapi::{
    Header, HeaderBuilder, Object, ObjectBuilder, Ref, RefOr, Type, extensions::Extensions,
};

pub(super) const ALLOW: &str = "Allow";
const LINK: &str = "Link";
const LOCATION: &str = "Location";
pub(super) const RATE_LIMIT: &str = "RateLimit";
pub(super) const RATE_LIMIT_POLICY: &str = "RateLimit-Policy";
pub(super) const RETRY_AFTER: &str = "Retry-After";
pub(super) const WWW_AUTHENTICATE: &str = "WWW-Authenticate";
pub(super) const REQUEST_ID: &str = "x-request-id";
const CONTENT_TYPE_OPTIONS: &str = "x-content-type-options";

/// Those that every response has.
pub(super) const EVERYWHERE: [&str; 2] = [REQUEST_ID, CONTENT_TYPE_OPTIONS];

/// A header as an annotation names it.
pub(super) fn named() -> RefOr<Header> {
    Header::default().into()
}

/// The description of a header that an annotation named.
pub(super) fn reference(name: &str, named: &RefOr<Header>) -> RefOr<Header> {
    let component = match named {
        RefOr::T(Header {
            description: Some(value),
            ..
        }) => format!("{name}-{value}"),
        RefOr::T(_) | RefOr::Ref(_) => name.to_owned(),
    };
    RefOr::Ref(Ref::new(format!("#/components/headers/{component}")))
}

/// Every header, by its name, or by its name and value.
pub(super) fn described() -> [(&'static str, Header); 13] {
    [
        (ALLOW, allow()),
        ("Cache-Control-no-store", no_store()),
        ("Cache-Control-no-store-of-probe", no_store_of_probe()),
        ("Cache-Control-max-age", max_age()),
        ("Idempotency-Replayed", replayed()),
        (LINK, link()),
        (LOCATION, location()),
        (RATE_LIMIT, rate_limit()),
        (RATE_LIMIT_POLICY, rate_limit_policy()),
        (RETRY_AFTER, retry_after()),
        (WWW_AUTHENTICATE, www_authenticate()),
        (REQUEST_ID, request_id()),
        (CONTENT_TYPE_OPTIONS, content_type_options()),
    ]
}

fn allow() -> Header {
    always(header(
        "The methods that the path has (RFC 9110, section 10.2.1).",
        string("^[A-Z]+(, ?[A-Z]+)*$"),
        json!("GET,HEAD"),
    ))
}

fn no_store() -> Header {
    always(header(
        "Keep no copy of this response (RFC 9111, section 5.2.2.5).",
        constant("no-store"),
        json!("no-store"),
    ))
}

fn no_store_of_probe() -> Header {
    header(
        "Keep no copy of this response (RFC 9111, section 5.2.2.5); absent from a problem.",
        constant("no-store"),
        json!("no-store"),
    )
}

fn max_age() -> Header {
    always(header(
        "How many seconds a copy of this response may be used for (RFC 9111, section 5.2.2.1).",
        constant("max-age=300"),
        json!("max-age=300"),
    ))
}

fn replayed() -> Header {
    header(
        "`true` when the token was issued before, to a request with the same `Idempotency-Key`; \
         else the header is absent.",
        constant("true"),
        json!("true"),
    )
}

fn link() -> Header {
    header(
        "Where the next page is (RFC 8288), relative to the URL of the request (RFC 3986, section \
         5.2); absent from the last page.",
        string("^<\\?[^>]+>; rel=\"next\"$"),
        json!("<?limit=50&cursor=AZq_Pn0qfGSaUT8OimscLQ>; rel=\"next\""),
    )
}

fn location() -> Header {
    always(header(
        "Where what was made is (RFC 9110, section 10.2.2), relative to the URL of the request (RFC \
         3986, section 5.2).",
        string("^sites/"),
        json!("sites/site_01h455vb4pex5vsknk084sn02q"),
    ))
}

fn rate_limit() -> Header {
    header(
        "What is left of the site's quota in each window: `r` calls for the next `t` seconds \
         (draft-ietf-httpapi-ratelimit-headers-11, section 4). It is what the answering instance \
         knows. Absent when the store cannot tell.",
        string(r#"^"day";r=\d+;t=\d+, "month";r=\d+;t=\d+$"#),
        json!(r#""day";r=12;t=3600, "month";r=480;t=86400"#),
    )
}

fn rate_limit_policy() -> Header {
    header(
        "The quota of the site's plan in each window: `q` calls in `w` seconds \
         (draft-ietf-httpapi-ratelimit-headers-11, section 3). The windows are the calendar day \
         and month, UTC; `w` of the month is the length of the current one. Absent when \
         `RateLimit` is.",
        string(r#"^"day";q=\d+;w=86400, "month";q=\d+;w=\d+$"#),
        json!(r#""day";q=20;w=86400, "month";q=500;w=2592000"#),
    )
}

fn retry_after() -> Header {
    always(header(
        "Seconds to wait before the request is sent again (RFC 9110, section 10.2.3).",
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .build(),
        json!(1),
    ))
}

fn www_authenticate() -> Header {
    always(header(
        "What to sign in with (RFC 9110, section 11.6.1).",
        constant("Bearer realm=\"mirrory\""),
        json!("Bearer realm=\"mirrory\""),
    ))
}

fn request_id() -> Header {
    always(header(
        "The id of the request, as in the service's log: the caller's own, or a new UUIDv7.",
        string("^[!-~]{1,128}$"),
        json!("019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d"),
    ))
}

fn content_type_options() -> Header {
    always(header(
        "Take the `Content-Type` at its word (the Fetch standard, section 3.6).",
        constant("nosniff"),
        json!("nosniff"),
    ))
}

fn header(description: &str, schema: Object, example: Value) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example))
        .build()
}

/// utoipa's headers lack the field `required` (OpenAPI 3.1.0, section 4.8.21); an extension is
/// written out beside the fields, so it can stand in.
fn always(mut header: Header) -> Header {
    header.extensions = Some(Extensions::from_iter([("required", true)]));
    header
}

fn string(pattern: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .build()
}

fn constant(value: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([value]))
        .build()
}
