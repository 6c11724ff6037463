//! Every implementation against a naive twin, over every length, alignment and key offset that could matter.

use crate::{implementations, unmask, unmask_from};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Lengths about that from which on narrower vectors are used.
const LONG: [usize; 3] = [48 << 10, (48 << 10) + 1, 50_003];

/// What the specification says, word for word.
//= RFC 6455#section-5.3
//= type=test
//# Octet i of the transformed data ("transformed-octet-i") is the XOR of octet i of the original data
fn naive(data: &mut [u8], key: [u8; 4]) {
    for (i, octet) in data.iter_mut().enumerate() {
        *octet ^= key[i % 4];
    }
}

/// Octets that repeat with no period near the key's.
fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8 ^ 0x5a).collect()
}

#[test]
fn every_implementation_agrees_with_the_naive_one_at_every_length_and_alignment() {
    for (name, implementation) in implementations().into_iter().chain([("dispatched", unmask as _)]) {
        for alignment in 0..64 {
            for length in (0..600).chain(LONG) {
                let mut expected = sample(alignment + length + 8);
                let mut actual = expected.clone();
                naive(&mut expected[alignment..alignment + length], KEY);
                implementation(&mut actual[alignment..alignment + length], KEY);
                assert_eq!(actual, expected, "{name}, length {length}, alignment {alignment}");
            }
        }
    }
}

#[test]
fn a_payload_unmasked_in_two_pieces_is_the_payload_unmasked_in_one() {
    for length in 0..300 {
        let mut whole = sample(length);
        naive(&mut whole, KEY);
        for split in 0..=length {
            let mut pieces = sample(length);
            let (first, second) = pieces.split_at_mut(split);
            unmask_from(first, KEY, 0);
            unmask_from(second, KEY, split);
            assert_eq!(pieces, whole, "length {length}, split at {split}");
        }
    }
}

#[test]
fn every_key_offset_starts_at_that_octet_of_the_key_at_every_alignment() {
    for offset in 0..9 {
        for alignment in 0..64 {
            for length in 0..300 {
                let mut expected = sample(alignment + length);
                let mut actual = expected.clone();
                for (i, octet) in expected[alignment..].iter_mut().enumerate() {
                    *octet ^= KEY[(i + offset) % 4];
                }
                unmask_from(&mut actual[alignment..], KEY, offset);
                assert_eq!(
                    actual, expected,
                    "offset {offset}, length {length}, alignment {alignment}"
                );
            }
        }
    }
}

#[test]
fn the_vectors_that_every_cpu_of_an_architecture_has_are_among_the_implementations() {
    let on_every_cpu = [
        ("scalar", true),
        ("sse2", cfg!(target_arch = "x86_64")),
        ("neon", cfg!(target_arch = "aarch64")),
    ];
    for (name, _) in on_every_cpu.into_iter().filter(|&(_, has_it)| has_it) {
        assert!(implementations().iter().any(|&(found, _)| found == name), "{name}");
    }
}
