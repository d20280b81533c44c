//! Which file imports which: the paths of all files, resolved through re-exports to the file that defines the item.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{Import, ImportPath, Source};

/// Deeper chains of re-exports do not occur.
const REEXPORTS_MAX: usize = 16;

/// One file imports another one of its crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) line: usize,
    /// As one would write it: `crate::wire::reply`.
    pub(crate) path: String,
}

/// The files of one crate that are not only for tests.
#[derive(Debug)]
pub(crate) struct Crate<'s> {
    pub(crate) name: &'s str,
    pub(crate) files: Vec<&'s Source>,
    modules: BTreeMap<&'s [String], usize>,
}

impl<'s> Crate<'s> {
    pub(crate) fn of(name: &'s str, sources: &'s [Source]) -> Self {
        let files: Vec<&Source> = sources.iter().filter(|source| source.crate_name() == name).collect();
        let for_tests: Vec<Vec<String>> = files
            .iter()
            .flat_map(|file| {
                file.test_modules
                    .iter()
                    .map(|module| [&file.module[..], std::slice::from_ref(module)].concat())
            })
            .collect();
        let files: Vec<&Source> = files
            .into_iter()
            .filter(|file| !for_tests.iter().any(|module| file.module.starts_with(module)))
            .collect();
        let is_library = files.iter().any(|file| file.module.is_empty() && !file.is_main());
        let modules = files
            .iter()
            .enumerate()
            .filter(|(_, file)| !(is_library && file.is_main()))
            .map(|(place, file)| (&file.module[..], place))
            .collect();
        Self { name, files, modules }
    }

    /// Each pair of files once, by its first import.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let mut edges: BTreeMap<(usize, usize), Edge> = BTreeMap::new();
        for (from, file) in self.files.iter().enumerate() {
            for import in &file.imports {
                let Some(path) = self.absolute(&import.path) else { continue };
                let Some(to) = self.resolve(&path, REEXPORTS_MAX).filter(|to| *to != from) else { continue };
                // A face imports nothing of its own folder: it passes it on.
                let passes_on = file.is_face() && import.is_reexport;
                if passes_on && self.files[to].module.starts_with(&file.module) {
                    continue;
                }
                let Import { line, .. } = *import;
                let edge = Edge { from, to, line, path: format!("crate::{}", path.join("::")) };
                edges.entry((from, to)).or_insert(edge);
            }
        }
        edges.into_values().collect()
    }

    /// Crates of the workspace that a file names, with the line.
    pub(crate) fn crates_named<'a>(&self, file: &'a Source) -> impl Iterator<Item = (usize, &'a str)> {
        file.imports.iter().filter_map(|import| match &import.path {
            ImportPath::Relative(_, segments) if self.absolute(&import.path).is_none() => {
                Some((import.line, segments.first()?.as_str()))
            }
            _ => None,
        })
    }

    /// From the root of this crate; `None` if it is of another one.
    fn absolute(&self, path: &ImportPath) -> Option<Vec<String>> {
        match path {
            ImportPath::Absolute(path) => Some(path.clone()),
            ImportPath::Relative(_, segments) if segments[0] == self.name => Some(segments[1..].to_vec()),
            ImportPath::Relative(inside, segments) => {
                let module = [&inside[..], &segments[..1]].concat();
                self.modules.contains_key(&module[..]).then(|| [&inside[..], &segments[..]].concat())
            }
        }
    }

    /// The file that defines what `path` names.
    fn resolve(&self, path: &[String], depth: usize) -> Option<usize> {
        let (module, file) =
            (0..=path.len()).rev().find_map(|end| Some((end, *self.modules.get(&path[..end])?)))?;
        let (Some(name), true) = (path.get(module), depth > 0) else { return Some(file) };
        let source = self.files[file];
        if source.items.contains(name) {
            return Some(file);
        }
        let elsewhere = |(as_name, target): &(String, ImportPath)| {
            let target = self.absolute(target)?;
            if as_name == name {
                return self.resolve(&[&target[..], &path[module + 1..]].concat(), depth - 1);
            }
            let through = self.resolve(&[&target[..], &path[module..]].concat(), depth - 1)?;
            (as_name == "*" && self.files[through].items.contains(name)).then_some(through)
        };
        Some(source.reexports.iter().find_map(elsewhere).unwrap_or(file))
    }

    /// One circle, as short as possible, for each group of files that all import each other by way of others.
    pub(crate) fn circles(&self) -> Vec<Vec<Edge>> {
        let mut to: BTreeMap<usize, Vec<Edge>> = BTreeMap::new();
        for edge in self.edges() {
            to.entry(edge.from).or_default().push(edge);
        }
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for start in 0..self.files.len() {
            if seen.contains(&start) {
                continue;
            }
            if let Some(circle) = shortest_circle(&to, start) {
                seen.extend(connected(&to, start));
                circles.push(circle);
            }
        }
        circles
    }
}

fn shortest_circle(to: &BTreeMap<usize, Vec<Edge>>, start: usize) -> Option<Vec<Edge>> {
    let mut reached_by: BTreeMap<usize, &Edge> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for edge in to.get(&file).into_iter().flatten() {
            if edge.to == start {
                let mut circle = vec![edge.clone()];
                let mut at = file;
                while at != start {
                    let before = reached_by[&at];
                    circle.push(before.clone());
                    at = before.from;
                }
                circle.reverse();
                return Some(circle);
            }
            if let Entry::Vacant(unreached) = reached_by.entry(edge.to) {
                unreached.insert(edge);
                queue.push_back(edge.to);
            }
        }
    }
    None
}

/// All files that `start` reaches and that reach `start`.
fn connected(to: &BTreeMap<usize, Vec<Edge>>, start: usize) -> BTreeSet<usize> {
    let reach = |from: usize| {
        let (mut reached, mut queue) = (BTreeSet::new(), vec![from]);
        while let Some(file) = queue.pop() {
            for edge in to.get(&file).into_iter().flatten() {
                if reached.insert(edge.to) {
                    queue.push(edge.to);
                }
            }
        }
        reached
    };
    reach(start).into_iter().filter(|file| reach(*file).contains(&start)).collect()
}
