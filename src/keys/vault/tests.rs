use base64::engine::general_purpose::URL_SAFE;
use data_encoding::HEXLOWER;

use super::*;

const PURPOSE: &str = "signing-key:k:HS256";
const PLAINTEXT: &[u8] = b"a signing key";

fn randomness() -> Randomness {
    Randomness::seeded(1)
}

fn vault(byte: u8) -> Vault {
    Vault::new(DataKey(SecretBox::new(Box::new([byte; KEY_BYTES]))))
}

/// 0, 1, 2 … 31.
fn master_key() -> MasterKey {
    MasterKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn master_key_is_read_in_each_spelling_that_openssl_or_an_editor_gives() {
    let expected = master_key();
    for text in [
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "\t AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= \r\n",
    ] {
        let key = MasterKey::parse(text).unwrap();
        assert_eq!(
            key.0.expose_secret(),
            expected.0.expose_secret(),
            "{text:?}"
        );
    }
}

#[test]
fn master_key_of_another_length_or_alphabet_is_refused() {
    let url_safe = URL_SAFE.encode([0xff; KEY_BYTES]);
    let short = general_purpose::STANDARD.encode([1; KEY_BYTES - 1]);
    let long = general_purpose::STANDARD.encode([1; KEY_BYTES + 1]);
    let two_lines = "AAECAwQFBgcICQoLDA0O\nDxAREhMUFRYXGBkaGxwdHh8=";
    for text in [
        "",
        " ",
        "a secret of my own",
        &url_safe,
        &short,
        &long,
        two_lines,
    ] {
        let error = MasterKey::parse(text).unwrap_err();
        assert!(
            error.to_string().contains("openssl rand -base64 32"),
            "{text:?}"
        );
    }
}

#[test]
fn generated_master_key_reads_back() {
    let key = MasterKey::generate(&randomness());
    let read = MasterKey::parse(&key.to_base64()).unwrap();
    assert_eq!(read.0.expose_secret(), key.0.expose_secret());
}

#[test]
fn wrapped_data_key_opens_with_the_same_master_key_alone() {
    let randomness = randomness();
    let data_key = DataKey::generate(&randomness);
    let wrapped = master_key().wrap(&data_key, &randomness);
    let unwrapped = master_key().unwrap(&wrapped).unwrap();
    assert_eq!(unwrapped.0.expose_secret(), data_key.0.expose_secret());

    let other = MasterKey::generate(&randomness);
    assert_eq!(
        other.unwrap(&wrapped).unwrap_err(),
        VaultError::WrongMasterKey
    );
}

#[test]
fn changed_wrapping_is_refused_bit_by_bit_and_cut_at_any_place() {
    let randomness = randomness();
    let wrapped = master_key().wrap(&DataKey::generate(&randomness), &randomness);
    for bit in 0..wrapped.len() * 8 {
        let changed = flipped(&wrapped, bit);
        assert!(master_key().unwrap(&changed).is_err(), "bit {bit}");
    }
    for length in 0..wrapped.len() {
        assert!(
            master_key().unwrap(&wrapped[..length]).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn sealed_value_opens_for_its_purpose_in_its_vault_alone() {
    let sealed = vault(1).seal(PURPOSE, PLAINTEXT, &randomness());
    assert_eq!(
        vault(1).open(PURPOSE, &sealed).unwrap().as_slice(),
        PLAINTEXT
    );
    for purpose in [
        "",
        "signing-key:k:RS256",
        "signing-key:j:HS256",
        "signing-key:k:HS256 ",
    ] {
        let error = vault(1).open(purpose, &sealed).unwrap_err();
        assert_eq!(error, VaultError::NotSealedHere, "{purpose:?}");
    }
    assert!(vault(2).open(PURPOSE, &sealed).is_err());
}

#[test]
fn changed_sealed_value_is_refused_bit_by_bit_and_cut_at_any_place() {
    let sealed = vault(1).seal(PURPOSE, PLAINTEXT, &randomness());
    for bit in 0..sealed.len() * 8 {
        assert!(
            vault(1).open(PURPOSE, &flipped(&sealed, bit)).is_err(),
            "bit {bit}"
        );
    }
    for length in 0..sealed.len() {
        assert!(
            vault(1).open(PURPOSE, &sealed[..length]).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn values_of_any_length_can_be_sealed() {
    for length in [0, 1, 15, 16, 17, 1200, 70_000] {
        let plaintext = vec![7; length];
        let sealed = vault(1).seal(PURPOSE, &plaintext, &randomness());
        assert_eq!(sealed.len(), NONCE_LEN + length + 16);
        assert_eq!(*vault(1).open(PURPOSE, &sealed).unwrap(), plaintext);
    }
}

#[test]
fn sealing_twice_gives_different_bytes() {
    let randomness = randomness();
    let first = vault(1).seal(PURPOSE, PLAINTEXT, &randomness);
    let second = vault(1).seal(PURPOSE, PLAINTEXT, &randomness);
    assert_ne!(first[..NONCE_LEN], second[..NONCE_LEN]);
    assert_ne!(first[NONCE_LEN..], second[NONCE_LEN..]);
}

#[test]
fn derived_keys_differ_by_label_and_by_data_key() {
    let vault_1 = vault(1);
    let audit = vault_1.derive("audit");
    assert_eq!(
        audit.expose_secret(),
        vault_1.derive("audit").expose_secret()
    );
    assert_ne!(
        audit.expose_secret(),
        vault_1.derive("seal").expose_secret()
    );
    assert_ne!(
        audit.expose_secret(),
        vault(2).derive("audit").expose_secret()
    );
}

/// The expected values were computed by Python's `cryptography` from the module's description.
#[test]
fn stored_values_of_this_version_stay_readable() {
    let vault = vault(0x42);
    let derived = HEXLOWER.encode(vault.derive("audit").expose_secret());
    assert_eq!(
        derived,
        "ef40ae3b3112075b6366886e6d9caacfbea47d52c93f16e8e308ba25c4ff9b94"
    );

    let sealed = "000102030405060708090a0b9f0fa640e9efadfa87fac24f19f5c1ebf807ceee97cf2d50a734\
                  cea76c";
    let sealed = HEXLOWER.decode(sealed.as_bytes()).unwrap();
    assert_eq!(vault.open(PURPOSE, &sealed).unwrap().as_slice(), PLAINTEXT);

    let wrapped = "000102030405060708090a0b0540945987a78059cf03d5c9f3ab3a2fc194c576b2391d3e7a25\
                   a7c75f2b42f06f6f97a1eb7f6d6365d40367fc8adcb7";
    let wrapped = HEXLOWER.decode(wrapped.as_bytes()).unwrap();
    let data_key = master_key().unwrap(&wrapped).unwrap();
    assert_eq!(data_key.0.expose_secret(), &[0x42; KEY_BYTES]);
}

#[test]
fn nothing_shows_itself() {
    let randomness = randomness();
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        master_key(),
        DataKey::generate(&randomness),
        vault(1),
        vault(1).derive("audit"),
    );
    let expected = "[master key] [data key] [vault] SecretBox<[u8; 32]>([REDACTED])";
    assert_eq!(shown, expected);
}
