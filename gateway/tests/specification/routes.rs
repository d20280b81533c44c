//! Every call that the router knows stands in `docs/api/openapi.yaml`, and every call there is one that it knows.
//!
//! The router matches paths by plain code, so that its source is read: the `match` of each `route` function, whose arms are
//! `["area", rest @ ..] => area::route(rest, call).await` or `("GET", [id, "part"]) => …`.

use std::collections::{BTreeMap, BTreeSet};

use spec::api;
use syn::spanned::Spanned as _;
use syn::visit::Visit;
use syn::{Arm, Expr, ExprCall, ExprMatch, File, Item, ItemFn, Lit, Pat};

use super::source;

/// A part of a path: its text, `{}` for an id.
type Path = Vec<String>;

/// What the code answers.
#[derive(Default)]
struct Routes {
    /// `("GET", "/api/groups/{}")`
    calls: BTreeSet<(String, String)>,
    /// The methods that the answer 405 names, by path.
    allowed: BTreeMap<String, BTreeSet<String>>,
}

fn joined(path: &[String]) -> String {
    path.iter().map(|part| format!("/{part}")).collect()
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The paths of a slice pattern, and whether more parts may follow.
fn paths(pattern: &Pat) -> Option<Vec<(Path, bool)>> {
    match pattern {
        Pat::Or(or) => Some(or.cases.iter().map(paths).collect::<Option<Vec<_>>>()?.concat()),
        Pat::Paren(inner) => paths(&inner.pat),
        Pat::Slice(slice) => {
            let mut paths = vec![(Path::new(), false)];
            for element in &slice.elems {
                let mut longer = Vec::new();
                for part in parts(element)? {
                    for (path, _) in &paths {
                        let more = part.clone().into_iter();
                        longer.push((path.iter().cloned().chain(more).collect(), part.is_none()));
                    }
                }
                paths = longer;
            }
            Some(paths)
        }
        _ => None,
    }
}

/// What one element of a slice pattern stands for; `None` for the rest of the path.
fn parts(element: &Pat) -> Option<Vec<Option<String>>> {
    match element {
        Pat::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(vec![Some(text.value())]),
            _ => None,
        },
        Pat::Or(or) => Some(or.cases.iter().map(parts).collect::<Option<Vec<_>>>()?.concat()),
        Pat::Ident(ident) if ident.subpat.is_some() => Some(vec![None]),
        Pat::Ident(_) | Pat::Wild(_) => Some(vec![Some("{}".to_owned())]),
        Pat::Rest(_) => Some(vec![None]),
        _ => None,
    }
}

/// The methods of a pattern; empty for any.
fn methods(pattern: &Pat) -> Option<Vec<String>> {
    match pattern {
        Pat::Wild(_) => Some(Vec::new()),
        Pat::Or(or) => Some(or.cases.iter().map(methods).collect::<Option<Vec<_>>>()?.concat()),
        Pat::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(vec![text.value()]),
            _ => None,
        },
        _ => None,
    }
}

/// Finds the first `match`, and calls of functions.
#[derive(Default)]
struct Finder<'ast> {
    first_match: Option<&'ast ExprMatch>,
    calls: Vec<&'ast ExprCall>,
}

impl<'ast> Visit<'ast> for Finder<'ast> {
    fn visit_expr_match(&mut self, found: &'ast ExprMatch) {
        self.first_match.get_or_insert(found);
        syn::visit::visit_expr_match(self, found);
    }

    fn visit_expr_call(&mut self, found: &'ast ExprCall) {
        self.calls.push(found);
        syn::visit::visit_expr_call(self, found);
    }
}

/// The methods that `method_not_allowed("GET, POST")` names.
fn allowed(finder: &Finder<'_>) -> Option<BTreeSet<String>> {
    let named =
        finder.calls.iter().find(|call| path_of(call).ends_with(&["method_not_allowed".to_owned()]))?;
    Some(text(&named.args[0])?.split(", ").map(str::to_owned).collect())
}

fn path_of(call: &ExprCall) -> Vec<String> {
    match &*call.func {
        Expr::Path(path) => path.path.segments.iter().map(|segment| segment.ident.to_string()).collect(),
        _ => Vec::new(),
    }
}

