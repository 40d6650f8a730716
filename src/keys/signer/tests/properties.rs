//! Whatever comes in, nothing panics and nothing but the token itself is accepted.

use proptest::prelude::*;

use super::*;

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";

const MEMBERS: [&str; 11] = [
    "alg", "typ", "kid", "crit", "iss", "aud", "sub", "site", "jti", "iat", "exp",
];

static TOKENS: LazyLock<Vec<String>> =
    LazyLock::new(|| keys().map(|key| key.sign(&claims()).unwrap()).collect());

fn accepted(token: &str) -> bool {
    keys().any(|key| check(key, token).is_ok())
}

/// An object of members that mean something to us, with values that mostly do not fit.
fn json_like() -> impl Strategy<Value = String> {
    let value = r#"("[a-zA-Z0-9-]{0,9}"|-?[0-9]{1,20}|null|true|\[\]|\{\})"#;
    let member = (prop::sample::select(&MEMBERS), value)
        .prop_map(|(name, value)| format!(r#""{name}":{value}"#));
    prop::collection::vec(member, 0..12).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #[test]
    fn any_text_is_refused(text in any::<String>()) {
        prop_assert!(!accepted(&text));
    }

    #[test]
    fn any_three_parts_are_refused(text in "[A-Za-z0-9_-]{0,99}\\.[A-Za-z0-9_-]{0,99}\\.[A-Za-z0-9_-]{0,99}") {
        prop_assert!(!accepted(&text));
    }

    #[test]
    fn any_encoded_bytes_are_refused(
        header in prop_oneof![json_like().prop_map(String::into_bytes), any::<Vec<u8>>()],
        claims in prop_oneof![json_like().prop_map(String::into_bytes), any::<Vec<u8>>()],
        signature in prop_oneof![any::<Vec<u8>>(), any::<[u8; 32]>().prop_map(Vec::from), any::<[[u8; 32]; 2]>().prop_map(|halves| halves.concat())],
    ) {
        let token = format!("{}.{}.{}", encode(header), encode(claims), encode(signature));
        prop_assert!(!accepted(&token));
    }

    /// What our own key signs, but no handler ever asked for.
    #[test]
    fn any_signed_bytes_do_no_harm(header in json_like(), claims in json_like()) {
        for key in keys().filter(|key| key.algorithm() != Algorithm::RS256) {
            prop_assert!(check(key, &signed(key, &header, &claims)).is_err());
        }
    }

    #[test]
    fn any_changed_character_is_refused(
        token in 0..4_usize,
        place in any::<prop::sample::Index>(),
        other in prop_oneof![prop::sample::select(ALPHABET).prop_map(char::from), any::<char>()],
    ) {
        let token = &TOKENS[token];
        let place = place.index(token.len());
        let changed = format!("{}{other}{}", &token[..place], &token[place + 1..]);
        prop_assert!(changed == *token || !accepted(&changed));
    }

    #[test]
    fn any_added_or_removed_character_is_refused(
        token in 0..4_usize,
        place in any::<prop::sample::Index>(),
        added in prop::sample::select(ALPHABET).prop_map(char::from),
    ) {
        let token = &TOKENS[token];
        let place = place.index(token.len());
        let longer = format!("{}{added}{}", &token[..place], &token[place..]);
        prop_assert!(!accepted(&longer));
        let shorter = format!("{}{}", &token[..place], &token[place + 1..]);
        prop_assert!(!accepted(&shorter));
    }

    #[test]
    fn any_claims_that_a_handler_can_ask_for_read_back(
        user in 1..=i64::MAX,
        issued in -4_000_000_000..4_000_000_000_000_i64,
        lifetime in 0..4_000_000_000_i64,
        seed in any::<u64>(),
        algorithm in prop::sample::select(vec![Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA]),
    ) {
        let randomness = Randomness::seeded(seed);
        let issued_at = Timestamp::from_seconds(issued);
        let asked = TokenClaims {
            site_id: SiteId::new(issued_at, &randomness),
            token_id: TokenId::new(issued_at, &randomness),
            user_id: WpUserId::parse(&user.to_string()).unwrap(),
            issued_at,
            expires_at: Timestamp::from_seconds(issued + lifetime),
        };
        let key = key(algorithm);
        prop_assert_eq!(check(key, &key.sign(&asked).unwrap()), Ok(asked));
    }
}
