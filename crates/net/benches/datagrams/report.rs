//! The table, and the file a later run compares with.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// One measured value.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// The figures of this run, printed as they come.
pub(crate) struct Report {
    figures: Vec<Figure>,
    before: HashMap<String, f64>,
    file: PathBuf,
    json: bool,
}

impl Report {
    /// Figures of the bench of this name.
    pub(crate) fn new(name: &str, json: bool) -> Self {
        // Cargo's directory for temporary files of a target directory is in that directory.
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .unwrap()
            .join(format!("bench/{name}.json"));
        let before = std::fs::read_to_string(&file)
            .map(|text| parse(&text))
            .unwrap_or_default();
        let report = Self {
            figures: Vec::new(),
            before,
            file,
            json,
        };
        report.say(&format!(
            "{:<62} {:>12} {:<18} {:>12}",
            "", "", "", "the run before"
        ));
        report
    }

    /// A line that is no figure.
    pub(crate) fn say(&self, line: &str) {
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// A peer that is not there, or did not do what it should: said loudly, and the run goes on.
    pub(crate) fn missing(&self, what: &str) {
        eprintln!("\n*** MISSING: {what}: nothing to compare with ***\n");
        if std::env::var_os("CI").is_some() {
            eprintln!("*** CI is set: a missing peer is a failure ***");
            std::process::exit(1);
        }
    }

    /// One figure, under a name that is the same in every run.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &'static str) {
        let before = match self.before.get(name) {
            Some(before) => show(*before),
            None => String::new(),
        };
        self.say(&format!(
            "{name:<62} {:>12} {unit:<18} {before:>12}",
            show(value)
        ));
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit,
        });
    }

    /// Writes the file; what was not measured this time keeps its value in it.
    pub(crate) fn finish(self) {
        let mut values: Vec<(String, f64, &str)> = self
            .figures
            .iter()
            .map(|figure| (figure.name.clone(), figure.value, figure.unit))
            .collect();
        for (name, value) in &self.before {
            if !self.figures.iter().any(|figure| figure.name == *name) {
                values.push((name.clone(), *value, ""));
            }
        }
        values.sort_by(|one, other| one.0.cmp(&other.0));
        let lines: Vec<String> = values
            .iter()
            .map(|(name, value, _)| format!("  \"{name}\": {value}"))
            .collect();
        let mut text = String::new();
        writeln!(text, "{{\n{}\n}}", lines.join(",\n")).unwrap();
        std::fs::create_dir_all(self.file.parent().unwrap()).unwrap();
        std::fs::write(&self.file, &text).unwrap();
        if self.json {
            print!("{text}");
        } else {
            println!("kept for the next run: {}", self.file.display());
        }
    }
}

fn show(value: f64) -> String {
    if value.abs() >= 1000.0 || (value.fract() == 0.0 && value.abs() >= 10.0) {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Our own file: one `"name": value` a line.
fn parse(text: &str) -> HashMap<String, f64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line
                .trim()
                .trim_end_matches(',')
                .strip_prefix('"')?
                .split_once("\": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}
