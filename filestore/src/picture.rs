//! Small pictures, with limits on what decoding may take.
//!
//! A picture of a few bytes may say that it has billions of pixels. Its size is checked before anything is decoded, and the
//! decoders have a limit on memory. They run in workers, on threads of their own, a few at a time.

use std::io::Cursor;

use exif::{In, Tag};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits};
use shared::message::Dimensions;

/// Longest side of a small picture, in pixels.
pub const THUMB_SIDE: u32 = 320;
/// Longest side of the picture that a thumbhash is made of: the algorithm takes no larger one.
const HASH_SIDE: u32 = 100;
/// Bytes of memory for each pixel that may be decoded: four channels of 16 bits.
const BYTES_PER_PIXEL: u64 = 8;
const JPEG_QUALITY: u8 = 80;

/// A small picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumb {
    /// JPEG, or PNG where something is transparent. Without metadata.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub content_type: &'static str,
    /// By the thumbhash algorithm.
    pub hash: Vec<u8>,
    /// Of the original, as it is shown.
    pub dimensions: Dimensions,
}

/// Why there is no small picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It has more pixels than are decoded.
    #[error("it has {0} pixels")]
    TooManyPixels(u64),
    /// The decoder panicked.
    #[error("{0}")]
    Panicked(String),
    /// It is broken, or needs too much memory.
    #[error("{0}")]
    Broken(#[from] image::ImageError),
}

/// Makes a small picture of `bytes`. Takes up to `pixels_max` times 8 bytes of memory, and seconds of processor time.
///
/// # Errors
/// [`PictureError`]
pub fn thumb(bytes: &[u8], pixels_max: u64) -> Result<Thumb, PictureError> {
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(image::ImageError::from)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(pixels_max.saturating_mul(BYTES_PER_PIXEL));
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > pixels_max {
        return Err(PictureError::TooManyPixels(pixels));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder)?;
    let mut small = shrunk(&picture, THUMB_SIDE);
    drop(picture);
    small.apply_orientation(orientation);
    let hashed = shrunk(&small, HASH_SIDE).into_rgba8();
    let hash = thumbhash::rgba_to_thumb_hash(hashed.width() as usize, hashed.height() as usize, &hashed);
    let is_opaque = hashed.pixels().all(|pixel| pixel.0[3] == u8::MAX);
    let (bytes, content_type) = encode(&small, is_opaque)?;
    Ok(Thumb { bytes, content_type, hash, dimensions: turned(Dimensions { width, height }, orientation) })
}

fn shrunk(picture: &DynamicImage, side: u32) -> DynamicImage {
    if picture.width() <= side && picture.height() <= side {
        return picture.clone();
    }
    // `thumbnail` averages all pixels of each square, and reads each pixel once.
    picture.thumbnail(side, side)
}

fn encode(picture: &DynamicImage, is_opaque: bool) -> Result<(Vec<u8>, &'static str), image::ImageError> {
    let mut bytes = Vec::new();
    if is_opaque {
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        picture.to_rgb8().write_with_encoder(encoder)?;
        return Ok((bytes, "image/jpeg"));
    }
    picture.to_rgba8().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok((bytes, "image/png"))
}

/// The size of a picture as it is shown, from the beginning of its file: nothing is decoded. `None` if the beginning does
/// not say it.
#[must_use]
pub fn dimensions(head: &[u8]) -> Option<Dimensions> {
    let size = imagesize::blob_size(head).ok()?;
    let dimensions =
        Dimensions { width: u32::try_from(size.width).ok()?, height: u32::try_from(size.height).ok()? };
    if dimensions.width == 0 || dimensions.height == 0 {
        return None;
    }
    Some(turned(dimensions, orientation(head)))
}

/// The orientation that the beginning of a file says.
#[must_use]
pub fn orientation(head: &[u8]) -> Orientation {
    let found = exif::Reader::new().read_from_container(&mut Cursor::new(head)).ok();
    let value =
        found.as_ref().and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0));
    let value = value.and_then(|value| u8::try_from(value).ok());
    value.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

fn turned(dimensions: Dimensions, orientation: Orientation) -> Dimensions {
    let Dimensions { width, height } = dimensions;
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => Dimensions { width: height, height: width },
        _ => dimensions,
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, Rgba, RgbaImage};
    use proptest::prelude::*;

    use super::*;

    const PIXELS_MAX: u64 = 50_000_000;

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let picture = RgbImage::from_fn(width, height, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, 99]));
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
        bytes
    }

    #[test]
    fn a_small_picture_has_at_most_320_pixels_on_its_longest_side() {
        for (width, height, expected) in
            [(1_600, 1_200, (320, 240)), (10, 2_000, (2, 320)), (30, 20, (30, 20))]
        {
            let thumb = thumb(&jpeg(width, height), PIXELS_MAX).unwrap();
            assert_eq!(thumb.dimensions, Dimensions { width, height });
            let small = image::load_from_memory(&thumb.bytes).unwrap();
            assert_eq!((small.width(), small.height()), expected);
            assert_eq!(thumb.content_type, "image/jpeg");
            assert!((5..=25).contains(&thumb.hash.len()));
        }
    }

    #[test]
    fn what_is_transparent_stays_so() {
        let mut bytes = Vec::new();
        let picture = RgbaImage::from_pixel(400, 400, Rgba([255, 0, 0, 0]));
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        let thumb = thumb(&bytes, PIXELS_MAX).unwrap();
        assert_eq!(thumb.content_type, "image/png");
        assert_eq!(image::load_from_memory(&thumb.bytes).unwrap().into_rgba8().get_pixel(0, 0).0[3], 0);
    }

    #[test]
    fn a_picture_is_turned_as_its_metadata_says() {
        let turned = crate::metadata::with_orientation(&jpeg(40, 20), 6).unwrap();
        assert_eq!(dimensions(&turned), Some(Dimensions { width: 20, height: 40 }));
        let thumb = thumb(&turned, PIXELS_MAX).unwrap();
        assert_eq!(thumb.dimensions, Dimensions { width: 20, height: 40 });
        let small = image::load_from_memory(&thumb.bytes).unwrap();
        assert_eq!((small.width(), small.height()), (20, 40));
        assert_eq!(dimensions(&thumb.bytes), Some(Dimensions { width: 20, height: 40 }));
    }

    #[test]
    fn too_many_pixels_are_not_decoded() {
        // A PNG whose header says 50,000 by 50,000 pixels, and which has no content.
        let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xc3\x50\0\0\xc3\x50\x08\x06\0\0\0".to_vec();
        let crc = crc32(&bomb[12..29]);
        bomb.extend(crc.to_be_bytes());
        bomb.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        assert!(matches!(thumb(&bomb, PIXELS_MAX), Err(PictureError::TooManyPixels(2_500_000_000))));
        assert_eq!(dimensions(&bomb), Some(Dimensions { width: 50_000, height: 50_000 }));
        assert!(matches!(thumb(&jpeg(100, 100), 9_999), Err(PictureError::TooManyPixels(10_000))));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_broken_picture_is_an_error_or_a_small_picture(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = jpeg(64, 48);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = thumb(&bytes, 1_000_000);
            bytes.truncate(cut.index(bytes.len()));
            let _ = (thumb(&bytes, 1_000_000), dimensions(&bytes), orientation(&bytes));
        }
    }
}
