//! Turns named files of manifests into a stream of changes. It does no I/O: the caller reads the files.
//!
//! A change of a file costs only what changed: a document whose text is known is not parsed again.

mod documents;
mod notice;
mod parse;
mod split;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use hashbrown::HashTable;
use smallvec::SmallVec;
use xxhash_rust::xxh64::xxh64;

use crate::base::{ObjectRef, text::word};
use crate::translate::{Change, LastGood, Unparsed};

pub(super) use documents::documents;
pub use notice::{Notice, NoticeBlocks};

use parse::{Parsed, Unparsable, refusal};

/// The files of a directory, and which of them each object comes from.
#[derive(Debug, Default)]
pub struct Manifests {
    files: BTreeMap<Arc<str>, File>,
    /// Files that are gone, until `forget`: one that comes back and cannot be parsed has a last version.
    gone: BTreeMap<Arc<str>, File>,
    /// Files that declare the object, in order of their names; the first one's version counts.
    claims: HashMap<Arc<ObjectRef>, SmallVec<[Arc<str>; 1]>>,
    /// Objects that more than one file declares.
    contested: BTreeSet<Arc<ObjectRef>>,
    /// What is to be said about those; `None`: to be written anew.
    contested_notices: Option<Arc<[Notice]>>,
    /// Last good versions are kept beyond the process: whoever keeps them is told which objects' files cannot be parsed.
    tells_unparsed: bool,
}

/// The last version of a file that could be parsed.
#[derive(Debug, Default)]
struct File {
    documents: Vec<DocumentState>,
    /// Notices about its documents, complete with their place; before them why the newest version of the file was not taken, if so. The same
    /// `Arc` as long as nothing of it changes.
    notices: Arc<[Notice]>,
    /// Whether the newest version of the file was not taken.
    refused: bool,
}

/// What is remembered of a document.
#[derive(Clone, Debug, Default)]
struct DocumentState {
    /// Hash of its text; `None`: parse it again in any case.
    hash: Option<u64>,
    objects: SmallVec<[Arc<ObjectRef>; 1]>,
    /// Without their place.
    notices: Vec<Notice>,
}

/// What a new content of a file changes.
#[derive(Debug, Default)]
pub struct FileChange {
    /// Changes of objects, in order.
    pub changes: Vec<Change>,
    /// Files that have to be handed in again: they declare an object that this file no longer declares.
    pub reread: BTreeSet<Arc<str>>,
    /// Objects that are declared again because their file came back; their changes, if any, are among `changes`.
    pub returned: Vec<ObjectRef>,
}

/// A file in the course of an update.
struct Update<'a> {
    name: &'a Arc<str>,
    documents: Vec<Source>,
    /// Only new documents matter: what the known ones declare stays as it is.
    only_new: bool,
    /// Freshly parsed objects by document and position within it.
    fresh: HashMap<(usize, usize), Change>,
    texts: Vec<split::Part<'a>>,
}

/// Where a document of a new version comes from.
enum Source {
    /// It is this document of the version before.
    Known(usize),
    /// Its text is new.
    New(DocumentState),
}

// === impl Manifests ===

