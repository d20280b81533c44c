//! A store in one file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::records::{Records, Store, StoreError};

const TABLE: TableDefinition<'_, &str, &str> = TableDefinition::new("records");

/// Keeps records in one file, a database of the library redb: a write is on the disk when it is answered, and a crash in
/// the middle of one leaves the state before it. The file is locked while it is open.
#[derive(Debug, Clone)]
pub struct FileStore(Arc<Database>);

impl FileStore {
    /// Opens the file at `path`, which is made if it does not exist.
    ///
    /// # Errors
    /// If it cannot be opened, is no such file, or is open elsewhere.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Database::create(path)?)))
    }
}

impl Store for FileStore {
    fn load(&self) -> BoxFuture<'_, Result<Records, StoreError>> {
        let database = Arc::clone(&self.0);
        Box::pin(async move { tokio::task::spawn_blocking(move || load(&database)).await? })
    }

    fn write(&self, changes: BTreeMap<String, Option<String>>) -> BoxFuture<'_, Result<(), StoreError>> {
        let database = Arc::clone(&self.0);
        Box::pin(async move { tokio::task::spawn_blocking(move || write(&database, &changes)).await? })
    }
}

fn load(database: &Database) -> Result<Records, StoreError> {
    let reading = database.begin_read()?;
    let table = match reading.open_table(TABLE) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Records::new()),
        Err(error) => return Err(error.into()),
    };
    let mut records = Records::new();
    for record in table.iter()? {
        let (key, value) = record?;
        records.insert(key.value().to_owned(), value.value().to_owned());
    }
    Ok(records)
}

fn write(database: &Database, changes: &BTreeMap<String, Option<String>>) -> Result<(), StoreError> {
    let writing = database.begin_write()?;
    {
        let mut table = writing.open_table(TABLE)?;
        for (key, value) in changes {
            match value {
                Some(value) => table.insert(key.as_str(), value.as_str())?,
                None => table.remove(key.as_str())?,
            };
        }
    }
    Ok(writing.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_there_after_the_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.redb");
        let store = FileStore::open(&path).unwrap();
        assert!(store.load().await.unwrap().is_empty());
        let record = |value: Option<&str>| value.map(ToOwned::to_owned);
        let changes = [("a".to_owned(), record(Some("1"))), ("b".to_owned(), record(Some("2")))];
        store.write(changes.into()).await.unwrap();
        store.write([("a".to_owned(), None)].into()).await.unwrap();
        assert!(FileStore::open(&path).is_err(), "the file is in use");
        drop(store);
        let again = FileStore::open(&path).unwrap();
        assert_eq!(again.load().await.unwrap(), [("b".to_owned(), "2".to_owned())].into());
    }
}
