//! The documents name only links, files, commands and make targets that exist.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Endings of file names that are checked.
const ENDINGS: [&str; 9] = [".rs", ".lua", ".sql", ".proto", ".toml", ".md", ".svg", ".json", ".sh"];

/// The documents that describe the present. Records in `docs/experiments` and the changelog name files of their time.
fn documents() -> Vec<(PathBuf, String)> {
    let mut documents = Vec::new();
    let mut folders = vec![root().join("docs")];
    let mut files: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    for file in files {
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        documents.push((file, text));
    }
    documents
}

fn is_record(document: &Path) -> bool {
    document.parent().is_some_and(|folder| folder.ends_with("docs/experiments"))
        || document.ends_with("CHANGELOG.md")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Fails with all `problems`, each with its document.
fn report(problems: &[(PathBuf, String)]) {
    let lines: Vec<_> = problems
        .iter()
        .map(|(document, problem)| {
            format!("{}: {problem}", document.strip_prefix(root()).unwrap_or(document).display())
        })
        .collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut problems = Vec::new();
    for (document, text) in documents() {
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, heading) =
                link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
            let target =
                if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            if !target.exists() {
                problems.push((document.clone(), format!("the link {link} leads nowhere")));
            } else if let Some(heading) = heading {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                if !anchors(&text).contains(heading) {
                    problems.push((document.clone(), format!("the link {link} leads to no heading")));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn every_named_file_exists() {
    let files = repository_files();
    let mut problems = Vec::new();
    for (document, text) in documents().into_iter().filter(|(document, _)| !is_record(document)) {
        for span in code(&text) {
            for word in span.split_whitespace() {
                let path =
                    word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/' && c != '.' && c != '_');
                let is_file = ENDINGS.iter().any(|ending| path.ends_with(ending));
                // `image/*` is a media type.
                let is_folder =
                    path.ends_with('/') && path.len() > 1 && !path.contains("://") && !word.contains("/*");
                // `steady.json` alone is the output of a command.
                let is_output = !path.contains('/') && path.ends_with(".json");
                if is_output || !(is_file || is_folder) || !is_inside_the_repository(path) {
                    continue;
                }
                // A path may begin inside its crate: `send/pipeline.rs`.
                let suffix = format!("/{}", path.trim_start_matches("./"));
                let found = |file: &String| match path.ends_with('/') {
                    true => format!("/{file}").contains(&suffix),
                    false => format!("/{file}").ends_with(&suffix),
                };
                if !files.iter().any(found) {
                    problems.push((document.clone(), format!("there is no file {path}")));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn every_named_make_target_and_subcommand_exists() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile.lines().filter_map(target).collect();
    let subcommands = subcommands();
    assert!(targets.contains("test") && subcommands.contains("burst"), "{targets:?} {subcommands:?}");
    let mut problems = Vec::new();
    for (document, text) in documents().into_iter().filter(|(document, _)| !is_record(document)) {
        for line in code(&text).iter().flat_map(|span| span.lines()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let name =
                    pair[1].trim_matches(|c: char| !c.is_alphanumeric() && c != '-' && c != '.' && c != '/');
                let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                let (kind, known) = match pair[0] {
                    "make" => ("make target", targets.contains(name)),
                    program if program.rsplit('/').next() == Some("loadtest") => {
                        ("subcommand of loadtest", subcommands.contains(name))
                    }
                    _ => continue,
                };
                if is_name && !known {
                    problems.push((document.clone(), format!("there is no {kind} {name}")));
                }
            }
        }
    }
    report(&problems);
}

/// The targets of inline links and images.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("](") {
        rest = &rest[start + 2..];
        let Some(end) = rest.find(')') else { break };
        links.push(&rest[..end]);
    }
    links
}

/// The anchors that a heading gets: lower case, blanks as hyphens, without punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Code spans and code blocks.
fn code(text: &str) -> Vec<String> {
    let (mut spans, mut block) = (Vec::new(), None::<String>);
    for line in text.lines() {
        if line.starts_with("```") {
            block = match block {
                Some(block) => {
                    spans.push(block);
                    None
                }
                None => Some(String::new()),
            };
        } else if let Some(block) = &mut block {
            // A comment in a command line is prose.
            block.push_str(line.split(" # ").next().unwrap_or_default());
            block.push('\n');
        } else {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

/// Not an absolute path, not a build result, not a placeholder or pattern, not the path of an HTTP call.
fn is_inside_the_repository(path: &str) -> bool {
    !path.starts_with('/')
        && !path.starts_with("target/")
        && !path.contains(['*', '{', '<', '…', '=', '$'])
        && !path.contains("NNNN")
        && !path.starts_with(".im/")
}

/// Folders that builds make, also while this test runs.
const BUILT: [&str; 6] = ["target", ".git", ".im", "node_modules", "build", "dist"];

/// Paths of all files, from the root.
fn repository_files() -> Vec<String> {
    let (root, mut files) = (root(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                if !BUILT.iter().any(|skipped| name == *skipped) {
                    folders.push(path);
                }
            } else if let Ok(path) = path.strip_prefix(&root) {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
    files
}

fn target(line: &str) -> Option<&str> {
    let (name, rest) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    (is_name && !rest.starts_with('=')).then_some(name)
}

/// As `loadtest help` lists them.
fn subcommands() -> BTreeSet<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands = commands.take_while(|line| !line.trim().is_empty());
    // Descriptions that go on in the next line are indented further.
    commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}