impl Manifests {
    /// No file yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names of the files that are known.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.keys()
    }

    /// Whether the file is there, as far as is known.
    pub fn knows(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The file now has this content. Where it cannot be parsed its last version counts, and a notice says so.
    pub fn update(&mut self, name: &str, content: &[u8]) -> FileChange {
        let name: Arc<str> = self.files.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known));
        let returned = self.bring_back(&name);
        let change = match std::str::from_utf8(content).map_err(|_| ": not UTF-8".to_owned()).and_then(|text| self.parse_file(&name, text))
        {
            Ok((update, notices)) => self.replace(update, notices),
            Err(refusal) => self.refuse(name, refusal),
        };
        self.write_contested_notices();
        FileChange { returned, ..change }
    }

    /// The file is gone. Its last version is remembered until `forget`.
    pub fn remove(&mut self, name: &str) -> FileChange {
        let Some((name, file)) = self.files.remove_entry(name) else { return FileChange::default() };
        let mut change = FileChange::default();
        let gone: BTreeSet<_> = file.documents.iter().flat_map(|document| &document.objects).cloned().collect();
        gone.iter().for_each(|object| self.unclaim(object, &name, &mut change));
        if file.refused && self.tells_unparsed {
            change.changes.push(parsed_again(&name));
        }
        self.write_contested_notices();
        self.gone.insert(name, file);
        change
    }

    /// The file is gone for good.
    pub fn forget(&mut self, name: &str) {
        self.gone.remove(name);
    }

    /// The file cannot be read, for this reason: its last version counts, and a notice says so.
    pub fn unreadable(&mut self, name: &str, reason: &dyn std::fmt::Display) -> FileChange {
        let name = name.into();
        let returned = self.bring_back(&name);
        let change = self.refuse(name, format!(": {reason}"));
        FileChange { returned, ..change }
    }

    /// Last good versions are kept, and an earlier process kept these: a file that they come from and that turns out to be unparsable still
    /// declares them.
    pub fn restore(&mut self, versions: &LastGood) {
        self.tells_unparsed = true;
        let mut files: BTreeMap<&Arc<str>, SmallVec<[Arc<ObjectRef>; 1]>> = BTreeMap::new();
        for version in versions {
            if let Some(file) = &version.file {
                files.entry(file).or_default().push(Arc::new(version.object.clone()));
            }
        }
        for (file, objects) in files {
            let documents = vec![DocumentState { hash: None, objects, notices: Vec::new() }];
            self.gone.insert(Arc::clone(file), File { documents, ..File::default() });
        }
    }

    /// What is to be said about the files, in order of their names: a block a file, which is the same as before where nothing of it changed.
    pub fn notices(&self) -> NoticeBlocks {
        let of_files = self.files.values().map(|file| &file.notices);
        of_files.chain(&self.contested_notices).filter(|block| !block.is_empty()).map(Arc::clone).collect()
    }

    fn write_contested_notices(&mut self) {
        if self.contested_notices.is_some() {
            return;
        }
        let notices = self.contested.iter().filter_map(|object| {
            let (first, others) = self.claims.get(object)?.split_first()?;
            let others: Vec<String> = others.iter().map(|file| word(file).to_string()).collect();
            let others = others.join(", ");
            Some(Notice::aside(format!("{others}: {object} is ignored: it is declared in {} too, whose name is first", word(first))))
        });
        self.contested_notices = Some(notices.collect());
    }

    fn refuse(&mut self, name: Arc<str>, reason: String) -> FileChange {
        let file = self.files.entry(Arc::clone(&name)).or_default();
        let consequence = if file.documents.is_empty() { "the file is not served" } else { "the file's last version keeps serving" };
        let refusal = Notice::refused(format!("{}{reason}; {consequence}", word(&name)));
        let others = file.notices.iter().skip(usize::from(file.refused)).cloned();
        let notices: Arc<[Notice]> = std::iter::once(refusal).chain(others).collect();
        if file.notices != notices {
            file.notices = notices;
        }
        file.refused = true;
        if !self.tells_unparsed {
            return FileChange::default();
        }
        let objects = file.documents.iter().flat_map(|document| &document.objects);
        let counted = objects.filter(|object| self.claims.get(*object).is_some_and(|files| files.first() == Some(&name)));
        let objects: Vec<ObjectRef> = counted.map(|object| ObjectRef::clone(object)).collect();
        let unparsed = (!objects.is_empty()).then(|| Change::Unparsed(Unparsed { file: Arc::clone(&name), objects }));
        FileChange { changes: unparsed.into_iter().collect(), ..FileChange::default() }
    }

    /// A file that was gone is there again: it declares what it declared, except what another file has declared in between. Returns the objects
    /// that nobody declared.
    fn bring_back(&mut self, name: &Arc<str>) -> Vec<ObjectRef> {
        let mut returned = Vec::new();
        let Some(mut file) = self.gone.remove(name) else { return returned };
        for document in &mut file.documents {
            // Another file may have declared another version in between, and may be gone again: all is parsed anew.
            document.hash = None;
            document.objects.retain(|object| !self.claims.contains_key(object));
            for object in &document.objects {
                self.claim(object, name);
                returned.push(ObjectRef::clone(object));
            }
        }
        self.files.insert(Arc::clone(name), file);
        returned
    }

    /// Parses the documents whose text is new.
    fn parse_file<'a>(&self, name: &'a Arc<str>, text: &'a str) -> Result<(Update<'a>, Vec<Notice>), String> {
        let old = self.files.get(name);
        let before = old.map_or(&[][..], |old| &old.documents);
        let nothing_to_lose = before.iter().all(|document| document.objects.is_empty());
        let known = by_hash(before);
        let texts = split::split(text);
        let mut update = Update { name, documents: Vec::with_capacity(texts.len()), only_new: false, fresh: HashMap::new(), texts };
        let mut notices = Vec::new();
        for (index, part) in update.texts.iter().enumerate() {
            let hash = xxh64(part.text.as_bytes(), 0);
            let source = match known.find(hash, |(known, _)| *known == hash) {
                Some((_, place)) => Source::Known(*place),
                None => Source::New(parse_new(name, part, hash, nothing_to_lose, index, &mut update.fresh)?),
            };
            let of_document = source.of(before).map_or(&[][..], |document| &document.notices);
            notices.extend(of_document.iter().map(|notice| notice.at(&format!("{}:{}", word(name), part.line))));
            update.documents.push(source);
        }
        update.only_new = old.is_some_and(|old| self.only_new_matter(old, &update));
        Ok((update, notices))
    }

    /// Whether the known documents declare what they declared, whatever their order: no object is declared twice, neither before nor now.
    fn only_new_matter(&self, old: &File, update: &Update<'_>) -> bool {
        // A notice may be about an object that is declared twice, and it names a line, which may have moved.
        if old.notices.len() > usize::from(old.refused) {
            return false;
        }
        let mut gone = vec![true; old.documents.len()];
        for source in &update.documents {
            if let Source::Known(place) = source
                && let Some(gone) = gone.get_mut(*place)
                && !std::mem::take(gone)
            {
                return false;
            }
        }
        let gone = old.documents.iter().zip(gone).filter(|(_, gone)| *gone);
        let gone: HashSet<_> = gone.flat_map(|(document, _)| &document.objects).collect();
        let new =
            update.documents.iter().filter_map(|source| if let Source::New(document) = source { Some(&document.objects) } else { None });
        let is_claimed = |object: &Arc<ObjectRef>| self.claims.get(object).is_some_and(|files| files.contains(update.name));
        new.flatten().all(|object| gone.contains(object) || !is_claimed(object))
    }

    /// Takes the new version of a file in.
    fn replace(&mut self, mut update: Update<'_>, mut notices: Vec<Notice>) -> FileChange {
        let mut change = FileChange::default();
        let before_it = self.files.remove(update.name).unwrap_or_default();
        if before_it.refused && self.tells_unparsed {
            change.changes.push(parsed_again(update.name));
        }
        let mut old = before_it.documents;
        // Which document of the file declared the object so far, by the hash of its text.
        let mut before: HashMap<Arc<ObjectRef>, Option<u64>> = HashMap::new();
        let mut documents = update.take_settled(&mut old);
        for document in &old {
            for object in &document.objects {
                before.entry(Arc::clone(object)).or_insert(document.hash);
            }
        }
        let mut seen: HashMap<Arc<ObjectRef>, usize> = HashMap::new();
        for index in 0..update.documents.len() {
            let Some(document) = update.documents.get(index).and_then(|source| source.of(&old)) else { continue };
            let (hash, objects) = (document.hash, document.objects.clone());
            for (position, object) in objects.into_iter().enumerate() {
                let line = update.texts.get(index).map_or(0, |part| part.line);
                if let Some(first) = seen.get(&object) {
                    notices.push(Notice::aside(format!(
                        "{}:{line}: {object} is ignored: it is declared in line {first} of the file too",
                        word(update.name)
                    )));
                    continue;
                }
                seen.insert(Arc::clone(&object), line);
                let unchanged = before.remove(&object).is_some_and(|old| old.is_some() && old == hash);
                let first = self.claim(&object, update.name);
                if first && !unchanged {
                    change.changes.extend(update.change(index, position));
                }
            }
        }
        for object in before.into_keys() {
            self.unclaim(&object, update.name, &mut change);
        }
        let only_new = update.only_new;
        documents.extend(update.documents.into_iter().filter_map(|source| match source {
            Source::Known(_) if only_new => None,
            Source::Known(place) => old.get(place).cloned(),
            Source::New(document) => Some(document),
        }));
        documents.shrink_to_fit();
        let notices = if *before_it.notices == *notices { before_it.notices } else { notices.into() };
        self.files.insert(Arc::clone(update.name), File { documents, notices, refused: false });
        change
    }

    /// The file declares the object; whether its version counts.
    fn claim(&mut self, object: &Arc<ObjectRef>, name: &Arc<str>) -> bool {
        let files = self.claims.entry(Arc::clone(object)).or_default();
        if let Err(place) = files.binary_search(name) {
            files.insert(place, Arc::clone(name));
            if files.len() > 1 {
                self.contested.insert(Arc::clone(object));
                self.contested_notices = None;
            }
        }
        files.first() == Some(name)
    }

    /// The file no longer declares the object.
    fn unclaim(&mut self, object: &Arc<ObjectRef>, name: &Arc<str>, change: &mut FileChange) {
        let Some(files) = self.claims.get_mut(object) else { return };
        let counted = files.first() == Some(name);
        if files.len() > 1 {
            self.contested_notices = None;
        }
        files.retain(|file| file != name);
        if files.len() < 2 {
            self.contested.remove(object);
        }
        match files.first().cloned() {
            None => {
                self.claims.remove(object);
                change.changes.push(Change::Delete(ObjectRef::clone(object)));
            }
            Some(next) if counted => {
                // The other file's version was not kept: it is parsed again when the file is handed in again.
                let documents = self.files.get_mut(&next).into_iter().flat_map(|file| &mut file.documents);
                documents.filter(|document| document.objects.contains(object)).for_each(|document| document.hash = None);
                change.reread.insert(next);
            }
            Some(_) => {}
        }
    }
}

