"""Which addresses are on the internet: of each special range none is, in whatever way it is wrapped."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.hosts import is_public

# The registries themselves, written down a second time: IANA's special-purpose addresses (IPv4 and IPv6),
# multicast, class E, and where clouds keep their metadata.
SPECIAL = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
    *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "233.252.0.0/24", "240.0.0.0/4", "255.255.255.255/32", "168.63.129.16/32"),
    *("100.100.100.200/32", "169.254.169.254/32", "192.0.0.192/32"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    *("100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28"),
    *("2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10"),
    *("fec0::/10", "ff00::/8", "fd00:ec2::254/128"),
]
V4 = [network for network in SPECIAL if ":" not in network]


@st.composite
def addresses_in(draw: st.DrawFn, networks: list[str]) -> str:
    network = ipaddress.ip_network(draw(st.sampled_from(networks)))
    return str(network[draw(st.integers(0, network.num_addresses - 1))])


@pytest.mark.parametrize("network", SPECIAL)
def test_the_first_and_the_last_address_of_a_special_range_are_not_public(network: str) -> None:
    parsed = ipaddress.ip_network(network)
    assert not is_public(str(parsed[0]))
    assert not is_public(str(parsed[-1]))


@given(addresses_in(SPECIAL))
def test_no_address_of_a_special_range_is_public(address: str) -> None:
    assert not is_public(address)


@given(addresses_in([*V4, "0.0.0.0/0"]))
def test_no_ipv4_address_inside_of_an_ipv6_address_is_public(address: str) -> None:
    number = int(ipaddress.IPv4Address(address))
    for wrapped in (
        f"::ffff:{address}",
        f"::{address}",
        f"::ffff:0:{address}",
        f"64:ff9b::{address}",
        f"64:ff9b:1::{address}",
        str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)),
        str(ipaddress.IPv6Address((0x20010000 << 96) | (number << 64) | (number ^ 0xFFFFFFFF))),
    ):
        assert not is_public(wrapped), wrapped


@given(st.integers(0, 2**32 - 1))
def test_every_other_ipv4_address_is_public(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    assert is_public(str(address)) != any(address in ipaddress.ip_network(network) for network in V4)


@pytest.mark.parametrize(
    "address", ["8.8.4.4", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255", "2606:4700::1111"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
        "010.0.0.1",
        "8.8.4.4.",
        "fe80::1%eth0",
        "8.8.4.4/32",
    ],
)
def test_what_is_no_plain_address_is_not_public(text: str) -> None:
    assert not is_public(text)
