//! The checker itself, on small made-up sources.

use super::rules::{ARGUMENTS_MAX, FILE_LINES_MAX, FUNCTION_LINES_MAX, Finding, Layers, check};
use super::source::Source;

const GATEWAY: Layers =
    Layers { crate_name: "gateway", rows: &["main", "top", "middle other", "ground"], crates: &["shared"] };
const SHARED: Layers = Layers { crate_name: "shared", rows: &["mysql redis amqp"], crates: &[] };

/// Findings of a rule: file, line and subject.
fn found(rule: &str, files: &[(&str, &str)]) -> Vec<(String, usize, String)> {
    let findings =
        all(files).into_iter().filter(|finding| finding.rule == rule && !finding.file.ends_with("/src"));
    findings.map(|finding| (finding.file, finding.line, finding.subject)).collect()
}

fn all(files: &[(&str, &str)]) -> Vec<Finding> {
    let sources: Vec<_> = files.iter().map(|(file, text)| Source::parse(file, text).unwrap()).collect();
    check(&sources, &[GATEWAY, SHARED])
}

fn places(found: &[(String, usize, String)]) -> Vec<(&str, usize)> {
    found.iter().map(|(file, line, _)| (file.as_str(), *line)).collect()
}

#[test]
fn a_circle_is_named_with_all_its_imports() {
    let files = [
        ("gateway/src/middle/a.rs", "use super::b::B;\npub struct A;"),
        ("gateway/src/middle/b.rs", "\nuse crate::middle::c;\npub struct B;"),
        ("gateway/src/middle/c.rs", "fn f() {\n  super::a::A\n}"),
        ("gateway/src/middle/mod.rs", "mod a;\nmod b;\nmod c;\npub use a::A;"),
    ];
    let circles: Vec<_> = all(&files).into_iter().filter(|finding| finding.rule == "circle").collect();
    assert_eq!(circles.len(), 1, "{circles:?}");
    for step in
        ["a.rs:1 imports gateway/src/middle/b.rs", "b.rs:2 imports", "c.rs:2 imports gateway/src/middle/a.rs"]
    {
        assert!(circles[0].message.contains(step), "{}", circles[0].message);
    }
}

#[test]
fn a_type_in_mod_rs_makes_a_circle_and_a_reexport_does_not() {
    let hub = ("gateway/src/middle/registry.rs", "use super::Member;\npub struct Registry;");
    let defined = ("gateway/src/middle/mod.rs", "mod registry;\nuse registry::Registry;\npub struct Member;");
    assert_eq!(places(&found("circle", &[defined, hub])), [("gateway/src/middle/mod.rs", 2)]);
    assert_eq!(places(&found("mod.rs", &[hub, defined])), [("gateway/src/middle/mod.rs", 3)]);
    let member = ("gateway/src/middle/member.rs", "pub struct Member;");
    let reexported = (
        "gateway/src/middle/mod.rs",
        "mod member;\nmod registry;\npub use member::Member;\npub use registry::Registry;",
    );
    assert!(found("circle", &[hub, member, reexported]).is_empty());
    assert!(found("mod.rs", &[hub, member, reexported]).is_empty());
}

#[test]
fn a_reexport_is_followed_to_the_file_that_defines_it() {
    // `top` re-exports what `ground` defines: importing it is an import of `ground`, which is allowed.
    let files = [
        ("gateway/src/ground.rs", "pub struct Thing;"),
        (
            "gateway/src/top/mod.rs",
            "pub use crate::ground::{self, Thing as Renamed};\npub use inner::*;\nmod inner;",
        ),
        ("gateway/src/top/inner.rs", "pub struct Inner;"),
        ("gateway/src/middle.rs", "use crate::top::Renamed;\nuse crate::top::Inner;"),
    ];
    let wrong = found("direction", &files);
    assert_eq!(wrong, [("gateway/src/middle.rs".to_owned(), 2, "gateway/src/top/inner.rs".to_owned())]);
}

#[test]
fn an_import_against_the_direction_is_found_however_it_is_written() {
    let top = ("gateway/src/top/mod.rs", "pub mod deep;");
    let deep = ("gateway/src/top/deep.rs", "pub fn f() {}\npub mod inner { pub struct S; }");
    for text in [
        "use crate::top::deep::f;",
        "use crate::{other, top::{deep::{self, f}}};",
        "use super::top::deep;",
        "use gateway::top::deep;",
        "fn g() { crate::top::deep::f() }",
        "fn g(_: &crate::top::deep::inner::S) {}",
        "fn g() { tracing::info!(x = super::top::deep::f(), \"text\") }",
        "mod inside { use super::super::top::deep::f; }",
        "#[cfg(not(test))] use crate::top::deep;",
        "pub use crate::top::deep::f;",
    ] {
        let wrong =
            found("direction", &[top, deep, ("gateway/src/ground.rs", text), ("gateway/src/other.rs", "")]);
        let subjects: Vec<_> =
            wrong.iter().map(|(file, _, subject)| (file.as_str(), subject.as_str())).collect();
        assert!(
            subjects.contains(&("gateway/src/ground.rs", "gateway/src/top/deep.rs")),
            "{text}: {wrong:?}"
        );
    }
    let downward = ("gateway/src/top/deep.rs", "use crate::ground::X;\nuse super::super::ground;");
    assert!(found("direction", &[top, downward, ("gateway/src/ground.rs", "pub struct X;")]).is_empty());
    let beside = [("gateway/src/middle.rs", "use crate::other;"), ("gateway/src/other.rs", "")];
    assert_eq!(places(&found("direction", &beside)), [("gateway/src/middle.rs", 1)], "in one row");
    let crates =
        [("shared/src/mysql/mod.rs", "use gateway::top;"), ("gateway/src/top.rs", "use shared::mysql;")];
    assert_eq!(
        found("direction", &crates),
        [("shared/src/mysql/mod.rs".to_owned(), 1, "gateway".to_owned())]
    );
}

