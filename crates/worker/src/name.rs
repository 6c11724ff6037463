//! The names of connections, by which clients, the hook and operators know them.
//!
//! A name says where the connection is, and has something that those who had its slot before did not have.

/// The name of the connection in a worker's slot.
pub(crate) fn name_of(worker: u16, slot: u32, unique: u32) -> String {
    format!("{worker:x}-{slot:x}-{unique:08x}")
}

/// Where the connection of that name is, or was: the number of its worker, and its slot there. There is nothing in what is no
/// name.
pub fn place_of(name: &str) -> Option<(u16, u32)> {
    let mut parts = name.split('-');
    let worker = u16::from_str_radix(parts.next()?, 16).ok()?;
    let slot = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some((worker, slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_where_its_connection_is() {
        for (worker, slot) in [(0, 0), (17, 4096), (u16::MAX, u32::MAX)] {
            assert_eq!(place_of(&name_of(worker, slot, 0xdead)), Some((worker, slot)));
        }
        for text in ["", "-", "x", "0", "0-", "x-1-2", "10000-0-0", "0-100000000-0"] {
            assert_eq!(place_of(text), None, "{text}");
        }
    }
}
