//! Which customers a share of them is: always the same, and more of them as the share rises.

/// Number of buckets; a share is a whole number of them.
pub const BUCKETS: u32 = 100_000;

/// The bucket of a customer, 0..[`BUCKETS`]: `(murmur3_32(salt ":" key) * 100000) >> 32`, with seed 0 over the bytes of
/// UTF-8. A customer is treated when the bucket is below the share in buckets, so that a larger share never leaves one
/// out that a smaller one had.
///
/// It is flagd's `fractional` over `salt ":" key` with weights that sum to 100000 (`@openfeature/flagd-core` 4.0.1), but
/// for keys beyond ASCII: there flagd-core hashes the low bytes of UTF-16 code units, as its murmur3 was written for
/// ASCII; other flagd evaluators hash UTF-8, as here.
pub fn bucket(salt: &str, key: &str) -> u32 {
    let hash = murmurhash32::murmurhash3_with_seed::<0>(format!("{salt}:{key}").as_bytes());
    // Divided by 2^32 and not by 2^32 - 1: no key falls out at the top.
    ((u64::from(hash) * u64::from(BUCKETS)) >> 32) as u32
}

/// A share, 0..=1, in buckets; NaN is none.
pub fn buckets(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(BUCKETS)).round() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Salt, key and bucket as `@openfeature/flagd-core` 4.0.1 tells them: the least weight of the first variant that
    /// reaches the key, less one.
    const KNOWN: [(&str, &str, u32); 25] = [
        ("bank-2026", "", 78765),
        ("bank-2026", "a", 40864),
        ("bank-2026", "ab", 53491),
        ("bank-2026", "abc", 1939),
        ("bank-2026", "abcd", 61397),
        ("bank-2026", "customer-1", 60278),
        ("bank-2026", "customer-2", 17955),
        ("bank-2026", "customer-3", 20377),
        ("bank-2026", "customer-4", 22958),
        ("bank-2026", "customer-5", 49795),
        ("bank-2026", "42", 34677),
        ("bank-2026", "9007199254740993", 93772),
        ("bank-2026", "anna@example.com", 11033),
        ("bank-2026", "0f8fad5b-d9cb-469f-a165-70867728950e", 59401),
        ("bank-2026", "with space", 33471),
        ("bank-2026", "c:colon:inside", 76360),
        ("bank-2026", "UPPER", 69608),
        (
            "bank-2026",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
             xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            96348,
        ),
        ("bundle-7f3a", "customer-1", 94424),
        ("bundle-7f3a", "customer-2", 38013),
        ("bundle-7f3a", "customer-3", 88332),
        ("bundle-7f3a", "customer-4", 12179),
        ("bundle-7f3a", "customer-5", 2400),
        ("bundle-7f3a", "42", 18011),
        ("bundle-7f3a", "9007199254740993", 669),
    ];

    #[test]
    fn buckets_are_those_of_flagd() {
        for (salt, key, expected) in KNOWN {
            assert_eq!(bucket(salt, key), expected, "{salt}:{key}");
        }
    }

    #[test]
    fn beyond_ascii_flagd_core_hashes_other_bytes() {
        // What flagd-core says of them, and what murmur3 over UTF-8 gives (checked with Python's mmh3).
        for (key, flagd, ours) in [("müller", 91469, 59461), ("顧客-7", 93112, 76355), ("😀", 97694, 11598)]
        {
            assert_ne!(bucket("bank-2026", key), flagd, "{key}");
            assert_eq!(bucket("bank-2026", key), ours, "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_bucket_and_a_larger_share_keeps_whom_a_smaller_one_had(
            salt in ".{0,20}", key in ".{0,40}", one in 0.0..=1.0_f64, other in 0.0..=1.0_f64,
        ) {
            let at = bucket(&salt, &key);
            prop_assert!(at < BUCKETS);
            let (small, large) = (buckets(one.min(other)), buckets(one.max(other)));
            prop_assert!(at >= small || at < large);
        }
    }

    #[test]
    fn a_share_is_that_share_of_the_customers() {
        let treated = (0..200_000).filter(|n| bucket("s", &format!("c{n}")) < buckets(0.05)).count();
        // Four standard deviations of a binomial with n 200,000 and p 0.05.
        assert!((9_610..=10_390).contains(&treated), "{treated}");
    }
}
