//! TR-106 types, canonical text and comparison.

use std::time::{Duration, SystemTime};

use homefleet_model::{
    path::{Constant, Operator, Path, Segment},
    value::{
        CompareError, INFINITE_TIME, MAX_TEXT, Strength, Type, UNKNOWN_TIME, Value, ValueError,
        date_time, list, list_items, system_time,
    },
};
use proptest::prelude::*;

use crate::fixture::{NUMBERS, STRINGS, STRONG};

#[test]
fn each_type_has_one_canonical_form() {
    for (ty, text, canonical) in [
        (Type::Boolean, "1", "true"),
        (Type::Boolean, "0", "false"),
        (Type::Boolean, "true", "true"),
        (Type::Int, "+0123", "123"),
        (Type::Int, "-2147483648", "-2147483648"),
        (Type::Int, "-0", "0"),
        (Type::IntIn(-1, 5), "05", "5"),
        (Type::UnsignedInt, "4294967295", "4294967295"),
        (Type::Long, "-9223372036854775808", "-9223372036854775808"),
        (
            Type::UnsignedLong,
            "18446744073709551615",
            "18446744073709551615",
        ),
        (Type::Decimal, "+010.500", "10.5"),
        (Type::Decimal, "-.0", "0"),
        (Type::Decimal, "-00.25", "-0.25"),
        (
            Type::DateTime,
            "2021-06-06T08:00:00Z",
            "2021-06-06T08:00:00Z",
        ),
        (
            Type::DateTime,
            "2021-06-06T10:00:00+02:00",
            "2021-06-06T08:00:00Z",
        ),
        (
            Type::DateTime,
            "2021-06-06T08:00:00.250Z",
            "2021-06-06T08:00:00.25Z",
        ),
        (
            Type::DateTime,
            "2021-06-06T08:00:00",
            "2021-06-06T08:00:00Z",
        ),
        (Type::DateTime, UNKNOWN_TIME, UNKNOWN_TIME),
        (Type::DateTime, INFINITE_TIME, INFINITE_TIME),
        (
            Type::LocalDateTime,
            "2021-06-06T10:00:00+02:00",
            "2021-06-06T10:00:00+02:00",
        ),
        (
            Type::LocalDateTime,
            "2021-06-06T10:00:00+00:00",
            "2021-06-06T10:00:00Z",
        ),
        (Type::HEX, "0aFf", "0AFF"),
        (Type::HexBinary { max: Some(2) }, "", ""),
        (Type::BASE64, "aGVs\n bG8=", "aGVsbG8="),
        (Type::Enum(&["Up", "Down"]), "Down", "Down"),
        (Type::List(&NUMBERS), " 1, 02 ,+3", "1,2,3"),
        (Type::List(&NUMBERS), " ", ""),
        (Type::List(&STRINGS), "a , b%2Cc", "a,b%2Cc"),
        (
            Type::Reference(Strength::Weak),
            "Device.IP.Interface.1.",
            "Device.IP.Interface.1",
        ),
        (
            Type::List(&STRONG),
            "Device.A.1., Device.A.2",
            "Device.A.1,Device.A.2",
        ),
        (Type::string(3), "äöü", "äöü"),
    ] {
        assert_eq!(
            ty.canonical(text).as_deref(),
            Ok(canonical),
            "{ty:?} {text:?}"
        );
    }
}