fn module(name: &str) -> File {
    let file = format!("gateway/src/http/{name}.rs");
    syn::parse_file(&source(&file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Collects the calls of the function `name` in `module`, which serves paths below `prefix`.
fn collect(module_name: &str, name: &str, prefix: &[String], routes: &mut Routes) {
    let place = format!("{name} in gateway/src/http/{module_name}.rs");
    let file = module(module_name);
    let function = file.items.iter().find_map(|item| match item {
        Item::Fn(function) if function.sig.ident == name => Some(function),
        _ => None,
    });
    let function: &ItemFn = function.unwrap_or_else(|| panic!("there is no function {place}"));
    let mut finder = Finder::default();
    finder.visit_item_fn(function);
    let Some(found) = finder.first_match else {
        // It serves one path, and its 405 names the methods.
        let allowed =
            allowed(&finder).unwrap_or_else(|| panic!("{place} has no match and no method_not_allowed"));
        routes.calls.extend(allowed.iter().map(|method| (method.clone(), joined(prefix))));
        routes.allowed.insert(joined(prefix), allowed);
        return;
    };
    for arm in &found.arms {
        if !matches!(arm.pat, Pat::Wild(_)) {
            collect_arm(module_name, &place, arm, prefix, routes);
        }
    }
}

fn collect_arm(module_name: &str, place: &str, arm: &Arm, prefix: &[String], routes: &mut Routes) {
    let not_understood = || {
        let line = arm.pat.span().start().line;
        panic!(
            "{place}: the arm of line {line} is not understood. Write it as `(\"GET\", [id, \"part\"]) => …` or `[\"area\", rest @ ..] => \
             area::route(rest, call).await`, so that it can be compared with docs/api/openapi.yaml, or extend \
             gateway/tests/specification/routes.rs."
        )
    };
    let (methods, pattern) = match &arm.pat {
        Pat::Tuple(both) if both.elems.len() == 2 => (methods(&both.elems[0]), &both.elems[1]),
        pattern => (Some(Vec::new()), pattern),
    };
    let (Some(methods), Some(paths)) = (methods, paths(pattern)) else { return not_understood() };
    let mut finder = Finder::default();
    finder.visit_expr(&arm.body);
    for (path, has_rest) in paths {
        let whole: Path = prefix.iter().cloned().chain(path.clone()).collect();
        // To another `route` function, which gets the rest or the same path.
        let next = finder.calls.iter().find_map(|call| match &path_of(call)[..] {
            [module, function] if function.starts_with("route") => {
                Some((module.clone(), function.clone(), *call))
            }
            [function] if function.starts_with("route") => {
                Some((module_name.to_owned(), function.clone(), *call))
            }
            _ => None,
        });
        if let Some((module, function, call)) = next {
            let gets_whole_path = matches!(&call.args[0], Expr::Path(path) if path.path.is_ident("path"));
            let prefix = if gets_whole_path { prefix.to_vec() } else { whole };
            collect(&module, &function, &prefix, routes);
        } else if has_rest {
            not_understood();
        } else if methods.is_empty() {
            let Some(allowed) = allowed(&finder) else { return not_understood() };
            routes.allowed.insert(joined(&whole), allowed);
        } else {
            for method in &methods {
                routes.calls.insert((method.clone(), joined(&whole)));
            }
        }
    }
}

/// The calls under `/api`, and the paths that warp matches.
fn routes() -> Routes {
    let mut routes = Routes::default();
    collect("router", "route", &["api".to_owned()], &mut routes);
    for file in ["gateway/src/http/routes.rs", "gateway/src/http/upgrade.rs", "shared/src/probes.rs"] {
        for path in source(file).split("warp::path!(").skip(1) {
            let path = path.split(')').next().unwrap();
            let parts = path.split('/').map(|part| part.trim().trim_matches('"').to_owned());
            let path = joined(&parts.collect::<Vec<_>>());
            routes.calls.insert(("GET".to_owned(), path));
        }
    }
    routes
}

/// The documented calls with `{}` for each id.
fn documented() -> BTreeSet<(String, String)> {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    let operations = api().operations().iter();
    operations
        .map(|operation| {
            (operation.method.clone(), joined(&operation.segments().map(part).collect::<Vec<_>>()))
        })
        .collect()
}

/// Whether the code answers a documented path, whose parts may be values of an id: `/api/conversations/-/messages`.
fn is_answered(routes: &Routes, method: &str, path: &str) -> bool {
    routes.calls.iter().any(|(known_method, known)| {
        let (mut given, mut parts) = (path.split('/'), known.split('/'));
        known_method == method
            && given.by_ref().zip(parts.by_ref()).all(|(given, part)| given == part || part == "{}")
            && given.next().is_none()
            && known.split('/').count() == path.split('/').count()
    })
}

#[test]
fn every_call_of_the_router_is_specified_and_every_specified_call_is_routed() {
    let (routes, documented) = (routes(), documented());
    assert!(routes.calls.len() > 30, "{:?}", routes.calls);
    let mut faults = Vec::new();
    for (method, path) in routes.calls.difference(&documented) {
        faults.push(format!(
            "The gateway answers {method} {path}, and docs/api/openapi.yaml does not describe it. Add it under `paths` \
             (copy a call of the same kind): operationId, tags, summary, security if it differs, parameters, \
             requestBody, every answer by its status, and an example of each body. Describe it in docs/protocol.md, too."
        ));
    }
    for (method, path) in &documented {
        if !is_answered(&routes, method, path) {
            faults.push(format!(
                "docs/api/openapi.yaml describes {method} {path}, and no `route` function in gateway/src/http has it: \
                 remove it there, or correct its path."
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_answer_405_names_the_methods_that_a_path_has() {
    let routes = routes();
    let mut methods: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (method, path) in &routes.calls {
        if path.starts_with("/api") {
            methods.entry(path).or_default().insert(method.clone());
        }
    }
    for (path, methods) in methods {
        assert_eq!(routes.allowed.get(path), Some(&methods), "method_not_allowed of {path}");
    }
}
