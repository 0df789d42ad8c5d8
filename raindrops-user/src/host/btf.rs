//! A reader for BTF, the kernel's description of its own types: offsets of members, functions'
//! parameters, which tracepoints exist.
//!
//! Of our own because aya's parser keeps members to itself and costs 15 MB. It takes bytes, knows
//! nothing of files, and treats them as hostile: every access is checked.

use std::collections::BTreeMap;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;

mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Levels of nesting and of typedefs that are followed; more than any kernel has.
const MAX_DEPTH: usize = 32;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    #[error("BTF does not begin with its magic number")]
    Magic,
    #[error("BTF is cut off or malformed at byte {0}")]
    Malformed(usize),
    #[error("BTF has a type of kind {kind} at byte {at}, which this version does not know")]
    UnknownKind { kind: u32, at: usize },
}

/// Parsed BTF: an index over the bytes.
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Offset of each type's record; entry 0 is `void`.
    types: Vec<u32>,
    structs: BTreeMap<&'a [u8], u32>,
    functions: BTreeMap<&'a [u8], u32>,
    typedefs: BTreeMap<&'a [u8], u32>,
}

impl std::fmt::Debug for Btf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.types.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Record {
    name: u32,
    kind: u32,
    members: u32,
    /// Member offsets carry a bit-field size in their upper byte.
    has_bitfields: bool,
    /// The type referred to, or a size.
    target: u32,
    /// Where the record's members begin.
    body: usize,
}

