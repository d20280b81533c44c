//! The keys of a device that subscribed to Web Push, and its decryption (RFC 8291 §3, RFC 8188 §2).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::{hmac, rand};

/// Bytes of an uncompressed point on P-256.
const POINT_BYTES: usize = 65;
/// Longest message that a push service takes (RFC 8030 §7.2).
pub(super) const MESSAGE_BYTES_MAX: usize = 4_096;

/// The keys of one device.
#[derive(Debug)]
pub struct DeviceKeys {
    private: PrivateKey,
    /// The public key: 65 bytes.
    pub public: Vec<u8>,
    /// The authentication secret.
    pub auth: [u8; 16],
}

impl DeviceKeys {
    /// New keys.
    ///
    /// # Panics
    /// The system has no random numbers.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test without random numbers cannot run")]
    pub fn generate() -> Self {
        let mut auth = [0; 16];
        rand::fill(&mut auth).expect("random numbers");
        let private = PrivateKey::generate(&ECDH_P256).expect("random numbers");
        let public = private.compute_public_key().expect("a public key").as_ref().to_vec();
        Self { private, public, auth }
    }

    /// Decrypts the body of a message.
    ///
    /// # Errors
    /// It is malformed, or encrypted for another device.
    pub fn decrypt(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        anyhow::ensure!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes", message.len());
        let (salt, rest) = message.split_at_checked(16).ok_or_else(|| anyhow::anyhow!("no salt"))?;
        let (record_size, rest) = rest.split_first_chunk::<4>().ok_or_else(|| anyhow::anyhow!("no size"))?;
        let (key_id_bytes, rest) = rest.split_first().ok_or_else(|| anyhow::anyhow!("no key id"))?;
        anyhow::ensure!(usize::from(*key_id_bytes) == POINT_BYTES, "a key id of {key_id_bytes} bytes");
        let (server_public, record) =
            rest.split_at_checked(POINT_BYTES).ok_or_else(|| anyhow::anyhow!("a short key id"))?;
        let record_size = u32::from_be_bytes(*record_size);
        anyhow::ensure!(record.len() <= usize::try_from(record_size)?, "more than one record");

        let (key, nonce) = self.record_keys(salt, server_public)?;
        let unusable = |_| anyhow::anyhow!("it cannot be decrypted");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).map_err(unusable)?);
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(unusable)?;
        let mut record = record.to_vec();
        let padded = key.open_in_place(nonce, Aad::empty(), &mut record).map_err(unusable)?;
        // The last record ends with 2 and any number of zeros.
        let end = padded.iter().rposition(|byte| *byte != 0).filter(|end| padded[*end] == 2);
        let end = end.ok_or_else(|| anyhow::anyhow!("the padding has no delimiter of a last record"))?;
        Ok(padded[..end].to_vec())
    }

    /// Content encryption key and nonce of the first record.
    fn record_keys(&self, salt: &[u8], server_public: &[u8]) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let peer = UnparsedPublicKey::new(&ECDH_P256, server_public);
        let no_key = anyhow::anyhow!("the key id is no public key");
        let shared = agree(&self.private, peer, no_key, |secret| Ok(secret.to_vec()))?;
        let info = [b"WebPush: info\0", &self.public[..], server_public].concat();
        let input_key = hkdf(&self.auth, &shared, &info, 32);
        let key = hkdf(salt, &input_key, b"Content-Encoding: aes128gcm\0", 16);
        Ok((key, hkdf(salt, &input_key, b"Content-Encoding: nonce\0", 12)))
    }
}

/// HKDF with SHA-256 for at most 32 bytes (RFC 5869 §2): `T(1) = HMAC(HMAC(salt, input), info || 0x01)`.
fn hkdf(salt: &[u8], input: &[u8], info: &[u8], bytes: usize) -> Vec<u8> {
    let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let first = mac(mac(salt, input).as_ref(), &[info, &[1]].concat());
    first.as_ref()[..bytes].to_vec()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn the_example_of_rfc_8291_appendix_a() {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let private = decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
        let private = PrivateKey::from_private_key(&ECDH_P256, &private).unwrap();
        let public = private.compute_public_key().unwrap().as_ref().to_vec();
        let auth = decode("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap();
        let message = decode(concat!(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml",
            "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT",
            "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        ));
        let device = DeviceKeys { private, public, auth };
        assert_eq!(device.decrypt(&message).unwrap(), b"When I grow up, I want to be a watermelon");
        assert!(device.decrypt(&message[..message.len() - 1]).is_err());
        assert!(device.decrypt(&message[..40]).is_err());
    }
}
