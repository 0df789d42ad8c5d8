//! An archive that the kernel unpacks into its first file system: cpio, "newc".

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: BTreeSet<String>,
}

impl Archive {
    pub fn add_directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.entries.contains(path) {
            return;
        }
        self.add_parent(path);
        self.add(path, DIRECTORY, &[]);
    }

    /// Adds a file that anybody may read and run; the first of a path counts.
    pub fn add_file(&mut self, path: &str, content: &[u8]) {
        let path = path.trim_matches('/');
        if self.entries.contains(path) {
            return;
        }
        self.add_parent(path);
        self.add(path, FILE, content);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add_parent(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.add_directory(parent);
        }
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries.insert(path.to_owned());
        let inode = self.entries.len();
        let (size, name_size) = (content.len(), path.len() + 1);
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name,
        // and a checksum that this format does not use.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0, 1
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check the layout against the format: a fixed header, names and contents at multiples of
    /// four, directories before what they hold, each path once.
    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let mut archive = Archive::default();
        archive.add_file("/a/b", b"12345");
        archive.add_file("a/b", b"another");
        archive.add_directory("/a");
        let bytes = archive.finish();

        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let header = std::str::from_utf8(&bytes[at..at + 110]).expect("a header is text");
            assert!(header.starts_with("070701"), "{header}");
            let field = |index: usize| {
                let start = 6 + index * 8;
                usize::from_str_radix(&header[start..start + 8], 16).expect("hexadecimal")
            };
            let (size, name_size) = (field(6), field(11));
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            let content = (at + 110 + name_size).next_multiple_of(4);
            names.push((
                String::from_utf8_lossy(name).into_owned(),
                bytes[content..content + size].to_vec(),
            ));
            at = (content + size).next_multiple_of(4);
        }
        let expected = [("a", ""), ("a/b", "12345"), ("TRAILER!!!", "")];
        let expected: Vec<_> = expected
            .map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec()))
            .into();
        assert_eq!(names, expected);
    }
}
