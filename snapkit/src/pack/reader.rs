//! Reading packs: verify the table by the pack's name, a frame by its row, then decode.

use super::format::{self, Codec, FrameRow, PackInfo, Table, u32_at, u64_at};
use crate::id::PackId;

/// What is wrong with bytes that claim to be a pack.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PackError {
    /// The bytes are not what their name promises. Another copy may be right.
    #[error("pack {pack} is damaged: {what}")]
    Damaged {
        /// Name of the pack.
        pack: PackId,
        /// What was found.
        what: String,
    },
    /// A signed table uses something this version does not know.
    #[error("pack {pack} was written by a newer snapkit: {what}")]
    Newer {
        /// Name of the pack.
        pack: PackId,
        /// What is not known.
        what: String,
    },
}

/// Parses the table and footer of `pack`, verified by its name.
///
/// # Errors
/// [`PackError::Damaged`] or [`PackError::Newer`].
pub fn parse_table(pack: &PackInfo, bytes: &[u8]) -> Result<Table, PackError> {
    let damaged = |what: String| PackError::Damaged { pack: pack.id, what };
    let newer = |what: String| PackError::Newer { pack: pack.id, what };
    if bytes.len() != pack.table_bytes as usize || bytes.len() < format::FOOTER_BYTES {
        return Err(damaged(format!("its table has {} bytes, expected {}", bytes.len(), pack.table_bytes)));
    }
    if PackId::of(bytes) != pack.id {
        return Err(damaged("its table does not hash to its name".to_owned()));
    }
    // From here on the bytes are what the writer wrote; what is wrong now was written wrong.
    let (rows, footer) = bytes.split_at(bytes.len() - format::FOOTER_BYTES);
    if &footer[40..48] != format::MAGIC {
        return Err(damaged("its footer lacks the magic bytes".to_owned()));
    }
    match u32_at(footer, 4) {
        format::VERSION => {}
        version => return Err(newer(format!("format version {version}"))),
    }
    let frames = u32_at(footer, 0) as usize;
    if frames == 0 || frames > format::MAX_FRAMES || rows.len() != frames * format::ROW_BYTES {
        return Err(damaged(format!("its footer counts {frames} frames for {} bytes of rows", rows.len())));
    }
    if u64_at(footer, 8) != pack.pack_bytes || u64_at(footer, 32) != 0 {
        return Err(damaged(format!("its footer says {} bytes, expected {}", u64_at(footer, 8), pack.pack_bytes)));
    }
    let mut offset = format::HEADER_BYTES;
    let rows = rows
        .chunks_exact(format::ROW_BYTES)
        .enumerate()
        .map(|(i, row)| {
            let parsed = parse_row(row, offset).map_err(|problem| match problem {
                Problem::Wrong(what) => damaged(format!("frame {i}: {what}")),
                Problem::Newer(what) => newer(format!("frame {i}: {what}")),
            })?;
            offset = parsed.range().end;
            Ok(parsed)
        })
        .collect::<Result<Vec<_>, PackError>>()?;
    if offset + u64::from(pack.table_bytes) != pack.pack_bytes {
        return Err(damaged(format!("its frames end at byte {offset}, its table begins elsewhere")));
    }
    Ok(Table { rows })
}

enum Problem {
    Wrong(String),
    Newer(String),
}

fn parse_row(row: &[u8], offset: u64) -> Result<FrameRow, Problem> {
    let codec = match row[8] {
        0 => Codec::Stored,
        1 => Codec::Zstd,
        other => return Err(Problem::Newer(format!("codec {other}"))),
    };
    if row[9] != 0 {
        return Err(Problem::Newer(format!("cipher {}", row[9])));
    }
    if row[10..12] != [0; 2] || row[16..40] != [0; 24] {
        return Err(Problem::Wrong("bytes that must be zero are not".to_owned()));
    }
    let (stored_len, raw_len) = (u32_at(row, 0), u32_at(row, 4));
    if raw_len == 0 || raw_len > format::MAX_RAW_BYTES || stored_len == 0 {
        return Err(Problem::Wrong(format!("lengths {stored_len} stored, {raw_len} raw")));
    }
    if codec == Codec::Stored && stored_len != raw_len {
        return Err(Problem::Wrong(format!("stored as it is, but {stored_len} bytes for {raw_len}")));
    }
    let hash = row[40..72].try_into().expect("32 bytes");
    Ok(FrameRow { offset, stored_len, raw_len, codec, chunks: u32_at(row, 12), hash })
}

