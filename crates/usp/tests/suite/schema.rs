//! Our `.proto` files against the field table of the standard (R-ENC.0, R-ENC.1, R-MSG.5).

use std::collections::BTreeSet;

/// `message kind label type name number oneof` of every line of a `.proto` file of ours.
fn fields(proto: &str) -> BTreeSet<String> {
    let mut scope: Vec<(String, &str)> = Vec::new();
    let mut found = BTreeSet::new();
    for line in proto.lines().map(str::trim) {
        let words: Vec<&str> = line
            .split([' ', ';'])
            .filter(|word| !word.is_empty())
            .collect();
        let path = |scope: &[(String, &str)], kind: &str| {
            let names: Vec<&str> = scope
                .iter()
                .filter(|(_, k)| k != &kind)
                .map(|(name, _)| name.as_str())
                .collect();
            names.join(".")
        };
        match words.as_slice() {
            [kind @ ("message" | "enum" | "oneof"), name, rest @ ..] => {
                scope.push(((*name).to_owned(), kind));
                if rest == ["{}"] {
                    scope.pop();
                }
            }
            ["}"] => {
                scope.pop();
            }
            _ if !line.contains('=') || scope.is_empty() => {}
            _ => {
                let (left, number) = line.trim_end_matches(';').split_once(" = ").unwrap();
                let (mut ty, name) = left.rsplit_once(' ').unwrap_or(("", left));
                let mut label = "";
                if let Some(repeated) = ty.strip_prefix("repeated ") {
                    (label, ty) = ("repeated", repeated);
                }
                let (inside, kind) = scope.last().unwrap();
                let oneof = if *kind == "oneof" {
                    inside.as_str()
                } else {
                    ""
                };
                let what = if *kind == "enum" {
                    "enum value"
                } else {
                    "field"
                };
                found.insert(format!(
                    "{}\t{what}\t{label}\t{ty}\t{name}\t{number}\t{oneof}",
                    path(&scope, "oneof")
                ));
            }
        }
    }
    found
}

#[test]
fn our_schema_has_every_field_of_the_standard_and_no_other() {
    let ours: BTreeSet<String> = [
        include_str!("../../proto/record.proto"),
        include_str!("../../proto/msg.proto"),
    ]
    .iter()
    .flat_map(|text| fields(text))
    .collect();
    let theirs: BTreeSet<String> = include_str!("../data/fields.tsv")
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = theirs.difference(&ours).collect();
    let other: Vec<&String> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && other.is_empty(),
        "missing {missing:?}, other {other:?}"
    );
    assert!(ours.len() > 250, "{}", ours.len());
}
