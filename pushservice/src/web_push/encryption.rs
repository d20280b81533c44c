//! Encryption of a message for one device (RFC 8291).

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;

use super::content_encoding::{SALT_BYTES, expand, plaintext_bytes_max, seal};
use crate::public_key::{P256PublicKey, POINT_BYTES};

/// Longest plaintext (RFC 8291 §4).
pub(super) const PLAINTEXT_BYTES_MAX: usize = plaintext_bytes_max(POINT_BYTES);

/// The body of a message with `plaintext` for the device with the key `p256dh` and the secret `auth`, with a key pair and a
/// salt of its own.
///
/// # Errors
/// The plaintext has over 3,993 bytes.
pub(super) fn encrypt(
    plaintext: &[u8],
    p256dh: &P256PublicKey,
    auth: &[u8; 16],
) -> Result<Vec<u8>, Unspecified> {
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt)?;
    encrypt_with(plaintext, p256dh, auth, &PrivateKey::generate(&ECDH_P256)?, salt)
}

/// As [`encrypt`], with the key pair of this server and the salt (RFC 8291 §3.4):
///
/// ```text
/// ecdh_secret = ECDH(as_private, ua_public)
/// PRK_key = HKDF-Extract(auth_secret, ecdh_secret)
/// IKM = HKDF-Expand(PRK_key, "WebPush: info" || 0x00 || ua_public || as_public, 32)
/// ```
///
/// The content encoding has the key id `as_public`.
fn encrypt_with(
    plaintext: &[u8],
    p256dh: &P256PublicKey,
    auth: &[u8; 16],
    server_key: &PrivateKey,
    salt: [u8; SALT_BYTES],
) -> Result<Vec<u8>, Unspecified> {
    let server_public = server_key.compute_public_key()?;
    let device_public = UnparsedPublicKey::new(&ECDH_P256, p256dh.as_bytes());
    let prk = agree(server_key, device_public, Unspecified, |shared_secret| {
        Ok(Salt::new(HKDF_SHA256, auth).extract(shared_secret))
    })?;
    let input_key: [u8; 32] = expand(&prk, &[b"WebPush: info\0", p256dh.as_bytes(), server_public.as_ref()])?;
    seal(&input_key, salt, server_public.as_ref(), plaintext)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testbed::push::DeviceKeys;

    use super::*;
    use crate::base64url::{decode, encode};

    #[test]
    fn the_example_of_rfc_8291_appendix_a() {
        let server_key = decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw").unwrap();
        let server_key = PrivateKey::from_private_key(&ECDH_P256, &server_key).unwrap();
        let device = P256PublicKey::parse(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let auth = decode("BTBZMqHH6r4Tts7J_aSIgg").unwrap().try_into().unwrap();
        let salt = decode("DGv6ra1nlYgDCS1FRnbzlw").unwrap().try_into().unwrap();
        let plaintext = b"When I grow up, I want to be a watermelon";
        let message = encrypt_with(plaintext, &device.unwrap(), &auth, &server_key, salt).unwrap();
        let expected = concat!(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml",
            "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT",
            "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        assert_eq!(encode(message), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_device_decrypts_what_was_encrypted_for_it(
            plaintext in prop::collection::vec(any::<u8>(), 0..=PLAINTEXT_BYTES_MAX),
        ) {
            let device = DeviceKeys::generate();
            let key = P256PublicKey::from_bytes(&device.public).unwrap();
            let message = encrypt(&plaintext, &key, &device.auth).unwrap();
            prop_assert_eq!(message.len(), plaintext.len() + 103);
            prop_assert_eq!(device.decrypt(&message).unwrap(), plaintext);
            // Another device, and an altered message.
            let mut other = DeviceKeys::generate();
            other.auth = device.auth;
            prop_assert!(other.decrypt(&message).is_err());
            let mut altered = message;
            *altered.last_mut().unwrap() ^= 1;
            prop_assert!(device.decrypt(&altered).is_err());
        }
    }

    #[test]
    fn the_limits_of_the_length_are_kept() {
        let device = DeviceKeys::generate();
        let key = P256PublicKey::from_bytes(&device.public).unwrap();
        for bytes in [0, 1, PLAINTEXT_BYTES_MAX - 1, PLAINTEXT_BYTES_MAX] {
            let plaintext = vec![b'x'; bytes];
            let message = encrypt(&plaintext, &key, &device.auth).unwrap();
            assert_eq!(device.decrypt(&message).unwrap(), plaintext);
        }
        assert!(encrypt(&vec![0; PLAINTEXT_BYTES_MAX + 1], &key, &device.auth).is_err());
    }
}
