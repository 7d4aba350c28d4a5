//! Attribute values: what a macro accepts after `key =`, and its bytes in a ring.
//!
//! In: a reference to a number, text, bool, duration or option of one. Out: a one-byte type and the value in its native
//! width, written straight into the ring. Nothing is formatted or allocated; the drain thread reads the bytes back.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Type byte of a missing value: its key is left out.
pub(crate) const ABSENT: u8 = 0;
const INTEGER: u8 = 1;
const UNSIGNED: u8 = 2;
const FLOAT: u8 = 3;
const TRUE: u8 = 4;
const FALSE: u8 = 5;
const TEXT: u8 = 6;
const DURATION: u8 = 7;

mod sealed {
    /// Writes a value into a ring. Sealed: the ring trusts the two to agree.
    pub trait Encode {
        /// Bytes that [`encode`](Self::encode) will write.
        fn encoded_len(&self) -> usize;

        /// Writes exactly [`encoded_len`](Self::encoded_len) bytes at `at` and gives back the place behind them.
        ///
        /// # Safety
        /// `at` must be valid for that many writes, and the value must not have changed since it was asked.
        #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
        unsafe fn encode(&self, at: *mut u8) -> *mut u8;
    }
}
pub(crate) use sealed::Encode;

/// What can be the value of an attribute: integers, floats, `bool`, text, [`Duration`] (sent in seconds) and an
/// [`Option`] of one, whose `None` leaves the key out.
///
/// Implemented by this crate only.
///
/// ```
/// fn rated<T: gemba::Value>(rating: T) {
///     gemba::feature!("article.rated", rating = rating);
/// }
/// rated(5);
/// rated("good");
/// rated(std::time::Duration::from_secs(3));
/// rated(None::<f64>);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of a Gemba attribute",
    label = "not an attribute value",
    note = "use an integer, a float, a bool, text, a std::time::Duration, or an Option of one of them",
    note = "for other types give a short text, such as `key = value.as_str()`"
)]
pub trait Value: sealed::Encode {}

/// Writes a type byte and eight bytes.
#[expect(unsafe_code, reason = "writes through a pointer into the ring")]
#[inline(always)]
#[expect(clippy::inline_always, reason = "two stores on the path of every record")]
unsafe fn put_word(at: *mut u8, kind: u8, word: u64) -> *mut u8 {
    // SAFETY: the caller has room for nine bytes; the word's place need not be aligned.
    unsafe {
        at.write(kind);
        at.add(1).cast::<[u8; 8]>().write_unaligned(word.to_ne_bytes());
        at.add(9)
    }
}

/// Copies a short text without calling `memcpy`, whose call costs more than the bytes.
#[expect(unsafe_code, reason = "writes through a pointer into the ring")]
#[inline(always)]
#[expect(clippy::inline_always, reason = "folds to a few stores when the length is known at the call site")]
pub(crate) unsafe fn copy_text(text: &[u8], to: *mut u8) {
    let from = text.as_ptr();
    let length = text.len();
    // SAFETY: both ranges are `length` bytes long and do not overlap (one is the ring); each pair of loads below stays
    // inside by its lower bound, the second of the pair ending at the last byte.
    unsafe {
        match length {
            0 => {}
            1..=3 => {
                to.write(from.read());
                to.add(length / 2).write(from.add(length / 2).read());
                to.add(length - 1).write(from.add(length - 1).read());
            }
            4..=7 => {
                copy_ends::<[u8; 4]>(from, to, length);
            }
            8..=16 => {
                copy_ends::<[u8; 8]>(from, to, length);
            }
            17..=32 => {
                copy_ends::<[u8; 16]>(from, to, length);
            }
            _ => std::ptr::copy_nonoverlapping(from, to, length),
        }
    }
}

/// Copies the first and the last bytes of `length`, as many each as `T` has; together they are all when `length` is at most
/// twice that.
#[expect(unsafe_code, reason = "copies through pointers into the ring")]
#[inline(always)]
#[expect(clippy::inline_always, reason = "two loads and two stores")]
unsafe fn copy_ends<T>(from: *const u8, to: *mut u8, length: usize) {
    let last = length - size_of::<T>();
    // SAFETY: the caller has `length` bytes on both sides and `length` is at least the size of `T`, an array of bytes.
    unsafe {
        let (head, tail) = (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
        to.cast::<T>().write_unaligned(head);
        to.add(last).cast::<T>().write_unaligned(tail);
    }
}

macro_rules! encode_as {
    ($($type:ty => $kind:expr, |$value:ident| $word:expr;)+) => {$(
        impl sealed::Encode for $type {
            #[inline]
            fn encoded_len(&self) -> usize {
                9
            }

            #[inline]
            #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
            unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
                let $value = *self;
                // SAFETY: the caller has room for `encoded_len` bytes.
                unsafe { put_word(at, $kind, $word) }
            }
        }
        impl Value for $type {}
    )+};
}

