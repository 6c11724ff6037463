//! Frames as the versions write them, by the text of their specifications and by no code of ours.

/// Opcodes, before a version numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
    /// One that no version has.
    Reserved(u8),
}

/// A frame from the client.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    /// RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub(crate) rsv: u8,
    pub(crate) opcode: Opcode,
    pub(crate) masked: bool,
    /// Bytes of the length field beyond the first: by need if there is none.
    pub(crate) extended: Option<u8>,
    pub(crate) payload: Vec<u8>,
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl Frame {
    pub(crate) fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Frame {
        Frame {
            fin: true,
            rsv: 0,
            opcode,
            masked: true,
            extended: None,
            payload: payload.into(),
        }
    }

    /// More fragments follow.
    pub(crate) fn unfinished(self) -> Frame {
        Frame { fin: false, ..self }
    }

    pub(crate) fn encode(&self, version: u8) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | number(version, self.opcode)];
        let len = self.payload.len();
        // Version 6 has a reserved bit where the others tell that a key follows.
        let mask = if self.masked && version > 6 { 0x80 } else { 0 };
        match self.extended.unwrap_or(if len < 126 {
            0
        } else if len < 65536 {
            2
        } else {
            8
        }) {
            0 => bytes.push(mask | len as u8),
            2 => {
                bytes.push(mask | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        if version > 6 && self.masked {
            bytes.extend(KEY);
        }
        let start = bytes.len();
        bytes.extend(&self.payload);
        if version == 6 {
            // The key comes first and covers all that follows.
            xor(&mut bytes);
            bytes.splice(0..0, KEY);
        } else if self.masked {
            xor(&mut bytes[start..]);
        }
        bytes
    }
}

fn xor(bytes: &mut [u8]) {
    for (byte, key) in bytes.iter_mut().zip(KEY.iter().cycle()) {
        *byte ^= key;
    }
}

fn number(version: u8, opcode: Opcode) -> u8 {
    let numbers = if version == 6 {
        [0, 4, 5, 1, 2, 3]
    } else {
        [0, 1, 2, 8, 9, 10]
    };
    match opcode {
        Opcode::Continuation => numbers[0],
        Opcode::Text => numbers[1],
        Opcode::Binary => numbers[2],
        Opcode::Close => numbers[3],
        Opcode::Ping => numbers[4],
        Opcode::Pong => numbers[5],
        Opcode::Reserved(number) => number,
    }
}

/// A frame from the server: nothing is masked, and this broker fragments nothing.
pub(crate) fn decode(version: u8, first: u8, payload: Vec<u8>) -> Result<(Opcode, Vec<u8>), String> {
    let all = [
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ];
    let opcode = all.into_iter().find(|opcode| 0x80 | number(version, *opcode) == first);
    let opcode = opcode.ok_or_else(|| format!("the server sent a frame that begins with {first:02x}"))?;
    Ok((opcode, payload))
}
