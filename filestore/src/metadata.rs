//! Removing what a picture says about its place, time and camera, without changing a pixel.

use bytes::Bytes;
use image::metadata::Orientation;
use img_parts::jpeg::{Jpeg, JpegSegment, markers};
use img_parts::png::Png;
use img_parts::webp::WebP;
use img_parts::{ImageEXIF as _, ImageICC as _};

use crate::picture::orientation;

/// Chunks of a PNG that say nothing about how it is shown: texts, the time, and metadata.
const PNG_CHUNKS: [[u8; 4]; 5] = [*b"tEXt", *b"zTXt", *b"iTXt", *b"tIME", *b"eXIf"];
/// Metadata of WebP.
const WEBP_CHUNKS: [[u8; 4]; 2] = [*b"EXIF", *b"XMP "];

/// Whether [`stripped`] rewrites pictures of this type.
#[must_use]
pub fn can_strip(content_type: &str) -> bool {
    matches!(content_type, "image/jpeg" | "image/png" | "image/webp")
}

/// `bytes` without metadata, but for the orientation and the color profile. `None` for other formats than JPEG, PNG and
/// WebP, and for broken files: they are not rewritten.
#[must_use]
pub fn stripped(bytes: &[u8], content_type: &str) -> Option<Vec<u8>> {
    let turned = orientation(bytes);
    let exif = (turned != Orientation::NoTransforms).then(|| orientation_only(turned.to_exif().into()));
    let bytes = Bytes::copy_from_slice(bytes);
    Some(match content_type {
        "image/jpeg" => {
            let mut jpeg = Jpeg::from_bytes(bytes).ok()?;
            let profile = jpeg.icc_profile();
            // APP0 has the resolution, APP14 how colors are coded; all other application segments and comments go.
            jpeg.segments_mut().retain(is_kept);
            jpeg.set_icc_profile(profile);
            jpeg.set_exif(exif);
            encoded(jpeg.encoder().bytes())
        }
        "image/png" => {
            let mut png = Png::from_bytes(bytes).ok()?;
            png.chunks_mut().retain(|chunk| !PNG_CHUNKS.contains(&chunk.kind()));
            png.set_exif(exif);
            encoded(png.encoder().bytes())
        }
        "image/webp" => {
            let mut webp = WebP::from_bytes(bytes).ok()?;
            for kind in WEBP_CHUNKS {
                webp.remove_chunks_by_id(kind);
            }
            webp.set_exif(exif);
            encoded(webp.encoder().bytes())
        }
        _ => return None,
    })
}

fn encoded(bytes: Bytes) -> Vec<u8> {
    bytes.into()
}

fn is_kept(segment: &JpegSegment) -> bool {
    let marker = segment.marker();
    let is_application = (markers::APP0..=markers::APP15).contains(&marker);
    marker != markers::COM && (!is_application || marker == markers::APP0 || marker == markers::APP14)
}

/// EXIF metadata that has the orientation alone: a TIFF header, and a directory with one entry.
fn orientation_only(value: u16) -> Bytes {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    tiff.extend(value.to_be_bytes());
    tiff.extend([0; 6]);
    tiff.into()
}

/// A JPEG with this orientation and some other metadata, for tests.
#[cfg(test)]
pub(crate) fn with_orientation(jpeg: &[u8], value: u16) -> Option<Vec<u8>> {
    let mut jpeg = Jpeg::from_bytes(Bytes::copy_from_slice(jpeg)).ok()?;
    jpeg.set_exif(Some(orientation_only(value)));
    Some(encoded(jpeg.encoder().bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    const SECRET: &[u8] = b"48.1371N 11.5754E";

    fn picture(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        let picture = RgbImage::from_fn(48, 24, |x, y| Rgb([(x * 5) as u8, (y * 9) as u8, 7]));
        picture.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    fn has_secret(bytes: &[u8]) -> bool {
        bytes.windows(SECRET.len()).any(|window| window == SECRET)
    }

    fn pixels(bytes: &[u8]) -> Vec<u8> {
        image::load_from_memory(bytes).unwrap().into_rgb8().into_raw()
    }

    #[test]
    fn metadata_of_a_jpeg_goes_and_its_orientation_stays() {
        let plain = picture(ImageFormat::Jpeg);
        let mut jpeg = Jpeg::from_bytes(with_orientation(&plain, 8).unwrap().into()).unwrap();
        for marker in [markers::APP1, markers::APP13, markers::COM] {
            let segment = JpegSegment::new_with_contents(marker, Bytes::from_static(SECRET));
            jpeg.segments_mut().insert(1, segment);
        }
        let bytes = jpeg.encoder().bytes();
        assert!(has_secret(&bytes));
        let clean = stripped(&bytes, "image/jpeg").unwrap();
        assert!(!has_secret(&clean) && clean.len() < bytes.len());
        assert_eq!(orientation(&clean), Orientation::Rotate270);
        assert_eq!(pixels(&clean), pixels(&plain));
    }

    #[test]
    fn metadata_of_a_png_and_a_webp_goes() {
        let plain = picture(ImageFormat::Png);
        let mut png = Png::from_bytes(plain.clone().into()).unwrap();
        for kind in [*b"tEXt", *b"eXIf"] {
            png.chunks_mut().insert(1, img_parts::png::PngChunk::new(kind, Bytes::from_static(SECRET)));
        }
        let bytes = png.encoder().bytes();
        assert!(has_secret(&bytes));
        let clean = stripped(&bytes, "image/png").unwrap();
        assert!(!has_secret(&clean));
        assert_eq!(pixels(&clean), pixels(&plain));

        let plain = picture(ImageFormat::WebP);
        let mut webp = WebP::from_bytes(plain.clone().into()).unwrap();
        webp.set_exif(Some(Bytes::from_static(SECRET)));
        let bytes = webp.encoder().bytes();
        assert!(has_secret(&bytes));
        let clean = stripped(&bytes, "image/webp").unwrap();
        assert!(!has_secret(&clean));
        assert_eq!(pixels(&clean), pixels(&plain));
    }

    #[test]
    fn other_formats_and_broken_files_are_not_rewritten() {
        assert_eq!(stripped(b"GIF89a", "image/gif"), None);
        assert_eq!(stripped(b"\xff\xd8", "image/jpeg"), None);
        assert_eq!(stripped(b"", "image/png"), None);
    }
}