encode_as! {
    i8 => INTEGER, |value| i64::from(value).cast_unsigned();
    i16 => INTEGER, |value| i64::from(value).cast_unsigned();
    i32 => INTEGER, |value| i64::from(value).cast_unsigned();
    i64 => INTEGER, |value| value.cast_unsigned();
    isize => INTEGER, |value| (value as i64).cast_unsigned();
    u8 => UNSIGNED, |value| u64::from(value);
    u16 => UNSIGNED, |value| u64::from(value);
    u32 => UNSIGNED, |value| u64::from(value);
    u64 => UNSIGNED, |value| value;
    usize => UNSIGNED, |value| value as u64;
    f32 => FLOAT, |value| f64::from(value).to_bits();
    f64 => FLOAT, |value| value.to_bits();
    Duration => DURATION, |value| value.as_secs_f64().to_bits();
}

impl sealed::Encode for bool {
    #[inline]
    fn encoded_len(&self) -> usize {
        1
    }

    #[inline]
    #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
    unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller has room for one byte.
        unsafe {
            at.write(if *self { TRUE } else { FALSE });
            at.add(1)
        }
    }
}
impl Value for bool {}

impl sealed::Encode for str {
    #[inline]
    fn encoded_len(&self) -> usize {
        5 + self.len()
    }

    #[inline]
    #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
    #[expect(clippy::cast_possible_truncation, reason = "a record longer than a ring is refused before it is encoded")]
    unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller has room for `encoded_len` bytes.
        unsafe {
            at.write(TEXT);
            at.add(1).cast::<[u8; 4]>().write_unaligned((self.len() as u32).to_ne_bytes());
            copy_text(self.as_bytes(), at.add(5));
            at.add(5 + self.len())
        }
    }
}
impl Value for str {}

macro_rules! encode_through {
    ($([$($generic:tt)*] $type:ty => |$value:ident| $inner:expr;)+) => {$(
        impl<$($generic)*> sealed::Encode for $type {
            #[inline]
            fn encoded_len(&self) -> usize {
                let $value = self;
                sealed::Encode::encoded_len($inner)
            }

            #[inline]
            #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
            unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
                let $value = self;
                // SAFETY: handed through unchanged.
                unsafe { sealed::Encode::encode($inner, at) }
            }
        }
        impl<$($generic)*> Value for $type {}
    )+};
}

encode_through! {
    [] String => |value| value.as_str();
    [] Cow<'_, str> => |value| value.as_ref();
    [T: Value + ?Sized] &mut T => |value| &**value;
    [T: Value + ?Sized] Box<T> => |value| value.as_ref();
    [T: Value + ?Sized] Rc<T> => |value| value.as_ref();
    [T: Value + ?Sized] Arc<T> => |value| value.as_ref();
}

impl<T: sealed::Encode + ?Sized> sealed::Encode for &T {
    #[inline]
    fn encoded_len(&self) -> usize {
        (**self).encoded_len()
    }

    #[inline]
    #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
    unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
        // SAFETY: handed through unchanged.
        unsafe { (**self).encode(at) }
    }
}
impl<T: Value + ?Sized> Value for &T {}

impl<T: Value> sealed::Encode for Option<T> {
    #[inline]
    fn encoded_len(&self) -> usize {
        self.as_ref().map_or(1, sealed::Encode::encoded_len)
    }

    #[inline]
    #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
    unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller has room for `encoded_len` bytes, at least one.
        unsafe {
            if let Some(value) = self {
                value.encode(at)
            } else {
                at.write(ABSENT);
                at.add(1)
            }
        }
    }
}
impl<T: Value> Value for Option<T> {}

/// A text, or an option of one, where numbers would not be understood.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no text",
    label = "not a text",
    note = "what an evaluation of a feature flag says is text, or an Option of one: for a bool give \"on\" or \"off\""
)]
pub trait Text: Value {}

impl Text for str {}
impl Text for String {}
impl Text for Cow<'_, str> {}
impl<T: Text + ?Sized> Text for &T {}
impl<T: Text + ?Sized> Text for Box<T> {}
impl<T: Text + ?Sized> Text for Rc<T> {}
impl<T: Text + ?Sized> Text for Arc<T> {}
impl<T: Text> Text for Option<T> {}

