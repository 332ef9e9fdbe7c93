//! Data-model paths as a person types them: `PATH=VALUE` taken apart.

use homefleet_api::{ParamSetting, SetObject};

use crate::failure::Failure;

/// Settings grouped by object, in the order given: one USP Set for all of them.
pub(crate) fn settings(assignments: &[String]) -> Result<Vec<SetObject>, Failure> {
    let mut objects: Vec<SetObject> = Vec::new();
    for assignment in assignments {
        let (path, value) = assigned(assignment)?;
        let (object, name) = split_parameter(path)?;
        let param = ParamSetting {
            name: name.to_owned(),
            value: value.to_owned(),
            required: true,
        };
        match objects.iter_mut().find(|known| known.path == object) {
            Some(known) => known.params.push(param),
            None => objects.push(SetObject {
                path: object.to_owned(),
                params: vec![param],
            }),
        }
    }
    Ok(objects)
}

/// `NAME=VALUE` pairs, for arguments of commands and parameters of new objects.
pub(crate) fn pairs(arguments: &[String]) -> Result<Vec<(String, String)>, Failure> {
    arguments
        .iter()
        .map(|text| assigned(text).map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// An object path, with the trailing dot that a person may leave out.
pub(crate) fn object(path: &str) -> String {
    if path.ends_with('.') {
        path.to_owned()
    } else {
        format!("{path}.")
    }
}

/// Splits at the first `=` outside a search expression (`[Alias=="lan"]`).
fn assigned(text: &str) -> Result<(&str, &str), Failure> {
    outside_brackets(text)
        .find(|&(_, c)| c == '=')
        .filter(|&(at, _)| at > 0)
        .map(|(at, _)| (&text[..at], &text[at + 1..]))
        .ok_or_else(|| Failure::Usage(format!("`{text}` is not of the form NAME=VALUE")))
}

/// Splits a parameter path into its object path, with the dot, and the parameter's name.
fn split_parameter(path: &str) -> Result<(&str, &str), Failure> {
    outside_brackets(path)
        .filter(|&(_, c)| c == '.')
        .last()
        .map(|(at, _)| path.split_at(at + 1))
        .filter(|(_, name)| !name.is_empty())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "`{path}` is not the path of a parameter, such as Device.DeviceInfo.ProvisioningCode"
            ))
        })
}

/// The characters that are not inside `[…]`; a bracket inside a quoted text of an expression does not count.
fn outside_brackets(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut depth = 0_usize;
    let mut quoted = false;
    text.char_indices().filter(move |&(_, c)| {
        match c {
            '"' if depth > 0 => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_of_one_object_travel_together_in_their_order() {
        let objects = settings(&[
            "Device.Time.NTPServer1=a".to_owned(),
            "Device.DeviceInfo.ProvisioningCode=b=c".to_owned(),
            "Device.Time.NTPServer2=".to_owned(),
        ])
        .unwrap();
        let flat: Vec<_> = objects
            .iter()
            .flat_map(|object| {
                object
                    .params
                    .iter()
                    .map(|param| format!("{}|{}|{}", object.path, param.name, param.value))
            })
            .collect();
        assert_eq!(
            flat,
            [
                "Device.Time.|NTPServer1|a",
                "Device.Time.|NTPServer2|",
                "Device.DeviceInfo.|ProvisioningCode|b=c"
            ]
        );
    }

    #[test]
    fn a_search_expression_may_hold_equals_signs_dots_and_brackets() {
        let objects =
            settings(&[r#"Device.IP.Interface.[Alias=="a.b]"&&X.Y==1].Enable=true"#.to_owned()])
                .unwrap();
        assert_eq!(
            objects[0].path,
            r#"Device.IP.Interface.[Alias=="a.b]"&&X.Y==1]."#
        );
        assert_eq!(objects[0].params[0].name, "Enable");
        assert_eq!(objects[0].params[0].value, "true");
    }

    #[test]
    fn what_is_not_an_assignment_is_a_usage_error() {
        for text in ["Device.Time.Enable", "=x", "Enable=true", "Device.Time.=x"] {
            let error = settings(&[text.to_owned()]).unwrap_err();
            assert!(matches!(error, Failure::Usage(_)), "{text}");
        }
    }

    #[test]
    fn an_object_path_gets_its_dot() {
        assert_eq!(object("Device.IP"), "Device.IP.");
        assert_eq!(object("Device.IP."), "Device.IP.");
    }
}
