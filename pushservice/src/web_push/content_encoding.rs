//! The content encoding `aes128gcm` with a single record (RFC 8188).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

pub(super) const SALT_BYTES: usize = 16;
/// The record size in the header. A push service takes messages of up to 4,096 bytes (RFC 8030 §7.2).
const RECORD_BYTES: u32 = 4_096;
/// Ends the plaintext of the last record (RFC 8188 §2).
const LAST_RECORD: u8 = 2;
/// Bytes of an authentication tag of AES-GCM.
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 16;

/// Bytes of the header: salt, record size, length of the key id, key id (RFC 8188 §2.1).
const fn header_bytes(key_id_bytes: usize) -> usize {
    SALT_BYTES + 4 + 1 + key_id_bytes
}

/// Longest plaintext with which a message has 4,096 bytes: 3,993 with a key id of 65 bytes (RFC 8291 §4).
pub(super) const fn plaintext_bytes_max(key_id_bytes: usize) -> usize {
    RECORD_BYTES as usize - header_bytes(key_id_bytes) - 1 - TAG_BYTES
}

/// Bytes that are derived, as HKDF of this library asks for them.
pub(super) struct Length(pub(super) usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand (RFC 5869 §2.3).
pub(super) fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> Result<[u8; N], Unspecified> {
    let mut bytes = [0; N];
    prk.expand(info, Length(N))?.fill(&mut bytes)?;
    Ok(bytes)
}

/// Header and record of `plaintext`, which is not longer than [`plaintext_bytes_max`].
///
/// ```text
/// PRK = HKDF-Extract(salt, IKM)
/// CEK = HKDF-Expand(PRK, "Content-Encoding: aes128gcm" || 0x00, 16)
/// NONCE = HKDF-Expand(PRK, "Content-Encoding: nonce" || 0x00, 12)    the record's number is 0
/// ```
pub(super) fn seal(
    input_key: &[u8],
    salt: [u8; SALT_BYTES],
    key_id: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    if plaintext.len() > plaintext_bytes_max(key_id.len()) {
        return Err(Unspecified);
    }
    let prk = Salt::new(HKDF_SHA256, &salt).extract(input_key);
    let key: [u8; KEY_BYTES] = expand(&prk, &[b"Content-Encoding: aes128gcm\0"])?;
    let nonce: [u8; NONCE_LEN] = expand(&prk, &[b"Content-Encoding: nonce\0"])?;
    let mut record = Vec::with_capacity(plaintext.len() + 1 + TAG_BYTES);
    record.extend_from_slice(plaintext);
    record.push(LAST_RECORD);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)?;

    let mut message = Vec::with_capacity(header_bytes(key_id.len()) + record.len());
    message.extend_from_slice(&salt);
    message.extend_from_slice(&RECORD_BYTES.to_be_bytes());
    message.push(u8::try_from(key_id.len()).map_err(|_| Unspecified)?);
    message.extend_from_slice(key_id);
    message.extend_from_slice(&record);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64url;

    #[test]
    fn the_example_of_rfc_8188_section_3_1() {
        let input_key = base64url::decode("yqdlZ-tYemfogSmv7Ws5PQ").unwrap();
        let salt = base64url::decode("I1BsxtFttlv3u_Oo94xnmw").unwrap().try_into().unwrap();
        let message = seal(&input_key, salt, b"", b"I am the walrus").unwrap();
        let expected = "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg";
        assert_eq!(base64url::encode(message), expected);
    }

    #[test]
    fn the_longest_plaintext_makes_4096_bytes() {
        let max = plaintext_bytes_max(65);
        assert_eq!(max, 3_993);
        let seal = |bytes| seal(&[1; 32], [2; 16], &[3; 65], &vec![0; bytes]);
        assert_eq!(seal(max).unwrap().len(), 4_096);
        assert!(seal(max + 1).is_err());
    }
}
