//! The committed code is what the `.proto` files generate today.

use std::path::Path;

const FILES: [&str; 2] = ["im/v1/message.proto", "im/v1/event.proto"];
/// Set to write the code instead of comparing it.
const UPDATE: &str = "UPDATE";

#[test]
fn the_committed_code_is_generated_from_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(FILES.map(|file| root.join(file)), [root]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Boxed: a message or batch without it stays small.
    prost_build::Config::new()
        .boxed(".im.v1.ChatMessage.rare")
        .boxed(".im.v1.StoredMessage.rare")
        .boxed(".im.v1.EventBatch.gateway_numbers")
        .out_dir(folder.path())
        .compile_fds(descriptors)
        .unwrap();
    let generated = std::fs::read_to_string(folder.path().join("im.v1.rs")).unwrap();

    let committed = root.join("src/im.v1.rs");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&committed, generated).unwrap();
        return;
    }
    let is_fresh = std::fs::read_to_string(&committed).is_ok_and(|committed| committed == generated);
    assert!(
        is_fresh,
        "{} is not what the .proto files generate: run `{UPDATE}=1 cargo test -p proto` and commit it",
        committed.display()
    );
}
