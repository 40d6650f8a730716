//! Signatures that are almost those of a key: of the wrong size, out of range, written otherwise.

use super::*;

fn join(input: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{input}.{}", encode(signature))
}

#[test]
fn signature_of_another_length_is_refused() {
    for key in keys() {
        let token = key.sign(&claims()).unwrap();
        let (input, signature) = taken_apart(&token);
        for length in 0..signature.len() {
            bad_signature(key, &join(input, &signature[..length]), "cut");
            bad_signature(key, &join(input, &signature[length + 1..]), "cut in front");
        }
        for more in [vec![0], vec![0; 32], signature.clone(), vec![0; 4096]] {
            let longer = [&signature[..], &more].concat();
            bad_signature(key, &join(input, longer), "longer");
            let longer = [&more[..], &signature].concat();
            bad_signature(key, &join(input, longer), "longer in front");
        }
    }
}

/// CVE-2022-21449: r = s = 0 passed for every message. Values out of range are no better.
#[test]
fn psychic_signatures_are_refused() {
    let order = order_of_p256();
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[31] = 1;
    let parts = [zero, one, order, [0xff; 32]];
    for key in keys() {
        let token = key.sign(&claims()).unwrap();
        let (input, signature) = taken_apart(&token);
        for r in parts {
            for s in parts {
                bad_signature(key, &join(input, [r, s].concat()), "psychic");
            }
        }
        for byte in [0, 1, 0xff] {
            let constant = vec![byte; signature.len()];
            bad_signature(key, &join(input, constant), "constant");
        }
    }
}

/// The order of the group of P-256, big-endian.
fn order_of_p256() -> [u8; 32] {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    data_encoding::HEXLOWER
        .decode(order.as_bytes())
        .unwrap()
        .try_into()
        .unwrap()
}

/// `minuend - subtrahend`, big-endian.
fn difference(minuend: [u8; 32], subtrahend: &[u8]) -> [u8; 32] {
    let mut result = [0; 32];
    let mut borrow = false;
    for index in (0..32).rev() {
        let (byte, first) = minuend[index].overflowing_sub(subtrahend[index]);
        let (byte, second) = byte.overflowing_sub(u8::from(borrow));
        result[index] = byte;
        borrow = first || second;
    }
    result
}

/// ECDSA is malleable: (r, n - s) is a signature of the same message wherever (r, s) is, and
/// JWA does not choose between them, so anyone can make one more spelling of an ES256 token. It
/// says the same thing, and its `jti` names the same record; no rule may rest on a token's bytes.
#[test]
fn other_half_of_an_ecdsa_signature_says_the_same() {
    let key = key(Algorithm::ES256);
    let token = key.sign(&claims()).unwrap();
    let (input, signature) = taken_apart(&token);
    let (r, s) = signature.split_at(32);
    let other = [r, &difference(order_of_p256(), s)].concat();
    assert_ne!(other, signature);
    assert_eq!(check(key, &join(input, other)), Ok(claims()));
}

/// RFC 8032, section 5.1.7: S is below the order L, so Ed25519 has no such second spelling.
#[test]
fn ed25519_signature_with_the_order_added_is_refused() {
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let order = data_encoding::HEXLOWER.decode(order.as_bytes()).unwrap();
    let key = key(Algorithm::EdDSA);
    let token = key.sign(&claims()).unwrap();
    let (input, mut signature) = taken_apart(&token);
    let mut carry = 0;
    for (byte, addend) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(addend) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    bad_signature(key, &join(input, signature), "S + L");
}

/// An `INTEGER` in DER: no zeros in front, but one where the number would look negative.
fn der_integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut digits = bytes[zeros..].to_vec();
    if digits[0] >= 0x80 {
        digits.insert(0, 0);
    }
    [&[0x02, u8::try_from(digits.len()).unwrap()], &digits[..]].concat()
}

/// DER is what most libraries make of an ECDSA signature; JWA wants r and s side by side.
#[test]
fn ecdsa_signature_in_der_is_refused() {
    let key = key(Algorithm::ES256);
    let token = key.sign(&claims()).unwrap();
    let (input, signature) = taken_apart(&token);
    let (r, s) = signature.split_at(32);
    let body = [der_integer(r), der_integer(s)].concat();
    let der = [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat();
    bad_signature(key, &join(input, der), "DER");
}