/// The file can be parsed again, or is gone.
fn parsed_again(file: &Arc<str>) -> Change {
    Change::Unparsed(Unparsed { file: Arc::clone(file), objects: Vec::new() })
}

/// Places of documents by the hash of their text.
fn by_hash(documents: &[DocumentState]) -> HashTable<(u64, usize)> {
    let mut places = HashTable::with_capacity(documents.len());
    for (place, document) in documents.iter().enumerate() {
        if let Some(hash) = document.hash {
            places.insert_unique(hash, (hash, place), |(hash, _)| *hash);
        }
    }
    places
}

/// Parses a document of a file; `index` is its place.
///
/// # Errors
/// Where and why the file is refused.
fn parse_new(
    name: &str,
    part: &split::Part<'_>,
    hash: u64,
    nothing_to_lose: bool,
    index: usize,
    fresh: &mut HashMap<(usize, usize), Change>,
) -> Result<DocumentState, String> {
    match parse::parse(part.text, &format!("{}:{}", word(name), part.line)) {
        Ok(parsed) => Ok(remember(hash, parsed, index, fresh)),
        // A stray document costs a file that nothing is served of only itself; in another one it may be an object that lost its name, or
        // its shape, by mistake.
        Err(error) if nothing_to_lose => {
            Ok(DocumentState { hash: None, objects: SmallVec::new(), notices: vec![Notice::refused(stray(part.line, error))] })
        }
        Err(error) => Err(refusal(part.line, &error)),
    }
}

