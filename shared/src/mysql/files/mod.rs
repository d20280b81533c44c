//! Files: who uploaded what (`file`), the bytes in the store (`file_object`), and the messages that carry them
//! (`message_file`).
//!
//! A file is used while a message carries it or somebody shows it as an avatar. `sweep_at` of a file that is not used says
//! when a worker removes it; the bytes go with the last file that has them.

mod avatars;
mod jobs;
mod quota;
mod references;
mod rows;
mod sweep;
mod uploads;
mod verify;

pub(in crate::mysql) use avatars::exchange as exchange_avatar;
pub use avatars::is_avatar_of;
pub use jobs::{Job, Looked, claim, due_jobs, finish, give_up};
pub use quota::{UploadCounts, count, uncount};
pub use references::{Usable, last_seqs, lock_usable, usable};
pub(in crate::mysql) use references::{attach, detach};
pub use rows::{File, FileState, ObjectState, StoredObject, find, find_all};
pub use sweep::{Doomed, doom, due, forget, remove_object};
pub use uploads::{Completed, NewUpload, begin, complete, copy, drop_upload};
pub use verify::{VerifiedObject, known_objects, objects_after, totals};
