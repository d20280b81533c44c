//! What the rules need to know of one source file. Code that only tests see is left out.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, ExprMethodCall, Field, FnArg, ImplItem, ImplItemFn, Item, ItemFn, ItemMod, ItemUse, LitStr,
    Macro, Signature, Stmt, TraitItem, TraitItemFn, UseTree, Visibility,
};

/// A path that the code names, with `self` and `super` replaced: relative to the root of the crate, or as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) line: usize,
    pub(crate) path: ImportPath,
    pub(crate) is_reexport: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImportPath {
    /// From the root of the crate.
    Absolute(Vec<String>),
    /// Begins with a name: of a module below this one (first list), or of a crate.
    Relative(Vec<String>, Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    /// Without `self`.
    pub(crate) arguments: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Source {
    /// `gateway/src/http/mod.rs`
    pub(crate) file: String,
    /// `["http"]`
    pub(crate) module: Vec<String>,
    /// Lines outside of tests.
    pub(crate) lines: usize,
    pub(crate) imports: Vec<Import>,
    /// Names under which other modules find what is defined elsewhere; `*` for all names of a module.
    pub(crate) reexports: Vec<(String, ImportPath)>,
    /// Modules in files of their own that only tests see.
    pub(crate) test_modules: Vec<String>,
    /// Names of the items that are defined here.
    pub(crate) items: Vec<String>,
    /// Lines of items that are neither `mod name;` nor `use`.
    pub(crate) definitions: Vec<usize>,
    pub(crate) functions: Vec<Function>,
    pub(crate) strings: Vec<(usize, String)>,
    pub(crate) method_calls: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, String> {
        let parsed = syn::parse_file(text)
            .map_err(|error| format!("{file}:{}: not Rust: {error}", error.span().start().line))?;
        let source = Self {
            file: file.to_owned(),
            module: module_of(file),
            lines: text.lines().count(),
            ..Self::default()
        };
        let mut reader = Reader { inside: source.module.clone(), depth: 0, source };
        reader.visit_file(&parsed);
        Ok(reader.source)
    }

    pub(crate) fn crate_name(&self) -> &str {
        let folder = self.file.split_once("/src/").map_or("", |(folder, _)| folder);
        if folder == folder_of(IM_CLIENT) { IM_CLIENT } else { folder }
    }

    /// A file that stands for its folder, or for the whole crate.
    pub(crate) fn is_face(&self) -> bool {
        self.file.ends_with("/mod.rs") || self.file.ends_with("/src/lib.rs")
    }

    pub(crate) fn is_main(&self) -> bool {
        self.file.ends_with("/src/main.rs")
    }
}

/// `gateway/src/http/mod.rs` → `["http"]`
/// The crate whose folder has another name.
pub(crate) const IM_CLIENT: &str = "im_client";

/// The folder of a crate.
pub(crate) fn folder_of(crate_name: &str) -> &str {
    if crate_name == IM_CLIENT { "clients/rust" } else { crate_name }
}

fn module_of(file: &str) -> Vec<String> {
    let inside = file.split_once("/src/").map_or(file, |(_, inside)| inside);
    let mut module: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && matches!(module[0].as_str(), "lib" | "main");
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

struct Reader {
    source: Source,
    /// The module that is being read, inline ones included.
    inside: Vec<String>,
    /// Blocks around it: only items at the top of a module are seen from outside.
    depth: usize,
}

impl Reader {
    fn import(&mut self, line: usize, segments: Vec<String>, is_reexport: bool) {
        if let Some(path) = self.path(segments) {
            self.source.imports.push(Import { line, path, is_reexport });
        }
    }

    fn path(&self, segments: Vec<String>) -> Option<ImportPath> {
        let first = segments.first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.inside.clone(),
            "super" => self.inside[..self.inside.len().saturating_sub(1)].to_vec(),
            "Self" => return None,
            _ => return Some(ImportPath::Relative(self.inside.clone(), segments)),
        };
        for segment in &segments[1..] {
            match segment.as_str() {
                "super" => _ = base.pop(),
                "self" => {}
                name => base.push(name.to_owned()),
            }
        }
        Some(ImportPath::Absolute(base))
    }

    fn uses(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        let with = |name: String| [before, &[name]].concat();
        let (segments, name) = match tree {
            UseTree::Path(path) => return self.uses(&path.tree, &with(path.ident.to_string()), is_reexport),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.uses(tree, before, is_reexport));
            }
            UseTree::Name(name) => (with(name.ident.to_string()), name.ident.to_string()),
            UseTree::Rename(rename) => (with(rename.ident.to_string()), rename.rename.to_string()),
            UseTree::Glob(_) => (before.to_vec(), "*".to_owned()),
        };
        let line = tree.span().start().line;
        if is_reexport && let Some(path) = self.path(segments.clone()) {
            let name = if name == "self" {
                segments.iter().rev().find(|s| *s != "self").cloned()
            } else {
                Some(name)
            };
            self.source.reexports.extend(name.map(|name| (name, path)));
        }
        self.import(line, segments, is_reexport);
    }

    /// Paths and texts in what a macro is given, which is not parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut place = 0;
        while let Some(token) = tokens.get(place) {
            place += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    let line = literal.span().start().line;
                    if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                        self.source.strings.push((line, text.value()));
                    }
                }
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let mut segments = vec![ident.to_string()];
                    while let [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(next), ..] =
                        &tokens[place..]
                        && (a.as_char(), b.as_char()) == (':', ':')
                    {
                        segments.push(next.to_string());
                        place += 3;
                    }
                    if segments.len() > 1 {
                        self.import(line, segments, false);
                    }
                }
                TokenTree::Punct(_) => {}
            }
        }
    }

    fn function(&mut self, signature: &Signature, end: usize) {
        let line = signature.fn_token.span.start().line;
        let arguments = signature.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_))).count();
        let name = signature.ident.to_string();
        self.source.functions.push(Function { name, line, lines: end + 1 - line, arguments });
    }

    fn skip(&mut self, what: &impl Spanned) {
        let span = what.span();
        self.source.lines -= span.end().line + 1 - span.start().line;
    }

    fn within(&mut self, read: impl FnOnce(&mut Self)) {
        self.depth += 1;
        read(self);
        self.depth -= 1;
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(item_attributes(item)) {
            self.skip(item);
            if let Item::Mod(ItemMod { ident, content: None, .. }) = item {
                self.source.test_modules.push(ident.to_string());
            }
            return;
        }
        if self.depth == 0 {
            if !matches!(item, Item::Use(_) | Item::Mod(ItemMod { content: None, .. })) {
                self.source.definitions.push(item.span().start().line);
            }
            self.source.items.extend(item_name(item));
        }
        match item {
            Item::Mod(module) => visit::visit_item_mod(self, module),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.inside.push(module.ident.to_string());
        self.within(|reader| visit::visit_item_mod(reader, module));
        self.inside.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = self.depth == 0 && !matches!(item.vis, Visibility::Inherited);
        self.uses(&item.tree, &[], is_reexport);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, item.block.span().end().line);
        self.within(|reader| visit::visit_item_fn(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, item.block.span().end().line);
        self.within(|reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.function(&item.sig, item.span().end().line);
        self.within(|reader| visit::visit_trait_item_fn(reader, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if is_for_tests(attributes) { self.skip(item) } else { visit::visit_impl_item(self, item) }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let for_tests = matches!(item, TraitItem::Fn(item) if is_for_tests(&item.attrs));
        if for_tests { self.skip(item) } else { visit::visit_trait_item(self, item) }
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if is_for_tests(&field.attrs) { self.skip(field) } else { visit::visit_field(self, field) }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        match statement {
            Stmt::Local(local) if is_for_tests(&local.attrs) => self.skip(statement),
            Stmt::Macro(mac) if is_for_tests(&mac.attrs) => self.skip(statement),
            _ => visit::visit_stmt(self, statement),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 && path.leading_colon.is_none() {
            self.import(path.span().start().line, segments, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast Macro) {
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }

    fn visit_lit_str(&mut self, literal: &'ast LitStr) {
        self.source.strings.push((literal.span().start().line, literal.value()));
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.source.method_calls.push((call.method.span().start().line, call.method.to_string()));
        visit::visit_expr_method_call(self, call);
    }

    /// Documentation is an attribute, too: what it names is no import, and its text no statement.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// `#[cfg(test)]`, or `test` as one of several conditions, unless under `not`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    fn names_test(tokens: TokenStream) -> bool {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        tokens.iter().enumerate().any(|(place, token)| match token {
            TokenTree::Ident(ident) => ident == "test",
            TokenTree::Group(group) => {
                let after_not =
                    place > 0 && matches!(&tokens[place - 1], TokenTree::Ident(ident) if ident == "not");
                !after_not && names_test(group.stream())
            }
            _ => false,
        })
    }
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| names_test(list.tokens.clone()))
    })
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn item_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}
