//! Error codes.

use homefleet_usp::ErrorCode;

#[test]
fn codes_have_the_names_of_the_standard() {
    assert_eq!(ErrorCode::ALL.len(), 32 + 7);
    let numbers: Vec<u32> = ErrorCode::ALL.iter().map(|code| code.0).collect();
    assert_eq!(
        numbers,
        (7000..=7031).chain(7100..=7106).collect::<Vec<_>>()
    );
    for (code, shown) in [
        (7004, "7004 Invalid arguments"),
        (7025, "7025 Object exists with duplicate key"),
        (7104, "7104 Invalid Record value"),
        (7150, "7150 USP Record error"),
        (7200, "7200 Data model defined error"),
        (7800, "7800 Vendor defined error"),
        (9, "9 Unknown error"),
    ] {
        assert_eq!(ErrorCode(code).to_string(), shown);
    }
}
