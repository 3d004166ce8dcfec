//! The layers of the settings, laid over each other by the crate `config`, and checked against the defaults' keys and types.
//!
//! The defaults are the schema: a key that they do not have is misspelt, a value of another kind than theirs is wrong.
//! `config` itself would let the one pass and convert the other.

use super::{BOUNDS, DEFAULT_TOML, Settings, SettingsError};
use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// What a variable of the environment begins with.
const PREFIX: &str = "LOCKSTEP__";
/// Where a value stands that nobody set.
const DEFAULTS: &str = "the built-in defaults";

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flag,
    Number,
    Text,
    Texts,
}

/// A value and where it stands: a file, a variable, or the defaults.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) kind: ValueKind,
    pub(super) origin: String,
}

/// All settings by their dotted keys, the last layer's on top.
#[derive(Debug)]
pub(super) struct Layers {
    values: BTreeMap<String, Placed>,
    config: Config,
}

/// A variable of ours, as text. One that is no text keeps its broken value visible, and fails as what it is.
pub(super) fn variable((name, value): (OsString, OsString)) -> Option<(String, String)> {
    let name = name.into_string().ok()?;
    name.starts_with(PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
}

impl Layers {
    pub(super) fn read(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let defaults = File::from_str(DEFAULT_TOML, FileFormat::Toml);
        let mut builder = Config::builder().add_source(defaults.clone());
        let mut values = layer(&defaults, DEFAULTS)?;
        let kinds = values.iter().map(|(key, placed)| (key.clone(), kind_of(&placed.kind))).collect();
        let schema = Schema { kinds };
        if let Some(path) = file {
            let origin = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|e| SettingsError::File { path: origin.clone(), reason: format!("cannot be read: {e}") })?;
            let source = File::from_str(&text, FileFormat::Toml);
            let over = layer(&source, &origin)?;
            over.iter().try_for_each(|(key, placed)| schema.check(key, placed))?;
            values.extend(over);
            builder = builder.add_source(source);
        }
        for (name, text) in variables {
            let (key, placed) = schema.variable(&name, &text)?;
            builder = builder.set_override(&key, placed.kind.clone()).map_err(|e| unexpected(&name, &e))?;
            values.insert(key, placed);
        }
        let config = builder.build().map_err(|e| unexpected("the settings", &e))?;
        Ok(Self { values, config })
    }

    /// The value of a key and where it stands. A key of the defaults is always there.
    pub(super) fn get(&self, key: &str) -> Option<&Placed> {
        self.values.get(key)
    }

    /// A number by its key; 0 for what is no number, which the schema has refused before.
    pub(super) fn number(&self, key: &str) -> i64 {
        match self.get(key).map(|placed| &placed.kind) {
            Some(ValueKind::I64(number)) => *number,
            Some(_) | None => 0,
        }
    }

    /// A text by its key; empty for what is no text, which the schema has refused before.
    pub(super) fn text(&self, key: &str) -> &str {
        match self.get(key).map(|placed| &placed.kind) {
            Some(ValueKind::String(text)) => text,
            Some(_) | None => "",
        }
    }

    /// A list of texts by its key.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        match self.get(key).map(|placed| &placed.kind) {
            Some(ValueKind::Array(parts)) => parts.iter().filter_map(|part| part.clone().into_string().ok()).collect(),
            Some(_) | None => Vec::new(),
        }
    }

    /// Whether the value of a key is that of the built-in defaults.
    pub(super) fn is_default(&self, key: &str) -> bool {
        self.get(key).is_some_and(|placed| placed.origin == DEFAULTS)
    }

    /// Where the value of a key stands.
    pub(super) fn origin(&self, key: &str) -> String {
        self.get(key).map(|placed| placed.origin.clone()).unwrap_or_default()
    }

    pub(super) fn into_settings(self) -> Result<Settings, SettingsError> {
        self.config.try_deserialize().map_err(|e| unexpected("the settings", &e))
    }
}

/// What the checks before should have caught; `config`'s own words name the key.
fn unexpected(path: &str, error: &ConfigError) -> SettingsError {
    SettingsError::File { path: path.to_owned(), reason: error.to_string() }
}

/// A source's values by their dotted keys.
fn layer(source: &impl Source, origin: &str) -> Result<BTreeMap<String, Placed>, SettingsError> {
    let tables = source.collect().map_err(|e| SettingsError::File {
        path: origin.to_owned(),
        reason: format!("is no TOML: {}", e.to_string().trim_end()),
    })?;
    let mut values = BTreeMap::new();
    flatten(tables, "", origin, &mut values);
    Ok(values)
}