#[test]
fn every_module_has_its_row_and_every_row_its_module() {
    let unknown = found("direction", &[("gateway/src/attic.rs", "")]);
    assert_eq!(places(&unknown), [("gateway/src/attic.rs", 1)]);
    let files = [("gateway/src/main.rs", ""), ("gateway/src/top.rs", ""), ("gateway/src/ground.rs", "")];
    let gone: Vec<_> = all(&files).into_iter().filter(|finding| finding.file == "gateway/src").collect();
    let gone: Vec<_> = gone.iter().map(|finding| finding.subject.as_str()).collect();
    assert_eq!(gone, ["middle", "other"]);
}

#[test]
fn the_rules_do_not_apply_to_test_code() {
    let long = format!("fn long() {{\n{}}}", "\n".repeat(FUNCTION_LINES_MAX));
    let tests = format!(
        "#[cfg(test)]\nmod tests {{\n use super::*; use crate::top::X; const A: &str = \"SELECT 1\";\n{long}\n}}"
    );
    let with_tests = format!(
        "pub struct G;\n#[cfg(all(test, unix))]\nuse crate::top::X;\nimpl G {{ #[cfg(test)] fn f(&self) {{ crate::top::X }} }}\n{tests}"
    );
    let files = [
        ("gateway/src/lib.rs", "pub mod top;\n#[cfg(test)]\nmod simulation;"),
        ("gateway/src/simulation/mod.rs", "mod world;\npub struct Simulation;"),
        ("gateway/src/simulation/world.rs", "use crate::top::X; use super::Simulation;"),
        (
            "gateway/src/top.rs",
            "pub struct X;\n/// `crate::ground::G`, SELECT 1\n#[doc = \"SELECT 1\"]\nfn f() {}",
        ),
        ("gateway/src/ground.rs", &with_tests),
    ];
    let left: Vec<_> = all(&files).into_iter().filter(|finding| !finding.file.ends_with("/src")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn long_files_and_functions_are_named_and_tests_do_not_count() {
    let long = |lines: usize| format!("fn long() {{\n{}}}", "\n".repeat(lines - 2));
    let of = |text: &str| all(&[("gateway/src/ground.rs", text)]);
    let rules = |text: &str| -> Vec<_> {
        of(text).iter().filter(|f| !f.file.ends_with("/src")).map(|f| f.rule).collect()
    };
    assert_eq!(rules(&long(FUNCTION_LINES_MAX)), [""; 0]);
    assert_eq!(rules(&long(FUNCTION_LINES_MAX + 1)), ["function length"]);
    assert_eq!(rules(&"//\n".repeat(FILE_LINES_MAX)), [""; 0]);
    assert_eq!(rules(&"//\n".repeat(FILE_LINES_MAX + 1)), ["file length"]);
    let tests =
        format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(FILE_LINES_MAX), "//\n".repeat(100));
    assert_eq!(rules(&tests), [""; 0]);
    let arguments = |count: usize| vec!["_: u8"; count].join(", ");
    assert_eq!(rules(&format!("impl X {{ fn f(&self, {}) {{}} }}", arguments(ARGUMENTS_MAX))), [""; 0]);
    assert_eq!(rules(&format!("trait X {{ fn f({}); }}", arguments(ARGUMENTS_MAX + 1))), ["arguments"]);
}

#[test]
fn statements_keys_and_queues_have_one_place_each() {
    let text = "fn f(c: &Channel) {\n let a = \"SELECT 1\";\n let b = format!(\"im:seq:{{{c}}}\");\n let d = include_str!(\"x.lua\");\n let e = \"{}.msg.{shard}\";\n c.queue_declare();\n sqlx::query(a);\n}\nuse fred::Client;";
    for (file, sql, redis, queue) in [
        ("gateway/src/ground.rs", vec![2, 7], vec![3, 4, 9], vec![5, 6]),
        ("shared/src/mysql/x.rs", vec![], vec![3, 4, 9], vec![5, 6]),
        ("shared/src/redis/x.rs", vec![2, 7], vec![], vec![5, 6]),
        ("shared/src/amqp/topology.rs", vec![2, 7], vec![3, 4, 9], vec![]),
    ] {
        let lines =
            |rule| found(rule, &[(file, text)]).into_iter().map(|(_, line, _)| line).collect::<Vec<_>>();
        assert_eq!((lines("SQL"), lines("Redis"), lines("queue")), (sql, redis, queue), "{file}");
    }
    let innocent =
        "const A: &str = \"UPDATED\"; const B: &str = \"important: im\"; const C: &str = \"image.push\";";
    assert_eq!(
        all(&[("gateway/src/ground.rs", innocent)]).iter().filter(|f| !f.file.ends_with("/src")).count(),
        0
    );
}