impl<'a> Btf<'a> {
    /// # Errors
    /// When the bytes are not BTF.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if bytes.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(BtfError::Magic);
        }
        let header = word(bytes, 4)? as usize;
        let (types_at, types_len) = (word(bytes, 8)? as usize, word(bytes, 12)? as usize);
        let (strings_at, strings_len) = (word(bytes, 16)? as usize, word(bytes, 20)? as usize);
        if header < HEADER_LEN {
            return Err(BtfError::Malformed(4));
        }
        let strings = header
            .checked_add(strings_at)
            .and_then(|start| bytes.get(start..start.checked_add(strings_len)?))
            .ok_or(BtfError::Malformed(16))?;
        let start = header.checked_add(types_at).ok_or(BtfError::Malformed(8))?;
        let end = start
            .checked_add(types_len)
            .ok_or(BtfError::Malformed(12))?;
        if end > bytes.len() {
            return Err(BtfError::Malformed(12));
        }
        let mut btf = Self {
            bytes: &bytes[..end],
            strings,
            types: vec![0],
            structs: BTreeMap::new(),
            functions: BTreeMap::new(),
            typedefs: BTreeMap::new(),
        };
        let mut at = start;
        while at < end {
            at = btf.index(at)?;
        }
        Ok(btf)
    }

    /// Notes the record at `at` and returns where the next one begins.
    fn index(&mut self, at: usize) -> Result<usize, BtfError> {
        let record = self.record(at)?;
        let id = u32::try_from(self.types.len()).map_err(|_| BtfError::Malformed(at))?;
        self.types
            .push(u32::try_from(at).map_err(|_| BtfError::Malformed(at))?);
        let by_name = match record.kind {
            kind::STRUCT | kind::UNION => Some(&mut self.structs),
            kind::FUNC => Some(&mut self.functions),
            kind::TYPEDEF => Some(&mut self.typedefs),
            _ => None,
        };
        if let (Some(by_name), Some(name)) = (by_name, name(self.strings, record.name)) {
            by_name.entry(name).or_insert(id);
        }
        let members = record.members as usize;
        let body = match record.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * members,
            kind::ENUM | kind::FUNC_PROTO => 8 * members,
            kind::PTR
            | kind::FWD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            kind => return Err(BtfError::UnknownKind { kind, at }),
        };
        Ok(record.body + body)
    }

    fn record(&self, at: usize) -> Result<Record, BtfError> {
        let info = word(self.bytes, at + 4)?;
        Ok(Record {
            name: word(self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            members: info & 0xffff,
            has_bitfields: info >> 31 == 1,
            target: word(self.bytes, at + 8)?,
            body: at + 12,
        })
    }

    fn of_id(&self, id: u32) -> Option<Record> {
        let at = *self.types.get(id as usize)?;
        (id != 0).then(|| self.record(at as usize).ok()).flatten()
    }

    /// The type that a chain of typedefs and qualifiers ends in.
    fn resolved(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            match self.of_id(id)?.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = self.of_id(id)?.target;
                }
                _ => return Some(id),
            }
        }
        None
    }

    /// Offset in bits, and type, of a member, also within anonymous members.
    fn member(&self, id: u32, wanted: &[u8], depth: usize) -> Option<(u32, u32)> {
        let record = self.of_id(id)?;
        if depth == 0 || !matches!(record.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        (0..record.members as usize).find_map(|index| {
            let at = record.body + 12 * index;
            let target = word(self.bytes, at + 4).ok()?;
            let offset = word(self.bytes, at + 8).ok()?;
            let offset = if record.has_bitfields {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            match name(self.strings, word(self.bytes, at).ok()?) {
                Some(found) if found == wanted => Some((offset, target)),
                Some(_) => None,
                None => {
                    let (inner, target) = self.member(self.resolved(target)?, wanted, depth - 1)?;
                    Some((offset.checked_add(inner)?, target))
                }
            }
        })
    }

    /// Offset in bytes of `structure.member.member`; `None` when the kernel has no such member.
    #[must_use]
    pub fn offset(&self, path: &str) -> Option<u32> {
        let mut names = path.split('.').map(str::as_bytes);
        let mut id = *self.structs.get(names.next()?)?;
        let mut bits = 0u32;
        for name in names {
            let (offset, target) = self.member(id, name, MAX_DEPTH)?;
            bits = bits.checked_add(offset)?;
            id = self.resolved(target)?;
        }
        Some(bits / 8)
    }

    /// Number of parameters of a kernel function; `None` when it is not described.
    #[must_use]
    pub fn parameters(&self, function: &str) -> Option<u32> {
        let function = self.of_id(*self.functions.get(function.as_bytes())?)?;
        Some(self.of_id(function.target)?.members)
    }

    /// Whether the kernel has a (raw) tracepoint of this name.
    #[must_use]
    pub fn has_tracepoint(&self, tracepoint: &str) -> bool {
        self.typedefs
            .contains_key(format!("btf_trace_{tracepoint}").as_bytes())
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    at.checked_add(4)
        .and_then(|end| bytes.get(at..end))
        .and_then(|word| Some(u32::from_le_bytes(word.try_into().ok()?)))
        .ok_or(BtfError::Malformed(at))
}

/// The name at an offset; `None` when it is empty.
fn name(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(at as usize..)?;
    let name = &rest[..rest.iter().position(|byte| *byte == 0)?];
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; union { struct inner in; }; }`, `struct inner { int x; int y; }`,
    /// `typedef … btf_trace_ready`, `int accept(a, b)`.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0inner\0in\0x\0y\0btf_trace_ready\0accept\0";
        let at = |name: &str| {
            let name = [name.as_bytes(), b"\0"].concat();
            strings
                .windows(name.len())
                .position(|window| window == name)
                .unwrap() as u32
        };
        let info = |kind: u32, members: u32| kind << 24 | members;
        #[rustfmt::skip]
        let types: Vec<u32> = [
            vec![at("x"), info(kind::INT, 0), 4, 32],                                // 1: int
            vec![at("inner"), info(kind::STRUCT, 2), 8,                              // 2
                 at("x"), 1, 0, at("y"), 1, 32],
            vec![0, info(kind::UNION, 1), 8, at("in"), 6, 0],                        // 3
            vec![at("outer"), info(kind::STRUCT, 2), 12,                             // 4
                 at("a"), 1, 0, 0, 3, 32],
            vec![at("btf_trace_ready"), info(kind::TYPEDEF, 0), 1],                  // 5
            vec![0, info(kind::CONST, 0), 2],                                        // 6: const inner
            vec![0, info(kind::FUNC_PROTO, 2), 1, at("a"), 1, at("x"), 1],           // 7
            vec![at("accept"), info(kind::FUNC, 0), 7],                              // 8
        ].concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn finds_members_through_anonymous_and_qualified_types() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("outer.a"), Some(0));
        assert_eq!(btf.offset("outer.in.y"), Some(8));
        assert_eq!(btf.offset("outer.absent"), None);
        assert_eq!(btf.offset("absent.a"), None);
        assert_eq!(btf.parameters("accept"), Some(2));
        assert_eq!(btf.parameters("absent"), None);
        assert!(btf.has_tracepoint("ready"));
        assert!(!btf.has_tracepoint("absent"));
    }

    #[test]
    fn survives_every_cut_and_every_changed_byte() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let _ = Btf::parse(&bytes[..end]).map(|btf| btf.offset("outer.in.y"));
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Btf::parse(&changed)
                    .map(|btf| (btf.offset("outer.in.y"), btf.parameters("accept")));
            }
        }
    }
}