/// Checks the header of a whole pack.
fn check_header(pack: &PackInfo, bytes: &[u8]) -> Result<(), PackError> {
    if bytes.get(..format::HEADER_BYTES as usize) == Some(&format::header()) {
        return Ok(());
    }
    Err(PackError::Damaged { pack: pack.id, what: "its header is not that of a pack".to_owned() })
}

/// Verifies all of a pack but the content of its frames: header, length, table.
///
/// # Errors
/// [`PackError::Damaged`] or [`PackError::Newer`].
pub fn open_whole(pack: &PackInfo, bytes: &[u8]) -> Result<Table, PackError> {
    if bytes.len() as u64 != pack.pack_bytes {
        let what = format!("it has {} bytes, expected {}", bytes.len(), pack.pack_bytes);
        return Err(PackError::Damaged { pack: pack.id, what });
    }
    // The table first: it alone hashes to the name, so only its version can say "newer".
    let table = parse_table(pack, &bytes[pack.table_range().start as usize..])?;
    check_header(pack, bytes)?;
    Ok(table)
}

/// Verifies the stored bytes of one frame by its row.
///
/// # Errors
/// [`PackError::Damaged`], naming the frame.
pub fn open_frame<'a>(pack: &PackId, index: u32, row: &FrameRow, stored: &'a [u8]) -> Result<&'a [u8], PackError> {
    if stored.len() != row.stored_len as usize || *blake3::hash(stored).as_bytes() != row.hash {
        let what = format!("frame {index}, bytes {:?}, does not hash to its row", row.range());
        return Err(PackError::Damaged { pack: *pack, what });
    }
    Ok(stored)
}

/// Decodes verified frames, one after the other, with one reused context.
pub struct FrameDecoder {
    context: zstd::zstd_safe::DCtx<'static>,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        let mut context = zstd::zstd_safe::DCtx::create();
        context
            .set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(23))
            .map(|_| ())
            .expect("a parameter zstd knows");
        Self { context }
    }
}

impl FrameDecoder {
    /// Verifies and decodes one frame into `raw`, which is emptied first.
    ///
    /// # Errors
    /// [`PackError::Damaged`] when it does not hash to its row or decodes to another length.
    pub fn decode(
        &mut self,
        pack: &PackId,
        index: u32,
        row: &FrameRow,
        stored: &[u8],
        raw: &mut Vec<u8>,
    ) -> Result<(), PackError> {
        let stored = open_frame(pack, index, row, stored)?;
        raw.clear();
        if row.codec == Codec::Stored {
            raw.extend_from_slice(stored);
            return Ok(());
        }
        let damaged = |what: String| PackError::Damaged { pack: *pack, what: format!("frame {index} {what}") };
        match zstd::zstd_safe::get_frame_content_size(stored) {
            Ok(Some(size)) if size == u64::from(row.raw_len) => {}
            found => return Err(damaged(format!("declares {found:?} bytes, its row says {}", row.raw_len))),
        }
        if zstd::zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
            return Err(damaged("is not exactly one zstd frame".to_owned()));
        }
        if window_bytes(stored).is_none_or(|window| window > u64::from(format::MAX_RAW_BYTES)) {
            return Err(damaged("asks for a window above 8 MiB".to_owned()));
        }
        raw.reserve_exact(row.raw_len as usize);
        // `raw` offers no more room than the row says, so a bomb cannot grow past it.
        let found = self
            .context
            .decompress(raw, stored)
            .map_err(|code| damaged(format!("does not decode: {}", zstd::zstd_safe::get_error_name(code))))?;
        if found != row.raw_len as usize {
            return Err(damaged(format!("decodes to {found} bytes, its row says {}", row.raw_len)));
        }
        Ok(())
    }
}

