//! The keys of groups: integers, texts, truth values and nulls, one or several to a group, numbered as they come.
//!
//! A key is kept as bytes whose order is that of what they stand for: columns one after the other, numbers before texts before
//! nulls. So equality, hashing, sorting and writing need to know no more.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const TEXT: u8 = 4;
const NULL: u8 = 5;

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A text in UTF-8, which may have surrogates.
    Text(Vec<u8>),
    /// No value.
    Null,
}

impl Part {
    /// Appends the part to a key.
    pub fn encode(&self, key: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => key.push(if *value { TRUE } else { FALSE }),
            Self::Integer(value) => encode_integer(*value, key),
            Self::Text(text) => encode_text(text, key),
            Self::Null => key.push(NULL),
        }
    }

    /// The parts of a key; `None` if these bytes are no key.
    pub fn decode(mut key: &[u8]) -> Option<Vec<Self>> {
        let mut parts = Vec::new();
        while let Some((&kind, mut rest)) = key.split_first() {
            parts.push(match kind {
                FALSE | TRUE => Self::Bool(kind == TRUE),
                NULL => Self::Null,
                INTEGER => {
                    let (digits, after) = rest.split_first_chunk()?;
                    rest = after;
                    Self::Integer(decode_integer(*digits))
                }
                TEXT => {
                    let mut text = Vec::new();
                    loop {
                        let (&byte, after) = rest.split_first()?;
                        rest = after;
                        if byte == 0 {
                            let (&next, after) = rest.split_first()?;
                            rest = after;
                            match next {
                                0 => break,
                                1 => {}
                                _ => return None,
                            }
                        }
                        text.push(byte);
                    }
                    Self::Text(text)
                }
                _ => return None,
            });
            key = rest;
        }
        Some(parts)
    }
}

fn encode_integer(value: i64, key: &mut Vec<u8>) {
    key.push(INTEGER);
    key.extend_from_slice(&(value as u64 ^ 1 << 63).to_be_bytes());
}

fn decode_integer(digits: [u8; 8]) -> i64 {
    (u64::from_be_bytes(digits) ^ 1 << 63) as i64
}

/// A zero within is followed by a one, the end is two zeros.
fn encode_text(text: &[u8], key: &mut Vec<u8>) {
    key.push(TEXT);
    for &byte in text {
        key.push(byte);
        if byte == 0 {
            key.push(1);
        }
    }
    key.extend_from_slice(&[0, 0]);
}

/// Texts of one width, as NumPy keeps them: four bytes a character, zeros after the last.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    /// The characters of all texts.
    pub characters: &'a [u32],
    /// Characters of each.
    pub width: usize,
}

impl Texts<'_> {
    /// A text in UTF-8; surrogates, which NumPy allows, are coded as any other character is.
    pub fn write(&self, index: usize, text: &mut Vec<u8>) {
        let characters = &self.characters[index * self.width..][..self.width];
        let length = characters.iter().rposition(|&character| character != 0).map_or(0, |last| last + 1);
        for &character in &characters[..length] {
            let tail = |shift: u32| 0x80 | (character >> shift & 0x3f) as u8;
            match character {
                0..=0x7f => text.push(character as u8),
                0x80..=0x7ff => text.extend_from_slice(&[0xc0 | (character >> 6) as u8, tail(0)]),
                0x800..=0xffff => text.extend_from_slice(&[0xe0 | (character >> 12) as u8, tail(6), tail(0)]),
                _ => text.extend_from_slice(&[0xf0 | (character >> 18 & 7) as u8, tail(12), tail(6), tail(0)]),
            }
        }
    }
}

/// A part of each row's key.
pub enum Column<'a> {
    /// Integers.
    Integers(&'a [i64]),
    /// Texts.
    Texts(Texts<'a>),
    /// Indices into a list of parts.
    Coded {
        /// An index for each row, within the list.
        codes: &'a [i64],
        /// The parts.
        parts: &'a [Part],
    },
}

impl Column<'_> {
    fn encode(&self, row: usize, key: &mut Vec<u8>, text: &mut Vec<u8>) {
        match self {
            Self::Integers(values) => encode_integer(values[row], key),
            Self::Texts(texts) => {
                text.clear();
                texts.write(row, text);
                encode_text(text, key);
            }
            Self::Coded { codes, parts } => parts[codes[row] as usize].encode(key),
        }
    }
}