#[test]
fn text_of_another_type_is_7011_and_a_value_outside_its_facets_7012() {
    for (ty, text, code) in [
        (Type::Boolean, "yes", 7011),
        (Type::Boolean, "TRUE", 7011),
        (Type::Int, "1.0", 7011),
        (Type::Int, "", 7011),
        (Type::Int, "2147483648", 7011),
        (Type::IntIn(0, 5), "6", 7012),
        (Type::LongIn(0, 5), "-1", 7012),
        (Type::UnsignedInt, "-1", 7011),
        (Type::UnsignedIntIn(64, 65535), "63", 7012),
        (Type::UnsignedLongIn(1, 2), "0", 7012),
        (Type::UnsignedLong, "18446744073709551616", 7011),
        (Type::Decimal, ".", 7011),
        (Type::Decimal, "1e3", 7011),
        (Type::DateTime, "yesterday", 7011),
        (Type::DateTime, "2021-06-06 08:00:00Z", 7011),
        (Type::DateTime, "2021-02-30T08:00:00Z", 7011),
        (Type::DateTime, "2021-06-06", 7011),
        (Type::HEX, "abc", 7011),
        (Type::HexBinary { max: Some(1) }, "abcd", 7012),
        (Type::BASE64, "a", 7011),
        (Type::Base64 { max: Some(4) }, "aGVsbG8=", 7012),
        (Type::Enum(&["Up", "Down"]), "up", 7012),
        (Type::List(&NUMBERS), "1,x", 7011),
        (Type::List(&NUMBERS), "1,2,3,4,5", 7012),
        (Type::Reference(Strength::Weak), "no path", 7012),
        (Type::Reference(Strength::Weak), "Device.Two..", 7012),
        (Type::Reference(Strength::Weak), "Device.Two.1.Ref+.", 7012),
        (Type::string(2), "abc", 7012),
    ] {
        assert_eq!(
            ty.canonical(text).map_err(|error| error.code()),
            Err(code),
            "{ty:?} {text:?}"
        );
    }
    assert!(matches!(
        Type::STRING.canonical(&"x".repeat(MAX_TEXT + 1)),
        Err(ValueError::Value { .. })
    ));
}

/// Compares with the constant as a search expression writes it.
fn compare(ty: Type, text: &str, comparison: &str) -> Result<bool, CompareError> {
    let path = Path::parse(&format!("Device.T.[P{comparison}].")).unwrap();
    let Some(Segment::Search(conditions)) = path.segments().last() else {
        panic!("{path}")
    };
    Value::new(ty, text)
        .unwrap()
        .compare(conditions[0].operator, &conditions[0].constant)
}

#[test]
fn comparison_is_by_type_not_by_text() {
    for (ty, text, comparison) in [
        (Type::Int, "123", "==+123"),
        (Type::Int, "123", "==0123"),
        (Type::Int, "9", "<10"),
        (Type::Int, "-10", "<-9"),
        (Type::Int, "5", "<99999999999999999999"),
        (
            Type::UnsignedLong,
            "18446744073709551615",
            ">=18446744073709551615",
        ),
        (Type::UnsignedInt, "10", ">\"9\""),
        (Type::Decimal, "10.5", ">9.75"),
        (Type::Decimal, "-1.5", "<-1.25"),
        (Type::Boolean, "true", "==1"),
        (Type::Boolean, "true", "!=false"),
        (
            Type::DateTime,
            "2021-06-06T08:00:00Z",
            "==2021-06-06T10:00:00+02:00",
        ),
        (
            Type::DateTime,
            "2021-06-06T08:00:00Z",
            "<2021-06-06T08:00:01Z",
        ),
        (Type::DateTime, UNKNOWN_TIME, "==0001-01-01T00:00:00Z"),
        (
            Type::LocalDateTime,
            "2021-06-06T10:00:00+02:00",
            "==2021-06-06T08:00:00Z",
        ),
        (Type::HEX, "08", "==08"),
        (Type::STRING, "a\"%", "==\"a%22%25\""),
        (Type::STRING, "9", "!=\"09\""),
        (Type::Enum(&["Up"]), "Up", "==\"Up\""),
        (
            Type::List(&STRINGS),
            "IPv4,IPv6Firewall",
            "~=\"IPv6Firewall\"",
        ),
        (Type::List(&STRINGS), "a%2Cb,c", "~=\"a,b\""),
        (Type::List(&NUMBERS), "3,5", "~=5"),
        (
            Type::Reference(Strength::Weak),
            "Device.A.1",
            "==\"Device.A.1.\"",
        ),
    ] {
        assert_eq!(
            compare(ty, text, comparison),
            Ok(true),
            "{ty:?} {text} {comparison}"
        );
    }
    for (ty, text, comparison) in [
        (Type::List(&STRINGS), "IPv6Firewall2", "~=\"IPv6Firewall\""),
        (Type::List(&STRINGS), "", "~=\"\""),
        (Type::DateTime, UNKNOWN_TIME, "<2021-06-06T08:00:01Z"),
        (Type::Int, "10", "<9"),
    ] {
        assert_eq!(
            compare(ty, text, comparison),
            Ok(false),
            "{ty:?} {text} {comparison}"
        );
    }
}

