//! A folder as a store.
//!
//! ```text
//! incoming/<object>/<part>           what arrives; `<part>.<random>` while it does
//! objects/<last two digits>/<object>
//! thumbs/<last two digits>/<object>
//! ```
//!
//! A file gets its name when all its bytes are on the disk, so that a killed process leaves no half of one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use shared::message::FileId;
use tokio::sync::Semaphore;

use super::error::StoreError;
use super::types::{ByteStream, Part};
use crate::link::Variant;

/// Bytes that are read or written at once: each costs a change of threads.
const PIECE: usize = 262_144;
/// Calls of the disk at a time.
const CALLS_AT_ONCE: usize = 16;

const INCOMING: &str = "incoming";
const OBJECTS: &str = "objects";
const THUMBS: &str = "thumbs";

/// A folder with files.
#[derive(Debug, Clone)]
pub struct Folder {
    path: Arc<Path>,
    calls: Arc<Semaphore>,
}

impl Folder {
    /// The folder `path`, which is made if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        for name in [INCOMING, OBJECTS, THUMBS] {
            let folder = path.join(name);
            fs::create_dir_all(&folder).map_err(|error| {
                StoreError::Config(format!("files.folder: {} cannot be made: {error}", folder.display()))
            })?;
        }
        Ok(Self { path: path.into(), calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)) })
    }

    /// Runs `call` on a thread that may wait for the disk.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        blocking(&self.calls, Arc::clone(&self.path), |path| call(&path)).await
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let name = format!(".check-{}", uuid::Uuid::new_v4().simple());
        self.call(move |path| {
            let file = path.join(name);
            File::create(&file)?;
            fs::remove_file(file)
        })
        .await
        .map_err(|error| match error {
            // The folder was removed while the process runs.
            StoreError::NotFound => StoreError::Io(io::ErrorKind::NotFound.into()),
            other => other,
        })
    }

    /// Begins to write a part that arrives.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn part_writer(&self, object_id: &FileId, part: u32) -> Result<PartWriter, StoreError> {
        let object_id = object_id.clone();
        let (file, path) = self
            .call(move |path| {
                let folder = path.join(INCOMING).join(object_id.as_str());
                fs::create_dir_all(&folder)?;
                let path = folder.join(format!("{part}.{}", uuid::Uuid::new_v4().simple()));
                Ok((File::create(&path)?, path))
            })
            .await?;
        let unfinished = Unfinished(Some(path));
        Ok(PartWriter {
            calls: Arc::clone(&self.calls),
            file: Arc::new(file),
            unfinished,
            buffer: BytesMut::new(),
        })
    }

    pub(super) async fn received(&self, object_id: &FileId) -> Result<Vec<Part>, StoreError> {
        let object_id = object_id.clone();
        let parts = self.call(move |path| {
            let mut parts = Vec::new();
            for entry in fs::read_dir(path.join(INCOMING).join(object_id.as_str()))? {
                let entry = entry?;
                if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                    parts.push(Part { number, size: entry.metadata()?.len(), etag: String::new() });
                }
            }
            parts.sort_unstable_by_key(|part| part.number);
            Ok(parts)
        });
        match parts.await {
            Err(StoreError::NotFound) => Ok(Vec::new()),
            other => other,
        }
    }

    pub(super) async fn keep(&self, object_id: &FileId, parts: &[Part]) -> Result<(), StoreError> {
        let (object_id, numbers) =
            (object_id.clone(), parts.iter().map(|part| part.number).collect::<Vec<_>>());
        self.call(move |path| {
            let folder = path.join(INCOMING).join(object_id.as_str());
            let kept = place(path, OBJECTS, &object_id);
            if let [only] = numbers.as_slice() {
                publish(&folder.join(only.to_string()), &kept)?;
            } else {
                let whole = Unfinished(Some(folder.join(format!("whole.{}", uuid::Uuid::new_v4().simple()))));
                let mut file = File::create(whole.path())?;
                for number in numbers {
                    // Within one file system it copies no byte through this process.
                    io::copy(&mut File::open(folder.join(number.to_string()))?, &mut file)?;
                }
                publish(whole.path(), &kept)?;
                whole.finished();
            }
            remove_all(&folder)
        })
        .await
    }

    pub(super) async fn size(&self, object_id: &FileId, variant: Variant) -> Result<u64, StoreError> {
        let object_id = object_id.clone();
        self.call(move |path| Ok(fs::metadata(place(path, folder_of(variant), &object_id))?.len())).await
    }

    pub(super) async fn read(
        &self,
        object_id: &FileId,
        variant: Variant,
        range: Range<u64>,
    ) -> Result<ByteStream, StoreError> {
        let object_id = object_id.clone();
        let file = self.call(move |path| File::open(place(path, folder_of(variant), &object_id))).await?;
        let state = (Arc::clone(&self.calls), Arc::new(file), range);
        let pieces = stream::try_unfold(state, |(calls, file, range)| async move {
            let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(PIECE).min(PIECE);
            if length == 0 {
                return Ok(None);
            }
            let (start, reader) = (range.start, Arc::clone(&file));
            let piece = blocking(&calls, reader, move |file| {
                let mut piece = BytesMut::zeroed(length);
                file.read_exact_at(&mut piece, start)?;
                Ok(piece.freeze())
            })
            .await?;
            let rest = start + length as u64..range.end;
            Ok(Some((piece, (calls, file, rest))))
        });
        Ok(pieces.boxed())
    }

    pub(super) async fn write(
        &self,
        object_id: &FileId,
        variant: Variant,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        let object_id = object_id.clone();
        self.call(move |path| {
            let kept = place(path, folder_of(variant), &object_id);
            // Beside the parts: what a killed process leaves is swept.
            let folder = path.join(INCOMING).join(object_id.as_str());
            fs::create_dir_all(&folder)?;
            let new = Unfinished(Some(folder.join(format!("new.{}", uuid::Uuid::new_v4().simple()))));
            fs::write(new.path(), bytes)?;
            publish(new.path(), &kept)?;
            new.finished();
            remove_all(&folder)
        })
        .await
    }

    pub(super) async fn remove(&self, object_id: &FileId) -> Result<(), StoreError> {
        let object_id = object_id.clone();
        self.call(move |path| {
            for folder in [OBJECTS, THUMBS] {
                found(fs::remove_file(place(path, folder, &object_id)))?;
            }
            remove_all(&path.join(INCOMING).join(object_id.as_str()))
        })
        .await
    }

    pub(super) fn objects(&self) -> BoxStream<'static, Result<(FileId, u64), StoreError>> {
        let folder = self.clone();
        stream::iter(0..=u8::MAX)
            .then(move |number| {
                let folder = folder.clone();
                async move { folder.objects_in(format!("{number:02x}")).await }
            })
            .flat_map(|found| match found {
                Ok(objects) => stream::iter(objects.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            })
            .boxed()
    }

    async fn objects_in(&self, digits: String) -> Result<Vec<(FileId, u64)>, StoreError> {
        let objects = self.call(move |path| {
            let mut objects = Vec::new();
            for entry in fs::read_dir(path.join(OBJECTS).join(digits))? {
                let entry = entry?;
                if let Some(id) = entry.file_name().to_str().and_then(|name| FileId::parse(name).ok()) {
                    objects.push((id, entry.metadata()?.len()));
                }
            }
            Ok(objects)
        });
        match objects.await {
            Err(StoreError::NotFound) => Ok(Vec::new()),
            other => other,
        }
    }

    pub(super) async fn sweep_incoming(&self, age: Duration, count: usize) -> Result<usize, StoreError> {
        self.call(move |path| {
            let mut removed = 0;
            for entry in fs::read_dir(path.join(INCOMING))? {
                let entry = entry?;
                let written = entry.metadata()?.modified()?;
                let is_old = SystemTime::now().duration_since(written).is_ok_and(|since| since > age);
                if removed == count {
                    break;
                }
                if is_old {
                    remove_all(&entry.path())?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }
}

/// A part while it arrives. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct PartWriter {
    calls: Arc<Semaphore>,
    file: Arc<File>,
    unfinished: Unfinished,
    buffer: BytesMut,
}

impl PartWriter {
    /// Takes the next bytes. It returns when they are written, or few enough to wait for others.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < PIECE { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let piece: Bytes = self.buffer.split().freeze();
        blocking(&self.calls, Arc::clone(&self.file), move |file| (&*file).write_all(&piece)).await
    }

    /// Gives the part its name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn finish(mut self) -> Result<(), StoreError> {
        self.flush().await?;
        let path = self.unfinished.path().to_owned();
        blocking(&self.calls, path, |path| fs::rename(&path, path.with_extension(""))).await?;
        self.unfinished.finished();
        Ok(())
    }
}

