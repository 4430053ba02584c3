//! Check digits of numbers that carry them.

/// Whether digits 0..=9 pass the Luhn test (ISO/IEC 7812-1).
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match u32::from(*digit) * if at % 2 == 1 { 2 } else { 1 } {
            double @ 10.. => double - 9,
            single => single,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether digits start and end like a payment card: issuer prefix, length and Luhn.
pub(crate) fn card(digits: &[u8]) -> bool {
    let lead =
        |places: usize| digits.iter().take(places).fold(0_u32, |lead, digit| lead * 10 + u32::from(*digit));
    let issued = match (lead(1), digits.len()) {
        (4, 13 | 16 | 19) => true,
        (2, 16) => (2221..=2720).contains(&lead(4)) || (2200..=2204).contains(&lead(4)),
        (2, 17..=19) => (2200..=2204).contains(&lead(4)),
        (1 | 2, 15) => matches!(lead(4), 1800 | 2131),
        (3, 14) => matches!(lead(3), 300..=305 | 309) || matches!(lead(2), 36 | 38 | 39),
        (3, 15) => matches!(lead(2), 34 | 37),
        (3, 16..=19) => lead(2) == 35 || lead(2) == 36,
        (5, 16) if (51..=55).contains(&lead(2)) => true,
        // Maestro has many lengths.
        (5, 12..=19) => matches!(lead(2), 50 | 56..=58),
        (6, 16..=19) => true,
        (6, 12..=15) => lead(2) == 67 || matches!(lead(4), 6304 | 6390),
        // Maestro of the United Kingdom; RuPay and UnionPay; Troy.
        (0, 12..=19) => lead(4) == 604,
        (8, 16..=19) => matches!(lead(2), 81 | 82),
        (9, 16) => lead(4) == 9792,
        _ => false,
    };
    issued && luhn(digits)
}

/// Whether letters and digits pass the test of an IBAN (ISO 13616, remainder 97), moved and spelled out.
pub(crate) fn iban(chars: &[u8]) -> bool {
    if chars.len() < 5 {
        return false;
    }
    let remainder = chars[4..].iter().chain(&chars[..4]).try_fold(0_u32, |remainder, byte| {
        let value = char::from(*byte).to_digit(36)?;
        Some((remainder * if value > 9 { 100 } else { 10 } + value) % 97)
    });
    remainder == Some(1)
}

/// Length of an IBAN by country (SWIFT IBAN registry, release 98).
pub(crate) fn iban_length(country: &[u8]) -> Option<usize> {
    const LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20\
        EG29ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20\
        LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18\
        SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";
    let upper = country.to_ascii_uppercase();
    let found = LENGTHS.as_bytes().chunks_exact(4).find(|entry| entry.starts_with(&upper))?;
    Some(usize::from(found[2] - b'0') * 10 + usize::from(found[3] - b'0'))
}

/// Whether the weighted sum of digits is 0 modulo `modulus`.
fn weighted(digits: &[u8], weights: &[i32], modulus: i32) -> bool {
    digits.len() == weights.len()
        && digits.iter().zip(weights).map(|(digit, weight)| i32::from(*digit) * weight).sum::<i32>() % modulus
            == 0
}

/// Whether all digits are the same; no authority issues such a number.
fn uniform(digits: &[u8]) -> bool {
    digits.windows(2).all(|pair| pair[0] == pair[1])
}

/// British health service number (NHS data dictionary, modulus 11).
pub(crate) fn uk_nhs(digits: &[u8]) -> bool {
    weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 11) && !uniform(digits)
}

/// Dutch citizen number (elfproef).
pub(crate) fn nl_bsn(digits: &[u8]) -> bool {
    weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2, -1], 11) && !uniform(digits)
}

/// Polish citizen number.
pub(crate) fn pl_pesel(digits: &[u8]) -> bool {
    weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1], 10) && !uniform(digits)
}

/// Brazilian taxpayer number: two check digits modulo 11.
pub(crate) fn br_cpf(digits: &[u8]) -> bool {
    let check = |places: usize| {
        let sum: u32 = digits[..places]
            .iter()
            .zip((2..=places as u32 + 1).rev())
            .map(|(d, weight)| u32::from(*d) * weight)
            .sum();
        (sum * 10 % 11 % 10) == u32::from(digits[places])
    };
    digits.len() == 11 && !uniform(digits) && check(9) && check(10)
}