#[test]
fn an_operator_or_constant_of_another_type_is_an_error() {
    for (ty, text, comparison) in [
        (Type::STRING, "a", "<\"b\""),
        (Type::STRING, "a", "~=\"a\""),
        (Type::STRING, "5", "==5"),
        (Type::Boolean, "true", ">=1"),
        (Type::Boolean, "true", "==\"true\""),
        (Type::Boolean, "true", "==2"),
        (Type::Int, "5", "==true"),
        (Type::Int, "5", "~=5"),
        (Type::Enum(&["Up"]), "Up", ">\"Up\""),
        (Type::HEX, "08", "<09"),
        (Type::List(&NUMBERS), "5", "<5"),
        (Type::List(&NUMBERS), "5", "~=\"x\""),
        (Type::DateTime, "2021-06-06T08:00:00Z", "<yesterday"),
        (
            Type::DateTime,
            "2021-06-06T08:00:00Z",
            "<0001-01-01T00:00:00Z",
        ),
    ] {
        assert!(
            compare(ty, text, comparison).is_err(),
            "{ty:?} {text} {comparison}"
        );
    }
}

#[test]
fn times_are_shown_in_utc() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_622_966_400);
    assert_eq!(date_time(time), "2021-06-06T08:00:00Z");
    assert_eq!(system_time("2021-06-06T08:00:00Z"), Some(time));
    assert_eq!(system_time(UNKNOWN_TIME), None);
    assert_eq!(
        date_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50)),
        UNKNOWN_TIME
    );
}

#[test]
fn lists_escape_their_separator() {
    let text = list(["a,b", "100%", "c"]);
    assert_eq!(text, "a%2Cb,100%25,c");
    assert_eq!(
        list_items(&text).collect::<Vec<_>>(),
        ["a%2Cb", "100%25", "c"]
    );
    assert_eq!(list_items("").count(), 0);
}

#[test]
fn the_zero_of_every_type_is_a_value_of_it() {
    for ty in [
        Type::BASE64,
        Type::Boolean,
        Type::DateTime,
        Type::Decimal,
        Type::Enum(&["Up"]),
        Type::HEX,
        Type::Int,
        Type::IntIn(3, 5),
        Type::List(&NUMBERS),
        Type::Long,
        Type::LongIn(-5, -3),
        Type::Reference(Strength::Strong),
        Type::STRING,
        Type::UnsignedInt,
        Type::UnsignedIntIn(64, 128),
        Type::UnsignedLong,
    ] {
        assert_eq!(
            ty.canonical(&ty.zero()).as_deref(),
            Ok(&*ty.zero()),
            "{ty:?}"
        );
    }
}

proptest! {
    #[test]
    fn decimals_are_ordered_as_numbers(left in -1_000_000_i64..1_000_000, right in -1_000_000_i64..1_000_000) {
        let text = |number: i64| format!("{}{}.{:03}", if number < 0 { "-" } else { "" }, number.abs() / 1000, number.abs() % 1000);
        let value = Value::new(Type::Decimal, &text(left)).unwrap();
        let less = value.compare(Operator::Less, &Constant::Bare(text(right))).unwrap();
        prop_assert_eq!(less, left < right);
    }

    #[test]
    fn canonical_text_is_canonical(text in "[ -~]{0,20}") {
        for ty in [Type::Decimal, Type::DateTime, Type::BASE64, Type::HEX, Type::Long, Type::List(&NUMBERS), Type::List(&STRINGS)] {
            if let Ok(canonical) = ty.canonical(&text) {
                prop_assert_eq!(ty.canonical(&canonical), Ok(canonical.clone()));
            }
        }
    }
}