/// The window that a zstd frame asks for, in bytes: RFC 8878, section 3.1.1.1.2. A decoder that is given the whole
/// frame needs none, but one that streams would set so much aside.
fn window_bytes(stored: &[u8]) -> Option<u64> {
    let descriptor = *stored.get(4)?;
    if descriptor & 0x20 != 0 {
        // A single segment: the window is the content, whose length was compared before.
        return Some(0);
    }
    let window = *stored.get(5)?;
    let base = 1u64 << (10 + (window >> 3));
    Some(base + base / 8 * u64::from(window & 7))
}

#[cfg(test)]
mod tests {
    use super::super::{FrameEncoder, PackWriter};
    use super::*;

    fn sample() -> (PackInfo, Vec<u8>) {
        let mut encoder = FrameEncoder::new(3);
        let mut writer = PackWriter::new(0);
        writer.push(&encoder.encode(&b"text that repeats, ".repeat(100), 2));
        let mut noise = [0; 5000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        writer.push(&encoder.encode(&noise, 1));
        let (info, bytes) = writer.finish(&[9; 16]);
        (info, bytes.to_vec())
    }

    #[test]
    fn frames_come_back_as_they_went_in() {
        let (info, bytes) = sample();
        let table = open_whole(&info, &bytes).unwrap();
        assert_eq!(table.rows.iter().map(|r| r.codec).collect::<Vec<_>>(), [Codec::Zstd, Codec::Stored]);
        let mut raw = Vec::new();
        let row = &table.rows[0];
        FrameDecoder::default().decode(&info.id, 0, row, &bytes[16..16 + row.stored_len as usize], &mut raw).unwrap();
        assert_eq!(raw, b"text that repeats, ".repeat(100));
    }

    #[test]
    fn every_changed_byte_of_a_pack_is_found() {
        let (info, bytes) = sample();
        let mut decoder = FrameDecoder::default();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let found = open_whole(&info, &bad).and_then(|table| {
                let mut raw = Vec::new();
                for (i, row) in table.rows.iter().enumerate() {
                    let range = row.range();
                    decoder.decode(
                        &info.id,
                        i as u32,
                        row,
                        &bad[range.start as usize..range.end as usize],
                        &mut raw,
                    )?;
                }
                Ok(())
            });
            assert!(matches!(found, Err(PackError::Damaged { .. })), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn truncated_and_extended_packs_are_damaged() {
        let (info, bytes) = sample();
        for bad in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), b""] {
            assert!(matches!(open_whole(&info, bad), Err(PackError::Damaged { .. })));
        }
    }

    /// Rewrites the table with valid hashes, as a hostile writer would.
    fn resigned(edit: impl Fn(&mut [u8])) -> (PackInfo, Vec<u8>) {
        let (mut info, mut bytes) = sample();
        let at = info.table_range().start as usize;
        edit(&mut bytes[at..]);
        info.id = PackId::of(&bytes[at..]);
        (info, bytes)
    }

    #[test]
    fn unknown_codec_cipher_and_version_are_newer_not_damage() {
        for (at, value) in [(8, 7), (9, 1), (2 * format::ROW_BYTES + 4, 1)] {
            let (info, bytes) = resigned(|table| table[at] = value);
            assert!(matches!(open_whole(&info, &bytes), Err(PackError::Newer { .. })), "table byte {at}");
        }
    }

    #[test]
    fn a_newer_version_in_header_and_footer_is_newer_not_damage() {
        let (info, mut bytes) = resigned(|table| table[2 * format::ROW_BYTES + 4] = 1);
        bytes[8] = 1;
        assert!(matches!(open_whole(&info, &bytes), Err(PackError::Newer { .. })));
    }

    #[test]
    fn a_bomb_gets_no_more_room_than_its_row_says() {
        let mut encoder = FrameEncoder::new(3);
        let mut frame = encoder.encode(&vec![0; 4 << 20], 1);
        frame.raw_len = 1000;
        let mut writer = PackWriter::new(0);
        writer.push(&frame);
        let (info, bytes) = writer.finish(&[0; 16]);
        let table = open_whole(&info, &bytes).unwrap();
        let mut raw = Vec::new();
        let row = &table.rows[0];
        let result = FrameDecoder::default().decode(&info.id, 0, row, &bytes[16..row.range().end as usize], &mut raw);
        assert!(matches!(result, Err(PackError::Damaged { .. })));
        assert!(raw.capacity() <= 1000);
    }
}