/// A file that is removed unless it is finished.
#[derive(Debug)]
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // It may not have been made.
            let _ = fs::remove_file(path);
        }
    }
}

async fn blocking<S: Send + 'static, T: Send + 'static>(
    calls: &Arc<Semaphore>,
    state: S,
    call: impl FnOnce(S) -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let permit = Arc::clone(calls).acquire_owned().await.map_err(io::Error::other)?;
    let ended = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        call(state)
    });
    Ok(ended.await.map_err(io::Error::other)??)
}

fn folder_of(variant: Variant) -> &'static str {
    match variant {
        Variant::Original => OBJECTS,
        Variant::Thumb => THUMBS,
    }
}

/// Where an object is. The first digits of ids are those of the time, and the last ones are random.
fn place(path: &Path, folder: &str, object_id: &FileId) -> PathBuf {
    let id = object_id.as_str();
    path.join(folder).join(&id[id.len() - 2..]).join(id)
}

/// Moves a file to its place when it is on the disk.
fn publish(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder)?;
    fs::rename(from, to)?;
    File::open(folder)?.sync_all()
}

fn remove_all(folder: &Path) -> io::Result<()> {
    found(fs::remove_dir_all(folder))
}

/// What is not there need not be removed.
fn found(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(folder: &Folder, id: &FileId, part: u32, bytes: &[u8]) {
        let mut writer = folder.part_writer(id, part).await.unwrap();
        for piece in bytes.chunks(100_000) {
            writer.write(piece).await.unwrap();
        }
        writer.finish().await.unwrap();
    }

    async fn read(folder: &Folder, id: &FileId, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<_> = folder.read(id, Variant::Original, range).await.unwrap().collect().await;
        pieces.into_iter().flat_map(Result::unwrap).collect()
    }

    fn files_in(path: &Path) -> usize {
        let entries =
            fs::read_dir(path).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
        entries.iter().map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
    }

    #[tokio::test]
    async fn parts_are_put_together_in_their_order_and_pieces_of_them_are_read() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::open(path.path()).unwrap();
        let id = FileId::generate();
        let whole: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        for (part, bytes) in [(2, &whole[300_000..600_000]), (3, &whole[600_000..]), (1, &whole[..300_000])] {
            receive(&folder, &id, part, bytes).await;
        }
        // Again, as a client does that did not see the answer.
        receive(&folder, &id, 3, &whole[600_000..]).await;
        let parts = folder.received(&id).await.unwrap();
        assert_eq!(
            parts.iter().map(|part| (part.number, part.size)).collect::<Vec<_>>(),
            [(1, 300_000), (2, 300_000), (3, 100_000)]
        );
        folder.keep(&id, &parts).await.unwrap();
        assert_eq!(folder.size(&id, Variant::Original).await.unwrap(), 700_000);
        assert_eq!(files_in(path.path()), 1, "nothing is left of the parts");
        for range in [0..700_000, 0..1, 262_143..262_146, 699_999..700_000] {
            let expected = &whole[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            assert_eq!(read(&folder, &id, range).await, expected);
        }
        assert_eq!(folder.objects().collect::<Vec<_>>().await.len(), 1);
        folder.remove(&id).await.unwrap();
        folder.remove(&id).await.unwrap();
        assert_eq!(files_in(path.path()), 0);
        assert!(matches!(folder.size(&id, Variant::Original).await, Err(StoreError::NotFound)));
    }

    #[tokio::test]
    async fn a_part_that_is_cut_off_leaves_nothing_and_old_remains_are_swept() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::open(path.path()).unwrap();
        let id = FileId::generate();
        let mut writer = folder.part_writer(&id, 1).await.unwrap();
        writer.write(&[7; 300_000]).await.unwrap();
        assert_eq!(folder.received(&id).await.unwrap(), []);
        drop(writer);
        assert_eq!(files_in(path.path()), 0);
        receive(&folder, &id, 1, &[7; 10]).await;
        assert_eq!(folder.sweep_incoming(Duration::from_secs(60), 10).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(folder.sweep_incoming(Duration::from_millis(10), 10).await.unwrap(), 1);
        assert_eq!(files_in(path.path()), 0);
        folder.check().await.unwrap();
    }
}