// === impl Source ===

impl Source {
    /// The document; `old`: those of the version before.
    fn of<'a>(&'a self, old: &'a [DocumentState]) -> Option<&'a DocumentState> {
        match self {
            Self::Known(place) => old.get(*place),
            Self::New(document) => Some(document),
        }
    }
}

// === impl Update ===

impl Update<'_> {
    /// The documents that need no second look, taken out of the version before: empty ones stay in their places. Their order is of no matter.
    fn take_settled(&self, old: &mut [DocumentState]) -> Vec<DocumentState> {
        let mut settled = Vec::with_capacity(self.documents.len());
        for source in self.documents.iter().filter(|_| self.only_new) {
            if let Source::Known(place) = source
                && let Some(document) = old.get_mut(*place)
            {
                settled.push(std::mem::take(document));
            }
        }
        settled
    }

    /// The change that an object of a document makes: parsed just now, or parsed again where the document was known.
    fn change(&mut self, document: usize, position: usize) -> Option<Change> {
        if let Some(change) = self.fresh.remove(&(document, position)) {
            return Some(change);
        }
        let part = self.texts.get(document)?;
        let parsed = parse::parse(part.text, &format!("{}:{}", word(self.name), part.line)).ok()?;
        parsed.objects.into_iter().nth(position).map(|(_, change)| change)
    }
}

fn remember(hash: u64, parsed: Parsed, index: usize, fresh: &mut HashMap<(usize, usize), Change>) -> DocumentState {
    let mut objects = SmallVec::new();
    for (position, (object, change)) in parsed.objects.into_iter().enumerate() {
        objects.push(Arc::new(object));
        fresh.insert((index, position), change);
    }
    DocumentState { hash: Some(hash), objects, notices: parsed.notices }
}

/// What is said of a document that alone is left out.
fn stray(first_line: usize, error: Unparsable) -> String {
    if error.well_formed {
        return error.message.to_string();
    }
    let place = error.position.map(|(line, column)| format!(" (line {}, column {column})", first_line + line.saturating_sub(1)));
    format!("cannot be parsed{}: {}; this document is not served", place.unwrap_or_default(), error.message)
}
