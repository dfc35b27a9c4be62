//! Networks: an address and how many of its first bits count.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

/// A network, as `10.0.0.0/8` or `::1/128`; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `address/bits`, or an address.
    ///
    /// # Errors
    /// What it is not, in words.
    pub fn parse(text: &str) -> Result<Network, String> {
        let bad = || format!("\"{text}\" is no network such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = width(address);
        let bits = bits.unwrap_or(most);
        if bits <= most { Ok(Network { address, bits }) } else { Err(bad()) }
    }

    /// An address with a mask, as `255.255.0.0`.
    ///
    /// # Errors
    /// What they are not, in words.
    pub fn masked(address: &str, mask: &str) -> Result<Network, String> {
        let bad = || format!("\"{address} {mask}\" is no address with a mask");
        let (address, mask): (IpAddr, IpAddr) =
            (address.parse().map_err(|_| bad())?, mask.parse().map_err(|_| bad())?);
        let whole = bits_of(mask);
        let bits = whole.leading_ones().min(u32::from(width(mask)));
        let is_mask = address.is_ipv4() == mask.is_ipv4() && whole.count_ones() == bits;
        match u8::try_from(bits) {
            Ok(bits) if is_mask => Ok(Network { address, bits }),
            Ok(_) | Err(_) => Err(bad()),
        }
    }

    /// Whether an address is in it. One of IPv4 that comes by way of IPv6 is one of IPv4.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_ipv4() != self.address.is_ipv4() {
            return false;
        }
        let differs = bits_of(address) ^ bits_of(self.address);
        differs.leading_zeros() >= u32::from(self.bits)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Its bits, from the highest of 128 on.
fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Network, D::Error> {
        Network::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_addresses() {
        for (network, address, has) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "1.2.3.4", false),
            ("ff20::/12", "ff22:3::1", true),
            ("ff20::/12", "ff32:3::1", false),
            ("1.2.3.4", "1.2.3.4", true),
            ("1.2.3.4", "1.2.3.5", false),
            ("128.0.0.0/1", "254.1.1.1", true),
        ] {
            let parsed = Network::parse(network).expect(network);
            assert_eq!(parsed.has(address.parse().expect(address)), has, "{network} {address}");
        }
        let masked = Network::masked("127.0.0.0", "255.255.255.0").expect("it is a mask");
        assert_eq!(masked.to_string(), "127.0.0.0/24");
        assert_eq!(Network::masked("::", "ffff::").map(|n| n.to_string()), Ok("::/16".to_string()));
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "db", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
        for (address, mask) in [("1.2.3.4", "255.0.255.0"), ("1.2.3.4", "ffff::"), ("x", "255.0.0.0")] {
            assert!(Network::masked(address, mask).is_err(), "{address} {mask}");
        }
    }
}
