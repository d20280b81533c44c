//! docs/configuration.md: every key of gateway and worker, from the code. `IM_UPDATE=1` writes the page anew.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use syn::{Attribute, Fields, Item, Type};

const PAGE: &str = "docs/configuration.md";
const INTRODUCTION: &str = "\
# Configuration

Every key of a gateway and a worker. A key is given in the file of `--config` (TOML; samples with all keys are \
[deploy/config/gateway.toml](../deploy/config/gateway.toml) and [deploy/config/worker.toml](../deploy/config/worker.toml)) \
or in the environment, which wins: `mysql.url` is `IM__MYSQL__URL`, and lists are separated by commas there. Both programs \
may have the same file and environment. How the keys are used together is in [operations](operations.md).

Keys with \"yes\" in the column *reloaded* take effect at SIGHUP (`systemctl reload`), the others at the next start. Those \
about the size of a connection's buffers and its malformed frames concern connections that open afterwards.

This page is made from the code; a test compares both. After a change of a key: \
`IM_UPDATE=1 cargo nextest run --workspace --test configuration`.
";

/// The sources of the sections of each program; those of a program win over those of both.
const BOTH: [&str; 4] = [
    "shared/src/config/sections.rs",
    "shared/src/config/ops.rs",
    "shared/src/config/files.rs",
    "shared/src/config/feed.rs",
];
const GATEWAY: [&str; 13] = [
    "gateway/src/config.rs",
    "gateway/src/config/conversations.rs",
    "gateway/src/config/hook.rs",
    "gateway/src/config/limits.rs",
    "gateway/src/config/listen.rs",
    "gateway/src/config/messages.rs",
    "gateway/src/config/outgoing.rs",
    "gateway/src/config/profiles.rs",
    "gateway/src/config/push.rs",
    "gateway/src/config/tls.rs",
    "gateway/src/config/traces.rs",
    "gateway/src/config/webhooks.rs",
    "gateway/src/id_profile.rs",
];
/// Where the keys are listed that SIGHUP applies.
const LIVE: [(&str, &str); 2] =
    [("gateway", "gateway/src/config/live.rs"), ("worker", "worker/src/config/live.rs")];
const WORKER: [&str; 1] = ["worker/src/config.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A field of a struct: its name, its type and its documentation.
type Field = (String, Type, String);

/// The structs and enums of some files.
#[derive(Default)]
struct Types {
    structs: BTreeMap<String, Vec<Field>>,
    /// The variants in lower case.
    enums: BTreeMap<String, Vec<String>>,
}

impl Types {
    fn read(files: &[&str]) -> Self {
        let mut types = Self::default();
        for file in files {
            let text = std::fs::read_to_string(root().join(file)).unwrap();
            for item in syn::parse_file(&text).unwrap().items {
                types.add(item);
            }
        }
        types
    }

    fn add(&mut self, item: Item) {
        match item {
            Item::Struct(item) => {
                let Fields::Named(named) = item.fields else { return };
                let field =
                    |field: syn::Field| (field.ident.unwrap().to_string(), field.ty, doc(&field.attrs));
                self.structs.insert(item.ident.to_string(), named.named.into_iter().map(field).collect());
            }
            Item::Enum(item) => {
                let variants = item.variants.iter().map(|variant| variant.ident.to_string().to_lowercase());
                self.enums.insert(item.ident.to_string(), variants.collect());
            }
            _ => {}
        }
    }

    /// What a value of this type is.
    fn value(&self, ty: &Type) -> String {
        let name = name(ty);
        if let Some(variants) = self.enums.get(&name) {
            return variants
                .iter()
                .map(|variant| format!("`\"{variant}\"`"))
                .collect::<Vec<_>>()
                .join(" or ");
        }
        let word = match name.as_str() {
            "bool" => "true or false",
            "u16" | "u32" | "u64" | "usize" => "whole number",
            "f64" => "number",
            "String" => "text",
            "PathBuf" => "file",
            "SocketAddr" => "address:port",
            "Url" => "URL",
            "Secret" => "secret",
            "Vec" => "list",
            other => panic!("the type {other} of a key has no word here"),
        };
        word.to_owned()
    }
}

/// The last segment of a type's path; of an `Option` that of its content.
fn name(ty: &Type) -> String {
    let Type::Path(path) = ty else { panic!("a type without a path") };
    let segment = path.path.segments.last().unwrap();
    if segment.ident == "Option"
        && let syn::PathArguments::AngleBracketed(inner) = &segment.arguments
        && let Some(syn::GenericArgument::Type(inner)) = inner.args.first()
    {
        return name(inner);
    }
    segment.ident.to_string()
}

/// A doc comment as one line of Markdown without links into the code.
fn doc(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let syn::Meta::NameValue(meta) = &attribute.meta else { continue };
        let syn::Expr::Lit(literal) = &meta.value else { continue };
        let syn::Lit::Str(line) = &literal.lit else { continue };
        text = format!("{text} {}", line.value().trim());
    }
    let mut rest = text.trim();
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("[`") {
        let (link, after) = after.split_once("`]").unwrap();
        rest = after.strip_prefix('(').map_or(after, |after| after.split_once(')').unwrap().1);
        write!(plain, "{before}`{link}`").unwrap();
    }
    (plain + rest).replace('|', "\\|")
}

