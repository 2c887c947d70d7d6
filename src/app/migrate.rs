//! `clingfish migrate`: reads an export or manifests, writes the outcome of the migration, and tells what is lost.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::base::ObjectName;
use crate::cli::{MigrateArgs, MigrateFrom, MigrateGlooArgs, MigrateOthersArgs};
use crate::controller::{Notice, read_documents};
use crate::migrate::{Migration, MigrationOptions, OtherOptions, OutputFile, Step, migrate, migrate_others};

use super::{error::CommandError, verdict::Verdict};

/// Migrates. What is told goes to `out`, unless the objects themselves do.
pub(super) fn run(arguments: &MigrateArgs, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let (read, migration, to) = match &arguments.from {
        Some(MigrateFrom::Gloo(arguments)) => {
            let options = gloo_options(arguments)?;
            let read = read_documents(&arguments.from)?;
            let migration = migrate(read.documents, &options);
            (read.notices, migration, &arguments.to)
        }
        None => {
            let options = other_options(&arguments.others)?;
            let from = arguments.others.from.as_deref().ok_or_else(|| CommandError::Message("expected a directory".to_owned()))?;
            let read = read_documents(from)?;
            (read.notices, migrate_others(read.documents, &options), &arguments.others.to)
        }
    };
    match &to.to {
        Some(directory) => {
            write_all(directory, &migration.files, to.force)?;
            tell(&read, &migration, Some(directory), out)?;
        }
        None => {
            for file in &migration.files {
                writeln!(out, "---\n# {}: {}", file.step.directory(), file.name)?;
                out.write_all(yaml(file)?.as_bytes())?;
            }
            tell(&read, &migration, None, &mut io::stderr().lock())?;
        }
    }
    Ok(verdict(&read, &migration))
}

fn gloo_options(arguments: &MigrateGlooArgs) -> Result<MigrationOptions, CommandError> {
    check_name("--class", &arguments.to.class)?;
    check_name("--suffix", &arguments.suffix)?;
    Ok(MigrationOptions { class: arguments.to.class.as_str().into(), suffix: arguments.suffix.as_str().into() })
}

fn other_options(arguments: &MigrateOthersArgs) -> Result<OtherOptions, CommandError> {
    check_name("--class", &arguments.to.class)?;
    let expected = || CommandError::Message("--gateway: expected NAMESPACE/NAME".to_owned());
    let (namespace, name) = arguments.gateway.split_once('/').ok_or_else(expected)?;
    check_name("--gateway", namespace)?;
    check_name("--gateway", name)?;
    Ok(OtherOptions { class: arguments.to.class.as_str().into(), gateway: ObjectName::new(namespace, name) })
}

fn check_name(flag: &str, text: &str) -> Result<(), CommandError> {
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let message = || CommandError::Message(format!("{flag}: expected lower-case letters, digits, '-' and '.'"));
    (!text.is_empty() && is_name(text)).then_some(()).ok_or_else(message)
}

fn verdict(notices: &[Notice], migration: &Migration) -> Verdict {
    let unread = notices.iter().any(|notice| notice.refused);
    if unread || migration.is_refused() { Verdict::Rejected } else { Verdict::Accepted }
}

/// Writes the files. Nothing is written where that would overwrite something without leave.
fn write_all(directory: &Path, files: &[OutputFile], force: bool) -> Result<(), CommandError> {
    let before = leftovers(directory, &[]);
    if let Some(first) = before.first().filter(|_| !force) {
        let problem = format!("{} is there already; expected --force, or another directory for --to", first.display());
        return Err(CommandError::Message(problem));
    }
    for step in [Step::New, Step::Changed] {
        let path = directory.join(step.directory());
        fs::create_dir_all(&path).map_err(|error| at(&path, &error))?;
    }
    for file in files {
        let path = directory.join(file.step.directory()).join(&file.name);
        let text = yaml(file)?;
        let mut opened = open(&path, force).map_err(|error| at(&path, &error))?;
        opened.write_all(text.as_bytes()).map_err(|error| at(&path, &error))?;
    }
    Ok(())
}

/// A new file. With leave it takes the place of what has its name: nothing is written through a link, or into a FIFO.
fn open(path: &Path, force: bool) -> io::Result<File> {
    if force {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn at(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Message(format!("{}: {error}; expected a directory that can be written to", path.display()))
}

fn yaml(file: &OutputFile) -> Result<String, CommandError> {
    let text = serde_saphyr::to_string(&file.document);
    let mut text =
        text.map_err(|error| CommandError::Message(format!("{} cannot be shown as YAML: {error}; please report this", file.name)))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Files of the steps' directories that are not among these, in order.
fn leftovers(directory: &Path, files: &[OutputFile]) -> Vec<PathBuf> {
    let known: BTreeSet<PathBuf> = files.iter().map(|file| directory.join(file.step.directory()).join(&file.name)).collect();
    let steps = [Step::New, Step::Changed].into_iter().map(|step| directory.join(step.directory()));
    let found = steps.filter_map(|path| fs::read_dir(path).ok()).flatten().filter_map(|entry| Some(entry.ok()?.path()));
    found.filter(|path| !known.contains(path)).collect::<BTreeSet<_>>().into_iter().collect()
}

fn tell(notices: &[Notice], migration: &Migration, directory: Option<&Path>, out: &mut impl Write) -> io::Result<()> {
    for notice in notices {
        writeln!(out, "{}: {}", if notice.refused { "rejected" } else { "notice" }, notice.text)?;
    }
    for note in &migration.notes {
        writeln!(out, "{note}")?;
    }
    if let Some(directory) = directory {
        for path in leftovers(directory, &migration.files) {
            writeln!(out, "to do: {}: not of this run; take it away", path.display())?;
        }
    }
    let count = |step: Step| migration.files.iter().filter(|file| file.step == step).count();
    let written = format!("{} new, {} changed", count(Step::New), count(Step::Changed));
    match verdict(notices, migration) {
        Verdict::Accepted => writeln!(out, "{written}; nothing that guards is lost, and nothing is refused"),
        Verdict::Rejected => {
            writeln!(out, "{written}; mend what is marked `unguarded`, `refused` or `rejected` above before traffic moves")
        }
    }
}