/// Eight bytes without a type: ids, ticks and addresses that lead a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word(pub(crate) u64);

impl sealed::Encode for Word {
    #[inline]
    fn encoded_len(&self) -> usize {
        8
    }

    #[inline]
    #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
    unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller has room for eight bytes.
        unsafe {
            at.cast::<[u8; 8]>().write_unaligned(self.0.to_ne_bytes());
            at.add(8)
        }
    }
}

/// All values of one record, in the order of the call site's keys.
#[diagnostic::on_unimplemented(
    message = "a Gemba macro takes at most 16 attributes",
    note = "give fewer attributes, or record two features"
)]
pub trait Values: sealed::Encode {}

macro_rules! encode_tuple {
    ($($name:ident),*) => {
        impl<$($name: sealed::Encode),*> sealed::Encode for ($($name,)*) {
            #[inline]
            #[allow(non_snake_case, reason = "one name serves as type and value")]
            fn encoded_len(&self) -> usize {
                let ($($name,)*) = self;
                0 $(+ $name.encoded_len())*
            }

            #[inline]
            #[allow(non_snake_case, reason = "one name serves as type and value")]
            #[expect(unsafe_code, reason = "writes through a pointer into the ring")]
            unsafe fn encode(&self, at: *mut u8) -> *mut u8 {
                let ($($name,)*) = self;
                // SAFETY: the caller has room for the sum of all lengths.
                $(let at = unsafe { $name.encode(at) };)*
                at
            }
        }
        impl<$($name: sealed::Encode),*> Values for ($($name,)*) {}
    };
}

encode_tuple!();
encode_tuple!(A);
encode_tuple!(A, B);
encode_tuple!(A, B, C);
encode_tuple!(A, B, C, D);
encode_tuple!(A, B, C, D, E);
encode_tuple!(A, B, C, D, E, F);
encode_tuple!(A, B, C, D, E, F, G);
encode_tuple!(A, B, C, D, E, F, G, H);
encode_tuple!(A, B, C, D, E, F, G, H, I);
encode_tuple!(A, B, C, D, E, F, G, H, I, J);
encode_tuple!(A, B, C, D, E, F, G, H, I, J, K);
encode_tuple!(A, B, C, D, E, F, G, H, I, J, K, L);
encode_tuple!(A, B, C, D, E, F, G, H, I, J, K, L, M);
encode_tuple!(A, B, C, D, E, F, G, H, I, J, K, L, M, N);
encode_tuple!(A, B, C, D, E, F, G, H, I, J, K, L, M, N, O);
encode_tuple!(A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P);

/// A value read back from a ring; `T` is what a text becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Read<T> {
    Absent,
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
    Text(T),
}

/// Takes the next value off `bytes`; None when they do not begin with one.
pub(crate) fn take<'a>(bytes: &mut &'a [u8]) -> Option<Read<&'a str>> {
    Some(match take_bytes(bytes)? {
        Read::Absent => Read::Absent,
        Read::Integer(value) => Read::Integer(value),
        Read::Unsigned(value) => Read::Unsigned(value),
        Read::Float(value) => Read::Float(value),
        Read::Bool(value) => Read::Bool(value),
        Read::Text(text) => Read::Text(str::from_utf8(text).ok()?),
    })
}

/// As [`take`], with a text as its bytes: they were a `str` when they went into the ring.
#[inline]
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<Read<&'a [u8]>> {
    let (kind, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match *kind {
        ABSENT => Read::Absent,
        INTEGER => Read::Integer(take_word(bytes)?.cast_signed()),
        UNSIGNED => Read::Unsigned(take_word(bytes)?),
        FLOAT | DURATION => Read::Float(f64::from_bits(take_word(bytes)?)),
        TRUE => Read::Bool(true),
        FALSE => Read::Bool(false),
        TEXT => {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (text, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
            *bytes = rest;
            Read::Text(text)
        }
        _ => return None,
    })
}

/// Appends a text as it lies in a ring.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    // A text that came out of a ring, or a hash: far below 4 GiB.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.push(TEXT);
    out.extend(length.to_ne_bytes());
    out.extend(text.as_bytes());
}

/// Takes eight bytes off `bytes`.
pub(crate) fn take_word(bytes: &mut &[u8]) -> Option<u64> {
    let (word, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_ne_bytes(*word))
}