/// The defaults in a sample file; a test of each program proves that they are those of the code.
fn defaults(program: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join(format!("deploy/config/{program}.toml"))).unwrap();
    let mut section = "";
    let mut defaults = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            defaults.insert(format!("{section}.{key}"), format!("`{value}`"));
        }
    }
    defaults
}

/// The keys that a program applies at SIGHUP: the strings of the constant `LIVE`.
fn live(program: &str) -> BTreeSet<String> {
    let (_, file) = LIVE.iter().find(|(of, _)| *of == program).unwrap();
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let (_, list) = text.split_once("const LIVE: &[&str] =").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of a program by section, in the order of the code: the key, and the rest of its row.
fn rows(program: &str, own: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
    let mut types = Types::read(&BOTH);
    let own = Types::read(own);
    types.structs.extend(own.structs);
    types.enums.extend(own.enums);
    let (defaults, live) = (defaults(program), live(program));
    let row = |section: &str, (key, ty, doc): &Field| {
        let name = format!("{section}.{key}");
        let default = defaults.get(&name).map_or("none", String::as_str);
        let reloaded = if live.contains(&name) { "yes" } else { "" };
        (key.clone(), format!("{} | {default} | {reloaded} | {doc} |", types.value(ty)))
    };
    let section = |(section, ty, _): &Field| {
        let fields = &types.structs[&name(ty)];
        (section.clone(), fields.iter().map(|field| row(section, field)).collect())
    };
    types.structs["Config"].iter().map(section).collect()
}

fn page() -> String {
    let (mut sections, worker) = (rows("gateway", &GATEWAY), rows("worker", &WORKER));
    let mut page = INTRODUCTION.to_owned();
    for (name, _) in &worker {
        if !sections.iter().any(|(known, _)| known == name) {
            sections.push((name.clone(), Vec::new()));
        }
    }
    for (section, of_gateway) in sections {
        let of_worker = worker.iter().find(|(name, _)| *name == section);
        let of_worker = of_worker.map_or(&[][..], |(_, rows)| rows);
        write!(
            page,
            "\n## `[{section}]`\n\n| key | of | value | default | reloaded | meaning |\n|---|---|---|---|---|---|\n"
        )
        .unwrap();
        for (key, row) in &of_gateway {
            let is_both = of_worker.contains(&(key.clone(), row.clone()));
            writeln!(page, "| `{key}` | {} | {row}", if is_both { "both" } else { "gateway" }).unwrap();
        }
        for (key, row) in of_worker.iter().filter(|row| !of_gateway.contains(row)) {
            writeln!(page, "| `{key}` | worker | {row}").unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_all_keys_is_that_of_the_code() {
    let (file, page) = (root().join(PAGE), page());
    if std::env::var_os("IM_UPDATE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        written == page,
        "{PAGE} is not that of the code: IM_UPDATE=1 cargo nextest run --workspace --test configuration\n{differs:?}"
    );
}