/// The numbers of combinations of codes, which are looked up once and not for each row, where they are fewer than rows.
pub struct Combinations(Vec<u32>);

impl Combinations {
    const UNKNOWN: u32 = u32::MAX;

    /// Of the columns of so many rows.
    pub fn new(columns: &[Column<'_>], rows: usize) -> Self {
        let count = columns.iter().try_fold(1_usize, |count, column| match column {
            Column::Coded { parts, .. } => count.checked_mul(parts.len()).filter(|&count| count <= rows),
            _ => None,
        });
        Self(vec![Self::UNKNOWN; count.unwrap_or(0)])
    }

    /// The number of a row, if it is one that is kept.
    #[inline(always)]
    fn get(&mut self, columns: &[Column<'_>], row: usize) -> Option<&mut u32> {
        if self.0.is_empty() {
            return None;
        }
        let combination = columns.iter().fold(0, |combination, column| match column {
            Column::Coded { codes, parts } => combination * parts.len() + codes[row] as usize,
            _ => 0,
        });
        self.0.get_mut(combination)
    }
}

/// Keys and their numbers. Number 0 is the empty key, of rows that belong to no group.
#[derive(Clone, Default)]
pub struct Keys {
    /// All keys' bytes.
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    /// The numbers of keys that are an integer: without a look at the bytes, which is most of the time with many groups.
    integers: HashTable<(i64, u32)>,
    hasher: DefaultHashBuilder,
}

impl Keys {
    /// The empty key alone.
    pub fn new() -> Self {
        let mut keys = Self::default();
        keys.number(&[]);
        keys
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// A key's bytes.
    #[inline]
    pub fn get(&self, number: usize) -> &[u8] {
        key_of(&self.bytes, &self.ends, number)
    }

    /// The number of a key, which is a new one if it has not come before.
    ///
    /// # Panics
    /// If there are 2^32 keys.
    #[inline]
    pub fn number(&mut self, key: &[u8]) -> u32 {
        if let [INTEGER, digits @ ..] = key
            && let Ok(digits) = digits.try_into()
        {
            return self.number_of_integer(decode_integer(digits));
        }
        let Self { bytes, ends, numbers, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        if let Some(&number) = numbers.find(hash, |&number| key_of(bytes, ends, number as usize) == key) {
            return number;
        }
        let number = append(bytes, ends, |bytes| bytes.extend_from_slice(key));
        numbers.insert_unique(hash, number, |&number| hasher.hash_one(key_of(bytes, ends, number as usize)));
        number
    }

    #[inline(always)]
    fn number_of_integer(&mut self, value: i64) -> u32 {
        let Self { bytes, ends, integers, hasher, .. } = self;
        let hash = hasher.hash_one(value);
        if let Some(&(_, number)) = integers.find(hash, |&(known, _)| known == value) {
            return number;
        }
        let number = append(bytes, ends, |bytes| encode_integer(value, bytes));
        integers.insert_unique(hash, (value, number), |&(known, _)| hasher.hash_one(known));
        number
    }

    /// The numbers of the rows from `start` on.
    pub fn numbers_of(&mut self, columns: &[Column<'_>], known: &mut Combinations, start: usize, numbers: &mut [u32]) {
        if let [Column::Integers(values)] = columns {
            for (number, &value) in numbers.iter_mut().zip(&values[start..]) {
                *number = self.number_of_integer(value);
            }
            return;
        }
        let (mut key, mut text) = (Vec::new(), Vec::new());
        for (i, number) in numbers.iter_mut().enumerate() {
            let known = known.get(columns, start + i);
            if let Some(&mut known) = known
                && known != Combinations::UNKNOWN
            {
                *number = known;
                continue;
            }
            key.clear();
            for column in columns {
                column.encode(start + i, &mut key, &mut text);
            }
            *number = self.number(&key);
            if let Some(known) = known {
                *known = *number;
            }
        }
    }

    /// The numbers of the keys in the keys' order.
    pub fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| self.get(a as usize).cmp(self.get(b as usize)));
        order
    }
}

/// The number of a key that is new.
fn append(bytes: &mut Vec<u8>, ends: &mut Vec<usize>, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let number = u32::try_from(ends.len()).expect("fewer than 2^32 groups");
    write(bytes);
    ends.push(bytes.len());
    number
}

fn key_of<'a>(bytes: &'a [u8], ends: &[usize], number: usize) -> &'a [u8] {
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}