/// German tax number (ISO 7064 modulus 11,10).
pub(crate) fn de_tax(digits: &[u8]) -> bool {
    let product = digits.iter().take(10).fold(10_u32, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    digits.len() == 11 && digits[0] != 0 && (11 - product) % 10 == u32::from(digits[10])
}

/// French social security number without Corsican letters (97 minus remainder).
pub(crate) fn fr_nir(digits: &[u8]) -> bool {
    let number = digits.iter().take(13).fold(0_u64, |number, digit| number * 10 + u64::from(*digit));
    digits.len() == 15
        && matches!(digits[0], 1 | 2)
        && 97 - number % 97 == u64::from(digits[13]) * 10 + u64::from(digits[14])
}

/// Swiss social security number: 756 and the check digit of EAN-13.
pub(crate) fn ch_ahv(digits: &[u8]) -> bool {
    digits.starts_with(&[7, 5, 6]) && weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1], 10)
}

/// Indian resident number (Verhoeff).
pub(crate) fn in_aadhaar(digits: &[u8]) -> bool {
    // Multiplication in the dihedral group of order ten, and the permutation of Verhoeff's scheme.
    let times = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b) % 5 + 5,
        (false, true) => (a + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    const MOVES: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let check = digits.iter().rev().enumerate().fold(0, |check, (at, digit)| {
        times(check, (0..at % 8).fold(*digit, |digit, _| MOVES[usize::from(digit)]))
    });
    digits.len() == 12 && digits[0] > 1 && check == 0
}

/// Spanish number of citizens and foreigners: 8 digits, the first perhaps X, Y or Z, and a letter.
pub(crate) fn es_nif(chars: &[u8]) -> bool {
    let upper = chars.to_ascii_uppercase();
    let number = upper.iter().take(8).enumerate().try_fold(0_usize, |number, (at, byte)| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'X'..=b'Z' if at == 0 => byte - b'X',
            _ => return None,
        };
        Some(number * 10 + usize::from(digit))
    });
    upper.len() == 9 && number.is_some_and(|number| b"TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == upper[8])
}

/// Italian tax code: 15 characters and a check letter.
pub(crate) fn it_fiscal(chars: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let upper = chars.to_ascii_uppercase();
    let value =
        |byte: u8| u32::from(if byte.is_ascii_digit() { byte - b'0' } else { byte.wrapping_sub(b'A') % 26 });
    let sum: u32 = upper
        .iter()
        .take(15)
        .enumerate()
        .map(|(at, byte)| if at % 2 == 0 { ODD[value(*byte) as usize] } else { value(*byte) })
        .sum();
    upper.len() == 16 && u32::from(upper[15].wrapping_sub(b'A')) == sum % 26
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
    }

    /// Published examples: each passes its own test, and no longer with two neighbours exchanged or a
    /// last digit changed.
    #[test]
    fn published_examples_pass_and_broken_ones_do_not() {
        type Test = fn(&[u8]) -> bool;
        for (number, test) in [
            ("4111 1111 1111 1111", card as Test),
            ("5555 5555 5555 4444", card),
            ("3782 822463 10005", card),
            ("943 476 5919", uk_nhs),
            ("111222333", nl_bsn),
            ("44051401359", pl_pesel),
            ("529.982.247-25", br_cpf),
            ("86095742719", de_tax),
            ("2 55 08 14 168 025 38", fr_nir),
            ("756.9217.0769.85", ch_ahv),
            ("2341 2341 2346", in_aadhaar),
        ] {
            let mut good = digits(number);
            assert!(test(&good), "{number}");
            let last = good.len() - 1;
            good[last] = (good[last] + 1) % 10;
            assert!(!test(&good), "{number} with another last digit");
        }
        assert!(iban(b"GB29NWBK60161331926819") && !iban(b"GB29NWBK60161331926818"));
        assert!(iban(b"DE89370400440532013000") && iban_length(b"de") == Some(22));
        assert!(es_nif(b"12345678Z") && es_nif(b"X1234567L") && !es_nif(b"12345678A"));
        assert!(it_fiscal(b"RSSMRA85T10A562S") && !it_fiscal(b"RSSMRA85T10A562T"));
    }
}
