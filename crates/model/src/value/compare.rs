//! Comparison of a value with the constant of a search expression, by type (TR-369 §2.5.4).

use std::cmp::Ordering;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Type, UNKNOWN_TIME, canonical_decimal, canonical_list, digits, list_items, unescape};
use crate::{
    error::CompareError,
    path::{Constant, Operator},
};

/// Whether `text operator constant` holds for a value of type `ty` in canonical form.
pub(crate) fn compare(
    ty: Type,
    text: &str,
    operator: Operator,
    constant: &Constant,
) -> Result<bool, CompareError> {
    let misfit = || CompareError::Operator {
        operator,
        ty: ty.name(),
    };
    if let Type::List(list) = ty {
        return match operator {
            Operator::Contains => {
                let wanted = constant_of(list.item, constant)?;
                Ok(list_items(text).any(|item| match list.item {
                    Type::String { .. } | Type::Enum(_) => unescape(item) == wanted.as_str(),
                    _ => item == wanted,
                }))
            }
            Operator::Equal | Operator::NotEqual => {
                let wanted =
                    canonical_list(list, &constant.text()).map_err(|_| CompareError::Constant {
                        constant: constant.to_string(),
                        ty: "list",
                    })?;
                Ok((text == wanted) == (operator == Operator::Equal))
            }
            _ => Err(misfit()),
        };
    }
    if operator == Operator::Contains {
        return Err(misfit());
    }
    let wanted = constant_of(ty, constant)?;
    let order = match ty {
        Type::Int | Type::IntIn(..) | Type::Long | Type::LongIn(..) => {
            order(text, &wanted, |t| t.parse::<i64>().ok())
        }
        Type::UnsignedInt
        | Type::UnsignedIntIn(..)
        | Type::UnsignedLong
        | Type::UnsignedLongIn(..) => order_unsigned(text, &wanted),
        Type::Decimal => Some(order_decimal(text, &wanted)),
        Type::DateTime | Type::LocalDateTime => {
            let unknown = text == UNKNOWN_TIME || wanted == UNKNOWN_TIME;
            if unknown && !matches!(operator, Operator::Equal | Operator::NotEqual) {
                // A parameter without a time is neither before nor after one; asking for it is wrong.
                if wanted == UNKNOWN_TIME {
                    return Err(misfit());
                }
                return Ok(false);
            }
            order(text, &wanted, |t| OffsetDateTime::parse(t, &Rfc3339).ok())
        }
        _ => {
            return match operator {
                Operator::Equal => Ok(text == wanted),
                Operator::NotEqual => Ok(text != wanted),
                _ => Err(misfit()),
            };
        }
    };
    Ok(order.is_some_and(|order| match operator {
        Operator::Equal => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Less => order == Ordering::Less,
        Operator::LessEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        Operator::GreaterEqual => order != Ordering::Less,
        Operator::Contains => false,
    }))
}

/// The constant's canonical text in `ty`. A number beyond the type's range still compares.
fn constant_of(ty: Type, constant: &Constant) -> Result<String, CompareError> {
    let wrong = || CompareError::Constant {
        constant: constant.to_string(),
        ty: ty.name(),
    };
    let quoted = matches!(constant, Constant::Quoted(_));
    let text = constant.text();
    match ty {
        Type::String { .. } | Type::Enum(_) => quoted.then(|| text.into_owned()).ok_or_else(wrong),
        Type::Reference(_) => {
            let text = quoted.then_some(text).ok_or_else(wrong)?;
            Ok(text.strip_suffix('.').unwrap_or(&text).to_owned())
        }
        Type::Boolean if quoted => Err(wrong()),
        Type::Base64 { .. } => Type::BASE64.canonical(&text).map_err(|_| wrong()),
        Type::HexBinary { .. } => Type::HEX.canonical(&text).map_err(|_| wrong()),
        Type::Boolean | Type::DateTime | Type::LocalDateTime | Type::Decimal => {
            ty.canonical(&text).map_err(|_| wrong())
        }
        Type::List(_) => Err(wrong()),
        _ => {
            digits(&text).ok_or_else(wrong)?;
            canonical_decimal(&text).ok_or_else(wrong)
        }
    }
}

fn order<T: Ord>(left: &str, right: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Ordering> {
    match (parse(left), parse(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => Some(order_decimal(left, right)),
    }
}

fn order_unsigned(left: &str, right: &str) -> Option<Ordering> {
    order(left, right, |t| t.parse::<u64>().ok())
}

/// Orders two canonical decimals of any length.
fn order_decimal(left: &str, right: &str) -> Ordering {
    let (left_negative, right_negative) = (left.starts_with('-'), right.starts_with('-'));
    match (left_negative, right_negative) {
        (true, false) => return Ordering::Less,
        (false, true) => return Ordering::Greater,
        _ => {}
    }
    let parts = |text: &str| {
        let bare = text.strip_prefix('-').unwrap_or(text).to_owned();
        let (whole, fraction) = bare.split_once('.').unwrap_or((&bare, ""));
        (whole.len(), whole.to_owned(), fraction.to_owned())
    };
    let magnitude = parts(left).cmp(&parts(right));
    if left_negative {
        magnitude.reverse()
    } else {
        magnitude
    }
}
