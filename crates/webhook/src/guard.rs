//! Which addresses a request may go to: what a name gives is checked, and nothing else is connected to.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses of a name that are looked at and may be tried.
const MAX_ADDRESSES: usize = 16;

/// How near a target may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// On the internet.
    Public,
    /// In the company's own network too.
    Private,
    /// On this machine only.
    Loopback,
}

/// What an address is, as far as a receiver may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Public,
    Private,
    Loopback,
    /// No receiver's: metadata of clouds, link-local, multicast, reserved, and disguises of other addresses.
    Never,
}

/// IPv4 that is not public: the registry of special-purpose addresses of IANA, and what clouds answer their own
/// machines on. The first that fits counts.
const V4: [([u8; 4], u32, Place); 18] = [
    ([100, 100, 100, 200], 32, Place::Never), // metadata of Alibaba Cloud
    ([168, 63, 129, 16], 32, Place::Never),   // platform of Azure
    ([10, 0, 0, 0], 8, Place::Private),
    ([172, 16, 0, 0], 12, Place::Private),
    ([192, 168, 0, 0], 16, Place::Private),
    ([100, 64, 0, 0], 10, Place::Private), // behind a provider's translation
    ([127, 0, 0, 0], 8, Place::Loopback),
    ([0, 0, 0, 0], 8, Place::Never),
    ([169, 254, 0, 0], 16, Place::Never), // link-local, metadata of most clouds
    ([192, 0, 0, 0], 24, Place::Never),   // protocols, metadata of Oracle Cloud
    ([192, 0, 2, 0], 24, Place::Never),
    ([192, 31, 196, 0], 24, Place::Never),
    ([192, 52, 193, 0], 24, Place::Never),
    ([192, 88, 99, 0], 24, Place::Never),
    ([198, 18, 0, 0], 15, Place::Never),
    ([198, 51, 100, 0], 24, Place::Never),
    ([203, 0, 113, 0], 24, Place::Never),
    ([224, 0, 0, 0], 3, Place::Never),
];

/// IPv6 that may be a receiver's; the first that fits counts, and everything else is never one.
const V6: [([u16; 4], u32, Place); 8] = [
    ([0xfd00, 0x0ec2, 0, 0], 32, Place::Never), // metadata of AWS
    ([0xfd20, 0x00ce, 0, 0], 32, Place::Never), // metadata of Google Cloud
    ([0xfc00, 0, 0, 0], 7, Place::Private),
    ([0x2001, 0, 0, 0], 23, Place::Never), // protocols, Teredo, benchmarking
    ([0x2001, 0x0db8, 0, 0], 32, Place::Never),
    ([0x2002, 0, 0, 0], 16, Place::Never), // 6to4
    ([0x3fff, 0, 0, 0], 20, Place::Never),
    ([0x2000, 0, 0, 0], 3, Place::Public),
];

/// A name gave an address that its target may not have.
#[derive(Debug, thiserror::Error)]
#[error("{0} is no address that the target may have")]
pub(crate) struct NotAllowed(pub(crate) IpAddr);

/// Resolves a name once and gives only addresses within reach; none when one of them is not.
pub(crate) struct Guard {
    pub(crate) reach: Reach,
    pub(crate) resolver: Arc<dyn Resolve>,
}

/// The resolver of the system.
pub(crate) struct System;

impl Reach {
    /// Whether a receiver within this reach may have the address.
    pub(crate) fn allows(self, ip: IpAddr) -> bool {
        match (self, place(ip)) {
            (_, Place::Never) => false,
            (Self::Public, place) => place == Place::Public,
            (Self::Private, _) => true,
            (Self::Loopback, place) => place == Place::Loopback,
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, resolving) = (self.reach, self.resolver.resolve(name));
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = resolving.await?.take(MAX_ADDRESSES).collect();
            match addresses.iter().find(|address| !reach.allows(address.ip())) {
                Some(address) => Err(NotAllowed(address.ip()).into()),
                None => Ok(Box::new(addresses.into_iter()) as Addrs),
            }
        })
    }
}

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(addresses.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// The address for which an attempt was refused, when it was.
pub(crate) fn refused(error: &reqwest::Error) -> Option<IpAddr> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(NotAllowed(ip)) = error.downcast_ref() {
            return Some(*ip);
        }
        source = error.source();
    }
    None
}

fn place(ip: IpAddr) -> Place {
    let ip = match ip {
        IpAddr::V4(ip) => return place_v4(ip),
        IpAddr::V6(ip) => ip,
    };
    if ip == Ipv6Addr::LOCALHOST {
        return Place::Loopback;
    }
    if let Some(inner) = translated(ip) {
        // Nobody needs the disguise for an address of his own network.
        return if place_v4(inner) == Place::Public { Place::Public } else { Place::Never };
    }
    let high = (ip.to_bits() >> 64) as u64;
    let fits = |block: [u16; 4], length: u32| {
        let block = block.into_iter().fold(0, |bits, part| bits << 16 | u64::from(part));
        (high ^ block) >> (64 - length) == 0
    };
    V6.iter().find(|(block, length, _)| fits(*block, *length)).map_or(Place::Never, |(.., place)| *place)
}

fn place_v4(ip: Ipv4Addr) -> Place {
    let fits = |block: [u8; 4], length: u32| (ip.to_bits() ^ u32::from_be_bytes(block)) >> (32 - length) == 0;
    V4.iter().find(|(block, length, _)| fits(*block, *length)).map_or(Place::Public, |(.., place)| *place)
}

/// The IPv4 address that an IPv6 address is connected as: mapped, or through NAT64.
fn translated(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, 0, 0, 0, 0, ..] = ip.segments() else { return ip.to_ipv4_mapped() };
    (first == 0x64 && second == 0xff9b).then(|| Ipv4Addr::from_bits(ip.to_bits() as u32))
}
