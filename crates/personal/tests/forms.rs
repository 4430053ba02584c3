//! Formats in which people write personal data, and numbers of support messages that are none.

use personal::mask;

#[test]
fn telephones_of_the_world_are_found_with_their_extension() {
    for number in [
        "+1 (415) 555-0132",
        "415/555-0132",
        "1-415-555-0132 ext. 77",
        "415.555.0132 extension 12",
        "001-415-555-0132x9",
        "+44 (0)20 7946 0958",
        "(020) 7946 0958",
        "(+44) 7700 900123",
        "0049 151 23456789",
        "089/123456",
        "+43 (0) 664 12345678",
        "06.12.34.56.78",
        "(11) 91234-5678",
        "11 91234-5678",
        "8 (912) 345-67-89",
        "8-912-345-67-89",
        "0(67)123-45-67",
        "1300 975 707",
        "138 1234 5678",
        "79 912 34 56",
        "612 34 56 78",
        "+358 40 123 4567",
    ] {
        assert_eq!(
            mask(&format!("Ann Smith, {number}, London")),
            "Ann Smith, [PHONE_NUMBER], London",
            "{number}"
        );
    }
    // Beside a word for telephones, or as all that is said, less is enough.
    for (text, masked) in [
        ("ring 6756508899 after 5", "ring [PHONE_NUMBER] after 5"),
        ("mijn nummer is 18594959", "mijn nummer is [PHONE_NUMBER]"),
        ("llámame al 649 174 048", "llámame al [PHONE_NUMBER]"),
        ("98123456 is my mobile", "[PHONE_NUMBER] is my mobile"),
        ("4155550132 is the best number to reach me", "[PHONE_NUMBER] is the best number to reach me"),
        ("yes 662 463 907 thanks", "yes [PHONE_NUMBER] thanks"),
        ("9946 4570", "[PHONE_NUMBER]"),
        ("電話 98123456", "電話 [PHONE_NUMBER]"),
    ] {
        assert_eq!(mask(text), masked);
    }
}

#[test]
fn other_numbers_are_found_in_the_forms_people_write_them() {
    for (text, masked) in [
        ("my social is 324629046", "my social is [US_SSN]"),
        ("627089396 is my ssn", "[US_SSN] is my ssn"),
        ("148085596 (SSN)", "[US_SSN] (SSN)"),
        ("my order failed, I paid with 4111111111111111", "my order failed, I paid with [CREDIT_CARD]"),
        ("refund to 6011000990139424", "refund to [CREDIT_CARD]"),
        // Mistyped, and still somebody's.
        ("my card is 4111 1111 1111 1112", "my card is [CREDIT_CARD]"),
        ("IBAN: GB28 NWBK 6016 1331 9268 19", "IBAN: [IBAN]"),
        ("6799 9901 0000 0000 019 is it", "[CREDIT_CARD] is it"),
        ("ping ::ffff:192.0.2.128 fails", "ping [IP_ADDRESS] fails"),
        ("is it fe80::1ff:fe23:4567:890a%eth0?", "is it [IP_ADDRESS]?"),
        ("http://192.0.2.7/login", "http://[IP_ADDRESS]/login"),
        ("192.168.001.001", "[IP_ADDRESS]"),
        ("jean arobase exemple point fr", "[EMAIL_ADDRESS]"),
        ("anna@пример.xn--p1ai", "[EMAIL_ADDRESS]"),
    ] {
        assert_eq!(mask(text), masked);
    }
}

#[test]
fn numbers_of_ordinary_messages_stay() {
    for plain in [
        "order no. 816-1985322-2853058",
        "tracking 4553 6048 2754 1048 7629 25",
        "DHL 581454212472 still not here",
        "Bestellnummer 0123456789, Kundennummer 07700900123",
        "numéro de commande 0612345678",
        "the order is 0123456789",
        "call me about order 12345678",
        "opened 03/12/26 closed 05/12/26 1030",
        "I called on 05-12-26 10:30",
        "my zip is 02134-1234, or CEP 01310-100, or 01310100",
        "during the hotel stay in 2019 2020 2021",
        "total 345 678 901",
        "sizes 42 44 46 48",
        "cancel 12345678 points",
        "build 10.1.22.333 on Chrome/120.0.0.1",
        "I have tried 5 times at this point to pay",
        "it stops at the point of sale",
        "between 10::30 and 12:34:56",
    ] {
        assert_eq!(mask(plain), plain);
    }
}
