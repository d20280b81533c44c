//! The operator's key of a data folder.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// The file beside the data; readable by its owner only.
const FILE: &str = "operator.key";

/// The key of `folder`, made at the first start and kept.
pub(super) fn load_or_create(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(FILE);
    let context = || path.display().to_string();
    match File::options().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            // Begins with letters, so that no configuration takes it for a number.
            let key = format!("op-{}{}", random(), random());
            file.write_all(key.as_bytes()).with_context(context)?;
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let key = std::fs::read_to_string(&path).with_context(context)?;
            Ok(key.trim_end().to_owned())
        }
        Err(error) => Err(error).with_context(context),
    }
}

fn random() -> uuid::fmt::Simple {
    uuid::Uuid::new_v4().simple()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_keeps_its_key_and_shows_it_to_nobody_else() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = load_or_create(one.path()).unwrap();
        assert_eq!(load_or_create(one.path()).unwrap(), key);
        assert_ne!(load_or_create(other.path()).unwrap(), key);
        assert!(key.len() >= 32);
        let mode = std::fs::metadata(one.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