fn flatten(table: Map<String, Value>, prefix: &str, origin: &str, values: &mut BTreeMap<String, Placed>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => flatten(inner, &key, origin, values),
            kind => {
                values.insert(key, Placed { kind, origin: origin.to_owned() });
            }
        }
    }
}

fn kind_of(kind: &ValueKind) -> Option<Kind> {
    match kind {
        ValueKind::Boolean(_) => Some(Kind::Flag),
        ValueKind::I64(_) => Some(Kind::Number),
        ValueKind::String(_) => Some(Kind::Text),
        ValueKind::Array(parts) => {
            parts.iter().all(|part| matches!(part.kind, ValueKind::String(_))).then_some(Kind::Texts)
        }
        ValueKind::Nil
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)
        | ValueKind::Table(_) => None,
    }
}

/// The keys that there are, and what each must be: those of the defaults.
struct Schema {
    kinds: BTreeMap<String, Option<Kind>>,
}

impl Schema {
    /// Whether there is such a key, and this is a value for it.
    fn check(&self, key: &str, placed: &Placed) -> Result<(), SettingsError> {
        let is_table = self.kinds.keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
        if is_table {
            return match &placed.kind {
                ValueKind::Table(_) => Ok(()), // Empty, as flattening left it.
                found => Err(wrong_type(key, "a table", found, &placed.origin)),
            };
        }
        match self.kinds.get(key) {
            None => Err(self.unknown(key, &placed.origin)),
            Some(kind) if *kind == kind_of(&placed.kind) => Ok(()),
            Some(kind) => Err(wrong_type(key, &expected(key, *kind), &placed.kind, &placed.origin)),
        }
    }

    /// What a variable sets.
    fn variable(&self, name: &str, text: &str) -> Result<(String, Placed), SettingsError> {
        let key = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase().replace("__", ".");
        let origin = format!("variable {name}");
        let Some(kind) = self.kinds.get(&key) else { return Err(self.unknown(&key, &origin)) };
        let parsed = match kind {
            Some(Kind::Number) => text.trim().parse().ok().map(ValueKind::I64),
            Some(Kind::Flag) => text.trim().parse().ok().map(ValueKind::Boolean),
            Some(Kind::Texts) => Some(ValueKind::Array(parts(text))),
            Some(Kind::Text) | None => Some(ValueKind::String(text.to_owned())),
        };
        let given = ValueKind::String(text.to_owned());
        match parsed {
            Some(kind) => Ok((key, Placed { kind, origin })),
            None => Err(wrong_type(&key, &expected(&key, *kind), &given, &origin)),
        }
    }

    fn unknown(&self, key: &str, origin: &str) -> SettingsError {
        let tables = self.kinds.keys().filter_map(|known| known.split('.').next());
        let known = self.kinds.keys().map(String::as_str).chain(tables);
        let nearest = known.min_by_key(|known| distance_by_part(key, known)).unwrap_or_default();
        SettingsError::UnknownKey { key: key.to_owned(), origin: origin.to_owned(), hint: nearest.to_owned() }
    }
}

fn parts(text: &str) -> Vec<Value> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Value::new(None, ValueKind::String(part.to_owned()))).collect()
}

fn wrong_type(key: &str, expected: &str, found: &ValueKind, origin: &str) -> SettingsError {
    let found = match found {
        ValueKind::String(text) => format!("the text {text:?}"),
        ValueKind::Boolean(flag) => flag.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Nil | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "another type".to_owned(),
    };
    SettingsError::WrongType { key: key.to_owned(), origin: origin.to_owned(), expected: expected.to_owned(), found }
}

fn expected(key: &str, kind: Option<Kind>) -> String {
    let bound = BOUNDS.iter().find(|bound| bound.key == key);
    match kind {
        Some(Kind::Flag) => "true or false".to_owned(),
        Some(Kind::Number) => bound.map_or_else(|| "a whole number".to_owned(), |bound| bound.allowed()),
        Some(Kind::Text) => "a text".to_owned(),
        Some(Kind::Texts) | None => "a list of texts".to_owned(),
    }
}

/// How far apart two keys are: a misspelt name counts more than a table that is left out.
fn distance_by_part(wrong: &str, known: &str) -> usize {
    let split = |key: &str| key.rsplit_once('.').map_or((String::new(), key.to_owned()), |(t, n)| (t.into(), n.into()));
    let ((wrong_table, wrong_name), (table, name)) = (split(wrong), split(known));
    let named = if name.starts_with(&wrong_name) { 1 } else { distance(&wrong_name, &name) };
    2 * named.min(distance(&wrong_name, &name)) + distance(&wrong_table, &table)
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
