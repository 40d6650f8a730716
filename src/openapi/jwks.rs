//! The schema of the public keys.

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, ObjectBuilder, OneOfBuilder, RefOr, Schema, Type, schema::ArrayBuilder},
};

use crate::keys::signer::Jwks;

impl ToSchema for Jwks {}

impl PartialSchema for Jwks {
    fn schema() -> RefOr<Schema> {
        let key = OneOfBuilder::new()
            .description(Some("One public key (RFC 7517, section 4)."))
            .item(elliptic_curve())
            .item(edwards_curve())
            .item(rsa());
        let keys = ArrayBuilder::new()
            .description(Some(
                "The keys that verify; empty when all tokens are signed with HS256, which has no \
                 public key.",
            ))
            .items(key);
        let set = ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("A set of public keys (RFC 7517, section 5)."))
            .property("keys", keys)
            .required("keys")
            .examples([json!({"keys": [{
                "kty": "EC", "use": "sig", "alg": "ES256", "kid": EXAMPLE_KID,
                "crv": "P-256", "x": EXAMPLE_X, "y": EXAMPLE_Y
            }]})]);
        Schema::from(set).into()
    }
}

const EXAMPLE_KID: &str = "4d8k2m6q0s9t3v7w1x5y8z2a6b";
/// The public key of RFC 7515, appendix A.3.
const EXAMPLE_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const EXAMPLE_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

fn elliptic_curve() -> Object {
    let key = public_key("A key for ES256 (RFC 7518, section 6.2).", "EC", "ES256");
    let key = member(key, "crv", "The curve.", constant("P-256"));
    let key = member(
        key,
        "x",
        "The x coordinate of the point.",
        base64url(EXAMPLE_X),
    );
    member(
        key,
        "y",
        "The y coordinate of the point.",
        base64url(EXAMPLE_Y),
    )
    .build()
}

fn edwards_curve() -> Object {
    let key = public_key("A key for EdDSA (RFC 8037, section 2).", "OKP", "EdDSA");
    let key = member(key, "crv", "The curve.", constant("Ed25519"));
    // The public key of RFC 8037, appendix A.2.
    let point = base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    member(key, "x", "The public key.", point).build()
}

fn rsa() -> Object {
    let key = public_key("A key for RS256 (RFC 7518, section 6.3).", "RSA", "RS256");
    let key = member(key, "n", "The modulus.", base64url("0vx7agoebGcQ"));
    member(key, "e", "The public exponent.", base64url("AQAB")).build()
}

fn public_key(description: &str, key_type: &str, algorithm: &str) -> ObjectBuilder {
    let key = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description));
    let key = member(key, "kty", "The kind of key.", constant(key_type));
    let key = member(key, "use", "What it is for: signatures.", constant("sig"));
    let key = member(
        key,
        "alg",
        "The one algorithm that it is used with.",
        constant(algorithm),
    );
    let kid = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[0-9a-hjkmnp-tv-z]{26}$"))
        .examples([json!(EXAMPLE_KID)]);
    member(
        key,
        "kid",
        "Its id, as in the header of the tokens that it signed.",
        kid,
    )
}

fn member(
    key: ObjectBuilder,
    name: &str,
    description: &str,
    schema: ObjectBuilder,
) -> ObjectBuilder {
    key.property(name, schema.description(Some(description)))
        .required(name)
}

fn constant(value: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([value]))
        .examples([json!(value)])
}

fn base64url(example: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[A-Za-z0-9_-]+$"))
        .examples([json!(example)])
}
