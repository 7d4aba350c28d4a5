//! Numbers as hexadecimal digits, without the formatting machinery, which costs more than the digits.

/// 16 lower-case digits.
#[inline]
pub(crate) fn digits(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let (high, low) = digits.split_at_mut(8);
    high.copy_from_slice(&eight(number >> 32).to_be_bytes());
    low.copy_from_slice(&eight(number & 0xffff_ffff).to_be_bytes());
    digits
}

/// Eight digits of a number below 2^32, the last one in the lowest byte.
#[inline]
fn eight(number: u64) -> u64 {
    // Half a byte to each byte.
    let spread = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 6 more makes 16 or more of those that are letters.
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_digits_are_those_of_the_formatting_machinery() {
        let mut number = 1_u64;
        for _ in 0..1_000 {
            assert_eq!(super::digits(number).as_slice(), format!("{number:016x}").as_bytes());
            number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7);
        }
        assert_eq!(super::digits(0), *b"0000000000000000");
        assert_eq!(super::digits(u64::MAX), *b"ffffffffffffffff");
    }
}
