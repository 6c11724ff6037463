//! A naive inflater, after RFC 1951 alone, that also tells how far back it was sent.

/// The bits of octets, the lowest first.
struct Bits<'a> {
    octets: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> usize {
        let octet = self.octets[self.position / 8];
        let bit = octet >> (self.position % 8) & 1;
        self.position += 1;
        usize::from(bit)
    }

    fn number(&mut self, bits: usize) -> usize {
        (0..bits).map(|i| self.bit() << i).sum()
    }

    fn octet(&mut self) -> u8 {
        self.number(8) as u8
    }

    fn is_at_end(&self) -> bool {
        self.position.div_ceil(8) == self.octets.len()
    }
}

/// A code, as the symbols of each length.
struct Code(Vec<Vec<usize>>);

impl Code {
    /// From the length of each symbol's code.
    fn new(lengths: &[usize]) -> Self {
        let of = |length| (0..lengths.len()).filter(move |&symbol| lengths[symbol] == length);
        Self((1..16).map(|length| of(length).collect()).collect())
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> usize {
        // Codes of one length are consecutive; the shorter ones come first.
        let (mut code, mut first) = (0, 0);
        for symbols in &self.0 {
            code = code << 1 | bits.bit();
            if code - first < symbols.len() {
                return symbols[code - first];
            }
            first = (first + symbols.len()) << 1;
        }
        panic!("no such code");
    }
}

const LENGTHS: [(usize, usize); 29] = {
    let mut lengths = [(0, 0); 29];
    let (mut i, mut base) = (0, 3);
    while i < 28 {
        let extra = if i < 8 { 0 } else { i / 4 - 1 };
        lengths[i] = (base, extra);
        base += 1 << extra;
        i += 1;
    }
    lengths[28] = (258, 0);
    lengths
};

const DISTANCES: [(usize, usize); 30] = {
    let mut distances = [(0, 0); 30];
    let (mut i, mut base) = (0, 1);
    while i < 30 {
        let extra = if i < 4 { 0 } else { i / 2 - 1 };
        distances[i] = (base, extra);
        base += 1 << extra;
        i += 1;
    }
    distances
};

/// The codes of literals and lengths, and of distances, at the start of a dynamic block.
fn dynamic_codes(bits: &mut Bits<'_>) -> (Code, Code) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, count) = (bits.number(5) + 257, bits.number(5) + 1, bits.number(4) + 4);
    let mut lengths = vec![0; ORDER.len()];
    for &symbol in &ORDER[..count] {
        lengths[symbol] = bits.number(3);
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.symbol(bits) {
            16 => (*lengths.last().unwrap(), 3 + bits.number(2)),
            17 => (0, 3 + bits.number(3)),
            18 => (0, 11 + bits.number(7)),
            length => (length, 1),
        };
        lengths.extend(vec![length; times]);
    }
    let distances = lengths.split_off(literals);
    (Code::new(&lengths), Code::new(&distances))
}

/// What `octets`, whole blocks, inflate to, and the greatest distance in them.
pub(crate) fn inflate(octets: &[u8]) -> (Vec<u8>, usize) {
    let mut bits = Bits { octets, position: 0 };
    let (mut out, mut farthest) = (Vec::new(), 0);
    loop {
        let last = bits.bit() == 1;
        let (literals, distances) = match bits.number(2) {
            0 => {
                bits.position = bits.position.next_multiple_of(8);
                let length = bits.number(16);
                assert_eq!(length, !bits.number(16) & 0xffff);
                out.extend((0..length).map(|_| bits.octet()));
                if last || bits.is_at_end() {
                    return (out, farthest);
                }
                continue;
            }
            1 => {
                let literals = [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat();
                (Code::new(&literals), Code::new(&[5; 30]))
            }
            2 => dynamic_codes(&mut bits),
            _ => panic!("a block of the reserved type"),
        };
        loop {
            match literals.symbol(&mut bits) {
                256 => break,
                literal @ 0..256 => out.push(literal as u8),
                length => {
                    let (base, extra) = LENGTHS[length - 257];
                    let length = base + bits.number(extra);
                    let (base, extra) = DISTANCES[distances.symbol(&mut bits)];
                    let distance = base + bits.number(extra);
                    farthest = farthest.max(distance);
                    for _ in 0..length {
                        out.push(out[out.len() - distance]);
                    }
                }
            }
        }
        if last || bits.is_at_end() {
            return (out, farthest);
        }
    }
}
